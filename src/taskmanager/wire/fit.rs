//! Makes results fit into the TaskManager's limit of 64 KiB by omitting their largest parts.

use std::cmp::Reverse;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::task::NOT_RUN;

/// Maximum length of an error text that is sent, in bytes.
const MAX_ERROR_BYTES: usize = 8_000;
/// Maximum length of the name of an omitted part, in bytes.
const MAX_NAME: usize = 100;
/// Size of what is added to a shortened result, except the names, in bytes.
const ADDED_BYTES: usize = 100;

/// Maximum size of a result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    bytes: usize,
    count: ByteEncoding,
    /// Omit all data, however short, as the last resort.
    pub bare: bool,
}

/// Limits to try in order while the server says that a result is too long. The server counts bytes as stored, which can
/// be three times as many as were sent, and a proxy in front of it may accept less.
pub(crate) const LIMITS: [Limit; 4] = [
    // The server's columns have 65,535 bytes. This leaves room for what it adds.
    Limit { bytes: 60_000, count: ByteEncoding::Sent, bare: false },
    Limit { bytes: 60_000, count: ByteEncoding::Stored, bare: false },
    Limit { bytes: 20_000, count: ByteEncoding::Stored, bare: false },
    Limit { bytes: 20_000, count: ByteEncoding::Stored, bare: true },
];

/// How bytes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByteEncoding {
    /// As they are sent.
    Sent,
    /// As stored by a server that writes `ž` as `\u017e` and `/` as `\/`.
    Stored,
}

impl ByteEncoding {
    /// Returns the size of a value as JSON.
    fn bytes(self, value: &(impl Serialize + ?Sized)) -> usize {
        let mut counter = Counter { count: self, bytes: 0 };
        // The writer cannot fail, and keys are strings.
        let _ = serde_json::to_writer(&mut counter, value);
        counter.bytes
    }

    fn of(self, bytes: &[u8]) -> usize {
        let stored = |byte: &u8| match byte {
            b'/' => 2,
            0x80..=0xbf => 0,
            0xc0..=0xef => 6,
            // Two surrogates.
            0xf0.. => 12,
            _ => 1,
        };
        if self == Self::Sent { bytes.len() } else { bytes.iter().map(stored).sum() }
    }

    /// Truncates a text to `max_bytes` bytes, with `…` at the end.
    fn cut(self, text: &str, max_bytes: usize) -> String {
        let mut bytes = self.bytes("…");
        if self.bytes(text) <= max_bytes {
            return text.to_owned();
        }
        let fits = |character: &char| {
            bytes += self.bytes(character) - "\"\"".len();
            bytes <= max_bytes
        };
        text.chars().take_while(fits).chain(['…']).collect()
    }
}

/// A writer that counts bytes.
struct Counter {
    count: ByteEncoding,
    bytes: usize,
}

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += self.count.of(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A result that fits the limit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fitted {
    /// The result.
    pub result: Value,
    /// The names of omitted parts.
    pub omitted: Vec<String>,
}

/// Returns the size of a value as JSON, in bytes.
#[must_use]
pub(crate) fn json_bytes(value: &Value) -> usize {
    ByteEncoding::Sent.bytes(value)
}

/// Truncates an error text to the length that is sent.
#[must_use]
pub(crate) fn error_within_limit(error: &str) -> &str {
    &error[..error.floor_char_boundary(MAX_ERROR_BYTES)]
}

/// Shortens an envelope to `limit`, omitting the largest parts of its data first. `data_bytes` is the original size of
/// the data.
#[must_use]
pub(crate) fn fit(envelope: &Value, data_bytes: usize, limit: Limit) -> Fitted {
    let Limit { bytes, count, bare } = limit;
    let mut result = envelope.clone();
    let is_short = !bare && count.bytes(&result) <= bytes;
    let Value::Object(fields) = &mut result else { return Fitted { result, omitted: Vec::new() } };
    if is_short {
        return Fitted { result, omitted: Vec::new() };
    }
    let data = fields.remove("data").unwrap_or_default();
    let mut omitted = shorten_other_fields(fields, bytes / 3, count);
    let for_names = bytes / 20;
    let rest = count.bytes(fields) + for_names + ADDED_BYTES;
    let mut reduction = Reduction { count, omitted: Vec::new() };
    let room = if bare { 0 } else { bytes.saturating_sub(rest) };
    if let Some(data) = reduction.shorten_data(data, room) {
        fields.insert("data".into(), data);
    }
    if !reduction.omitted.is_empty() {
        fields.insert("data_omitted".into(), json!(list_names(&reduction.omitted, for_names, count)));
        fields.insert("data_bytes".into(), json!(data_bytes));
        omitted.splice(0..0, reduction.omitted);
    }
    Fitted { result, omitted }
}

/// Shortens the fields other than the data to at most `max_bytes` bytes.
fn shorten_other_fields(fields: &mut Map<String, Value>, max_bytes: usize, count: ByteEncoding) -> Vec<String> {
    let mut omitted = Vec::new();
    if count.bytes(fields) <= max_bytes {
        return omitted;
    }
    for (key, max_bytes) in
        [("error", max_bytes * 3 / 10), ("message", max_bytes * 3 / 10), ("error_type", max_bytes / 50)]
    {
        if let Some(Value::String(text)) = fields.get_mut(key)
            && count.bytes(text) > max_bytes
        {
            *text = count.cut(text, max_bytes);
            omitted.push(format!("the end of {key}"));
        }
    }
    if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
        let ours = ["worker_id", "processed_at", "processing_time", "failed_at", NOT_RUN];
        let (ours, others) = std::mem::take(metadata).into_iter().partition(|(key, _)| ours.contains(&key.as_str()));
        *metadata = ours;
        let mut reduction = Reduction { count, omitted: Vec::new() };
        if let Some(Value::Object(kept)) = reduction.reduce(Value::Object(others), max_bytes / 5, "") {
            metadata.extend(kept);
        }
        if !reduction.omitted.is_empty() {
            fields.insert("metadata_omitted".into(), json!(list_names(&reduction.omitted, max_bytes / 20, count)));
            omitted.extend(reduction.omitted.iter().map(|name| format!("metadata.{name}")));
        }
    }
    omitted
}

