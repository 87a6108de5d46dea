//! Claims tasks without losing any, although claiming is not idempotent: after an unknown outcome, the caller looks for
//! the task that it may have claimed before it claims again.

use std::cell::Cell;

use super::retry::extra_lookups;
use super::{Client, Error, Retries, TaskFilter, TaskView};

impl Client {
    /// Calls `claim` with a client without retries, and retries it here. If an answer was lost, `find_claimed` returns what
    /// that call claimed, if anything; while it fails, nothing else is claimed.
    pub fn claim_once<T>(
        &self,
        claim: impl Fn(&Self) -> Result<T, Error>,
        find_claimed: impl Fn() -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let (once, in_doubt, failures) = (self.with_retries(Retries::NONE), Cell::new(false), Cell::new(0));
        // Such an answer may come from a load balancer, and the next one from the TaskManager.
        let is_transient = |error: &Error| error.is_retryable() || matches!(error, Error::NotATaskManager { .. });
        self.retrying_if(is_transient, || {
            if in_doubt.get() {
                if let Some(found) = find_claimed()? {
                    return Ok(found);
                }
                in_doubt.set(false);
            }
            for _ in 0..extra_lookups(failures.replace(failures.get() + 1)) {
                if let Ok(Some(found)) = find_claimed() {
                    return Ok(found);
                }
            }
            let answer = claim(&once);
            if answer.as_ref().is_err_and(Error::may_have_taken_effect) {
                match find_claimed() {
                    Ok(Some(found)) => return Ok(found),
                    Ok(None) => {}
                    Err(_) => in_doubt.set(true),
                }
            }
            answer
        })
    }

    /// Returns the tasks that are claimed by any worker, oldest first, without their params.
    pub fn claimed_tasks(&self) -> Result<Vec<TaskView>, Error> {
        let claimed = TaskFilter { status: Some("claimed".into()), limit: u32::MAX, ..TaskFilter::default() };
        let mut tasks = self.tasks(&claimed)?;
        tasks.reverse();
        Ok(tasks)
    }
}
