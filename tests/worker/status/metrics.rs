//! Each metric moves with what it counts.

use std::time::Duration;

use prismq::internals::taskmanager::Order;
use serde_json::json;

use crate::support::{EmbeddedTaskManager, Rig, StatusWorker, promtool, wait_for};

#[test]
fn tasks_are_counted_as_they_end() {
    let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 1), &[("case", ""), ("other", "")]);
    let worker = StatusWorker::start(&rig, []);
    worker.wait_for_metric("prismq_tasks_completed_total{type=\"case\"} 0");
    rig.case("good", "echo 1");
    rig.case("better", "echo 2");
    rig.case("bad", "exit 65");
    rig.case_of("other", "ugly", "echo '{\"success\":false,\"error\":\"x\",\"error_type\":\"quota\"}'");
    for line in [
        "prismq_tasks_claimed_total{type=\"case\"} 3",
        "prismq_tasks_claimed_total{type=\"other\"} 1",
        "prismq_tasks_completed_total{type=\"case\"} 2",
        "prismq_tasks_completed_total{type=\"other\"} 0",
        "prismq_tasks_failed_total{error_type=\"validation\",type=\"case\"} 1",
        "prismq_tasks_failed_total{error_type=\"quota\",type=\"other\"} 1",
        "prismq_task_duration_seconds_count{type=\"case\"} 3",
        "prismq_task_duration_seconds_bucket{type=\"case\",le=\"1800\"} 3",
        "prismq_tasks_in_flight{type=\"case\"} 0",
        "prismq_results_unreported 0",
        "prismq_oldest_unreported_seconds 0",
        "prismq_api_requests_total{call=\"complete\",status=\"200\"} 4",
        "prismq_api_request_duration_seconds_count{call=\"complete\"} 4",
        "prismq_healthy 1",
        "prismq_taskmanager_up 1",
        concat!("prismq_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        worker.wait_for_metric(line);
    }
    #[cfg(target_os = "linux")]
    for name in ["cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes", "open_fds", "max_fds", "threads"]
    {
        let (text, start) = (worker.get("/metrics").1, format!("process_{name} "));
        let value = text.lines().find_map(|line| line.strip_prefix(&start)?.parse::<f64>().ok());
        assert!(value.is_some_and(|value| value > 0.0), "{name}: {value:?}");
    }
    #[cfg(target_os = "linux")]
    {
        let text = worker.get("/metrics").1;
        let start = text.lines().find_map(|line| line.strip_prefix("process_start_time_seconds ")?.parse::<i64>().ok());
        let age = jiff::Timestamp::now().as_second() - start.unwrap();
        assert!((-2..600).contains(&age), "{age}");
    }
}

#[test]
fn an_attempt_that_was_not_run_is_no_failure() {
    let rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    let hopeless = rig.case("hopeless", "echo ran >>runs; echo 'no such channel' >&2; exit 65");
    // Only the worker may say so of an attempt.
    let words = r#"{"success":false,"error":"x","error_type":"sly","metadata":{"not_run":true}}"#;
    let sly = rig.case("sly", &format!("echo ran >>runs; echo '{words}'"));
    for id in [hopeless, sly] {
        wait_for("its last attempt", || (rig.taskmanager.status(id) == "failed").then_some(()));
    }
    assert_eq!((rig.rows("results").len(), rig.sandbox.read("runs").lines().count()), (6, 4));
    for line in [
        "prismq_tasks_claimed_total{type=\"case\"} 6",
        "prismq_tasks_failed_total{error_type=\"validation\",type=\"case\"} 1",
        "prismq_tasks_failed_total{error_type=\"sly\",type=\"case\"} 3",
        "prismq_task_duration_seconds_count{type=\"case\"} 4",
        "prismq_tasks_in_flight{type=\"case\"} 0",
        "prismq_consecutive_errors 4",
    ] {
        worker.wait_for_metric(line);
    }
    let health = worker.health();
    assert_eq!((&health["tasks_processed"], &health["tasks_failed"]), (&json!(4), &json!(4)));
    let page = worker.get("/").1;
    assert!(page.contains("0 completed, 4 failed"), "{page}");
    let (errors, results) = page.split_once("Recent results").unwrap();
    assert_eq!([errors, results].map(|part| part.matches("no such channel").count()), [1, 0], "{page}");
}

