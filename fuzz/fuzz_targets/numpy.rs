//! Arrays of NumPy, alone and in archives: what is judged is what is loaded, a header or a packing
//! that lies costs nothing, and arrays that were not damaged hold what was put into them.
//!
//! The first byte chooses between a file as it is and arrays that are made up, and between `.npy`
//! and `.npz`.

#![no_main]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use rawzip::{CompressionMethod, ZipArchiveWriter};
use torchd::dataset::{DataFile, Facts, Fault, Files, HostBatch, OpenFiles, Problem, Selection, npy, npz};
use torchd::gate::Wanted;
use torchd_fuzz::framed::{self, Damage};
use torchd_fuzz::memory::bounded;
use torchd_fuzz::scratch;

#[derive(Arbitrary, Debug)]
struct Made {
    is_compressed: bool,
    inputs: Array,
    damages: Vec<Damage>,
}

#[derive(Arbitrary, Debug)]
struct Array {
    is_wide: bool,
    is_big_endian: bool,
    is_fortran: bool,
    version: u8,
    sizes: [u8; 2],
    /// Another header.
    header: Option<Vec<u8>>,
    values: Vec<u8>,
}

/// Examples of the targets where nothing else is said.
const EXAMPLES: usize = 3;

struct Place {
    input: PathBuf,
    target: PathBuf,
    archive: PathBuf,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let folder = scratch::folder("numpy").canonicalize().unwrap();
    Place { input: folder.join("x.npy"), target: folder.join("y.npy"), archive: folder.join("set.npz") }
});

fn file(version: u8, header: &[u8], values: &[u8]) -> Vec<u8> {
    let length = (header.len() as u32).to_le_bytes();
    let length = if version == 1 { &length[..2] } else { &length };
    [b"\x93NUMPY", &[version, 0][..], length, header, values].concat()
}

/// A header as NumPy writes it.
fn header(descr: &str, is_fortran: bool, shape: &[usize]) -> Vec<u8> {
    let order = if is_fortran { "True" } else { "False" };
    let shape: String = shape.iter().map(|size| format!("{size}, ")).collect();
    format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape}), }}\n").into_bytes()
}

impl Array {
    /// The file, and the values row by row where it is a right one.
    fn file(&self) -> (Vec<u8>, Option<Vec<u8>>, usize) {
        let [rows, columns] = self.sizes.map(|size| usize::from(size) % 16);
        let version = self.version % 3 + 1;
        if let Some(header) = &self.header {
            return (file(version, header, &self.values), None, EXAMPLES);
        }
        let width = if self.is_wide { 8 } else { 2 };
        let mut values = self.values.clone();
        values.resize(rows * columns * width, 0);
        let order = if self.is_big_endian { '>' } else { '<' };
        let descr = format!("{order}i{width}");
        let whole: Vec<i64> = values
            .chunks(width)
            .map(|bytes| {
                let mut bytes = bytes.to_vec();
                if self.is_big_endian {
                    bytes.reverse();
                }
                match bytes[..] {
                    [low, high] => i16::from_le_bytes([low, high]).into(),
                    _ => i64::from_le_bytes(bytes.try_into().unwrap()),
                }
            })
            .collect();
        let value = |row: usize, column: usize| match self.is_fortran {
            true => whole[column * rows + row],
            false => whole[row * columns + column],
        };
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let expected = places.flat_map(|(row, column)| value(row, column).to_le_bytes()).collect();
        let header = header(&descr, self.is_fortran, &[rows, columns]);
        (file(version, &header, &values), (rows * columns > 0).then_some(expected), rows)
    }
}

