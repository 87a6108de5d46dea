//! A stand-in of the YouTube Data API, with one channel, whose videos a search finds, too. It refuses keys as the real API
//! does, and panics, which fails the test, if a call does not exist in the real API.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::contract::{Params, breach};
use crate::support::{Answer, Request, ScriptedServer};

/// The only valid key.
pub(crate) const KEY: &str = "AIzaSy-the-key-of-the-tests";
/// Its channel.
pub(crate) const CHANNEL: &str = "UC0000000000000000000000";
const UPLOADS: &str = "UU0000000000000000000000";
/// Prefix of page tokens; the number of the first item follows.
const TOKEN: &str = "EAAaBlBUOkNB";

/// The stand-in. Dropping it stops it.
pub(crate) struct YouTube {
    server: ScriptedServer,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// In the order in which searches and the channel list them.
    videos: Vec<Value>,
    /// Ids of removed videos that are still listed.
    gone: Vec<String>,
    no_channel: bool,
    /// Answers that are given first, to calls with the valid key.
    orders: VecDeque<Answer>,
    calls: Vec<(String, Params)>,
}

impl YouTube {
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let server = ScriptedServer::start({
            let state = Arc::clone(&state);
            move |request| state.lock().unwrap().answer(request)
        });
        Self { server, state }
    }

    /// Adds these videos.
    pub(crate) fn with_videos(self, videos: impl IntoIterator<Item = Value>) -> Self {
        self.state.lock().unwrap().videos.extend(videos);
        self
    }

    /// Removes the channel.
    pub(crate) fn without_channel(self) -> Self {
        self.state.lock().unwrap().no_channel = true;
        self
    }

    /// Removes this video, although it is still listed.
    pub(crate) fn losing(self, id: &str) -> Self {
        self.state.lock().unwrap().gone.push(id.to_owned());
        self
    }

    /// Gives these answers to the next calls.
    pub(crate) fn answer_with(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state.lock().unwrap().orders.extend(answers);
    }

    /// The base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/youtube/v3", self.server.address())
    }

    /// Returns the calls with the valid key so far: resource and parameters.
    pub(crate) fn calls(&self) -> Vec<(String, Params)> {
        self.state.lock().unwrap().calls.clone()
    }

    /// Returns the called resources in order.
    pub(crate) fn called(&self) -> Vec<String> {
        self.calls().into_iter().map(|(resource, _)| resource).collect()
    }

    /// Returns all requests, with any key.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }

    pub(crate) fn wait_for_requests(&self, count: usize) {
        self.server.wait_for_requests(count);
    }
}

impl State {
    fn answer(&mut self, request: &Request) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        assert!(!request.path.contains(KEY), "the key is in the URL");
        assert_eq!(request.method, "GET");
        let resource = path.strip_prefix("/youtube/v3/").unwrap_or_else(|| panic!("{path} is none of the API's"));
        match request.header("X-Goog-Api-Key") {
            None => return no_key(),
            Some(KEY) => {}
            Some(_) => return wrong_key(),
        }
        let params: Params = query.split('&').map(pair).collect();
        if let Some(breach) = breach(resource, &params) {
            panic!("{resource}.list: {breach}");
        }
        self.calls.push((resource.to_owned(), params.clone()));
        if let Some(answer) = self.orders.pop_front() {
            return answer;
        }
        match resource {
            "search" => self.search(&params),
            "videos" => self.videos(&params),
            "channels" => self.channels(&params),
            _ => self.playlist_items(&params),
        }
    }

    fn ids(&self) -> Vec<&str> {
        let ids = self.videos.iter().map(|video| video["id"].as_str().unwrap());
        ids.chain(self.gone.iter().map(String::as_str)).collect()
    }

    fn search(&self, params: &Params) -> Answer {
        let most: usize = params["maxResults"].parse().unwrap();
        let item = |id: &&str| json!({"kind": "youtube#searchResult", "id": {"kind": "youtube#video", "videoId": id}, "snippet": {"title": "x"}});
        list("searchListResponse", &self.ids().iter().take(most).map(item).collect::<Vec<_>>(), None)
    }

    fn videos(&self, params: &Params) -> Answer {
        let asked: Vec<&str> = params["id"].split(',').collect();
        let there = |video: &&Value| {
            let id = video["id"].as_str().unwrap();
            asked.contains(&id) && !self.gone.iter().any(|gone| gone == id)
        };
        let found = self.videos.iter().filter(there).map(|video| parts(video, params));
        list("videoListResponse", &found.collect::<Vec<_>>(), None)
    }

    fn channels(&self, params: &Params) -> Answer {
        let is_ours = params.get("id").is_some_and(|id| id == CHANNEL)
            || params.get("forHandle").is_some_and(|handle| handle == "@handle")
            || params.get("forUsername").is_some_and(|user| user == "name");
        if self.no_channel || !is_ours {
            // If there are no items, the API omits the field.
            return Answer::json(200, &json!({"kind": "youtube#channelListResponse", "pageInfo": {"totalResults": 0}}));
        }
        let channel = json!({
            "kind": "youtube#channel", "id": CHANNEL, "snippet": {"title": "The channel"},
            "contentDetails": {"relatedPlaylists": {"likes": "", "uploads": UPLOADS}},
        });
        list("channelListResponse", &[parts(&channel, params)], None)
    }

    fn playlist_items(&self, params: &Params) -> Answer {
        let ids = self.ids();
        if params["playlistId"] != UPLOADS || ids.is_empty() {
            let message =
                "The playlist identified with the request's <code>playlistId</code> parameter cannot be found.";
            return error(404, message, "youtube.playlistItem", "playlistNotFound");
        }
        let size: usize = params["maxResults"].parse().unwrap();
        let first: usize =
            params.get("pageToken").map_or(0, |token| token.strip_prefix(TOKEN).unwrap().parse().unwrap());
        assert!(first < ids.len(), "there is no page that starts with {first}");
        let items = ids[first..].iter().take(size).map(|id| json!({"contentDetails": {"videoId": id}}));
        let next = Some(first + size).filter(|next| *next < ids.len());
        list("playlistItemListResponse", &items.collect::<Vec<_>>(), next)
    }
}

