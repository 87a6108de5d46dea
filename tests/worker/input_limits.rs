//! One limit for everything that passes through: what is taken in can be handed out, worked, stored, reported and shown,
//! and what is beyond is refused where it comes in. A task of a TaskManager with other limits is failed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use prismq::internals::taskmanager::{Order, TaskFilter};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Answer, EmbeddedTaskManager, Rig, Sandbox, ScriptedServer, at_once, rows, sandbox};

/// The most levels of params, of a schema, and of what a handler prints.
const MAX_DEPTH: usize = 96;
/// Depths around every limit that somebody has: ours, those of readers of JSON, and beyond all of them.
const BEYOND: [usize; 9] = [97, 100, 101, 122, 125, 126, 127, 128, 20_000];

/// A list that is nested so deep.
fn list(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

/// An object that is nested so deep.
fn object(depth: usize) -> String {
    format!("{{\"a\":{}}}", list(depth - 1))
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Types whose handlers give back the params, each in its own way, and two whose handlers print a file: `out`, and the one
/// of the depth that the params name.
const TYPES: &str = r#"
[[task_type]]
name = "built-in"
handler = "echo"

[[task_type]]
name = "once"
exec = "sed 's/.*\"params\":\\(.*\\),\"attempt\".*/\\1/'"

[[task_type]]
name = "warm"
exec = ["sh", "warm.sh"]
mode = "persistent"

[[task_type]]
name = "out"
exec = "cat out"

[[task_type]]
name = "of-depth"
exec = "cat out.$(sed 's/.*\"depth\":\\([0-9]*\\).*/\\1/')"
"#;

fn rig() -> Rig {
    let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 1), &[]);
    rig.sandbox.write("prismq.toml", TYPES);
    rig.script("warm", &format!("{}while next; do answer '[]'; done", include_str!("../support/talk.sh")));
    for name in ["built-in", "once", "warm", "out", "of-depth"] {
        rig.taskmanager.register(name);
    }
    rig
}

#[test]
fn params_at_the_depth_limit_pass_through_everything() {
    let rig = rig();
    let params = object(MAX_DEPTH);
    let names = ["built-in", "once", "warm"];
    for name in names {
        rig.sandbox.prismq(["create-task", name, "--params", &params]).run().exits(0);
    }
    rig.drain();
    for (id, name) in ["1", "2", "3"].into_iter().zip(names) {
        let task = rig.sandbox.prismq(["show-task", id, "--json"]).run().exits(0).json();
        assert_eq!((&task["status"], depth(&task["params"])), (&json!("completed"), MAX_DEPTH), "{name}");
        assert!(name == "warm" || depth(&task["result"]["data"]) == MAX_DEPTH, "{name}: {task}");
        for command in [["show-task", id], ["results", id], ["explain", id], ["replay", id]] {
            rig.sandbox.prismq(command).run().exits(0);
        }
    }
    assert_eq!(rig.sandbox.prismq(["list-tasks", "--json"]).run().exits(0).json_lines().len(), 3);
    assert_eq!(rig.sandbox.prismq(["results", "--format", "jsonl"]).run().exits(0).json_lines().len(), 3);
    rig.sandbox.prismq(["create-task", "built-in", "--params", &params, "--wait"]).run().exits(0);
}

#[test]
fn too_deep_params_are_refused_on_every_way_in() {
    let rig = rig();
    for depth in BEYOND {
        let params = object(depth);
        rig.sandbox.write("params.json", &params);
        let pair = format!("a:={}", list(depth));
        for (arguments, stdin, code) in [
            (&["built-in", "--params", "@params.json"][..], "", 2),
            (&["built-in", "--params", "-"], &params, 2),
            (&["built-in", "--from", "params.json"], "", 1),
            (&["built-in", "--from", "-"], &params, 1),
            (&["built-in", &pair], "", 2),
        ] {
            let output = rig.sandbox.prismq(["create-task"]).args(arguments.iter().copied()).stdin(stdin).run();
            let stderr = output.exits(code).stderr;
            // A file of tasks has the number of the line in front.
            let place = if arguments[1] == "--from" { "column " } else { "line 1 column " };
            assert!(stderr.contains(&format!("nested deeper than 96 levels at {place}")), "{depth}: {stderr}");
        }
        rig.sandbox.write("schema.json", format!("{{\"type\":\"object\",\"default\":{}}}", list(depth)));
        let output = rig.sandbox.prismq(["register-type", "new", "--schema", "schema.json"]).run().exits(2);
        assert!(output.stderr.contains("nested deeper than 96 levels"), "{depth}: {}", output.stderr);
    }
    assert_eq!(rig.taskmanager.client().tasks(&TaskFilter::default()).unwrap(), []);
}

