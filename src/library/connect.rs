//! Creates the client of the configured TaskManager.

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Config;
use crate::taskmanager::{Client, Connection, Retries};

/// Returns the connection settings.
pub(crate) fn connection(config: &Config) -> Connection {
    let key = config.api_key.as_ref().map(|key| key.expose().to_owned());
    let ca_file = config.ca_file.as_ref().map(|file| file.value.clone());
    Connection { ca_file, ..Connection::new(config.api_url.value.clone(), key) }
}

/// Creates the client. The error is one line that says what is wrong with the settings.
pub(crate) fn connect(connection: &Connection, retries: Retries, clock: Arc<dyn Clock>) -> Result<Client, String> {
    if let Some(proxy) = connection.proxy_before_loopback() {
        log::warn!("{} goes through {proxy}: name its host in NO_PROXY to reach it directly", connection.api_url);
    }
    if connection.is_exposed() {
        log::warn!("{} is not encrypted: the API key and all tasks can be read in transit", connection.api_url);
    }
    Client::new(connection, retries, clock)
}
