//! The machine that figures are measured on.

use std::fs;
use std::thread;

/// Its processor, how many of its cores we may use, and how much else it does.
pub(crate) fn describe() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    format!("{model}, {cores} cores; load before: {load}")
}

/// What `/proc/PID/status` says in kB, in MB.
pub(crate) fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells");
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
    kilobytes / 1024.0
}

/// The CPU time of the threads that a process has now, to the nanosecond, in milliseconds.
pub(crate) fn cpu_of_threads(pid: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives").flatten();
    let nanoseconds = threads.filter_map(|thread| {
        let times = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        times.split(' ').next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1e6
}

/// The CPU time of a process and of its threads that have ended, but not of its children, in milliseconds.
pub(crate) fn cpu_time(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let (_, fields) = stat.rsplit_once(')').expect("it contains the name"); // which may contain anything
    let ticks = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("it is a number"));
    ticks.sum::<f64>() * 1000.0 / ticks_per_second()
}

fn ticks_per_second() -> f64 {
    let ticks = rustix::param::clock_ticks_per_second();
    f64::from(u32::try_from(ticks).expect("it is 100 or so"))
}
