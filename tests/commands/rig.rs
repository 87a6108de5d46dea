//! A TaskManager and a sandbox for each test, and what every error has to look like.

#![allow(dead_code)] // every test binary uses a part of it

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use prismq::internals::server::{Server, Settings};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{self, Output, Prismq, Running, Sandbox};

/// A type that takes any params.
pub(crate) const ANY: &str = "example.any";

/// A port that only a system's own service would listen on, and none does.
pub(crate) const NOBODY: &str = "http://127.0.0.1:1/api";

/// An embedded TaskManager that knows [`ANY`], and a sandbox whose `prismq` speaks with it.
pub(crate) struct Rig {
    pub(crate) sandbox: Sandbox,
    server: Server,
    _folder: TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::empty().knowing_any()
    }

    /// One whose TaskManager knows no type.
    pub(crate) fn empty() -> Self {
        Self::with(|_| {})
    }

    /// One whose TaskManager wants this key; no `prismq` has it unless a test gives it.
    pub(crate) fn with_key(key: &str) -> Self {
        Self::with(|settings| settings.api_key = Some(key.to_owned()))
    }

    /// One that answers as the published TaskManager does.
    pub(crate) fn published() -> Self {
        Self::with(|settings| settings.faults.published = true)
    }

    /// One whose claims last so long.
    pub(crate) fn with_claims_of(claim_timeout: Duration) -> Self {
        Self::with(|settings| settings.claim_timeout = claim_timeout).knowing_any()
    }

    pub(crate) fn with(set: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings =
            Settings::new(([127, 0, 0, 1], support::free_port()).into(), folder.path().join("taskmanager.db"));
        set(&mut settings);
        let server = Server::start(&settings).unwrap();
        Self { sandbox: Sandbox::at(&server.api_url()), server, _folder: folder }
    }

    pub(crate) fn knowing_any(self) -> Self {
        self.run(&format!("register-type {ANY} --schema {{\"type\":\"object\"}}")).exits(0);
        self
    }

    /// The sandbox without the TaskManager.
    pub(crate) fn stop(self) -> Sandbox {
        self.server.stop();
        self.sandbox
    }

    /// The same sandbox, with a TaskManager that was set up anew at the same address.
    pub(crate) fn anew(self) -> Self {
        let url = self.url();
        let listen = url.trim_start_matches("http://").trim_end_matches("/api").parse().unwrap();
        let sandbox = self.stop();
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::new(listen, folder.path().join("taskmanager.db"));
        // For a moment, a process that another test has just forked may still listen there.
        let server = support::wait_for("the same address", || Server::start(&settings).ok());
        Self { sandbox, server, _folder: folder }.knowing_any()
    }

    pub(crate) fn url(&self) -> String {
        self.server.api_url()
    }

    /// `prismq` with the words of `line`.
    pub(crate) fn prismq(&self, line: &str) -> Prismq {
        self.sandbox.prismq(line.split_whitespace())
    }

    #[track_caller]
    pub(crate) fn run(&self, line: &str) -> Output {
        self.prismq(line).run()
    }

    #[track_caller]
    pub(crate) fn start(&self, line: &str) -> Running {
        self.prismq(line).start()
    }

    /// Creates a task with these params, and returns its id.
    #[track_caller]
    pub(crate) fn create(&self, task_type: &str, params: &Value) -> u64 {
        let created = self.sandbox.prismq(["create-task", task_type, "--params", &params.to_string()]).run().exits(0);
        created.stdout.trim().parse().unwrap()
    }

    /// A task as the TaskManager shows it.
    #[track_caller]
    pub(crate) fn task(&self, id: u64) -> Value {
        self.run(&format!("show-task {id} --json")).exits(0).json()
    }

    /// The rows of the results file.
    #[track_caller]
    pub(crate) fn results(&self) -> Vec<Value> {
        self.run("results --json").exits(0).json_lines()
    }

    /// `prismq` as a plain command, for arguments and streams that are out of the ordinary.
    pub(crate) fn command(&self) -> Command {
        plain(&self.sandbox, &self.url())
    }
}

/// `prismq` as a plain command that speaks with the TaskManager at `url`.
pub(crate) fn plain(sandbox: &Sandbox, url: &str) -> Command {
    plain_program(env!("CARGO_BIN_EXE_prismq"), sandbox, url)
}

/// Another program in the same surroundings.
pub(crate) fn plain_program(program: &str, sandbox: &Sandbox, url: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(sandbox.path("")).env_clear().env("HOME", sandbox.home("")).env("TASKMANAGER_API_URL", url);
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command
}

/// A plain command's output, in the form that the others have.
pub(crate) fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Output { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// What is looked for is not there, and that is all it says.
#[track_caller]
pub(crate) fn finds_nothing(output: &Output, note: &str) {
    assert_eq!((output.code(), output.stdout.as_str(), output.stderr.as_str()), (0, "", note));
}

/// Asserts that a command ended with this code, printed nothing, and said in one clear line why: with these words.
#[track_caller]
pub(crate) fn complains(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.code(), code, "{output:?}");
    assert_eq!(output.stdout, "", "{output:?}");
    says_once(output, words);
}

/// Asserts that standard error holds one line, which is an error with these words.
#[track_caller]
pub(crate) fn says_once(output: &Output, words: &[&str]) {
    let stderr = output.stderr.as_str();
    assert!(stderr.starts_with("prismq: ") && stderr.ends_with('\n') && stderr.lines().count() == 1, "{output:?}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr:?}");
    }
}

/// Asserts that a command ended with this code and nothing but one JSON error on standard error. Returns the error.
#[track_caller]
pub(crate) fn complains_in_json(output: &Output, code: i32) -> Value {
    assert_eq!((output.code(), output.stdout.as_str()), (code, ""), "{output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    let error: Value = serde_json::from_str(&output.stderr).unwrap();
    let keys: Vec<&String> = error.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["code", "error", "hint"], "{error}");
    assert_eq!(error["code"], json!(code));
    assert!(error["error"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
    assert!(error["hint"].is_null() || error["hint"].is_string(), "{error}");
    error
}

/// The names in a folder, sorted.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// What a queue of one scripted TaskManager answers to a lookup of [`ANY`], whose number is 1.
pub(crate) fn type_found() -> support::Answer {
    support::Answer::data(&json!({"id": 1, "name": ANY, "version": "1.0.0", "param_schema": {"type": "object"}}))
}
