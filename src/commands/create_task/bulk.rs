//! `create-task --from`: creates any number of tasks from lines of JSON, by concurrent requests, in constant memory.
//!
//! A reader passes batches of lines to the sender threads, and a receiver for the results of each batch to the printer,
//! which handles them in the order of the input. Both channels are bounded, so the reader cannot run ahead. If the printer
//! ends early, the program exits without waiting for blocked readers or senders.

use parking_lot::Mutex;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::commands::errors;
use crate::exit::{Exit, UserError};
use crate::json;
use crate::os_error;
use crate::shutdown::{Phase, Shutdown};
use crate::taskmanager::{Client, Created, Error};
use crate::text_file;

/// Maximum length of a line, in bytes: the maximum size of params.
const MAX_LINE: u64 = json::MAX_BYTES as u64;

/// Maximum number of lines in a batch. Larger batches need more memory and are hardly faster.
const BATCH_LINES: usize = 250;

/// Size of a batch, in bytes, from which no line is added to it. Also the size of the input buffer.
const BATCH_BYTES: usize = 64 << 10;

/// How many lines per concurrent request the reader may be ahead of the printer if each has its own request.
const LINES_AHEAD: usize = 8;

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
pub(super) struct BulkCounts {
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

/// Lines to create tasks from, and where their results go, in order.
struct Job {
    lines: Vec<Vec<u8>>,
    results: SyncSender<LineResult>,
}

/// The next item for the printer.
enum Next {
    /// The numbers of the lines of a batch, and their results.
    Batch(Vec<u64>, Receiver<LineResult>),
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
        input: impl Read + Send + 'static,
        mut each: impl FnMut(u64, &Result<Created, String>) -> Result<(), UserError>,
    ) -> Result<BulkCounts, UserError> {
        let mut counts = BulkCounts::default();
        let mut last = 0;
        let next = self.start(input).map_err(|error| {
            UserError::new(
                Exit::Failed,
                format!("cannot start threads for the requests: {}", os_error::message(&error)),
            )
            .hint("lower --concurrency, or raise the limit on processes (`ulimit -u`)")
        })?;
        for next in next {
            let (numbers, results) = match next {
                Next::Batch(numbers, results) => (numbers, results),
                Next::End(end) => return end.map(|()| counts),
                Next::Interrupted => return Err(interrupted(last)),
            };
            for number in numbers {
                let result = match results.recv() {
                    Ok(Ok(created)) => Ok(created),
                    Ok(Err(LineError::Bad(reason))) => Err(reason),
                    Ok(Err(LineError::Fatal(error))) => return Err(at_line(number, error)),
                    Err(_) => {
                        return Err(at_line(number, UserError::new(Exit::Failed, "the request was not answered")));
                    }
                };
                counts.count(&result);
                each(number, &result).map_err(|error| at_line(number, error))?;
                last = number;
            }
        }
        Ok(counts)
    }

    /// Starts the reader and the senders.
    fn start(self, input: impl Read + Send + 'static) -> io::Result<Receiver<Next>> {
        let (jobs, jobs_to_do) = sync_channel(self.concurrency);
        let ahead = if self.client.features().batch { 1 } else { LINES_AHEAD };
        let (batches, in_order) = sync_channel(self.concurrency * ahead);
        let jobs_to_do = Arc::new(Mutex::new(jobs_to_do));
        let bulk = Arc::new(self);
        for _ in 0..bulk.concurrency {
            let (bulk, jobs_to_do) = (Arc::clone(&bulk), Arc::clone(&jobs_to_do));
            thread::Builder::new().spawn(move || bulk.send(&jobs_to_do))?;
        }
        let signal = batches.clone();
        let shutdown = Arc::clone(&bulk.shutdown);
        thread::Builder::new().spawn(move || {
            shutdown.wait_for(Phase::Draining, Duration::MAX);
            signal.send(Next::Interrupted)
        })?;
        thread::Builder::new().spawn(move || {
            let end = bulk.read(input, &jobs, &batches);
            batches.send(end)
        })?;
        Ok(in_order)
    }

    /// Reads lines until the end of the input, a signal, or until the receiver is gone. Returns why it ended.
    fn read(&self, input: impl Read, jobs: &SyncSender<Job>, batches: &SyncSender<Next>) -> Next {
        let mut input = Lines::new(input, &self.place);
        loop {
            let limit = if self.client.features().batch { BATCH_LINES } else { 1 };
            let (numbers, lines) = input.next_batch(limit);
            if self.shutdown.get() > Phase::Running {
                return Next::Interrupted;
            }
            if !lines.is_empty() {
                let (results, in_order) = sync_channel(lines.len());
                let job = Job { lines, results };
                if batches.send(Next::Batch(numbers, in_order)).is_err() || jobs.send(job).is_err() {
                    return Next::End(Ok(()));
                }
            }
            if let Some(end) = input.end.take() {
                return Next::End(end);
            }
        }
    }

