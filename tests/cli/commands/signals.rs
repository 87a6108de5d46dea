//! Signals to every long-running command: those ignored at the start stay ignored, and of the others the second one ends
//! the command soon, whatever is in flight.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::{ANY, Answer, Rig, Running, Sandbox, ScriptedServer, plain, type_found, wait_for};

/// Starts `prismq` with signals ignored or blocked, by these options of `env`.
#[cfg(target_os = "linux")]
fn started_with(sandbox: &Sandbox, options: &str, line: &str) -> Running {
    let line = format!("exec env {options} '{}' {line}", env!("CARGO_BIN_EXE_prismq"));
    sandbox.program("sh", ["-c", &line]).start()
}

/// A set of signals, by its name in `/proc/PID/status`.
#[cfg(target_os = "linux")]
fn signals(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.and_then(|line| u64::from_str_radix(line, 16).ok()).unwrap_or_default()
}

#[cfg(target_os = "linux")]
fn is_in(set: u64, signal: Signal) -> bool {
    set & (1 << (signal.as_raw() - 1)) != 0
}

#[cfg(target_os = "linux")]
#[test]
fn signals_ignored_at_the_start_stay_ignored() {
    let rig = Rig::new();
    let hangs = ScriptedServer::always(Answer::hang());
    let url = hangs.url();
    let lines = [
        format!("work --handle {ANY}=cat"),
        format!("work --handle {ANY}=cat --api-url {url}"),
        "serve --listen 127.0.0.1:0 --db served.db".into(),
        format!("claim {ANY}"),
        format!("claim {ANY} --run --api-url {url}"),
        format!("create-task {ANY} a=1 --wait"),
        format!("create-task {ANY} --from fifo"),
        format!("explain 1 --api-url {url}"),
        "stats --watch".into(),
    ];
    Command::new("mkfifo").arg(rig.sandbox.path("fifo")).status().unwrap();
    let feeds = fs::OpenOptions::new().read(true).write(true).open(rig.sandbox.path("fifo")).unwrap();
    let started = lines.map(|line| (started_with(&rig.sandbox, "--ignore-signal=HUP,INT", &line), line));
    for (mut command, line) in started {
        let file = format!("/proc/{}/status", command.id());
        command.wait_for(&format!("{line}: only SIGTERM ends it"), |_| {
            let status = fs::read_to_string(&file).unwrap_or_default();
            let (ignored, caught) = (signals(&status, "SigIgn"), signals(&status, "SigCgt"));
            let stays = |signal| is_in(ignored, signal) && !is_in(caught, signal);
            is_in(caught, Signal::TERM) && stays(Signal::HUP) && stays(Signal::INT)
        });
        command.signal(Signal::HUP);
        command.signal(Signal::INT);
        end_by(&mut command, Signal::TERM, &line);
    }
    drop(feeds);
}

#[cfg(target_os = "linux")]
#[test]
fn signals_blocked_at_the_start_are_unblocked() {
    let rig = Rig::new();
    let lines = [
        format!("work --handle {ANY}=cat"),
        "serve --listen 127.0.0.1:0 --db served.db".into(),
        format!("claim {ANY}"),
        "stats --watch".into(),
    ];
    for line in lines {
        let mut command = started_with(&rig.sandbox, "--block-signal=HUP,INT,TERM", &line);
        let file = format!("/proc/{}/status", command.id());
        command.wait_for(&format!("{line}: SIGTERM is caught"), |_| {
            is_in(signals(&fs::read_to_string(&file).unwrap_or_default(), "SigCgt"), Signal::TERM)
        });
        end_by(&mut command, Signal::TERM, &line);
    }
    // A command that handles no signals ends at the first one.
    let hangs = ScriptedServer::always(Answer::hang());
    let line = format!("list-tasks --api-url {}", hangs.url());
    let mut command = started_with(&rig.sandbox, "--block-signal=HUP,INT,TERM", &line);
    wait_for("its call", || (!hangs.requests().is_empty()).then_some(()));
    end_by(&mut command, Signal::TERM, &line);
}

