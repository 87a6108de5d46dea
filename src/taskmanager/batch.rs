//! Calls for several tasks at once, of servers with the features `batch` and `renew`.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::client::{Claimed, post};
use super::wire;
use super::{Client, Error, LongPollRequest, Order};
use crate::task::TaskId;

/// Maximum number of tasks that one call claims.
pub(crate) const MOST_CLAIMS: usize = 100;
/// Maximum number of results that one call reports.
pub(crate) const MOST_REPORTS: usize = 100;
/// Maximum number of claims that one call renews.
pub(crate) const MOST_RENEWALS: usize = 1000;
/// Size of the reports of one call, in bytes, unless a single one is larger. Proxies often accept one megabyte.
pub(super) const REPORT_BYTES: usize = 900_000;

/// A type to claim, and the maximum number of its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeLimit {
    /// Its id.
    pub id: u64,
    /// At least 1.
    pub limit: usize,
}

/// A claim of several tasks.
#[derive(Debug, Clone, Copy)]
pub struct BatchClaim<'a> {
    /// The types, at least one.
    pub types: &'a [TypeLimit],
    /// Maximum number of tasks of all types together, from 1 to 100.
    pub limit: usize,
    /// Which tasks come first.
    pub order: Order,
    /// How long the server may wait for the first task.
    pub time: Duration,
}

impl Client {
    /// Claims several tasks for `worker_id`, if there are any.
    pub fn claim_batch(&self, worker_id: &str, claim: &BatchClaim<'_>) -> Result<Claimed, Error> {
        let (sort_by, sort_order) = claim.order.as_wire();
        let types: Vec<Value> = claim.types.iter().map(|it| json!({"id": it.id, "limit": it.limit})).collect();
        let body = json!({
            "worker_id": worker_id, "limit": claim.limit, "types": types, "sort_by": sort_by, "sort_order": sort_order,
        });
        let wait = LongPollRequest { time: claim.time, others: &[] };
        self.send_claim(body, wait, wire::items).map_err(|error| self.batch_refused(error))
    }

    /// Renews claims of `worker_id`: each lasts its full time again. Returns for each how long that is, or why it does not
    /// hold.
    pub fn renew(&self, worker_id: &str, ids: &[TaskId]) -> Result<Vec<Result<Duration, Error>>, Error> {
        let path = "/tasks/renew";
        let data = self.post(path, &json!({"worker_id": worker_id, "ids": ids}))?;
        self.entries(path, data, ids.iter().copied(), |entry| {
            wire::expires_in(entry).ok_or_else(|| "expires_in is not a number of seconds".to_owned())
        })
    }

    /// Sends reports of `worker_id`, each naming its task. Returns whether each was taken.
    pub(super) fn complete_batch(
        &self,
        worker_id: &str,
        reports: Vec<(TaskId, Value)>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let path = "/tasks/complete";
        let (ids, results): (Vec<_>, Vec<_>) = reports.into_iter().unzip();
        // Not `json!`, which would copy all results.
        let body = [("worker_id".to_owned(), worker_id.into()), ("results".to_owned(), Value::Array(results))];
        let body = Value::Object(Map::from_iter(body));
        let data = self.retrying(|| self.once(path, post(&body))).map_err(|error| self.batch_refused(error))?;
        self.entries(path, data, ids.into_iter(), |_| Ok(()))
    }

    /// Reads the entries of an answer, one for each of `ids`.
    fn entries<T>(
        &self,
        path: &str,
        data: Value,
        ids: impl ExactSizeIterator<Item = TaskId>,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<Vec<Result<T, Error>>, Error> {
        let invalid = |reason| self.invalid_answer(&format!("POST {path}"), reason);
        let items = wire::items(data).map_err(invalid)?;
        if items.len() != ids.len() {
            return Err(invalid(format!("it has {} items for {} tasks", items.len(), ids.len())));
        }
        let entry = |(id, item): (TaskId, &Value)| {
            if let Err(error) = wire::check_id(item, id) {
                return Err(invalid(error));
            }
            Ok(match wire::entry_error(self.shown_url(), self.http.key(), item) {
                Some(error) => Err(error),
                None => Ok(read(item).map_err(invalid)?),
            })
        };
        ids.zip(&items).map(entry).collect()
    }

    /// Handles a refused batch: if another server has taken the place of one that knew batches, the refusal is temporary.
    fn batch_refused(&self, error: Error) -> Error {
        let Error::Refused { status: 400 | 404 | 405, .. } = error else { return error };
        if error.says_unknown_type() || wire::is_empty_queue(&error) {
            return error;
        }
        self.features.expire();
        if self.features().batch {
            return error;
        }
        let (url, reason) = (self.shown_url().to_owned(), format!("it no longer supports batches: {error}"));
        Error::Unavailable { url, status: 503, reason, retry_after: None }
    }
}
