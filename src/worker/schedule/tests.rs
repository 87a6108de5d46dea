//! When it is asked: not in step with other workers, when a type is due, and at once where the server may wait; and when a
//! drain ends.

mod batches;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::breaker::Verdict;
use super::super::report_queue::FirstReport;
use super::messages::Flow;
use super::{
    ClaimedTask, Closed, ExitLimits, NextStep, PollPermit, PollSchedule, Polled, RanTask, Reservation, SPREAD,
};
use crate::clock::Timestamp;
use crate::shutdown::CancelToken;
use crate::task::{Claim, Outcome, Task, TaskId, TaskResult};
use crate::taskmanager::{Backoff, LongPollSupport};

/// A claimed task of the first type.
fn task() -> ClaimedTask {
    let now = Timestamp::now();
    let task = Task { id: TaskId(1), task_type: "any".into(), params: Value::Null, attempt: 1, priority: 0 };
    let claim = Claim { task, worker_id: "me".into(), claimed_at: now, deadline: now.into() };
    let stop = Arc::new(CancelToken::new(None));
    ClaimedTask { index: 0, claim, stop, is_recovered: false, polled_at: Instant::now(), noted: None }
}

fn permit_of(queue: &PollSchedule) -> PollPermit {
    match queue.acquire() {
        Some(NextStep::Poll(permit)) => permit,
        _ => panic!("it may not poll"),
    }
}

/// Whether some waits are well under `typical`, and some well over it.
fn are_spread(waits: &[Duration], typical: Duration) -> bool {
    waits.iter().any(|wait| *wait < typical * 3 / 4) && waits.iter().any(|wait| *wait > typical * 5 / 4)
}

#[test]
fn workers_that_start_together_ask_at_different_times() {
    let waits = [(); 64].map(|()| {
        let queue = PollSchedule::new(ExitLimits::default(), vec![1], 1, Backoff::new(SPREAD, 1.0, SPREAD));
        let state = queue.lock();
        state.next_poll - state.last_active
    });
    assert!(are_spread(&waits, SPREAD / 2), "{waits:?}");
}

/// The wait before the next poll after a poll that ended so.
fn wait_after(polled: Polled) -> Duration {
    let queue = PollSchedule::new(ExitLimits::default(), vec![1], 1, Backoff::new(SPREAD * 10, 1.0, SPREAD * 10));
    let permit = queue.lock().permit(true, &ExitLimits::default());
    queue.finish_poll(&permit, polled);
    let state = queue.lock();
    state.next_poll - state.last_active
}

#[test]
fn workers_that_found_nothing_together_ask_again_at_different_times() {
    let waits = [(); 64].map(|()| wait_after(Polled::Empty { left_out: false }));
    assert!(are_spread(&waits, SPREAD * 5), "{waits:?}");
}

#[test]
fn workers_that_are_told_to_come_back_at_the_same_time_do_not() {
    let pause = SPREAD * 5;
    let waits = [(); 64].map(|()| wait_after(Polled::Failed { index: 0, pause: Some(pause) }));
    assert!(waits.iter().all(|wait| *wait >= pause), "{waits:?}");
    assert!(are_spread(&waits.map(|wait| wait.saturating_sub(pause)), SPREAD / 2), "{waits:?}");
}

/// A queue whose next poll was set for half a minute or later by a poll that ended so.
fn far(polled: &Polled) -> PollSchedule {
    let queue = PollSchedule::new(ExitLimits::default(), vec![1], 1, Backoff::new(SPREAD * 60, 1.0, SPREAD * 60));
    while queue.lock().next_poll < Instant::now() + SPREAD * 30 {
        let permit = queue.lock().permit(true, &ExitLimits::default());
        queue.finish_poll(&permit, polled.clone());
    }
    queue
}

