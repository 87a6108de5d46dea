//! The results file: syncing, rollups, migrations, retention, reading in pages.

mod disturbed;

use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::task::{Claim, ErrorType, Outcome, Task, TaskId, TaskResult};

const URL: &str = "http://localhost:8000/api";

struct ResultsFile {
    store: Store,
    path: PathBuf,
    _folder: TempDir,
}

impl ResultsFile {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.db");
        prepare(&path);
        Self { store: Store::open(&path).unwrap(), path, _folder: folder }
    }

    fn sql(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }

    fn count(&self, of: &str) -> u64 {
        self.sql().query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get(0)).unwrap()
    }

    /// Counts all results in the rollups.
    fn roll_up(&self) {
        self.store.with(|connection| rollups::catch_up(connection)).unwrap();
    }

    /// Stores a result, reported.
    fn add(&self, result: &TaskResult) -> ResultId {
        let id = self.store.finish(&mut result.clone()).unwrap();
        self.store.settle_all(iter::once((id, result, false)), result.finished_at).unwrap();
        id
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn result(id: u64, finished: &str, took: Duration) -> TaskResult {
    let finished_at = time(finished);
    let started_at = finished_at - took;
    TaskResult {
        task_id: TaskId(id),
        task_type: "example.any".into(),
        attempt: 1,
        worker_id: "worker-1".into(),
        api_url: URL.into(),
        params: json!({"n": id}),
        outcome: Outcome::success(json!(id)),
        claimed_at: started_at,
        started_at,
        finished_at,
    }
}

fn failed(result: TaskResult) -> TaskResult {
    TaskResult { outcome: Outcome::failure(ErrorType::Handler, "no"), ..result }
}

fn saying(last_words: &str, mut result: TaskResult) -> TaskResult {
    last_words.clone_into(&mut result.outcome.stderr_tail);
    result
}

fn claim(id: u64) -> Claim {
    let task = Task { id: TaskId(id), task_type: "example.any".into(), params: json!({}), attempt: 1, priority: 0 };
    let now = Timestamp::now();
    Claim { task, worker_id: "worker-1".into(), claimed_at: now, deadline: now.into() }
}

#[test]
fn only_results_are_synced() {
    let mut file = ResultsFile::new();
    let process = file.store.start_process("worker-1", URL, Timestamp::now()).unwrap();
    let mut stored = result(1, "2026-11-22T03:18:35Z", Duration::ZERO);
    let id = file.store.finish(&mut stored).unwrap();
    file.store.log = Some(WriteAheadLog::broken());
    file.store.note_claim(&claim(1), URL, Some(&process)).unwrap();
    file.store.settle_all(iter::once((id, &stored, false)), Timestamp::now()).unwrap();
    file.store.note_poll(&process, Counters::default(), Timestamp::now()).unwrap();
    let error = file.store.finish(&mut stored).unwrap_err().to_string();
    assert!(error.contains("results.db cannot be read or written: "), "{error}");
    assert!(file.store.take_unreported(URL, &process).is_err(), "what is reported is on disk");
}

#[test]
fn a_claim_is_adopted_unless_the_task_is_in_flight_or_finished() {
    let file = ResultsFile::new();
    let [one, two] = ["one", "two"].map(|id| file.store.start_process(id, URL, Timestamp::now()).unwrap());
    let again = Claim { worker_id: "worker-2".into(), ..claim(1) };
    assert_eq!(file.store.note_claim(&again, URL, None), Ok(0));
    assert_eq!(file.store.note_claim(&claim(1), URL, Some(&one)), Ok(0), "it replaces the earlier one");
    file.add(&result(3, "2026-11-22T03:18:35Z", Duration::ZERO));
    let adopted = [1, 2, 2, 3].map(|id| file.store.adopt_claim(&claim(id), URL, &two).unwrap());
    assert_eq!(adopted, [false, true, false, false]);
    assert_eq!(file.count("claims WHERE (task_id, process, running, worker_id) = (1, 1, 1, 'worker-1')"), 1);
    assert_eq!(file.count("claims WHERE (task_id, process, running) = (2, 2, 0)"), 1);
    assert_eq!(file.count("claims"), 2);
}

#[test]
fn a_new_file_can_be_opened_concurrently() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let (path, together) = (&folder.path().join("results.db"), &Barrier::new(8));
        thread::scope(|scope| {
            let open = || {
                together.wait();
                Store::open(path).map(drop)
            };
            let opening: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            assert!(opening.into_iter().all(|thread| thread.join().unwrap() == Ok(())));
        });
    }
}

