//! Estimates the work of regular expressions.

use std::mem;
use std::str::Chars;

/// Steps per unit of work for a pattern without backtracking.
const STEPS_PER_UNIT: u64 = 64;
/// Factor for a pattern that backtracks.
const BACKTRACKING_COST: u64 = 20;
/// A nested look-around is assumed to be evaluated once per this many bytes of text.
const BYTES_PER_LOOK: u64 = 16;
/// Number of states of a character class, which consists of many ranges.
const CLASS_STATES: u64 = 8;

/// Approximate size and cost of a compiled pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern {
    states: u64,
    backtracking: Backtracking,
}

/// How a pattern backtracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backtracking {
    /// Not at all.
    None,
    /// Only look-arounds at the start.
    Once,
    /// Look-arounds or back-references elsewhere, nested this deep.
    Nested(u32),
}

impl Backtracking {
    fn of(pattern: &str) -> Self {
        if !is_fancy(pattern) {
            return Self::None;
        }
        let mut rest = pattern.strip_prefix('^').unwrap_or_default();
        while let Some(end) = LOOKS.iter().any(|look| rest.starts_with(look)).then(|| end_of_group(rest)).flatten() {
            if is_fancy(&rest[2..end]) {
                return Self::Nested(depth(pattern));
            }
            rest = &rest[end..];
        }
        let is_simple = !rest.is_empty() && !is_fancy(rest) && !rest.contains('|');
        if is_simple { Self::Once } else { Self::Nested(depth(pattern)) }
    }
}

/// The starts of look-arounds.
const LOOKS: [&str; 4] = ["(?=", "(?!", "(?<=", "(?<!"];

/// Whether a pattern needs a backtracking engine.
fn is_fancy(pattern: &str) -> bool {
    let refers_back = pattern.as_bytes().windows(2).any(|pair| pair[0] == b'\\' && (b'1'..=b'9').contains(&pair[1]));
    refers_back || LOOKS.iter().chain(&["\\k", "(?>", "(?("]).any(|it| pattern.contains(it))
}

/// Returns the end of the group at the start of `pattern`.
fn end_of_group(pattern: &str) -> Option<usize> {
    let (mut open, mut escaped) = (0, false);
    for (at, byte) in pattern.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => open += 1,
            b')' if open == 1 => return Some(at + 1),
            b')' => open -= 1,
            _ => {}
        }
    }
    None
}

/// Returns how deep look-arounds are nested, at least 1.
fn depth(pattern: &str) -> u32 {
    let (mut groups, mut escaped, mut deepest) = (Vec::new(), false, 1);
    for (at, byte) in pattern.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => {
                let is_look = LOOKS.iter().any(|look| pattern.as_bytes()[at..].starts_with(look.as_bytes()));
                let depth: u32 = groups.last().copied().unwrap_or(0) + u32::from(is_look);
                deepest = deepest.max(depth);
                groups.push(depth);
            }
            b')' => _ = groups.pop(),
            _ => {}
        }
    }
    deepest
}

impl Pattern {
    pub(super) fn new(pattern: &str) -> Self {
        Self { states: states(pattern), backtracking: Backtracking::of(pattern) }
    }

    /// Returns the number of states with counted repetitions expanded. Each takes at most about half a kilobyte.
    pub(super) fn size(self) -> u64 {
        self.states
    }

    /// Returns the work of matching a text of `length` bytes, in units.
    pub(super) fn work(self, length: usize) -> u64 {
        let units = 1 + self.states.saturating_mul(length as u64) / STEPS_PER_UNIT;
        match self.backtracking {
            Backtracking::None => units,
            Backtracking::Once => units.saturating_mul(BACKTRACKING_COST),
            Backtracking::Nested(depth) => {
                units.saturating_mul((4 + length as u64 / BYTES_PER_LOOK).saturating_pow(depth))
            }
        }
    }
}

/// Counts the states of a pattern with counted repetitions expanded.
fn states(pattern: &str) -> u64 {
    let (mut group, mut enclosing) = (PatternGroup::default(), Vec::new());
    let mut rest = pattern.chars();
    while let Some(char) = rest.next() {
        let atom = match char {
            '(' => {
                enclosing.push(mem::take(&mut group));
                continue;
            }
            '{' => {
                group.repeat(largest_count(&mut rest));
                continue;
            }
            // A closed group is an atom of the enclosing one.
            ')' => match enclosing.pop() {
                Some(outer) => mem::replace(&mut group, outer).states().saturating_add(1),
                None => 1,
            },
            '[' => {
                skip_class(&mut rest);
                CLASS_STATES
            }
            '\\' => match rest.next() {
                Some('w' | 'W' | 'd' | 'D' | 's' | 'S' | 'p' | 'P') => CLASS_STATES,
                _ => 1,
            },
            _ => 1,
        };
        group.push(atom);
    }
    enclosing.into_iter().map(PatternGroup::states).fold(group.states(), u64::saturating_add)
}

/// The states of a group: those before its last atom, and those of the atom.
#[derive(Default, Clone, Copy)]
struct PatternGroup {
    before: u64,
    last: u64,
}

impl PatternGroup {
    fn push(&mut self, atom: u64) {
        *self = Self { before: self.states(), last: atom };
    }

    /// Repeats the last atom.
    fn repeat(&mut self, times: u64) {
        self.last = self.last.saturating_mul(times);
    }

    fn states(self) -> u64 {
        self.before.saturating_add(self.last)
    }
}

/// Reads the rest of a counted repetition, such as `2,5}`, and returns the largest count, at least 1.
fn largest_count(rest: &mut Chars<'_>) -> u64 {
    let counts: String = rest.take_while(|char| *char != '}').collect();
    counts.split(',').filter_map(|count| count.trim().parse().ok()).fold(1, u64::max)
}

/// Skips the rest of a character class.
fn skip_class(rest: &mut Chars<'_>) {
    let mut escaped = false;
    for char in rest {
        if char == ']' && !escaped {
            return;
        }
        escaped = char == '\\' && !escaped;
    }
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
    fn backtracking_patterns_count_as_more_work() {
        assert!(Pattern::new(r"^(?!x)a").work(10) >= BACKTRACKING_COST * Pattern::new("^xa").work(10));
        for (pattern, backtracking) in [
            (r"(a)\d1", Backtracking::None),
            (r"(a)\1", Backtracking::Nested(1)),
            (r"^(?!\s*$).+", Backtracking::Once),
            (r"^(?=.*\d)(?=.*[a-z\)]).{8,}$", Backtracking::Once),
            (r"(?!x)a+$", Backtracking::Nested(1)),
            (r"^(?!x)a|b", Backtracking::Nested(1)),
            (r"^(?=(?:a(?!b))*)a", Backtracking::Nested(2)),
            (r"^(?:(?=.*a)a)+(?=b)b$", Backtracking::Nested(1)),
            (r"^(?:(?=(?:(?=.*a)a)*)a)+b$", Backtracking::Nested(2)),
            (r"(?=", Backtracking::Nested(1)),
        ] {
            assert_eq!(Pattern::new(pattern).backtracking, backtracking, "{pattern}");
        }
    }

    #[test]
    fn repeated_lookarounds_count_as_quadratic_work() {
        let [once, again, twice] = [r"^(?!x)a+$", r"^(?:(?=.*a)a)+b$", r"^(?:(?=(?:(?=.*a)a)*)a)+b$"].map(Pattern::new);
        assert!(once.work(1 << 20) < 5_000_000 && again.work(1 << 20) > 5_000_000_000);
        assert!(twice.work(1000) > 50 * again.work(1000));
    }
}
