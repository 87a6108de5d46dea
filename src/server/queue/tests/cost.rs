//! The cost of calls as the number of tasks grows, measured in steps of SQLite, which do not depend on the machine's load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::json;

use crate::server::Settings;
use crate::server::params::NewParams;
use crate::server::queue::{CheckedTask, ClaimRequest, Queue, TypeLimit};
use crate::server::storage::{ClaimOrder, Cursor, Filter, Report, STATUSES, SortBy, Time};

/// The last of them has no tasks.
const TYPES: i64 = 21;

/// For each type but the last: of eight tasks, five are pending, one is claimed, one completed, and one failed.
const FILL: &str = "
    WITH RECURSIVE numbers (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?1),
    mixed AS (SELECT n, 1 + n % 20 AS type_id, n / 20 % 8 AS place FROM numbers)
    INSERT INTO tasks
        (type_id, status, priority, attempts, claimed_by, claimed_at, expires_at, completed_at, created_at, dedupe_key, params)
    SELECT type_id, iif(place < 5, 'pending', CASE place WHEN 5 THEN 'claimed' WHEN 6 THEN 'completed' ELSE 'failed' END),
        n * 7919 % 10, n % 3, iif(place < 5, NULL, 'w'), iif(place < 5, NULL, n), iif(place = 5, 9000000000000000, NULL), iif(place < 6, NULL, n), n, n, '{}'
    FROM mixed";

/// A queue that counts SQLite's steps.
struct CountedQueue {
    queue: Queue,
    steps: Arc<AtomicU64>,
    counts: Vec<(String, u64)>,
}

impl CountedQueue {
    fn with_tasks(count: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tasks.db");
        // Claims last until the test lets them expire.
        let settings =
            Settings { claim_timeout: Some(Duration::MAX), ..Settings::new(([127, 0, 0, 1], 0).into(), path) };
        let mut queue = Queue::open(&settings).unwrap();
        for n in 1..=TYPES {
            queue.register(format!("type.{n}"), "1".to_owned(), json!({"type": "object"})).unwrap();
        }
        queue.commit().unwrap();
        let filling = Connection::open(&settings.database).unwrap();
        filling.pragma_update(None, "synchronous", "off").unwrap();
        filling.execute(FILL, [count]).unwrap();
        let steps = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&steps);
        queue.on_step(move || _ = counter.fetch_add(1, Ordering::Relaxed));
        Self { queue, steps, counts: Vec::new() }
    }

    fn count<T>(&mut self, what: impl Into<String>, call: impl FnOnce(&mut Queue) -> T) -> T {
        let before = self.steps.load(Ordering::Relaxed);
        let result = call(&mut self.queue);
        self.queue.commit().unwrap();
        self.counts.push((what.into(), self.steps.load(Ordering::Relaxed) - before));
        result
    }

    fn count_claims(&mut self) {
        for by in [SortBy::Id, SortBy::Priority, SortBy::Attempts] {
            for descending in [false, true] {
                let order = ClaimOrder { by, descending };
                let id = self.count(format!("claim by {order:?}"), |queue| claim(queue, order));
                let attempt = self.queue.summaries(&[id]).unwrap()[0].attempts;
                self.count("progress", |queue| queue.progress(id, "me", 50).unwrap());
                let report = |success| Report { attempt: Some(attempt), success, result: None, error: None };
                self.count("renew", |queue| queue.renew(&[id], "me").unwrap());
                self.count("complete", |queue| queue.complete_one("me", id, report(descending)).unwrap());
                self.count("complete again", |queue| queue.complete_one("me", id, report(descending)).unwrap());
                let types = [3, 4, 5, 21].map(|type_id| TypeLimit { type_id, limit: 5 });
                self.count(format!("claim several by {order:?}"), |queue| claim_all(queue, order, &types));
            }
        }
        self.count("look for an expiry", |queue| queue.until_expiry(1).unwrap());
        self.queue.expire_claims();
        self.count("claim an expired one", |queue| claim(queue, ClaimOrder { by: SortBy::Id, descending: false }));
    }

    /// Counts the calls of the web page. Only the first overview counts the tasks.
    fn count_page_calls(&mut self) {
        self.queue.overview().unwrap();
        self.count("overview", |queue| queue.overview().unwrap());
        self.count("task on the page", |queue| queue.shown(400).unwrap());
        for status in [None].into_iter().chain(STATUSES.map(Some)) {
            let filter = Filter { status, task_type: None, cursor: Cursor::Before(700), limit: 5, offset: 0 };
            self.count(format!("page of {status:?}"), |queue| queue.listed(&filter).unwrap());
        }
        let failed = Filter { status: Some("failed"), task_type: None, cursor: Cursor::NEWEST, limit: 1, offset: 0 };
        let id = self.queue.listed(&failed).unwrap()[0].task.id;
        self.count("retry", |queue| queue.retry(id).unwrap());
    }

    fn count_lists(&mut self) {
        for status in [None].into_iter().chain(STATUSES.map(Some)) {
            for task_type in [None, Some("type.7"), Some("type.%"), Some("type.21")] {
                for cursor in [Cursor::NEWEST, Cursor::Before(500), Cursor::After(500)] {
                    let task_type = task_type.map(str::to_owned);
                    let what = format!("list {status:?} {task_type:?} {cursor:?}");
                    let filter = Filter { status, task_type, cursor, limit: 5, offset: 0 };
                    self.count(what, |queue| queue.tasks(&filter).unwrap());
                }
            }
        }
    }
}

fn claim(queue: &mut Queue, order: ClaimOrder) -> i64 {
    claim_all(queue, order, &[TypeLimit { type_id: 3, limit: 1 }])[0]
}

/// Claims as many tasks as the limits of the types allow.
fn claim_all(queue: &mut Queue, order: ClaimOrder, types: &[TypeLimit]) -> Vec<i64> {
    let limit = types.iter().map(|it| it.limit).sum();
    let (worker_id, types) = ("me".to_owned(), types.to_vec());
    let request = ClaimRequest { worker_id, types, limit: Some(limit), type_pattern: None, order, renews: false };
    let claimed = queue.claim(&request, &request.types, false).unwrap().tasks;
    claimed.iter().map(|task| serde_json::to_value(task).unwrap()["id"].as_i64().unwrap()).collect()
}

/// Returns the steps of every call, with that number of tasks.
fn steps(tasks: u32) -> Vec<(String, u64)> {
    let mut counted = CountedQueue::with_tasks(tasks);
    for what in ["create", "find"] {
        let params = NewParams::of("type.1", &json!({}));
        let task = CheckedTask { task_type: "type.1".to_owned(), params, priority: 0 };
        counted.count(what, |queue| queue.create(task).unwrap());
    }
    counted.count("show", |queue| queue.task(400).unwrap());
    counted.count_lists();
    counted.count_page_calls();
    counted.count("remove", |queue| queue.remove_ended(Time::now(), 1).unwrap());
    counted.count_claims();
    counted.counts
}

#[test]
fn the_steps_of_a_call_do_not_grow_with_the_number_of_tasks() {
    let (few, many) = (steps(10_000), steps(100_000));
    assert_eq!(few.len(), many.len());
    for ((what, few), (_, many)) in few.iter().zip(&many) {
        assert!(*few > 0 && *many <= 2 * few, "{what}: {few} steps grow to {many}");
    }
}
