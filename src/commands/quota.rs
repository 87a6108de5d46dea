//! The quota of the YouTube Data API, for whoever asks what is left of it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::setup::Setup;
use crate::config::TaskType;
use crate::store::Store;
use crate::worker::SharedLedger;
use crate::youtube::{Budget, Ledger};

/// Whether a configured type is worked by a handler that needs it.
pub(super) fn is_needed(setup: &Setup) -> bool {
    setup.config.task_types.iter().any(TaskType::reads_youtube)
}

/// What counts it, in the results file.
pub(super) fn ledger(store: &Arc<Store>, setup: &Setup) -> SharedLedger {
    SharedLedger::new(Arc::clone(store), &setup.config, Arc::new(setup.clock()))
}

/// What all workers on the results file have used of it today, and what is left.
pub(super) fn of_today(store: &Arc<Store>, setup: &Setup) -> Result<Budget, String> {
    ledger(store, setup).budget()
}

/// The same for programs, as fields of `object`.
pub(super) fn add_to(object: &mut Value, budget: &Budget) {
    object["limit"] = json!(budget.limit);
    object["used"] = json!(budget.used);
    object["left"] = json!(budget.left());
    object["resets_at"] = json!(budget.resets_at);
}
