//! `list-tasks` and `show-task`.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, mpsc};

use serde_json::{Value, json};

use crate::support::{
    ANY, Answer, Request, Rig, Sandbox, ScriptedServer, at_once, complains, finds_nothing, memory, recorded,
};

/// A rig with a completed, a claimed and a pending task of [`ANY`], and a pending one of another type.
fn rig() -> Rig {
    let rig = Rig::new();
    rig.run("register-type other.one --schema {\"type\":\"object\"}").exits(0);
    (1..=3).for_each(|n| _ = rig.create(ANY, &json!({"n": n})));
    rig.create("other.one", &json!({}));
    rig.run("claim example.any --once --worker-id me").exits(0);
    rig.run("complete 1").exits(0);
    rig.run("claim example.any --once --worker-id me").exits(0);
    rig
}

fn ids(rig: &Rig, flags: &str) -> Vec<u64> {
    let lines = rig.run(&format!("list-tasks --json {flags}")).exits(0).json_lines();
    lines.iter().map(|task| task["id"].as_u64().unwrap()).collect()
}

#[test]
fn tasks_are_listed_newest_first() {
    let rig = rig();
    let output = rig.run("list-tasks").exits(0);
    let rows: Vec<Vec<&str>> = output.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let heading = ["ID", "TYPE", "STATUS", "ATTEMPTS", "PROGRESS", "CREATED", "WORKER", "PARAMS", "ERROR"];
    assert_eq!(rows[0], heading);
    assert_eq!(rows[1][..4], ["4", "other.one", "pending", "0"]);
    assert_eq!(rows[3][..4], ["2", ANY, "claimed", "1"]);
    assert_eq!(rows[3][rows[3].len() - 2..], ["me", "{\"n\":2}"]);
    assert_eq!(rows[4][..6], ["1", ANY, "completed", "1", "100", "%"]);
    assert_eq!((rows.len(), output.stderr.as_str()), (5, ""));

    let lines = rig.run("list-tasks --json").exits(0).json_lines();
    assert_eq!(lines.len(), 4);
    for (key, value) in [("id", json!(1)), ("type", json!(ANY)), ("status", json!("completed")), ("attempts", json!(1))]
    {
        assert_eq!(lines[3][key], value, "{key}");
    }
    assert!(lines[3]["created_at"].as_str().is_some_and(|time| time.len() == 19), "{}", lines[3]);
}

#[test]
fn filters_limit_the_list() {
    let rig = rig();
    assert_eq!(ids(&rig, ""), [4, 3, 2, 1]);
    assert_eq!(ids(&rig, "--status pending"), [4, 3]);
    assert_eq!(ids(&rig, "--status claimed"), [2]);
    assert_eq!(ids(&rig, "--status completed"), [1]);
    assert_eq!(ids(&rig, "--status failed"), [] as [u64; 0]);
    assert_eq!(ids(&rig, "--type other.one"), [4]);
    assert_eq!(ids(&rig, "--type other.%"), [4]);
    assert_eq!(ids(&rig, "--type exam%"), [3, 2, 1]);
    assert_eq!(ids(&rig, "--type exam*"), [] as [u64; 0]);
    assert_eq!(ids(&rig, "--type example.any --status pending"), [3]);
    assert_eq!(ids(&rig, "--limit 2"), [4, 3]);
    let more = "showing the newest 2; use --limit N for more\n";
    for (flags, note) in [("--limit 2", more), ("--limit 2 --json", more), ("--limit 2 -q", ""), ("--limit 4", "")] {
        assert_eq!(rig.run(&format!("list-tasks {flags}")).exits(0).stderr, note, "{flags}");
    }
    for (flags, note) in [
        ("--status failed", "no failed task\n"),
        ("--type nope", "no task of type nope\n"),
        ("--type nope --status pending --json", "no pending task of type nope\n"),
    ] {
        finds_nothing(&rig.run(&format!("list-tasks {flags}")), note);
    }
    for (status, advice) in [("open", false), ("complete", true), ("Pend", true)] {
        let refused = rig.run(&format!("list-tasks --status {status}")).exits(2);
        assert_eq!(refused.stderr.contains("did you mean"), advice, "{}", refused.stderr);
    }
    for line in ["list-tasks --limit 0", "list-tasks --limit x", "list-tasks --status done"] {
        rig.run(line).exits(2);
    }
}

/// A parameter of a request's query.
fn parameter(request: &Request, name: &str) -> usize {
    let (_, query) = request.path.split_once('?').unwrap();
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap();
    value.parse().unwrap()
}

/// A listed task, created in the second given by its id.
fn listed(id: usize) -> Value {
    let (hour, minute, second) = (id / 3600, id / 60 % 60, id % 60);
    let created_at = format!("2026-11-22 {hour:02}:{minute:02}:{second:02}");
    json!({"id": id, "type": ANY, "status": "pending", "attempts": 0, "params": {}, "created_at": created_at})
}

