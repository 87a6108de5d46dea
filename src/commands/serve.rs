//! `serve`: the embedded TaskManager by itself.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::setup::Setup;
use crate::cli::ServeArgs;
use crate::exit::{Exit, UserError};
use crate::output::{print_json, print_line};
use crate::server::{Server, ServerError, Settings};
use crate::shutdown::Phase;

/// `prismq serve`
pub(super) fn run(args: &ServeArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.heed_signals()?;
    let server = Server::start(&Settings {
        claim_timeout: args.claim_timeout,
        max_attempts: args.max_attempts,
        ..settings(args.listen, args.db.clone(), setup)
    });
    let server = server.map_err(|error| explain(&error))?;
    if setup.json {
        print_json(&json!({"api_url": server.api_url()}))?;
    } else {
        print_line(server.api_url())?;
    }
    eprintln!("the TaskManager listens; for other shells: export TASKMANAGER_API_URL={}", server.api_url());
    setup.shutdown.wait_for(Phase::Draining, Duration::MAX);
    server.stop();
    Ok(Exit::Done)
}

/// The TaskManager that a worker brings along, where its `api_url` says that it is.
pub(super) fn embedded(setup: &Setup) -> Result<Server, UserError> {
    let url = &setup.config.api_url.value;
    let listen = address(url).ok_or_else(|| {
        UserError::usage(format!("--embedded starts a TaskManager on this machine, but api_url is {url}"))
            .hint("leave api_url out, or set it to http://127.0.0.1:PORT/api")
    })?;
    let mut settings = settings(listen, None, setup);
    settings.claim_timeout = setup.config.claim_timeout.value;
    let server = Server::start(&settings).map_err(|error| explain(&error))?;
    log::info!(api_url = server.api_url().as_str(); "the embedded TaskManager listens");
    Ok(server)
}

fn settings(listen: SocketAddr, database: Option<PathBuf>, setup: &Setup) -> Settings {
    let database = database.unwrap_or_else(|| setup.config.results.with_file_name("taskmanager.db"));
    let api_key = setup.config.api_key.as_ref().map(|key| key.expose().to_owned());
    Settings { api_key, ..Settings::new(listen, database) }
}

/// The address on this machine that `http://HOST:PORT/api` leads to.
fn address(url: &str) -> Option<SocketAddr> {
    let host = url.strip_prefix("http://")?.strip_suffix("/api")?;
    let host = if host.rsplit(':').next()?.parse::<u16>().is_ok() { host.to_owned() } else { format!("{host}:80") };
    let loopback = |address: &SocketAddr| address.ip().is_loopback();
    let addresses: Vec<_> = host.to_socket_addrs().ok()?.filter(loopback).collect();
    addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()).copied()
}

/// Says what keeps the embedded TaskManager from starting, and what to do.
pub(super) fn explain(error: &ServerError) -> UserError {
    let message = error.to_string();
    match error {
        ServerError::KeyRequired(_) => {
            UserError::usage(message).hint("set TASKMANAGER_API_KEY, or listen on 127.0.0.1")
        }
        ServerError::AddressInUse(_) => {
            UserError::new(Exit::Failed, message).hint("name another with --listen, 127.0.0.1:0 for any free one")
        }
        _ => UserError::new(Exit::Failed, message),
    }
}
