//! Claims that wait: `Prefer: wait=N`, over sockets of their own.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::Api;
use crate::browser::Browser;
use crate::exchange::exchange;
use crate::support::wait_for;
use crate::waiter::{HttpResponse, Waiter, waiting, waiting_for};

/// What an answer that is not held up comes within, on a machine that has other things to do.
const SOON: Duration = Duration::from_secs(8);

const WAIT: &str = "Prefer: wait=60\r\n";

const WITHDRAW: &str = "/tasks/claim?worker_id=waiter";

fn api() -> (Api, i64) {
    let api = Api::start();
    let type_id = api.register_any("a");
    (api, type_id)
}

#[test]
fn a_claim_waits_for_a_task() {
    let (api, type_id) = api();
    let other = api.register_any("b");
    let mut waiter = waiting(&api, type_id, "Prefer: respond-async, WAIT=20\r\n");
    api.create("b", json!({}));
    api.claim("w", other).data();
    assert!(waiter.is_waiting(), "another type's task is none of its business");
    let start = Instant::now();
    let id = api.create("a", json!({}));
    assert_eq!(waiter.answer().task(), (id, 1));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    // The connection is as good as before.
    let id = api.create("a", json!({"n": 2}));
    waiter.claim(type_id, WAIT);
    assert_eq!(waiter.answer().task(), (id, 1));
}

/// A wait for a task of these types beside the claim's own.
fn or_of(types: &[i64]) -> String {
    let types: Vec<String> = types.iter().map(i64::to_string).collect();
    format!("Prefer: wait=60, task-types=\"{}\"\r\n", types.join(" "))
}

#[test]
fn a_claim_waits_for_a_task_of_any_of_several_types() {
    let (api, first) = api();
    let (second, third) = (api.register_any("b"), api.register_any("c"));
    let unknown = 999;
    for name in ["a", "b"] {
        let mut waiter = waiting(&api, first, &or_of(&[second, unknown]));
        api.create("c", json!({"for": name}));
        assert!(waiter.is_waiting(), "it has not asked for that type");
        api.claim("w", third).data();
        let id = api.create(name, json!({}));
        let answer = waiter.answer();
        assert_eq!((answer.task(), &answer.body["data"]["type"]), ((id, 1), &json!(name)));
        assert_eq!(answer.applied(), Some("wait, task-types"));
    }
    let id = api.create("b", json!({"is": "there"}));
    let mut waiter = Waiter::new(&api.server);
    waiter.claim(first, &or_of(&[second]));
    assert_eq!(waiter.answer().task(), (id, 1));
}

#[test]
fn the_page_shows_the_types_of_a_long_poll() {
    let (api, _) = api();
    let others = ["b", "c", "d", "e", "f"].map(|name| api.register_any(name));
    api.create("a", json!({}));
    let browser = Browser::at(&api);
    browser.get("/").has(&["Tasks pending, no workers"]);
    let _of_one = waiting(&api, others[0], WAIT);
    let waits = "waiter<span class=\"soft\"> polling b</span>";
    browser.get("/").has(&["Tasks pending, no worker for their type", waits]);
    let _of_many = waiting_for("many", &api, others[0], &or_of(&others[1..]));
    browser.get("/").has(&["many<span class=\"soft\"> polling b, c, d and 2 more</span>"]);
}

#[test]
fn one_task_goes_to_one_of_several_waiting_claims() {
    let (api, first) = api();
    let second = api.register_any("b");
    let mut for_both = waiting(&api, first, &or_of(&[second]));
    let mut for_one = waiting(&api, second, WAIT);
    let mut reversed = waiting(&api, second, &or_of(&[first]));
    let ids = [("b", 1), ("b", 2), ("a", 3)].map(|(name, n)| (api.create(name, json!({"n": n})), 1));
    assert_eq!([&mut for_both, &mut for_one, &mut reversed].map(|waiter| waiter.answer().task()), ids);
    // Who has left both lines is in nobody's way.
    drop(waiting(&api, first, &or_of(&[second])));
    let mut next = waiting(&api, second, WAIT);
    let id = api.create("b", json!({}));
    assert_eq!(next.answer().task(), (id, 1));
}

#[test]
fn a_type_pattern_applies_to_every_type_of_a_long_poll() {
    let (api, first) = api();
    let second = api.register_any("b");
    api.create("b", json!({}));
    let pattern = json!({"worker_id": "w", "task_type_id": first, "type_pattern": "a%"}).to_string();
    let prefer = format!("wait=1, task-types={second}");
    let answer = api.send("POST", "/tasks/claim", &[("Prefer", prefer.as_str())], &pattern);
    answer.assert_error(404, "No available tasks");
}

