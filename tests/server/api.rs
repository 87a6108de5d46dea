//! A server on a free port with a file of its own, and a client for it.

use std::path::PathBuf;
use std::time::Duration;

use prismq::internals::server::{Server, Settings};
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;
use ureq::http::Request;

/// A server under test. Its file goes with it.
pub(crate) struct Api {
    pub(crate) server: Server,
    pub(crate) settings: Settings,
    pub(crate) folder: TempDir,
    client: Client,
}

/// What came back: the status and the body.
#[derive(Debug, PartialEq)]
pub(crate) struct ApiResponse {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl ApiResponse {
    /// The data of a success.
    #[track_caller]
    pub(crate) fn data(mut self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        assert_eq!(self.body["success"], json!(true));
        assert_eq!(self.body["message"], json!("Success"));
        assert!(self.body["timestamp"].as_i64().is_some_and(|seconds| seconds > 1_700_000_000), "{}", self.body);
        self.body["data"].take()
    }

    /// Asserts an error without details.
    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, error: &str) {
        self.assert_failure(status, error);
        assert_eq!(self.body.get("details"), None);
    }

    /// Asserts that a value was refused, and why.
    #[track_caller]
    pub(crate) fn assert_invalid(&self, detail: &str) {
        self.assert_failure(400, "Validation failed");
        assert_eq!(self.body["details"], json!([detail]));
    }

    /// Asserts that the body was refused, with `part` in why.
    #[track_caller]
    pub(crate) fn assert_unreadable(&self, part: &str) {
        self.assert_failure(400, "Invalid JSON in request body");
        let detail = self.body["details"][0].as_str().unwrap();
        assert!(detail.starts_with("The request body is ") && detail.contains(part), "{detail}, not {part}");
    }

    #[track_caller]
    fn assert_failure(&self, status: u16, error: &str) {
        assert_eq!((self.status, self.body["error"].as_str()), (status, Some(error)), "{}", self.body);
        assert_eq!(self.body["success"], json!(false));
        assert!(self.body["timestamp"].is_i64(), "{}", self.body);
    }
}

/// Settings for a server of one test: loopback, any free port, no key.
pub(crate) fn settings(database: PathBuf) -> Settings {
    Settings::new("127.0.0.1:0".parse().unwrap(), database)
}

impl Api {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| ())
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path().join("tasks.db"));
        change(&mut settings);
        let server = Server::start(&settings).unwrap();
        let client = Client::new(server.api_url());
        Self { server, settings, folder, client }
    }

    /// A client that other threads can use.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(crate) fn get(&self, path: &str) -> ApiResponse {
        self.client.get(path)
    }

    #[allow(clippy::needless_pass_by_value, reason = "calls read better with json!(…) as it is")]
    pub(crate) fn post(&self, path: &str, body: Value) -> ApiResponse {
        self.client.send("POST", path, &[], &body.to_string())
    }

    /// Any request, with its headers.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> ApiResponse {
        self.client.send(method, path, headers, body)
    }

    /// Registers a type; its id.
    #[allow(clippy::needless_pass_by_value, reason = "calls read better with json!(…) as it is")]
    pub(crate) fn register(&self, name: &str, schema: Value) -> i64 {
        let body = json!({"name": name, "version": "1.0.0", "param_schema": schema});
        self.post("/task-types/register", body).data()["id"].as_i64().unwrap()
    }

    /// Registers a type that takes anything; its id.
    pub(crate) fn register_any(&self, name: &str) -> i64 {
        self.register(name, json!({"type": "object"}))
    }

    /// Creates a task; its id.
    #[allow(clippy::needless_pass_by_value, reason = "calls read better with json!(…) as it is")]
    pub(crate) fn create(&self, task_type: &str, params: Value) -> i64 {
        self.post("/tasks", json!({"type": task_type, "params": params})).data()["id"].as_i64().unwrap()
    }

    /// Claims a task of the type in the default order.
    pub(crate) fn claim(&self, worker: &str, type_id: i64) -> ApiResponse {
        self.post("/tasks/claim", json!({"worker_id": worker, "task_type_id": type_id}))
    }

    /// The task with that id.
    pub(crate) fn task(&self, id: i64) -> Value {
        self.get(&format!("/tasks/{id}")).data()
    }
}

/// One pooled connection or more to a server.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    url: String,
}

impl Client {
    pub(crate) fn new(url: String) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(20)))
            .build();
        Self { agent: config.new_agent(), url }
    }

    pub(crate) fn get(&self, path: &str) -> ApiResponse {
        self.send("GET", path, &[], "")
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> ApiResponse {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = if method == "POST" {
            self.agent.run(request.header("Content-Type", "application/json").body(body).unwrap()).unwrap()
        } else {
            self.agent.run(request.body(()).unwrap()).unwrap()
        };
        assert_eq!(response.headers()["content-type"], "application/json");
        let text = response.body_mut().with_config().limit(40 << 20).read_to_string().unwrap();
        ApiResponse { status: response.status().as_u16(), body: serde_json::from_str(&text).unwrap() }
    }

    /// Claims until there is nothing left; the ids.
    pub(crate) fn claim_all(&self, type_id: i64) -> Vec<i64> {
        let claim = json!({"worker_id": "w", "task_type_id": type_id}).to_string();
        let mut ids = Vec::new();
        loop {
            let answer = self.send("POST", "/tasks/claim", &[], &claim);
            if answer.status == 404 {
                return ids;
            }
            ids.push(answer.data()["id"].as_i64().unwrap());
        }
    }
}

/// Asserts that `time` is written as the API writes times, and is about now.
#[track_caller]
pub(crate) fn assert_recent(time: &Value) {
    let text = time.as_str().unwrap_or_else(|| panic!("{time} is no time"));
    let time: jiff::Timestamp = format!("{}Z", text.replace(' ', "T")).parse().unwrap();
    assert_eq!(text.len(), "2026-11-22 03:18:35".len(), "{text}");
    assert!(jiff::Timestamp::now().duration_since(time).unsigned_abs() < Duration::from_secs(60), "{text}");
}
