//! What a service manager hears of a worker (`sd_notify`): that it is up, what it does, that its loop turns, that it ends.

use std::env;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;

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

struct State {
    phase: Phase,
    completed: u64,
    failed: u64,
}

/// The service manager that started us.
pub(super) struct Systemd {
    state: Mutex<State>,
}

impl Systemd {
    /// The one that the environment names.
    pub(super) fn of_environment() -> Option<Self> {
        let state = State { phase: Phase::Starting, completed: 0, failed: 0 };
        env::var_os("NOTIFY_SOCKET").map(|_| Self { state: Mutex::new(state) })
    }

    /// How long it lets us be silent, where it minds.
    pub(super) fn watchdog() -> Option<Duration> {
        sd_notify::watchdog_enabled()
    }

    /// Tells what happened, where it is worth it. Numbers go with the watchdog's messages: tasks may be many.
    pub(super) fn event(&self, event: &Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Ready { .. } => state.turn(Phase::Up, "waiting for tasks"),
            // A worker that waits for its TaskManager is up: to start it anew would not help.
            Event::OutageStarted(error) => state.turn(Phase::Waiting, &format!("{error}; waiting for it")),
            Event::OutageEnded { .. } => state.turn(Phase::Up, "the TaskManager answers again"),
            Event::StoreFailed(error) => state.turn(Phase::Waiting, &format!("{error}; claiming nothing")),
            Event::StoreMended { .. } => state.turn(Phase::Up, "the results file can be written again"),
            Event::Closing { in_flight, .. } => {
                state.turn(Phase::Ending, &format!("ending, tasks in flight: {in_flight}"));
            }
            Event::Finished(result) if result.outcome.is_not_run() => {}
            Event::Finished(result) if result.outcome.failure.is_none() => state.completed += 1,
            Event::Finished(_) => state.failed += 1,
            Event::Turning { .. } => state.turns(),
            _ => {}
        }
    }
}

impl State {
    /// Goes on to another phase, and says so. There is no way back from the end.
    fn turn(&mut self, phase: Phase, words: &str) {
        if self.phase == Phase::Ending {
            return;
        }
        let words = printable(words);
        let status = NotifyState::Status(&words);
        match (self.phase, phase) {
            (_, Phase::Ending) => tell(&[NotifyState::Stopping, status]),
            (Phase::Starting, _) => tell(&[NotifyState::Ready, status]),
            _ => tell(&[status]),
        }
        self.phase = phase;
    }

    fn turns(&self) {
        match self.phase {
            // The manager's watchdog sleeps until we are up.
            Phase::Starting => {}
            Phase::Up => {
                let numbers = format!("completed: {}, failed: {}", self.completed, self.failed);
                tell(&[NotifyState::Watchdog, NotifyState::Status(&numbers)]);
            }
            Phase::Waiting | Phase::Ending => tell(&[NotifyState::Watchdog]),
        }
    }
}

/// Where nobody hears it, the work goes on.
fn tell(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
