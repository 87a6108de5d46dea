//! Entries of a result's `data.ideas`: their fields, and row ids that are added to the result.

use std::collections::HashMap;
use std::fmt::Write;

use rusqlite::types::Value as Cell;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::task::{Outcome, TaskResult};

/// The type of a field. Null counts as absent.
#[derive(Clone, Copy)]
enum FieldKind {
    Text,
    WholeNumber,
    /// A list of texts.
    Words,
    /// An object whose values are converted to text.
    Texts,
    Object,
}

/// The fields of an idea, which are columns of the table.
const FIELDS: [(&str, FieldKind); 15] = [
    ("title", FieldKind::Text),
    ("description", FieldKind::Text),
    ("content", FieldKind::Text),
    ("keywords", FieldKind::Words),
    ("source_type", FieldKind::Text),
    ("metadata", FieldKind::Texts),
    ("source_id", FieldKind::Text),
    ("source_url", FieldKind::Text),
    ("source_platform", FieldKind::Text),
    ("source_created_by", FieldKind::Text),
    ("source_created_at", FieldKind::Text),
    ("score", FieldKind::WholeNumber),
    ("category", FieldKind::Text),
    ("subcategory_relevance", FieldKind::Object),
    ("contextual_category_scores", FieldKind::Object),
];

impl FieldKind {
    /// The SQL default of a column for a new row.
    fn default(self) -> &'static str {
        match self {
            Self::Text | Self::WholeNumber => "NULL",
            Self::Words => "'[]'",
            Self::Texts | Self::Object => "'{}'",
        }
    }

    /// Converts a value to a cell; the error completes a sentence whose subject is the field.
    fn cell(self, value: &Value) -> Result<Cell, String> {
        match self {
            Self::Text => value.as_str().map(|text| Cell::Text(text.into())).ok_or("is not text".into()),
            Self::WholeNumber => value.as_i64().map(Cell::Integer).ok_or("is not a whole number".into()),
            Self::Words => match value.as_array() {
                Some(words) if words.iter().all(Value::is_string) => Ok(Cell::Text(value.to_string())),
                _ => Err("is not a list of strings".into()),
            },
            Self::Texts => texts(value.as_object().ok_or("is not an object")?),
            Self::Object => value.is_object().then(|| Cell::Text(value.to_string())).ok_or("is not an object".into()),
        }
    }
}

fn texts(object: &Map<String, Value>) -> Result<Cell, String> {
    let text = |(name, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => return Err(format!("has a value that is not text: {name:?}")),
        };
        Ok((name.clone(), Value::String(text)))
    };
    let texts: Map<_, _> = object.iter().map(text).collect::<Result<_, _>>()?;
    Ok(Cell::Text(Value::Object(texts).to_string()))
}

/// The names of the fields, which are those of the columns.
pub(super) fn fields() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|(name, _)| *name)
}

/// Names of the fields, each with its column's default.
pub(super) fn defaults() -> impl Iterator<Item = (&'static str, &'static str)> {
    FIELDS.iter().map(|(name, kind)| (*name, kind.default()))
}

/// An idea to be stored.
pub(in crate::store) struct Idea {
    /// In the order of [`fields`]; `None` for absent fields.
    pub(super) cells: Vec<Option<Cell>>,
}

impl Idea {
    fn of(entry: &Value) -> Result<Self, String> {
        let entry = entry.as_object().ok_or(" is not an object")?;
        if let Some(name) = entry.keys().find(|name| fields().all(|field| field != name.as_str())) {
            return Err(format!(" has a field {name:?}, which ideas do not have"));
        }
        let cell = |&(name, kind): &(&str, FieldKind)| match entry.get(name) {
            None | Some(Value::Null) if name == "title" => Err(".title is missing".into()),
            None | Some(Value::Null) => Ok(None),
            Some(value) => kind.cell(value).map(Some).map_err(|error| format!(".{name} {error}")),
        };
        Ok(Self { cells: FIELDS.iter().map(cell).collect::<Result<_, String>>()? })
    }

