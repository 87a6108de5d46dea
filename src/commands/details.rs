//! What lists of tasks lack: servers list them without params and errors.

use parking_lot::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::output::note;
use crate::taskmanager::{Client, Retries, TaskView};

/// Requests at once.
const AT_ONCE: usize = 8;
/// So long tasks are looked up for one list. By then there are some ten thousand.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks up tasks one by one, until the server fails or it takes too long.
pub(super) struct Details {
    client: Client,
    spent: Duration,
    left_out: usize,
    /// Why no more tasks are looked up.
    end: Option<String>,
}

impl Details {
    pub(super) fn new(client: &Client) -> Self {
        Self { client: client.with_retries(Retries::NONE), spent: Duration::ZERO, left_out: 0, end: None }
    }

    /// Adds params, results and errors to the tasks that lack them.
    pub(super) fn add(&mut self, page: &mut [TaskView]) {
        let lacking: Vec<&mut TaskView> = page.iter_mut().filter(|task| task.params.is_none()).collect();
        let (threads, started) = (AT_ONCE.min(lacking.len()), Instant::now());
        let (lacking, state) = (Mutex::new(lacking.into_iter()), Mutex::new(&mut *self));
        let look_up = || {
            let next = || lacking.lock().next();
            while let Some(task) = next() {
                look_up(task, &state, started);
            }
        };
        thread::scope(|scope| {
            // Without a thread, there are fewer requests at once.
            (1..threads).for_each(|_| _ = thread::Builder::new().spawn_scoped(scope, look_up));
            look_up();
        });
        self.spent += started.elapsed();
    }

    /// Says what was left out.
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
        if state.end.is_none() && state.spent + started.elapsed() > PATIENCE {
            state.end = Some(format!("looking them up takes more than {} s", PATIENCE.as_secs()));
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
        // It has been deleted since it was listed.
        Ok(None) => {}
        Err(error) => {
            let mut state = state();
            state.left_out += 1;
            state.end.get_or_insert(error.to_string());
        }
    }
}
