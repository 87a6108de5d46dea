//! A server that takes batches: which slot polls for how many tasks, who stores, and what is claimed ahead.

use super::*;

/// A schedule of a server that takes batches, some of whose slots wait.
fn batches(limits: ExitLimits, concurrency: usize, waiting: usize) -> PollSchedule {
    let queue = PollSchedule::new(limits, vec![concurrency], waiting + 1, Backoff::new(SPREAD, 1.0, SPREAD));
    queue.note_most_per_call(100, 100);
    {
        let mut state = queue.lock();
        (state.waiting, state.flow, state.next_poll) = (waiting, Flow::Tasks, Instant::now());
    }
    queue
}

#[test]
fn a_slot_polls_for_all_that_wait_and_hands_them_their_tasks() {
    let queue = batches(ExitLimits::default(), 9, 3);
    let permit = permit_of(&queue);
    assert_eq!((permit.limit, queue.reserve(0, permit.limit)), (4, Reservation::Made(4)));
    assert!(!queue.lock().may_poll_next(true, false), "one call at a time");
    assert!(queue.finish_poll(&permit, Polled::Tasks(vec![task(), task(), task()])).is_some());
    queue.release(0, 1);
    for _ in 0..2 {
        queue.lock().waiting -= 1;
        assert!(matches!(queue.acquire(), Some(NextStep::Run(_))));
    }
    queue.lock().waiting -= 1;
    assert_eq!(permit_of(&queue).limit, 1, "the others run");
}

#[test]
fn no_more_tasks_are_asked_for_than_may_be_claimed() {
    let queue = batches(ExitLimits { max_tasks: 3, ..ExitLimits::default() }, 9, 7);
    let permit = permit_of(&queue);
    assert_eq!(permit.limit, 3);
    assert!(queue.may_poll_at(&queue.lock()).is_none());
    queue.finish_poll(&permit, Polled::Empty { left_out: false });
    let queue = batches(ExitLimits::default(), 2, 7);
    assert_eq!((permit_of(&queue).limit, queue.reserve(0, 8)), (8, Reservation::Made(2)));
}

#[test]
fn slots_stay_until_a_poll_that_is_under_way_has_brought_its_tasks() {
    let queue = batches(ExitLimits::default(), 9, 1);
    let permit = permit_of(&queue);
    assert_eq!(queue.reserve(0, 2), Reservation::Made(2));
    queue.close(Closed::Asked);
    assert_eq!(queue.lock().promised, 1, "the other slot waits");
    queue.finish_poll(&permit, Polled::Tasks(vec![task(), task()]));
    assert!(matches!(queue.acquire(), Some(NextStep::Run(_))) && queue.acquire().is_none());
}

#[test]
fn a_slot_that_waits_at_the_server_keeps_none_from_asking_for_what_has_room_since() {
    let queue = batches(ExitLimits::default(), 9, 2);
    queue.note_server_waits(LongPollSupport::AllTypes);
    queue.lock().flow = Flow::Empty;
    let waits = permit_of(&queue);
    assert!(!waits.wait.is_zero() && waits.limit == 3);
    {
        let mut state = queue.lock();
        (state.flow, state.waiting) = (Flow::Tasks, 2);
    }
    assert_eq!(permit_of(&queue).limit, 1, "the others are promised what it waits for");
}

/// Whether one of the slots that wait has something to do.
fn has_work(queue: &PollSchedule) -> bool {
    queue.has_work(&queue.lock())
}

#[test]
fn slots_wake_each_other_while_there_are_tasks_or_room_for_more() {
    let queue = batches(ExitLimits::default(), 9, 3);
    let permit = permit_of(&queue);
    assert_eq!(queue.reserve(0, permit.limit), Reservation::Made(4));
    assert!(!has_work(&queue), "all wait for the answer");
    assert!(queue.finish_poll(&permit, Polled::Tasks(vec![task(), task(), task()])).is_some());
    queue.release(0, 1);
    for left in [1, 0] {
        assert!(has_work(&queue), "{left} others can run a task");
        queue.lock().waiting -= 1;
        assert!(matches!(queue.acquire(), Some(NextStep::Run(_))));
    }
    assert!(has_work(&queue), "the last one polls");
    let _permit = permit_of(&queue);
    assert!(!has_work(&queue), "one call at a time");
}

/// A task of the first type that has run.
fn ran() -> RanTask {
    let (claim, now) = (task().claim, Timestamp::now());
    let first = FirstReport { attempt: 1, polled_at: Instant::now(), is_quick_failure: false };
    let result = TaskResult::new(claim, Outcome::success(Value::Null), "", now, now);
    RanTask { index: 0, result, deadline: now.into(), is_recovered: false, first }
}

