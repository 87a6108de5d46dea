//! Creating tasks, one or several in a call.

use serde_json::{Value, json};

use super::wire::{self, Created};
use super::{Client, Error};
use crate::json;

const PATH: &str = "/tasks";

impl Client {
    /// Creates a task, or returns the existing one with the same type and params.
    pub fn create(&self, task_type: &str, params: &Value, priority: Option<i64>) -> Result<Created, Error> {
        let data = self.post(PATH, &body(task_type, params.clone(), priority))?;
        self.created(&data, task_type)
    }

    /// Creates tasks of a type, at most 1,000, on a server with the feature `batch`. Returns for each what
    /// [`Client::create`] returns.
    pub(crate) fn create_batch(
        &self,
        task_type: &str,
        params: Vec<Value>,
        priority: Option<i64>,
    ) -> Result<Vec<Result<Created, Error>>, Error> {
        let count = params.len();
        let tasks: Vec<Value> = params.into_iter().map(|params| body(task_type, params, priority)).collect();
        let data = self.post(PATH, &json!({"tasks": tasks})).inspect_err(|error| {
            if matches!(error, Error::Refused { status: 400 | 404 | 405, .. }) {
                // Another server, without batches, may have taken its place.
                self.features.expire();
            }
        })?;
        let items = wire::items(data).map_err(|reason| self.invalid_creation(reason))?;
        if items.len() != count {
            let reason = format!("it has {} items for {count} tasks", items.len());
            return Err(self.invalid_creation(reason));
        }
        let read = |item| match wire::entry_error(self.shown_url(), self.http.key(), item) {
            Some(error) => Ok(Err(error)),
            None => self.created(item, task_type).map(Ok),
        };
        items.iter().map(read).collect()
    }

    fn created(&self, data: &Value, task_type: &str) -> Result<Created, Error> {
        wire::created(data, task_type).map_err(|reason| self.invalid_creation(reason))
    }

    fn invalid_creation(&self, reason: String) -> Error {
        self.invalid_answer("POST /tasks", reason)
    }
}

/// Returns the request for a task. Params are in canonical form (sorted keys, normalized numbers, no white space), since
/// servers deduplicate by bytes.
fn body(task_type: &str, params: Value, priority: Option<i64>) -> Value {
    let mut body = json!({"type": task_type});
    body["params"] = params;
    json::canonical(&mut body["params"]);
    if let Some(priority) = priority {
        body["priority"] = json!(priority);
    }
    body
}
