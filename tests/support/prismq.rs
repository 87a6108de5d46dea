//! The real binary in an empty folder, with an empty home and a clean environment. Its processes end with the test.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::wait::{PATIENCE, pause};

/// A working folder, a home beside it, and the environment of every `prismq` that runs there.
pub(crate) struct Sandbox {
    folder: TempDir,
    env: BTreeMap<String, String>,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["work", "home"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, env: BTreeMap::new() }
    }

    /// A sandbox with the TaskManager at `url`.
    pub(crate) fn at(url: &str) -> Self {
        Self::new().env("TASKMANAGER_API_URL", url)
    }

    /// Adds a variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// A path in the working folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    /// A path in the home folder.
    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join("home").join(name)
    }

    /// Writes a file into the working folder.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Reads a file in the working folder; empty if it does not exist.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Prepares `prismq` with these arguments.
    pub(crate) fn prismq<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Prismq {
        self.program(env!("CARGO_BIN_EXE_prismq"), arguments)
    }

    /// Prepares another program in the same environment.
    pub(crate) fn program<'a>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Prismq {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.path("")).env_clear().envs(&self.env).env("HOME", self.home(""));
        command.env("PATH", std::env::var_os("PATH").unwrap());
        Prismq { command, stdin: Vec::new(), is_typed_to: false }
    }
}

/// A `prismq` before its start.
pub(crate) struct Prismq {
    command: Command,
    stdin: Vec<u8>,
    /// Whether its standard input stays open.
    is_typed_to: bool,
}

impl Prismq {
    /// Adds arguments.
    pub(crate) fn args<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Adds a variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets its standard input, which is empty otherwise.
    pub(crate) fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = text.into();
        self
    }

    /// Runs it on a terminal of 100 columns and 30 rows with a UTF-8 locale. Both of its output streams become its standard
    /// output; [`Running::type_in`] types.
    pub(crate) fn on_terminal(self) -> Self {
        let quoted = |word: &OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''"));
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let line = words.map(quoted).collect::<Vec<_>>().join(" ");
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &format!("stty cols 100 rows 30; exec {line}"), "/dev/null"]);
        command.current_dir(self.command.get_current_dir().unwrap()).env_clear();
        command.envs([("TERM", "xterm"), ("LANG", "C.UTF-8"), ("SHELL", "/bin/sh")]);
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self { command, is_typed_to: true, ..self }
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(self) -> Output {
        self.start().wait()
    }

    /// Starts it.
    #[track_caller]
    pub(crate) fn start(mut self) -> Running {
        self.command = with_usual_signals(self.command);
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let fed = thread::spawn(move || {
            stdin.write_all(&self.stdin).unwrap_or_default(); // it need not read it
            self.is_typed_to.then_some(stdin)
        });
        let stdout = Captured::of(child.stdout.take().unwrap());
        let stderr = Captured::of(child.stderr.take().unwrap());
        Running { child, stdout, stderr, fed: Some(fed), keyboard: None }
    }
}

/// Whether signals that end a program are ignored here, and so by its children: the tests may run under `nohup`, or in
/// the background of a script.
fn ignores_signals() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    ignored.is_some_and(|ignored| ignored & 0b111 != 0)
}

/// Restores the default action of signals for a command if the tests were started with signals ignored.
pub(crate) fn with_usual_signals(command: Command) -> Command {
    if !ignores_signals() {
        return command;
    }
    wrap_command("/usr/bin/env", &["--default-signal=HUP,INT,QUIT,TERM"], &command)
}

/// Wraps `command` in `program`, in the same environment.
fn wrap_command(program: &str, options: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(program);
    outer.args(options).arg(command.get_program()).args(command.get_args()).env_clear();
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    outer
}

/// The output of a process on one stream so far.
struct Captured {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Captured {
    fn of(mut stream: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let reader = thread::spawn({
            let text = Arc::clone(&text);
            move || {
                let mut buffer = [0; 8192];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    text.lock().unwrap().extend_from_slice(&buffer[..count]);
                }
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    /// Waits for the end of the stream and returns all of it.
    fn end(&mut self) -> String {
        self.reader.take().unwrap().join().unwrap();
        self.text()
    }
}

/// A running `prismq`. Dropping it kills it and its descendants.
pub(crate) struct Running {
    child: Child,
    stdout: Captured,
    stderr: Captured,
    fed: Option<JoinHandle<Option<ChildStdin>>>,
    keyboard: Option<ChildStdin>,
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until its standard error holds `text`.
    #[track_caller]
    pub(crate) fn wait_for_stderr(&mut self, text: &str) {
        self.wait_for(&format!("{text:?} on standard error"), |it| it.stderr().contains(text));
    }

    /// Waits until its standard output holds `text`.
    #[track_caller]
    pub(crate) fn wait_for_stdout(&mut self, text: &str) {
        self.wait_for(&format!("{text:?} on standard output"), |it| it.stdout().contains(text));
    }

    /// Waits until a condition is true, while it runs.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            let ended = self.child.try_wait().unwrap();
            let in_time = ended.is_none() && start.elapsed() < PATIENCE;
            assert!(in_time || holds(self), "timed out: {what}; {ended:?}\n{}{}", self.stdout(), self.stderr());
            pause(start);
        }
    }

    /// Types on its terminal: `\x03` is Ctrl-C.
    pub(crate) fn type_in(&mut self, keys: &str) {
        if let Some(fed) = self.fed.take() {
            self.keyboard = fed.join().unwrap();
        }
        self.keyboard.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(self.id()), signal).unwrap();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Output {
        self.wait_for_end();
        let status = self.child.wait().unwrap();
        if let Some(fed) = self.fed.take() {
            fed.join().unwrap();
        }
        Output { status, stdout: self.stdout.end(), stderr: self.stderr.end() }
    }

    #[track_caller]
    fn wait_for_end(&mut self) {
        let start = Instant::now();
        while self.is_running() {
            assert!(start.elapsed() < PATIENCE, "it does not end\n{}{}", self.stdout(), self.stderr());
            pause(start);
        }
    }

    /// Kills it without its descendants, as the kernel does if memory runs out.
    pub(crate) fn crash(mut self) -> Output {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        Output { status, stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            let children = descendants(self.id());
            let _ = self.child.kill();
            let _ = self.child.wait();
            for child in children {
                let _ = kill_process(pid(child), Signal::KILL); // it may have ended by itself
            }
        }
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(id.try_into().unwrap()).unwrap()
}

/// All descendants of a process.
fn descendants(id: u32) -> Vec<u32> {
    let listed = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().unwrap().stdout;
    let listed = String::from_utf8(listed).unwrap();
    let number = |text: Option<&str>| text.unwrap().parse::<u32>().unwrap();
    let parents: Vec<(u32, u32)> = listed
        .lines()
        .map(|line| {
            let mut columns = line.split_whitespace();
            (number(columns.next()), number(columns.next()))
        })
        .collect();
    let mut found = vec![id];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    found.split_off(1)
}

/// The exit status and output of a `prismq`.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Its exit code; 128 plus the number of the signal that killed it, as in shells.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap())
    }

    /// Asserts its exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "\n{}{}", self.stdout, self.stderr);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    /// Standard output as lines of JSON.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().map(parse).collect()
    }
}
