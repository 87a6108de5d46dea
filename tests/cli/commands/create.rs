//! `create-task` for one task.

use serde_json::{Value, json};

use crate::support::{ANY, Answer, Rig, Sandbox, ScriptedServer, complains, recorded};

/// A server that answers each creation with task 7.
fn creates() -> ScriptedServer {
    ScriptedServer::always(Answer::data(&json!({"id": 7, "type": ANY, "status": "pending", "dedupe_key": "x"})))
}

#[test]
fn only_the_id_is_printed() {
    let rig = Rig::new();
    let created = rig.run("create-task example.any a=1").exits(0);
    assert_eq!((created.stdout.as_str(), created.stderr.as_str()), ("1\n", ""));
    let created = rig.run("create-task example.any a=2 --json").exits(0);
    assert_eq!(created.json(), json!({"id": 2, "type": ANY, "status": "pending", "deduplicated": false}));
    assert_eq!(created.stderr, "");
}

#[test]
fn an_existing_task_is_noted() {
    let rig = Rig::new();
    rig.run("create-task example.any a=1 b=2").exits(0);
    let again = rig.run("create-task example.any b=2 a=1").exits(0);
    assert_eq!(again.stdout, "1\n");
    assert_eq!(again.stderr, "task 1 already exists with the same params: pending\n");

    rig.run("claim example.any --once").exits(0);
    rig.run("complete 1").exits(0);
    let again = rig.run("create-task example.any b=2 a=1 --json").exits(0);
    assert_eq!(again.json(), json!({"id": 1, "type": ANY, "status": "completed", "deduplicated": true}));
    assert_eq!(again.stderr, "task 1 already exists with the same params: completed\n");
}

/// The exact body that is sent for these arguments.
fn sent(arguments: &[&str], stdin: &str) -> String {
    let server = creates();
    let sandbox = Sandbox::at(&server.url());
    sandbox.write("params.json", r#"{ "b" : [1, 2.50], "a" : {"z": null, "y": "ž"} }"#);
    let output = sandbox.prismq(["create-task", ANY]).args(arguments.iter().copied()).stdin(stdin).run().exits(0);
    assert_eq!((output.stdout.as_str(), server.calls()), ("7\n", vec!["POST /tasks".to_owned()]));
    String::from_utf8(server.requests().remove(0).body).unwrap()
}

#[test]
fn params_are_sent_in_canonical_form() {
    let canonical = r#"{"params":{"a":{"y":"ž","z":null},"b":[1,2.5]},"type":"example.any"}"#;
    assert_eq!(sent(&["--params", r#"{"b": [1,2.5], "a":{"z":null,"y":"ž"}}"#], ""), canonical);
    assert_eq!(sent(&["--params", "@params.json"], ""), canonical);
    assert_eq!(sent(&["--params", "-"], "{\"a\":{\"y\":\"ž\",\"z\":null},\n\"b\":[1,2.5]}\n"), canonical);
    assert_eq!(sent(&["b:=[1, 2.5]", r#"a:={"z": null, "y": "ž"}"#], ""), canonical);
    assert_eq!(sent(&[], ""), r#"{"params":{},"type":"example.any"}"#);
}

#[test]
fn a_value_is_text_unless_given_as_json() {
    let body = sent(&["text=5", "number:=5", "empty=", "url=http://x/?a=b&c:=d", "list:=[\"5\"]"], "");
    let expected = json!({"text": "5", "number": 5, "empty": "", "url": "http://x/?a=b&c:=d", "list": ["5"]});
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["params"], expected);
}

#[test]
fn a_priority_is_sent_if_given() {
    assert_eq!(sent(&["--priority", "10"], ""), r#"{"params":{},"priority":10,"type":"example.any"}"#);
    assert_eq!(sent(&["--priority", "-3"], ""), r#"{"params":{},"priority":-3,"type":"example.any"}"#);
}

#[test]
fn higher_priorities_are_claimed_first() {
    let rig = Rig::new();
    for line in ["n=1", "n=2 --priority 5", "n=3 --priority -5"] {
        rig.run(&format!("create-task example.any {line}")).exits(0);
    }
    let claim = || rig.run("claim example.any --once --strategy priority").exits(0).json();
    let claimed: Vec<Value> = (0..3).map(|_| claim()).collect();
    let ids: Vec<&Value> = claimed.iter().map(|task| &task["id"]).collect();
    assert_eq!(ids, [2, 1, 3]);
    assert_eq!(claimed[0]["priority"], 5);
}

#[test]
fn answers_of_the_published_server_are_understood() {
    let server = ScriptedServer::queue([recorded("create"), recorded("create the same again")]);
    let sandbox = Sandbox::at(&server.url());
    let created = sandbox.prismq(["create-task", "PrismQ.YouTube.Video.Search", "q=x"]).run().exits(0);
    assert_eq!((created.stdout.as_str(), created.stderr.as_str()), ("1\n", ""));
    let again = sandbox.prismq(["create-task", "PrismQ.YouTube.Video.Search", "q=x", "--json"]).run().exits(0);
    let expected = json!({"id": 1, "type": "PrismQ.YouTube.Video.Search", "status": "pending", "deduplicated": true});
    assert_eq!(again.json(), expected);
}

#[test]
fn refusals_show_the_servers_message() {
    let rig = Rig::empty();
    rig.sandbox.write("schema.json", r#"{"type":"object","properties":{"n":{"type":"integer","maximum":5}}}"#);
    rig.run("register-type example.small --schema schema.json").exits(0);
    complains(&rig.run("create-task example.small n:=9"), 1, &["refused", "/n", "maximum of 5"]);
    complains(&rig.run("create-task no.such a=1"), 2, &["no.such", "prismq register-type no.such"]);

    let server =
        ScriptedServer::queue([recorded("create: params an empty object"), recorded("create: type not active")]);
    let sandbox = Sandbox::at(&server.url());
    complains(&sandbox.prismq(["create-task", ANY]).run(), 1, &["must be of type object", "KEY=VALUE"]);
    complains(&sandbox.prismq(["create-task", ANY, "a=1"]).run(), 1, &["Task type is not active"]);
}