/// A server that lists 120 failed tasks without their params, as the published one does, and shows those in full that
/// `shows` accepts.
fn brief(shows: impl Fn(u64) -> bool + Send + Sync + 'static) -> ScriptedServer {
    ScriptedServer::start(move |request| {
        let mut task = json!({"type": ANY, "status": "failed", "attempts": 3, "created_at": "2026-11-22 03:18:35"});
        if let Some(id) = request.path.split_once("/tasks/").and_then(|(_, id)| id.parse().ok()) {
            task["id"] = json!(id);
            task["params"] = json!({"n": id});
            task["error_message"] = json!(format!("loading\nbad {id}"));
            return if shows(id) {
                Answer::data(&json!({"items": [task], "count": 1}))
            } else {
                Answer::error(500, "no")
            };
        }
        let (limit, offset) = (parameter(request, "limit"), parameter(request, "offset"));
        let numbered = |id: usize| {
            task["id"] = json!(id);
            task.clone()
        };
        let page: Vec<Value> = (1..=120).rev().skip(offset).take(limit).map(numbered).collect();
        Answer::data(&json!({"items": page, "count": page.len()}))
    })
}

#[test]
fn each_task_is_listed_with_its_params_and_error() {
    let server = brief(|_| true);
    let sandbox = Sandbox::at(&server.url());
    let list = |flags: &[&str]| sandbox.prismq([&["list-tasks", "--limit", "1000"], flags].concat()).run().exits(0);
    let output = list(&["--json"]);
    for (task, id) in output.json_lines().iter().zip((1..=120).rev()) {
        assert_eq!((&task["id"], &task["params"]["n"]), (&json!(id), &json!(id)), "{task}");
        assert_eq!(task["error_message"], format!("loading\nbad {id}"));
    }
    assert_eq!((output.json_lines().len(), output.stderr.as_str()), (120, ""));
    let table = list(&[]);
    for (row, id) in table.stdout.lines().skip(1).zip((1..=120).rev()) {
        assert!(
            row.contains(&format!("  {{\"n\":{id}}} ")) && row.ends_with(&format!("  bad {id} | loading")),
            "{row}"
        );
    }
    assert_eq!((table.stdout.lines().count(), table.stderr.as_str()), (121, ""));
}

#[test]
fn missing_details_are_noted() {
    let server = brief(|id| id > 60);
    let sandbox = Sandbox::at(&server.url());
    for flags in [&[][..], &["--json"]] {
        let output = sandbox.prismq([&["list-tasks", "--limit", "1000"], flags].concat()).run().exits(0);
        let note = output.stderr.strip_suffix("; see `prismq show-task ID` for a single task\n").unwrap_or_default();
        let left_out: usize = note.split(' ').nth(4).and_then(|count| count.parse().ok()).unwrap_or_default();
        assert!((60..=120).contains(&left_out) && note.starts_with("params and errors of "), "{}", output.stderr);
        let shown = output.stdout.lines().filter(|line| line.contains("loading")).count();
        assert_eq!(shown, 120 - left_out, "{}", output.stdout);
    }
}

/// A server with pages by offset and 1,234 tasks, at most `most` to a page.
fn full(most: usize) -> ScriptedServer {
    ScriptedServer::start(move |request| {
        let (limit, offset) = (parameter(request, "limit"), parameter(request, "offset"));
        let page: Vec<Value> =
            (offset..(offset + limit.min(most)).min(1234)).map(|before| listed(1234 - before)).collect();
        Answer::data(&json!({"items": page, "count": page.len()}))
    })
}

