//! The page for people: whom it is shown to, and whose forms count.

use serde_json::json;

use crate::api::Api;
use crate::browser::Browser;
use crate::support::Exchange;

const KEY: &str = "s3cret key";

fn with_key() -> (Api, Browser) {
    let api = Api::start_with(|settings| {
        settings.api_key = Some(KEY.to_owned());
        settings.max_attempts = 1;
    });
    let call = |path: &str, body: serde_json::Value| {
        api.send("POST", path, &[("X-API-Key", KEY)], &body.to_string()).data();
    };
    call("/task-types/register", json!({"name": "a", "version": "1", "param_schema": {"type": "object"}}));
    call("/tasks", json!({"type": "a", "params": {"secret": "hush"}}));
    let browser = Browser::at(&api);
    (api, browser)
}

/// Asserts that the key is asked for, and nothing else told.
#[track_caller]
fn is_asked_for(page: &Exchange) {
    assert_eq!(page.status, 401, "{}", page.body);
    assert!(page.body.contains("name=\"key\"") && !page.body.contains("hush"), "{}", page.body);
    assert!(!page.body.contains("/tasks?status="), "{}", page.body);
}

/// How many tasks there are.
fn tasks(api: &Api) -> usize {
    api.send("GET", "/tasks", &[("X-API-Key", KEY)], "").data().as_array().unwrap().len()
}

#[test]
fn without_the_key_nothing_is_shown_or_changed() {
    let (api, browser) = with_key();
    for path in ["/", "/tasks", "/tasks/1", "/tasks/999", "/new", "/new?type=a", "/nothing"] {
        is_asked_for(&browser.get(path));
    }
    let new = [("type", "a"), ("json", "{\"n\": 1}")];
    is_asked_for(&browser.post("/new", &new));
    is_asked_for(&browser.post("/tasks/1/put-back", &[]));
    for cookie in ["prismq-1=x", &format!("prismq-{}=", browser.address.port()), &format!("key={KEY}")] {
        let headers = vec![("Cookie".to_owned(), cookie.to_owned())];
        is_asked_for(&Browser { headers, ..Browser::at(&api) }.get("/"));
    }
    assert_eq!(tasks(&api), 1);
}

#[test]
fn signing_in_gives_a_cookie_that_is_not_the_key() {
    let (api, browser) = with_key();
    browser.get("/tasks/1").has(&["name=\"next\" value=\"/tasks/1\""]);
    let answer = browser.post("/sign-in", &[("key", KEY), ("next", "/tasks/1")]);
    answer.leads_to("/tasks/1");
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains("s3cret"), "{cookie}");
    let browser = browser.signed_in(KEY);
    browser.get("/tasks/1").has(&["hush", "Sign out"]);
    browser.post("/new", &[("type", "a"), ("json", "{\"n\": 1}")]).leads_to("/tasks/2?is=new");
    assert_eq!(tasks(&api), 2);
    let cookie = &browser.headers[0].1;
    assert_eq!(api.send("GET", "/tasks", &[("Cookie", cookie)], "").status, 401, "the API wants the key itself");
}

#[test]
fn a_wrong_key_signs_nobody_in() {
    let (_api, browser) = with_key();
    for key in ["", "s3cret", "S3CRET KEY"] {
        let answer = browser.post("/sign-in", &[("key", key)]);
        is_asked_for(&answer);
        assert_eq!(answer.header("set-cookie"), None);
        answer.has(&["Wrong key."]);
    }
}

#[test]
fn signing_in_leads_to_pages_of_this_server_only() {
    let (_api, browser) = with_key();
    for elsewhere in ["//example.com/", "https://example.com", "/\\example.com", "tasks", ""] {
        browser.post("/sign-in", &[("key", KEY), ("next", elsewhere)]).leads_to("/");
    }
}

#[test]
fn signing_out_ends_the_session() {
    let (_api, browser) = with_key();
    let browser = browser.signed_in(KEY);
    assert_eq!(browser.get("/").status, 200);
    let answer = browser.post("/sign-out", &[]);
    answer.leads_to("/");
    assert!(answer.header("set-cookie").unwrap().contains("=; Path=/; Max-Age=0;"));
    is_asked_for(&browser.get("/"));
}

#[test]
fn behind_an_https_proxy_the_cookie_is_secure() {
    let (_api, mut browser) = with_key();
    browser.form_headers = vec![("Origin".into(), "https://tasks.example.com".into())];
    browser.host = "tasks.example.com".to_owned();
    let answer = browser.post("/sign-in", &[("key", KEY)]);
    assert!(answer.header("set-cookie").unwrap().ends_with("; Secure"));
}

#[test]
fn forms_of_other_sites_do_not_count() {
    let (api, browser) = with_key();
    let browser = browser.signed_in(KEY);
    let address = browser.address;
    let new = [("type", "a"), ("json", "{\"n\": 1}")];
    let refused = |browser: &Browser| {
        for (path, fields) in [("/new", &new[..]), ("/tasks/1/put-back", &[]), ("/sign-out", &[]), ("/sign-in", &[])] {
            let page = browser.post(path, fields);
            assert_eq!(page.status, 403, "{path}");
            page.has(&["This form was not sent from this page"]);
        }
    };
    let own = format!("http://{address}");
    let mut browser = browser;
    for (name, value) in [
        ("Origin", "https://example.com"),
        ("Origin", "null"),
        ("Origin", "http://127.0.0.1:1"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Sec-Fetch-Site", "none"),
        ("X-Nothing", "said"),
    ] {
        browser = browser.with_form_header(name, value);
        refused(&browser);
    }
    browser.form_headers.push(("Sec-Fetch-Site".to_owned(), "cross-site".to_owned()));
    browser.form_headers.push(("Origin".to_owned(), own.clone()));
    refused(&browser);
    assert_eq!((browser.get("/").status, tasks(&api)), (200, 1));
    browser = browser.with_form_header("Sec-Fetch-Site", "same-origin");
    browser.post("/new", &new).leads_to("/tasks/2?is=new");
}

#[test]
fn without_a_key_only_this_machine_is_shown_anything() {
    let api = Api::start();
    api.register_any("a");
    let browser = |host: &str| Browser { host: host.to_owned(), ..Browser::at(&api) };
    for host in ["rebound.example.com", "10.0.0.1:8000", ""] {
        let browser = browser(host).with_form_header("Origin", &format!("http://{host}"));
        for path in ["/", "/tasks", "/new?type=a"] {
            assert_eq!(browser.get(path).status, 403, "{host}");
        }
        assert_eq!(browser.post("/new", &[("type", "a"), ("json", "{}")]).status, 403, "{host}");
    }
    let mut browser = browser("localhost:8000");
    assert_eq!(browser.get("/").status, 200);
    assert!(!browser.get("/").body.contains("Sign out"));
    assert_eq!(browser.post("/new", &[("type", "a"), ("json", "{}")]).status, 403, "from 127.0.0.1, to localhost");
    browser = browser.with_form_header("Origin", "http://localhost:8000");
    browser.post("/new", &[("type", "a"), ("json", "{}")]).leads_to("/tasks/1?is=new");
    browser.post("/sign-in", &[("key", "any")]).leads_to("/");
}
