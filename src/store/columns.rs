//! Values of columns that SQLite keeps as text.

use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::Type;
use serde_json::Value;

/// JSON in a text column; null where the column is.
pub(crate) fn json_column(row: &Row<'_>, column: usize) -> rusqlite::Result<Value> {
    let Some(text) = row.get::<_, Option<String>>(column)? else { return Ok(Value::Null) };
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

/// A time in a text column.
pub(super) fn time_column(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Ok(optional_time_column(row, column)?.unwrap_or_default())
}

/// The same, `None` where the column is null.
pub(super) fn optional_time_column(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| {
        Timestamp::from_str(&text)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
    })
    .transpose()
}
