//! The metric families. Their names are used by dashboards and alerts.

use prometheus::core::Collector;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result, TextEncoder,
};

/// Buckets of task durations, in seconds: from a persistent handler to one that uses its whole claim.
const TASK_SECONDS: [f64; 13] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 1800.0];
/// Buckets of call durations, in seconds: up to the time-outs of calls and long polls.
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
    pub(super) circuit_open: IntGaugeVec,
    pub(super) snoozed: IntGaugeVec,
    pub(super) healthy: IntGauge,
    pub(super) taskmanager_up: IntGauge,
}

impl Families {
    pub(super) fn new() -> Result<Self> {
        let registry = Registry::new();
        let r = &registry;
        let (requests, request_duration) = request_families(r)?;
        let families = Self {
            claimed: counters(r, "prismq_tasks_claimed_total", "Tasks claimed.", &["type"])?,
            completed: counters(r, "prismq_tasks_completed_total", "Attempts that succeeded.", &["type"])?,
            failed: counters(
                r,
                "prismq_tasks_failed_total",
                "Failed attempts, including retried ones.",
                &["type", "error_type"],
            )?,
            lost: counters(r, "prismq_claims_lost_total", "Results whose claim was lost.", &["type"])?,
            duration: histograms(r, "prismq_task_duration_seconds", "Duration of attempts.", &TASK_SECONDS, "type")?,
            in_flight: gauges(r, "prismq_tasks_in_flight", "Claimed tasks whose result is not stored yet.", &["type"])?,
            unreported: gauge(r, "prismq_results_unreported", "Pending reports.")?,
            refused: gauge(r, "prismq_results_refused", "Pending reports that the TaskManager refused.")?,
            oldest_unreported: gauge(
                r,
                "prismq_oldest_unreported_seconds",
                "Age of the oldest pending report in seconds; 0 if there is none.",
            )?,
            requests,
            request_duration,
            consecutive_errors: gauge(r, "prismq_consecutive_errors", "Consecutive failed attempts.")?,
            circuit_open: gauges(r, "prismq_type_paused", "1 while the type's circuit breaker is open.", &["type"])?,
            snoozed: gauges(r, "prismq_type_held", "1 while the type is snoozed.", &["type"])?,
            healthy: gauge(r, "prismq_healthy", "1 while the worker is healthy, as in /health.")?,
            taskmanager_up: gauge(r, "prismq_taskmanager_up", "1 while the TaskManager answers, as in /ready.")?,
            registry: registry.clone(),
        };
        let build = gauges(r, "prismq_build_info", "Version of prismq; always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(families)
    }

    /// Creates the series of a type with zeros, so that the first increment of its counters is visible.
    pub(super) fn show_type(&self, name: &str) {
        for counters in [&self.claimed, &self.completed, &self.lost] {
            counters.with_label_values(&[name]);
        }
        for gauges in [&self.in_flight, &self.circuit_open, &self.snoozed] {
            gauges.with_label_values(&[name]);
        }
        self.duration.with_label_values(&[name]);
    }

    /// Encodes all families in the text format of Prometheus.
    pub(super) fn text(&self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn request_families(r: &Registry) -> Result<(IntCounterVec, HistogramVec)> {
    let help = "Requests to the TaskManager by HTTP status, or none.";
    let requests = counters(r, "prismq_api_requests_total", help, &["call", "status"])?;
    let help = "Duration of requests to the TaskManager; claim_wait are long polls.";
    let durations = histograms(r, "prismq_api_request_duration_seconds", help, &CALL_SECONDS, "call")?;
    Ok((requests, durations))
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

fn histograms(registry: &Registry, name: &str, help: &str, bounds: &[f64], label: &str) -> Result<HistogramVec> {
    register(registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(bounds.to_vec()), &[label])?)
}

pub(super) fn register<T: Collector + Clone + 'static>(registry: &Registry, family: T) -> Result<T> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}
