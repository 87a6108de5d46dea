//! What all of them say when a plan has ended.

use rusqlite::OptionalExtension;
use serde_json::Value;

use super::Rig;

/// An attempt as the TaskManager counted it.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) task: u64,
    pub(crate) attempt: u64,
    /// `completed`, `failed`, or `expired`: given up for another attempt without a report. That of a task which has not
    /// ended is its status.
    pub(crate) fate: String,
}

/// What was found when everything had ended.
pub(crate) struct Found {
    /// The numbers of the plan's tasks, in their order.
    pub(crate) ids: Vec<u64>,
    /// Each task of the TaskManager with its status.
    pub(crate) tasks: Vec<(u64, String)>,
    pub(crate) attempts: Vec<Counted>,
    /// The rows of the table `results`; `data` and `metadata` are read as JSON.
    pub(crate) rows: Vec<Value>,
    /// What the handler did: the task and the attempt of each run.
    pub(crate) runs: Vec<(u64, u64)>,
    /// How many claims are left in the results file.
    pub(crate) claims: u64,
    /// Locks of processes that are left beside it.
    pub(crate) locks: usize,
    pub(crate) stats: Value,
    /// The last words of each worker process that ended by itself: `{"completed":…,"failed":…,"unreported":…}`.
    pub(crate) summaries: Vec<Value>,
    /// One of them ended without.
    pub(crate) is_summary_lost: bool,
    /// What each worker's `/metrics` said when all was done.
    pub(crate) metrics: Vec<String>,
    pub(crate) processes_left: Vec<String>,
    /// What the workers logged.
    pub(crate) log: String,
}

impl Rig<'_> {
    pub(super) fn find(mut self, ids: Vec<u64>, metrics: Vec<String>) -> Result<Found, String> {
        let server = self.server.take().expect("it runs");
        server.terminate();
        let ended = server.wait();
        if ended.code() != 0 {
            return Err(format!("serve ended with {}: {}", ended.code(), ended.stderr));
        }
        let (tasks, attempts) = self.counted();
        let runs = self.sandbox.read("runs");
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let locks = std::fs::read_dir(self.sandbox.path("")).unwrap();
        let locks = locks.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("-worker-"));
        Ok(Found {
            ids,
            tasks,
            attempts,
            rows: self.rows(),
            runs: runs.lines().map(words).map(|it| (it[0].parse().unwrap(), it[1].parse().unwrap())).collect(),
            claims: self.number("SELECT count(*) FROM claims").unwrap(),
            locks: locks.count(),
            stats: self.sandbox.prismq(["stats", "--json"]).run().exits(0).json(),
            summaries: std::mem::take(&mut self.summaries),
            is_summary_lost: self.is_summary_lost,
            metrics,
            log: std::mem::take(&mut self.log),
            processes_left: processes_with(&format!("MARK={}", self.port)),
        })
    }

    /// What the TaskManager's own file says of each task and each attempt.
    fn counted(&self) -> (Vec<(u64, String)>, Vec<Counted>) {
        let file = self.tasks_file();
        let mut all = file.prepare("SELECT id, attempts, status FROM tasks ORDER BY id").unwrap();
        let read = |row: &rusqlite::Row<'_>| Ok(Counted { task: row.get(0)?, attempt: row.get(1)?, fate: row.get(2)? });
        let last: Vec<Counted> = all.query_map([], read).unwrap().map(Result::unwrap).collect();
        let tasks = last.iter().map(|it| (it.task, it.fate.clone())).collect();
        let mut past = file.prepare("SELECT task_id, attempt, fate FROM past_attempts ORDER BY id").unwrap();
        let past: Vec<Counted> = past.query_map([], read).unwrap().map(Result::unwrap).collect();
        (tasks, past.into_iter().chain(last.into_iter().filter(|it| it.fate != "pending")).collect())
    }

    fn rows(&self) -> Vec<Value> {
        const ROW: &str = "SELECT json_object('task_id', task_id, 'attempt', attempt, 'status', status, 'error', error,
                           'error_type', error_type, 'retryable', retryable, 'worker_id', worker_id, 'data', json(data),
                           'metadata', json(metadata), 'started_at', started_at, 'finished_at', finished_at,
                           'reported_at', reported_at) FROM results ORDER BY rowid";
        let file = self.results_file();
        let mut rows = file.prepare(ROW).unwrap();
        let read = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        rows.query_map([], read).unwrap().map(|row| serde_json::from_str(&row.unwrap()).unwrap()).collect()
    }

    pub(super) fn tasks_file(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.sandbox.path("tasks.db")).unwrap()
    }

    fn results_file(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.sandbox.path("results.db")).unwrap()
    }

    /// A number from the results file; `None` where it is busy, or not there yet.
    pub(super) fn number(&self, sql: &str) -> Option<u64> {
        self.results_file().query_row(sql, [], |row| row.get(0)).optional().ok().flatten()
    }
}

/// The environments of processes that have this variable.
fn processes_with(variable: &str) -> Vec<String> {
    // Elsewhere there is no such folder.
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("environ")).ok())
        .filter(|environ| environ.split(|byte| *byte == 0).any(|it| it == variable.as_bytes()))
        .map(|environ| String::from_utf8_lossy(&environ).into_owned())
        .collect()
}
