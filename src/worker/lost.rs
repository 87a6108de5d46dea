//! Claims whose answers were lost: the TaskManager shows their tasks as this worker's, or as those of a worker of this
//! results file that has died, and nobody works them. They are looked for when a worker starts, and after each call that
//! may have claimed a task without saying so.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::recovery::end_of;
use super::{Event, Executor, Worker};
use crate::clock::Slept;
use crate::config::Origin;
use crate::store::{Process, StoreError};
use crate::task::{Claim, Task, TaskId, position_of_type};
use crate::taskmanager::{Client, Error, TaskView};

/// A server may carry out a call for so long after the caller has lost it: then is the last look for its task.
const LATEST: Duration = Duration::from_secs(2);

/// Who has noted a poll since then may have died just now: polls are noted every few seconds, and each takes a minute at
/// most.
const RECENTLY: Duration = Duration::from_mins(5);

/// So often a task whose claim was lost is asked for if the answer cannot be read.
const READ_TRIES: u32 = 3;

/// One handing out of a task.
type Attempt = (TaskId, u32);

#[derive(Default)]
struct State {
    /// Calls of this process that may have claimed a task each that was not found yet.
    doubts: usize,
    /// An earlier process may have lost claims.
    earlier_doubt: bool,
    /// A look has been answered.
    has_looked: bool,
    /// Lost claims that were found so far.
    found: u64,
    /// A look that begins then or later settles all of them.
    settled_from: Option<Instant>,
    /// Since when looks are not answered, where that is so.
    failing_since: Option<Instant>,
    /// The attempts that this process has in its hands. One that a look has found stays, with the time: the answer to a
    /// call that was made before may still come, and is about the same attempt.
    attempts: HashMap<Attempt, Option<Instant>>,
}

/// What is known of earlier processes that may have lost claims which are this worker's to take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Earlier {
    /// There was none.
    None,
    /// There were some, and all they called for has been carried out.
    Past,
    /// One may have died a moment ago.
    JustDied,
}

impl Earlier {
    /// What the results file says of the processes before `process`.
    pub(super) fn of(executor: &Executor<'_>, process: &Process) -> Result<Self, StoreError> {
        let (store, api_url, now) = (executor.store, executor.client.url(), executor.clock.now());
        let recently = now.checked_sub(RECENTLY).unwrap_or(now);
        if store.may_have_just_died(process, api_url, recently)? {
            return Ok(Self::JustDied);
        }
        // A worker id that is new cannot have claimed anything before.
        let is_new = executor.config.worker_id.origin == Origin::Default;
        Ok(if is_new && !store.had_other_workers(process, api_url)? { Self::None } else { Self::Past })
    }
}

/// What is not known of claims, and which attempts are in hand.
pub(super) struct LostClaims {
    state: Mutex<State>,
}

