//! `youtube.channel`.

use serde_json::{Value, json};

use super::bench::Bench;
use super::standin::{CHANNEL, YouTube, id, video};

const NAME: &str = "youtube.channel";

fn ids(data: &Value) -> Vec<String> {
    data["videos"].as_array().unwrap().iter().map(|it| it["video_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_channel_is_found_by_its_handle_its_id_or_its_user() {
    let bench = Bench::new(YouTube::start().with_videos([video(1), video(2)]));
    for (address, name, value) in [
        ("@handle", "forHandle", "@handle"),
        ("https://www.youtube.com/@handle/videos", "forHandle", "@handle"),
        (CHANNEL, "id", CHANNEL),
        ("youtube.com/channel/UC0000000000000000000000/about", "id", CHANNEL),
        ("https://www.youtube.com/user/name", "forUsername", "name"),
    ] {
        let before = bench.api.calls().len();
        let data = bench.succeed(NAME, json!({"channel_url": address}));
        assert_eq!(bench.api.calls()[before].1[name], value, "{address}");
        assert_eq!((&data["channel_id"], &data["channel_title"]), (&json!(CHANNEL), &json!("The channel")));
        assert_eq!((ids(&data), &data["errors"]), (vec![id(1), id(2)], &json!([])));
        assert_eq!(data["ideas"].as_array().unwrap().len(), 2);
        assert_eq!(data.as_object().unwrap().len(), 6);
    }
}

#[test]
fn the_newest_fifty_are_read_where_nothing_else_is_said() {
    let bench = Bench::new(YouTube::start().with_videos((0..120).map(video)));
    let data = bench.succeed(NAME, json!({"channel_url": "@handle"}));
    assert_eq!(ids(&data), (0..50).map(id).collect::<Vec<_>>());
    assert_eq!(
        (bench.api.called(), bench.used()),
        (["channels", "playlistItems", "videos"].map(String::from).into(), 3)
    );
}

#[test]
fn more_are_read_in_pages_and_batches() {
    for (wanted, calls) in [
        (100, &["channels", "playlistItems", "playlistItems", "videos", "videos"][..]),
        (51, &["channels", "playlistItems", "playlistItems", "videos", "videos"]),
        (7, &["channels", "playlistItems", "videos"]),
    ] {
        let bench = Bench::new(YouTube::start().with_videos((0..120).map(video)));
        let data = bench.succeed(NAME, json!({"channel_url": "@handle", "max_videos": wanted}));
        assert_eq!(ids(&data), (0..wanted).map(id).collect::<Vec<_>>());
        assert_eq!(
            (bench.api.called(), &data["quota"]["spent"]),
            (calls.iter().map(|it| (*it).to_owned()).collect(), &json!(calls.len()))
        );
    }
}

#[test]
fn a_channel_with_fewer_videos_is_read_to_its_end() {
    let bench = Bench::new(YouTube::start().with_videos((0..60).map(video)));
    let data = bench.succeed(NAME, json!({"channel_url": "@handle", "max_videos": 100}));
    assert_eq!(ids(&data).len(), 60);
}

#[test]
fn a_channel_without_videos_is_a_success() {
    let bench = Bench::new(YouTube::start());
    let data = bench.succeed(NAME, json!({"channel_url": "@handle"}));
    assert_eq!((&data["channel_title"], &data["videos"]), (&json!("The channel"), &json!([])));
    assert_eq!(bench.api.called(), ["channels", "playlistItems"]);
}

#[test]
fn a_channel_that_does_not_exist_is_not_found() {
    let bench = Bench::new(YouTube::start().without_channel());
    let failure = bench.fail(NAME, json!({"channel_url": "@handle"}), "not_found");
    assert!(!failure.retryable && failure.error.contains("@handle"), "{failure:?}");
}

#[test]
fn private_videos_of_a_channel_are_named() {
    let bench = Bench::new(YouTube::start().with_videos([video(1)]).losing("private-one"));
    let data = bench.succeed(NAME, json!({"channel_url": "@handle"}));
    assert_eq!((ids(&data), &data["errors"][0]["video_id"]), (vec![id(1)], &json!("private-one")));
}

#[test]
fn a_video_that_is_listed_twice_is_read_once() {
    let bench = Bench::new(YouTube::start().with_videos([video(1), video(1), video(2)]));
    assert_eq!(ids(&bench.succeed(NAME, json!({"channel_url": "@handle"}))), [id(1), id(2)]);
    let data = bench.succeed("youtube.search", json!({"search_query": "bees"}));
    assert_eq!((ids(&data), data["ideas"].as_array().unwrap().len()), (vec![id(1), id(2)], 2));
}
