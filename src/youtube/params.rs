//! Parses the params of tasks.

use serde_json::Value;

use super::url::{self, Channel};

/// The request of a task.
pub(super) enum TaskRequest {
    /// The video with this id.
    Video(String),
    /// The results of a search.
    Search(Search),
    /// The videos of a channel.
    Uploads(Uploads),
}

/// Parameters of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Search {
    /// The query, trimmed.
    pub(super) query: String,
    pub(super) max_results: usize,
    pub(super) duration: String,
    pub(super) order: String,
    /// Two lowercase letters.
    pub(super) language: Option<String>,
    /// Two uppercase letters.
    pub(super) region: Option<String>,
}

/// Parameters of a channel task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uploads {
    pub(super) channel: Channel,
    pub(super) max_videos: usize,
}

const DURATIONS: [&str; 4] = ["any", "short", "medium", "long"];
const ORDERS: [&str; 5] = ["date", "rating", "relevance", "title", "viewCount"];
/// Maximum length of a query, in characters.
const MAX_QUERY: usize = 200;

/// Parses the params of a video task. Returns the id.
pub(super) fn video(params: &Value) -> Result<String, String> {
    let id = text(params, "video_id")?.map(str::trim);
    if let Some(id) = id.filter(|id| !url::is_video_id(id)) {
        return Err(format!("video_id must be 11 letters, digits, - or _, not {id:?}"));
    }
    let by_url = text(params, "video_url")?.map(url::video).transpose();
    let by_url = by_url.map_err(|error| format!("video_url: {error}"))?;
    match (id, by_url) {
        (None, None) => Err("give video_id or video_url".into()),
        (Some(id), Some(other)) if id != other => {
            Err(format!("video_id is {id}, but video_url is the address of {other}: remove one of them"))
        }
        (Some(id), _) => Ok(id.to_owned()),
        (None, Some(id)) => Ok(id),
    }
}

/// Parses the params of a search task.
pub(super) fn search(params: &Value) -> Result<Search, String> {
    let query = text(params, "search_query")?.ok_or("search_query is missing")?.trim();
    let length = query.chars().count();
    if !(1..=MAX_QUERY).contains(&length) {
        return Err(format!("search_query must have 1 to {MAX_QUERY} characters after trimming, not {length}"));
    }
    Ok(Search {
        query: query.to_owned(),
        max_results: number(params, "max_results", 50)?.unwrap_or(10),
        duration: one_of(params, "duration", &DURATIONS)?.unwrap_or("short").to_owned(),
        order: one_of(params, "order", &ORDERS)?.unwrap_or("viewCount").to_owned(),
        language: two_letters(params, "language", "en")?.map(str::to_ascii_lowercase),
        region: two_letters(params, "region", "US")?.map(str::to_ascii_uppercase),
    })
}

/// Parses the params of a channel task.
pub(super) fn uploads(params: &Value) -> Result<Uploads, String> {
    let channel = text(params, "channel_url")?.ok_or("channel_url is missing")?;
    Ok(Uploads {
        channel: url::channel(channel).map_err(|error| format!("channel_url: {error}"))?,
        max_videos: number(params, "max_videos", 100)?.unwrap_or(50),
    })
}

fn text<'a>(params: &'a Value, name: &str) -> Result<Option<&'a str>, String> {
    match params.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name} must be text")),
    }
}

/// Parses an optional number from 1 to `most`.
fn number(params: &Value, name: &str, most: usize) -> Result<Option<usize>, String> {
    let Some(value) = params.get(name) else { return Ok(None) };
    // For JSON Schema, 10.0 is a whole number too.
    let number = (1..=most).find(|&number| value.as_f64() == u32::try_from(number).ok().map(f64::from));
    number.map(Some).ok_or_else(|| format!("{name} must be a whole number from 1 to {most}"))
}

fn one_of<'a>(params: &'a Value, name: &str, names: &[&str]) -> Result<Option<&'a str>, String> {
    match text(params, name)? {
        Some(text) if !names.contains(&text) => Err(format!("{name} must be one of: {}", names.join(", "))),
        text => Ok(text),
    }
}

