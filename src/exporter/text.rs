//! Families in Prometheus's text format, version 0.0.4, for series whose labels differ within a
//! family or that are made once and served often; everything else the prometheus crate writes.
//! (prometheus.io, exposition formats)

use std::fmt::Write;

/// The kind of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows, apart from starts at 0.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A series of a family: its labels and its value.
pub(super) type Series = (Vec<(&'static str, String)>, f64);

/// A text that grows by families.
#[derive(Debug, Default)]
pub(super) struct Page(pub(super) String);

impl Page {
    /// Adds a family, if it has any series.
    pub(super) fn family(&mut self, name: &str, help: &str, kind: Kind, series: impl IntoIterator<Item = Series>) {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return;
        }
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let text = &mut self.0;
        // Writing to a string does not fail.
        let _ =
            writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", help.replace('\\', "\\\\").replace('\n', "\\n"));
        for (labels, value) in series {
            text.push_str(name);
            for (place, (label, value)) in labels.iter().enumerate() {
                text.push(if place == 0 { '{' } else { ',' });
                let _ = write!(text, "{label}=\"");
                for character in value.chars() {
                    match character {
                        '\\' => text.push_str("\\\\"),
                        '"' => text.push_str("\\\""),
                        '\n' => text.push_str("\\n"),
                        other => text.push(other),
                    }
                }
                text.push('"');
            }
            if !labels.is_empty() {
                text.push('}');
            }
            let _ = if value.is_nan() {
                writeln!(text, " NaN")
            } else if value.is_infinite() {
                writeln!(text, " {}Inf", if value > 0.0 { "+" } else { "-" })
            } else {
                writeln!(text, " {value}")
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_the_format_has_them() {
        let mut page = Page::default();
        let label = |value: &str| vec![("a", value.to_owned()), ("b", "2".to_owned())];
        page.family("x_total", "What\nit is.", Kind::Counter, [(label("q\"\\\n"), 1.5), (vec![], f64::INFINITY)]);
        page.family("nothing", "No series.", Kind::Gauge, []);
        let expected = "# HELP x_total What\\nit is.\n# TYPE x_total counter\nx_total{a=\"q\\\"\\\\\\n\",b=\"2\"} 1.5\nx_total +Inf\n";
        assert_eq!(page.0, expected);
    }
}
