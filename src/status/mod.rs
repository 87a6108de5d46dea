//! What a worker shows of itself on `status_addr`: metrics for Prometheus, its health for programs, a page for people.

mod endpoint;
mod metrics;
mod observer;
mod page;

pub(crate) use endpoint::serve;
pub(crate) use metrics::{Facts, Metrics};
pub(crate) use observer::{MetricsObserver, quota_listener};
