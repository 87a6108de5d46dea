//! The page for people: what it shows.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rusqlite::Connection;
use serde_json::json;

use crate::api::Api;
use crate::browser::Browser;
use crate::support::wait_for;

/// Reports on a task.
fn report(api: &Api, id: i64, worker: &str, success: bool) {
    let body = json!({"worker_id": worker, "success": success, "error": "no such host"});
    api.post(&format!("/tasks/{id}/complete"), body).data();
}

/// The ids of the tasks in a list, and where its next page is.
fn listed(browser: &Browser, path: &str) -> (Vec<i64>, Option<String>) {
    let page = browser.get(path).body;
    let links = page.split("href=\"").skip(1).filter_map(|rest| rest.split_once('"').map(|(link, _)| link));
    let ids = links.filter_map(|link| link.strip_prefix("/tasks/")?.parse().ok()).collect();
    (ids, link(&page, "next"))
}

/// Where a list goes on to newer tasks.
fn newer(browser: &Browser, path: &str) -> Option<String> {
    link(&browser.get(path).body, "prev")
}

fn link(page: &str, rel: &str) -> Option<String> {
    let (_, rest) = page.split_once(&format!("rel=\"{rel}\" href=\""))?;
    Some(rest.split('"').next()?.replace("&amp;", "&"))
}

#[test]
fn the_overview_warns_if_half_of_the_attempts_failed() {
    let api = Api::start_with(|settings| settings.max_attempts = 2);
    let browser = Browser::at(&api);
    let type_id = api.register_any("a.b");
    let traceback = "loading model\nTraceback (most recent call last):\n  File \"x.py\", line 1\nValueError: no";
    for n in 0..10 {
        api.create("a.b", json!({"n": n}));
        let fails = n < 5;
        for _ in 0..if fails { 2 } else { 1 } {
            let id = api.claim("one", type_id).data()["id"].as_i64().unwrap();
            let body = json!({"worker_id": "one", "success": !fails, "error": traceback});
            api.post(&format!("/tasks/{id}/complete"), body).data();
        }
        let level = if n < 9 { "state good" } else { "state warn" };
        browser.get("/").has(&[level]);
    }
    browser.get("/").has(&["Idle: no tasks pending or in flight, but 5 of the last hour's 10 tasks failed"]);
    api.create("a.b", json!({"waits": true}));
    browser.get("/").has(&["Tasks pending, no workers, and 5 of the last hour's 10 tasks failed"]);
    browser.get("/tasks?status=failed").has(&["ValueError: no | loading model | Traceback"]);
    browser.get("/tasks/1").has(&["ValueError: no | loading model | Traceback", "loading model\nTraceback"]);
}

#[test]
fn errors_are_shown_up_to_their_last_line() {
    let api = Api::start_with(|settings| settings.max_attempts = 2);
    let browser = Browser::at(&api);
    let type_id = api.register_any("a.b");
    let long =
        format!("start\0\n\x1b[31mTraceback (most recent call last):\n{}ValueError: no\x1b[0m", "  File\n".repeat(900));
    api.create("a.b", json!({}));
    for _ in 0..2 {
        let id = api.claim("one", type_id).data()["id"].as_i64().unwrap();
        api.post(&format!("/tasks/{id}/complete"), json!({"worker_id": "one", "success": false, "error": long})).data();
    }
    browser.get("/tasks?status=failed").has(&["ValueError: no |"]);
    let page = browser.get("/tasks/1").has(&["ValueError: no | start", "start\0\nTraceback", "ValueError: no</pre>"]);
    assert!(!page.body.contains('\x1b'));
    api.create("a.b", json!({"n": 2}));
    for _ in 0..2 {
        let id = api.claim("one", type_id).data()["id"].as_i64().unwrap();
        let body = json!({"worker_id": "one", "success": false, "error": "no \u{202e}exe.gpj"});
        api.post(&format!("/tasks/{id}/complete"), body).data();
    }
    browser.get("/tasks?status=failed").has(&["no \\u{202e}exe.gpj"]);
    browser.get("/tasks/2").has(&["no \\u{202e}exe.gpj"]);
}

