//! Texts of two files: bytes and characters, windows of any size, whole or packed.
//!
//! The first bytes say how the rest is divided and cut. Held against a plain reader of its own.

#![no_main]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use torchd::dataset::paths::Paths;
use torchd::dataset::text::{Cut, Files, TextEncoding, Unit};
use torchd::dataset::{DataFile, Fault, Files as Kinds, HostBatch, OpenFiles, Selection};
use torchd::gate::Wanted;
use torchd_fuzz::memory::bounded;
use torchd_fuzz::scratch;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    is_byte: bool,
    context: u8,
    stride: u8,
    /// Whether the first file is packed.
    is_packed: bool,
    /// Bytes of the first file.
    first: u16,
    text: &'a [u8],
}

static PLACE: LazyLock<[PathBuf; 2]> = LazyLock::new(|| {
    let folder = scratch::folder("text").canonicalize().unwrap();
    ["a", "b"].map(|name| folder.join(name))
});

/// The tokens of a set and the characters that they stand for, by the plainest reader; None for
/// files that are none.
fn plain(files: [&[u8]; 2], unit: Unit, span: usize, stride: usize) -> Option<(Vec<Vec<i64>>, String)> {
    if files.iter().any(|file| file.is_empty()) {
        return None;
    }
    let windows = |length: usize| {
        (0..length).step_by(stride).map(move |begin| begin..begin + span).filter(move |window| window.end <= length)
    };
    match unit {
        Unit::Byte => {
            let all = files.concat();
            let rows = windows(all.len()).map(|window| all[window].iter().map(|&byte| byte.into()).collect());
            Some((rows.collect(), String::new()))
        }
        Unit::Character => {
            let mut all = Vec::new();
            for file in files {
                let text = std::str::from_utf8(file).ok()?;
                let text = text.strip_prefix('\u{feff}').unwrap_or(text);
                if text.is_empty() {
                    return None;
                }
                all.extend(text.chars());
            }
            // Those between examples and behind the last one are among them.
            let mut characters = all.clone();
            characters.sort_unstable();
            characters.dedup();
            let token = |character: &char| characters.binary_search(character).unwrap() as i64;
            let rows = windows(all.len()).map(|window| all[window].iter().map(token).collect());
            Some((rows.collect(), characters.iter().collect()))
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let (context, stride) = (u32::from(input.context).max(1), u32::from(input.stride).max(1));
    let unit = if input.is_byte { Unit::Byte } else { Unit::Character };
    let (first, second) = input.text.split_at(usize::from(input.first).min(input.text.len()));
    let packed = |text: &[u8]| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text).unwrap();
        packer.finish().unwrap()
    };
    let on_disk = if input.is_packed { packed(first) } else { first.to_vec() };
    fs::write(&PLACE[0], &on_disk).unwrap();
    fs::write(&PLACE[1], second).unwrap();
    let set = || {
        Selection::of(Kinds::Text(Files { paths: Paths::Paths(PLACE.to_vec()), unit, cut: Cut { context, stride } }))
    };
    let opened = || OpenFiles::of(PLACE.each_ref().map(|path| DataFile::open(path).unwrap()));
    let (_caller, wanted) = Wanted::by_caller();
    // A buffer, a number for each code point, and what unpacks: 1032 bytes of one at best, each of
    // which becomes a letter of four bytes at most, in a vector that grows.
    let most = (8 << 20) + 3 * 4 * 1032 * (on_disk.len() + second.len());
    let judged = bounded(most, || set().judge(&opened(), &wanted));
    let loaded = bounded(most, || set().open(&opened(), None));
    let sets = match (judged, loaded) {
        (Ok(judged), Ok(sets)) => {
            assert_eq!((&judged.train, &judged.preparation), (sets.train.facts(), &sets.preparation));
            Ok(sets)
        }
        (Err(judged), Err(loaded)) => {
            assert_eq!(judged, loaded);
            Err(judged)
        }
        (judged, loaded) => panic!("{:?} and {:?}", judged.err(), loaded.err()),
    };
    // A text that looks packed is taken for that, or refused, by its first bytes.
    let looks_packed = |bytes: &[u8]| bytes.starts_with(&[0x1f, 0x8b]) || torchd::looks::packed(bytes).is_some();
    let is_plain = !looks_packed(second) && !looks_packed(first);
    let expected = plain([first, second], unit, context as usize + 1, stride as usize);
    match sets {
        Ok(sets) => {
            let facts = sets.train.facts().clone();
            let mut batch = HostBatch::default();
            sets.train.fill(&(0..facts.examples).collect::<Vec<_>>(), &mut batch).unwrap();
            let numbers = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|&value| i64::from_le_bytes(value)).collect();
            let (inputs, targets): (Vec<i64>, Vec<i64>) = (numbers(&batch.inputs[0]), numbers(&batch.targets));
            assert_eq!((inputs.len() as u64, targets.len()), (facts.examples * u64::from(context), inputs.len()));
            let highest = facts.target.range.unwrap().highest;
            assert!(inputs.iter().chain(&targets).all(|token| (0..=highest).contains(token)));
            if is_plain {
                let (rows, characters) = expected.expect("it was read");
                let context = context as usize;
                assert_eq!(inputs, rows.iter().flat_map(|row| &row[..context]).copied().collect::<Vec<_>>());
                assert_eq!(targets, rows.iter().flat_map(|row| &row[1..]).copied().collect::<Vec<_>>());
                let kept = match unit {
                    Unit::Byte => TextEncoding::Byte,
                    Unit::Character => TextEncoding::Character { characters },
                };
                assert_eq!(sets.preparation.text, Some(kept));
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            for Fault { problem, .. } in &faults {
                let of_file = PLACE.iter().any(|path| problem.what.starts_with(path.to_str().unwrap()));
                assert!(of_file || problem.file == "context", "{problem:?}");
            }
            assert!(!is_plain || expected.is_none_or(|(rows, _)| rows.is_empty()), "{faults:?}");
        }
    }
});
