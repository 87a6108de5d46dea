//! `config`: shows every setting and its origin.

use serde_json::json;

use super::setup::Setup;
use crate::exit::Exit;
use crate::output::{print_json, print_line, say, table};

/// When a claim limits attempts.
const UNLESS: &str = ", unless the TaskManager renews claims";

/// `prismq config`
pub(super) fn run(setup: &Setup) -> anyhow::Result<Exit> {
    let settings = setup.config.describe();
    for task_type in &setup.config.task_types {
        if let Some(warning) = task_type.timeout_beyond(setup.config.claim_timeout.value, UNLESS) {
            say(warning);
        }
    }
    if setup.json {
        let list: Vec<_> = settings
            .iter()
            .map(|it| json!({"name": it.name, "value": it.value, "origin": it.origin.to_string()}))
            .collect();
        print_json(&list)?;
    } else {
        let rows = settings.into_iter().map(|it| [it.name.to_owned(), it.value, it.origin.to_string()]);
        print_line(table(["SETTING", "VALUE", "FROM"], rows))?;
    }
    Ok(Exit::Done)
}
