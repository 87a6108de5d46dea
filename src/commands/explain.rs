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
use crate::taskmanager::{Error, Report, TaskView, in_words};

/// How long the TaskManager is waited for: most of the story is here.
const PATIENCE: Duration = Duration::from_secs(5);

/// So much of a result fits on a line.
const SHOWN: usize = 100;

/// What comes before the words on another task.
const OF_ANOTHER: &str = "of another task with this number: ";

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
            "attempts": self.attempts.iter().map(|stored| self.fields(stored)).collect::<Vec<_>>(),
            "deaths": self.deaths,
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

    /// What the TaskManager has not got of a result that was reported, since it was too long: as it shows itself, else as
    /// it was sent first.
    fn omitted(&self, stored: &StoredResult) -> Vec<String> {
        let StoredResult { result, status, reported_at, .. } = stored;
        if reported_at.is_none() || *status == Status::Lost {
            return Vec::new();
        }
        let shown = self.server.as_ref().ok().and_then(Option::as_ref);
        let shown = shown.filter(|task| task.attempts == result.attempt).and_then(|task| task.result.as_ref());
        let names = |key| shown.and_then(|shown| shown[key].as_array()).into_iter().flatten().filter_map(Value::as_str);
        let data = names("data_omitted").map(str::to_owned);
        let shown: Vec<String> = data.chain(names("metadata_omitted").map(|name| format!("metadata.{name}"))).collect();
        if shown.is_empty() { Report::from(result).omitted() } else { shown }
    }

    /// Whether what was worked here with this type and these params is not the TaskManager's task: one that was set up
    /// anew gives the same numbers again. An empty object may have become an empty list on the way.
    fn is_another(&self, task_type: &str, params: &Value) -> bool {
        let Ok(Some(task)) = &self.server else { return false };
        let text = |params: &Value| params.to_string().replace("[]", "{}");
        !task.task_type.eq_ignore_ascii_case(task_type)
            || task.params.as_ref().is_some_and(|its| text(its) != text(params))
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
        let (others, own): (Vec<_>, Vec<_>) =
            self.attempts.iter().partition(|it| self.is_another(&it.result.task_type, &it.result.params));
        let mut events = Vec::new();
        for stored in others {
            self.tell(stored, &mut events);
        }
        for (_, words) in &mut events {
            words.insert_str(0, OF_ANOTHER);
        }
        if let Some(task) = task {
            let clock = whose_clock(task.created_at.as_deref());
            let words = format!("created at the TaskManager{clock}, priority {}", task.priority);
            events.push((task.created_at.clone().unwrap_or_default(), words));
        }
        for stored in own {
            self.tell(stored, &mut events);
        }
        if let Some(Claim { task, worker_id, claimed_at, deadline }) = &self.claim {
            let whose = if self.is_another(&task.task_type, &task.params) { OF_ANOTHER } else { "" };
            let attempt = task.attempt;
            let words =
                format!("{whose}claimed by {worker_id}, attempt {attempt}: in flight, until {:.0}", deadline.time);
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

    /// Tells of an attempt that ended here: its claim, its end with what was printed last, its report.
    fn tell(&self, stored: &StoredResult, events: &mut Vec<(String, String)>) {
        let StoredResult { result, status, reported_at, report_error, .. } = stored;
        let (worker_id, attempt) = (&result.worker_id, result.attempt);
        events.push((moment(result.claimed_at), format!("claimed by {worker_id}, attempt {attempt}")));
        let ms = result.duration_ms();
        let ended = match &result.outcome.failure {
            None => format!("completed after {ms} ms: {}", short(&result.outcome.data)),
            Some(failure) if failure.error_type.as_str() == "worker" && result.outcome.is_not_run() => {
                format!("given back: {}", failure.error)
            }
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
            (None, _) => {
                let words = match report_error {
                    None => "not reported yet: the next worker does that".to_owned(),
                    Some(why) => format!("not reported yet: {why}; a worker on this results file sends it again"),
                };
                (String::new(), words)
            }
            (Some(at), Status::Lost) => (moment(*at), "the claim was lost: the result is kept here only".to_owned()),
            (Some(at), _) => (moment(*at), "reported".to_owned()),
        });
        let omitted = self.omitted(stored);
        if !omitted.is_empty() {
            let words =
                format!("it was too long: the TaskManager has it without {}, which is kept here", in_words(&omitted));
            events.push((String::new(), words));
        }
    }

    /// Where the task is by the TaskManager's account, and what of it is not known here.
    fn tell_of_server(&self, task: &TaskView, events: &mut Vec<(String, String)>) {
        let ended = self.attempts.iter().map(|it| (it.result.attempt, &it.result.task_type, &it.result.params));
        let in_flight = self.claim.iter().map(|it| (it.task.attempt, &it.task.task_type, &it.task.params));
        let is_own = |it: &(u32, &String, &Value)| !self.is_another(it.1, it.2);
        let here: Vec<u32> = ended.chain(in_flight).filter(is_own).map(|it| it.0).collect();
        let elsewhere: Vec<String> =
            (1..=task.attempts).filter(|it| !here.contains(it)).map(|it| it.to_string()).collect();
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
        let clock = whose_clock(time.as_deref());
        let words =
            format!("{} at the TaskManager{clock}, handed out {}{worker}{error}", task.status, times(task.attempts));
        events.push((time.clone().unwrap_or_default(), words));
    }
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// Marks a time that the TaskManager sends without a zone: it must not be compared with those of this machine.
fn whose_clock(time: Option<&str>) -> &'static str {
    let is_bare = time.is_some_and(|time| time.parse::<Timestamp>().is_err());
    if is_bare { " (by its own clock)" } else { "" }
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
