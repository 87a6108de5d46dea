//! Balancers and servers that give up connections which were used before: each call arrives even so, and counts once.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::published::{Fault, PublishedServer};
use crate::support::{Answer, at_once, cases, recorded, rows};

/// How a call on a connection that is used up ends.
fn worn() -> [(&'static str, Answer); 4] {
    let timed_out = Answer::page(408).header("Connection", "close");
    [
        ("reset", Answer::reset()),
        ("closed", Answer::close()),
        ("half an answer", recorded("complete").cut_short()),
        ("timed out", timed_out),
    ]
}

/// A line of a handler that reports progress.
const PROGRESS: &str = "echo '{\"progress\":50}' >&3;";

/// Works eight tasks at a server whose connections can be used so often, and looks at what has become of them.
fn drain(uses: usize, how: &str, answer: Answer, concurrency: &str, progress: &str) {
    let published = PublishedServer::start(&["case"]);
    published.limit_connections(uses, answer);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", format!("echo run >>runs; {progress} echo 1"));
    let ids: Vec<u64> = (0..8).map(|n| published.create("case", json!({"case": "it", "n": n}))).collect();
    let output = sandbox.prismq(["work", "--drain", "--concurrency", concurrency]).run().exits(0);
    for id in &ids {
        let task = published.task(*id);
        assert_eq!((task.status.as_str(), task.attempts), ("completed", 1), "{how}, {uses}: {}", output.stderr);
        assert_eq!(task.progress, if progress.is_empty() { 0 } else { 50 }, "{how}, {uses}");
    }
    assert_eq!(sandbox.read("runs").lines().count(), ids.len(), "{how}, {uses}");
    let rows = rows(&sandbox, "results");
    assert!(rows.iter().all(|row| row["reported_at"].is_string()) && rows.len() == ids.len(), "{rows:?}");
}

#[test]
fn a_connection_that_can_be_used_once_holds_up_no_report() {
    let cases = worn().into_iter().flat_map(|worn| ["", PROGRESS].map(|progress| (worn.clone(), progress)));
    at_once(cases, |((how, answer), progress)| drain(1, how, answer, "1", progress));
}

#[test]
fn a_connection_that_can_be_used_a_few_times_holds_up_no_report() {
    let settings = [(2, "3", PROGRESS), (3, "1", "")];
    let cases = worn().into_iter().flat_map(|worn| settings.map(|settings| (worn.clone(), settings)));
    at_once(cases, |((how, answer), (uses, slots, progress))| drain(uses, how, answer, slots, progress));
}

/// A balancer that leads every second call to a server that is dead, or dies over it: what is done is found to be done, and
/// a queue that is empty to be empty.
#[test]
fn a_drain_ends_although_every_second_call_is_lost() {
    let faults = [("dead", Fault::Answer(Answer::close())), ("dying", Fault::AnswerLost)];
    let settings = faults.into_iter().flat_map(|fault| ["1", "3"].map(|slots| (fault.clone(), slots)));
    at_once(settings, |((how, fault), slots)| {
        let published = PublishedServer::start(&["case"]);
        let sandbox = published.sandbox(&cases("case", ""));
        sandbox.write("it.sh", "echo run >>runs; echo 1");
        let ids: Vec<u64> = (0..2).map(|n| published.create("case", json!({"case": "it", "n": n}))).collect();
        published.inject_in_turn(vec![Fault::Nothing, fault]);
        let mut worker = sandbox.prismq(["work", "--drain", "--concurrency", slots]).start();
        let start = Instant::now();
        while worker.is_running() {
            // It is a matter of luck how soon calls fall out of step with the balancer: a few seconds, mostly.
            assert!(start.elapsed() < Duration::from_secs(100), "{how}, {slots}: {}", worker.stderr());
            thread::sleep(Duration::from_millis(10));
        }
        let output = worker.wait().exits(0);
        assert!(ids.iter().all(|id| published.task(*id).status == "completed"), "{how}, {slots}: {}", output.stderr);
        assert_eq!(sandbox.read("runs").lines().count(), ids.len(), "{how}, {slots}");
    });
}
