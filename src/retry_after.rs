//! Parses `Retry-After` (RFC 9110, 10.2.3), including invalid forms that servers send.

use std::time::{Duration, SystemTime};

use httpdate::parse_http_date;

/// Returns the longest of several times; `None` if none is valid. Dates are relative to `date`, the time of the answer by
/// the server's clock.
pub(crate) fn longest<'a>(values: impl IntoIterator<Item = &'a str>, date: Option<&str>) -> Option<Duration> {
    let now = date.and_then(|date| parse_http_date(date).ok()).unwrap_or_else(SystemTime::now);
    values.into_iter().filter_map(|value| parse_value(value, now)).max()
}

/// Parses one value. Proxies may join several headers with commas, but dates contain a comma too.
fn parse_value(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(time) = parse_http_date(value.trim()) {
        return Some(time.duration_since(now).unwrap_or_default());
    }
    value.split(',').filter_map(|part| seconds(part.trim())).max()
}

/// Parses seconds, also with a fraction. Too large numbers become the maximum duration.
fn seconds(text: &str) -> Option<Duration> {
    if !text.starts_with(|first: char| first.is_ascii_digit())
        || text.contains(|it: char| it != '.' && !it.is_ascii_digit())
    {
        return None;
    }
    text.parse().ok().map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 22 Nov 2026 03:18:35 GMT";

    fn longest_of(values: &[&str]) -> Option<Duration> {
        longest(values.iter().copied(), Some(DATE))
    }

    #[test]
    fn seconds_and_dates_are_read() {
        for (value, expected) in [
            ("0", 0.0),
            ("7", 7.0),
            (" 60 ", 60.0),
            ("007", 7.0),
            ("1.5", 1.5),
            ("0.25", 0.25),
            ("Sun, 22 Nov 2026 03:18:45 GMT", 10.0),
            ("Sunday, 22-Nov-26 03:18:45 GMT", 10.0),
            ("Sun Nov 22 03:18:45 2026", 10.0),
            ("Sun, 22 Nov 2026 03:18:35 GMT", 0.0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ] {
            assert_eq!(longest_of(&[value]), Some(Duration::from_secs_f64(expected)), "{value:?}");
        }
        for huge in ["99999999999", "99999999999999999999999999999999", &"9".repeat(400)] {
            assert!(longest_of(&[huge]) > Some(Duration::from_hours(24 * 365)), "{huge}");
        }
    }

    #[test]
    fn invalid_values_are_ignored() {
        for value in
            ["", " ", "-5", "+5", "soon", "1e9", "inf", "NaN", "0x10", "5s", "1.2.3", ".", ".5", "Sun, 99 Nov 2026"]
        {
            assert_eq!(longest_of(&[value]), None, "{value:?}");
        }
        assert_eq!(longest_of(&[]), None);
    }

    #[test]
    fn the_longest_of_several_counts() {
        let ten = Some(Duration::from_secs(10));
        assert_eq!(longest_of(&["1", "10", "2"]), ten);
        assert_eq!(longest_of(&["1, 10", "-70"]), ten);
        assert_eq!(longest_of(&["Sun, 22 Nov 2026 03:18:45 GMT", "3"]), ten);
    }

    #[test]
    fn without_the_servers_date_our_clock_is_used() {
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        for date in [None, Some("yesterday")] {
            let wait = longest([soon.as_str()], date).unwrap();
            assert!((98..=100).contains(&wait.as_secs()), "{wait:?}");
        }
    }
}
