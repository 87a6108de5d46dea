//! The published TaskManager, as `serve --fault published` imitates it, or one with extensions, behind a server that makes
//! single calls fail.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use prismq::internals::server::{Server, Settings};
use rusqlite::{Connection, Params};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Answer, Refusal, Request, Sandbox, ScriptedServer, exchange, sandbox};

/// The key that it accepts.
pub(crate) const KEY: &str = "a-key-of-the-tests";

/// A task as it shows it.
#[derive(Debug, Deserialize)]
pub(crate) struct Task {
    pub(crate) status: String,
    pub(crate) result: Value,
    pub(crate) error_message: Value,
    pub(crate) progress: i64,
    pub(crate) attempts: u64,
}

/// A fault of a call.
#[derive(Clone)]
pub(crate) enum Fault {
    /// No fault: it is processed and answered.
    Nothing,
    /// It gets this answer without being processed.
    Answer(Answer),
    /// It is processed, and its answer is lost.
    AnswerLost,
    /// It is processed, and its connection is reset.
    AnswerReset,
    /// It is processed, and its answer ends in the middle.
    AnswerCut,
    /// It is processed, and gets this answer instead.
    AnsweredBy(Answer),
    /// It is processed, and not answered until [`PublishedServer::answer_late`].
    AnsweredLate,
    /// It gets this answer at once, and is processed by [`PublishedServer::do_late`].
    DoneLate(Answer),
    /// Another worker claims its task before it arrives.
    Stolen,
}

#[derive(Default)]
struct State {
    /// The next faults, by the beginning of the call.
    faults: Vec<(String, Fault)>,
    /// Beginning of the calls that are held.
    held: Option<String>,
    /// Whether one of the held calls may continue.
    released: bool,
    /// Number of calls that are being held.
    waiting: usize,
    /// Maximum number of calls on a connection, and the answer to further calls on it.
    connection_limit: Option<(usize, Answer)>,
    /// Faults that the calls get in turn, and the number of calls so far.
    in_turn: (Vec<Fault>, usize),
    /// Number of calls that are processed and not answered yet.
    done: usize,
    /// Calls to process after their answer.
    late: Vec<Request>,
    /// Tasks whose calls are refused.
    refusals: Vec<Refusal>,
}

/// A TaskManager, and the server in front of it.
pub(crate) struct PublishedServer {
    pub(crate) server: ScriptedServer,
    shared: Arc<Shared>,
}

struct Shared {
    taskmanager: Server,
    settings: Settings,
    state: Mutex<State>,
    /// Notified when a call that waits may continue.
    changed: Condvar,
    _folder: TempDir,
}

impl PublishedServer {
    /// Starts the published one with these types.
    pub(crate) fn start(types: &[&str]) -> Self {
        Self::with(types, |settings| settings.faults.published = true)
    }

