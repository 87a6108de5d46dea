//! Claims whose answers are lost: their tasks are found at the TaskManager, and each is run once.

use serde_json::{Value, json};

use crate::support::published::{Fault, PublishedServer};
use crate::support::{Answer, Rig, Sandbox, at_once, cases, recorded, rows, wait_for};

const CLAIM: &str = "POST /tasks/claim";
const LIST: &str = "GET /tasks?";

/// A TaskManager with a type whose tasks are noted in `runs`, and `count` of them.
fn with_tasks(count: u64) -> (PublishedServer, Sandbox) {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo $PRISMQ_TASK_ID >> runs; echo 1");
    for n in 0..count {
        published.create("case", json!({"case": "it", "n": n}));
    }
    (published, sandbox)
}

/// Each task was completed at its first attempt, and run once.
#[track_caller]
fn assert_each_ran_once(published: &PublishedServer, sandbox: &Sandbox, count: u64, what: &str) {
    let mut runs: Vec<u64> = sandbox.read("runs").lines().map(|id| id.parse().unwrap()).collect();
    runs.sort_unstable();
    assert_eq!(runs, (1..=count).collect::<Vec<_>>(), "{what}");
    for id in 1..=count {
        let task = published.task(id);
        assert_eq!((task.status.as_str(), task.attempts), ("completed", 1), "{what}");
    }
    assert_eq!(rows(sandbox, "claims"), [] as [Value; 0], "{what}");
}

