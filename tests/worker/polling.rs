//! How often an idle worker asks, of which types, and in which order.

use std::thread;
use std::time::{Duration, Instant};

use prismq::internals::server::OfferedFeatures;
use serde_json::json;

use crate::support::published::{Fault, PublishedServer};
use crate::support::{EmbeddedTaskManager, Rig, Running, Sandbox, cases, recorded, wait_for};

const CLAIM: &str = "POST /tasks/claim";

/// A sandbox with the type `case`, for a worker that has a key.
fn sandbox_for(published: &PublishedServer) -> Sandbox {
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo 1");
    sandbox
}

fn start(sandbox: &Sandbox, poll_interval: &str, max_backoff: &str, concurrency: &str) -> Running {
    let settings = ["--poll-interval", poll_interval, "--max-backoff", max_backoff, "--concurrency", concurrency];
    sandbox.prismq(["work"]).args(settings).start()
}

/// Waits until `count` claims have come in all; the moment.
fn wait_for_claims(published: &PublishedServer, count: usize) -> Instant {
    wait_for("claims", || (published.count(CLAIM) >= count).then_some(()));
    Instant::now()
}

/// Waits until the worker has asked, and then for none of its slots to ask for 300 ms; how often it asked by then.
fn wait_for_quiet(published: &PublishedServer) -> usize {
    let mut last = (0, Instant::now());
    wait_for("quiet", || {
        let count = published.count(CLAIM);
        if count != last.0 {
            last = (count, Instant::now());
        }
        (count > 0 && last.1.elapsed() > Duration::from_millis(300)).then_some(count)
    })
}

fn wait_for_completed(published: &PublishedServer, id: u64) {
    let report = format!("POST /tasks/{id}/complete");
    wait_for("the report", || (published.count(&report) > 0).then_some(()));
}

#[test]
fn an_idle_worker_polls_once_an_interval_whatever_its_slots() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = sandbox_for(&published);
    let _worker = start(&sandbox, "200ms", "200ms", "16");
    let start = wait_for_claims(&published, 1);
    // Each slot may ask once at the start. The mean wait is half the interval.
    let took = wait_for_claims(&published, 16 + 16) - start;
    assert!(took > Duration::from_millis(600), "{took:?}");
}

#[test]
fn a_task_that_arrives_wakes_one_slot_not_sixteen() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = sandbox_for(&published);
    let _worker = start(&sandbox, "1s", "1s", "16");
    let before = wait_for_quiet(&published);
    let id = published.create("case", json!({"case": "it"}));
    wait_for_completed(&published, id);
    let asked = published.count(CLAIM) - before;
    // The one that found it, the one that it woke, and the polls of an idle worker, two a second in the mean.
    assert!(asked <= 10, "{asked}");
}

#[test]
fn tasks_that_arrive_together_wake_as_many_slots() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = sandbox_for(&published);
    let _worker = start(&sandbox, "1s", "1s", "4");
    wait_for_quiet(&published);
    // Each waits until all are there.
    sandbox.write("meet.sh", "echo x >>there; until [ $(wc -l <there) -ge 3 ]; do sleep 0.03; done");
    let ids = [1, 2, 3].map(|n| published.create("case", json!({"case": "meet", "n": n})));
    for id in ids {
        wait_for_completed(&published, id);
    }
}

#[test]
fn a_task_resets_the_growing_poll_interval() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = sandbox_for(&published);
    let _worker = start(&sandbox, "20ms", "10s", "1");
    let start = wait_for_claims(&published, 1);
    wait_for("the waits to grow", || (start.elapsed() > Duration::from_secs(2)).then_some(()));
    let polls = published.count(CLAIM); // each 20 ms after the one before, there would be a hundred
    assert!((5..25).contains(&polls), "{polls}");

    // The next waits would be of up to two seconds and more.
    let id = published.create("case", json!({"case": "it"}));
    wait_for_completed(&published, id);
    let next_gap = || {
        let count = published.count(CLAIM);
        let start = wait_for_claims(&published, count + 1);
        wait_for_claims(&published, count + 2) - start
    };
    let gaps = [next_gap(), next_gap(), next_gap()];
    assert!(gaps.iter().filter(|gap| **gap < Duration::from_millis(250)).count() >= 2, "{gaps:?}");
}

#[test]
fn waits_do_not_grow_beyond_the_longest() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = sandbox_for(&published);
    let _worker = start(&sandbox, "20ms", "40ms", "1");
    wait_for_claims(&published, 25); // growing for ever, the last wait would be of five minutes
}

