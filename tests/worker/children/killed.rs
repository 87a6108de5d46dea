//! A worker that is killed, and what its handlers had started.

use std::fs;
use std::path::Path;

use prismq::TaskId;
use prismq::internals::handler::{Orphan, kill_orphans};
use rustix::process::{Pid, Signal, kill_process};

use super::role::{Running, Worker, token};
use crate::support::{assert_ends, is_alive, is_zombie, pid_in, processes_in, wait_for};

/// A handler with a process in its group, and one that has escaped from it.
const FAMILY: &str = "sh -c 'echo $$ > member; exec sleep 60' &
    (setsid sh -c 'echo $$ > escaped; exec sleep 60' &)
    echo $$ > leader; exec sleep 60";

/// A worker that has started [`FAMILY`], with the numbers of the handler, the process in its group and the escaped one.
fn family(name: &str) -> (Worker, Running, [Pid; 3]) {
    let mut worker = Worker::new(FAMILY).supervising(name);
    let running = worker.start();
    let pids = ["leader", "member", "escaped"].map(|file| pid_in(&worker.path(file)));
    (worker, running, pids)
}

#[test]
fn handlers_of_a_killed_worker_leave_nothing_behind() {
    let (_worker, mut running, [leader, member, escaped]) = family("killed-1");
    running.kill();
    assert_ends(leader);
    assert!(is_alive(member) && is_alive(escaped));

    let mut ended = kill_orphans(|it| it == token("killed-1"));
    ended.sort_by_key(|leftover| leftover.pid != member.as_raw_pid());
    let expected = [member, escaped].map(|pid| Orphan { pid: pid.as_raw_pid(), task_id: Some(TaskId(12)) });
    assert_eq!(ended, expected);
    assert!(!is_alive(member) && !is_alive(escaped));
}

#[test]
fn orphans_with_a_cleared_environment_are_killed_at_the_next_start() {
    let script = "for n in 1 2; do env -i setsid sh -c \"echo \\$\\$ > bare-$n; exec sleep 60\" & done
        env -u PRISMQ_TASK_MARK setsid setsid sh -c 'echo $$ > bare-3; exec env -i sleep 60' & sleep 60";
    let token = format!("{:016x}", std::process::id());
    let mut worker = Worker::new(script).env("WORKER_TOKEN", &token);
    let mut running = worker.start();
    let bare = ["bare-1", "bare-2", "bare-3"].map(|file| pid_in(&worker.path(file)));
    assert_eq!(kill_orphans(|_| false), []);
    running.kill();
    let ended = kill_orphans(|dead| dead == token);
    let without_task = |pid: &Pid| Orphan { pid: pid.as_raw_pid(), task_id: None };
    assert!(bare.iter().all(|pid| ended.contains(&without_task(pid))), "{ended:?}");
    assert_eq!(processes_in(worker.folder.path()), [""; 0]);
}

#[test]
fn processes_of_a_living_worker_are_not_killed() {
    let (_worker, mut living, pids) = family("living-1");
    let (_other, mut killed, others) = family("killed-2");
    killed.kill();
    assert!(!kill_orphans(|it| it == token("killed-2")).is_empty());
    assert!(!others.into_iter().any(is_alive));
    assert!(pids.into_iter().all(is_alive));
    living.kill();
    assert!(!kill_orphans(|it| it == token("living-1")).is_empty());
    assert!(!pids.into_iter().any(is_alive));
}

#[test]
fn leftovers_that_never_stop_forking_are_caught() {
    // As many as make it all but certain that one of them slips through the first look.
    let script = "for n in 1 2 3 4 5 6 7 8; do setsid sh hop & done; sleep 60";
    let mut worker = Worker::new(script).supervising("killed-3");
    fs::write(worker.path("hop"), "[ -e first ] && : > hopped\n: > first\nsleep 0.02\nsetsid sh hop &").unwrap();
    let mut running = worker.start();
    wait_for("a hop", || worker.path("hopped").exists().then_some(()));
    running.kill();
    assert!(!kill_orphans(|it| it == token("killed-3")).is_empty());
    assert_eq!(processes_in(worker.folder.path()), [""; 0]);
}

#[test]
fn the_process_that_searches_for_orphans_is_not_killed() {
    // The mark is as that of a leftover, which this process would be.
    let token = token("killed-4");
    let mut worker =
        Worker::new("").env("PRISMQ_TASK_MARK", &format!("{token}-12-1")).env("WORKER_ENDS_LEFTOVERS_OF", &token);
    assert!(worker.run().success());
}

#[test]
fn processes_that_existed_before_the_worker_are_not_killed() {
    let mut worker = Worker::new("true").in_place_of_a_shell("sleep 60 & echo $! > before").supervising("after-1");
    assert!(worker.run().success());
    let before = pid_in(&worker.path("before"));
    assert!(is_alive(before));
    kill_process(before, Signal::KILL).unwrap();
}

#[test]
fn orphans_that_end_while_their_handler_runs_are_reaped() {
    let mut worker = Worker::new(
        "for n in 1 2 3 4 5; do (setsid sh -c 'exit 1' &); done\n(setsid sh -c 'echo $$ > orphan' &)\nsleep 60",
    )
    .supervising("reaping-1");
    let running = worker.start();
    // It may be gone already when we look.
    let orphan = pid_in(&worker.path("orphan"));
    wait_for("the orphans to be reaped", || {
        let children = children(running.pid());
        (children.len() == 1 && !children.contains(&orphan) && !is_zombie(children[0])).then_some(())
    });
}

/// The children of all threads of `pid`.
fn children(pid: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task")).unwrap().flatten();
    let lists = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    let numbers = lists.flat_map(|list| list.split_whitespace().map(|n| n.parse().unwrap()).collect::<Vec<i32>>());
    numbers.filter_map(Pid::from_raw).collect()
}
