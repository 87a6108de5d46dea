//! A plan: what one run of the whole system consists of. A seed makes it, and a failing one is made smaller.

use std::fmt::{self, Write as _};

use fastrand::Rng;

/// How an attempt is scripted to end. The handler does what the word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Ok,
    /// Succeeds after it has reported progress twice.
    Progress,
    /// Succeeds after 150 ms.
    Slow,
    /// Succeeds after three seconds: later than a claim expires that is not renewed.
    Long,
    /// Exits with 1.
    Handler,
    Validation,
    Configuration,
    Connection,
    Temporary,
    /// Prints a failure with an error type of its own, and exits with 0.
    Envelope,
    /// Ends by a signal.
    Crash,
    /// Takes longer than it may.
    Timeout,
    /// Succeeds, and snoozes its type for some hundred milliseconds.
    Snooze,
}

use Step::{
    Configuration, Connection, Crash, Envelope, Handler, Long, Ok, Progress, Slow, Snooze, Temporary, Timeout,
    Validation,
};

impl Step {
    /// The word that the handler knows it by.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Ok => "ok",
            Progress => "progress",
            Slow => "slow",
            Long => "long",
            Handler => "handler",
            Validation => "validation",
            Configuration => "configuration",
            Connection => "connection",
            Temporary => "temporary",
            Envelope => "envelope",
            Crash => "crash",
            Timeout => "timeout",
            Snooze => "snooze",
        }
    }

    /// The error type of the failure; `None` for a success.
    pub(crate) fn error_type(self) -> Option<&'static str> {
        match self {
            Ok | Progress | Slow | Long | Snooze => None,
            Envelope => Some("odd"),
            _ => Some(self.word()),
        }
    }

    fn is_retryable(self) -> bool {
        matches!(self, Connection | Temporary | Crash | Timeout)
    }
}

/// A task: its type, by index, and how each of its attempts ends; the last word holds for all that follow.
#[derive(Clone)]
pub(crate) struct TaskPlan {
    pub(crate) task_type: usize,
    pub(crate) script: Vec<Step>,
}

impl TaskPlan {
    /// How the attempt with this number, from 1, ends.
    pub(crate) fn step(&self, attempt: u64) -> Step {
        let index = usize::try_from(attempt - 1).unwrap_or(usize::MAX);
        self.script[index.min(self.script.len() - 1)]
    }
}

impl fmt::Debug for TaskPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.script.iter().map(|step| step.word()).collect();
        write!(f, "type {}: {}", self.task_type, words.join(", "))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct WorkerPlan {
    pub(crate) slots: usize,
    /// The point at which it kills itself, and at which passage. Then it is started again without.
    pub(crate) dies: Option<(&'static str, u32)>,
}

/// What happens while the workers work.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// A worker is killed, and started again.
    KillWorker(usize),
    /// A worker is asked to stop, and started again when it has.
    StopWorker(usize),
    /// The TaskManager is killed, and started again after so many milliseconds.
    KillServer(u64),
}

/// When the workers end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// By themselves, when nothing is left.
    Drained,
    /// By themselves, when they were idle for a while.
    Idle,
    /// When they are asked to, which is when all is done.
    Stopped,
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Limits of the types on how many tasks are in flight at once; 0 is none. There are as many types.
    pub(crate) types: Vec<usize>,
    /// Whether one process works many tasks.
    pub(crate) persistent: bool,
    pub(crate) tasks: Vec<TaskPlan>,
    pub(crate) workers: Vec<WorkerPlan>,
    pub(crate) until: Until,
    /// Whether a worker keeps its worker id when it is started again.
    pub(crate) named: bool,
    pub(crate) strategy: &'static str,
    /// The TaskManager's, in seconds.
    pub(crate) claim_timeout: u64,
    pub(crate) max_attempts: u64,
    /// Whether it answers as the published one.
    pub(crate) published: bool,
    /// The extensions of the API that it offers, as `serve --fault features` takes them.
    pub(crate) features: &'static str,
    /// Its faults, as `serve --fault` takes them.
    pub(crate) faults: Vec<String>,
    /// The point at which the TaskManager kills itself, and at which passage. Then it is started again without.
    pub(crate) server_dies: Option<(&'static str, u32)>,
    /// Pauses at the failpoints, as `FAILPOINTS` takes them.
    pub(crate) pauses: String,
    /// Each after so many milliseconds since the one before.
    pub(crate) events: Vec<(u64, Event)>,
}

/// Points between any two of which a worker may be killed, or another thread may come first.
const POINTS: [&str; 7] = ["answered", "claimed", "noted", "ran", "stored", "reported", "marked"];

