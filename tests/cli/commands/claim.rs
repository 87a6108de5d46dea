//! `claim` without `--run`: claims a task for a person or a script.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use prismq::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{ANY, Answer, Rig, Sandbox, ScriptedServer, complains, complains_in_json, recorded, type_found};

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn the_task_is_printed_with_the_next_commands() {
    let rig = Rig::new();
    let id = rig.create(ANY, &json!({"text": "a b"}));
    let output = rig.prismq("claim example.any --worker-id me").run().exits(0);
    let task = output.json();
    let keys: Vec<&String> = task.as_object().unwrap().keys().collect();
    let mut expected = ["id", "type", "params", "attempt", "priority", "worker_id", "claimed_at", "deadline"];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!((&task["id"], &task["type"], &task["params"]), (&json!(id), &json!(ANY), &json!({"text": "a b"})));
    assert_eq!((&task["attempt"], &task["priority"], &task["worker_id"]), (&json!(1), &json!(0), &json!("me")));
    assert_eq!(time(&task["deadline"]), time(&task["claimed_at"]) + Duration::from_secs(300));
    assert!(output.stdout.lines().count() > 8, "for people it is laid out: {}", output.stdout);

    let hints: Vec<&str> = output.stderr.lines().collect();
    let [until, complete, fail] = hints.as_slice() else { panic!("{hints:?}") };
    assert!(until.starts_with("claimed until 2"), "{until}");
    assert!(complete.trim().starts_with("prismq complete 1 --result"), "{complete}");
    assert!(fail.trim().starts_with("prismq fail 1 --error"), "{fail}");
    assert_eq!(rig.task(id)["claimed_by"], "me");
}

#[test]
fn json_is_one_line() {
    let rig = Rig::new();
    rig.create(ANY, &json!({"n": 1}));
    let output = rig.prismq("claim example.any --json").env("PRISMQ_CLAIM_TIMEOUT", "1m").run().exits(0);
    assert_eq!(output.stdout.lines().count(), 1);
    let task = output.json();
    assert_eq!(time(&task["deadline"]), time(&task["claimed_at"]) + Duration::from_secs(60));
}

#[test]
fn once_without_a_task_is_exit_code_3() {
    let rig = Rig::new();
    complains(&rig.run("claim example.any --once"), 3, &["no pending task of type example.any"]);
    complains_in_json(&rig.run("claim example.any --once --json"), 3);
    rig.create(ANY, &json!({"n": 1}));
    assert_eq!(rig.run("claim example.any --once").exits(0).json()["id"], 1);
    rig.run("claim example.any --once").exits(3);
}

#[test]
fn timeout_limits_the_wait() {
    let rig = Rig::new();
    let start = Instant::now();
    let output = rig.run("claim example.any --timeout 200ms");
    assert!(start.elapsed() >= Duration::from_millis(200));
    complains(&output, 3, &["no pending task of type example.any"]);
    rig.run("claim example.any --timeout 1s --once").exits(2);
}

fn task() -> Answer {
    Answer::data(&json!({"id": 9, "type": ANY, "params": [], "attempts": 2, "priority": 0}))
}

#[test]
fn claim_waits_for_a_task() {
    let nothing = || Answer::error(404, "No available tasks");
    let server = ScriptedServer::queue([type_found(), nothing(), recorded("claim: queue empty"), nothing(), task()]);
    let sandbox = Sandbox::at(&server.url()).env("POLL_INTERVAL", "10ms");
    let claimed = sandbox.prismq(["claim", ANY]).run().exits(0).json();
    assert_eq!((&claimed["id"], &claimed["attempt"], &claimed["params"]), (&json!(9), &json!(2), &json!({})));
    assert_eq!(server.calls().len(), 5);
}

#[test]
fn a_long_poll_returns_a_task_of_any_type_at_once() {
    let rig = Rig::new();
    rig.run("register-type example.other --schema {\"type\":\"object\"}").exits(0);
    for task_type in [ANY, "example.other"] {
        // The task comes by the long poll, not by the next poll.
        let claim = rig.prismq("claim example.any example.other --debug").env("POLL_INTERVAL", "1h");
        let mut running = claim.start();
        running.wait_for_stderr("call=claim ");
        rig.create(task_type, &json!({"n": 1}));
        assert_eq!(running.wait().exits(0).json()["type"], task_type);
    }
}

#[test]
fn types_are_polled_in_the_given_order() {
    let rig = Rig::new();
    rig.run("register-type example.other --schema {\"type\":\"object\"}").exits(0);
    rig.create(ANY, &json!({"n": 1}));
    rig.create("example.other", &json!({"n": 1}));
    let claim = |line: &str| rig.run(line).exits(0).json()["type"].clone();
    assert_eq!(claim("claim example.other example.any --once"), "example.other");
    assert_eq!(claim("claim example.other example.any --once"), "example.any");
    complains(&rig.run("claim example.other example.any --once"), 3, &["example.other, example.any"]);
}

#[test]
fn without_types_the_configured_ones_are_polled() {
    let rig = Rig::new();
    complains(&rig.run("claim --once"), 2, &["no task type", "prismq.toml"]);
    rig.sandbox.write("prismq.toml", "[[task_type]]\nname = \"example.any\"\n");
    rig.create(ANY, &json!({"n": 1}));
    assert_eq!(rig.run("claim --once").exits(0).json()["type"], ANY);
}

