//! What a child inherits: open files and signals.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;

use crate::handler::ExecCommand;
use crate::store::Store;
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::json;

use super::Bench;

/// The worker's files stay closed to it, including those that the worker inherited.
#[test]
fn a_child_has_no_file_open_but_its_four() {
    let mut bench = Bench::new("");
    let _store = Store::open(&bench.path("results.db")).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let (reader, writer) = io::pipe().unwrap();
    let inherited = File::open(bench.dir.path()).unwrap();
    fcntl_setfd(&inherited, FdFlags::empty()).unwrap();
    fcntl_setfd(&socket, FdFlags::empty()).unwrap();
    fcntl_setfd(&writer, FdFlags::empty()).unwrap();
    bench.settings.command = ExecCommand::Shell("ls /proc/$$/fd; true".into());
    assert_eq!(bench.run().data, json!({"output": "0\n1\n2\n3"}));
    drop((inherited, reader, writer, socket));
}

/// Including those that the worker handles, ignores or blocks.
#[test]
fn a_child_has_the_usual_signals() {
    let mut bench = Bench::new("");
    let _ = ctrlc::set_handler(|| {});
    bench.settings.command = ExecCommand::Program(vec!["cat".into(), "/proc/self/status".into()]);
    let status = bench.run().data["output"].as_str().unwrap().to_owned();
    // The worker ignores SIGPIPE only for itself; other ignored signals stay ignored.
    let ignored = signals(&fs::read_to_string("/proc/self/status").unwrap(), "SigIgn:") & !(1 << (13 - 1));
    let [blocked, caught] = ["SigBlk:", "SigCgt:"].map(|name| signals(&status, name));
    assert_eq!((blocked, signals(&status, "SigIgn:"), caught), (0, ignored, 0));
}

fn signals(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}