#[test]
fn a_type_that_is_due_is_asked_for_before_the_next_poll() {
    let due = || Instant::now() + SPREAD * 5;
    let queue = far(&Polled::Empty { left_out: false });
    queue.note_due(SPREAD * 5);
    assert!(queue.lock().next_poll <= due());
    for _ in 0..10 {
        let permit = queue.lock().permit(true, &ExitLimits::default());
        queue.note_due(SPREAD * 5);
        queue.finish_poll(&permit, Polled::Empty { left_out: false });
        assert!(queue.lock().next_poll <= due(), "another empty poll does not forget it");
    }
}

#[test]
fn a_type_that_falls_due_during_an_empty_poll_is_polled_at_once() {
    let queue = far(&Polled::Empty { left_out: false });
    let permit = queue.lock().permit(true, &ExitLimits::default());
    queue.note_due(Duration::ZERO);
    queue.finish_poll(&permit, Polled::Empty { left_out: true });
    assert!(queue.lock().next_poll <= Instant::now());
}

#[test]
fn a_server_that_asked_to_be_left_alone_is_left_alone_though_a_type_is_due() {
    let queue = far(&Polled::Failed { index: 0, pause: Some(SPREAD * 60) });
    queue.note_due(SPREAD);
    assert!(queue.lock().next_poll > Instant::now() + SPREAD * 30);
}

#[test]
fn a_schedule_by_which_nobody_polls_hangs() {
    let queue = PollSchedule::new(ExitLimits::default(), vec![1], 2, Backoff::new(SPREAD, 1.0, SPREAD));
    // This machine has been up for longer than a minute.
    let long_ago = Instant::now().checked_sub(SPREAD * 60).unwrap();
    let slack = SPREAD * 30;
    assert!(!queue.is_hung(slack), "it has only started");
    {
        let mut state = queue.lock();
        (state.next_poll, state.paused_until, state.last_active) = (long_ago, long_ago, long_ago);
    }
    assert!(queue.is_hung(slack));
    let permit = queue.lock().permit(true, &ExitLimits::default());
    assert!(!queue.is_hung(slack), "somebody asks");
    assert_eq!(queue.reserve(0, 1), Reservation::Made(1));
    queue.finish_poll(&permit, Polled::Tasks(vec![task()]));
    queue.lock().last_active = long_ago;
    assert!(!queue.is_hung(slack), "nothing more may be claimed");
    queue.finish_run(0, Verdict::Works, false);
    queue.lock().last_active = long_ago;
    assert!(queue.is_hung(slack));
    queue.close(Closed::Done);
    assert!(!queue.is_hung(slack), "it is to end");
}

/// Whether the next poll comes at once after each of several polls while tasks come that end with `polled`.
fn asks_again_at_once(limits: ExitLimits, known: Option<LongPollSupport>, polled: &Polled) -> bool {
    let queue = PollSchedule::new(limits, vec![1], 1, Backoff::new(SPREAD * 60, 1.0, SPREAD * 60));
    if let Some(waits) = known {
        queue.note_server_waits(waits);
    }
    (0..16).all(|_| {
        let permit = queue.lock().permit(false, &limits);
        queue.finish_poll(&permit, polled.clone());
        queue.lock().next_poll <= Instant::now()
    })
}

#[test]
fn a_server_that_may_wait_is_asked_to_at_once() {
    let nothing = || Polled::Empty { left_out: false };
    let patient = |known, polled: Polled| asks_again_at_once(ExitLimits::default(), known, &polled);
    assert!(patient(None, nothing()), "nobody has asked it yet");
    assert!(patient(Some(LongPollSupport::AllTypes), nothing()));
    assert!(!patient(Some(LongPollSupport::No), nothing()));
    let drain = ExitLimits { drain: true, ..ExitLimits::default() };
    assert!(!asks_again_at_once(drain, None, &nothing()), "who does not go on for ever does not wait there");
    for known in [None, Some(LongPollSupport::AllTypes)] {
        assert!(!patient(known, Polled::Failed { index: 0, pause: None }), "it would be asked in a circle");
    }
}

