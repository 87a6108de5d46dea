//! `create-task --from`: any number of tasks from lines of JSON, several requests at once, in constant memory.
//!
//! A reader hands lines to as many senders as requests may be under way, and a place in line for each answer to the
//! printer, which takes the answers in the order of the input. Both ways are bounded, so the reader never runs ahead.

use std::io::{BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde_json::Value;

use crate::exit::{Exit, UserError};
use crate::shutdown::{Phase, Shutdown};
use crate::taskmanager::{Client, Created, Error};

use super::errors;

/// The longest line, in bytes: the TaskManager takes no longer params anyway.
const MAX_LINE: u64 = 16 << 20;

/// How far the reader may be ahead of the printer, for each request under way.
const AHEAD: usize = 8;

/// What to create.
pub(super) struct Bulk<'a> {
    pub(super) client: &'a Client,
    pub(super) task_type: &'a str,
    pub(super) priority: Option<i64>,
    /// Requests under way at once.
    pub(super) concurrency: usize,
    pub(super) shutdown: &'a Shutdown,
}

/// What became of the lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) created: u64,
    pub(super) deduplicated: u64,
    pub(super) failed: u64,
}

/// What became of one line.
type Answer = Result<Created, LineError>;

/// Why a line made no task.
pub(super) enum LineError {
    /// The line, or its params, are wrong; the next may be right.
    Bad(String),
    /// No other line would fare better.
    Fatal(UserError),
}

struct Job {
    line: Vec<u8>,
    answer: SyncSender<Answer>,
}

type Place = (u64, Receiver<Answer>);

impl Bulk<'_> {
    /// Creates a task for each line of `input` and calls `each` with its number and what became of it, in the order of
    /// the input. Ends at the first line whose failure would be every line's.
    pub(super) fn run(
        &self,
        input: impl BufRead + Send,
        mut each: impl FnMut(u64, &Result<Created, String>) -> Result<(), UserError>,
    ) -> Result<Tally, UserError> {
        let (jobs, jobs_to_do) = sync_channel::<Job>(self.concurrency);
        let (places, in_order) = sync_channel::<Place>(self.concurrency * AHEAD);
        let jobs_to_do = Mutex::new(jobs_to_do);
        thread::scope(|scope| {
            let reader = scope.spawn(move || self.read(input, &jobs, &places));
            for _ in 0..self.concurrency {
                scope.spawn(|| self.send(&jobs_to_do));
            }
            let mut tally = Tally::default();
            for (number, answer) in in_order {
                // A sender that ended without an answer was interrupted.
                let Ok(answer) = answer.recv() else { break };
                let answer = match answer {
                    Err(LineError::Fatal(error)) => return Err(at_line(number, error)),
                    Err(LineError::Bad(reason)) => Err(reason),
                    Ok(created) => Ok(created),
                };
                tally.count(&answer);
                each(number, &answer)?;
            }
            match reader.join() {
                Ok(read) => read.map(|()| tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Reads lines until the end, until the program is asked to end, or until nobody wants more.
    fn read(
        &self,
        mut input: impl BufRead,
        jobs: &SyncSender<Job>,
        places: &SyncSender<Place>,
    ) -> Result<(), UserError> {
        for number in 1.. {
            if self.shutdown.get() >= Phase::Draining {
                let message = format!("interrupted before line {number}; the lines before it are done");
                return Err(UserError::new(Exit::Interrupted, message));
            }
            let mut line = Vec::new();
            let read = input.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line);
            read.map_err(|error| UserError::new(Exit::Failed, format!("line {number} cannot be read: {error}")))?;
            if line.is_empty() {
                break;
            }
            if line.len() as u64 > MAX_LINE {
                let message = format!("line {number} is longer than {} MiB", MAX_LINE >> 20);
                return Err(UserError::new(Exit::Failed, message));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let (answer, place) = sync_channel(1);
            if places.send((number, place)).is_err() || jobs.send(Job { line, answer }).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn send(&self, jobs: &Mutex<Receiver<Job>>) {
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job { line, answer }) = job else { break };
            // Nobody listens any more where an earlier line ended it all.
            if answer.send(self.create(&line)).is_err() {
                break;
            }
        }
    }

    fn create(&self, line: &[u8]) -> Answer {
        let params: Value =
            serde_json::from_slice(line).map_err(|error| LineError::Bad(format!("this is not JSON: {error}")))?;
        if !params.is_object() {
            return Err(LineError::Bad("params must be a JSON object".into()));
        }
        self.client.create(self.task_type, &params, self.priority).map_err(|error| match &error {
            Error::Refused { message, .. } if !error.says_unknown_type() => LineError::Bad(message.clone()),
            _ if error.says_unknown_type() => LineError::Fatal(errors::unknown_type(self.task_type)),
            _ => LineError::Fatal(errors::taskmanager(&error)),
        })
    }
}

impl Tally {
    fn count(&mut self, answer: &Result<Created, String>) {
        *match answer {
            Ok(Created { deduplicated: true, .. }) => &mut self.deduplicated,
            Ok(_) => &mut self.created,
            Err(_) => &mut self.failed,
        } += 1;
    }
}

fn at_line(number: u64, mut error: UserError) -> UserError {
    error.message = format!(
        "line {number}: {}; run it again once that is mended: tasks that are there are not made twice",
        error.message
    );
    error
}
