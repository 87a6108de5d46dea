//! Refuses the calls about single tasks, as a TaskManager does that somebody has cancelled them at, or that does not like
//! what they say: alone or as entries of a batch, whose other entries are carried out.

use serde_json::{Value, json};

use super::{Answer, Request};

/// The calls about a task that are refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    pub(crate) task_id: u64,
    /// The last part of their path: `complete`, say.
    pub(crate) calls: &'static [&'static str],
    pub(crate) status: u16,
    pub(crate) error: &'static str,
    /// The status that the task has, if it is not the TaskManager's.
    pub(crate) shown: Option<&'static str>,
    /// Whether a batch with an entry about the task is refused as a whole.
    pub(crate) is_whole: bool,
}

impl Refusal {
    /// A task that was cancelled: its worker learns it by its next renewal, progress or report.
    pub(crate) fn cancelled(task_id: u64) -> Self {
        let calls = &["renew", "progress", "complete"];
        Self { task_id, calls, status: 409, error: "Task was cancelled", shown: Some("cancelled"), is_whole: false }
    }

    fn names(&self, request: &Request, call: &str) -> bool {
        request.path == format!("/tasks/{}{call}", self.task_id)
    }

    /// Answers a request. `pass_on` has its body, without the refused entries, carried out.
    pub(super) fn apply(all: &[Self], request: &Request, pass_on: impl FnOnce(&str) -> Answer) -> Answer {
        let body = std::str::from_utf8(&request.body).unwrap();
        let call = request.path.rsplit('/').next().unwrap();
        if let Some(Self { shown: Some(status), .. }) = all.iter().find(|it| it.names(request, "")) {
            let mut task: Value = serde_json::from_slice(&pass_on(body).body).unwrap();
            task["data"]["status"] = json!(status);
            return Answer::json(200, &task);
        }
        let refusals: Vec<&Self> = all.iter().filter(|it| it.calls.contains(&call)).collect();
        if refusals.is_empty() || request.method != "POST" {
            return pass_on(body);
        }
        if let Some(refusal) = refusals.iter().find(|it| it.names(request, &format!("/{call}"))) {
            return Answer::error(refusal.status, refusal.error);
        }
        Self::apply_to_batch(&refusals, request.json(), pass_on)
    }

    fn apply_to_batch(refusals: &[&Self], mut body: Value, pass_on: impl FnOnce(&str) -> Answer) -> Answer {
        let Some(list) = ["results", "ids"].into_iter().find(|list| body[list].is_array()) else {
            return pass_on(&body.to_string());
        };
        let of_task = |entry: &Value| {
            let id = entry.as_u64().or_else(|| entry["id"].as_u64());
            refusals.iter().find(|it| Some(it.task_id) == id).copied()
        };
        let (mut refused, mut others) = (Vec::new(), Vec::new());
        for (index, entry) in body[list].as_array().unwrap().iter().enumerate() {
            match of_task(entry) {
                Some(refusal) if refusal.is_whole => return Answer::error(refusal.status, refusal.error),
                Some(refusal) => refused.push((index, refusal)),
                None => others.push(entry.clone()),
            }
        }
        let mut items = Vec::new();
        if !others.is_empty() {
            body[list] = json!(others);
            let answer = pass_on(&body.to_string());
            let mut data: Value = serde_json::from_slice(&answer.body).unwrap();
            let Value::Array(answered) = data["data"]["items"].take() else { return answer };
            items = answered;
        }
        for (index, Self { task_id, status, error, .. }) in refused {
            items.insert(index, json!({"id": task_id, "error": error, "code": status}));
        }
        Answer::data(&json!({"items": items}))
    }
}
