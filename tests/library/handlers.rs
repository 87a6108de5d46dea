//! Handlers in Rust, and their runs.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use prismq::{Claim, ErrorType, Failure, Handler, Outcome, Run, Timestamp};
use serde_json::{Value, json};

use crate::support::wait_for;
use crate::{Bench, TYPE};

fn half(claim: &Claim, _: &Run<'_>) -> Result<Value, Failure> {
    let whole = claim.task.params["of"].as_u64();
    let whole = whole.ok_or_else(|| Failure::new(ErrorType::Validation, "`of` is no number"))?;
    Ok(json!(whole / 2))
}

#[test]
fn a_function_handles_tasks() {
    let bench = Bench::start();
    let ids = [json!({"of": 4}), json!({"of": 10}), json!({})].map(|params| bench.taskmanager.create(TYPE, params));
    let summary = bench.worker().handler(TYPE, half).concurrency(2).max_tasks(3).build().unwrap().run().unwrap();
    assert_eq!((summary.counters.completed, summary.counters.failed, summary.unreported), (2, 1, 0));
    let data = ids.map(|id| bench.taskmanager.task(id).result.unwrap_or_default()["data"].clone());
    assert_eq!(data[..2], [json!(2), json!(5)]);
    let mut results = bench.results();
    results.retain(|row| row["status"] == "failed");
    assert_eq!((&results[0]["error"], &results[0]["retryable"]), (&json!("`of` is no number"), &json!(0)));
    assert!(results[0]["reported_at"].is_string());
}

#[test]
fn a_panic_fails_its_task_alone() {
    let bench = Bench::start();
    for panics in [true, false] {
        bench.taskmanager.create(TYPE, json!({"panics": panics}));
    }
    let handler = |claim: &Claim, _: &Run<'_>| {
        assert!(claim.task.params["panics"] == false, "task {} is too much", claim.task.id);
        Outcome::success(Value::Null)
    };
    let summary = bench.worker().handler(TYPE, handler).drain().build().unwrap().run().unwrap();
    assert_eq!(summary.counters.completed, 1);
    let row = &bench.results()[0];
    let told = ["error", "error_type", "retryable"].map(|key| row[key].clone());
    assert_eq!(told, [json!("handler panicked: task 1 is too much"), json!("handler"), json!(0)]);
}

#[test]
fn a_run_ends_when_its_time_is_up() {
    let bench = Bench::start();
    bench.taskmanager.create(TYPE, json!({}));
    let handler = |_: &Claim, run: &Run<'_>| {
        assert!(run.interruption().is_none() && run.sleep(Duration::from_millis(1)).is_none());
        assert!((Duration::from_millis(1)..=Duration::from_millis(250)).contains(&run.time_left()));
        let outcome = run.sleep(Duration::from_secs(3600)).expect("it is interrupted");
        assert!(run.time_left().is_zero() && run.interruption().as_ref() == Some(&outcome));
        outcome
    };
    let worker = bench.worker().handler(TYPE, handler).claim_timeout(Duration::from_millis(500)).max_tasks(1);
    worker.build().unwrap().run().unwrap();
    let row = &bench.results()[0];
    assert_eq!((&row["error_type"], &row["retryable"]), (&json!("timeout"), &json!(1)), "{row}");
}

#[test]
fn progress_reaches_the_server_while_the_handler_runs() {
    let bench = Bench::start();
    let id = bench.taskmanager.create(TYPE, json!({}));
    let (seen, see) = channel::<()>();
    let see = Mutex::new(see);
    let handler = move |_: &Claim, run: &Run<'_>| {
        run.progress(40, "two of five");
        run.log("still at it");
        see.lock().unwrap().recv().unwrap();
        Outcome::success(Value::Null)
    };
    let worker = bench.worker().handler(TYPE, handler).max_tasks(1).build().unwrap();
    let running = thread::spawn(|| worker.run());
    wait_for("40 %", || (bench.taskmanager.task(id).progress == 40).then_some(()));
    seen.send(()).unwrap();
    running.join().unwrap().unwrap();
    assert_eq!(bench.taskmanager.status(id), "completed");
}

/// A handler with a given check and snooze.
struct Moody {
    fit: bool,
    not_before: Option<Timestamp>,
}

impl Handler for Moody {
    fn run(&self, _: &Claim, _: &Run<'_>) -> Outcome {
        Outcome::success(Value::Null)
    }

    fn check(&self) -> Result<(), String> {
        if self.fit { Ok(()) } else { Err("it has no mind to".into()) }
    }

    fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }
}

#[test]
fn a_handler_that_cannot_run_or_wants_nothing_is_given_no_task() {
    let bench = Bench::start();
    let id = bench.taskmanager.create(TYPE, json!({}));
    let unfit = bench.worker().handler(TYPE, Moody { fit: false, not_before: None }).drain().build().unwrap();
    let error = unfit.run().unwrap_err().to_string();
    assert_eq!(error, "the handler of a.b cannot run: it has no mind to");
    let later = Timestamp::now().checked_add(Duration::from_secs(3600)).unwrap();
    let busy = bench.worker().handler(TYPE, Moody { fit: true, not_before: Some(later) }).drain().build().unwrap();
    let summary = busy.run().unwrap();
    assert_eq!(summary.snoozed.first().map(|snoozed| snoozed.0.as_str()), Some(TYPE));
    assert_eq!(bench.taskmanager.status(id), "pending");
    let fit = bench.worker().handler(TYPE, Moody { fit: true, not_before: None }).drain().build().unwrap();
    assert_eq!(fit.run().unwrap().counters.completed, 1);
}

#[test]
fn one_handler_serves_all_slots_at_once() {
    let bench = Bench::start();
    for number in 0..3 {
        bench.taskmanager.create(TYPE, json!({"n": number}));
    }
    let together = Arc::new(std::sync::Barrier::new(3));
    let handler = move |_: &Claim, _: &Run<'_>| {
        together.wait();
        Outcome::success(Value::Null)
    };
    let worker = bench.worker().handler(TYPE, handler).concurrency(3).max_tasks(3).build().unwrap();
    assert_eq!(worker.run().unwrap().counters.completed, 3);
}

#[test]
fn an_unreadable_result_fails_its_task() {
    let bench = Bench::start();
    for depth in [96, 97, 200] {
        bench.taskmanager.create(TYPE, json!({"depth": depth}));
    }
    let handler = |claim: &Claim, _: &Run<'_>| {
        let depth = claim.task.params["depth"].as_u64().unwrap_or_default();
        Outcome::success((0..depth).fold(json!(1), |inside, _| json!([inside])))
    };
    let summary = bench.worker().handler(TYPE, handler).drain().build().unwrap().run().unwrap();
    assert_eq!((summary.counters.completed, summary.unreported), (1, 0));
    let (completed, failed): (Vec<_>, Vec<_>) = bench.results().into_iter().partition(|it| it["status"] == "completed");
    assert_eq!(completed.len(), 1);
    for id in [2, 3] {
        assert!(failed.iter().any(|row| row["task_id"] == id));
    }
    assert!(failed.iter().all(|row| row["error"] == "result is nested deeper than 96 levels"), "{failed:?}");
}
