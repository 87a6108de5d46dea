//! The TaskManager's storage: types, tasks and their past attempts. Only [`sqlite`] knows how they are stored; the
//! methods of its [`SqliteStorage`] are verbs of the domain. Times have a type of their own, and JSON is text.

mod sqlite;

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

pub(super) use sqlite::{Disk, SqliteStorage};

/// Maximum characters of a text shown on a task's page.
const LONGEST_EXCERPT: i64 = 64 * 1024;

/// A task in a list, without its long fields.
#[derive(Debug, Serialize)]
pub(super) struct TaskSummary {
    pub(super) id: i64,
    #[serde(rename = "type")]
    pub(super) task_type: String,
    pub(super) status: String,
    pub(super) priority: i64,
    pub(super) progress: i64,
    pub(super) attempts: i64,
    pub(super) claimed_by: Option<String>,
    pub(super) claimed_at: Option<Time>,
    pub(super) completed_at: Option<Time>,
    pub(super) created_at: Time,
}

/// A task with everything the API shows.
#[derive(Debug, Serialize)]
pub(super) struct TaskDetails {
    #[serde(flatten)]
    summary: TaskSummary,
    error_message: Option<String>,
    params: JsonText,
    result: Option<JsonText>,
}

/// A claim of tasks.
pub(super) struct TaskClaim<'a> {
    pub(super) worker_id: &'a str,
    pub(super) types: &'a [TypeLimit],
    /// Maximum number of tasks of all types together.
    pub(super) limit: usize,
    pub(super) order: ClaimOrder,
    /// Time until it expires.
    pub(super) claim_timeout: Duration,
}

/// A type, and the maximum number of its tasks to claim.
#[derive(Debug, Clone, Copy)]
pub(super) struct TypeLimit {
    pub(super) type_id: i64,
    pub(super) limit: usize,
}

/// A task as a claim returns it.
#[derive(Debug, Serialize)]
pub(super) struct ClaimedTask {
    id: i64,
    #[serde(rename = "type")]
    task_type: String,
    pub(super) params: JsonText,
    attempts: i64,
    priority: i64,
    /// Time until the claim expires, for workers that renew it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires_in: Option<Seconds>,
}

/// A duration as the API shows it: a number of seconds, a whole one if possible.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seconds(pub(super) Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.subsec_nanos() == 0 {
            serializer.serialize_u64(self.0.as_secs())
        } else {
            serializer.serialize_f64(self.0.as_secs_f64())
        }
    }
}

/// A task to create.
pub(super) struct NewTask<'a> {
    pub(super) type_id: i64,
    pub(super) params: &'a str,
    pub(super) priority: i64,
    pub(super) dedupe_key: &'a str,
}

/// A worker's report of an ended attempt.
pub(super) struct Report {
    /// Which attempt of the task it is about; `None` means the current one.
    pub(super) attempt: Option<i64>,
    pub(super) success: bool,
    /// In canonical form.
    pub(super) result: Option<String>,
    pub(super) error: Option<String>,
}

/// The outcome of a report.
pub(super) struct Ended {
    /// The type of the task, if the report has changed it.
    pub(super) changed: Option<i64>,
    /// The task's new status.
    pub(super) status: &'static str,
}

/// A filter of a list of tasks.
pub(super) struct Filter {
    /// One of [`STATUSES`].
    pub(super) status: Option<&'static str>,
    /// An SQL LIKE pattern.
    pub(super) task_type: Option<String>,
    pub(super) cursor: Cursor,
    pub(super) limit: i64,
    pub(super) offset: i64,
}

/// The tasks on one side of a given one, which is excluded: those with lower ids, or with higher ones.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cursor {
    Before(i64),
    After(i64),
}

impl Cursor {
    pub(super) const NEWEST: Self = Self::Before(i64::MAX);

    pub(super) fn id(self) -> i64 {
        match self {
            Self::Before(id) | Self::After(id) => id,
        }
    }
}

/// All statuses.
pub(super) const STATUSES: [&str; 4] = ["pending", "claimed", "completed", "failed"];

/// What tasks are ordered by when claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SortBy {
    /// The order of creation, even if the clock was set meanwhile.
    Id,
    Priority,
    Attempts,
}

/// The order in which tasks are claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClaimOrder {
    pub(super) by: SortBy,
    pub(super) descending: bool,
}

impl ClaimOrder {
    /// Whether the highest value goes first. Ties go to the oldest task in either direction, except with newest first.
    pub(super) fn is_highest_first(self) -> bool {
        self.descending && self.by != SortBy::Id
    }
}

/// A task type, as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct TypeDetails {
    pub(super) id: i64,
    name: String,
    version: String,
    pub(super) param_schema: JsonText,
    /// 0 or 1, as the published server has it.
    #[serde(serialize_with = "as_number")]
    pub(super) is_active: bool,
    created_at: Time,
    updated_at: Time,
}

