//! What a service manager hears of a worker (`sd_notify`): that it is up, what it does, that its loop turns, that it ends.

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

/// How far the worker is.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Starting,
    Up,
    /// The TaskManager does not answer.
    Waiting,
    Ending,
}

/// How long a manager that reads nothing may hold up the worker, at each message.
const PATIENCE: Duration = Duration::from_secs(1);

struct State {
    phase: Phase,
    /// Whether the manager heard the last message; at first, it is taken for granted.
    is_heard: bool,
    /// Messages about the phase that it has not heard. They are sent again with the next one.
    unheard: Vec<String>,
    completed: u64,
    failed: u64,
}

/// The service manager that started us.
pub(super) struct Systemd {
    address: SocketAddr,
    name: OsString,
    state: Mutex<State>,
}

impl Systemd {
    /// The one that the environment names.
    pub(super) fn of_environment() -> Option<Self> {
        let name = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        let state = State { phase: Phase::Starting, is_heard: true, unheard: Vec::new(), completed: 0, failed: 0 };
        match address(&name) {
            Ok(address) => Some(Self { address, name, state: Mutex::new(state) }),
            Err(problem) => {
                let name = name.display();
                log::warn!("cannot notify the service manager: NOTIFY_SOCKET={name}: {problem}");
                None
            }
        }
    }

    /// How long it lets us be silent, where it minds.
    pub(super) fn watchdog() -> Option<Duration> {
        sd_notify::watchdog_enabled()
    }

    /// Tells what happened, where it is worth it. Numbers go with the watchdog's messages: tasks may be many.
    pub(super) fn event(&self, event: &Event<'_>) {
        let mut state = self.state.lock();
        let mut turn = |phase, words: &str| {
            let states = state.turn(phase, words);
            self.tell(&states, &mut state);
        };
        match event {
            Event::Ready { .. } => turn(Phase::Up, "waiting for tasks"),
            // A worker that waits for its TaskManager is up: to start it anew would not help.
            Event::OutageStarted(error) => turn(Phase::Waiting, &format!("waiting for the TaskManager: {error}")),
            Event::OutageEnded { .. } => turn(Phase::Up, "TaskManager available again"),
            Event::StoreFailed { error, .. } => turn(Phase::Waiting, &format!("claiming paused: {error}")),
            Event::StoreMended { .. } => turn(Phase::Up, "storage recovered: claiming resumed"),
            Event::Closing { in_flight, .. } => {
                turn(Phase::Ending, &format!("stopping, tasks in flight: {in_flight}"));
            }
            Event::Finished(result) if result.outcome.is_not_run() => {}
            Event::Finished(result) if result.outcome.failure.is_none() => state.completed += 1,
            Event::Finished(_) => state.failed += 1,
            Event::Heartbeat { .. } => {
                let states = state.turns();
                self.tell(&states, &mut state);
            }
            _ => {}
        }
    }

    /// Where nobody hears it, the work goes on; the log says so once.
    fn tell(&self, states: &[String], state: &mut State) {
        if states.is_empty() {
            return;
        }
        let states = [std::mem::take(&mut state.unheard).as_slice(), states].concat();
        let sent = send(&states.join("\n"), &self.address);
        if let (Err(error), true) = (&sent, state.is_heard) {
            let (name, problem) = (self.name.display(), refusal(error));
            log::warn!("cannot notify the service manager: NOTIFY_SOCKET={name}: {problem}");
        }
        state.is_heard = sent.is_ok();
        if sent.is_err() {
            let phases = [NotifyState::Ready.to_string(), NotifyState::Stopping.to_string()];
            state.unheard = states.into_iter().filter(|state| phases.contains(state)).collect();
        }
    }
}

fn send(message: &str, address: &SocketAddr) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(message.as_bytes(), address).map(drop)
}

/// Why a message was not taken.
fn refusal(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "nobody reads what is sent there".to_owned(),
        _ if error.raw_os_error() == Some(libc::EPROTOTYPE) => "it is not a datagram socket".to_owned(),
        _ => os_error::words(error),
    }
}

/// The socket of that name, as `sd_notify(3)` has it: an absolute path, or `@` and a name of Linux's own.
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

impl State {
    /// Goes on to another phase; what is to be said of it. There is no way back from the end.
    fn turn(&mut self, phase: Phase, words: &str) -> Vec<String> {
        if self.phase == Phase::Ending {
            return Vec::new();
        }
        let words = printable(words);
        let status = NotifyState::Status(&words).to_string();
        let before = std::mem::replace(&mut self.phase, phase);
        match (before, phase) {
            (_, Phase::Ending) => vec![NotifyState::Stopping.to_string(), status],
            (Phase::Starting, _) => vec![NotifyState::Ready.to_string(), status],
            _ => vec![status],
        }
    }

    fn turns(&self) -> Vec<String> {
        match self.phase {
            // The manager's watchdog sleeps until we are up.
            Phase::Starting => Vec::new(),
            Phase::Up => {
                let numbers = format!("completed: {}, failed: {}", self.completed, self.failed);
                vec![NotifyState::Watchdog.to_string(), NotifyState::Status(&numbers).to_string()]
            }
            Phase::Waiting | Phase::Ending => vec![NotifyState::Watchdog.to_string()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sockets_are_paths_or_names_of_linux() {
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