#[cfg(target_os = "linux")]
#[test]
fn handlers_inherit_only_an_ignored_sighup() {
    let rig = Rig::new();
    rig.create(ANY, &json!({}));
    let options = "--block-signal=USR1 --ignore-signal=HUP,CHLD,PIPE";
    let work = started_with(&rig.sandbox, options, &format!("work --drain --handle {ANY}='cat /proc/self/status'"));
    work.wait().exits(0);
    let output = rig.results()[0]["data"]["output"].as_str().unwrap().to_owned();
    // Signals above 31 belong to the thread library.
    let sets = ["SigBlk", "SigIgn", "SigCgt"].map(|name| signals(&output, name) & 0x7fff_ffff);
    assert_eq!(sets, [0, 1, 0], "SIGHUP is ignored, none is blocked: {output}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_survives_the_end_of_its_terminal() {
    let rig = Rig::new();
    let line =
        format!("trap '' HUP; exec '{}' work --handle {ANY}=cat --results here.db", env!("CARGO_BIN_EXE_prismq"));
    let line = format!("{line} & echo $! >pid; wait");
    let mut running = rig.sandbox.program("sh", ["-c", &line]).on_terminal().start();
    running.wait_for_stdout("waiting for tasks");
    let pid = rig.sandbox.read("pid").trim().parse().ok().and_then(Pid::from_raw).unwrap();
    running.crash();
    rig.run(&format!("create-task {ANY} a=1 --wait --timeout 20s")).exits(0);
    kill_process(pid, Signal::TERM).unwrap();
    let status = format!("/proc/{pid}/stat");
    let has_ended = || fs::read_to_string(&status).map_or(true, |stat| stat.contains(") Z "));
    wait_for("its end", || has_ended().then_some(()));
}

/// Signals a command repeatedly until it has ended: within a second, plus some time on a busy machine.
#[track_caller]
fn end_by(command: &mut Running, signal: Signal, name: &str) {
    let start = Instant::now();
    while command.is_running() {
        assert!(start.elapsed() < Duration::from_secs(4), "{name} does not end: {}", command.stderr());
        command.signal(signal);
        thread::sleep(Duration::from_millis(150));
    }
}

/// A TaskManager with one task that does not answer these calls.
fn deaf_to(calls: &'static [&'static str]) -> ScriptedServer {
    ScriptedServer::start(move |request| {
        let call = format!("{} {}", request.method, request.path);
        let task = json!({"id": 1, "type": ANY, "params": {}, "attempts": 1, "status": "claimed"});
        match call.as_str() {
            call if calls.iter().any(|deaf| call.starts_with(deaf)) => Answer::hang(),
            "POST /tasks/claim" => Answer::data(&task),
            _ => type_found(),
        }
    })
}

