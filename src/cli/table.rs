//! Columns of text, and values as people read them.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::proto::v1;
use crate::terminal::shown_in_line;

/// Lines of cells under a heading, each column as wide as its widest cell.
pub(super) fn columns<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    // A cell begins no line of its own, and is as wide as it is shown.
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| shown_in_line(cell))).collect();
    let mut widths = heading.map(|cell| cell.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&heading.map(str::to_owned)).chain(&rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Lines of a name and a value; names without a value stay out.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let shown = facts.iter().filter(|(_, value)| !value.is_empty());
    let width = shown.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    shown.fold(String::new(), |mut text, (name, value)| {
        let value = value.replace('\n', &format!("\n{:width$}  ", ""));
        let _ = writeln!(text, "{name:width$}  {value}");
        text
    })
}

/// An enum value in a word, such as `running`.
pub(super) fn state(state: v1::JobState) -> String {
    state.as_str_name().trim_start_matches("JOB_STATE_").to_lowercase()
}

/// An end reason in a word, such as `out_of_memory`.
pub(super) fn reason(reason: v1::JobEndReason) -> String {
    reason.as_str_name().trim_start_matches("JOB_END_REASON_").to_lowercase()
}

/// A time in UTC, to the second.
pub(super) fn time(time: Option<prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| SystemTime::try_from(time).ok());
    time.map(|time| humantime::format_rfc3339_seconds(time).to_string()).unwrap_or_default()
}

/// A duration in its two largest units, such as `2m 5s`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, hours, _, _) => format!("{days}d {hours}h"),
    }
}

/// A number with as many digits as say something.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if !size.is_finite() => value.to_string(),
        size if size >= 1e6 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 1e-3 => format!("{value:.4}"),
        _ => format!("{value:.3e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = columns(["A", "LONGER"], &[["xyz".into(), "1".into()], ["é".into(), String::new()]]);
        assert_eq!(text, "A    LONGER\nxyz  1\né\n");
        let text = columns(["A", "B"], &[["x\ny".into(), "1".into()], ["\u{1b}c".into(), "2".into()]]);
        assert_eq!(text, "A        B\nx\\ny     1\n\\u{1b}c  2\n");
    }

    #[test]
    fn values_are_readable() {
        assert_eq!(duration(Duration::from_secs(125)), "2m 5s");
        assert_eq!(duration(Duration::from_secs(90_000)), "1d 1h");
        let numbers = [0.0, 0.5, 12_345.678, 3e8, 1e-5, f64::NAN].map(number);
        assert_eq!(numbers, ["0", "0.5000", "12345.7", "300000000", "1.000e-5", "NaN"]);
    }
}
