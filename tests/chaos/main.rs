//! Chaos: workers are killed at random, the TaskManager is killed and restarted, a good part of its answers is faulty.
//! All tasks must be completed all the same, each with its own result, and nothing may be left behind.
//!
//! `PRISMQ_CHAOS_SEED` repeats a run's choices, `PRISMQ_CHAOS_TASKS` and `PRISMQ_CHAOS_KILLS` set its size.
#![cfg(feature = "server")]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use prismq::taskmanager::{Client, Connection, Retries, TaskFilter, TaskView};
use serde_json::{Value, json};
use support::{FakeClock, Running, Sandbox, wait_for};

const WORKERS: [&str; 3] = ["worker-1", "worker-2", "worker-3"];
/// 15 % of the answers are faulty.
const FAULTS: &str = "drop=5%,reset=4%,deadlock=4%,html=2%";
/// Works for up to 200 ms, then answers with its own params.
const HANDLER: &str = "read task; sleep 0.$(printf '%03d' $((PRISMQ_TASK_ID * 37 % 200))); \
                       echo \"{\\\"task\\\":$PRISMQ_TASK_ID,\\\"saw\\\":$task}\"";

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

struct Chaos {
    sandbox: Sandbox,
    port: u16,
    seed: u64,
    random: fastrand::Rng,
    server: Option<Running>,
    workers: Vec<Running>,
}

impl Chaos {
    fn start(seed: u64) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let sandbox = Sandbox::at(&format!("http://127.0.0.1:{port}/api"))
            .env("PRISMQ_RESULTS", "results.db")
            .env("POLL_INTERVAL", "50ms")
            .env("MAX_BACKOFF", "200ms")
            // Of the server and of the workers: tasks of killed workers come back soon enough for a test.
            .env("PRISMQ_CLAIM_TIMEOUT", "4s")
            // Kills hand tasks out more often than any honest failure would.
            .env("PRISMQ_MAX_ATTEMPTS", "1000");
        let mut config = String::new();
        write!(config, "[[task_type]]\nname = \"chaos\"\nexec = '''{HANDLER}'''\nenv = {{ CHAOS = \"{port}\" }}\n")
            .unwrap();
        sandbox.write("prismq.toml", config);
        Self { sandbox, port, seed, random: fastrand::Rng::with_seed(seed), server: None, workers: Vec::new() }
    }

    fn start_server(&mut self) {
        let (listen, faults) = (format!("127.0.0.1:{}", self.port), format!("{FAULTS},seed={}", self.seed));
        let arguments = ["serve", "--listen", &listen, "--db", "tasks.db", "--claim-timeout", "4s", "--fault", &faults];
        // A busy machine may well be too slow for a claim of 4 s more often than three times.
        let mut server = self.sandbox.prismq(arguments).args(["--max-attempts", "1000"]).start();
        server.wait_for_stdout("/api");
        self.server = Some(server);
    }

    fn worker(&self, id: &str) -> Running {
        self.sandbox.prismq(["work", "--concurrency", "2", "--worker-id", id]).start()
    }

    /// Kills one worker and starts it again. A task that was in flight at two deaths is let through first: at the
    /// third it would be failed unrun, as it should.
    fn kill_a_worker(&mut self) {
        wait_for("tasks that saw two deaths to end", || (self.most_deaths() < 2).then_some(()));
        let unlucky = self.random.usize(..WORKERS.len());
        let again = self.worker_after_crash(unlucky);
        self.workers.insert(unlucky, again);
    }

    fn most_deaths(&self) -> u64 {
        let file = self.results_file();
        file.query_row("SELECT coalesce(max(count), 0) FROM deaths", [], |row| row.get(0)).unwrap_or(0)
    }

    fn unreported(&self) -> u64 {
        let file = self.results_file();
        // Busy, say: then it is asked again.
        file.query_row("SELECT count(*) FROM results WHERE reported_at IS NULL", [], |row| row.get(0)).unwrap_or(1)
    }

    fn results_file(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.sandbox.path("results.db")).unwrap()
    }

    fn worker_after_crash(&mut self, index: usize) -> Running {
        self.workers.remove(index).crash();
        self.worker(WORKERS[index])
    }

    fn client(&self) -> Client {
        let connection = Connection::new(format!("http://127.0.0.1:{}/api", self.port), None);
        let retries = Retries { tries: 50, ..Retries::STANDARD };
        Client::new(&connection, retries, FakeClock::new()).unwrap()
    }

    /// What became of the tasks that are not completed, for whoever looks for the reason.
    fn not_completed(&self) -> Vec<(TaskView, String)> {
        let filter = TaskFilter { limit: 1_000_000, ..TaskFilter::default() };
        let mut tasks = self.client().tasks(&filter).unwrap();
        tasks.retain(|task| task.status != "completed");
        let results = |task: &TaskView| self.sandbox.prismq(["results", "--json", &task.id.to_string()]).run().stdout;
        tasks.into_iter().map(|task| (self.client().task(task.id).unwrap().unwrap(), results(&task))).collect()
    }

    fn count(&self, status: &str) -> usize {
        let filter = TaskFilter { status: Some(status.into()), limit: 1_000_000, ..TaskFilter::default() };
        self.client().tasks(&filter).unwrap().len()
    }
}

