//! Shows a task on the terminal while it runs: its handler's output, its progress, and what happens to its result.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar};

use super::live::{self, WaitLine};
use super::setup::Setup;
use crate::handler::Listener;
use crate::headline::in_one_line;
use crate::output::{note, printable, say};
use crate::task::TaskId;
use crate::taskmanager::Delivery;
use crate::worker::{Event, Observer};

/// Minimum interval between progress lines if there is no live line.
const INTERVAL: Duration = Duration::from_secs(1);

/// Prints the events of a task as they happen.
pub(super) struct ConsoleObserver {
    screen: MultiProgress,
    bar: ProgressBar,
    task_id: TaskId,
    noted: Mutex<Option<Instant>>,
}

impl ConsoleObserver {
    /// Returns the observer and its live line. Drop that when the handler has ended.
    pub(super) fn new(task_id: TaskId, setup: &Setup) -> (Self, WaitLine) {
        let line = WaitLine::message(format!("running task {task_id}"), setup);
        let console_observer =
            Self { screen: setup.screen.clone(), bar: line.bar().clone(), task_id, noted: Mutex::new(None) };
        (console_observer, line)
    }

    fn is_time_to_note(&self) -> bool {
        let mut noted = self.noted.lock();
        let is_time = noted.is_none_or(|noted| noted.elapsed() >= INTERVAL);
        if is_time {
            *noted = Some(Instant::now());
        }
        is_time
    }
}

impl Listener for ConsoleObserver {
    fn progress(&self, percent: u8, message: Option<&str>) {
        let progress = match message {
            Some(message) => format!("{percent} %: {message}"),
            None => format!("{percent} %"),
        };
        if live::is_wanted() {
            self.bar.set_message(printable(&format!("running task {}, {progress}", self.task_id)).into_owned());
        } else if self.is_time_to_note() {
            note(progress);
        }
    }

    fn stderr_line(&self, line: &str) {
        self.screen.suspend(|| note(line));
    }

    fn warning(&self, problem: &str) {
        self.screen.suspend(|| say(problem));
    }
}

impl Observer for ConsoleObserver {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Progress { percent, message, .. } => self.progress(*percent, *message),
            Event::HandlerLine(_, line) => self.stderr_line(line),
            Event::Ignored(_, problem) => self.warning(problem),
            _ => self.screen.suspend(|| tell(event)),
        }
    }
}

fn tell(event: &Event<'_>) {
    match event {
        Event::Retry { error, wait, .. } => say(format_args!("{}; trying again in {wait:.1?}", in_one_line(error))),
        Event::Reported { task_id, delivery: Delivery::Confirmed, status, .. } => {
            note(format_args!("reported: task {task_id} {}", status.as_str()));
        }
        Event::Reported { task_id, delivery: Delivery::ClaimLost, .. } => {
            say(format_args!("the claim was lost: the result of task {task_id} is kept in the results file only"));
        }
        _ => {}
    }
}
