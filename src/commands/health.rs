//! `health`: checks whether a worker with these settings could work.

mod findings;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::errors;
use super::live::WaitLine;
use super::setup::Setup;
use crate::cli::HealthArgs;
use crate::clock::{Clock, between};
use crate::config::{Action, TaskType, format_duration};
use crate::exit::Exit;
use crate::failure_rate::mostly_failing;
use crate::library::{Handlers, youtube_settings};
use crate::store::{By, Store, StoreError, Unreported};
use crate::taskmanager::{self, Client, Error};
use crate::worker::{HandlerSource, no_handler};
use crate::youtube::{self, KeyProblem};
use findings::Findings;

const LAST_HOUR: Duration = Duration::from_hours(1);

/// Maximum time to read the results file.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// `prismq health`
pub(super) fn run(args: &HealthArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.end_on_signals()?;
    let timeout = args.timeout.unwrap_or(Duration::from_secs(5));
    let client = setup.single_try_client(timeout)?;
    let waiting = WaitLine::for_taskmanager(setup);
    let mut health = HealthCheck { setup, findings: Findings::default() };
    let answers = health.taskmanager(&client);
    health.types_and_handlers(Some(&client).filter(|_| answers));
    let store = health.results();
    if let Some(store) = &store {
        health.attempts(store);
    }
    health.youtube(store.as_ref(), args.external.then_some(timeout));
    drop(waiting);
    health.findings.print(setup.json)?;
    Ok(if health.findings.is_healthy() { Exit::Done } else { Exit::Failed })
}

/// Runs the checks and collects their findings.
struct HealthCheck<'a> {
    setup: &'a Setup,
    findings: Findings,
}