/// Constraints of a type that a new task must meet.
pub(super) struct TypeConstraints {
    pub(super) type_id: i64,
    pub(super) is_active: bool,
    /// The JSON Schema of its params, as text.
    pub(super) schema: String,
}

/// How a past attempt ended, so that another could follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptEnd {
    /// It failed, and the task had attempts left.
    Failed,
    /// Its claim expired, and the task was claimed again.
    Expired,
    /// The task had failed, and somebody retried it on the page.
    Retried,
}

/// A past attempt: another followed it.
#[derive(Debug)]
pub(super) struct PastAttempt {
    pub(super) attempt: i64,
    pub(super) worker_id: Option<String>,
    pub(super) claimed_at: Option<Time>,
    /// When the task ended with it, if it did.
    pub(super) ended_at: Option<Time>,
    /// When the task became available for another attempt.
    pub(super) left_at: Time,
    pub(super) end: AttemptEnd,
    pub(super) error: Option<String>,
}

/// Number of tasks of each status, in the order of [`STATUSES`].
pub(super) type Counts = [u64; STATUSES.len()];

/// Number of tasks that ended in one minute.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Minute {
    pub(super) completed: u64,
    pub(super) failed: u64,
}

/// The data of the overview page.
pub(super) struct Overview {
    pub(super) types: Vec<TypeCounts>,
    /// By minute, the current one last.
    pub(super) last_hour: Vec<Minute>,
    /// The worker that claimed last comes first.
    pub(super) workers: Vec<WorkerActivity>,
}

/// A type and the number of its tasks.
pub(super) struct TypeCounts {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) is_active: bool,
    pub(super) counts: Counts,
}

/// A worker, as seen by its claims.
pub(super) struct WorkerActivity {
    pub(super) worker_id: String,
    /// Its last claim: when, and of which task.
    pub(super) last: Option<(Time, i64)>,
    pub(super) in_flight: usize,
    /// Names of the types it is long-polling for.
    pub(super) waits_for: Vec<String>,
}

/// A task in a list, with its error in one line.
pub(super) struct TaskRow {
    pub(super) task: TaskSummary,
    pub(super) error: Option<String>,
}

/// A task with everything its page shows.
pub(super) struct TaskPage {
    pub(super) task: TaskSummary,
    /// The whole error: one longer than 65,535 bytes was refused.
    pub(super) error: Option<String>,
    pub(super) params: Excerpt,
    pub(super) result: Option<Excerpt>,
    /// Newest first.
    pub(super) past: Vec<PastAttempt>,
    /// When its claim expires.
    pub(super) expires_at: Option<Time>,
}

/// A text, or the start of a long one.
pub(super) struct Excerpt {
    pub(super) text: String,
    /// Length of the whole text, in characters.
    pub(super) length: usize,
}

impl Excerpt {
    pub(super) fn is_whole(&self) -> bool {
        i64::try_from(self.length).is_ok_and(|length| length <= LONGEST_EXCERPT)
    }
}

/// The API's time format.
const FORMAT: &str = "%Y-%m-%d %H:%M:%S";

/// A point in time as the database keeps it: microseconds since 1970, so that tasks created within one second keep
/// their order. The API shows whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(i64);

impl Time {
    pub(super) fn now() -> Self {
        Timestamp::now().into()
    }

    /// Returns the time since `earlier`; zero if the clock was set back before it.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    pub(super) fn earlier_by(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    pub(super) fn later_by(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    pub(super) fn microseconds(self) -> i64 {
        self.0
    }

    /// Returns the minute, counted since 1970.
    pub(super) fn minute(self) -> i64 {
        self.0.div_euclid(60_000_000)
    }
}

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self(time.as_microsecond())
    }
}

impl ToSql for Time {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for Time {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(Self)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = Timestamp::from_microsecond(self.0).map_err(serde::ser::Error::custom)?;
        serializer.collect_str(&time.strftime(FORMAT))
    }
}

/// Formats the time as the API does; empty if it is out of range.
impl Display for Time {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(formatter, "{}", time.strftime(FORMAT)),
            Err(_) => Ok(()),
        }
    }
}

/// A JSON value as the database keeps it: text in the canonical form, keys sorted and no white space.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Json(pub(super) Value);

impl ToSql for Json {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.to_string().into())
    }
}

/// JSON read for an answer: text that is parsed only when it is written out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JsonText(pub(super) String);

impl JsonText {
    /// Returns the length in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromSql for JsonText {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str().map(|text| Self(text.to_owned()))
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        text.serialize(serializer)
    }
}

// serde requires this signature.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn as_number<S: Serializer>(flag: &bool, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_u8(u8::from(*flag))
}
