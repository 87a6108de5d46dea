//! Settings through the binary: `config`, and errors of wrong settings.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Rig, Sandbox, at_once, complains, complains_in_json};

/// The value and origin of every setting.
fn settings(sandbox: &Sandbox, flags: &[&str]) -> BTreeMap<String, (String, String)> {
    let output = sandbox.prismq(["config", "--json"]).args(flags.iter().copied()).run().exits(0);
    assert_eq!(output.stderr, "");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = output.json();
    list.as_array().unwrap().iter().map(|it| (text(&it["name"]), (text(&it["value"]), text(&it["origin"])))).collect()
}

#[test]
fn each_value_has_its_origin() {
    let sandbox = Sandbox::at("http://127.0.0.1:7/api").env("WORKER_ID", "me").env("POLL_INTERVAL", "3");
    sandbox.write(".env", "POLL_INTERVAL=7\nMAX_BACKOFF='2m'\nTASKMANAGER_API_KEY=hunter2-from-dot-env\n");
    let file = sandbox.write(
        "prismq.toml",
        "max_backoff = \"9m\"\nconcurrency = 3\ngrace_period = \"1s\"\nresults = \"r.db\"\n\
         [[task_type]]\nname = \"a.b\"\nexec = [\"wc\", \"-w\"]\n",
    );
    let file = file.canonicalize().unwrap().display().to_string();
    let settings = settings(&sandbox, &["--grace-period", "1500ms"]);
    for (name, value, origin) in [
        ("config", file.as_str(), file.as_str()),
        ("api_url", "http://127.0.0.1:7/api", "environment (TASKMANAGER_API_URL)"),
        ("api_key", "***", ".env (TASKMANAGER_API_KEY)"),
        ("worker_id", "me", "environment (WORKER_ID)"),
        ("poll_interval", "3s", "environment (POLL_INTERVAL)"),
        ("max_backoff", "2m", ".env (MAX_BACKOFF)"),
        ("concurrency", "3", &file),
        ("grace_period", "1s500ms", "command line"),
        ("claim_timeout", "5m", "default"),
        ("max_tasks", "0", "default"),
        ("task_type", "a.b 1.0.0, exec [\"wc\", \"-w\"]", &file),
    ] {
        assert_eq!(settings[name], (value.to_owned(), origin.to_owned()), "{name}");
    }
    let (results, origin) = &settings["results"];
    assert!(results.ends_with("work/r.db") && *origin == file, "{results} {origin}");
    assert_eq!(settings["ideas"].0, *results);
}

#[test]
fn the_table_shows_the_same_as_json() {
    let sandbox = Sandbox::new().env("TASKMANAGER_API_KEY", "hunter2-in-the-environment").env("RUST_LOG", "warn");
    let output = sandbox.prismq(["config"]).run().exits(0);
    let row = |name: &str| {
        let line = output.stdout.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("SETTING"), "VALUE FROM");
    assert_eq!(row("api_url"), "http://localhost:8000/api default");
    assert_eq!(row("api_key"), "*** environment (TASKMANAGER_API_KEY)");
    assert_eq!(row("log_level"), "warn environment (RUST_LOG)");
    assert!(!output.stdout.contains("hunter2"));
}

#[test]
fn a_key_from_a_file_is_not_shown() {
    let sandbox = Sandbox::new();
    sandbox.write("key", "hunter2-in-a-file\n");
    sandbox.write("prismq.toml", "api_key_file = \"key\"\n");
    let output = sandbox.prismq(["config", "--json", "-vv"]).run().exits(0);
    assert!(
        output.stdout.contains("\"***\"") && !output.stdout.contains("hunter2") && !output.stderr.contains("hunter2")
    );
}

#[test]
fn a_refused_key_is_named_by_where_it_came_from() {
    let rig = Rig::with_key("a-key-of-the-tests");
    rig.sandbox.write("key", "another\n");
    rig.sandbox.write("prismq.toml", "api_key_file = \"key\"\n[[task_type]]\nname = \"a.b\"\nexec = [\"cat\"]\n");
    let all_name = |origin: &str, variable: Option<(&str, &str)>| {
        at_once(["list-types", "create-task a.b", "work --drain", "claim a.b --once", "health"], |line| {
            let prismq = rig.prismq(line);
            let prismq = if let Some((name, value)) = variable { prismq.env(name, value) } else { prismq };
            let output = prismq.run().exits(if line == "health" { 1 } else { 5 });
            let said = output.stdout + &output.stderr;
            assert!(said.lines().any(|line| line.trim_end().ends_with(origin)), "{line}: {said}");
        });
    };
    all_name("work/prismq.toml", None);
    rig.sandbox.write(".env", "TASKMANAGER_API_KEY_FILE=key\n");
    all_name("check TASKMANAGER_API_KEY_FILE in .env", None);
    all_name("check TASKMANAGER_API_KEY_FILE", Some(("TASKMANAGER_API_KEY_FILE", "key")));
    all_name("check TASKMANAGER_API_KEY", Some(("TASKMANAGER_API_KEY", "another")));
}

