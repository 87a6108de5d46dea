//! `.env`, `prismq.toml` and the files that they name.

use crate::support::{Rig, Sandbox, complains, names_in};

/// Asserts that commands of all kinds fail to start with these words.
#[track_caller]
fn all_refuse(sandbox: &Sandbox, words: &[&str]) {
    for line in ["config", "list-types", "claim a.b --once", "results", "work -qq", "health", "serve"] {
        complains(&sandbox.prismq(line.split(' ')).run(), 2, words);
    }
    assert_eq!(names_in(&sandbox.home("")), [] as [String; 0], "nothing is made before the settings are read");
}

#[test]
fn a_broken_dot_env() {
    for (text, words) in [
        (&b"A=1\nnonsense\n"[..], [".env:2", "NAME=VALUE"]),
        (b"A='open\n", [".env:1", "NAME=VALUE"]),
        (b"WORKER_ID=two words\n", [".env:1", "single quotes"]),
        (b"A=\xff\n", [".env", "UTF-8"]),
        (b"POLL_INTERVAL=soon\n", [".env (POLL_INTERVAL)", "not a duration"]),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write(".env", text);
        all_refuse(&sandbox, &words);
    }
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path(".env")).unwrap();
    sandbox.prismq(["config"]).run().exits(0);
}

#[test]
fn a_broken_configuration() {
    for (text, words) in [
        (&b"poll_interval = \"10s\"\nnonsense"[..], ["prismq.toml:2", ""]),
        (b"[[task_type]\n", ["prismq.toml:1", ""]),
        (b"[task_type]\nname = \"a\"\n", ["prismq.toml", "task_type"]),
        (b"worker_id = \"\xff\"\n", ["prismq.toml", "UTF-8"]),
        (b"concurrency = \"many\"\n", ["prismq.toml:1", "concurrency"]),
        (b"poll_intervall = 5\n", ["prismq.toml:1", "did you mean `poll_interval`?"]),
        (b"[[task_type]]\nexec = [\"cat\"]\n", ["prismq.toml:1", "name"]),
        (b"[[task_type]]\nname = \"a\"\nexec = []\n", ["prismq.toml:3", "exec"]),
        (b"[[task_type]]\nname = \"a\"\nexec = [\"cat\"]\nhandler = \"echo\"\n", ["prismq.toml", "handler"]),
        (b"[[task_type]]\nname = \"a\"\nschema = \"nofile.json\"\n", ["prismq.toml:3", "nofile.json"]),
        (b"[[task_type]]\nname = \"a\"\nhandler = \"ecko\"\n", ["prismq.toml:3", "echo"]),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write("prismq.toml", text);
        all_refuse(&sandbox, &words);
    }
}

#[test]
fn files_named_by_settings() {
    let rig = Rig::new();
    rig.sandbox.write("empty", "");
    rig.sandbox.write("binary", b"\xff\xfe");
    for (name, value, words) in [
        ("TASKMANAGER_API_KEY_FILE", "nofile", ["nofile", "cannot be read"]),
        ("TASKMANAGER_API_KEY_FILE", "empty", ["empty", "the key is empty"]),
        ("TASKMANAGER_API_KEY_FILE", "binary", ["binary", "UTF-8"]),
        ("TASKMANAGER_API_KEY_FILE", ".", ["cannot be read", "it is a folder"]),
        ("PRISMQ_CA_FILE", "nofile", ["nofile", "cannot read the certificates"]),
        ("PRISMQ_CA_FILE", "empty", ["empty", "no PEM certificate"]),
        ("PRISMQ_CONFIG", "nofile", ["nofile", "no such file"]),
        ("PRISMQ_CONFIG", ".", ["work", "it is a folder"]),
    ] {
        complains(&rig.prismq("list-types").env(name, value).run(), 2, &words);
    }
}

#[test]
fn an_invalid_schema_in_the_configuration() {
    let rig = Rig::new();
    rig.sandbox.write(
        "prismq.toml",
        "[[task_type]]\nname = \"example.any\"\nexec = [\"cat\"]\nschema = { type = \"objekt\" }\n",
    );
    for line in ["work -qq --drain", "claim example.any --run"] {
        complains(&rig.run(line), 2, &["example.any", "schema"]);
    }
    assert_ne!(rig.run("register-type --all").code(), 0);
}
