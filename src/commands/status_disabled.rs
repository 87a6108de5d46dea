//! Replaces `status` in builds without the feature `server`.

use super::setup::Setup;
use crate::clock::SystemClock;
use crate::config::TaskType;
use crate::exit::UserError;
use crate::taskmanager::Meter;
use crate::worker::Observer;
use crate::youtube::QuotaListener;

/// Never constructed.
pub(super) enum StatusEndpoint {}

/// Fails if `status_addr` is set.
pub(super) fn start(_: &[TaskType], setup: &Setup) -> anyhow::Result<Option<StatusEndpoint>> {
    match &setup.config.status_addr {
        None => Ok(None),
        Some(_) => Err(UserError::usage("status_addr: this prismq was built without the `server` feature")
            .hint("remove it, or build with the feature `server`")
            .into()),
    }
}

impl StatusEndpoint {
    pub(super) fn meter(&self) -> Meter {
        match *self {}
    }

    pub(super) fn quota_listener(&self, _: SystemClock) -> QuotaListener {
        match *self {}
    }

    pub(super) fn observer(&self, _: SystemClock) -> Box<dyn Observer> {
        match *self {}
    }
}