#[test]
fn a_pair_that_would_be_too_deep_with_its_key_is_refused() {
    let rig = rig();
    let output = rig.sandbox.prismq(["create-task", "built-in", &format!("a:={}", list(MAX_DEPTH))]).run().exits(2);
    assert!(output.stderr.contains("nested deeper than 96 levels"), "{}", output.stderr);
}

#[test]
fn a_task_can_be_completed_after_a_result_was_too_deep() {
    let rig = rig();
    rig.taskmanager.create("built-in", json!({}));
    rig.sandbox.prismq(["claim", "built-in", "--once"]).run().exits(0);
    for depth in BEYOND {
        rig.sandbox.write("result.json", list(depth));
        let output = rig.sandbox.prismq(["complete", "1", "--result", "@result.json"]).run().exits(2);
        assert!(output.stderr.contains("--result @result.json: nested deeper than 96 levels"), "{}", output.stderr);
    }
    rig.sandbox.prismq(["complete", "1", "--result", &list(MAX_DEPTH)]).run().exits(0);
    assert_eq!(rig.taskmanager.status(1), "completed");
}

#[test]
fn every_result_is_reported_whatever_its_depth() {
    let rig = rig();
    let depths = [1, 95, 96, 97, 98, 100, 123, 124, 125, 126, 127, 128, 20_000];
    let ids = depths.map(|depth| {
        rig.sandbox.write(&format!("out.{depth}"), list(depth));
        rig.taskmanager.create("of-depth", json!({ "depth": depth }))
    });
    rig.drain();
    for (depth, id) in depths.into_iter().zip(ids) {
        let task = rig.taskmanager.task(id);
        let expected = if depth <= MAX_DEPTH { "completed" } else { "failed" };
        assert_eq!(task.status, expected, "{depth}: {task:?}");
        if depth > MAX_DEPTH {
            let error = "output is nested deeper than 96 levels at line 1 column 97";
            assert_eq!(task.error_message.unwrap(), error, "{depth}");
        }
    }
    assert!(rig.rows("results").iter().all(|row| !row["reported_at"].is_null()));
    rig.sandbox.prismq(["results", "--format", "jsonl"]).run().exits(0);
}

#[test]
fn a_stored_task_that_is_too_deep_fails() {
    let rig = rig();
    let deep = [97, 122, 125, 127];
    for depth in deep {
        let id = rig.taskmanager.create("once", json!({ "depth": depth }));
        let database = Connection::open(rig.taskmanager.database()).unwrap();
        database.execute("UPDATE tasks SET params = ?1 WHERE id = ?2", (object(depth), id)).unwrap();
    }
    rig.taskmanager.create("once", json!({"depth": 1}));
    rig.drain();
    for id in 1..=deep.len() as u64 {
        let task = rig.sandbox.prismq(["show-task", &id.to_string(), "--json"]).run().exits(0).json();
        assert_eq!(task["status"], "failed");
        assert_eq!(task["error_message"], "params are nested deeper than 96 levels");
    }
    assert_eq!(rig.taskmanager.status(deep.len() as u64 + 1), "completed");
    rig.sandbox.prismq(["list-tasks"]).run().exits(0);
    rig.sandbox.prismq(["results"]).run().exits(0);
}

/// A TaskManager with limits of its own: it hands out each of these answers to a claim once, and takes every report.
struct Foreign {
    server: ScriptedServer,
    sandbox: Sandbox,
}

