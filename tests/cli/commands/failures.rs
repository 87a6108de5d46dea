//! How failures are shown: in one line with the headline first, or in full with line breaks.

use serde_json::{Value, json};

use crate::support::{ANY, Answer, Rig, Sandbox, ScriptedServer};

/// The stderr tail of a Python program.
const TRACEBACK: [&str; 5] = [
    "loading model",
    "Traceback (most recent call last):",
    "  File \"x.py\", line 3, in <module>",
    "    f()",
    "ValueError: bad value",
];

/// The same in one line.
const LINE: &str = "ValueError: bad value | loading model | Traceback (most recent call last): | File \"x.py\", line 3, \
                    in <module> | f()";

/// A rig whose only task has failed for good with [`TRACEBACK`], and the worker's log.
fn failed() -> (Rig, String) {
    let rig = Rig::with(|settings| settings.max_attempts = 1).knowing_any();
    rig.sandbox.write("stderr", TRACEBACK.join("\n") + "\n");
    let exec = "cat >/dev/null; cat stderr >&2; exit 1";
    rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = '''{exec}'''\n"));
    rig.create(ANY, &json!({"n": 1}));
    let log = rig.run("work --drain --worker-id me").exits(0).stderr;
    (rig, log)
}

#[test]
fn the_headline_comes_first_in_a_line() {
    let (rig, log) = failed();
    let logged = log.lines().find(|line| line.contains(" task failed ")).unwrap();
    assert!(logged.contains(&format!(" error={LINE:?}")), "{logged}");
    let table = rig.run("results").exits(0).stdout;
    assert!(
        table.lines().nth(1).unwrap().ends_with("  ValueError: bad value | loading model | Traceback (most rec…"),
        "{table}"
    );
    let list = rig.run("list-tasks").exits(0).stdout;
    let row = "  me      {\"n\":1}  ValueError: bad value | loading model | Traceback (most rec…";
    assert!(list.lines().nth(1).unwrap().ends_with(row), "{list}");
    let waited = rig.run("create-task example.any n:=1 --wait").exits(1).stderr;
    assert!(waited.lines().last().unwrap().starts_with(&format!("prismq: task 1 failed: {LINE}")), "{waited}");
    assert!(rig.run("stats").exits(0).stdout.contains("\nattempts are counted: "));
    assert!(rig.run("stats --html -").exits(0).stdout.contains("Attempts are counted: "));
}

#[cfg(target_os = "linux")]
#[test]
fn a_list_fits_the_terminal() {
    let (rig, _) = failed();
    let shown = |columns: u16| {
        let line = format!("stty cols {columns} rows 30; exec {} list-tasks", env!("CARGO_BIN_EXE_prismq"));
        let script = ["--quiet", "--return", "--command", &line, "/dev/null"];
        let output = rig.sandbox.program("script", script).env("TERM", "xterm").env("LANG", "C.UTF-8").run().exits(0);
        let lines: Vec<String> = output.stdout.lines().map(|line| line.trim_end().to_owned()).collect();
        assert!(lines.iter().all(|line| console::measure_text_width(line) <= columns.into()), "{columns}: {lines:?}");
        lines
    };
    let wide = shown(160);
    assert!(wide[0].ends_with("PARAMS   ERROR") && wide[0].contains("ATTEMPTS"), "{wide:?}");
    assert!(wide[1].contains("{\"n\":1}  ValueError: bad value | loading"), "{wide:?}");
    let narrow = shown(80);
    assert!(narrow[1].contains("ValueError: bad") && !narrow[0].contains("ATTEMPTS"), "{narrow:?}");
    assert!(shown(50)[0].ends_with("STATUS  CREATED"));
}

#[test]
fn the_history_shows_each_line_of_an_error_once() {
    let (rig, _) = failed();
    let story = rig.run("explain 1").exits(0).stdout;
    let lines: Vec<&str> = story.lines().map(|line| line.get(28..).unwrap_or_default()).collect();
    let at = lines.iter().position(|line| line.contains("(handler, not retryable): ValueError: bad value")).unwrap();
    assert_eq!(lines[at + 1..at + 5], TRACEBACK[..4].iter().map(|line| format!("    {line}")).collect::<Vec<_>>());
    for line in TRACEBACK {
        assert_eq!(story.matches(line).count(), 1, "{line}: {story}");
    }
    // For an attempt that is not in this results file, only the TaskManager has the error.
    let elsewhere = rig.run("explain 1 --results other.db");
    assert_eq!(elsewhere.code(), 2, "{elsewhere:?}");
    let elsewhere = rig.prismq("explain 1").env("PRISMQ_RESULTS", "other.db").run().exits(0).stdout;
    assert!(elsewhere.contains(&format!("; its last failure: {LINE}\n")), "{elsewhere}");
}

