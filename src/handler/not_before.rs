//! Parses `not_before`: the time until which a handler snoozes its type.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use serde_json::Value;

use super::Listener;

/// Maximum length of an invalid value in messages, in characters.
const SHOWN: usize = 100;

/// Parses the value of `not_before`. An invalid value is reported to `listener`.
pub(super) fn read(value: Option<&Value>, listener: &dyn Listener) -> Option<Timestamp> {
    let value = value.filter(|value| !value.is_null())?;
    let time = value.as_str().and_then(parse);
    if time.is_none() {
        let shown: String = value.to_string().chars().take(SHOWN).collect();
        listener.warning(&format!(
            "`not_before` is ignored: {shown} is not a time with an offset or `Z`, such as \"2026-11-22T08:00:00Z\""
        ));
    }
    time
}

/// Parses a time in RFC 3339 or ISO 8601. A time later than [`Timestamp::MAX`] counts as that: programs write 'never'
/// as the last time that their language knows.
fn parse(text: &str) -> Option<Timestamp> {
    let text = &*without_fine_digits(text.trim());
    text.parse().ok().or_else(|| parse_beyond(text)).or_else(|| parse_late_year(text)).or_else(|| parse_midnight(text))
}

/// Cuts fractional seconds to nine digits, the precision of a [`Timestamp`].
fn without_fine_digits(text: &str) -> Cow<'_, str> {
    let Some(start) = text.find(['.', ',']).map(|point| point + 1) else { return Cow::Borrowed(text) };
    let digits = text[start..].bytes().take_while(u8::is_ascii_digit).count();
    match digits {
        0..=9 => Cow::Borrowed(text),
        _ => Cow::Owned([&text[..start + 9], &text[start + digits..]].concat()),
    }
}

/// Parses 24:00, which ISO 8601 allows for the end of a day.
fn parse_midnight(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_at(text.find(['T', 't', ' '])? + 1);
    let offset = time.strip_prefix("24:00")?;
    let offset = offset
        .strip_prefix(":00")
        .map_or(offset, |rest| rest.strip_prefix(['.', ',']).map_or(rest, |fraction| fraction.trim_start_matches('0')));
    // After 24:00, only an offset may follow.
    let start = parse(&format!("{date}00:00{offset}")).filter(|_| !offset.starts_with([':', '.', ',', '2']))?;
    Some(start.checked_add(jiff::SignedDuration::from_hours(24)).unwrap_or(Timestamp::MAX))
}

/// Parses a time that is out of range for a [`Timestamp`] although its date is not.
fn parse_beyond(text: &str) -> Option<Timestamp> {
    let pieces = Pieces::parse(text).ok()?;
    let local = pieces.date().to_datetime(pieces.time()?);
    let end = if local.year() > 0 { Timestamp::MAX } else { Timestamp::MIN };
    Some(pieces.to_numeric_offset()?.to_timestamp(local).unwrap_or(end))
}

/// Parses a time with a year of more than four digits. The rest is validated as if the year were 2000, a leap year.
fn parse_late_year(text: &str) -> Option<Timestamp> {
    let (year, rest) = text.strip_prefix('+').unwrap_or(text).split_once('-')?;
    let is_late = year.bytes().all(|byte| byte.is_ascii_digit()) && year.trim_start_matches('0').len() > 4;
    let known = is_late.then(|| format!("2000-{rest}"))?;
    parse_beyond(&known).map(|_| Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_of_range_counts_as_the_last_one() {
        for late in [
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59.999999+00:00",
            "9999-12-31T24:00:00Z",
            "10000-12-31T24:00:00Z",
            "9999-12-31T23:59:59.9999999999999Z",
            "9999-12-31T23:59:59-12:00",
            "9999-12-31 23:59:60Z",
            "10000-01-01T00:00:00Z",
            "+010000-01-01T00:00:00Z",
            "+275760-09-13T00:00:00.000Z",
            "12000-02-29T00:00:00+01:00",
            "99999999999999999999-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(late), Some(Timestamp::MAX), "{late}");
        }
    }

    #[test]
    fn a_time_is_read_with_any_offset_and_a_leap_second() {
        let time = |text: &str| text.parse::<Timestamp>().ok();
        for (text, same) in [
            ("2026-11-22T08:00:00+01:00", "2026-11-22T07:00:00Z"),
            ("2026-11-22t08:00:00z", "2026-11-22T08:00:00Z"),
            ("2026-11-22 08:00:00-00:00", "2026-11-22T08:00:00Z"),
            ("2026-12-31T23:59:60Z", "2026-12-31T23:59:59Z"),
            ("+002026-11-22T08:00:00Z", "2026-11-22T08:00:00Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            (" 2026-11-22T08:00:00z\n", "2026-11-22T08:00:00Z"),
            ("2026-11-22T08:00:00.1234567891234Z", "2026-11-22T08:00:00.123456789Z"),
            ("2026-11-22T08:00:00,1234567891234+01:00", "2026-11-22T07:00:00.123456789Z"),
            ("2026-11-22T24:00:00Z", "2026-11-23T00:00:00Z"),
            ("2026-12-31t24:00z", "2027-01-01T00:00:00Z"),
            ("2026-11-22 24:00:00.0000000000+01:00", "2026-11-22T23:00:00Z"),
        ] {
            assert_eq!(parse(text), time(same), "{text}");
        }
        assert_eq!(parse("-009999-01-01T00:00:00+24:00"), Some(Timestamp::MIN));
    }

    #[test]
    fn an_ambiguous_or_invalid_time_is_rejected() {
        for text in [
            "",
            "tomorrow",
            "2026-11-22",
            "2026-11-22T08:00:00",
            "9999-12-31T23:59:59.999999",
            "1764489600",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-22T25:00:00Z",
            "2026-11-22T24:00:01Z",
            "2026-11-22T24:01:00Z",
            "2026-11-22T24:00:00.1Z",
            "2026-11-22T24:00:00",
            "2026-11-22T24:00",
            "2026-11-22T08:00:00.Z",
            "10000-01-01T00:00:00",
            "10000-13-01T00:00:00Z",
            "10000",
            "+-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
