//! Checks calls against the API's discovery document.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::bench::Bench;
use super::standin::{YouTube, video};

static DISCOVERY: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../fixtures/youtube-discovery.json")).unwrap());

/// The parameters of a call.
pub(crate) type Params = BTreeMap<String, String>;

/// Returns what is wrong with a call, by the discovery document and the reference.
pub(crate) fn breach(resource: &str, params: &Params) -> Option<String> {
    let known = DISCOVERY["methods"][resource]["parameters"].as_object();
    let Some(known) = known else { return Some(format!("{resource}.list is none of the four calls")) };
    let missing = known.iter().find(|(name, facts)| facts["required"] == true && !params.contains_key(*name));
    if let Some((name, _)) = missing {
        return Some(format!("{name} is required"));
    }
    let by_document = params.iter().find_map(|(name, value)| match known.get(name) {
        None => Some(format!("{name} is no parameter of {resource}.list")),
        Some(facts) => breach_of(facts, value).map(|problem| format!("{name}: {problem}")),
    });
    by_document.or_else(|| breach_beside(resource, params))
}

fn breach_of(facts: &Value, value: &str) -> Option<String> {
    if facts["deprecated"] == true {
        return Some("deprecated".into());
    }
    if value.is_empty() {
        return Some("empty".into());
    }
    let is_among = facts["enum"].as_array().is_none_or(|names| names.contains(&json!(value)));
    let in_bounds = facts["type"] != "integer"
        || value.parse::<i64>().is_ok_and(|number| {
            facts["minimum"].as_i64().is_none_or(|least| number >= least)
                && facts["maximum"].as_i64().is_none_or(|most| number <= most)
        });
    (!is_among || !in_bounds).then(|| format!("{value:?} is not allowed"))
}

/// Rules that are only in the reference.
fn breach_beside(resource: &str, params: &Params) -> Option<String> {
    let parts: &[&str] = match resource {
        "search" => &["snippet"],
        "videos" => &["id", "snippet", "statistics", "contentDetails"],
        _ => &["id", "snippet", "contentDetails"],
    };
    if let Some(part) = params["part"].split(',').find(|part| !parts.contains(part)) {
        return Some(format!("part {part:?} is none that is needed"));
    }
    let ids = params.get("id").map_or(0, |ids| ids.split(',').count());
    let filters = ["id", "forHandle", "forUsername", "playlistId"];
    let filters = filters.iter().filter(|name| params.contains_key(**name)).count();
    if ids > 50 {
        Some(format!("{ids} ids are more than 50"))
    } else if resource != "search" && filters != 1 {
        Some("exactly one filter is needed".into())
    } else if resource == "videos" && params.contains_key("maxResults") {
        Some("maxResults goes with no id".into())
    } else if params.contains_key("videoDuration") && params.get("type").is_none_or(|it| it != "video") {
        Some("videoDuration needs type=video".into())
    } else {
        None
    }
}

fn params(pairs: &[(&str, &str)]) -> Params {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn calls_that_the_discovery_document_does_not_allow_are_detected() {
    let fifty_one = vec!["dQw4w9WgXcQ"; 51].join(",");
    for (resource, pairs, problem) in [
        ("search", &[("q", "x")][..], "part is required"),
        ("search", &[("part", "snippet"), ("max", "5")], "max is no parameter"),
        ("search", &[("part", "snippet"), ("key", "secret")], "key is no parameter"),
        ("search", &[("part", "snippet"), ("maxResults", "51")], "maxResults: \"51\" is not allowed"),
        ("search", &[("part", "snippet"), ("maxResults", "ten")], "maxResults: \"ten\" is not allowed"),
        ("search", &[("part", "snippet"), ("order", "views")], "order: \"views\" is not allowed"),
        ("search", &[("part", "snippet"), ("q", "")], "q: empty"),
        ("search", &[("part", "snippet"), ("videoDuration", "short")], "videoDuration needs type=video"),
        ("videos", &[("part", "snippet"), ("id", &fifty_one)], "51 ids are more than 50"),
        ("videos", &[("part", "snippet"), ("id", "x"), ("maxResults", "5")], "maxResults goes with no id"),
        ("videos", &[("part", "snippet"), ("id", "x"), ("locale", "en")], "locale: deprecated"),
        ("videos", &[("part", "snippets"), ("id", "x")], "part \"snippets\""),
        ("channels", &[("part", "snippet"), ("id", "x"), ("forHandle", "@x")], "exactly one filter"),
        ("playlistItems", &[("part", "snippet")], "exactly one filter"),
        ("playlists", &[("part", "snippet")], "none of the four calls"),
    ] {
        let found = breach(resource, &params(pairs)).unwrap_or_default();
        assert!(found.contains(problem), "{resource} {pairs:?}: {found:?}, not {problem:?}");
    }
}

/// The stand-in checks each call; this test sends all parameters that are ever sent.
#[test]
fn every_parameter_that_is_sent_is_in_the_discovery_document() {
    let bench = Bench::new(YouTube::start().with_videos((0..60).map(video)));
    bench.succeed("youtube.video", json!({"video_id": "video000001"}));
    for order in ["date", "rating", "relevance", "title", "viewCount"] {
        for duration in ["any", "short", "medium", "long"] {
            for max_results in [1, 50] {
                let search = json!({
                    "search_query": "bees & flowers", "max_results": max_results, "duration": duration, "order": order,
                    "language": "en", "region": "us",
                });
                bench.succeed("youtube.search", search);
            }
        }
    }
    for channel in ["@handle", "UC0000000000000000000000", "https://www.youtube.com/user/name"] {
        bench.succeed("youtube.channel", json!({"channel_url": channel, "max_videos": 60}));
    }
    let mut sent: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (resource, params) in bench.api.calls() {
        assert_eq!(breach(&resource, &params), None);
        sent.entry(resource).or_default().extend(params.into_keys());
    }
    let sent: Vec<(String, String)> =
        sent.into_iter().map(|(resource, names)| (resource, Vec::from_iter(names).join(" "))).collect();
    let expected = [
        ("channels", "forHandle forUsername id part"),
        ("playlistItems", "maxResults pageToken part playlistId"),
        ("search", "maxResults order part q regionCode relevanceLanguage type videoDuration"),
        ("videos", "id part"),
    ];
    assert_eq!(sent, expected.map(|(resource, names)| (resource.to_owned(), names.to_owned())));
}
