//! Each report counts once, even if its answer is lost, and fits into the server.

use std::sync::Mutex;
use std::time::Duration;

use prismq::internals::TaskResult;
use prismq::internals::taskmanager::{Client, Delivery, ResultReport, Retries};
use prismq::{ErrorType, Outcome, TaskManagerError as Error};
use serde_json::{Value, json};

use crate::client::{client, connection, patient, refused, report, result, task};
use crate::support::{Answer, FakeClock, ScriptedServer, recorded};

const COMPLETE: &str = "POST /tasks/1/complete";
const LOOK: &str = "GET /tasks/1";

fn success() -> Outcome {
    Outcome::success(json!({"videos": 5}))
}

fn failure() -> Outcome {
    Outcome::failure(ErrorType::Connection, "quota exceeded")
}

/// When the reported attempt ended, and when an earlier one did.
const ENDED: &str = "1970-01-01T00:00:01.234Z";
const BEFORE: &str = "1970-01-01T00:00:00.9Z";

/// The result of an attempt that ended at a time, as a TaskManager shows it.
fn success_at(time: &str) -> Value {
    json!({"success": true, "data": {"videos": 5}, "metadata": {"worker_id": "worker-1", "processed_at": time}})
}

fn failure_at(time: &str) -> Value {
    json!({"success": false, "error": "quota exceeded", "metadata": {"worker_id": "worker-1", "failed_at": time}})
}

/// The answer for task 1 claimed by worker-1, with `changes`.
fn look(changes: &Value) -> Answer {
    Answer::data(&json!({"items": [task(changes)], "count": 1}))
}

/// Reports with a lost first answer, after which the server shows this task. Returns the result, and whether the report was
/// sent again.
fn fate(outcome: Outcome, look: &Answer) -> (Delivery, bool) {
    let server = ScriptedServer::queue([Answer::close(), look.clone(), recorded("complete")]);
    let first = patient(&server, Retries::STANDARD, &FakeClock::new()).send_report(&report(outcome.clone())).unwrap();
    let calls = server.calls();
    assert_eq!(calls[..2], [COMPLETE, LOOK]);

    // The same after a restart, when it is unknown whether the report was sent.
    let server = ScriptedServer::queue([look.clone(), recorded("complete")]);
    let later = client(&server).resend_report(&report(outcome)).unwrap();
    assert_eq!((later, server.calls()), (first, calls[1..].to_vec()));
    (first, calls.len() == 3)
}

const ARRIVED: (Delivery, bool) = (Delivery::Confirmed, false);
const SENT_AGAIN: (Delivery, bool) = (Delivery::Confirmed, true);
const LOST: (Delivery, bool) = (Delivery::ClaimLost, false);

#[test]
fn a_success_whose_answer_was_lost() {
    for (changes, expected) in [
        (json!({"status": "completed"}), ARRIVED),
        (json!({"status": "completed", "claimed_by": "worker-2"}), LOST),
        (json!({"status": "completed", "attempts": 2}), LOST), // a later attempt of this worker
        (json!({"status": "completed", "attempts": "1"}), ARRIVED),
        (json!({"status": "completed", "result": success_at(ENDED)}), ARRIVED),
        (json!({"status": "completed", "result": success_at(BEFORE)}), LOST), // of the attempt before, late
        (json!({"status": "completed", "result": {"videos": 5}}), ARRIVED),
        (json!({}), SENT_AGAIN),
        (json!({"claimed_by": "worker-2", "attempts": 2}), LOST),
        (json!({"attempts": 2}), LOST),
        (json!({"status": "failed", "error_message": "x"}), LOST),
        (json!({"status": "pending"}), LOST),
        (json!({"status": "pending", "error_message": "quota exceeded"}), LOST),
        (json!({"status": "pending", "claimed_by": null}), LOST),
        (json!({"status": "cancelled"}), LOST),
    ] {
        assert_eq!(fate(success(), &look(&changes)), expected, "{changes}");
    }
}

