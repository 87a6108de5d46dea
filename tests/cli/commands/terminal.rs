//! Live lines on a terminal, what Ctrl-C leaves there, and what `-q` omits anywhere.

#[cfg(target_os = "linux")]
use std::sync::Mutex;
#[cfg(target_os = "linux")]
use std::sync::mpsc::channel;

use serde_json::json;

#[cfg(target_os = "linux")]
use crate::support::{ANY, Answer, Rig, Running, Sandbox, ScriptedServer, at_once, type_found};

/// Presses Ctrl-C, asserts the exit code, and returns what the terminal shows.
#[cfg(target_os = "linux")]
#[track_caller]
fn interrupted(mut running: Running, code: i32) -> String {
    running.type_in("\x03");
    left_on_terminal(&running.wait().exits(code).stdout)
}

/// What the terminal shows at the end. Asserts that a prompt would start on a new line.
#[cfg(target_os = "linux")]
#[track_caller]
fn left_on_terminal(written: &str) -> String {
    let [rows, columns] = [30, 100].map(|size| size.try_into().unwrap());
    let mut terminal = vt100::Parser::new(rows, columns, 0);
    terminal.process(written.as_bytes());
    let screen = terminal.screen();
    assert_eq!(screen.cursor_position().1, 0, "the cursor is on a line of its own: {}", screen.contents());
    assert!(!screen.hide_cursor() && !screen.alternate_screen(), "the terminal is as it was");
    assert!(!screen.contents().contains("^C"), "{}", screen.contents());
    screen.contents()
}

#[cfg(target_os = "linux")]
#[test]
fn claim_shows_that_it_waits_for_a_task() {
    let rig = Rig::new();
    let mut claim = rig.prismq("claim example.any").on_terminal().start();
    claim.wait_for_stdout("waiting for a task of type example.any");
    assert_eq!(interrupted(claim, 130), "");
}

#[cfg(target_os = "linux")]
#[test]
fn waiting_for_a_result_shows_progress() {
    let rig = Rig::new();
    let mut wait = rig.prismq("create-task example.any a=1 --wait").on_terminal().start();
    wait.wait_for_stdout("task 1 is pending, 0 %");
    rig.run("claim example.any --once --worker-id me").exits(0);
    rig.run("progress 1 40").exits(0);
    wait.wait_for_stdout("task 1 is claimed, 40 %");
    let [created, left] =
        ["task 1 created, waiting for it to finish", "interrupted: task 1 stays queued; see `prismq show-task 1`"];
    assert_eq!(interrupted(wait, 130), format!("{created}\n{left}"));
}

