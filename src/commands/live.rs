//! Live lines on a terminal: a worker's activity and rate, or what a command waits for. The log is printed above them.

use parking_lot::{Mutex, MutexGuard};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use console::measure_text_width;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use log::LevelFilter;

use super::screen;
use super::setup::Setup;
use crate::output::Stream;
use crate::task::{TaskId, TaskResult};
use crate::worker::Event;

/// How long a command waits before a line is shown.
const NO_WAIT: Duration = Duration::from_secs(1);

const TICK: Duration = Duration::from_millis(250);

struct LiveState {
    started: Instant,
    completed: u64,
    failed: u64,
    /// Running tasks, with their type and their progress if reported.
    running: BTreeMap<TaskId, (String, Option<u8>)>,
}

/// Whether to show live lines: standard error is a terminal, and `-q` is not set.
pub(super) fn is_wanted() -> bool {
    Stream::Stderr.is_decorated() && log::max_level() >= LevelFilter::Info
}

/// A line that shows what a command waits for, after a second. Dropping it removes the line; do that before printing.
pub(super) struct WaitLine {
    bar: ProgressBar,
    /// Dropped at the end.
    ended: Option<Sender<()>>,
    shows: Option<JoinHandle<()>>,
}

impl WaitLine {
    /// Shows a message without progress.
    pub(super) fn message(message: impl Into<Cow<'static, str>>, setup: &Setup) -> Self {
        Self::on(ProgressBar::no_length(), "{spinner} {wide_msg}", setup).with_message(message)
    }

    /// Counts things whose total is unknown.
    pub(super) fn counting(things: &'static str, setup: &Setup) -> Self {
        Self::on(ProgressBar::no_length(), "{spinner} {human_pos} {msg}", setup).with_message(things)
    }

    /// Shows the progress of reading `bytes`.
    pub(super) fn reading(bytes: u64, setup: &Setup) -> Self {
        Self::on(ProgressBar::new(bytes), "{bar:40} {percent:>3} %, {eta} left", setup)
    }

    /// Shows the progress of processing `things`.
    pub(super) fn progress(things: usize, setup: &Setup) -> Self {
        Self::on(ProgressBar::new(things as u64), "{bar:40} {pos}/{len} {wide_msg}", setup)
    }

    /// Shows that the command waits for the TaskManager.
    pub(super) fn for_taskmanager(setup: &Setup) -> Self {
        Self::message(format!("waiting for the TaskManager at {}", setup.config.api_url.value), setup)
    }

    fn on(bar: ProgressBar, template: &str, setup: &Setup) -> Self {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        let bar = styled(bar, template);
        let (ended, end) = channel();
        let (screen, line) = (setup.screen.clone(), bar.clone());
        let show = move || {
            if end.recv_timeout(NO_WAIT) == Err(RecvTimeoutError::Timeout) {
                screen.add(line).enable_steady_tick(TICK);
            }
        };
        // If no thread can be started, no line is shown.
        let shows = is_wanted().then(|| thread::Builder::new().spawn(show).ok()).flatten();
        Self { bar, ended: Some(ended), shows }
    }

    fn with_message(self, message: impl Into<Cow<'static, str>>) -> Self {
        self.bar.set_message(message);
        self
    }

    /// Changes the message.
    pub(super) fn say(&self, message: String) {
        self.bar.set_message(message);
    }

    /// Returns the progress bar, to advance it.
    pub(super) fn bar(&self) -> &ProgressBar {
        &self.bar
    }
}

impl Drop for WaitLine {
    fn drop(&mut self) {
        self.ended = None;
        if let Some(shows) = self.shows.take() {
            // The thread does not panic; if it did, there would be no line to remove.
            let _ = shows.join();
        }
        self.bar.finish_and_clear();
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    // The templates are constants; if one were wrong, the default style would be shown.
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Prints to standard output while a live line may be shown on the same terminal.
pub(super) fn above<T>(screen: &MultiProgress, print: impl FnOnce() -> T) -> T {
    if Stream::Stdout.is_terminal() && is_wanted() { screen.suspend(print) } else { print() }
}

/// The live line of a worker.
pub(super) struct Live {
    bar: ProgressBar,
    /// Columns used before the message.
    taken: usize,
    state: Mutex<LiveState>,
}

impl Live {
    /// Creates a line for a worker without a known end.
    pub(super) fn spinner(screen: &MultiProgress) -> Self {
        let bar = screen.add(styled(ProgressBar::new_spinner(), "{spinner} {wide_msg}"));
        bar.enable_steady_tick(TICK);
        Self::new(bar, "- ".len())
    }

    /// Creates a progress bar for `total` tasks.
    #[cfg(feature = "server")]
    pub(super) fn bar(screen: &MultiProgress, total: u64) -> Self {
        let taken = 40 + format!(" {total}/{total} ").len();
        Self::new(screen.add(styled(ProgressBar::new(total), "{bar:40} {pos}/{len} {wide_msg}")), taken)
    }

    fn new(bar: ProgressBar, taken: usize) -> Self {
        let state = LiveState { started: Instant::now(), completed: 0, failed: 0, running: BTreeMap::new() };
        let live = Self { bar, taken, state: Mutex::new(state) };
        live.show(&live.state());
        live
    }

    fn state(&self) -> MutexGuard<'_, LiveState> {
        self.state.lock()
    }

    fn show(&self, state: &LiveState) {
        self.bar.set_message(state.describe(screen::width().saturating_sub(self.taken)));
    }

    /// Updates the line for an event.
    pub(super) fn event(&self, event: &Event<'_>) {
        let mut state = self.state();
        match event {
            Event::Claimed(claim) => {
                state.running.insert(claim.task.id, (claim.task.task_type.clone(), None));
            }
            Event::Progress { task_id, percent, .. } => {
                if let Some((_, progress)) = state.running.get_mut(task_id) {
                    *progress = Some(*percent);
                }
            }
            Event::Finished(result) => state.finish(result),
            _ => return,
        }
        self.bar.set_position(state.completed + state.failed);
        self.show(&state);
    }

    /// Removes the line.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl LiveState {
    fn finish(&mut self, result: &TaskResult) {
        self.running.remove(&result.task_id);
        if result.outcome.is_not_run() {
            return;
        }
        *if result.outcome.failure.is_none() { &mut self.completed } else { &mut self.failed } += 1;
    }

    #[allow(clippy::cast_precision_loss)] // a count of tasks is far below 2^53
    fn describe(&self, width: usize) -> String {
        let rate = (self.completed + self.failed) as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        let done = format!("{} completed, {} failed, {rate:.1}/s | ", self.completed, self.failed);
        let doing = if self.running.is_empty() {
            "waiting for tasks".to_owned()
        } else {
            format!("running {}", self.name_tasks(width.saturating_sub(done.len() + "running ".len())))
        };
        done + &doing
    }

    /// Names as many running tasks as fit, and the number of the others.
    fn name_tasks(&self, width: usize) -> String {
        let count = self.running.len();
        let mut fitting = format!("{count} tasks");
        let mut names = String::new();
        for (task, more) in self.running.iter().zip((0..count).rev()) {
            names += &named(task);
            if measure_text_width(&names) > width {
                break;
            }
            let all = if more == 0 { names.clone() } else { format!("{names}, {more} more") };
            if measure_text_width(&all) <= width {
                fitting = all;
            }
            names += ", ";
        }
        fitting
    }
}

fn named((id, (task_type, progress)): (&TaskId, &(String, Option<u8>))) -> String {
    match progress {
        Some(percent) => format!("{id} {task_type} {percent} %"),
        None => format!("{id} {task_type}"),
    }
}
