//! Durations as people write them: `10` (seconds), `500ms`, `5m`, `1h30m`, `7d`.

use std::time::Duration;

use jiff::SpanRelativeTo;
use jiff::fmt::friendly::{Designator, Spacing, SpanParser, SpanPrinter};

/// Ten thousand years. Much longer durations could not be added to a time.
pub(super) const LONGEST: Duration = Duration::from_secs(10_000 * 365 * 24 * 3600);

/// Parses a duration of zero or more. A bare number is seconds; a day has 24 hours.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    parse_seconds(text)
        .or_else(|| parse_units(text))
        .ok_or_else(|| format!("{text:?} is not a duration: write 10 (seconds), 500ms, 5m, 1h30m or 7d"))
}

/// Parses a duration above zero.
pub(crate) fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be more than 0, such as 10 (seconds), 500ms or 5m".to_owned()),
        duration => Ok(duration),
    }
}

fn parse_seconds(text: &str) -> Option<Duration> {
    let digits = text.starts_with(|first: char| first.is_ascii_digit()) && !text.contains(['e', 'E']);
    Duration::try_from_secs_f64(text.parse().ok().filter(|_| digits)?).ok().filter(|&it| it <= LONGEST)
}

fn parse_units(text: &str) -> Option<Duration> {
    let span = SpanParser::new().parse_span(text).ok()?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(signed).ok().filter(|&it| it <= LONGEST)
}

/// Formats a duration as [`parse_duration`] reads it, to the millisecond: `1h30m`, `500ms`, `0s`.
#[must_use]
pub(crate) fn format_duration(duration: Duration) -> String {
    let whole = Duration::new(duration.as_secs(), duration.subsec_millis() * 1_000_000);
    SpanPrinter::new().designator(Designator::Compact).spacing(Spacing::None).unsigned_duration_to_string(&whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed() {
        for (text, milliseconds) in [
            ("10", 10_000),
            ("0", 0),
            ("0s", 0),
            ("0.5", 500),
            ("500ms", 500),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("90s", 90_000),
            ("1.5s", 1_500),
            ("2d", 172_800_000),
            ("1w", 604_800_000),
            (" 10s ", 10_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn invalid_durations_are_refused_with_examples() {
        for text in ["", "abc", "-5", "-5s", "5s ago", "1 month", "10x", "1e3", "inf", "nan", "+5", "9999999999999"] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains("500ms") && error.contains("7d"), "{text}: {error}");
        }
    }

    #[test]
    fn a_positive_duration_is_not_zero() {
        assert_eq!(parse_positive_duration("1ms"), Ok(Duration::from_millis(1)));
        assert!(parse_positive_duration("0").unwrap_err().contains("more than 0"));
        assert!(parse_positive_duration("0s").is_err());
        assert!(parse_positive_duration("-1s").is_err());
    }

    #[test]
    fn formatted_durations_parse_to_the_same_value() {
        for (milliseconds, text) in [
            (0, "0s"),
            (1, "1ms"),
            (500, "500ms"),
            (1_500, "1s500ms"),
            (10_000, "10s"),
            (60_000, "1m"),
            (300_000, "5m"),
            (5_400_000, "1h30m"),
            (180_000_000, "50h"),
        ] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(format_duration(duration), text);
            assert_eq!(parse_duration(text), Ok(duration));
        }
        assert_eq!(format_duration(Duration::from_nanos(1_234_567)), "1ms");
    }
}
