//! Claims that wait for a task, as `Prefer: wait=N` (RFC 7240) asks for; of several types, where the preference
//! `task-types="N N"` of our own names others beside the claim's.
//!
//! Those of one type stand in a line, whose first alone looks for a task: when it becomes the first, when it is told
//! that there may be one, and when a claim of the type may have run out. So nobody polls, a task goes to who has waited
//! longest, and a claim that is dropped because its client has left takes nothing: the next in the line looks instead.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::iter;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::log::Log;
use super::queue::{ClaimRequest, Refusal, Shared};
use super::tasks::Claimed;

/// No claim waits longer, whatever it asks for.
const LONGEST: Duration = Duration::from_secs(60);
/// Nor for tasks of more types beside its own.
const MOST_OTHERS: usize = 256;

/// What a claim would have rather than be told that nothing is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Preference {
    /// How long it would wait.
    patience: Duration,
    /// The types that it would take a task of beside its own, by their numbers; `None` where it says nothing of others.
    others: Option<Vec<i64>>,
}

impl Preference {
    /// What makes no sense is no preference.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let seconds: u64 = preferred(headers, "wait")?.parse().ok().filter(|seconds| *seconds > 0)?;
        let numbers = |list: &str| list.split_ascii_whitespace().map(str::parse).collect();
        let others: Option<Vec<i64>> = preferred(headers, "task-types").map(numbers).and_then(Result::ok);
        let patience = Duration::from_secs(seconds).min(LONGEST);
        Some(Self { patience, others: others.filter(|others| others.len() <= MOST_OTHERS) })
    }

    /// What the answer says of it.
    pub(super) fn applied(&self) -> &'static str {
        if self.others.is_some() { "wait, task-types" } else { "wait" }
    }
}

/// The first value that is given for a preference.
fn preferred<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let values = headers.get_all("Prefer").iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
    })
}

/// Claims a task as soon as there is one; `None` where none comes in time, or the wait is ended before.
pub(super) async fn claim(
    queue: &Shared,
    log: &Log,
    request: &ClaimRequest,
    preference: &Preference,
) -> Result<Option<Claimed>, Refusal> {
    queue.lock().admit(request, request.type_id)?;
    let deadline = Instant::now() + preference.patience;
    let others = preference.others.iter().flatten();
    let types = others.copied().filter(|other| queue.lock().admit(request, *other).is_ok());
    let place = queue.waits.join(iter::once(request.type_id).chain(types).collect(), &request.worker_id);
    while !place.is_over() {
        let (mut look_again, changes) = (deadline, queue.lock().changes());
        for type_id in place.first_of() {
            let mut queue = queue.lock();
            // Between the claim and the answer only the disk is waited for: who is still there now gets it.
            match queue.claim(request, type_id) {
                Err(Refusal::NoTask) => {}
                decided => return decided.map(Some),
            }
            look_again = look_again.min(Instant::now() + queue.until_expiry(type_id)?);
        }
        if Instant::now() >= deadline {
            break;
        }
        if queue.lock().changes() != changes {
            // The clock was set, and the claims with it. Who asks for a task hears of it where that cannot be stored.
            let _ = log.catch_up().await;
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

    fn is_first(&self, type_id: i64, number: u64) -> bool {
        let first = self.of_types.get(&type_id).and_then(BTreeMap::first_key_value);
        first.is_some_and(|(first, _)| *first == number)
    }

    /// One that waits for several types is there for each.
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

    /// The workers whose claims wait, each with the types that it would take a task of.
    pub(super) fn workers(&self) -> HashMap<String, HashSet<i64>> {
        let lines = self.lock();
        let mut workers: HashMap<String, HashSet<i64>> = HashMap::new();
        for (type_id, line) in &lines.of_types {
            for waiting in line.values() {
                workers.entry(waiting.worker_id.clone()).or_default().insert(*type_id);
            }
        }
        workers
    }

    /// Ends all waits, those to come too.
    pub(super) fn close(&self) {
        let mut lines = self.lock();
        lines.closed = true;
        lines.all().for_each(|waiting| _ = waiting.end());
    }

    fn join(&self, types: Vec<i64>, worker_id: &str) -> Place<'_> {
        let mut lines = self.lock();
        lines.drawn += 1;
        let number = lines.drawn;
        let over = AtomicBool::new(lines.closed);
        let waiting = Arc::new(Waiting { worker_id: worker_id.to_owned(), called: Notify::new(), over });
        for type_id in &types {
            lines.of_types.entry(*type_id).or_default().insert(number, Arc::clone(&waiting));
        }
        Place { waits: self, types, number, waiting }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line of each of some types. Who drops it leaves, and where it was the first, the next one is called.
struct Place<'a> {
    waits: &'a Waits,
    types: Vec<i64>,
    number: u64,
    waiting: Arc<Waiting>,
}

impl Place<'_> {
    fn is_over(&self) -> bool {
        self.waiting.over.load(Ordering::Relaxed)
    }

    /// The types in whose lines it is the first.
    fn first_of(&self) -> Vec<i64> {
        let lines = self.waits.lock();
        self.types.iter().copied().filter(|type_id| lines.is_first(*type_id, self.number)).collect()
    }

    /// Until it is called, but no longer than `until`.
    async fn wait(&self, until: Instant) {
        let _ = timeout_at(until, self.waiting.called.notified()).await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.waits.lock();
        for type_id in &self.types {
            let was_first = lines.is_first(*type_id, self.number);
            let Some(line) = lines.of_types.get_mut(type_id) else { continue };
            line.remove(&self.number);
            if line.is_empty() {
                lines.of_types.remove(type_id);
            } else if was_first {
                lines.call_first(*type_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn preference(values: &[&'static str]) -> Option<Preference> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("Prefer", HeaderValue::from_static(value));
        }
        Preference::of(&headers)
    }

    fn preferred(values: &[&'static str]) -> Option<u64> {
        preference(values).map(|preference| preference.patience.as_secs())
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

    #[test]
    fn other_types_are_a_preference_of_those_who_wait() {
        let others = |value| preference(&[value]).and_then(|preference| preference.others);
        assert_eq!(others("wait=20, task-types=\"4 -7\""), Some(vec![4, -7]));
        assert_eq!(others("task-types=4; wait=5, wait=20"), Some(vec![4]));
        assert_eq!(others("wait=20, task-types=\"\""), Some(vec![]));
        for value in ["wait=20", "wait=20, task-types=a", "wait=20, task-types=\"4 x\"", "task-types=4"] {
            assert_eq!(others(value), None, "{value:?}");
        }
    }
}
