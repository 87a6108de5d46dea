//! Rows of a results file.

use std::path::Path;

use serde_json::{Value, json};

use super::Sandbox;

/// Returns all rows of a table of the results file in the sandbox, in the order of their keys, or as written.
pub(crate) fn rows(sandbox: &Sandbox, table: &str) -> Vec<Value> {
    read_rows(&sandbox.path("results.db"), table)
}

pub(crate) fn read_rows(file: &Path, table: &str) -> Vec<Value> {
    let file = rusqlite::Connection::open(file).unwrap();
    let mut statement = file.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let read = |row: &rusqlite::Row<'_>| {
        let cell = |(index, name): (usize, &String)| {
            use rusqlite::types::ValueRef;
            let value = match row.get_ref(index).unwrap() {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(integer) => json!(integer),
                ValueRef::Real(real) => json!(real),
                ValueRef::Text(text) => json!(std::str::from_utf8(text).unwrap()),
                ValueRef::Blob(_) => panic!("a blob in {name}"),
            };
            (name.clone(), value)
        };
        Ok(Value::Object(columns.iter().enumerate().map(cell).collect()))
    };
    statement.query_map([], read).unwrap().map(Result::unwrap).collect()
}

/// Checks the times in a row of `results` and removes them.
#[track_caller]
pub(crate) fn without_times(mut row: Value) -> Value {
    let fields = row.as_object_mut().unwrap();
    let mut take = |name: &str| {
        let text = fields.remove(name).unwrap();
        let text = text.as_str().unwrap_or_else(|| panic!("{name} is {text}")).to_owned();
        assert_eq!(text.len(), "2026-11-22T03:18:35.123Z".len(), "{name}: {text}");
        text.parse::<jiff::Timestamp>().unwrap()
    };
    let times = ["claimed_at", "started_at", "finished_at", "reported_at"].map(&mut take);
    assert!(times.is_sorted(), "{times:?}");
    let took = times[2].as_millisecond() - times[1].as_millisecond();
    assert_eq!(fields.remove("duration_ms"), Some(json!(took)));
    row
}

/// Checks the times in an envelope and removes them.
#[track_caller]
pub(crate) fn without_moments(mut envelope: Value) -> Value {
    let success = envelope["success"] == json!(true);
    let metadata = envelope["metadata"].as_object_mut().unwrap();
    let moment = metadata.remove(if success { "processed_at" } else { "failed_at" }).unwrap();
    moment.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    if success {
        assert!(metadata.remove("processing_time").unwrap().as_f64().unwrap() < 60.0);
    }
    envelope
}
