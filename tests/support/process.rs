//! The state of processes that a test has started.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, test_kill_process};

use super::wait::wait_for;

/// Waits until the process is gone; a zombie that nobody reaps counts as gone.
#[track_caller]
pub(crate) fn assert_ends(pid: Pid) {
    wait_for(&format!("the end of process {pid}"), || (!is_alive(pid)).then_some(()));
}

pub(crate) fn is_alive(pid: Pid) -> bool {
    test_kill_process(pid).is_ok() && !is_zombie(pid)
}

pub(crate) fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

/// Waits for a pid in `file`.
pub(crate) fn pid_in(file: &Path) -> Pid {
    wait_for(&file.display().to_string(), || {
        let text = fs::read_to_string(file).ok()?;
        Pid::from_raw(text.strip_suffix('\n')?.parse().ok()?)
    })
}

/// Returns the command lines of the processes whose working folder is `folder`.
pub(crate) fn processes_in(folder: &Path) -> Vec<String> {
    let folder = folder.canonicalize().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let there = processes.filter(|process| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == folder));
    there.map(|process| fs::read_to_string(process.join("cmdline")).unwrap_or_default()).collect()
}

/// The value of `name`, such as `VmHWM` (peak memory) or `VmRSS` (resident memory), in `/proc/PID/status`, in KiB.
#[track_caller]
pub(crate) fn memory(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.strip_suffix(" kB"));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().parse().unwrap()
}
