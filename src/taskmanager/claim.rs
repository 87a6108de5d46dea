//! Claiming such that no task is lost, although claiming is not idempotent: whenever the fate of a claim is in doubt, the
//! caller looks for the task that it may have claimed before anything more is claimed.

use std::cell::Cell;

use super::{Client, Error, Retries, TaskFilter, TaskView};

/// Tasks that are asked for at once.
const PAGE: u32 = 500;

impl Client {
    /// Calls `claim` as often as this client is patient, with a client that is not. Where an answer was lost, `look`
    /// finds what that call may have claimed, `None` where there is nothing; while it fails, nothing more is claimed.
    pub fn claim_once<T>(
        &self,
        claim: impl Fn(&Self) -> Result<T, Error>,
        look: impl Fn() -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let (once, in_doubt) = (self.with_retries(Retries::NONE), Cell::new(false));
        self.retrying(|| {
            if in_doubt.get() {
                if let Some(found) = look()? {
                    return Ok(found);
                }
                in_doubt.set(false);
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

    /// The tasks that are claimed now, by whomever. A list without their params.
    pub fn claimed_tasks(&self) -> Result<Vec<TaskView>, Error> {
        let mut filter = TaskFilter { status: Some("claimed".into()), limit: PAGE, ..TaskFilter::default() };
        let mut tasks = Vec::new();
        loop {
            let page = self.tasks(&filter)?;
            let Some(last) = page.last() else { return Ok(tasks) };
            filter.before = Some(last.id);
            filter.offset = filter.offset.saturating_add(u32::try_from(page.len()).unwrap_or(u32::MAX));
            tasks.extend(page);
        }
    }
}
