//! Which calls are retried, how often, and after which pauses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prismq::internals::clock::after;
use prismq::internals::taskmanager::{Client, Connection, Delivery, LongPollRequest, Order, Retries};
use prismq::{Outcome, TaskId, TaskManagerError as Error, Timestamp};
use serde_json::{Value, json};

use crate::client::{NOBODY, connection, patient, report, task};
use crate::support::{Answer, FakeClock, ScriptedServer, recorded};

const THREE: Retries = Retries { tries: 3, ..Retries::STANDARD };

/// Returns the number of requests that a server gets that always gives the same answer.
fn requests_for<T>(answer: Answer, call: impl Fn(&Client) -> Result<T, Error>) -> usize {
    let server = ScriptedServer::always(answer);
    let clock = FakeClock::new();
    let result = call(&patient(&server, THREE, &clock));
    let requests = server.requests().len();
    assert_eq!(clock.sleeps().len(), requests - 1, "a wait before every further try");
    assert_eq!(result.is_err_and(|error| error.is_retryable()), requests > 1);
    requests
}

#[test]
fn temporary_errors_are_retried() {
    let whole = recorded("show a task");
    for answer in [
        Answer::page(408),
        Answer::error(408, "too slow"),
        recorded("backend down"),
        Answer::error(502, "no"),
        Answer::page(503),
        Answer::json(503, &json!({"error": "Service Unavailable", "message": "down for maintenance"})),
        Answer::page(504),
        Answer::error(504, "no"),
        recorded("the server's database is down"),
        recorded("complete: deadlock in the server's database"),
        recorded("create: two at once with the same params"),
        Answer::error(500, "There is no active transaction"), // an empty queue to a claim only
        Answer::json(500, &json!({})),
        Answer::page(500),
        Answer::new(500, "text/html", ""),
        Answer::close(),
        Answer::reset(),
        whole.cut_short(),
    ] {
        let seen = [
            requests_for(answer.clone(), |client| client.task(TaskId(1))),
            requests_for(answer.clone(), |client| client.create("a.b", &json!({}), None)),
            requests_for(answer.clone(), |client| client.progress(TaskId(1), "w", 1, None)),
        ];
        assert_eq!(seen, [3; 3], "{answer:?}");
    }
}

#[test]
fn a_claim_begins_with_the_try_that_got_it() {
    let task = json!({"id": 1, "type": "a", "params": {}, "attempts": 1});
    let server = ScriptedServer::queue([recorded("backend down"), Answer::data(&task)]);
    let clock = FakeClock::new();
    let client = patient(&server, THREE, &clock);
    let claimed = client.claim_long_poll("w", 1, Order::OldestFirst, LongPollRequest::default()).unwrap();
    let waited: Duration = clock.sleeps().iter().sum();
    assert_eq!(claimed.claimed_at.time, after(Timestamp::UNIX_EPOCH, waited), "its time does not run while we wait");
    assert!(!claimed.tasks.is_empty() && !waited.is_zero());
}

#[test]
fn nothing_else_is_tried_again() {
    let refusals = [200, 400, 401, 403, 404, 405, 409, 410, 413, 422, 501, 505, 599];
    let other_shape = json!({"error": "Title", "message": "text"});
    let mut answers: Vec<Answer> = refusals.iter().map(|status| Answer::error(*status, "no")).collect();
    answers.extend([400, 401, 403, 404, 413].map(|status| Answer::json(status, &other_shape)));
    answers.extend([200, 400, 401, 403, 404, 413, 501].map(Answer::page));
    answers.extend([301, 302, 303, 307, 308].map(|status| Answer::redirect(status, "/api/tasks/1")));
    answers.extend([
        recorded("create: params over 65,535 bytes"),
        recorded("list tasks: limit below zero"),
        recorded("list types"),
        recorded("no such endpoint"),
        Answer::data(&json!("nonsense")),
        Answer::json(200, &json!([1])),
        Answer::new(200, "application/json", "{nonsense"),
        Answer::raw("SSH-2.0-OpenSSH_9.2\r\n"),
    ]);
    for answer in answers {
        let seen = [
            requests_for(answer.clone(), |client| client.task(TaskId(1))),
            requests_for(answer.clone(), |client| client.create("a.b", &json!({}), None)),
            requests_for(answer.clone(), |client| client.claim("w", 1, Order::OldestFirst)),
        ];
        assert_eq!(seen, [1; 3], "{answer:?}");
    }
}