impl LostClaims {
    /// Starts with a look to come if earlier processes may have lost claims; and with one more if one of them may have
    /// just died, since its last call may not be carried out yet.
    pub(super) fn new(earlier: Earlier) -> Self {
        let settled_from = match earlier {
            Earlier::None => None,
            Earlier::Past => Some(Instant::now()),
            Earlier::JustDied => Instant::now().checked_add(LATEST),
        };
        Self { state: Mutex::new(State { earlier_doubt: settled_from.is_some(), settled_from, ..State::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// How many lost claims were found so far.
    pub(super) fn found(&self) -> u64 {
        self.lock().found
    }

    /// A call may have claimed a task, and nobody knows.
    pub(super) fn doubt(&self) {
        let mut state = self.lock();
        state.doubts += 1;
        state.settled_from = Instant::now().checked_add(LATEST);
    }

    /// How long it is until the next look at what is in doubt; `None` if nothing is.
    pub(super) fn settled_in(&self) -> Option<Duration> {
        let state = self.lock();
        let from = state.settled_from.filter(|_| state.doubts > 0 || state.earlier_doubt)?;
        let is_first = state.earlier_doubt && !state.has_looked;
        Some(if is_first { Duration::ZERO } else { from.saturating_duration_since(Instant::now()) })
    }

    /// Whether a call of this process may have claimed a task, and nobody knows.
    fn is_own_in_doubt(&self) -> bool {
        self.lock().doubts > 0
    }

    /// How long looks have not been answered.
    pub(super) fn not_answered_for(&self) -> Duration {
        self.lock().failing_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// A look was not answered.
    fn failed(&self) {
        self.lock().failing_since.get_or_insert_with(Instant::now);
    }

    /// A look that began at `start` has found so many tasks of this worker's own.
    fn looked(&self, start: Instant, found: usize) {
        let mut state = self.lock();
        let all = state.settled_from.is_none_or(|from| from <= start);
        (state.failing_since, state.has_looked) = (None, true);
        state.doubts = if all { 0 } else { state.doubts.saturating_sub(found) };
        state.earlier_doubt &= !all;
    }

    /// Takes an attempt in hand that a call, made at `asked_at`, was answered with. False where a look was faster.
    pub(super) fn admit(&self, task: &Task, asked_at: Instant) -> bool {
        let mut state = self.lock();
        let known = state.attempts.entry((task.id, task.attempt)).or_default();
        // A later call may be given the same attempt again only where somebody has put the task back.
        let is_new = known.is_none_or(|found_at| found_at < asked_at);
        if is_new {
            *known = None;
        }
        is_new
    }

    /// Takes an attempt in hand that a look has found; false where it is already.
    fn admit_found(&self, attempt: Attempt) -> bool {
        let mut state = self.lock();
        let is_new = !state.attempts.contains_key(&attempt);
        state.attempts.entry(attempt).or_insert_with(|| Some(Instant::now()));
        is_new
    }

    /// Counts a task that was taken up.
    fn count(&self) {
        self.lock().found += 1;
    }

    /// Lets go of an attempt that a look has found and that is not to be worked after all.
    fn forget(&self, attempt: Attempt) {
        self.lock().attempts.remove(&attempt);
    }

    /// Lets go of an attempt whose claim seems to have run out; a look is to find whether it has.
    pub(super) fn give_up(&self, attempt: Attempt) {
        self.forget(attempt);
        self.doubt();
    }

    /// Lets go of an attempt whose work has ended.
    pub(super) fn release(&self, attempt: Attempt) {
        let mut state = self.lock();
        if state.attempts.get(&attempt) == Some(&None) {
            state.attempts.remove(&attempt);
        }
    }
}

impl Worker<'_> {
    /// Looks for lost claims if that is due. Returns in how long a look can settle what is still in doubt, if anything is.
    pub(super) fn settle_lost_claims(&self) -> Result<Option<Duration>, Error> {
        let time = self.lost.settled_in();
        if time.is_some_and(|time| time.is_zero()) {
            self.look_for_lost_claims(&self.claimer)?;
            // The first look of a worker comes too early to settle all, if another has just died.
            return Ok(self.lost.settled_in());
        }
        Ok(time)
    }

    /// Looks for lost claims until none of this process is in doubt any more; false where that cannot be: the worker is to
    /// end, or fails.
    pub(super) fn settle_all_lost_claims(&self) -> bool {
        while self.lost.is_own_in_doubt() {
            let wait = match self.settle_lost_claims() {
                Ok(time) => time.unwrap_or_default(),
                Err(error) => self.not_settled(error).unwrap_or(LATEST),
            };
            if self.has_failed() || self.executor.clock.sleep(wait) == Slept::Interrupted {
                return false;
            }
        }
        true
    }

    /// Takes up the tasks that the TaskManager shows as claimed by this worker, or by a dead one, and that nobody has in
    /// hand. Returns how many there were.
    pub(super) fn look_for_lost_claims(&self, client: &Client) -> Result<usize, Error> {
        self.take_up_lost(client).inspect_err(|_| self.lost.failed())
    }

    fn take_up_lost(&self, client: &Client) -> Result<usize, Error> {
        let start = Instant::now();
        let tasks = match client.claimed_tasks() {
            Err(error @ Error::Refused { .. }) => {
                let warning = format!("tasks whose claims were lost stay claimed until they expire: {error}");
                self.executor.observer.event(&Event::Warning(warning));
                if self.lost.is_own_in_doubt() && self.lost.settled_in() == Some(Duration::ZERO) {
                    self.not_done(error);
                }
                Vec::new()
            }
            answer => answer?,
        };
        let (mut found, mut owners) = (Vec::new(), HashMap::new());
        for task in tasks {
            let attempt = (task.id, task.attempts);
            if self.is_ours(&task, &mut owners) && self.lost.admit_found(attempt) {
                match self.take_up(client, &task) {
                    Ok(true) => found.push(task),
                    answer => {
                        self.lost.forget(attempt);
                        answer?;
                    }
                }
            }
        }
        let own = |task: &&TaskView| task.claimed_by.as_deref() == Some(self.executor.config.worker_id.as_str());
        self.lost.looked(start, found.iter().filter(own).count());
        Ok(found.len())
    }

    /// Whether a claim is this worker's own, or a dead one's. Each owner is looked up once.
    fn is_ours(&self, task: &TaskView, owners: &mut HashMap<String, bool>) -> bool {
        let Some(owner) = task.claimed_by.as_ref().filter(|_| task.status == "claimed") else { return false };
        let look_up = |owner: &String| {
            *owner == self.executor.config.worker_id.value
                || self.unless_it_fails(self.executor.store.is_dead_worker(owner, self.executor.client.url()))
        };
        *owners.entry(owner.clone()).or_insert_with_key(look_up)
    }

    /// Takes a task up that has been claimed already, as if that had been now: by this machine's clock it is not known
    /// when it was. False where another process has it, or it is not to be had any more.
    fn take_up(&self, client: &Client, listed: &TaskView) -> Result<bool, Error> {
        let Some(index) = position_of_type(self.types.iter().map(|it| it.name.as_str()), &listed.task_type) else {
            return Ok(false);
        };
        let Some(whole) = self.read_claimed(client, listed)? else { return Ok(false) };
        let owner = listed.claimed_by.clone().unwrap_or_default();
        if !whole.is_claimed_by(&owner) || whole.attempts != listed.attempts {
            return Ok(false);
        }
        let claim = self.executor.claim(whole.into_task(), &self.types[index], self.executor.clock.moment());
        let claim = Claim { worker_id: owner, ..claim };
        let api_url = self.executor.client.url();
        if !self.unless_it_fails(self.executor.store.adopt_claim(&claim, api_url, &self.process)) {
            return Ok(false);
        }
        self.executor.observer.event(&Event::LostClaimFound(&claim));
        let end = end_of(&claim, &self.types[index], &self.executor);
        self.left.add(index, claim, end);
        self.lost.count();
        Ok(true)
    }

    /// A task that was listed. `None` where it is gone, or cannot be read though several times tried: it keeps none from
    /// the others.
    fn read_claimed(&self, client: &Client, listed: &TaskView) -> Result<Option<TaskView>, Error> {
        let mut tried = 1;
        loop {
            match client.task(listed.id) {
                Err(Error::BadAnswer { .. } | Error::NotATaskManager { .. }) if tried < READ_TRIES => tried += 1,
                Err(error @ (Error::BadAnswer { .. } | Error::NotATaskManager { .. })) => {
                    self.not_done(error);
                    return Ok(None);
                }
                answer => return answer,
            }
        }
    }

    /// What the results file answers.
    fn unless_it_fails(&self, answer: Result<bool, StoreError>) -> bool {
        answer.unwrap_or_else(|error| {
            self.store_failed(error);
            false
        })
    }
}
