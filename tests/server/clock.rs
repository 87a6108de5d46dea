//! The machine's clock is set while `serve` runs, or between two runs of it.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{ApiResponse, Client};
use crate::support::{Running, Sandbox, set_clock, wait_for, with_clock};

const DAY: i64 = 24 * 3600;

/// A server, and its API.
struct Served {
    running: Running,
    api: Client,
}

impl Served {
    fn start(sandbox: &Sandbox, claim_timeout: &str) -> Self {
        let serve = ["serve", "--listen", "127.0.0.1:0", "--db", "tasks.db", "--claim-timeout", claim_timeout];
        let mut running = sandbox.prismq(serve).start();
        running.wait_for_stdout("/api\n");
        let api = Client::new(running.stdout().trim().to_owned());
        Self { running, api }
    }

    fn post(&self, path: &str, body: &Value) -> ApiResponse {
        self.api.send("POST", path, &[], &body.to_string())
    }

    /// Has a task claimed by worker `first`.
    fn claimed(&self) {
        let schema = json!({"type": "object"});
        self.post("/task-types/register", &json!({"name": "a", "version": "1.0.0", "param_schema": schema})).data();
        self.post("/tasks", &json!({"type": "a", "params": {"n": 1}})).data();
        self.claim("first").data();
    }

    fn claim(&self, worker_id: &str) -> ApiResponse {
        self.post("/tasks/claim", &json!({"worker_id": worker_id, "task_type_id": 1}))
    }

    #[track_caller]
    fn has_none(&self) {
        self.claim("second").assert_error(404, "No available tasks");
    }

    fn claimed_at(&self) -> jiff::civil::DateTime {
        self.api.get("/tasks/1").data()["claimed_at"].as_str().unwrap().parse().unwrap()
    }
}

#[test]
fn a_claim_does_not_expire_early_if_the_clock_is_set() {
    for seconds in [DAY, -DAY] {
        let sandbox = with_clock(Sandbox::new());
        let served = Served::start(&sandbox, "300s");
        served.claimed();
        for set_to in [seconds, 0, seconds] {
            set_clock(&sandbox, set_to);
            served.has_none();
        }
        served.post("/tasks/1/complete", &json!({"worker_id": "first", "success": true, "result": {}})).data();
    }
}

#[test]
fn a_claim_expires_on_time_if_the_clock_is_set() {
    for seconds in [DAY, -DAY] {
        let sandbox = with_clock(Sandbox::new());
        let served = Served::start(&sandbox, "2s");
        let start = Instant::now();
        served.claimed();
        set_clock(&sandbox, seconds);
        let attempts = wait_for("the end of the claim", || {
            let answer = served.claim("second");
            (answer.status == 200).then(|| answer.data()["attempts"].clone())
        });
        assert_eq!(attempts, json!(2));
        assert!((2..10).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }
}

#[test]
fn a_long_poll_gets_an_expired_claim_if_the_clock_is_set() {
    for seconds in [DAY, -DAY] {
        let sandbox = with_clock(Sandbox::new());
        let served = Served::start(&sandbox, "3s");
        let start = Instant::now();
        served.claimed();
        let api = served.api.clone();
        let waiting = thread::spawn(move || {
            let body = json!({"worker_id": "second", "task_type_id": 1}).to_string();
            api.send("POST", "/tasks/claim", &[("Prefer", "wait=20")], &body)
        });
        thread::sleep(Duration::from_millis(500)); // it may wait by now; either way it has to end so
        set_clock(&sandbox, seconds);
        // Another asks meanwhile, and the claims are set with the clock.
        served.has_none();
        assert_eq!(waiting.join().unwrap().data()["attempts"], json!(2));
        assert!((3..12).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }
}

#[test]
fn two_servers_on_a_file_shift_its_claims_once() {
    let sandbox = with_clock(Sandbox::new());
    let [one, other] = [(); 2].map(|()| Served::start(&sandbox, "300s"));
    one.claimed();
    let claimed_at = one.claimed_at();
    for seconds in [100, -100] {
        set_clock(&sandbox, seconds);
        for served in [&one, &other, &one] {
            served.has_none();
            assert_eq!(served.claimed_at(), claimed_at + jiff::SignedDuration::from_secs(seconds));
        }
    }
}

#[test]
fn a_claim_keeps_its_duration_if_the_clock_is_set_while_no_server_runs() {
    let sandbox = with_clock(Sandbox::new());
    let served = Served::start(&sandbox, "300s");
    served.claimed();
    served.running.terminate();
    served.running.wait().exits(0);
    set_clock(&sandbox, DAY);
    Served::start(&sandbox, "300s").has_none();
}