#[test]
fn a_time_out_is_tried_again() {
    let server = ScriptedServer::always(Answer::hang());
    // Long enough to send the request on a busy machine.
    let connection = Connection { call_timeout: Duration::from_millis(400), ..connection(&server) };
    let client = Client::new(&connection, THREE, FakeClock::new()).unwrap();
    assert!(client.task(TaskId(1)).unwrap_err().is_retryable());
    assert_eq!(server.wait_for_requests(3).len(), 3);
}

#[test]
fn a_refused_connection_is_tried_again() {
    let clock = FakeClock::new();
    let client = Client::new(&Connection::new(NOBODY, None), THREE, clock.clone()).unwrap();
    assert!(matches!(client.health(), Err(Error::Unreachable { .. })));
    assert_eq!(clock.sleeps().len(), 2);
}

#[test]
fn the_first_good_answer_ends_it() {
    for faults in 0..5 {
        let answers = std::iter::repeat_n(recorded("backend down"), faults).chain([recorded("show a task")]);
        let server = ScriptedServer::queue(answers);
        let shown = patient(&server, Retries::STANDARD, &FakeClock::new()).task(TaskId(1)).unwrap();
        assert_eq!((shown.unwrap().id, server.requests().len()), (TaskId(1), faults + 1));
    }
}

#[test]
fn as_many_tries_as_the_settings_say() {
    for (tries, seen) in [(0, 1), (1, 1), (2, 2), (7, 7)] {
        let server = ScriptedServer::always(recorded("backend down"));
        let client = patient(&server, Retries::NONE, &FakeClock::new()).with_retries(Retries { tries, ..THREE });
        client.task(TaskId(1)).unwrap_err();
        assert_eq!(server.requests().len(), seen, "{tries} tries");
        client.resend_report(&report(Outcome::success(json!(1)))).unwrap_err();
        assert_eq!(server.requests().len(), 2 * seen, "{tries} tries");
    }
}

#[test]
fn waits_double_up_to_the_longest_with_full_jitter() {
    let retries =
        Retries { tries: 6, first: Duration::from_secs(1), longest: Duration::from_secs(5), ..Retries::STANDARD };
    let limits = [1, 2, 4, 5, 5].map(Duration::from_secs);
    let server = ScriptedServer::always(recorded("backend down"));
    let runs: Vec<Vec<Duration>> = (0..40)
        .map(|_| {
            let clock = FakeClock::new();
            patient(&server, retries, &clock).task(TaskId(1)).unwrap_err();
            clock.sleeps()
        })
        .collect();
    for (nth, limit) in limits.into_iter().enumerate() {
        let waits: Vec<Duration> = runs.iter().map(|sleeps| sleeps[nth]).collect();
        assert!(waits.iter().all(|wait| *wait <= limit), "wait {nth} is over {limit:?}: {waits:?}");
        assert!(waits.iter().any(|wait| *wait < limit / 3), "wait {nth} keeps to the top: {waits:?}");
        assert!(waits.iter().any(|wait| *wait > limit * 2 / 3), "wait {nth} keeps to the bottom: {waits:?}");
    }
    assert!(runs.iter().all(|sleeps| sleeps.len() == 5));
}

/// Returns the pauses of a client that gets this answer, then a success.
fn waits_after(answer: Answer) -> Vec<Duration> {
    let clock = FakeClock::new();
    let server = ScriptedServer::queue([answer, recorded("show a task")]);
    patient(&server, Retries::STANDARD, &clock).task(TaskId(1)).unwrap();
    clock.sleeps()
}

