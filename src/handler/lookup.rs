//! Finds the program that a handler's settings name, or says why it cannot run.

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
/// As much of a file as tells what it is, in bytes; Linux reads as much of a `#!` line.
const HEAD: usize = 256;

/// The absolute path of `program`: relative to `dir` where it has a slash, else the first on `path`. The error is one
/// line that says what is wrong and where.
pub(super) fn find(program: &str, dir: &Path, search: Option<&OsStr>) -> Result<PathBuf, String> {
    if !dir.is_dir() {
        return Err(format!("no such working folder: {}", dir.display()));
    }
    let found = if program.contains('/') { beside(program, dir) } else { first_on_path(program, dir, search) }?;
    let found = path::absolute(&found)
        .map_err(|error| format!("cannot resolve {}: {}", found.display(), os_error::words(&error)))?;
    check_head(&found)?;
    Ok(found)
}

fn beside(program: &str, dir: &Path) -> Result<PathBuf, String> {
    let path = dir.join(program);
    if is_executable(&path) {
        Ok(path)
    } else if path.is_file() {
        Err(not_executable(&path))
    } else {
        Err(format!("no such program: {}", clean(&path).display()))
    }
}

/// `path` as people would write it: without `.` between its folders.
pub(super) fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Where `file` may be on the path. A relative folder on it is the child's, whose working folder is `dir`.
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

/// Refuses a script that has no interpreter line. Left to the C library, that is an error on some systems, and on
/// others `sh` would run it, whatever its language.
fn check_head(path: &Path) -> Result<(), String> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD as u64).read_to_end(&mut head));
    // A program may be executable without being readable.
    if read.is_err() {
        return Ok(());
    }
    let Some(line) = head.strip_prefix(b"#!") else {
        // Every format of machine code has zeros this early.
        return if head.contains(&0) { Ok(()) } else { Err(no_interpreter(path)) };
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_start();
    // A carriage return is part of the name, as it is to the kernel: that is a mistake to point out.
    let interpreter = line.split(|byte| matches!(byte, b' ' | b'\t')).next().unwrap_or_default();
    let path_of_it = Path::new(OsStr::from_bytes(interpreter));
    if path_of_it.is_relative() || path_of_it.exists() {
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
