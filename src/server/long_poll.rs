//! Long polls: claims with `Prefer: wait=N` (RFC 7240) that wait for a task. Our own preference `task-types="N N"` adds
//! further types.

use std::time::Duration;

use axum::http::HeaderMap;
use tokio::time::Instant;

use super::committer::Committer;
use super::error::Refusal;
use super::queue::{ClaimRequest, ClaimedTasks, SharedQueue};
use super::storage::TypeLimit;

/// Maximum time that a claim waits.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Maximum number of further types.
const MAX_OTHER_TYPES: usize = 256;

/// The `Prefer` header of a claim.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Preference {
    /// How long to wait.
    timeout: Duration,
    /// Ids of further types; `None` if the preference is absent.
    others: Option<Vec<i64>>,
}

impl Preference {
    /// Parses the headers. Invalid values are ignored.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let seconds: u64 = preference_value(headers, "wait")?.parse().ok().filter(|seconds| *seconds > 0)?;
        let numbers = |list: &str| list.split_ascii_whitespace().map(str::parse).collect();
        let others: Option<Vec<i64>> = preference_value(headers, "task-types").map(numbers).and_then(Result::ok);
        let timeout = Duration::from_secs(seconds).min(MAX_WAIT);
        Some(Self { timeout, others: others.filter(|others| others.len() <= MAX_OTHER_TYPES) })
    }

    /// Returns the value of `Preference-Applied` for that claim. One of several tasks names its types itself.
    pub(super) fn applied(&self, request: &ClaimRequest) -> &'static str {
        if self.others.is_some() && request.limit.is_none() { "wait, task-types" } else { "wait" }
    }
}

/// Returns the first value of a preference.
fn preference_value<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let values = headers.get_all("Prefer").iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
    })
}

/// Claims tasks as soon as there is one. Returns `None` if there is none in time, or the wait was cancelled.
pub(super) async fn claim(
    queue: &SharedQueue,
    committer: &Committer,
    request: &ClaimRequest,
    preference: &Preference,
) -> Result<Option<ClaimedTasks>, Refusal> {
    let deadline = Instant::now() + preference.timeout;
    let types = types(queue, request, preference).await?;
    let position = queue.long_polls.join(types.iter().map(|it| it.type_id).collect(), &request.worker_id);
    while !position.is_ended() {
        let (mut next_check, changes) = (deadline, queue.lock().await.changes());
        let first = position.types_where_first();
        let first: Vec<TypeLimit> = types.iter().filter(|it| first.contains(&it.type_id)).copied().collect();
        // A list has the best tasks of all types. A single claim takes one of its own type, if there is one.
        let together = if request.limit.is_some() { types.len() } else { 1 };
        for some in first.chunks(together) {
            // From here, only the disk delays the answer, so a client that is still connected gets it.
            match queue.claim(request, some).await {
                Err(Refusal::NoTask) => {}
                decided => return decided.map(Some),
            }
        }
        for of_type in &first {
            next_check = next_check.min(Instant::now() + queue.lock().await.until_expiry(of_type.type_id)?);
        }
        if Instant::now() >= deadline {
            break;
        }
        if queue.lock().await.changes() != changes {
            // The clock was set and claims were shifted: commit. If that fails, the next claim reports it.
            let _ = committer.wait_committed().await;
        }
        position.wait(next_check).await;
    }
    Ok(None)
}

/// Returns the types that a claim waits for: its own, and those of its preference that exist.
async fn types(
    queue: &SharedQueue,
    request: &ClaimRequest,
    preference: &Preference,
) -> Result<Vec<TypeLimit>, Refusal> {
    let queue = queue.lock().await;
    let mut types = queue.admitted(request)?;
    for type_id in preference.others.iter().flatten().copied() {
        if request.limit.is_none() && queue.admits(request, type_id).is_ok_and(|is_admitted| is_admitted) {
            types.push(TypeLimit { type_id, limit: 1 });
        }
    }
    Ok(types)
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

    fn timeout_seconds(values: &[&'static str]) -> Option<u64> {
        preference(values).map(|preference| preference.timeout.as_secs())
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
            assert_eq!(timeout_seconds(values), Some(20), "{values:?}");
        }
        assert_eq!(timeout_seconds(&["wait=61"]), Some(60));
        assert_eq!(timeout_seconds(&["wait=18446744073709551615"]), Some(60));
    }

    #[test]
    fn an_invalid_preference_is_ignored() {
        for value in ["", "wait", "wait=", "wait=0", "wait=-1", "wait=1.5", "wait=soon", "await=20", "wait=1 2", ",;=,"]
        {
            assert_eq!(timeout_seconds(&[value]), None, "{value:?}");
        }
    }

    #[test]
    fn further_types_need_a_preference_to_wait() {
        let others = |value| preference(&[value]).and_then(|preference| preference.others);
        assert_eq!(others("wait=20, task-types=\"4 -7\""), Some(vec![4, -7]));
        assert_eq!(others("task-types=4; wait=5, wait=20"), Some(vec![4]));
        assert_eq!(others("wait=20, task-types=\"\""), Some(vec![]));
        for value in ["wait=20", "wait=20, task-types=a", "wait=20, task-types=\"4 x\"", "task-types=4"] {
            assert_eq!(others(value), None, "{value:?}");
        }
    }
}