#[test]
fn a_late_note_is_removed_with_the_later_attempt() {
    let file = ResultsFile::new();
    let process = file.store.start_process("worker-1", URL, Timestamp::now()).unwrap();
    for attempt in [2, 1] {
        let mut claim = claim(1);
        claim.task.attempt = attempt;
        file.store.note_claim(&claim, URL, Some(&process)).unwrap();
    }
    let mut result = result(1, "2026-11-22T08:00:00Z", Duration::ZERO);
    result.attempt = 2;
    file.add(&result);
    assert_eq!(file.count("claims"), 0);
}

#[test]
fn concurrent_results_are_all_stored() {
    let file = ResultsFile::new();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = &file.store;
            scope.spawn(move || {
                for number in 0..20 {
                    let took = Duration::from_millis(number);
                    store.finish(&mut result(thread * 20 + number, "2026-11-22T03:18:35Z", took)).unwrap();
                }
            });
        }
    });
    assert_eq!(file.count("results"), 160);
    assert_eq!(file.store.statistics(By::Type, None).unwrap()[0].completed, 160);
}

/// Groups in short: name, completed, failed, lost, median.
fn groups(store: &Store, by: By, since: Option<&str>) -> Vec<(String, u64, u64, u64, i64)> {
    let groups = store.statistics(by, since.map(time)).unwrap();
    groups.into_iter().map(|it| (it.name, it.completed, it.failed, it.lost, it.p50_ms)).collect()
}

/// Two hours of results.
fn two_hours() -> ResultsFile {
    let file = ResultsFile::new();
    for (minute, took) in [(5, 10), (30, 20), (55, 30)] {
        file.add(&result(minute, &format!("2026-11-22T03:{minute:02}:00Z"), Duration::from_millis(took)));
    }
    let other = failed(result(4, "2026-11-22T04:00:00Z", Duration::from_millis(40)));
    let other = TaskResult { task_type: "other".into(), worker_id: "worker-2".into(), ..other };
    let id = file.store.finish(&mut other.clone()).unwrap();
    for _ in 0..2 {
        file.store.settle_all(iter::once((id, &other, true)), Timestamp::now()).unwrap();
    }
    file
}

#[test]
fn statistics_do_not_need_the_results() {
    let file = two_hours();
    file.roll_up();
    file.sql().execute("DELETE FROM results", []).unwrap();
    let any = |name: &str| (name.to_owned(), 3, 0, 0, 20);
    let other = |name: &str| (name.to_owned(), 0, 1, 1, 40);
    assert_eq!(groups(&file.store, By::Type, None), [any("example.any"), other("other")]);
    assert_eq!(groups(&file.store, By::Worker, None), [any("worker-1"), other("worker-2")]);
    assert_eq!(groups(&file.store, By::Hour, None), [any("2026-11-22T03:00Z"), other("2026-11-22T04:00Z")]);
    assert_eq!(groups(&file.store, By::Day, None), [("2026-11-22".into(), 3, 1, 1, 20)]);
    let day = &file.store.statistics(By::Day, None).unwrap()[0];
    assert!((day.mean_ms - 25.0).abs() < 1e-9 && (day.success_rate - 0.75).abs() < 1e-9, "{day:?}");
    // From 03:04:59.99 to 04:00:00.
    assert!((day.per_second - 4.0 / 3300.01).abs() < 1e-9, "{day:?}");
}

#[test]
fn each_result_is_counted_once() {
    let file = ResultsFile::new();
    let numbers = || groups(&file.store, By::Day, None).iter().map(|it| (it.1, it.3)).collect::<Vec<_>>();
    let mut ids = Vec::new();
    for number in 0..300 {
        ids.push(file.store.finish(&mut result(number, "2026-11-22T03:18:35Z", Duration::ZERO)).unwrap());
        assert_eq!(numbers(), [(number + 1, 0)]);
    }
    assert_eq!(file.count("rollups"), 2);
    // A result that was counted, and one that was not yet.
    for index in [0, 299] {
        let result = result(index, "2026-11-22T03:18:35Z", Duration::ZERO);
        file.store
            .settle_all(iter::once((ids[usize::try_from(index).unwrap()], &result, true)), Timestamp::now())
            .unwrap();
    }
    assert_eq!(numbers(), [(300, 2)]);
    file.roll_up();
    assert_eq!(numbers(), [(300, 2)]);
}

