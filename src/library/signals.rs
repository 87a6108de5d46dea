//! SIGTERM, SIGINT and SIGHUP.

use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libc::c_int;

use crate::shutdown::{Phase, Shutdown};

/// Who signals a process and then its group, as GNU `timeout` does, means it once.
const ONE_SIGNAL: Duration = Duration::from_millis(100);

/// The signals that ask a program to end.
const ASKING: [c_int; 3] = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM];

/// From now on the first signal drains, and the second ends what runs. `on_each` hears of every one.
pub(crate) fn heed(shutdown: &Arc<Shutdown>, on_each: impl Fn() + Send + 'static) -> Result<(), ctrlc::Error> {
    let shutdown = Arc::clone(shutdown);
    let mut first: Option<Instant> = None;
    on_signal(move || {
        on_each();
        let first = *first.get_or_insert_with(Instant::now);
        match shutdown.get() {
            Phase::Running => shutdown.raise(Phase::Draining),
            _ if first.elapsed() < ONE_SIGNAL => {}
            _ => shutdown.raise(Phase::Ending),
        }
    })
}

/// Has `handler` called at each signal that asks the program to end, in a thread of its own. Those that were ignored when
/// the program started stay so: `nohup` has it outlive its terminal, and a shell keeps Ctrl-C from what a script runs in the
/// background.
pub(crate) fn on_signal(handler: impl FnMut() + Send + 'static) -> Result<(), ctrlc::Error> {
    let ignored: Vec<c_int> = ASKING.into_iter().filter(|signal| is_ignored(*signal)).collect();
    // The library asks for all of them. One that came before it is ignored again must not be heard.
    with_blocked(&ignored, || {
        let set = ctrlc::set_handler(handler);
        for signal in &ignored {
            ignore(*signal);
        }
        set
    })
}

/// Lets this thread, and those that it starts, get the signals that ask the program to end. A careless parent may have left
/// them blocked, and a mask is inherited: unlike an ignored signal, which stays so, nobody means that.
#[allow(unsafe_code)]
pub(crate) fn unblock() {
    let asking = set_of(&ASKING);
    // SAFETY: it reads the set, and fails only for another first value.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const asking, ptr::null_mut()) };
}

#[allow(unsafe_code)]
fn is_ignored(signal: c_int) -> bool {
    // SAFETY: plain data, for which all zeros are a value, and a call that fills it in.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        libc::sigaction(signal, ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

#[allow(unsafe_code)]
fn ignore(signal: c_int) {
    // SAFETY: numbers only. It fails for no signal of `ASKING`, and forgets one that is waiting.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Does `work` while this thread gets none of `signals`.
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
