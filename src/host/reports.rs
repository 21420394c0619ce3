//! Lines of JSON that a program reports by its descriptor. They are hostile input: each has a
//! bound, and what is odd is counted and dropped.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;

use super::say;

/// Bytes of a line.
const MOST_LINE_BYTES: usize = 64 << 10;
/// Bytes of a tag.
pub const MOST_TAG_BYTES: usize = 1000;
/// Values of a line, and of an event of an event file.
pub const MOST_VALUES: usize = 1000;
/// Odd things of a kind that are told one by one.
pub(super) const MOST_TOLD: u64 = 5;
/// Characters of an error that are told.
const MOST_ERROR: usize = 300;
/// The fields of a report.
const FIELDS: [&str; 8] = ["step", "scalars", "epoch", "epochs", "progress", "checkpoint", "artifact", "finished"];
/// The values that steps and epochs may have, in words.
const WHOLE: &str = "a whole number from 0 to 18446744073709551615";
const SMALL: &str = "a whole number from 0 to 4294967295";
/// Characters of a line or of a value that are told.
const MOST_SHOWN: usize = 60;

/// A line.
#[derive(Debug, Default, PartialEq)]
pub struct Report {
    /// The step, counted from whatever the program counts from.
    pub step: Option<u64>,
    /// Tags and values.
    pub scalars: Vec<(String, f64)>,
    /// Values that are null, which stands for those that are no finite numbers.
    pub nulls: usize,
    /// The epoch in hand.
    pub epoch: Option<u32>,
    /// Epochs in all.
    pub epochs: Option<u32>,
    /// The share that is done.
    pub progress: Option<f64>,
    /// Something to go on from, below the program's folder.
    pub checkpoint: Option<String>,
    /// A file or a folder of results, below the program's folder.
    pub artifact: Option<String>,
    /// The program has done all that it was to do.
    pub is_finished: bool,
}

impl<'a> Deserialize<'a> for Report {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'a> Visitor<'a> for Fields {
            type Value = Report;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object such as {\"step\": 1}")
            }

            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Report, A::Error> {
                let (mut report, mut seen) = (Report::default(), Vec::new());
                while let Some(field) = map.next_key::<String>()? {
                    if seen.contains(&field) {
                        return Err(A::Error::custom(format!("{field} stands there twice")));
                    }
                    // A value that is no JSON has another error than one that is not right.
                    let value: Value = if FIELDS.contains(&&*field) { map.next_value()? } else { Value::Null };
                    let small = |value: &Value| value.as_u64().and_then(|value| u32::try_from(value).ok());
                    let text = |value: &Value| value.as_str().map(str::to_owned);
                    match &*field {
                        "step" => report.step = taken(&field, value, WHOLE, Value::as_u64)?,
                        "scalars" => report.take_scalars(value).map_err(A::Error::custom)?,
                        "epoch" => report.epoch = taken(&field, value, SMALL, small)?,
                        "epochs" => report.epochs = taken(&field, value, SMALL, small)?,
                        "progress" => report.progress = taken(&field, value, "a share from 0 to 1", Value::as_f64)?,
                        "checkpoint" => report.checkpoint = taken(&field, value, "a path", text)?,
                        "artifact" => report.artifact = taken(&field, value, "a path", text)?,
                        "finished" => {
                            let is_finished = taken(&field, value, "true or false", Value::as_bool)?;
                            report.is_finished = is_finished.unwrap_or_default();
                        }
                        _ => {
                            return Err(A::Error::custom(format!(
                                "{field:?} is no field; there are {}",
                                FIELDS.join(", ")
                            )));
                        }
                    }
                    seen.push(field);
                }
                Ok(report)
            }
        }
        from.deserialize_map(Fields)
    }
}

impl Report {
    /// Takes tags with their values, or tells the one that is wrong.
    fn take_scalars(&mut self, value: Value) -> Result<(), String> {
        let values = match value {
            Value::Object(values) => values,
            Value::Null => return Ok(()),
            other => {
                return Err(format!("scalars is {}, and an object of numbers is right", shown(&other.to_string())));
            }
        };
        for (tag, value) in values {
            match (value.as_f64(), value.is_null()) {
                (Some(value), _) => self.scalars.push((tag, value)),
                (None, true) => self.nulls += 1,
                (None, false) => {
                    let (tag, value) = (shown(&tag), shown(&value.to_string()));
                    return Err(format!("scalars.{tag:?} is {value}, and a number or null is right"));
                }
            }
        }
        Ok(())
    }
}

/// The value of a field; None for null, which says nothing.
fn taken<T, E: Error>(
    field: &str,
    value: Value,
    right: &str,
    take: impl FnOnce(&Value) -> Option<T>,
) -> Result<Option<T>, E> {
    if value.is_null() {
        return Ok(None);
    }
    let wrong = || E::custom(format!("{field} is {}, and {right} is right", shown(&value.to_string())));
    take(&value).map(Some).ok_or_else(wrong)
}