impl HealthCheck<'_> {
    /// Checks that the TaskManager answers and accepts the key. False if not.
    fn taskmanager(&mut self, client: &Client) -> bool {
        let started = Instant::now();
        let health = client.health();
        let latency = started.elapsed().as_millis();
        self.findings.field("api_connectivity", json!(health.is_ok()));
        if let Err(error) = &health {
            self.refused("TaskManager", error);
            return false;
        }
        self.findings.field("api_latency_ms", json!(latency));
        self.findings.good("TaskManager", format!("answers at {} in {latency} ms", client.shown_url()));
        let accepted = client.check_key();
        self.findings.field("api_key_accepted", json!(accepted.is_ok()));
        match &accepted {
            Err(error) => self.refused("API key", error),
            Ok(()) if self.setup.config.api_key.is_none() => {
                self.findings.good("API key", "not set, not required");
            }
            Ok(()) => self.findings.good("API key", "accepted"),
        }
        accepted.is_ok()
    }

    fn refused(&mut self, what: &str, error: &Error) {
        self.findings.field("api_error", json!(error.to_string()));
        self.findings.bad(what, error.to_string(), self.advice(error));
    }

    fn advice(&self, error: &Error) -> Option<String> {
        errors::naming_key(errors::taskmanager(error), &self.setup.config).hint
    }

    /// Checks types and handlers. Without a `client`, since the TaskManager does not answer, types are not looked up.
    fn types_and_handlers(&mut self, client: Option<&Client>) {
        let (mut types, mut handlers) = (Map::new(), Map::new());
        for task_type in &self.setup.config.task_types {
            let name = &task_type.name;
            types.insert(name.clone(), self.task_type(name, client.map(|client| client.task_type(name))));
            match &task_type.action {
                Some(Action::BuiltIn(_)) => {}
                Some(_) => _ = handlers.insert(name.clone(), self.handler(task_type)),
                None => _ = handlers.insert(name.clone(), self.no_handler(name)),
            }
        }
        self.findings.field("task_types", Value::Object(types));
        self.findings.field("handlers", Value::Object(handlers));
    }

    fn task_type(&mut self, name: &str, found: Option<Result<Option<taskmanager::TaskTypeView>, Error>>) -> Value {
        let what = format!("type {name}");
        match found {
            Some(Ok(Some(found))) => {
                self.findings.good(what, format!("registered (id {})", found.id));
                json!(found.id)
            }
            Some(Ok(None)) => {
                let unknown = "unknown to the TaskManager";
                self.findings.bad(what, unknown, Some(format!("register it: prismq register-type {name}")));
                json!(unknown)
            }
            Some(Err(error)) => {
                self.findings.bad(what, error.to_string(), self.advice(&error));
                json!(error.to_string())
            }
            None => {
                self.findings.unknown(what, "not checked");
                json!("not checked")
            }
        }
    }

    /// Notes that a type has no handler. That is bad only if none has: a worker could not work.
    fn no_handler(&mut self, name: &str) -> Value {
        let what = format!("handler of {name}");
        if self.setup.config.task_types.iter().any(|it| it.action.is_some()) {
            self.findings.good(what, "none: not handled here");
        } else {
            self.findings.bad(what, "none", Some(no_handler(name)));
        }
        json!("none")
    }

    fn handler(&mut self, task_type: &TaskType) -> Value {
        let config = &self.setup.config;
        let what = format!("handler of {}", task_type.name);
        match Handlers::new(config, None).handler(task_type).and_then(|handler| handler.check()) {
            Ok(()) => {
                self.findings.good(what, "found");
                json!("found")
            }
            Err(error) => {
                let file = config.config.as_ref().map_or("prismq.toml".into(), |file| file.display().to_string());
                self.findings.bad(what, error.clone(), Some(format!("correct the type's `exec` or `dir` in {file}")));
                json!(error)
            }
        }
    }

    /// Checks the key and the quota of YouTube if a handler uses it. The key is sent to YouTube only if there is a
    /// `timeout`.
    fn youtube(&mut self, store: Option<&Arc<Store>>, timeout: Option<Duration>) {
        let setup = self.setup;
        if !setup.reads_youtube() {
            return;
        }
        let ledger = store.map(|store| Arc::new(setup.youtube_ledger(store)));
        let has_key = setup.config.youtube_api_key.is_some();
        let mut found = json!({"key_set": has_key});
        match timeout.filter(|_| has_key) {
            Some(timeout) => {
                let accepted = youtube::check_key(&youtube_settings(&setup.config, ledger.clone(), false), timeout);
                self.youtube_key(accepted, &mut found);
            }
            None if has_key => self.findings.good("YouTube key", "set; use --external to check it"),
            None => self.findings.bad("YouTube key", "not set", Some("set YOUTUBE_API_KEY".to_owned())),
        }
        match ledger.map(|ledger| ledger.budget()) {
            Some(Ok(budget)) => {
                let (left, limit, resets_at) = (budget.left(), budget.limit, budget.resets_at);
                self.findings.good("YouTube quota", format!("{left} of {limit} units left until {resets_at:.0}"));
                budget.add_to(&mut found);
            }
            Some(Err(error)) => {
                self.findings.bad("YouTube quota", error.clone(), None);
                found["quota_error"] = json!(error);
            }
            None => {}
        }
        self.findings.field("youtube_api", found);
    }

    fn youtube_key(&mut self, accepted: Result<(), KeyProblem>, found: &mut Value) {
        match accepted {
            Ok(()) => {
                found["key_accepted"] = json!(true);
                self.findings.good("YouTube key", "accepted");
            }
            Err(KeyProblem { message, is_refused }) => {
                // Otherwise YouTube could not be asked.
                if is_refused {
                    found["key_accepted"] = json!(false);
                }
                found["error"] = json!(message);
                self.findings.bad("YouTube key", message, is_refused.then(|| "check YOUTUBE_API_KEY".to_owned()));
            }
        }
    }

    /// Checks the results file, and returns it if it can be opened.
    fn results(&mut self) -> Option<Arc<Store>> {
        let opened = self.open().map(Arc::new);
        let counted = opened.as_ref().map_err(Clone::clone).and_then(|store| {
            store.rehearse(self.setup.clock().now())?;
            let is_whole = store.read_all(READ_TIMEOUT)?;
            Ok((store.unreported()?, is_whole))
        });
        self.findings.field("results_writable", json!(counted.is_ok()));
        match counted {
            Err(error) => self.unusable("results file", "results_error", &error),
            Ok((unreported, is_whole)) => {
                let waiting = self.unreported(&unreported);
                let path = &self.setup.config.results;
                let made = if path.exists() { "" } else { ", which the first worker creates" };
                let seen = if is_whole { "" } else { ", too large to be read in full" };
                self.findings.good("results file", format!("{}{made}{seen}{waiting}", path.display()));
                self.ideas();
            }
        }
        opened.ok()
    }

    /// Warns if most attempts fail.
    fn attempts(&mut self, store: &Store) {
        let hour_ago = self.setup.clock().now().checked_sub(LAST_HOUR).ok();
        // If they cannot be read, an earlier check has found out why.
        let Ok(groups) = store.statistics(By::Type, hour_ago) else { return };
        let (completed, failed) = groups.iter().fold((0, 0), |sum, it| (sum.0 + it.completed, sum.1 + it.failed));
        if let Some(words) = mostly_failing("attempts", completed, failed) {
            self.findings.field("warning", json!(words));
            self.findings.warning("attempts", words, Some("see `prismq results --failed --since 1h`".to_owned()));
        }
    }

    /// Adds the fields about unreported results, and describes these.
    fn unreported(&mut self, unreported: &Unreported) -> String {
        let Unreported { count, oldest, refused, last_refused } = unreported;
        let age = oldest.map(|oldest| between(oldest, self.setup.clock().now()).as_secs());
        self.findings.field("unreported", json!(count));
        self.findings.field("oldest_unreported_seconds", json!(age));
        let mut waiting = age.filter(|_| *count > 0).map_or_else(String::new, |age| {
            let age = format_duration(Duration::from_secs(age));
            format!("; pending reports: {count}, the oldest {age} old")
        });
        if let Some((id, why)) = last_refused {
            self.findings.field("refused", json!(refused));
            waiting = format!("{waiting}; {refused} refused by the TaskManager, last task {id}: {why}");
        }
        waiting
    }

    /// Opens the results file; a missing one counts as empty.
    fn open(&self) -> Result<Store, StoreError> {
        let results = &self.setup.config.results;
        if results.try_exists().unwrap_or(true) { Store::open(results) } else { Store::unmade(results) }
    }

    fn unusable(&mut self, what: &str, field: &'static str, error: &StoreError) {
        self.findings.field(field, json!(error.to_string()));
        self.findings.bad(what, error.to_string(), errors::store(error).hint);
    }

    /// Checks that ideas can be stored, if there are any already.
    fn ideas(&mut self) {
        let config = &self.setup.config;
        let store = self.open().and_then(|store| store.with_ideas_in(&config.ideas));
        let held = store.and_then(|store| store.holds_ideas());
        if held == Ok(false) {
            return;
        }
        self.findings.field("ideas_writable", json!(held.is_ok()));
        match held {
            Err(error) => self.unusable("ideas", "ideas_error", &error),
            Ok(_) => self.findings.good("ideas", config.ideas.display().to_string()),
        }
    }
}
