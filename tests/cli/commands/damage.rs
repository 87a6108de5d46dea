//! Damaged results files: `health` finds what would stop a worker or a reader.

use std::fs;
use std::iter;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use jiff::Timestamp;
use prismq::internals::{Store, TaskResult, claim};
use prismq::{ErrorType, Outcome, TaskId};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{ANY, Rig, at_once};

const PAGE: usize = 4096;

/// A closed results file with rows in all tables that workers use.
fn filled(path: &Path, api_url: &str) -> Vec<u8> {
    let store = Store::open(path).unwrap();
    let now = Timestamp::now();
    let process = store.start_process("dead", api_url, now).unwrap();
    let result = |id: u64, mut outcome: Outcome| {
        "the last lines".clone_into(&mut outcome.stderr_tail);
        TaskResult {
            task_id: TaskId(id),
            task_type: ANY.into(),
            attempt: 1,
            worker_id: "dead".into(),
            api_url: api_url.into(),
            params: json!({"padding": "x".repeat(100)}),
            outcome,
            claimed_at: now,
            started_at: now,
            finished_at: now,
        }
    };
    let store_result = |mut result: TaskResult| store.finish(&mut result).unwrap();
    let success = result(1001, Outcome::success(json!({"a": [1, 2, 3]})));
    store.settle_all(iter::once((store_result(success.clone()), &success, false)), now).unwrap();
    let failure = result(1002, Outcome::failure(ErrorType::Handler, "no luck"));
    store.settle_all(iter::once((store_result(failure.clone()), &failure, true)), now).unwrap();
    let copies = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 509)
        INSERT INTO results SELECT results.* FROM results, n WHERE results.rowid = 1 + n.i % 2";
    let connection = Connection::open(path).unwrap();
    connection.execute(copies, []).unwrap();
    // No process has that number, so its lock is not waited for.
    connection.execute("UPDATE workers SET pid = 999999999", []).unwrap();
    drop(connection);
    // Row 512, at which the rollups are updated.
    store.settle_all(iter::once((store_result(success.clone()), &success, false)), now).unwrap();
    store.refused(store_result(result(1003, Outcome::success(Value::Null))), "too odd").unwrap();
    for id in 2001..2040 {
        let mut claim = claim(id, ANY, json!({"n": id}));
        "dead".clone_into(&mut claim.worker_id);
        store.note_claim(&claim, api_url, Some(&process)).unwrap();
    }
    drop((process, store));
    fs::read(path).unwrap()
}

/// Damages a file as `seed` determines, and describes how.
fn damage(whole: &[u8], seed: u64) -> (Vec<u8>, &'static str) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = whole.to_vec();
    let pages = bytes.len() / PAGE;
    let page = random.usize(0..pages) * PAGE;
    let any = random.usize(0..bytes.len());
    let kind = match seed % 10 {
        0 => {
            bytes[any] ^= 1 << random.u8(0..8);
            "a bit"
        }
        1 => {
            bytes[page..page + PAGE].fill(0);
            "a page of nought"
        }
        2 => {
            bytes[page..page + PAGE].iter_mut().for_each(|byte| *byte = random.u8(..));
            "a page of garbage"
        }
        3 => {
            bytes.truncate(any);
            "cut"
        }
        4 => {
            let other = random.usize(0..pages) * PAGE;
            let moved = bytes[page..page + PAGE].to_vec();
            bytes.copy_within(other..other + PAGE, page);
            bytes[other..other + PAGE].copy_from_slice(&moved);
            "two pages in each other's places"
        }
        5 => {
            bytes[random.usize(16..100)] = random.u8(..);
            "a byte of the header"
        }
        6 => {
            // The schema is at the end of the first page and of those after it.
            let at = random.usize(PAGE / 4..3 * PAGE);
            bytes[at..at + 8].iter_mut().for_each(|byte| *byte = random.u8(b'a'..=b'z'));
            "words of the first pages"
        }
        7 => {
            bytes[page..page + 12].iter_mut().for_each(|byte| *byte = random.u8(..));
            "the header of a page"
        }
        8 => {
            let end = (any + 64).min(bytes.len());
            bytes[any..end].fill(0xff);
            "a few bytes of a row or an index"
        }
        _ => {
            bytes[any..].fill(0);
            "nothing after some byte"
        }
    };
    (bytes, kind)
}

/// A TaskManager, and a results file of its tasks.
struct Patient {
    rig: Rig,
    whole: Vec<u8>,
}

impl Patient {
    fn new() -> Self {
        let rig = Rig::new();
        rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = ['cat']\n"));
        let whole = filled(&rig.sandbox.path("whole.db"), &rig.url());
        Self { rig, whole }
    }

    /// Whether `health` finds that a file is usable.
    fn is_healthy(&self, file: &str) -> bool {
        let output = self.rig.prismq("health --json --results").args([file]).run();
        assert!([0, 1].contains(&output.code()) && output.stderr.is_empty(), "{file}: {output:?}");
        let health = output.json();
        assert_eq!(health["healthy"], health["results_writable"], "{health}");
        assert_eq!(health["results_error"].is_string(), output.code() == 1, "{health}");
        health["healthy"] == json!(true)
    }

    /// Works a task with a file, and reads it.
    fn use_file(&self, file: &str, how: &str) {
        self.rig.create(ANY, &json!({"in": how}));
        for line in ["work --drain", "results --json", "stats --json", "results 1001"] {
            let output = self.rig.prismq(line).args(["--results", file]).run();
            assert_eq!(output.code(), 0, "{how}: {line}: {output:?}");
        }
    }
}

