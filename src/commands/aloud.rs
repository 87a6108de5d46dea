//! A task worked before somebody's eyes: what its handler prints, how far it is, and what becomes of its result.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar};

use super::live::{self, Waiting};
use super::setup::Setup;
use crate::handler::Listener;
use crate::headline::in_one_line;
use crate::output::{note, printable, say};
use crate::task::TaskId;
use crate::taskmanager::Delivery;
use crate::worker::{Event, Observer};

/// Where there is no live line, it is said no more often than this how far the handler is.
const INTERVAL: Duration = Duration::from_secs(1);

/// Shows what it hears as it comes.
pub(super) struct Aloud {
    screen: MultiProgress,
    bar: ProgressBar,
    task_id: TaskId,
    noted: Mutex<Option<Instant>>,
}

impl Aloud {
    /// With the live line that it moves on, which whoever holds it takes away when the handler has ended.
    pub(super) fn new(task_id: TaskId, setup: &Setup) -> (Self, Waiting) {
        let line = Waiting::for_what(format!("task {task_id} runs"), setup);
        let aloud = Self { screen: setup.screen.clone(), bar: line.bar().clone(), task_id, noted: Mutex::new(None) };
        (aloud, line)
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

impl Listener for Aloud {
    fn progress(&self, percent: u8, message: Option<&str>) {
        let progress = match message {
            Some(message) => format!("{percent} %: {message}"),
            None => format!("{percent} %"),
        };
        if live::is_wanted() {
            self.bar.set_message(printable(&format!("task {} runs, {progress}", self.task_id)).into_owned());
        } else if self.is_time_to_note() {
            note(progress);
        }
    }

    fn stderr_line(&self, line: &str) {
        self.screen.suspend(|| note(line));
    }

    fn complaint(&self, problem: &str) {
        self.screen.suspend(|| say(problem));
    }
}

impl Observer for Aloud {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Progress { percent, message, .. } => self.progress(*percent, *message),
            Event::HandlerLine(_, line) => self.stderr_line(line),
            Event::Ignored(_, problem) => self.complaint(problem),
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
