//! One run of a program: a child from its start to its end, in the calling thread, by one poll over the pipes to it and
//! a wake pipe.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use super::Run;
use super::interruption::Interruption;
use super::lines::{ErrorLog, Lines, Reports};
use super::pipes::{Feed, Output, Pipes, Source};
use super::process::{Child, Exit, LINGER, Program};
use super::wake::Wake;
use crate::shutdown::StopReason;

/// How often what the child leaves to us to reap is reaped while it runs.
const REAP_EVERY: Duration = Duration::from_secs(1);
/// What is read at once, in bytes: as much as a pipe holds.
const CHUNK: usize = 64 << 10;

/// What is left of a child that has ended.
pub(super) struct Ended {
    /// How it left.
    pub(super) exit: Exit,
    /// Why we ended it, where we did.
    pub(super) interruption: Option<Interruption>,
    /// What it printed as its result.
    pub(super) stdout: Vec<u8>,
    /// The last lines of its standard error.
    pub(super) last_words: String,
}

/// Runs `program` on `input` to its end. The error is that it could not be started or watched.
pub(super) fn run(program: &Program, input: Vec<u8>, run: &Run<'_>) -> io::Result<Ended> {
    let wake = Wake::new()?;
    let (child, pipes) = start(program, input, run, &wake)?;
    wake.on_raise(run.stop);
    let now = Instant::now();
    let session = Session {
        run,
        wake,
        child,
        pipes,
        kill_after: program.kill_after,
        phase: Phase::Running,
        until: now.checked_add(run.timeout),
        reap_at: now + REAP_EVERY,
        exited: false,
        interruption: None,
    };
    session.finish()
}

/// Starts `program`, with pipes to it.
fn start<'a>(program: &'a Program, input: Vec<u8>, run: &Run<'a>, wake: &Wake) -> io::Result<(Child, Pipes<'a>)> {
    // Opened before the child is: the lowest free numbers are taken, so 3 can hardly be the number of the pipe by
    // which the standard library hears of a failed exec, and which the child's progress would then overwrite.
    let (progress, progress_of_child) = io::pipe()?;
    let mut child = Child::start(program, progress_of_child.into(), wake)?;
    let [stdin, stdout, stderr] = child.take_pipes()?;
    let redactor = &program.redactor;
    let pipes = Pipes {
        stdin: Feed::new(stdin, input)?,
        stdout: Source::new(stdout, Output::default())?,
        stderr: Source::new(stderr, Lines::new(ErrorLog::new(run.listener, redactor)))?,
        progress: Source::new(progress.into(), Lines::new(Reports::new(run.listener, redactor)))?,
    };
    Ok((child, pipes))
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

/// One child on its way to its end.
struct Session<'a> {
    run: &'a Run<'a>,
    wake: Wake,
    child: Child,
    pipes: Pipes<'a>,
    kill_after: Duration,
    phase: Phase,
    /// When the phase, or after the child's exit the wait for its pipes, is over; `None` for never.
    until: Option<Instant>,
    reap_at: Instant,
    exited: bool,
    interruption: Option<Interruption>,
}

impl Session<'_> {
    fn finish(mut self) -> io::Result<Ended> {
        let mut buffer = vec![0; CHUNK];
        while !self.is_over() {
            self.wait()?;
            self.pipes.transfer(&mut buffer);
            if self.wake.brings_exit() {
                self.note_exit();
            }
            self.obey();
            self.reap_orphans();
        }
        let exit = self.child.end()?;
        let left = self.child.end_descendants();
        if left > 0 {
            self.run.listener.stderr_line(&format!("[prismq: {left} of the processes it started cannot be ended]"));
        }
        let Output { bytes: stdout, too_long } = self.pipes.stdout.finish();
        self.pipes.progress.finish();
        let last_words = self.pipes.stderr.finish().hearer.last_words();
        // It may also have become too long only after the child's exit.
        let interruption = self.interruption.or(too_long.then_some(Interruption::OutputTooLong));
        Ok(Ended { exit, interruption, stdout, last_words })
    }

    fn is_over(&self) -> bool {
        self.exited && (self.pipes.are_closed() || self.time_is_up())
    }

    fn time_is_up(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// Waits until there is something to do.
    fn wait(&self) -> io::Result<()> {
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        fds.extend(self.pipes.sources().map(|source| PollFd::new(source, PollFlags::IN)));
        fds.extend(self.pipes.stdin.fd().map(|feed| PollFd::new(feed, PollFlags::OUT)));
        let until = self.until.map_or(self.reap_at, |until| until.min(self.reap_at));
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
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
        if self.pipes.stdout.sink().too_long {
            self.interrupt(Interruption::OutputTooLong);
        }
        if let Some(reason) = self.run.stop.get() {
            self.interrupt(Interruption::Stopped(reason));
        }
        if !self.exited && self.time_is_up() {
            match self.phase {
                Phase::Running => self.interrupt(Interruption::Timeout(self.run.timeout)),
                Phase::Asked | Phase::Killed => self.kill(),
            }
        }
    }

    /// Ends the child for a reason. A reason that kills does so also where an earlier one had asked.
    fn interrupt(&mut self, interruption: Interruption) {
        let kills = match interruption {
            Interruption::Timeout(_) | Interruption::Stopped(StopReason::Shutdown) => false,
            // With a lost claim, another worker may be at the same task already: every moment is one too many.
            Interruption::OutputTooLong | Interruption::Stopped(StopReason::Kill | StopReason::ClaimLost) => true,
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
        self.until = Instant::now().checked_add(self.kill_after);
    }

    fn kill(&mut self) {
        self.child.signal(Signal::KILL);
        self.phase = Phase::Killed;
        if !self.exited {
            self.until = None;
        }
    }
}
