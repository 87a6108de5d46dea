//! Runs the blocks of a document one after another, in an empty folder with an empty home, against a TaskManager of its
//! own.

use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use prismq::internals::Store;
use serde_json::json;

use super::markdown::{self, Block};
use super::{kinds, read, repository};
use crate::support::{Answer, Output, Prismq, Running, Sandbox, ScriptedServer};

/// Blocks that no test can run, by document and first line.
const NOT_TESTED: &[(&str, &str)] = &[
    ("README.md", "cargo test"),
    ("README.md", "cargo install --path . --locked --profile dist"),
    ("README.md", "rustup target add x86_64-unknown-linux-musl"),
    ("deploy/README.md", "cargo build --profile dist --locked"),
    (
        "deploy/README.md",
        "sudo sh -c 'set -a; . /etc/prismq/prismq.env; export TASKMANAGER_API_KEY_FILE=/etc/prismq/api_key",
    ),
    ("deploy/README.md", "FROM prismq"),
    ("deploy/README.md", "docker build -t prismq ."),
    ("docs/development.md", "PROPTEST_CASES=2000 cargo test --test library properties"),
    (
        "docs/development.md",
        "cargo run --manifest-path fuzz/Cargo.toml --example seeds   # the recorded answers, to start from",
    ),
    ("docs/handlers.md", "cargo run --example count"),
    ("docs/operations.md", "set -a; . /etc/prismq/prismq.env; TASKMANAGER_API_KEY_FILE=/etc/prismq/api_key; set +a"),
    ("docs/operations.md", "cargo build --profile dist --locked"),
    ("docs/performance.md", "cargo bench --bench figures                # all, half an hour"),
    (
        "docs/performance.md",
        "python3 benches/scripts/compare_celery.py                          # against Celery on Redis, in one run",
    ),
    ("docs/reliability.md", "PRISMQ_PLANS=10000 cargo test --test invariants every_task -- --nocapture"),
];

#[test]
fn untested_blocks_still_exist() {
    for (document, first) in NOT_TESTED {
        let blocks = markdown::blocks(&read(document));
        assert!(blocks.iter().any(|block| block.text.lines().next() == Some(*first)), "{document}: {first}");
    }
}

/// Runs a document; a block that fails is named by its line.
pub(crate) fn run(document: &'static str) {
    let mut runner = BlockRunner::begin(document);
    for block in markdown::blocks(&read(document)) {
        let told = catch_unwind(AssertUnwindSafe(|| runner.run_block(&block)));
        told.unwrap_or_else(|panic| {
            eprintln!("{document}, line {}:\n{}", block.line, block.text);
            resume_unwind(panic)
        });
    }
    runner.end();
}

/// The reader's folder, and the commands that run in it.
pub(crate) struct BlockRunner {
    document: &'static str,
    sandbox: Sandbox,
    terminals: Vec<Running>,
    /// The ports that the document names, and the free ports used instead.
    ports: Vec<(String, u16)>,
    /// Output of the last commands.
    printed: String,
    _youtube: ScriptedServer,
    _forum: ScriptedServer,
}

impl BlockRunner {
    fn begin(document: &'static str) -> Self {
        let youtube = ScriptedServer::always(Answer::json(200, &json!({"items": []})));
        let forum = ScriptedServer::always(Answer::json(200, &json!({"data": {"children": []}})));
        let sandbox = Sandbox::new().env("YOUTUBE_API_URL", &format!("http://{}", youtube.address()));
        fs::create_dir(sandbox.home("../bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_prismq"), sandbox.home("../bin/prismq")).unwrap();
        fs::write(sandbox.home("../shell"), "").unwrap();
        let mut runner = Self {
            document,
            sandbox,
            terminals: Vec::new(),
            ports: vec![("8080".to_owned(), forum.address().port())],
            printed: String::new(),
            _youtube: youtube,
            _forum: forum,
        };
        for folder in ["deploy", "examples"] {
            runner.succeeds("cp", &["-r", repository(folder).to_str().unwrap(), "."]);
        }
        // As if a worker had run here before.
        drop(Store::open(&runner.sandbox.home(".local/share/prismq/results.db")).unwrap());
        runner.open_terminal("prismq serve --db ../taskmanager.db");
        runner
    }