#[test]
fn an_error_is_not_repeated_for_attempts_that_were_not_run() {
    let rig = Rig::with(|settings| settings.max_attempts = 3).knowing_any();
    rig.sandbox.write("stderr", TRACEBACK.join("\n") + "\n");
    let exec = "cat >/dev/null; cat stderr >&2; exit 65";
    rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = '''{exec}'''\n"));
    rig.create(ANY, &json!({"n": 1}));
    rig.run("work --drain").exits(0);
    let story = rig.run("explain 1").exits(0).stdout;
    assert_eq!(story.matches("not run again, failed before (validation): ValueError: bad value").count(), 2, "{story}");
    for line in &TRACEBACK[..4] {
        assert_eq!(story.matches(line).count(), 1, "{line}: {story}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn lines_of_results_fit_the_terminal_in_any_script() {
    let rig = Rig::with(|settings| settings.max_attempts = 1).knowing_any();
    rig.sandbox.write("stderr", format!("\x1b[31m{}\u{202e}\n\x1b[0m", "エラー: ファイルが見つかりません".repeat(9)));
    let exec = "cat >/dev/null; cat stderr >&2; exit 1";
    rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = '''{exec}'''\n"));
    rig.create(ANY, &json!({"n": 1}));
    rig.run("work --drain").exits(0);
    for columns in [80, 113, 120, 200] {
        let line = format!("stty cols {columns} rows 30; exec {} results", env!("CARGO_BIN_EXE_prismq"));
        let script = ["--quiet", "--return", "--command", &line, "/dev/null"];
        let output = rig.sandbox.program("script", script).env("TERM", "xterm").env("LANG", "C.UTF-8").run().exits(0);
        let row = output.stdout.lines().nth(1).unwrap().trim_end();
        assert!(row.ends_with('…') && row.contains("Z  エラー: "), "{row}");
        assert!(console::measure_text_width(row) <= columns, "{columns}: {row}");
    }
    let name = "a".repeat(200);
    rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{name}\"\nexec = '''{exec}'''\n"));
    rig.run("register-type --all").exits(0);
    rig.create(&name, &json!({"n": 1}));
    rig.run("work --drain").exits(0);
    for command in ["results", "list-tasks", "stats"] {
        let line = format!("stty cols 80 rows 30; exec {} {command}", env!("CARGO_BIN_EXE_prismq"));
        let script = ["--quiet", "--return", "--command", &line, "/dev/null"];
        let output = rig.sandbox.program("script", script).env("TERM", "xterm").env("LANG", "C.UTF-8").run().exits(0);
        let row = output.stdout.lines().find(|line| line.contains("aaa…")).unwrap().trim_end();
        assert!(console::measure_text_width(row) <= 80, "{row}");
        assert!(command == "stats" || row.contains("エラー"), "{row}");
        assert!(rig.run(command).exits(0).stdout.contains(&name), "programs get it whole");
    }
    let all = rig.run("list-tasks").exits(0).stdout + &rig.run("results 1").exits(0).stdout;
    assert!(!all.contains(['\u{202e}', '\x1b']) && !all.contains("{1b}"), "{all}");
}

#[test]
fn a_result_is_shown_in_full() {
    let (rig, _) = failed();
    let shown = rig.run("results 1").exits(0).stdout;
    let field = |label: &str| shown.lines().find_map(|line| line.strip_prefix(label)).map(str::trim);
    assert_eq!(
        (field("task "), field("attempt "), field("status ")),
        (Some("1, example.any"), Some("1"), Some("failed"))
    );
    assert_eq!(field("error type "), Some("handler, not retryable"));
    assert!(field("reported ").is_some_and(|time| time.starts_with("20")), "{shown}");
    let error = TRACEBACK.map(|line| format!("             {line}\n")).concat();
    assert!(shown.contains(error.trim_start()), "{shown}");
    assert!(shown.contains("\nparams       {\n               \"n\": 1\n             }\n"), "{shown}");
    assert_eq!(rig.run("results 1 --format table").exits(0).stdout, rig.run("results").exits(0).stdout);
    assert_eq!(rig.run("results 1 --json").exits(0).json()["error"], TRACEBACK.join("\n"));
    rig.create(ANY, &json!({"n": 2}));
    rig.run("claim example.any --once").exits(0);
    rig.sandbox.prismq(["complete", "2", "--result", "{\"a\":\"\\u001b[31m\",\"b\":[1]}"]).run().exits(0);
    let completed = rig.run("results 2").exits(0).stdout;
    assert!(completed.contains("\"a\": \"\\u001b[31m\"") && !completed.contains("error"), "{completed}");
}

