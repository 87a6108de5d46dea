//! Persistent handlers: which task runs in which process.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::handler::{Exec, Handler, Persistent, Run};
use crate::shutdown::{CancelReason, CancelToken};
use crate::task::{Outcome, TaskId};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::process::{assert_ends, is_alive};
use super::wait::wait_for;
use super::{Bench, RecordingListener, claim, failure};

/// The start of every script here.
const TALK: &str = include_str!("../../../tests/support/talk.sh");

/// A script that answers each task with its PID.
pub(crate) const LOYAL: &str = "while next; do answer $$; done";

/// A script in a folder, and the handler that keeps its processes.
pub(crate) struct Warm {
    pub(crate) bench: Bench,
    handler: Persistent,
    given: Mutex<u64>,
}

impl Warm {
    pub(crate) fn new(script: &str) -> Self {
        Self::with(script, None, |_| ())
    }

    /// Creates a handler with at most `max_tasks` tasks for each process, and changed settings.
    pub(crate) fn with(script: &str, max_tasks: Option<u32>, change: impl FnOnce(&mut Bench)) -> Self {
        let mut bench = Bench::new(&format!("{TALK}{script}"));
        change(&mut bench);
        let exec = Exec::new(bench.settings.clone()).kill_after(bench.kill_after);
        let max_tasks = max_tasks.map(|max_tasks| NonZeroU32::new(max_tasks).unwrap());
        Self { bench, handler: Persistent::new(exec, max_tasks), given: Mutex::new(0) }
    }

    /// Runs the next task; they are numbered from 1.
    pub(crate) fn give(&self, params: Value) -> Outcome {
        self.give_heard(params, &RecordingListener::new())
    }

    pub(crate) fn give_heard(&self, params: Value, listener: &RecordingListener) -> Outcome {
        let mut claim = claim(params);
        let mut given = self.given.lock().unwrap();
        *given += 1;
        claim.task.id = TaskId(*given);
        drop(given);
        self.handler.run(&claim, &Run::new(self.bench.timeout, &listener.stop, listener))
    }

    /// Runs a task in a process of [`LOYAL`], and returns its PID.
    #[track_caller]
    pub(crate) fn pid(&self) -> Pid {
        pid(&self.give(json!({})))
    }

    pub(crate) fn end_idle(&self) -> Duration {
        let start = Instant::now();
        self.handler.end_idle(&CancelToken::new(None));
        start.elapsed()
    }
}

/// Returns the PID that is the data of a success.
#[track_caller]
fn pid(outcome: &Outcome) -> Pid {
    assert_eq!(outcome.failure, None);
    Pid::from_raw(outcome.data.as_i64().unwrap().try_into().unwrap()).unwrap()
}

#[test]
fn one_process_works_one_task_after_another() {
    let warm = Warm::new(LOYAL);
    let first = warm.pid();
    for _ in 0..100 {
        assert_eq!(warm.pid(), first);
    }
}

#[test]
fn there_are_no_more_processes_than_tasks_at_once() {
    let warm = Warm::new(&format!("echo >> starts\n{LOYAL}"));
    let pids = Mutex::new(BTreeSet::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let pid = warm.pid();
                    pids.lock().unwrap().insert(pid.as_raw_pid());
                }
            });
        }
    });
    let started = std::fs::read_to_string(warm.bench.path("starts")).unwrap().lines().count();
    assert!((1..=4).contains(&started) && pids.into_inner().unwrap().len() == started, "{started}");
}

/// The kernel kills a child when the thread that started it ends.
#[test]
fn a_process_outlives_the_thread_whose_task_it_was_started_for() {
    let warm = Warm::new(LOYAL);
    let first = thread::scope(|scope| scope.spawn(|| warm.pid()).join().unwrap());
    for _ in 0..10 {
        let next = thread::scope(|scope| scope.spawn(|| warm.pid()).join().unwrap());
        assert_eq!(next, first);
    }
}

#[test]
fn a_process_is_replaced_after_so_many_tasks() {
    let warm = Warm::with(LOYAL, Some(2), |_| ());
    let pids: Vec<Pid> = (0..5).map(|_| warm.pid()).collect();
    assert!(pids[0] == pids[1] && pids[1] != pids[2] && pids[2] == pids[3] && pids[3] != pids[4], "{pids:?}");
    assert!(!is_alive(pids[0]) && !is_alive(pids[2]), "they end before the next one starts");
}

/// A script whose first process completes one task and runs `way` for the second; later processes complete all.
fn failing(way: &str) -> Warm {
    let mut warm =
        Warm::new(&format!("[ -e failed ] && {{ {LOYAL}; }}\nnext; answer $$; next; touch failed\n{way}\nsleep 60"));
    warm.bench.timeout = Duration::from_secs(5);
    warm
}

/// Runs a task that fails as `error_type`, and returns the error. Its process must be gone, and another run the next task.
#[track_caller]
fn fails_and_is_replaced(warm: &Warm, error_type: &str, retryable: bool) -> String {
    let first = warm.pid();
    let failure = failure(&warm.give(json!({})), error_type);
    assert_eq!(failure.retryable, retryable, "{failure:?}");
    assert!(!is_alive(first));
    assert_ne!(warm.pid(), first);
    failure.error
}