#[test]
fn a_failure_whose_answer_was_lost() {
    let mine = "quota exceeded";
    for (changes, expected) in [
        (json!({"status": "failed", "error_message": mine}), ARRIVED),
        (json!({"status": "failed", "error_message": mine, "claimed_by": "worker-2"}), LOST),
        (json!({"status": "failed", "error_message": mine, "result": failure_at(ENDED)}), ARRIVED),
        (json!({"status": "failed", "error_message": mine, "result": failure_at(BEFORE)}), LOST),
        (json!({"status": "failed", "error_message": mine, "attempts": 2}), LOST),
        (json!({"status": "pending", "error_message": mine}), ARRIVED),
        (json!({"status": "pending", "error_message": mine, "claimed_by": null}), ARRIVED),
        (json!({"status": "pending", "error_message": "another"}), LOST),
        (json!({"status": "pending", "error_message": null}), LOST),
        (json!({"status": "pending", "error_message": mine, "attempts": 2}), LOST),
        (json!({"status": "completed"}), LOST),
        (json!({}), SENT_AGAIN),
        (json!({"error_message": mine}), SENT_AGAIN), // of the attempt before
        // It ended its attempt, and the next one has been claimed since.
        (json!({"claimed_by": "worker-2", "attempts": 2, "error_message": mine}), ARRIVED),
        (json!({"attempts": 2, "error_message": mine}), ARRIVED),
        (json!({"attempts": 2, "error_message": "another"}), LOST),
        (json!({"attempts": 3, "error_message": mine}), LOST),
    ] {
        assert_eq!(fate(failure(), &look(&changes)), expected, "{changes}");
    }
}

#[test]
fn a_task_that_is_gone_is_a_lost_claim() {
    for gone in [recorded("show a task that does not exist"), Answer::error(404, "Task not found")] {
        assert_eq!(fate(success(), &gone), LOST);
        assert_eq!(fate(failure(), &gone), LOST);
    }
}

#[test]
fn an_answer_is_lost_in_many_ways() {
    let lost = [
        Answer::close(),
        Answer::reset(),
        recorded("complete").cut_short(),
        recorded("backend down"),
        Answer::page(504),
        recorded("complete: deadlock in the server's database"),
        Answer::error(500, "There is no active transaction"),
        Answer::hang(),
    ];
    for answer in lost {
        let server = ScriptedServer::queue([answer.clone(), recorded("show the completed task")]);
        let mut connection = connection(&server);
        if format!("{answer:?}").contains("Hang") {
            connection.call_timeout = Duration::from_millis(100);
        }
        let client = Client::new(&connection, Retries::STANDARD, FakeClock::new()).unwrap();
        assert_eq!(client.send_report(&report(success())), Ok(Delivery::Confirmed), "{answer:?}");
        assert_eq!(server.calls(), [COMPLETE, LOOK], "{answer:?}");
    }
}

#[test]
fn a_refused_report_is_looked_up_at_once() {
    for refusal in ["complete the same again", "complete: another worker's task", "complete a task that does not exist"]
    {
        let clock = FakeClock::new();
        let server = ScriptedServer::queue([recorded(refusal), recorded("show the completed task")]);
        let delivery = patient(&server, Retries::NONE, &clock).send_report(&report(success()));
        assert_eq!((delivery, clock.sleeps().len()), (Ok(Delivery::Confirmed), 0), "{refusal}");
    }
}

#[test]
fn lookups_and_reports_are_both_retried() {
    let clock = FakeClock::new();
    let sent = [Answer::close(), recorded("complete: deadlock in the server's database"), recorded("complete")];
    let (sent, looks) = (Mutex::new(sent.into_iter()), Mutex::new([recorded("backend down")].into_iter()));
    let server = ScriptedServer::start(move |request| match request.method.as_str() {
        "POST" => sent.lock().unwrap().next().unwrap(),
        _ => looks.lock().unwrap().next().unwrap_or_else(|| look(&json!({}))),
    });
    let delivery = patient(&server, Retries::STANDARD, &clock).send_report(&report(success()));
    assert_eq!(delivery, Ok(Delivery::Confirmed));
    // There may be more checks before the last report, at random, to get out of step with a load balancer.
    let mut calls = server.calls();
    let more = calls.len() - 6;
    assert!(more < 4 && calls.drain(5..5 + more).all(|call| call == LOOK), "{calls:?}");
    assert_eq!(calls, [COMPLETE, LOOK, LOOK, COMPLETE, LOOK, COMPLETE]);
    assert_eq!(clock.sleeps().len(), 3);
}

