//! Which files a child has open.

use std::fs::File;
use std::io;
use std::net::TcpListener;

use prismq::handler::Command;
use prismq::store::Store;
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::json;

use crate::Bench;

/// Whatever the worker has open, and whatever it was started with itself.
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
    bench.settings.command = Command::Shell("ls /proc/$$/fd; true".into());
    assert_eq!(bench.run().data, json!({"output": "0\n1\n2\n3"}));
    drop((inherited, reader, writer, socket));
}