    fn cell(&self, field: &str) -> Option<&Cell> {
        fields().position(|name| name == field).and_then(|index| self.cells[index].as_ref())
    }

    /// Returns its id at its source, if that is not empty.
    fn source_id(&self) -> Option<&str> {
        match self.cell("source_id") {
            Some(Cell::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Its identity: its id at its source, and the source.
    pub(super) fn source(&self) -> [Option<&Cell>; 2] {
        [self.cell("source_id"), self.cell("source_platform")]
    }

    /// Gives an idea without an id at its source a stable one, so that it is recognised when its task runs again.
    fn name_after(&mut self, result: &TaskResult, number: usize) {
        if self.source_id().is_some() {
            return;
        }
        // A TaskManager that was set up again reuses ids for other tasks.
        let task = [&result.api_url, "\0", &result.task_type, "\0", &result.params.to_string()].concat();
        let mut name = format!("prismq:{}:{number}:", result.task_id);
        for byte in &Sha256::digest(task)[..8] {
            // Writing to a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        if let Some(index) = fields().position(|field| field == "source_id") {
            self.cells[index] = Some(Cell::Text(name));
        }
    }
}

/// Checks the ideas of an outcome. The error is one line that names the entry and the field.
pub(crate) fn check_ideas(outcome: &Outcome) -> Result<(), String> {
    entries(outcome).map(drop)
}

/// Whether a successful result has ideas, valid or not.
pub(crate) fn has_ideas(outcome: &Outcome) -> bool {
    list(outcome).is_some_and(|ideas| !ideas.is_empty())
}

fn list(outcome: &Outcome) -> Option<&Vec<Value>> {
    outcome.data.get("ideas").and_then(Value::as_array).filter(|_| outcome.failure.is_none())
}

/// Returns the ideas of a result in order; none if it failed.
pub(in crate::store) fn ideas_of(result: &TaskResult) -> Result<Vec<Idea>, String> {
    let mut ideas = entries(&result.outcome)?;
    for (number, idea) in ideas.iter_mut().enumerate() {
        idea.name_after(result, number);
    }
    Ok(ideas)
}

fn entries(outcome: &Outcome) -> Result<Vec<Idea>, String> {
    let Some(entries) = list(outcome) else { return Ok(Vec::new()) };
    let read = |(number, entry)| Idea::of(entry).map_err(|error| format!("data.ideas[{number}]{error}"));
    entries.iter().enumerate().map(read).collect()
}

/// Adds row ids to `data`: each idea gets its `id`, and each other object with an empty `idea_id` and the source id of
/// an idea gets that.
pub(in crate::store) fn fill(data: &mut Value, ideas: &[Idea], rows: &[i64]) {
    let mut known = HashMap::new();
    for (idea, row) in ideas.iter().zip(rows) {
        if let Some(source_id) = idea.source_id() {
            known.entry(source_id).or_insert(*row);
        }
    }
    fill_idea_ids(data, &known);
    let entries = data.get_mut("ideas").and_then(Value::as_array_mut);
    for (entry, row) in entries.into_iter().flatten().zip(rows) {
        entry["id"] = json!(row);
    }
}

fn fill_idea_ids(value: &mut Value, known: &HashMap<&str, i64>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| fill_idea_ids(item, known)),
        Value::Object(fields) => {
            if fields.get("idea_id").is_some_and(Value::is_null) {
                let mut ids = fields.iter().filter(|(name, _)| *name == "id" || name.ends_with("_id"));
                let row = ids.find_map(|(_, id)| known.get(id.as_str()?));
                fields.insert("idea_id".into(), json!(row));
            }
            fields.values_mut().for_each(|field| fill_idea_ids(field, known));
        }
        _ => {}
    }
}
