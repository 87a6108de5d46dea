//! Statistics as text: a table, and on a terminal bars and a sparkline.

use std::time::Duration;

use super::{Slice, Statistics};
use crate::config::format_duration;
use crate::output::{Colour, Look, numbers, printable, shortened};
use crate::store::{By, Group, Unreported};

/// Minimum and maximum width of a bar.
const BAR: std::ops::RangeInclusive<usize> = 6..=30;

/// Characters of a sparkline, from none to the most.
const SPARKS: [char; 9] = ['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Columns for a narrow terminal: without the mean and the 99th percentile.
const FEWER: [usize; 8] = [0, 1, 2, 3, 4, 6, 7, 9];

/// Explains what is counted.
pub(super) const COUNTED: &str = "attempts are counted: a retried task counts once per attempt";

/// Formats all statistics as lines.
pub(super) fn lines(statistics: &Statistics, look: &Look) -> Vec<String> {
    let heading = [what(statistics.by), "COMPLETED", "FAILED", "LOST", "SUCCESS", "MEAN", "P50", "P95", "P99", "RATE"];
    let rows = statistics.groups.iter().map(|group| row(group, look));
    let mut lines = split(&numbers(heading, rows.clone()));
    if widest(&lines) > look.width {
        lines = split(&numbers(FEWER.map(|at| heading[at]), rows.map(|row| FEWER.map(|at| row[at].clone()))));
    }
    if look.has_bars {
        add_bars(&mut lines, &statistics.groups, look);
        lines.extend(sparklines(&statistics.hours, look));
    }
    lines.extend((!statistics.groups.is_empty()).then(|| COUNTED.to_owned()));
    lines.extend(unreported(&statistics.unreported));
    if let Some(quota) = &statistics.quota {
        let (used, limit, left) = (quota.used, quota.limit, quota.left());
        lines.push(format!("YouTube: {used} of {limit} units used, {left} left until {:.0}", quota.resets_at));
    }
    lines
}

/// Formats the number of unreported results and why they are.
pub(super) fn unreported(unreported: &Unreported) -> Option<String> {
    let Unreported { count, refused, last_refused, .. } = unreported;
    let why = last_refused.as_ref().map_or_else(String::new, |(id, why)| {
        format!("; {refused} refused by the TaskManager, last task {id}: {}", printable(why))
    });
    (*count > 0).then(|| format!("{count} unreported{why}"))
}

fn split(table: &str) -> Vec<String> {
    table.lines().map(str::to_owned).collect()
}

fn widest(lines: &[String]) -> usize {
    lines.iter().map(|line| console::measure_text_width(line)).max().unwrap_or(0)
}

/// Returns the column header of a group.
pub(super) fn what(by: By) -> &'static str {
    match by {
        By::Type => "TYPE",
        By::Worker => "WORKER",
        By::Hour => "HOUR",
        By::Day => "DAY",
    }
}

fn row(group: &Group, look: &Look) -> [String; 10] {
    [
        shortened(&printable(&group.name), look.longest_name()),
        group.completed.to_string(),
        group.failed.to_string(),
        group.lost.to_string(),
        format!("{:.1} %", group.success_rate * 100.0),
        duration(group.mean_ms),
        duration_ms(group.p50_ms),
        duration_ms(group.p95_ms),
        duration_ms(group.p99_ms),
        rate(group),
    ]
}

/// Formats milliseconds with sensible precision.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a mean of durations is no less than zero
pub(super) fn duration(ms: f64) -> String {
    match ms {
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 120_000.0 => format!("{:.1} s", ms / 1000.0),
        ms => format_duration(Duration::from_secs((ms / 1000.0).round() as u64)),
    }
}

#[allow(clippy::cast_precision_loss)] // milliseconds are far below 2^53
pub(super) fn duration_ms(ms: i64) -> String {
    duration(ms as f64)
}

/// Formats a group's rate in the smallest unit in which it is at least one. A single attempt has none.
pub(super) fn rate(group: &Group) -> String {
    match group.per_second {
        _ if group.completed + group.failed < 2 => "-".to_owned(),
        rate if rate >= 1.0 => format!("{rate:.1}/s"),
        rate if rate * 60.0 >= 1.0 => format!("{:.1}/min", rate * 60.0),
        rate => format!("{:.1}/h", rate * 3600.0),
    }
}

/// Adds a bar to each row, relative to the largest one, if there is room.
fn add_bars(lines: &mut [String], groups: &[Group], look: &Look) {
    let used = widest(lines) + 2;
    let room = look.width.saturating_sub(used).min(*BAR.end());
    let most = groups.iter().map(|group| group.completed + group.failed).max().unwrap_or(0);
    if room < *BAR.start() {
        return;
    }
    for (line, group) in lines.iter_mut().skip(1).zip(groups) {
        let padding = used - console::measure_text_width(line);
        *line = format!("{line}{:padding$}{}", "", bar(group, most, room, look));
    }
}

/// Draws completed, then failed attempts; each is visible if not zero.
fn bar(group: &Group, most: u64, room: usize, look: &Look) -> String {
    let cells = |count: u64| scaled(count, most, room);
    let failed = cells(group.failed).max(usize::from(group.failed > 0));
    let completed = cells(group.completed + group.failed).max(1).saturating_sub(failed);
    let completed = completed.max(usize::from(group.completed > 0 && failed < room));
    look.paint(&"█".repeat(completed), Colour::Good) + &look.paint(&"▒".repeat(failed), Colour::Bad)
}

