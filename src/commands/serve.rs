//! `serve`: runs the embedded TaskManager.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use serde_json::json;

use super::faults;
use super::setup::Setup;
use crate::cli::ServeArgs;
use crate::config::Origin;
use crate::exit::{Exit, UserError};
use crate::file_changes::check_places;
use crate::output::{note, print_json, print_line};
use crate::server::{Server, ServerError, Settings};
use crate::shutdown::Phase;

/// `prismq serve`
pub(super) fn run(args: &ServeArgs, setup: &Setup) -> anyhow::Result<Exit> {
    let faults = faults::parse(&args.fault)?;
    setup.log()?;
    setup.install_signal_handlers()?;
    warn_of(&args.fault, faults.seed);
    let server = Server::start(&Settings {
        faults,
        claim_timeout: args.claim_timeout,
        max_attempts: args.max_attempts,
        retention: args.keep,
        ..settings(args.listen, args.db.clone(), setup)
    });
    let server = server.map_err(|error| explain(&error))?;
    if setup.json {
        print_json(&json!({"api_url": server.api_url(), "page_url": server.page_url()}))?;
    } else {
        print_line(server.api_url())?;
    }
    note(format_args!("TaskManager listening; its web page is {}", server.page_url()));
    note(format_args!("for other shells: export TASKMANAGER_API_URL={}", server.api_url()));
    if !server.address().ip().to_canonical().is_loopback() {
        log::warn!(
            "other machines can reach the TaskManager, and its key and tasks travel unencrypted: allow only trusted \
             machines, or put a TLS proxy in front of it"
        );
    }
    let check = || server.check_in_place().map(|()| true);
    check_places(&server.files(), &setup.shutdown, Phase::Draining, check).map_err(|error| {
        explain(&error).hint("start it again: it continues with the existing file or creates a new one")
    })?;
    server.stop();
    Ok(Exit::Done)
}

/// Warns that faults are injected, and shows how to reproduce them.
fn warn_of(faults: &[String], seed: u64) {
    if faults.is_empty() {
        return;
    }
    let drawn = (!faults.iter().any(|fault| fault.starts_with("seed="))).then(|| format!("seed={seed}"));
    let list = faults.iter().cloned().chain(drawn).collect::<Vec<_>>().join(",");
    eprintln!(
        "WARNING: FAULTS ARE ON. This TaskManager fails on purpose, for tests only. To reproduce: --fault {list}"
    );
}

/// Starts a TaskManager for `--embedded`, on the address in `api_url`.
pub(super) fn embedded(setup: &Setup) -> Result<Server, UserError> {
    let url = &setup.config.api_url.value;
    let listen = address(url).ok_or_else(|| {
        UserError::usage(format!("--embedded starts a TaskManager on this machine, but api_url is {url}"))
            .hint("remove api_url, or set it to http://127.0.0.1:PORT/api")
    })?;
    let mut settings = settings(listen, None, setup);
    let claim_timeout = &setup.config.claim_timeout;
    settings.claim_timeout = (claim_timeout.origin != Origin::Default).then_some(claim_timeout.value);
    let server = Server::start(&settings).map_err(|error| explain(&error))?;
    let (api_url, page_url) = (server.api_url(), server.page_url());
    log::info!(api_url = api_url.as_str(), page_url = page_url.as_str(); "embedded TaskManager listening");
    Ok(server)
}

fn settings(listen: SocketAddr, database: Option<PathBuf>, setup: &Setup) -> Settings {
    let database = database.unwrap_or_else(|| setup.config.results.with_file_name("taskmanager.db"));
    let api_key = setup.config.api_key.as_ref().map(|key| key.expose().to_owned());
    Settings { api_key, ..Settings::new(listen, database) }
}

/// Resolves `http://HOST:PORT/api` to an address of this machine.
fn address(url: &str) -> Option<SocketAddr> {
    let host = url.strip_prefix("http://")?.strip_suffix("/api")?;
    let host = if host.rsplit(':').next()?.parse::<u16>().is_ok() { host.to_owned() } else { format!("{host}:80") };
    let loopback = |address: &SocketAddr| address.ip().is_loopback();
    let addresses: Vec<_> = host.to_socket_addrs().ok()?.filter(loopback).collect();
    addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()).copied()
}

/// Converts a start error of the embedded TaskManager to a user error.
pub(super) fn explain(error: &ServerError) -> UserError {
    match error {
        ServerError::KeyRequired(address) => UserError::usage(format!("other machines can reach {address}"))
            .hint("set TASKMANAGER_API_KEY, or listen on 127.0.0.1"),
        ServerError::KeyTooShort(address) => {
            let message = format!("other machines can reach {address}, and the API key has fewer than 16 characters");
            UserError::usage(message).hint("make a longer key: openssl rand -hex 16; or listen on 127.0.0.1")
        }
        ServerError::AddressInUse(address) => {
            UserError::new(Exit::Failed, format!("another program is already listening on {address}"))
                .hint("stop it, or choose another address with --listen (127.0.0.1:0 = any free port)")
        }
        ServerError::NotADatabase(_)
        | ServerError::ForeignDatabase(_)
        | ServerError::NewerDatabase { .. }
        | ServerError::DatabaseUnusable { .. } => UserError::usage(error.to_string()),
        _ => UserError::new(Exit::Failed, error.to_string()),
    }
}
