//! What others do to the files while they are in use.

use std::os::unix::fs::symlink;
use std::os::unix::process::parent_id;
use std::time::Instant;

use super::*;
use crate::sqlite::beside;

/// Holds a database as another program may, until it is dropped.
fn hold(path: &Path) -> Connection {
    let holder = Connection::open(path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    holder
}

#[test]
fn a_result_with_ideas_is_stored_once_the_file_is_free() {
    for ideas in ["results.db", "ideas.db"] {
        let ResultsFile { store, path, _folder } = ResultsFile::new();
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

#[test]
fn a_worker_is_alive_by_any_link_to_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("data/results.db"), folder.path().join("results.db"));
    let direct = Store::open(&real).unwrap();
    symlink(&real, &link).unwrap();
    let linked = Store::open(&link).unwrap();
    let _processes = [(&direct, "direct"), (&linked, "linked")]
        .map(|(store, worker_id)| store.start_process(worker_id, URL, Timestamp::now()).unwrap());
    for store in [&direct, &linked] {
        for worker_id in ["direct", "linked"] {
            assert_eq!(store.is_live_worker(worker_id), Ok(true), "{worker_id}");
            assert_eq!(store.is_dead_worker(worker_id, URL), Ok(false), "{worker_id}");
        }
    }
}

#[test]
fn a_log_that_a_checkpoint_has_emptied_is_in_place() {
    let file = ResultsFile::new();
    file.add(&result(1, "2026-11-22T03:18:35Z", Duration::ZERO));
    file.sql().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    assert_eq!(fs::metadata(beside(&file.path, "-wal")).unwrap().len(), 0);
    assert_eq!(file.store.check_in_place(), Ok(()));
    file.add(&result(2, "2026-11-22T03:18:35Z", Duration::ZERO));
    fs::remove_file(beside(&file.path, "-wal")).unwrap();
    assert!(file.store.check_in_place().unwrap_err().to_string().contains("-wal was deleted"));
}

/// Adds dead workers whose pids are in use again, with two unreported results of each, and two of which only the worker
/// id is known.
fn die_with_pids_in_use(file: &ResultsFile) {
    for number in 1..=4 {
        let pid = if number % 2 == 0 { 1 } else { parent_id() };
        let sql = "INSERT INTO workers (worker_id, api_url, pid, mark, started_at) VALUES ('worker-1', ?1, ?2, ?3, '')";
        file.sql().execute(sql, (URL, pid, number)).unwrap();
        for task in [number, number + 10, number + 20] {
            file.store.finish(&mut result(task, "2026-11-22T03:18:35Z", Duration::ZERO)).unwrap();
        }
    }
    file.sql().execute("UPDATE results SET process = task_id % 10 WHERE task_id < 20", []).unwrap();
}

#[test]
fn reused_pids_are_waited_for_together() {
    let file = ResultsFile::new();
    die_with_pids_in_use(&file);
    let begun = Instant::now();
    let process = file.store.start_process("worker-2", URL, Timestamp::now()).unwrap();
    assert_eq!(file.store.take_unreported(URL, &process).unwrap().len(), 12);
    file.store.start_process("worker-1", URL, Timestamp::now()).unwrap();
    // Three times 3 s: for those that are known by number, for those that are known by worker id, and at the start.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}