/// What can come instead of the answer to a call that was carried out.
fn instead() -> [(&'static str, Fault); 7] {
    let answer = Fault::AnsweredBy;
    [
        ("closed", Fault::AnswerLost),
        ("reset", answer(Answer::reset())),
        ("502", answer(Answer::page(502))),
        ("504", answer(Answer::page(504))),
        ("a page", answer(Answer::page(200))),
        ("another answer", answer(Answer::data(&json!({"id": "?"})))),
        ("half an answer", answer(Answer::data(&json!({"id": 1})).cut_short())),
    ]
}

#[test]
fn a_task_whose_claim_was_not_answered_is_worked_at_once() {
    let settings = [&["--drain"][..], &["--drain", "--concurrency", "4"], &["--max-tasks", "5"]];
    let cases = instead().into_iter().flat_map(|instead| settings.map(|settings| (instead.clone(), settings)));
    at_once(cases, |((what, fault), settings)| {
        let (published, sandbox) = with_tasks(5);
        published.inject(CLAIM, fault);
        sandbox.prismq(["work"]).args(settings.iter().copied()).run().exits(0);
        assert_each_ran_once(&published, &sandbox, 5, &format!("{what} {settings:?}"));
    });
}

/// More claims than a worker makes that comes to its end.
const MANY: usize = 1000;

/// Of every `n` claims, beginning with the first, one is carried out and meets `fault` instead of its answer.
fn lose_every(n: usize, fault: &Fault, published: &PublishedServer) {
    for _ in 0..MANY {
        published.inject(CLAIM, fault.clone());
        (1..n).for_each(|_| published.inject(CLAIM, Fault::Nothing));
    }
}

/// Lets a worker of two types have five tasks, one of which succeeds only at its third attempt.
#[track_caller]
fn work_though_every_nth_claim_is_lost(n: usize, fault: &Fault, settings: &[&str], what: &str) {
    let published = PublishedServer::start(&["case", "other"]);
    let sandbox = published.sandbox(&(cases("case", "") + &cases("other", "")));
    sandbox.write("it.sh", "echo $PRISMQ_TASK_ID >> runs; echo 1");
    sandbox.write("third.sh", "echo $PRISMQ_TASK_ID >> runs; [ $PRISMQ_ATTEMPT = 3 ]");
    let types = ["case", "other"].iter().cycle();
    let tasks = ["it", "it", "third", "it", "it"].iter().zip(types).enumerate();
    let ids: Vec<u64> =
        tasks.map(|(n, (case, task_type))| published.create(task_type, json!({"case": case, "n": n}))).collect();
    lose_every(n, fault, &published);
    let output = sandbox.prismq(["work"]).args(settings.iter().copied()).run();
    let left: Vec<String> = ids.iter().map(|id| published.task(*id).status).collect();
    assert_eq!(left, ["completed"; 5], "{what}: {}", output.stderr);
    let mut runs: Vec<u64> = sandbox.read("runs").lines().map(|id| id.parse().unwrap()).collect();
    runs.sort_unstable();
    assert_eq!(runs, [1, 2, 3, 3, 3, 4, 5], "{what}: {}", output.stderr);
    // An answer that cannot be read where there was nothing to claim may have been a task, for all that is known.
    let is_told = what.contains("another answer") && !settings.contains(&"--exit-after-idle");
    assert_eq!(output.code(), i32::from(is_told), "{what}: {}", output.stderr);
    assert!(published.count(CLAIM) < MANY, "{what}: {}", output.stderr);
}

#[test]
fn a_worker_comes_to_its_end_though_every_second_claim_is_lost() {
    let (drain, all) = (&["--drain"][..], [&["--drain"][..], &["--exit-after-idle", "1s"], &["--max-tasks", "7"]]);
    let mut cases = Vec::new();
    for (name, fault) in instead() {
        for slots in ["1", "4"] {
            let settings = if ["reset", "a page"].contains(&name) { &all[..] } else { &[drain] };
            cases.extend(settings.iter().map(|settings| (2, name, fault.clone(), slots, *settings)));
            cases.extend((name == "reset").then(|| (3, name, fault.clone(), slots, drain)));
        }
    }
    at_once(cases, |(n, name, fault, slots, settings)| {
        let what = format!("{name}, every {n}, {settings:?}, {slots} slots");
        work_though_every_nth_claim_is_lost(n, &fault, &[settings, &["--concurrency", slots]].concat(), &what);
    });
}

#[test]
fn no_more_is_claimed_than_was_asked_for_though_answers_are_lost() {
    let (published, sandbox) = with_tasks(5);
    (0..3).for_each(|_| published.inject(CLAIM, Fault::AnswerLost));
    sandbox.prismq(["work", "--max-tasks", "1"]).run().exits(0);
    assert_eq!(published.task(1).status, "completed");
    assert!((2..=5).all(|id| published.task(id).status == "pending"));
}

#[test]
fn a_worker_that_goes_on_does_not_wait_for_its_next_poll() {
    let (published, sandbox) = with_tasks(3);
    (0..3).for_each(|_| published.inject(CLAIM, Fault::AnswerLost));
    let seldom = ["--poll-interval", "10m", "--max-backoff", "10m"];
    let _worker = sandbox.prismq(["work"]).args(seldom).start();
    wait_for("the tasks to end", || (1..=3).all(|id| published.task(id).status == "completed").then_some(()));
    assert_each_ran_once(&published, &sandbox, 3, "");
}

#[test]
fn a_call_that_is_carried_out_after_it_was_lost_is_found_as_well() {
    let (published, sandbox) = with_tasks(2);
    published.inject(CLAIM, Fault::DoneLate(Answer::page(504)));
    let worker = sandbox.prismq(["work", "--drain", "--poll-interval", "10m", "--max-backoff", "10m"]).start();
    wait_for("the first look", || (published.count(LIST) > 1).then_some(()));
    published.do_late();
    worker.wait().exits(0);
    assert_each_ran_once(&published, &sandbox, 2, "");
}

/// Its last call is carried out when the next worker has looked already.
#[test]
fn claims_granted_after_a_worker_s_death_are_recovered_by_the_next() {
    let (published, sandbox) = with_tasks(1);
    published.inject(CLAIM, Fault::DoneLate(Answer::page(504)));
    (0..100).for_each(|_| published.inject(CLAIM, Fault::Answer(Answer::page(503))));
    let worker = sandbox.prismq(["work"]).start();
    wait_for("its next claim", || (published.count(CLAIM) > 1).then_some(()));
    worker.crash();
    published.clear_faults();
    // It is carried out while the next worker, which has looked, is told that there is no task.
    published.inject(CLAIM, Fault::Answer(recorded("claim: queue empty")));
    let claims = published.count(CLAIM);
    let worker = sandbox.prismq(["work", "--drain"]).start();
    wait_for("its claim", || (published.count(CLAIM) > claims).then_some(()));
    published.do_late();
    let ended = worker.wait().exits(0);
    assert_each_ran_once(&published, &sandbox, 1, &ended.stderr);
}

/// A slot has a task, the next one's claim is done and not yet answered, and the third's answer is lost: it finds both.
#[track_caller]
fn answer_after_another_slot_has_found(the_run_has_ended: bool) {
    let (published, sandbox) = with_tasks(3);
    sandbox.write("it.sh", "echo $PRISMQ_TASK_ID >> runs; until [ -e go ]; do sleep 0.03; done; echo 1");
    for fault in [Fault::Nothing, Fault::AnsweredLate, Fault::AnswerLost] {
        published.inject(CLAIM, fault);
    }
    let worker = sandbox.prismq(["work", "--drain", "--concurrency", "3"]).start();
    wait_for("a claim that is done", || published.is_done().then_some(()));
    wait_for("the other slot to find it", || sandbox.read("runs").contains('2').then_some(()));
    if the_run_has_ended {
        sandbox.write("go", "");
        wait_for("all to end", || (1..=3).all(|id| published.task(id).status == "completed").then_some(()));
    }
    published.answer_late();
    sandbox.write("go", "");
    worker.wait().exits(0);
    assert_each_ran_once(&published, &sandbox, 3, "");
}

#[test]
fn a_task_whose_claim_is_just_being_answered_to_another_slot_runs_once() {
    at_once([false, true], answer_after_another_slot_has_found);
}

#[test]
fn a_drain_fails_while_the_claimed_tasks_cannot_be_listed() {
    let (published, sandbox) = with_tasks(1);
    published.inject(CLAIM, Fault::AnswerLost);
    for _ in 0..100 {
        published.inject(LIST, Fault::Answer(Answer::page(503)));
    }
    sandbox.prismq(["work", "--drain"]).env("FAILPOINTS", "short_timeouts=return").run().exits(4);
    published.clear_faults();
    sandbox.prismq(["work", "--drain", "--worker-id", "next"]).run().exits(0);
    assert_each_ran_once(&published, &sandbox, 1, "");
}

/// The lists of a proxy that lets only some calls through, say.
#[test]
fn a_drain_does_not_end_well_where_it_cannot_see_what_is_claimed() {
    let (published, sandbox) = with_tasks(2);
    published.inject(CLAIM, Fault::AnswerLost);
    (0..1000).for_each(|_| published.inject(LIST, Fault::Answer(Answer::error(404, "not here"))));
    sandbox.prismq(["work", "--drain"]).run().exits(1);
    assert_eq!([1, 2].map(|id| published.task(id).status), ["claimed", "completed"]);
}

#[test]
fn an_unreadable_lost_task_is_read_again_before_it_is_named() {
    at_once([(2, "completed", 0), (1000, "claimed", 1)], |(answers, status, code)| {
        let (published, sandbox) = with_tasks(2);
        published.inject(CLAIM, Fault::AnswerLost);
        (0..answers).for_each(|_| published.inject("GET /tasks/1", Fault::Answer(Answer::data(&json!("what?")))));
        sandbox.prismq(["work", "--drain"]).run().exits(code);
        assert_eq!([1, 2].map(|id| published.task(id).status), [status, "completed"]);
    });
}

#[test]
fn a_worker_continues_although_the_claimed_tasks_cannot_be_listed() {
    at_once([Answer::page(500), Answer::error(404, "no such endpoint")], |answer| {
        let (published, sandbox) = with_tasks(2);
        published.inject(CLAIM, Fault::AnswerLost);
        (0..1000).for_each(|_| published.inject(LIST, Fault::Answer(answer.clone())));
        let _worker = sandbox.prismq(["work"]).start();
        wait_for("the other to end", || (published.task(2).status == "completed").then_some(()));
    });
}

/// Lets a worker die with a claim of which only the TaskManager knows.
fn die_with_a_claim(rig: &Rig, worker_id: &str) -> u64 {
    let id = rig.case("once", "echo run >> runs; echo 1");
    rig.work(["--drain", "--worker-id", worker_id]).env("FAILPOINTS", "claimed=return").run().exits(137);
    assert_eq!((rig.taskmanager.status(id).as_str(), rig.rows("claims").len()), ("claimed", 0));
    id
}

#[test]
fn claims_unknown_to_a_dead_worker_are_recovered_by_a_worker_of_another_id() {
    let rig = Rig::start();
    let id = die_with_a_claim(&rig, "dead");
    rig.work(["--drain", "--worker-id", "next"]).run().exits(0);
    let task = rig.taskmanager.task(id);
    assert_eq!((task.status.as_str(), task.attempts, task.claimed_by.as_deref()), ("completed", 1, Some("dead")));
    assert_eq!(rig.sandbox.read("runs"), "run\n");
    assert_eq!(rig.rows("deaths"), [] as [Value; 0], "it was not running");
}

#[test]
fn claims_of_a_live_worker_are_not_recovered() {
    let rig = Rig::start();
    let id = die_with_a_claim(&rig, "long-lived");
    let mut live = rig.work(["other", "--worker-id", "long-lived", "--handle", "other=echo 1", "--register"]).start();
    live.wait_for_stderr("ready");
    rig.work(["--drain", "--worker-id", "next"]).run().exits(0);
    assert_eq!((rig.taskmanager.status(id).as_str(), rig.sandbox.read("runs").as_str()), ("claimed", ""));
}

#[test]
fn claims_at_another_taskmanager_are_not_recovered() {
    let rig = Rig::start();
    let id = die_with_a_claim(&rig, "dead");
    let file = rusqlite::Connection::open(rig.sandbox.path("results.db")).unwrap();
    file.execute("UPDATE workers SET api_url = 'http://another/api'", []).unwrap();
    rig.work(["--drain", "--worker-id", "next"]).run().exits(0);
    assert_eq!((rig.taskmanager.status(id).as_str(), rig.sandbox.read("runs").as_str()), ("claimed", ""));
}

#[test]
fn thousands_of_old_ids_cost_one_lookup() {
    let (published, sandbox) = with_tasks(1);
    published.inject(CLAIM, Fault::AnswerLost);
    (0..100).for_each(|_| published.inject(LIST, Fault::Answer(Answer::page(503))));
    sandbox.prismq(["work", "--drain"]).env("FAILPOINTS", "short_timeouts=return").run().exits(4);
    published.clear_faults();
    let file = rusqlite::Connection::open(sandbox.path("results.db")).unwrap();
    let add = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
               INSERT INTO workers (worker_id, api_url, pid, mark, started_at)
               SELECT 'old-' || n, ?1, 1, 'mark-' || n, strftime('%Y-%m-%dT%H:%M:%fZ', 'now') FROM n";
    file.execute(add, [published.url()]).unwrap();
    let before = published.server.calls().len();
    sandbox.prismq(["work", "--drain", "--worker-id", "next"]).run().exits(0);
    let calls = published.server.calls().split_off(before);
    assert!(calls.len() < 10, "{calls:?}");
    assert_each_ran_once(&published, &sandbox, 1, "");
}

#[test]
fn a_long_list_is_looked_through() {
    let rig = Rig::start();
    rig.script("once", "echo run >> runs; echo 1");
    let first = rig.taskmanager.create("case", json!({"case": "once"}));
    rig.work(["--drain", "--worker-id", "dead"]).env("FAILPOINTS", "claimed=return").run().exits(137);
    let add = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 600)
               INSERT INTO tasks (type_id, params, priority, attempts, dedupe_key, created_at, status, claimed_by,
                                  claimed_at, expires_at)
               SELECT type_id, params, priority, 1, 'key-' || n, created_at, 'claimed', 'another', claimed_at,
                      claimed_at + 3600000000
               FROM tasks, n WHERE id = ?1";
    let database = rusqlite::Connection::open(rig.taskmanager.database()).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
    assert_eq!(database.execute(add, [first]).unwrap(), 600);
    rig.work(["--drain", "--worker-id", "next"]).run().exits(0);
    assert_eq!((rig.taskmanager.status(first).as_str(), rig.sandbox.read("runs").as_str()), ("completed", "run\n"));
}

