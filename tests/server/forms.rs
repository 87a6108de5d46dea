//! The page for people: what can be done there.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::api::Api;
use crate::browser::Browser;
use crate::support::wait_for;

/// A server with a type that has a field of each kind.
fn with_type() -> (Api, Browser) {
    let api = Api::start();
    api.register(
        "a.b",
        json!({
            "type": "object",
            "required": ["url"],
            "properties": {
                "url": {"type": "string", "description": "Where it is.", "minLength": 3},
                "limit": {"type": "integer", "maximum": 50, "default": 20},
                "share": {"type": "number"},
                "deep": {"type": "boolean"},
                "size": {"enum": ["small", "large"]},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
        }),
    );
    let browser = Browser::at(&api);
    (api, browser)
}

#[test]
fn a_form_has_the_fields_of_the_schema() {
    let (_api, browser) = with_type();
    browser.get("/new").has(&["<a href=\"/new?type=a%2Eb\">a.b</a>"]);
    let page = browser.get("/new?type=a.b").has(&[
        "<input id=\"params.url\" name=\"params.url\" value=\"\"",
        "Where it is.",
        "name=\"params.limit\" value=\"20\" inputmode=\"decimal\"",
        "<option value=\"true\">true</option>",
        "<option value=\"&quot;small&quot;\">small</option>",
        "<textarea id=\"params.tags\"",
    ]);
    let required: Vec<_> = page.body.split("<input").filter(|input| input.contains(" required")).collect();
    assert!(required.len() == 1 && required[0].contains("params.url"), "{required:?}");
    assert!(!page.body.contains("data-live"), "what is typed is not replaced");
}

#[test]
fn a_task_is_created_from_what_was_typed() {
    let (api, browser) = with_type();
    let fields = [
        ("type", "a.b"),
        ("params.url", "x & y"),
        ("params.limit", "7"),
        ("params.share", "0.5"),
        ("params.deep", "false"),
        ("params.size", "\"large\""),
        ("params.tags", "[\"a\"]"),
        ("priority", "3"),
    ];
    browser.post("/new", &fields).leads_to("/tasks/1?is=new");
    let task = api.task(1);
    let params = json!({"url": "x & y", "limit": 7, "share": 0.5, "deep": false, "size": "large", "tags": ["a"]});
    assert_eq!((&task["params"], &task["priority"], &task["status"]), (&params, &json!(3), &json!("pending")));
    browser.get("/tasks/1?is=new").has(&["Created."]);
    browser.post("/new", &fields).leads_to("/tasks/1?is=old");
    browser.get("/tasks/1?is=old").has(&["this task already exists with the same params"]);

    browser.post("/new", &[("type", "a.b"), ("params.url", "bare"), ("params.limit", "")]).leads_to("/tasks/2?is=new");
    assert_eq!(api.task(2)["params"], json!({"url": "bare"}), "what is empty is left out");
    browser.post("/new", &[("type", "a.b"), ("json", "{\"url\": \"free\", \"more\": {}}")]).leads_to("/tasks/3?is=new");
    assert_eq!(api.task(3)["params"], json!({"url": "free", "more": {}}));
}

#[test]
fn schema_violations_are_shown_at_their_field_and_input_is_kept() {
    let (api, browser) = with_type();
    let wrong = |fields: &[(&str, &str)], field: &str, error: &str| {
        let page = browser.post("/new", &[&[("type", "a.b")], fields].concat());
        assert_eq!(page.status, 400, "{error}");
        let at_field = page.body.split_once(&format!("<label for=\"params.{field}\">")).unwrap().1;
        let at_field = at_field.split("<label").next().unwrap();
        assert!(at_field.contains("aria-invalid=\"true\"") && at_field.contains(error), "{error}: {at_field}");
        page
    };
    let page =
        wrong(&[("params.url", "kept \"so\""), ("params.limit", "99")], "limit", ">value is greater than the max");
    page.has(&["value=\"kept &quot;so&quot;\"", "value=\"99\"", "see the marked field"]);
    wrong(&[("params.limit", "5")], "url", "is a required property");
    wrong(&[("params.url", "xyz"), ("params.limit", "many")], "limit", "is not of type");
    wrong(&[("params.url", "xyz"), ("params.size", "\"huge\"")], "size", "value");
    wrong(&[("params.url", "xyz"), ("params.tags", "[5]")], "tags", "/0: ");
    wrong(&[("params.url", "xyz"), ("params.tags", "[5")], "tags", "not valid JSON");

    let page = browser.post("/new", &[("type", "a.b"), ("json", "{\"url\": \"x\"}")]);
    assert_eq!(page.status, 400);
    page.has(&["/url: ", "{&quot;url&quot;: &quot;x&quot;}</textarea>"]);
    browser.post("/new", &[("type", "a.b"), ("json", "[1]")]).has(&["the params are not a JSON object"]);
    browser.post("/new", &[("type", "a.b"), ("params.url", "xyz"), ("priority", "high")]).has(&["Not a whole number"]);
    assert_eq!(browser.post("/new", &[("type", "nothing")]).status, 404);
    assert_eq!(browser.post("/new", &[]).status, 404);
    assert_eq!(api.get("/tasks").data(), json!([]));
}

#[test]
fn all_errors_of_a_form_are_shown_at_once() {
    let (api, browser) = with_type();
    let typed = [("type", "a.b"), ("params.limit", "99"), ("params.tags", "[5"), ("priority", "high")];
    let page = browser.post("/new", &typed).has(&["Not created: see the 4 marked fields."]);
    assert_eq!((page.status, page.body.matches("aria-invalid=\"true\"").count()), (400, 4));
    page.has(&["is a required property", "greater than the maximum", "not valid JSON", "Not a whole number."]);

    api.register(
        "a.pair",
        json!({"type": "object", "properties": {"one": {"type": "integer"}, "two": {}}, "minProperties": 2}),
    );
    let typed = [("type", "a.pair"), ("params.one", "x")];
    browser.post("/new", &typed).has(&["Not created: value has less than 2 properties; see the marked field."]);
}

#[test]
fn a_type_without_properties_takes_json() {
    let api = Api::start();
    api.register_any("a");
    let browser = Browser::at(&api);
    browser.get("/new?type=a").has(&["<textarea id=\"json\" name=\"json\""]);
    browser.post("/new", &[("type", "a"), ("json", "{\r\n  \"n\": 1\r\n}")]).leads_to("/tasks/1?is=new");
    assert_eq!(api.task(1)["params"], json!({"n": 1}));
}

/// Has the task fail as often as it may.
fn fail(api: &Api, type_id: i64, times: u32) {
    for time in 1..=times {
        let claimed = api.claim("w", type_id).data();
        assert_eq!(claimed["attempts"], json!(time));
        api.post("/tasks/1/complete", json!({"worker_id": "w", "success": false, "error": format!("no {time}")}))
            .data();
    }
}

#[test]
fn a_retried_task_starts_over_as_new() {
    let api = Api::start();
    let type_id = api.register_any("a");
    api.create("a", json!({}));
    let browser = Browser::at(&api);
    fail(&api, type_id, 3);
    browser.get("/tasks/1").has(&["action=\"/tasks/1/put-back\"", "Retry", "<pre class=\"bad-text\">no 3"]);
    browser.post("/tasks/1/put-back", &[]).leads_to("/tasks/1?is=back");
    let task = api.task(1);
    assert_eq!((&task["status"], &task["attempts"], &task["claimed_by"]), (&json!("pending"), &json!(0), &json!(null)));
    assert_eq!((&task["error_message"], &task["completed_at"]), (&json!("no 3"), &json!(null)));
    browser.get("/tasks/1").has(&["retried by hand", "Error of the previous attempt", "no 1", "no 2"]);
    // It has all its attempts again.
    fail(&api, type_id, 3);
    assert_eq!(api.task(1)["status"], json!("failed"));
}

#[test]
fn a_waiting_claim_gets_a_retried_task() {
    let api = Api::start_with(|settings| settings.max_attempts = 1);
    let type_id = api.register_any("a");
    api.create("a", json!({}));
    fail(&api, type_id, 1);
    let browser = Browser::at(&api);
    let client = api.client();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let claim = json!({"worker_id": "waiting-one", "task_type_id": type_id}).to_string();
            client.send("POST", "/tasks/claim", &[("Prefer", "wait=20")], &claim).data()
        });
        wait_for("the waiting worker on the page", || {
            browser.get("/").body.contains("waiting-one<span class=\"soft\"> polling").then_some(())
        });
        let start = Instant::now();
        browser.post("/tasks/1/put-back", &[]).leads_to("/tasks/1?is=back");
        assert_eq!(waiting.join().unwrap()["id"], json!(1));
        assert!(start.elapsed() < Duration::from_secs(10), "it is told, and does not find it when its wait ends");
    });
}

#[test]
fn only_failed_tasks_can_be_retried() {
    let api = Api::start();
    let type_id = api.register_any("a");
    api.create("a", json!({}));
    let browser = Browser::at(&api);
    let refused = |status: &str| {
        let page = browser.post("/tasks/1/put-back", &[]);
        assert_eq!(page.status, 400, "{status}");
        page.has(&["Task is not in failed state"]);
        assert_eq!(api.task(1)["status"], json!(status));
    };
    refused("pending");
    api.claim("w", type_id).data();
    refused("claimed");
    api.post("/tasks/1/complete", json!({"worker_id": "w", "success": true})).data();
    refused("completed");
    assert_eq!(browser.post("/tasks/2/put-back", &[]).status, 404);
}
