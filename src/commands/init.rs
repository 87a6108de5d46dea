//! `init`: creates the files of a first worker in the current folder. Existing files are not changed.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::json;

use crate::cli::GlobalArgs;
use crate::exit::{Exit, UserError};
use crate::output::{print_json, print_line, say};
use crate::text_file;

const CONFIG: &str = "prismq.toml";
const CONFIG_TEXT: &str = include_str!("init/prismq.toml");
const VARIABLES: &str = include_str!("../../.env.example");

/// The handler if Python is installed.
const PYTHON: StarterHandler =
    StarterHandler { file: "hello.py", text: include_str!("init/hello.py"), exec: r#"["python3", "hello.py"]"# };
/// The handler for machines without Python.
const SHELL: StarterHandler =
    StarterHandler { file: "hello.sh", text: include_str!("init/hello.sh"), exec: r#"["sh", "hello.sh"]"# };

/// The next commands to run.
const NEXT: [(&str, &str); 5] = [
    ("prismq serve", "start a TaskManager, in another terminal"),
    ("prismq register-type --all", "register your task type"),
    ("prismq create-task example.hello name=Ada", "create a task"),
    ("prismq work --drain", "run all pending tasks, then exit"),
    ("prismq results", "show the results"),
];
/// A further hint.
const ELSEWHERE: &str = "If you already have a TaskManager, set its URL in .env and skip the first command.";

struct StarterHandler {
    file: &'static str,
    text: &'static str,
    exec: &'static str,
}

/// A file to write, with its mode.
struct StarterFile<'a> {
    name: &'a str,
    text: String,
    mode: u32,
}

/// `prismq init`. Ignores settings, since they may not exist yet.
pub(super) fn run(global: &GlobalArgs) -> anyhow::Result<Exit> {
    let (mut written, mut kept) = (Vec::new(), Vec::new());
    let has_config = Path::new(CONFIG).exists();
    for file in files(if has_python() { &PYTHON } else { &SHELL }, has_config) {
        let is_new = create(&file).map_err(|error| {
            UserError::new(Exit::Failed, format!("cannot write {}: {}", file.name, text_file::unwritable(&error)))
        })?;
        if is_new { &mut written } else { &mut kept }.push(file.name);
    }
    if global.json {
        let next = if has_config { &[][..] } else { &NEXT };
        let next: Vec<&str> = next.iter().map(|(command, _)| *command).collect();
        print_json(&json!({"written": written, "kept": kept, "next": next}))?;
        return Ok(Exit::Done);
    }
    for name in written {
        print_line(format_args!("written: {name}"))?;
    }
    if global.quiet > 0 {
        return Ok(Exit::Done);
    }
    for name in kept {
        say(format_args!("{name} already exists: left unchanged"));
    }
    if !has_config {
        say_next();
    }
    Ok(Exit::Done)
}

fn say_next() {
    say("next steps:");
    for (command, why) in NEXT {
        say(format_args!("  {command:<42} {why}"));
    }
    say(ELSEWHERE);
}

/// Returns the files to write. The configuration comes last, so that all files that it names exist. If there is a
/// configuration already, no handler is written.
fn files(handler: &StarterHandler, has_config: bool) -> Vec<StarterFile<'static>> {
    // The first line explains how to copy the example.
    let variables = VARIABLES.split_once('\n').map_or(VARIABLES, |(_, rest)| rest);
    let variables = format!(
        "# Settings of this machine, including keys: keep this file out of version control.\n# Uncomment the lines that you want to change.\n{variables}"
    );
    let config = CONFIG_TEXT.replace(PYTHON.exec, handler.exec);
    let mut files = vec![StarterFile { name: ".env", text: variables, mode: 0o600 }];
    if !has_config {
        files.push(StarterFile { name: handler.file, text: handler.text.to_owned(), mode: 0o666 });
    }
    files.push(StarterFile { name: CONFIG, text: config, mode: 0o666 });
    files
}

/// Writes a file unless it exists. Returns whether it was written.
fn create(file: &StarterFile<'_>) -> io::Result<bool> {
    match OpenOptions::new().write(true).create_new(true).mode(file.mode).open(file.name) {
        Ok(mut opened) => opened.write_all(file.text.as_bytes()).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn has_python() -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join("python3").is_file()))
}
