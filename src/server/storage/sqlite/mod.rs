//! The storage in an SQLite file. All of the server's SQL is in this folder.

mod attempts;
mod claims;
mod clock;
mod task_counts;
mod tasks;
mod types;
mod views;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::{
    AttemptEnd, Ended, Filter, Json, NewTask, Report, TaskDetails, TaskSummary, Time, TypeConstraints, TypeDetails,
};
use crate::file_changes::WatchedFile;
use crate::os_error;
use crate::server::error::{Refusal, Result, ServerError};
use crate::sqlite::{self, Anchors, BusyPolicy, GroupCommit, Layout, OpenError, OpenFile, WriteAheadLog};
use clock::ClaimClock;
use task_counts::CachedCounts;
use tasks::{Ending, TaskState};

/// The layout of the file. Its application id is `PqTM` in ASCII.
const LAYOUT: Layout = Layout {
    application_id: 0x5071_544d,
    migrations: &[
        |it| it.execute_batch(include_str!("migrations/1.sql")),
        |it| it.execute_batch(include_str!("migrations/2.sql")),
        |it| it.execute_batch(include_str!("migrations/3.sql")),
        |it| it.execute_batch(include_str!("migrations/4.sql")),
        |it| it.execute_batch(include_str!("migrations/5.sql")),
        |it| it.execute_batch(include_str!("migrations/6.sql")),
    ],
    // Enough for all statements, so that each is compiled once.
    statements: 64,
    page_cache: 2_000,
};

/// How long deleting several tasks may hold up calls. A task with a long result takes longer.
const LONGEST_REMOVAL: Duration = Duration::from_millis(5);

/// The types and tasks in one database file. Changes are visible at once, and are committed later by
/// [`SqliteStorage::commit`].
pub(in crate::server) struct SqliteStorage {
    group: GroupCommit,
    counts: CachedCounts,
    clock: ClaimClock,
    disk: Arc<Disk>,
}

/// Syncs the file, and checks that it is in place.
pub(in crate::server) struct Disk {
    log: WriteAheadLog,
    anchors: Anchors,
}

impl Disk {
    /// Returns when all earlier commits are on disk.
    pub(in crate::server) fn sync(&self) -> std::result::Result<(), String> {
        self.log.sync().map_err(|error| os_error::message(&error))?;
        self.check_in_place().map_err(|error| error.to_string())
    }

    /// Returns the files that must stay in place.
    pub(in crate::server) fn files(&self) -> Vec<WatchedFile> {
        self.anchors.files().collect()
    }

    /// Checks that the database file is still in place. If not, nothing written to it will ever be read.
    pub(in crate::server) fn check_in_place(&self) -> std::result::Result<(), ServerError> {
        let gone = |(path, reason): (&Path, _)| ServerError::DatabaseGone { path: path.to_owned(), reason };
        self.anchors.loss().map(gone).map_or(Ok(()), Err)
    }
}

fn open(path: &Path) -> std::result::Result<OpenFile, ServerError> {
    let unusable = |reason: String| ServerError::DatabaseUnusable { path: path.to_owned(), reason };
    LAYOUT.open(path, &BusyPolicy::default()).map_err(|error| match error {
        OpenError::Io(reason) => unusable(reason),
        OpenError::Foreign(_) => ServerError::ForeignDatabase(path.to_owned()),
        OpenError::Newer { found, known } => ServerError::NewerDatabase { path: path.to_owned(), found, known },
        OpenError::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            ServerError::NotADatabase(path.to_owned())
        }
        OpenError::Sqlite(error) => match error.sqlite_error_code() {
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                unusable(sqlite::message(&error))
            }
            _ => ServerError::DatabaseFailed { path: path.to_owned(), reason: sqlite::message(&error) },
        },
    })
}

impl SqliteStorage {
    /// Opens the file, or creates it and its folders. Claims of servers that stored no expiry last for `claim_timeout`.
    pub(in crate::server) fn open(path: &Path, claim_timeout: Duration) -> std::result::Result<Self, ServerError> {
        let OpenFile { connection, log, anchors, .. } = open(path)?;
        let failed = |error| ServerError::DatabaseFailed { path: path.to_owned(), reason: sqlite::message(&error) };
        tasks::add_missing_expiries(&connection, claim_timeout).map_err(failed)?;
        Ok(Self {
            group: GroupCommit::new(connection),
            counts: CachedCounts::default(),
            clock: ClaimClock::new(),
            disk: Arc::new(Disk { log, anchors }),
        })
    }

    pub(in crate::server) fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// Checks that the database answers.
    pub(in crate::server) fn check(&self) -> Result<()> {
        types::constraints(self.group.connection(), "")?;
        Ok(())
    }

    /// Returns the number of changes made so far.
    pub(in crate::server) fn changes(&self) -> u64 {
        self.group.changes()
    }

    /// Commits all changes; after an error, none.
    pub(in crate::server) fn commit(&mut self) -> std::result::Result<(), String> {
        self.group.commit().map_err(|error| {
            // They may include changes that were rolled back.
            self.counts = CachedCounts::default();
            self.clock.forget();
            sqlite::message(&error)
        })
    }

