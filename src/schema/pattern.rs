//! How much work a regular expression is.

/// A pattern that takes all paths at once makes so many steps for each unit of work.
const STEPS: u64 = 64;
/// One that tries them one after the other takes so many times as long, if it goes well.
const FANCY: u64 = 20;
/// One that looks around again and again does so for each so many bytes of the text, with all of it before it.
const AGAIN: u64 = 16;
/// The states of a class of characters, which are many ranges.
const CLASS: u64 = 8;

/// The size of a compiled pattern, about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern {
    states: u64,
    tries: Tries,
}

/// How it tries the paths through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tries {
    /// All at once.
    AllAtOnce,
    /// One after the other, once it has looked around at the start.
    OneByOne,
    /// One after the other, and looks around again and again: within what it looks for too, so many levels deep.
    Again(u32),
}

impl Tries {
    fn of(pattern: &str) -> Self {
        if !is_fancy(pattern) {
            return Self::AllAtOnce;
        }
        let mut rest = pattern.strip_prefix('^').unwrap_or_default();
        while let Some(end) = LOOKS.iter().any(|look| rest.starts_with(look)).then(|| end_of_group(rest)).flatten() {
            if is_fancy(&rest[2..end]) {
                return Self::Again(depth(pattern));
            }
            rest = &rest[end..];
        }
        let is_simple = !rest.is_empty() && !is_fancy(rest) && !rest.contains('|');
        if is_simple { Self::OneByOne } else { Self::Again(depth(pattern)) }
    }
}

const LOOKS: [&str; 4] = ["(?=", "(?!", "(?<=", "(?<!"];

/// Whether it needs more than a machine that takes all paths at once.
fn is_fancy(pattern: &str) -> bool {
    let refers_back = pattern.as_bytes().windows(2).any(|pair| pair[0] == b'\\' && (b'1'..=b'9').contains(&pair[1]));
    refers_back || LOOKS.iter().chain(&["\\k", "(?>", "(?("]).any(|it| pattern.contains(it))
}

/// Where the group ends that `pattern` begins with.
fn end_of_group(pattern: &str) -> Option<usize> {
    let (mut open, mut escaped) = (0, false);
    for (place, byte) in pattern.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => open += 1,
            b')' if open == 1 => return Some(place + 1),
            b')' => open -= 1,
            _ => {}
        }
    }
    None
}

/// How many groups that look around are within each other; one at least.
fn depth(pattern: &str) -> u32 {
    let (mut groups, mut escaped, mut deepest) = (Vec::new(), false, 1);
    for (place, byte) in pattern.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => {
                let is_look = LOOKS.iter().any(|look| pattern.as_bytes()[place..].starts_with(look.as_bytes()));
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
        Self { states: states(pattern), tries: Tries::of(pattern) }
    }

    /// How much memory it takes, once its counted repetitions are written out: so many times half a kilobyte at most, about.
    pub(super) fn size(self) -> u64 {
        self.states
    }

    /// The work of matching a text of `length` bytes, in units.
    pub(super) fn work(self, length: usize) -> u64 {
        let units = 1 + self.states.saturating_mul(length as u64) / STEPS;
        match self.tries {
            Tries::AllAtOnce => units,
            Tries::OneByOne => units.saturating_mul(FANCY),
            Tries::Again(depth) => units.saturating_mul((4 + length as u64 / AGAIN).saturating_pow(depth)),
        }
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
        assert!(Pattern::new(r"^(?!x)a").work(10) >= FANCY * Pattern::new("^xa").work(10));
        for (pattern, tries) in [
            (r"(a)\d1", Tries::AllAtOnce),
            (r"(a)\1", Tries::Again(1)),
            (r"^(?!\s*$).+", Tries::OneByOne),
            (r"^(?=.*\d)(?=.*[a-z\)]).{8,}$", Tries::OneByOne),
            (r"(?!x)a+$", Tries::Again(1)),
            (r"^(?!x)a|b", Tries::Again(1)),
            (r"^(?=(?:a(?!b))*)a", Tries::Again(2)),
            (r"^(?:(?=.*a)a)+(?=b)b$", Tries::Again(1)),
            (r"^(?:(?=(?:(?=.*a)a)*)a)+b$", Tries::Again(2)),
            (r"(?=", Tries::Again(1)),
        ] {
            assert_eq!(Pattern::new(pattern).tries, tries, "{pattern}");
        }
    }

    #[test]
    fn what_looks_around_again_and_again_is_work_by_the_square_of_the_text() {
        let [once, again, twice] = [r"^(?!x)a+$", r"^(?:(?=.*a)a)+b$", r"^(?:(?=(?:(?=.*a)a)*)a)+b$"].map(Pattern::new);
        assert!(once.work(1 << 20) < 5_000_000 && again.work(1 << 20) > 5_000_000_000);
        assert!(twice.work(1000) > 50 * again.work(1000));
    }
}
