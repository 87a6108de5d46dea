//! How much work a regular expression is.

/// A pattern that takes all paths at once makes so many steps for each unit of work.
const STEPS: u64 = 64;
/// One that tries them one after the other takes so many times as long, if it goes well.
const FANCY: u64 = 100;
/// The states of a class of characters, which are many ranges.
const CLASS: u64 = 8;

/// The size of a compiled pattern, about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern {
    states: u64,
    is_fancy: bool,
}

impl Pattern {
    pub(super) fn new(pattern: &str) -> Self {
        let looks = ["(?=", "(?!", "(?<=", "(?<!", "\\k", "(?>", "(?("];
        let refers_back =
            pattern.as_bytes().windows(2).any(|pair| pair[0] == b'\\' && (b'1'..=b'9').contains(&pair[1]));
        Self { states: states(pattern), is_fancy: refers_back || looks.iter().any(|it| pattern.contains(it)) }
    }

    /// How much memory it takes, once its counted repetitions are written out: so many times half a kilobyte at most, about.
    pub(super) fn size(self) -> u64 {
        self.states
    }

    /// The work of matching a text of `length` bytes, in units.
    pub(super) fn work(self, length: usize) -> u64 {
        let units = 1 + self.states.saturating_mul(length as u64) / STEPS;
        if self.is_fancy { units.saturating_mul(FANCY) } else { units }
    }
}

/// The states that a pattern has once its counted repetitions are written out.
fn states(pattern: &str) -> u64 {
    // Of each open group, what is before its last atom, and that.
    let mut groups: Vec<(u64, u64)> = vec![(0, 0)];
    let mut rest = pattern.chars().peekable();
    while let Some(char) = rest.next() {
        let atom = match char {
            '(' => {
                groups.push((0, 0));
                continue;
            }
            ')' if groups.len() > 1 => {
                let (before, last) = groups.pop().unwrap_or_default();
                before.saturating_add(last).saturating_add(1)
            }
            '{' => {
                let counts: String = rest.by_ref().take_while(|char| *char != '}').collect();
                let most = counts.split(',').filter_map(|count| count.trim().parse::<u64>().ok()).max();
                if let Some((_, last)) = groups.last_mut() {
                    *last = last.saturating_mul(most.unwrap_or(1).max(1));
                }
                continue;
            }
            '[' => {
                let mut escaped = false;
                for char in rest.by_ref() {
                    if char == ']' && !escaped {
                        break;
                    }
                    escaped = char == '\\' && !escaped;
                }
                CLASS
            }
            '\\' => match rest.next() {
                Some('w' | 'W' | 'd' | 'D' | 's' | 'S' | 'p' | 'P') => CLASS,
                _ => 1,
            },
            _ => 1,
        };
        // The group that has ended is an atom of the one around it.
        if let Some((before, last)) = groups.last_mut() {
            *before = before.saturating_add(*last);
            *last = atom;
        }
    }
    groups.iter().fold(0, |sum: u64, (before, last)| sum.saturating_add(*before).saturating_add(*last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_counted_as_if_they_were_written_out() {
        for (pattern, expected) in [
            ("", 0),
            ("abc", 3),
            ("a{5}", 5),
            ("a{2,5}b", 6),
            ("(ab){10}", 30),
            ("((a{10}){10}){10}", 1110),
            ("[a-z]{3}", 24),
            (r"\w\(\{{2}", 8 + 1 + 2),
            (r"[\]a]{2}b", 17),
            ("(a", 1),
            ("a)b", 3),
            ("a{,}", 1),
        ] {
            assert_eq!(states(pattern), expected, "{pattern}");
        }
        assert_eq!(states(&format!("{}a{}", "(".repeat(40), "{1000})".repeat(40))), u64::MAX);
    }

    #[test]
    fn what_tries_one_path_after_the_other_is_more_work() {
        assert!(Pattern::new(r"^(?!x)a").work(10) >= 100 * Pattern::new("^xa").work(10));
        assert!(Pattern::new(r"(a)\1").is_fancy && !Pattern::new(r"(a)\d1").is_fancy);
    }
}
