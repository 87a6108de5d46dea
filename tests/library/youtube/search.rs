//! `youtube.search`.

use serde_json::json;

use super::bench::Bench;
use super::standin::{YouTube, id, video};

const NAME: &str = "youtube.search";

#[test]
fn a_search_brings_a_record_for_each_video_in_its_order() {
    let bench = Bench::new(YouTube::start().with_videos([video(3), video(1), video(2)]));
    let data = bench.succeed(NAME, json!({"search_query": " bees & flowers? \n"}));
    let listed = |n: usize| json!({"video_id": id(n), "title": format!("Video {n}"), "idea_id": null});
    assert_eq!(data["videos"], json!([listed(3), listed(1), listed(2)]));
    let ideas: Vec<_> = data["ideas"].as_array().unwrap().iter().map(|idea| idea["source_id"].clone()).collect();
    assert_eq!(ideas, [id(3), id(1), id(2)]);
    assert_eq!((&data["search_query"], &data["errors"]), (&json!("bees & flowers?"), &json!([])));
    assert_eq!((&data["quota"]["spent"], bench.used()), (&json!(101), 101));
    assert_eq!(data.as_object().unwrap().len(), 5);
}

#[test]
fn the_defaults_are_sent() {
    let bench = Bench::new(YouTube::start().with_videos((0..20).map(video)));
    let data = bench.succeed(NAME, json!({"search_query": "bees"}));
    assert_eq!(data["videos"].as_array().unwrap().len(), 10);
    let (_, params) = &bench.api.calls()[0];
    let sent: Vec<String> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected = ["maxResults=10", "order=viewCount", "part=snippet", "q=bees", "type=video", "videoDuration=short"];
    assert_eq!(sent, expected);
}

#[test]
fn search_params_are_sent() {
    let bench = Bench::new(YouTube::start().with_videos([video(1)]));
    let params = json!({
        "search_query": "včely", "max_results": 50, "duration": "any", "order": "date", "language": "CS", "region": "cz",
    });
    bench.succeed(NAME, params);
    let (_, params) = &bench.api.calls()[0];
    for (name, value) in [
        ("q", "včely"),
        ("maxResults", "50"),
        ("videoDuration", "any"),
        ("order", "date"),
        ("relevanceLanguage", "cs"),
        ("regionCode", "CZ"),
    ] {
        assert_eq!(params[name], value, "{name}");
    }
}

#[test]
fn missing_videos_are_named() {
    let bench = Bench::new(YouTube::start().with_videos([video(1), video(2)]).losing("gone-video1"));
    let data = bench.succeed(NAME, json!({"search_query": "bees"}));
    assert_eq!(data["videos"].as_array().unwrap().len(), 2);
    assert_eq!(data["ideas"].as_array().unwrap().len(), 2);
    assert_eq!(data["errors"], json!([{"video_id": "gone-video1", "error": "the video was removed or is not public"}]));
}

#[test]
fn a_search_that_finds_nothing_succeeds() {
    let bench = Bench::new(YouTube::start());
    let data = bench.succeed(NAME, json!({"search_query": "bees"}));
    assert_eq!((&data["videos"], &data["errors"], &data["ideas"]), (&json!([]), &json!([]), &json!([])));
    assert_eq!((bench.api.called(), bench.used()), (vec!["search".to_owned()], 100));
}

#[test]
fn a_repeated_search_pays_for_the_search_alone() {
    let bench = Bench::new(YouTube::start().with_videos([video(1)]));
    for used in [101, 201] {
        bench.succeed(NAME, json!({"search_query": "bees"}));
        assert_eq!(bench.used(), used);
    }
    assert_eq!(bench.api.called(), ["search", "videos", "search"]);
}

#[test]
fn only_videos_that_are_not_known_are_asked_for() {
    let bench = Bench::new(YouTube::start().with_videos([video(1), video(2)]));
    bench.succeed("youtube.video", json!({"video_id": id(1)}));
    let data = bench.succeed(NAME, json!({"search_query": "bees"}));
    assert_eq!(data["videos"].as_array().unwrap().len(), 2);
    assert_eq!(bench.api.calls()[2].1["id"], id(2));
}