#[test]
fn the_overview_shows_the_queue() {
    let api = Api::start_with(|settings| settings.max_attempts = 1);
    let browser = Browser::at(&api);
    browser.get("/").has(&["No task types registered yet", "No workers yet."]);
    let type_id = api.register_any("a.b");
    browser.get("/").has(&["Idle: no tasks pending or in flight"]);
    for n in 0..5 {
        api.create("a.b", json!({"n": n}));
    }
    browser.get("/").has(&["Tasks pending, no workers"]);
    for (id, worker) in [(1, "one"), (2, "two"), (3, "two")] {
        assert_eq!(api.claim(worker, type_id).data()["id"], json!(id));
    }
    report(&api, 1, "one", true);
    report(&api, 2, "two", false);
    let counts = |place: &str, status: &str| {
        format!("<a href=\"/tasks?status={status}\"><h2>{status}</h2><strong>{place}</strong></a>")
    };
    let page = browser.get("/").has(&[
        "Healthy, running tasks",
        &counts("2", "pending"),
        &counts("1", "claimed"),
        &counts("1", "completed"),
        "<strong class=\"bad-text\">1</strong>",
        "1 completed, 1 failed; 2 in the busiest minute",
        "<rect class=\"completed\" x=\"59\"",
        "href=\"/tasks?status=failed&amp;type=a%2Eb\">1</a>",
    ]);
    let workers = page.body.split_once("<h2>Workers</h2>").unwrap().1;
    let place = |worker: &str| workers.find(&format!("<td>{worker}</td>")).unwrap();
    assert!(place("two") < place("one"), "who claimed last comes first");
    assert!(workers.contains("<td>two</td><td class=\"number\">1</td>"), "{workers}");
}

