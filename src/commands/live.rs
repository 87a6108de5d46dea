//! The live line of a worker on a terminal: what is done, how fast, what runs. Logs go above it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::task::{TaskId, TaskResult};
use crate::worker::Event;

/// Running tasks that are named; the rest are counted.
const NAMED: usize = 3;

struct State {
    started: Instant,
    completed: u64,
    failed: u64,
    running: BTreeMap<TaskId, String>,
}

/// A live line; hidden where standard error is no terminal.
pub(super) struct Live {
    bar: ProgressBar,
    state: Mutex<State>,
}

impl Live {
    /// A line without an end, for a worker that goes on.
    pub(super) fn spinner(screen: &MultiProgress) -> Self {
        // The templates are constants; were one wrong, the default style would be shown.
        let style =
            ProgressStyle::with_template("{spinner} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = screen.add(ProgressBar::new_spinner().with_style(style));
        bar.enable_steady_tick(Duration::from_millis(250));
        Self::new(bar)
    }

    /// A bar that fills up while `total` tasks are worked.
    #[cfg(feature = "server")]
    pub(super) fn bar(screen: &MultiProgress, total: u64) -> Self {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {wide_msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Self::new(screen.add(ProgressBar::new(total).with_style(style)))
    }

    fn new(bar: ProgressBar) -> Self {
        let state = State { started: Instant::now(), completed: 0, failed: 0, running: BTreeMap::new() };
        Self { bar, state: Mutex::new(state) }
    }

    /// Takes what happened into the line.
    pub(super) fn event(&self, event: &Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Claimed(claim) => {
                state.running.insert(claim.task.id, claim.task.task_type.clone());
            }
            Event::Finished(result) => state.finish(result),
            _ => return,
        }
        self.bar.set_position(state.completed + state.failed);
        self.bar.set_message(state.describe());
    }

    /// Takes the line away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl State {
    fn finish(&mut self, result: &TaskResult) {
        self.running.remove(&result.task_id);
        *if result.outcome.failure.is_none() { &mut self.completed } else { &mut self.failed } += 1;
    }

    #[allow(clippy::cast_precision_loss)] // a count of tasks is far below 2^53
    fn describe(&self) -> String {
        let rate = (self.completed + self.failed) as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        let mut text = format!("{} completed, {} failed, {rate:.1}/s", self.completed, self.failed);
        let mut names: Vec<String> =
            self.running.iter().take(NAMED).map(|(id, task_type)| format!("{id} {task_type}")).collect();
        if self.running.len() > NAMED {
            names.push(format!("{} more", self.running.len() - NAMED));
        }
        if !names.is_empty() {
            text = format!("{text} | running {}", names.join(", "));
        }
        text
    }
}