#[test]
fn two_workers_that_start_at_once_do_not_both_take_up_a_lost_claim() {
    at_once(0..5, |_| {
        let rig = Rig::start();
        rig.case("once", "echo run >> runs; echo 1");
        rig.work(["--drain", "--worker-id", "dead"]).env("FAILPOINTS", "claimed=return").run().exits(137);
        let next = ["next-1", "next-2"].map(|id| rig.work(["--drain", "--worker-id", id]).start());
        for worker in next {
            worker.wait().exits(0);
        }
        assert_eq!(rig.sandbox.read("runs"), "run\n");
    });
}

#[test]
fn a_claim_by_hand_whose_answer_was_lost_is_found() {
    let more = [&["--once"][..], &["--timeout", "5s"], &["--run"]];
    let cases = instead().into_iter().flat_map(|instead| more.map(|more| (instead.clone(), more)));
    at_once(cases, |((what, fault), more)| {
        let (published, sandbox) = with_tasks(2);
        published.inject(CLAIM, fault);
        let output = sandbox.prismq(["claim", "case"]).args(more.iter().copied()).run().exits(0);
        if more != ["--run"] {
            let claimed = output.json();
            assert_eq!((&claimed["id"], &claimed["attempt"]), (&json!(1), &json!(1)), "{what} {more:?}");
            assert_eq!(claimed["params"], json!({"case": "it", "n": 0}));
        }
        let status = |id| published.task(id).status;
        let first = if more == ["--run"] { "completed" } else { "claimed" };
        assert_eq!((status(1).as_str(), status(2).as_str()), (first, "pending"), "{what} {more:?}");
    });
}