fn two_letters<'a>(params: &'a Value, name: &str, example: &str) -> Result<Option<&'a str>, String> {
    match text(params, name)? {
        Some(text) if text.len() != 2 || !text.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            Err(format!("{name} must be two letters, such as {example}"))
        }
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "dQw4w9WgXcQ";

    #[test]
    fn a_video_is_named_by_its_id_or_its_address_or_both() {
        for params in [
            json!({"video_id": ID}),
            json!({"video_url": "https://youtu.be/dQw4w9WgXcQ"}),
            json!({"video_id": ID, "video_url": "https://youtu.be/dQw4w9WgXcQ"}),
        ] {
            assert_eq!(video(&params).as_deref(), Ok(ID), "{params}");
        }
        for (params, words) in [
            (json!({}), "give video_id or video_url"),
            (json!([]), "give video_id or video_url"),
            (json!({"video_id": 5}), "video_id must be text"),
            (json!({"video_id": "short"}), "video_id must be 11"),
            (json!({"video_id": "short", "video_url": "https://youtu.be/dQw4w9WgXcQ"}), "video_id must be 11"),
            (json!({"video_url": "https://example.com"}), "video_url: \"https://example.com\" is not the URL"),
            (json!({"video_id": "AAAAAAAAAAA", "video_url": "https://youtu.be/dQw4w9WgXcQ"}), "remove one of them"),
        ] {
            let error = video(&params).unwrap_err();
            assert!(error.contains(words) && error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn a_search_has_its_defaults() {
        let expected = Search {
            query: "bees".into(),
            max_results: 10,
            duration: "short".into(),
            order: "viewCount".into(),
            language: None,
            region: None,
        };
        assert_eq!(search(&json!({"search_query": " \tbees\n"})), Ok(expected));
    }

    #[test]
    fn a_search_takes_all_it_can_be_given() {
        let params = json!({
            "search_query": "ž".repeat(200) + "  ", "max_results": 50.0, "duration": "long", "order": "date",
            "language": "CS", "region": "cz",
        });
        let search = search(&params).unwrap();
        assert_eq!((search.query.chars().count(), search.max_results), (200, 50));
        assert_eq!((search.duration.as_str(), search.order.as_str()), ("long", "date"));
        assert_eq!((search.language.as_deref(), search.region.as_deref()), (Some("cs"), Some("CZ")));
    }

    #[test]
    fn invalid_searches_are_refused_in_one_line() {
        for (params, words) in [
            (json!({}), "search_query is missing"),
            (json!({"search_query": null}), "search_query must be text"),
            (json!({"search_query": " \n "}), "1 to 200 characters after trimming, not 0"),
            (json!({"search_query": "x".repeat(201)}), "1 to 200 characters after trimming, not 201"),
            (json!({"search_query": "x", "max_results": 0}), "max_results must be a whole number from 1 to 50"),
            (json!({"search_query": "x", "max_results": 51}), "max_results must be a whole number from 1 to 50"),
            (json!({"search_query": "x", "max_results": 1.5}), "max_results must be"),
            (json!({"search_query": "x", "max_results": "5"}), "max_results must be"),
            (json!({"search_query": "x", "duration": "tiny"}), "duration must be one of: any, short"),
            (json!({"search_query": "x", "order": "views"}), "order must be one of: date"),
            (json!({"search_query": "x", "language": "eng"}), "language must be two letters"),
            (json!({"search_query": "x", "region": "ž"}), "region must be two letters"),
        ] {
            let error = search(&params).unwrap_err();
            assert!(error.contains(words) && error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn a_channels_uploads_have_their_bounds() {
        let channel = Channel::Handle("@name".into());
        assert_eq!(uploads(&json!({"channel_url": "@name"})), Ok(Uploads { channel, max_videos: 50 }));
        assert_eq!(uploads(&json!({"channel_url": "@name", "max_videos": 100})).unwrap().max_videos, 100);
        for (params, words) in [
            (json!({}), "channel_url is missing"),
            (json!({"channel_url": "name"}), "channel_url: \"name\" is not a YouTube channel"),
            (json!({"channel_url": "@name", "max_videos": 101}), "max_videos must be a whole number from 1 to 100"),
        ] {
            assert!(uploads(&params).unwrap_err().contains(words));
        }
    }
}
