//! Servers that can wait for a task, so that nobody need poll.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::published::{Fault, KEY, PublishedServer};
use crate::support::{
    Answer, EmbeddedTaskManager, Request, Rig, Running, Sandbox, ScriptedServer, at_once, cases, recorded, wait_for,
};

const CLAIM: &str = "POST /tasks/claim";

/// A worker of the types that `published` knows.
fn worker_of(published: &PublishedServer, types: &[&str], poll_interval: &str) -> (Sandbox, Running) {
    let types: Vec<String> = types.iter().map(|name| cases(name, "")).collect();
    let sandbox = published.sandbox(&types.join("\n"));
    sandbox.write("it.sh", "echo 1");
    let worker = sandbox.prismq(["work", "--poll-interval", poll_interval, "--worker-id", "me"]).start();
    (sandbox, worker)
}

/// The type's number and the wait that is asked for, of each claim so far.
fn claims(published: &PublishedServer) -> Vec<(Value, Option<String>)> {
    let requests = published.server.requests();
    let claims = requests.iter().filter(|request| request.path == "/tasks/claim");
    claims.map(|claim| (claim.json()["task_type_id"].clone(), claim.header("Prefer").map(str::to_owned))).collect()
}

fn empty() -> Answer {
    recorded("claim: queue empty")
}

#[test]
fn only_idle_polls_are_long_polls() {
    let published = PublishedServer::start(&["case"]);
    let ids = [1, 2].map(|n| published.create("case", json!({"case": "it", "n": n})));
    let (_sandbox, _worker) = worker_of(&published, &["case"], "10s");
    wait_for("the tasks to end", || ids.iter().all(|id| published.task(*id).status == "completed").then_some(()));
    wait_for("three claims", || (claims(&published).len() == 3).then_some(()));
    let wait = Some("wait=20".to_owned());
    assert_eq!(claims(&published), [(json!(1), wait), (json!(1), None), (json!(1), None)]);
}

#[test]
fn with_several_types_a_server_that_is_new_waits_until_the_others_are_due() {
    let published = PublishedServer::start(&["one", "two"]);
    let (_sandbox, _worker) = worker_of(&published, &["one", "two"], "5s");
    wait_for("a turn", || (claims(&published).len() == 2).then_some(()));
    assert_eq!(claims(&published), [(json!(1), None), (json!(2), Some("wait=5, task-types=\"1\"".into()))]);
}