    fn send(&self, jobs: &Mutex<Receiver<Job>>) {
        loop {
            let job = jobs.lock().recv();
            let Ok(Job { lines, results }) = job else { break };
            let pass_on = |result: LineResult| {
                let is_fatal = matches!(result, Err(LineError::Fatal(_)));
                // The receiver is gone after a fatal error of an earlier line.
                if results.send(result).is_err() || is_fatal {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            let passed_on = match self.create_batch(&lines) {
                Some(created) => created.into_iter().try_for_each(pass_on),
                None => lines.iter().map(|line| self.create(line)).try_for_each(pass_on),
            };
            if passed_on.is_break() {
                break;
            }
        }
    }

    fn create(&self, line: &[u8]) -> LineResult {
        let params = params(line).map_err(LineError::Bad)?;
        self.client.create(&self.task_type, &params, self.priority).map_err(|error| self.line_error(&error))
    }

    /// Creates a task for each line in one call. `None` if they have to be created one by one.
    fn create_batch(&self, lines: &[Vec<u8>]) -> Option<Vec<LineResult>> {
        if lines.len() < 2 || !self.client.features().batch {
            return None;
        }
        let mut tasks = Vec::with_capacity(lines.len());
        let checked: Vec<Result<(), String>> = lines.iter().map(|line| params(line).map(|it| tasks.push(it))).collect();
        let mut created = match self.client.create_batch(&self.task_type, tasks, self.priority) {
            Ok(created) => created.into_iter(),
            // A call for each line finds out which of them is the reason.
            Err(Error::Refused { .. } | Error::InvalidAnswer { .. }) => return None,
            Err(error) => vec![Err(error)].into_iter(),
        };
        let result = |checked: Result<(), String>| match checked {
            Ok(()) => created.next().map(|created| created.map_err(|error| self.line_error(&error))),
            Err(problem) => Some(Err(LineError::Bad(problem))),
        };
        Some(checked.into_iter().map_while(result).collect())
    }

    fn line_error(&self, error: &Error) -> LineError {
        match error {
            _ if error.says_unknown_type() => LineError::Fatal(errors::unknown_type_at(&self.client, &self.task_type)),
            Error::Refused { message, .. } => LineError::Bad(message.clone()),
            _ => LineError::Fatal(errors::taskmanager(error)),
        }
    }
}

/// Parses the params on a line.
fn params(line: &[u8]) -> Result<Value, String> {
    if line.len() as u64 > MAX_LINE {
        return Err(format!("it is longer than {} MiB", MAX_LINE >> 20));
    }
    // The number of the line in the file is said before the error: in the JSON, it is always the first.
    let params =
        json::read_strict(line).map_err(|error| error.to_string().replace(" at line 1 column ", " at column "))?;
    if params.is_object() { Ok(params) } else { Err("params must be a JSON object".into()) }
}

/// The lines of the input.
struct Lines<'a, R> {
    input: BufReader<R>,
    place: &'a str,
    /// Number of lines read.
    count: u64,
    /// Why there are no more lines.
    end: Option<Result<(), UserError>>,
}

impl<'a, R: Read> Lines<'a, R> {
    fn new(input: R, place: &'a str) -> Self {
        Self { input: BufReader::with_capacity(BATCH_BYTES, input), place, count: 0, end: None }
    }

    /// Reads the next lines, at most `limit`, and returns them with their numbers. Only the first is waited for, so that a
    /// line is sent as soon as it arrives. Blank lines are skipped. There may be none at the end.
    fn next_batch(&mut self, limit: usize) -> (Vec<u64>, Vec<Vec<u8>>) {
        let (mut numbers, mut lines, mut bytes) = (Vec::new(), Vec::new(), 0);
        while lines.is_empty() || (lines.len() < limit && bytes < BATCH_BYTES && self.input.buffer().contains(&b'\n')) {
            match self.next_line() {
                Ok(Some(line)) if line.trim_ascii().is_empty() => {}
                Ok(Some(line)) => {
                    bytes += line.len();
                    numbers.push(self.count);
                    lines.push(line);
                }
                Ok(None) => {
                    self.end = Some(Ok(()));
                    break;
                }
                Err(error) => {
                    self.end = Some(Err(error));
                    break;
                }
            }
        }
        (numbers, lines)
    }

    /// Reads the next line; `None` at the end. A line that is too long is cut one byte over the limit.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, UserError> {
        self.count += 1;
        let line = read_line(&mut self.input).map_err(|error| self.unreadable(&error))?;
        if self.count == 1 && line.as_ref().is_some_and(|line| text_file::is_utf_16(line)) {
            return Err(UserError::usage(format!("{}: it is UTF-16 or UTF-32, not UTF-8", self.place)));
        }
        Ok(line)
    }

    fn unreadable(&self, error: &io::Error) -> UserError {
        if error.kind() == io::ErrorKind::IsADirectory {
            return UserError::usage("--from: cannot read standard input: it is a folder");
        }
        let (place, number, reason) = (self.place, self.count, os_error::message(error));
        UserError::new(Exit::Failed, format!("{place}: cannot read line {number}: {reason}"))
    }
}

fn read_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line)?;
    if line.len() as u64 > MAX_LINE && !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
    }
    Ok(Some(line).filter(|line| !line.is_empty()))
}

impl BulkCounts {
    fn count(&mut self, result: &Result<Created, String>) {
        *match result {
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