#[test]
fn results_stored_after_pruning_all_are_counted() {
    let file = ResultsFile::new();
    file.add(&result(1, "2026-11-22T03:18:35Z", Duration::ZERO));
    while file.store.prune(&mut Pruning::new(time("2026-11-22T04:00:00Z"))).unwrap() {}
    assert_eq!(file.count("results"), 0);
    file.add(&result(2, "2026-11-22T05:18:35Z", Duration::ZERO));
    assert_eq!(groups(&file.store, By::Type, None)[0].1, 2);
}

#[test]
fn stderr_tails_are_stored_and_pruned_with_their_results() {
    let file = ResultsFile::new();
    let of_hour = |hour: u64| result(hour, &format!("2026-11-22T{hour:02}:00:00Z"), Duration::ZERO);
    let silent = file.add(&of_hour(3));
    let said: Vec<_> = [4, 5, 6].map(|hour| file.add(&saying(&format!("at {hour}"), of_hour(hour)))).into();
    assert_eq!(file.count("last_words"), 3, "nothing is kept of who said nothing");
    let heard = |id: &ResultId| file.store.stderr_tail(*id).unwrap();
    assert_eq!(said.iter().map(heard).collect::<Vec<_>>(), ["at 4", "at 5", "at 6"]);
    assert_eq!(heard(&silent), "");
    while file.store.prune(&mut Pruning::new(time("2026-11-22T05:30:00Z"))).unwrap() {}
    assert_eq!((file.count("results"), file.count("last_words"), heard(&said[2]).as_str()), (1, 1, "at 6"));
}

#[test]
fn the_first_hour_of_a_period_is_read_from_its_results() {
    let file = two_hours();
    let counted =
        |since: &str| groups(&file.store, By::Day, Some(since)).iter().map(|it| (it.1, it.2)).collect::<Vec<_>>();
    assert_eq!(counted("2026-11-22T02:59:59Z"), [(3, 1)]);
    assert_eq!(counted("2026-11-22T03:30:00Z"), [(2, 1)]);
    assert_eq!(counted("2026-11-22T03:30:00.001Z"), [(1, 1)]);
    assert_eq!(counted("2026-11-22T04:00:00Z"), [(0, 1)]);
    assert_eq!(counted("2026-11-22T04:00:01Z"), []);
}

/// A file of layout 1, before rollups: thirty results of two hours, one of them lost, one unreported; two claims; a
/// crash count.
fn old_file() -> ResultsFile {
    ResultsFile::with(|path| fs::write(path, include_bytes!("../../tests/fixtures/results-1.sqlite")).unwrap())
}

/// The same content in the later layouts.
fn later_files() -> [ResultsFile; 5] {
    let layouts: [&[u8]; 5] = [
        include_bytes!("../../tests/fixtures/results-2.sqlite"),
        include_bytes!("../../tests/fixtures/results-3.sqlite"),
        include_bytes!("../../tests/fixtures/results-4.sqlite"),
        include_bytes!("../../tests/fixtures/results-5.sqlite"),
        include_bytes!("../../tests/fixtures/results-6.sqlite"),
    ];
    layouts.map(|bytes| ResultsFile::with(|path| fs::write(path, bytes).unwrap()))
}

#[test]
fn files_of_earlier_layouts_are_migrated() {
    for file in iter::once(old_file()).chain(later_files()) {
        let count = |name: &str, completed, failed, lost| (name.to_owned(), completed, failed, lost);
        let found = groups(&file.store, By::Type, None);
        let found: Vec<_> = found.into_iter().map(|it| (it.0, it.1, it.2, it.3)).collect();
        assert_eq!(found, [count("example.any", 16, 4, 1), count("example.other", 8, 2, 0)]);
        assert_eq!(groups(&file.store, By::Hour, None).iter().map(|it| it.1 + it.2).sum::<u64>(), 30);
        assert_eq!((file.count("results"), file.count("claims"), file.count("rollups")), (30, 2, 10));
        assert_eq!(file.store.crash_count(URL, TaskId(31)).unwrap(), 1);
        let process = file.store.start_process("worker-3", URL, Timestamp::now()).unwrap();
        assert_eq!(file.store.take_unreported(URL, &process).unwrap().len(), 1);
        file.sql().execute("INSERT INTO youtube_quota (day, used) VALUES ('2026-11-21', 7)", []).unwrap();
        let again = Store::open(&file.path).unwrap();
        assert_eq!(groups(&again, By::Type, None), groups(&file.store, By::Type, None));
        let used = again
            .with(|it| it.query_row("SELECT used FROM youtube_quota WHERE day = '2026-11-21'", [], |row| row.get(0)));
        assert_eq!(used, Ok(7));
        let id = file.add(&saying("here", result(50, "2026-11-22T03:18:35Z", Duration::ZERO)));
        assert_eq!(again.stderr_tail(id).unwrap(), "here");
    }
}