/// Another client may end the task between the check and the report.
#[test]
fn a_report_that_is_refused_after_a_look_is_looked_up_again() {
    for (then, expected) in [
        (recorded("show the completed task"), Delivery::Confirmed),
        (look(&json!({"claimed_by": "worker-2", "attempts": 2})), Delivery::ClaimLost),
    ] {
        let server = ScriptedServer::queue([look(&json!({})), recorded("complete the same again"), then]);
        let delivery = patient(&server, Retries::STANDARD, &FakeClock::new()).resend_report(&report(success()));
        assert_eq!((delivery, server.calls()), (Ok(expected), [LOOK, COMPLETE, LOOK].map(String::from).to_vec()));
    }
}

/// If the server is unreachable, a report is tried as often as other calls, without that many checks for each try.
#[test]
fn a_server_that_stays_away_is_asked_no_more_often_than_the_settings_say() {
    for fault in [recorded("backend down"), recorded("the server's database is down"), Answer::close()] {
        let clock = FakeClock::new();
        let server = ScriptedServer::always(fault);
        let client = patient(&server, Retries::STANDARD, &clock);
        assert!(client.send_report(&report(success())).unwrap_err().is_retryable());
        assert_eq!((server.requests().len(), clock.sleeps().len()), (5, 4), "{:?}", server.calls());
        let limits = [250, 500, 1000, 2000].map(Duration::from_millis);
        assert!(clock.sleeps().iter().zip(limits).all(|(wait, limit)| *wait <= limit), "{:?}", clock.sleeps());
        assert!(client.resend_report(&report(success())).unwrap_err().is_retryable());
        assert_eq!(server.requests().len(), 10);
    }
}

#[test]
fn a_rate_limit_is_obeyed_before_a_report_is_sent_again() {
    let clock = FakeClock::new();
    let answers = [recorded("rate limited"), recorded("rate limited"), look(&json!({})), recorded("complete")];
    let delivery = patient(&ScriptedServer::queue(answers), Retries::STANDARD, &clock).send_report(&report(success()));
    assert_eq!((delivery, clock.sleeps()), (Ok(Delivery::Confirmed), vec![Duration::from_mins(1); 2]));
}

#[test]
fn a_single_try_leaves_a_lost_answer_to_later() {
    let server = ScriptedServer::always(Answer::close());
    assert!(matches!(client(&server).send_report(&report(success())), Err(Error::Unreachable { .. })));
    assert_eq!(server.calls(), [COMPLETE]);
}

#[test]
fn final_refusals_are_errors() {
    let wrong_key = patient(&ScriptedServer::always(recorded("wrong key")), Retries::STANDARD, &FakeClock::new())
        .send_report(&report(success()));
    assert!(matches!(wrong_key, Err(Error::KeyRefused { .. })), "{wrong_key:?}");
    for call in [Client::send_report, Client::resend_report] {
        let server = ScriptedServer::always(Answer::error(400, "Missing required field: success"));
        let refusal = call(&patient(&server, Retries::STANDARD, &FakeClock::new()), &report(success()));
        assert_eq!(refusal, Err(refused(400, "Missing required field: success")));
        assert_eq!(server.requests().len(), 1);
    }
}

/// Returns what is sent for `result` to a server that accepts it.
fn sent(result: &TaskResult) -> Value {
    let server = ScriptedServer::queue([recorded("complete")]);
    assert_eq!(client(&server).send_report(&ResultReport::from(result)), Ok(Delivery::Confirmed));
    server.requests()[0].json()
}

#[test]
fn a_report_is_the_envelope() {
    let mut success = success();
    success.message = Some("five".into());
    let envelope = json!({
        "success": true, "data": {"videos": 5}, "message": "five",
        "metadata": {"worker_id": "worker-1", "processed_at": "1970-01-01T00:00:01.234Z", "processing_time": 1.234},
    });
    assert_eq!(sent(&result(success)), json!({"worker_id": "worker-1", "success": true, "result": envelope}));
    let envelope = json!({
        "success": false, "error": "quota exceeded", "error_type": "connection", "retryable": true,
        "metadata": {"worker_id": "worker-1", "failed_at": "1970-01-01T00:00:01.234Z"},
    });
    let report = json!({"worker_id": "worker-1", "success": false, "error": "quota exceeded", "result": envelope});
    assert_eq!(sent(&result(failure())), report);
}