#[test]
fn a_second_signal_ends_every_command() {
    const REPORT: &[&str] = &["POST /tasks/1/complete", "GET /tasks/1"];
    const PROGRESS: &[&str] = &["POST /tasks/1/progress"];
    let everything = || deaf_to(&["GET", "POST", "DELETE"]);
    let quick = format!("--handle {ANY}=echo");
    let talks = format!("--handle {ANY}='trap \"\" TERM; echo {{\\\"progress\\\":40}} >&3; sleep 30'");
    let cases = [
        (deaf_to(&["POST /tasks/claim", "DELETE"]), 2, format!("work {quick}"), 0),
        (deaf_to(&["DELETE", "POST /tasks/claim"]), 2, format!("work {quick} --concurrency 3 --drain"), 0),
        (deaf_to(&["POST /task-types"]), 1, format!("work {quick} --register"), 0),
        (everything(), 1, format!("work {quick}"), 0),
        (deaf_to(REPORT), 3, format!("work {quick} --max-tasks 1"), 0),
        (deaf_to(PROGRESS), 3, format!("work {talks} --max-tasks 1"), 0),
        (deaf_to(&["POST /tasks/claim", "DELETE"]), 2, format!("claim {ANY}"), 130),
        (deaf_to(REPORT), 3, "claim --run".into(), 130),
        (everything(), 1, format!("create-task {ANY} --from many.jsonl"), 130),
        (everything(), 1, format!("create-task {ANY} a=1 --wait"), 130),
        (everything(), 1, "health --timeout 60s".into(), 130),
    ];
    let started = cases.map(|(server, calls, line, code)| {
        let sandbox = Sandbox::at(&server.url());
        sandbox.write("many.jsonl", "{\"n\":1}\n{\"n\":2}\n");
        sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = \"echo 42\"\n"));
        let line = format!("exec '{}' {line}", env!("CARGO_BIN_EXE_prismq"));
        let command = sandbox.program("sh", ["-c", &line]).start();
        (server, calls, command, line, code, sandbox)
    });
    for (server, calls, mut command, line, code, sandbox) in started {
        server.wait_for_requests(calls);
        if line.contains("progress") {
            wait_for("the progress", || server.calls().iter().any(|call| call.ends_with("/progress")).then_some(()));
        }
        end_by(&mut command, Signal::TERM, &line);
        command.wait().exits(code);
        drop((server, sandbox));
    }
}

#[test]
fn a_second_signal_ends_a_server_with_open_requests() {
    let rig = Rig::empty();
    let mut serve = rig.spawn("serve --listen 127.0.0.1:0 --db served.db");
    serve.wait_for_stdout("/api\n");
    let url = serve.stdout();
    let address = url.trim().trim_start_matches("http://").trim_end_matches("/api");
    let mut half = TcpStream::connect(address).unwrap();
    half.write_all(b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{").unwrap();
    thread::sleep(Duration::from_millis(50)); // not that it would matter
    end_by(&mut serve, Signal::TERM, "serve");
}

#[test]
fn a_worker_ends_even_if_nobody_reads_its_log() {
    let rig = Rig::new();
    let fifo = rig.sandbox.path("log");
    Command::new("mkfifo").arg(&fifo).status().unwrap();
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let _nobody = fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(&fifo).unwrap();
    let mut log = fs::OpenOptions::new().write(true).custom_flags(flags).open(&fifo).unwrap();
    while log.write(&[b'x'; 4096]).is_ok() {}
    let log = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    let mut work = plain(&rig.sandbox, &rig.url());
    work.args(["work", "--handle", "example.any=cat"]).stdin(Stdio::null()).stderr(log);
    let mut work = work.spawn().unwrap();
    let pid = Pid::from_child(&work);
    let start = Instant::now();
    while work.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(10) {
            work.kill().unwrap();
            panic!("it does not end");
        }
        let _ = kill_process(pid, Signal::TERM);
        thread::sleep(Duration::from_millis(150));
    }
}

#[test]
fn unanswered_calls_are_abandoned_after_the_first_signal() {
    let cases = [
        deaf_to(&["POST /tasks/claim", "DELETE"]),
        deaf_to(&["GET"]),
        deaf_to(&["POST /tasks/1/complete", "GET /tasks/1"]),
    ];
    let started = cases.map(|server| {
        let sandbox = Sandbox::at(&server.url());
        let work = sandbox.prismq(["work", "--handle", "example.any=echo"]).start();
        server.wait_for_requests(1);
        (server, work, sandbox)
    });
    wait_for("the report", || started[2].0.calls().iter().any(|it| it.ends_with("/complete")).then_some(()));
    wait_for("the claim", || started[0].0.calls().iter().any(|it| it.ends_with("/claim")).then_some(()));
    for (_, work, _) in &started {
        work.terminate();
    }
    for (server, work, sandbox) in started {
        let output = work.wait().exits(0);
        assert!(output.stderr.contains("stopped without waiting for tasks in flight"), "{output:?}");
        drop((server, sandbox));
    }
}
