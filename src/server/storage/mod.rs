//! What the TaskManager stores: types, tasks and their past attempts. How it is stored is known to [`sqlite`] alone, whose
//! [`SqliteStorage`] has the domain's verbs for methods. Times are its own, and JSON is text.

mod sqlite;

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::memory::Reservation;
pub(super) use sqlite::{Disk, SqliteStorage};

/// Characters that are shown of a text by itself.
const LONGEST_EXCERPT: i64 = 64 * 1024;

/// A task in a list: all but what may be long.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
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
pub(super) struct Task {
    #[serde(flatten)]
    summary: Summary,
    error_message: Option<String>,
    params: JsonText,
    result: Option<JsonText>,
}

/// A task as a claim hands it out.
#[derive(Debug, Serialize)]
pub(super) struct Claimed {
    id: i64,
    #[serde(rename = "type")]
    task_type: String,
    pub(super) params: JsonText,
    attempts: i64,
    priority: i64,
    /// What its answer takes of the room for answers.
    #[serde(skip)]
    pub(super) reservation: Option<Reservation>,
}

/// A task to be.
pub(super) struct NewTask<'a> {
    pub(super) type_id: i64,
    pub(super) params: &'a str,
    pub(super) priority: i64,
    pub(super) dedupe_key: &'a str,
}

/// What a worker says of an attempt that has ended.
pub(super) struct Report {
    pub(super) worker_id: String,
    pub(super) success: bool,
    /// In canonical form.
    pub(super) result: Option<String>,
    pub(super) error: Option<String>,
}

/// What a list of tasks is narrowed to.
pub(super) struct Filter {
    /// One of [`STATUSES`].
    pub(super) status: Option<&'static str>,
    /// A LIKE pattern.
    pub(super) task_type: Option<String>,
    pub(super) side: Side,
    pub(super) limit: i64,
    pub(super) offset: i64,
}

/// The tasks next to one, that it leaves out: those with lower ids, or with higher ones.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    Before(i64),
    After(i64),
}

impl Side {
    pub(super) const NEWEST: Self = Self::Before(i64::MAX);

    pub(super) fn id(self) -> i64 {
        match self {
            Self::Before(id) | Self::After(id) => id,
        }
    }
}

/// Every status there is.
pub(super) const STATUSES: [&str; 4] = ["pending", "claimed", "completed", "failed"];

/// What tasks are handed out by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SortBy {
    CreatedAt,
    Priority,
    Id,
    Attempts,
}

/// An order of handing out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) by: SortBy,
    pub(super) descending: bool,
}

/// A task type, as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct TaskType {
    pub(super) id: i64,
    name: String,
    version: String,
    pub(super) param_schema: JsonText,
    /// A number, 0 or 1, as the published server has it.
    #[serde(serialize_with = "as_number")]
    pub(super) is_active: bool,
    created_at: Time,
    updated_at: Time,
}

/// What a new task is checked against.
pub(super) struct Rules {
    pub(super) type_id: i64,
    pub(super) is_active: bool,
    /// The JSON Schema of its params, as text.
    pub(super) schema: String,
}

/// Why another attempt could follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It failed, and was not the last that the task had.
    Failed,
    /// Its claim ran out, and was handed to another.
    Expired,
    /// The task had failed for good, and somebody put it back.
    PutBack,
}

/// An attempt that another followed.
#[derive(Debug)]
pub(super) struct PastAttempt {
    pub(super) attempt: i64,
    pub(super) worker_id: Option<String>,
    pub(super) claimed_at: Option<Time>,
    /// When the task ended with it.
    pub(super) ended_at: Option<Time>,
    /// When the task was free for another attempt.
    pub(super) left_at: Time,
    pub(super) fate: Fate,
    pub(super) error: Option<String>,
}

/// The tasks of each status, in the order of [`STATUSES`].
pub(super) type Counts = [u64; STATUSES.len()];

/// The tasks that ended in one minute.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Minute {
    pub(super) completed: u64,
    pub(super) failed: u64,
}

/// Everything at a glance.
pub(super) struct Overview {
    pub(super) types: Vec<TypeCounts>,
    /// By minutes, the present one last.
    pub(super) last_hour: Vec<Minute>,
    /// Who claimed last comes first.
    pub(super) workers: Vec<Seen>,
}

/// A type and its tasks.
pub(super) struct TypeCounts {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) is_active: bool,
    pub(super) counts: Counts,
}

/// A worker, by its claims.
pub(super) struct Seen {
    pub(super) worker_id: String,
    /// Its last claim, and the task it was of.
    pub(super) last: Option<(Time, i64)>,
    pub(super) in_flight: usize,
    /// The types that it waits for a task of just now, by name.
    pub(super) waits_for: Vec<String>,
}

/// A task in a list, with what it failed with in a line.
pub(super) struct Listed {
    pub(super) task: Summary,
    pub(super) error: Option<String>,
}

/// A task by itself.
pub(super) struct Shown {
    pub(super) task: Summary,
    /// Whole: one that is longer than 65,535 bytes was refused.
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
    /// The length of the whole, in characters.
    pub(super) length: usize,
}

impl Excerpt {
    pub(super) fn is_whole(&self) -> bool {
        i64::try_from(self.length).is_ok_and(|length| length <= LONGEST_EXCERPT)
    }
}

/// How the API writes times.
const FORMAT: &str = "%Y-%m-%d %H:%M:%S";

/// A point in time as the database keeps it: microseconds since 1970, so that tasks created within one second keep
/// their order. The API shows whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(i64);

impl Time {
    pub(super) fn now() -> Self {
        Timestamp::now().into()
    }

    /// How long it is since `earlier`; nothing where the clock has been set back before it.
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

    /// The number of its minute since 1970.
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

/// As the API writes it; nothing where it is out of all range.
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

/// The same as it is read for an answer: text that is looked through only when it is written out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JsonText(pub(super) String);

impl JsonText {
    /// In bytes.
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

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn as_number<S: Serializer>(flag: &bool, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_u8(u8::from(*flag))
}
