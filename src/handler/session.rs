//! What passes between us and a child while it works: in the calling thread, by one poll over the pipes to it and a wake
//! pipe.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use super::Run;
use super::answer::Output;
use super::interruption::Interruption;
use super::lines::Ears;
use super::pipes::{Ends, Input, Pipes};
use super::process::{Child, Exit, LINGER, Program};
use super::redact::Redactor;
use super::wake::Wake;
use crate::shutdown::StopReason;

/// How often what the child leaves to us to reap is reaped while it runs.
const REAP_EVERY: Duration = Duration::from_secs(1);
/// The pause where the system cannot tell just now what there is to do.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);
/// What is read at once, in bytes: as much as a pipe holds.
const CHUNK: usize = 64 << 10;

/// A child, and what connects us with it. Dropping it kills the child.
pub(super) struct Link {
    child: Child,
    wake: Wake,
    pub(super) ends: Ends,
    reap_at: Instant,
}

impl Link {
    /// Starts `program`.
    pub(super) fn start(program: &Program) -> io::Result<Self> {
        let wake = Wake::new()?;
        let (child, ends) = Child::start(program)?;
        Ok(Self { child, wake, ends, reap_at: Instant::now() + REAP_EVERY })
    }

    /// What is ready to be read when the child has exited.
    pub(super) fn exit(&self) -> io::Result<OwnedFd> {
        self.child.as_fd().try_clone_to_owned()
    }
}

/// On which terms a child works.
pub(super) struct Terms<'a> {
    pub(super) run: &'a Run<'a>,
    /// What of its output nobody may see.
    pub(super) redactor: &'a Redactor,
    /// How long it has from SIGTERM to SIGKILL.
    pub(super) kill_after: Duration,
}

/// What is left of a child that has ended.
pub(super) struct Ended<O> {
    /// How it left.
    pub(super) exit: Exit,
    /// Why we ended it, where we did.
    pub(super) interruption: Option<Interruption>,
    /// Whether it had read nothing of its input.
    pub(super) untouched: bool,
    /// What it printed as its result.
    pub(super) stdout: O,
    /// The last lines of its standard error.
    pub(super) last_words: String,
}

/// What is left of a child's work where it lives on.
pub(super) struct Parted<O> {
    /// It, for more work.
    pub(super) link: Link,
    /// Whether it was given all of its input, so that more may follow.
    pub(super) is_fed: bool,
    /// What it printed as its result.
    pub(super) stdout: O,
    /// The last lines of its standard error.
    pub(super) last_words: String,
}

/// How hard the child has been asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not at all.
    Running,
    /// By SIGTERM.
    Asked,
    /// By SIGKILL.
    Killed,
}

/// One child at its work.
pub(super) struct Session<'a, O> {
    terms: &'a Terms<'a>,
    wake: Wake,
    child: Child,
    pipes: Pipes<'a, O>,
    phase: Phase,
    /// When the phase, or after the child's exit the wait for its pipes, is over; `None` for never.
    until: Option<Instant>,
    reap_at: Instant,
    exited: bool,
    untouched: bool,
    interruption: Option<Interruption>,
}

impl<'a, O: Output> Session<'a, O> {
    /// Gives `input` to the child, whose standard output goes to `stdout`.
    pub(super) fn new(link: Link, input: Input, stdout: O, terms: &'a Terms<'a>) -> Self {
        let Terms { run, redactor, .. } = terms;
        let Link { child, wake, ends, reap_at } = link;
        wake.on_raise(run.stop);
        Self {
            terms,
            wake,
            child,
            pipes: Pipes::new(ends, input, stdout, Ears { listener: run.listener, redactor }),
            phase: Phase::Running,
            until: Instant::now().checked_add(run.time_left()),
            reap_at,
            exited: false,
            untouched: false,
            interruption: None,
        }
    }

    /// Goes on until the child has exited, or has printed all that is wanted; true where it lives.
    pub(super) fn work(&mut self) -> io::Result<bool> {
        let mut buffer = vec![0; CHUNK];
        // The pipe is empty: mostly all of the input fits into it.
        self.pipes.stdin.write();
        while !self.is_over() {
            let exits = self.wait()?;
            self.pipes.transfer(&mut buffer);
            if exits {
                self.note_exit();
            }
            if !self.is_done() {
                self.obey();
            }
            self.reap_orphans();
        }
        Ok(!self.exited)
    }

    /// Leaves the child to other work, when this is done.
    pub(super) fn part(self) -> Parted<O> {
        let Self { child, wake, pipes, reap_at, .. } = self;
        let is_fed = pipes.stdin.fd().is_none();
        let (ends, stdout, last_words) = pipes.finish();
        Parted { link: Link { child, wake, ends, reap_at }, is_fed, stdout, last_words }
    }

