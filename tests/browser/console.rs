//! The page of the embedded TaskManager.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use prismq::internals::server::Settings;
use serde_json::{Value, json};

use crate::browser::{Browser, EVIL};
use crate::support::{EmbeddedTaskManager, Rig, wait_for};

/// One failure is the end of a task.
fn rig() -> Rig {
    Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 1), &[("case", "")])
}

const KEY: &str = "s3cret";

/// The same behind a key, which its workers have.
fn locked_rig() -> Rig {
    let locked = |settings: &mut Settings| (settings.max_attempts, settings.api_key) = (1, Some(KEY.into()));
    let Rig { taskmanager, sandbox } = Rig::of(EmbeddedTaskManager::with(locked), &[("case", "")]);
    Rig { taskmanager, sandbox: sandbox.env("TASKMANAGER_API_KEY", KEY) }
}

fn url(rig: &Rig, path: &str) -> String {
    format!("{}{path}", rig.taskmanager.url().strip_suffix("/api").unwrap())
}

/// A browser that shows this page, where there is a browser.
fn look_at(rig: &Rig, path: &str) -> Option<Browser> {
    let browser = Browser::start()?;
    browser.open(&url(rig, path));
    Some(browser)
}

/// Types into the field of that id.
fn type_into(browser: &Browser, id: &str, text: &str) {
    browser.run(&format!("document.getElementById({}).value = {}", json!(id), json!(text)));
}

/// Presses the button of the page's form.
fn press(browser: &Browser) {
    browser.run("document.querySelector('main form button').click()");
}

/// Shows the page that asks for a key this one.
fn sign_in(browser: &Browser, key: &str) {
    browser.wait_for(&["Sign in", "API key"]);
    type_into(browser, "key", key);
    press(browser);
}

fn new_path(task_type: &str) -> String {
    format!("/new?type={}", utf8_percent_encode(task_type, NON_ALPHANUMERIC))
}

#[test]
fn it_follows_the_queue_without_being_loaded_again() {
    let rig = rig();
    let Some(browser) = look_at(&rig, "/") else { return };
    browser.wait_for(&["Idle: no tasks pending or in flight", "No finished tasks.", "No workers yet."]);
    browser.run("window.seen = 'from the start'");
    let counts = || browser.run("return [...document.querySelectorAll('.tiles strong')].map((it) => it.innerText)");
    let wait_for_counts = |expected: [&str; 4]| {
        wait_for(&format!("{expected:?}"), || (counts() == json!(expected)).then_some(()));
    };
    rig.case("good", "echo 1");
    rig.case("bad", "exit 65");
    wait_for_counts(["2", "0", "0", "0"]);
    browser.wait_for(&["Tasks pending, no workers"]);
    rig.drain();
    wait_for_counts(["0", "0", "1", "1"]);
    browser.wait_for(&["1 completed, 1 failed", "worker-1"]);
    assert_eq!(browser.run("return document.querySelectorAll('svg.chart rect').length"), 2);

    assert_eq!(browser.run("return window.seen"), "from the start");
    let requests = browser.requests();
    assert!(requests.len() > 2 && requests.iter().all(|it| *it == url(&rig, "/")), "{requests:?}");
    assert_eq!(browser.complaints(), Vec::<Value>::new());
}

/// Lets what a page does again and again happen all the time, and counts the beats of that time.
const HASTE: &str = "const every = setInterval; window.beats = 0; every(() => { beats += 1; }, 20);
    window.setInterval = (run) => every(run, 20);";

/// Waits for so long that a page in [`HASTE`] is up to date several times over.
fn wait_for_beats(browser: &Browser) {
    let beats = || browser.run("return window.beats").as_u64().unwrap();
    let start = beats();
    wait_for("the beats", || (beats() > start + 50).then_some(()));
}

#[test]
fn refreshes_keep_typed_text_and_focused_buttons() {
    let rig = rig();
    rig.taskmanager.create("case", json!({"case": "bad"}));
    rig.script("bad", "exit 65");
    rig.drain();
    let Some(browser) = Browser::start() else { return };
    browser.run_before_pages(HASTE);
    browser.open(&url(&rig, &new_path("case")));
    type_into(&browser, "json", "{\"half a");
    wait_for_beats(&browser);
    assert_eq!(browser.run("return document.getElementById('json').value"), "{\"half a");

    browser.open(&url(&rig, "/tasks/1"));
    browser.run("window.button = document.querySelector('main button'); button.focus()");
    wait_for_beats(&browser);
    assert_eq!(browser.run("return button.isConnected"), true);
    browser.run("button.blur()");
    wait_for("the page to go on", || (browser.run("return button.isConnected") == false).then_some(()));
}

#[test]
fn a_task_that_the_form_creates_is_worked() {
    let rig = rig();
    let properties = json!({"case": {"type": "string"}, "limit": {"type": "integer", "default": 20}});
    let schema = json!({"type": "object", "required": ["case"], "properties": properties});
    rig.taskmanager.client().register_type("case", "1.0.1", &schema).unwrap();
    rig.script("good", "cat >&2; echo '{\"found\":\"it\"}'");
    let Some(browser) = look_at(&rig, "/new") else { return };
    browser.run("document.querySelector('main a').click()");
    browser.wait_for(&["New task: case"]);
    press(&browser);
    assert_eq!(browser.run("return document.querySelector('input:invalid').id"), "params.case", "it is required");
    type_into(&browser, "params.case", "good");
    type_into(&browser, "params.limit", "many");
    press(&browser);
    browser.wait_for(&["see the marked field"]);
    assert_eq!(browser.run("return document.querySelector('[aria-invalid]').value"), "many");
    assert_eq!(browser.run("return document.getElementById('params.case').value"), "good");
    type_into(&browser, "params.limit", "7");
    press(&browser);
    browser.wait_for(&["Created.", "Task 1 · pending", "\"case\": \"good\"", "\"limit\": 7"]);
    rig.drain();
    browser.wait_for(&["Task 1 · completed", "\"found\": \"it\""]);
}

