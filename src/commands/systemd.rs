//! Notifies the service manager (`sd_notify`): readiness, status, watchdog, stopping.

use parking_lot::Mutex;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::os_error;
use crate::output::printable;
use crate::worker::Event;

/// The worker's phase.
#[derive(Clone, Copy, PartialEq)]
enum ServicePhase {
    Starting,
    Up,
    /// Waiting for the TaskManager.
    Waiting,
    Ending,
}

/// Maximum time that a message may block the worker.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

struct ServiceState {
    phase: ServicePhase,
    /// Whether the last message was sent; initially true.
    was_sent: bool,
    /// Messages about the phase that could not be sent, to be sent with the next one.
    unsent: Vec<String>,
    completed: u64,
    failed: u64,
}

/// The service manager that started us.
pub(super) struct Systemd {
    address: SocketAddr,
    name: OsString,
    state: Mutex<ServiceState>,
}

impl Systemd {
    /// Connects to the manager named in the environment.
    pub(super) fn of_environment() -> Option<Self> {
        let name = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        let state =
            ServiceState { phase: ServicePhase::Starting, was_sent: true, unsent: Vec::new(), completed: 0, failed: 0 };
        match address(&name) {
            Ok(address) => Some(Self { address, name, state: Mutex::new(state) }),
            Err(problem) => {
                let name = name.display();
                log::warn!("cannot notify the service manager: NOTIFY_SOCKET={name}: {problem}");
                None
            }
        }
    }

    /// Returns the watchdog's time-out, if it is enabled.
    pub(super) fn watchdog() -> Option<Duration> {
        sd_notify::watchdog_enabled()
    }

    /// Sends a message for important events. Counts are sent with the watchdog's messages only, since tasks may be many.
    pub(super) fn event(&self, event: &Event<'_>) {
        let mut state = self.state.lock();
        let mut enter = |phase, words: &str| {
            let states = state.enter(phase, words);
            self.send(&states, &mut state);
        };
        match event {
            Event::Ready { .. } => enter(ServicePhase::Up, "waiting for tasks"),
            // A worker that waits for its TaskManager counts as up, since a restart would not help.
            Event::OutageStarted(error) => {
                enter(ServicePhase::Waiting, &format!("waiting for the TaskManager: {error}"));
            }
            Event::OutageEnded { .. } => enter(ServicePhase::Up, "TaskManager available again"),
            Event::StoreFailed { error, .. } => enter(ServicePhase::Waiting, &format!("claiming paused: {error}")),
            Event::StorageRecovered { .. } => enter(ServicePhase::Up, "storage recovered: claiming resumed"),
            Event::Closing { in_flight, .. } => {
                enter(ServicePhase::Ending, &format!("stopping, tasks in flight: {in_flight}"));
            }
            Event::Finished(result) if result.outcome.is_not_run() => {}
            Event::Finished(result) if result.outcome.failure.is_none() => state.completed += 1,
            Event::Finished(_) => state.failed += 1,
            Event::Heartbeat { .. } => {
                let states = state.on_heartbeat();
                self.send(&states, &mut state);
            }
            _ => {}
        }
    }

    /// Sends messages. A failure is logged once and does not stop the worker.
    fn send(&self, states: &[String], state: &mut ServiceState) {
        if states.is_empty() {
            return;
        }
        let states = [std::mem::take(&mut state.unsent).as_slice(), states].concat();
        let sent = send_message(&states.join("\n"), &self.address);
        if let (Err(error), true) = (&sent, state.was_sent) {
            let (name, problem) = (self.name.display(), refusal(error));
            log::warn!("cannot notify the service manager: NOTIFY_SOCKET={name}: {problem}");
        }
        state.was_sent = sent.is_ok();
        if sent.is_err() {
            let phases = [NotifyState::Ready.to_string(), NotifyState::Stopping.to_string()];
            state.unsent = states.into_iter().filter(|state| phases.contains(state)).collect();
        }
    }
}

fn send_message(message: &str, address: &SocketAddr) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    socket.send_to_addr(message.as_bytes(), address).map(drop)
}

/// Describes why a message was not accepted.
fn refusal(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "nobody reads what is sent there".to_owned(),
        _ if error.raw_os_error() == Some(libc::EPROTOTYPE) => "it is not a datagram socket".to_owned(),
        _ => os_error::message(error),
    }
}

/// Parses a socket address (`sd_notify(3)`): an absolute path, or `@` and an abstract name.
fn address(name: &OsStr) -> Result<SocketAddr, String> {
    let address = match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] if !name.is_empty() => {
            <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
        }
        [b'v', b's', b'o', b'c', b'k', b':' | b'-', ..] => {
            return Err("vsock addresses are not supported: write an absolute path, or @ and a name".to_owned());
        }
        _ => return Err("this is not a socket: write an absolute path, or @ and a name".to_owned()),
    };
    address.map_err(|_| "the name is too long for a socket, or contains a NUL character".to_owned())
}

impl ServiceState {
    /// Changes the phase and returns the messages for it. The last phase is never left.
    fn enter(&mut self, phase: ServicePhase, words: &str) -> Vec<String> {
        if self.phase == ServicePhase::Ending {
            return Vec::new();
        }
        let words = printable(words);
        let status = NotifyState::Status(&words).to_string();
        let before = std::mem::replace(&mut self.phase, phase);
        match (before, phase) {
            (_, ServicePhase::Ending) => vec![NotifyState::Stopping.to_string(), status],
            (ServicePhase::Starting, _) => vec![NotifyState::Ready.to_string(), status],
            _ => vec![status],
        }
    }

    /// Returns the messages for a heartbeat.
    fn on_heartbeat(&self) -> Vec<String> {
        match self.phase {
            // The manager's watchdog starts when we are ready.
            ServicePhase::Starting => Vec::new(),
            ServicePhase::Up => {
                let numbers = format!("completed: {}, failed: {}", self.completed, self.failed);
                vec![NotifyState::Watchdog.to_string(), NotifyState::Status(&numbers).to_string()]
            }
            ServicePhase::Waiting | ServicePhase::Ending => vec![NotifyState::Watchdog.to_string()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_names_are_paths_or_abstract_names() {
        assert_eq!(address("/run/x".as_ref()).unwrap().as_pathname(), Some("/run/x".as_ref()));
        for name in ["relative/x", "@", "x", "vsock:2:1234", "unix:/run/x", &format!("/{}", "x".repeat(200)), "/a\0b"] {
            assert!(address(name.as_ref()).is_err(), "{name}");
        }
        #[cfg(target_os = "linux")]
        {
            let name = address("@/a/name".as_ref()).unwrap();
            let name = std::os::linux::net::SocketAddrExt::as_abstract_name(&name);
            assert_eq!(name, Some(&b"/a/name"[..]));
            assert!(address(format!("@{}", "x".repeat(200)).as_ref()).is_err());
        }
    }
}
