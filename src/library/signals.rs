//! Handles SIGTERM, SIGINT and SIGHUP.

use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libc::c_int;

use crate::shutdown::{Phase, Shutdown};

/// Signals within this time count as one: GNU `timeout` signals the process and then its group.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// The signals that stop the program.
const STOP_SIGNALS: [c_int; 3] = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM];

/// Installs the signal handlers: the first signal drains, the second kills running tasks. `on_each` is called for every
/// signal.
pub(crate) fn install(shutdown: &Arc<Shutdown>, on_each: impl Fn() + Send + 'static) -> Result<(), ctrlc::Error> {
    let shutdown = Arc::clone(shutdown);
    let mut first: Option<Instant> = None;
    on_signal(move || {
        on_each();
        let first = *first.get_or_insert_with(Instant::now);
        match shutdown.get() {
            Phase::Running => shutdown.raise(Phase::Draining),
            _ if first.elapsed() < SAME_SIGNAL => {}
            _ => shutdown.raise(Phase::Ending),
        }
    })
}

/// Calls `handler` in another thread for each signal. Signals that were ignored when the program started stay ignored, as
/// `nohup` and shells with background jobs expect.
pub(crate) fn on_signal(handler: impl FnMut() + Send + 'static) -> Result<(), ctrlc::Error> {
    let ignored: Vec<c_int> = STOP_SIGNALS.into_iter().filter(|signal| is_ignored(*signal)).collect();
    // The library handles all three. Until they are ignored again, block them.
    with_blocked(&ignored, || {
        let set = ctrlc::set_handler(handler);
        for signal in &ignored {
            ignore(*signal);
        }
        set
    })
}

/// Unblocks the signals that stop the program, in this thread and those that it starts. A mask is inherited, so a careless
/// parent may have left them blocked. Unlike ignoring a signal, that is never intended.
#[allow(unsafe_code)]
pub(crate) fn unblock() {
    let signals = set_of(&STOP_SIGNALS);
    // SAFETY: it reads the set, and fails only for another first value.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const signals, ptr::null_mut()) };
}

#[allow(unsafe_code)]
fn is_ignored(signal: c_int) -> bool {
    // SAFETY: the struct is plain data, for which all zeros are valid, and the call fills it in.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        libc::sigaction(signal, ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

#[allow(unsafe_code)]
fn ignore(signal: c_int) {
    // SAFETY: numbers only. It cannot fail for these signals, and discards a pending one.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Runs `work` with `signals` blocked in this thread.
#[allow(unsafe_code)]
fn with_blocked<T>(signals: &[c_int], work: impl FnOnce() -> T) -> T {
    let (blocked, mut before) = (set_of(signals), MaybeUninit::uninit());
    // SAFETY: it reads one set and fills in the other, and fails only for another first value.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, before.as_mut_ptr()) };
    let done = work();
    // SAFETY: `before` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    done
}

#[allow(unsafe_code)]
fn set_of(signals: &[c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the first call fills in the set, and the others fail only for numbers that are no signal's.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}
