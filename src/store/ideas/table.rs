//! The table `IdeaInspiration`. It may belong to another program, so its columns are checked and not changed.

use std::collections::BTreeSet;

use rusqlite::{Connection, ToSql, Transaction};

use super::entry::{Idea, defaults, fields};
use crate::clock::Timestamp;
use crate::sqlite::OpenError;

/// A column that older tables lack; it is added to them.
const ADDED_LATER: &str = "source_platform";

/// The columns that handlers do not fill.
const OURS: [&str; 3] = ["id", "created_at", "updated_at"];

/// The state of the table.
enum Shape {
    Missing,
    Old,
    Current,
}

/// Whether a table or a view of that name exists.
pub(in crate::store) fn exists(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM sqlite_schema WHERE name = 'IdeaInspiration' COLLATE NOCASE")?.exists([])
}

/// Checks that ideas can be stored in this database. Changes nothing.
pub(in crate::store) fn recognise(connection: &Connection) -> Result<(), OpenError> {
    shape(connection).map(drop)
}

/// Writes ideas, and creates the table if needed. Returns the row id of each.
pub(in crate::store) fn keep(
    transaction: &Transaction<'_>,
    ideas: &[Idea],
    now: Timestamp,
) -> Result<Vec<i64>, OpenError> {
    match shape(transaction)? {
        Shape::Missing => transaction.execute_batch(include_str!("table.sql"))?,
        Shape::Old => transaction.execute_batch("ALTER TABLE IdeaInspiration ADD COLUMN source_platform TEXT")?,
        Shape::Current => {}
    }
    // The format of CURRENT_TIMESTAMP, which other programs use by default, with milliseconds; Python reads both.
    let now = now.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string();
    ideas.iter().map(|idea| Ok(keep_one(transaction, idea, &now)?)).collect()
}

fn keep_one(connection: &Connection, idea: &Idea, now: &str) -> rusqlite::Result<i64> {
    let known: Option<i64> = connection
        .prepare_cached("SELECT min(id) FROM IdeaInspiration WHERE source_id = ?1 AND source_platform IS ?2")?
        .query_row(idea.source(), |row| row.get(0))?;
    let mut cells: Vec<&dyn ToSql> = idea.cells.iter().map(|cell| cell as &dyn ToSql).collect();
    cells.push(&now);
    if let Some(row) = known {
        cells.push(&row);
        connection.prepare_cached(&update())?.execute(&cells[..])?;
        return Ok(row);
    }
    connection.prepare_cached(&insert())?.execute(&cells[..])?;
    Ok(connection.last_insert_rowid())
}

fn insert() -> String {
    let names: Vec<&str> = fields().collect();
    let now = names.len() + 1;
    let values: Vec<String> =
        defaults().enumerate().map(|(index, (_, default))| format!("coalesce(?{}, {default})", index + 1)).collect();
    let (names, values) = (names.join(", "), values.join(", "));
    format!("INSERT INTO IdeaInspiration ({names}, created_at, updated_at) VALUES ({values}, ?{now}, ?{now})")
}

/// Absent fields are not changed, since another program may have set them.
fn update() -> String {
    let set: Vec<String> =
        fields().enumerate().map(|(index, name)| format!("{name} = coalesce(?{}, {name})", index + 1)).collect();
    let now = set.len() + 1;
    format!("UPDATE IdeaInspiration SET {}, updated_at = ?{now} WHERE id = ?{}", set.join(", "), now + 1)
}

fn shape(connection: &Connection) -> Result<Shape, OpenError> {
    let mut statement = connection.prepare_cached(
        "SELECT lower(name), pk = 1 AND upper(type) = 'INTEGER' FROM pragma_table_xinfo('IdeaInspiration')",
    )?;
    let columns = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let columns: Vec<(String, bool)> = columns.collect::<rusqlite::Result<_>>()?;
    if columns.is_empty() {
        return Ok(Shape::Missing);
    }
    let found: BTreeSet<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let wanted: BTreeSet<&str> = fields().chain(OURS).collect();
    let lacking: Vec<&str> = wanted.difference(&found).copied().collect();
    let more: Vec<&str> = found.difference(&wanted).copied().collect();
    let is_numbered = columns.iter().any(|(name, is_key)| name == "id" && *is_key);
    match lacking[..] {
        [] if more.is_empty() && is_numbered => Ok(Shape::Current),
        [ADDED_LATER] if more.is_empty() && is_numbered => Ok(Shape::Old),
        _ => Err(OpenError::Foreign(foreign(&lacking, &more))),
    }
}

/// Describes how another table differs.
fn foreign(lacking: &[&str], more: &[&str]) -> String {
    let differs = match (lacking, more) {
        ([] | [ADDED_LATER], []) => "its id is not an INTEGER PRIMARY KEY".into(),
        (lacking, []) => format!("missing {}", lacking.join(", ")),
        ([], more) => format!("unexpected {}", more.join(", ")),
        (lacking, more) => format!("missing {}; unexpected {}", lacking.join(", "), more.join(", ")),
    };
    format!("its table IdeaInspiration has different columns: {differs}")
}
