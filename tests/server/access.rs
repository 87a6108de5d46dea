//! Who may call.

use serde_json::json;

use crate::api::Api;

const KEY: &str = "s3cret";

fn with_key() -> Api {
    Api::start_with(|settings| settings.api_key = Some(KEY.to_owned()))
}

#[test]
fn the_key_is_required_if_there_is_one() {
    let api = with_key();
    for headers in [&[][..], &[("X-API-Key", "wrong")], &[("X-API-Key", "")], &[("Authorization", KEY)]] {
        for path in ["/tasks", "/task-types/a", "/nothing/here"] {
            let answer = api.send("GET", path, headers, "");
            assert_eq!(answer.status, 401);
            let time = answer.body["timestamp"].as_str().unwrap();
            assert!(time.ends_with("+00:00") && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
            let message = "Invalid or missing API key. Include X-API-Key header with your request.";
            assert_eq!(answer.body, json!({"error": "Unauthorized", "message": message, "timestamp": time}));
        }
    }
    assert_eq!(api.send("POST", "/tasks", &[], "{}").status, 401);
}

#[test]
fn the_key_is_accepted() {
    let api = with_key();
    assert_eq!(api.send("GET", "/tasks", &[("X-API-Key", KEY)], "").data(), json!([]));
    // Whoever has the key may come from a web page as well.
    let headers = [("X-API-Key", KEY), ("Origin", "https://example.com"), ("Host", "tasks.example.com")];
    assert_eq!(api.send("GET", "/tasks", &headers, "").data(), json!([]));
}

#[test]
fn the_health_needs_no_key() {
    let api = with_key();
    let health = api.get("/health").data();
    assert!(health["timestamp"].is_i64());
    let features = json!(["batch", "renew"]);
    let timestamp = &health["timestamp"];
    let expected = json!({"status": "healthy", "timestamp": timestamp, "database": "connected", "features": features});
    assert_eq!(health, expected);
}

#[test]
fn an_empty_key_is_none() {
    let api = Api::start_with(|settings| settings.api_key = Some(String::new()));
    assert_eq!(api.get("/tasks").data(), json!([]));
}

#[test]
fn web_pages_cannot_use_a_server_without_a_key() {
    let api = Api::start();
    // As a page of another site posts, and as one does whose name leads to this machine.
    for header in [("Origin", "https://example.com"), ("Origin", "null"), ("Host", "rebound.example.com:8000")] {
        let answer = api.send("POST", "/tasks", &[header], "{}");
        assert_eq!((answer.status, &answer.body["error"]), (403, &json!("Forbidden")), "{header:?}");
    }
    api.send("POST", "/tasks", &[("Host", "localhost:8000")], "{}").assert_error(400, "Missing required field: type");
}