#[test]
fn the_strategy_decides_which_task_is_claimed() {
    let rig = Rig::new();
    (1..=4).for_each(|n| _ = rig.create(ANY, &json!({"n": n})));
    let claim = |strategy: &str| rig.run(&format!("claim example.any --once {strategy}")).exits(0).json()["id"].clone();
    assert_eq!(claim(""), 1);
    assert_eq!(claim("--strategy lifo"), 4);
    assert_eq!(claim("--strategy fifo"), 2);
    let from_environment = rig.prismq("claim example.any --once").env("PRISMQ_STRATEGY", "lifo").run().exits(0);
    assert_eq!(from_environment.json()["id"], 3);
}

#[test]
fn an_unknown_type_has_advice() {
    let rig = Rig::new();
    for line in ["claim no.such", "claim example.any no.such --once", "claim no.such --run"] {
        complains(&rig.run(line), 2, &["no.such"]);
    }
    complains(&rig.run("claim no.such"), 2, &["prismq register-type no.such"]);
    rig.sandbox.write("prismq.toml", "[[task_type]]\nname = \"no.such\"\nexec = [\"cat\"]\n");
    complains(&rig.run("claim no.such --run"), 2, &["prismq register-type no.such"]);
}

#[test]
fn a_signal_ends_the_wait_at_once() {
    let server = ScriptedServer::start(|request| match request.method.as_str() {
        "GET" => type_found(),
        _ => Answer::error(404, "No available tasks"),
    });
    for (number, signal) in [(1, Signal::INT), (2, Signal::TERM)] {
        let sandbox = Sandbox::at(&server.url());
        let running = sandbox.prismq(["claim", ANY]).start();
        server.wait_for_requests(2 * number);
        let start = Instant::now();
        running.signal(signal);
        let output = running.wait().exits(130);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    }
}

#[test]
fn a_signal_withdraws_a_long_poll() {
    let (asked, is_asked) = channel();
    let (withdraw, withdrawn) = channel();
    let withdrawn = Mutex::new(withdrawn);
    let server = ScriptedServer::start(move |request| match request.method.as_str() {
        "GET" => type_found(),
        "DELETE" => {
            let _ = withdraw.send(request.path.clone());
            Answer::data(&json!({"withdrawn": 1}))
        }
        _ => {
            assert_eq!(request.header("Prefer"), Some("wait=20"));
            asked.send(()).unwrap();
            let withdrawn = withdrawn.lock().unwrap().recv_timeout(Duration::from_secs(10));
            assert_eq!(withdrawn.as_deref(), Ok("/tasks/claim?worker_id=me"));
            Answer::error(404, "No available tasks").header("Preference-Applied", "wait")
        }
    });
    let sandbox = Sandbox::at(&server.url());
    let running = sandbox.prismq(["claim", ANY, "--worker-id", "me"]).start();
    is_asked.recv().unwrap();
    running.signal(Signal::INT);
    let output = running.wait().exits(130);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
}

#[test]
fn no_further_type_is_polled_after_a_signal() {
    let server = ScriptedServer::start(|request| match request.method.as_str() {
        "GET" => type_found(),
        _ => Answer::error(503, "busy").header("Retry-After", "60"),
    });
    let sandbox = Sandbox::at(&server.url());
    let running = sandbox.prismq(["claim", ANY, "example.other"]).start();
    server.wait_for_requests(3);
    running.signal(Signal::INT);
    running.wait().exits(130);
    assert_eq!(server.calls().iter().filter(|call| *call == "POST /tasks/claim").count(), 1);
}

#[test]
fn a_second_signal_does_not_wait_for_an_answer() {
    let server = ScriptedServer::start(|request| match request.method.as_str() {
        "GET" => type_found(),
        _ => Answer::hang(),
    });
    let sandbox = Sandbox::at(&server.url());
    let running = sandbox.prismq(["claim", ANY]).start();
    server.wait_for_requests(2);
    let start = Instant::now();
    running.signal(Signal::INT);
    thread::sleep(Duration::from_millis(150)); // two at once would be one
    running.signal(Signal::TERM);
    running.wait().exits(130);
    // After the first signal alone, it would wait for 10 s.
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
}

#[test]
fn a_task_claimed_during_a_signal_is_not_lost() {
    let (asked, is_asked) = channel();
    let (answer, may_answer) = channel::<()>();
    let may_answer = Mutex::new(may_answer);
    let server = ScriptedServer::start(move |request| {
        match request.method.as_str() {
            "GET" => return type_found(),
            "DELETE" => return recorded("no such endpoint"),
            _ => {}
        }
        asked.send(()).unwrap();
        may_answer.lock().unwrap().recv().unwrap();
        task()
    });
    let sandbox = Sandbox::at(&server.url());
    let running = sandbox.prismq(["claim", ANY]).start();
    is_asked.recv().unwrap();
    running.signal(Signal::INT);
    answer.send(()).unwrap();
    assert_eq!(running.wait().exits(0).json()["id"], 9);
}

#[test]
fn a_claim_sends_the_type_and_the_order() {
    let server = ScriptedServer::queue([type_found(), Answer::error(404, "No available tasks")]);
    let claim = ["claim", ANY, "--once", "--worker-id", "me", "--strategy", "priority"];
    Sandbox::at(&server.url()).prismq(claim).run().exits(3);
    let asked = server.requests().remove(1);
    assert_eq!(asked.path, "/tasks/claim");
    let expected = json!({"worker_id": "me", "task_type_id": 1, "sort_by": "priority", "sort_order": "DESC"});
    assert_eq!((asked.json(), asked.header("Prefer")), (expected, None));
}
