//! Claims that wait for a task, as `Prefer: wait=N` (RFC 7240) asks for.
//!
//! Those of one type stand in a line, whose first alone looks for a task: when it becomes the first, when it is told
//! that there may be one, and when a claim of the type may have run out. So nobody polls, a task goes to who has waited
//! longest, and a claim that is dropped because its client has left takes nothing: the next in the line looks instead.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::queue::{ClaimRequest, Refusal, Shared};
use super::tasks::Claimed;

/// No claim waits longer, whatever it asks for.
const LONGEST: Duration = Duration::from_secs(60);

/// How long a request would wait rather than be told that nothing is there. What makes no sense is no preference.
pub(super) fn preference(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("Prefer").iter().filter_map(|value| value.to_str().ok());
    let seconds: u64 = values.flat_map(|value| value.split(',')).find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("wait").then(|| value.parse().ok())?
    })?;
    (seconds > 0).then(|| Duration::from_secs(seconds).min(LONGEST))
}

/// Claims a task as soon as there is one; `None` where none comes within `patience`, or the wait is ended before.
pub(super) async fn claim(
    queue: &Shared,
    request: &ClaimRequest,
    patience: Duration,
) -> Result<Option<Claimed>, Refusal> {
    queue.lock().admit(request)?;
    let deadline = Instant::now() + patience;
    let place = queue.waits.join(request.type_id, &request.worker_id);
    while !place.is_over() {
        let mut look_again = deadline;
        if place.is_first() {
            let mut queue = queue.lock();
            // Between the claim and the answer only the disk is waited for: who is still there now gets it.
            match queue.claim(request) {
                Err(Refusal::NoTask) => {}
                decided => return decided.map(Some),
            }
            look_again = deadline.min(Instant::now() + queue.until_expiry(request.type_id)?);
        }
        if Instant::now() >= deadline {
            break;
        }
        place.wait(look_again).await;
    }
    Ok(None)
}

/// All claims that wait.
#[derive(Default)]
pub(super) struct Waits(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    /// For each type its claims, by the numbers they drew when they came.
    of_types: HashMap<i64, BTreeMap<u64, Arc<Waiting>>>,
    drawn: u64,
    closed: bool,
}

impl Lines {
    fn call_first(&self, type_id: i64) {
        if let Some((_, first)) = self.of_types.get(&type_id).and_then(BTreeMap::first_key_value) {
            first.called.notify_one();
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Waiting>> {
        self.of_types.values().flat_map(BTreeMap::values)
    }
}

/// A claim that waits.
struct Waiting {
    worker_id: String,
    called: Notify,
    over: AtomicBool,
}

impl Waiting {
    /// Ends the wait; false where it had been ended.
    fn end(&self) -> bool {
        self.called.notify_one();
        !self.over.swap(true, Ordering::Relaxed)
    }
}

impl Waits {
    /// There may be a task of that type to claim now.
    pub(super) fn tell(&self, type_id: i64) {
        self.lock().call_first(type_id);
    }

    /// Ends all waits of that worker; how many.
    pub(super) fn withdraw(&self, worker_id: &str) -> usize {
        self.lock().all().filter(|waiting| waiting.worker_id == worker_id && waiting.end()).count()
    }

    /// The workers whose claims wait.
    pub(super) fn workers(&self) -> HashSet<String> {
        self.lock().all().map(|waiting| waiting.worker_id.clone()).collect()
    }

    /// Ends all waits, those to come too.
    pub(super) fn close(&self) {
        let mut lines = self.lock();
        lines.closed = true;
        lines.all().for_each(|waiting| _ = waiting.end());
    }

    fn join(&self, type_id: i64, worker_id: &str) -> Place<'_> {
        let mut lines = self.lock();
        lines.drawn += 1;
        let number = lines.drawn;
        let over = AtomicBool::new(lines.closed);
        let waiting = Arc::new(Waiting { worker_id: worker_id.to_owned(), called: Notify::new(), over });
        lines.of_types.entry(type_id).or_default().insert(number, Arc::clone(&waiting));
        Place { waits: self, type_id, number, waiting }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line of a type. Who drops it leaves, and where it was the first, the next one is called.
struct Place<'a> {
    waits: &'a Waits,
    type_id: i64,
    number: u64,
    waiting: Arc<Waiting>,
}

impl Place<'_> {
    fn is_over(&self) -> bool {
        self.waiting.over.load(Ordering::Relaxed)
    }

    fn is_first(&self) -> bool {
        let lines = self.waits.lock();
        let first = lines.of_types.get(&self.type_id).and_then(BTreeMap::first_key_value);
        first.is_some_and(|(number, _)| *number == self.number)
    }

    /// Until it is called, but no longer than `until`.
    async fn wait(&self, until: Instant) {
        let _ = timeout_at(until, self.waiting.called.notified()).await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let was_first = self.is_first();
        let mut lines = self.waits.lock();
        let Some(line) = lines.of_types.get_mut(&self.type_id) else { return };
        line.remove(&self.number);
        if line.is_empty() {
            lines.of_types.remove(&self.type_id);
        } else if was_first {
            lines.call_first(self.type_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn preferred(values: &[&'static str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("Prefer", HeaderValue::from_static(value));
        }
        preference(&headers).map(|patience| patience.as_secs())
    }

    #[test]
    fn a_preference_to_wait_is_found_among_others() {
        for values in [
            &["wait=20"][..],
            &["WAIT = 20"],
            &["wait=\"20\""],
            &["respond-async, wait=20"],
            &["wait=20;why=so, wait=5"],
            &["handling=lenient; wait=7", "return=minimal,wait=20"],
        ] {
            assert_eq!(preferred(values), Some(20), "{values:?}");
        }
        assert_eq!(preferred(&["wait=61"]), Some(60));
        assert_eq!(preferred(&["wait=18446744073709551615"]), Some(60));
    }

    #[test]
    fn a_preference_that_makes_no_sense_is_none() {
        for value in ["", "wait", "wait=", "wait=0", "wait=-1", "wait=1.5", "wait=soon", "await=20", "wait=1 2", ",;=,"]
        {
            assert_eq!(preferred(&[value]), None, "{value:?}");
        }
    }
}
