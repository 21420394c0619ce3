//! Records of CIFAR: what is judged from a file is what is loaded, and that is what a plain reader
//! finds.
//!
//! The first byte chooses the labels that are taken, and whether the bytes that follow are a file
//! as it is or the labels of records.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use torchd::dataset::cifar::{self, Classes};
use torchd::dataset::{DataFile, Files, HostBatch, OpenFiles, Selection};
use torchd::gate::Wanted;
use torchd_fuzz::memory::bounded;
use torchd_fuzz::scratch;

const IMAGE: usize = 3072;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| scratch::folder("cifar").canonicalize().unwrap().join("file"));

fuzz_target!(|data: &[u8]| {
    let Some((mode, rest)) = data.split_first() else { return };
    let (classes, before, at) = match mode % 3 {
        0 => (Classes::Ten, 1, 0),
        1 => (Classes::Twenty, 2, 0),
        _ => (Classes::Hundred, 2, 1),
    };
    let bytes = match mode / 3 % 2 {
        0 => rest.to_vec(),
        _ => rest.chunks_exact(before).flat_map(|labels| [labels, &[labels[0]; IMAGE]].concat()).collect(),
    };
    fs::write(&*FILE, &bytes).unwrap();
    let set = Selection::of(Files::Cifar(cifar::Files { paths: vec![PathBuf::new()], classes }));
    let opened = || OpenFiles::of([DataFile::open(&FILE).unwrap()]);
    let (_caller, wanted) = Wanted::by_caller();
    let records = bytes.chunks_exact(before + IMAGE);
    let is_right = !bytes.is_empty()
        && records.remainder().is_empty()
        && records.clone().all(|record| record[at] < classes.count());
    let judged = bounded((2 << 20) + bytes.len(), || set.judge(&opened(), &wanted));
    let loaded = bounded((2 << 20) + 4 * bytes.len(), || set.open(&opened(), None));
    let (judged, source) = match (judged, loaded) {
        (Ok(judged), Ok(loaded)) if is_right => (judged.train, loaded.train),
        (Err(judged), Err(loaded)) if !is_right => {
            assert_eq!(judged, loaded);
            let named = loaded.iter().all(|fault| fault.problem.what.starts_with(FILE.to_str().unwrap()));
            return assert!(named && !loaded.is_empty(), "{loaded:?}");
        }
        (judged, loaded) => panic!("{is_right}, {judged:?} and {:?}", loaded.is_ok()),
    };
    assert_eq!(source.facts(), &judged);
    let mut batch = HostBatch::default();
    source.fill(&(0..judged.examples).collect::<Vec<_>>(), &mut batch).unwrap();
    let labels: Vec<u8> = records.clone().flat_map(|record| i64::from(record[at]).to_le_bytes()).collect();
    let images: Vec<u8> = records.flat_map(|record| &record[before..]).copied().collect();
    assert!(batch.targets == labels && batch.inputs == [images]);
});
