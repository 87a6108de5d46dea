//! `explain`: the story of one task, from the results file and from the TaskManager.

use std::convert::Infallible;
use std::time::Duration;

use serde_json::{Value, json};

use super::live::Waiting;
use super::results;
use super::setup::Setup;
use crate::cli::ExplainArgs;
use crate::clock::Timestamp;
use crate::exit::{Exit, UserError};
use crate::output::{print_json, print_line, printable, say};
use crate::store::{ResultFilter, Status, Store, StoreError, StoredResult};
use crate::task::{Claim, TaskId};
use crate::taskmanager::{Error, TaskView};

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
        say(format_args!("{error}; what follows is from the results file alone"));
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
        let store = setup.store()?;
        let client = setup.impatient_client(PATIENCE)?;
        let api_url = client.url().to_owned();
        let mut attempts = attempts(&store, &api_url, id)?;
        for stored in &mut attempts {
            stored.result.outcome.last_words = store.last_words(stored.id)?;
        }
        let waiting = Waiting::for_taskmanager(setup);
        let server = client.task(id);
        drop(waiting);
        Ok(Self {
            id,
            server,
            attempts,
            claim: store.claim(&api_url, id)?,
            deaths: store.deaths(&api_url, id)?,
            api_url,
        })
    }

    fn is_blank(&self) -> bool {
        !matches!(self.server, Ok(Some(_))) && self.attempts.is_empty() && self.claim.is_none()
    }

    fn unknown(self) -> anyhow::Error {
        if let Err(error) = self.server {
            return error.into();
        }
        let message = format!("neither the TaskManager nor the results file knows a task {}", self.id);
        UserError::new(Exit::Failed, message).hint(format!("asked was {}", self.api_url)).into()
    }

    fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "api_url": self.api_url,
            "task": self.server.as_ref().ok(),
            "server_error": self.server.as_ref().err().map(ToString::to_string),
            "claim": self.claim,
            "attempts": self.attempts.iter().map(fields).collect::<Vec<_>>(),
            "deaths": self.deaths,
        })
    }

    fn print(&self) -> anyhow::Result<()> {
        print_line(printable(&self.heading()))?;
        for (time, words) in self.events() {
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

    /// What happened, in the order in which it did, each with its time where it has one.
    fn events(&self) -> Vec<(String, String)> {
        let task = self.server.as_ref().ok().and_then(Option::as_ref);
        let mut events = Vec::new();
        if let Some(task) = task {
            events.push((task.created_at.clone().unwrap_or_default(), format!("created, priority {}", task.priority)));
        }
        self.attempts.iter().for_each(|stored| tell(stored, &mut events));
        if let Some(Claim { task, worker_id, claimed_at, deadline }) = &self.claim {
            let words = format!("claimed by {worker_id}, attempt {}: in flight, until {deadline:.0}", task.attempt);
            events.push((moment(*claimed_at), words));
        }
        if self.deaths > 0 {
            let words = format!("a worker here died while it ran this task, {}", times(self.deaths));
            events.push((String::new(), words));
        }
        match (task, &self.server) {
            (Some(task), _) => self.tell_of_server(task, &mut events),
            (None, Ok(_)) => events.push((String::new(), "the TaskManager knows this task no more".to_owned())),
            (None, Err(_)) => {}
        }
        events
    }

    /// Where the task is by the TaskManager's account, and what of it is not known here.
    fn tell_of_server(&self, task: &TaskView, events: &mut Vec<(String, String)>) {
        let is_here = |attempt: &u32| {
            self.attempts.iter().any(|stored| stored.result.attempt == *attempt)
                || self.claim.as_ref().is_some_and(|claim| claim.task.attempt == *attempt)
        };
        let elsewhere: Vec<String> = (1..=task.attempts).filter(|it| !is_here(it)).map(|it| it.to_string()).collect();
        if !elsewhere.is_empty() {
            let words = format!("attempt {}: not in this results file, worked elsewhere", elsewhere.join(", "));
            events.push((String::new(), words));
        }
        let time = match task.status.as_str() {
            "claimed" => &task.claimed_at,
            "completed" | "failed" => &task.completed_at,
            _ => &None,
        };
        let worker = task.claimed_by.as_ref().filter(|_| task.status == "claimed");
        let worker = worker.map_or_else(String::new, |worker| format!(", now to {worker}"));
        let error = task.error_message.as_ref().filter(|_| task.status != "completed");
        let error = error.map_or_else(String::new, |error| format!("; its last failure: {error}"));
        let words = format!("{} at the TaskManager, handed out {}{worker}{error}", task.status, times(task.attempts));
        events.push((time.clone().unwrap_or_default(), words));
    }
}

/// An attempt that ended here as JSON: the row of `results`, whether it was not run, and what the handler printed last.
fn fields(stored: &StoredResult) -> Value {
    let last_words = &stored.result.outcome.last_words;
    let mut fields = results::fields(stored);
    fields["not_run"] = json!(stored.result.outcome.is_not_run());
    fields["last_words"] = json!((!last_words.is_empty()).then_some(last_words));
    fields
}

/// Tells of an attempt that ended here: its claim, its end with what was printed last, its report.
fn tell(stored: &StoredResult, events: &mut Vec<(String, String)>) {
    let StoredResult { result, status, reported_at, .. } = stored;
    let (worker_id, attempt) = (&result.worker_id, result.attempt);
    events.push((moment(result.claimed_at), format!("claimed by {worker_id}, attempt {attempt}")));
    let ms = result.duration_ms();
    let ended = match &result.outcome.failure {
        None => format!("completed after {ms} ms: {}", short(&result.outcome.data)),
        Some(failure) if result.outcome.is_not_run() => {
            format!("not run again, failed as before ({}): {}", failure.error_type.as_str(), failure.error)
        }
        Some(failure) => {
            let again = if failure.retryable { "may be tried again" } else { "not to be tried again" };
            format!("failed after {ms} ms ({}, {again}): {}", failure.error_type.as_str(), failure.error)
        }
    };
    events.push((moment(result.finished_at), ended));
    if !result.outcome.last_words.is_empty() {
        events.push((String::new(), "the handler's last words:".to_owned()));
        events.extend(result.outcome.last_words.lines().map(|line| (String::new(), format!("    {line}"))));
    }
    events.push(match (reported_at, status) {
        (None, _) => (String::new(), "not reported yet: the next worker does that".to_owned()),
        (Some(at), Status::Lost) => (moment(*at), "the claim was lost: the result is kept here only".to_owned()),
        (Some(at), _) => (moment(*at), "reported".to_owned()),
    });
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn moment(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// The beginning of a value.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
