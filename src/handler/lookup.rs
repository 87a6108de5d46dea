//! Finds the program of a handler, or explains why it cannot run.

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
        .map_err(|error| format!("cannot resolve {}: {}", found.display(), os_error::words(&error)))?;
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
pub(super) fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Returns the candidates for `file` on the search path. Relative folders are resolved against `dir`, as in the child.
pub(super) fn on_path(file: &str, dir: &Path, search: Option<&OsStr>) -> impl Iterator<Item = PathBuf> {
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
