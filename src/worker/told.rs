//! What has been said of a task is not said again each time that it happens.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashSet;

use crate::task::TaskId;

/// So many are remembered. Beyond that something may be said twice.
const MOST: usize = 1000;

/// What may happen to a task again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum News {
    /// It is claimed while it is in flight.
    ClaimRenewed,
    /// It is of a type that nobody asked for.
    WrongType,
    /// The TaskManager refuses its report.
    ReportRefused,
}

/// What has been said of which task.
#[derive(Default)]
pub(super) struct Told(Mutex<HashSet<(TaskId, News)>>);

impl Told {
    fn lock(&self) -> MutexGuard<'_, HashSet<(TaskId, News)>> {
        self.0.lock()
    }

    /// Whether that has been said of the task. From now on it has.
    pub(super) fn again(&self, id: TaskId, news: News) -> bool {
        let mut told = self.lock();
        if told.len() >= MOST {
            told.clear();
        }
        !told.insert((id, news))
    }

    /// The task is done: what may happen to it later is news.
    pub(super) fn forget(&self, id: TaskId) {
        self.lock().retain(|(told, _)| *told != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_news_once_until_the_task_is_done() {
        let (told, task) = (Told::default(), TaskId(1));
        assert!(!told.again(task, News::WrongType) && !told.again(task, News::ClaimRenewed));
        assert!(told.again(task, News::WrongType) && !told.again(TaskId(2), News::WrongType));
        told.forget(task);
        assert!(!told.again(task, News::WrongType) && told.again(TaskId(2), News::WrongType));
        (0..10 * MOST as u64).for_each(|id| _ = told.again(TaskId(id), News::WrongType));
        assert!(told.lock().len() <= MOST);
    }
}