type Call = fn(&Client) -> Result<(), Error>;

fn limited(retry_after: &Value) -> Value {
    json!({"error": "Too Many Requests", "message": "…", "retry_after": retry_after})
}

#[test]
fn retry_after_is_obeyed() {
    const DATE: &str = "Sun, 22 Nov 2026 03:18:35 GMT";
    for (answer, seconds) in [
        (recorded("rate limited"), 60.0),
        (Answer::page(429).header("Retry-After", "7"), 7.0),
        (Answer::page(503).header("retry-after", " 8 "), 8.0),
        (Answer::error(503, "down").header("Retry-After", "9"), 9.0),
        (Answer::page(429).header("Retry-After", "1.5"), 1.5),
        (Answer::page(429).header("Date", DATE).header("Retry-After", "Sun, 22 Nov 2026 03:18:45 GMT"), 10.0),
        (Answer::page(429).header("Date", DATE).header("Retry-After", "Sun Nov 22 03:18:45 2026"), 10.0),
        (Answer::page(429).header("Retry-After", "3").header("Retry-After", "14").header("Retry-After", "x"), 14.0),
        (Answer::page(429).header("Retry-After", "3, 14"), 14.0),
        (Answer::json(429, &limited(&json!(11))), 11.0),
        (Answer::json(429, &limited(&json!("11"))), 11.0),
        (Answer::json(429, &limited(&json!(1.5))), 1.5),
        (Answer::json(429, &limited(&json!(11))).header("Retry-After", "12"), 12.0),
        (Answer::json(429, &limited(&json!(11))).header("Retry-After", "0"), 11.0),
    ] {
        assert_eq!(waits_after(answer.clone()), [Duration::from_secs_f64(seconds)], "{answer:?}");
    }
}

#[test]
fn an_absurd_retry_after_is_a_minute() {
    for after in ["61", "86400", "99999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let waits = waits_after(Answer::page(429).header("Retry-After", after));
        assert_eq!(waits, [Duration::from_secs(60)], "{after}");
    }
    assert_eq!(waits_after(Answer::json(429, &limited(&json!(u64::MAX)))), [Duration::from_secs(60)]);
}

#[test]
fn where_no_time_is_asked_for_the_backoff_counts() {
    let nonsense = ["Sun, 22 Nov 2026 03:18:35 GMT", "0", "0.0", "-5", "", "soon", "1e3"];
    let mut answers: Vec<Answer> =
        nonsense.iter().map(|after| Answer::page(429).header("Retry-After", after)).collect();
    answers
        .extend([json!("x"), json!(-1), json!(null), json!([60]), json!(0)].map(|it| Answer::json(429, &limited(&it))));
    answers.extend([Answer::page(429), Answer::page(503).header("Retry-After", "never")]);
    for answer in answers {
        let waits = waits_after(answer.clone());
        assert!(waits.len() == 1 && waits[0] <= Retries::STANDARD.first, "{answer:?}: {waits:?}");
    }
}

#[test]
fn a_server_that_asks_to_be_left_alone_uses_up_no_tries() {
    let zero = Answer::page(429).header("Retry-After", "0");
    let down = std::iter::repeat_n(recorded("backend down"), 4);
    let answers = std::iter::repeat_n(zero, 20).chain(down).chain([recorded("show a task")]);
    let server = ScriptedServer::queue(answers);
    let shown = patient(&server, Retries::STANDARD, &FakeClock::new()).task(TaskId(1)).unwrap();
    assert_eq!((shown.unwrap().id, server.requests().len()), (TaskId(1), 25));
}

