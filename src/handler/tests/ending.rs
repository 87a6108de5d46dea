//! How children and their process groups end.

use std::thread;
use std::time::Duration;

use crate::handler::{Exec, ExecCommand};
use crate::shutdown::CancelReason;
use rustix::process::Pid;
use serde_json::json;

use super::process::assert_ends;
use super::{Bench, failure, run_with_panic};

/// Longer than a busy machine needs, shorter than the scripts would run.
const SOON: Duration = Duration::from_secs(4);

/// A script that creates a file and exits on SIGTERM.
const POLITE: &str = "trap 'touch cleaned; exit 0' TERM; echo ready >&2; while :; do sleep 0.02; done";
/// A script that ignores SIGTERM.
const STUBBORN: &str = "trap '' TERM; echo ready >&2; sleep 60";

#[test]
fn a_time_out_ends_the_whole_group() {
    let mut bench = Bench::new("sleep 60 & echo $! >&2; wait");
    bench.timeout = Duration::from_millis(500);
    let (outcome, took) = bench.run_timed();
    let failure = failure(&outcome, "timeout");
    assert!(failure.retryable && failure.error.contains("500 ms"), "{failure:?}");
    assert!(took >= bench.timeout && took < SOON, "{took:?}");
    assert_ends(bench.printed_pid());
}

#[test]
fn a_shutdown_asks_first() {
    let bench = Bench::new(POLITE).stop_at("ready", CancelReason::Shutdown);
    let (outcome, took) = bench.run_timed();
    assert!(failure(&outcome, "shutdown").retryable);
    assert!(took < SOON, "{took:?}");
    assert!(bench.path("cleaned").exists());
}

#[test]
fn the_rest_of_a_group_that_was_asked_may_end_well_after_its_leader() {
    let slow = "trap 'sleep 0.1; touch cleaned; exit 0' TERM; echo ready >&2; while :; do sleep 0.02; done";
    let bench = Bench::new(&format!("sh -c \"{slow}\" & wait")).stop_at("ready", CancelReason::Shutdown);
    failure(&bench.run(), "shutdown");
    assert!(bench.path("cleaned").exists());
}

#[test]
fn a_child_that_ignores_being_asked_is_killed() {
    let mut bench = Bench::new(STUBBORN).stop_at("ready", CancelReason::Shutdown);
    bench.kill_after = Duration::from_millis(100);
    let (outcome, took) = bench.run_timed();
    failure(&outcome, "shutdown");
    assert!(took >= bench.kill_after && took < SOON, "{took:?}");
}

#[test]
fn a_child_that_ignores_its_time_out_is_killed() {
    let mut bench = Bench::new(STUBBORN);
    // More than a pipe holds: input that is never read must not delay the end.
    bench.params = json!({"text": "x".repeat(1 << 20)});
    bench.timeout = Duration::from_millis(400);
    bench.kill_after = Duration::from_millis(100);
    let (outcome, took) = bench.run_timed();
    failure(&outcome, "timeout");
    assert!(took >= bench.timeout + bench.kill_after && took < SOON, "{took:?}");
}

#[test]
fn a_second_signal_and_a_lost_claim_kill_at_once() {
    for (reason, error_type) in [(CancelReason::Kill, "shutdown"), (CancelReason::ClaimLost, "claim_lost")] {
        let bench = Bench::new(POLITE).stop_at("ready", reason);
        let (outcome, took) = bench.run_timed();
        assert!(failure(&outcome, error_type).retryable);
        assert!(took < SOON, "{took:?}");
        assert!(!bench.path("cleaned").exists());
    }
}

#[test]
fn a_stop_that_escalates_kills_at_once() {
    let script = "trap 'echo asked >&2' TERM; echo ready >&2; while :; do sleep 0.02; done";
    let bench = Bench::new(script).stop_at("ready", CancelReason::Shutdown).stop_at("asked", CancelReason::Kill);
    let (outcome, took) = bench.run_timed();
    failure(&outcome, "shutdown");
    assert!(took < SOON, "{took:?}");
}

#[test]
fn a_stop_from_another_thread_is_heard_at_once() {
    let bench = Bench::new("echo ready >&2; sleep 60");
    let (outcome, took) = thread::scope(|scope| {
        scope.spawn(|| {
            while bench.stderr().is_empty() {
                thread::yield_now();
            }
            bench.listener.stop.raise(Some(CancelReason::Kill));
        });
        bench.run_timed()
    });
    failure(&outcome, "shutdown");
    assert!(took < SOON, "{took:?}");
}

#[test]
fn a_stop_raised_before_starts_nothing() {
    let mut bench = Bench::new("");
    // The program is not even looked up.
    bench.settings.command = ExecCommand::Program(vec!["prismq-no-such-program".into()]);
    bench.listener.stop.raise(Some(CancelReason::Shutdown));
    failure(&bench.run(), "shutdown");
}

#[test]
fn processes_left_in_the_group_are_killed() {
    let bench = Bench::new("sleep 60 & echo $! >&2; echo done");
    let (outcome, took) = bench.run_timed();
    assert_eq!(outcome.data, json!({"output": "done"}));
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_ends(bench.printed_pid());
}

#[test]
fn a_panic_of_the_listener_leaves_no_process() {
    let bench = Bench::new("echo $$ >&2; sleep 60");
    let line = run_with_panic(&Exec::new(bench.settings.clone()), bench.timeout);
    assert_ends(Pid::from_raw(line.parse().unwrap()).unwrap());
}
