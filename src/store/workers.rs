//! The processes that work on this results file.

use rusqlite::params;

use super::{Store, StoreError, to_text};
use crate::clock::Timestamp;

/// A row of `workers`: one process, from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(i64);

impl Process {
    pub(super) fn as_i64(self) -> i64 {
        self.0
    }
}

/// What a process has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Attempts that succeeded.
    pub completed: u64,
    /// Attempts that failed.
    pub failed: u64,
}

impl Store {
    /// Notes that a worker process has started. It also proves that the file can be written to.
    pub fn start_process(&self, worker_id: &str, api_url: &str, now: Timestamp) -> Result<Process, StoreError> {
        self.with(|connection| {
            connection.execute(
                "INSERT INTO workers (worker_id, api_url, pid, started_at) VALUES (?1, ?2, ?3, ?4)",
                params![worker_id, api_url, std::process::id(), to_text(now)],
            )?;
            Ok(Process(connection.last_insert_rowid()))
        })
    }

    /// Notes when a process last polled, and what it has done.
    pub fn note_poll(&self, process: Process, counters: Counters, now: Timestamp) -> Result<(), StoreError> {
        self.update_process("last_poll_at", process, counters, now)
    }

    /// Notes that a process has ended in order.
    pub fn stop_process(&self, process: Process, counters: Counters, now: Timestamp) -> Result<(), StoreError> {
        self.update_process("stopped_at", process, counters, now)
    }

    fn update_process(
        &self,
        time_column: &str,
        process: Process,
        counters: Counters,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = format!(
            "UPDATE workers SET {time_column} = ?2, tasks_completed = ?3, tasks_failed = ?4 WHERE process = ?1"
        );
        self.with(|connection| {
            connection
                .prepare_cached(&sql)?
                .execute(params![process.0, to_text(now), counters.completed, counters.failed])
                .map(drop)
        })
    }
}