#[test]
fn the_file_can_be_named() {
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.home(".config/prismq")).unwrap();
    std::fs::write(sandbox.home(".config/prismq/prismq.toml"), "concurrency = 2\n").unwrap();
    let named = sandbox.write("other.toml", "concurrency = 4\n");
    let concurrency = |flags: &[&str]| settings(&sandbox, flags)["concurrency"].0.clone();
    assert_eq!(concurrency(&[]), "2");
    assert_eq!(concurrency(&["--config", "other.toml"]), "4");
    sandbox.write("prismq.toml", "concurrency = 3\n");
    assert_eq!(concurrency(&[]), "3");
    let by_variable = sandbox.prismq(["config"]).env("PRISMQ_CONFIG", named.to_str().unwrap()).run().exits(0);
    assert!(by_variable.stdout.contains("other.toml"));
    complains(&sandbox.prismq(["config", "--config", "nofile.toml"]).run(), 2, &["nofile.toml", "no such file"]);
}

#[test]
fn errors_name_their_place() {
    for (file, words) in [
        ("poll_intervall = \"3s\"\n", &["prismq.toml", "poll_intervall", "did you mean `poll_interval`?"][..]),
        ("\npoll_interval = \"soon\"\n", &["prismq.toml:2", "poll_interval", "not a duration"]),
        ("concurrency = 0\n", &["prismq.toml", "concurrency"]),
        ("api_key = \"hunter2\"\n", &["prismq.toml", "api_key", "api_key_file"]),
        ("[[task_type]]\nname = \"a\"\nexce = [\"wc\"]\n", &["prismq.toml", "exce", "did you mean `exec`?"]),
        ("[[task_type]]\nname = \"a\"\nmode = \"twice\"\n", &["prismq.toml:3", "twice", "persistent"]),
        (
            "[[task_type]]\nname = \"a\"\nhandler = \"youtube.serch\"\n",
            &["youtube.serch", "did you mean `youtube.search`?"],
        ),
        ("[[task_type]]\nname = \"a\"\n[[task_type]]\nname = \"a\"\n", &["prismq.toml", "`a` is defined twice"]),
        ("poll_interval = \n", &["prismq.toml:1"]),
        ("\u{0}", &["prismq.toml"]),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write("prismq.toml", file);
        for command in ["config", "health", "list-types"] {
            let output = sandbox.prismq([command]).run();
            complains(&output, 2, words);
            assert!(!output.stderr.contains("hunter2"));
        }
        complains_in_json(&sandbox.prismq(["config", "--json"]).run(), 2);
    }
}

#[test]
fn variables_and_options_are_origins() {
    for (name, value, words) in [
        ("POLL_INTERVAL", "soon", ["environment (POLL_INTERVAL)", "not a duration"]),
        ("PRISMQ_STRATEGY", "random", ["environment (PRISMQ_STRATEGY)", "fifo, lifo or priority"]),
        ("TASKMANAGER_API_URL", "localhost", ["environment (TASKMANAGER_API_URL)", "http://"]),
        ("PRISMQ_STATUS_ADDR", "localhost", ["environment (PRISMQ_STATUS_ADDR)", "write 127.0.0.1:9090"]),
    ] {
        complains(&Sandbox::new().env(name, value).prismq(["config"]).run(), 2, &words);
        let sandbox = Sandbox::new();
        sandbox.write(".env", format!("{name}={value}\n"));
        complains(&sandbox.prismq(["config"]).run(), 2, &[&words[0].replace("environment", ".env"), words[1]]);
    }
    let sandbox = Sandbox::new();
    complains(&sandbox.prismq(["config", "--api-url", "ftp://x"]).run(), 2, &["--api-url", "http://"]);
    for flags in ["--strategy random", "--poll-interval soon", "--concurrency 0"] {
        let output = sandbox.prismq(["config"]).args(flags.split(' ')).run().exits(2);
        assert!(output.stderr.contains(flags.split(' ').next().unwrap()), "{}", output.stderr);
        let error = complains_in_json(&sandbox.prismq(["config", "--json"]).args(flags.split(' ')).run(), 2);
        assert!(error["error"].as_str().unwrap().contains(flags.split(' ').next().unwrap()), "{error}");
    }
}

#[test]
fn a_timeout_longer_than_the_claim_causes_a_warning() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "prismq.toml",
        "claim_timeout = \"1m\"\n[[task_type]]\nname = \"a.long\"\ntimeout = \"61s\"\n\
         [[task_type]]\nname = \"a.right\"\ntimeout = \"60s\"\n",
    );
    let warning = "a.long: timeout 61s is longer than claim_timeout 60s: attempts time out after 60s, \
                   unless the TaskManager renews claims\n";
    for arguments in [&["config"][..], &["config", "--json"]] {
        assert_eq!(sandbox.prismq(arguments.iter().copied()).run().exits(0).stderr, warning);
    }
    assert_eq!(sandbox.prismq(["config", "--claim-timeout", "2m"]).run().exits(0).stderr, "");
}