/// Whether a drain is over after a poll that outlived a task, and a poll begun after that task which ended as `short`.
fn is_drained_after(short: Polled, long: Polled) -> bool {
    let limits = ExitLimits { drain: true, ..ExitLimits::default() };
    let queue = PollSchedule::new(limits, vec![3], 3, Backoff::new(SPREAD * 60, 1.0, SPREAD * 60));
    let permit = || queue.lock().permit(false, &limits);
    let [with_task, outlasting] = [permit(), permit()];
    assert_eq!(queue.reserve(0, 1), Reservation::Made(1));
    queue.finish_poll(&with_task, Polled::Tasks(vec![task()]));
    queue.finish_run(0, Verdict::Works, false);
    let later = permit();
    queue.finish_poll(&later, short);
    assert!(!queue.is_closed(), "another still asks");
    queue.finish_poll(&outlasting, long);
    queue.is_closed()
}

#[test]
fn a_drain_ends_with_its_last_poll_also_if_that_began_before_the_last_task_was_finished() {
    let (nothing, failed) = (|| Polled::Empty { left_out: false }, || Polled::Failed { index: 0, pause: None });
    assert!(is_drained_after(nothing(), nothing()));
    assert!(!is_drained_after(Polled::Empty { left_out: true }, nothing()), "a type was left out");
    assert!(
        !is_drained_after(failed(), nothing()) && !is_drained_after(nothing(), failed()),
        "a task may have been claimed"
    );
}

/// One slot asks for the only place of a type and is not answered. Another, which had left the type out, must not end the
/// drain for it.
#[test]
fn a_drain_does_not_end_with_a_poll_that_left_out_what_another_slot_asked_for() {
    let limits = ExitLimits { drain: true, ..ExitLimits::default() };
    let queue = PollSchedule::new(limits, vec![1, 1], 2, Backoff::new(SPREAD * 60, 1.0, SPREAD * 60));
    let permit = || queue.lock().permit(false, &limits);
    let [asking, other] = [permit(), permit()];
    assert_eq!((queue.reserve(0, 1), queue.reserve(0, 1)), (Reservation::Made(1), Reservation::Contested));
    queue.release(0, 1);
    queue.finish_poll(&asking, Polled::Failed { index: 0, pause: None });
    queue.finish_poll(&other, Polled::Partial);
    assert!(!queue.is_closed());
}

const IDLE: ExitLimits = ExitLimits { max_tasks: 0, drain: false, exit_after_idle: Some(Duration::ZERO) };

#[test]
fn an_idle_worker_ends_with_an_empty_poll_and_not_with_a_failed_one() {
    let queue = PollSchedule::new(IDLE, vec![1], 1, Backoff::new(SPREAD * 60, 1.0, SPREAD * 60));
    for (polled, ends) in [(Polled::Failed { index: 0, pause: None }, false), (Polled::Empty { left_out: false }, true)]
    {
        let permit = permit_of(&queue);
        queue.finish_poll(&permit, polled);
        assert_eq!(queue.is_closed(), ends);
        queue.lock().next_poll = Instant::now();
    }
}

#[test]
fn a_worker_that_was_asked_to_leave_the_server_alone_polls_for_the_last_time_after_that() {
    let queue = PollSchedule::new(IDLE, vec![1], 1, Backoff::new(SPREAD, 1.0, SPREAD));
    let permit = permit_of(&queue);
    queue.finish_poll(&permit, Polled::Failed { index: 0, pause: Some(SPREAD * 60) });
    let state = queue.lock();
    assert!(state.next_poll_at(&IDLE) > Instant::now() + SPREAD * 30);
}

#[test]
fn a_worker_is_not_idle_while_the_service_behind_a_type_is_away() {
    let queue = PollSchedule::new(IDLE, vec![9], 9, Backoff::new(SPREAD * 60, 1.0, SPREAD * 60));
    for _ in 0..9 {
        let permit = permit_of(&queue);
        assert_eq!(queue.reserve(0, 1), Reservation::Made(1));
        queue.finish_poll(&permit, Polled::Tasks(vec![task()]));
    }
    (0..9).for_each(|_| _ = queue.finish_run(0, Verdict::Fails, false));
    let permit = permit_of(&queue);
    assert_eq!(queue.reserve(0, 1), Reservation::CircuitOpen);
    queue.finish_poll(&permit, Polled::Empty { left_out: true });
    assert!(!queue.is_closed());
    let due = queue.lock().next_poll_at(&IDLE);
    // A poll may come earlier: waits between polls have full jitter.
    assert!(due.saturating_duration_since(Instant::now()) < SPREAD * 15, "as soon as it is due");
}

