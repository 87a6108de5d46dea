//! The findings of `health`: fields for programs, and checks with advice for people.

use console::measure_text_width;
use serde_json::{Value, json};

use crate::output::{Colour, Look, Stream, padded, print_json, print_line, printable};

/// Fields and checks, in order.
#[derive(Default)]
pub(super) struct Findings {
    fields: Vec<(&'static str, Value)>,
    checks: Vec<Check>,
}

struct Check {
    what: String,
    state: CheckState,
    found: String,
    advice: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CheckState {
    Good,
    /// It works, but somebody should look at it.
    Warning,
    Bad,
    /// It could not be checked, because another check failed.
    Unknown,
}

impl Findings {
    /// Adds a field for programs.
    pub(super) fn field(&mut self, name: &'static str, value: Value) {
        self.fields.push((name, value));
    }

    pub(super) fn good(&mut self, what: impl Into<String>, found: impl Into<String>) {
        self.check(what.into(), CheckState::Good, found.into(), None);
    }

    pub(super) fn warning(&mut self, what: impl Into<String>, found: impl Into<String>, advice: Option<String>) {
        self.check(what.into(), CheckState::Warning, found.into(), advice);
    }

    pub(super) fn bad(&mut self, what: impl Into<String>, found: impl Into<String>, advice: Option<String>) {
        self.check(what.into(), CheckState::Bad, found.into(), advice);
    }

    pub(super) fn unknown(&mut self, what: impl Into<String>, found: impl Into<String>) {
        self.check(what.into(), CheckState::Unknown, found.into(), None);
    }

    fn check(&mut self, what: String, state: CheckState, found: String, advice: Option<String>) {
        self.checks.push(Check { what, state, found, advice });
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.checks.iter().all(|check| [CheckState::Good, CheckState::Warning].contains(&check.state))
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
        let warning = self.checks.iter().find(|check| check.state == CheckState::Warning);
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

fn sign(state: CheckState, look: &Look) -> (&'static str, Colour) {
    match (state, look.is_utf8) {
        (CheckState::Good, true) => ("✓", Colour::Good),
        (CheckState::Good, false) => ("ok  ", Colour::Good),
        (CheckState::Warning, true) => ("!", Colour::Warn),
        (CheckState::Warning, false) => ("warn", Colour::Warn),
        (CheckState::Bad, true) => ("✗", Colour::Bad),
        (CheckState::Bad, false) => ("FAIL", Colour::Bad),
        (CheckState::Unknown, true) => ("?", Colour::Soft),
        (CheckState::Unknown, false) => ("?   ", Colour::Soft),
    }
}