/// The beginning of a text.
fn shown(text: &str) -> String {
    match text.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The mistake of a line that is no report, in words.
fn mistake(line: &[u8], error: &serde_json::Error) -> String {
    let words = error.to_string();
    // The parser counts lines, of which there is one.
    let words = words.rsplit_once(" at line ").map_or(&*words, |(words, _)| words);
    let at = error.column();
    // The part around the mistake, where the line is long.
    let begins = at.saturating_sub(MOST_SHOWN / 2);
    let part = line.get(begins..line.len().min(begins + MOST_SHOWN)).unwrap_or_default();
    let text = String::from_utf8_lossy(part);
    match error.classify() {
        Category::Data if line.trim_ascii_start().starts_with(b"{") => words.chars().take(MOST_ERROR).collect(),
        Category::Data => format!("{text:?} is no object, such as {{\"step\": 1}}"),
        Category::Eof => format!("{text:?} is no whole JSON: it ends at byte {at}"),
        Category::Syntax | Category::Io => match words {
            "number out of range" => format!("the number before byte {at} is too large"),
            "recursion limit exceeded" => format!("{text:?} is nested too deeply at byte {at}"),
            _ => format!("{text:?} is no JSON at byte {at}"),
        },
    }
}

/// Bytes that have come, cut into lines.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
    /// The line in hand is too long, and passed over.
    is_too_long: bool,
    /// Lines, and parts of lines, that were passed over.
    odd: u64,
}

impl Lines {
    /// The reports that these bytes complete.
    pub fn add(&mut self, bytes: &[u8]) -> Vec<Report> {
        let mut reports = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (piece, is_whole) = match piece.strip_suffix(b"\n") {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            if self.begun.len() + piece.len() > MOST_LINE_BYTES {
                self.is_too_long = true;
                self.begun.clear();
            }
            if !self.is_too_long {
                self.begun.extend_from_slice(piece);
            }
            if is_whole {
                let line = std::mem::take(&mut self.begun);
                if std::mem::take(&mut self.is_too_long) {
                    self.tell_odd(&format!("a report has more than {MOST_LINE_BYTES} bytes"));
                } else if !line.trim_ascii().is_empty() {
                    reports.extend(self.read(&line));
                }
            }
        }
        reports
    }

    fn read(&mut self, line: &[u8]) -> Option<Report> {
        let mut report: Report = match serde_json::from_slice(line) {
            Ok(report) => report,
            Err(error) => {
                let error = mistake(line, &error);
                let has = |word: &str| line.windows(word.len()).any(|part| part == word.as_bytes());
                let hint =
                    if has("NaN") || has("Infinity") { "; for NaN and Infinity JSON has null alone" } else { "" };
                self.tell_odd(&format!("a report is not as it should be: {error}{hint}"));
                return None;
            }
        };
        let (count, nulls) = (report.scalars.len(), report.nulls);
        report.scalars.retain(|(tag, value)| is_tag(tag) && value.is_finite());
        let unnamed = count - report.scalars.len();
        if unnamed > 0 {
            let what = format!("{unnamed} values of a report have no name that is right");
            self.tell_odd(&format!("{what}: 1 to {MOST_TAG_BYTES} bytes without control characters"));
        }
        if nulls > 0 {
            self.tell_odd(&format!("{nulls} values of a report are null, and so no finite numbers"));
        }
        if report.scalars.len() > MOST_VALUES {
            self.tell_odd(&format!("a report has {count} values, and {MOST_VALUES} of them are taken"));
            report.scalars.truncate(MOST_VALUES);
        }
        if let Some(progress) = report.progress.filter(|progress| !(0.0..=1.0).contains(progress)) {
            self.tell_odd(&format!("progress of a report is {progress}, and a share from 0 to 1 is right"));
            report.progress = None;
        }
        Some(report)
    }

    fn tell_odd(&mut self, what: &str) {
        self.odd += 1;
        if self.odd <= MOST_TOLD {
            say(&format!("{what}; that is passed over"));
        }
    }

    /// Tells how many oddities there were, where not all of them were told.
    pub(super) fn say_what_was_dropped(&self) {
        if self.odd > MOST_TOLD {
            say(&format!("{} oddities of reports were passed over in all", self.odd));
        }
    }
}

