//! `health`: whether a worker with these settings could work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::quota;
use super::setup::{Setup, end_on_signals};
use crate::cli::HealthArgs;
use crate::clock::{Clock, between};
use crate::config::{Action, Config};
use crate::exit::Exit;
use crate::handler::youtube::{self, Ledger};
use crate::output::{print_json, print_line};
use crate::store::Store;
use crate::taskmanager::{self, Client, Error};
use crate::worker::{handler, youtube_settings};

/// `prismq health`
pub(super) fn run(args: &HealthArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    end_on_signals()?;
    let timeout = args.timeout.unwrap_or(Duration::from_secs(5));
    let client = setup.impatient_client(timeout)?;
    let mut report = Report { checks: Vec::new(), healthy: true };
    let answers = report.taskmanager(&client);
    report.types_and_handlers(setup, Some(&client).filter(|_| answers));
    let store = report.results(setup);
    report.youtube(setup, store.as_ref(), args.external.then_some(timeout));
    report.print(setup.json)?;
    Ok(if report.healthy { Exit::Done } else { Exit::Failed })
}

/// What was found, in the order of finding.
struct Report {
    checks: Vec<(&'static str, Value)>,
    healthy: bool,
}

impl Report {
    fn add(&mut self, name: &'static str, value: Value) {
        self.checks.push((name, value));
    }

    /// Whether it answers and takes the key.
    fn taskmanager(&mut self, client: &Client) -> bool {
        let started = Instant::now();
        let health = client.health();
        let latency = started.elapsed();
        self.healthy &= health.is_ok();
        self.add("api_connectivity", json!(health.is_ok()));
        if let Err(error) = &health {
            self.add("api_error", json!(error.to_string()));
            return false;
        }
        self.add("api_latency_ms", json!(latency.as_millis()));
        let accepted = client.check_key();
        self.healthy &= accepted.is_ok();
        self.add("api_key_accepted", json!(accepted.is_ok()));
        if let Err(error) = &accepted {
            self.add("api_error", json!(error.to_string()));
        }
        accepted.is_ok()
    }

    /// Asks for the types where the TaskManager answers. Otherwise each would be waited for in vain.
    fn types_and_handlers(&mut self, setup: &Setup, client: Option<&Client>) {
        let (mut types, mut handlers) = (serde_json::Map::new(), serde_json::Map::new());
        for task_type in &setup.config.task_types {
            let name = &task_type.name;
            let found = client.map(|client| client.task_type(name));
            self.healthy &= matches!(found, Some(Ok(Some(_))));
            types.insert(name.clone(), id_of(found));
            if task_type.action.as_ref().is_some_and(|action| !matches!(action, Action::BuiltIn(_))) {
                let checked = handler(task_type, &setup.config, None).and_then(|handler| handler.check());
                self.healthy &= checked.is_ok();
                handlers.insert(name.clone(), checked.map_or_else(|error| json!(error), |()| json!("found")));
            }
        }
        self.add("task_types", Value::Object(types));
        self.add("handlers", Value::Object(handlers));
    }

    /// Whether there is a key for the handlers that read YouTube, where there are any; whether it is accepted, which is
    /// asked for no longer than `timeout`; and what the day has left.
    fn youtube(&mut self, setup: &Setup, store: Option<&Arc<Store>>, timeout: Option<Duration>) {
        if !quota::is_needed(setup) {
            return;
        }
        let ledger = store.map(|store| -> Arc<dyn Ledger> { Arc::new(quota::ledger(store, setup)) });
        let has_key = setup.config.youtube_api_key.is_some();
        self.healthy &= has_key;
        let mut found = json!({"key_set": has_key});
        if let Some(timeout) = timeout.filter(|_| has_key) {
            let accepted = youtube::check_key(&youtube_settings(&setup.config, ledger.clone(), false), timeout);
            self.healthy &= accepted.is_ok();
            found["key_accepted"] = json!(accepted.is_ok());
            if let Err(error) = accepted {
                found["error"] = json!(error);
            }
        }
        match ledger.map(|ledger| ledger.budget()) {
            Some(Ok(budget)) => quota::add_to(&mut found, &budget),
            Some(Err(error)) => {
                self.healthy = false;
                found["quota_error"] = json!(error);
            }
            None => {}
        }
        self.add("youtube_api", found);
    }

    /// The results file, where it can be opened.
    fn results(&mut self, setup: &Setup) -> Option<Arc<Store>> {
        let now = setup.clock().now();
        let opened = Store::open(&setup.config.results).map(Arc::new);
        let counted = opened.as_ref().map_err(Clone::clone).and_then(|store| {
            store.check_writable()?;
            store.count_unreported()
        });
        self.healthy &= counted.is_ok();
        self.add("results_writable", json!(counted.is_ok()));
        match counted {
            Err(error) => self.add("results_error", json!(error.to_string())),
            Ok((unreported, oldest)) => {
                self.add("unreported", json!(unreported));
                let age = oldest.map(|oldest| between(oldest, now).as_secs());
                self.add("oldest_unreported_seconds", json!(age));
                self.ideas(&setup.config);
            }
        }
        opened.ok()
    }

    /// Whether ideas can be kept, where there is a place for them already.
    fn ideas(&mut self, config: &Config) {
        let store = Store::open(&config.results).and_then(|store| store.with_ideas_in(&config.ideas));
        let held = store.and_then(|store| store.holds_ideas());
        if held == Ok(false) {
            return;
        }
        self.healthy &= held.is_ok();
        self.add("ideas_writable", json!(held.is_ok()));
        if let Err(error) = held {
            self.add("ideas_error", json!(error.to_string()));
        }
    }

    fn print(&self, as_json: bool) -> anyhow::Result<()> {
        if as_json {
            let mut object = json!({"healthy": self.healthy});
            for (name, value) in &self.checks {
                object[*name] = value.clone();
            }
            return Ok(print_json(&object)?);
        }
        print_line(if self.healthy { "healthy" } else { "not healthy" })?;
        for (name, value) in &self.checks {
            match value {
                Value::Object(entries) => {
                    for (key, value) in entries {
                        print_line(format_args!("  {name} {key}: {}", plain(value)))?;
                    }
                }
                value => print_line(format_args!("  {name}: {}", plain(value)))?,
            }
        }
        Ok(())
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        other => other.to_string(),
    }
}

fn id_of(found: Option<Result<Option<taskmanager::TaskType>, Error>>) -> Value {
    match found {
        Some(Ok(Some(found))) => json!(found.id),
        Some(Ok(None)) => json!("unknown to the TaskManager"),
        Some(Err(error)) => json!(error.to_string()),
        None => json!("not asked for"),
    }
}
