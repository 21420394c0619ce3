//! The figures of a bench for a table: one line of JSON each, appended to the file that FIGURES
//! names. Without FIGURES nothing is written. `benches/figures.py` reads them, and says the form.

use std::fs::OpenOptions;
use std::io::Write;

use serde_json::{Value, json};

/// Notes a figure, such as `restart/ready`, with its values, one a round. `bound` is the most that
/// is promised.
#[allow(dead_code, reason = "not every bench has figures without a peer")]
pub(crate) fn note(entry: &str, unit: &str, ours: &[f64], bound: Option<f64>) {
    append(&json!({"entry": entry, "unit": unit, "ours": ours, "bound": bound}));
}

/// Notes a figure beside that of a peer, whose values are from the same rounds. Less is better.
#[allow(dead_code, reason = "not every bench has a peer")]
pub(crate) fn note_beside(entry: &str, unit: &str, ours: &[f64], peer: &str, theirs: &[f64]) {
    append(&json!({"entry": entry, "unit": unit, "ours": ours, "peer": peer, "theirs": theirs}));
}

/// The same where more is better.
#[allow(dead_code, reason = "not every bench measures a rate")]
pub(crate) fn note_rate_beside(entry: &str, unit: &str, ours: &[f64], peer: &str, theirs: &[f64]) {
    append(&json!({"entry": entry, "unit": unit, "ours": ours, "peer": peer, "theirs": theirs, "rate": true}));
}

fn append(figure: &Value) {
    if let Some(path) = std::env::var_os("FIGURES") {
        let mut file = OpenOptions::new().append(true).create(true).open(path).expect("FIGURES names a file");
        writeln!(file, "{figure}").expect("room on the disk");
    }
}