#[test]
fn pruned_results_still_count() {
    let file = ResultsFile::new();
    for number in 0..450 {
        let old = result(number, "2026-11-22T03:18:35Z", Duration::from_millis(number));
        file.add(&TaskResult { worker_id: format!("worker-{}", number % 50), ..old });
    }
    let unreported = result(450, "2026-11-22T03:18:35Z", Duration::ZERO);
    let id = file.store.finish(&mut unreported.clone()).unwrap();
    file.add(&result(451, "2026-11-22T04:00:00Z", Duration::ZERO));
    let by_type = groups(&file.store, By::Type, None);
    let mut pruning = Pruning::new(time("2026-11-22T04:00:00Z"));
    let mut left = Vec::new();
    while file.store.prune(&mut pruning).unwrap() {
        left.push((file.count("results"), file.count("rollups")));
    }
    assert_eq!(left, [(252, 53), (52, 53), (2, 4)], "two hours, each with one worker");
    assert_eq!(groups(&file.store, By::Type, None), by_type);
    let workers = groups(&file.store, By::Worker, None);
    assert_eq!((workers[0].0.as_str(), workers[0].1, workers.len()), ("(earlier workers)", 451, 2), "{workers:?}");
    file.store.settle_all(iter::once((id, &unreported, true)), Timestamp::now()).unwrap();
    let lost = |by| groups(&file.store, by, None).iter().map(|it| it.3).sum::<u64>();
    assert_eq!((lost(By::Type), lost(By::Worker)), (1, 1));
}

#[test]
fn old_processes_and_crash_counts_are_deleted() {
    let file = old_file();
    file.sql()
        .execute_batch(
            "INSERT INTO workers (worker_id, api_url, pid, mark, started_at, stopped_at) VALUES
                 ('old', '', 1, 'a', '2026-01-01T00:00:00.000Z', '2026-01-02T00:00:00.000Z'),
                 ('killed', '', 1, 'b', '2026-01-01T00:00:00.000Z', NULL),
                 ('long', '', 1, 'c', '2026-01-01T00:00:00.000Z', '2026-11-20T00:00:00.000Z'),
                 ('live', '', 1, 'd', '2026-01-01T00:00:00.000Z', NULL),
                 ('waits', '', 1, 'e', '2026-01-01T00:00:00.000Z', NULL);
             UPDATE results SET worker_id = 'waits' WHERE reported_at IS NULL;
             UPDATE deaths SET last_at = '2026-01-01T00:00:00.000Z';
             INSERT INTO deaths SELECT api_url, task_id + 100, count, last_at FROM deaths;
             INSERT INTO deaths SELECT api_url, task_id + 200, count, '2026-11-20T00:00:00.000Z' FROM deaths LIMIT 1;",
        )
        .unwrap();
    let _live = liveness::AliveLock::take(&file.path, 6).unwrap();
    let process = file.store.start_process("new", URL, time("2026-11-22T03:00:00Z")).unwrap();
    file.store.forget_ended(&process, time("2026-12-15T00:00:00Z")).unwrap();
    let names = |sql: &str| -> Vec<String> {
        let connection = file.sql();
        let mut statement = connection.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    // `worker-2` has a claim, `waits` a result.
    assert_eq!(names("SELECT worker_id FROM workers"), ["worker-2", "long", "live", "waits", "new"]);
    assert_eq!(names("SELECT CAST(task_id AS TEXT) FROM deaths"), ["31", "231"]);
}

#[test]
fn results_added_while_reading_are_not_read() {
    let file = ResultsFile::new();
    let big = "x".repeat(400_000);
    for number in 0..10 {
        let outcome = Outcome::success(json!(big));
        file.store
            .finish(&mut TaskResult { outcome, ..result(number, "2026-11-22T03:18:35Z", Duration::ZERO) })
            .unwrap();
    }
    let mut found = Vec::new();
    let Ok(()) = file
        .store
        .for_each_result(&ResultFilter::default(), |stored| {
            found.push(stored.result.task_id.0);
            // The file is not locked meanwhile; results added now are not read.
            file.store.finish(&mut result(100, "2026-11-22T03:18:35Z", Duration::ZERO)).map(drop)
        })
        .unwrap()
    else {
        panic!("it broke off")
    };
    assert_eq!(found, (0..10).collect::<Vec<_>>());
    assert_eq!(file.count("results"), 20);
}
