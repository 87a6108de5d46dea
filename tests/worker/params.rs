//! What is not run, though it was claimed.

use serde_json::{Value, json};

use crate::support::published::{Fault, PublishedServer};
use crate::support::{Answer, EmbeddedTaskManager, Rig, cases, rows};

/// The attempts at a task by the results file: each with its error's type, and whether it ran.
fn attempts(rows: &[Value], id: u64) -> Vec<(i64, String)> {
    let of_task = rows.iter().filter(|row| row["task_id"] == json!(id));
    of_task.map(|row| (row["attempt"].as_i64().unwrap(), row["error_type"].as_str().unwrap_or("").into())).collect()
}

fn owned(attempts: &[(i64, &str)]) -> Vec<(i64, String)> {
    attempts.iter().map(|(attempt, error_type)| (*attempt, (*error_type).into())).collect()
}

#[test]
fn a_breach_of_the_servers_schema_names_the_path_within_the_params() {
    let rig = Rig::start();
    rig.script("it", "echo ran >>runs");
    let id = rig.taskmanager.create("case", json!({"case": "it", "filter": {"tags": ["a", 5]}}));
    // Registered anew after the task was created: the server does not check it again.
    let tags = json!({"type": "array", "items": {"type": "string"}});
    let schema = json!({
        "type": "object",
        "properties": {"filter": {"type": "object", "properties": {"tags": tags}}},
    });
    rig.taskmanager.client().register_type("case", "2.0.0", &schema).unwrap();
    rig.drain();
    let task = rig.taskmanager.task(id);
    let result = task.result.unwrap();
    assert_eq!(
        (task.status.as_str(), &result["error_type"], &result["retryable"]),
        ("failed", &json!("validation"), &json!(false))
    );
    let error = task.error_message.unwrap();
    assert!(error.starts_with("params/filter/tags/1: 5 "), "{error}");
    assert_eq!(rig.sandbox.read("runs"), "");
}

#[test]
fn nested_objects_that_came_as_lists_are_healed_by_the_schema() {
    let published = PublishedServer::start(&["cat"]);
    let schema = "{ type = \"object\", properties = { filter = { type = \"object\" }, tags = { type = \"array\" } } }";
    let sandbox = published.sandbox(&format!("[[task_type]]\nname = \"cat\"\nexec = [\"cat\"]\nschema = {schema}\n"));
    published.create("cat", json!({"filter": {}, "tags": []}));
    sandbox.prismq(["work", "--drain"]).run().exits(0);
    assert_eq!(published.completes()[0].1["result"]["data"]["params"], json!({"filter": {}, "tags": []}));
}

#[test]
fn a_configured_schema_that_is_none_ends_the_worker() {
    let rig = Rig::of(EmbeddedTaskManager::start(), &[("case", "schema = { type = \"no such type\" }")]);
    let output = rig.work(["--drain"]).run().exits(2);
    assert!(output.stderr.contains("the schema of case: "), "{}", output.stderr);
}

#[test]
fn params_that_are_too_much_work_to_check_fail_their_task() {
    // What doubles with each level, and is a circle only after 40 of them.
    let level = |n: usize| {
        let next = format!("{{ \"$ref\" = \"#/$defs/d{}\" }}", (n + 1) % 40);
        format!("d{n} = {{ properties = {{ a = {{ allOf = [{next}, {next}] }} }} }}")
    };
    let levels: Vec<String> = (0..40).map(level).collect();
    let schema = format!("schema = {{ \"$defs\" = {{ {} }}, \"$ref\" = \"#/$defs/d0\" }}", levels.join(", "));
    let rig = Rig::of(EmbeddedTaskManager::start(), &[("case", &schema)]);
    rig.script("it", "echo ran >>runs");
    let params = |depth: usize| (0..depth).fold(json!({"case": "it"}), |inside, _| json!({"a": inside, "case": "it"}));
    let ids = [60, 5].map(|depth| rig.taskmanager.create("case", params(depth)));
    rig.drain();
    let [much, little] = ids.map(|id| rig.taskmanager.task(id));
    assert_eq!((much.status.as_str(), little.status.as_str()), ("failed", "completed"));
    let error = much.error_message.unwrap();
    assert!(error.contains("it takes too much work to check them against the schema"), "{error}");
    assert_eq!(rig.sandbox.read("runs"), "ran\n");
}

