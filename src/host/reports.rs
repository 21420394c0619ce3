//! Lines of JSON that a program reports by its descriptor. They are hostile input: each has a
//! bound, and what is odd is counted and dropped.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

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
const FIELDS: &str = "step, scalars, epoch, epochs, progress, checkpoint, artifact and finished";

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
                    let named = |error: A::Error| A::Error::custom(format!("{field}: {error}"));
                    match &*field {
                        "step" => report.step = map.next_value().map_err(named)?,
                        "scalars" => {
                            let values: BTreeMap<String, Option<f64>> = map.next_value().map_err(named)?;
                            let count = values.len();
                            report.scalars =
                                values.into_iter().filter_map(|(tag, value)| Some((tag, value?))).collect();
                            report.nulls = count - report.scalars.len();
                        }
                        "epoch" => report.epoch = map.next_value().map_err(named)?,
                        "epochs" => report.epochs = map.next_value().map_err(named)?,
                        "progress" => report.progress = map.next_value().map_err(named)?,
                        "checkpoint" => report.checkpoint = map.next_value().map_err(named)?,
                        "artifact" => report.artifact = map.next_value().map_err(named)?,
                        "finished" => report.is_finished = map.next_value().map_err(named)?,
                        _ => return Err(A::Error::custom(format!("{field:?} is no field; there are {FIELDS}"))),
                    }
                    seen.push(field);
                }
                Ok(report)
            }
        }
        from.deserialize_map(Fields)
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
                let error: String = error.to_string().chars().take(MOST_ERROR).collect();
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
            scalars: vec![("b".into(), 2.0), ("loss".into(), 0.5)],
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
        let told = |line: &str| serde_json::from_str::<Report>(line).unwrap_err().to_string();
        assert_eq!(
            told("{\"step\": 1.5}"),
            "step: invalid type: floating point `1.5`, expected u64 at line 1 column 12"
        );
        assert!(told("{\"stop\": 1}").starts_with("\"stop\" is no field; there are step, scalars"));
        assert!(Lines::default().add(&[0xff, 0xfe, b'\n']).is_empty());
    }
}
