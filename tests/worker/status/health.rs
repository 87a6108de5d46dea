//! How the worker says it is.

use serde_json::{Value, json};

use crate::support::{EmbeddedTaskManager, Rig, StatusWorker, wait_for};

fn wait_for_status(worker: &StatusWorker, path: &str, status: u16) -> Value {
    let found = || {
        let (found, body) = worker.get(path);
        (found == status).then(|| serde_json::from_str(&body).unwrap())
    };
    wait_for(&format!("{status} from {path}"), found)
}

#[test]
fn an_outage_makes_it_unready_but_not_unhealthy() {
    let mut rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    assert_eq!(wait_for_status(&worker, "/ready", 200), json!({"ready": true}));
    rig.taskmanager.stop();
    let answer = wait_for_status(&worker, "/ready", 503);
    assert!(answer["reason"].as_str().unwrap().contains("cannot reach the TaskManager"), "{answer}");
    let (status, _) = worker.get("/health");
    let health = worker.health();
    assert_eq!((status, &health["healthy"], &health["api_connectivity"]), (200, &json!(true), &json!(false)));
    assert!(health["api_error"].as_str().unwrap().contains("cannot reach"), "{health}");
    rig.taskmanager.restart();
    wait_for_status(&worker, "/ready", 200);
    wait_for("the same of /health", || (worker.health()["api_connectivity"] == json!(true)).then_some(()));
}

#[test]
fn before_its_first_answer_a_worker_is_healthy_but_not_ready() {
    let mut rig = Rig::of(EmbeddedTaskManager::away(), &[]);
    rig.sandbox.write("prismq.toml", "[[task_type]]\nname = 'case'\nhandler = 'echo'\n");
    let mut worker = StatusWorker::start(&rig, ["--register"]);
    worker.running.wait_for_stderr("TaskManager unavailable");
    assert_eq!((worker.get("/health").0, worker.get("/ready").0), (200, 503));
    let health = worker.health();
    assert_eq!((&health["api_key_accepted"], &health["task_types"]), (&Value::Null, &json!({})));
    rig.taskmanager.restart();
    wait_for_status(&worker, "/ready", 200);
    wait_for("its types", || (worker.health()["task_types"] == json!({"case": 1})).then_some(()));
}

#[test]
fn health_says_what_is_known_of_the_worker() {
    let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 1), &[("case", "")]);
    let worker = StatusWorker::start(&rig, []);
    rig.case("good", "echo 1");
    rig.case("bad", "exit 65");
    wait_for("both to end", || (worker.health()["tasks_processed"] == json!(2)).then_some(()));
    wait_for("the reports", || (worker.health()["unreported"] == json!(0)).then_some(()));
    let mut health = worker.health();
    let fields = health.as_object_mut().unwrap();
    for name in ["api_latency_ms", "seconds_since_poll", "uptime_seconds"] {
        assert!(fields.remove(name).unwrap().as_u64().is_some_and(|number| number < 60_000), "{name}");
    }
    assert!(fields.remove("cpu_percent").unwrap().as_f64().unwrap() >= 0.0);
    let memory = fields.remove("memory_usage_mb").unwrap();
    assert!(!cfg!(target_os = "linux") || memory.as_f64().unwrap() > 1.0, "{memory}");
    let expected = json!({
        "healthy": true, "worker_id": "worker-1", "version": env!("CARGO_PKG_VERSION"), "api_connectivity": true,
        "api_key_accepted": true, "task_types": {"case": 1}, "results_writable": true, "unreported": 0,
        "oldest_unreported_seconds": null, "handlers": {"case": "found"}, "tasks_in_flight": 0, "tasks_processed": 2,
        "tasks_failed": 1, "consecutive_errors": 1,
    });
    assert_eq!(health, expected);
}

#[test]
fn a_slot_that_hangs_makes_it_unhealthy_in_the_words_of_the_log() {
    let rig = Rig::of(EmbeddedTaskManager::start(), &[("case", "timeout = \"100ms\"")]);
    // A slot that is late by twice the watchdog's time hangs.
    let worker = rig.work([]).env("WATCHDOG_USEC", "400000").env("FAILPOINTS", "noted=1*sleep(60000)");
    let mut worker = StatusWorker::of(worker);
    wait_for_status(&worker, "/ready", 200);
    wait_for_status(&worker, "/health", 200);
    rig.case("it", "echo 1");
    let reason = "slot 0 is overdue with its task";
    let answer = wait_for("the reason", || Some(worker.health()).filter(|it| it["reason"] == reason));
    assert_eq!((&answer["healthy"], worker.get("/health").0), (&json!(false), 503));
    worker.running.wait_for_stderr(&format!("worker hung reason=\"{reason}\""));
    worker.wait_for_metric("prismq_healthy 0");
    wait_for("the same on the page", || worker.get("/").1.contains("Unhealthy: slot 0").then_some(()));
}