/// A success whose envelope is `length` bytes of JSON.
fn success_of(length: usize) -> TaskResult {
    let empty = result(Outcome::success(json!(""))).envelope().to_string().len();
    let result = result(Outcome::success(json!("x".repeat(length - empty))));
    assert_eq!(result.envelope().to_string().len(), length);
    result
}

#[test]
fn a_result_over_60_000_bytes_goes_as_a_summary() {
    let whole = success_of(60_000);
    assert_eq!(sent(&whole)["result"], whole.envelope());

    let long = success_of(60_001);
    let mut summary = long.envelope();
    let data = summary.as_object_mut().unwrap().remove("data").unwrap();
    summary["data_bytes"] = json!(data.to_string().len());
    summary["data_omitted"] = json!(["data"]);
    assert_eq!(sent(&long)["result"], summary);
}

#[test]
fn a_result_that_the_server_finds_too_long_goes_as_a_summary() {
    let too_long = [recorded("complete: result over 65,535 bytes"), recorded("body over the proxy's limit")];
    for answer in too_long {
        let mut failure = failure();
        failure.data = json!([1, 2]);
        for (outcome, omitted) in [(success(), "videos"), (failure, "data")] {
            let server = ScriptedServer::queue([answer.clone(), recorded("complete")]);
            let result = result(outcome);
            assert_eq!(client(&server).send_report(&ResultReport::from(&result)), Ok(Delivery::Confirmed));
            let [whole, summary] = &server.requests()[..] else { panic!("{:?}", server.calls()) };
            let mut expected = whole.json();
            assert_eq!(expected["result"], result.envelope());
            let data = expected["result"].as_object_mut().unwrap().remove("data").unwrap();
            expected["result"]["data_bytes"] = json!(data.to_string().len());
            expected["result"]["data_omitted"] = json!([omitted]);
            assert_eq!(summary.json(), expected);
            // The task that the server shows tells what was left out; with the first limit, nothing was.
            let report = ResultReport::from(&result);
            assert_eq!(report.omitted(Some(&summary.json()["result"])), [omitted]);
            assert_eq!(report.omitted(None), [""; 0]);
        }
    }
}

/// Any message of a handler is shortened until it is accepted: a server that escapes non-ASCII characters stores six bytes
/// for each.
#[test]
fn a_summary_is_short_however_much_the_handler_wrote_beside_its_data() {
    for wordy in [4_000, 12_000, 40_000].map(|letters| "ž".repeat(letters)) {
        let long = Outcome::success(json!("x".repeat(60_000)));
        let mut success = long.clone();
        success.message = Some(wordy.clone());
        success.metadata.insert("notes".into(), json!(wordy));
        let mut failure = Outcome::failure(ErrorType::Other(wordy.clone()), wordy);
        (failure.data, failure.metadata) = (long.data, success.metadata.clone());
        for outcome in [success, failure] {
            let envelope = sent(&result(outcome))["result"].take();
            let escaped = |character: char| if character.is_ascii() { 1 } else { 6 };
            let kept: usize = envelope.to_string().chars().map(escaped).sum();
            assert!(kept < 65_535, "{kept} bytes");
            assert_eq!(envelope["metadata"]["worker_id"], json!("worker-1"));
            assert_eq!(envelope["data_bytes"], json!(60_002));
        }
    }
}

#[test]
fn a_truncated_error_text_is_still_recognised() {
    let outcome = Outcome::failure(ErrorType::Handler, format!("x{}", "ž".repeat(10_000)));
    let error = sent(&result(outcome.clone()))["error"].as_str().unwrap().to_owned();
    assert_eq!(error, format!("x{}", "ž".repeat(3_999)));
    assert_eq!(fate(outcome, &look(&json!({"status": "pending", "error_message": error}))), ARRIVED);
}
