//! A warning about failing attempts, for the terminal and for pages.

use crate::output::grouped;

/// Minimum number of attempts in an hour for a warning.
const ENOUGH: u64 = 10;

/// Returns a warning if at least half of the last hour's attempts failed, and there were enough. `what` names the attempts.
pub(crate) fn mostly_failing(what: &str, completed: u64, failed: u64) -> Option<String> {
    let all = completed + failed;
    (all >= ENOUGH && failed * 2 >= all)
        .then(|| format!("{} of the last hour's {} {what} failed", grouped(failed), grouped(all)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_ten_attempts_cause_a_warning() {
        assert_eq!(mostly_failing("tasks", 5, 5).unwrap(), "5 of the last hour's 10 tasks failed");
        assert_eq!((mostly_failing("tasks", 6, 5), mostly_failing("tasks", 0, 9)), (None, None));
    }
}
