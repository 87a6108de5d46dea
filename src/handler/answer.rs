//! Standard output of a child: all of it, or the line that answers one task.

use std::mem;

use serde_json::{Map, Value};

use super::lines::{ProgressForwarder, RedactingListener, Sink};
use super::run::{Interruption, OUTPUT_MAX};
use super::stray_envelope::without_colours;
use crate::json;
use crate::task::TaskId;

/// Takes the standard output of a child and decides when the child has to end.
pub(super) trait Output: Sink {
    /// Returns why the child must be killed for what it printed.
    fn fault(&self) -> Option<Interruption>;

    /// Whether the output is complete although the child has not exited.
    fn is_complete(&self) -> bool {
        false
    }
}

/// Everything that a child prints, up to [`OUTPUT_MAX`].
#[derive(Default)]
pub(super) struct CapturedOutput {
    pub(super) bytes: Vec<u8>,
    too_long: bool,
}

impl Sink for CapturedOutput {
    fn take(&mut self, bytes: &[u8]) {
        self.too_long |= self.bytes.len() + bytes.len() > OUTPUT_MAX;
        if self.too_long {
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

impl Output for CapturedOutput {
    fn fault(&self) -> Option<Interruption> {
        self.too_long.then_some(Interruption::OutputTooLong)
    }
}

/// The answer to one task: a line of at most [`OUTPUT_MAX`] bytes, after any number of progress lines.
pub(super) struct TaskAnswer<'a> {
    task: TaskId,
    progress: ProgressForwarder<'a>,
    line: Vec<u8>,
    fault: Option<Interruption>,
    /// The answer, if it has been read.
    pub(super) envelope: Option<Map<String, Value>>,
    has_trailing_output: bool,
}

impl<'a> TaskAnswer<'a> {
    /// Expects an answer to `task`, and forwards progress to `listener`.
    pub(super) fn new(task: TaskId, listener: RedactingListener<'a>) -> Self {
        Self {
            task,
            progress: ProgressForwarder::new(listener),
            line: Vec::new(),
            fault: None,
            envelope: None,
            has_trailing_output: false,
        }
    }

    /// Whether the child printed more after its answer.
    pub(super) fn has_trailing_output(&self) -> bool {
        self.has_trailing_output || !self.line.trim_ascii().is_empty()
    }

    fn push(&mut self, text: &[u8]) {
        if self.line.len() + text.len() > OUTPUT_MAX {
            self.line = Vec::new();
            self.fault.get_or_insert(Interruption::OutputTooLong);
        } else {
            self.line.extend_from_slice(text);
        }
    }

    /// Reads the completed line. Empty lines are ignored.
    fn read_line(&mut self) {
        let line = mem::take(&mut self.line);
        let line = line.trim_ascii();
        if line.is_empty() || self.fault.is_some() {
            return;
        }
        if self.envelope.is_some() {
            self.has_trailing_output = true;
        } else if let Err(problem) = self.parse_line(line) {
            let line = self.progress.listener.start_of(&String::from_utf8_lossy(line));
            self.fault = Some(Interruption::ProtocolViolation(format!("{problem}: {line:?}")));
        }
    }

    fn parse_line(&mut self, line: &[u8]) -> Result<(), String> {
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
            self.progress.report(&object, &String::from_utf8_lossy(line));
        } else {
            return Err("a line that has neither `success` nor `progress`".into());
        }
        Ok(())
    }
}

impl Sink for TaskAnswer<'_> {
    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.push(piece);
            if piece.ends_with(b"\n") {
                self.read_line();
            }
        }
    }

    /// The last line needs no line break if the child exits.
    fn end(&mut self) {
        if self.envelope.is_none() {
            self.read_line();
        }
    }
}

impl Output for TaskAnswer<'_> {
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
        let mut output = CapturedOutput::default();
        output.take(&vec![b'x'; OUTPUT_MAX]);
        assert!(output.fault().is_none() && output.bytes.len() == OUTPUT_MAX);
        output.take(b"x");
        assert!(output.fault().is_some() && output.bytes.is_empty());
    }
}
