//! Columns of text, and values as people read them.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::proto::v1;
use crate::terminal::shown_in_line;

/// Lines of cells under a heading, each column as wide as its widest cell.
pub(super) fn columns<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    columns_but_empty(heading, rows, &[])
}

/// Lines of cells that are escaped: one cannot begin a line, and its width is that of the escaped
/// text.
fn lines(rows: Vec<Vec<String>>) -> String {
    let mut widths = vec![0; rows.first().map_or(0, Vec::len)];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The same without those of these columns that have no cell with anything in it.
pub(super) fn columns_but_empty<const N: usize>(heading: [&str; N], rows: &[[String; N]], optional: &[&str]) -> String {
    let is_shown = |place: &usize| {
        !optional.contains(&heading[*place]) || rows.iter().any(|row: &[String; N]| !row[*place].is_empty())
    };
    let shown: Vec<usize> = (0..N).filter(is_shown).collect();
    let heading: Vec<String> = shown.iter().map(|place| heading[*place].to_owned()).collect();
    let rows = rows.iter().map(|row| shown.iter().map(|place| shown_in_line(&row[*place])).collect());
    lines(std::iter::once(heading).chain(rows).collect())
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
        let rows = [["x", "", ""], ["y", "", "2"]].map(|row| row.map(str::to_owned));
        assert_eq!(columns_but_empty(["A", "B", "C"], &rows, &["B", "C"]), "A  C\nx\ny  2\n");
        assert_eq!(columns_but_empty(["A", "B", "C"], &rows[..1], &["C"]), "A  B\nx\n");
    }

    #[test]
    fn values_are_readable() {
        assert_eq!(duration(Duration::from_secs(125)), "2m 5s");
        assert_eq!(duration(Duration::from_secs(90_000)), "1d 1h");
        let numbers = [0.0, 0.5, 12_345.678, 3e8, 1e-5, f64::NAN].map(number);
        assert_eq!(numbers, ["0", "0.5000", "12345.7", "300000000", "1.000e-5", "NaN"]);
    }
}
