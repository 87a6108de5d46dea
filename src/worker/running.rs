//! The tasks that this process has in its hands, from their claim until their result is settled. One that is handed out
//! again meanwhile, because its claim ran out, is not run twice: the run or the result that is there gets the new claim.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Timestamp;
use crate::store::StoredResult;
use crate::task::{Claim, TaskId, TaskResult};

/// The latest claim of a task in hand.
struct Latest {
    attempt: u32,
    claimed_at: Timestamp,
    worker_id: String,
}

/// The tasks in hand.
pub(super) struct Running {
    claims: Mutex<HashMap<TaskId, Latest>>,
}

impl Running {
    /// Starts with the tasks whose results an earlier process left unreported. Of a task with several of them, only one can
    /// count: which one that is, the TaskManager says.
    pub(super) fn with(left: &[StoredResult]) -> Self {
        let mut claims = HashMap::new();
        for StoredResult { result, .. } in left {
            let (attempt, claimed_at, worker_id) = (result.attempt, result.claimed_at, result.worker_id.clone());
            let latest = Latest { attempt, claimed_at, worker_id };
            claims.entry(result.task_id).and_modify(|it| *it = None).or_insert(Some(latest));
        }
        let claims = claims.into_iter().filter_map(|(id, latest)| Some((id, latest?))).collect();
        Self { claims: Mutex::new(claims) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Latest>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a claim. False where its task is in hand already.
    pub(super) fn enter(&self, claim: &Claim) -> bool {
        let Claim { task, worker_id, claimed_at, .. } = claim;
        let latest = Latest { attempt: task.attempt, claimed_at: *claimed_at, worker_id: worker_id.clone() };
        self.lock().insert(task.id, latest).is_none()
    }

    /// Puts a result under the latest claim of its task; false where it is already.
    pub(super) fn renew(&self, result: &mut TaskResult) -> bool {
        let claims = self.lock();
        let Some(latest) = claims.get(&result.task_id).filter(|latest| latest.attempt > result.attempt) else {
            return false;
        };
        (result.attempt, result.claimed_at) = (latest.attempt, latest.claimed_at);
        result.worker_id.clone_from(&latest.worker_id);
        true
    }

    /// Lets go of a task whose result is settled.
    pub(super) fn leave(&self, id: TaskId) {
        self.lock().remove(&id);
    }
}
