//! Log output on standard error, one line per record: as text, JSON, or for the systemd journal.
//!
//! Fields are the key-values of the `log` crate. Control characters are escaped, so that a record stays on one line.

mod fields;

use std::env;
use std::io::{self, Write};

use env_logger::{Builder, Logger};
use indicatif::MultiProgress;
use jiff::Timestamp;
use log::{Level, LevelFilter, Record};
use rustix::fs::fstat;
use serde_json::{Value, json};

use crate::config::{LogFormat, parse_log_filter};
use crate::output::{Colour, Look, Stream, printable, printable_json};
use fields::fields;

/// Libraries that log only warnings and errors, unless the filter names them.
const LIBRARIES: [&str; 2] = ["ureq", "rustls"];

/// A library that logs nothing unless the filter names it, since its errors are also returned by its calls.
const SILENT_LIBRARY: &str = "rustls_platform_verifier";

/// Maximum level of ureq, whatever the filter says: at `trace` it logs every byte, including the API key.
const UREQ_MAX_LEVEL: LevelFilter = LevelFilter::Debug;

/// The destination of the log.
pub(crate) enum LogTarget {
    /// Standard error.
    Stderr,
    /// Above the live lines of a display on standard error.
    Above(MultiProgress),
}

/// Initializes the process's logger, once. [`parse_log_filter`] parses `filter`; `worker_id` is a field of JSON lines.
///
/// The error is one line: the filter is invalid, or a logger is already set.
pub(crate) fn init(format: LogFormat, filter: &str, worker_id: &str, target: LogTarget) -> Result<(), String> {
    let out: Box<dyn Write + Send> = match target {
        LogTarget::Stderr => Box::new(io::stderr()),
        LogTarget::Above(display) => Box::new(AboveDisplay { display, out: io::stderr() }),
    };
    let style = match format {
        LogFormat::Text if is_for_journal() => Style::Journal,
        LogFormat::Text => Style::Text(Look::of(Stream::Stderr)),
        LogFormat::Json => Style::Json,
    };
    let logger = logger(style, filter, worker_id, out)?;
    let most = logger.filter();
    log::set_boxed_logger(Box::new(logger)).map_err(|_| "the log is already set up".to_owned())?;
    log::set_max_level(most);
    Ok(())
}

/// Whether standard error is connected to the systemd journal, which adds the time itself and reads the level from a number
/// at the start of a line.
fn is_for_journal() -> bool {
    let Some(stream) = env::var_os("JOURNAL_STREAM") else { return false };
    // The variable stays if standard error is redirected.
    fstat(io::stderr()).is_ok_and(|file| stream == format!("{}:{}", file.st_dev, file.st_ino).as_str())
}

/// Returns the number of a level (`sd-daemon(3)`).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Returns the prefix for a line of this level if standard error is the journal, else an empty string.
#[must_use]
pub(crate) fn priority_for_journal(level: Level) -> String {
    if is_for_journal() { format!("<{}>", priority(level)) } else { String::new() }
}

/// The format of lines.
enum Style {
    /// Text for a terminal or a file.
    Text(Look),
    /// Text for the systemd journal.
    Journal,
    Json,
}

fn logger(style: Style, filter: &str, worker_id: &str, out: Box<dyn Write + Send>) -> Result<Logger, String> {
    let directives = parse_log_filter(filter).map_err(|problem| format!("log_level: {problem}"))?;
    // If the filter names only modules, the default level applies to the others.
    let all =
        directives.iter().rev().find(|(module, _)| module.is_none()).map_or(LevelFilter::Info, |(_, level)| *level);
    let mut builder = Builder::new();
    builder.filter_level(all);
    for library in LIBRARIES {
        builder.filter(Some(library), all.min(LevelFilter::Warn));
    }
    builder.filter(Some(SILENT_LIBRARY), LevelFilter::Off);
    for (module, level) in directives {
        let is_ureq = module.as_deref().is_some_and(|module| module.starts_with("ureq"));
        builder.filter(module.as_deref(), if is_ureq { level.min(UREQ_MAX_LEVEL) } else { level });
    }
    let worker_id = worker_id.to_owned();
    builder.format(move |line, record| match &style {
        Style::Text(look) => {
            let now = look.paint(&format!("{:.3}", Timestamp::now()), Colour::Soft);
            writeln!(line, "{now} {}", text(record, look))
        }
        Style::Journal => {
            writeln!(line, "<{}>{}", priority(record.level()), text(record, &Look::plain()))
        }
        Style::Json => writeln!(line, "{}", json_line(Timestamp::now(), record, &worker_id)),
    });
    Ok(builder.target(env_logger::Target::Pipe(out)).build())
}

