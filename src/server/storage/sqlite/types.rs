//! SQL for task types.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use crate::server::storage::{Json, Time, TypeConstraints, TypeDetails};

const COLUMNS: &str = "id, name, version, param_schema, is_active, created_at, updated_at";

pub(super) fn by_name(connection: &Connection, name: &str) -> Result<Option<TypeDetails>> {
    let sql = format!("SELECT {COLUMNS} FROM task_types WHERE name = ?1");
    connection.prepare_cached(&sql)?.query_row([name], read).optional()
}

/// Returns all types, or the active ones, by name.
pub(super) fn list(connection: &Connection, active_only: bool) -> Result<Vec<TypeDetails>> {
    let sql = format!("SELECT {COLUMNS} FROM task_types WHERE is_active OR NOT ?1 ORDER BY name");
    connection.prepare_cached(&sql)?.query_map([active_only], read)?.collect()
}

/// Returns the total length of the schemas in that list, in bytes, without reading them.
pub(super) fn length(connection: &Connection, active_only: bool) -> Result<usize> {
    let sql = "SELECT coalesce(sum(octet_length(param_schema)), 0) FROM task_types WHERE is_active OR NOT ?1";
    connection.prepare_cached(sql)?.query_row([active_only], |row| row.get(0))
}

/// Returns id, name, version and activity of all types, by name.
pub(super) fn names(connection: &Connection) -> Result<Vec<(i64, String, String, bool)>> {
    connection
        .prepare_cached("SELECT id, name, version, is_active FROM task_types ORDER BY name")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect()
}

/// Returns the types whose names match `pattern`.
pub(super) fn like(connection: &Connection, pattern: &str) -> Result<Vec<i64>> {
    connection
        .prepare_cached(r"SELECT id FROM task_types WHERE name LIKE ?1 ESCAPE '\'")?
        .query_map([pattern], |row| row.get(0))?
        .collect()
}

pub(super) fn constraints(connection: &Connection, name: &str) -> Result<Option<TypeConstraints>> {
    connection
        .prepare_cached("SELECT id, is_active, param_schema FROM task_types WHERE name = ?1")?
        .query_row([name], |row| {
            Ok(TypeConstraints { type_id: row.get(0)?, is_active: row.get(1)?, schema: row.get(2)? })
        })
        .optional()
}

/// Returns the number of types.
pub(super) fn count(connection: &Connection) -> Result<i64> {
    connection.prepare_cached("SELECT count(*) FROM task_types")?.query_row([], |row| row.get(0))
}

/// Whether the type's name matches `pattern`; true without a pattern, `None` if there is no such type.
pub(super) fn is_like(connection: &Connection, id: i64, pattern: Option<&str>) -> Result<Option<bool>> {
    connection
        .prepare_cached(r"SELECT ?2 IS NULL OR name LIKE ?2 ESCAPE '\' FROM task_types WHERE id = ?1")?
        .query_row(params![id, pattern], |row| row.get(0))
        .optional()
}

/// Stores the type under its name; returns its id, and whether it is new.
pub(super) fn store(connection: &Connection, name: &str, version: &str, schema: &Json) -> Result<(i64, bool)> {
    let now = Time::now();
    let known = connection
        .prepare_cached(
            "UPDATE task_types SET version = ?2, param_schema = ?3, updated_at = ?4 WHERE name = ?1 RETURNING id",
        )?
        .query_row(params![name, version, schema, now], |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok((id, false));
    }
    connection
        .prepare_cached(
            "INSERT INTO task_types (name, version, param_schema, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4)",
        )?
        .insert(params![name, version, schema, now])
        .map(|id| (id, true))
}

fn read(row: &Row<'_>) -> Result<TypeDetails> {
    Ok(TypeDetails {
        id: row.get(0)?,
        name: row.get(1)?,
        version: row.get(2)?,
        param_schema: row.get(3)?,
        is_active: row.get(4)?,
        created_at: row.get(5)?,
        updated_at: row.get(6)?,
    })
}
