//! Every kind of outcome, as the results file and the TaskManager show it.

use prismq::internals::server::OfferedFeatures;
use serde_json::{Value, json};

use crate::support::{EmbeddedTaskManager, Rig, WORKER, without_moments, without_times};

/// What the worker makes of a task.
#[derive(Clone, Default)]
struct Expected {
    data: Value,
    message: Option<&'static str>,
    metadata: Option<Value>,
    /// The error, its type, and whether it may be tried again.
    failure: Option<(String, &'static str, bool)>,
    progress: i64,
}

fn success(data: Value) -> Expected {
    Expected { data, progress: 100, ..Expected::default() }
}

fn failure(error: &str, error_type: &'static str, retryable: bool) -> Expected {
    Expected { failure: Some((error.into(), error_type, retryable)), ..Expected::default() }
}

impl Expected {
    /// The row in `results`, without its times.
    fn row(&self, id: u64, task_type: &str, params: &Value, api_url: &str) -> Value {
        let failure = self.failure.as_ref();
        json!({
            "task_id": id,
            "task_type": task_type,
            "attempt": 1,
            "worker_id": WORKER,
            "process": 1,
            "api_url": api_url,
            "status": if failure.is_some() { "failed" } else { "completed" },
            "params": params.to_string(),
            "data": (!self.data.is_null()).then(|| self.data.to_string()),
            "message": self.message,
            "error": failure.map(|it| &it.0),
            "error_type": failure.map(|it| it.1),
            "retryable": failure.map(|it| u8::from(it.2)),
            "metadata": self.metadata.as_ref().map(Value::to_string),
        })
    }

