//! Keeps claims at their granted length if the machine's clock is set: the times of all claims are shifted with it. How
//! the clock was set is kept in the file, since several servers may use it, each of which notices.

use std::fs;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Result, params};
use rustix::time::{ClockId, clock_gettime};

use super::tasks;
use crate::server::storage::Time;

/// Smaller differences may come from reading two clocks one after the other, and are corrected later. In microseconds.
const NOTICED: i64 = 1_000_000;

/// The setting of the machine's clock when last checked.
pub(super) struct ClaimClock {
    /// Id of the machine's boot. If the system has none, each server makes up its own.
    boot: String,
    /// When the machine booted, by the clock as it was set then; `None` if it must be read from the file.
    started_at: Option<i64>,
}

impl ClaimClock {
    pub(super) fn new() -> Self {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot = id.map_or_else(|_| format!("{:016x}", crate::random_id::random_id()), |id| id.trim().to_owned());
        Self { boot, started_at: None }
    }

    /// Returns the current time; `None` if the clock was set since the claims were last shifted.
    pub(super) fn now(&self) -> Option<Time> {
        let now = Time::now();
        self.started_at.filter(|known| !is_set(*known, started_at(now))).map(|_| now)
    }

    /// Shifts the claims as the clock was set since that was last done by any server, unless the machine was rebooted:
    /// then nobody knows how the clock was set meanwhile, and the time of day has to do.
    pub(super) fn follow(&mut self, connection: &Connection) -> Result<()> {
        let started_at = started_at(Time::now());
        let stored = connection
            .query_row("SELECT started_at FROM clock WHERE boot = ?1", [&self.boot], |row| row.get(0))
            .optional()?;
        match stored.map(|stored: i64| (started_at - stored, is_set(stored, started_at))) {
            Some((_, false)) => {}
            Some((by, true)) => {
                tasks::shift_claims(connection, by)?;
                connection.execute("UPDATE clock SET started_at = ?1", [started_at])?;
            }
            None => {
                connection.execute("DELETE FROM clock", [])?;
                connection.execute("INSERT INTO clock VALUES (?1, ?2)", params![self.boot, started_at])?;
            }
        }
        self.started_at = Some(stored.filter(|stored| !is_set(*stored, started_at)).unwrap_or(started_at));
        Ok(())
    }

    /// Forgets what was read from the file, because changes were rolled back.
    pub(super) fn forget(&mut self) {
        self.started_at = None;
    }
}

fn is_set(before: i64, now: i64) -> bool {
    before.abs_diff(now) >= NOTICED.unsigned_abs()
}

/// Returns when the machine booted, in microseconds since 1970, by a clock that says `now`. Measured by the monotonic
/// clock, which stands still while the machine is suspended, and so do claims.
fn started_at(now: Time) -> i64 {
    let running = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
    now.earlier_by(running).microseconds()
}
