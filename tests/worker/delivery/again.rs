//! A TaskManager from which a worker could have the same again and again at once: it is not asked in a circle.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Answer, Request, ScriptedServer, cases, recorded, sandbox, wait_for};

/// How long a worker is watched, on a machine that is not busy.
const WATCHED: Duration = Duration::from_millis(1500);
/// The most claims in this time. Without waits there would be thousands.
const MOST_CLAIMS: u128 = 60;
/// The most calls in this time.
const MOST_CALLS: u128 = 300;
/// The most lines in its log about the same event of the same task.
const MOST_LINES: usize = 5;

/// What the TaskManager makes of the n-th claim, and of other calls about a task.
struct Kind {
    name: &'static str,
    claim: fn(u64) -> Answer,
    call: fn(&Request) -> Answer,
}

fn task(number: u64, attempt: u64, params: &Value) -> Answer {
    Answer::data(&json!({"id": number, "type": "case", "params": params, "attempts": attempt, "priority": 0}))
}

fn slow(attempt: u64) -> Answer {
    task(1, attempt, &json!({"case": "slow"}))
}

fn quick(attempt: u64) -> Answer {
    task(1, attempt, &json!({"case": "quick"}))
}

fn shown(claimed_by: &str) -> Answer {
    Answer::data(&json!({"id": 1, "type": "case", "status": "claimed", "params": {}, "attempts": 1_000_000,
                         "claimed_by": claimed_by}))
}

fn shown_pending() -> Answer {
    Answer::data(&json!({"id": 1, "type": "case", "status": "pending (retry)", "params": {}, "attempts": 1}))
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, _| json!([inner]))
}

const KINDS: [Kind; 12] = [
    Kind { name: "while it runs", claim: slow, call: |_| recorded("backend down") },
    Kind { name: "the same attempt while it runs", claim: |_| slow(1), call: |_| recorded("backend down") },
    Kind { name: "while its report is under way", claim: quick, call: |_| Answer::hang() },
    Kind { name: "while its report waits", claim: quick, call: |_| recorded("backend down") },
    Kind {
        name: "its report is refused",
        claim: |_| quick(1),
        call: |request| match request.method.as_str() {
            "POST" => Answer::error(422, "Unprocessable"),
            _ => Answer::data(&json!({"id": 1, "type": "case", "status": "claimed", "params": {}, "attempts": 1,
                                      "claimed_by": "worker-1"})),
        },
    },
    Kind {
        name: "its claim is lost at once",
        claim: quick,
        call: |request| match request.method.as_str() {
            "POST" => recorded("complete: by the worker whose claim ran out"),
            _ => shown("another"),
        },
    },
    Kind { name: "beyond its attempts", claim: |number| quick(10 + number), call: |_| shown_pending() },
    Kind {
        name: "too deep",
        claim: |number| task(1, number, &json!({"case": nested(110)})),
        call: |_| shown_pending(),
    },
    Kind {
        name: "of a type that nobody wanted",
        claim: |number| Answer::data(&json!({"id": 1, "type": "odd", "params": {}, "attempts": number, "priority": 0})),
        call: |_| recorded("backend down"),
    },
    Kind { name: "nothing, long polls at once", claim: |_| nothing_at_once(), call: |_| recorded("backend down") },
    Kind { name: "an answer that cannot be read", claim: |_| Answer::data(&json!("what?")), call: |_| shown("me") },
    Kind { name: "no such type", claim: |_| Answer::error(404, "no such task type"), call: |_| shown("me") },
];

fn nothing_at_once() -> Answer {
    Answer::error(404, "No available tasks").header("Preference-Applied", "wait, task-types")
}

/// Watches a worker of some slots and types, whose claims are answered so; what was wrong.
fn watch(kind: &Kind) -> Vec<String> {
    let (claims, claim, call) = (Arc::new(AtomicU64::new(0)), kind.claim, kind.call);
    let counted = Arc::clone(&claims);
    let server = ScriptedServer::start(move |request| match request.path.as_str() {
        "/tasks/claim" if request.method == "POST" && request.json()["task_type_id"] == 2 => nothing_at_once(),
        "/tasks/claim" if request.method == "POST" => claim(counted.fetch_add(1, SeqCst) + 1),
        path if path.starts_with("/task-types/") => {
            let (id, name) = if path.ends_with("case") { (1, "case") } else { (2, "other") };
            Answer::data(&json!({"id": id, "name": name, "version": "1"}))
        }
        path if path.starts_with("/tasks?") => Answer::data(&json!([])),
        "/health" => Answer::data(&json!({"status": "healthy", "database": "connected"})),
        _ => call(request),
    });
    let sandbox = sandbox(&server.url());
    sandbox.write("prismq.toml", cases("case", "") + &cases("other", ""));
    sandbox.write("slow.sh", "until [ -e go ]; do sleep 0.05; done");
    sandbox.write("quick.sh", "echo 1");
    let settings = ["--concurrency", "8", "--poll-interval", "10s", "--max-backoff", "10s"];
    let worker = sandbox.prismq(["work"]).args(settings).start();
    wait_for("a claim", || (claims.load(SeqCst) > 0).then_some(()));
    let start = Instant::now();
    thread::sleep(WATCHED);
    let (claims, calls, log) = (claims.load(SeqCst), server.calls().len(), worker.stderr());
    let most = |in_this_time: u128| in_this_time * start.elapsed().as_millis() / WATCHED.as_millis();
    let mut wrong = Vec::new();
    if u128::from(claims) > most(MOST_CLAIMS) || calls as u128 > most(MOST_CALLS) {
        wrong.push(format!("{}: {claims} claims, {calls} calls", kind.name));
    }
    for (line, count) in repeated(&log) {
        wrong.push(format!("{}: {count} times {line}", kind.name));
    }
    wrong
}

/// The warnings that a log holds too often, but for their times and numbers. What became of a run is said of each run, and
/// once of each run that its task was handed out again.
fn repeated(log: &str) -> HashMap<String, usize> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for line in log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")) {
        let words =
            line.split(' ').skip(1).filter(|word| !word.starts_with("attempt=") && !word.starts_with("duration"));
        *counts.entry(words.collect::<Vec<_>>().join(" ")).or_insert(0) += 1;
    }
    let runs = log.lines().filter(|line| line.contains("INFO  task claimed ")).count();
    counts.retain(|line, count| {
        let most = if line.contains("claimed again while in flight") { runs.max(MOST_LINES) } else { MOST_LINES };
        *count > most && !line.contains("task failed") && !line.contains("claim lost")
    });
    counts
}

#[test]
fn a_taskmanager_is_not_polled_in_a_tight_loop() {
    let wrong: Vec<String> = thread::scope(|scope| {
        let watched: Vec<_> = KINDS.iter().map(|kind| scope.spawn(|| watch(kind))).collect();
        watched.into_iter().flat_map(|it| it.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
