//! How idle processes and their descendants end.

use std::thread;
use std::time::{Duration, Instant};

use crate::handler::{Exec, Handler, Persistent, Run};
use crate::shutdown::{CancelReason, CancelToken};
use serde_json::json;

use super::persistent::{LOYAL, Warm};
use super::process::{assert_ends, is_alive, pid_in, processes_in};
use super::{Bench, claim, run_with_panic};

/// Longer than a busy machine needs for a second or two of work.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_process_may_leave_by_itself_when_there_are_no_more_tasks() {
    let warm = Warm::new(&format!("trap 'touch left' EXIT\n{LOYAL}"));
    let pid = warm.pid();
    let took = warm.end_idle();
    // After SIGTERM, it would not have run its exit trap.
    assert!(!is_alive(pid) && warm.bench.path("left").exists());
    assert!(took < SOON, "{took:?}");
}

#[test]
fn one_that_does_not_leave_is_asked_then_killed() {
    for (trap, is_asked) in [("trap 'touch asked; exit 0' TERM", true), ("trap '' TERM", false)] {
        let warm = Warm::new(&format!("{trap}; next; answer $$; while :; do sleep 0.02; done"));
        let pid = warm.pid();
        let took = warm.end_idle();
        assert!(!is_alive(pid) && warm.bench.path("asked").exists() == is_asked, "{trap}");
        assert!(took < SOON, "{took:?}");
    }
}

#[test]
fn they_end_side_by_side() {
    let warm = Warm::new(
        "trap '' TERM; next; touch at-$$; until [ $(ls | grep -c at-) -eq 2 ]; do sleep 0.03; done
        answer $$; while :; do sleep 0.02; done",
    );
    let pids = thread::scope(|scope| [(); 2].map(|()| scope.spawn(|| warm.pid())).map(|task| task.join().unwrap()));
    let took = warm.end_idle();
    assert!(pids[0] != pids[1] && !pids.into_iter().any(is_alive));
    assert!(took < Duration::from_millis(2900), "one after the other takes 3 s: {took:?}");
}

#[test]
fn a_second_signal_kills_them_at_once() {
    let bench =
        Bench::new("read -r line; echo '{\"id\":12,\"success\":true}'; trap '' TERM; while :; do sleep 0.02; done");
    let handler = Persistent::new(Exec::new(bench.settings.clone()), None);
    let stop = CancelToken::new(None);
    let run = Run::new(bench.timeout, &stop, &bench.listener);
    assert_eq!(handler.run(&claim(json!({})), &run).failure, None);
    stop.raise(Some(CancelReason::Kill));
    let start = Instant::now();
    handler.end_idle(&stop);
    assert!(
        start.elapsed() < Duration::from_millis(1400),
        "by themselves they are killed after 1.5 s: {:?}",
        start.elapsed()
    );
    #[cfg(target_os = "linux")]
    assert_eq!(processes_in(bench.dir.path()), [""; 0]);
}

#[test]
fn none_outlives_its_handler() {
    let warm = Warm::new(LOYAL);
    let pid = warm.pid();
    drop(warm);
    assert!(!is_alive(pid));
}

#[cfg(target_os = "linux")]
#[test]
fn children_of_a_task_live_until_the_persistent_process_ends() {
    let warm = Warm::new(
        "while next; do
            [ -e escaped ] || (setsid sh -c 'echo $$ > escaped; exec sleep 60' &)
            until [ -s escaped ]; do sleep 0.03; done
            answer $$
        done",
    );
    let pid = warm.pid();
    let escaped = pid_in(&warm.bench.path("escaped"));
    assert_eq!(warm.pid(), pid);
    assert!(is_alive(escaped));
    warm.end_idle();
    assert_eq!(processes_in(warm.bench.dir.path()), [""; 0]);
}

#[cfg(target_os = "linux")]
#[test]
fn another_handlers_end_leaves_a_warm_process_and_what_it_started_alone() {
    let warm = Warm::new("(setsid sh -c 'echo $$ > escaped; exec sleep 60' &)\nwhile next; do answer $$; done");
    let pid = warm.pid();
    let escaped = pid_in(&warm.bench.path("escaped"));
    for _ in 0..3 {
        Bench::new("(setsid sleep 60 &)").run();
    }
    assert!(is_alive(escaped));
    assert_eq!(warm.pid(), pid);
}

#[test]
fn a_panic_of_the_listener_leaves_no_process() {
    let bench = Bench::new("echo $$ > pid; read -r line; echo '{\"id\":12,\"progress\":1}'; sleep 60");
    run_with_panic(&Persistent::new(Exec::new(bench.settings.clone()), None), bench.timeout);
    assert_ends(pid_in(&bench.path("pid")));
}
