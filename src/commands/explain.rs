//! `explain`: shows the history of a task, from the results file and the TaskManager.

mod events;

use std::time::Duration;

use serde_json::{Number, Value, json};

use super::live::WaitLine;
use super::results;
use super::setup::Setup;
use crate::cli::TaskIdArgs;
use crate::clock::{Clock, Timestamp};
use crate::exit::{Exit, UserError};
use crate::headline::in_one_line;
use crate::output::{print_json, print_line, printable, say};
use crate::store::{LiveWorker, ResultStatus, Store, StoreError, StoredResult};
use crate::task::{Claim, TaskId};
use crate::taskmanager::{Error, ResultReport, TaskView};
use events::HistoryEvent;

/// Time-out for the TaskManager, since most of the history is local.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum length of a result on a line.
const SHOWN: usize = 100;

/// Everything known about a task.
struct TaskHistory {
    id: TaskId,
    api_url: String,
    /// The TaskManager's view; `None` if the task does not exist there.
    server: Result<Option<TaskView>, Error>,
    /// Local attempts, oldest first.
    attempts: Vec<StoredResult>,
    /// The claim, if the task is in flight here.
    claim: Option<Claim>,
    /// How often a local worker crashed while running it.
    deaths: u32,
    /// Known reasons why it is not claimed.
    waits: Vec<String>,
    now: Timestamp,
}

/// `prismq explain`
pub(super) fn run(args: &TaskIdArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.end_on_signals()?;
    let history = TaskHistory::find(TaskId(args.id), setup)?;
    if history.is_blank() {
        return Err(history.unknown());
    }
    if setup.json {
        print_json(&history.to_json())?;
        return Ok(Exit::Done);
    }
    if let Err(error) = &history.server {
        say(format_args!("{error}; showing only what the results file has"));
    }
    history.print()?;
    Ok(Exit::Done)
}

impl TaskHistory {
    fn find(id: TaskId, setup: &Setup) -> anyhow::Result<Self> {
        let store = setup.store_to_read()?;
        let client = setup.single_try_client(TIMEOUT)?;
        let api_url = client.url().to_owned();
        let mut attempts = store.attempts(&api_url, id)?;
        for stored in &mut attempts {
            stored.result.outcome.stderr_tail = store.stderr_tail(stored.id)?;
        }
        let waiting = WaitLine::for_taskmanager(setup);
        let server = client.task(id);
        drop(waiting);
        let now = setup.clock().now();
        let waits = match &server {
            Ok(Some(task)) if task.status == "pending" => waits(&task.task_type, &api_url, &store, setup, now)?,
            _ => Vec::new(),
        };
        let (claim, deaths) = (store.claim(&api_url, id)?, store.crash_count(&api_url, id)?);
        Ok(Self { id, api_url, server, attempts, claim, deaths, waits, now })
    }

    fn is_blank(&self) -> bool {
        !matches!(self.server, Ok(Some(_))) && self.attempts.is_empty() && self.claim.is_none()
    }

    fn unknown(self) -> anyhow::Error {
        if let Err(error) = self.server {
            return error.into();
        }
        let message = format!("no task {} in the TaskManager or in the results file", self.id);
        UserError::new(Exit::Failed, message).hint(format!("TaskManager: {}", self.api_url)).into()
    }

    fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "api_url": self.api_url,
            "task": self.server.as_ref().ok(),
            "server_error": self.server.as_ref().err().map(ToString::to_string),
            "claim": self.claim,
            "attempts": self.attempts.iter().map(|stored| self.fields(stored)).collect::<Vec<_>>(),
            "deaths": self.deaths,
            "waits": self.waits,
        })
    }

    /// Converts a local attempt to JSON: the row of `results`, and further fields.
    fn fields(&self, stored: &StoredResult) -> Value {
        let StoredResult { result, .. } = stored;
        let stderr_tail = &result.outcome.stderr_tail;
        let mut fields = results::fields(stored);
        fields["of_another_task"] = json!(self.is_another(&result.task_type, &result.params));
        fields["not_run"] = json!(result.outcome.is_not_run());
        fields["last_words"] = json!((!stderr_tail.is_empty()).then_some(stderr_tail));
        let omitted = self.omitted(stored);
        if !omitted.is_empty() {
            fields["omitted"] = json!(omitted);
        }
        fields
    }

    /// Returns the parts that were omitted from a reported result because it was too long, as logged then.
    fn omitted(&self, stored: &StoredResult) -> Vec<String> {
        let StoredResult { result, status, reported_at, .. } = stored;
        if reported_at.is_none() || *status == ResultStatus::Lost {
            return Vec::new();
        }
        let shown = self.server.as_ref().ok().and_then(Option::as_ref);
        let shown = shown.filter(|task| task.attempts == result.attempt).and_then(|task| task.result.as_ref());
        ResultReport::from(result).omitted(shown)
    }

    /// Whether a local attempt was for a different task with the same id: a TaskManager that was set up again reuses ids. An
    /// empty object may have become an empty list on the server.
    fn is_another(&self, task_type: &str, params: &Value) -> bool {
        let Ok(Some(task)) = &self.server else { return false };
        !task.task_type.eq_ignore_ascii_case(task_type)
            || task.params.as_ref().is_some_and(|its| !are_same(its, params))
    }

    fn print(&self) -> anyhow::Result<()> {
        print_line(printable(&self.heading()))?;
        for HistoryEvent { time, text } in self.events() {
            print_line(printable(&format!("  {time:<24}  {text}")))?;
        }
        Ok(())
    }

    fn heading(&self) -> String {
        let last = self.attempts.last().map(|stored| &stored.result);
        let here = self.claim.as_ref().map(|claim| (&claim.task.task_type, &claim.task.params));
        let here = here.or(last.map(|result| (&result.task_type, &result.params)));
        match (&self.server, here) {
            (Ok(Some(task)), _) => {
                let params = task.params.as_ref().unwrap_or(&Value::Null);
                format!("task {}, {}: {}, params {}", self.id, task.task_type, task.status, short(params))
            }
            (_, Some((task_type, params))) => format!("task {}, {task_type}: params {}", self.id, short(params)),
            (_, None) => format!("task {}", self.id),
        }
    }
}

/// Returns why the workers with this results file do not claim tasks of a type.
fn waits(
    task_type: &str,
    api_url: &str,
    store: &Store,
    setup: &Setup,
    now: Timestamp,
) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    let configured = setup.config.task_types.iter().find(|it| it.name.eq_ignore_ascii_case(task_type));
    match configured.map(|it| &it.action) {
        None => {
            found.push(format!("{task_type} is not configured here: only `work --handle` would claim it"));
        }
        Some(None) => found.push(format!("{task_type} has no handler configured here")),
        Some(Some(_)) => {}
    }
    let workers = store.live_workers(api_url, task_type)?;
    if workers.is_empty() {
        found.push("no worker runs on this results file".to_owned());
    }
    for LiveWorker { worker_id, in_flight, unclaimed } in workers {
        for (until, reason) in unclaimed.iter().filter(|(until, _)| *until > now) {
            found.push(format!("{worker_id} does not claim {task_type} until {until:.0}: {}", in_one_line(reason)));
        }
        if unclaimed.is_empty() && in_flight > 0 {
            found.push(format!("{worker_id} has tasks in flight: {in_flight}; its next free slot claims another"));
        }
    }
    Ok(found)
}

/// Whether two params are equal, allowing for changes by servers: some write `1.0` as `1`, and `{}` as `[]`.
fn are_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let is_there = |(key, value)| other.get(key).is_some_and(|other| are_same(value, other));
            one.len() == other.len() && one.iter().all(is_there)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| are_same(one, other))
        }
        (Value::Object(object), Value::Array(array)) | (Value::Array(array), Value::Object(object)) => {
            object.is_empty() && array.is_empty()
        }
        // Whole numbers are compared exactly, since large ones may differ beyond a float's precision.
        (Value::Number(one), Value::Number(other)) => {
            one == other || (!(is_whole(one) && is_whole(other)) && one.as_f64() == other.as_f64())
        }
        _ => one == other,
    }
}

fn is_whole(number: &Number) -> bool {
    number.to_string().bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// Returns the start of a value.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn params_are_the_same_in_any_servers_notation() {
        let same = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| serde_json::from_str(text).unwrap());
            are_same(&one, &other) && are_same(&other, &one)
        };
        for (one, other, expected) in [
            (r#"{"a":1.0,"b":{}}"#, r#"{"b":[],"a":1}"#, true),
            ("[1e2]", "[100]", true),
            ("[9007199254740993]", "[9007199254740992]", false),
            (r#"{"a":1}"#, r#"{"a":"1"}"#, false),
            (r#"{"a":null}"#, "{}", false),
            ("[1]", "[1,2]", false),
            ("{}", "[0]", false),
        ] {
            assert_eq!(same(one, other), expected, "{one} {other}");
        }
    }
}
