//! Renewals: if the server can renew claims, those of unfinished tasks are renewed before they expire. So a task may take
//! longer than a claim lasts, and claims may be short: the tasks of a machine that dies are soon handed out again. A task
//! whose claim was lost, or that was cancelled, is stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Context;
use super::recovery::Recovery;
use super::report_queue::ReportQueue;
use crate::shutdown::{CancelReason, CancelToken};
use crate::task::TaskId;
use crate::taskmanager::{Error, MOST_RENEWALS, Retries};

/// How often to look for claims to renew before it is known how long they last.
const FIRST: Duration = Duration::from_secs(1);
/// How often to look whether another server has come that can renew claims.
const WITHOUT: Duration = Duration::from_secs(10);
/// Minimum time between two renewals.
const SHORTEST: Duration = Duration::from_millis(50);

#[derive(Default)]
struct ClaimTimeState {
    /// How long claims last, as the server last said.
    lasts: Option<Duration>,
    /// When the first of the claims was made or renewed; `None` if there are no claims.
    oldest: Option<Instant>,
    has_ended: bool,
}

/// How long the server's claims last, and when to renew them. An idle worker has none, and waits without a deadline.
#[derive(Default)]
pub(super) struct ClaimTime {
    state: Mutex<ClaimTimeState>,
    changed: Condvar,
}

impl ClaimTime {
    /// Notes a claim made or renewed at `time`, and how long it lasts if the server says so. A new claim has to be in
    /// [`InFlight`](super::in_flight::InFlight) before.
    pub(super) fn note(&self, time: Instant, lasts: Option<Duration>) {
        let mut state = self.state.lock();
        let is_shorter = lasts.is_some_and(|lasts| state.lasts.replace(lasts).is_none_or(|before| lasts < before));
        let is_older = state.oldest.is_none_or(|oldest| time < oldest);
        if is_older {
            state.oldest = Some(time);
        }
        if is_shorter || is_older {
            self.changed.notify_all();
        }
    }

    /// Ends the renewals.
    pub(super) fn end(&self) {
        self.state.lock().has_ended = true;
        self.changed.notify_all();
    }

    /// Waits until claims have to be renewed, and forgets them; false once the renewals have ended.
    fn wait(&self, interval: impl Fn(Option<Duration>) -> Duration) -> bool {
        let mut state = self.state.lock();
        while !state.has_ended {
            match state.oldest.map(|oldest| oldest + interval(state.lasts)) {
                Some(due) if due <= Instant::now() => {
                    state.oldest = None;
                    return true;
                }
                Some(due) => drop(self.changed.wait_until(&mut state, due)),
                None => self.changed.wait(&mut state),
            }
        }
        false
    }
}

/// Claims by worker ID and task, each with what stops its handler, if one runs.
type Claims = BTreeMap<(String, TaskId), Option<Arc<CancelToken>>>;

pub(super) struct Renewals<'w> {
    pub(super) context: &'w Context<'w>,
    pub(super) recovery: &'w Recovery<'w>,
    pub(super) reports: &'w ReportQueue,
    /// Whether there were recovered tasks at the start. They are not in flight before they run.
    pub(super) has_recovered: bool,
}

impl Renewals<'_> {
    /// Renews claims until the worker ends: at a third of the time that they last, and sooner after a failed call.
    pub(super) fn run(&self) {
        let (client, claim_time) = (self.context.client(), &self.context.claim_time);
        let mut has_failed = false;
        // Of earlier processes.
        claim_time.note(Instant::now(), None);
        loop {
            let interval = |lasts: Option<Duration>| match lasts {
                _ if !client.known_features().renew => WITHOUT,
                None => FIRST,
                Some(lasts) => (lasts / if has_failed { 12 } else { 3 }).max(SHORTEST),
            };
            if !claim_time.wait(interval) {
                return;
            }
            let time = Instant::now();
            has_failed = client.features().renew && !self.renew_all();
            if self.has_recovered || !self.context.in_flight.is_empty() {
                claim_time.note(time, None);
            }
        }
    }

    /// Renews the claims of all tasks that were recovered, run, or are unreported; false if a call failed.
    fn renew_all(&self) -> bool {
        let idle = self.recovery.claims().into_iter().chain(self.reports.claims());
        let mut claims: Claims = idle.map(|claim| (claim, None)).collect();
        for (worker_id, id, token) in self.context.in_flight.unstored_claims() {
            claims.insert((worker_id, id), Some(token));
        }
        let (mut claims, mut is_done) = (claims.into_iter().peekable(), true);
        while let Some(((worker_id, id), token)) = claims.next() {
            let (mut ids, mut tokens) = (vec![id], vec![token]);
            while ids.len() < MOST_RENEWALS
                && let Some(((_, id), token)) = claims.next_if(|((other, _), _)| *other == worker_id)
            {
                ids.push(id);
                tokens.push(token);
            }
            // If the server refuses one call, it may accept the others.
            is_done &= self.renew(&worker_id, &ids, &tokens).is_ok();
        }
        is_done
    }

    /// Renews claims of one worker ID in one call, and stops the tasks whose claims were lost.
    fn renew(&self, worker_id: &str, ids: &[TaskId], tokens: &[Option<Arc<CancelToken>>]) -> Result<(), Error> {
        let client = self.context.client().with_retries(Retries::NONE);
        let time = Instant::now();
        for (token, renewed) in tokens.iter().zip(client.renew(worker_id, ids)?) {
            match renewed {
                Ok(lasts) => self.context.claim_time.note(time, Some(lasts)),
                Err(error) if error.says_not_claimed() => {
                    if let Some(token) = token {
                        token.raise(Some(CancelReason::ClaimLost));
                    }
                }
                // The next renewal may succeed.
                Err(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn without_claims_the_wait_has_no_deadline() {
        let claim_time = ClaimTime::default();
        thread::scope(|scope| {
            let is_due = scope.spawn(|| claim_time.wait(|_| Duration::ZERO));
            thread::sleep(Duration::from_millis(100));
            assert!(!is_due.is_finished());
            claim_time.note(Instant::now(), None);
            assert!(is_due.join().unwrap());

            let has_ended = scope.spawn(|| !claim_time.wait(|_| Duration::ZERO));
            thread::sleep(Duration::from_millis(100));
            assert!(!has_ended.is_finished());
            claim_time.end();
            assert!(has_ended.join().unwrap());
        });
    }
}
