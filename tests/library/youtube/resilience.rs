//! Errors, slow answers and refusals of the API, and cancelled tasks.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use prismq::Outcome;
use prismq::internals::CancelReason;
use serde_json::{Value, json};

use super::bench::{Bench, assert_from_now, failure};
use super::standin::{KEY, YouTube, access_not_configured, error, id, unavailable, video};
use crate::support::Answer;

const NAME: &str = "youtube.video";

fn bench() -> Bench {
    Bench::new(YouTube::start().with_videos([video(1)]))
}

fn params() -> Value {
    json!({"video_id": id(1)})
}

/// Runs a task whose first `count` answers are `answer`.
fn fail_first(answer: &Answer, count: usize) -> (Bench, Outcome) {
    let bench = bench();
    bench.api.answer_with(vec![answer.clone(); count]);
    let outcome = bench.run(NAME, params());
    assert_eq!(bench.api.called().len(), 3);
    (bench, outcome)
}

#[test]
fn three_tries_are_made() {
    thread::scope(|scope| {
        for answer in [unavailable(), Answer::close(), Answer::page(502), Answer::page(200)] {
            scope.spawn(move || {
                assert_eq!(fail_first(&answer, 2).1.failure, None);
                let failure = failure(&fail_first(&answer, 3).1, "connection");
                assert!(failure.retryable && failure.error.contains("3 tries"), "{failure:?}");
            });
        }
    });
}

#[test]
fn an_api_that_is_not_there_cannot_be_reached() {
    let bench = bench();
    let handler = bench.handler_at(NAME, "http://127.0.0.1:1/youtube/v3".into());
    let failure = failure(&bench.run_by(&*handler, params()), "connection");
    assert!(failure.retryable && failure.error.contains("could not be reached"), "{failure:?}");
    assert_eq!(bench.used(), 0, "a call that did not get there costs nothing");
}

#[test]
fn the_api_is_left_alone_for_as_long_as_it_asks() {
    let bench = bench();
    bench.api.answer_with([error(429, "Slow down.", "global", "rateLimitExceeded").header("Retry-After", "2")]);
    let start = Instant::now();
    bench.succeed(NAME, params());
    assert!(start.elapsed() >= Duration::from_secs(2));
}

#[test]
fn a_task_does_not_wait_for_what_comes_after_its_end() {
    let bench = bench();
    bench.api.answer_with([unavailable().header("Retry-After", "60")]);
    let start = Instant::now();
    let failure = bench.fail(NAME, params(), "connection");
    assert!(failure.retryable && failure.error.contains("would be after the task's deadline"), "{failure:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(bench.api.called().len(), 1);
}

#[test]
fn a_task_ends_at_its_deadline() {
    let bench = Bench { timeout: Duration::from_millis(300), ..bench() };
    bench.api.answer_with([Answer::hang()]);
    let start = Instant::now();
    assert!(bench.fail(NAME, params(), "timeout").retryable);
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// Runs a task whose first answer is `answer`, and stops it when that was given.
fn stop_at(answer: Answer, reason: CancelReason, error_type: &str) {
    let bench = bench();
    bench.api.answer_with([answer]);
    let start = Instant::now();
    thread::scope(|scope| {
        let stop = Arc::clone(&bench.stop);
        let task = scope.spawn(|| bench.fail(NAME, params(), error_type));
        bench.api.wait_for_requests(1);
        stop.raise(Some(reason));
        assert!(task.join().unwrap().retryable);
    });
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(bench.api.called().len(), 1);
}

#[test]
fn a_stop_ends_a_call_that_hangs() {
    stop_at(Answer::hang(), CancelReason::Shutdown, "shutdown");
}

#[test]
fn a_stop_ends_the_wait_for_the_next_try() {
    stop_at(unavailable().header("Retry-After", "30"), CancelReason::ClaimLost, "claim_lost");
}

#[test]
fn a_key_that_is_refused_pauses_the_type() {
    let bench = Bench { key: Some("another-key"), ..bench() };
    let outcome = bench.run(NAME, params());
    let failed = failure(&outcome, "configuration");
    assert!(!failed.retryable && failed.error.contains("API key not valid"), "{failed:?}");
    assert_from_now(outcome.not_before, Duration::from_secs(600));
    assert_eq!((bench.api.requests().len(), bench.used()), (1, 0), "it costs this key's day nothing");

    let bench = self::bench();
    bench.api.answer_with([access_not_configured()]);
    let outcome = bench.run(NAME, params());
    let failed = failure(&outcome, "configuration");
    assert!(failed.error.contains("has not been used in project 12345"), "{failed:?}");
    assert_from_now(outcome.not_before, Duration::from_secs(600));
}

#[test]
fn params_that_the_api_refuses_are_not_sent_again() {
    let bench = bench();
    bench.api.answer_with([error(400, "Invalid <code>regionCode</code>", "youtube.parameter", "invalidParameter")]);
    let failure = bench.fail("youtube.search", json!({"search_query": "x", "region": "ZZ"}), "validation");
    assert!(!failure.retryable && failure.error.contains("Invalid regionCode"), "{failure:?}");
    assert_eq!(bench.api.called().len(), 1);
}

#[test]
fn a_redirect_is_not_followed() {
    let bench = bench();
    bench.api.answer_with([Answer::redirect(302, &format!("{}/videos?part=id&id=x", bench.api.url()))]);
    let failure = bench.fail(NAME, params(), "handler");
    assert!(failure.error.contains("302"), "{failure:?}");
    assert_eq!(bench.api.called().len(), 1);
}

#[test]
fn the_key_is_never_shown() {
    let bench = bench();
    bench.api.answer_with([error(400, &format!("no {KEY} here"), "youtube.parameter", "invalidParameter")]);
    let failure = bench.fail(NAME, params(), "validation");
    assert!(failure.error.contains("no *** here"), "{failure:?}");
    for request in bench.api.requests() {
        assert!(!request.path.contains("key") && request.header("X-Goog-Api-Key") == Some(KEY));
    }
}
