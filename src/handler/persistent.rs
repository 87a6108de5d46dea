//! Handlers that are programs which work one task after another: a process is started once, and kept between tasks.
//!
//! There are never more processes than tasks at once. An idle one waits for its next task on its standard input; nobody
//! watches it, so whether it lives is found out when there is a task for it.

use parking_lot::{Mutex, MutexGuard};
use std::io;
use std::mem;
use std::num::NonZeroU32;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};

use super::answer::{Answer, Everything};
use super::envelope::{self, failure};
use super::exec::{self, Exec, input, unwatched};
use super::interruption::Interruption;
use super::lines::Ears;
use super::pipes::Input;
use super::process::{FILES, Program};
use super::session::{Link, Parted, Session, Terms};
use super::{Handler, Listener, OpenFiles, Run, environment};
use crate::resources::at_once;
use crate::shutdown::Stop;
use crate::task::{Claim, ErrorType, Failure, Outcome};

/// How long a process has to leave by itself when there are no more tasks, before it is asked to.
const LEAVE: Duration = Duration::from_millis(500);
/// How long it has then, at most, before it is killed: nothing is lost with it.
const KILL_IDLE_AFTER: Duration = Duration::from_secs(1);
/// Why a process is replaced that ended, or closed its pipes, while it had no task.
const ENDED: &str = "it exited between two tasks";

/// A handler that keeps the processes of its program from task to task.
pub(crate) struct Persistent {
    exec: Exec,
    max_tasks: Option<NonZeroU32>,
    /// The processes that have no task. The last one that was used comes first: it is the warmest.
    idle: Mutex<Vec<Warm>>,
}

/// A process that has worked tasks.
struct Warm {
    link: Link,
    tasks: u32,
}

impl Persistent {
    /// A handler that runs the program of `exec`, each process for at most `max_tasks` tasks.
    #[must_use]
    pub(crate) fn new(exec: Exec, max_tasks: Option<NonZeroU32>) -> Self {
        Self { exec, max_tasks, idle: Mutex::default() }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Warm>> {
        self.idle.lock()
    }

    /// An idle process that can take a task.
    fn take(&self, run: &Run<'_>) -> Option<Warm> {
        loop {
            // The lock is let go of before the process is looked at, or ended.
            let warm = self.idle().pop()?;
            let Some(trouble) = warm.trouble() else { return Some(warm) };
            tell(run.listener, trouble);
            self.dismiss(warm, run.stop, run.listener);
        }
    }

    /// Works a task, with as many processes as it takes to find one that lives. A new one is the last that is tried.
    fn work(&self, claim: &Claim, run: &Run<'_>) -> Result<Outcome, Failure> {
        loop {
            let warm = match self.take(run) {
                Some(warm) => warm,
                None => self.start(claim, run)?,
            };
            match self.give(warm, claim, run).map_err(|error| unwatched(&error))? {
                Some(outcome) => return Ok(self.exec.redactor().outcome(outcome)),
                None => tell(run.listener, ENDED),
            }
        }
    }

    fn start(&self, claim: &Claim, run: &Run<'_>) -> Result<Warm, Failure> {
        let program = self.exec.program(claim.task.id, environment::of_process(claim));
        let program = program.map_err(|error| failure(ErrorType::Configuration, error))?;
        let program = Arc::new(program);
        let link = exec::start(&program.path, run, || start_with_keeper(Arc::clone(&program)))?;
        Ok(Warm { link, tasks: 0 })
    }

    /// Gives a task to a process, which is kept where it answers. `None`: it had left before it read any of the task.
    fn give(&self, warm: Warm, claim: &Claim, run: &Run<'_>) -> io::Result<Option<Outcome>> {
        let Warm { link, tasks } = warm;
        let redactor = self.exec.redactor();
        let terms = Terms { run, redactor, kill_after: self.exec.kill_after };
        let answer = Answer::new(claim.task.id, Ears { listener: run.listener, redactor });
        let mut session = Session::new(link, Input { bytes: input(claim), is_last: false }, answer, &terms);
        if session.work()? {
            let Parted { link, is_fed, stdout, last_words } = session.part();
            let warm = Warm { link, tasks: tasks + 1 };
            if is_fed && !stdout.goes_on() {
                self.keep(warm, run);
            } else {
                tell(run.listener, "it kept printing after its answer, or answered before reading its task");
            }
            let answer = stdout.envelope.unwrap_or_default();
            return Ok(Some(envelope::outcome_of_answer(answer, last_words, run.listener)));
        }
        let ended = session.end()?;
        let missed = tasks > 0 && ended.untouched && ended.interruption.is_none();
        Ok((!missed).then(|| envelope::outcome_of_end(ended, run.listener)))
    }

    /// Keeps a process for the next task, unless it has worked enough of them.
    fn keep(&self, warm: Warm, run: &Run<'_>) {
        if self.max_tasks.is_some_and(|max_tasks| warm.tasks >= max_tasks.get()) {
            self.dismiss(warm, run.stop, run.listener);
        } else {
            self.idle().push(warm);
        }
    }

    /// Ends a process that has no task. It may leave by itself when it finds its standard input at its end. `listener`
    /// hears what it still has to say.
    fn dismiss(&self, warm: Warm, stop: &Stop, listener: &dyn Listener) {
        let run = Run::new(LEAVE, stop, listener);
        let kill_after = self.exec.kill_after.min(KILL_IDLE_AFTER);
        let terms = Terms { run: &run, redactor: self.exec.redactor(), kill_after };
        let nothing = Input { bytes: Vec::new(), is_last: true };
        let mut session = Session::new(warm.link, nothing, Everything::default(), &terms);
        // Where it cannot be watched, it is killed as it is dropped.
        if session.work().is_ok() {
            let _ = session.end();
        }
    }
}

impl Handler for Persistent {
    fn run(&self, claim: &Claim, run: &Run<'_>) -> Outcome {
        if let Some(reason) = run.stop.get() {
            return Interruption::Stopped(reason).outcome("");
        }
        self.work(claim, run).unwrap_or_else(Outcome::from)
    }