/// Points of the TaskManager: before a change, between it and its commit, before the sync, and before the answer.
const SERVER_POINTS: [&str; 10] = [
    "claim:arrived",
    "claim:changed",
    "claim:synced",
    "complete:arrived",
    "complete:changed",
    "complete:synced",
    "renew:changed",
    "renew:synced",
    "entry",
    "committed",
];

/// Retryable failures of a type that do not open its circuit breaker, which takes five in a row and ten seconds to close.
const MOST_RETRYABLE: usize = 4;

impl Plan {
    /// The plan of a seed: small, so that there can be many.
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let rng = &mut random;
        let types: Vec<usize> = (0..rng.usize(1..=3)).map(|_| pick(rng, &[0, 0, 1, 2])).collect();
        let is_troubled = rng.u8(..100) < 30;
        let workers = (0..pick(rng, &[1, 1, 1, 2, 3]))
            .map(|_| WorkerPlan {
                slots: pick(rng, &[1, 2, 2, 3, 4, 8, 16]),
                dies: (rng.u8(..100) < 10).then(|| (pick(rng, &POINTS), rng.u32(1..6))),
            })
            .collect();
        let mut plan = Self {
            seed,
            tasks: tasks(rng, types.len()),
            types,
            persistent: rng.u8(..100) < 25,
            workers,
            until: pick(rng, &[Until::Drained, Until::Drained, Until::Idle, Until::Stopped]),
            named: rng.bool(),
            strategy: pick(rng, &["fifo", "lifo", "priority"]),
            claim_timeout: 300,
            max_attempts: pick(rng, &[3, 3, 3, 1, 2, 5]),
            published: rng.u8(..100) < 25,
            features: pick(rng, &["batch+renew", "batch+renew", "batch+renew", "batch", "renew", "none"]),
            faults: Vec::new(),
            server_dies: None,
            pauses: pauses(rng),
            events: Vec::new(),
        };
        if plan.until == Until::Idle {
            // A worker all of whose types are snoozed is idle, whatever waits.
            let steps = plan.tasks.iter_mut().flat_map(|task| &mut task.script);
            steps.filter(|step| **step == Snooze).for_each(|step| *step = Ok);
        }
        if is_troubled {
            plan.trouble(rng);
        }
        plan
    }

    /// Three workers that are killed at random, a TaskManager that offers one of `features`, is killed twice and a good
    /// part of whose answers is faulty, and tasks that all can be completed.
    pub(crate) fn chaos(seed: u64, tasks: usize, kills: usize, features: &[&'static str]) -> Self {
        let mut rng = Rng::with_seed(seed);
        let a_kill = u64::try_from(tasks / kills.max(1)).unwrap_or(1);
        let mut events = Vec::new();
        for kill in 1..=kills {
            events.push((rng.u64(2..30) * a_kill, Event::KillWorker(rng.usize(..3))));
            if kill == kills / 3 || kill == kills * 2 / 3 {
                events.push((0, Event::KillServer(0)));
            }
        }
        Self {
            seed,
            types: vec![0],
            persistent: false,
            tasks: (0..tasks).map(|_| TaskPlan { task_type: 0, script: vec![pick(&mut rng, &[Ok, Slow])] }).collect(),
            workers: (0..3).map(|_| WorkerPlan { slots: pick(&mut rng, &[2, 4]), dies: None }).collect(),
            until: Until::Stopped,
            named: true,
            strategy: "fifo",
            claim_timeout: 4,
            max_attempts: 1000,
            published: false,
            features: pick(&mut rng, features),
            faults: ["drop=5%", "reset=4%", "deadlock=4%", "html=2%"].map(str::to_owned).into(),
            server_dies: None,
            pauses: String::new(),
            events,
        }
    }

    /// Adds faults, short claims, kills and outages.
    fn trouble(&mut self, rng: &mut Rng) {
        self.claim_timeout = pick(rng, &[300, 300, 2, 4]);
        for kind in ["drop", "reset", "deadlock", "html", "ratelimit"] {
            if rng.u8(..100) < 30 {
                self.faults.push(format!("{kind}={}%", rng.u8(1..12)));
            }
        }
        for _ in 0..rng.usize(0..3) {
            let worker = rng.usize(..self.workers.len());
            let event = pick(rng, &[Event::KillWorker(worker), Event::StopWorker(worker), Event::KillServer(100)]);
            self.events.push((rng.u64(1..150), event));
        }
        if rng.u8(..100) < 30 {
            self.server_dies = Some((pick(rng, &SERVER_POINTS), rng.u32(1..6)));
        }
        if self.claim_timeout == 2 && self.renews() {
            for _ in 0..rng.usize(0..3) {
                let task = rng.usize(..self.tasks.len());
                self.tasks[task].script.insert(0, Long);
            }
        }
        // Of every so many claims one is carried out, and its answer lost.
        if rng.u8(..100) < 25 {
            self.faults.push(format!("claims={}", rng.u8(2..4)));
        }
        // Then short tasks are claimed ahead.
        if rng.u8(..100) < 10 {
            self.faults.push("latency=20ms".into());
        }
    }

    /// Whether claims are renewed.
    fn renews(&self) -> bool {
        !self.published && self.features.contains("renew")
    }

    /// Whether reports name their attempts, so that each counts for its own or for none.
    pub(crate) fn names_attempts(&self) -> bool {
        !self.published && self.features.contains("batch")
    }

    /// How long a handler may take, in seconds.
    pub(crate) fn timeout(&self) -> u64 {
        let is_long = self.tasks.iter().any(|task| task.script.contains(&Long));
        if is_long { 8 } else { (self.claim_timeout / 2).min(2) }
    }

    /// Whether calls may fail for no fault of the worker.
    pub(crate) fn has_outages(&self) -> bool {
        !self.faults.is_empty()
            || self.server_dies.is_some()
            || self.events.iter().any(|(_, event)| matches!(event, Event::KillServer(_)))
    }

    /// Whether a claim may expire, or be lost, before its report arrives.
    pub(crate) fn may_lose_claims(&self) -> bool {
        self.has_outages() || self.claim_timeout < 60 || self.has_kills()
    }

    /// Whether processes end before they are done.
    pub(crate) fn has_kills(&self) -> bool {
        self.workers.iter().any(|worker| worker.dies.is_some())
            || self.events.iter().any(|(_, event)| !matches!(event, Event::KillServer(_)))
    }

    /// Smaller plans, which may fail as this one does.
    pub(crate) fn smaller(&self) -> Vec<Self> {
        let mut plans = Vec::new();
        let mut add = |change: &dyn Fn(&mut Self)| {
            let mut plan = self.clone();
            change(&mut plan);
            plans.push(plan);
        };
        let half = self.tasks.len() / 2;
        if half > 0 {
            add(&|plan| plan.tasks.truncate(half));
            add(&|plan| {
                plan.tasks.drain(..half);
            });
        }
        for index in (0..self.events.len()).rev() {
            add(&|plan| plan.events.truncate(index));
        }
        for index in (0..self.workers.len()).filter(|_| self.workers.len() > 1 && self.events.is_empty()) {
            add(&|plan| {
                plan.workers.remove(index);
            });
        }
        if self.workers.iter().any(|worker| worker.dies.is_some()) {
            add(&|plan| plan.workers.iter_mut().for_each(|worker| worker.dies = None));
        }
        if self.server_dies.is_some() {
            add(&|plan| plan.server_dies = None);
        }
        for index in 0..self.faults.len() {
            add(&|plan| {
                plan.faults.remove(index);
            });
        }
        plans
    }
}

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