    /// Ends the child, and what it left, when it has exited.
    pub(super) fn end(mut self) -> io::Result<Ended<O>> {
        let exit = self.child.end()?;
        let left = self.child.end_descendants();
        if left > 0 {
            let line = format!("[prismq: {left} processes it started cannot be killed]");
            self.terms.run.listener.stderr_line(&line);
        }
        let (_, stdout, last_words) = self.pipes.finish();
        // There may also be a fault in what was printed only with the last breath.
        let interruption = self.interruption.or_else(|| stdout.fault());
        Ok(Ended { exit, interruption, untouched: self.untouched, stdout, last_words })
    }

    fn is_over(&self) -> bool {
        self.is_done() || (self.exited && (self.pipes.are_closed() || self.time_is_up()))
    }

    /// Whether the child is done, and goes on to live.
    fn is_done(&self) -> bool {
        self.phase == Phase::Running && !self.exited && self.pipes.stdout.sink().is_complete()
    }

    fn time_is_up(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// Waits until there is something to do; true where that is that the child has just exited.
    fn wait(&self) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        fds.extend((!self.exited).then(|| PollFd::new(&self.child, PollFlags::IN)));
        fds.extend(self.pipes.sources().map(|source| PollFd::new(source, PollFlags::IN)));
        fds.extend(self.pipes.stdin.fd().map(|feed| PollFd::new(feed, PollFlags::OUT)));
        let until = self.until.map_or(self.reap_at, |until| until.min(self.reap_at));
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // The system lacks the memory for the list: the child goes on, and so do we.
            Err(Errno::NOMEM | Errno::AGAIN) => thread::sleep(SHORTAGE_PAUSE),
            Err(error) => return Err(error.into()),
        }
        let is_ready = |index: usize| !fds[index].revents().is_empty();
        if is_ready(0) {
            self.wake.drain();
        }
        Ok(!self.exited && is_ready(1))
    }

    fn reap_orphans(&mut self) {
        let now = Instant::now();
        if self.reap_at <= now {
            self.child.reap_orphans();
            self.reap_at = now + REAP_EVERY;
        }
    }

    /// The child has exited. What it leaves is killed, or, where the group was asked to end, has the rest of its time;
    /// the pipes are waited for a little.
    fn note_exit(&mut self) {
        self.exited = true;
        self.untouched = self.pipes.stdin.is_untouched();
        self.pipes.stdin.close();
        let linger = Instant::now() + LINGER;
        let kill_at = self.until.filter(|_| self.phase == Phase::Asked);
        self.until = Some(kill_at.map_or(linger, |kill_at| kill_at.min(linger)));
        if self.phase != Phase::Asked {
            self.kill();
            self.child.end_descendants();
        }
    }

    /// Ends the child where its time is up, it prints too much, or the worker says so.
    fn obey(&mut self) {
        if let Some(fault) = self.pipes.stdout.sink().fault() {
            self.interrupt(fault);
        }
        if let Some(reason) = self.terms.run.stop.get() {
            self.interrupt(Interruption::Stopped(reason));
        }
        if !self.exited && self.time_is_up() {
            match self.phase {
                Phase::Running => self.interrupt(Interruption::Timeout(self.terms.run.timeout)),
                Phase::Asked | Phase::Killed => self.kill(),
            }
        }
    }

    /// Ends the child for a reason. A reason that kills does so also where an earlier one had asked.
    fn interrupt(&mut self, interruption: Interruption) {
        let kills = match interruption {
            Interruption::Timeout(_) | Interruption::Stopped(StopReason::Shutdown) => false,
            // With a lost claim, another worker may be at the same task already: every moment is one too many.
            Interruption::Stopped(StopReason::Kill | StopReason::ClaimLost)
            | Interruption::OutputTooLong
            | Interruption::Misspoke(_) => true,
        };
        if kills && self.phase != Phase::Killed {
            self.kill();
        } else if self.phase == Phase::Running {
            self.ask();
        } else {
            return;
        }
        self.interruption.get_or_insert(interruption);
    }

    fn ask(&mut self) {
        self.child.signal(Signal::TERM);
        self.phase = Phase::Asked;
        self.until = Instant::now().checked_add(self.terms.kill_after);
    }

    fn kill(&mut self) {
        self.child.signal(Signal::KILL);
        self.phase = Phase::Killed;
        if !self.exited {
            self.until = None;
        }
    }
}
