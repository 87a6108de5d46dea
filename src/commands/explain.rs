//! `explain`: the story of one task, from the results file and from the TaskManager.

mod events;

use std::convert::Infallible;
use std::time::Duration;

use serde_json::{Number, Value, json};

use super::live::Waiting;
use super::results;
use super::setup::Setup;
use crate::cli::ExplainArgs;
use crate::clock::{Clock, Timestamp};
use crate::exit::{Exit, UserError};
use crate::headline::in_one_line;
use crate::output::{print_json, print_line, printable, say};
use crate::store::{LiveWorker, ResultFilter, Status, Store, StoreError, StoredResult};
use crate::task::{Claim, TaskId};
use crate::taskmanager::{Error, Report, TaskView};
use events::Told;

/// How long the TaskManager is waited for: most of the story is here.
const PATIENCE: Duration = Duration::from_secs(5);

/// So much of a result fits on a line.
const SHOWN: usize = 100;

/// What is known of a task.
struct Story {
    id: TaskId,
    api_url: String,
    /// What the TaskManager says of it; `None` where it does not know it.
    server: Result<Option<TaskView>, Error>,
    /// What became of it here, oldest first.
    attempts: Vec<StoredResult>,
    /// Its claim, where it is in flight here.
    claim: Option<Claim>,
    /// How often a worker here died over it.
    deaths: u32,
    /// Why it waits, where it does, as far as that is known here.
    waits: Vec<String>,
    now: Timestamp,
}

/// `prismq explain`
pub(super) fn run(args: &ExplainArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.end_on_signals()?;
    let story = Story::find(TaskId(args.id), setup)?;
    if story.is_blank() {
        return Err(story.unknown());
    }
    if setup.json {
        print_json(&story.to_json())?;
        return Ok(Exit::Done);
    }
    if let Err(error) = &story.server {
        say(format_args!("{error}; showing only what the results file has"));
    }
    story.print()?;
    Ok(Exit::Done)
}

/// What became of a task of the TaskManager at `api_url` here, oldest first.
pub(super) fn attempts(store: &Store, api_url: &str, id: TaskId) -> Result<Vec<StoredResult>, StoreError> {
    let mut found = Vec::new();
    let of_task = ResultFilter { task_id: Some(id), ..ResultFilter::default() };
    let Ok(()) = store.for_each_result(&of_task, |stored| {
        // Another TaskManager's task of the same number is another task.
        if stored.result.api_url == api_url {
            found.push(stored);
        }
        Ok::<(), Infallible>(())
    })?;
    Ok(found)
}

impl Story {
    fn find(id: TaskId, setup: &Setup) -> anyhow::Result<Self> {
        let store = setup.store_to_read()?;
        let client = setup.impatient_client(PATIENCE)?;
        let api_url = client.url().to_owned();
        let mut attempts = attempts(&store, &api_url, id)?;
        for stored in &mut attempts {
            stored.result.outcome.last_words = store.last_words(stored.id)?;
        }
        let waiting = Waiting::for_taskmanager(setup);
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
        let message = format!("neither the TaskManager nor the results file knows a task {}", self.id);
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

    /// An attempt that ended here as JSON: the row of `results`, and what is only known of it here.
    fn fields(&self, stored: &StoredResult) -> Value {
        let StoredResult { result, .. } = stored;
        let last_words = &result.outcome.last_words;
        let mut fields = results::fields(stored);
        fields["of_another_task"] = json!(self.is_another(&result.task_type, &result.params));
        fields["not_run"] = json!(result.outcome.is_not_run());
        fields["last_words"] = json!((!last_words.is_empty()).then_some(last_words));
        let omitted = self.omitted(stored);
        if !omitted.is_empty() {
            fields["omitted"] = json!(omitted);
        }
        fields
    }

    /// What the TaskManager has not got of a result that was reported, since it was too long: as the log has said it.
    fn omitted(&self, stored: &StoredResult) -> Vec<String> {
        let StoredResult { result, status, reported_at, .. } = stored;
        if reported_at.is_none() || *status == Status::Lost {
            return Vec::new();
        }
        let shown = self.server.as_ref().ok().and_then(Option::as_ref);
        let shown = shown.filter(|task| task.attempts == result.attempt).and_then(|task| task.result.as_ref());
        Report::from(result).omitted(shown)
    }

    /// Whether what was worked here with this type and these params is not the TaskManager's task: one that was set up
    /// anew gives the same numbers again. An empty object may have become an empty list on the way.
    fn is_another(&self, task_type: &str, params: &Value) -> bool {
        let Ok(Some(task)) = &self.server else { return false };
        !task.task_type.eq_ignore_ascii_case(task_type)
            || task.params.as_ref().is_some_and(|its| !are_same(its, params))
    }

    fn print(&self) -> anyhow::Result<()> {
        print_line(printable(&self.heading()))?;
        for Told { time, words } in self.events() {
            print_line(printable(&format!("  {time:<24}  {words}")))?;
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

/// Why tasks of a type are not claimed by the workers on this results file.
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
            found.push(format!("{worker_id} has {in_flight} in flight; a free slot claims the next"));
        }
    }
    Ok(found)
}

/// Whether two params are the same, as far as servers tell them apart: some write `1.0` as `1`, and `{}` as `[]`.
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
        // To the digit where they are whole: two that differ only beyond a float's precision are two.
        (Value::Number(one), Value::Number(other)) => {
            one == other || (!(is_whole(one) && is_whole(other)) && one.as_f64() == other.as_f64())
        }
        _ => one == other,
    }
}

fn is_whole(number: &Number) -> bool {
    number.to_string().bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// The beginning of a value.
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
    fn params_are_the_same_however_a_server_writes_them() {
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
