//! What a worker shows on `--status-addr`, through the real binary.

mod deploy;
mod endpoint;
mod gone;
mod health;
mod locked;
mod metrics;
mod page;
mod unwritable;
mod youtube;