/// Scales `count` of `most` to `room`, rounded.
fn scaled(count: u64, most: u64, room: usize) -> usize {
    let room = room as u64;
    usize::try_from((count * room * 2 + most).checked_div(most * 2).unwrap_or(0)).unwrap_or(0)
}

/// Formats sparklines of completed and, if any, failed attempts in each of the last hours.
fn sparklines(hours: &[Slice], look: &Look) -> Vec<String> {
    let line = |label: &str, count: fn(&Slice) -> u64, colour: Colour, word: &str| {
        let counts: Vec<u64> = hours.iter().map(count).collect();
        let sum: u64 = counts.iter().sum();
        (sum > 0).then(|| format!("{label:<15}{}  {sum} {word}", look.paint(&sparkline(&counts), colour)))
    };
    let completed = line("last 24 hours", |hour| hour.completed, Colour::Good, "completed");
    let label = if completed.is_some() { "" } else { "last 24 hours" };
    let failed = line(label, |hour| hour.failed, Colour::Bad, "failed");
    let found: Vec<String> = [completed, failed].into_iter().flatten().collect();
    if found.is_empty() { found } else { std::iter::once(String::new()).chain(found).collect() }
}

fn sparkline(counts: &[u64]) -> String {
    let most = counts.iter().max().copied().unwrap_or(0);
    let spark = |count: &u64| match count {
        0 => SPARKS[0],
        // A count above zero never looks like zero.
        count => SPARKS[scaled(*count, most, SPARKS.len() - 1).max(1)],
    };
    counts.iter().map(spark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_sensible_precision() {
        for (ms, text) in [
            (0.0, "0 ms"),
            (999.0, "999 ms"),
            (999.6, "1.0 s"),
            (6_316.0, "6.3 s"),
            (119_900.0, "119.9 s"),
            (120_000.0, "2m"),
            (5_400_000.0, "1h30m"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }

    fn group(completed: u64, per_second: f64) -> Group {
        Group { completed, per_second, ..Group::default() }
    }

    #[test]
    fn a_single_attempt_has_no_rate() {
        assert_eq!((rate(&group(1, 1000.0)).as_str(), rate(&group(2, 1000.0)).as_str()), ("-", "1000.0/s"));
    }

    #[test]
    fn rates_have_a_suitable_unit() {
        for (per_second, text) in
            [(12.34, "12.3/s"), (1.0, "1.0/s"), (0.5, "30.0/min"), (0.001, "3.6/h"), (0.0, "0.0/h")]
        {
            assert_eq!(rate(&group(2, per_second)), text);
        }
    }

    #[test]
    fn a_sparkline_shows_the_minimum_and_the_maximum() {
        assert_eq!(sparkline(&[0, 1, 500, 1000]), "·▁▄█");
        assert_eq!(sparkline(&[7, 7]), "██");
        assert_eq!(sparkline(&[0, 0]), "··");
        assert_eq!(sparkline(&[]), "");
    }

    #[test]
    fn a_bar_shows_even_a_single_failure() {
        let look = Look::plain();
        let shown = |completed, failed, most| bar(&Group { completed, failed, ..Group::default() }, most, 10, &look);
        assert_eq!(shown(1000, 0, 1000), "██████████");
        assert_eq!(shown(999, 1, 1000), "█████████▒");
        assert_eq!(shown(0, 1, 1000), "▒");
        assert_eq!(shown(1, 0, 1000), "█");
        assert_eq!(shown(500, 500, 1000), "█████▒▒▒▒▒");
        assert_eq!(shown(1, 1, 1000), "█▒");
        assert_eq!(shown(1, 999, 1000), "▒▒▒▒▒▒▒▒▒▒");
    }

    #[test]
    fn a_narrow_terminal_has_fewer_columns() {
        let group = Group { name: "example.count".into(), p95_ms: 7, p99_ms: 9, ..Group::default() };
        let (by, groups, hours, now) = (By::Type, vec![group], Vec::new(), "2026-11-22T12:00:00Z".parse().unwrap());
        let unreported = Unreported::default();
        let mut statistics = Statistics { by, groups, hours, unreported, quota: None, since: None, now };
        let mut look = Look::plain();
        look.width = 90;
        let wide = lines(&statistics, &look);
        assert!(wide[0].contains("MEAN") && wide[1].contains("9 ms"), "{wide:?}");
        look.width = 60;
        let narrow = lines(&statistics, &look);
        assert!(!narrow[0].contains("MEAN") && narrow[0].contains("P95") && narrow[1].contains("7 ms"), "{narrow:?}");
        assert!(!narrow[1].contains("9 ms"), "{narrow:?}");
        statistics.groups[0].name = "n".repeat(255);
        look.width = 80;
        let long = lines(&statistics, &look);
        assert!(long[1].starts_with("nnnnnnnnnnnnnnnnnnn… ") && widest(&long) <= 80, "{long:?}");
        look.width = usize::MAX;
        assert!(lines(&statistics, &look)[1].starts_with(&statistics.groups[0].name));
    }
}