/// A schedule with three slots that has claimed two tasks, of which one has run.
fn with_a_result() -> PollSchedule {
    let queue = batches(ExitLimits::default(), 9, 2);
    let permit = permit_of(&queue);
    assert_eq!(queue.reserve(0, 2), Reservation::Made(2));
    assert!(queue.finish_poll(&permit, Polled::Tasks(vec![task(), task()])).is_some());
    queue.set_aside(ran());
    queue
}

#[test]
fn results_are_stored_together_when_no_claimed_task_is_left() {
    let queue = with_a_result();
    assert!(matches!(queue.acquire(), Some(NextStep::Run(_))));
    queue.set_aside(ran());
    assert!(matches!(queue.acquire(), Some(NextStep::StoreAll(results)) if results.len() == 2));
}

#[test]
fn nothing_is_claimed_for_a_slot_before_its_result_is_stored() {
    let queue = with_a_result();
    assert!(matches!(queue.acquire(), Some(NextStep::Run(_))));
    queue.lock().waiting = 1;
    assert!(matches!(queue.acquire(), Some(NextStep::StoreAll(_))));
    queue.set_aside(ran());
    let permit = permit_of(&queue);
    assert_eq!(permit.limit, 1, "of three slots, one stores, and the result of another waits");
    assert_eq!(queue.reserve(0, 1), Reservation::Made(1));
    queue.finish_poll(&permit, Polled::Tasks(vec![task()]));
    assert!(queue.may_poll_at(&queue.lock()).is_none());
    queue.lock().flow = Flow::Empty;
    queue.finish_stored(&[(0, Verdict::Works)]);
    assert_eq!(queue.lock().flow, Flow::Tasks, "there is room again");
    assert!(queue.may_poll_at(&queue.lock()).is_some());
}

#[test]
fn results_that_could_not_be_stored_together_are_stored_by_a_slot_each_also_at_the_end() {
    let queue = with_a_result();
    assert!(matches!(queue.acquire(), Some(NextStep::Run(_))));
    queue.set_aside(ran());
    queue.close(Closed::Asked);
    let Some(NextStep::StoreAll(results)) = queue.acquire() else { panic!("they are not stored") };
    queue.hand_back(results);
    for _ in 0..2 {
        assert!(matches!(queue.acquire(), Some(NextStep::Store(_))));
    }
    assert!(queue.acquire().is_none());
}

/// A schedule with four slots, of which the last call took long and brought short tasks.
fn after_a_slow_call(concurrency: usize) -> PollSchedule {
    let queue = batches(ExitLimits::default(), concurrency, 3);
    let mut permit = permit_of(&queue);
    permit.start = permit.start.checked_sub(Duration::from_secs(20)).unwrap();
    permit.limit = concurrency;
    queue.reserve(0, concurrency);
    queue.finish_poll(&permit, Polled::Tasks(vec![task(); concurrency]));
    queue.lock().handed.clear();
    queue.finish_runs(&vec![(0, Verdict::Works); concurrency]);
    queue
}

#[test]
fn more_tasks_than_slots_are_claimed_if_calls_take_longer() {
    let queue = after_a_slow_call(4);
    let permit = permit_of(&queue);
    assert_eq!((permit.limit, permit.promised, queue.reserve(0, permit.limit)), (8, 3, Reservation::Made(8)));
    assert!(queue.finish_poll(&permit, Polled::Tasks(vec![task(); 8])).is_some());
    assert_eq!(queue.lock().promised, 0);
    // Three start on the other slots, and four are ahead: nothing more is claimed.
    assert!(queue.may_poll_at(&queue.lock()).is_none());
}

#[test]
fn none_are_claimed_ahead_of_a_limit_or_after_a_failure() {
    let queue = after_a_slow_call(3);
    let permit = permit_of(&queue);
    assert_eq!((permit.limit, queue.reserve(0, permit.limit)), (7, Reservation::Made(3)), "of the type");
    let queue = after_a_slow_call(4);
    queue.enter(0);
    queue.finish_run(0, Verdict::Fails, false);
    assert_eq!(permit_of(&queue).limit, 4);
    let queue = after_a_slow_call(4);
    queue.note_most_per_call(100, 0);
    assert_eq!(permit_of(&queue).limit, 4, "the server renews nothing");
}

#[test]
fn the_last_slot_stores_what_has_gathered_before_it_runs_a_task_that_may_take_long() {
    let queue = with_a_result();
    queue.lock().waiting = 0;
    assert!(matches!(queue.acquire(), Some(NextStep::StoreAll(_))));
    queue.set_aside(ran());
    assert!(matches!(queue.acquire(), Some(NextStep::Run(_))), "another slot stores, and will be back");
}
