//! Random numbers for unique ids.

/// Returns a random number for a unique id. It is from the system's random generator: those seeded by the clock return the
/// same number in two processes that start in the same nanosecond.
pub(crate) fn random_id() -> u64 {
    getrandom::u64().unwrap_or_else(|_| fastrand::u64(..))
}
