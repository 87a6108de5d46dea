//! What the process group ends by itself, without supervision, as on systems that have no means for it.

use std::time::{Duration, Instant};

use super::role::Worker;
use crate::support::processes_in;

#[test]
fn the_rest_of_a_group_ends_with_its_leader_though_it_holds_the_pipes() {
    let took = [(); 3].map(|()| {
        let mut worker = Worker::new("sleep 60 & sh -c 'sleep 60; true' & true");
        let start = Instant::now();
        assert!(worker.run().success());
        assert_eq!(processes_in(worker.folder.path()), [""; 0]);
        start.elapsed()
    });
    // Pipes that are held open are waited for, 2 s. The best of three, for machines are noisy.
    assert!(took.into_iter().min().unwrap() < Duration::from_millis(1500), "{took:?}");
}