fn tasks(rng: &mut Rng, types: usize) -> Vec<TaskPlan> {
    let mut retryable = vec![0; types];
    // An attempt that times out holds its slot for seconds, so few plans have some.
    let slowest = if rng.u8(..100) < 10 { Timeout } else { Crash };
    let happiest = if rng.u8(..100) < 10 { Snooze } else { Ok };
    let mut task = |rng: &mut Rng| {
        let task_type = rng.usize(..types);
        let mut script: Vec<Step> = (0..rng.usize(0..4)).map(|_| failure(rng, slowest)).collect();
        if script.is_empty() || rng.bool() {
            script.push(pick(rng, &[Ok, Ok, happiest, Progress, Slow]));
        }
        for step in &mut script {
            if step.is_retryable() {
                retryable[task_type] += 1;
                if retryable[task_type] > MOST_RETRYABLE {
                    *step = Handler;
                }
            }
        }
        // The last word may be said many times.
        if let Some(last) = script.last_mut().filter(|last| last.is_retryable()) {
            *last = Handler;
        }
        TaskPlan { task_type, script }
    };
    (0..rng.usize(1..=24)).map(|_| task(rng)).collect()
}

fn failure(rng: &mut Rng, slowest: Step) -> Step {
    pick(rng, &[Handler, Handler, Handler, Envelope, Validation, Configuration, Connection, Temporary, Crash, slowest])
}

/// Pauses of some milliseconds at some of the points, now and then, so that threads meet in every order.
fn pauses(rng: &mut Rng) -> String {
    let mut pauses = String::new();
    for point in POINTS {
        if rng.u8(..100) < 40 {
            write!(pauses, "{point}={}%sleep({});", rng.u8(5..60), rng.u8(1..15))
                .expect("text takes all that is written");
        }
    }
    pauses
}