#[test]
fn a_long_poll_ends_after_its_timeout() {
    let (api, type_id) = api();
    let start = Instant::now();
    let mut waiter = waiting(&api, type_id, "Prefer: wait=1\r\n");
    waiter.answer().is_none();
    assert!(start.elapsed() >= Duration::from_secs(1) && start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn a_claim_that_cannot_wait_is_answered_at_once() {
    let (api, type_id) = api();
    let start = Instant::now();
    let mut waiter = Waiter::new(&api.server);
    for headers in ["", "Prefer: wait=soon\r\n", "Prefer: respond-async\r\n"] {
        waiter.claim(type_id, headers);
        let answer = waiter.answer();
        assert!(answer.status == 404 && !answer.is_applied(), "{headers}: {}", answer.head);
    }
    waiter.claim(999, WAIT);
    let answer = waiter.answer();
    assert_eq!((answer.status, &answer.body["error"]), (404, &json!("Task type not found")));
    let pattern = json!({"worker_id": "w", "task_type_id": type_id, "type_pattern": "b.%"}).to_string();
    let answer = api.send("POST", "/tasks/claim", &[("Prefer", "wait=60")], &pattern);
    answer.assert_error(404, "No available tasks");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn the_published_server_does_not_wait() {
    let api = Api::start_with(|settings| settings.faults.published = true);
    api.post("/task-types/register", json!({"name": "a", "version": "1", "param_schema": {"type": "object"}}));
    let start = Instant::now();
    let mut waiter = Waiter::new(&api.server);
    waiter.claim(1, WAIT);
    let answer = waiter.answer();
    assert!(answer.status == 500 && !answer.is_applied(), "{}", answer.head);
    api.send("DELETE", WITHDRAW, &[], "").assert_error(404, "Endpoint not found");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn a_worker_withdraws_only_its_own_claims() {
    let (api, type_id) = api();
    let other = api.register_any("b");
    let start = Instant::now();
    let mut withdrawn = [type_id, other, type_id].map(|id| waiting(&api, id, WAIT));
    let mut kept = waiting_for("another", &api, type_id, WAIT);
    let withdraw = || api.send("DELETE", WITHDRAW, &[], "").data();
    assert_eq!(withdraw(), json!({"withdrawn": 3}));
    for waiter in &mut withdrawn {
        waiter.answer().is_none();
    }
    assert_eq!(withdraw(), json!({"withdrawn": 0}));
    assert!(kept.is_waiting());
    let id = api.create("a", json!({}));
    assert_eq!(kept.answer().task(), (id, 1));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    // The next claim of a worker that has withdrawn waits as any other.
    drop(waiting(&api, type_id, WAIT));
    for nobody in ["", "?worker_id="] {
        api.send("DELETE", &format!("/tasks/claim{nobody}"), &[], "").assert_invalid("Worker ID is required");
    }
}

#[test]
fn claims_are_withdrawn_only_with_the_key() {
    let api = Api::start_with(|settings| settings.api_key = Some("the-key".to_owned()));
    let key = [("X-API-Key", "the-key")];
    let schema = json!({"name": "a", "version": "1", "param_schema": {"type": "object"}}).to_string();
    api.send("POST", "/task-types/register", &key, &schema).data();
    let waiter = waiting(&api, 1, &format!("{WAIT}X-API-Key: the-key\r\n"));
    assert_eq!(api.send("DELETE", WITHDRAW, &[], "").status, 401);
    assert!(waiter.is_waiting());
    assert_eq!(api.send("DELETE", WITHDRAW, &key, "").data(), json!({"withdrawn": 1}));
}

#[test]
fn each_withdrawn_long_poll_gets_one_answer() {
    let (api, type_id) = api();
    let mut waiters: Vec<Waiter> = (0..40).map(|_| waiting(&api, type_id, WAIT)).collect();
    let client = api.client();
    let creating = thread::spawn(move || {
        for n in 0..20 {
            let task = json!({"type": "a", "params": {"n": n}}).to_string();
            client.send("POST", "/tasks", &[], &task).data();
        }
    });
    wait_for("the answer", || (!waiters[4].is_waiting()).then_some(()));
    let withdrawn = api.send("DELETE", WITHDRAW, &[], "").data()["withdrawn"].as_u64().unwrap();
    creating.join().unwrap();
    let answers: Vec<HttpResponse> = waiters.iter_mut().map(Waiter::answer).collect();
    let got = answers.iter().filter(|answer| answer.status == 200).count();
    assert!(got >= 5 && got + usize::try_from(withdrawn).unwrap() == 40, "{got} {withdrawn}");
    assert_eq!(api.get("/tasks?status=claimed&limit=50").data().as_array().unwrap().len(), got);
    assert!(waiters.iter().all(Waiter::is_waiting), "nothing comes after the answer");
}

#[test]
fn nothing_is_claimed_for_a_disconnected_client() {
    let (api, type_id) = api();
    let mut claimed_late = 0;
    for n in 0..20 {
        drop(waiting(&api, type_id, WAIT));
        // What was never read resets the connection when it is closed.
        let mut reset = Waiter::new(&api.server);
        reset.send("GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        wait_for("the end of the reset connection", || (!reset.is_waiting()).then_some(()));
        reset.claim(type_id, WAIT);
        drop(reset);
        let id = api.create("a", json!({"n": n}));
        if api.task(id)["status"] == json!("claimed") {
            // A busy machine may deliver the reset after the next request.
            claimed_late += 1;
            continue;
        }
        let claimed = api.claim("w", type_id).data();
        assert_eq!((&claimed["id"], &claimed["attempts"]), (&json!(id), &json!(1)));
    }
    assert!(claimed_late <= 2, "{claimed_late} of 20");
}

#[test]
fn a_long_poll_gets_a_task_that_another_worker_failed() {
    let (api, type_id) = api();
    let id = api.create("a", json!({}));
    api.claim("w", type_id).data();
    let mut waiter = waiting(&api, type_id, WAIT);
    let start = Instant::now();
    api.post(&format!("/tasks/{id}/complete"), json!({"worker_id": "w", "success": false, "error": "e"})).data();
    assert_eq!(waiter.answer().task(), (id, 2));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn long_polls_get_tasks_whose_claims_expire() {
    let api = Api::start_with(|settings| settings.claim_timeout = Some(Duration::from_secs(1)));
    let type_id = api.register_any("a");
    let ids = [1, 2].map(|n| api.create("a", json!({"n": n})));
    let start = Instant::now();
    let mut waiters = ids.map(|_| {
        api.claim("w", type_id).data();
        Waiter::new(&api.server)
    });
    for waiter in &mut waiters {
        waiter.claim(type_id, WAIT);
    }
    let mut claimed = waiters.map(|mut waiter| waiter.answer().task());
    claimed.sort_unstable();
    assert_eq!(claimed, ids.map(|id| (id, 2)));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn long_polls_are_answered_when_the_server_stops() {
    let (api, type_id) = api();
    let mut waiters = [waiting(&api, type_id, WAIT), waiting(&api, type_id, WAIT)];
    let start = Instant::now();
    api.server.stop();
    assert!(start.elapsed() < Duration::from_millis(2900), "connections are left after 3 s: {:?}", start.elapsed());
    for waiter in &mut waiters {
        waiter.answer().is_none();
    }
}

#[test]
fn a_task_goes_to_the_claim_that_has_waited_longest() {
    let (api, type_id) = api();
    let [mut first, second, mut third] = [(); 3].map(|()| waiting(&api, type_id, WAIT));
    let id = api.create("a", json!({"n": 1}));
    assert_eq!(first.answer().task(), (id, 1));
    assert!(second.is_waiting() && third.is_waiting());
    drop(second);
    let id = api.create("a", json!({"n": 2}));
    assert_eq!(third.answer().task(), (id, 1));
}

#[test]
fn many_waiting_claims_delay_no_other_call() {
    let (api, type_id) = api();
    let other = api.register_any("b");
    let mut waiters: Vec<Waiter> = (0..200).map(|_| waiting(&api, type_id, WAIT)).collect();
    let start = Instant::now();
    for n in 0..20 {
        let id = api.create("b", json!({"n": n}));
        api.claim("w", other).data();
        api.post(&format!("/tasks/{id}/complete"), json!({"worker_id": "w", "success": true})).data();
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert!(waiters.iter().all(Waiter::is_waiting));
    let ids: Vec<i64> = (0..200).map(|n| api.create("a", json!({"n": n}))).collect();
    let claimed: Vec<i64> = waiters.iter_mut().map(|waiter| waiter.answer().task().0).collect();
    assert_eq!(claimed, ids, "first come, first served");
}

#[test]
fn faults_apply_to_long_polls() {
    let api = Api::start_with(|settings| settings.faults.drop = 1.0);
    // Every call does its work, and none is answered.
    let lost = |method: &str, path: &str, body: &Value| {
        let error = exchange(api.server.address(), (method, path), None, &body.to_string()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    };
    lost("POST", "/task-types/register", &json!({"name": "a", "version": "1", "param_schema": {"type": "object"}}));
    let mut waiter = Waiter::new(&api.server);
    waiter.claim(1, WAIT);
    for n in 0..3 {
        lost("POST", "/tasks", &json!({"type": "a", "params": {"n": n}}));
    }
    assert!(waiter.is_closed(), "closed without an answer");
    let database = rusqlite::Connection::open(&api.settings.database).unwrap();
    let claimed: i64 =
        database.query_row("SELECT count(*) FROM tasks WHERE claimed_by = 'waiter'", [], |row| row.get(0)).unwrap();
    assert_eq!(claimed, 1);
}
