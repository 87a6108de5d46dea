//! `youtube.video`.

use serde_json::{Value, json};

use super::bench::{Bench, MIDNIGHT, assert_from_now, failure};
use super::standin::{YouTube, id, video};
use std::time::Duration;

const NAME: &str = "youtube.video";

#[test]
fn a_video_becomes_a_record() {
    let bench = Bench::new(YouTube::start().with_videos([video(1)]));
    let data = bench.succeed(NAME, json!({"video_id": id(1)}));
    let idea = json!({
        "title": "Video 1",
        "description": "All of it",
        "content": "",
        "keywords": ["youtube_video", "youtube_shorts", "The channel", "category_22", "one", "two"],
        "source_type": "video",
        "metadata": {
            "video_id": id(1), "channel_id": "UC0000000000000000000000", "channel_title": "The channel",
            "published_at": "2026-01-02T03:04:05Z", "duration": "PT1M1S", "view_count": "1234", "like_count": "5",
            "comment_count": "6", "category_id": "22", "subtitles_available": "false",
        },
        "source_id": id(1),
        "source_url": "https://www.youtube.com/watch?v=video000001",
        "source_platform": "youtube",
        "source_created_by": "The channel",
        "source_created_at": "2026-01-02T03:04:05Z",
    });
    let quota = json!({"spent": 1, "used": 1, "left": 9999, "limit": 10000, "resets_at": MIDNIGHT});
    let expected = json!({
        "video_id": id(1), "title": "Video 1", "view_count": 1234, "idea_id": null, "ideas": [idea], "quota": quota,
    });
    assert_eq!(data, expected);
    assert_eq!(bench.api.called(), ["videos"]);
}

#[test]
fn a_video_is_found_by_its_address() {
    let bench = Bench::new(YouTube::start().with_videos([video(1)]));
    let data = bench.succeed(NAME, json!({"video_url": "https://youtu.be/video000001?t=5"}));
    assert_eq!(data["video_id"], id(1));
}

#[test]
fn params_that_make_no_sense_cost_no_call() {
    let bench = Bench::new(YouTube::start());
    for (name, params) in [
        (NAME, json!({})),
        (NAME, json!({"video_url": "https://vimeo.com/1"})),
        ("youtube.search", json!({"search_query": "  "})),
        ("youtube.channel", json!({"channel_url": "https://www.youtube.com/c/name"})),
    ] {
        let failure = bench.fail(name, params, "validation");
        assert!(!failure.retryable);
    }
    assert_eq!((bench.api.requests().len(), bench.used()), (0, 0));
}

#[test]
fn a_video_that_does_not_exist_is_not_found() {
    let bench = Bench::new(YouTube::start().with_videos([video(1)]));
    let failure = bench.fail(NAME, json!({"video_id": id(2)}), "not_found");
    assert!(!failure.retryable && failure.error.contains(&id(2)), "{failure:?}");
}

#[test]
fn fields_missing_in_the_api_s_answer_are_empty() {
    let bench = Bench::new(YouTube::start().with_videos([json!({"id": id(1), "snippet": {"title": ""}})]));
    let data = bench.succeed(NAME, json!({"video_id": id(1)}));
    assert_eq!((&data["title"], &data["view_count"]), (&json!("Untitled Video"), &Value::Null));
    assert_eq!(data["ideas"][0]["metadata"]["like_count"], "");
    assert_eq!(data["ideas"][0]["keywords"], json!(["youtube_video"]));
}

#[test]
fn a_repeated_task_costs_no_quota() {
    let bench = Bench::new(YouTube::start().with_videos([video(1)]));
    let first = bench.succeed(NAME, json!({"video_id": id(1)}));
    let again = bench.succeed(NAME, json!({"video_id": id(1)}));
    assert_eq!(first["ideas"], again["ideas"]);
    assert_eq!((&again["quota"]["spent"], &again["quota"]["used"]), (&json!(0), &json!(1)));
    assert_eq!(bench.api.called().len(), 1);
}

#[test]
fn a_task_without_a_key_says_where_to_put_one_and_the_type_pauses() {
    let bench = Bench { key: None, ..Bench::new(YouTube::start().with_videos([video(1)])) };
    assert!(bench.handler(NAME).check().unwrap_err().contains("YOUTUBE_API_KEY"));
    let outcome = bench.run(NAME, json!({"video_id": id(1)}));
    let failure = failure(&outcome, "configuration");
    assert!(failure.error.contains("YOUTUBE_API_KEY_FILE") && !failure.retryable, "{failure:?}");
    assert_from_now(outcome.not_before, Duration::from_secs(600));
    assert_eq!((bench.api.requests().len(), bench.used()), (0, 0));
}
