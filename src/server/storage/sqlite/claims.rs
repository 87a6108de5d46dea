//! Claims: which tasks are handed out, and for how long.

use std::cmp::Ordering;
use std::time::Duration;

use rusqlite::Connection;

use super::{SqliteStorage, attempts, held_by, tasks};
use crate::server::error::{Refusal, Result};
use crate::server::storage::{AttemptEnd, ClaimOrder, ClaimedTask, SortBy, TaskClaim, Time};

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
        match (self.by, self.descending) {
            (_, false) => by_key.then(by_id),
            (SortBy::CreatedAt | SortBy::Id, true) => by_key.then(by_id).reverse(),
            (SortBy::Priority | SortBy::Attempts, true) => by_key.reverse().then(by_id),
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
                // A task that the answer has no room for must stay available to others.
                let count = fitting(connection, &candidates, &mut has_room)?;
                candidates.truncate(count);
                if candidates.is_empty() {
                    return Err(Refusal::NoTask);
                }
                let take = |candidate: &Candidate| take(connection, claim, candidate, now);
                let claimed = candidates.iter().map(take).collect::<rusqlite::Result<Vec<_>>>()?;
                Ok(Some((claimed, candidates)))
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

    /// Renews a worker's claim, which then expires `claim_timeout` from now.
    pub(in crate::server) fn renew(&mut self, id: i64, worker_id: &str, claim_timeout: Duration) -> Result<()> {
        loop {
            self.follow_clock()?;
            let Self { group, clock, .. } = self;
            let renewed = group.change(|connection| {
                let Some(now) = clock.now() else { return Ok(false) };
                held_by(connection, id, worker_id)?;
                tasks::set_expiry(connection, id, now.later_by(claim_timeout))?;
                Ok::<_, Refusal>(true)
            })?;
            if renewed {
                return Ok(());
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

/// Returns how many of the candidates there is room for.
fn fitting(
    connection: &Connection,
    candidates: &[Candidate],
    has_room: &mut impl FnMut(usize) -> Result<bool>,
) -> Result<usize> {
    for (count, candidate) in candidates.iter().enumerate() {
        if !has_room(tasks::length(connection, candidate.id)?.unwrap_or(0))? {
            return Ok(count);
        }
    }
    Ok(candidates.len())
}

fn take(
    connection: &Connection,
    claim: &TaskClaim<'_>,
    candidate: &Candidate,
    now: Time,
) -> rusqlite::Result<ClaimedTask> {
    if candidate.expired_at.is_some() {
        attempts::archive(connection, candidate.id, AttemptEnd::Expired, None)?;
    }
    tasks::claim(connection, candidate.id, claim.worker_id, now, now.later_by(claim.claim_timeout))
}