#[test]
fn running_tasks_and_lost_claims_are_counted() {
    let rig = Rig::of(EmbeddedTaskManager::expiring(Duration::from_millis(200)), &[("case", "")]);
    let worker = StatusWorker::start(&rig, []);
    rig.case("slow", "touch started; until [ -e go ]; do sleep 0.03; done; echo 1");
    wait_for("the handler", || rig.sandbox.path("started").exists().then_some(()));
    worker.wait_for_metric("prismq_tasks_in_flight{type=\"case\"} 1");
    worker.wait_for_metric("prismq_claims_lost_total{type=\"case\"} 0");
    let client = rig.taskmanager.client();
    let type_id = client.task_type("case").unwrap().unwrap().id;
    wait_for("another worker gets the task", || client.claim("another", type_id, Order::OldestFirst).unwrap());
    rig.sandbox.write("go", "");
    worker.wait_for_metric("prismq_claims_lost_total{type=\"case\"} 1");
    worker.wait_for_metric("prismq_tasks_in_flight{type=\"case\"} 0");
}

#[test]
fn unreported_results_are_counted_until_they_arrive() {
    let mut rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    rig.case("slow", "touch started; until [ -e go ]; do sleep 0.03; done; echo 1");
    wait_for("the handler", || rig.sandbox.path("started").exists().then_some(()));
    rig.taskmanager.stop();
    rig.sandbox.write("go", "");
    worker.wait_for_metric("prismq_results_unreported 1");
    worker.wait_for_metric("prismq_taskmanager_up 0");
    let is_none = |text: &str| {
        text.lines().any(|line| line.starts_with("prismq_api_requests_total{") && line.contains("\"none\""))
    };
    assert!(is_none(&worker.get("/metrics").1));
    wait_for("it to grow old", || worker.health()["oldest_unreported_seconds"].as_u64().filter(|age| *age > 0));
    rig.taskmanager.restart();
    worker.wait_for_metric("prismq_results_unreported 0");
    worker.wait_for_metric("prismq_oldest_unreported_seconds 0");
    worker.wait_for_metric("prismq_taskmanager_up 1");
}

#[test]
fn failures_in_a_row_are_counted_and_open_the_breaker() {
    let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 1), &[("case", "")]);
    let worker = StatusWorker::start(&rig, []);
    worker.wait_for_metric("prismq_type_paused{type=\"case\"} 0");
    for number in 0..5 {
        rig.case(&format!("away-{number}"), "exit 69");
    }
    worker.wait_for_metric("prismq_consecutive_errors 5");
    worker.wait_for_metric("prismq_type_paused{type=\"case\"} 1");
    worker.wait_for_metric("prismq_type_held{type=\"case\"} 0");
}

#[test]
fn a_type_whose_handler_wants_no_tasks_is_held() {
    let rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    let until = jiff::Timestamp::now() + Duration::from_secs(2);
    rig.case("enough", &format!("echo '{{\"success\":true,\"not_before\":\"{until}\"}}'"));
    worker.wait_for_metric("prismq_type_held{type=\"case\"} 1");
    worker.wait_for_metric("prismq_type_held{type=\"case\"} 0");
}

#[test]
fn prometheus_finds_nothing_to_complain_of() {
    let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 1), &[("case", "")]);
    let worker = StatusWorker::start(&rig, []);
    rig.case("bad", "exit 65");
    worker.wait_for_metric("prismq_tasks_failed_total{error_type=\"validation\",type=\"case\"} 1");
    promtool(&["check", "metrics"], &worker.get("/metrics").1);
}
