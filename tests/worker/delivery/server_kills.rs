//! SIGKILL of `serve` at each step of a call, while a worker works or tasks are created: the worker goes on with the server
//! that is started again on the same file, and all accounts agree.

use prismq::internals::taskmanager::{Client, Connection, Retries};
use serde_json::json;

use super::kills::KILLED;
use crate::support::{FakeClock, Output, Running, Sandbox, at_once, cases, free_port, rows, sandbox};

const TASKS: u64 = 12;

/// `prismq serve` on a port and a file of its own, and a sandbox whose workers use it.
struct Served {
    port: u16,
    sandbox: Sandbox,
    arguments: &'static [&'static str],
    server: Option<Running>,
}

impl Served {
    /// Starts one with the type `case`, whose handlers may take long.
    fn start(arguments: &'static [&'static str]) -> Self {
        let port = free_port();
        let sandbox = sandbox(&format!("http://127.0.0.1:{port}/api"));
        sandbox.write("prismq.toml", cases("case", "timeout = \"1h\""));
        let mut served = Self { port, sandbox, arguments, server: None };
        served.serve("");
        served.client().register_type("case", "1.0.0", &json!({"type": "object"})).unwrap();
        served
    }

    /// Starts the server, which kills itself at `failpoints`.
    fn serve(&mut self, failpoints: &str) {
        let listen = format!("127.0.0.1:{}", self.port);
        let serve = ["serve", "--listen", &listen, "--db", "tasks.db"];
        let mut server =
            self.sandbox.prismq(serve).args(self.arguments.iter().copied()).env("FAILPOINTS", failpoints).start();
        server.wait_for_stdout("/api\n");
        self.server = Some(server);
    }

    fn crash(&mut self) {
        self.server.take().unwrap().crash();
    }

    /// Waits until the server has killed itself, and starts it again.
    #[track_caller]
    fn serve_again(&mut self) {
        self.server.take().unwrap().wait().exits(KILLED);
        self.serve("");
    }

    fn client(&self) -> Client {
        let connection = Connection::new(format!("http://127.0.0.1:{}/api", self.port), None);
        Client::new(&connection, Retries::STANDARD, FakeClock::new()).unwrap()
    }

    fn create(&self, script: &str) {
        self.sandbox.write("it.sh", script);
        for n in 0..TASKS {
            self.client().create("case", &json!({"case": "it", "n": n}), None).unwrap();
        }
    }

    /// Each task was completed at its first attempt by one run, and has one result, which was reported.
    #[track_caller]
    fn assert_completed_once(&self, what: &str, worker: &Output) {
        for id in 1..=TASKS {
            let task = self.client().task(prismq::TaskId(id)).unwrap().unwrap();
            let ended = (task.status.as_str(), task.attempts);
            assert_eq!(ended, ("completed", 1), "{what}: task {id}\n{}", worker.stderr);
        }
        let rows = rows(&self.sandbox, "results");
        let is_reported = |row: &serde_json::Value| row["status"] == "completed" && row["reported_at"].is_string();
        assert!(rows.len() == 12 && rows.iter().all(is_reported), "{what}: {rows:?}\n{}", worker.stderr);
        assert_eq!(self.sandbox.read("runs").lines().count(), 12, "{what}\n{}", worker.stderr);
    }
}

/// Kills the server at each of these points, at the second passage of calls that come often, while a worker works.
#[track_caller]
fn kill_at_each(points: &[&str], arguments: &'static [&'static str], script: &str) {
    at_once(points, |point| {
        let mut served = Served::start(arguments);
        served.create(script);
        served.crash();
        served.serve(&format!("{point}=1*off->return"));
        let worker = served.sandbox.prismq(["work", "--drain", "--concurrency", "4"]).start();
        served.serve_again();
        let worker = worker.wait().exits(0);
        served.assert_completed_once(point, &worker);
    });
}

/// Lines of params for `create-task --from`.
pub(super) fn lines(count: usize) -> String {
    (0..count).fold(String::new(), |lines, n| lines + &format!("{{\"n\":{n}}}\n"))
}

const SCRIPT: &str = "echo run >> runs; echo 1";

#[test]
fn killed_at_each_step_of_a_claim() {
    kill_at_each(&["claim:arrived", "claim:changed", "claim:synced"], &[], SCRIPT);
}

#[test]
fn killed_at_each_step_of_a_report() {
    kill_at_each(&["complete:arrived", "entry", "complete:changed", "committed", "complete:synced"], &[], SCRIPT);
}

#[test]
fn without_batches_and_renewals_it_is_killed_at_each_step_of_a_claim_and_a_report() {
    let points = ["claim:changed", "claim:synced", "complete:changed", "committed", "complete:synced"];
    kill_at_each(&points, &["--fault", "features=none"], SCRIPT);
}

#[test]
fn killed_at_each_step_of_a_renewal() {
    // Renewals come at a third of the time that a claim lasts.
    let slow = "echo run >> runs; sleep 6; echo 1";
    kill_at_each(&["renew:arrived", "renew:changed", "renew:synced"], &["--claim-timeout", "8s"], slow);
}

#[test]
fn killed_at_each_step_of_a_creation_no_task_is_lost_or_created_twice() {
    const COUNT: usize = 2500;
    // More than one commit, even if calls that arrive together share one.
    let lines = lines(COUNT);
    let points = [("tasks:arrived", 1), ("entry", 300), ("tasks:changed", 1), ("committed", 1), ("tasks:synced", 1)];
    for (point, passage) in points {
        let mut served = Served::start(&[]);
        served.crash();
        served.serve(&format!("{point}={passage}*off->return"));
        let create = || served.sandbox.prismq(["create-task", "case", "--from", "-"]).stdin(lines.clone());
        let created = create().start();
        served.server.take().unwrap().wait().exits(KILLED);
        served.serve("");
        let mut created = created.wait();
        if created.code() != 0 {
            // The server was away for longer than the command tries.
            assert!(created.stderr.contains("run it again"), "{point}: {}", created.stderr);
            created = served.sandbox.prismq(["create-task", "case", "--from", "-"]).stdin(lines.clone()).run();
        }
        let mut ids: Vec<u64> = created.exits(0).stdout.lines().map(|id| id.parse().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (1..=COUNT as u64).collect::<Vec<_>>(), "{point}");
    }
}