impl Foreign {
    fn handing_out(answers: impl IntoIterator<Item = String>) -> Self {
        let answers: Arc<Mutex<VecDeque<String>>> = Arc::new(Mutex::new(answers.into_iter().collect()));
        let server = ScriptedServer::start(move |request| match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/tasks/claim") => answers.lock().unwrap().pop_front().map_or_else(
                || Answer::error(404, "No available tasks"),
                |body| Answer::new(200, "application/json", body),
            ),
            ("GET", path) if path.starts_with("/task-types/") => Answer::data(
                &json!({"id": 1, "name": "once", "version": "1", "param_schema": {"type": "object"}, "is_active": true}),
            ),
            ("POST", path) if path.ends_with("/complete") => Answer::data(&json!({"id": 1, "status": "failed"})),
            _ => Answer::error(404, "Task not found"),
        });
        let sandbox = sandbox(&server.url());
        sandbox.write("prismq.toml", TYPES);
        Self { server, sandbox }
    }

    /// The tasks that were reported, each with its error.
    fn reported(&self) -> Vec<(u64, String)> {
        let id = |path: &str| path.strip_prefix("/tasks/")?.strip_suffix("/complete")?.parse().ok();
        let requests = self.server.requests();
        let reports = requests.iter().filter_map(|request| Some((id(&request.path)?, request.json())));
        reports.map(|(id, body)| (id, body["error"].as_str().unwrap_or_default().to_owned())).collect()
    }
}

