//! What a worker shows of itself on `status_addr`: metrics for Prometheus, its health for programs, a page for people.

mod endpoint;
pub(crate) mod metrics;
mod page;

pub(crate) use endpoint::serve;
