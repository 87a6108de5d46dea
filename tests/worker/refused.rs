//! Reports that the TaskManager refused the request: they are kept, counted and named, and hold up nobody.

use serde_json::{Value, json};

use crate::support::published::{Fault, KEY, PublishedServer};
use crate::support::{Answer, Output, Sandbox, at_once, cases, free_port, read_rows, recorded, wait_for};

const COMPLETE: &str = "POST /tasks/1/complete";
/// How often a report is refused: more often than it is sent.
const ALWAYS: usize = 40;

/// Two tasks, of which the TaskManager refuses the report of the first.
fn refusing(answer: &Answer, script: &str) -> (PublishedServer, Sandbox) {
    let published = PublishedServer::start(&["case"]);
    for n in [1, 2] {
        published.create("case", json!({"case": "it", "n": n}));
    }
    for _ in 0..ALWAYS {
        published.inject(COMPLETE, Fault::Answer(answer.clone()));
    }
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", script);
    (published, sandbox)
}

fn rows(sandbox: &Sandbox) -> Vec<Value> {
    read_rows(&sandbox.path("results.db"), "results")
}

/// What the results file says of refused reports.
fn refused(sandbox: &Sandbox) -> Vec<String> {
    let rows = read_rows(&sandbox.path("results.db"), "refused_reports");
    rows.iter().map(|row| row["error"].as_str().unwrap().to_owned()).collect()
}

fn drain(sandbox: &Sandbox) -> Output {
    // What was refused is not sent again meanwhile.
    sandbox.prismq(["work", "--drain", "--max-backoff", "10m"]).run()
}

/// Answers that are no lost claim: a look at the task shows that it is still this worker's.
fn refusals() -> Vec<(Answer, &'static str)> {
    vec![
        (Answer::error(400, "Validation failed: result is odd"), "result is odd (400)"),
        (Answer::error(401, "no"), "refused the key"),
        (Answer::json(403, &json!({"error": "Forbidden", "message": "not from here"})), "not from here"),
        (Answer::error(404, "Gone fishing"), "Gone fishing (404)"),
        (Answer::error(409, "Out of order"), "Out of order (409)"),
        (Answer::error(413, "too much"), "too much (413)"),
        (Answer::error(422, "Unprocessable"), "Unprocessable (422)"),
        (Answer::error(501, "Not implemented"), "Not implemented (501)"),
        (recorded("no such endpoint"), "no such call"),
        (Answer::redirect(302, "http://127.0.0.1:9/login"), "redirects to http://127.0.0.1:9/login"),
        (Answer::page(403), "HTML page"),
        (Answer::page(200), "HTML page"),
        (Answer::data(&json!("fine")), "gave an invalid answer"),
    ]
}

#[test]
fn refused_reports_are_named_and_set_the_exit_code() {
    let scripts = ["echo 1", "echo no luck >&2; exit 65"];
    let cases = scripts.into_iter().flat_map(|script| refusals().into_iter().map(move |refusal| (refusal, script)));
    at_once(cases, |((answer, words), script)| {
        let (published, sandbox) = refusing(&answer, script);
        let output = drain(&sandbox);
        let refused_key = words == "refused the key" || words == "not from here";
        assert_eq!(output.code(), if refused_key { 5 } else { 1 }, "{words}: {}", output.stderr);
        let last = output.stderr.lines().last().unwrap();
        assert!(last.contains("unreported results: 1") && last.contains("(task 1)"), "{words}: {last}");
        assert!(last.contains(words), "{words}: {last}");
        assert!(last.contains(if refused_key { "check TASKMANAGER_API_KEY" } else { "prismq explain 1" }), "{last}");
        let named = |line: &&str| line.contains("ERROR") && line.contains(words) && line.contains("task_id=1");
        assert!(output.stderr.lines().any(|line| named(&line)), "{words}: {}", output.stderr);
        assert!(output.stderr.contains("unreported=1"), "{words}: {}", output.stderr);
        assert_ne!(published.task(2).status, "claimed", "{words}: the other one is reported");
        let all = rows(&sandbox);
        let waiting: Vec<&Value> = all.iter().filter(|row| row["reported_at"].is_null()).collect();
        assert!(waiting.len() == 1 && waiting[0]["task_id"] == 1, "{words}: {all:?}");
        let noted = refused(&sandbox);
        assert!(noted.len() == 1 && noted[0].contains(words), "{words}: {noted:?}");
        // Neither in a circle.
        assert!(published.count(COMPLETE) <= 8, "{words}: {} reports", published.count(COMPLETE));
    });
}