/// Returns as many names as fit into `room` bytes.
fn list_names(names: &[String], room: usize, count: ByteEncoding) -> Vec<String> {
    let (mut list_names, mut bytes) = (Vec::new(), 0);
    for name in names {
        let name = count.cut(name, MAX_NAME);
        bytes += count.bytes(&name) + ",".len();
        if bytes > room {
            list_names.push(format!("and {} more", names.len() - list_names.len()));
            break;
        }
        list_names.push(name);
    }
    list_names
}

/// Omits the largest parts of a value.
struct Reduction {
    count: ByteEncoding,
    /// The names of omitted parts, largest first.
    omitted: Vec<String>,
}

impl Reduction {
    /// Shortens a result's data; `None` if nothing fits.
    fn shorten_data(&mut self, data: Value, room: usize) -> Option<Value> {
        if data.is_null() {
            return Some(data);
        }
        let has_names = data.is_object();
        let kept = self.reduce(data, room, "");
        if kept.is_none() && !has_names {
            self.omitted = vec!["data".to_owned()];
        }
        kept
    }

    /// Omits fields of an object and its nested objects, or replaces elements of a list by null, until it is at most `room`
    /// bytes long. `None` if nothing fits.
    fn reduce(&mut self, value: Value, room: usize, path: &str) -> Option<Value> {
        let mut excess = self.count.bytes(&value).saturating_sub(room);
        if excess == 0 {
            return Some(value);
        }
        let mut parts = ValueParts::of(value);
        for (size, index) in parts.largest_first(self.count) {
            let name = parts.name(index, path);
            let before = self.omitted.len();
            // If omitting a part of this one is enough, keep the rest of it.
            if let Some(rest) = parts.take(index).and_then(|part| self.reduce_some(part, excess, &name)) {
                return Some(parts.put_back(index, rest));
            }
            self.omitted.truncate(before);
            self.omitted.push(name);
            excess = excess.saturating_sub(size);
            if excess == 0 {
                return parts.rest();
            }
        }
        None
    }

    /// Shortens an object by `excess` bytes.
    fn reduce_some(&mut self, value: Value, excess: usize, path: &str) -> Option<Value> {
        let room = self.count.bytes(&value).checked_sub(excess)?;
        if value.is_object() { self.reduce(value, room, path) } else { None }
    }
}

/// The fields or elements of a value; omitted ones are `None`.
enum ValueParts {
    Fields(Vec<(String, Option<Value>)>),
    Elements(Vec<Option<Value>>),
}

impl ValueParts {
    /// Splits an object or a list; other values have no parts.
    fn of(value: Value) -> Self {
        match value {
            Value::Object(fields) => Self::Fields(fields.into_iter().map(|(key, value)| (key, Some(value))).collect()),
            Value::Array(items) => Self::Elements(items.into_iter().map(Some).collect()),
            _ => Self::Elements(Vec::new()),
        }
    }

    /// Returns the size and the index of each part, largest first; of equal sizes, the highest index first.
    fn largest_first(&self, count: ByteEncoding) -> Vec<(usize, usize)> {
        let bytes = |value: &Option<Value>| value.as_ref().map_or(0, |value| count.bytes(value));
        let mut sizes: Vec<(usize, usize)> = match self {
            Self::Fields(fields) => {
                let size = |(key, value): &(String, _)| count.bytes(key) + ":,".len() + bytes(value);
                fields.iter().map(size).zip(0..).collect()
            }
            Self::Elements(items) => items.iter().map(|it| bytes(it).saturating_sub("null".len())).zip(0..).collect(),
        };
        sizes.sort_unstable_by_key(|place| Reverse(*place));
        sizes
    }

    fn name(&self, index: usize, path: &str) -> String {
        match self {
            Self::Fields(fields) if path.is_empty() => fields[index].0.clone(),
            Self::Fields(fields) => format!("{path}.{}", fields[index].0),
            Self::Elements(_) => format!("{path}[{index}]"),
        }
    }

    fn take(&mut self, index: usize) -> Option<Value> {
        match self {
            Self::Fields(fields) => fields[index].1.take(),
            Self::Elements(items) => items[index].take(),
        }
    }

    /// Returns the value with this part put back.
    fn put_back(mut self, index: usize, part: Value) -> Value {
        match &mut self {
            Self::Fields(fields) => fields[index].1 = Some(part),
            Self::Elements(items) => items[index] = Some(part),
        }
        self.whole()
    }

    /// Returns the value without the parts that were taken; `None` if all were.
    fn rest(self) -> Option<Value> {
        let is_any = match &self {
            Self::Fields(fields) => fields.iter().any(|(_, value)| value.is_some()),
            Self::Elements(items) => items.iter().any(Option::is_some),
        };
        is_any.then(|| self.whole())
    }

    fn whole(self) -> Value {
        match self {
            Self::Fields(fields) => {
                fields.into_iter().filter_map(|(key, value)| Some((key, value?))).collect::<Map<_, _>>().into()
            }
            Self::Elements(items) => items.into_iter().map(Option::unwrap_or_default).collect(),
        }
    }
}