#[test]
fn a_schema_of_the_servers_that_is_none_is_not_checked() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo 1");
    published.create("case", json!({"case": "it"}));
    let known = json!({"id": 1, "name": "case", "version": "1.0.0", "param_schema": {"type": "no such type"}});
    published.inject("GET /task-types/case", Fault::Answer(Answer::data(&known)));
    let output = sandbox.prismq(["work", "--drain"]).run().exits(0);
    assert!(output.stderr.contains("params of case are not checked"), "{}", output.stderr);
    assert_eq!(published.task(1).status, "completed");
}

#[test]
fn tasks_that_failed_permanently_here_are_failed_without_a_run() {
    let rig = Rig::of(EmbeddedTaskManager::start(), &[("case", "")]);
    let hopeless = rig.case("hopeless", "echo ran >>hopeless; echo 'no such channel' >&2; exit 65");
    let unlucky = rig.case("unlucky", "echo ran >>unlucky; exit 69");
    let log = rig.drain().stderr;
    assert_eq!(
        log.lines()
            .filter(|it| it.contains("task not run again: failed before") && it.contains("no such channel"))
            .count(),
        2,
        "{log}"
    );
    let rows = rig.rows("results");
    assert_eq!(attempts(&rows, hopeless), owned(&[(1, "validation"), (2, "validation"), (3, "validation")]));
    assert_eq!(attempts(&rows, unlucky), owned(&[(1, "connection"), (2, "connection"), (3, "connection")]));
    let runs = ["hopeless", "unlucky"].map(|name| rig.sandbox.read(name).lines().count());
    assert_eq!(runs, [1, 3]);
    let task = rig.taskmanager.task(hopeless);
    assert_eq!((task.status.as_str(), task.attempts), ("failed", 3));
    assert_eq!(task.error_message.as_deref(), Some("no such channel"), "the server hears the first words again");
}

#[test]
fn permanent_failures_before_a_retry_from_the_console_do_not_count() {
    let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 2), &[("case", "")]);
    let id = rig.case("it", "echo first >>runs; exit 65");
    rig.drain();
    assert_eq!(rig.taskmanager.status(id), "failed");
    let site = rig.taskmanager.url().replace("/api", "");
    ureq::post(format!("{site}/tasks/{id}/put-back")).header("Origin", &site).send_empty().unwrap();
    rig.sandbox.write("it.sh", "echo second >>runs; exit 69");
    rig.drain();
    assert_eq!(rig.sandbox.read("runs"), "first\nsecond\nsecond\n");
}

#[test]
fn another_results_file_knows_nothing_of_it() {
    let rig = Rig::start();
    let id = rig.case("hopeless", "echo ran >>runs; exit 65");
    rig.work(["--max-tasks", "1"]).run().exits(0);
    rig.work(["--max-tasks", "1", "--results", "other.db"]).run().exits(0);
    rig.work(["--max-tasks", "1"]).run().exits(0);
    assert_eq!(rig.sandbox.read("runs").lines().count(), 2);
    assert_eq!(rig.taskmanager.task(id).attempts, 3);
}

#[test]
fn a_task_handed_out_too_often_is_failed_unrun() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo ran >>runs");
    let often = published.create_handed_out("case", json!({"case": "it", "n": 1}), 5);
    let once_more = published.create_handed_out("case", json!({"case": "it", "n": 2}), 4);
    sandbox.prismq(["work", "--drain"]).run().exits(0);
    assert_eq!([often, once_more].map(|id| published.task(id).status), ["failed", "completed"]);
    assert_eq!(sandbox.read("runs"), "ran\n");
    let row = &rows(&sandbox, "results")[0];
    assert_eq!(
        (&row["error_type"], &row["retryable"], &row["attempt"]),
        (&json!("max_attempts"), &json!(0), &json!(6))
    );
    let error = row["error"].as_str().unwrap();
    assert!(error.contains("6 times") && error.contains("max_attempts = 5"), "{error}");

    let lower = published.create_handed_out("case", json!({"case": "it", "n": 3}), 1);
    sandbox.prismq(["work", "--drain"]).env("PRISMQ_MAX_ATTEMPTS", "1").run().exits(0);
    assert_eq!((published.task(lower).status.as_str(), sandbox.read("runs").as_str()), ("failed", "ran\n"));
}