#[test]
fn a_healthy_file_is_usable() {
    let unhealthy = AtomicUsize::new(0);
    at_once(0..5, |part| {
        let patient = Patient::new();
        patient.rig.sandbox.write("0.db", &patient.whole);
        assert!(patient.is_healthy("0.db"), "as it was");
        for seed in (0..50).filter(|seed| seed / 10 == part) {
            let (bytes, kind) = damage(&patient.whole, seed);
            let file = format!("damaged-{seed}.db");
            patient.rig.sandbox.write(&file, bytes);
            if patient.is_healthy(&file) {
                patient.use_file(&file, &format!("seed {seed}: {kind}"));
            } else {
                unhealthy.fetch_add(1, SeqCst);
            }
        }
    });
    let unhealthy = unhealthy.into_inner();
    println!("{unhealthy} of 50 are unhealthy");
    assert!(unhealthy >= 30, "{unhealthy}");
}

/// The file is made by this program, so the test applies to any version.
#[test]
fn each_lost_page_is_noticed_or_harmless() {
    let rig = Rig::new();
    rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = ['cat']\n"));
    for n in 0..40 {
        rig.create(ANY, &json!({"n": n, "text": "x".repeat(500)}));
    }
    rig.prismq("work --drain --concurrency 4 --results whole.db").run().exits(0);
    let path = rig.sandbox.path("whole.db");
    Connection::open(&path).unwrap().pragma_update(None, "journal_mode", "DELETE").unwrap();
    let whole = fs::read(&path).unwrap();
    at_once(0..whole.len() / PAGE, |page| {
        let mut damaged = whole.clone();
        damaged[page * PAGE..(page + 1) * PAGE].fill(0);
        let file = format!("{page}.db");
        rig.sandbox.write(&file, damaged);
        if rig.prismq("health --results").args([&*file]).run().code() == 0 {
            for line in ["work --drain", "results --json", "stats --json"] {
                let output = rig.prismq(line).args(["--results", &file]).run();
                assert_eq!(output.code(), 0, "page {page}: {line}: {output:?}");
            }
        }
    });
}

#[test]
fn files_that_are_not_results_files_are_unhealthy() {
    let rig = Rig::new();
    let whole = filled(&rig.sandbox.path("whole.db"), &rig.url());
    rig.sandbox.write("text.db", "this is no database\n".repeat(500));
    rig.sandbox.write("gzip.db", [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
    fs::create_dir(rig.sandbox.path("folder.db")).unwrap();
    Connection::open(rig.sandbox.path("other.db")).unwrap().execute_batch("CREATE TABLE results (task_id)").unwrap();
    for (name, sql) in [
        ("no-table.db", "DROP TABLE rolled_up"),
        ("no-column.db", "ALTER TABLE claims DROP COLUMN running"),
        ("renamed.db", "ALTER TABLE workers RENAME COLUMN mark TO sign"),
        ("no-count.db", "DELETE FROM rolled_up"),
        ("trigger.db", "CREATE TRIGGER t AFTER INSERT ON claims BEGIN INSERT INTO nowhere VALUES (1); END"),
        ("json.db", "UPDATE results SET data = '{' WHERE rowid = 300"),
        ("time.db", "UPDATE results SET finished_at = 'yesterday' WHERE rowid = 300"),
        ("claim.db", "UPDATE claims SET params = '' WHERE task_id = 2005"),
        ("layout.db", "PRAGMA user_version = 1"),
        ("number.db", "UPDATE results SET retryable = 7, error_type = NULL, attempt = -1 WHERE rowid = 300"),
    ] {
        Connection::open(rig.sandbox.write(name, &whole)).unwrap().execute_batch(sql).unwrap();
    }
    for name in [
        "text",
        "gzip",
        "folder",
        "other",
        "no-table",
        "no-column",
        "renamed",
        "no-count",
        "trigger",
        "json",
        "time",
        "claim",
        "layout",
        "number",
    ] {
        let health = rig.prismq("health --json --results").args([&*format!("{name}.db")]).run().exits(1).json();
        let error = health["results_error"].as_str().unwrap_or_else(|| panic!("{name}: {health}"));
        assert!(error.contains(&format!("{name}.db")) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn an_empty_file_becomes_a_results_file() {
    let rig = Rig::new();
    let whole = filled(&rig.sandbox.path("whole.db"), &rig.url());
    // A log of another file is not applied.
    rig.sandbox.write("empty.db", "");
    rig.sandbox.write("log.db", &whole);
    rig.sandbox.write("log.db-wal", [7; 9000]);
    for file in ["empty.db", "log.db"] {
        rig.prismq("health --json --results").args([file]).run().exits(0);
        rig.prismq("results --json --results").args([file]).run().exits(0);
    }
    let before = fs::read_dir(rig.sandbox.path("")).unwrap().count();
    rig.prismq("health --results").args(["empty.db"]).run().exits(0);
    assert_eq!(fs::read_dir(rig.sandbox.path("")).unwrap().count(), before, "it leaves nothing behind");
    let left = Connection::open(rig.sandbox.path("empty.db")).unwrap();
    for table in ["workers", "claims", "results", "deaths", "rollups", "last_words"] {
        let count: u64 = left.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0, "{table}");
    }
}

#[test]
fn a_locked_file_is_unhealthy() {
    let rig = Rig::new();
    drop(filled(&rig.sandbox.path("held.db"), &rig.url()));
    let holder = Connection::open(rig.sandbox.path("held.db")).unwrap();
    holder.busy_timeout(Duration::from_secs(5)).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let health = rig.run("health --json --results held.db").exits(1).json();
    assert_eq!((&health["healthy"], &health["results_writable"]), (&json!(false), &json!(false)), "{health}");
    assert!(health["results_error"].as_str().unwrap().contains("another process has held it for 1"), "{health}");
    holder.execute_batch("ROLLBACK").unwrap();
    rig.run("health --json --results held.db").exits(0);
}
