//! The plans of the statements.

use super::*;

const ORDERS: [SortBy; 3] = [SortBy::Id, SortBy::Priority, SortBy::Attempts];

/// Every step of SQLite's plan for `sql`, in a database as the server creates it.
fn plan(sql: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let connection = crate::server::storage::sqlite::open(&folder.path().join("tasks.db")).unwrap().connection;
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    // The parameters stay unbound: NULL plans as any other value does.
    statement.raw_query().mapped(|row| row.get("detail")).collect::<Result<_>>().unwrap()
}

/// One search of `tasks` by an index, and nothing that reads or sorts more rows than it returns.
fn assert_flat(sql: &str, index: &str) {
    assert_all_flat(sql, index);
    assert_eq!(plan(sql).len(), 1, "{sql}");
}

/// The same for a query and the scalar subquery in it.
fn assert_all_flat(sql: &str, index: &str) {
    let steps = plan(sql);
    assert!(!steps.is_empty());
    for step in steps.iter().filter(|step| !step.starts_with("SCALAR SUBQUERY")) {
        assert!(step.starts_with("SEARCH tasks USING"), "{sql}\n{steps:#?}");
        assert!(step.contains(&format!("{index} (")), "{sql}\n{steps:#?}");
    }
}

#[test]
fn a_claim_reads_one_row_in_every_order() {
    for (by, index) in ORDERS.into_iter().zip(["tasks_by_type", "pending_by_priority", "pending_by_attempts"]) {
        for descending in [false, true] {
            let order = ClaimOrder { by, descending };
            if order.is_highest_first() {
                assert_all_flat(&highest_sql(order), index);
            } else {
                assert_flat(&pending_sql(order), index);
            }
        }
    }
}

#[test]
fn an_expired_claim_is_found_by_its_index() {
    for by in ORDERS {
        assert_flat(&expired_sql(ClaimOrder { by, descending: false }), "claimed_by_expiry");
    }
    assert_flat(FIRST_EXPIRY, "claimed_by_expiry");
}

#[test]
fn a_query_without_an_index_is_not_flat() {
    let steps = plan("SELECT id FROM tasks WHERE status = 'pending' AND type_id = ?1 ORDER BY progress LIMIT 1");
    assert!(steps.iter().any(|step| step.contains("USE TEMP B-TREE")), "{steps:#?}");
}

#[test]
fn a_list_reads_only_the_rows_it_shows() {
    for cursor in [Cursor::NEWEST, Cursor::After(0)] {
        assert_flat(&ids_sql(cursor, None), "PRIMARY KEY");
        for status in STATUSES {
            assert_flat(&ids_sql(cursor, Some(status)), "tasks_by_type");
        }
    }
}
