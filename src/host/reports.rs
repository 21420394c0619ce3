//! Lines of JSON that a program reports by its descriptor. They are hostile input: each has a
//! bound, and what is odd is counted and dropped.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::say;

/// Bytes of a line.
const MOST_LINE_BYTES: usize = 64 << 10;
/// Bytes of a tag.
pub(super) const MOST_TAG_BYTES: usize = 1000;
/// Values of a line.
const MOST_VALUES: usize = 1000;
/// Odd lines that are told one by one.
const MOST_TOLD: u64 = 5;

/// A line.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(super) struct Report {
    /// The step, counted from whatever the program counts from.
    pub step: Option<u64>,
    /// Tags and values.
    #[serde(default, deserialize_with = "in_order")]
    pub scalars: Vec<(String, f64)>,
    /// The epoch in hand.
    pub epoch: Option<u32>,
    /// Epochs in all.
    pub epochs: Option<u32>,
    /// The share that is done.
    pub progress: Option<f64>,
    /// Something to go on from, below the program's folder.
    pub checkpoint: Option<String>,
    /// The program has done all that it was to do.
    #[serde(default, rename = "finished")]
    pub is_finished: bool,
}

/// Scalars in the order of the line. A value that is null was no finite number.
fn in_order<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<(String, f64)>, D::Error> {
    struct InOrder;
    impl<'a> Visitor<'a> for InOrder {
        type Value = Vec<(String, f64)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("tags and numbers")
        }

        fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut values = Vec::new();
            while let Some((tag, value)) = map.next_entry::<String, Option<f64>>()? {
                values.extend(value.map(|value| (tag, value)));
            }
            Ok(values)
        }
    }
    from.deserialize_map(InOrder)
}

/// Bytes that have come, cut into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    /// The line in hand is too long, and passed over.
    is_too_long: bool,
    odd: u64,
}

impl Lines {
    /// The reports that these bytes complete.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Vec<Report> {
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
                self.tell_odd(&format!("a report is not as it should be: {error}"));
                return None;
            }
        };
        let count = report.scalars.len();
        let is_right = |(tag, value): &(String, f64)| is_tag(tag) && value.is_finite();
        report.scalars.retain(is_right);
        if report.scalars.len() < count {
            self.tell_odd("a report has values without a name, or that are no finite numbers");
        }
        if report.scalars.len() > MOST_VALUES {
            self.tell_odd(&format!("a report has {count} values; {MOST_VALUES} are taken"));
            report.scalars.truncate(MOST_VALUES);
        }
        report.progress = report.progress.filter(|progress| (0.0..=1.0).contains(progress));
        Some(report)
    }

    fn tell_odd(&mut self, what: &str) {
        self.odd += 1;
        if self.odd <= MOST_TOLD {
            say(&format!("{what}; it is passed over"));
        }
    }

    /// Tells how many odd lines there were, where not all of them were told.
    pub(super) fn say_what_was_dropped(&self) {
        if self.odd > MOST_TOLD {
            say(&format!("{} reports were odd in all, and passed over as far as they were", self.odd));
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
    fn lines_are_read_however_they_come_and_what_is_odd_is_passed_over() {
        let mut lines = Lines::default();
        assert!(lines.add(b"{\"step\": 7, \"scalars\": {\"loss\": 0.5, \"a").is_empty());
        let read = lines.add(b"cc\": null, \"b\": 2}, \"epoch\": 1}\n\n{\"finished\": true}\nnot JSON\n");
        let expected = Report {
            step: Some(7),
            scalars: vec![("loss".into(), 0.5), ("b".into(), 2.0)],
            epoch: Some(1),
            ..Report::default()
        };
        assert_eq!(read, [expected, Report { is_finished: true, ..Report::default() }]);
        assert_eq!(lines.odd, 1);
        // Longer than a line may be, in pieces; the next one counts again.
        for _ in 0..100 {
            assert!(lines.add(&[b'x'; 1000]).is_empty());
            assert!(lines.begun.len() <= MOST_LINE_BYTES);
        }
        let read = lines.add(b"\n{\"scalars\": {\"\": 1, \"x\": 1e999, \"y\": 1}, \"progress\": 7}\n{\"step\": -1}\n");
        assert_eq!(read.len(), 0, "1e999 is no number of JSON: {read:?}");
        let read = lines.add(b"{\"scalars\": {\"\": 1, \"y\": 1}, \"progress\": 7}\n");
        assert_eq!((read[0].scalars.len(), read[0].progress), (1, None));
        assert!(lines.add(&[0xff, 0xfe, b'\n']).is_empty());
        assert_eq!(lines.odd, 6);
    }
}