/// A schedule with one slot whose only task has just run, and a poll after it that found nothing.
fn with_a_report_under_way(limits: ExitLimits) -> PollSchedule {
    let queue = PollSchedule::new(limits, vec![1], 1, Backoff::new(SPREAD * 60, 1.0, SPREAD * 60));
    let permit = permit_of(&queue);
    assert_eq!(queue.reserve(0, 1), Reservation::Made(1));
    queue.finish_poll(&permit, Polled::Tasks(vec![task()]));
    queue.finish_run(0, Verdict::Works, true);
    let permit = permit_of(&queue);
    queue.finish_poll(&permit, Polled::Empty { left_out: false });
    queue
}

#[test]
fn a_drain_ends_when_the_last_result_is_reported_and_polls_once_more_after_a_failure() {
    for may_be_back in [false, true] {
        let queue = with_a_report_under_way(ExitLimits { drain: true, ..ExitLimits::default() });
        assert!(!queue.is_closed(), "its report is under way");
        queue.first_report_done(may_be_back);
        assert_eq!(queue.is_closed(), !may_be_back);
        if may_be_back {
            let permit = permit_of(&queue);
            assert!(permit.start().elapsed() < SPREAD * 30, "at once");
            queue.finish_poll(&permit, Polled::Empty { left_out: false });
            assert!(queue.is_closed());
        }
    }
}

#[test]
fn a_drain_polls_after_the_last_run_whose_handler_may_have_created_a_task() {
    let limits = ExitLimits { drain: true, ..ExitLimits::default() };
    let queue = PollSchedule::new(limits, vec![2], 2, Backoff::new(SPREAD * 60, 1.0, SPREAD * 60));
    let permit = permit_of(&queue);
    assert_eq!(queue.reserve(0, 1), Reservation::Made(1));
    queue.finish_poll(&permit, Polled::Tasks(vec![task()]));
    let permit = permit_of(&queue);
    queue.finish_poll(&permit, Polled::Empty { left_out: false });
    queue.finish_run(0, Verdict::Works, true);
    queue.first_report_done(false);
    assert!(!queue.is_closed());
    let permit = permit_of(&queue);
    queue.finish_poll(&permit, Polled::Empty { left_out: false });
    assert!(queue.is_closed());
}

#[test]
fn a_worker_is_not_idle_while_a_report_is_under_way() {
    let queue = with_a_report_under_way(IDLE);
    assert!(!queue.is_closed() && queue.lock().idle_end(&IDLE).is_none());
    queue.first_report_done(false);
    assert!(queue.lock().idle_end(&IDLE).is_some());
}

#[test]
fn nothing_is_claimed_while_too_many_results_wait_for_their_first_report() {
    let queue = PollSchedule::new(ExitLimits::default(), vec![9], 2, Backoff::new(SPREAD, 1.0, SPREAD));
    for _ in 0..4 {
        assert!(queue.may_poll_at(&queue.lock()).is_some());
        queue.enter(0);
        queue.finish_run(0, Verdict::Works, true);
    }
    assert!(queue.may_poll_at(&queue.lock()).is_none());
    queue.first_report_done(false);
    assert!(queue.may_poll_at(&queue.lock()).is_some());
}

#[test]
fn waiting_for_first_reports_ends_with_the_last() {
    let queue = PollSchedule::new(ExitLimits::default(), vec![1], 1, Backoff::new(SPREAD, 1.0, SPREAD));
    queue.enter(0);
    queue.finish_run(0, Verdict::Works, true);
    assert!(!queue.wait_first_reports(Duration::ZERO));
    queue.first_report_done(false);
    assert!(queue.wait_first_reports(Duration::ZERO));
}
