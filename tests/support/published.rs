//! A stand-in for the published TaskManager: it keeps tasks, and answers with the recorded bodies, about these tasks.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use serde_json::{Value, json};

use super::{Answer, Request, Sandbox, Server, recorded, sandbox};

/// A key that it takes.
pub(crate) const KEY: &str = "a-key-of-the-tests";
/// What its TEXT column holds at most, in bytes.
const COLUMN: usize = 65_535;

#[derive(Debug, Clone, Default)]
pub(crate) struct Task {
    pub(crate) id: u64,
    type_id: u64,
    params: Value,
    pub(crate) status: String,
    pub(crate) result: Value,
    pub(crate) error_message: Value,
    pub(crate) progress: i64,
    pub(crate) attempts: u64,
    pub(crate) claimed_by: Value,
}

/// What goes wrong with a call.
#[derive(Clone)]
pub(crate) enum Fault {
    /// Nothing, this time.
    Nothing,
    /// It is answered so instead, and does nothing.
    Answer(Answer),
    /// It is done, and its answer is lost.
    AnswerLost,
    /// It is done, and answered so instead.
    AnsweredBy(Answer),
    /// It is done, and not answered until [`Published::answer_late`].
    AnsweredLate,
    /// It is answered so at once, and done only then.
    DoneLate(Answer),
    /// The task is another worker's by the time it comes.
    Stolen,
}

#[derive(Default)]
struct State {
    types: Vec<String>,
    tasks: Vec<Task>,
    /// What goes wrong next, by the beginning of the call.
    faults: Vec<(String, Fault)>,
    held: Option<String>,
    /// One of the calls that are held may go on.
    may_go: bool,
    /// Calls that are being held.
    waiting: usize,
    /// How often a connection can be used, and what becomes of the calls on it after that.
    worn: Option<(usize, Answer)>,
    /// What goes wrong with the calls in turn, and how many there were.
    in_turn: (Vec<Fault>, usize),
    /// Calls that are done and not answered yet.
    done: usize,
    /// Done only after their answer.
    late: Vec<Request>,
}

/// The stand-in.
pub(crate) struct Published {
    pub(crate) server: Server,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    released: Condvar,
}

