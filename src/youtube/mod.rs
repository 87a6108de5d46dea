//! Handlers that read YouTube through its Data API, version 3, with a daily quota and a cache of videos that all workers
//! with the same results file share.
//!
//! Each task has a session. Its calls are charged to the [`Ledger`], and their answers become records.

mod api;
mod cache;
mod calls;
mod failure;
mod ledger;
mod params;
mod records;
mod run;
mod session;
mod subtitles;
mod text;
mod url;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use self::api::{Api, ApiError};
use self::calls::SEARCH_UNITS;
use self::failure::{ApiFailure, FailureKind};
use self::params::TaskRequest;
use self::run::TaskRun;
use self::session::{ApiSession, TaskError};
use crate::handler::{Handler, Redactor, Run};
use crate::shutdown::CancelToken;
use crate::task::{Claim, ErrorType, Outcome};

pub use ledger::{Budget, Ledger};
pub(crate) use ledger::{QuotaEvent, QuotaListener};

/// The oldest video on YouTube, used to check a key.
const ANY_VIDEO: &str = "jNQXAC9IVRw";

/// Settings of the handlers.
#[derive(Clone)]
pub struct YouTubeSettings {
    /// The URL of the API, without a slash at the end.
    pub url: String,
    /// The API key. It is never shown.
    pub key: Option<String>,
    /// The quota and the cache; `None` disables both.
    pub ledger: Option<Arc<Ledger>>,
    /// Whether to fetch subtitles with `yt-dlp`.
    pub subtitles: bool,
}

/// What the handlers differ in.
struct HandlerKind {
    name: &'static str,
    /// The well-known task type that it runs by default.
    task_type: &'static str,
    /// The JSON Schema of the params.
    schema: &'static str,
    /// Parses the params of a task.
    request: fn(&Value) -> Result<TaskRequest, String>,
    /// The minimum cost of a successful task.
    units: u64,
}

static HANDLERS: [HandlerKind; 3] = [
    HandlerKind {
        name: "youtube.video",
        task_type: "PrismQ.YouTube.Video.Single",
        schema: include_str!("../../schemas/youtube.video.json"),
        request: |params| params::video(params).map(TaskRequest::Video),
        units: 1,
    },
    HandlerKind {
        name: "youtube.search",
        task_type: "PrismQ.YouTube.Video.Search",
        schema: include_str!("../../schemas/youtube.search.json"),
        request: |params| params::search(params).map(TaskRequest::Search),
        units: SEARCH_UNITS + 1,
    },
    HandlerKind {
        name: "youtube.channel",
        task_type: "PrismQ.YouTube.Channel.Scrape",
        schema: include_str!("../../schemas/youtube.channel.json"),
        request: |params| params::uploads(params).map(TaskRequest::Uploads),
        units: 3,
    },
];

fn kind(name: &str) -> Option<&'static HandlerKind> {
    HANDLERS.iter().find(|kind| kind.name == name)
}

/// Returns the handler called `name`, if there is one.
#[must_use]
pub fn handler(name: &str, settings: YouTubeSettings) -> Option<Arc<dyn Handler>> {
    let kind = kind(name)?;
    let redactor = Redactor::new(settings.key.as_deref());
    let api = Api::new(&settings.url, settings.key.as_deref());
    Some(Arc::new(YouTubeHandler { kind, api, redactor, settings }))
}

/// Returns the JSON Schema of the params that the handler called `name` takes.
pub(crate) fn schema(name: &str) -> Option<Value> {
    // The files are part of the program, and tests parse each of them.
    kind(name).map(|kind| serde_json::from_str(kind.schema).expect("the file holds JSON"))
}

/// Returns the name of the default handler of a well-known task type.
#[must_use]
pub(crate) fn default_handler(task_type: &str) -> Option<&'static str> {
    HANDLERS.iter().find(|kind| kind.task_type == task_type).map(|kind| kind.name)
}

/// Checks the key with a single call that costs one unit.
pub(crate) fn check_key(settings: &YouTubeSettings, timeout: Duration) -> Result<(), KeyProblem> {
    let api = Api::new(&settings.url, settings.key.as_deref());
    let problem = |message| KeyProblem { message, is_refused: false };
    if !api.has_key() {
        return Err(problem(no_key()));
    }
    let query = vec![("part", "id".to_owned()), ("id", ANY_VIDEO.to_owned())];
    match api.list("videos", &query, timeout, &CancelToken::new(None)) {
        // If the quota is used up, the key is valid.
        Err(ApiError::Refused(ApiFailure { kind, reason })) if kind != FailureKind::Quota => {
            let message = Redactor::new(settings.key.as_deref()).text(&reason).into_owned();
            Err(KeyProblem { message, is_refused: kind == FailureKind::Key })
        }
        // The unit is charged after the call, since the key can be checked even if the quota is used up.
        _ => settings.ledger.as_ref().map_or(Ok(()), |ledger| ledger.spend(1).map(drop)).map_err(problem),
    }
}

/// Why a key could not be checked, or was refused.
pub(crate) struct KeyProblem {
    /// One line for users.
    pub(crate) message: String,
    /// Whether YouTube refused the key. Otherwise it could not be checked.
    pub(crate) is_refused: bool,
}

fn no_key() -> String {
    "no YouTube API key: set YOUTUBE_API_KEY, or YOUTUBE_API_KEY_FILE to a file that contains it".into()
}

/// A handler that reads videos.
struct YouTubeHandler {
    kind: &'static HandlerKind,
    api: Api,
    redactor: Redactor,
    settings: YouTubeSettings,
}

impl Handler for YouTubeHandler {
    fn run(&self, claim: &Claim, run: &Run<'_>) -> Outcome {
        let outcome = self.work(claim, run).map_or_else(Outcome::from, Outcome::success);
        self.redactor.outcome(outcome)
    }

    fn check(&self) -> Result<(), String> {
        if self.api.has_key() { Ok(()) } else { Err(no_key()) }
    }

    fn not_before(&self) -> Option<Timestamp> {
        // If the ledger cannot be read, the task reports that.
        let day = self.settings.ledger.as_ref()?.budget().ok()?;
        (day.left() < self.kind.units).then_some(day.resets_at)
    }
}

impl YouTubeHandler {
    fn work(&self, claim: &Claim, run: &Run<'_>) -> Result<Value, TaskError> {
        let request = (self.kind.request)(&claim.task.params);
        let request = request.map_err(|error| TaskError::Failed(ErrorType::Validation, error))?;
        self.check().map_err(TaskError::Key)?;
        let session = ApiSession::new(&self.api, self.settings.ledger.as_deref(), run);
        let reading = TaskRun { claim, session: &session, subtitles: self.settings.subtitles };
        let mut data = reading.data(&request)?;
        data["quota"] = session.quota();
        Ok(data)
    }
}
