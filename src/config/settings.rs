//! All settings. This is the one place to add one: `prismq.toml`, the environment, the options with their help, and
//! `prismq config` follow from its row.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::definition::{CliOption, Definition, KeyFile, Scope};
use super::layer::{Flags, Layer};
use super::setting::Value;
use super::{
    ConfigError, LogFormat, Origin, Secret, Setting, Strategy, TaskType, new_worker_id, parse_address,
    parse_concurrency, parse_duration, parse_max_attempts, parse_max_tasks, parse_positive_duration, values,
};

/// The type of a setting's field in [`Config`].
macro_rules! held {
    ($type:ty) => { Option<Setting<$type>> };
    ($type:ty, $default:expr) => { Setting<$type> };
}

/// The parser of a setting's text.
macro_rules! parser {
    () => {
        |text| text.parse().map_err(|error| format!("{error}"))
    };
    ($parse:path) => {
        $parse
    };
}

macro_rules! settings {
    (
        default results: $default_results:ident;
        $(
            #[doc = $help:literal]
            $name:ident: $type:ty $(= $parse:path)? { $($field:ident: $value:expr),* } $(or $default:expr)?;
        )*
    ) => {
        /// The resolved configuration. Paths are absolute.
        #[derive(Debug, Clone)]
        pub(crate) struct Config {
            $(#[doc = $help] pub $name: held!($type $(, $default)?),)*
            /// The types in `prismq.toml`, in its order. Their names differ.
            pub task_types: Vec<TaskType>,
        }

        /// All settings, in the order of `prismq config` and of help.
        pub(crate) static SETTINGS: &[Definition] = &[$(Definition {
            name: stringify!($name),
            help: $help,
            form: <$type>::FORM,
            check: |text| <$type>::read(text, parser!($($parse)?)).map(drop),
            $($field: $value,)*
            ..Definition::BLANK
        }),*];

        impl Config {
            /// Builds the configuration from `layer`, with defaults for the rest.
            pub(super) fn new(
                layer: &Layer,
                task_types: Vec<TaskType>,
                $default_results: PathBuf,
            ) -> Result<Self, ConfigError> {
                $(
                    let $name = layer.get::<$type>(stringify!($name), parser!($($parse)?))?;
                    $(let $name = $name.unwrap_or_else(|| Setting::new($default, Origin::Default));)?
                )*
                Ok(Self { $($name,)* task_types })
            }

            /// Returns the value of each of the [`SETTINGS`] as text, and its origin.
            pub(super) fn values(&self) -> Vec<Option<(String, Origin)>> {
                vec![$({
                    let setting: Option<&Setting<$type>> = (&self.$name).into();
                    setting.map(|setting| (setting.value.shown(), setting.origin.clone()))
                }),*]
            }
        }

        // Each setting has one, even if the program never sets it.
        #[allow(dead_code)]
        impl Flags {
            $(
                #[doc = $help]
                #[must_use]
                pub(crate) fn $name(self, value: $type) -> Self {
                    self.with(stringify!($name), value.exact())
                }
            )*
        }
    };
}

// Help, name, type, parser (else its `FromStr`), sources, and default, which may be a setting above. Without a default,
// the value is an `Option`.
settings! {
    default results: default_results;

    /// Configuration file [default: ./prismq.toml, else the one in your configuration folder]
    config: PathBuf {
        variable: "PRISMQ_CONFIG", flag: Some(Scope::Global.flag("config", "FILE")), is_in_toml: false
    };

    /// Base URL of the TaskManager, ending in /api [default: port 8000 on localhost]
    api_url: String = values::api_url {
        variable: "TASKMANAGER_API_URL", flag: Some(Scope::Global.flag("api-url", "URL"))
    } or "http://localhost:8000/api".to_owned();

    /// API key of the TaskManager; never an option, because other users could see it
    api_key: Secret = values::api_key {
        variable: "TASKMANAGER_API_KEY",
        key_file: Some(KeyFile {
            variable: "TASKMANAGER_API_KEY_FILE", name: "api_key_file", what: "API key file"
        })
    };

    /// Worker ID [default: host name and 8 random hex digits]
    worker_id: String = values::worker_id {
        variable: "WORKER_ID", flag: Some(Scope::Global.flag("worker-id", "ID"))
    } or new_worker_id();

    /// Time between polls when idle [default: 10s]
    poll_interval: Duration = parse_positive_duration {
        variable: "POLL_INTERVAL", flag: Some(Scope::Worker.flag("poll-interval", "DURATION"))
    } or Duration::from_secs(10);

    /// Maximum time between polls after many without a task [default: 60s]
    max_backoff: Duration = parse_positive_duration {
        variable: "MAX_BACKOFF", flag: Some(Scope::Worker.flag("max-backoff", "DURATION"))
    } or Duration::from_secs(60);

    /// Maximum number of tasks before exiting; 0 = no limit [default: 0]
    max_tasks: u64 = parse_max_tasks {
        variable: "MAX_RUNS",
        flag: Some(CliOption { alias: Some("max-runs"), ..Scope::Worker.flag("max-tasks", "N") })
    } or 0;

    /// Order in which pending tasks are claimed [default: fifo]
    strategy: Strategy {
        variable: "PRISMQ_STRATEGY", flag: Some(Scope::Worker.flag("strategy", "STRATEGY"))
    } or Strategy::Fifo;

    /// Maximum number of tasks running at once [default: 1]
    concurrency: usize = parse_concurrency {
        variable: "PRISMQ_CONCURRENCY", flag: Some(Scope::Worker.flag("concurrency", "N"))
    } or 1;

    /// Time until a claim expires, as set on the TaskManager [default: 300s]
    claim_timeout: Duration = parse_positive_duration {
        variable: "PRISMQ_CLAIM_TIMEOUT", flag: Some(Scope::Worker.flag("claim-timeout", "DURATION"))
    } or Duration::from_secs(300);

    /// Fail tasks claimed more than N times, without running them [default: 5]
    max_attempts: u32 = parse_max_attempts {
        variable: "PRISMQ_MAX_ATTEMPTS", flag: Some(Scope::Worker.flag("max-attempts", "N"))
    } or 5;

    /// Time for handlers to finish after the first signal [default: 30s]
    grace_period: Duration = parse_duration {
        variable: "PRISMQ_GRACE_PERIOD", flag: Some(Scope::Worker.flag("grace-period", "DURATION"))
    } or Duration::from_secs(30);

    /// Results file [default: results.db in your data folder]
    results: PathBuf {
        variable: "PRISMQ_RESULTS", flag: Some(Scope::Global.flag("results", "FILE"))
    } or default_results;

    /// Retention of reported results; 0 = no limit [default: 0]
    keep_results: Duration = parse_duration {
        variable: "PRISMQ_KEEP_RESULTS", flag: Some(Scope::Worker.flag("keep-results", "DURATION"))
    } or Duration::ZERO;

    /// Ideas database [default: the results file]
    ideas: PathBuf {
        variable: "IDEA_DB_PATH", flag: Some(Scope::Global.flag("ideas", "FILE"))
    } or results.value.clone();

    /// Units of the YouTube Data API per day
    youtube_daily_quota: u32 = values::daily_quota { variable: "YOUTUBE_DAILY_QUOTA_LIMIT" } or 10_000;

    /// How long answers about a video are reused; 0 = never
    youtube_cache: Duration = parse_duration { variable: "YOUTUBE_CACHE" } or Duration::from_hours(1);

    /// Log format [default: text]
    log_format: LogFormat {
        variable: "PRISMQ_LOG_FORMAT", flag: Some(Scope::Output.flag("log-format", "FORMAT"))
    } or LogFormat::Text;

    /// Log level: a level, or MODULE=LEVEL, separated by commas [default: info]
    log_level: String = values::log_level {
        variable: "RUST_LOG", switch: Some(("DEBUG", "debug")), flag: Some(Scope::Output.flag("log-level", "LEVEL"))
    } or "info".to_owned();

    /// Address of the status page, health and metrics, such as 127.0.0.1:9090
    status_addr: SocketAddr = parse_address {
        variable: "PRISMQ_STATUS_ADDR", flag: Some(Scope::Worker.flag("status-addr", "ADDRESS"))
    };

    /// Certificates to trust instead of the system's, for the TaskManager only
    ca_file: PathBuf { variable: "PRISMQ_CA_FILE", unset: "the system's certificates" };

    /// Base URL of the YouTube Data API
    youtube_api_url: String = values::api_url {
        variable: "YOUTUBE_API_URL"
    } or "https://www.googleapis.com/youtube/v3".to_owned();

    /// Key of the YouTube Data API
    youtube_api_key: Secret = values::api_key {
        variable: "YOUTUBE_API_KEY",
        key_file: Some(KeyFile {
            variable: "YOUTUBE_API_KEY_FILE", name: "youtube_api_key_file", what: "YouTube API key file"
        })
    };
}
