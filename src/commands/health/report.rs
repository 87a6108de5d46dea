//! What `health` has found: fields for programs, checks with what to do about them for people.

use console::measure_text_width;
use serde_json::{Value, json};

use crate::output::{Colour, Look, Stream, padded, print_json, print_line, printable};

/// What was found, in the order of finding.
#[derive(Default)]
pub(super) struct Report {
    fields: Vec<(&'static str, Value)>,
    checks: Vec<Check>,
}

struct Check {
    what: String,
    state: State,
    found: String,
    /// What to do about it.
    advice: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// It works, and somebody should look at it.
    Warning,
    Bad,
    /// It could not be looked at, because of another that is bad.
    Unknown,
}

impl Report {
    /// A field for programs.
    pub(super) fn field(&mut self, name: &'static str, value: Value) {
        self.fields.push((name, value));
    }

    pub(super) fn good(&mut self, what: impl Into<String>, found: impl Into<String>) {
        self.check(what.into(), State::Good, found.into(), None);
    }

    pub(super) fn warning(&mut self, what: impl Into<String>, found: impl Into<String>, advice: Option<String>) {
        self.check(what.into(), State::Warning, found.into(), advice);
    }

    pub(super) fn bad(&mut self, what: impl Into<String>, found: impl Into<String>, advice: Option<String>) {
        self.check(what.into(), State::Bad, found.into(), advice);
    }

    pub(super) fn unknown(&mut self, what: impl Into<String>, found: impl Into<String>) {
        self.check(what.into(), State::Unknown, found.into(), None);
    }

    fn check(&mut self, what: String, state: State, found: String, advice: Option<String>) {
        self.checks.push(Check { what, state, found, advice });
    }

    /// Whether all is well.
    pub(super) fn is_healthy(&self) -> bool {
        self.checks.iter().all(|check| [State::Good, State::Warning].contains(&check.state))
    }

    pub(super) fn print(&self, as_json: bool) -> anyhow::Result<()> {
        if as_json {
            let mut object = json!({"healthy": self.is_healthy()});
            for (name, value) in &self.fields {
                object[*name] = value.clone();
            }
            return Ok(print_json(&object)?);
        }
        Ok(print_line(self.lines(&Look::of(Stream::Stdout)).join("\n"))?)
    }

    fn lines(&self, look: &Look) -> Vec<String> {
        let width = self.checks.iter().map(|check| measure_text_width(&check.what)).max().unwrap_or(0);
        let warning = self.checks.iter().find(|check| check.state == State::Warning);
        let mut lines = vec![match warning {
            _ if !self.is_healthy() => "not healthy".to_owned(),
            Some(check) => format!("healthy, but {}", check.found),
            None => "healthy".to_owned(),
        }];
        for Check { what, state, found, advice } in &self.checks {
            let (sign, colour) = sign(*state, look);
            lines.push(format!("  {} {}  {}", look.paint(sign, colour), padded(what, width), printable(found)));
            if let Some(advice) = advice {
                let arrow = if look.is_utf8 { "→" } else { "->" };
                lines.push(format!("    {:sign$}{arrow} {}", "", printable(advice), sign = sign.chars().count() - 1));
            }
        }
        lines
    }
}

fn sign(state: State, look: &Look) -> (&'static str, Colour) {
    match (state, look.is_utf8) {
        (State::Good, true) => ("✓", Colour::Good),
        (State::Good, false) => ("ok  ", Colour::Good),
        (State::Warning, true) => ("!", Colour::Warn),
        (State::Warning, false) => ("warn", Colour::Warn),
        (State::Bad, true) => ("✗", Colour::Bad),
        (State::Bad, false) => ("FAIL", Colour::Bad),
        (State::Unknown, true) => ("?", Colour::Soft),
        (State::Unknown, false) => ("?   ", Colour::Soft),
    }
}