#[test]
fn long_lists_are_read_in_pages() {
    for most in [usize::MAX, 100] {
        let server = full(most);
        let sandbox = Sandbox::at(&server.url());
        let list = |limit: &str| {
            let lines = sandbox.prismq(["list-tasks", "--json", "--limit", limit]).run().exits(0).json_lines();
            lines.iter().map(|task| task["id"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        assert!(list("50").into_iter().eq((1185..=1234).rev()));
        assert!(list("1100").into_iter().eq((135..=1234).rev()), "{:?}", server.calls());
        assert!(list("100000").into_iter().eq((1..=1234).rev()), "{:?}", server.calls());
    }
}

/// A server with pages by key and this many tasks; each request for a page adds a task.
fn growing(count: usize) -> ScriptedServer {
    let newest = AtomicUsize::new(count);
    ScriptedServer::start(move |request| {
        let newest = newest.fetch_add(1, SeqCst);
        let next = if request.path.contains("before=") { parameter(request, "before") - 1 } else { newest };
        let page: Vec<Value> = (1..=next).rev().take(parameter(request, "limit")).map(listed).collect();
        Answer::data(&json!(page))
    })
}

#[test]
fn new_tasks_cause_no_gaps_or_repetitions_in_a_list() {
    let server = growing(1700);
    let list = ["list-tasks", "--json", "--limit", "100000"];
    let lines = Sandbox::at(&server.url()).prismq(list).run().exits(0).json_lines();
    let ids = lines.iter().map(|task| task["id"].as_u64().unwrap());
    assert!(ids.eq((1..=1700).rev()), "{:?}", server.calls());
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_length_of_a_list() {
    let (sender, process) = mpsc::channel();
    let (process, early) = (Mutex::new((process, None)), AtomicU64::new(0));
    let server = ScriptedServer::start(move |request| {
        let (limit, offset) = (parameter(request, "limit"), parameter(request, "offset"));
        let (receiver, known) = &mut *process.lock().unwrap();
        let peak = memory(*known.get_or_insert_with(|| receiver.recv().unwrap()), "VmHWM");
        if offset >= 5000 && early.load(SeqCst) == 0 {
            early.store(peak, SeqCst);
        }
        if offset > 49_000 {
            let early = early.load(SeqCst);
            assert!(peak < early + 4096, "{early} KiB have grown to {peak}");
        }
        let page: Vec<Value> = (offset..(offset + limit).min(50_000)).map(|n| listed(100_000 - n)).collect();
        Answer::data(&json!(page))
    });
    let sandbox = Sandbox::at(&server.url());
    let listing = sandbox.prismq(["list-tasks", "--json", "--limit", "1000000"]).start();
    sender.send(listing.id()).unwrap();
    assert_eq!(listing.wait().exits(0).stdout.lines().count(), 50_000);
}

#[test]
fn show_task_prints_the_complete_task() {
    let rig = rig();
    let output = rig.run("show-task 1").exits(0);
    let task = output.json();
    assert!(output.stdout.lines().count() > 8 && output.stderr.is_empty());
    for (key, value) in [("id", json!(1)), ("params", json!({"n": 1})), ("error_message", Value::Null)] {
        assert_eq!(task[key], value, "{key}");
    }
    assert_eq!(task["result"]["success"], true);
    let line = rig.run("show-task 1 --json").exits(0);
    assert_eq!((line.stdout.lines().count(), line.json()), (1, task));
    assert_eq!(rig.task(3)["result"], Value::Null);
}

#[test]
fn tasks_of_the_published_server_look_the_same() {
    let server =
        ScriptedServer::queue([recorded("show the completed task"), recorded("show it: the empty result is null")]);
    let sandbox = Sandbox::at(&server.url());
    let show = || sandbox.prismq(["show-task", "1", "--json"]).run().exits(0).json();
    let (task, unusual) = (show(), show());
    assert!(task["id"].is_u64() && task["params"].is_object() && task["result"].is_object(), "{task}");
    assert_eq!(task["created_at"].as_str().map(str::len), Some(19));
    assert_eq!(unusual["result"], Value::Null);

    let server = ScriptedServer::queue([recorded("list tasks"), Answer::data(&json!([]))]);
    let lines = Sandbox::at(&server.url()).prismq(["list-tasks", "--json"]).run().exits(0).json_lines();
    assert!(lines.iter().all(|task| task["id"].is_u64()) && !lines.is_empty(), "{lines:?}");
}

#[test]
fn a_missing_task_is_an_error() {
    let rig = Rig::new();
    complains(&rig.run("show-task 7"), 1, &["has no task 7"]);
    let server = ScriptedServer::queue([recorded("show a task that does not exist")]);
    complains(&Sandbox::at(&server.url()).prismq(["show-task", "999"]).run(), 1, &["has no task 999"]);
    for id in ["x", "-1", "1.5", "9223372036854775808"] {
        let output = rig.run(&format!("show-task {id}")).exits(2);
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
}

/// A server with three types and this many tasks of [`ANY`].
fn filled(rig: &Rig, count: u64) {
    let lines: Vec<String> = (0..count).map(|n| json!({"n": n}).to_string()).collect();
    for task_type in [ANY, "send_mail", "send.mail"] {
        rig.run(&format!("register-type {task_type} --schema {{\"type\":\"object\"}}")).exits(0);
    }
    let create = rig.prismq("create-task example.any --from - --concurrency 8");
    create.stdin(lines.join("\n")).run().exits(0);
}

#[test]
fn the_published_server_is_listed_exactly_although_it_sorts_by_whole_seconds() {
    let mut rig = Rig::empty();
    filled(&rig, 1700); // in batches, which the published server does not take
    rig.taskmanager.restart_with(|settings| settings.faults.published = true);
    for limit in [1, 50, 600, 100_000] {
        let wanted: Vec<u64> = (1..=1700).rev().take(limit).collect();
        assert_eq!(ids(&rig, &format!("--limit {limit}")), wanted, "--limit {limit}");
    }
}

#[test]
fn a_type_filter_matches_names_literally() {
    at_once([Rig::published(), Rig::new()], |rig| {
        filled(&rig, 1);
        for task_type in ["send_mail", "send.mail"] {
            rig.run(&format!("create-task {task_type} n:=1")).exits(0);
        }
        let list = |pattern: &str| {
            let lines = rig.sandbox.prismq(["list-tasks", "--json", "--type", pattern]).run().exits(0).json_lines();
            lines.iter().map(|task| task["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(list("send_mail"), ["send_mail"]);
        assert_eq!(list("send.mail"), ["send.mail"]);
        assert_eq!(list("send_%"), ["send_mail"]);
        assert_eq!(list("send%"), ["send.mail", "send_mail"]);
        for nothing in ["Send_Mail", r"send\_mail", "send*", "SEND%", "_end_mail"] {
            assert_eq!(list(nothing), [""; 0], "{nothing}");
        }
    });
}
