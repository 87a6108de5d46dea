//! What others do to the files while they are in use.

use super::*;

/// Holds a database as another program may, until it is dropped.
fn hold(path: &Path) -> Connection {
    let holder = Connection::open(path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    holder
}

#[test]
fn a_result_with_ideas_is_stored_once_the_file_is_free() {
    for ideas in ["results.db", "ideas.db"] {
        let File { store, path, _folder } = File::new();
        let store = store.with_ideas_in(&path.with_file_name(ideas)).unwrap();
        store.with(|connection| connection.busy_timeout(Duration::ZERO)).unwrap();
        let outcome = Outcome::success(json!({"ideas": [{"title": "a", "source_id": "x"}]}));
        let mut found = TaskResult { outcome, ..result(1, "2026-11-22T03:18:35Z", Duration::ZERO) };
        let holder = hold(&path);
        let error = store.finish(&mut found).unwrap_err();
        assert!(error.may_pass(), "{ideas}: {error}");
        drop(holder);
        store.finish(&mut found).unwrap_or_else(|error| panic!("{ideas}: {error}"));
        assert_eq!(found.outcome.data["ideas"][0]["id"], 1, "{ideas}");
    }
}