fn pair(pair: &str) -> (String, String) {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8().unwrap().into_owned();
    let (name, value) = pair.split_once('=').unwrap();
    (decoded(name), decoded(value))
}

/// Returns the requested parts of `whole`.
fn parts(whole: &Value, params: &Params) -> Value {
    let asked: Vec<&str> = params["part"].split(',').chain(["kind", "id"]).collect();
    let kept = whole.as_object().unwrap().iter().filter(|(name, _)| asked.contains(&name.as_str()));
    Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>())
}

fn list(kind: &str, items: &[Value], next: Option<usize>) -> Answer {
    let mut body =
        json!({"kind": format!("youtube#{kind}"), "pageInfo": {"totalResults": items.len()}, "items": items});
    if let Some(next) = next {
        body["nextPageToken"] = json!(format!("{TOKEN}{next}"));
    }
    Answer::json(200, &body)
}

/// The id of the `n`th video.
pub(crate) fn id(n: usize) -> String {
    format!("video{n:06}")
}

/// The `n`th video.
pub(crate) fn video(n: usize) -> Value {
    json!({
        "kind": "youtube#video",
        "id": id(n),
        "snippet": {
            "publishedAt": "2026-01-02T03:04:05Z", "channelId": CHANNEL, "title": format!("Video {n}"),
            "description": "All of it", "channelTitle": "The channel", "tags": ["one", "two"], "categoryId": "22",
        },
        "contentDetails": {"duration": "PT1M1S", "caption": "false"},
        "statistics": {"viewCount": "1234", "likeCount": "5", "favoriteCount": "0", "commentCount": "6"},
    })
}

/// An error of the API.
pub(crate) fn error(status: u16, message: &str, domain: &str, reason: &str) -> Answer {
    let errors = json!([{"message": message, "domain": domain, "reason": reason}]);
    Answer::json(status, &json!({"error": {"code": status, "message": message, "errors": errors}}))
}

pub(crate) fn quota_exceeded() -> Answer {
    let message = "The request cannot be completed because you have exceeded your <a href=\"/youtube/v3/getting-started#quota\">quota</a>.";
    error(403, message, "youtube.quota", "quotaExceeded")
}

pub(crate) fn access_not_configured() -> Answer {
    let message = "YouTube Data API v3 has not been used in project 12345 before or it is disabled. Enable it by visiting \
        https://console.developers.google.com/apis/api/youtube.googleapis.com/overview?project=12345 then retry. If you \
        enabled this API recently, wait a few minutes for the action to propagate to our systems and retry.";
    error(403, message, "usageLimits", "accessNotConfigured")
}

pub(crate) fn unavailable() -> Answer {
    error(503, "The service is currently unavailable.", "global", "backendError")
}

fn wrong_key() -> Answer {
    let message = "API key not valid. Please pass a valid API key.";
    let body = json!({"error": {
        "code": 400, "message": message, "errors": [{"message": message, "domain": "global", "reason": "badRequest"}],
        "status": "INVALID_ARGUMENT",
        "details": [{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com",
            "metadata": {"service": "youtube.googleapis.com"},
        }],
    }});
    Answer::json(400, &body)
}

fn no_key() -> Answer {
    let message = "Method doesn't allow unregistered callers (callers without established identity). Please use API Key \
        or other form of API consumer identity to call this API.";
    error(403, message, "global", "forbidden")
}