/// Formats `INFO  message key=value`; with colours, the message stands out.
fn text(record: &Record<'_>, look: &Look) -> String {
    let message = record.args().to_string();
    let level = format!("{:<5}", record.level());
    let level = if record.level() <= Level::Warn { look.paint(&level, Colour::Bad) } else { level };
    let field = |(key, value): (String, Value)| {
        let value = match value {
            Value::String(text) if is_word(&text) => text,
            Value::String(text) => format!("{text:?}"),
            other => other.to_string(),
        };
        format!(" {}={value}", printable(&key))
    };
    let fields: String = fields(record).into_iter().map(field).collect();
    format!("{level} {}{}", printable(&message), look.paint(&fields, Colour::Soft))
}

/// Whether `text` needs no quotes after `key=`.
fn is_word(text: &str) -> bool {
    let needs_quotes = |c: char| c.is_whitespace() || matches!(c, '"' | '=') || c.is_control();
    !text.is_empty() && !text.contains(needs_quotes)
}

/// Formats a JSON object. Common fields come first, and record fields never override them.
fn json_line(now: Timestamp, record: &Record<'_>, worker_id: &str) -> String {
    let mut own = fields(record);
    let mut take = |key: &str| own.iter().position(|(name, _)| name == key).map(|at| own.remove(at).1);
    let first = [
        ("timestamp", Some(json!(format!("{now:.3}")))),
        ("level", Some(json!(record.level().as_str()))),
        ("message", Some(json!(record.args().to_string()))),
        ("worker_id", Some(take("worker_id").unwrap_or_else(|| json!(worker_id)))),
        ("task_id", take("task_id")),
        ("task_type", take("task_type")),
        ("module", Some(json!(record.target()))),
    ];
    let mut pairs: Vec<(String, Value)> =
        first.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    for (key, value) in own {
        if pairs.iter().all(|(name, _)| *name != key) {
            pairs.push((key, value));
        }
    }
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{}:{value}", json!(key))).collect();
    printable_json(&format!("{{{}}}", pairs.join(","))).into_owned()
}

/// Writes lines above the live lines of a display.
struct AboveDisplay<W> {
    display: MultiProgress,
    out: W,
}

impl<W: Write> Write for AboveDisplay<W> {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        // The display's own `println` would pad the lines with blanks.
        self.display.suspend(|| self.out.write_all(lines))?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use std::sync::Arc;

    use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
    use log::{Log, kv};

    use super::*;

    /// What was written, by a log or to a terminal.
    #[derive(Debug, Clone, Default)]
    struct WrittenBytes(Arc<Mutex<Vec<u8>>>);

    impl WrittenBytes {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    impl Write for WrittenBytes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl TermLike for WrittenBytes {
        fn width(&self) -> u16 {
            80
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(&format!("{text}\n"))
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.clone().write_all(text.as_bytes())
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    type Pairs<'a> = &'a [(&'a str, kv::Value<'a>)];

    fn event(message: &str, pairs: Pairs<'_>, line: impl Fn(Timestamp, &Record<'_>) -> String) -> String {
        let now = "2026-11-22T03:18:35.123456Z".parse().unwrap();
        let mut record = Record::builder();
        record.level(Level::Info).target("prismq::worker").key_values(&pairs);
        line(now, &record.args(format_args!("{message}")).build())
    }

    fn json_of(message: &str, pairs: Pairs<'_>) -> String {
        event(message, pairs, |now, record| json_line(now, record, "host-1"))
    }

    #[test]
    fn text_is_level_message_and_fields() {
        let pairs = [
            ("task_id", kv::Value::from(12)),
            ("rate", kv::Value::from(1.5)),
            ("dry", kv::Value::from(true)),
            ("task_type", kv::Value::from("a.b")),
            ("error", kv::Value::from("no \"key\"")),
            ("empty", kv::Value::from("")),
            ("nothing", kv::Value::null()),
        ];
        let line = event("claimed", &pairs, |_, record| text(record, &Look::plain()));
        let fields = r#"task_id=12 rate=1.5 dry=true task_type=a.b error="no \"key\"" empty="""#;
        assert_eq!(line, format!("INFO  claimed {fields}"));
    }