fn archive(entries: [(&str, &[u8]); 2], is_compressed: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = ZipArchiveWriter::new(&mut bytes);
    for (name, content) in entries {
        let method = if is_compressed { CompressionMethod::DEFLATE } else { CompressionMethod::STORE };
        let (mut entry, config) = archive.new_file(name).compression_method(method).start().unwrap();
        let descriptor = if is_compressed {
            let packer = flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::fast());
            let mut writer = config.wrap(packer);
            writer.write_all(content).unwrap();
            let (packer, descriptor) = writer.finish().unwrap();
            packer.finish().unwrap();
            descriptor
        } else {
            let mut writer = config.wrap(&mut entry);
            writer.write_all(content).unwrap();
            writer.finish().unwrap().1
        };
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    bytes
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, rest)) = data.split_first() else { return };
    let place = &*PLACE;
    let is_archive = mode / 2 % 2 == 1;
    let (mut bytes, mut expected, examples, is_compressed, damages) = if mode % 2 == 0 {
        (rest.to_vec(), None, EXAMPLES, false, Vec::new())
    } else {
        let Ok(made) = Made::arbitrary_take_rest(Unstructured::new(rest)) else { return };
        let (bytes, expected, examples) = made.inputs.file();
        (bytes, expected, examples, made.is_compressed, made.damages)
    };
    let targets: Vec<u8> = (0..examples as i64).flat_map(i64::to_le_bytes).collect();
    let targets = file(1, &header("<i8", false, &[examples]), &targets);
    if is_archive && mode % 2 == 1 {
        bytes = archive([("x.npy", &bytes), ("y.npy", &targets)], is_compressed);
    }
    if !damages.is_empty() {
        expected = None;
        framed::damage(&mut bytes, &damages);
    }
    let (set, paths) = if is_archive {
        let files = npz::Files { paths: "".into(), inputs: Vec::new(), target: "y".into() };
        fs::write(&place.archive, &bytes).unwrap();
        (Files::Npz(files), vec![&place.archive])
    } else {
        fs::write(&place.input, &bytes).unwrap();
        fs::write(&place.target, &targets).unwrap();
        (Files::Npy(npy::Files { input: "".into(), target: Some("".into()) }), vec![&place.input, &place.target])
    };
    let set = Selection::of(set);
    let opened = || OpenFiles::of(paths.iter().map(|path| DataFile::open(path).unwrap()).collect::<Vec<_>>());
    // To judge takes a few buffers and the targets; to load what is there, eight bytes a value, and
    // up to three times that while vectors grow and columns become rows. DEFLATE packs 1032 bytes
    // into one at best.
    let (_caller, wanted) = Wanted::by_caller();
    let most = (4 << 20) + 5 * 8 * 1032 * (bytes.len() + targets.len());
    let judged = bounded(most, || set.judge(&opened(), &wanted)).map(|judged| judged.train).map_err(problems);
    let loaded = bounded(most, || set.open(&opened(), None)).map_err(problems);
    match (judged, loaded) {
        (Ok(facts), Ok(sets)) => {
            assert_eq!(sets.train.facts(), &facts);
            let mut batch = HostBatch::default();
            sets.train.fill(&(0..facts.examples).collect::<Vec<_>>(), &mut batch).unwrap();
            fits(&facts, &batch);
            if let Some(expected) = expected {
                assert_eq!(batch.inputs, [expected]);
            }
        }
        (Err(judged), Err(loaded)) => {
            assert!(expected.is_none(), "{loaded:?}");
            assert_eq!(judged, loaded);
            named(&loaded, &paths);
        }
        // Where much is promised the headers alone are judged.
        (Ok(facts), Err(loaded)) => {
            assert!(facts.examples.saturating_mul(facts.inputs[0].values()) >= 1 << 30, "{loaded:?}");
            named(&loaded, &paths);
        }
        (Err(judged), Ok(_)) => panic!("{judged:?}, and it can be loaded"),
    }
});

fn fits(facts: &Facts, batch: &HostBatch) {
    for (field, bytes) in facts.inputs.iter().zip(&batch.inputs).chain([(&facts.target, &batch.targets)]) {
        assert_eq!(bytes.len() as u64, facts.examples * field.bytes(), "{field:?}");
    }
}

fn problems(faults: Vec<Fault>) -> Vec<Problem> {
    faults.into_iter().map(|fault| fault.problem).collect()
}

/// Each problem says with which file, and what is wrong with it.
fn named(problems: &[Problem], paths: &[&PathBuf]) {
    assert!(!problems.is_empty());
    for problem in problems {
        let rest = paths.iter().find_map(|path: &&PathBuf| {
            let path: &Path = path;
            problem.what.strip_prefix(path.to_str()?)
        });
        assert!(rest.is_some_and(|rest| rest.len() > 5), "{problem:?}");
    }
}
