//! When it is asked: not in step with other workers, when a type is due, and at once where the server may wait; and when a
//! drain ends.

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

/// A queue whose next poll was set for half a minute or later by a sweep that ended so.
fn far(sweep: Sweep) -> Queue {
    let queue = Queue::new(Limits::default(), vec![1], 1, Backoff::new(SPREAD * 60, 1.0, SPREAD * 60));
    while queue.lock().next_poll < Instant::now() + SPREAD * 30 {
        let turn = queue.lock().take_turn(true, &Limits::default());
        queue.end_turn(&turn, sweep);
    }
    queue
}

#[test]
fn a_type_that_is_due_is_asked_for_before_the_next_poll() {
    let due = || Instant::now() + SPREAD * 5;
    let queue = far(Sweep::Empty { paused: false });
    queue.note_due(SPREAD * 5);
    assert!(queue.lock().next_poll <= due());
    for _ in 0..10 {
        let turn = queue.lock().take_turn(true, &Limits::default());
        queue.note_due(SPREAD * 5);
        queue.end_turn(&turn, Sweep::Empty { paused: false });
        assert!(queue.lock().next_poll <= due(), "another poll in vain does not forget it");
    }
}

#[test]
fn a_type_that_falls_due_during_a_turn_in_vain_is_asked_for_at_once() {
    let queue = far(Sweep::Empty { paused: false });
    let turn = queue.lock().take_turn(true, &Limits::default());
    queue.note_due(Duration::ZERO);
    queue.end_turn(&turn, Sweep::Empty { paused: true });
    assert!(queue.lock().next_poll <= Instant::now());
}

#[test]
fn a_server_that_asked_to_be_left_alone_is_left_alone_though_a_type_is_due() {
    let queue = far(Sweep::Failed { index: 0, pause: Some(SPREAD * 60) });
    queue.note_due(SPREAD);
    assert!(queue.lock().next_poll > Instant::now() + SPREAD * 30);
}

#[test]
fn a_queue_that_nobody_watches_is_asleep() {
    let queue = Queue::new(Limits::default(), vec![1], 2, Backoff::new(SPREAD, 1.0, SPREAD));
    // This machine has been up for longer than a minute.
    let long_ago = Instant::now().checked_sub(SPREAD * 60).unwrap();
    let slack = SPREAD * 30;
    assert!(!queue.is_asleep(slack), "it has only started");
    {
        let mut state = queue.lock();
        (state.next_poll, state.paused_until, state.last_active) = (long_ago, long_ago, long_ago);
    }
    assert!(queue.is_asleep(slack));
    let turn = queue.lock().take_turn(true, &Limits::default());
    assert!(!queue.is_asleep(slack), "somebody asks");
    assert_eq!(queue.reserve(0), Place::Taken);
    queue.end_turn(&turn, Sweep::Task(0));
    queue.lock().last_active = long_ago;
    assert!(!queue.is_asleep(slack), "nothing more may be claimed");
    queue.finished(0, Verdict::Works);
    queue.lock().last_active = long_ago;
    assert!(queue.is_asleep(slack));
    queue.close(Closed::Done);
    assert!(!queue.is_asleep(slack), "it is to end");
}

/// Whether the next poll comes at once after each of several turns, not on watch, that end with `sweep`.
fn asks_again_at_once(limits: Limits, known: Option<Waits>, sweep: Sweep) -> bool {
    let queue = Queue::new(limits, vec![1], 1, Backoff::new(SPREAD * 60, 1.0, SPREAD * 60));
    if let Some(waits) = known {
        queue.note_server_waits(waits);
    }
    (0..16).all(|_| {
        let turn = queue.lock().take_turn(false, &limits);
        queue.end_turn(&turn, sweep);
        queue.lock().next_poll <= Instant::now()
    })
}

#[test]
fn a_server_that_may_wait_is_asked_to_at_once() {
    let nothing = Sweep::Empty { paused: false };
    let patient = |known, sweep| asks_again_at_once(Limits::default(), known, sweep);
    assert!(patient(None, nothing), "nobody has asked it yet");
    assert!(patient(Some(Waits::ForAny), nothing));
    assert!(!patient(Some(Waits::No), nothing));
    let drain = Limits { drain: true, ..Limits::default() };
    assert!(!asks_again_at_once(drain, None, nothing), "who does not go on for ever does not wait there");
    for known in [None, Some(Waits::ForAny)] {
        assert!(!patient(known, Sweep::Failed { index: 0, pause: None }), "it would be asked in a circle");
    }
}