#[test]
fn the_history_begins_with_the_creation_even_if_clocks_differ() {
    for (created_at, params) in [("2199-11-22 03:18:35", "1.0"), ("1999-11-22 03:18:35", "1")] {
        let task = json!({"id": 5, "type": ANY, "status": "claimed", "attempts": 1, "claimed_by": "me", "priority": 0,
            "params": {"n": 1, "a": {}}, "created_at": created_at, "claimed_at": created_at});
        let claimed = format!(r#"{{"id":5,"type":"{ANY}","attempts":1,"params":{{"n":{params},"a":[]}}}}"#);
        let server = ScriptedServer::start(move |request| match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/tasks/5") => Answer::data(&task),
            ("GET", _) => crate::support::type_found(),
            (_, "/tasks/claim") => Answer::data(&serde_json::from_str::<Value>(&claimed).unwrap()),
            _ => Answer::data(&json!({"id": 5})),
        });
        let sandbox = Sandbox::at(&server.url());
        sandbox.prismq(["claim", ANY, "--worker-id", "me"]).run().exits(0);
        let told = || sandbox.prismq(["explain", "5"]).run().exits(0).stdout;
        let order = |story: &str, words: [&str; 3]| {
            let at = words.map(|words| story.find(words).unwrap_or_else(|| panic!("{words}: {story}")));
            assert!(at.is_sorted() && !story.contains("another task"), "{story}");
        };
        order(&told(), ["created in", "claimed by me, attempt 1: in flight", "claimed in the TaskManager"]);
        sandbox.prismq(["complete", "5"]).run().exits(0);
        order(&told(), ["created in", "claimed by me, attempt 1", "completed after"]);
    }
}

#[test]
fn the_history_says_why_a_task_waits() {
    let rig = Rig::new();
    let create = |n: u32| rig.create(ANY, &json!({"n": n}));
    let waits = |id: u64| {
        let story = rig.run(&format!("explain {id}")).exits(0).stdout;
        story.lines().filter_map(|line| line.split_once("waiting: ")).map(|it| it.1.to_owned()).collect::<Vec<_>>()
    };
    let first = create(1);
    assert_eq!(
        waits(first),
        [
            "example.any is not configured here: only `work --handle` would claim it",
            "no worker runs on this results file"
        ]
    );
    rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\n"));
    assert_eq!(waits(first)[0], "example.any has no handler configured here");
    let until = jiff::Timestamp::now() + jiff::Span::new().hours(2);
    for (exec, reason) in [
        (
            format!("echo '{{\"success\":true,\"message\":\"no more today\",\"not_before\":\"{until}\"}}'"),
            ": no more today",
        ),
        ("exit 69".to_owned(), ": circuit open: too many retryable failures"),
    ] {
        rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = '''{exec}'''\n"));
        let mut worker = rig.spawn("work --worker-id me");
        (10..15).for_each(|n| _ = rig.create(ANY, &json!({"n": n, "exec": exec})));
        worker.wait_for("a pause", |it| {
            it.stderr().contains("task type snoozed") || it.stderr().contains("circuit open")
        });
        let last = rig.create(ANY, &json!({"n": 20, "exec": exec}));
        let told = waits(last);
        assert!(told[0].starts_with("me does not claim example.any until 2") && told[0].ends_with(reason), "{told:?}");
        let told = rig.run(&format!("explain {last} --json")).exits(0).json()["waits"].clone();
        assert_eq!(told.as_array().map(Vec::len), Some(1), "{told}");
        worker.terminate();
        worker.wait().exits(0);
        assert_eq!(waits(last), ["no worker runs on this results file"]);
    }
}

#[test]
fn health_warns_if_most_attempts_fail() {
    let rig = Rig::with(|settings| settings.max_attempts = 1).knowing_any();
    rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = 'exit 1'\n"));
    assert!(rig.run("health").exits(0).stdout.starts_with("healthy\n"));
    for n in 0..10 {
        rig.create(ANY, &json!({"n": n}));
    }
    rig.run("work --drain").exits(0);
    let health = rig.run("health").exits(0).stdout;
    assert!(health.starts_with("healthy, but 10 of the last hour's 10 attempts failed\n"), "{health}");
    let health = rig.run("health --json").exits(0).json();
    assert_eq!(
        (&health["healthy"], &health["warning"]),
        (&json!(true), &json!("10 of the last hour's 10 attempts failed"))
    );
}