    /// Stores a type under its name, unless it is new and there are `most` already. Returns its id, and whether it is
    /// new.
    pub(in crate::server) fn register(
        &mut self,
        name: &str,
        version: &str,
        schema: &Json,
        most: i64,
    ) -> Result<(i64, bool)> {
        self.group.change(|connection| {
            if types::constraints(connection, name)?.is_none() && types::count(connection)? >= most {
                return Err(Refusal::BeyondLimit(format!("There are {most} task types already")));
            }
            Ok(types::store(connection, name, version, schema)?)
        })
    }

    pub(in crate::server) fn task_type(&self, name: &str) -> Result<TypeDetails> {
        types::by_name(self.group.connection(), name)?.ok_or(Refusal::TypeNotFound)
    }

    /// Returns the total length of the schemas of all types, or of the active ones, in bytes.
    pub(in crate::server) fn length_of_types(&self, active_only: bool) -> Result<usize> {
        Ok(types::length(self.group.connection(), active_only)?)
    }

    /// Returns all types, or the active ones, by name.
    pub(in crate::server) fn task_types(&self, active_only: bool) -> Result<Vec<TypeDetails>> {
        Ok(types::list(self.group.connection(), active_only)?)
    }

    /// Returns the constraints for new tasks of a type.
    pub(in crate::server) fn constraints(&self, task_type: &str) -> Result<TypeConstraints> {
        types::constraints(self.group.connection(), task_type)?.ok_or(Refusal::TypeNotFound)
    }

    /// Whether the type's name matches `pattern`; true without a pattern.
    pub(in crate::server) fn is_like(&self, type_id: i64, pattern: Option<&str>) -> Result<bool> {
        types::is_like(self.group.connection(), type_id, pattern)?.ok_or(Refusal::TypeNotFound)
    }

    /// Stores a task and returns its id. If the same task was stored before, returns that one's id and status instead.
    pub(in crate::server) fn create(&mut self, task: &NewTask<'_>) -> Result<(i64, Option<String>)> {
        let (id, known) = self.group.change(|connection| match tasks::by_key(connection, task.dedupe_key)? {
            Some((id, status)) => Ok::<_, Refusal>((id, Some(status))),
            None => Ok((tasks::insert(connection, task)?, None)),
        })?;
        if known.is_none() {
            self.counts.moved(task.type_id, None, Some("pending"));
        }
        Ok((id, known))
    }

    /// Shifts the claims if the machine's clock was set.
    fn follow_clock(&mut self) -> Result<()> {
        if self.clock.now().is_none() {
            let clock = &mut self.clock;
            self.group.change(|connection| clock.follow(connection))?;
        }
        Ok(())
    }

    pub(in crate::server) fn progress(&mut self, id: i64, worker_id: &str, progress: i64) -> Result<()> {
        self.group.change(|connection| {
            held_by(connection, id, worker_id)?;
            Ok(tasks::set_progress(connection, id, progress).map(drop)?)
        })
    }

    /// Ends attempts, each as if it were the only one: a refused report does not affect the others. If an attempt has
    /// failed, another follows unless there were `most`. A report of a named attempt that has arrived before changes
    /// nothing.
    pub(in crate::server) fn end(
        &mut self,
        worker_id: &str,
        reports: Vec<(i64, Report)>,
        most: i64,
    ) -> Result<Vec<Result<Ended>>> {
        let ended = self
            .group
            .change(|connection| each(reports, |(id, report)| end(connection, id, worker_id, report, most)))?;
        for Ended { changed, status } in ended.iter().flatten() {
            if let Some(type_id) = changed {
                self.counts.moved(*type_id, Some("claimed"), Some(status));
            }
        }
        Ok(ended)
    }

    /// Makes a failed task pending with a fresh set of attempts. Its error stays. Returns its type.
    pub(in crate::server) fn retry(&mut self, id: i64) -> Result<i64> {
        let type_id = self.group.change(|connection| {
            let task = tasks::state(connection, id)?.ok_or(Refusal::TaskNotFound)?;
            if task.status != "failed" {
                return Err(Refusal::NotFailed);
            }
            let error = tasks::error_message(connection, id)?;
            attempts::archive(connection, id, AttemptEnd::Retried, error.as_deref())?;
            tasks::retry(connection, id)?;
            Ok(task.type_id)
        })?;
        self.counts.moved(type_id, Some("failed"), Some("pending"));
        Ok(type_id)
    }

    /// Deletes tasks that ended before `time`, oldest first: at most `most`, and as many as time allows. Returns
    /// whether there may be more.
    pub(in crate::server) fn remove_ended(&mut self, time: Time, most: usize) -> Result<bool> {
        let start = Instant::now();
        let (more, removed) = self.group.change(|connection| {
            let (mut more, mut removed) = (true, Vec::new());
            while more && removed.len() < most && start.elapsed() <= LONGEST_REMOVAL {
                let ended = tasks::remove_ended(connection, time)?;
                more = ended.is_some();
                if let Some((id, type_id, status)) = ended {
                    attempts::remove(connection, id)?;
                    removed.push((type_id, status));
                }
            }
            Ok::<_, Refusal>((more, removed))
        })?;
        for (type_id, status) in removed {
            self.counts.moved(type_id, Some(&status), None);
        }
        Ok(more)
    }

