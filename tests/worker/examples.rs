//! The handlers in `examples/handlers`, with the interpreters they are written for.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::published::PublishedServer;
use crate::support::{Answer, EmbeddedTaskManager, ScriptedServer, rows, sandbox};

const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/handlers/prismq.toml");

/// Works three texts, and a task without one, by the handler of a type.
#[track_caller]
fn assert_counts(task_type: &str, [program, package]: [&str; 2]) {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(found, "this test needs {program}: install the Debian package {package}");
    let published = PublishedServer::start(&[task_type]);
    let sandbox = published.sandbox("").env("PRISMQ_CONFIG", SETTINGS);
    for text in ["three small words", "", "zwei\tWörter\n"] {
        published.create(task_type, json!({"text": text}));
    }
    let none = published.create(task_type, json!({"txt": "three"}));
    sandbox.prismq(["work", "--max-tasks", "4", task_type]).run().exits(0);

    let results = rows(&sandbox, "results");
    let data: Vec<&Value> = results.iter().map(|row| &row["data"]).collect();
    let counted = [3, 0, 2].map(|words| json!(json!({"words": words}).to_string()));
    assert_eq!(data, [&counted[0], &counted[1], &counted[2], &Value::Null], "{results:?}");
    let failure = &results[3];
    assert_eq!((&failure["error_type"], &failure["retryable"]), (&json!("validation"), &json!(0)), "{failure}");
    assert_eq!(failure["error"], "params.text is missing or not text");
    assert_eq!(published.task(none).error_message, "params.text is missing or not text");
    let requests = published.server.requests();
    let progress = requests.iter().find(|request| request.path == "/tasks/1/progress").expect("it reports progress");
    assert_eq!((&progress.json()["progress"], &progress.json()["message"]), (&json!(50), &json!("read")));
}

#[test]
fn bash_counts_words() {
    assert_counts("example.count.bash", ["jq", "jq"]);
}

#[test]
fn python_counts_words() {
    assert_counts("example.count.python", ["python3", "python3"]);
}

#[test]
fn warm_python_counts_words() {
    assert_counts("example.count.python.warm", ["python3", "python3"]);
}

#[test]
fn node_counts_words() {
    assert_counts("example.count.node", ["node", "nodejs"]);
}

#[test]
fn warm_node_counts_words() {
    assert_counts("example.count.node.warm", ["node", "nodejs"]);
}

#[test]
fn php_counts_words() {
    assert_counts("example.count.php", ["php", "php-cli"]);
}

#[test]
fn warm_php_counts_words() {
    assert_counts("example.count.php.warm", ["php", "php-cli"]);
}

/// Reads a forum that gives this answer by the example for such sites; what was asked, and the result.
#[track_caller]
fn read_forum(answer: Answer, forum: &str) -> (String, Value) {
    let taskmanager = EmbeddedTaskManager::start();
    let server = ScriptedServer::always(answer);
    let url = format!("http://{}", server.address());
    let sandbox = sandbox(&taskmanager.url()).env("PRISMQ_CONFIG", SETTINGS).env("FORUM_URL", &url);
    let sandbox = sandbox.env("FORUM_TOKEN", "the-token-of-the-tests");
    sandbox.prismq(["register-type", "example.posts"]).run().exits(0);
    let id = taskmanager.create("example.posts", json!({"forum": forum, "max_posts": 2}));
    let worked = sandbox.prismq(["claim", "example.posts", "--once", "--run", "--json"]).run();
    let request = server.requests().remove(0);
    assert_eq!(request.header("Authorization"), Some("Bearer the-token-of-the-tests"));
    assert_eq!(rows(&sandbox, "results")[0]["task_id"], id);
    assert!(!worked.stdout.contains("the-token") && !worked.stderr.contains("the-token"), "{worked:?}");
    (request.path, worked.json())
}

#[test]
fn python_reads_a_forum() {
    let post = json!({
        "id": "t1", "title": "Ferris", "selftext": "A crab", "subreddit": "rust", "permalink": "/r/rust/comments/t1/",
        "author": "somebody", "created_utc": 1_700_000_000, "ups": 7,
    });
    let listing = json!({"kind": "Listing", "data": {"children": [{"kind": "t3", "data": post}]}});
    let (asked, result) = read_forum(Answer::json(200, &listing), "rust");
    assert_eq!(asked, "/r/rust/top.json?limit=2");
    assert_eq!(result["data"]["posts"], json!([{"post_id": "t1", "title": "Ferris", "idea_id": 1}]));
    let idea = &result["data"]["ideas"][0];
    for (name, value) in [
        ("title", json!("Ferris")),
        ("content", json!("A crab")),
        ("keywords", json!(["forum_post", "rust"])),
        ("id", json!(1)),
        ("source_id", json!("t1")),
        ("source_created_at", json!("2023-11-14T22:13:20+00:00")),
        ("metadata", json!({"ups": "7", "num_comments": ""})),
    ] {
        assert_eq!(idea[name], value, "{name}");
    }
}

#[test]
fn a_forum_that_fails_is_told_apart() {
    for (status, error_type, retryable) in [(404, "validation", false), (401, "configuration", false)] {
        let (_, result) = read_forum(Answer::page(status), "no/such forum");
        assert_eq!((&result["error_type"], &result["retryable"]), (&json!(error_type), &json!(retryable)), "{result}");
    }
    let (asked, result) = read_forum(Answer::page(503), "a/b ?");
    assert_eq!(asked, "/r/a%2Fb%20%3F/top.json?limit=2");
    assert_eq!((&result["error_type"], &result["retryable"]), (&json!("temporary"), &json!(true)), "{result}");
}
