//! A warning about failing attempts, for the terminal and for pages.

/// Minimum number of attempts in an hour for a warning.
const ENOUGH: u64 = 10;

/// Returns a warning if at least half of the last hour's attempts failed, and there were enough. `what` names the attempts.
pub(crate) fn mostly_failing(what: &str, completed: u64, failed: u64) -> Option<String> {
    let all = completed + failed;
    (all >= ENOUGH && failed * 2 >= all)
        .then(|| format!("{} of the last hour's {} {what} failed", grouped(failed), grouped(all)))
}

/// Formats a number with its digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn half_of_ten_attempts_cause_a_warning() {
        assert_eq!(mostly_failing("tasks", 5, 5).unwrap(), "5 of the last hour's 10 tasks failed");
        assert_eq!((mostly_failing("tasks", 6, 5), mostly_failing("tasks", 0, 9)), (None, None));
    }
}
