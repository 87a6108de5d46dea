//! The tasks that this process has in its hands, from their claim until their result is settled. One that is handed out
//! again meanwhile, because its claim ran out, is not run twice: the run or the result that is there gets the new claim.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Timestamp;
use crate::task::{Claim, TaskId, TaskResult};

/// The latest claim of a task in hand.
struct Latest {
    attempt: u32,
    claimed_at: Timestamp,
}

/// The tasks in hand.
#[derive(Default)]
pub(super) struct Running {
    claims: Mutex<HashMap<TaskId, Latest>>,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Latest>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a claim. False where its task is in hand already.
    pub(super) fn enter(&self, claim: &Claim) -> bool {
        let latest = Latest { attempt: claim.task.attempt, claimed_at: claim.claimed_at };
        self.lock().insert(claim.task.id, latest).is_none()
    }

    /// Puts a result under the latest claim of its task; false where it is already.
    pub(super) fn renew(&self, result: &mut TaskResult) -> bool {
        let claims = self.lock();
        let Some(latest) = claims.get(&result.task_id).filter(|latest| latest.attempt > result.attempt) else {
            return false;
        };
        (result.attempt, result.claimed_at) = (latest.attempt, latest.claimed_at);
        true
    }

    /// Lets go of a task whose result is settled.
    pub(super) fn leave(&self, id: TaskId) {
        self.lock().remove(&id);
    }
}