#[test]
fn a_line_that_fits_no_task_fails_the_task_and_ends_the_process() {
    for (way, error) in [
        ("echo 'Loading …'", r#"is not valid JSON: expected a JSON value at line 1 column 1: "Loading …""#),
        ("echo '[1]'", r#"is not a JSON object: "[1]""#),
        (
            "printf nonsense; exit 0",
            r#"is not valid JSON: expected true, false or null at line 1 column 2: "nonsense""#,
        ),
        ("echo '{\"success\":true}'", r#"whose `id` is not that of task 2: "{\"success\":true}""#),
        ("id=1; answer 1", r#"whose `id` is not that of task 2: "{\"id\":1,"#),
        ("id='\"2\"'; answer 1", "whose `id` is not that of task 2"),
        ("echo '{\"id\":1,\"progress\":5}'", "whose `id` is not that of task 2"),
        ("echo '{\"id\":2}'", "has neither `success` nor `progress`"),
        ("echo '{\"id\":2,\"success\":1}'", "has neither `success` nor `progress`"),
    ] {
        let said = fails_and_is_replaced(&failing(way), "handler", false);
        assert!(said.starts_with("killed: printed a line ") && said.contains(error), "{way}: {said}");
    }
}

#[test]
fn an_exit_in_the_middle_of_a_task_says_what_it_says_otherwise() {
    for (way, error_type, retryable, error) in [
        ("exit 65", "validation", false, "exit code 65"),
        ("exit 69", "connection", true, "exit code 69"),
        ("echo later >&2; exit 75", "temporary", true, "later"),
        ("exit 78", "configuration", false, "exit code 78"),
        ("echo one >&2; echo two >&2; exit 3", "handler", false, "one\ntwo"),
        ("exit 0", "handler", false, "exited with code 0 before answering"),
        ("kill -KILL $$", "crash", true, "killed by signal 9 (SIGKILL)"),
    ] {
        assert_eq!(fails_and_is_replaced(&failing(way), error_type, retryable), error);
    }
}

#[test]
fn an_answer_counts_though_the_process_leaves_with_it() {
    for way in ["answer 7; exit 1", "printf '{\"id\":2,\"success\":true,\"data\":7}'; exit 0"] {
        let warm = failing(way);
        let first = warm.pid();
        assert_eq!(warm.give(json!({})), Outcome::success(json!(7)));
        assert_ne!(warm.pid(), first);
    }
}

#[test]
fn a_time_out_replaces_the_process() {
    let mut warm = failing("trap 'touch asked; exit 0' TERM; while :; do sleep 0.02; done");
    warm.bench.timeout = Duration::from_millis(700);
    let error = fails_and_is_replaced(&warm, "timeout", true);
    assert!(error.contains("700 ms") && warm.bench.path("asked").exists(), "{error}");
}

#[test]
fn a_stop_replaces_the_process() {
    for (reason, error_type, is_asked) in [
        (CancelReason::Shutdown, "shutdown", true),
        (CancelReason::Kill, "shutdown", false),
        (CancelReason::ClaimLost, "claim_lost", false),
    ] {
        let warm = failing("trap 'touch asked; exit 0' TERM; echo ready >&2; while :; do sleep 0.02; done");
        let first = warm.pid();
        let listener = RecordingListener { stop_at: vec![("ready", reason)], ..RecordingListener::new() };
        assert!(failure(&warm.give_heard(json!({}), &listener), error_type).retryable);
        assert!(!is_alive(first) && warm.bench.path("asked").exists() == is_asked, "{reason:?}");
        assert_ne!(warm.pid(), first);
    }
}

#[test]
fn a_process_that_dies_while_it_is_idle_fails_no_task() {
    let warm = Warm::new(LOYAL);
    let mut last = warm.pid();
    for _ in 0..10 {
        kill_process(last, Signal::KILL).unwrap();
        assert_ends(last);
        let listener = RecordingListener::new();
        let next = pid(&warm.give_heard(json!({}), &listener));
        assert_ne!(next, last);
        assert_eq!(*listener.stderr.lock().unwrap(), ["[prismq: process replaced: it exited between two tasks]"]);
        last = next;
    }
}

/// Its exit is not visible in its output, which another process keeps open.
#[test]
fn a_task_that_no_process_has_read_goes_to_another() {
    let warm = Warm::new("(setsid sleep 60 &)\nnext; answer $$; exit 3");
    let first = warm.pid();
    assert_ends(first);
    assert_ne!(warm.pid(), first);
}

#[test]
fn a_process_that_leaves_after_each_task_is_only_slow() {
    let warm = Warm::new("next; answer $$");
    let pids: BTreeSet<i32> = (0..20).map(|_| warm.pid().as_raw_pid()).collect();
    assert_eq!(pids.len(), 20);
}

#[test]
fn a_new_process_that_reads_no_task_fails_it() {
    let failure = failure(&Warm::new("echo 'no module named x' >&2; exit 1").give(json!({})), "handler");
    assert_eq!(failure.error, "no module named x");
}

#[test]
fn a_process_that_goes_on_after_its_answer_is_replaced_before_the_next_task() {
    for more in ["echo and so on", "answer 2", "printf more"] {
        let warm = Warm::new(&format!("next; answer $$; {more}; echo > said; sleep 60"));
        let first = warm.pid();
        wait_for("it to go on", || warm.bench.path("said").exists().then_some(()));
        let listener = RecordingListener::new();
        assert_ne!(pid(&warm.give_heard(json!({}), &listener)), first, "{more}");
        assert_ends(first);
    }
    let blank = Warm::new("while next; do answer $$; echo; done");
    let first = blank.pid();
    assert_eq!((blank.pid(), blank.pid()), (first, first), "an empty line says nothing");
}

#[test]
fn a_process_that_answers_before_it_has_read_its_task_is_replaced() {
    let warm = Warm::new("id=1; [ -e first ] && next; touch first; answer $$; sleep 60");
    let answered = warm.give(json!({"text": "x".repeat(1 << 20)}));
    assert_ne!(warm.pid(), pid(&answered));
}