#[test]
fn all_outputs_agree_on_refused_reports() {
    let (published, sandbox) = refusing(&Answer::error(422, "Unprocessable"), "echo 1");
    let ended = sandbox.prismq(["work", "--drain", "--max-backoff", "10m", "--json"]).run().exits(1);
    assert_eq!(ended.json(), json!({"completed": 2, "failed": 0, "unreported": 1, "refused": 1}));
    let run = |arguments: &[&str]| sandbox.prismq(arguments.iter().copied()).run();
    let words = "1 refused by the TaskManager, last task 1: the TaskManager refused the request: Unprocessable (422)";
    let stats = run(&["stats"]).exits(0).stdout;
    assert!(stats.contains("1 unreported; ") && stats.contains(words), "{stats}");
    let stats = run(&["stats", "--json"]).exits(0).json();
    assert_eq!((&stats["unreported"], &stats["refused"]), (&json!(1), &json!(1)));
    let page = run(&["stats", "--html", "-"]).exits(0).stdout;
    assert!(page.contains("1 refused by the TaskManager, last task 1: "), "{page}");
    let health = run(&["health"]).stdout;
    assert!(health.contains("pending reports: 1") && health.contains(words), "{health}");
    let health = run(&["health", "--json"]).json();
    assert_eq!((&health["unreported"], &health["refused"]), (&json!(1), &json!(1)));
    let why = "the TaskManager refused the request: Unprocessable (422)";
    let explained = run(&["explain", "1"]).exits(0).stdout;
    assert!(explained.contains(&format!("not reported yet: {why}; a worker")), "{explained}");
    assert_eq!(run(&["explain", "1", "--json"]).exits(0).json()["attempts"][0]["report_error"], why);
    let results = run(&["results", "--json"]).exits(0).json_lines();
    assert_eq!((&results[0]["report_error"], results[1].get("report_error")), (&json!(why), None));
    assert!(run(&["results"]).exits(0).stdout.contains("not reported: the TaskManager"));

    // The next worker sends it again, and goes on if it is refused.
    published.create("case", json!({"case": "it", "n": 3}));
    let ended = drain(&sandbox).exits(1);
    assert!(ended.stderr.contains("unreported=1") && published.task(3).status == "completed", "{}", ended.stderr);
    published.clear_faults();
    drain(&sandbox).exits(0);
    assert_eq!(
        (published.task(1).status.as_str(), run(&["stats", "--json"]).json()["unreported"].clone()),
        ("completed", json!(0))
    );
    assert!(rows(&sandbox).iter().all(|row| row["reported_at"].is_string()) && refused(&sandbox).is_empty());
}

#[test]
fn a_refused_report_is_sent_again_now_and_then() {
    let (published, sandbox) = refusing(&Answer::redirect(302, "http://127.0.0.1:9/login"), "echo 1");
    let mut worker = sandbox.prismq(["work", "--max-backoff", "200ms"]).start();
    wait_for("it to be tried four times", || (published.count(COMPLETE) >= 4).then_some(()));
    wait_for("the other one", || (published.task(2).status == "completed").then_some(()));
    let next = published.create("case", json!({"case": "it", "n": 3}));
    wait_for("one more", || (published.task(next).status == "completed").then_some(()));
    published.clear_faults();
    wait_for("the first one", || (published.task(1).status == "completed").then_some(()));
    worker.wait_for("the result to be marked", |_| rows(&sandbox).iter().all(|row| row["reported_at"].is_string()));
    worker.terminate();
    let output = worker.wait().exits(0);
    assert!(output.stderr.contains("unreported=0"), "{}", output.stderr);
}

