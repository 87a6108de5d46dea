//! Checks of the results file for `health`: whether a worker could use it, and whether all of it can be read.
//!
//! SQLite notices a full disk only when it grows, and damage only where it reads. So a whole attempt is rehearsed with
//! the workers' own statements and rolled back, and all rows are read.

use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use serde_json::json;

use super::claims::{self, ClaimRow};
use super::results::ResultRow;
use super::statistics::By;
use super::unreported::{self, Settled};
use super::{Process, ResultFilter, Store, StoreError, rollups};
use crate::clock::Timestamp;
use crate::headline::in_one_line;
use crate::sqlite::DatabaseError;
use crate::task::{Claim, ErrorType, Outcome, Task, TaskId, TaskResult};

/// Space that a worker needs for its start and its first results, in bytes.
const ROOM: usize = 64 << 10;

/// The TaskManager of a rehearsed task. No real one has this address.
const NOWHERE: &str = "rehearsal";

impl Store {
    /// Does what a worker does from its start to a reported result, and rolls it back. The error is what would stop a
    /// worker.
    pub fn rehearse(&self, now: Timestamp) -> Result<(), StoreError> {
        self.check_space()?;
        if self.log.is_none() {
            // A worker creates it at its start.
            return Ok(());
        }
        let worker_id = format!("health-{:016x}", crate::random_id::random_id());
        let process = self.start_process(&worker_id, NOWHERE, now)?;
        let rehearsed = self.with(|connection| rehearse(connection, &process, now));
        let forgotten = self.execute("DELETE FROM workers WHERE process = ?1", [process.number()]);
        rehearsed?;
        forgotten?;
        self.sync()?;
        self.check_results_in_place()
    }

    /// Checks that there is free space beside the file, by using some for a moment.
    fn check_space(&self) -> Result<(), StoreError> {
        let folder = self.home.ancestors().skip(1).find(|folder| folder.exists()).unwrap_or(Path::new("."));
        let taken = tempfile::tempfile_in(folder).and_then(|mut file| {
            file.write_all(&vec![1; ROOM])?;
            file.sync_data()
        });
        taken.map_err(|error| self.failed(DatabaseError::from(&error)))
    }

    /// Reads all of the file, for at most `most`. False if that was not enough time.
    pub fn read_all(&self, most: Duration) -> Result<bool, StoreError> {
        let end = Instant::now() + most;
        let is_whole = self.check_pages(end)? && self.read_results(end)?;
        if is_whole {
            for by in [By::Type, By::Worker] {
                self.statistics(by, None)?;
            }
            self.unreported()?;
            self.with(|connection| claims::all(connection).map(drop))?;
        }
        Ok(is_whole)
    }

    /// Checks pages, trees and indexes, as far as there is time.
    fn check_pages(&self, end: Instant) -> Result<bool, StoreError> {
        let found = self.with(|connection| {
            let interrupt = connection.get_interrupt_handle();
            thread::scope(|scope| {
                let (done, is_done) = channel::<()>();
                scope.spawn(move || {
                    let left = end.saturating_duration_since(Instant::now());
                    if is_done.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                        interrupt.interrupt();
                    }
                });
                let found =
                    ["quick_check(1)", "integrity_check(1)"].iter().try_fold("ok".to_owned(), |found, check| {
                        if found == "ok" {
                            connection.query_row(&format!("PRAGMA {check}"), [], |row| row.get(0))
                        } else {
                            Ok(found)
                        }
                    });
                drop(done);
                match found {
                    Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(None),
                    other => other.map(Some),
                }
            })
        })?;
        match found.as_deref() {
            Some("ok") => Ok(true),
            Some(fault) => {
                let fault = in_one_line(fault.trim_start_matches("*** in database main ***\n"));
                Err(self.failed(DatabaseError::lasting(format!("it is damaged: {fault}"))))
            }
            None => Ok(false),
        }
    }

    fn read_results(&self, end: Instant) -> Result<bool, StoreError> {
        let mut count = 0_u32;
        let read = self.for_each_result(&ResultFilter::default(), |_| {
            count += 1;
            if count.is_multiple_of(256) && Instant::now() >= end { Err(()) } else { Ok(()) }
        })?;
        Ok(read.is_ok())
    }
}

/// Claims a task, stores a success and failures, reports and counts them, and rolls everything back.
fn rehearse(connection: &mut Connection, process: &Process, now: Timestamp) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let task = Task { id: TaskId(0), task_type: NOWHERE.into(), params: json!({}), attempt: 1, priority: 0 };
    let claim = Claim { task, worker_id: NOWHERE.into(), claimed_at: now, deadline: now.into() };
    let failed = || Outcome::failure(ErrorType::Handler, NOWHERE);
    let outcomes = [(Outcome::success(json!([0])), false), (failed(), false), (failed(), true)];
    for (outcome, is_lost) in outcomes {
        ClaimRow::new(&claim, NOWHERE, Some(process), true).insert(&transaction, "OR REPLACE")?;
        let result = TaskResult {
            task_id: claim.task.id,
            task_type: NOWHERE.into(),
            attempt: 1,
            worker_id: NOWHERE.into(),
            api_url: NOWHERE.into(),
            params: json!({}),
            outcome: Outcome { stderr_tail: NOWHERE.into(), ..outcome },
            claimed_at: now,
            started_at: now,
            finished_at: now,
        };
        let id = ResultRow::new(&result).insert(&transaction)?;
        unreported::note(&transaction, id, NOWHERE)?;
        rollups::catch_up(&transaction)?;
        Settled::new(id, &result, is_lost, now).mark(&transaction)?;
    }
    transaction.execute("DELETE FROM results WHERE api_url = ?1", [NOWHERE])?;
    transaction.rollback()
}
