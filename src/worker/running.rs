//! The tasks that this process has in its hands, from their claim until their result is settled. One that is handed out
//! again meanwhile, because its claim ran out, is not run twice: the run or the result that is there gets the new claim.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::task::{Claim, TaskId, TaskResult};

/// The claims of the tasks in hand, each the latest of its task.
#[derive(Default)]
pub(super) struct Running {
    claims: Mutex<HashMap<TaskId, Claim>>,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Claim>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a claim. False where its task is in hand already.
    pub(super) fn enter(&self, claim: &Claim) -> bool {
        self.lock().insert(claim.task.id, claim.clone()).is_none()
    }

    /// Puts a result under the latest claim of its task; false where it is already.
    pub(super) fn renew(&self, result: &mut TaskResult) -> bool {
        let claims = self.lock();
        let Some(latest) = claims.get(&result.task_id).filter(|claim| claim.task.attempt > result.attempt) else {
            return false;
        };
        (result.attempt, result.claimed_at) = (latest.task.attempt, latest.claimed_at);
        true
    }

    /// Lets go of a task whose result is settled.
    pub(super) fn leave(&self, id: TaskId) {
        self.lock().remove(&id);
    }
}
