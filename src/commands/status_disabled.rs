//! There is no status endpoint in a `prismq` that was built without servers.

use super::setup::Setup;
use crate::config::TaskType;
use crate::exit::UserError;
use crate::shutdown::SystemClock;
use crate::taskmanager::Meter;
use crate::worker::Observer;
use crate::youtube::QuotaListener;

/// A status endpoint: there is none.
pub(super) enum Status {}

/// Refuses to start one.
pub(super) fn start(_: &[TaskType], setup: &Setup) -> anyhow::Result<Option<Status>> {
    match &setup.config.status_addr {
        None => Ok(None),
        Some(_) => Err(UserError::usage("status_addr: this prismq was built without the `server` feature")
            .hint("remove it, or build with the feature `server`")
            .into()),
    }
}

impl Status {
    /// Nothing that could count.
    pub(super) fn meter(&self) -> Meter {
        match *self {}
    }

    /// Nobody who could show it.
    pub(super) fn quota_listener(&self, _: SystemClock) -> QuotaListener {
        match *self {}
    }

    /// Nobody who could hear.
    pub(super) fn observer(&self, _: SystemClock) -> Box<dyn Observer> {
        match *self {}
    }
}
