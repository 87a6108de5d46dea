use serde_json::json;

use super::*;

fn claim(attempt: u32, worker_id: &str) -> Claim {
    let task = Task { id: TaskId(1), task_type: "a".into(), params: json!({}), attempt, priority: 0 };
    let claimed_at = Timestamp::UNIX_EPOCH;
    Claim { task, worker_id: worker_id.into(), claimed_at, deadline: claimed_at.into() }
}

#[test]
fn a_task_that_continues_is_renewed_under_its_later_claim() {
    let (table, recovered) = (InFlight::new(&[], EarlierWorkers::None), claim(1, "dead"));
    assert_eq!(table.enter(&recovered), Entered::New);
    table.cancel_token(Some(&recovered));
    let worker_ids = || table.unstored_claims().into_iter().map(|(worker_id, ..)| worker_id).collect::<Vec<_>>();
    assert_eq!(worker_ids(), ["dead"]);
    assert_eq!(table.enter(&claim(2, "own")), Entered::Continues);
    assert_eq!(worker_ids(), ["own"]);
}

#[test]
fn each_is_told_once_until_the_task_is_done() {
    let (table, task) = (InFlight::new(&[], EarlierWorkers::None), TaskId(1));
    assert!(table.mark_emitted(task, Repeated::WrongType) && table.mark_emitted(task, Repeated::ClaimRenewed));
    assert!(!table.mark_emitted(task, Repeated::WrongType) && table.mark_emitted(TaskId(2), Repeated::WrongType));
    table.forget_repeated(task);
    assert!(table.mark_emitted(task, Repeated::WrongType) && !table.mark_emitted(TaskId(2), Repeated::WrongType));
    (0..10 * MOST_REPEATED as u64).for_each(|id| _ = table.mark_emitted(TaskId(id), Repeated::WrongType));
    assert!(table.lock().repeated.len() <= MOST_REPEATED);
}
