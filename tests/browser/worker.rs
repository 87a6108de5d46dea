//! The page of a worker.

use std::thread;

use serde_json::json;

use crate::browser::{Browser, EVIL, processes_of};
use crate::support::{EmbeddedTaskManager, Rig, StatusWorker, wait_for};

/// A task that says how far it is, and ends when there is a file `go`.
const SLOW: &str = "echo '{\"progress\":40,\"message\":\"page 4\"}' >&3; until [ -e go ]; do sleep 0.03; done; echo 1";

fn rig() -> Rig {
    Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 1), &[("case", "")])
}

/// A browser that shows the worker's page, where there is a browser.
fn look_at(worker: &StatusWorker) -> Option<Browser> {
    let browser = Browser::start()?;
    browser.open(&url(worker));
    browser.wait_for(&["Healthy"]);
    Some(browser)
}

fn url(worker: &StatusWorker) -> String {
    format!("http://{}/", worker.address)
}

#[test]
fn it_follows_a_task_to_its_end_without_being_loaded_again() {
    let rig = rig();
    let worker = StatusWorker::start(&rig, []);
    let Some(browser) = look_at(&worker) else { return };
    browser.wait_for(&["waiting for tasks", "None.", "None yet."]);
    browser.run("window.seen = 'from the start'");
    let id = rig.case("slow", SLOW);
    browser.wait_for(&["running 1 task", &format!("#{id} case"), "40 % page 4"]);
    assert_eq!(browser.run("return document.querySelector('progress').value"), 40);
    rig.sandbox.write("go", "");
    browser.wait_for(&["waiting for tasks", "completed in", "1 completed, 0 failed; 1 in the busiest minute"]);
    rig.case("bad", "echo 'no such host' >&2; exit 65");
    browser.wait_for(&["validation: no such host"]);
    assert_eq!(browser.run("return document.querySelectorAll('svg.chart rect').length"), 2);

    assert_eq!(browser.run("return window.seen"), "from the start");
    let requests = browser.requests();
    assert!(requests.len() > 2 && requests.iter().all(|it| *it == url(&worker)), "{requests:?}");
    assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new());
}

#[test]
fn no_script_runs_that_a_task_or_its_handler_has_brought() {
    let rig = rig();
    let worker = StatusWorker::start(&rig, []);
    let Some(browser) = look_at(&worker) else { return };
    let failure = json!({"success": false, "error": EVIL, "error_type": EVIL, "retryable": false});
    let progress = json!({"progress": 40, "message": EVIL});
    rig.sandbox.write("progress", format!("{progress}\n"));
    rig.sandbox.write("failure", failure.to_string());
    rig.script("evil", "cat progress >&3; until [ -e go ]; do sleep 0.03; done; cat failure");
    rig.taskmanager.create("case", json!({"case": "evil", "title": EVIL}));
    browser.wait_for(&[&format!("40 % {EVIL}")]);
    rig.sandbox.write("go", "");
    browser.wait_for(&[&format!("{EVIL}: {EVIL}"), &format!("failed ({EVIL})")]);
    // Also as a page that comes from the worker like this.
    browser.open(&url(&worker));
    browser.wait_for(&[&format!("{EVIL}: {EVIL}")]);
    assert_eq!(browser.run(Browser::BROUGHT_ALONG), json!(["undefined", 0, 0]));
    assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new(), "nothing was tried that the policy forbids");
}

#[test]
fn it_fits_a_phone_in_light_and_dark_mode() {
    let name = "Long.Name".repeat(8);
    let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 1), &[("case", ""), (&name, "")]);
    let worker = StatusWorker::start(&rig, ["--concurrency", "2"]);
    let Some(browser) = look_at(&worker) else { return };
    browser.become_a_phone();
    rig.case_of(&name, "bad", &format!("echo {} >&2; exit 65", "word".repeat(60)));
    rig.case("good", "echo 1");
    browser.wait_for(&["validation: word", "completed in"]);
    rig.case("slow", SLOW);
    browser.wait_for(&["40 % page 4"]);
    browser.assert_reads_well(390);
}

#[test]
fn it_works_without_scripts() {
    let rig = rig();
    let worker = StatusWorker::start(&rig, []);
    let Some(browser) = Browser::start() else { return };
    browser.disable_scripts();
    browser.open(&url(&worker));
    browser.wait_for(&["Healthy, waiting for tasks", "In flight", "Last hour", "Types", "Recent results"]);
    let id = rig.case("good", "echo 1");
    browser.wait_for(&[&format!("#{id} case"), "completed in"]);
}

#[test]
fn it_says_that_the_worker_is_gone() {
    let rig = rig();
    let worker = StatusWorker::start(&rig, []);
    let Some(browser) = look_at(&worker) else { return };
    browser.wait_for(&["Healthy"]);
    drop(worker);
    let away = "Connection lost; showing the last known state.";
    let shown = browser.wait_for(&[away, "Connection lost", "In flight"]);
    assert!(!shown.contains("Healthy"), "{shown}");
    let title = browser.run("return document.title");
    assert!(title.as_str().unwrap().ends_with(": connection lost"), "{title}");
    assert_eq!(browser.run("return document.querySelector('h1').className"), "state bad");
}

#[test]
fn nothing_is_left_of_a_browser_after_a_test_that_failed_either() {
    let Some(browser) = Browser::start() else { return };
    let folder = browser.folder().to_owned();
    assert!(processes_of(&folder).len() > 1, "the browser names its folder");
    let test = thread::Builder::new().name("a_test_that_fails_on_purpose".into());
    let failed = test.spawn(move || browser.open("no address")).unwrap().join();
    assert!(failed.is_err());
    wait_for("the end of all its processes", || processes_of(&folder).is_empty().then_some(()));
    assert!(!folder.exists());
}
