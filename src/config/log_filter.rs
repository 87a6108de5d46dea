//! What is logged: a level, and levels for single modules.

use log::LevelFilter;

/// A level for everything (no module), or for the modules whose names start so.
pub(crate) type LogDirective = (Option<String>, LevelFilter);

/// Reads `info`, or `warn,prismq::worker=debug`: what `log_level` and `RUST_LOG` take.
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
        Some("") => Err(format!("{part:?} names no module: write MODULE=LEVEL")),
        module => Ok((module.map(str::to_owned), parsed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_levels_and_modules() {
        assert_eq!(parse_log_filter("info"), Ok(vec![(None, LevelFilter::Info)]));
        assert_eq!(parse_log_filter("DEBUG"), Ok(vec![(None, LevelFilter::Debug)]));
        assert_eq!(
            parse_log_filter("warn, prismq::worker=trace,"),
            Ok(vec![(None, LevelFilter::Warn), (Some("prismq::worker".into()), LevelFilter::Trace)])
        );
    }

    #[test]
    fn refuses_what_is_no_level() {
        for text in ["loud", "info,loud", "prismq", "prismq=loud", "info/text", "=info"] {
            assert!(parse_log_filter(text).is_err(), "{text}");
        }
        assert!(parse_log_filter("debgu").unwrap_err().contains("debug"));
    }
}