    fn run_block(&mut self, block: &Block) {
        let first = block.text.lines().next().unwrap_or_default();
        match (block.language.as_str(), block.mark.as_str()) {
            ("text", "") => {}
            ("text", "output") => assert_eq!(self.printed, block.text, "this is not what is printed"),
            ("sh", "") => self.printed = self.run_commands(&block.text).exits(0).stdout,
            ("sh", "terminal") => self.open_terminal(&block.text),
            (_, mark) if mark.starts_with("not-tested: ") => {
                assert!(NOT_TESTED.contains(&(self.document, first)), "this is not among NOT_TESTED");
            }
            (language, "") => self.check(language, &format!("block-{}", block.line), &block.text),
            (language, name) => self.check(language, name, &block.text),
        }
    }

    /// Writes a file as the reader would, and checks that it is valid.
    fn check(&self, language: &str, name: &str, text: &str) {
        let path = self.sandbox.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        kinds::check(self, language, &path);
    }

    pub(crate) fn document(&self) -> &str {
        self.document
    }

    /// Runs a program, which must succeed.
    pub(crate) fn succeeds(&self, program: &str, arguments: &[&str]) {
        self.program(program, arguments).run().exits(0);
    }

    /// A program with `prismq` on its `PATH`.
    fn program(&self, program: &str, arguments: &[&str]) -> Prismq {
        let path = format!("{}:{}", self.sandbox.home("../bin").display(), std::env::var("PATH").unwrap());
        self.sandbox.program(program, arguments.iter().copied()).env("PATH", &path)
    }

    /// Runs commands in the folder and with the variables of those before.
    fn run_commands(&self, text: &str) -> Output {
        let shell = self.sandbox.home("../shell");
        let shell = shell.display();
        let text = self.localised(text);
        let script = format!("set -e\n. {shell}\n{text}\n{{ export -p; echo \"cd '$PWD'\"; }} > {shell}");
        self.program("sh", &["-c", &script]).run()
    }

    /// Starts a command that keeps running, and waits until it is ready.
    fn open_terminal(&mut self, text: &str) {
        let (text, port) = free_port(text);
        let shell = self.sandbox.home("../shell");
        let script = format!(". {}\nexec {}", shell.display(), self.localised(&text));
        let mut running = self.program("sh", &["-c", &script]).start();
        let is_ready = |it: &Running| it.stderr().contains(" ready ") || it.stdout().ends_with("/api\n");
        running.wait_for("it is ready", is_ready);
        if let Some(port) = port {
            let said = running.stdout() + &running.stderr();
            let address = said.split("127.0.0.1:").nth(1).expect("it says where it listens");
            let real: String = address.chars().take_while(char::is_ascii_digit).collect();
            self.ports.retain(|(known, _)| *known != port);
            self.ports.push((port, real.parse().unwrap()));
        }
        if text.contains("prismq serve") {
            let line = format!("export TASKMANAGER_API_URL={}\n", running.stdout().trim());
            fs::write(&shell, fs::read_to_string(&shell).unwrap() + &line).unwrap();
        }
        self.terminals.push(running);
    }

    /// The commands as they run here, with free ports and the built binary.
    fn localised(&self, text: &str) -> String {
        let text = text.replace("cargo run --release -- ", "prismq ");
        self.ports.iter().fold(text, |text, (port, real)| text.replace(&format!(":{port}"), &format!(":{real}")))
    }

    /// Asserts that no task has failed, and stops every running command by a signal, the last one first.
    fn end(mut self) {
        let failed = self.run_commands("prismq results --failed --format jsonl").exits(0).stdout;
        assert_eq!(failed, "", "{}: a task has failed", self.document);
        while let Some(terminal) = self.terminals.pop() {
            terminal.terminate();
            terminal.wait().exits(0);
        }
    }
}

/// A listening command with a free port, and the port that the document names or that is the default.
fn free_port(command: &str) -> (String, Option<String>) {
    let command = if command.contains("prismq serve") && !command.contains("--listen") {
        command.replace("prismq serve", "prismq serve --listen 127.0.0.1:8000")
    } else {
        command.to_owned()
    };
    let mut flags = ["--listen 127.0.0.1:", "--status-addr 127.0.0.1:"].into_iter();
    let Some((flag, at)) = flags.find_map(|flag| Some((flag, command.find(flag)? + flag.len()))) else {
        return (command, None);
    };
    let port: String = command[at..].chars().take_while(char::is_ascii_digit).collect();
    (command.replace(&format!("{flag}{port}"), &format!("{flag}0")), Some(port))
}
