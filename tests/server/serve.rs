//! `prismq serve --fault`, as it is typed.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// `prismq serve` on any port, in a folder of its own.
fn serve(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prismq"));
    command.current_dir(folder).env_clear().env("HOME", folder.path());
    command.args(["serve", "--listen", "127.0.0.1:0", "--db", "tasks.db"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a server that was started with `arguments` has said by the time it listens.
fn said(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Running(serve(&folder, arguments).spawn().unwrap());
    // The URL comes when it listens, after which it says one thing more.
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    server.0.kill().unwrap();
    let mut said = String::new();
    server.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn faults_are_off_unless_asked_for() {
    assert!(!said(&[]).contains("FAULTS"));
}

#[test]
fn faults_are_said_loudly_with_their_seed() {
    let list = |said: &str| {
        let line = said.lines().next().unwrap().to_owned();
        let (warning, list) = line.split_once(" To reproduce: --fault ").unwrap();
        assert!(warning.starts_with("WARNING: FAULTS ARE ON."), "{warning}");
        list.to_owned()
    };
    assert_eq!(list(&said(&["--fault", "published,drop=5%,seed=12"])), "published,drop=5%,seed=12");
    let drawn = list(&said(&["-qq", "--fault", "drop=5%", "--fault", "latency=1:20ms"]));
    let seed = drawn.strip_prefix("drop=5%,latency=1:20ms,seed=").unwrap_or_else(|| panic!("{drawn}"));
    assert!(seed.parse::<u64>().is_ok(), "{seed}");
    assert_eq!(list(&said(&["--fault", &drawn])), drawn, "what it says can be typed");
}

#[test]
fn invalid_faults_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (faults, error) in [
        ("dorp=5%", "prismq: --fault dorp=5%: no such fault; did you mean `drop`?\n"),
        ("published,drop=5", "prismq: --fault drop=5: \"5\" is not a rate: use 0 to 1, or 0% to 100%\n"),
    ] {
        let Output { status, stdout, stderr } = serve(&folder, &["--fault", faults]).output().unwrap();
        assert_eq!((status.code(), stdout.as_slice()), (Some(2), &b""[..]));
        assert_eq!(String::from_utf8(stderr).unwrap(), error);
    }
    assert!(!folder.path().join("tasks.db").exists(), "nothing is created for nothing");
}
