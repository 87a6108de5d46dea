//! Status endpoint of a worker: metrics for Prometheus, health as JSON, and a web page.

mod endpoint;
mod metrics;
mod observer;
mod page;

pub(crate) use endpoint::serve;
pub(crate) use metrics::{Metrics, WorkerInfo};
pub(crate) use observer::{MetricsObserver, quota_listener};