    /// Returns the length of the long fields of these tasks, in bytes. Those that do not exist have none.
    pub(in crate::server) fn length_of_tasks(&self, ids: &[i64]) -> Result<usize> {
        Ok(tasks::length(self.group.connection(), ids)?)
    }

    pub(in crate::server) fn task(&self, id: i64) -> Result<TaskDetails> {
        tasks::by_id(self.group.connection(), id)?.ok_or(Refusal::TaskNotFound)
    }

    /// Returns the ids of the tasks that pass `filter`, newest first.
    pub(in crate::server) fn task_ids(&self, filter: &Filter) -> Result<Vec<i64>> {
        Ok(tasks::list_ids(self.group.connection(), filter)?)
    }

    /// Returns the tasks with these ids that still exist.
    pub(in crate::server) fn summaries(&self, ids: &[i64]) -> Result<Vec<TaskSummary>> {
        Ok(tasks::summaries(self.group.connection(), ids)?)
    }
}

/// Runs `work` for each entry of a change. What refuses an entry, before it changes anything, is the outcome of that entry
/// alone; if the database fails, the whole change fails.
fn each<E, T>(entries: impl IntoIterator<Item = E>, work: impl FnMut(E) -> Result<T>) -> Result<Vec<Result<T>>> {
    let outcome = |outcome| match outcome {
        Err(Refusal::Database(error)) => Err(Refusal::Database(error)),
        outcome => Ok(outcome),
    };
    entries.into_iter().map(work).map(outcome).collect()
}

/// Ends an attempt.
fn end(connection: &Connection, id: i64, worker_id: &str, report: Report, most: i64) -> Result<Ended> {
    let Report { attempt, success, result, error } = report;
    let task = tasks::state(connection, id)?.ok_or(Refusal::TaskNotFound)?;
    if let Some(attempt) = attempt.filter(|attempt| !task.is_held(worker_id, *attempt)) {
        return Ok(Ended { changed: None, status: earlier_outcome(connection, id, &task, worker_id, attempt)? });
    }
    let task = check_held(task, worker_id)?;
    let status = match success {
        true => "completed",
        false if task.attempts < most => "pending",
        false => "failed",
    };
    let error_message = error.filter(|_| !success);
    if status == "pending" {
        attempts::archive(connection, id, AttemptEnd::Failed, error_message.as_deref())?;
    }
    tasks::end(connection, id, &Ending { status, result, error_message })?;
    Ok(Ended { changed: Some(task.type_id), status })
}

/// Returns the task if `worker_id` has claimed it.
fn held_by(connection: &Connection, id: i64, worker_id: &str) -> Result<TaskState> {
    check_held(tasks::state(connection, id)?.ok_or(Refusal::TaskNotFound)?, worker_id)
}

fn check_held(task: TaskState, worker_id: &str) -> Result<TaskState> {
    if task.status != "claimed" {
        return Err(Refusal::NotClaimed);
    }
    if task.claimed_by.as_deref() != Some(worker_id) {
        return Err(Refusal::ClaimedByAnother);
    }
    Ok(task)
}

/// Returns the status that the task got by an earlier report of that attempt. The error says why there was none.
fn earlier_outcome(
    connection: &Connection,
    id: i64,
    task: &TaskState,
    worker_id: &str,
    attempt: i64,
) -> Result<&'static str> {
    let is_own = task.attempts == attempt && task.claimed_by.as_deref() == Some(worker_id);
    if is_own && let Some(status) = ["completed", "failed"].into_iter().find(|status| task.status == *status) {
        return Ok(status);
    }
    match attempts::end(connection, id, attempt, worker_id)? {
        Some(AttemptEnd::Failed) => Ok("pending"),
        // Only a failed task can be retried.
        Some(AttemptEnd::Retried) => Ok("failed"),
        None if task.status == "claimed" && task.attempts == attempt => Err(Refusal::ClaimedByAnother),
        None if task.status != "claimed" && task.attempts < attempt => Err(Refusal::NotClaimed),
        Some(AttemptEnd::Expired) | None => Err(Refusal::AttemptOver),
    }
}

#[cfg(test)]
impl SqliteStorage {
    /// Calls `step` at each step of SQLite.
    pub(in crate::server) fn on_step(&mut self, mut step: impl FnMut() + Send + 'static) {
        let go_on = move || {
            step();
            false
        };
        self.group.connection_mut().progress_handler(1, Some(go_on)).unwrap();
    }

    /// Lets every claim expire.
    pub(in crate::server) fn expire_claims(&mut self) {
        self.group.connection().execute("UPDATE tasks SET expires_at = 1 WHERE status = 'claimed'", []).unwrap();
    }
}
