//! Parsers of values. All sources use them, so that each accepts and refuses the same.

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use log::LevelFilter;
use nix::unistd::{Uid, User};

use super::Secret;
use crate::name::{self, MAX_NAME};

/// More slots than this would be a typo.
const MOST_SLOTS: i128 = 1000;

/// Returns `path` relative to `base`, as it is displayed: without `.` between its folders. A `~` at its start is a home
/// folder.
pub(super) fn path(base: &Path, path: impl AsRef<Path>) -> Result<PathBuf, String> {
    Ok(base.join(expand_home(path.as_ref())?).components().collect())
}

/// Expands `~` or `~user` at the start of `path`, as a shell does. `./~` is left alone.
pub(crate) fn expand_home(path: &Path) -> Result<PathBuf, String> {
    let Some(rest) = path.as_os_str().as_bytes().strip_prefix(b"~") else {
        return Ok(path.to_owned());
    };
    let (user, rest) = rest.split_at(rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len()));
    let home = if user.is_empty() { own_home()? } else { home_of(user)? };
    // A second slash would make the rest absolute.
    let rest = Path::new(OsStr::from_bytes(rest));
    Ok(home.join(rest.strip_prefix("/").unwrap_or(rest)).components().collect())
}

fn own_home() -> Result<PathBuf, String> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    home.or_else(|| User::from_uid(Uid::current()).ok().flatten().map(|user| user.dir))
        .ok_or_else(|| format!("cannot expand `~`: HOME is not set, and there is no such user: {}", Uid::current()))
}

fn home_of(user: &[u8]) -> Result<PathBuf, String> {
    let name = String::from_utf8_lossy(user);
    match User::from_name(&name) {
        Ok(Some(user)) => Ok(user.dir),
        Ok(None) => {
            Err(format!("cannot expand `~{name}`: no such user {name:?} (for a file of that name, write ./~{name})"))
        }
        Err(error) => Err(format!("cannot expand `~{name}`: cannot look up user {name:?}: {error}")),
    }
}

/// The order in which pending tasks are claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// Oldest first.
    Fifo,
    /// Newest first.
    Lifo,
    /// Highest priority first.
    Priority,
}

impl Strategy {
    /// Names of the values.
    pub const NAMES: [&'static str; 3] = ["fifo", "lifo", "priority"];
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fifo" => Ok(Self::Fifo),
            "lifo" => Ok(Self::Lifo),
            "priority" => Ok(Self::Priority),
            other => Err(format!("{other:?} is not a strategy: write fifo, lifo or priority")),
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fifo => "fifo",
            Self::Lifo => "lifo",
            Self::Priority => "priority",
        })
    }
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

impl LogFormat {
    /// Names of the values.
    pub(crate) const NAMES: [&'static str; 2] = ["text", "json"];
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("{other:?} is not a log format: write text or json")),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Parses a whole number in `range`. All numbers are parsed here, so that all are refused in the same words.
pub(crate) fn whole<T: TryFrom<i128>>(text: &str, range: RangeInclusive<i128>) -> Result<T, String> {
    let bounds = format!("between {} and {}", range.start(), range.end());
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{text:?} is not a whole number; it must be {bounds}"));
    }
    // A number too long for the parser is out of any range.
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| format!("must be {bounds}, not {text}"))
}

/// Parses a number of slots.
pub(crate) fn parse_concurrency(text: &str) -> Result<usize, String> {
    whole(text, 1..=MOST_SLOTS)
}

/// Parses a number of attempts: at least 1.
pub(crate) fn parse_max_attempts(text: &str) -> Result<u32, String> {
    whole(text, 1..=u32::MAX.into())
}

/// Parses a number of tasks; 0 = no limit.
pub(crate) fn parse_max_tasks(text: &str) -> Result<u64, String> {
    whole(text, 0..=u64::MAX.into()).map_err(|problem| format!("{problem} (0: no limit)"))
}

/// Parses an address to listen on.
pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not an IP address with a port: write 127.0.0.1:9090, or 0.0.0.0:9090 for all")
    })
}

/// Parses a daily quota in units: at least 1.
pub(super) fn daily_quota(text: &str) -> Result<u32, String> {
    whole(text, 1..=u32::MAX.into())
}

