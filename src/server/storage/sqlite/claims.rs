//! Claims: which tasks are handed out, and for how long.

use std::cmp::Ordering;
use std::time::Duration;

use rusqlite::Connection;

use super::{SqliteStorage, attempts, each, held_by, tasks};
use crate::server::error::{Refusal, Result};
use crate::server::storage::{AttemptEnd, ClaimOrder, ClaimedTask, TaskClaim, Time};

/// A task that may be claimed.
pub(super) struct Candidate {
    pub(super) id: i64,
    pub(super) type_id: i64,
    /// The column that tasks are ordered by.
    pub(super) key: i64,
    /// When its claim expired; `None` if it is pending.
    pub(super) expired_at: Option<Time>,
}

impl ClaimOrder {
    /// Compares candidates of any types, as the SQL of this order does those of one type.
    fn compare(self, one: &Candidate, other: &Candidate) -> Ordering {
        let (by_key, by_id) = (one.key.cmp(&other.key), one.id.cmp(&other.id));
        match self.descending {
            false => by_key.then(by_id),
            true if self.is_highest_first() => by_key.reverse().then(by_id),
            true => by_id.reverse(),
        }
    }
}

impl SqliteStorage {
    /// Claims tasks: those whose claims have expired first, then pending ones. `has_room` is asked with the length of each;
    /// once it says no, the rest is left alone. Returns them in their order, and at least one.
    pub(in crate::server) fn claim(
        &mut self,
        claim: &TaskClaim<'_>,
        mut has_room: impl FnMut(usize) -> Result<bool>,
    ) -> Result<Vec<ClaimedTask>> {
        let (claimed, candidates) = loop {
            self.follow_clock()?;
            let Self { group, clock, .. } = self;
            let claimed = group.change(|connection| {
                let Some(now) = clock.now() else { return Ok(None) };
                let mut candidates = candidates(connection, claim, now)?;
                let mut tasks = Vec::with_capacity(candidates.len());
                for candidate in &candidates {
                    // A task that the answer has no room for must stay available to others.
                    let Some(task) = tasks::to_claim(connection, candidate.id, &mut has_room)? else { break };
                    tasks.push(task);
                }
                candidates.truncate(tasks.len());
                if candidates.is_empty() {
                    return Err(Refusal::NoTask);
                }
                candidates.iter().try_for_each(|candidate| take(connection, claim, candidate, now))?;
                Ok(Some((tasks, candidates)))
            })?;
            // Otherwise the clock was set just now.
            if let Some(claimed) = claimed {
                break claimed;
            }
        };
        for candidate in candidates.iter().filter(|candidate| candidate.expired_at.is_none()) {
            self.counts.moved(candidate.type_id, Some("pending"), Some("claimed"));
        }
        Ok(claimed)
    }

    /// Renews a worker's claims, each as if it were the only one. They then expire `claim_timeout` from now.
    pub(in crate::server) fn renew(
        &mut self,
        ids: &[i64],
        worker_id: &str,
        claim_timeout: Duration,
    ) -> Result<Vec<Result<()>>> {
        loop {
            self.follow_clock()?;
            let Self { group, clock, .. } = self;
            let renewed = group.change(|connection| {
                let Some(now) = clock.now() else { return Ok(None) };
                let renew = |id: &i64| {
                    held_by(connection, *id, worker_id)?;
                    Ok(tasks::set_expiry(connection, *id, now.later_by(claim_timeout)).map(drop)?)
                };
                each(ids, renew).map(Some)
            })?;
            // Otherwise the clock was set just now.
            if let Some(renewed) = renewed {
                return Ok(renewed);
            }
        }
    }

    /// Returns when the first claim of that type expires.
    pub(in crate::server) fn first_expiry(&self, type_id: i64) -> Result<Option<Time>> {
        Ok(tasks::first_expiry(self.group.connection(), type_id)?)
    }
}

/// Returns the tasks to claim, in the order of the claim.
fn candidates(connection: &Connection, claim: &TaskClaim<'_>, now: Time) -> rusqlite::Result<Vec<Candidate>> {
    let mut selected = Vec::new();
    for of_type in claim.types {
        selected.extend(tasks::expired(connection, of_type.type_id, claim.order, now, of_type.limit.min(claim.limit))?);
    }
    selected.sort_unstable_by_key(|candidate| (candidate.expired_at, candidate.id));
    selected.truncate(claim.limit);
    let free = claim.limit - selected.len();
    let mut pending = Vec::new();
    for of_type in claim.types {
        let expired = selected.iter().filter(|candidate| candidate.type_id == of_type.type_id).count();
        let most = free.min(of_type.limit - expired);
        if most > 0 {
            pending.extend(tasks::pending(connection, of_type.type_id, claim.order, most)?);
        }
    }
    pending.sort_unstable_by(|one, other| claim.order.compare(one, other));
    selected.extend(pending.into_iter().take(free));
    selected.sort_unstable_by(|one, other| claim.order.compare(one, other));
    Ok(selected)
}

fn take(connection: &Connection, claim: &TaskClaim<'_>, candidate: &Candidate, now: Time) -> rusqlite::Result<()> {
    if candidate.expired_at.is_some() {
        attempts::archive(connection, candidate.id, AttemptEnd::Expired, None)?;
    }
    tasks::claim(connection, candidate.id, claim.worker_id, now, now.later_by(claim.claim_timeout)).map(drop)
}
