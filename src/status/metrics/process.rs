//! Metrics of this process on Linux, with the standard names:
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.

use std::fs;

use prometheus::{Counter, IntGauge, Registry, Result};
use rustix::param::{clock_ticks_per_second, page_size};

use super::families::{gauge, register};
use crate::resources;

/// The process metrics in `/metrics`.
pub(super) struct ProcessMetrics {
    cpu_seconds: Counter,
    open_files: IntGauge,
    max_files: IntGauge,
    virtual_bytes: IntGauge,
    resident_bytes: IntGauge,
    threads: IntGauge,
}

impl ProcessMetrics {
    /// Registers the metrics. They have no values before the first [`update`](Self::update).
    pub(super) fn register(registry: &Registry) -> Result<Self> {
        let start_time = "Start time of the process since unix epoch in seconds.";
        gauge(registry, "process_start_time_seconds", start_time)?.set(start_time_seconds().unwrap_or_default());
        let cpu_seconds =
            Counter::new("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.")?;
        Ok(Self {
            cpu_seconds: register(registry, cpu_seconds)?,
            open_files: gauge(registry, "process_open_fds", "Number of open file descriptors.")?,
            max_files: gauge(registry, "process_max_fds", "Maximum number of open file descriptors.")?,
            virtual_bytes: gauge(registry, "process_virtual_memory_bytes", "Virtual memory size in bytes.")?,
            resident_bytes: gauge(registry, "process_resident_memory_bytes", "Resident memory size in bytes.")?,
            threads: gauge(registry, "process_threads", "Number of OS threads in the process.")?,
        })
    }

    /// Reads the current values. Returns the resident memory in bytes.
    pub(super) fn update(&self) -> Option<u64> {
        self.open_files.set(integer(resources::open_files()));
        self.max_files.set(resources::open_files_limit().map_or(i64::MAX, integer));
        let stat = Stat::of_this_process()?;
        // Another thread may have updated it meanwhile, and a counter must not decrease.
        self.cpu_seconds.inc_by((stat.cpu_seconds - self.cpu_seconds.get()).max(0.0));
        self.virtual_bytes.set(integer(stat.virtual_bytes));
        self.resident_bytes.set(integer(stat.resident_bytes));
        self.threads.set(integer(stat.threads));
        Some(stat.resident_bytes)
    }
}

fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Fields of `/proc/self/stat`, numbered as in `man 5 proc_pid_stat`.
struct Stat {
    cpu_seconds: f64,
    threads: u64,
    /// Start time in clock ticks since boot.
    started: u64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl Stat {
    #[allow(clippy::cast_precision_loss)] // ticks are 10 ms: exact for millions of years
    fn of_this_process() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the program's name in parentheses, which may contain anything.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) as f64 / clock_ticks_per_second() as f64,
            threads: field(20)?,
            started: field(22)?,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page_size() as u64,
        })
    }
}

fn start_time_seconds() -> Option<i64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(integer(boot + Stat::of_this_process()?.started / clock_ticks_per_second()))
}
