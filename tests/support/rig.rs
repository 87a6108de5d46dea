//! A TaskManager in the test's process, and a sandbox for the binary that uses it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use prismq::internals::server::Settings;
use serde_json::{Value, json};

use super::{Answer, EmbeddedTaskManager, Output, Prismq, Running, Sandbox, rows};

/// A type that accepts any params.
pub(crate) const ANY: &str = "example.any";

/// An address at which nobody listens.
pub(crate) const NOBODY: &str = "http://127.0.0.1:1/api";

/// The default worker ID in tests.
pub(crate) const WORKER: &str = "worker-1";

/// Runs the script that the task's params name, as in `{"case":"NAME"}`.
const RUN_CASE: &str = r#"case=$(sed 's/.*"case":"\([a-z0-9-]*\)".*/\1/'); . "./$case.sh""#;

/// A sandbox whose workers poll often, have the ID [`WORKER`] and store results in `results.db`.
pub(crate) fn sandbox(url: &str) -> Sandbox {
    Sandbox::at(url)
        .env("WORKER_ID", WORKER)
        .env("PRISMQ_RESULTS", "results.db")
        .env("POLL_INTERVAL", "50ms")
        .env("MAX_BACKOFF", "50ms")
}

/// A table of `prismq.toml` for a type that runs the scripts named by its tasks, with more `settings`.
pub(crate) fn cases(name: &str, settings: &str) -> String {
    format!("[[task_type]]\nname = \"{name}\"\nexec = '''{RUN_CASE}'''\n{settings}\n")
}

/// A TaskManager, and a sandbox whose workers use it.
pub(crate) struct Rig {
    pub(crate) taskmanager: EmbeddedTaskManager,
    pub(crate) sandbox: Sandbox,
}

impl Rig {
    /// With the type `case`, whose tasks name their scripts.
    pub(crate) fn start() -> Self {
        Self::of(EmbeddedTaskManager::start(), &[("case", "")])
    }

    /// With types whose tasks name their scripts, each with its name and more settings.
    pub(crate) fn of(taskmanager: EmbeddedTaskManager, types: &[(&str, &str)]) -> Self {
        for (name, _) in types {
            taskmanager.register(name);
        }
        let sandbox = sandbox(&taskmanager.url());
        sandbox.write("prismq.toml", types.iter().map(|(name, settings)| cases(name, settings)).collect::<String>());
        Self { taskmanager, sandbox }
    }

    /// With the type `warm`, whose persistent processes run `script` for one task after another. One failure ends a task.
    pub(crate) fn warm(script: &str, settings: &str) -> Self {
        let rig = Self::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 1), &[]);
        rig.taskmanager.register("warm");
        rig.script("warm", &format!("{}\n{script}", include_str!("talk.sh")));
        let table = "[[task_type]]\nname = 'warm'\nexec = ['sh', 'warm.sh']\nmode = 'persistent'";
        rig.sandbox.write("prismq.toml", format!("{table}\n{settings}\n"));
        rig
    }

    /// Creates tasks of the type `warm`, and returns their ids.
    pub(crate) fn create_warm(&self, count: u64) -> Vec<u64> {
        (0..count).map(|n| self.taskmanager.create("warm", json!({"n": n}))).collect()
    }

    /// Creates a task of the type `case` for `script`, and returns its id.
    pub(crate) fn case(&self, name: &str, script: &str) -> u64 {
        self.case_of("case", name, script)
    }

    pub(crate) fn case_of(&self, task_type: &str, name: &str, script: &str) -> u64 {
        self.script(name, script);
        self.taskmanager.create(task_type, json!({"case": name}))
    }

    /// Writes the script of a case.
    pub(crate) fn script(&self, name: &str, script: &str) {
        self.sandbox.write(&format!("{name}.sh"), script);
    }

    /// Prepares a worker.
    pub(crate) fn work<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Prismq {
        self.sandbox.prismq(["work"]).args(arguments)
    }

    /// Runs a worker until no tasks are left.
    #[track_caller]
    pub(crate) fn drain(&self) -> Output {
        self.work(["--drain"]).run().exits(0)
    }

    /// All rows of a table of the results file.
    pub(crate) fn rows(&self, table: &str) -> Vec<Value> {
        rows(&self.sandbox, table)
    }

    /// The ids of tasks with results, in the order in which they ended.
    pub(crate) fn worked(&self) -> Vec<u64> {
        self.rows("results").iter().map(|row| row["task_id"].as_u64().unwrap()).collect()
    }
}

