//! All of YouTube: handlers that read it through its Data API, version 3, and what all workers on a results file share
//! of that: the units used a day, and the videos read lately.
//!
//! A task becomes a session: its calls are paid for in the [`Ledger`], made by one agent, and what
//! they bring becomes records.

mod address;
mod api;
mod cache;
mod calls;
mod error;
mod ledger;
mod params;
mod quota;
mod reading;
mod records;
mod refusal;
mod session;
mod shared;
mod subtitles;
mod text;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use self::api::{Api, ApiError};
use self::calls::SEARCH_UNITS;
use self::error::TaskError;
use self::params::Wanted;
use self::reading::Reading;
use self::refusal::{Refusal, RefusalKind};
use self::session::ApiSession;
use crate::handler::{Handler, Redactor, Run};
use crate::shutdown::Stop;
use crate::task::{Claim, ErrorType, Outcome};

pub use ledger::Ledger;
#[cfg(feature = "internals")]
pub use ledger::Spent;
pub use quota::Budget;
pub(crate) use shared::{QuotaEvent, QuotaListener, SharedLedger};

/// The names of the handlers.
pub(crate) const NAMES: [&str; 3] = ["youtube.video", "youtube.search", "youtube.channel"];

/// The first video that YouTube ever had.
const ANY_VIDEO: &str = "jNQXAC9IVRw";

/// What the handlers work with.
#[derive(Clone)]
pub struct Settings {
    /// Where the API is, without a slash at the end.
    pub url: String,
    /// What it knows this user by. It is shown nowhere.
    pub key: Option<String>,
    /// Counts what is spent, and keeps what was read lately; without one, nothing is counted or kept.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// Whether `yt-dlp` is asked for subtitles.
    pub subtitles: bool,
}

/// The handler called `name`, if it is one of [`NAMES`].
#[must_use]
pub fn handler(name: &str, settings: Settings) -> Option<Arc<dyn Handler>> {
    let kind = Kind::ALL.into_iter().zip(NAMES).find(|(_, its_name)| *its_name == name)?.0;
    let redactor = Redactor::new(settings.key.as_deref());
    let api = Api::new(&settings.url, settings.key.as_deref());
    Some(Arc::new(YouTube { kind, api, redactor, settings }))
}

/// The JSON Schema of the params that the handler called `name` takes.
pub(crate) fn schema(name: &str) -> Option<Value> {
    let text = match name {
        "youtube.video" => include_str!("../../schemas/youtube.video.json"),
        "youtube.search" => include_str!("../../schemas/youtube.search.json"),
        "youtube.channel" => include_str!("../../schemas/youtube.channel.json"),
        _ => return None,
    };
    // The files are part of the program, and a test reads each.
    Some(serde_json::from_str(text).expect("the file holds JSON"))
}

/// The handler that works a task type of this name in most places, where nothing else is said.
#[must_use]
pub(crate) fn usual_handler(task_type: &str) -> Option<&'static str> {
    match task_type {
        "PrismQ.YouTube.Video.Single" => Some("youtube.video"),
        "PrismQ.YouTube.Video.Search" => Some("youtube.search"),
        "PrismQ.YouTube.Channel.Scrape" => Some("youtube.channel"),
        _ => None,
    }
}

/// Whether the API accepts the key, tried once, for one unit. The error is one line for a person.
pub(crate) fn check_key(settings: &Settings, timeout: Duration) -> Result<(), String> {
    let api = Api::new(&settings.url, settings.key.as_deref());
    if !api.has_key() {
        return Err(no_key());
    }
    let query = vec![("part", "id".to_owned()), ("id", ANY_VIDEO.to_owned())];
    match api.list("videos", &query, timeout, &Stop::new(None)) {
        // Whose quota is used up has a key.
        Err(ApiError::Refused(Refusal { kind, reason })) if kind != RefusalKind::Quota => {
            Err(Redactor::new(settings.key.as_deref()).text(&reason).into_owned())
        }
        // A day that is used up is no reason not to ask: the key is what is in question.
        _ => settings.ledger.as_ref().map_or(Ok(()), |ledger| ledger.spend(1).map(drop)),
    }
}

fn no_key() -> String {
    "no YouTube API key: set YOUTUBE_API_KEY, or YOUTUBE_API_KEY_FILE to a file that contains it".into()
}

/// What is read.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Video,
    Search,
    Channel,
}

impl Kind {
    /// In the order of [`NAMES`].
    const ALL: [Self; 3] = [Self::Video, Self::Search, Self::Channel];

    /// What a task with `params` asks for.
    fn wanted(self, params: &Value) -> Result<Wanted, String> {
        Ok(match self {
            Self::Video => Wanted::Video(params::video(params)?),
            Self::Search => Wanted::Search(params::search(params)?),
            Self::Channel => Wanted::Uploads(params::uploads(params)?),
        })
    }

    /// What the cheapest task that finds anything costs.
    fn units(self) -> u64 {
        match self {
            Self::Video => 1,
            Self::Search => SEARCH_UNITS + 1,
            Self::Channel => 3,
        }
    }
}

/// A handler that reads videos.
struct YouTube {
    kind: Kind,
    api: Api,
    redactor: Redactor,
    settings: Settings,
}

impl Handler for YouTube {
    fn run(&self, claim: &Claim, run: &Run<'_>) -> Outcome {
        let outcome = self.work(claim, run).map_or_else(Outcome::from, Outcome::success);
        self.redactor.outcome(outcome)
    }

    fn check(&self) -> Result<(), String> {
        if self.api.has_key() { Ok(()) } else { Err(no_key()) }
    }

    fn not_before(&self) -> Option<Timestamp> {
        // Where the ledger cannot be read, the task says so.
        let day = self.settings.ledger.as_ref()?.budget().ok()?;
        (day.left() < self.kind.units()).then_some(day.resets_at)
    }
}

impl YouTube {
    fn work(&self, claim: &Claim, run: &Run<'_>) -> Result<Value, TaskError> {
        let wanted = self.kind.wanted(&claim.task.params);
        let wanted = wanted.map_err(|error| TaskError::Failed(ErrorType::Validation, error))?;
        self.check().map_err(TaskError::Key)?;
        let session = ApiSession::new(&self.api, self.settings.ledger.as_deref(), run);
        let reading = Reading { claim, session: &session, subtitles: self.settings.subtitles };
        let mut data = reading.data(&wanted)?;
        data["quota"] = session.quota();
        Ok(data)
    }
}
