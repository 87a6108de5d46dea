//! Test helpers of the queue, and a claim without memory for its answer.

mod cost;

use serde_json::json;

use super::*;
use crate::server::storage::SortBy;

impl Queue {
    /// Calls `step` at each step that SQLite takes.
    pub(in crate::server) fn on_step(&mut self, step: impl FnMut() + Send + 'static) {
        self.storage.on_step(step);
    }

    /// Returns the tasks that pass `filter`, newest first.
    pub(in crate::server) fn tasks(&self, filter: &Filter) -> Result<Vec<TaskSummary>> {
        self.summaries(&self.task_ids(filter)?)
    }

    /// Lets every claim expire.
    pub(in crate::server) fn expire_claims(&mut self) {
        self.storage.expire_claims();
    }
}

#[test]
fn the_serving_thread_claims_any_number_of_short_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::new(([127, 0, 0, 1], 0).into(), folder.path().join("tasks.db"));
    let mut queue = Queue::open(&settings).unwrap();
    queue.register("a".to_owned(), "1".to_owned(), json!({"type": "object"})).unwrap();
    for n in 0..200 {
        let params = NewParams::of("a", &json!({"n": n, "text": "x".repeat(if n < 100 { 1 } else { 1000 })}));
        queue.create(CheckedTask { task_type: "a".to_owned(), params, priority: 0 }).unwrap();
    }
    queue.commit().unwrap();
    let order = ClaimOrder { by: SortBy::Id, descending: false };
    let types = vec![TypeLimit { type_id: 1, limit: 100 }];
    let worker_id = "w".to_owned();
    let request =
        ClaimRequest { worker_id, types: types.clone(), limit: Some(100), type_pattern: None, order, renews: false };
    assert_eq!(queue.claim(&request, &types, true).unwrap().tasks.len(), 100);
    assert!(!queue.has_long_commit());
    assert!(matches!(queue.claim(&request, &types, true), Err(Refusal::Large)), "100 KB are too much");
    assert_eq!(queue.claim(&request, &types, false).unwrap().tasks.len(), 100);
    assert!(queue.has_long_commit());
}

#[test]
fn a_task_is_not_claimed_if_there_is_no_memory_for_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::new(([127, 0, 0, 1], 0).into(), folder.path().join("tasks.db"));
    let mut queue = Queue::open(&settings).unwrap();
    queue.register("a".to_owned(), "1".to_owned(), json!({"type": "object"})).unwrap();
    let mut create = |text: String| {
        let params = NewParams::of("a", &json!({"text": text}));
        queue.create(CheckedTask { task_type: "a".to_owned(), params, priority: 0 }).unwrap();
    };
    create("x".repeat(1 << 20));
    create("short".to_owned());
    let order = ClaimOrder { by: SortBy::Id, descending: false };
    let types = vec![TypeLimit { type_id: 1, limit: 1 }];
    let worker_id = "w".to_owned();
    let request =
        ClaimRequest { worker_id, types: types.clone(), limit: None, type_pattern: None, order, renews: false };
    let mut others = None;
    assert!(queue.answers.reserve(&mut others, 256 << 20));
    assert!(matches!(queue.claim(&request, &types, false), Err(Refusal::NoRoom)));
    let [short, long] = &queue.summaries(&[2, 1]).unwrap()[..] else { panic!() };
    assert_eq!((long.status.as_str(), long.attempts, short.attempts), ("pending", 0, 0));
    drop(others);
    let claimed = queue.claim(&request, &types, false).unwrap();
    assert_eq!(claimed.tasks[0].params.len(), (1 << 20) + "{'text':''}".len());
}