/// For commands other than `work`: this sandbox has the default settings.
impl Rig {
    /// A rig with the type [`ANY`].
    pub(crate) fn new() -> Self {
        Self::empty().knowing_any()
    }

    /// A rig without types.
    pub(crate) fn empty() -> Self {
        Self::with(|_| {})
    }

    /// A rig whose TaskManager requires this key. A `prismq` has it only if the test sets it.
    pub(crate) fn with_key(key: &str) -> Self {
        Self::with(|settings| settings.api_key = Some(key.to_owned()))
    }

    /// A rig whose TaskManager answers as the published one does.
    pub(crate) fn published() -> Self {
        Self::with(|settings| settings.faults.published = true)
    }

    /// A rig whose claims last this long, with the type [`ANY`].
    pub(crate) fn with_claims_of(claim_timeout: Duration) -> Self {
        Self::with(|settings| settings.claim_timeout = Some(claim_timeout)).knowing_any()
    }

    pub(crate) fn with(set: impl FnOnce(&mut Settings)) -> Self {
        let taskmanager = EmbeddedTaskManager::with(set);
        Self { sandbox: Sandbox::at(&taskmanager.url()), taskmanager }
    }

    pub(crate) fn knowing_any(self) -> Self {
        self.run(&format!("register-type {ANY} --schema {{\"type\":\"object\"}}")).exits(0);
        self
    }

    /// Stops the TaskManager and returns the sandbox.
    pub(crate) fn stop(mut self) -> Sandbox {
        self.taskmanager.stop();
        self.sandbox
    }

    /// Replaces the TaskManager by a new one at the same address.
    pub(crate) fn anew(mut self) -> Self {
        self.taskmanager.stop();
        self.taskmanager.restart_anew();
        self.knowing_any()
    }

    pub(crate) fn url(&self) -> String {
        self.taskmanager.url()
    }

    /// Prepares `prismq` with the words of `line`.
    pub(crate) fn prismq(&self, line: &str) -> Prismq {
        self.sandbox.prismq(line.split_whitespace())
    }

    #[track_caller]
    pub(crate) fn run(&self, line: &str) -> Output {
        self.prismq(line).run()
    }

    #[track_caller]
    pub(crate) fn spawn(&self, line: &str) -> Running {
        self.prismq(line).start()
    }

    /// Creates a task with these params, and returns its id.
    #[track_caller]
    pub(crate) fn create(&self, task_type: &str, params: &Value) -> u64 {
        let created = self.sandbox.prismq(["create-task", task_type, "--params", &params.to_string()]).run().exits(0);
        created.stdout.trim().parse().unwrap()
    }

    /// Returns a task as the TaskManager shows it.
    #[track_caller]
    pub(crate) fn task(&self, id: u64) -> Value {
        self.run(&format!("show-task {id} --json")).exits(0).json()
    }

    /// The rows of the results file.
    #[track_caller]
    pub(crate) fn results(&self) -> Vec<Value> {
        self.run("results --json").exits(0).json_lines()
    }

    /// Returns `prismq` as a plain command, for unusual arguments and streams.
    pub(crate) fn command(&self) -> Command {
        plain(&self.sandbox, &self.url())
    }
}

/// Returns `prismq` as a plain command with the TaskManager at `url`.
pub(crate) fn plain(sandbox: &Sandbox, url: &str) -> Command {
    plain_program(env!("CARGO_BIN_EXE_prismq"), sandbox, url)
}

/// Returns another program in the same environment.
pub(crate) fn plain_program(program: &str, sandbox: &Sandbox, url: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(sandbox.path("")).env_clear().env("HOME", sandbox.home("")).env("TASKMANAGER_API_URL", url);
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command
}

/// Runs a plain command and returns its output.
pub(crate) fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Output { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
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

/// The answer to a lookup of [`ANY`] with id 1.
pub(crate) fn type_found() -> Answer {
    Answer::data(&json!({"id": 1, "name": ANY, "version": "1.0.0", "param_schema": {"type": "object"}}))
}
