//! The four calls in use, and the parsing of their answers.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::api::Query;
use super::params::Search;
use super::session::{ApiSession, TaskError, unusable};
use super::url::Channel;

/// Cost of a search; all other calls cost one unit.
pub(super) const SEARCH_UNITS: u64 = 100;
/// Maximum number of items in an answer.
const PAGE: usize = 50;

/// The required fields of a channel.
pub(super) struct Uploader {
    pub(super) id: String,
    pub(super) title: String,
    /// The id of the playlist of its videos, newest first.
    uploads: String,
}

impl ApiSession<'_> {
    /// Returns the ids of the videos that a search finds.
    pub(super) fn search(&self, search: &Search) -> Result<Vec<String>, TaskError> {
        let mut query = query([
            ("part", "snippet"),
            ("type", "video"),
            ("q", &search.query),
            ("maxResults", &search.max_results.to_string()),
            ("videoDuration", &search.duration),
            ("order", &search.order),
        ]);
        query.extend(search.language.clone().map(|language| ("relevanceLanguage", language)));
        query.extend(search.region.clone().map(|region| ("regionCode", region)));
        let answer = self.list("search", &query, SEARCH_UNITS)?;
        Ok(distinct(texts(&answer, "/id/videoId")))
    }

    /// Returns a channel, if it exists.
    pub(super) fn uploader(&self, channel: &Channel) -> Result<Option<Uploader>, TaskError> {
        let (name, value) = match channel {
            Channel::Id(id) => ("id", id),
            Channel::Handle(handle) => ("forHandle", handle),
            Channel::User(user) => ("forUsername", user),
        };
        let answer = self.list("channels", &query([("part", "snippet,contentDetails"), (name, value)]), 1)?;
        let Some(found) = answer.pointer("/items/0") else { return Ok(None) };
        let text = |place| found.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Some(Uploader {
            id: text("/id"),
            title: text("/snippet/title"),
            uploads: text("/contentDetails/relatedPlaylists/uploads"),
        }))
    }

    /// Returns the ids of the newest videos of a channel, at most `most`.
    pub(super) fn uploads(&self, uploader: &Uploader, most: usize) -> Result<Vec<String>, TaskError> {
        let page = most.min(PAGE).to_string();
        let mut query = query([("part", "contentDetails"), ("playlistId", &uploader.uploads), ("maxResults", &page)]);
        let mut ids = Vec::new();
        loop {
            let answer = match self.list("playlistItems", &query, 1) {
                // A channel that never had a video has no playlist.
                Err(TaskError::Missing(_)) => return Ok(ids),
                answer => answer?,
            };
            ids.extend(texts(&answer, "/contentDetails/videoId"));
            ids = distinct(ids);
            ids.truncate(most);
            match answer["nextPageToken"].as_str() {
                Some(token) if ids.len() < most => {
                    query.retain(|(name, _)| *name != "pageToken");
                    query.push(("pageToken", token.to_owned()));
                }
                _ => return Ok(ids),
            }
        }
    }

    /// Returns the existing videos with these ids, by id, from the cache or the API.
    pub(super) fn videos(&self, ids: &[String]) -> Result<HashMap<String, Value>, TaskError> {
        let cached = self.ledger.map_or_else(|| Ok(HashMap::new()), |ledger| ledger.cached(ids));
        let mut videos = cached.map_err(unusable)?;
        let unknown: Vec<&str> = ids.iter().filter(|id| !videos.contains_key(*id)).map(String::as_str).collect();
        for batch in unknown.chunks(PAGE) {
            let query = query([("part", "snippet,statistics,contentDetails"), ("id", &batch.join(","))]);
            let found = by_id(&self.list("videos", &query, 1)?);
            if let Some(ledger) = self.ledger {
                ledger.remember(&found).map_err(unusable)?;
            }
            videos.extend(found);
        }
        Ok(videos)
    }
}

fn query<const N: usize>(pairs: [(&'static str, &str); N]) -> Query {
    pairs.map(|(name, value)| (name, value.to_owned())).into()
}

fn items(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["items"].as_array().into_iter().flatten()
}

/// Returns the strings at a JSON pointer in each item.
fn texts(answer: &Value, place: &str) -> Vec<String> {
    items(answer).filter_map(|item| Some(item.pointer(place)?.as_str()?.to_owned())).collect()
}

fn by_id(answer: &Value) -> Vec<(String, Value)> {
    items(answer).filter_map(|item| Some((item["id"].as_str()?.to_owned(), item.clone()))).collect()
}

/// Removes duplicates and keeps the order.
fn distinct(ids: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    ids.into_iter().filter(|id| seen.insert(id.clone())).collect()
}
