//! What the TaskManager has room for: 64 KiB for a result. What is longer is sent without its largest parts.

use std::cmp::Reverse;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::task::NOT_RUN;

/// The longest error text that is sent, in bytes.
const MAX_ERROR_BYTES: usize = 8_000;
/// The longest name of a part that is told, in bytes.
const MAX_NAME: usize = 100;
/// What a result gets that lacks something, beside the names of it.
const ADDED_BYTES: usize = 100;

/// How long a result may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    bytes: usize,
    count: Count,
    /// Without any of the data, however short it is: the last resort.
    pub bare: bool,
}

/// What to try in turn while the server says that a result is too long. It counts the bytes as it stores them, which can
/// be up to three times as many as were sent, and a proxy before it may take less than the server.
pub(crate) const LIMITS: [Limit; 4] = [
    // The server's columns have 65,535. This leaves room for what it adds.
    Limit { bytes: 60_000, count: Count::Sent, bare: false },
    Limit { bytes: 60_000, count: Count::Stored, bare: false },
    Limit { bytes: 20_000, count: Count::Stored, bare: false },
    Limit { bytes: 20_000, count: Count::Stored, bare: true },
];

/// By what bytes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    /// As they are sent.
    Sent,
    /// As a server stores them that writes `ž` as `\u017e` and `/` as `\/`.
    Stored,
}

impl Count {
    /// The length of a value as JSON.
    fn bytes(self, value: &(impl Serialize + ?Sized)) -> usize {
        let mut counter = Counter { count: self, bytes: 0 };
        // Nothing is written that could fail, and keys are text.
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

    /// The beginning of a text, marked where something is left out.
    fn cut(self, text: &str, most: usize) -> String {
        let mut bytes = self.bytes("…");
        if self.bytes(text) <= most {
            return text.to_owned();
        }
        let fits = |character: &char| {
            bytes += self.bytes(character) - "\"\"".len();
            bytes <= most
        };
        text.chars().take_while(fits).chain(['…']).collect()
    }
}

/// Counts what is written.
struct Counter {
    count: Count,
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

/// A result that fits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fitted {
    /// The result.
    pub result: Value,
    /// The names of what it lacks; empty where it is whole.
    pub omitted: Vec<String>,
}

/// The length of a value as JSON, in bytes.
#[must_use]
pub(crate) fn json_bytes(value: &Value) -> usize {
    Count::Sent.bytes(value)
}

/// The beginning of an error text, as long as is sent of it.
#[must_use]
pub(crate) fn error_within_limit(error: &str) -> &str {
    &error[..error.floor_char_boundary(MAX_ERROR_BYTES)]
}

/// Makes an envelope fit: the largest parts of its data are left out first, which was `data_bytes` long in all.
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
    let mut omitted = shorten_rest(fields, bytes / 3, count);
    let for_names = bytes / 20;
    let rest = count.bytes(fields) + for_names + ADDED_BYTES;
    let mut reduction = Reduction { count, omitted: Vec::new() };
    let room = if bare { 0 } else { bytes.saturating_sub(rest) };
    if let Some(data) = reduction.of_data(data, room) {
        fields.insert("data".into(), data);
    }
    if !reduction.omitted.is_empty() {
        fields.insert("data_omitted".into(), json!(listed(&reduction.omitted, for_names, count)));
        fields.insert("data_bytes".into(), json!(data_bytes));
        omitted.splice(0..0, reduction.omitted);
    }
    Fitted { result, omitted }
}

/// Shortens what a handler wrote at length beside its data: `fields` are at most `most` long then.
fn shorten_rest(fields: &mut Map<String, Value>, most: usize, count: Count) -> Vec<String> {
    let mut omitted = Vec::new();
    if count.bytes(fields) <= most {
        return omitted;
    }
    for (key, most) in [("error", most * 3 / 10), ("message", most * 3 / 10), ("error_type", most / 50)] {
        if let Some(Value::String(text)) = fields.get_mut(key)
            && count.bytes(text) > most
        {
            *text = count.cut(text, most);
            omitted.push(format!("the end of {key}"));
        }
    }
    if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
        let ours = ["worker_id", "processed_at", "processing_time", "failed_at", NOT_RUN];
        let (ours, others) = std::mem::take(metadata).into_iter().partition(|(key, _)| ours.contains(&key.as_str()));
        *metadata = ours;
        let mut reduction = Reduction { count, omitted: Vec::new() };
        if let Some(Value::Object(kept)) = reduction.reduce(Value::Object(others), most / 5, "") {
            metadata.extend(kept);
        }
        if !reduction.omitted.is_empty() {
            fields.insert("metadata_omitted".into(), json!(listed(&reduction.omitted, most / 20, count)));
            omitted.extend(reduction.omitted.iter().map(|name| format!("metadata.{name}")));
        }
    }
    omitted
}

/// Names of parts, as far as they have room.
fn listed(names: &[String], room: usize, count: Count) -> Vec<String> {
    let (mut listed, mut bytes) = (Vec::new(), 0);
    for name in names {
        let name = count.cut(name, MAX_NAME);
        bytes += count.bytes(&name) + ",".len();
        if bytes > room {
            listed.push(format!("and {} more", names.len() - listed.len()));
            break;
        }
        listed.push(name);
    }
    listed
}

/// Leaving out the largest parts of a value.
struct Reduction {
    count: Count,
    /// The names of what was left out, the largest first.
    omitted: Vec<String>,
}

impl Reduction {
    /// What of a result's data has room; `None` if nothing has.
    fn of_data(&mut self, data: Value, room: usize) -> Option<Value> {
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

    /// Leaves out fields of an object, and of the objects in it, until it is at most `room` long; of a list, elements,
    /// whose places null keeps. `None` if nothing of it can stay.
    fn reduce(&mut self, value: Value, room: usize, path: &str) -> Option<Value> {
        let mut excess = self.count.bytes(&value).saturating_sub(room);
        if excess == 0 {
            return Some(value);
        }
        let mut parts = Parts::of(value);
        for (size, index) in parts.largest_first(self.count) {
            let name = parts.name(index, path);
            let before = self.omitted.len();
            // If it is enough to leave out some of this one, the rest of it stays.
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

    /// Makes an object shorter by `excess`.
    fn reduce_some(&mut self, value: Value, excess: usize, path: &str) -> Option<Value> {
        let room = self.count.bytes(&value).checked_sub(excess)?;
        if value.is_object() { self.reduce(value, room, path) } else { None }
    }
}

/// The parts of a value, of which some are left out.
enum Parts {
    Fields(Vec<(String, Option<Value>)>),
    Elements(Vec<Option<Value>>),
}

impl Parts {
    /// Those of an object or a list; others have none.
    fn of(value: Value) -> Self {
        match value {
            Value::Object(fields) => Self::Fields(fields.into_iter().map(|(key, value)| (key, Some(value))).collect()),
            Value::Array(items) => Self::Elements(items.into_iter().map(Some).collect()),
            _ => Self::Elements(Vec::new()),
        }
    }

    /// How much shorter the value is without each part, and its place; the largest first, of several as large the last.
    fn largest_first(&self, count: Count) -> Vec<(usize, usize)> {
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

    /// The value with this part in its place again.
    fn put_back(mut self, index: usize, part: Value) -> Value {
        match &mut self {
            Self::Fields(fields) => fields[index].1 = Some(part),
            Self::Elements(items) => items[index] = Some(part),
        }
        self.whole()
    }

    /// The value without the parts that were taken; `None` if all were.
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
