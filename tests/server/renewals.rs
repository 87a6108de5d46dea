//! Claims that are renewed, and how long claims last.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use prismq::internals::server::{OfferedFeatures, Server};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::api::{Api, ApiResponse, Client, settings};
use crate::support::{Sandbox, wait_for};

fn api(claim_timeout: Option<Duration>) -> (Api, i64) {
    let api = Api::start_with(|settings| settings.claim_timeout = claim_timeout);
    let type_id = api.register_any("a");
    for n in 0..3 {
        api.create("a", json!({"n": n}));
    }
    (api, type_id)
}

#[allow(clippy::needless_pass_by_value, reason = "calls read better with json!(…) as it is")]
fn renew(api: &Api, worker: &str, ids: Value) -> ApiResponse {
    api.post("/tasks/renew", json!({"worker_id": worker, "ids": ids}))
}

/// How long the claim of a task lasts, from its start or its last renewal, in seconds.
fn lasts(api: &Api, id: i64) -> i64 {
    let database = Connection::open(&api.settings.database).unwrap();
    let sql = "SELECT CAST(round((expires_at - claimed_at) / 1e6) AS INTEGER) FROM tasks WHERE id = ?1";
    database.query_row(sql, [id], |row| row.get(0)).unwrap()
}

#[test]
fn a_claim_that_is_renewed_lasts_its_full_time_again() {
    let (api, type_id) = api(Some(Duration::from_millis(900)));
    let start = Instant::now();
    api.claim("w", type_id).data();
    let (mut renewed, mut claimed) = (Instant::now(), Instant::now());
    while start.elapsed() < Duration::from_secs(3) {
        if renewed.elapsed() > Duration::from_millis(200) {
            let items = renew(&api, "w", json!([1])).data();
            // A machine that is too busy for this has let the claim expire, which is no fault of the server.
            assert!(
                renewed.elapsed() > Duration::from_millis(800)
                    || items == json!({"items": [{"id": 1, "expires_in": 0.9}]})
            );
            renewed = Instant::now();
        }
        if claimed.elapsed() > Duration::from_millis(50) {
            claimed = Instant::now();
            let answer = api.claim("v", type_id);
            let is_first = answer.status == 200 && answer.body["data"]["id"] == 1;
            assert!(!is_first || renewed.elapsed() > Duration::from_millis(800), "it went to another");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let taken = wait_for("the claim that nobody renews any more", || {
        let answer = api.claim("v", type_id);
        (answer.status == 200 && answer.body["data"]["id"] == 1).then_some(answer)
    });
    assert!(taken.data()["attempts"].as_i64().unwrap() > 1);
}

#[test]
fn a_worker_renews_only_its_own_claims() {
    let (api, type_id) = api(None);
    for worker in ["w", "other"] {
        api.claim(worker, type_id).data();
    }
    let items = renew(&api, "w", json!([2, 1, 3, 99, 1])).data();
    let expected = json!([
        {"id": 2, "error": "Task is claimed by another worker", "code": 403},
        {"id": 1, "expires_in": 60},
        {"id": 3, "error": "Task is not in claimed state", "code": 400},
        {"id": 99, "error": "Task not found", "code": 404},
        {"id": 1, "expires_in": 60},
    ]);
    assert_eq!(items, json!({"items": expected}));
    assert!(lasts(&api, 2) > 290, "another worker's is as it was");
    api.post("/tasks/1/complete", json!({"worker_id": "w", "success": true})).data();
    assert_eq!(renew(&api, "w", json!([1])).data()["items"][0]["code"], json!(400));
}

#[test]
fn an_expired_claim_can_be_renewed_until_the_next_claim() {
    let (api, type_id) = api(Some(Duration::from_millis(1)));
    let other = api.register_any("b");
    api.create("b", json!({}));
    for type_id in [type_id, other] {
        api.claim("w", type_id).data();
    }
    // Another type's claim that has expired shows that the first one has as well.
    wait_for("the other type's task", || (api.claim("v", other).status == 200).then_some(()));
    assert_eq!(renew(&api, "w", json!([1])).data()["items"][0]["expires_in"], json!(0.001));
    wait_for("the first task", || {
        let answer = api.claim("v", type_id);
        (answer.status == 200 && answer.body["data"]["id"] == 1).then_some(())
    });
    assert_eq!(renew(&api, "w", json!([1])).data()["items"][0]["code"], json!(403));
}

#[test]
fn invalid_renewals_are_refused() {
    let (api, _) = api(None);
    renew(&api, "w", json!([])).assert_invalid("Field 'ids' must have at least 1 entry");
    renew(&api, "w", json!(1)).assert_invalid("Field 'ids' must be of type array");
    renew(&api, "w", json!([1, "2"])).assert_invalid("Field 'ids[1]' must be of type integer");
    let many: Vec<i64> = (1..=1001).collect();
    renew(&api, "w", json!(many)).assert_invalid("Field 'ids' must have at most 1000 entries; it has 1001");
    assert_eq!(renew(&api, "w", json!(many[1..])).data()["items"].as_array().unwrap().len(), 1000);
    api.post("/tasks/renew", json!({"ids": [1]})).assert_error(400, "Missing required field: worker_id");
    api.post("/tasks/renew", json!({"worker_id": "w"})).assert_error(400, "Missing required field: ids");
}

#[test]
fn claims_of_workers_that_renew_are_shorter() {
    let (api, type_id) = api(None);
    let claimed = api.claim("w", type_id).data();
    assert_eq!(claimed.get("expires_in"), None);
    assert_eq!(lasts(&api, 1), 300);
    let body = json!({"worker_id": "w", "task_type_id": type_id, "renews": true});
    assert_eq!(api.post("/tasks/claim", body).data()["expires_in"], json!(60));
    let body = json!({"worker_id": "w", "types": [{"id": type_id}], "limit": 9, "renews": true});
    assert_eq!(api.post("/tasks/claim", body).data()["items"][0]["expires_in"], json!(60));
    assert_eq!((lasts(&api, 2), lasts(&api, 3)), (60, 60));
    // Who renews one that was not said to be renewed is a worker that renews from there on.
    assert_eq!(renew(&api, "w", json!([1])).data()["items"][0]["expires_in"], json!(60));
    assert!(lasts(&api, 1) < 200);
}

#[test]
fn a_claim_timeout_of_the_operator_applies_to_all() {
    let (api, type_id) = api(Some(Duration::from_secs(90)));
    api.claim("w", type_id).data();
    let body = json!({"worker_id": "w", "task_type_id": type_id, "renews": true});
    assert_eq!(api.post("/tasks/claim", body).data()["expires_in"], json!(90));
    assert_eq!((lasts(&api, 1), lasts(&api, 2)), (90, 90));
    assert_eq!(renew(&api, "w", json!([1])).data()["items"][0]["expires_in"], json!(90));
}

#[test]
fn a_server_without_renewals_ignores_the_field_renews() {
    let api = Api::start_with(|settings| settings.faults.features = OfferedFeatures { batch: true, renew: false });
    let type_id = api.register_any("a");
    api.create("a", json!({}));
    let body = json!({"worker_id": "w", "task_type_id": type_id, "renews": true});
    assert_eq!(api.post("/tasks/claim", body).data().get("expires_in"), None);
    assert_eq!(lasts(&api, 1), 300);
}

#[test]
fn claims_of_an_earlier_version_get_an_expiry() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path().join("tasks.db"));
    fs::write(&settings.database, include_bytes!("../fixtures/tasks-5.sqlite")).unwrap();
    let back_to_4 = "DROP INDEX claimed_by_expiry; ALTER TABLE tasks DROP COLUMN expires_at; PRAGMA user_version = 4;
         CREATE INDEX claimed_by_age ON tasks (type_id, claimed_at, id) WHERE status = 'claimed';";
    Connection::open(&settings.database).unwrap().execute_batch(back_to_4).unwrap();
    settings.claim_timeout = Some(Duration::from_millis(1));
    let server = Server::start(&settings).unwrap();
    let client = Client::new(server.api_url());
    let claim = json!({"worker_id": "v", "task_type_id": 1}).to_string();
    let claimed = client.send("POST", "/tasks/claim", &[], &claim).data();
    assert_eq!((&claimed["id"], &claimed["attempts"]), (&json!(3), &json!(2)));
}

