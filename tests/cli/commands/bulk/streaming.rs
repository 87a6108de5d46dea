//! `create-task --from -` while its input is still open.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{FROM_STDIN, create, creating, health, id_of, ids, lines};
use crate::support::{
    Answer, Output, Sandbox, ScriptedServer, at_once, memory, plain, says_once, wait_for, with_usual_signals,
};

/// A running `prismq` whose standard input stays open. Dropping it kills it.
struct Open {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Open {
    fn start(sandbox: &Sandbox, url: &str) -> Self {
        let (stdout, writer) = std::io::pipe().unwrap();
        let mut open = Self::start_with(sandbox, url, writer.into());
        let printed = Arc::clone(&open.stdout);
        open.reader = Some(thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.for_each(|line| printed.lock().unwrap().extend([line.as_str(), "\n"]));
        }));
        open
    }

    fn start_with(sandbox: &Sandbox, url: &str, stdout: Stdio) -> Self {
        let mut command = plain(sandbox, url);
        command.args(FROM_STDIN);
        let mut command = with_usual_signals(command);
        command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        Self { child, stdin, stdout: Arc::default(), reader: None }
    }

    fn feed(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Waits until it has printed this many lines, and returns them.
    fn wait_for_lines(&self, count: usize) -> String {
        wait_for("the ids", || (self.stdout.lock().unwrap().lines().count() >= count).then_some(()));
        self.stdout.lock().unwrap().clone()
    }

    /// Waits for its end while its input is still open.
    fn ends_at_once(mut self) -> Output {
        let start = Instant::now();
        let status = wait_for("its end", || self.child.try_wait().unwrap());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        self.reader.take().into_iter().for_each(|reader| reader.join().unwrap());
        let stdout = self.stdout.lock().unwrap().clone();
        Output { status, stdout, stderr }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
    }
}

#[test]
fn an_id_is_printed_before_the_input_ends() {
    for has_batch in [false, true] {
        let server = creating(has_batch, create);
        let sandbox = Sandbox::at(&server.url());
        let mut open = Open::start(&sandbox, &server.url());
        for (count, n) in (1..=3).enumerate() {
            open.feed(&format!("{{\"n\":{n}}}\n"));
            assert_eq!(open.wait_for_lines(count + 1), ids(101..=100 + n));
        }
        drop(open.stdin.take());
        open.ends_at_once().exits(0);
    }
}

#[test]
fn a_signal_is_obeyed_while_waiting_for_input() {
    for (has_batch, signal) in [(false, Signal::INT), (false, Signal::TERM), (true, Signal::INT)] {
        let server = creating(has_batch, create);
        let sandbox = Sandbox::at(&server.url());
        let mut open = Open::start(&sandbox, &server.url());
        open.feed(&lines(2));
        open.wait_for_lines(2);
        kill_process(Pid::from_child(&open.child), signal).unwrap();
        let output = open.ends_at_once().exits(130);
        assert_eq!(output.stdout, ids(101..=102));
        says_once(&output, &["interrupted after line 2", "run it again"]);
    }
}

#[test]
fn a_fatal_error_stops_at_a_named_line() {
    let server = creating(false, |request| match id_of(request) {
        103 => Answer::json(401, &json!({"error": "Unauthorized", "message": "Invalid or missing API key."})),
        _ => create(request),
    });
    let sandbox = Sandbox::at(&server.url());
    let mut open = Open::start(&sandbox, &server.url());
    open.feed(&lines(6));
    let output = open.ends_at_once().exits(5);
    assert_eq!(output.stdout, ids(101..=102));
    says_once(&output, &["line 3: ", "refused a request without a key", "TASKMANAGER_API_KEY", "run it again"]);
}

#[test]
fn a_closed_pipe_is_an_error_with_its_line() {
    for has_batch in [false, true] {
        let server = creating(has_batch, create);
        let sandbox = Sandbox::at(&server.url());
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut open = Open::start_with(&sandbox, &server.url(), writer.into());
        open.feed(&lines(3));
        let output = open.ends_at_once().exits(1);
        says_once(&output, &["line 1: ", "standard output", "run it again"]);
    }
}

/// Peak memory in KiB for `count` lines of 20,000 bytes.
#[cfg(target_os = "linux")]
fn peak_memory(count: u64, has_batch: bool) -> u64 {
    let task = json!({"id": 1, "status": "pending"});
    let server = ScriptedServer::start(move |request| {
        // It is searched, and not parsed, for the sake of the time that this takes.
        let body = std::str::from_utf8(&request.body).unwrap();
        match body.matches("\"padding\":").count() {
            0 => health(has_batch),
            created if body.contains("\"tasks\":") => Answer::data(&json!({"items": vec![&task; created]})),
            _ => Answer::data(&task),
        }
    });
    let sandbox = Sandbox::at(&server.url());
    let mut open = Open::start(&sandbox, &server.url());
    let mut stdin = open.stdin.take().unwrap();
    let feeder = thread::spawn(move || {
        let padding = "x".repeat(20_000);
        (0..count).for_each(|n| writeln!(stdin, "{{\"n\":{n},\"padding\":\"{padding}\"}}").unwrap());
        stdin
    });
    open.wait_for_lines(usize::try_from(count).unwrap());
    let peak = memory(open.child.id(), "VmHWM");
    drop(feeder.join().unwrap());
    open.ends_at_once().exits(0);
    peak
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_input() {
    // 4 MB of lines, then 40 MB: keeping even a part of them would show.
    at_once([false, true], |has_batch| {
        let (few, many) = (peak_memory(200, has_batch), peak_memory(2000, has_batch));
        assert!(many < few + few / 3, "{few} KiB for 200 lines, {many} KiB for 2,000");
    });
}
