//! Finds the program of a handler, and the script that it interprets, or explains why they cannot run.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{self, Path, PathBuf};

use rustix::fs::{Access, access};

use crate::os_error;

/// Where programs are looked for without a `PATH`.
const DEFAULT_PATH: &str = "/usr/bin:/bin";
/// How many bytes of a file are read to find out its format; Linux reads as many of a `#!` line.
const HEAD: usize = 256;

/// Returns the absolute path of `program`: relative to `dir` if it contains a slash, else the first match in `search`.
/// The error is one line that says what is wrong and where.
pub(super) fn find(program: &str, dir: &Path, search: Option<&OsStr>) -> Result<PathBuf, String> {
    if !dir.is_dir() {
        return Err(format!("no such working folder: {}", dir.display()));
    }
    let found = if program.contains('/') { in_folder(program, dir) } else { first_on_path(program, dir, search) }?;
    let found = path::absolute(&found)
        .map_err(|error| format!("cannot resolve {}: {}", found.display(), os_error::message(&error)))?;
    check_head(&found)?;
    Ok(found)
}

fn in_folder(program: &str, dir: &Path) -> Result<PathBuf, String> {
    let path = dir.join(program);
    if is_executable(&path) {
        Ok(path)
    } else if path.is_file() {
        Err(not_executable(&path))
    } else {
        Err(format!("no such program: {}", clean(&path).display()))
    }
}

/// Returns `path` without `.` components.
fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Returns the candidates for `file` on the search path. Relative folders are resolved against `dir`, as in the child.
fn on_path(file: &str, dir: &Path, search: Option<&OsStr>) -> impl Iterator<Item = PathBuf> {
    env::split_paths(search.unwrap_or(DEFAULT_PATH.as_ref())).map(move |folder| dir.join(folder).join(file))
}

fn first_on_path(program: &str, dir: &Path, search: Option<&OsStr>) -> Result<PathBuf, String> {
    if program.is_empty() {
        return Err("the command is empty".into());
    }
    let mut blocked = None;
    let found = on_path(program, dir, search).find(|path| {
        let executable = is_executable(path);
        if !executable && blocked.is_none() && path.is_file() {
            blocked = Some(path.clone());
        }
        executable
    });
    found.ok_or_else(|| match blocked {
        Some(path) => not_executable(&path),
        None => format!("the program {program:?} is not on the PATH: install it or use its full path"),
    })
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

fn not_executable(path: &Path) -> String {
    format!("{0} is not executable: run `chmod +x {0}`, or put the interpreter first in `exec`", clean(path).display())
}

/// Rejects a script without an interpreter line: depending on the C library, executing it fails, or `sh` runs it
/// whatever its language.
fn check_head(path: &Path) -> Result<(), String> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD as u64).read_to_end(&mut head));
    // A program can be executable without being readable.
    if read.is_err() {
        return Ok(());
    }
    let Some(line) = head.strip_prefix(b"#!") else {
        // Every binary format has zero bytes in its header.
        return if head.contains(&0) { Ok(()) } else { Err(no_interpreter(path)) };
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_start();
    // The kernel takes a carriage return as part of the name, so it is kept: the error then shows it.
    let interpreter = line.split(|byte| matches!(byte, b' ' | b'\t')).next().unwrap_or_default();
    let interpreter_path = Path::new(OsStr::from_bytes(interpreter));
    if interpreter_path.is_relative() || interpreter_path.exists() {
        return Ok(());
    }
    let interpreter = String::from_utf8_lossy(interpreter);
    Err(format!("the first line of {} names the interpreter {interpreter:?}, which does not exist", path.display()))
}

fn no_interpreter(path: &Path) -> String {
    let path = path.display();
    format!(
        "{path} has no interpreter line: start it with a line such as `#!/bin/sh`, or put the interpreter first in `exec`"
    )
}

/// A program that runs the script named by its first argument.
struct Interpreter {
    /// Names of the program, without a version.
    names: &'static [&'static str],
    /// File extensions of its scripts.
    endings: &'static [&'static str],
    /// Short options without a value.
    flags: &'static str,
    /// Prefixes of long options without a separate value.
    long: &'static [&'static str],
    /// Whether it also looks for the script on the `PATH`.
    searches: bool,
}

