//! `create-task --from`: any number of tasks from lines of JSON, several requests at once, in constant memory.
//!
//! A reader passes lines to the sender threads, and a receiver for each answer to the printer, which handles answers in
//! the order of the input. Both channels are bounded, so the reader cannot run ahead. If the printer ends early, the
//! program exits without waiting for blocked readers or senders.

use parking_lot::Mutex;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::exit::{Exit, UserError};
use crate::json;
use crate::os_error;
use crate::shutdown::{Phase, Shutdown};
use crate::taskmanager::{Client, Created, Error};
use crate::text_file;

use super::errors;

/// Maximum length of a line, in bytes: the maximum size of params.
const MAX_LINE: u64 = json::MAX_BYTES as u64;

/// How many lines per concurrent request the reader may be ahead of the printer.
const AHEAD: usize = 8;

/// A bulk creation of tasks.
pub(super) struct Bulk {
    pub(super) client: Client,
    pub(super) task_type: String,
    pub(super) priority: Option<i64>,
    /// Number of concurrent requests.
    pub(super) concurrency: usize,
    /// Where the lines come from, for errors.
    pub(super) place: String,
    pub(super) shutdown: Arc<Shutdown>,
}

/// Numbers of results.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) created: u64,
    pub(super) deduplicated: u64,
    pub(super) failed: u64,
}

/// The result of one line.
type LineResult = Result<Created, LineError>;

/// Why no task was created for a line.
enum LineError {
    /// The line or its params are invalid; other lines may be valid.
    Bad(String),
    /// All other lines would fail as well.
    Fatal(UserError),
}

struct Job {
    line: Vec<u8>,
    answer: SyncSender<LineResult>,
}

/// The next item for the printer.
enum Next {
    /// The pending answer to the line with this number.
    Line(u64, Receiver<LineResult>),
    /// The end of the input, or an error of reading it.
    End(Result<(), UserError>),
    /// A signal came.
    Interrupted,
}

impl Bulk {
    /// Creates a task for each line of `input`, and calls `each` with its number and its result, in the order of the input.
    /// Stops at the first fatal error.
    pub(super) fn run(
        self,
        input: impl BufRead + Send + 'static,
        mut each: impl FnMut(u64, &Result<Created, String>) -> Result<(), UserError>,
    ) -> Result<Counts, UserError> {
        let mut tally = Counts::default();
        let mut last = 0;
        let next = self.start(input).map_err(|error| {
            UserError::new(Exit::Failed, format!("cannot start threads for the requests: {}", os_error::words(&error)))
                .hint("lower --concurrency, or raise the limit on processes (`ulimit -u`)")
        })?;
        for next in next {
            let (number, answer) = match next {
                Next::Line(number, answer) => (number, answer.recv()),
                Next::End(end) => return end.map(|()| tally),
                Next::Interrupted => return Err(interrupted(last)),
            };
            let answer = match answer {
                Ok(Ok(created)) => Ok(created),
                Ok(Err(LineError::Bad(reason))) => Err(reason),
                Ok(Err(LineError::Fatal(error))) => return Err(at_line(number, error)),
                Err(_) => return Err(at_line(number, UserError::new(Exit::Failed, "its request was not answered"))),
            };
            tally.count(&answer);
            each(number, &answer).map_err(|error| at_line(number, error))?;
            last = number;
        }
        Ok(tally)
    }

    /// Starts the reader and the senders.
    fn start(self, input: impl BufRead + Send + 'static) -> io::Result<Receiver<Next>> {
        let (jobs, jobs_to_do) = sync_channel(self.concurrency);
        let (places, in_order) = sync_channel(self.concurrency * AHEAD);
        let jobs_to_do = Arc::new(Mutex::new(jobs_to_do));
        let bulk = Arc::new(self);
        for _ in 0..bulk.concurrency {
            let (bulk, jobs_to_do) = (Arc::clone(&bulk), Arc::clone(&jobs_to_do));
            thread::Builder::new().spawn(move || bulk.send(&jobs_to_do))?;
        }
        let signal = places.clone();
        let shutdown = Arc::clone(&bulk.shutdown);
        thread::Builder::new().spawn(move || {
            shutdown.wait_for(Phase::Draining, Duration::MAX);
            signal.send(Next::Interrupted)
        })?;
        thread::Builder::new().spawn(move || {
            let end = bulk.read(input, &jobs, &places);
            places.send(end)
        })?;
        Ok(in_order)
    }

    /// Reads lines until the end of the input, a signal, or until the receiver is gone. Returns why it ended.
    fn read(&self, mut input: impl BufRead, jobs: &SyncSender<Job>, places: &SyncSender<Next>) -> Next {
        for number in 1.. {
            let line = match read_line(&mut input) {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                    return Next::End(Err(UserError::usage("--from: cannot read standard input: it is a folder")));
                }
                Err(error) => {
                    let message = format!("{}: cannot read line {number}: {}", self.place, os_error::words(&error));
                    return Next::End(Err(UserError::new(Exit::Failed, message)));
                }
            };
            if number == 1 && text_file::is_utf_16(&line) {
                return Next::End(Err(UserError::usage(format!("{}: it is UTF-16 or UTF-32, not UTF-8", self.place))));
            }
            if self.shutdown.get() > Phase::Running {
                return Next::Interrupted;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let (answer, place) = sync_channel(1);
            if places.send(Next::Line(number, place)).is_err() || jobs.send(Job { line, answer }).is_err() {
                break;
            }
        }
        Next::End(Ok(()))
    }

    fn send(&self, jobs: &Mutex<Receiver<Job>>) {
        loop {
            let job = jobs.lock().recv();
            let Ok(Job { line, answer }) = job else { break };
            // The receiver is gone after a fatal error of an earlier line.
            if answer.send(self.create(&line)).is_err() {
                break;
            }
        }
    }

    fn create(&self, line: &[u8]) -> LineResult {
        if line.len() as u64 > MAX_LINE {
            return Err(LineError::Bad(format!("it is longer than {} MiB", MAX_LINE >> 20)));
        }
        let params = json::read_strict(line).map_err(|error| LineError::Bad(error.to_string()))?;
        if !params.is_object() {
            return Err(LineError::Bad("params must be a JSON object".into()));
        }
        self.client.create(&self.task_type, &params, self.priority).map_err(|error| match &error {
            Error::Refused { message, .. } if !error.says_unknown_type() => LineError::Bad(message.clone()),
            _ if error.says_unknown_type() => LineError::Fatal(errors::unknown_type_at(&self.client, &self.task_type)),
            _ => LineError::Fatal(errors::taskmanager(&error)),
        })
    }
}

/// Reads the next line; `None` at the end. A line that is too long is cut one byte over the limit.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line)?;
    if line.len() as u64 > MAX_LINE && !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
    }
    Ok(Some(line).filter(|line| !line.is_empty()))
}

impl Counts {
    fn count(&mut self, answer: &Result<Created, String>) {
        *match answer {
            Ok(Created { deduplicated: true, .. }) => &mut self.deduplicated,
            Ok(_) => &mut self.created,
            Err(_) => &mut self.failed,
        } += 1;
    }
}

const AGAIN: &str = "run it again: existing tasks are not created twice";

fn interrupted(last: u64) -> UserError {
    UserError::new(Exit::Interrupted, format!("interrupted after line {last}")).hint(AGAIN)
}

fn at_line(number: u64, mut error: UserError) -> UserError {
    error.message = format!("line {number}: {}", error.message);
    let hint = error.hint.take().map_or_else(|| AGAIN.to_owned(), |hint| format!("{hint}; then {AGAIN}"));
    error.hint(hint)
}
