//! A TaskManager that asks to be left alone, for however long, and however it writes that.

use std::time::{Duration, Instant, SystemTime};

use prismq::internals::with_retry_after_budget;
use prismq::{Claim, Outcome, Run, Summary, TaskManagerError as Error, Timestamp, Worker, WorkerError};
use serde_json::{Value, json};

use crate::support::published::{Fault, KEY, PublishedServer};
use crate::support::{Answer, at_once, cases, recorded, rows};

const A_MINUTE: &str = "try again in 60 seconds";

fn refusal(status: u16, retry_after: &str) -> Answer {
    Answer::page(status).header("Retry-After", retry_after)
}

/// Refusals that ask for a second at most, or for no time that makes sense.
fn short() -> Vec<Answer> {
    let soon = Timestamp::try_from(SystemTime::now() + Duration::from_secs(1)).unwrap();
    let soon = soon.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let in_body = json!({"error": "Too Many Requests", "message": "Rate limit exceeded.", "retry_after": 1});
    vec![
        Answer::page(429),
        refusal(429, "0"),
        refusal(429, "1"),
        refusal(429, "0.5"),
        refusal(429, ""),
        refusal(429, "-5"),
        refusal(429, "soon"),
        refusal(429, &soon),
        refusal(429, "Sun, 06 Nov 1994 08:49:37 GMT"),
        refusal(429, "0").header("Retry-After", "1"),
        refusal(503, "1"),
        refusal(503, "0"),
        Answer::json(429, &in_body),
    ]
}

/// Works two tasks where calls of each kind are refused at first.
fn works_through(refusal: &Answer, limit: &[&str]) {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo 1");
    let ids = [0, 1].map(|n| published.create("case", json!({"case": "it", "n": n})));
    for call in ["GET /task-types/case", "POST /tasks/claim", "POST /tasks/claim", "POST /tasks/1/complete"] {
        published.inject(call, Fault::Answer(refusal.clone()));
    }
    published.inject("GET /tasks/1", Fault::Answer(refusal.clone()));
    let output = sandbox.prismq(["work"]).args(limit.iter().copied()).run().exits(0);
    for id in ids {
        let task = published.task(id);
        assert_eq!((task.status.as_str(), task.attempts), ("completed", 1), "{refusal:?}: {}", output.stderr);
    }
    let rows = rows(&sandbox, "results");
    assert!(rows.iter().all(|row| row["reported_at"].is_string()), "{rows:?}");
}

#[test]
fn a_refusal_for_now_ends_neither_a_drain_nor_a_limited_worker() {
    let limits = [&["--drain"][..], &["--max-tasks", "2", "--concurrency", "2"]];
    let cases = short().into_iter().flat_map(|refusal| limits.map(|limit| (refusal.clone(), limit)));
    at_once(cases, |(refusal, limit)| works_through(&refusal, limit));
}

/// When the calls were made whose text begins with `call`.
fn times(published: &PublishedServer, call: &str) -> Vec<Instant> {
    let requests = published.server.requests();
    let made = requests.iter().filter(|it| format!("{} {}", it.method, it.path).starts_with(call));
    made.map(|request| request.at).collect()
}

#[test]
fn a_call_is_not_made_again_before_the_time_that_was_asked_for() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo 1");
    published.create("case", json!({"case": "it"}));
    for call in ["GET /task-types/case", "POST /tasks/claim", "POST /tasks/1/complete"] {
        published.inject(call, Fault::Answer(refusal(429, "2")));
    }
    sandbox.prismq(["work", "--drain", "--concurrency", "4"]).run().exits(0);
    let report = [times(&published, "POST /tasks/1/complete")[0], times(&published, "GET /tasks/1")[0]];
    for times in [times(&published, "GET /task-types/case"), times(&published, "POST /tasks/claim"), report.into()] {
        let wait = times[1] - times[0];
        assert!(wait >= Duration::from_secs(2), "{wait:?}");
    }
}

#[test]
fn many_slots_that_are_refused_together_do_not_wait_longer_than_one() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "until [ -e go ]; do sleep 0.03; done; echo 1");
    let ids: Vec<u64> = (0..8).map(|n| published.create("case", json!({"case": "it", "n": n}))).collect();
    let mut worker = sandbox.prismq(["work", "--drain", "--concurrency", "8", "--max-backoff", "10m"]).start();
    worker.wait_for("all claims", |_| ids.iter().all(|id| published.task(*id).status == "claimed"));
    (0..8).for_each(|_| published.inject("POST /tasks/claim", Fault::Answer(refusal(429, "0"))));
    sandbox.write("go", "");
    worker.wait().exits(0);
}

/// What a worker is asked to end by is obeyed though it was asked to wait for a minute.
#[test]
fn signals_are_obeyed_meanwhile() {
    at_once(["GET /task-types/case", "POST /tasks/claim", "POST /tasks/1/complete"], |call| {
        let published = PublishedServer::start(&["case"]);
        let sandbox = published.sandbox(&cases("case", ""));
        sandbox.write("it.sh", "echo 1");
        published.create("case", json!({"case": "it"}));
        published.inject(call, Fault::Answer(recorded("rate limited")));
        let mut worker = sandbox.prismq(["work", "--drain"]).start();
        worker.wait_for_stderr(A_MINUTE);
        worker.terminate();
        let output = worker.wait().exits(0);
        if call.ends_with("complete") {
            // It is sent once more before the end.
            assert_eq!(published.task(1).status, "completed", "{}", output.stderr);
        }
    });
}

/// Drains a server in this process, with a patience that is shorter than the real one.
fn drain(published: &PublishedServer) -> Result<Summary, WorkerError> {
    let folder = tempfile::tempdir().unwrap();
    let echo = |claim: &Claim, _: &Run<'_>| Outcome::success(claim.task.params.clone());
    let worker = Worker::builder().api_url(published.url()).api_key(KEY).results(folder.path().join("results.db"));
    let worker = worker.handler("case", echo).drain().build().unwrap();
    with_retry_after_budget(worker, Duration::from_secs(1)).run()
}

#[test]
fn a_drain_gives_up_a_server_that_asks_to_be_left_alone_for_ever() {
    at_once(["GET /task-types/case", "POST /tasks/claim"], |call| {
        let published = PublishedServer::start(&["case"]);
        published.create("case", Value::Null);
        (0..1000).for_each(|_| published.inject(call, Fault::Answer(refusal(429, "0"))));
        let error = drain(&published).unwrap_err();
        let is_told = matches!(error, WorkerError::TaskManager(Error::Unavailable { status: 429, .. }));
        assert!(is_told, "{call}: {error}");
        assert!(published.count(call) > 1, "{call}");
    });
}

#[test]
fn a_drain_gives_up_reports_that_never_get_through() {
    at_once([refusal(429, "0"), recorded("backend down")], |refusal| {
        let published = PublishedServer::start(&["case"]);
        published.create("case", Value::Null);
        for call in ["POST /tasks/1/complete", "GET /tasks/1"] {
            (0..1000).for_each(|_| published.inject(call, Fault::Answer(refusal.clone())));
        }
        let summary = drain(&published).unwrap();
        assert_eq!((summary.counters.completed, summary.unreported), (1, 1));
    });
}