impl Published {
    /// It knows these types.
    pub(crate) fn start(types: &[&str]) -> Self {
        let shared = Arc::new(Shared::default());
        shared.lock().types = types.iter().map(|&name| name.to_owned()).collect();
        let script = Arc::clone(&shared);
        Self { server: Server::start(move |request| script.serve(request)), shared }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// A sandbox whose workers have a key for it, and a `prismq.toml` with these types.
    pub(crate) fn sandbox(&self, types: &str) -> Sandbox {
        let sandbox = sandbox(&self.url()).env("TASKMANAGER_API_KEY", KEY);
        sandbox.write("prismq.toml", types);
        sandbox
    }

    /// Puts a task into its queue; its number.
    #[allow(clippy::needless_pass_by_value, reason = "calls read better with json!(…) as it is")]
    pub(crate) fn create(&self, task_type: &str, params: Value) -> u64 {
        self.create_handed_out(task_type, params, 0)
    }

    /// Puts a task into its queue that was handed out before, to workers that died.
    #[allow(clippy::needless_pass_by_value, reason = "calls read better with json!(…) as it is")]
    pub(crate) fn create_handed_out(&self, task_type: &str, params: Value, attempts: u64) -> u64 {
        let mut state = self.shared.lock();
        let type_id = 1 + state.types.iter().position(|name| name == task_type).unwrap() as u64;
        let id = 1 + state.tasks.len() as u64;
        let (params, status) = (changed_on_the_way(params), "pending".into());
        state.tasks.push(Task { id, type_id, params, status, attempts, ..Task::default() });
        id
    }

    pub(crate) fn task(&self, id: u64) -> Task {
        self.shared.lock().task(id).clone()
    }

    /// The next call that begins with `call`, as in `POST /tasks/1/complete`, goes wrong.
    pub(crate) fn spoil(&self, call: &str, fault: Fault) {
        self.shared.lock().faults.push((call.into(), fault));
    }

    /// The claim on a task runs out.
    pub(crate) fn expire(&self, id: u64) {
        self.shared.lock().task(id).status = "pending".into();
    }

    /// A connection can be used only so often. A later call on it is not done and meets this instead.
    pub(crate) fn wear_connections(&self, uses: usize, answer: Answer) {
        self.shared.lock().worn = Some((uses, answer));
    }

    /// These go wrong with the calls in turn, from now on.
    pub(crate) fn spoil_in_turn(&self, faults: Vec<Fault>) {
        self.shared.lock().in_turn = (faults, 0);
    }

    /// Nothing goes wrong any more.
    pub(crate) fn mend(&self) {
        self.shared.lock().faults.clear();
    }

    /// Answers no call that begins with `call` until [`Published::release`].
    pub(crate) fn hold(&self, call: &str) {
        self.shared.lock().held = Some(call.into());
    }

    /// Whether a call is being held.
    pub(crate) fn is_holding(&self) -> bool {
        self.shared.lock().waiting > 0
    }

    /// Lets one call go on, be it held already or not.
    pub(crate) fn let_one_go(&self) {
        self.shared.lock().may_go = true;
        self.shared.released.notify_all();
    }

    /// Whether a call is done and not answered yet.
    pub(crate) fn is_done(&self) -> bool {
        self.shared.lock().done > 0
    }

    /// Answers what was done.
    pub(crate) fn answer_late(&self) {
        self.shared.lock().done = 0;
        self.shared.released.notify_all();
    }

    /// Does what was answered before.
    pub(crate) fn do_late(&self) {
        let mut state = self.shared.lock();
        for request in std::mem::take(&mut state.late) {
            state.answer(&request);
        }
    }

    pub(crate) fn release(&self) {
        self.shared.lock().held = None;
        self.shared.released.notify_all();
    }

    /// How often a call was made whose text begins with `call`, as in `POST /tasks/claim`.
    pub(crate) fn count(&self, call: &str) -> usize {
        self.server.calls().iter().filter(|made| made.starts_with(call)).count()
    }

    /// The bodies sent to complete tasks, with the number of each task, in their order.
    pub(crate) fn completes(&self) -> Vec<(u64, Value)> {
        let number = |path: &str| path.strip_prefix("/tasks/")?.strip_suffix("/complete")?.parse().ok();
        self.server.requests().iter().filter_map(|request| Some((number(&request.path)?, request.json()))).collect()
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.release(); // the server waits for its script
        self.answer_late();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(&self, request: &Request) -> Answer {
        let call = call(request);
        let mut state = self.lock();
        if let Some((_, answer)) = state.worn.as_ref().filter(|(uses, _)| request.before >= *uses) {
            return answer.clone();
        }
        while state.held.as_ref().is_some_and(|held| call.starts_with(held)) {
            if state.may_go {
                state.may_go = false;
                break;
            }
            state.waiting += 1;
            state = self.released.wait(state).unwrap();
            state.waiting -= 1;
        }
        let fault = state.faults.iter().position(|(beginning, _)| call.starts_with(beginning));
        let fault = fault.map(|index| state.faults.remove(index).1).or_else(|| state.next_in_turn());
        match fault {
            None | Some(Fault::Nothing) => state.answer(request),
            Some(Fault::Answer(answer)) => answer,
            Some(Fault::AnswerLost) => {
                state.answer(request);
                Answer::close()
            }
            Some(Fault::AnsweredBy(answer)) => {
                state.answer(request);
                answer
            }
            Some(Fault::AnsweredLate) => {
                let answer = state.answer(request);
                state.done += 1;
                drop(self.released.wait_while(state, |state| state.done > 0).unwrap());
                answer
            }
            Some(Fault::DoneLate(answer)) => {
                state.late.push(request.clone());
                answer
            }
            Some(Fault::Stolen) => {
                let task = state.task(numbers(&request.path)[0]);
                task.claimed_by = json!("worker-2");
                task.attempts += 1;
                state.answer(request)
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

    fn task(&mut self, id: u64) -> &mut Task {
        self.tasks.iter_mut().find(|task| task.id == id).unwrap()
    }

    fn answer(&mut self, request: &Request) -> Answer {
        let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        match (request.method.as_str(), &parts[..]) {
            _ if request.header("X-API-Key").is_none() => recorded("missing key"),
            ("POST", ["task-types", "register"]) => self.register(&request.json()),
            ("GET", ["task-types", name]) => self.task_type(name),
            ("POST", ["tasks", "claim"]) => self.claim(&request.json()),
            ("POST", ["tasks", _, "progress"]) => self.progress(numbers(&request.path)[0], &request.json()),
            ("POST", ["tasks", _, "complete"]) => self.complete(numbers(&request.path)[0], &request.json()),
            ("GET", [list]) if list.starts_with("tasks?") => self.list(list),
            ("GET", ["tasks", _]) => self.show(numbers(&request.path)[0]),
            _ => recorded("no such endpoint"),
        }
    }

    fn register(&mut self, body: &Value) -> Answer {
        self.types.push(body["name"].as_str().unwrap().into());
        about("register a type that takes anything", |data| {
            data["id"] = json!(self.types.len().to_string());
            data["name"] = body["name"].clone();
        })
    }

    fn task_type(&self, name: &str) -> Answer {
        let Some(index) = self.types.iter().position(|known| known == name) else {
            return recorded("type by name, unknown");
        };
        about("type by name", |data| {
            let item = &mut data["items"][0];
            (item["id"], item["name"]) = (json!(index + 1), json!(name));
            item["param_schema"] = json!({"type": "object", "properties": []});
        })
    }

    fn claim(&mut self, body: &Value) -> Answer {
        let name = |type_id: u64| self.types[usize::try_from(type_id).unwrap() - 1].clone();
        let waits = |task: &&mut Task| task.status == "pending" && json!(task.type_id) == body["task_type_id"];
        let Some(task) = self.tasks.iter_mut().find(waits) else { return recorded("claim: queue empty") };
        (task.status, task.claimed_by, task.progress) = ("claimed".into(), body["worker_id"].clone(), 0);
        task.attempts += 1;
        about("claim", |data| {
            (data["id"], data["type"]) = (json!(task.id), json!(name(task.type_id)));
            (data["params"], data["attempts"]) = (task.params.clone(), json!(task.attempts));
        })
    }

    fn progress(&mut self, id: u64, body: &Value) -> Answer {
        let task = self.task(id);
        if task.claimed_by != body["worker_id"] {
            return recorded("progress: by the worker whose claim ran out");
        }
        task.progress = body["progress"].as_i64().unwrap();
        about("progress", |data| {
            (data["id"], data["progress"]) = (json!(id.to_string()), body["progress"].clone());
        })
    }

    fn complete(&mut self, id: u64, body: &Value) -> Answer {
        let task = self.task(id);
        if task.status != "claimed" {
            return recorded("complete the same again");
        }
        if task.claimed_by != body["worker_id"] {
            return recorded("complete: by the worker whose claim ran out");
        }
        if stored_length(&body["result"]) > COLUMN {
            return recorded("complete: result over 65,535 bytes");
        }
        (task.result, task.error_message) = (body["result"].clone(), body["error"].clone());
        let (status, name) = match body["success"].as_bool().unwrap() {
            true => ("completed", "complete"),
            false if task.attempts < 3 => ("pending", "fail with attempts left"),
            false => ("failed", "fail it again, attempt 3"),
        };
        task.status = status.into();
        about(name, |data| data["id"] = json!(id.to_string()))
    }

    /// Those of a status, in no order that could be relied on; a list says little of each.
    fn list(&self, query: &str) -> Answer {
        let value = |name: &str| query.split(['?', '&']).find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let number = |name| value(name).map_or(0, |number| number.parse().unwrap());
        let tasks = self.tasks.iter().filter(|task| value("status").is_none_or(|status| task.status == status));
        let item = |task: &Task| {
            let name = &self.types[usize::try_from(task.type_id).unwrap() - 1];
            json!({"id": task.id, "type": name, "status": task.status, "priority": 0, "progress": task.progress,
                   "attempts": task.attempts, "claimed_by": task.claimed_by})
        };
        let items: Vec<Value> = tasks.skip(number("offset")).take(number("limit")).map(item).collect();
        about("list tasks", |data| *data = json!({"items": items, "count": items.len()}))
    }

    fn show(&mut self, id: u64) -> Answer {
        let Some(task) = self.tasks.iter().find(|task| task.id == id) else {
            return recorded("show a task that does not exist");
        };
        about("show a task", |data| {
            let item = &mut data["items"][0];
            (item["id"], item["status"], item["params"]) = (json!(id), json!(task.status), task.params.clone());
            item["type"] = json!(self.types[usize::try_from(task.type_id).unwrap() - 1]);
            (item["result"], item["error_message"]) = (task.result.clone(), task.error_message.clone());
            (item["progress"], item["attempts"]) = (json!(task.progress), json!(task.attempts));
            item["claimed_by"] = task.claimed_by.clone();
        })
    }
}

/// A call as faults and holds name it: `POST /tasks/1/complete`, and with the type's number `POST /tasks/claim 1`.
fn call(request: &Request) -> String {
    let call = format!("{} {}", request.method, request.path);
    if call == "POST /tasks/claim" { format!("{call} {}", request.json()["task_type_id"]) } else { call }
}

/// The recorded answer of that name, with its data changed to be about something else.
fn about(name: &str, change: impl FnOnce(&mut Value)) -> Answer {
    let answer = recorded(name);
    let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
    change(&mut body["data"]);
    answer.with_body(body.to_string())
}

/// The numbers that are parts of a path.
fn numbers(path: &str) -> Vec<u64> {
    path.split('/').filter_map(|part| part.parse().ok()).collect()
}

/// The published server cannot tell an empty object from an empty list.
fn changed_on_the_way(value: Value) -> Value {
    match value {
        Value::Object(fields) if fields.is_empty() => json!([]),
        Value::Object(fields) => fields.into_iter().map(|(name, field)| (name, changed_on_the_way(field))).collect(),
        value => value,
    }
}

/// The bytes that a value takes in its column: letters beyond ASCII are stored as `\u017e`.
fn stored_length(value: &Value) -> usize {
    value.to_string().chars().map(|letter| if letter.is_ascii() { 1 } else { 6 * letter.len_utf16() }).sum()
}
