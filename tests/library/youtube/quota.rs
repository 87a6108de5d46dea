//! The daily quota: units are counted before each call, and used up when the API says so.

use serde_json::json;

use super::bench::{Bench, MIDNIGHT};
use super::standin::{YouTube, error, id, quota_exceeded, unavailable, video};
use crate::support::Answer;

fn bench(units: u64) -> Bench {
    Bench::with_units(YouTube::start().with_videos((0..60).map(video)), units)
}

#[test]
fn no_call_is_made_that_the_day_has_no_units_for() {
    let bench = bench(99);
    let failure = bench.fail("youtube.search", json!({"search_query": "bees"}), "quota");
    assert!(failure.retryable);
    for words in ["the call costs 100 units", "99 are left", MIDNIGHT] {
        assert!(failure.error.contains(words), "{failure:?}");
    }
    assert_eq!((bench.api.requests().len(), bench.used()), (0, 0));
    bench.succeed("youtube.video", json!({"video_id": id(1)}));
}

#[test]
fn a_task_that_runs_out_of_units_midway_is_to_be_tried_again() {
    let bench = bench(4);
    let params = json!({"channel_url": "@handle", "max_videos": 60});
    assert!(bench.fail("youtube.channel", params, "quota").retryable);
    assert_eq!((bench.api.called().len(), bench.used()), (4, 4));
}

#[test]
fn the_day_is_over_when_the_api_says_so() {
    let message =
        "Quota exceeded for quota metric 'Queries' and limit 'Queries per day' of service 'youtube.googleapis.com'";
    for answer in [
        quota_exceeded(),
        error(
            403,
            "Daily Limit Exceeded. The quota will be reset at midnight PT.",
            "usageLimits",
            "dailyLimitExceeded",
        ),
        error(429, message, "global", "rateLimitExceeded"),
    ] {
        let bench = bench(10_000);
        bench.api.answer_with([answer]);
        let failure = bench.fail("youtube.search", json!({"search_query": "bees"}), "quota");
        assert!(failure.retryable && !failure.error.contains('<'), "{failure:?}");
        assert_eq!((bench.api.called().len(), bench.used()), (1, 10_000));
    }
}

#[test]
fn each_handler_wants_no_tasks_while_its_cheapest_cannot_be_paid() {
    for (left, waits) in
        [(0, [true, true, true]), (1, [false, true, true]), (3, [false, true, false]), (101, [false; 3])]
    {
        let bench = bench(left);
        let names = ["youtube.video", "youtube.search", "youtube.channel"];
        let not_before = names.map(|name| bench.handler(name).not_before());
        let expected = waits.map(|waits| waits.then(|| MIDNIGHT.parse().unwrap()));
        assert_eq!(not_before, expected, "{left} left");
    }
}

#[test]
fn tries_that_the_api_may_have_counted_are_paid_for() {
    let bench = bench(10_000);
    bench.api.answer_with([unavailable(), Answer::close()]);
    let data = bench.succeed("youtube.video", json!({"video_id": id(1)}));
    assert_eq!((&data["quota"]["spent"], bench.used()), (&json!(3), 3));
}

#[test]
fn rejected_attempts_are_not_charged() {
    let bench = bench(10_000);
    let turned_away = || error(429, "Too many requests.", "global", "rateLimitExceeded");
    bench.api.answer_with([turned_away(), turned_away()]);
    bench.succeed("youtube.search", json!({"search_query": "bees"}));
    assert_eq!(
        (bench.api.called(), bench.used()),
        (["search", "search", "search", "videos"].map(String::from).into(), 101)
    );
}