#[test]
fn claims_survive_a_kill_of_the_server() {
    let sandbox = Sandbox::new();
    let serve = || {
        let mut running = sandbox.prismq(["serve", "--listen", "127.0.0.1:0", "--db", "tasks.db"]).start();
        running.wait_for_stdout("/api\n");
        let client = Client::new(running.stdout().trim().to_owned());
        (running, client)
    };
    let post = |client: &Client, path: &str, body: Value| client.send("POST", path, &[], &body.to_string()).data();
    let (running, client) = serve();
    let schema = json!({"name": "a", "version": "1", "param_schema": {"type": "object"}});
    post(&client, "/task-types/register", schema);
    let tasks: Vec<Value> = (0..4).map(|n| json!({"type": "a", "params": {"n": n}})).collect();
    post(&client, "/tasks", json!({"tasks": tasks}));
    post(&client, "/tasks/claim", json!({"worker_id": "w", "task_type_id": 1, "limit": 3, "renews": true}));
    running.crash();
    let (running, client) = serve();
    let renewed = post(&client, "/tasks/renew", json!({"worker_id": "w", "ids": [1, 2, 3]}));
    assert!(renewed["items"].as_array().unwrap().iter().all(|item| item["expires_in"] == 60), "{renewed}");
    let report = |ids: [i64; 2]| {
        let results = ids.map(|id| json!({"id": id, "attempt": 1, "success": id != 2, "error": "e"}));
        json!({"worker_id": "w", "results": results})
    };
    let statuses =
        |answer: Value| [0, 1].map(|n| answer["items"][n]["status"].as_str().unwrap_or("refused").to_owned());
    assert_eq!(statuses(post(&client, "/tasks/complete", report([1, 2]))), ["completed", "pending"]);
    running.crash();
    let (_running, client) = serve();
    assert_eq!(statuses(post(&client, "/tasks/complete", report([1, 2]))), ["completed", "pending"], "sent again");
    assert_eq!(statuses(post(&client, "/tasks/complete", report([3, 4]))), ["completed", "refused"]);
}
