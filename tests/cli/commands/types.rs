//! `register-type` and `list-types`.

use serde_json::{Value, json};

use crate::support::{ANY, Answer, Rig, Sandbox, ScriptedServer, complains, recorded};

const SCHEMA: &str = r#"{"properties":{"n":{"type":"integer"}},"type":"object"}"#;

/// The TaskManager's types: name, version and schema.
fn types(rig: &Rig) -> Vec<(String, String, Value)> {
    let types = rig.run("list-types --json").exits(0).json_lines();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    types.iter().map(|it| (text(&it["name"]), text(&it["version"]), it["param_schema"].clone())).collect()
}

#[test]
fn a_type_is_registered_then_updated() {
    let rig = Rig::empty();
    for (line, words) in [
        ("register-type a.b --schema {\"type\":\"object\"}", "registered a.b 1.0.0 (id 1)\n"),
        ("register-type a.b --version 1.1.0 --schema {\"type\":\"object\"}", "updated a.b 1.1.0 (id 1)\n"),
    ] {
        let output = rig.run(line).exits(0);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), (words, ""));
    }
    let lines = [
        ("a.c", json!({"id": 2, "name": "a.c", "version": "1.0.0", "created": true})),
        ("a.b", json!({"id": 1, "name": "a.b", "version": "1.0.0", "created": false})),
    ];
    for (name, expected) in lines {
        let output = rig.run(&format!("register-type {name} --schema {SCHEMA} --json")).exits(0);
        assert_eq!((output.json(), output.stderr.as_str()), (expected, ""));
    }
}

#[test]
fn a_schema_is_read_from_a_file_standard_input_or_the_argument() {
    let rig = Rig::empty();
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    rig.sandbox.write("schema.json", SCHEMA);
    for source in ["schema.json", "@schema.json", SCHEMA] {
        rig.run(&format!("register-type from.{} --schema {source}", source.len())).exits(0);
    }
    rig.prismq("register-type from.stdin --schema -").stdin(SCHEMA).run().exits(0);
    let types = types(&rig);
    assert_eq!(types.len(), 4);
    assert!(types.iter().all(|(_, version, it)| version == "1.0.0" && *it == schema), "{types:?}");
}

#[test]
fn configured_types_need_no_schema_on_the_command_line() {
    let rig = Rig::empty();
    rig.sandbox.write("schema.json", SCHEMA);
    rig.sandbox.write(
        "prismq.toml",
        "[[task_type]]\nname = \"a.file\"\nversion = \"2.0.0\"\nschema = \"schema.json\"\nexec = [\"cat\"]\n\
         [[task_type]]\nname = \"a.sleep\"\nhandler = \"sleep\"\n",
    );
    let one = rig.run("register-type a.sleep").exits(0);
    assert_eq!(one.stdout, "registered a.sleep 1.0.0 (id 1)\n");
    let (_, _, schema) = &types(&rig)[0];
    assert!(schema["properties"]["seconds"].is_object(), "{schema}");
    assert_eq!(rig.run("register-type a.sleep --version 3.0.0").exits(0).stdout, "updated a.sleep 3.0.0 (id 1)\n");

    let all = rig.run("register-type --all").exits(0);
    assert_eq!(all.stdout, "registered a.file 2.0.0 (id 2)\nupdated a.sleep 1.0.0 (id 1)\n");
    let all = rig.run("register-type --all --json").exits(0).json_lines();
    let names: Vec<&Value> = all.iter().map(|line| &line["name"]).collect();
    assert_eq!(names, ["a.file", "a.sleep"]);
    let types = types(&rig);
    let (_, version, schema) = types.iter().find(|(name, ..)| name == "a.file").unwrap();
    assert_eq!((version.as_str(), schema.to_string().as_str()), ("2.0.0", SCHEMA));
}

#[test]
fn invalid_registrations_are_refused() {
    let rig = Rig::empty();
    for (line, words) in [
        ("register-type a.b", ["a.b", "--schema"]),
        ("register-type --all", ["no task type", "prismq.toml"]),
        ("register-type a.b --schema nofile.json", ["--schema", "nofile.json"]),
        ("register-type a.b --schema {\"type\":", ["--schema", "not valid JSON"]),
        ("register-type a.b --schema {\"type\":5}", ["--schema", "not a JSON Schema"]),
    ] {
        complains(&rig.run(line), 2, &words);
    }
    let level = |n: usize| (format!("d{n}"), json!({"allOf": vec![json!({"$ref": format!("#/$defs/d{}", n + 1)}); 2]}));
    let definitions: serde_json::Map<_, _> = (0..40).map(level).chain([("d40".to_owned(), json!({}))]).collect();
    rig.sandbox.write("doubling.json", json!({"$defs": definitions, "$ref": "#/$defs/d0"}).to_string());
    let output = rig.run("register-type a.b --schema doubling.json");
    complains(&output, 2, &["--schema", "more than 10000 subschemas apply at one place"]);
    complains(&rig.prismq("register-type a.b --schema -").stdin("x").run(), 2, &["--schema (standard input)"]);
    assert_eq!(types(&rig), []);
    assert_eq!(rig.run("list-types").exits(0).stdout, "ID  NAME  VERSION  ACTIVE\n");
}

#[test]
fn types_are_listed() {
    let rig = Rig::new();
    let table = rig.run("list-types").exits(0);
    assert_eq!(table.stdout, "ID  NAME         VERSION  ACTIVE\n1   example.any  1.0.0    yes\n");
    assert_eq!(table.stderr, "");
    let lines = rig.run("list-types --json").exits(0).json_lines();
    let expected =
        json!({"id": 1, "name": ANY, "version": "1.0.0", "param_schema": {"type": "object"}, "is_active": true});
    assert_eq!(lines, [expected]);
}

/// A server that answers calls about types as the published one does.
fn published() -> ScriptedServer {
    ScriptedServer::start(|request| match request.path.as_str() {
        "/task-types/PrismQ.YouTube.Video.Search" => recorded("type by name"),
        path if path.starts_with("/task-types?") => recorded("list active types"),
        path if path.starts_with("/task-types/") => recorded("type by name, unknown"),
        _ => Answer::error(404, "Endpoint not found"),
    })
}

#[test]
fn if_the_server_cannot_list_types_the_configured_ones_are_looked_up() {
    let server = published();
    let sandbox = Sandbox::at(&server.url());
    complains(&sandbox.prismq(["list-types"]).run(), 1, &["cannot list", "prismq.toml"]);

    sandbox.write(
        "prismq.toml",
        "[[task_type]]\nname = \"PrismQ.YouTube.Video.Search\"\n[[task_type]]\nname = \"not.registered\"\n",
    );
    let table = sandbox.prismq(["list-types"]).run().exits(0);
    assert_eq!(
        table.stdout,
        "ID  NAME                         VERSION  ACTIVE\n1   PrismQ.YouTube.Video.Search  1.0.1    yes\n"
    );
    assert!(table.stderr.contains("WARN") && table.stderr.contains("configured"), "{}", table.stderr);
    let lines = sandbox.prismq(["list-types", "--json"]).run().exits(0).json_lines();
    assert_eq!((lines.len(), &lines[0]["id"]), (1, &json!(1)));
}
