//! The page for people.

use crate::support::{EmbeddedTaskManager, Rig, StatusWorker, wait_for};

/// Waits until the page holds all of this; what it is then.
#[track_caller]
fn wait_for_page(worker: &StatusWorker, texts: &[&str]) -> String {
    let found = || {
        let (status, page) = worker.get("/");
        assert_eq!(status, 200);
        texts.iter().all(|text| page.contains(text)).then_some(page)
    };
    wait_for(&format!("{texts:?} on the page"), found)
}

#[test]
fn the_page_shows_running_and_ended_tasks() {
    let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 1), &[("case", "")]);
    let worker = StatusWorker::start(&rig, []);
    wait_for_page(&worker, &["Healthy, waiting for tasks", "None.", "None yet."]);
    let script = "echo '{\"progress\":40,\"message\":\"page 4\"}' >&3; until [ -e go ]; do sleep 0.03; done; echo 1";
    let id = rig.case("slow", script);
    let row = format!("<span class=\"soft\">#{id}</span> case");
    wait_for_page(&worker, &["Healthy, running 1 task", &row, "value=\"40\"", "40 % page 4"]);
    rig.sandbox.write("go", "");
    wait_for_page(&worker, &["waiting for tasks", "1 completed, 0 failed", "completed</span> in ", &row]);
    rig.case("bad", "echo 'no such host' >&2; exit 65");
    wait_for_page(&worker, &["1 completed, 1 failed", "validation</span>: no such host", "class=\"failed\""]);
}

#[test]
fn it_warns_when_half_of_the_last_hours_attempts_failed() {
    let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 1), &[("case", ""), ("other", "")]);
    let worker = StatusWorker::start(&rig, []);
    for number in 0..9 {
        let line = if number < 5 { "exit 1" } else { "echo 1" };
        rig.case(&format!("case-{number}"), &format!("printf 'loading\\nValueError: no\\n' >&2; {line}"));
    }
    let page = wait_for_page(&worker, &["4 completed, 5 failed", "class=\"state good\"", "Healthy, waiting"]);
    assert!(page.contains("handler</span>: ValueError: no | loading<"), "{page}");
    rig.case_of("other", "one-more", "echo 1");
    let words = "Running, but 5 of the last hour&#39;s 10 attempts failed";
    let plain = words.replace("&#39;", "'");
    let found = |page: &str| page.contains(words) || page.contains(&plain);
    wait_for("the warning", || {
        Some(worker.get("/").1).filter(|page| found(page) && page.contains("class=\"state warn\""))
    });
    rig.case_of("other", "good", "echo 1");
    wait_for_page(&worker, &["6 completed, 5 failed", "class=\"state good\""]);
}

#[test]
fn the_page_shows_that_the_taskmanager_is_unreachable() {
    let mut rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    wait_for_page(&worker, &["Healthy"]);
    rig.taskmanager.stop();
    wait_for_page(&worker, &["Waiting for the TaskManager: cannot reach", "class=\"state warn\""]);
}

#[test]
fn the_page_shows_an_open_circuit_and_keeps_errors_longer_than_results() {
    let types = [("case", ""), ("other", "")];
    let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 1), &types);
    let worker = StatusWorker::start(&rig, []);
    for number in 0..5 {
        rig.case(&format!("away-{number}"), &format!("echo 'away {number}' >&2; exit 69"));
    }
    wait_for_page(&worker, &["circuit open for case", "Circuit open: too many retryable failures", "100 % of 5"]);
    for number in 0..20 {
        rig.case_of("other", &format!("good-{number}"), "echo 1");
    }
    let page = wait_for_page(&worker, &["0 in flight, 20 completed, 0 failed; median", "away 4"]);
    let (_, results) = page.split_once("Recent results").unwrap();
    assert!(!results.contains(" case"), "{results}");
}

#[test]
fn the_page_shows_unreported_results() {
    let mut rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    rig.case("slow", "touch started; until [ -e go ]; do sleep 0.03; done; echo 1");
    wait_for("the handler", || rig.sandbox.path("started").exists().then_some(()));
    rig.taskmanager.stop();
    rig.sandbox.write("go", "");
    wait_for_page(&worker, &["Waiting for the TaskManager", "Unreported</h2><strong>1</strong>", "oldest "]);
    rig.taskmanager.restart();
    wait_for_page(&worker, &["Healthy", "Unreported</h2><strong>0</strong>"]);
}

#[test]
fn the_page_shows_that_a_type_is_no_longer_registered() {
    let mut rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    wait_for_page(&worker, &["Healthy"]);
    rig.taskmanager.stop();
    rig.taskmanager.restart_anew();
    wait_for_page(&worker, &["case is no longer registered", "No longer registered with the TaskManager."]);
    assert_eq!(worker.health()["task_types"], serde_json::json!({"case": null}));
    rig.taskmanager.register("case");
    wait_for_page(&worker, &["Healthy, waiting for tasks"]);
}

#[test]
fn task_and_handler_texts_are_escaped() {
    const EVIL: &str = "</script><script>alert(1)</script><img src=x onerror=alert(2)>";
    let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 1), &[("case", "")]);
    let worker = StatusWorker::start(&rig, []);
    rig.script("evil", &format!("echo '{EVIL}' >&2; exit 65"));
    rig.taskmanager.create("case", serde_json::json!({"case": "evil", "text": EVIL}));
    let page = wait_for_page(&worker, &["&lt;script&gt;alert(1)"]);
    assert!(!page.contains("<script>alert") && !page.contains("<img"), "{page}");
    assert_eq!(page.matches("<script>").count(), 1, "its own");
}

#[test]
fn a_browser_may_do_nothing_but_what_the_page_needs() {
    let rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    let answer = worker.ask("GET", "/");
    let (policy, page) = (answer.header("content-security-policy").unwrap(), &answer.body);
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    for elsewhere in ["http://", "https://", "//", " src=", " href="] {
        assert!(!page.contains(elsewhere), "{elsewhere}: {page}");
    }
    assert!(!page.contains("style="), "the policy forbids it: {page}");
}
