//! Removing tasks that ended long ago.

use std::time::Duration;

use prismq::internals::server::Server;
use rusqlite::Connection;
use serde_json::json;

use crate::api::{Api, Client};
use crate::support::wait_for;

/// Inserts tasks of the first type that ended in 1970.
const INSERT: &str = "
    WITH RECURSIVE numbers (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < 300)
    INSERT INTO tasks (type_id, status, priority, completed_at, created_at, dedupe_key, params, result)
    SELECT 1, iif(n % 2, 'completed', 'failed'), 0, n, n, hex(randomblob(32)), '{}', hex(randomblob(1000)) FROM numbers";

fn open(api: &Api) -> Connection {
    let database = Connection::open(&api.settings.database).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    database
}

fn number(database: &Connection, sql: &str) -> i64 {
    database.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn only_tasks_that_ended_long_ago_are_removed() {
    let api = Api::start_with(|settings| settings.max_attempts = 1);
    let type_id = api.register_any("a");
    let kept: Vec<i64> = (0..4).map(|n| api.create("a", json!({"n": n}))).collect();
    for (id, success) in [(1, Some(true)), (2, Some(false)), (3, None)] {
        assert_eq!(api.claim("w", type_id).data()["id"], json!(id));
        if let Some(success) = success {
            api.post(&format!("/tasks/{id}/complete"), json!({"worker_id": "w", "success": success})).data();
        }
    }
    open(&api).execute(INSERT, []).unwrap();
    let Api { server, mut settings, folder: _folder, .. } = api;
    server.stop();
    settings.retention = Some(Duration::from_secs(3600));
    let server = Server::start(&settings).unwrap();
    let client = Client::new(server.api_url());
    let ids = || {
        let list = client.get("/tasks?limit=1000").data();
        list.as_array().unwrap().iter().map(|task| task["id"].as_i64().unwrap()).rev().collect::<Vec<_>>()
    };
    wait_for("the pruning", || (ids().len() == kept.len()).then_some(()));
    assert_eq!(ids(), kept);
}

#[test]
fn space_of_removed_tasks_is_reused() {
    let api = Api::start_with(|settings| settings.retention = Some(Duration::from_millis(100)));
    api.register_any("a");
    let database = open(&api);
    let pages: Vec<i64> = (0..8)
        .map(|_| {
            database.execute(INSERT, []).unwrap();
            wait_for("the pruning at the start", || {
                (number(&database, "SELECT count(*) FROM tasks") == 0).then_some(())
            });
            number(&database, "PRAGMA page_count")
        })
        .collect();
    assert!(pages[7] <= pages[1] + 8, "{pages:?}");
}

#[test]
fn removed_tasks_can_be_created_again() {
    let api = Api::start_with(|settings| settings.retention = Some(Duration::from_millis(50)));
    let type_id = api.register_any("a");
    let task = json!({"type": "a", "params": {"n": 1}});
    let id = api.post("/tasks", task.clone()).data()["id"].clone();
    api.claim("w", type_id).data();
    api.post(&format!("/tasks/{id}/complete"), json!({"worker_id": "w", "success": true})).data();
    wait_for("the pruned task", || (api.get(&format!("/tasks/{id}")).status == 404).then_some(()));
    let again = api.post("/tasks", task).data();
    assert_eq!((&again["status"], again.get("deduplicated")), (&json!("pending"), None));
    assert_ne!(again["id"], id, "no id is used twice");
}