#[test]
fn a_task_claimed_again_runs_despite_its_refused_report() {
    let (published, sandbox) = refusing(&Answer::error(422, "Unprocessable"), "echo run >>runs; echo 1");
    let worker = sandbox.prismq(["work", "--max-backoff", "200ms"]).start();
    wait_for("a refused report", || (published.count(COMPLETE) >= 2).then_some(()));
    published.expire(1);
    wait_for("the second attempt", || (published.task(1).attempts == 2).then_some(()));
    published.clear_faults();
    wait_for("the end of the task", || (published.task(1).status == "completed").then_some(()));
    wait_for("all to be settled", || rows(&sandbox).iter().all(|row| row["reported_at"].is_string()).then_some(()));
    worker.terminate();
    worker.wait().exits(0);
    let of_task: Vec<Value> = rows(&sandbox).into_iter().filter(|row| row["task_id"] == 1).collect();
    let status: Vec<&Value> = of_task.iter().map(|row| &row["status"]).collect();
    assert_eq!(status, ["lost", "completed"], "{of_task:?}");
    assert_eq!(sandbox.read("runs").lines().count(), 3);
}

#[test]
fn a_refused_report_that_waits_does_not_touch_the_next_attempt() {
    let (published, sandbox) = refusing(
        &Answer::error(422, "Unprocessable"),
        "[ $PRISMQ_ATTEMPT = 1 ] || while [ ! -e go ]; do sleep 0.02; done; echo $PRISMQ_ATTEMPT",
    );
    let worker = sandbox.prismq(["work", "--max-backoff", "100ms", "--concurrency", "2"]).start();
    wait_for("a report", || (published.count(COMPLETE) > 0).then_some(()));
    wait_for("a refused report", || (!refused(&sandbox).is_empty()).then_some(()));
    published.expire(1);
    wait_for("the second attempt", || (published.task(1).attempts == 2).then_some(()));
    // While it runs, a look at the task tells that the claim of the first is lost.
    wait_for("the first to be settled", || {
        rows(&sandbox).iter().any(|row| row["task_id"] == 1 && row["status"] == "lost").then_some(())
    });
    published.clear_faults();
    sandbox.write("go", "");
    wait_for("the end of the task", || (published.task(1).status == "completed").then_some(()));
    assert_eq!(published.task(1).result["data"], 2);
    worker.terminate();
    worker.wait().exits(0);
}

#[test]
fn the_status_endpoint_shows_refused_reports() {
    let (_published, sandbox) = refusing(&Answer::error(422, "Unprocessable"), "echo 1");
    let address = format!("127.0.0.1:{}", free_port());
    let worker = sandbox.prismq(["work", "--max-backoff", "10m", "--status-addr", &address]).start();
    let get = |path: &str| ureq::get(format!("http://{address}{path}")).call().ok()?.body_mut().read_to_string().ok();
    let health: Value = wait_for("a refused report", || {
        let health: Value = serde_json::from_str(&get("/health")?).ok()?;
        (health["unreported"] == 1 && health["tasks_processed"] == 2).then_some(health)
    });
    assert_eq!((&health["healthy"], &health["refused"]), (&json!(true), &json!(1)));
    assert_eq!(health["last_refused"], "task 1: the TaskManager refused the request: Unprocessable (422)");
    let metrics = get("/metrics").unwrap();
    assert!(metrics.contains("\nprismq_results_unreported 1\n") && metrics.contains("\nprismq_results_refused 1\n"));
    let page = get("/").unwrap();
    assert!(page.contains("1 refused by the TaskManager, last task 1: "), "{page}");
    worker.terminate();
    // What is safe in the results file is no failure for whoever asked it to end.
    assert!(worker.wait().exits(0).stderr.contains("unreported=1"));
}