/// Whether a name may be that of scalars.
pub(super) fn is_tag(tag: &str) -> bool {
    !tag.is_empty() && tag.len() <= MOST_TAG_BYTES && !tag.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_however_they_come() {
        let mut lines = Lines::default();
        assert!(lines.add(b"{\"step\": 7, \"scalars\": {\"loss\": 0.5, \"a").is_empty());
        let read = lines.add(b"cc\": null, \"b\": 2}, \"epoch\": 1}\n\n{\"finished\": true}\nnot JSON\n");
        let expected = Report {
            step: Some(7),
            scalars: vec![("loss".into(), 0.5), ("b".into(), 2.0)],
            nulls: 1,
            epoch: Some(1),
            ..Report::default()
        };
        assert_eq!(read, [expected, Report { is_finished: true, ..Report::default() }]);
        assert_eq!(lines.odd, 2);
        // Longer than a line may be, in pieces; the next one counts again.
        for _ in 0..100 {
            assert!(lines.add(&[b'x'; 1000]).is_empty());
            assert!(lines.begun.len() <= MOST_LINE_BYTES);
        }
        assert_eq!(lines.add(b"\n{\"step\": 8}\n").len(), 1);
        assert_eq!(lines.odd, 3);
    }

    #[test]
    fn odd_lines_are_passed_over_and_the_error_names_the_field() {
        let deep = format!("{{\"scalars\": {}", "[".repeat(60_000));
        let many: Vec<String> = (0..1500).map(|tag| format!("\"{tag}\": 1")).collect();
        let many = format!("{{\"scalars\": {{{}}}}}", many.join(","));
        for (line, taken) in [
            ("{\"step\": -1}", None),
            ("{\"step\": 1.5}", None),
            ("{\"step\": \"7\"}", None),
            ("{\"step\": 18446744073709551616}", None),
            ("{\"step\": 1, \"step\": 2}", None),
            ("{\"stop\": 1}", None),
            ("{\"scalars\": [1]}", None),
            ("{\"scalars\": {\"x\": NaN}}", None),
            ("{\"scalars\": {\"x\": 1e999}}", None),
            ("[1]", None),
            ("7", None),
            ("{\"scalars\": {\"x\": \"a\"}}", None),
            (&*deep, None),
            (&*many, Some(MOST_VALUES)),
            ("{\"scalars\": {\"\": 1, \"y\": 1}}", Some(1)),
            ("{\"scalars\": {\"a\\u001b[2J\": 1, \"y\": null}}", Some(0)),
            ("{\"scalars\": {\"y\": 1, \"y\": 2}}", Some(1)),
            ("{\"progress\": 7}", Some(0)),
        ] {
            let mut lines = Lines::default();
            let read = lines.add(format!("{line}\n").as_bytes());
            let counts: Vec<usize> = read.iter().map(|report| report.scalars.len()).collect();
            let start: String = line.chars().take(60).collect();
            assert_eq!(counts, Vec::from_iter(taken), "{start}");
            // JSON has no rule for names that stand there twice: the last one is usual.
            assert_eq!(lines.odd > 0, !line.contains("\"y\": 1, \"y\": 2"), "{start}");
        }
        let told = |line: &str| mistake(line.as_bytes(), &serde_json::from_str::<Report>(line).unwrap_err());
        for (line, words) in [
            ("{\"step\": 1.5}", "step is 1.5, and a whole number from 0 to 18446744073709551615 is right"),
            ("{\"step\": -1}", "step is -1, and a whole number from 0 to 18446744073709551615 is right"),
            ("{\"epoch\": 4294967296}", "epoch is 4294967296, and a whole number from 0 to 4294967295 is right"),
            ("{\"finished\": 1}", "finished is 1, and true or false is right"),
            ("{\"checkpoint\": [1]}", "checkpoint is [1], and a path is right"),
            ("{\"progress\": \"7 %\"}", "progress is \"7 %\", and a share from 0 to 1 is right"),
            ("{\"scalars\": [1]}", "scalars is [1], and an object of numbers is right"),
            ("{\"scalars\": {\"x\": \"a\"}}", "scalars.\"x\" is \"a\", and a number or null is right"),
            ("{\"step\": 1, \"step\": 2}", "step stands there twice"),
            ("{\"stop\": 1}", "\"stop\" is no field; there are step, scalars, epoch"),
            ("[1]", "\"[1]\" is no object, such as {\"step\": 1}"),
            ("this is no JSON", "\"this is no JSON\" is no JSON at byte 2"),
            ("{\"step\": 1", "\"{\\\"step\\\": 1\" is no whole JSON: it ends at byte 10"),
            ("{\"step\": 1e999}", "the number before byte 14 is too large"),
        ] {
            assert!(told(line).starts_with(words), "{line}: {}", told(line));
        }
        assert!(told(&deep).ends_with("[[[\" is nested too deeply at byte 139"), "{}", told(&deep));
        assert!(Lines::default().add(&[0xff, 0xfe, b'\n']).is_empty());
    }
}
