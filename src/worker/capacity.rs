//! Whether there can be as many slots as are wanted: each needs open files, of which a process may have only so many.

use std::sync::Arc;

use super::WorkerError;
use crate::config;
use crate::handler::{Handler, OpenFiles};
use crate::resources;

/// For each slot: its connection to the TaskManager, and the other end, where that is embedded.
const CONNECTION: usize = 2;
/// For all else that comes and goes: who looks at the worker's health, the reporter's connection, what SQLite sorts.
const SPARE: u64 = 32;

/// What a type needs: at most so many tasks of it at once, and that for each.
type Need = (usize, OpenFiles);

/// Refuses more slots than this process may have open files for. Those that are open by now stay open.
pub(super) fn check<'a>(
    slots: usize,
    types: impl Iterator<Item = (&'a config::TaskType, &'a Arc<dyn Handler>)>,
) -> Result<(), WorkerError> {
    let Some(limit) = resources::most_open_files() else { return Ok(()) };
    let types: Vec<Need> =
        types.map(|(it, handler)| (it.concurrency.unwrap_or(usize::MAX), handler.open_files())).collect();
    let others = resources::open_files() + SPARE;
    let needed = |slots| others.saturating_add(files(slots, &types) as u64);
    if needed(slots) <= limit {
        return Ok(());
    }
    let enough_for = (1..slots).rev().find(|slots| needed(*slots) <= limit).unwrap_or(0);
    Err(WorkerError::OpenFiles { slots, needed: needed(slots), limit, enough_for })
}

/// How many files the slots may have open at once: for a task each, of the type that needs most, beside all processes
/// that were ever kept.
fn files(slots: usize, types: &[Need]) -> usize {
    let running = types.iter().map(|(_, files)| files.running).max().unwrap_or(0);
    let idle: usize = types.iter().map(|(most, files)| slots.min(*most).saturating_mul(files.idle)).sum();
    slots.saturating_mul(CONNECTION + running).saturating_add(idle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_processes_of_each_type_come_on_top_of_what_the_slots_need() {
        let (once, kept) = (OpenFiles { running: 10, idle: 0 }, OpenFiles { running: 3, idle: 8 });
        assert_eq!(files(4, &[(usize::MAX, once)]), 4 * 12);
        assert_eq!(files(4, &[(usize::MAX, kept)]), 4 * 13);
        assert_eq!(files(4, &[(usize::MAX, once), (2, kept), (9, kept)]), 4 * 12 + 2 * 8 + 4 * 8);
    }
}