const INTERPRETERS: [Interpreter; 6] = [
    Interpreter {
        names: &["python", "pypy"],
        endings: &[".py", ".pyz"],
        flags: "bBEIOPqsSuv",
        long: &[],
        searches: false,
    },
    Interpreter {
        names: &["node", "nodejs"],
        endings: &[".js", ".mjs", ".cjs", ".ts", ".mts"],
        flags: "",
        long: &["--no-", "--max-old-space-size=", "--enable-source-maps"],
        searches: false,
    },
    Interpreter {
        names: &["deno"],
        endings: &[".ts", ".mts", ".js", ".mjs"],
        flags: "Aq",
        long: &["--no-", "--allow-"],
        searches: false,
    },
    Interpreter { names: &["php"], endings: &[".php"], flags: "nq", long: &[], searches: false },
    Interpreter { names: &["ruby", "perl"], endings: &[".rb", ".pl"], flags: "w", long: &[], searches: false },
    Interpreter {
        names: &["sh", "bash", "dash", "ksh", "zsh"],
        endings: &[".sh", ".bash", ".ksh", ".zsh"],
        flags: "efuvx",
        long: &[],
        searches: true,
    },
];

/// Checks before the first task that the script in `words`, a command that is run in `dir`, exists. The error is one line that names the
/// missing file.
///
/// Never rejects a handler that works: a command with an option that is not known here is not checked, since the option
/// may take the next argument as its value.
pub(super) fn check_script(words: &[String], dir: &Path, search: Option<&OsStr>) -> Result<(), String> {
    let Some((program, interpreter, script)) = find_script(words) else { return Ok(()) };
    let path = clean(&dir.join(script));
    // If access fails, the file may exist.
    let is_missing = |path: &Path| matches!(path.try_exists(), Ok(false));
    let searches = interpreter.searches && !script.contains('/');
    if is_missing(&path) && !(searches && on_path(script, dir, search).any(|path| !is_missing(&path))) {
        return Err(format!("no such file: {} (to be run by {program})", path.display()));
    }
    Ok(())
}

/// Returns the name of the program, its interpreter, and the script that it runs.
fn find_script(words: &[String]) -> Option<(&str, &'static Interpreter, &str)> {
    let (program, arguments) = words.split_first()?;
    let program = program.rsplit('/').next()?;
    let name = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let interpreter = INTERPRETERS.iter().find(|interpreter| interpreter.names.contains(&name))?;
    let mut arguments = arguments.iter().map(String::as_str).skip_while(|word| name == "deno" && *word == "run");
    let script = arguments.find(|word| !interpreter.is_plain_flag(word))?;
    let is_file = interpreter.endings.iter().any(|ending| script.ends_with(ending));
    // With a colon, it may be a URL.
    let is_known = is_file && !script.starts_with('-') && !script.contains(':');
    is_known.then_some((program, interpreter, script))
}

impl Interpreter {
    /// Whether `word` is an option that takes no value.
    fn is_plain_flag(&self, word: &str) -> bool {
        let letters = word.strip_prefix('-').unwrap_or_default();
        let are_flags = !letters.is_empty() && letters.chars().all(|letter| self.flags.contains(letter));
        are_flags || self.long.iter().any(|start| word.starts_with(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The script that a command runs, of which it is known.
    fn script(command: &str) -> Option<String> {
        let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        find_script(&words).map(|(_, _, script)| script.to_owned())
    }

    #[test]
    fn the_script_of_an_interpreter_is_known() {
        for (command, expected) in [
            ("python3 work.py", "work.py"),
            ("/opt/venv/bin/python3.12 -u -OO ./work.py --verbose data.csv", "./work.py"),
            ("node --no-warnings --max-old-space-size=4096 /srv/work.mjs", "/srv/work.mjs"),
            ("php8.2 -n work.php", "work.php"),
            ("bash -eu work.sh", "work.sh"),
            ("perl -w work.pl", "work.pl"),
            ("ruby lib/work.rb", "lib/work.rb"),
            ("deno run -A --allow-net=localhost main.ts", "main.ts"),
            ("deno main.ts", "main.ts"),
        ] {
            assert_eq!(script(command).as_deref(), Some(expected), "{command}");
        }
    }

    #[test]
    fn no_hint_is_given_in_doubt() {
        for command in [
            "python3",
            "python3 -m work.py",
            "python3 -c print(1) work.py",
            "python3 -uc print(1) work.py",
            "python3 - work.py",
            "python3 -- work.py",
            "python3 -W ignore work.py",
            "python3 package",
            "node -r setup.js work.js",
            "node --eval=1 work.js",
            "node --import setup.mjs work.mjs",
            "node work",
            "deno test main.ts",
            "deno run https://example.org/main.ts",
            "php -d a=b work.php",
            "php -c php.ini work.php",
            "php phar://work.phar/work.php",
            "ruby -S work.rb",
            "ruby -C elsewhere work.rb",
            "perl -I lib work.pl",
            "sh -s work.sh",
            "sh -c work.sh",
            "bash -o pipefail work.sh",
            "./work.py",
            "env python3 work.py",
            "uv run work.py",
        ] {
            assert_eq!(script(command), None, "{command}");
        }
    }
}