    /// Starts one with these types and other settings. Without any, it offers all extensions.
    pub(crate) fn with(types: &[&str], change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(([127, 0, 0, 1], 0).into(), folder.path().join("tasks.db"));
        settings.api_key = Some(KEY.to_owned());
        change(&mut settings);
        let taskmanager = Server::start(&settings).unwrap();
        let shared =
            Shared { taskmanager, settings, state: Mutex::default(), changed: Condvar::new(), _folder: folder };
        for name in types {
            let body = json!({"name": name, "version": "1.0.0", "param_schema": {"type": "object"}}).to_string();
            assert_eq!(shared.call("POST", "/task-types/register", Some(KEY), &body).status, 200);
        }
        let shared = Arc::new(shared);
        let script = Arc::clone(&shared);
        Self { server: ScriptedServer::start(move |request| script.serve(request)), shared }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// Returns a sandbox whose workers have the key, with a `prismq.toml` with these types.
    pub(crate) fn sandbox(&self, types: &str) -> Sandbox {
        let sandbox = sandbox(&self.url()).env("TASKMANAGER_API_KEY", KEY);
        sandbox.write("prismq.toml", types);
        sandbox
    }

    /// Creates a task, even if there is one with the same params; returns its id.
    #[allow(clippy::needless_pass_by_value, reason = "calls read better with json!(…) as it is")]
    pub(crate) fn create(&self, task_type: &str, params: Value) -> u64 {
        self.create_handed_out(task_type, params, 0)
    }

    /// The same for a task that was claimed that often before, by workers that died.
    #[allow(clippy::needless_pass_by_value, reason = "calls read better with json!(…) as it is")]
    pub(crate) fn create_handed_out(&self, task_type: &str, params: Value, attempts: u64) -> u64 {
        let sql = "INSERT INTO tasks (type_id, params, priority, attempts, dedupe_key, created_at) \
                   SELECT id, ?2, 0, ?3, hex(randomblob(32)), ?4 FROM task_types WHERE name = ?1";
        let now = Timestamp::now().as_microsecond();
        let database = self.shared.database();
        assert_eq!(database.execute(sql, (task_type, params.to_string(), attempts, now)).unwrap(), 1);
        database.last_insert_rowid().unsigned_abs()
    }

    pub(crate) fn task(&self, id: u64) -> Task {
        let answer = self.shared.call("GET", &format!("/tasks/{id}"), Some(KEY), "");
        let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
        let data =
            if self.shared.settings.faults.published { &mut body["data"]["items"][0] } else { &mut body["data"] };
        serde_json::from_value(data.take()).unwrap()
    }

    /// Refuses calls about a task from now on.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.shared.lock().refusals.push(refusal);
    }

    /// Injects a fault into the next call that begins with `call`, such as `POST /tasks/1/complete`.
    pub(crate) fn inject(&self, call: &str, fault: Fault) {
        self.shared.lock().faults.push((call.into(), fault));
    }

    /// Lets the claim on a task expire.
    pub(crate) fn expire(&self, id: u64) {
        self.shared.change("UPDATE tasks SET status = 'pending' WHERE id = ?1", [id]);
    }

    /// Limits the number of calls on a connection. Further calls on it get this answer without being processed.
    pub(crate) fn limit_connections(&self, uses: usize, answer: Answer) {
        self.shared.lock().connection_limit = Some((uses, answer));
    }

    /// Injects these faults into the following calls in turn, again and again.
    pub(crate) fn inject_in_turn(&self, faults: Vec<Fault>) {
        self.shared.lock().in_turn = (faults, 0);
    }

    /// Removes the faults from [`PublishedServer::inject`] that no call has met yet.
    pub(crate) fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Answers no call that begins with `call` until [`PublishedServer::release`].
    pub(crate) fn hold(&self, call: &str) {
        self.shared.lock().held = Some(call.into());
    }

    /// Whether a call is being held.
    pub(crate) fn is_holding(&self) -> bool {
        self.shared.lock().waiting > 0
    }

    /// Lets one call go on: a held one, or the next.
    pub(crate) fn release_one(&self) {
        self.shared.lock().released = true;
        self.shared.changed.notify_all();
    }

    /// Whether a call was processed and not answered yet.
    pub(crate) fn is_done(&self) -> bool {
        self.shared.lock().done > 0
    }

    /// Answers the calls that were processed.
    pub(crate) fn answer_late(&self) {
        self.shared.lock().done = 0;
        self.shared.changed.notify_all();
    }

    /// Processes the calls that were answered before.
    pub(crate) fn do_late(&self) {
        for request in std::mem::take(&mut self.shared.lock().late) {
            self.shared.answer(&request);
        }
    }

    pub(crate) fn release(&self) {
        self.shared.lock().held = None;
        self.shared.changed.notify_all();
    }

    /// Returns the number of calls that begin with `call`, such as `POST /tasks/claim`.
    pub(crate) fn count(&self, call: &str) -> usize {
        self.server.calls().iter().filter(|made| made.starts_with(call)).count()
    }

