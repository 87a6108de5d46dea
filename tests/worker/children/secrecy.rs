//! What a handler may read of the worker.

use std::fs;

use super::role::Worker;
use crate::support::processes_in;

/// A handler that reads what it can of its parent, and leaves a process behind.
const CURIOUS: &str = "cat /proc/$PPID/environ > environment 2> refusal
    (setsid sleep 60 &)
    true";

/// What the handler of `worker`, who has a secret, finds in its environment, and how it was refused.
fn environment(worker: &mut Worker) -> (String, String) {
    assert!(worker.run().success());
    assert_eq!(processes_in(worker.folder.path()), [""; 0]);
    let read = |file| fs::read_to_string(worker.path(file)).unwrap();
    (read("environment"), read("refusal"))
}

#[test]
fn a_handler_cannot_read_the_environment_of_its_worker() {
    let worker = Worker::new(CURIOUS).env("WORKER_SECRET", "hunter2").supervising("secrecy-1");
    let (environment, refusal) = environment(&mut worker.without_rights());
    assert_eq!(environment, "");
    assert!(refusal.contains("Permission denied"), "{refusal}");
}

/// That the check above can fail.
#[test]
fn without_supervision_it_can() {
    let mut worker = Worker::new("cat /proc/$PPID/environ > environment").env("WORKER_SECRET", "hunter2");
    worker = worker.without_rights();
    assert!(worker.run().success());
    assert!(fs::read_to_string(worker.path("environment")).unwrap().contains("WORKER_SECRET=hunter2"));
}