#[test]
fn an_idle_worker_ends_at_once_when_asked() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = sandbox_for(&published);
    let end = |concurrency| {
        let before = published.count(CLAIM);
        let mut worker = start(&sandbox, "10m", "10m", concurrency);
        worker.wait_for_stderr("ready");
        wait_for_claims(&published, before + 1);
        let start = Instant::now();
        worker.terminate();
        worker.wait().exits(0);
        start.elapsed()
    };
    // Until the next poll it would be a good part of a minute.
    let took = ["1", "16"].map(end);
    assert!(took.iter().all(|took| *took < Duration::from_secs(10)), "{took:?}");
}

#[test]
fn types_are_asked_in_turn() {
    let taskmanager = EmbeddedTaskManager::with(|settings| settings.faults.features = OfferedFeatures::NONE);
    let rig = Rig::of(taskmanager, &[("full", ""), ("rare", ""), ("empty", "")]);
    rig.script("it", "echo 1");
    let mut full: Vec<u64> = (0..8).map(|n| rig.taskmanager.create("full", json!({"case": "it", "n": n}))).collect();
    let rare = rig.taskmanager.create("rare", json!({"case": "it"}));
    rig.drain();
    full.insert(1, rare);
    assert_eq!(rig.worked(), full);
}

#[test]
fn a_type_that_cannot_be_claimed_does_not_starve_the_others() {
    let published = PublishedServer::start(&["broken", "case"]);
    let sandbox = published.sandbox(&format!("{}\n{}", cases("broken", ""), cases("case", "")));
    sandbox.write("it.sh", "echo 1");
    for _ in 0..500 {
        published.inject("POST /tasks/claim 1", Fault::Answer(recorded("complete: deadlock in the server's database")));
    }
    let id = published.create("case", json!({"case": "it"}));
    let _worker = start(&sandbox, "20ms", "20ms", "1");
    wait_for_completed(&published, id);
}

#[test]
fn strategies_order_tasks() {
    for (strategy, expected) in [("fifo", [1, 2, 3, 4]), ("lifo", [4, 3, 2, 1]), ("priority", [2, 3, 1, 4])] {
        let rig = Rig::start();
        rig.script("it", "echo 1");
        for (n, priority) in [0, 7, 5, -1].into_iter().enumerate() {
            rig.taskmanager.create_with_priority("case", json!({"case": "it", "n": n}), priority);
        }
        rig.work(["--drain", "--strategy", strategy]).run().exits(0);
        assert_eq!(rig.worked(), expected, "{strategy}");
    }
}

#[test]
fn strategies_are_asked_for_by_name() {
    for (strategy, by, order) in
        [("fifo", "created_at", "ASC"), ("lifo", "created_at", "DESC"), ("priority", "priority", "DESC")]
    {
        let published = PublishedServer::start(&["case"]);
        sandbox_for(&published).prismq(["work", "--drain", "--strategy", strategy]).run().exits(0);
        let requests = published.server.requests();
        let claim = requests.iter().find(|request| request.path == "/tasks/claim").unwrap().json();
        assert_eq!((&claim["sort_by"], &claim["sort_order"]), (&json!(by), &json!(order)), "{strategy}");
    }
}

/// How often the threads of the process have gone to sleep so far.
#[cfg(target_os = "linux")]
fn sleeps(id: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).unwrap().map(|entry| entry.unwrap().path());
    let of_thread = |thread: std::path::PathBuf| -> u64 {
        let status = std::fs::read_to_string(thread.join("status")).unwrap_or_default(); // it may have ended
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.map_or(0, |count| count.trim().parse().unwrap())
    };
    threads.map(of_thread).sum()
}

#[test]
#[cfg(target_os = "linux")]
fn waiting_costs_nothing_while_another_slot_asks() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = sandbox_for(&published);
    sandbox.write("it.sh", "until [ -e go ]; do sleep 0.03; done");
    published.create("case", json!({"case": "it"}));
    let settings = ["--drain", "--concurrency", "4", "--poll-interval", "10m", "--max-backoff", "10m"];
    let mut worker = sandbox.prismq(["work"]).args(settings).start();
    wait_for_quiet(&published); // one slot has the task, one keeps watch, the others sleep
    published.hold(CLAIM);
    sandbox.write("go", "");
    wait_for("the slot to ask again", || published.is_holding().then_some(()));
    let before = sleeps(worker.id());
    thread::sleep(Duration::from_millis(300)); // nothing must happen meanwhile
    let woken = sleeps(worker.id()) - before;
    assert!(worker.is_running() && woken < 100, "woken {woken} times");
    published.release();
    worker.wait().exits(0);
}
