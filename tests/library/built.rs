//! Building, stopping and restarting workers.

use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use prismq::{Claim, Outcome, Run, ShutdownHandle, Worker, WorkerBuilder, WorkerError};
use serde_json::{Value, json};

use crate::support::wait_for;
use crate::{Bench, TYPE};

fn nothing(_: &Claim, _: &Run<'_>) -> Outcome {
    Outcome::success(Value::Null)
}

/// A handler that reports its start and then waits until it is released.
fn held() -> (impl Fn(&Claim, &Run<'_>) -> Outcome + Send + Sync + 'static, Receiver<()>, Sender<()>) {
    let (began, begins) = channel();
    let (go, gone) = channel();
    let gone = Mutex::new(gone);
    let handler = move |_: &Claim, _: &Run<'_>| {
        began.send(()).unwrap();
        gone.lock().unwrap().recv().unwrap();
        Outcome::success(json!("done"))
    };
    (handler, begins, go)
}

#[test]
fn invalid_settings_are_named() {
    type Change = fn(WorkerBuilder) -> WorkerBuilder;
    let changes: [(Change, &str); 9] = [
        (|it| it.api_url("nowhere"), "api_url: \"nowhere\" is not a valid URL"),
        (|it| it.api_key("a\nb"), "api_key: the key contains a character"),
        (|it| it.worker_id(""), "worker_id: a worker ID must have"),
        (|it| it.concurrency(0), "concurrency: must be between 1 and 1000, not 0"),
        (|it| it.max_attempts(0), "max_attempts: must be between 1 and 4294967295, not 0"),
        (|it| it.poll_interval(Duration::ZERO), "poll_interval: must be more than 0"),
        (|it| it.max_backoff(Duration::ZERO), "max_backoff: must be more than 0"),
        (|it| it.claim_timeout(Duration::ZERO), "claim_timeout: must be more than 0"),
        (|it| it.handler("a b", nothing), "a task type's name is"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let builder = || Worker::builder().results(folder.path().join("results.db"));
    for (change, expected) in changes {
        let error = change(builder().handler(TYPE, nothing)).build().err().unwrap();
        assert!(matches!(&error, WorkerError::Config(_)) && error.to_string().starts_with(expected), "{error}");
    }
    let error = builder().build().err().unwrap().to_string();
    assert!(error.contains("needs a handler"), "{error}");
    let error = builder().results("/dev/null/results.db").handler(TYPE, nothing).build().err().unwrap();
    assert!(matches!(error, WorkerError::Store(_)), "{error:?}");
}

/// Set when the test runs itself in another process with wrong settings.
const INNER: &str = "INNER_TEST";

#[test]
fn the_environment_and_files_are_read_only_on_request() {
    if std::env::var_os(INNER).is_some() {
        let builder = || Worker::builder().results("results.db").handler(TYPE, nothing);
        builder().build().unwrap();
        let error = builder().from_environment().build().err().unwrap().to_string();
        assert!(error.starts_with("environment (POLL_INTERVAL): must be more than 0"), "{error}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("prismq.toml"), "no_such_key = 1").unwrap();
    let mut inner = Command::new(std::env::current_exe().unwrap());
    inner.args(["--exact", "built::the_environment_and_files_are_read_only_on_request"]);
    let output = inner.env(INNER, "yes").env("POLL_INTERVAL", "0").current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn an_unreachable_server_is_an_error_for_workers_that_end() {
    let mut bench = Bench::start();
    bench.taskmanager.stop();
    let error = bench.worker().handler(TYPE, nothing).drain().build().unwrap().run().unwrap_err();
    assert!(matches!(error, WorkerError::TaskManager(_)), "{error:?}");
    assert!(error.to_string().starts_with("cannot reach the TaskManager at http://127.0.0.1:"), "{error}");
}

#[test]
fn a_type_is_unknown_unless_it_is_registered() {
    let bench = Bench::start();
    let worker = || bench.worker().handler("new.type", nothing).drain();
    let error = worker().build().unwrap().run().unwrap_err().to_string();
    assert_eq!(error, "the TaskManager has no task type new.type");
    worker().register().build().unwrap().run().unwrap();
    assert!(bench.taskmanager.client().task_type("new.type").unwrap().is_some());
}

#[test]
fn a_handle_lets_handlers_finish() {
    let bench = Bench::start();
    let id = bench.taskmanager.create(TYPE, json!({}));
    let (handler, begins, go) = held();
    let worker = bench.worker().handler(TYPE, handler).build().unwrap();
    let handle = worker.shutdown_handle();
    let running = thread::spawn(|| worker.run());
    begins.recv().unwrap();
    handle.drain();
    let late = bench.taskmanager.create(TYPE, json!({"late": true}));
    go.send(()).unwrap();
    assert_eq!(running.join().unwrap().unwrap().counters.completed, 1);
    assert_eq!([id, late].map(|id| bench.taskmanager.status(id)), ["completed", "pending"]);
}

#[test]
fn a_handle_interrupts_handlers_at_the_end_of_the_grace_period_or_at_once() {
    for at_once in [false, true] {
        let bench = Bench::start();
        bench.taskmanager.create(TYPE, json!({}));
        let (began, begins) = channel();
        let handler = move |_: &Claim, run: &Run<'_>| {
            began.send(()).unwrap();
            run.sleep(Duration::from_secs(3600)).expect("it is interrupted")
        };
        let grace_period = if at_once { Duration::from_secs(3600) } else { Duration::from_millis(50) };
        let worker = bench.worker().handler(TYPE, handler).grace_period(grace_period).build().unwrap();
        let handle = worker.shutdown_handle();
        let running = thread::spawn(|| worker.run());
        begins.recv().unwrap();
        let stop = if at_once { ShutdownHandle::end } else { ShutdownHandle::drain };
        stop(&handle);
        assert_eq!(running.join().unwrap().unwrap().counters.failed, 1);
        assert_eq!(bench.results()[0]["error_type"], "shutdown");
    }
}

#[test]
fn the_next_worker_reports_what_this_one_could_not() {
    let mut bench = Bench::start();
    let id = bench.taskmanager.create(TYPE, json!({}));
    let (handler, begins, go) = held();
    let worker = bench.worker().handler(TYPE, handler).build().unwrap();
    let handle = worker.shutdown_handle();
    let running = thread::spawn(|| worker.run());
    begins.recv().unwrap();
    bench.taskmanager.stop();
    go.send(()).unwrap();
    wait_for("the result", || (bench.results().len() == 1).then_some(()));
    handle.drain();
    assert_eq!(running.join().unwrap().unwrap().unreported, 1);
    assert!(bench.results()[0]["reported_at"].is_null());

    bench.taskmanager.restart();
    assert_eq!(bench.taskmanager.status(id), "claimed");
    bench.worker().handler(TYPE, nothing).drain().build().unwrap().run().unwrap();
    assert_eq!(bench.taskmanager.task(id).result.unwrap()["data"], "done");
    assert_eq!(bench.results().len(), 1);
}

/// A worker of programs adopts their orphans and hides its memory. One that runs none leaves its process alone.
#[cfg(target_os = "linux")]
#[test]
fn the_process_is_left_as_it_was() {
    use rustix::process::{DumpableBehavior, child_subreaper, dumpable_behavior};

    let bench = Bench::start();
    bench.taskmanager.create(TYPE, json!({}));
    bench.worker().handler(TYPE, nothing).drain().build().unwrap().run().unwrap();
    assert_eq!(child_subreaper().unwrap(), None);
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable);
}