    /// Returns the bodies of all reports in their order, with the id of each task.
    pub(crate) fn completes(&self) -> Vec<(u64, Value)> {
        let number = |path: &str| path.strip_prefix("/tasks/")?.strip_suffix("/complete")?.parse().ok();
        self.server.requests().iter().filter_map(|request| Some((number(&request.path)?, request.json()))).collect()
    }
}

impl Drop for PublishedServer {
    fn drop(&mut self) {
        self.release(); // the server waits for its script
        self.answer_late();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn database(&self) -> Connection {
        let database = Connection::open(&self.settings.database).unwrap();
        database.busy_timeout(Duration::from_secs(20)).unwrap();
        database
    }

    fn change(&self, sql: &str, values: impl Params) {
        assert_eq!(self.database().execute(sql, values).unwrap(), 1, "{sql}");
    }

    /// Passes a request on to the TaskManager.
    fn answer(&self, request: &Request) -> Answer {
        self.pass_on(request, std::str::from_utf8(&request.body).unwrap())
    }

    /// Passes a request on with another body.
    fn pass_on(&self, request: &Request, body: &str) -> Answer {
        self.call(&request.method, &request.path, request.header("X-API-Key"), body)
    }

    fn call(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> Answer {
        let key = key.map_or(String::new(), |key| format!("X-API-Key: {key}\r\n"));
        let head = format!("{method} /api{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{key}");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let answer = exchange(self.taskmanager.address(), &request).unwrap();
        Answer::new(answer.status, answer.header("content-type").unwrap_or_default(), answer.body.clone())
    }

    fn serve(&self, request: &Request) -> Answer {
        let call = call(request);
        let mut state = self.lock();
        if let Some((_, answer)) = state.connection_limit.as_ref().filter(|(uses, _)| request.before >= *uses) {
            return answer.clone();
        }
        while state.held.as_ref().is_some_and(|held| call.starts_with(held)) {
            if state.released {
                state.released = false;
                break;
            }
            state.waiting += 1;
            state = self.changed.wait(state).unwrap();
            state.waiting -= 1;
        }
        let fault = state.faults.iter().position(|(beginning, _)| call.starts_with(beginning));
        let fault = fault.map(|index| state.faults.remove(index).1).or_else(|| state.next_in_turn());
        match fault {
            None | Some(Fault::Nothing) => Refusal::apply(&state.refusals, request, |body| self.pass_on(request, body)),
            Some(Fault::Answer(answer)) => answer,
            Some(Fault::AnswerLost) => {
                self.answer(request);
                Answer::close()
            }
            Some(Fault::AnswerReset) => {
                self.answer(request);
                Answer::reset()
            }
            Some(Fault::AnswerCut) => self.answer(request).cut_short(),
            Some(Fault::AnsweredBy(answer)) => {
                self.answer(request);
                answer
            }
            Some(Fault::AnsweredLate) => {
                let answer = self.answer(request);
                state.done += 1;
                drop(self.changed.wait_while(state, |state| state.done > 0).unwrap());
                answer
            }
            Some(Fault::DoneLate(answer)) => {
                state.late.push(request.clone());
                answer
            }
            Some(Fault::Stolen) => {
                let id = request.path.split('/').nth(2).unwrap();
                self.change("UPDATE tasks SET claimed_by = 'worker-2', attempts = attempts + 1 WHERE id = ?1", [id]);
                self.answer(request)
            }
        }
    }
}

impl State {
    fn next_in_turn(&mut self) -> Option<Fault> {
        let (faults, calls) = &mut self.in_turn;
        *calls += 1;
        faults.get((*calls - 1) % faults.len().max(1)).cloned()
    }
}

/// A call as faults and holds name it: `POST /tasks/1/complete`, and with the type's number `POST /tasks/claim 1`.
fn call(request: &Request) -> String {
    let call = format!("{} {}", request.method, request.path);
    if call == "POST /tasks/claim" { format!("{call} {}", request.json()["task_type_id"]) } else { call }
}