/// A task as a claim hands it out.
fn task(id: &str, params: &str) -> String {
    let task = format!(r#"{{"id":{id},"type":"once","params":{params},"attempts":1,"priority":0}}"#);
    format!(r#"{{"success":true,"message":"Success","data":{task},"timestamp":1}}"#)
}

#[test]
fn a_task_beyond_a_limit_does_not_hold_up_others() {
    let long = |bytes: usize| format!("{{\"text\":\"{}\"}}", "x".repeat(bytes));
    let bare = |id: &str, params: &str| format!(r#"{{"id":{id},"type":"once","params":{params},"attempts":1}}"#);
    let too_deep = "params are nested deeper than 96 levels";
    let mut answers: Vec<(String, &str)> = BEYOND.iter().map(|depth| (task("1", &object(*depth)), too_deep)).collect();
    answers.extend([
        (bare("1", &object(20_000)), too_deep),
        (task("1", &format!("{{\"n\":{}}}", "9".repeat(1001))), "params are too large: a number of more than 1000"),
        (task("1", &long(17 << 20)), "params are longer than 16 MiB"),
        (task("1", &long(34 << 20)), "params cannot be read: the answer is too long"),
        (task("1", "{}").replace("\"attempts\":1", "\"attempts\":18446744073709551616"), "claimed 4294967295 times"),
        (task("1", &object(MAX_DEPTH)), ""),
    ]);
    let errors: Vec<&str> = answers.iter().map(|(_, error)| *error).collect();
    let numbered =
        |((answer, _), id): (&(String, &str), u64)| answer.replacen("\"id\":1,", &format!("\"id\":{id},"), 1);
    let answers: Vec<String> = answers.iter().zip(1..).map(numbered).collect();
    let foreign = Foreign::handing_out(answers);
    foreign.sandbox.prismq(["work", "once", "--drain"]).run().exits(0);
    let reported = foreign.reported();
    assert_eq!(reported.len(), errors.len(), "{reported:?}");
    for (((id, said), error), number) in reported.iter().zip(errors).zip(1..) {
        assert!(*id == number && said.starts_with(error), "task {id}, {number}: {said:?}, not {error:?}");
    }
    let rows = rows(&foreign.sandbox, "results");
    assert_eq!(rows.iter().filter(|row| row["status"] == "completed").count(), 1);
    foreign.sandbox.prismq(["results"]).run().exits(0);
}

#[test]
fn an_unreadable_number_does_not_hold_up_other_tasks() {
    at_once(["18446744073709551616", "-1", "1.5", "\"x\"", "null", "{}", "1e400"], |id| {
        let foreign = Foreign::handing_out([task(id, "{}"), task("2", "{}")]);
        let output = foreign.sandbox.prismq(["work", "once", "--drain"]).run().exits(1);
        assert!(
            output.stderr.contains("gave an invalid answer to POST /tasks/claim: id is "),
            "{id}: {}",
            output.stderr
        );
        assert_eq!(foreign.reported(), [(2, String::new())], "{id}: {}", output.stderr);
    });
}

#[test]
fn a_taskmanager_that_answers_nothing_but_nonsense_ends_a_drain() {
    let foreign = Foreign::handing_out(std::iter::repeat_n(task("null", "{}"), 1000));
    let output = foreign.sandbox.prismq(["work", "once", "--drain"]).run().exits(1);
    assert!(output.stderr.contains("id is not a number"), "{}", output.stderr);
}

#[test]
fn tasks_of_another_taskmanager_are_shown_to_the_depth_limit() {
    for depth in [100, 125, 128, 20_000] {
        let item = format!(
            r#"{{"id":1,"type":"once","status":"completed","attempts":1,"params":{},"result":{}}}"#,
            object(depth),
            object(depth)
        );
        let server = ScriptedServer::always(Answer::new(200, "application/json", format!("{{\"items\":[{item}]}}")));
        let sandbox = sandbox(&server.url());
        for command in [&["show-task", "1", "--json"][..], &["list-tasks", "--json"], &["show-task", "1"]] {
            let output = sandbox.prismq(command.iter().copied()).run().exits(0);
            let is_cut = output.stdout.contains("[left out by prismq: it is nested too deep]");
            assert_eq!(is_cut, depth > 124, "{depth}: {}", output.stdout);
        }
    }
}

#[test]
fn params_may_be_16_mib_long() {
    let rig = rig();
    let most = (16 << 20) - r#"{"a":""}"#.len();
    let params = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length));
    rig.sandbox.write("params.json", params(most));
    rig.sandbox.prismq(["create-task", "built-in", "--params", "@params.json"]).run().exits(0);
    // A worker would take half a minute over it in a build that is not optimized.
    let claimed = rig.taskmanager.client().claim("w", 1, Order::OldestFirst).unwrap().unwrap();
    assert_eq!(claimed.params["a"].as_str().unwrap().len(), most);
    rig.sandbox.write("params.json", params(most + 1));
    for (arguments, code) in [(["--params", "@params.json"], 2), (["--from", "params.json"], 1)] {
        let output = rig.sandbox.prismq(["create-task", "built-in"]).args(arguments).run().exits(code);
        assert!(output.stderr.contains("longer than 16 MiB"), "{}", output.stderr);
    }
}

#[test]
fn too_many_values_are_refused_on_every_way_in() {
    let rig = rig();
    let numbers = format!("[{}]", vec!["1"; 1_000_001].join(","));
    rig.sandbox.write("params.json", format!("{{\"n\":{numbers}}}"));
    let output = rig.sandbox.prismq(["create-task", "out", "--params", "@params.json"]).run().exits(2);
    assert!(output.stderr.contains("too large: more than 1000000 values at line 1 column"), "{}", output.stderr);
    let id = rig.taskmanager.create("out", json!({}));
    rig.sandbox.write("out", numbers);
    rig.drain();
    let error = rig.taskmanager.task(id).error_message.unwrap();
    assert!(error.starts_with("output is too large: more than 1000000 values"), "{error}");
}

#[test]
fn many_keys_pass_through_everything() {
    let rig = rig();
    let keys: Vec<String> = (0..100_000).map(|number| format!("\"k{number}\":{number}")).collect();
    rig.sandbox.write("params.json", format!("{{{}}}", keys.join(",")));
    rig.sandbox.prismq(["create-task", "once", "--params", "@params.json"]).run().exits(0);
    rig.drain();
    let task = rig.sandbox.prismq(["show-task", "1", "--json"]).run().exits(0).json();
    assert_eq!((&task["status"], task["params"].as_object().unwrap().len()), (&json!("completed"), 100_000));
    rig.sandbox.prismq(["results", "--json"]).run().exits(0);
}

#[test]
fn a_result_that_an_earlier_version_stored_too_deep_is_reported_without_its_data() {
    let mut rig = rig();
    rig.taskmanager.create("out", json!({}));
    rig.sandbox.write("out", "1");
    rig.taskmanager.stop();
    rig.taskmanager.restart();
    rig.sandbox.prismq(["claim", "out", "--once"]).run().exits(0);
    rig.taskmanager.stop();
    let _kept = rig.sandbox.prismq(["complete", "1", "--result", "5"]).run();
    let results = Connection::open(rig.sandbox.path("results.db")).unwrap();
    let changed = results.execute("UPDATE results SET data = ?1", [list(124)]).unwrap();
    assert_eq!(changed, 1);
    drop(results);
    rig.taskmanager.restart();
    rig.drain();
    let task = rig.taskmanager.task(1);
    assert_eq!(task.status, "completed");
    assert_eq!(task.result.unwrap()["data_bytes"], json!(248));
    assert!(rig.rows("results")[0]["reported_at"].is_string());
}