/// A server of one type that makes something of each claim.
fn server(claim: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> (ScriptedServer, Sandbox, Running) {
    server_polled(&SELDOM, claim)
}

/// The same, for a worker that polls so often.
fn server_polled(
    often: &[&str],
    claim: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) -> (ScriptedServer, Sandbox, Running) {
    let server = ScriptedServer::start(move |request| match request.path.as_str() {
        "/tasks/claim" => claim(request),
        path if path.starts_with("/task-types/") => Answer::data(&json!({"id": 1, "name": "case", "version": "1"})),
        path if path.ends_with("/complete") => Answer::data(&json!({"id": 1, "status": "completed"})),
        _ => Answer::data(&json!([])),
    });
    let sandbox = Sandbox::at(&server.url()).env("TASKMANAGER_API_KEY", KEY);
    sandbox.write("prismq.toml", cases("case", ""));
    sandbox.write("it.sh", "echo 1");
    let worker = sandbox.prismq(["work"]).args(often.iter().copied()).start();
    (server, sandbox, worker)
}

/// Polls would come too late.
const SELDOM: [&str; 4] = ["--poll-interval", "10m", "--max-backoff", "10m"];

fn count_claims(server: &ScriptedServer) -> usize {
    server.calls().iter().filter(|call| call.starts_with(CLAIM)).count()
}

#[test]
fn a_server_that_supports_long_polls_is_polled_again_at_once() {
    let (server, _sandbox, _worker) = server(|_| {
        thread::sleep(Duration::from_millis(1100));
        empty().header("Preference-Applied", "wait")
    });
    wait_for("three claims", || (count_claims(&server) >= 3).then_some(()));
}

#[test]
fn a_server_that_falsely_claims_to_have_waited_is_not_polled_in_a_tight_loop() {
    let (server, _sandbox, _worker) = server(|_| empty().header("Preference-Applied", "wait"));
    wait_for("a claim", || (count_claims(&server) > 0).then_some(()));
    thread::sleep(Duration::from_millis(300));
    assert!(count_claims(&server) <= 2);
}

#[test]
fn a_server_that_fails_after_a_long_poll_is_not_polled_in_a_tight_loop() {
    let claims = AtomicUsize::new(0);
    let often = ["--poll-interval", "20ms", "--max-backoff", "10m"];
    let (server, _sandbox, _worker) = server_polled(&often, move |_| {
        if claims.fetch_add(1, SeqCst) > 0 {
            return Answer::error(400, "out of order"); // a refusal, which the client does not try again by itself
        }
        thread::sleep(Duration::from_millis(1100));
        empty().header("Preference-Applied", "wait")
    });
    wait_for("failures", || (count_claims(&server) >= 4).then_some(()));
    thread::sleep(Duration::from_millis(500));
    assert!(count_claims(&server) < 30, "{}", count_claims(&server));
}

#[test]
fn waiting_does_not_shorten_the_claim() {
    let claims = AtomicUsize::new(0);
    let (_server, sandbox, _worker) = server(move |_| {
        if claims.fetch_add(1, SeqCst) > 0 {
            return empty();
        }
        thread::sleep(Duration::from_secs(3));
        let task = json!({"id": 1, "type": "case", "params": {"case": "it"}, "attempts": 1});
        Answer::data(&task).header("Preference-Applied", "wait")
    });
    let result = wait_for("the result", || {
        let printed = sandbox.prismq(["results", "1", "--format", "jsonl"]).run().stdout;
        serde_json::from_str::<Value>(&printed).ok()
    });
    let [claimed, started]: [jiff::Timestamp; 2] =
        ["claimed_at", "started_at"].map(|key| result[key].as_str().unwrap().parse().unwrap());
    let early = started.duration_since(claimed);
    assert!((1..2).contains(&early.as_secs()), "{early:?}: an answer may be a second on the way");
}

/// Asks a worker to end while its claim waits at the server; how long that takes.
fn end_while_a_claim_waits() -> Duration {
    let published = PublishedServer::start(&["case"]);
    published.hold(CLAIM);
    let (_sandbox, worker) = worker_of(&published, &["case"], "10s");
    wait_for("a claim to wait", || published.is_holding().then_some(()));
    let id = published.create("case", json!({"case": "it"}));
    let start = Instant::now();
    worker.terminate();
    wait_for("it to be called back", || (published.count("DELETE /tasks/claim?worker_id=me") > 0).then_some(()));
    published.release();
    let log = worker.wait().exits(0).stderr;
    let took = start.elapsed();
    assert!(log.contains("stopping in_flight=0"), "what waits is no task in flight: {log}");
    // It was answered with a task even so: none is lost.
    assert_eq!(published.task(id).status, "completed");
    took
}

/// The best of three takes less than a second: on a busy machine anything may take longer once.
fn assert_ends_within_a_second(end: impl Fn() -> Duration) {
    let took = [(); 3].map(|()| end());
    assert!(took.iter().any(|took| *took < Duration::from_secs(1)), "{took:?}");
}

#[test]
fn a_claim_that_waits_is_called_back_when_the_worker_is_asked_to_end() {
    assert_ends_within_a_second(end_while_a_claim_waits);
}

#[test]
fn workers_that_end_do_not_use_long_polls() {
    at_once([["--drain"].as_slice(), &["--max-tasks", "1"], &["--exit-after-idle", "1s"]], |ending| {
        let published = PublishedServer::start(&["case"]);
        let sandbox = published.sandbox(&cases("case", ""));
        sandbox.write("it.sh", "echo 1");
        published.create("case", json!({"case": "it"}));
        published.inject(CLAIM, Fault::Answer(recorded("complete: deadlock in the server's database")));
        sandbox.prismq(["work", "--poll-interval", "20ms"]).args(ending.iter().copied()).run().exits(0);
        assert!(claims(&published).iter().all(|(_, wait)| wait.is_none()), "{ending:?}");
    });
}

/// Asks a worker to end that has waited at the embedded TaskManager for one task after another; how long that takes.
fn leave_the_embedded_taskmanager() -> Duration {
    let rig = Rig::start();
    rig.sandbox.write("it.sh", "echo 1");
    let mut worker = rig.work(["--concurrency", "4"]).args(SELDOM).start();
    worker.wait_for_stderr("ready");
    // By polling, each but the first would start up to a minute later.
    for n in 0..5 {
        let id = rig.taskmanager.create("case", json!({"case": "it", "n": n}));
        wait_for("the task to end", || (rig.taskmanager.status(id) == "completed").then_some(()));
    }
    let start = Instant::now();
    worker.terminate();
    worker.wait().exits(0);
    let took = start.elapsed();
    // Nobody waits any more, so nothing is handed out to who has gone.
    let id = rig.taskmanager.create("case", json!({"case": "it", "n": 5}));
    assert_eq!((rig.taskmanager.status(id).as_str(), rig.taskmanager.task(id).attempts), ("pending", 0));
    took
}

#[test]
fn long_polls_of_an_embedded_taskmanager_end_at_exit() {
    assert_ends_within_a_second(leave_the_embedded_taskmanager);
}

#[test]
fn the_embedded_taskmanager_waits_for_all_types_at_once() {
    let rig = Rig::of(EmbeddedTaskManager::start(), &[("one", ""), ("two", ""), ("three", "")]);
    rig.sandbox.write("it.sh", "echo 1");
    let _worker = rig.work(SELDOM).start();
    let page = rig.taskmanager.url().replace("/api", "/");
    let look = || ureq::get(&page).call().unwrap().body_mut().read_to_string().unwrap();
    // While one is waited for, as long as a server may be asked to, the others would wait with it.
    for (n, name) in ["two", "one", "three", "one", "two"].into_iter().enumerate() {
        wait_for("the worker to wait", || look().contains("polling ").then_some(()));
        let id = rig.taskmanager.create(name, json!({"case": "it", "n": n}));
        let start = Instant::now();
        wait_for("the task to end", || (rig.taskmanager.status(id) == "completed").then_some(()));
        assert!(start.elapsed() < Duration::from_secs(10), "{name}: {:?}", start.elapsed());
    }
}

#[test]
fn the_end_of_an_outage_is_not_waited_for_with_a_task() {
    let mut rig = Rig::start();
    let mut worker = rig.work([]).start();
    worker.wait_for_stderr("ready");
    rig.taskmanager.stop();
    worker.wait_for_stderr("TaskManager unavailable");
    rig.taskmanager.restart();
    let start = Instant::now();
    worker.wait_for_stderr("available again");
    assert!(start.elapsed() < Duration::from_secs(10), "a claim that waits is answered after 20 s only");
}
