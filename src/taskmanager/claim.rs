//! Claiming such that no task is lost, although claiming is not idempotent: whenever the fate of a claim is in doubt, the
//! caller looks for the task that it may have claimed before anything more is claimed.

use std::cell::Cell;

use super::retry::out_of_step;
use super::{Client, Error, Retries, TaskFilter, TaskView};

impl Client {
    /// Calls `claim` as often as this client is patient, with a client that is not. Where an answer was lost, `look`
    /// finds what that call may have claimed, `None` where there is nothing; while it fails, nothing more is claimed.
    pub fn claim_once<T>(
        &self,
        claim: impl Fn(&Self) -> Result<T, Error>,
        look: impl Fn() -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let (once, in_doubt, failures) = (self.with_retries(Retries::NONE), Cell::new(false), Cell::new(0));
        // A page of a balancer's, say: the next answer may be the TaskManager's.
        let may_pass = |error: &Error| error.is_retryable() || matches!(error, Error::NotATaskManager { .. });
        self.retrying_if(may_pass, || {
            if in_doubt.get() {
                if let Some(found) = look()? {
                    return Ok(found);
                }
                in_doubt.set(false);
            }
            for _ in 0..out_of_step(failures.replace(failures.get() + 1)) {
                if let Ok(Some(found)) = look() {
                    return Ok(found);
                }
            }
            let answer = claim(&once);
            if answer.as_ref().is_err_and(Error::may_have_taken_effect) {
                match look() {
                    Ok(Some(found)) => return Ok(found),
                    Ok(None) => {}
                    Err(_) => in_doubt.set(true),
                }
            }
            answer
        })
    }

    /// The tasks that are claimed now, by whomever, oldest first. A list without their params.
    pub fn claimed_tasks(&self) -> Result<Vec<TaskView>, Error> {
        let claimed = TaskFilter { status: Some("claimed".into()), limit: u32::MAX, ..TaskFilter::default() };
        let mut tasks = self.tasks(&claimed)?;
        tasks.reverse();
        Ok(tasks)
    }
}