#[test]
fn a_key_that_is_refused_meanwhile_leaves_its_results_counted() {
    let (published, sandbox) = refusing(&recorded("wrong key"), "echo 1");
    for _ in 0..ALWAYS {
        published.inject("POST /tasks/2/complete", Fault::Answer(recorded("wrong key")));
    }
    for _ in 0..ALWAYS {
        published.inject("GET /tasks/", Fault::Answer(recorded("wrong key")));
    }
    published.hold(COMPLETE);
    let worker = sandbox.prismq(["work", "--json"]).start();
    wait_for("the report", || published.is_holding().then_some(()));
    // The next task is run meanwhile, and its report waits.
    wait_for("the second result", || (rows(&sandbox).len() == 2).then_some(()));
    for _ in 0..ALWAYS {
        published.inject("POST /tasks/claim", Fault::Answer(recorded("wrong key")));
    }
    published.release();
    let output = worker.wait().exits(5);
    assert_eq!(output.json(), json!({"completed": 2, "failed": 0, "unreported": 2, "refused": 2}));
    assert!(output.stderr.contains("unreported=2"), "{}", output.stderr);
    let last = output.stderr.lines().last().unwrap();
    assert!(last.contains("refused the key") && last.contains("unreported results: 2"), "{last}");
    assert!(!output.stderr.contains(KEY));
}

#[test]
fn a_refused_manual_report_is_kept() {
    for (command, code) in [
        (vec!["complete", "1", "--result", "1"], 1),
        (vec!["fail", "1", "--error", "no luck"], 1),
        (vec!["claim", "case", "--run", "--once"], 1),
    ] {
        let (published, sandbox) = refusing(&Answer::error(422, "Unprocessable"), "echo 1");
        let run = |arguments: &[&str]| sandbox.prismq(arguments.iter().copied()).run();
        if command[0] != "claim" {
            run(&["claim", "case", "--once"]).exits(0);
        }
        let output = run(&command).exits(code);
        let last = output.stderr.lines().last().unwrap();
        assert!(last.contains("Unprocessable (422)") && last.contains("prismq complete 1"), "{last}");
        assert_eq!(refused(&sandbox), ["the TaskManager refused the request: Unprocessable (422)"]);
        assert_eq!(run(&["stats", "--json"]).json()["refused"], 1);
        published.clear_faults();
        run(&["complete", "1"]).exits(0);
        assert_eq!(run(&["stats", "--json"]).json()["unreported"], 0);
    }
}

/// Whatever its answer is, it is not the TaskManager that is away while others get through.
#[test]
fn a_report_that_alone_never_gets_through_counts_as_refused() {
    let answers = [recorded("backend down"), Answer::page(502), Answer::reset(), Answer::error(500, "nope")];
    at_once(answers, |answer| {
        let published = PublishedServer::start(&["case"]);
        let sandbox = published.sandbox(&cases("case", ""));
        sandbox.write("it.sh", "echo 1");
        (0..500).for_each(|_| published.inject(COMPLETE, Fault::Answer(answer.clone())));
        published.create("case", json!({"case": "it"}));
        let output = sandbox.prismq(["work", "--drain"]).run().exits(1);
        assert!(output.stderr.contains("(task 1)"), "{}", output.stderr);
        assert_eq!(refused(&sandbox).len(), 1);
    });
}

#[test]
fn a_report_that_never_gets_through_does_not_hold_up_those_behind_it() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo 1");
    let down = || Fault::Answer(recorded("backend down"));
    (0..500).for_each(|_| published.inject(COMPLETE, down()));
    (0..20).for_each(|_| published.inject("POST /tasks/2/complete", down()));
    for n in [1, 2] {
        published.create("case", json!({"case": "it", "n": n}));
    }
    let worker = sandbox.prismq(["work", "--concurrency", "2"]).start();
    wait_for("the second one", || (published.task(2).status == "completed").then_some(()));
    assert_eq!(published.task(1).status, "claimed");
    published.clear_faults();
    wait_for("the first one", || (published.task(1).status == "completed").then_some(()));
    worker.terminate();
    worker.wait().exits(0);
}