#[test]
fn counts_follow_every_change() {
    let api = Api::start_with(|settings| {
        settings.max_attempts = 2;
        settings.claim_timeout = Some(Duration::from_millis(1));
    });
    let browser = Browser::at(&api);
    let type_id = api.register_any("a");
    let counts = || {
        let page = browser.get("/tasks").body;
        let tabs = page.split_once("<ul class=\"tabs\">").unwrap().1.split_once("</ul>").unwrap().0.to_owned();
        let numbers =
            tabs.split("<span class=\"soft\">").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned());
        numbers.map(|number| number.parse::<u32>().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(counts(), [0, 0, 0, 0, 0]);
    api.create("a", json!({"n": 1}));
    api.create("a", json!({"n": 1}));
    assert_eq!(counts(), [1, 0, 0, 0, 1], "the second was there");
    api.claim("w", type_id).data();
    assert_eq!(counts(), [0, 1, 0, 0, 1]);
    wait_for("the claim", || (api.claim("v", type_id).status == 200).then_some(()));
    assert_eq!(counts(), [0, 1, 0, 0, 1], "handed out again");
    report(&api, 1, "v", false);
    assert_eq!(counts(), [0, 0, 0, 1, 1]);
    // Another process: the counts in memory know nothing of it.
    let database = Connection::open(&api.settings.database).unwrap();
    database.execute("UPDATE tasks SET status = 'completed'", []).unwrap();
    wait_for("the counts", || (counts() == [0, 0, 1, 0, 1]).then_some(()));
}

#[test]
fn a_list_continues_after_its_last_task() {
    let api = Api::start();
    let browser = Browser::at(&api);
    api.register_any("a_b");
    api.register_any("axb");
    for n in 1..=120 {
        api.create(if n % 2 == 0 { "axb" } else { "a_b" }, json!({"n": n}));
    }
    let (first, next) = listed(&browser, "/tasks?status=pending");
    assert_eq!(first, (71..=120).rev().collect::<Vec<_>>());
    // What comes in between moves nothing.
    api.create("a_b", json!({"n": 121}));
    let (second, next) = listed(&browser, &next.unwrap());
    assert_eq!(second, (21..=70).rev().collect::<Vec<_>>());
    let (third, next) = listed(&browser, &next.unwrap());
    assert_eq!((third, next), ((1..=20).rev().collect(), None));
    // And back, to what came in between.
    let mut path = "/tasks?status=pending&before=21".to_owned();
    for expected in [21..=70, 71..=120, 121..=121] {
        path = newer(&browser, &path).unwrap();
        assert_eq!(listed(&browser, &path).0, expected.rev().collect::<Vec<_>>());
    }
    assert_eq!(newer(&browser, &path), None);
    assert_eq!(newer(&browser, "/tasks"), None);

    let (of_type, next) = listed(&browser, "/tasks?type=a_b");
    assert_eq!(of_type, (1..=121).rev().filter(|n| n % 2 == 1).take(50).collect::<Vec<_>>(), "the name is no pattern");
    assert_eq!(listed(&browser, &next.unwrap()), ((1..=21).rev().filter(|n| n % 2 == 1).collect(), None));
    let of_type = listed(&browser, &newer(&browser, "/tasks?type=a_b&before=21").unwrap()).0;
    assert_eq!(of_type, (21..=119).rev().filter(|n| n % 2 == 1).collect::<Vec<_>>());
    assert_eq!(listed(&browser, "/tasks?status=failed"), (Vec::new(), None));
    browser.get("/tasks?before=x").has(&["<h1>Tasks</h1>"]);
    let nonsense = browser.get("/tasks?status=nope").has(&["nope", "pending, claimed, completed, failed"]);
    assert_eq!(nonsense.status, 400);
}

#[test]
fn a_task_s_page_shows_its_history() {
    let api = Api::start_with(|settings| settings.max_attempts = 2);
    let browser = Browser::at(&api);
    let type_id = api.register_any("a");
    let id = api.create("a", json!({"deep": {"n": 1}}));
    let path = format!("/tasks/{id}");
    browser.get(&path).has(&["Task 1 · <span>pending</span>", "  &quot;deep&quot;: {\n", "0 attempts", "created"]);
    api.claim("first", type_id).data();
    api.post("/tasks/1/progress", json!({"worker_id": "first", "progress": 40})).data();
    browser.get(&path).has(&["value=\"40\"", "claim expires in 4 min", "<td>first</td>", "in flight"]);
    report(&api, id, "first", false);
    api.claim("second", type_id).data();
    browser.get(&path).has(&["<td>1</td><td>first</td>", ", retrying", "<td>2</td><td>second</td>"]);
    report(&api, id, "second", true);
    let page = browser.get(&path).has(&["<span>completed</span>", "2 attempts", "no such host"]).body;
    assert!(page.find("<td>2</td>") < page.find("<td>1</td>"), "the last comes first");
    assert!(!page.contains("Retry"), "only what failed");
}

#[test]
fn an_expired_claim_is_shown() {
    let api = Api::start_with(|settings| settings.claim_timeout = Some(Duration::from_millis(1)));
    let type_id = api.register_any("a");
    api.create("a", json!({}));
    api.claim("lost", type_id).data();
    let browser = Browser::at(&api);
    wait_for("the expiry on the page", || browser.get("/tasks/1").body.contains("claim expired").then_some(()));
    api.claim("next", type_id).data();
    browser.get("/tasks/1").has(&[
        "<td>1</td><td>lost</td>",
        "claim expired, claimed again",
        "<td>2</td><td>next</td>",
    ]);
}

#[test]
fn past_attempts_are_removed_with_their_task() {
    let api = Api::start_with(|settings| settings.retention = Some(Duration::from_millis(1)));
    let type_id = api.register_any("a");
    api.create("a", json!({}));
    for success in [false, true] {
        api.claim("w", type_id).data();
        report(&api, 1, "w", success);
    }
    let database = Connection::open(&api.settings.database).unwrap();
    let left = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        database.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    wait_for("the pruned task", || (left("tasks") == 0).then_some(()));
    assert_eq!(left("past_attempts"), 0);
    assert_eq!(Browser::at(&api).get("/tasks/1").status, 404);
}

#[test]
fn task_data_is_escaped() {
    const EVIL: &str = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'";
    let api = Api::start_with(|settings| settings.max_attempts = 1);
    let browser = Browser::at(&api);
    let schema =
        json!({"type": "object", "properties": {EVIL: {"type": "string", "description": EVIL, "default": EVIL}}});
    let type_id = api.register(EVIL, schema);
    let id = api.create(EVIL, json!({EVIL: EVIL}));
    api.claim(EVIL, type_id).data();
    api.post(
        &format!("/tasks/{id}/complete"),
        json!({"worker_id": EVIL, "success": false, "error": EVIL, "result": {EVIL: EVIL}}),
    )
    .data();
    let new = format!("/new?type={}", utf8_percent_encode(EVIL, NON_ALPHANUMERIC));
    for path in ["/", "/tasks", "/tasks?status=failed", "/tasks/1", "/new", &new, "/%3Cscript%3Ealert(1)"] {
        let page = browser.get(path).body;
        assert!(!page.contains("<script>alert") && !page.contains("<img"), "{path}: {page}");
        assert!(page.matches("<script").count() <= 1, "{path}: its own");
        assert!(!page.contains("style=") && !page.contains("onerror=alert(2)>\""), "{path}: {page}");
    }
    browser.get("/tasks/1").has(&["&lt;script&gt;alert(1)"]);
}

#[test]
fn long_params_are_truncated_on_the_page() {
    let api = Api::start();
    api.register_any("a");
    api.create("a", json!({"text": "x".repeat(1 << 20)}));
    let page = Browser::at(&api).get("/tasks/1").has(&["Truncated (1,048,587 characters in total)", "show-task 1"]);
    assert!(page.body.len() < 100_000, "{}", page.body.len());
}

#[test]
fn the_browser_is_restricted_to_what_the_page_needs() {
    let api = Api::start();
    api.register_any("a");
    api.create("a", json!({}));
    let browser = Browser::at(&api);
    for path in ["/", "/tasks", "/tasks/1", "/new", "/new?type=a", "/nothing"] {
        let page = browser.get(path);
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("form-action 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        for (name, value) in
            [("cache-control", "no-store"), ("x-content-type-options", "nosniff"), ("referrer-policy", "same-origin")]
        {
            assert_eq!(page.header(name), Some(value), "{path}");
        }
        for elsewhere in ["http://", "https://", "\"//", "src="] {
            assert!(!page.body.contains(elsewhere), "{elsewhere}: {}", page.body);
        }
    }
}

#[test]
fn unknown_pages_are_not_found() {
    let api = Api::start();
    let browser = Browser::at(&api);
    for path in ["/nothing", "/tasks/999", "/tasks/x", "/new?type=nothing", "/apis", "/tasks/"] {
        let page = browser.get(path);
        assert_eq!((page.status, page.header("content-type")), (404, Some("text/html; charset=utf-8")), "{path}");
    }
    let head = browser.send("HEAD", "/", &[], "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for method in ["PUT", "DELETE", "OPTIONS"] {
        assert_eq!(browser.send(method, "/", &[], "").status, 404, "{method}");
    }
    assert_eq!(browser.post("/tasks/1", &[]).status, 404);
    assert_eq!(browser.get("/api").header("content-type"), Some("application/json"));
}

#[test]
fn faults_spare_the_page() {
    let api = Api::start_with(|settings| settings.faults.html = 1.0);
    assert_eq!(api.server.page_url(), format!("http://{}/", api.server.address()));
    Browser::at(&api).get("/").has(&["No task types registered yet"]);
}
