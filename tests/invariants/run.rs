//! Runs a plan by real processes, and gathers what all of them say afterwards.

mod found;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use prismq::internals::taskmanager::{Client, Connection, Retries, TaskFilter};
use serde_json::{Value, json};

pub(crate) use found::Found;

use crate::plan::{Event, Plan, Until, WorkerPlan};
use crate::support::{FakeClock, Output, Running, Sandbox, exchange, free_port};

/// How long a process may take to start, and the tasks to come further: many times what they do.
const PATIENCE: Duration = Duration::from_secs(60);
/// A worker that loses the TaskManager ends or goes on; one that is started so often has a reason of its own.
const MOST_STARTS: usize = 60;

/// What a program says whose port another has.
const PORT_TAKEN: &str = "another program is already listening";

struct Worker {
    plan: WorkerPlan,
    process: Option<Running>,
    status_addr: SocketAddr,
    /// It was asked to stop, or killed, so it is started again whatever it ends with.
    is_ended_from_outside: bool,
    starts: usize,
}

/// A plan that runs.
struct Rig<'a> {
    plan: &'a Plan,
    sandbox: Sandbox,
    port: u16,
    server: Option<Running>,
    workers: Vec<Worker>,
    summaries: Vec<Value>,
    /// A worker has ended without one.
    is_summary_lost: bool,
    log: String,
    /// All is done: each worker is asked to stop as soon as it obeys signals.
    is_stopping: bool,
    /// How far the tasks were when that was last looked at, and until when they must be further.
    progress: (u64, Instant),
}

/// Whether a worker that was asked to stop may end without a summary, by what it logged: before it worked at all, or since
/// its calls were not answered for so long that it gave them up.
fn may_say_nothing(stderr: &str) -> bool {
    !stderr.contains("  worker ready ") || stderr.contains("stopped without waiting for tasks in flight")
}

/// Runs a plan to its end. What went wrong, in words, where it does not come to one.
pub(crate) fn run(plan: &Plan) -> Result<Found, String> {
    let mut rig = Rig::new(plan);
    rig.start_server("")?;
    let ids = rig.create_tasks();
    if let Some((point, passage)) = plan.server_dies {
        rig.server.take().expect("it runs").crash();
        rig.start_server(&format!("{point}={}*off->return", passage - 1))?;
    }
    for index in 0..rig.workers.len() {
        rig.start_worker(index)?;
    }
    for (wait, event) in &plan.events {
        let due = Instant::now() + Duration::from_millis(*wait);
        while Instant::now() < due {
            rig.look_after_processes()?;
            thread::sleep(Duration::from_millis(1));
        }
        rig.happens(*event)?;
    }
    let mut metrics = Vec::new();
    if plan.until == Until::Stopped {
        rig.wait_until("all tasks to end and to be reported", Rig::is_done)?;
        metrics = rig.metrics();
        rig.is_stopping = true;
    }
    rig.wait_until("the workers to end", |rig| rig.workers.iter().all(|worker| worker.process.is_none()))?;
    rig.find(ids, metrics)
}

impl<'a> Rig<'a> {
    fn new(plan: &'a Plan) -> Self {
        let port = free_port();
        let claim_timeout = format!("{}s", plan.claim_timeout);
        let sandbox = Sandbox::at(&format!("http://127.0.0.1:{port}/api"))
            .env("PRISMQ_RESULTS", "results.db")
            .env("POLL_INTERVAL", "50ms")
            .env("MAX_BACKOFF", "200ms")
            .env("PRISMQ_CLAIM_TIMEOUT", &claim_timeout)
            // Kills and short claims hand tasks out more often than any honest failure would.
            .env("PRISMQ_MAX_ATTEMPTS", "1000");
        for (name, text) in [
            ("handler.sh", include_str!("handler.sh")),
            ("once.sh", include_str!("once.sh")),
            ("persistent.sh", include_str!("persistent.sh")),
            ("runs", ""),
        ] {
            sandbox.write(name, text);
        }
        let mode = if plan.persistent { "persistent" } else { "once" };
        let mut config = String::new();
        for (index, limit) in plan.types.iter().enumerate() {
            write!(
                config,
                "[[task_type]]\nname = \"type.{index}\"\nexec = [\"sh\", \"{mode}.sh\"]\nmode = \"{mode}\"\n"
            )
            .unwrap();
            write!(config, "timeout = \"{}s\"\nenv = {{ MARK = \"{port}\" }}\n", plan.timeout()).unwrap();
            if *limit > 0 {
                writeln!(config, "concurrency = {limit}").unwrap();
            }
        }
        sandbox.write("prismq.toml", config);
        let worker = |plan: &WorkerPlan| Worker {
            plan: plan.clone(),
            process: None,
            status_addr: SocketAddr::from(([127, 0, 0, 1], free_port())),
            is_ended_from_outside: false,
            starts: 0,
        };
        let workers = plan.workers.iter().map(worker).collect();
        Self {
            plan,
            sandbox,
            port,
            server: None,
            workers,
            summaries: Vec::new(),
            is_summary_lost: false,
            log: String::new(),
            is_stopping: false,
            progress: (0, Instant::now() + PATIENCE),
        }
    }