/// Parses the TaskManager's URL, and removes trailing slashes. Errors never repeat what might contain a password.
pub(super) fn api_url(text: &str) -> Result<String, String> {
    const ACCEPTED: &str = "write http:// or https://, a host and a path, such as http://localhost:8000/api";
    if text.contains('@') {
        return Err("a URL must not contain a user or a password; the API key is a setting of its own".to_owned());
    }
    let rest = match text.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) => rest,
        _ => return Err(format!("{text:?} is not a valid URL: {ACCEPTED}")),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !is_host_and_port(authority) || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("{text:?} has no valid host: {ACCEPTED}"));
    }
    if path.contains(['?', '#']) {
        return Err(format!("a base URL must not contain `?` or `#`: {ACCEPTED}"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn is_host_and_port(authority: &str) -> bool {
    // The colons of an IPv6 address are inside its brackets.
    let (host, port) = match authority.rfind(']') {
        Some(end) => authority.split_at(end + 1),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port_is_good = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    !host.is_empty() && port_is_good
}

/// Parses a worker id. No blanks around it: a TaskManager may drop them, and a worker has to recognise its own claims.
pub(super) fn worker_id(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_NAME || text.contains(char::is_control) {
        return Err("a worker ID must have 1 to 255 bytes, on one line".to_owned());
    }
    match name::hidden(text) {
        Some(hidden) => Err(format!("a worker ID must not contain the invisible character {hidden}")),
        None => Ok(text.to_owned()),
    }
}

/// Parses a key that can be sent in a header. Errors never repeat it.
pub(super) fn api_key(text: &str) -> Result<Secret, String> {
    match text.trim() {
        "" => Err("the key is empty".to_owned()),
        key if key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') => Ok(Secret::new(key)),
        _ => {
            Err("the key contains a character that is not allowed in a key (a line break, or one outside ASCII)"
                .to_owned())
        }
    }
}

/// Checks a log filter.
pub(super) fn log_level(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("a log level must not be empty: write error, warn, info, debug or trace".to_owned());
    }
    parse_log_filter(text).map(|_| text.to_owned())
}

/// A level for everything (no module), or for the modules whose names start like this.
pub(crate) type LogDirective = (Option<String>, LevelFilter);

/// Parses a log filter such as `info` or `warn,prismq::worker=debug`, as in `log_level` and `RUST_LOG`.
pub(crate) fn parse_log_filter(text: &str) -> Result<Vec<LogDirective>, String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(directive).collect()
}

fn directive(part: &str) -> Result<LogDirective, String> {
    let (module, level) = match part.split_once('=') {
        Some((module, level)) => (Some(module.trim()), level.trim()),
        None => (None, part),
    };
    let parsed = level.parse().map_err(|_| {
        format!("{level:?} is not a log level: write off, error, warn, info, debug, trace, or MODULE=LEVEL")
    })?;
    match module {
        Some("") => Err(format!("{part:?} has no module: write MODULE=LEVEL")),
        module => Ok((module.map(str::to_owned), parsed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displayed_names_can_be_parsed() {
        for name in Strategy::NAMES {
            assert_eq!(name.parse::<Strategy>().unwrap().to_string(), name);
        }
        for name in LogFormat::NAMES {
            assert_eq!(name.parse::<LogFormat>().unwrap().to_string(), name);
        }
        assert!("random".parse::<Strategy>().unwrap_err().contains("fifo, lifo or priority"));
        assert!("xml".parse::<LogFormat>().unwrap_err().contains("text or json"));
    }

    #[test]
    fn trailing_slashes_of_urls_are_removed() {
        for (text, url) in [
            ("http://localhost:8000/api", "http://localhost:8000/api"),
            ("https://api.prismq.nomoos.cz/api/", "https://api.prismq.nomoos.cz/api"),
            ("http://[::1]:8000/api//", "http://[::1]:8000/api"),
            ("HTTP://host", "HTTP://host"),
        ] {
            assert_eq!(api_url(text).as_deref(), Ok(url));
        }
    }

    #[test]
    fn invalid_urls_are_refused() {
        for text in [
            "localhost:8000",
            "ftp://host/api",
            "http://",
            "http:///api",
            "http://:80/api",
            "http://host:99999/api",
            "http://host:port/api",
            "http://ho st/api",
            "http://host/a\npi",
            "http://host/api?x=1",
            "http://host/api#x",
        ] {
            assert!(api_url(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        for text in ["http://me:hunter2@host/api", "ftp://hunter2@host", "hunter2@host", "http://me:hun/ter2@host"] {
            let error = api_url(text).unwrap_err();
            assert!(error.contains("password") && !error.contains("ter2"), "{error}");
        }
    }

    #[test]
    fn numbers_have_their_bounds() {
        assert_eq!(parse_concurrency("1"), Ok(1));
        assert_eq!(parse_concurrency("1000"), Ok(1000));
        for text in ["0", "1001", "-1", "x", "1.5", "", "-", "+", "1_0", "99999999999999999999999999999999999999999"] {
            assert!(parse_concurrency(text).unwrap_err().contains("between 1 and 1000"), "{text:?}");
        }
        assert_eq!(parse_max_tasks("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse_max_attempts("1"), Ok(1));
        assert!(parse_max_attempts("0").is_err());
        assert_eq!(daily_quota("1000000"), Ok(1_000_000));
        for text in ["0", "-1", "many"] {
            assert!(daily_quota(text).is_err(), "{text:?}");
        }
        assert_eq!(parse_max_tasks("0"), Ok(0));
        assert!(parse_max_tasks("-1").is_err());
    }

    #[test]
    fn keys_fit_a_header_and_are_not_repeated() {
        assert_eq!(api_key(" secret\n").unwrap().expose(), "secret");
        for text in ["hunt\ner2", "hunterž2"] {
            assert!(!api_key(text).unwrap_err().contains("hunt"));
        }
        assert!(api_key(" \n").unwrap_err().contains("empty"));
    }

    #[test]
    fn worker_ids_are_one_line() {
        for text in ["host-1", " host-1 ", "\thost-1\n", "\u{a0}host-1"] {
            assert_eq!(worker_id(text).as_deref(), Ok("host-1"));
        }
        for text in
            ["", "  ", "a\nb", &"x".repeat(256), "a\u{2028}b", "a\u{202e}b", "a\u{feff}", "a\u{200b}b", "a\u{85}b"]
        {
            assert!(worker_id(text).is_err());
        }
    }

    #[test]
    fn log_filters_are_levels_and_modules() {
        assert_eq!(parse_log_filter("info"), Ok(vec![(None, LevelFilter::Info)]));
        assert_eq!(parse_log_filter("DEBUG"), Ok(vec![(None, LevelFilter::Debug)]));
        assert_eq!(
            parse_log_filter("warn, prismq::worker=trace,"),
            Ok(vec![(None, LevelFilter::Warn), (Some("prismq::worker".into()), LevelFilter::Trace)])
        );
    }

    #[test]
    fn invalid_log_filters_are_refused() {
        for text in ["loud", "info,loud", "prismq", "prismq=loud", "info/text", "=info"] {
            assert!(parse_log_filter(text).is_err(), "{text}");
        }
        assert!(parse_log_filter("debgu").unwrap_err().contains("debug"));
    }
}
