//! Delimited text: its records are those of the plainest reader, and a table that is judged is the
//! one that is trained on.
//!
//! The first byte chooses the roles of the columns, which have numbers for names, and the second
//! one the size of the blocks in which records are found.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use torchd::dataset::csv::scan::{Broken, Ended, Scanner, Sink};
use torchd::dataset::csv::{Dialect, Files};
use torchd::dataset::paths::Paths;
use torchd::dataset::table::roles::{Missing, MissingRule, Roles, TargetType};
use torchd::dataset::{DataFile, Dtype, Files as Kinds, HostBatch, OpenFiles, Selection};
use torchd::gate::Wanted;
use torchd_fuzz::memory::bounded;
use torchd_fuzz::scratch;

static PLACE: LazyLock<PathBuf> = LazyLock::new(|| scratch::folder("csv").canonicalize().unwrap().join("table.csv"));

/// The fields of a record.
type Record = Vec<Vec<u8>>;

/// Records with their lines.
#[derive(Default)]
struct Kept {
    record: Record,
    records: Vec<(u64, Record)>,
}

impl Sink for Kept {
    fn begin(&mut self) {
        self.record.clear();
    }

    fn field(&mut self, place: usize, text: &[u8], _: bool) {
        assert_eq!(place, self.record.len());
        self.record.push(text.to_vec());
    }

    fn end(&mut self, fields: usize, line: u64) {
        assert_eq!(fields, self.record.len());
        self.records.push((line, std::mem::take(&mut self.record)));
    }
}

/// The records of a text that comes in blocks.
fn scanned(text: &[u8], block: usize) -> Result<Vec<(u64, Record)>, Broken> {
    let (mut scanner, mut kept) = (Scanner::new(b',', Some(b'"'), Some(b'#')), Kept::default());
    let (mut at, mut there) = (0, 0);
    loop {
        there = text.len().min(there + block);
        let is_last = there == text.len();
        loop {
            at = scanner.skip(&text[..there], at, is_last);
            if at == there {
                break;
            }
            match scanner.record(&text[..there], at, is_last, &mut kept)? {
                Ended::At(next) => at = next,
                Ended::Cut(_) => break,
            }
        }
        if is_last {
            assert_eq!(at, there);
            return Ok(kept.records);
        }
    }
}

/// The same by the plainest reader, byte by byte; None where a quote does not close, or something
/// stands behind one.
fn plain(text: &[u8]) -> Option<Vec<(u64, Record)>> {
    // One line end for all: a carriage return that is none stands for itself in a quoted field.
    let (mut records, mut line, mut at) = (Vec::new(), 1, 0);
    let end = |at: usize| match text[at..] {
        [b'\r', b'\n', ..] => 2,
        [b'\r' | b'\n', ..] => 1,
        _ => 0,
    };
    while at < text.len() {
        if end(at) > 0 {
            at += end(at);
            line += 1;
            continue;
        }
        if text[at] == b'#' {
            while at < text.len() && end(at) == 0 {
                at += 1;
            }
            continue;
        }
        let (begun, mut record) = (line, Vec::new());
        loop {
            let mut field = Vec::new();
            if text.get(at) == Some(&b'"') {
                at += 1;
                loop {
                    match text[at..] {
                        [] => return None,
                        [b'"', b'"', ..] => {
                            field.push(b'"');
                            at += 2;
                        }
                        [b'"', ..] => {
                            at += 1;
                            break;
                        }
                        [byte, ..] => {
                            field.push(byte);
                            // The second byte of a line end counts.
                            if byte == b'\n' || byte == b'\r' && text.get(at + 1) != Some(&b'\n') {
                                line += 1;
                            }
                            at += 1;
                        }
                    }
                }
                if at < text.len() && text[at] != b',' && end(at) == 0 {
                    return None;
                }
            } else {
                while at < text.len() && text[at] != b',' && end(at) == 0 {
                    field.push(text[at]);
                    at += 1;
                }
            }
            record.push(field);
            if text.get(at) != Some(&b',') {
                break;
            }
            at += 1;
        }
        records.push((begun, record));
    }
    Some(records)
}

fn roles(choice: u8) -> Roles {
    let by = [Missing::Refuse, Missing::Drop, Missing::Mean, Missing::Constant(0.5)][usize::from(choice >> 4 & 3)];
    Roles {
        targets: vec!["1".into()],
        target_type: [None, Some(TargetType::Classes), Some(TargetType::Numbers), None][usize::from(choice & 3)],
        categorical: if choice & 4 > 0 { vec!["2".into()] } else { Vec::new() },
        ignore: if choice & 8 > 0 { vec!["3".into()] } else { Vec::new() },
        missing: vec![MissingRule { columns: Vec::new(), by }],
        ..Roles::default()
    }
}

fuzz_target!(|data: &[u8]| {
    let [choice, block, text @ ..] = data else { return };
    let found = scanned(text, usize::from(*block) + 1);
    assert_eq!(found.as_ref().ok(), plain(text).as_ref(), "{found:?}");
    assert_eq!(scanned(text, text.len().max(1)), found, "in one block");

    fs::write(&*PLACE, text).unwrap();
    let dialect = Dialect { header: false, comment: Some(b'#'), ..Dialect::default() };
    let paths = Paths::Path(vec![PLACE.clone()]);
    let selection = Selection::of(Kinds::Csv(Files { paths, roles: roles(*choice), dialect }));
    let opened = || OpenFiles::of([DataFile::open(&PLACE).unwrap()]);
    // Blocks, what unpacks, and the values.
    let most = (16 << 20) + 3 * 1032 * 64 * text.len();
    let (_caller, wanted) = Wanted::by_caller();
    let judged = bounded(most, || selection.judge(&opened(), &wanted));
    let loaded = bounded(most, || selection.open(&opened(), None));
    match (judged, loaded) {
        (Ok(judged), Ok(sets)) => {
            assert_eq!(judged.preparation, sets.preparation);
            let facts = sets.train.facts().clone();
            assert_eq!(judged.train, facts);
            let mut batch = HostBatch::default();
            sets.train.fill(&(0..facts.examples).collect::<Vec<_>>(), &mut batch).unwrap();
            let inputs = facts.inputs.iter().zip(&batch.inputs);
            for (field, bytes) in inputs.chain([(&facts.target, &batch.targets)]) {
                assert_eq!(bytes.len() as u64, facts.examples * field.bytes());
                if field.dtype == Dtype::F32 {
                    assert!(bytes.as_chunks().0.iter().all(|value| f32::from_le_bytes(*value).is_finite()));
                }
            }
            if facts.target.dtype == Dtype::I64 {
                let classes = batch.targets.as_chunks().0.iter().map(|value| i64::from_le_bytes(*value) as u64);
                assert!(classes.max().unwrap() + 1 == sets.preparation.classes.len() as u64);
            }
            // The preparation that was kept gives the same examples.
            let again = selection.open(&opened(), Some(sets.preparation.clone())).ok().unwrap();
            let mut other = HostBatch::default();
            again.train.fill(&(0..facts.examples).collect::<Vec<_>>(), &mut other).unwrap();
            assert!(batch.inputs == other.inputs && batch.targets == other.targets);
        }
        (Err(judged), Err(loaded)) => {
            assert_eq!(judged, loaded);
            let path = PLACE.to_str().unwrap();
            assert!(judged.iter().all(|fault| fault.problem.what.starts_with(path)), "{judged:?}");
        }
        (Ok(_), Err(loaded)) => panic!("{loaded:?}, and it was judged right"),
        (Err(judged), Ok(_)) => panic!("{judged:?}, and it can be loaded"),
    }
});
