//! What a worker shows of itself.

pub mod metrics;