    #[test]
    fn json_has_the_documented_fields_first() {
        let displayed = std::path::Path::new("/x").display();
        let pairs = [
            ("seconds", kv::Value::from(1.5)),
            ("task_type", kv::Value::from("a.b")),
            ("task_id", kv::Value::from(12_u64)),
            ("below", kv::Value::from(-3)),
            ("path", kv::Value::from_display(&displayed)),
            ("nothing", kv::Value::null()),
            ("odd", kv::Value::from(f64::NAN)),
        ];
        let head =
            r#"{"timestamp":"2026-11-22T03:18:35.123Z","level":"INFO","message":"claimed","worker_id":"host-1","#;
        let tail = r#""task_id":12,"task_type":"a.b","module":"prismq::worker","seconds":1.5,"below":-3,"path":"/x","odd":"NaN"}"#;
        assert_eq!(json_of("claimed", &pairs), format!("{head}{tail}"));
    }

    #[test]
    fn no_json_key_is_there_twice() {
        let pairs = [
            ("message", kv::Value::from("other")),
            ("worker_id", kv::Value::from("other-2")),
            ("a", kv::Value::from(1)),
            ("a", kv::Value::from(2)),
        ];
        let head = r#"{"timestamp":"2026-11-22T03:18:35.123Z","level":"INFO","message":"m","worker_id":"other-2","#;
        assert_eq!(json_of("m", &pairs), format!("{head}\"module\":\"prismq::worker\",\"a\":1}}"));
    }

    #[test]
    fn a_line_stays_a_line() {
        let evil = "two\nlines\r\u{1b}[2J\u{9b}\u{2028}end";
        let pairs = [("said", kv::Value::from(evil)), ("key\n", kv::Value::from(1))];
        for line in [event(evil, &pairs, |_, record| text(record, &Look::plain())), json_of(evil, &pairs)] {
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{2028}'), "{line:?}");
        }
        let parsed: Value = serde_json::from_str(&json_of(evil, &pairs)).unwrap();
        assert_eq!((&parsed["message"], &parsed["said"]), (&json!(evil), &json!(evil)));
    }

    fn logged(filter: &str, target: &str, level: Level) -> bool {
        let written = WrittenBytes::default();
        let logger = logger(Style::Text(Look::plain()), filter, "w", Box::new(written.clone())).unwrap();
        logger.log(&Record::builder().level(level).target(target).args(format_args!("x")).build());
        !written.text().is_empty()
    }

    #[test]
    fn the_filter_decides() {
        assert!(logged("info", "prismq::worker", Level::Info) && !logged("info", "prismq::worker", Level::Debug));
        assert!(logged("warn,prismq::worker=debug", "prismq::worker", Level::Debug));
        assert!(!logged("warn,prismq::worker=debug", "prismq::store", Level::Info));
        assert!(!logged("off", "prismq", Level::Error));
        let silenced = "prismq::handler=off";
        assert!(!logged(silenced, "prismq::handler", Level::Error) && logged(silenced, "prismq::worker", Level::Info));
    }

    #[test]
    fn libraries_keep_quiet_unless_named() {
        assert!(logged("debug", "ureq::run", Level::Warn));
        assert!(!logged("debug", "ureq::run", Level::Debug));
        assert!(!logged("trace", "rustls::conn", Level::Info));
        assert!(!logged("error", "rustls::conn", Level::Warn));
        assert!(logged("info,ureq=debug", "ureq::run", Level::Debug));
        assert!(!logged("info", "rustls_platform_verifier::verification", Level::Error));
        assert!(logged("rustls_platform_verifier=error", "rustls_platform_verifier::verification", Level::Error));
        assert!(logged("info,rustls=trace", "rustls::conn", Level::Trace));
    }

    #[test]
    fn the_bytes_of_requests_are_never_logged() {
        for filter in ["trace", "ureq=trace", "ureq_proto=trace", "ureq_proto::util=trace", "u=trace", "ureq_p=trace"] {
            assert!(!logged(filter, "ureq_proto::util", Level::Trace), "{filter}");
        }
    }

    #[test]
    fn a_bad_filter_names_its_setting() {
        let error = init(LogFormat::Text, "loud", "w", LogTarget::Stderr).unwrap_err();
        assert!(error.starts_with("log_level: \"loud\" is not a log level"), "{error}");
    }

    #[test]
    fn lines_go_above_the_live_line() {
        let terminal = WrittenBytes::default();
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let display = MultiProgress::with_draw_target(target);
        let bar = display.add(ProgressBar::new(1).with_style(ProgressStyle::with_template("live").unwrap()));
        bar.tick();
        let logger =
            logger(Style::Text(Look::plain()), "info", "w", Box::new(AboveDisplay { display, out: terminal.clone() }))
                .unwrap();
        logger.log(&Record::builder().level(Level::Info).target("prismq").args(format_args!("logged")).build());
        let drawn = terminal.text();
        let (log, live) = (drawn.find("logged").unwrap(), drawn.rfind("live").unwrap());
        assert!(log < live, "the live line is drawn again below: {drawn:?}");
    }
}