    fn open_files(&self) -> OpenFiles {
        let (starting, running) = FILES;
        // Each process has its keeper, which has a file of its own.
        OpenFiles { running: starting - running, idle: running + 1 }
    }

    fn check(&self) -> Result<(), String> {
        self.exec.check()
    }

    fn end_idle(&self, stop: &Stop) {
        let idle = mem::take(&mut *self.idle());
        at_once(idle, |warm| self.dismiss(warm, stop, &Nobody));
    }
}

impl Warm {
    /// Why it can take no task, where that shows. It should live, and have said nothing since its last task.
    fn trouble(&self) -> Option<&'static str> {
        let (Some(_), Some(stdout)) = (&self.link.ends.stdin, &self.link.ends.stdout) else { return Some(ENDED) };
        let mut buffer = [0; 256];
        match rustix::io::read(stdout, &mut buffer) {
            Err(Errno::AGAIN | Errno::INTR) => None,
            Ok(0) | Err(_) => Some(ENDED),
            Ok(count) if buffer[..count].trim_ascii().is_empty() => None,
            Ok(_) => Some("it printed output between two tasks"),
        }
    }
}

/// Starts `program` in a thread that lives as long as it does, whichever threads use it in the meantime: a child dies
/// with the thread that started it.
fn start_with_keeper(program: Arc<Program>) -> io::Result<Link> {
    let (started, start) = mpsc::sync_channel(1);
    let keep = move || {
        let link = Link::start(&program).and_then(|link| Ok((link.exit()?, link)));
        let (exit, link) = link.map_or_else(|error| (None, Err(error)), |(exit, link)| (Some(exit), Ok(link)));
        let _ = started.send(link);
        if let Some(exit) = exit {
            let _ = retry_on_intr(|| poll(&mut [PollFd::new(&exit, PollFlags::IN)], None));
        }
    };
    thread::Builder::new().name("keeper".into()).spawn(keep)?;
    start.recv().map_err(io::Error::other)?
}

/// Tells why a process is replaced, where that is not the task's failure.
fn tell(listener: &dyn Listener, problem: &str) {
    listener.stderr_line(&format!("[prismq: process replaced: {problem}]"));
}

/// Hears what a process says that has no task.
struct Nobody;

impl Listener for Nobody {
    fn progress(&self, _: u8, _: Option<&str>) {}

    fn stderr_line(&self, _: &str) {}
}
