//! The families of metrics, by the names that dashboards and alerts know them by.

use prometheus::core::Collector;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result, TextEncoder,
};

/// The bounds of task durations, in seconds: from a warm handler to one that takes its whole claim.
const TASK_SECONDS: [f64; 13] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 1800.0];
/// The bounds of calls, in seconds: up to the time-out of one, and of one that waits for a task.
const CALL_SECONDS: [f64; 11] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 50.0];

/// Every metric of a worker.
pub(super) struct Families {
    pub(super) registry: Registry,
    pub(super) claimed: IntCounterVec,
    pub(super) completed: IntCounterVec,
    pub(super) failed: IntCounterVec,
    pub(super) lost: IntCounterVec,
    pub(super) duration: HistogramVec,
    pub(super) in_flight: IntGaugeVec,
    pub(super) unreported: IntGauge,
    pub(super) refused: IntGauge,
    pub(super) oldest_unreported: IntGauge,
    pub(super) requests: IntCounterVec,
    pub(super) request_duration: HistogramVec,
    pub(super) consecutive_errors: IntGauge,
    pub(super) paused: IntGaugeVec,
    pub(super) held: IntGaugeVec,
    pub(super) healthy: IntGauge,
    pub(super) taskmanager_up: IntGauge,
}

impl Families {
    pub(super) fn new() -> Result<Self> {
        let registry = Registry::new();
        let families = Self {
            claimed: counters(&registry, "prismq_tasks_claimed_total", "Tasks claimed.", &["type"])?,
            completed: counters(&registry, "prismq_tasks_completed_total", "Attempts that succeeded.", &["type"])?,
            failed: counters(
                &registry,
                "prismq_tasks_failed_total",
                "Failed attempts, including retried ones.",
                &["type", "error_type"],
            )?,
            lost: counters(&registry, "prismq_claims_lost_total", "Results whose claim was lost.", &["type"])?,
            duration: histograms(
                &registry,
                ("prismq_task_duration_seconds", "Duration of attempts."),
                &TASK_SECONDS,
                "type",
            )?,
            in_flight: gauges(&registry, "prismq_tasks_in_flight", "Tasks in flight.", &["type"])?,
            unreported: gauge(&registry, "prismq_results_unreported", "Pending reports.")?,
            refused: gauge(&registry, "prismq_results_refused", "Pending reports that the TaskManager refused.")?,
            oldest_unreported: gauge(
                &registry,
                "prismq_oldest_unreported_seconds",
                "Age of the oldest pending report in seconds; 0 if there is none.",
            )?,
            requests: counters(
                &registry,
                "prismq_api_requests_total",
                "Requests to the TaskManager by HTTP status, or none.",
                &["call", "status"],
            )?,
            request_duration: histograms(
                &registry,
                (
                    "prismq_api_request_duration_seconds",
                    "Duration of requests to the TaskManager; claim_wait are long polls.",
                ),
                &CALL_SECONDS,
                "call",
            )?,
            consecutive_errors: gauge(&registry, "prismq_consecutive_errors", "Consecutive failed attempts.")?,
            paused: gauges(&registry, "prismq_type_paused", "1 while the type's circuit breaker is open.", &["type"])?,
            held: gauges(&registry, "prismq_type_held", "1 while the type is snoozed.", &["type"])?,
            healthy: gauge(&registry, "prismq_healthy", "1 while the worker is healthy, as in /health.")?,
            taskmanager_up: gauge(
                &registry,
                "prismq_taskmanager_up",
                "1 while the TaskManager answers, as in /ready.",
            )?,
            registry,
        };
        let build = gauges(&families.registry, "prismq_build_info", "Version of prismq; always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(families)
    }

    /// Shows a type before anything has happened to it: a counter that starts from nothing hides its first step.
    pub(super) fn show_type(&self, name: &str) {
        for counters in [&self.claimed, &self.completed, &self.lost] {
            counters.with_label_values(&[name]);
        }
        for gauges in [&self.in_flight, &self.paused, &self.held] {
            gauges.with_label_values(&[name]);
        }
        self.duration.with_label_values(&[name]);
    }

    /// All of it, in the text format of Prometheus.
    pub(super) fn text(&self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge> {
    register(registry, IntGauge::new(name, help)?)
}

fn histograms(registry: &Registry, (name, help): (&str, &str), bounds: &[f64], label: &str) -> Result<HistogramVec> {
    register(registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(bounds.to_vec()), &[label])?)
}

pub(super) fn register<T: Collector + Clone + 'static>(registry: &Registry, family: T) -> Result<T> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}