#[test]
fn a_failed_task_is_retried() {
    let rig = rig();
    rig.case("bad", "echo 'no such host' >&2; exit 65");
    let Some(browser) = look_at(&rig, "/tasks/1") else { return };
    browser.wait_for(&["Task 1 · pending"]);
    rig.drain();
    browser.wait_for(&["Task 1 · failed", "no such host", "Starts over"]);
    press(&browser);
    browser.wait_for(&["Queued for retry.", "Task 1 · pending", "retried by hand"]);
    rig.script("bad", "echo 1");
    rig.drain();
    browser.wait_for(&["Task 1 · completed"]);
}

#[test]
fn only_the_key_opens_the_console() {
    let mut rig = locked_rig();
    let Some(browser) = look_at(&rig, "/tasks?status=pending") else { return };
    sign_in(&browser, "secret");
    browser.wait_for(&["Wrong key."]);
    sign_in(&browser, KEY);
    browser.wait_for(&["Tasks", "None.", "Sign out"]);
    assert_eq!(browser.run("return location.search"), "?status=pending");
    assert_eq!(browser.run("return document.cookie"), "", "no script can read it");
    browser.run("document.querySelector('header button').click()");
    sign_in(&browser, KEY);
    browser.wait_for(&["Idle: no tasks pending"]);
    // It knows nobody any more.
    rig.taskmanager.stop();
    browser.wait_for(&["Connection lost; showing the last known state."]);
    rig.taskmanager.restart();
    sign_in(&browser, KEY);
    browser.wait_for(&["Idle: no tasks pending"]);
}

#[test]
fn no_script_runs_that_a_task_or_its_type_has_brought() {
    let rig = rig();
    let evil =
        json!({"type": "object", "properties": {EVIL: {"type": "string", "description": EVIL, "default": EVIL}}});
    rig.taskmanager.client().register_type(EVIL, "1.0.0", &evil).unwrap();
    rig.taskmanager.create(EVIL, json!({EVIL: EVIL}));
    let failure = json!({"success": false, "error": EVIL, "error_type": EVIL, "retryable": false});
    rig.sandbox.write("failure", failure.to_string());
    rig.case("evil", "cat failure");
    rig.drain();
    let Some(browser) = Browser::start() else { return };
    let new = new_path(EVIL);
    for path in ["/", "/tasks", "/tasks?status=failed", "/tasks/1", "/tasks/2", "/new", &new] {
        browser.open(&url(&rig, path));
        browser.wait_for(&[EVIL]);
        assert_eq!(browser.run(Browser::BROUGHT_ALONG), json!(["undefined", 0, 0]), "{path}");
    }
    assert_eq!(browser.complaints(), Vec::<Value>::new(), "nothing was tried that the policy forbids");
}

#[test]
fn every_page_is_self_contained_and_fits_a_phone() {
    let name = "Long.Name".repeat(8);
    let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 1), &[("case", ""), (&name, "")]);
    rig.case_of(&name, "bad", &format!("echo {} >&2; exit 65", "word".repeat(60)));
    rig.taskmanager.create("case", json!({"case": "good", "text": "word".repeat(60)}));
    rig.script("good", "echo 1");
    rig.drain();
    rig.taskmanager.create(&name, json!({}));
    let locked_rig = locked_rig();
    let Some(browser) = Browser::start() else { return };
    browser.become_a_phone();
    let new = new_path(&name);
    for path in ["/", "/tasks", "/tasks?status=failed", "/tasks/1", "/tasks/2", "/new", &new] {
        browser.open(&url(&rig, path));
        browser.assert_reads_well(390);
    }
    let requests = browser.requests();
    assert!(requests.len() >= 7 && requests.iter().all(|it| it.starts_with(&url(&rig, "/"))), "{requests:?}");
    assert_eq!(browser.complaints(), Vec::<Value>::new());

    browser.open(&url(&locked_rig, "/"));
    browser.assert_reads_well(390);
    sign_in(&browser, "secret");
    browser.wait_for(&["Wrong key."]);
    browser.assert_reads_well(390);
}

#[test]
fn all_that_can_be_done_there_can_be_done_without_scripts() {
    let rig = locked_rig();
    rig.script("bad", "exit 65");
    let Some(browser) = Browser::start() else { return };
    browser.disable_scripts();
    browser.open(&url(&rig, &new_path("case")));
    sign_in(&browser, KEY);
    browser.wait_for(&["New task: case"]);
    type_into(&browser, "json", "{\"case\":\"bad\"}");
    press(&browser);
    browser.wait_for(&["Created.", "Task 1 · pending"]);
    rig.drain();
    // By then it has loaded itself again.
    browser.wait_for(&["Task 1 · failed", "Starts over"]);
    press(&browser);
    browser.wait_for(&["Queued for retry.", "Task 1 · pending"]);
    browser.run("document.querySelector('header button').click()");
    browser.wait_for(&["Sign in", "API key"]);
}
