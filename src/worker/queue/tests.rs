//! That workers do not ask in step.

use super::*;

/// Whether some waits are well under `typical`, and some well over it.
fn are_spread(waits: &[Duration], typical: Duration) -> bool {
    waits.iter().any(|wait| *wait < typical * 3 / 4) && waits.iter().any(|wait| *wait > typical * 5 / 4)
}

#[test]
fn workers_that_start_together_ask_at_different_times() {
    let waits = [(); 64].map(|()| {
        let queue = Queue::new(Limits::default(), vec![1], 1, Backoff::new(SPREAD, 1.0, SPREAD));
        let state = queue.lock();
        state.next_poll - state.last_active
    });
    assert!(are_spread(&waits, SPREAD / 2), "{waits:?}");
}

/// The wait before the next poll after a sweep that ended so.
fn wait_after(sweep: Sweep) -> Duration {
    let queue = Queue::new(Limits::default(), vec![1], 1, Backoff::new(SPREAD * 10, 1.0, SPREAD * 10));
    let turn = queue.lock().take_turn(true, &Limits::default());
    queue.end_turn(&turn, sweep);
    let state = queue.lock();
    state.next_poll - state.last_active
}

#[test]
fn workers_that_found_nothing_together_ask_again_at_different_times() {
    let waits = [(); 64].map(|()| wait_after(Sweep::Empty { paused: false }));
    assert!(are_spread(&waits, SPREAD * 5), "{waits:?}");
}

#[test]
fn workers_that_are_told_to_come_back_at_the_same_time_do_not() {
    let pause = SPREAD * 5;
    let waits = [(); 64].map(|()| wait_after(Sweep::Failed { index: 0, pause: Some(pause) }));
    assert!(waits.iter().all(|wait| *wait >= pause), "{waits:?}");
    assert!(are_spread(&waits.map(|wait| wait.saturating_sub(pause)), SPREAD / 2), "{waits:?}");
}
