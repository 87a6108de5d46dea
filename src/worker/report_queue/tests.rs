//! In which order reports are sent, by how many senders, and which of them count as unreported.

use serde_json::Value;

use super::*;
use crate::store::ResultId;
use crate::task::{Claim, Outcome, Task, TaskResult};

/// The report of an attempt at a task.
fn report(id: u64, attempt: u32) -> PendingReport {
    let now = Timestamp::now();
    let task = Task { id: TaskId(id), task_type: "any".into(), params: Value::Null, attempt, priority: 0 };
    let claim = Claim { task, worker_id: "me".into(), claimed_at: now, deadline: now.into() };
    let result = TaskResult::new(claim, Outcome::success(Value::Null), "", now, now);
    let first = FirstReport { attempt, polled_at: Instant::now(), is_quick_failure: false };
    PendingReport::new(ResultId(1), result, false, first)
}

fn queue(most_senders: usize) -> ReportQueue {
    ReportQueue::with_limits(Vec::new(), Duration::ZERO, most_senders)
}

fn attempt(report: &PendingReport) -> (u64, u32) {
    (report.result.task_id.0, report.result.attempt)
}

fn attempts(reports: &[PendingReport]) -> Vec<(u64, u32)> {
    reports.iter().map(attempt).collect()
}

#[test]
fn reports_of_one_task_are_sent_one_after_the_other_and_hold_up_no_others() {
    let queue = queue(9);
    for (id, number) in [(1, 1), (1, 2), (2, 1)] {
        queue.add_fresh(vec![report(id, number)], 1);
    }
    assert_eq!(attempts(&queue.next_fresh(|| 1).unwrap()), [(1, 1)]);
    assert_eq!(attempts(&queue.next_fresh(|| 1).unwrap()), [(2, 1)]);
    queue.sent(TaskId(1));
    assert_eq!(attempts(&queue.next_fresh(|| 1).unwrap()), [(1, 2)]);
}

#[test]
fn a_refused_report_waits_while_the_next_attempt_is_reported() {
    let queue = queue(9);
    let error = Error::Interrupted;
    queue.keep_refused(report(1, 1), error);
    queue.add_fresh(vec![report(1, 2)], 1);
    queue.next_fresh(|| 1).unwrap();
    assert!(queue.next_postponed(1).is_empty() && queue.lock().next_due(Instant::now()).is_none());
    queue.sent(TaskId(1));
    assert!(queue.lock().next_due(Instant::now()).is_some());
    assert_eq!(attempts(&queue.next_postponed(1)), [(1, 1)]);
}

#[test]
fn senders_are_started_as_they_are_needed_up_to_a_limit() {
    let queue = queue(2);
    let needs = [1, 2, 3].map(|id| queue.add_fresh(vec![report(id, 1)], 1));
    assert_eq!(needs, [Needs::Sender, Needs::Sender, Needs::Nothing]);
}

#[test]
fn reports_without_a_thread_are_returned_by_the_last_sender() {
    let queue = queue(2);
    queue.add_fresh(vec![report(1, 1)], 1);
    queue.add_fresh(vec![report(2, 1)], 1);
    assert!(queue.sender_refused().is_empty(), "another takes it");
    assert_eq!(queue.sender_refused().iter().map(attempt).collect::<Vec<_>>(), [(1, 1), (2, 1)]);
}

#[test]
fn only_what_did_not_get_through_counts_as_unreported() {
    let queue = queue(2);
    queue.add_fresh(vec![report(1, 1)], 1);
    let first = queue.next_fresh(|| 1).unwrap().remove(0);
    assert_eq!((queue.unreported(), queue.postponed()), (0, 0));
    queue.postpone(first);
    queue.sent(TaskId(1));
    assert_eq!((queue.unreported(), queue.postponed()), (1, 1));
    let again = queue.next_postponed(1).remove(0);
    assert_eq!(queue.postponed(), 1, "it is being sent");
    queue.keep_refused(again, Error::Interrupted);
    queue.sent(TaskId(1));
    assert_eq!((queue.unreported(), queue.postponed()), (1, 0));
}

#[test]
fn the_last_sender_ends_when_nothing_more_comes() {
    let queue = queue(2);
    queue.add_fresh(vec![report(1, 1)], 1);
    queue.end();
    assert!(queue.next_fresh(|| 1).is_some() && queue.next_fresh(|| 1).is_none());
}

#[test]
fn a_batch_has_all_that_waits_but_never_two_attempts_of_a_task() {
    let queue = queue(9);
    let needs = [(1, 1), (1, 2), (2, 1), (3, 1)].map(|(id, number)| queue.add_fresh(vec![report(id, number)], 100));
    assert_eq!(needs, [Needs::Sender, Needs::Nothing, Needs::Nothing, Needs::Nothing], "one sender sends them all");
    assert_eq!(attempts(&queue.next_fresh(|| 100).unwrap()), [(1, 1), (2, 1), (3, 1)]);
    queue.fresh_sent(false);
    for id in 1..=3 {
        queue.sent(TaskId(id));
    }
    assert_eq!(attempts(&queue.next_fresh(|| 100).unwrap()), [(1, 2)]);
}

#[test]
fn small_batches_keep_an_interval_and_large_ones_do_not_wait() {
    let interval = Duration::from_millis(50);
    let queue = ReportQueue { batch_interval: interval, ..queue(8) };
    let start = Instant::now();
    queue.add_fresh(vec![report(1, 1)], 100);
    assert_eq!(attempts(&queue.next_fresh(|| 100).unwrap()), [(1, 1)]);
    assert!(queue.gather_until(&queue.lock()).is_none(), "there is nothing to gather");
    queue.fresh_sent(false);
    queue.add_fresh(vec![report(2, 1)], 100);
    assert_eq!(attempts(&queue.next_fresh(|| 100).unwrap()), [(2, 1)]);
    assert!(start.elapsed() >= interval);

    let queue = ReportQueue { batch_interval: Duration::from_secs(3600), ..queue };
    queue.fresh_sent(false);
    for ids in [[3, 4, 5, 6], [7, 8, 9, 10]] {
        queue.add_fresh(ids.map(|id| report(id, 1)).into(), 100);
        assert_eq!(queue.next_fresh(|| 100).unwrap().len(), 4);
        queue.fresh_sent(false);
    }
    queue.add_fresh(vec![report(11, 1)], 100);
    assert!(queue.gather_until(&queue.lock()).is_some());
    queue.end();
    assert_eq!(attempts(&queue.next_fresh(|| 100).unwrap()), [(11, 1)], "the end does not wait");
}

#[test]
fn postponed_reports_that_fail_again_keep_their_order() {
    let queue = queue(9);
    for id in 1..=3 {
        queue.postpone(report(id, 1));
    }
    let reports = queue.next_postponed(2);
    assert_eq!(attempts(&reports), [(1, 1), (2, 1)]);
    queue.put_back(reports);
    assert_eq!(attempts(&queue.next_postponed(100)), [(1, 1), (2, 1), (3, 1)]);
}