#[test]
fn a_claim_by_hand_does_not_take_what_it_holds_already() {
    let (published, sandbox) = with_tasks(3);
    sandbox.prismq(["claim", "case"]).run().exits(0);
    published.inject(CLAIM, Fault::AnswerLost);
    assert_eq!(sandbox.prismq(["claim", "case"]).run().exits(0).json()["id"], json!(2));
}

/// The limit is reached by other tasks before the TaskManager has carried out a claim that it had answered with an error.
#[test]
fn a_limited_worker_leaves_no_claim_behind_of_which_it_has_not_heard() {
    let published = PublishedServer::start(&["case"]);
    let ids = [1, 2].map(|n| published.create("case", json!({"case": "it", "n": n})));
    published.inject(CLAIM, Fault::DoneLate(Answer::page(502)));
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo run >> runs; until [ -e go ]; do sleep 0.03; done; echo 1");
    let worker = sandbox.prismq(["work", "--max-tasks", "1"]).start();
    wait_for("the handler", || (!sandbox.read("runs").is_empty()).then_some(()));
    published.do_late();
    assert_eq!(ids.map(|id| published.task(id).status), ["claimed", "claimed"]);
    sandbox.write("go", "");
    let output = worker.wait().exits(0);
    assert_eq!(ids.map(|id| published.task(id).status), ["completed", "completed"], "{}", output.stderr);
}