#[test]
fn a_server_that_asks_to_be_left_alone_for_ever_is_given_up() {
    let patience = Retries::STANDARD.retry_after_budget;
    for after in ["", "0", "1", "7.5", "60", "99999999"] {
        let server = ScriptedServer::always(Answer::page(429).header("Retry-After", after));
        let calls: [Call; 3] = [
            |client| client.task(TaskId(1)).map(drop),
            |client| client.create("a.b", &json!({}), None).map(drop),
            |client| client.send_report(&report(Outcome::success(json!(1)))).map(drop),
        ];
        for call in calls {
            let clock = FakeClock::new();
            let error = call(&patient(&server, Retries::STANDARD, &clock)).unwrap_err();
            assert!(matches!(error, Error::Unavailable { status: 429, .. }), "{error}");
            let waited: Duration = clock.sleeps().iter().sum();
            assert!((patience / 2..=patience).contains(&waited), "{after:?}: {waited:?}");
            assert!(clock.sleeps().len() < 300, "{after:?}: {} tries", clock.sleeps().len());
        }
    }
}

#[test]
fn without_a_budget_retry_after_is_returned_at_once() {
    let server = ScriptedServer::always(recorded("rate limited"));
    let clock = FakeClock::new();
    let error =
        patient(&server, Retries { retry_after_budget: Duration::ZERO, ..THREE }, &clock).task(TaskId(1)).unwrap_err();
    assert_eq!((error.retry_after(), server.requests().len()), (Some(Duration::from_secs(60)), 1));
    assert_eq!(clock.sleeps(), []);
}

#[test]
fn an_interrupted_wait_ends_the_call() {
    let server = ScriptedServer::always(recorded("rate limited"));
    let clock = FakeClock::interrupting();
    let client = patient(&server, Retries::STANDARD, &clock);
    assert_eq!(client.task(TaskId(1)), Err(Error::Interrupted));
    assert_eq!(client.send_report(&report(Outcome::success(json!(1)))), Err(Error::Interrupted));
    assert_eq!(client.resend_report(&report(Outcome::success(json!(1)))), Err(Error::Interrupted));
    assert_eq!((server.requests().len(), clock.sleeps().len()), (3, 3));
    assert!(!Error::Interrupted.is_retryable());
}

#[test]
fn a_clock_can_be_replaced() {
    let server = ScriptedServer::queue([recorded("backend down"), recorded("show a task"), recorded("backend down")]);
    let (patience, haste) = (FakeClock::new(), FakeClock::interrupting());
    let client = patient(&server, Retries::STANDARD, &patience);
    assert!(client.task(TaskId(1)).is_ok());
    let other: Arc<FakeClock> = Arc::clone(&haste);
    assert_eq!(client.with_clock(other).task(TaskId(1)), Err(Error::Interrupted));
    assert_eq!((patience.sleeps().len(), haste.sleeps().len()), (1, 1));
}

/// A load balancer sends requests to servers in turn, some of which are dead: a call and the check between two of its
/// tries must not stay in step with it.
#[test]
fn calls_that_fail_in_turn_keep_neither_a_claim_nor_a_report_from_getting_through() {
    let many = Retries { tries: 200, ..THREE };
    for dead in
        [&[true, false][..], &[false, true], &[true, true, false], &[true, false, false], &[true, false, true, true]]
    {
        let calls = AtomicUsize::new(0);
        let server = ScriptedServer::start(move |request| {
            if dead[calls.fetch_add(1, Ordering::Relaxed) % dead.len()] {
                return Answer::close();
            }
            match request.path.as_str() {
                "/tasks/claim" => Answer::data(&json!({"id": 1, "type": "a", "params": {}, "attempts": 1})),
                "/tasks/1/complete" => recorded("complete"),
                "/tasks/1" => Answer::data(&task(&json!({}))),
                _ => Answer::data(&json!({"items": [], "count": 0})),
            }
        });
        let client = patient(&server, many, &FakeClock::new());
        let look = || client.with_retries(Retries::NONE).claimed_tasks().map(|_| None);
        let claimed = client.claim_once(|once| once.claim("w", 1, Order::OldestFirst).map(Some), look).unwrap();
        assert!(claimed.is_some(), "{dead:?}");
        let delivered = client.send_report(&report(Outcome::success(json!(1)))).unwrap();
        assert_eq!(delivered, Delivery::Confirmed, "{dead:?}");
    }
}