    /// The result that the TaskManager has, without its times.
    fn envelope(&self) -> Value {
        let mut metadata = self.metadata.clone().unwrap_or(json!({}));
        metadata["worker_id"] = json!(WORKER);
        let mut envelope = match &self.failure {
            None => json!({"success": true, "data": self.data}),
            Some((error, error_type, retryable)) => {
                json!({"success": false, "error": error, "error_type": error_type, "retryable": retryable})
            }
        };
        envelope["metadata"] = metadata;
        if let (Some(message), None) = (self.message, &self.failure) {
            envelope["message"] = json!(message);
        }
        if self.failure.is_some() && !self.data.is_null() {
            envelope["data"] = self.data.clone();
        }
        if self.data.to_string().len() > 60_000 {
            envelope.as_object_mut().unwrap().remove("data");
            envelope["data_bytes"] = json!(self.data.to_string().len());
            envelope["data_omitted"] = json!(["output"]);
        }
        envelope
    }
}

/// Asserts that a task ended as expected, by every field that the results file and the TaskManager have.
#[track_caller]
fn assert_ended(rig: &Rig, id: u64, task_type: &str, expected: &Expected) {
    let task = rig.taskmanager.task(id);
    let rows: Vec<Value> = rig.rows("results").into_iter().filter(|row| row["task_id"] == json!(id)).collect();
    let [row] = &rows[..] else { panic!("{} rows for task {id}", rows.len()) };
    let params = task.params.unwrap();
    let expected_row = expected.row(id, task_type, &params, &rig.taskmanager.url());
    assert_eq!(without_times(row.clone()), expected_row, "{params}");

    assert_eq!(task.status, expected_row["status"].as_str().unwrap(), "{params}");
    assert_eq!(without_moments(task.result.unwrap()), expected.envelope(), "{params}");
    assert_eq!(task.error_message, expected.failure.as_ref().map(|it| it.0.clone()), "{params}");
    assert_eq!((task.attempts, task.claimed_by.as_deref()), (1, Some(WORKER)), "{params}");
    assert_eq!(task.progress, expected.progress, "{params}");
    assert!(task.completed_at.is_some(), "{params}");
}

fn successes() -> Vec<(&'static str, &'static str, Expected)> {
    let enveloped = Expected {
        message: Some("fine"),
        metadata: Some(json!({"model": "small"})),
        ..success(json!({"x": 1.5, "y": null}))
    };
    vec![
        ("json", r#"echo '{"a":[1,2],"b":{}}'"#, success(json!({"a": [1, 2], "b": {}}))),
        ("text", "echo hello; echo you", success(json!({"output": "hello\nyou"}))),
        ("number", "echo 42", success(json!(42))),
        ("nothing", ":", success(Value::Null)),
        (
            "envelope",
            r#"echo '{"success":true,"data":{"x":1.5,"y":null},"message":"fine","metadata":{"model":"small"}}'"#,
            enveloped,
        ),
        ("long", "head -c 70000 /dev/zero | tr '\\0' x", success(json!({"output": "x".repeat(70_000)}))),
        ("progress", r#"echo '{"progress":40,"message":"two of five"}' >&3"#, success(Value::Null)),
    ]
}

fn failures() -> Vec<(&'static str, &'static str, Expected)> {
    let progressed = Expected { progress: 40, ..failure("exit code 3", "handler", false) };
    let partial = Expected { data: json!({"done": 2}), ..failure("only half", "handler", false) };
    vec![
        ("exit-65", "echo 'no such channel' >&2; exit 65", failure("no such channel", "validation", false)),
        ("exit-69", "exit 69", failure("exit code 69", "connection", true)),
        ("exit-75", "exit 75", failure("exit code 75", "temporary", true)),
        ("exit-78", "exit 78", failure("exit code 78", "configuration", false)),
        ("exit-3", r#"echo '{"progress":40}' >&3; exit 3"#, progressed),
        ("exit-1", r#"echo '{"done":2}'; echo 'only half' >&2; exit 1"#, partial),
        ("signal", "kill -9 $$", failure("killed by signal 9 (SIGKILL)", "crash", true)),
        (
            "envelope-failure",
            r#"echo '{"success":false,"error":"no units left","error_type":"quota","retryable":true}'"#,
            failure("no units left", "quota", true),
        ),
    ]
}

/// A TaskManager for which one failure is the end of a task.
fn one_attempt() -> EmbeddedTaskManager {
    EmbeddedTaskManager::with(|settings| settings.max_attempts = 1)
}

#[test]
fn every_kind_of_exit_and_output() {
    let rig = Rig::of(one_attempt(), &[("case", "")]);
    let cases: Vec<_> = successes().into_iter().chain(failures()).collect();
    let ids: Vec<u64> = cases.iter().map(|(name, script, _)| rig.case(name, script)).collect();
    rig.work(["--drain", "--concurrency", "2"]).run().exits(0);
    for ((_, _, expected), id) in cases.iter().zip(ids) {
        assert_ended(&rig, id, "case", expected);
    }
    assert_eq!(rig.rows("claims"), [] as [Value; 0]);
    let workers = rig.rows("workers");
    assert_eq!((&workers[0]["tasks_completed"], &workers[0]["tasks_failed"]), (&json!(7), &json!(8)));
    assert_eq!((workers.len(), workers[0]["stopped_at"].is_string()), (1, true));
}

#[test]
fn a_handler_that_takes_too_long_is_ended() {
    let rig = Rig::of(one_attempt(), &[("case", "timeout = \"1s\"")]);
    let id = rig.case("slow", "echo working >&2; sleep 20");
    rig.drain();
    let error = rig.taskmanager.task(id).error_message.unwrap();
    assert!(error.starts_with("timed out after ") && error.ends_with("; stderr:\nworking"), "{error}");
    assert_ended(&rig, id, "case", &failure(&error, "timeout", true));
    let took = rig.rows("results")[0]["duration_ms"].as_i64().unwrap();
    assert!((900..5000).contains(&took), "{took}");
}

#[test]
fn a_timeout_beyond_the_claim_is_reduced_with_a_warning() {
    let mut rig = Rig::of(one_attempt(), &[("case", "timeout = \"1h\"")]);
    rig.taskmanager.restart_with(|settings| settings.faults.features = OfferedFeatures::NONE);
    rig.case("slow", "sleep 20");
    let log = rig.work(["--drain", "--claim-timeout", "1s"]).run().exits(0).stderr;
    let warning = "case: timeout 3600s is longer than claim_timeout 1s: attempts time out after 1s, \
                   since the TaskManager does not renew claims";
    assert!(log.lines().any(|line| line.contains(" WARN ") && line.contains(warning)), "{log}");
    assert_eq!(rig.rows("results")[0]["error_type"], json!("timeout"));
}

#[test]
fn retryable_failures_are_retried_within_the_claim() {
    let rig = Rig::of(one_attempt(), &[("case", "retry = { max_attempts = 3, delay = \"10ms\" }")]);
    let second = rig.case("second", "echo x >>second; [ $(wc -l <second) -eq 2 ] || exit 75; echo done");
    let never = rig.case("never", "echo x >>never; exit 75");
    let hopeless = rig.case("hopeless", "echo x >>hopeless; exit 65");
    let output = rig.drain();
    assert_ended(&rig, second, "case", &success(json!({"output": "done"})));
    assert_ended(&rig, never, "case", &failure("exit code 75", "temporary", true));
    assert_ended(&rig, hopeless, "case", &failure("exit code 65", "validation", false));
    let runs = ["second", "never", "hopeless"].map(|name| rig.sandbox.read(name).lines().count());
    assert_eq!(runs, [2, 3, 1]);
    assert_eq!(output.stderr.matches("attempt failed: retrying").count(), 3, "{}", output.stderr);
}

#[test]
fn the_deadline_ends_tries_within_the_claim() {
    let settings = "timeout = \"5s\"\nretry = { max_attempts = 100, delay = \"5s\" }";
    let rig = Rig::of(one_attempt(), &[("case", settings)]);
    let id = rig.case("never", "echo x >>never; exit 75");
    rig.drain();
    assert_ended(&rig, id, "case", &failure("exit code 75", "temporary", true));
    assert_eq!(rig.sandbox.read("never").lines().count(), 1, "there is no time for a second");
}

#[test]
fn params_that_break_the_configured_schema() {
    let schema = "schema = { type = \"object\", properties = { n = { type = \"integer\" } } }";
    let rig = Rig::of(one_attempt(), &[("case", schema)]);
    rig.script("any", "echo ran >>runs");
    let id = rig.taskmanager.create("case", json!({"case": "any", "n": "three"}));
    rig.drain();
    let error = rig.taskmanager.task(id).error_message.unwrap();
    assert!(error.starts_with("params/n: "), "{error}");
    assert_ended(&rig, id, "case", &failure(&error, "validation", false));
    assert_eq!(rig.sandbox.read("runs"), "", "it must not run");
}

#[test]
fn built_in_handlers() {
    let rig = Rig::of(one_attempt(), &[]);
    let names = ["echo", "sleep", "fail"];
    let table = |name: &&str| format!("[[task_type]]\nname = \"a.{name}\"\nhandler = \"{name}\"\n");
    rig.sandbox.write("prismq.toml", names.iter().map(table).collect::<String>());
    for name in names {
        rig.taskmanager.register(&format!("a.{name}"));
    }
    let echo = rig.taskmanager.create("a.echo", json!({"any": [1, {}]}));
    let sleep = rig.taskmanager.create("a.sleep", json!({"seconds": 0.01}));
    let fail = rig.taskmanager.create("a.fail", json!({"error": "no", "error_type": "connection"}));
    rig.drain();
    assert_ended(&rig, echo, "a.echo", &success(json!({"any": [1, {}]})));
    assert_ended(&rig, sleep, "a.sleep", &success(json!({"slept": 0.01})));
    assert_ended(&rig, fail, "a.fail", &failure("no", "connection", true));
}

#[test]
fn standard_error_of_handlers_is_logged() {
    let rig = Rig::start();
    let id = rig.case("loud", "echo 'one of two' >&2; echo two of two >&2; echo result");
    let output = rig.drain();
    for line in ["one of two", "two of two"] {
        let logged = output.stderr.lines().find(|logged| logged.contains(line)).unwrap();
        assert!(logged.ends_with(&format!("INFO  {line} task_id={id} task_type=case")), "{logged}");
    }
    assert_eq!(output.stdout, "", "results go to the results file");
}