    fn client(&self) -> Client {
        let connection = Connection::new(format!("http://127.0.0.1:{}/api", self.port), None);
        Client::new(&connection, Retries { tries: 50, ..Retries::STANDARD }, FakeClock::new()).unwrap()
    }

    fn start_server(&mut self, failpoints: &str) -> Result<(), String> {
        let (listen, attempts) = (format!("127.0.0.1:{}", self.port), self.plan.max_attempts.to_string());
        let claim_timeout = format!("{}s", self.plan.claim_timeout);
        let mut arguments = vec!["serve", "--listen", &listen, "--db", "tasks.db", "--claim-timeout", &claim_timeout];
        arguments.extend(["--max-attempts", &attempts]);
        let mut faults = self.plan.faults.clone();
        faults.push(if self.plan.published {
            "published".to_owned()
        } else {
            format!("features={}", self.plan.features)
        });
        if !faults.is_empty() {
            faults.push(format!("seed={}", self.plan.seed));
        }
        let faults = faults.join(",");
        if !faults.is_empty() {
            arguments.extend(["--fault", &faults]);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut server = self.sandbox.prismq(arguments.clone()).env("FAILPOINTS", failpoints).start();
            let listens = |server: &mut Running| server.stdout().contains("/api") || !server.is_running();
            wait_until(deadline, || listens(&mut server)).ok_or("serve does not start")?;
            if server.is_running() {
                self.server = Some(server);
                return Ok(());
            }
            // For a moment, a process that another plan has just forked may still listen there.
            let ended = server.wait();
            if !ended.stderr.contains(PORT_TAKEN) || Instant::now() > deadline {
                return Err(format!("serve ended: {}", ended.stderr));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Creates the plan's tasks; their numbers.
    fn create_tasks(&self) -> Vec<u64> {
        let client = self.client();
        for index in 0..self.plan.types.len() {
            client.register_type(&format!("type.{index}"), "1.0.0", &json!({"type": "object"})).unwrap();
        }
        let snoozed_until = jiff::Timestamp::now() + Duration::from_millis(1200);
        let create = |(n, task): (usize, &crate::plan::TaskPlan)| {
            let words: Vec<&str> = task.script.iter().map(|step| step.word()).collect();
            let params = json!({"n": n, "script": words.join(" "), "until": snoozed_until});
            client.create(&format!("type.{}", task.task_type), &params, None).unwrap().id.0
        };
        self.plan.tasks.iter().enumerate().map(create).collect()
    }

    fn start_worker(&mut self, index: usize) -> Result<(), String> {
        let worker = &mut self.workers[index];
        worker.starts += 1;
        if worker.starts > MOST_STARTS {
            return Err(format!("worker {index} was started {MOST_STARTS} times and is not done"));
        }
        let (slots, id) = (worker.plan.slots.to_string(), format!("worker-{index}"));
        let status_addr = worker.status_addr.to_string();
        let mut arguments = vec!["work", "--json", "--concurrency", &slots, "--strategy", self.plan.strategy];
        if self.plan.named {
            arguments.extend(["--worker-id", &id]);
        }
        match self.plan.until {
            Until::Drained => arguments.push("--drain"),
            Until::Idle => arguments.extend(["--exit-after-idle", "300ms"]),
            Until::Stopped => arguments.extend(["--status-addr", &status_addr]),
        }
        let mut failpoints = self.plan.pauses.clone();
        if let Some((point, passage)) = worker.plan.dies.take() {
            write!(failpoints, "{point}={}*off->return", passage - 1).unwrap();
        }
        worker.is_ended_from_outside = false;
        worker.process = Some(self.sandbox.prismq(arguments).env("FAILPOINTS", &failpoints).start());
        Ok(())
    }

    /// Starts again what has ended and is not done.
    fn look_after_processes(&mut self) -> Result<(), String> {
        if self.plan.server_dies.is_some() && self.server.as_mut().is_some_and(|server| !server.is_running()) {
            self.start_server("")?;
        }
        for index in 0..self.workers.len() {
            let worker = &mut self.workers[index];
            let process = worker.process.as_ref().filter(|_| self.is_stopping && !worker.is_ended_from_outside);
            if let Some(process) = process.filter(|process| process.stderr().contains("INFO  worker ready")) {
                process.terminate();
                worker.is_ended_from_outside = true;
            }
            if worker.process.as_mut().is_some_and(|process| !process.is_running()) {
                let ended = worker.process.take().expect("it has just been there").wait();
                self.worker_ended(index, &ended)?;
            }
        }
        Ok(())
    }

    fn worker_ended(&mut self, index: usize, ended: &Output) -> Result<(), String> {
        const KILLED: i32 = 128 + 9;
        /// By SIGTERM, before it obeys signals.
        const TERMINATED: i32 = 128 + 15;
        let is_expected = self.workers[index].is_ended_from_outside;
        write!(self.log, "worker {index} ended with {}:\n{}", ended.code(), ended.stderr).unwrap();
        match ended.code() {
            KILLED if self.plan.has_kills() => self.start_worker(index),
            2 if ended.stderr.contains(PORT_TAKEN) => {
                self.workers[index].status_addr.set_port(free_port());
                self.start_worker(index)
            }
            TERMINATED if is_expected => self.start_worker(index),
            0 => {
                match serde_json::from_str(&ended.stdout) {
                    Ok(summary) => self.summaries.push(summary),
                    Err(_) if is_expected && may_say_nothing(&ended.stderr) => self.is_summary_lost = true,
                    Err(error) => return Err(format!("worker {index} said {error}:\n{}", ended.stderr)),
                }
                if is_expected && !self.is_stopping { self.start_worker(index) } else { Ok(()) }
            }
            // It says that the TaskManager could not be reached: only when it starts, as long as that answers now and then.
            4 if self.plan.has_outages() && !ended.stderr.contains("  worker ready ") => {
                self.summaries.extend(serde_json::from_str(&ended.stdout).ok() as Option<Value>);
                self.start_worker(index)
            }
            code => Err(format!("worker {index} ended with {code}:\n{}", ended.stderr)),
        }
    }

    fn happens(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::KillWorker(index) => {
                // At the third death over a task it is failed without being run, as it should.
                self.wait_until("tasks that saw two deaths to end", |rig| rig.most_deaths() < 2)?;
                if let Some(process) = self.workers[index].process.take() {
                    process.crash();
                    self.start_worker(index)?;
                }
            }
            Event::StopWorker(index) => {
                let worker = &mut self.workers[index];
                let process = worker.process.as_mut();
                if let Some(process) = process.and_then(|process| process.is_running().then_some(process)) {
                    process.terminate();
                    worker.is_ended_from_outside = true;
                }
            }
            Event::KillServer(away) => {
                self.server.take().expect("it runs").crash();
                thread::sleep(Duration::from_millis(away));
                self.start_server("")?;
            }
        }
        Ok(())
    }

    /// Whether no task has come further for so long that none will. A slow machine makes a plan late, and not wrong.
    /// A task that is claimed again and again, and expires each time, comes no further either.
    fn is_stuck(&mut self) -> bool {
        const PROGRESS: &str = "SELECT sum(min(attempts, 60)) + sum(status IN ('completed', 'failed')) FROM tasks";
        if Instant::now() <= self.progress.1 {
            return false;
        }
        // Busy, say: then it is late once more, and asked again.
        let progress = self.tasks_file().query_row(PROGRESS, [], |row| row.get(0)).unwrap_or(0);
        let is_stuck = progress == self.progress.0;
        self.progress = (progress, Instant::now() + PATIENCE);
        is_stuck
    }

    fn wait_until(&mut self, what: &str, holds: impl Fn(&mut Self) -> bool) -> Result<(), String> {
        while !holds(self) {
            if self.is_stuck() {
                return Err(format!("timed out waiting for {what}: {}", self.tell()));
            }
            self.look_after_processes()?;
            thread::sleep(Duration::from_millis(3));
        }
        Ok(())
    }

    /// What there is to see, for whoever looks for the reason.
    fn tell(&self) -> String {
        let filter = TaskFilter { limit: 1_000_000, ..TaskFilter::default() };
        let tasks = self.client().tasks(&filter).unwrap_or_default();
        let open: Vec<_> = tasks.iter().filter(|task| task.status == "pending" || task.status == "claimed").collect();
        let said = self.workers.iter().filter_map(|worker| Some(worker.process.as_ref()?.stderr()));
        format!("{open:#?}\n{}", said.collect::<Vec<_>>().join("\n"))
    }

    fn most_deaths(&self) -> u64 {
        self.number("SELECT coalesce(max(count), 0) FROM deaths").unwrap_or(0)
    }

    /// Whether each task has ended, and no result waits to be reported.
    fn is_done(&mut self) -> bool {
        const OPEN: &str = "SELECT count(*) FROM tasks WHERE status IN ('pending', 'claimed')";
        // Busy, say: then it is asked again.
        let open: u64 = self.tasks_file().query_row(OPEN, [], |row| row.get(0)).unwrap_or(1);
        open == 0 && self.number("SELECT count(*) FROM results WHERE reported_at IS NULL") == Some(0)
    }

    fn metrics(&self) -> Vec<String> {
        let ask = |worker: &Worker| {
            let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            exchange(worker.status_addr, request).map_or_else(|error| error.to_string(), |answer| answer.body)
        };
        self.workers.iter().map(ask).collect()
    }
}

fn wait_until(deadline: Instant, mut holds: impl FnMut() -> bool) -> Option<()> {
    while !holds() {
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
    Some(())
}