/// Whether a drain is over after a sweep that outlived a task, and a sweep begun after that task which ended as `short`.
fn is_drained_after(short: Sweep, long: Sweep) -> bool {
    let limits = Limits { drain: true, ..Limits::default() };
    let queue = Queue::new(limits, vec![3], 3, Backoff::new(SPREAD * 60, 1.0, SPREAD * 60));
    let turn = || queue.lock().take_turn(false, &limits);
    let [with_task, outlasting] = [turn(), turn()];
    assert_eq!(queue.reserve(0), Place::Taken);
    queue.end_turn(&with_task, Sweep::Task(0));
    queue.finished(0, Verdict::Works);
    let later = turn();
    queue.end_turn(&later, short);
    assert!(!queue.is_closed(), "another still asks");
    queue.end_turn(&outlasting, long);
    queue.is_closed()
}

#[test]
fn a_drain_ends_with_its_last_sweep_also_where_that_began_before_the_last_task_was_finished() {
    let (nothing, failed) = (Sweep::Empty { paused: false }, Sweep::Failed { index: 0, pause: None });
    assert!(is_drained_after(nothing, nothing));
    assert!(!is_drained_after(Sweep::Empty { paused: true }, nothing), "a type was left out");
    assert!(!is_drained_after(failed, nothing) && !is_drained_after(nothing, failed), "a task may have been claimed");
}

/// One slot asks for the only place of a type and is not answered. Another, which had left the type out, must not end the
/// drain for it.
#[test]
fn a_drain_does_not_end_with_a_sweep_that_left_out_what_another_slot_asked_for() {
    let limits = Limits { drain: true, ..Limits::default() };
    let queue = Queue::new(limits, vec![1, 1], 2, Backoff::new(SPREAD * 60, 1.0, SPREAD * 60));
    let turn = || queue.lock().take_turn(false, &limits);
    let [asking, other] = [turn(), turn()];
    assert_eq!((queue.reserve(0), queue.reserve(0)), (Place::Taken, Place::Reserved));
    queue.release(0);
    queue.end_turn(&asking, Sweep::Failed { index: 0, pause: None });
    queue.end_turn(&other, Sweep::Partial);
    assert!(!queue.is_closed());
}

const IDLE: Limits = Limits { max_tasks: 0, drain: false, exit_after_idle: Some(Duration::ZERO) };

#[test]
fn an_idle_worker_ends_with_a_poll_in_vain_and_not_with_one_that_was_not_answered() {
    let queue = Queue::new(IDLE, vec![1], 1, Backoff::new(SPREAD * 60, 1.0, SPREAD * 60));
    for (sweep, ends) in [(Sweep::Failed { index: 0, pause: None }, false), (Sweep::Empty { paused: false }, true)] {
        let turn = queue.turn().unwrap();
        queue.end_turn(&turn, sweep);
        assert_eq!(queue.is_closed(), ends, "{sweep:?}");
        queue.lock().next_poll = Instant::now();
    }
}

#[test]
fn a_worker_that_was_asked_to_leave_the_server_alone_polls_for_the_last_time_after_that() {
    let queue = Queue::new(IDLE, vec![1], 1, Backoff::new(SPREAD, 1.0, SPREAD));
    let turn = queue.turn().unwrap();
    queue.end_turn(&turn, Sweep::Failed { index: 0, pause: Some(SPREAD * 60) });
    let state = queue.lock();
    assert!(state.next_turn(&IDLE) > Instant::now() + SPREAD * 30);
}

#[test]
fn a_worker_is_not_idle_while_the_service_behind_a_type_is_away() {
    let queue = Queue::new(IDLE, vec![9], 9, Backoff::new(SPREAD * 60, 1.0, SPREAD * 60));
    for _ in 0..9 {
        let turn = queue.turn().unwrap();
        assert_eq!(queue.reserve(0), Place::Taken);
        queue.end_turn(&turn, Sweep::Task(0));
    }
    (0..9).for_each(|_| _ = queue.finished(0, Verdict::Fails));
    let turn = queue.turn().unwrap();
    assert_eq!(queue.reserve(0), Place::Paused);
    queue.end_turn(&turn, Sweep::Empty { paused: true });
    assert!(!queue.is_closed());
    let due = queue.lock().next_turn(&IDLE);
    // A poll may come earlier: waits between polls have full jitter.
    assert!(due.saturating_duration_since(Instant::now()) < SPREAD * 15, "as soon as it is due");
}
