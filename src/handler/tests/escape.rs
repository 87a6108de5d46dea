//! Processes that leave the process group of their handler end with it, too.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::handler::Exec;
use crate::shutdown::CancelReason;
use serde_json::json;

use super::process::{assert_ends, is_alive, pid_in, processes_in};
use super::wait::wait_for;
use super::{Bench, failure, run_with_panic};

/// Less than the time for which open pipes delay the end of a handler.
const AT_ONCE: Duration = Duration::from_millis(1500);

/// A handler that runs `escape`, waits until it writes to the fifo `escaped`, and exits.
fn escaping(escape: &str) -> Bench {
    Bench::new(&format!("mkfifo escaped\n{escape}\nread _ < escaped\necho leaving >&2\necho done"))
}

#[test]
fn escaped_processes_end_with_their_handler() {
    for escape in [
        "setsid sh -c 'echo > escaped; exec sleep 60' &",
        "setsid sh -c 'trap \"\" TERM HUP; echo > escaped; sleep 60; sleep 60' &",
        // An orphan while its handler still runs.
        "(setsid sh -c 'echo > escaped; exec sleep 60' &)",
        // It has closed its pipes.
        "(setsid sh -c 'echo > escaped; exec sleep 60' <&- >&- 2>&- 3>&- &)",
        "setsid sh -c 'setsid sh -c \"setsid sleep 60 & echo > escaped; wait\" & sleep 60 & wait' &",
        // Its parent is in the group, and dies with it.
        "(setsid sh -c 'echo > escaped; exec sleep 60' & sleep 60) &",
    ] {
        let ends_at_once = || {
            let bench = escaping(escape);
            let (outcome, took) = bench.run_timed();
            assert_eq!(outcome.data, json!({"output": "done"}), "{escape}");
            assert_eq!(processes_in(bench.dir.path()), [""; 0], "{escape}");
            took < AT_ONCE
        };
        // A busy machine may delay some of them; open pipes would delay all.
        assert!((0..3).any(|_| ends_at_once()), "{escape}");
    }
}

#[test]
fn escaped_processes_end_after_a_timeout() {
    let mut bench = Bench::new("exec 2>&- >&- 3>&-; setsid sleep 60 & (setsid sleep 60 &) ; sleep 60");
    bench.timeout = Duration::from_millis(300);
    failure(&bench.run(), "timeout");
    assert_eq!(processes_in(bench.dir.path()), [""; 0]);
}

/// A script that goes on in another process for ever. Only one of its processes writes to the fifo: a second one would
/// block there and stop forking.
const HOP: &str = "[ -e second ] && mkdir told 2> told-by-another && echo > escaped\n: > second\nsetsid sh hop &";

#[test]
fn processes_that_fork_endlessly_are_killed() {
    let bench = escaping("for n in 1 2 3 4 5 6 7 8; do setsid sh hop & done");
    fs::write(bench.path("hop"), HOP).unwrap();
    assert_eq!(bench.run().data, json!({"output": "done"}));
    assert_eq!(processes_in(bench.dir.path()), [""; 0]);
}

/// The more orphans there are, the longer one search takes, and the more processes fork and exit meanwhile. If the search
/// went on until it saw none exit, it would never end, and no handler could start.
#[test]
fn handlers_start_while_processes_that_fork_endlessly_are_killed() {
    let many = Bench::new("for n in $(seq 1000); do setsid sleep 60 & done; echo > ready; sleep 60");
    let forking = escaping("for n in 1 2 3 4 5 6 7 8; do setsid sh hop & done");
    fs::write(forking.path("hop"), HOP).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| many.run());
        wait_for("many orphans", || many.path("ready").exists().then_some(()));
        let running = scope.spawn(|| forking.run());
        while !running.is_finished() {
            assert_eq!(Bench::new("echo done").run().data, json!({"output": "done"}));
        }
        many.listener.stop.raise(Some(CancelReason::Kill));
    });
    assert_eq!(processes_in(forking.dir.path()), [""; 0]);
}

#[test]
fn a_panic_of_the_listener_leaves_nothing_either() {
    let bench = escaping("(setsid sh -c 'echo > escaped; exec sleep 60' &)");
    run_with_panic(&Exec::new(bench.settings.clone()), bench.timeout);
    assert_eq!(processes_in(bench.dir.path()), [""; 0]);
}

/// Its handler is unknown, so it may live as long as any handler that started before it, such as one of another test.
#[test]
fn escaped_processes_with_a_cleared_environment_end() {
    let bench = escaping("env -i setsid sh -c 'echo $$ > pid; echo > escaped; exec sleep 60' &");
    bench.run();
    assert_ends(pid_in(&bench.path("pid")));
}

#[test]
fn processes_of_another_handler_are_not_killed() {
    let marked = "(setsid sh -c 'echo $$ > marked; exec sleep 60' &)";
    let unmarked = "(env -i setsid sh -c 'echo $$ > unmarked; exec sleep 60' &)";
    let long = Bench::new(&format!("{marked}; {unmarked}; sleep 60"));
    thread::scope(|scope| {
        let running = scope.spawn(|| long.run());
        let [marked, unmarked] = ["marked", "unmarked"].map(|file| pid_in(&long.path(file)));
        for _ in 0..3 {
            escaping("(setsid sh -c 'echo > escaped; exec sleep 60' &)").run();
        }
        assert!(is_alive(marked) && is_alive(unmarked));
        long.listener.stop.raise(Some(CancelReason::Kill));
        running.join().unwrap();
        assert!(!is_alive(marked));
        assert_ends(unmarked);
    });
}

/// The handler of the escaped process is unknown while an older handler runs.
#[test]
fn a_pipe_that_is_held_open_delays_the_end_by_two_seconds_at_most() {
    let before = Bench::new("echo > ready; sleep 60");
    let bench = escaping("env -i setsid sh -c 'echo $$ > pid; echo > escaped; exec sleep 60' &");
    thread::scope(|scope| {
        scope.spawn(|| before.run());
        wait_for("the handler before", || before.path("ready").exists().then_some(()));
        let outcome = bench.run();
        let delay = bench.listener.left_at.lock().unwrap().unwrap().elapsed();
        before.listener.stop.raise(Some(CancelReason::Kill));
        assert_eq!(outcome.data, json!({"output": "done"}));
        assert!(delay > Duration::from_millis(1900) && delay < Duration::from_secs(15), "{delay:?}");
    });
    assert_ends(pid_in(&bench.path("pid")));
}

#[test]
fn each_slot_gets_the_exit_of_its_own_child() {
    let finished = AtomicU32::new(0);
    thread::scope(|scope| {
        for slot in 0..4 {
            let finished = &finished;
            scope.spawn(move || {
                for round in 0..10 {
                    // Orphans end before, with and after their handler.
                    let code = 10 + 10 * slot + round;
                    let bench =
                        Bench::new(&format!("(setsid true &); (setsid sleep 0.03 &); (setsid true &); exit {code}"));
                    assert_eq!(failure(&bench.run(), "handler").error, format!("exit code {code}"));
                    finished.fetch_add(1, SeqCst);
                }
            });
        }
    });
    assert_eq!(finished.into_inner(), 40);
}
