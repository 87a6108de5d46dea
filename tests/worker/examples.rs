//! The handlers in `examples/handlers`, with the interpreters they are written for.

use std::process::Command;

use serde_json::{Value, json};

use crate::published::Published;
use crate::rig::rows;
use crate::support::{Answer, Server};

const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/handlers/prismq.toml");

/// Works three texts, and a task without one, by the handler of a type.
#[track_caller]
fn assert_counts(task_type: &str, [program, package]: [&str; 2]) {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(found, "this test needs {program}: install the Debian package {package}");
    let published = Published::start(&[task_type]);
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
    assert_eq!(failure["error"], "params.text is missing, or is no text");
    assert_eq!(published.task(none).error_message, "params.text is missing, or is no text");
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

const FEED: &str = "<rss><channel><title>Bees</title>
    <item><title>Why bees dance</title><guid>bees-1</guid><link>https://a.example/1</link><category>bees</category></item>
    <item><guid>bees-2</guid><pubDate>Sun, 22 Nov 2026 03:18:35 GMT</pubDate></item>
</channel></rss>";

#[test]
fn python_leaves_the_posts_of_a_feed_as_ideas() {
    let (published, feed) = (Published::start(&["example.feed"]), Server::always(Answer::new(200, "text/xml", FEED)));
    let sandbox = published.sandbox("").env("PRISMQ_CONFIG", SETTINGS);
    let task = published.create("example.feed", json!({"url": feed.url()}));
    published.create("example.feed", json!({"url": "http://127.0.0.1:1/feed"}));
    sandbox.prismq(["work", "--max-tasks", "2", "example.feed"]).run().exits(0);

    let ideas = rows(&sandbox, "IdeaInspiration");
    let known: Vec<_> = ideas.iter().map(|idea| (&idea["title"], &idea["source_id"], &idea["keywords"])).collect();
    let dance = (&json!("Why bees dance"), &json!("bees-1"), &json!("[\"bees\"]"));
    assert_eq!(known, [dance, (&json!("Untitled"), &json!("bees-2"), &json!("[]"))]);
    assert_eq!(ideas[1]["source_created_at"], "Sun, 22 Nov 2026 03:18:35 GMT");
    assert_eq!(ideas[0]["metadata"], json!({"feed": feed.url()}).to_string());
    let posts = &published.task(task).result["data"]["posts"];
    let second = json!({"post_id": "bees-2", "title": "Untitled", "idea_id": 2});
    assert_eq!(*posts, json!([{"post_id": "bees-1", "title": "Why bees dance", "idea_id": 1}, second]));
    let results = rows(&sandbox, "results");
    assert_eq!((&results[1]["error_type"], &results[1]["retryable"]), (&json!("connection"), &json!(1)));
}