#[cfg(target_os = "linux")]
#[test]
fn commands_show_that_they_wait_for_the_taskmanager() {
    let rig = Rig::new();
    let server = ScriptedServer::always(Answer::hang());
    let commands = [
        "explain 1",
        "health --timeout 20s",
        "list-types",
        "list-tasks",
        "list-tasks --json",
        "show-task 1",
        "register-type a --schema {\"type\":\"object\"}",
        "create-task a b=c",
        "progress 1 40 --worker-id me",
        "complete 1 --worker-id me",
        "fail 1 --error no --worker-id me",
    ];
    let url = server.url();
    let start = |command| (command, rig.prismq(&format!("{command} --api-url {url}")).on_terminal().start());
    for (command, mut asking) in commands.map(start) {
        asking.wait_for_stdout(&format!("waiting for the TaskManager at {url}"));
        assert_eq!(interrupted(asking, 130), "", "{command}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn claim_run_shows_what_it_waits_for() {
    let server = ScriptedServer::always(Answer::hang());
    let sandbox = Sandbox::at(&server.url());
    for command in ["claim example.any", "claim example.any --run", "replay 1"] {
        let mut asking = sandbox.prismq(command.split(' ')).on_terminal().start();
        asking.wait_for_stdout(&format!("waiting for the TaskManager at {}", server.url()));
        assert_eq!(interrupted(asking, 130), "", "{command}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_live_line_shows_that_a_report_is_waiting() {
    let claimed = json!({"id": 1, "type": ANY, "params": {}, "attempts": 1, "status": "claimed"});
    let server = ScriptedServer::start(move |request| match request.path.as_str() {
        "/tasks/claim" => Answer::data(&claimed),
        "/tasks/1/complete" => Answer::hang(),
        _ => type_found(),
    });
    let sandbox = Sandbox::at(&server.url());
    sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = \"echo 42\"\n"));
    let mut claim = sandbox.prismq(["claim", "--run"]).on_terminal().start();
    claim.wait_for_stdout("waiting for the TaskManager at");
    assert!(claim.stdout().contains("\"data\": 42"), "the result is shown before: {}", claim.stdout());
}

#[cfg(target_os = "linux")]
#[test]
fn registering_many_types_shows_progress() {
    let (go, gone) = channel();
    let gone = Mutex::new(gone);
    let server = ScriptedServer::start(move |request| {
        let name = &request.json()["name"];
        match name.as_str() {
            Some("a.slow") => gone.lock().unwrap().recv().unwrap_or_default(),
            Some("a.last") => return Answer::hang(),
            _ => {}
        }
        Answer::data(&json!({"id": 1, "name": name, "version": "1.0.0", "created": true}))
    });
    let sandbox = Sandbox::at(&server.url());
    let types = ["a.one", "a.slow", "a.last"];
    let types = types.map(|name| format!("[[task_type]]\nname = \"{name}\"\nhandler = \"echo\"\n"));
    sandbox.write("prismq.toml", types.concat());
    let mut register = sandbox.prismq(["register-type", "--all"]).on_terminal().start();
    register.wait_for_stdout("1/3 registering a.slow");
    go.send(()).unwrap();
    register.wait_for_stdout("2/3 registering a.last");
    let left = interrupted(register, 130);
    assert_eq!(left, "registered a.one 1.0.0 (id 1)\nregistered a.slow 1.0.0 (id 1)");
}

#[cfg(target_os = "linux")]
#[test]
fn the_progress_bar_is_removed_and_messages_stay() {
    let rig = Rig::new();
    let lines: Vec<String> = (0..100_000).map(|number| format!("{{\"n\":{number}}}")).collect();
    rig.sandbox.write("many.jsonl", lines.join("\n"));
    let mut create = rig.prismq("create-task example.any --from many.jsonl").on_terminal().start();
    create.wait_for_stdout(" left");
    let shown = interrupted(create, 130);
    let shown: Vec<&str> = shown.lines().collect();
    let [ids @ .., last] = shown.as_slice() else { panic!("{shown:?}") };
    assert!(last.starts_with("prismq: interrupted after line "), "{shown:?}");
    // The line of the error is wider than the terminal.
    let ids = ids.iter().filter(|line| !line.starts_with("prismq")).copied().collect::<Vec<_>>();
    assert!(ids.len() > 20 && ids.iter().all(|id| id.parse::<u64>().is_ok()), "{shown:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_log_is_printed_above_the_live_line() {
    let rig = Rig::new();
    rig.create(ANY, &json!({"a": 1}));
    let mut work = rig.sandbox.prismq(["work", "--handle", "example.any=true"]).on_terminal().start();
    work.wait_for_stdout("1 completed, 0 failed");
    let fields = "INFO  task claimed\x1b[2m task_id=1 task_type=example.any attempt=1\x1b[0m\r\n";
    assert!(work.stdout().contains(fields), "the message stands out: {:?}", work.stdout());
    let shown = interrupted(work, 0);
    assert!(shown.lines().all(|line| line.contains("Z INFO ")), "{shown}");
    assert!(shown.lines().next_back().unwrap().contains("worker stopped completed=1 failed=0"), "{shown}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_live_line_does_not_count_repeated_failures() {
    let rig = Rig::new();
    rig.create(ANY, &json!({"a": "bad"}));
    rig.create(ANY, &json!({"a": "good"}));
    let mut work =
        rig.sandbox.prismq(["work", "--handle", "example.any=grep -q good || exit 65"]).on_terminal().start();
    // The second and third attempts of the first task may come after the other task.
    work.wait_for("all attempts", |_| rig.results().len() == 4);
    wait_until_idle(&mut work, "1 completed, 1 failed");
    assert!(!work.stdout().contains("2 failed"), "{}", work.stdout());
    interrupted(work, 0);
    assert_eq!(rig.results().len(), 4);
}

/// Waits until the live line has these counts and nothing is in flight that may still be logged.
fn wait_until_idle(work: &mut Running, counts: &str) {
    let is_idle = |line: &str| line.split('|').nth(1).is_some_and(|now| now.starts_with(" waiting for tasks"));
    work.wait_for("the worker waits again", |work| work.stdout().split(counts).skip(1).any(is_idle));
}

#[cfg(target_os = "linux")]
#[test]
fn the_live_line_shows_the_progress_of_a_task() {
    let rig = Rig::new();
    let handler = "example.any=echo '{\"progress\":40}' >&3; while [ ! -e go ]; do sleep 0.05; done";
    let mut work = rig.sandbox.prismq(["work", "--handle", handler]).on_terminal().start();
    work.wait_for_stdout("0 completed, 0 failed, 0.0/s | waiting for tasks");
    rig.create(ANY, &json!({"a": 1}));
    work.wait_for_stdout("running 1 example.any 40 %");
    rig.sandbox.write("go", "");
    wait_until_idle(&mut work, "1 completed, 0 failed");
    interrupted(work, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_handler_cannot_be_stopped_by_the_terminal() {
    let rig = Rig::new();
    // It runs one task, or one after another.
    let handler = r#"read -r task; stty -echo </dev/tty 2>/dev/null && tty=true || tty=false
id=${task#*:}; echo "{\"id\":${id%%,*},\"success\":true,\"data\":{\"tty\":$tty}}""#;
    for (number, (line, mode)) in [
        ("work --drain", "once"),
        ("work --drain", "persistent"),
        ("claim --run --once", "once"),
        ("claim --run --once", "persistent"),
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("[[task_type]]\nname = \"{ANY}\"\nexec = '''{handler}'''\nmode = \"{mode}\"\n");
        rig.sandbox.write("prismq.toml", table);
        let id = rig.create(ANY, &json!({"n": number}));
        rig.prismq(line).on_terminal().run().exits(0);
        let result = rig.task(id)["result"]["data"].clone();
        assert_eq!(result, json!({"tty": false}), "{line} {mode}");
    }
    let shown = rig.prismq("replay 1").on_terminal().run().exits(0).stdout;
    assert!(shown.contains("\"tty\": false"), "{shown}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_live_line_counts_tasks_that_do_not_fit() {
    let rig = Rig::new();
    let name = "example.of_a_longer_name";
    rig.run(&format!("register-type {name} --schema {{\"type\":\"object\"}}")).exits(0);
    for number in 0..4 {
        rig.create(name, &json!({"n": number}));
    }
    let handler = format!("{name}=until test -e go; do sleep 0.05; done");
    let mut work = rig.sandbox.prismq(["work", "--concurrency", "4", "--handle", &handler]).on_terminal().start();
    work.wait_for_stdout(&format!("running 1 {name}, 3 more"));
    rig.sandbox.write("go", "");
    wait_until_idle(&mut work, "4 completed, 0 failed");
    // A line of the log that comes with Ctrl-C has the terminal's ^C before it.
    work.wait_for("all to be logged", |work| work.stdout().matches("duration_ms").count() == 4);
    interrupted(work, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn claim_run_shows_the_progress_of_the_handler() {
    let rig = Rig::new();
    let handler =
        r#"echo '{"progress":40,"message":"half"}' >&3; until test -e go; do sleep 0.05; done; echo over >&2"#;
    rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = '''{handler}'''\n"));
    rig.create(ANY, &json!({"a": 1}));
    for (command, exit) in [("claim --run --once", 0), ("replay 1", 0), ("replay 1", 130)] {
        let mut running = rig.prismq(command).on_terminal().start();
        running.wait_for_stdout("running task 1, 40 %: half");
        let shown = if exit == 130 {
            interrupted(running, exit)
        } else {
            rig.sandbox.write("go", "");
            running.wait_for_stdout("over\r\n");
            std::fs::remove_file(rig.sandbox.path("go")).unwrap();
            left_on_terminal(&running.wait().exits(exit).stdout)
        };
        assert!(!shown.contains("40 %"), "the line is taken away: {shown}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_row_of_results_is_a_line_of_the_terminal() {
    let rig = Rig::new();
    rig.create(ANY, &json!({"a": "long ".repeat(40)}));
    rig.sandbox.prismq(["work", "--drain", "--handle", "example.any=cat"]).run().exits(0);
    let whole = rig.run("results").exits(0).stdout;
    assert!(whole.contains("ATTEMPT") && whole.lines().last().unwrap().chars().count() > 100, "{whole}");
    let shown = rig.prismq("results").on_terminal().run().exits(0).stdout;
    assert!(shown.contains("example.any") && shown.lines().all(|line| line.chars().count() <= 100), "{shown}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_row_of_tasks_is_a_line_of_the_terminal() {
    for (length, heading) in [
        (5, "ID TYPE STATUS ATTEMPTS PROGRESS CREATED WORKER"),
        (40, "ID TYPE STATUS CREATED WORKER"),
        (70, "ID TYPE STATUS CREATED"),
    ] {
        let rig = Rig::new();
        rig.create(ANY, &json!({}));
        rig.prismq("claim example.any --once --worker-id").args([&*"w".repeat(length)]).run().exits(0);
        let shown = rig.prismq("list-tasks").on_terminal().run().exits(0).stdout;
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>().join(" "), heading);
        assert!(lines.len() == 2 && lines.iter().all(|line| line.len() <= 100), "{shown}");
        assert!(rig.run("list-tasks").exits(0).stdout.contains("ATTEMPTS"), "programs get all there is");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_demo_can_be_interrupted() {
    let rig = Rig::new();
    let mut demo = rig.prismq("demo").on_terminal().start();
    demo.wait_for_stdout("/200 ");
    let shown = interrupted(demo, 130);
    assert!(shown.contains("created 200 tasks") && !shown.contains("/200"), "{shown}");
}

#[cfg(target_os = "linux")]
#[test]
fn no_live_line_if_a_command_is_quick_or_quiet() {
    let rig = Rig::new();
    let quick = rig.prismq("list-types").on_terminal().run().exits(0);
    assert!(quick.stdout.contains(ANY) && !quick.stdout.contains("waiting"), "{quick:?}");
    (1..=3).for_each(|n| _ = rig.create(ANY, &json!({"a": n})));
    at_once([("-q", "A", "b"), ("-v", "NO_COLOR", "1"), ("-v", "TERM", "dumb")], |(flag, name, value)| {
        let line = ["work", flag, "--handle", "example.any=echo", "--exit-after-idle", "1500ms"];
        let work = rig.sandbox.prismq(line).env(name, value).on_terminal().run().exits(0);
        assert!(!work.stdout.contains('\x1b') && !work.stdout.contains("0 failed,"), "{flag} {name}: {work:?}");
    });
}

#[test]
fn quiet_commands_print_only_problems() {
    let rig = Rig::new();
    rig.sandbox.write("tasks.jsonl", "{\"a\":1}\nno json\n");
    let told = rig.run("create-task example.any --from tasks.jsonl").exits(1);
    assert!(told.stderr.ends_with("1 created, 0 already existed, 1 failed\n"), "{told:?}");
    let quiet = rig.run("create-task example.any --from tasks.jsonl -q").exits(1);
    assert!(quiet.stderr.starts_with("line 2: not valid JSON") && quiet.stderr.lines().count() == 1, "{quiet:?}");
    assert!(
        quiet.stderr.contains(" at column ") && !quiet.stderr.contains("line 1"),
        "one number of a line: {quiet:?}"
    );
    for (line, code) in [
        ("create-task example.any a:=1 -q", 0),
        ("claim example.any --once -q --worker-id me", 0),
        ("explain 1 -q", 0),
        ("init -q", 0),
    ] {
        let output = rig.run(line).exits(code);
        assert_eq!(output.stderr, "", "{line}");
    }
    assert!(rig.run("show-task 77 -qq").exits(1).stderr.starts_with("prismq: the TaskManager has no task 77"));
}

#[test]
fn verbose_commands_log_each_call() {
    let rig = Rig::new();
    let output = rig.run("list-types -v").exits(0);
    assert!(output.stderr.contains("DEBUG TaskManager call call=list_types status=200 seconds=0."), "{output:?}");
}
