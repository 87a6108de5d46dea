//! SIGKILL of `serve` at each step of a call for several tasks: all of it is done, or nothing, and it can be sent again.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::api::{ApiResponse, Client};
use crate::exchange::exchange;
use crate::support::{Running, Sandbox};

/// The exit code of a process that SIGKILL ended.
const KILLED: i32 = 137;

/// The steps of a call, and whether what it did is there after a kill: a commit survives the process.
const STEPS: [(&str, bool); 4] = [("arrived", false), ("changed", false), ("committed", true), ("synced", true)];

/// `prismq serve` on a file that outlives it, with the type 1 and four tasks.
struct Served {
    sandbox: Sandbox,
    server: Option<Running>,
    client: Client,
}

impl Served {
    fn start() -> Self {
        let sandbox = Sandbox::new();
        let (server, client) = serve(&sandbox, "");
        let it = Self { sandbox, server: Some(server), client };
        let schema = json!({"name": "a", "version": "1", "param_schema": {"type": "object"}});
        it.post("/task-types/register", &schema).data();
        it.post("/tasks", &created(0..4)).data();
        it
    }

    fn post(&self, path: &str, body: &Value) -> ApiResponse {
        self.client.send("POST", path, &[], &body.to_string())
    }

    /// Starts the server again, with failpoints.
    fn restart(&mut self, failpoints: &str) {
        let (server, client) = serve(&self.sandbox, failpoints);
        (self.server, self.client) = (Some(server), client);
    }

    /// Makes a call during which the server kills itself, and starts it again.
    fn kill_at(&mut self, failpoints: &str, path: &str, body: &Value) {
        self.server.take().unwrap().crash();
        self.restart(failpoints);
        let url = self.server.as_ref().unwrap().stdout();
        let address = url.trim().trim_start_matches("http://").trim_end_matches("/api").parse().unwrap();
        exchange(address, ("POST", path), None, &body.to_string()).unwrap_err();
        self.server.take().unwrap().wait().exits(KILLED);
        self.restart("");
    }

    /// The status of each task, and a column of it.
    fn tasks(&self, column: &str) -> Vec<(String, i64)> {
        let database = Connection::open(self.sandbox.path("tasks.db")).unwrap();
        let mut rows =
            database.prepare(&format!("SELECT status, coalesce({column}, 0) FROM tasks ORDER BY id")).unwrap();
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    }
}

fn serve(sandbox: &Sandbox, failpoints: &str) -> (Running, Client) {
    let serve = sandbox.prismq(["serve", "--listen", "127.0.0.1:0", "--db", "tasks.db"]);
    let mut server = serve.env("FAILPOINTS", failpoints).start();
    server.wait_for_stdout("/api\n");
    let client = Client::new(server.stdout().trim().to_owned());
    (server, client)
}

fn created(numbers: std::ops::Range<i64>) -> Value {
    let tasks: Vec<Value> = numbers.map(|n| json!({"type": "a", "params": {"n": n}})).collect();
    json!({"tasks": tasks})
}

fn claim() -> Value {
    json!({"worker_id": "w", "limit": 3, "types": [{"id": 1}], "renews": true})
}

/// A server of which the worker `w` has claimed the first three tasks.
fn claimed() -> Served {
    let served = Served::start();
    served.post("/tasks/claim", &claim()).data();
    served
}

/// Every step of a call, in the middle of its entries as well.
fn steps(call: &str) -> Vec<(String, bool)> {
    let of_call =
        |step: &str| if step == "committed" { "committed=return".to_owned() } else { format!("{call}:{step}=return") };
    let mut steps: Vec<_> = STEPS.iter().map(|(step, is_done)| (of_call(step), *is_done)).collect();
    if call != "claim" {
        steps.push(("entry=1*off->return".to_owned(), false));
    }
    steps
}

#[test]
fn a_claim_is_done_for_all_tasks_or_for_none() {
    for (point, is_done) in steps("claim") {
        let mut served = Served::start();
        served.kill_at(&point, "/tasks/claim", &claim());
        let claimed: Vec<String> = served.tasks("attempts").into_iter().map(|(status, _)| status).collect();
        let status = if is_done { "claimed" } else { "pending" };
        assert_eq!(claimed, [status, status, status, "pending"], "{point}");
        // The worker finds what it has claimed, or claims it again.
        let again = served.post("/tasks/claim", &claim()).data();
        let ids: Vec<i64> = again["items"].as_array().unwrap().iter().map(|it| it["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, if is_done { vec![4] } else { vec![1, 2, 3] }, "{point}");
        let listed = served.client.send("GET", "/tasks?status=claimed", &[], "").data();
        assert!(listed.as_array().unwrap().iter().all(|it| it["claimed_by"] == "w" && it["attempts"] == 1), "{listed}");
    }
}

#[test]
fn a_report_is_done_for_all_results_or_for_none() {
    let results = [1, 2, 3].map(|id| json!({"id": id, "attempt": 1, "success": id != 2, "error": "e"}));
    let report = json!({"worker_id": "w", "results": results});
    for (point, is_done) in steps("complete") {
        let mut served = claimed();
        served.kill_at(&point, "/tasks/complete", &report);
        let statuses: Vec<String> = served.tasks("attempts").into_iter().map(|(status, _)| status).collect();
        let expected = if is_done { ["completed", "pending", "completed"] } else { ["claimed"; 3] };
        assert_eq!(statuses[..3], expected, "{point}");
        for _ in 0..2 {
            let items = served.post("/tasks/complete", &report).data()["items"].take();
            let status = |n: usize| items[n]["status"].clone();
            assert_eq!([status(0), status(1), status(2)], ["completed", "pending", "completed"], "{point}");
        }
    }
}

#[test]
fn a_renewal_is_done_for_all_claims_or_for_none() {
    let renew = json!({"worker_id": "w", "ids": [1, 2, 3]});
    for (point, is_done) in steps("renew") {
        let mut served = claimed();
        let before = served.tasks("expires_at");
        served.kill_at(&point, "/tasks/renew", &renew);
        let after = served.tasks("expires_at");
        let renewed: Vec<bool> = before.iter().zip(&after).map(|((_, before), (_, after))| before < after).collect();
        assert_eq!(renewed, [is_done, is_done, is_done, false], "{point}");
        let again = served.post("/tasks/renew", &renew).data();
        assert!(again["items"].as_array().unwrap().iter().all(|it| it["expires_in"] == 60), "{again}");
    }
}

#[test]
fn a_creation_is_done_for_all_tasks_or_for_none() {
    for (point, is_done) in steps("tasks") {
        let mut served = Served::start();
        served.kill_at(&point, "/tasks", &created(2..9));
        assert_eq!(served.tasks("id").len(), if is_done { 9 } else { 4 }, "{point}");
        let again = served.post("/tasks", &created(2..9)).data()["items"].take();
        let again = again.as_array().unwrap();
        let ids: Vec<i64> = again.iter().map(|it| it["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, (3..=9).collect::<Vec<_>>(), "{point}");
        let deduplicated = again.iter().filter(|it| it["deduplicated"] == true).count();
        assert_eq!(deduplicated, if is_done { 7 } else { 2 }, "{point}");
        assert_eq!(served.tasks("id").len(), 9);
    }
}
