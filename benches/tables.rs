//! A table of a million rows and twenty columns, from CSV and from Parquet to the bytes of tensors,
//! beside pandas, polars and pyarrow, which read the same files by turns (`benches/tables.py`).
//!
//! TABLES_PYTHON names an interpreter that has them; without it torchd reads alone. TABLES_ROWS
//! makes smaller files, and TABLES names one of them: short, long or parquet.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot run stops")]

#[path = "harness/peer.rs"]
mod peer;
#[path = "harness/python.rs"]
mod python;
#[path = "harness/rounds.rs"]
mod rounds;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use parquet::basic::Compression;
use parquet::data_type::DoubleType;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use peer::{Peer, by_turns, worked_for};
use python::python;
use torchd::dataset::draw::mix;
use torchd::dataset::paths::Paths;
use torchd::dataset::table::roles::Roles;
use torchd::dataset::{DataFile, Files, HostBatch, OpenFiles, Selection, csv, parquet as tables};

const COLUMNS: usize = 20;
/// Rows of a row group.
const GROUP: usize = 100_000;
/// Examples of a batch.
const BATCH: u64 = 4096;

/// The value of a cell, of about six digits or of all that a 64-bit float has.
fn value(row: usize, column: usize, is_short: bool) -> f64 {
    let drawn = mix((row * COLUMNS + column) as u64) as f64 / 2f64.powi(63) - 1.0;
    if is_short { (drawn * 1e6).round() / 1e6 } else { drawn }
}

fn name(column: usize) -> String {
    if column + 1 == COLUMNS { "y".into() } else { format!("c{column}") }
}

fn write_csv(path: &Path, rows: usize, is_short: bool) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    writeln!(file, "{}", (0..COLUMNS).map(name).collect::<Vec<_>>().join(",")).unwrap();
    for row in 0..rows {
        for column in 0..COLUMNS {
            let end = if column + 1 == COLUMNS { '\n' } else { ',' };
            write!(file, "{}{end}", value(row, column, is_short)).unwrap();
        }
    }
    file.flush().unwrap();
}

fn write_parquet(path: &Path, rows: usize) {
    let columns: String = (0..COLUMNS).map(|column| format!("required double {};", name(column))).collect();
    let schema = parse_message_type(&format!("message rows {{ {columns} }}")).unwrap();
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).set_dictionary_enabled(false);
    let properties = properties.build().into();
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema.into(), properties).unwrap();
    for begin in (0..rows).step_by(GROUP) {
        let mut group = writer.next_row_group().unwrap();
        for column in 0..COLUMNS {
            let values: Vec<_> = (begin..rows.min(begin + GROUP)).map(|row| value(row, column, false)).collect();
            let mut into = group.next_column().unwrap().unwrap();
            into.typed::<DoubleType>().write_batch(&values, None, None).unwrap();
            into.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// Seconds to read a set and to hand out all of its examples once.
fn seconds(files: &Files, path: &Path, rows: usize) -> f64 {
    let selection = Selection::of(files.clone());
    worked_for(|| {
        let set = selection.open(&OpenFiles::of([DataFile::open(path).unwrap()]), None).ok().unwrap().train;
        let mut batch = HostBatch::default();
        for begin in (0..rows as u64).step_by(BATCH as usize) {
            let places: Vec<_> = (begin..(begin + BATCH).min(rows as u64)).collect();
            set.fill(&places, &mut batch).unwrap();
        }
    })
}

fn main() {
    let rows = std::env::var("TABLES_ROWS").map_or(1_000_000, |rows| rows.parse().unwrap());
    let chosen = std::env::var("TABLES").ok();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let roles = Roles { targets: vec!["y".into()], ..Roles::default() };
    let text = |path: &Path| {
        let paths = Paths::Path(vec![path.to_owned()]);
        Files::Csv(csv::Files { paths, roles: roles.clone(), dialect: csv::Dialect::default() })
    };
    let packed =
        |path: &Path| Files::Parquet(tables::Files { paths: Paths::Path(vec![path.to_owned()]), roles: roles.clone() });
    let mut peer = std::env::var_os("TABLES_PYTHON").map(|_| Peer::start(python("TABLES_PYTHON", "tables.py"), &[]));
    let unit = |seconds: f64| format!("{seconds:.3} s");
    for (name, what, peers) in [
        ("short", "CSV of six digits", &["pandas", "polars"][..]),
        ("long", "CSV of all digits", &["pandas", "polars"]),
        ("parquet", "Parquet", &["pyarrow", "pyarrow-stacked"]),
    ] {
        if chosen.as_ref().is_some_and(|chosen| chosen != name) {
            continue;
        }
        let path = place.join(name);
        let files = match name {
            "parquet" => {
                write_parquet(&path, rows);
                packed(&path)
            }
            _ => {
                write_csv(&path, rows, name == "short");
                text(&path)
            }
        };
        let questions: Vec<_> = peers.iter().map(|peer| (*peer, format!("{peer} {}", path.display()))).collect();
        let questions: Vec<_> = questions.iter().map(|(name, question)| (*name, question.as_str())).collect();
        let ours = || seconds(&files, &path, rows);
        match &mut peer {
            Some(peer) => {
                by_turns(&format!("{what}, {rows} rows of {COLUMNS}"), unit, ours, peer, &questions);
            }
            None => println!("{what}: {:.3} s", ours()),
        }
        std::fs::remove_file(&path).unwrap();
    }
}
