//! Adds params, results and errors to lists of tasks, since servers list tasks without them.

use parking_lot::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::output::note;
use crate::taskmanager::{Client, Retries, TaskView};

/// Number of concurrent requests.
const MAX_CONCURRENT: usize = 8;
/// Maximum time for one list, enough for some ten thousand tasks.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Looks up tasks one by one, until a call fails or the time is up.
pub(super) struct Details {
    client: Client,
    spent: Duration,
    left_out: usize,
    /// Why looking up ended early.
    end: Option<String>,
}

impl Details {
    pub(super) fn new(client: &Client) -> Self {
        Self { client: client.with_retries(Retries::NONE), spent: Duration::ZERO, left_out: 0, end: None }
    }

    /// Adds params, results and errors to the tasks that lack them.
    pub(super) fn add(&mut self, page: &mut [TaskView]) {
        let lacking: Vec<&mut TaskView> = page.iter_mut().filter(|task| task.params.is_none()).collect();
        let (threads, started) = (MAX_CONCURRENT.min(lacking.len()), Instant::now());
        let (lacking, state) = (Mutex::new(lacking.into_iter()), Mutex::new(&mut *self));
        let look_up = || {
            let next = || lacking.lock().next();
            while let Some(task) = next() {
                look_up(task, &state, started);
            }
        };
        thread::scope(|scope| {
            // If a thread cannot be started, fewer requests run concurrently.
            (1..threads).for_each(|_| _ = thread::Builder::new().spawn_scoped(scope, look_up));
            look_up();
        });
        self.spent += started.elapsed();
    }

    /// Prints a note if details are missing.
    pub(super) fn conclude(self) {
        if let Some(why) = self.end {
            let count = self.left_out;
            note(format_args!(
                "params and errors of {count} tasks omitted: {why}; see `prismq show-task ID` for a single task"
            ));
        }
    }
}

fn look_up(task: &mut TaskView, state: &Mutex<&mut Details>, started: Instant) {
    let state = || state.lock();
    let client = {
        let mut state = state();
        if state.end.is_none() && state.spent + started.elapsed() > TIMEOUT {
            state.end = Some(format!("looking them up took longer than {} s", TIMEOUT.as_secs()));
        }
        if state.end.is_some() {
            state.left_out += 1;
            return;
        }
        state.client.clone()
    };
    match client.task(task.id) {
        Ok(Some(found)) => {
            (task.params, task.result) = (found.params, found.result);
            task.error_message = found.error_message;
        }
        // The task was deleted after it was listed.
        Ok(None) => {}
        Err(error) => {
            let mut state = state();
            state.left_out += 1;
            state.end.get_or_insert(error.to_string());
        }
    }
}
