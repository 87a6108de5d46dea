//! Balancers and servers that give up connections which were used before: each call arrives even so, and counts once.

use serde_json::json;

use crate::published::Published;
use crate::rig::{cases, rows};
use crate::support::{Answer, at_once, recorded};

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
    let published = Published::start(&["case"]);
    published.wear_connections(uses, answer);
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