#[test]
fn every_task_is_completed_with_its_own_result_whatever_dies() {
    let seed = number("PRISMQ_CHAOS_SEED", fastrand::u64(..1_000_000));
    let (tasks, kills) = (number("PRISMQ_CHAOS_TASKS", 300), number("PRISMQ_CHAOS_KILLS", 30));
    println!("PRISMQ_CHAOS_SEED={seed} PRISMQ_CHAOS_TASKS={tasks} PRISMQ_CHAOS_KILLS={kills}");
    let mut chaos = Chaos::start(seed);
    chaos.start_server();
    let client = chaos.client();
    client.register_type("chaos", "1.0.0", &json!({"type": "object"})).unwrap();
    let ids: BTreeMap<u64, u64> =
        (0..tasks).map(|n| (client.create("chaos", &json!({"n": n}), None).unwrap().id.0, n)).collect();
    assert_eq!(ids.len() as u64, tasks, "each task has a number of its own");

    let started = Instant::now();
    chaos.workers = WORKERS.iter().map(|id| chaos.worker(id)).collect();
    // A larger run has its kills spread over all of its tasks.
    let tasks_a_kill = u32::try_from(tasks / kills).unwrap();
    for kill in 1..=kills {
        thread::sleep(Duration::from_millis(chaos.random.u64(2..30)) * tasks_a_kill);
        chaos.kill_a_worker();
        if kill == kills / 3 || kill == kills * 2 / 3 {
            chaos.server.take().unwrap().crash();
            chaos.start_server();
        }
    }
    let patience = Duration::from_secs(60 + tasks / 5);
    while chaos.count("completed") < ids.len() {
        assert!(started.elapsed() < patience, "not completed in time: {:#?}", chaos.not_completed());
        thread::sleep(Duration::from_millis(50 + tasks / 10));
    }
    // A worker that is told to end tries once more what waits, and may meet a fault.
    wait_for("every result to be reported", || (chaos.unreported() == 0).then_some(()));
    for worker in chaos.workers.drain(..) {
        worker.terminate();
        worker.wait().exits(0);
    }
    println!("{tasks} tasks, {kills} kills: {:.1} s", started.elapsed().as_secs_f64());
    check_results(&chaos, &ids);
    check_nothing_is_left(&chaos);
}

/// Each task has its own result, at the TaskManager and in the results file.
fn check_results(chaos: &Chaos, ids: &BTreeMap<u64, u64>) {
    let exported = chaos.sandbox.prismq(["results", "--json"]).run().exits(0);
    let mut confirmed: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for row in exported.json_lines() {
        let id = row["task_id"].as_u64().unwrap();
        assert_ne!(row["reported_at"], Value::Null, "not reported: {row}");
        if row["status"] == "completed" {
            assert_eq!(row["data"]["saw"]["params"], json!({"n": ids[&id]}), "{row}");
            confirmed.entry(id).or_default().push(row);
        }
    }
    let twice: Vec<_> = confirmed.values().filter(|rows| rows.len() > 1).collect();
    assert!(twice.is_empty(), "confirmed more than once: {twice:#?}");
    for (id, n) in ids {
        assert!(confirmed.contains_key(id), "task {id} has no confirmed result");
        let task = chaos.client().task(prismq::task::TaskId(*id)).unwrap().unwrap();
        let data = &task.result.unwrap()["data"];
        assert_eq!((&data["task"], &data["saw"]["params"]["n"]), (&json!(id), &json!(n)));
    }
}

fn check_nothing_is_left(chaos: &Chaos) {
    let claims: u64 = chaos.results_file().query_row("SELECT count(*) FROM claims", [], |row| row.get(0)).unwrap();
    assert_eq!(claims, 0, "claims are left");
    if cfg!(target_os = "linux") {
        let mark = format!("CHAOS={}", chaos.port);
        let left: Vec<String> = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read(entry.unwrap().path().join("environ")).ok())
            .filter(|environ| environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()))
            .map(|environ| String::from_utf8_lossy(&environ).into_owned())
            .collect();
        assert!(left.is_empty(), "processes are left: {left:?}");
    }
}
