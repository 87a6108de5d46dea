//! What a child prints on its standard output: all of it, or the line that answers one task.

use std::mem;

use serde_json::{Map, Value};

use super::interruption::{Interruption, OUTPUT_MAX};
use super::lines::{Ears, Reports, Sink};
use super::misplaced::without_colours;
use crate::json;
use crate::task::TaskId;

/// What takes the standard output of a child, and what follows from it for the child.
pub(super) trait Output: Sink {
    /// Why the child must be ended for what it printed.
    fn fault(&self) -> Option<Interruption>;

    /// Whether it has printed all that is wanted of it; then it need not exit.
    fn is_complete(&self) -> bool {
        false
    }
}

/// All that a child prints, up to [`OUTPUT_MAX`].
#[derive(Default)]
pub(super) struct Everything {
    /// What was printed.
    pub(super) bytes: Vec<u8>,
    too_long: bool,
}

impl Sink for Everything {
    fn take(&mut self, bytes: &[u8]) {
        self.too_long |= self.bytes.len() + bytes.len() > OUTPUT_MAX;
        if self.too_long {
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

impl Output for Everything {
    fn fault(&self) -> Option<Interruption> {
        self.too_long.then_some(Interruption::OutputTooLong)
    }
}

/// The answer to one task, up to [`OUTPUT_MAX`] and after any number of lines of progress.
pub(super) struct Answer<'a> {
    task: TaskId,
    reports: Reports<'a>,
    line: Vec<u8>,
    fault: Option<Interruption>,
    /// The answer itself, once it is there.
    pub(super) envelope: Option<Map<String, Value>>,
    goes_on: bool,
}

impl<'a> Answer<'a> {
    /// The answer to `task`; `ears` hear of the progress towards it.
    pub(super) fn new(task: TaskId, ears: Ears<'a>) -> Self {
        Self { task, reports: Reports::new(ears), line: Vec::new(), fault: None, envelope: None, goes_on: false }
    }

    /// Whether the child printed more after it.
    pub(super) fn goes_on(&self) -> bool {
        self.goes_on || !self.line.trim_ascii().is_empty()
    }

    fn push(&mut self, text: &[u8]) {
        if self.line.len() + text.len() > OUTPUT_MAX {
            self.line = Vec::new();
            self.fault.get_or_insert(Interruption::OutputTooLong);
        } else {
            self.line.extend_from_slice(text);
        }
    }

    /// Reads the line that is whole now. Empty ones say nothing.
    fn read_line(&mut self) {
        let line = mem::take(&mut self.line);
        let line = line.trim_ascii();
        if line.is_empty() || self.fault.is_some() {
            return;
        }
        if self.envelope.is_some() {
            self.goes_on = true;
        } else if let Err(problem) = self.understand(line) {
            let line = self.reports.ears.start_of(&String::from_utf8_lossy(line));
            self.fault = Some(Interruption::Misspoke(format!("{problem}: {line:?}")));
        }
    }

    fn understand(&mut self, line: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(line);
        let line = if line.contains(&b'\x1b') { without_colours(&text).as_bytes() } else { line };
        let object = match json::read_lossy(line) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err("a line that is not a JSON object".into()),
            Err(error) => return Err(format!("a line that is {error}")),
        };
        if object.get("id").and_then(Value::as_u64) != Some(self.task.0) {
            return Err(format!("a line whose `id` is not that of task {}", self.task));
        }
        if object.get("success").is_some_and(Value::is_boolean) {
            self.envelope = Some(object);
        } else if object.contains_key("progress") {
            self.reports.report(&object, &String::from_utf8_lossy(line));
        } else {
            return Err("a line that has neither `success` nor `progress`".into());
        }
        Ok(())
    }
}

impl Sink for Answer<'_> {
    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.push(piece);
            if piece.ends_with(b"\n") {
                self.read_line();
            }
        }
    }

    /// A child that leaves need not end its last line.
    fn end(&mut self) {
        if self.envelope.is_none() {
            self.read_line();
        }
    }
}

impl Output for Answer<'_> {
    fn fault(&self) -> Option<Interruption> {
        self.fault.clone()
    }

    fn is_complete(&self) -> bool {
        self.envelope.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_kept_up_to_its_limit() {
        let mut output = Everything::default();
        output.take(&vec![b'x'; OUTPUT_MAX]);
        assert!(output.fault().is_none() && output.bytes.len() == OUTPUT_MAX);
        output.take(b"x");
        assert!(output.fault().is_some() && output.bytes.is_empty());
    }
}
