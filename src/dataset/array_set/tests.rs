//! Sets whose arrays stay in their files are those that are in memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ::safetensors::Dtype as Written;
use ::safetensors::tensor::TensorView;
use proptest::prelude::*;

use super::super::npy::tests::npy;
use super::super::paths::Paths;
use super::super::{
    Access, DataFile, Facts, Fault, Files, HostBatch, OpenFiles, Sampling, Selection, Sets, Source, Split, idx,
    named_arrays, npy as arrays,
};
use super::*;
use crate::gate::Wanted;
use crate::shortage::Unjudged;

/// Bytes of memory that leave nothing but labels there.
const FEW: u64 = 1000;

fn paths(of: &[PathBuf]) -> Paths<PathBuf> {
    Paths::Paths(of.to_vec())
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.canonicalize().unwrap().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn open(selection: &Selection) -> Result<Sets, Vec<Fault>> {
    let files = selection.train.paths().into_iter().map(|path| DataFile::open(path).unwrap()).collect::<Vec<_>>();
    selection.open(&OpenFiles::of(files), None)
}

fn batch(source: &dyn Source, places: &[u64]) -> HostBatch {
    // A batch that was used before.
    let mut batch = HostBatch { inputs: vec![vec![7; 3]], targets: vec![7] };
    source.fill(places, &mut batch).unwrap();
    batch
}

/// The facts without those that only reading all values tells, and where the values are.
fn told(facts: &Facts) -> Facts {
    let mut told = Facts { is_resident: true, ..facts.clone() };
    told.inputs.iter_mut().filter(|input| input.dtype == Dtype::F32).for_each(|input| input.range = None);
    told
}

/// Holds a set that stays in its files against the same in memory.
fn assert_alike(selection: &Selection, places: &[u64]) {
    let (memory, files) = (open(selection).ok().unwrap(), {
        let few = Selection { memory_bytes: Some(FEW), ..selection.clone() };
        open(&few).ok().unwrap()
    });
    assert_eq!((memory.train.access(), files.train.access()), (Access::Memory, Access::Single));
    assert_eq!(files.train.ahead_bytes(), Some(FEW / 8));
    assert_eq!(memory.preparation, files.preparation);
    assert_eq!(memory.validation.is_some(), files.validation.is_some());
    for (memory, files) in
        [(&memory.train, &files.train)].into_iter().chain(memory.validation.as_ref().zip(files.validation.as_ref()))
    {
        assert_eq!((told(memory.facts()), false), (told(files.facts()), files.facts().is_resident));
        let count = memory.facts().examples;
        let places: Vec<_> = places.iter().map(|place| place % count).collect();
        for places in [&places[..], &(0..count).collect::<Vec<_>>()] {
            let (memory, files) = (batch(memory.as_ref(), places), batch(files.as_ref(), places));
            assert_eq!((memory.inputs, memory.targets), (files.inputs, files.targets));
        }
    }
    assert_eq!(
        memory.train.chances().map(|chances| chances.draw(50, 1)),
        files.train.chances().map(|chances| chances.draw(50, 1))
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_read_from_their_files_as_they_are_in_memory(
        rows in prop::collection::vec(20u64..200, 1..4),
        // Examples of a few bytes and of some kilobytes, so that runs have gaps and ends.
        (columns, type_of) in (prop_oneof![2u64..8, 700u64..900], 0usize..6),
        places in prop::collection::vec(0u64..600, 1..60),
        (measure, is_split) in any::<(bool, bool)>(),
    ) {
        let (descr, width) = [("<f4", 4), (">f4", 4), ("<f8", 8), ("|u1", 1), (">i2", 2), ("<i8", 8)][type_of];
        let folder = tempfile::tempdir().unwrap();
        let (mut inputs, mut targets, mut next) = (Vec::new(), Vec::new(), 0u64);
        for (number, rows) in rows.iter().enumerate() {
            let value = |value: u64| match descr {
                "<f4" => (value as f32).to_le_bytes().to_vec(),
                ">f4" => (value as f32).to_be_bytes().to_vec(),
                "<f8" => (value as f64).to_le_bytes().to_vec(),
                ">i2" => (value as i16).to_be_bytes().to_vec(),
                "<i8" => value.to_le_bytes().to_vec(),
                _ => vec![value as u8],
            };
            let values: Vec<u8> = (next..next + rows * columns).flat_map(value).collect();
            prop_assert_eq!(values.len() as u64, rows * columns * width);
            next += rows * columns;
            inputs.push(put(folder.path(), &format!("x{number}"), &npy(descr, "False", &format!("({rows}, {columns})"), &values)));
            let classes: Vec<u8> = (0..*rows as i64).flat_map(|row| (row % 3).to_le_bytes()).collect();
            targets.push(put(folder.path(), &format!("y{number}"), &npy("<i8", "False", &format!("({rows},)"), &classes)));
        }
        let files = arrays::Files { input: paths(&inputs), target: Some(paths(&targets)) };
        let mut selection = Selection { measure, ..Selection::of(Files::Npy(files)) };
        if is_split {
            selection.division.split = Some(Split::Fraction { fraction: 0.3, seed: 5, stratify: true });
        }
        // Less than the inputs take: they stay in their files.
        if rows.iter().sum::<u64>() * (columns + 8) > 2 * FEW {
            assert_alike(&selection, &places);
        }
    }
}

#[test]
fn arrays_of_every_format_stay_in_their_files_where_they_lie_there_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let floats: Vec<u8> = (0..400u16).flat_map(|value| f32::from(value).to_le_bytes()).collect();
    let classes: Vec<u8> = (0..100i64).flat_map(|row| (row % 4).to_le_bytes()).collect();
    let weights: Vec<u8> = (0..100u8).flat_map(|row| f32::from(row).to_le_bytes()).collect();
    let view = |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
    let views = BTreeMap::from([
        ("x", view(Written::F32, &[100, 4], &floats[..])),
        // Tokens have to be read all the same, and so has a target as large as this.
        ("t", view(Written::I64, &[100, 1], &classes)),
        ("y", view(Written::I64, &[100, 1], &classes)),
        ("w", view(Written::F32, &[100], &weights)),
    ]);
    let path = put(folder.path(), "set.safetensors", &::safetensors::serialize(views, None).unwrap());
    let files = named_arrays::Files { paths: path.into(), inputs: vec![], target: "y".into() };
    let selection = Selection::of(Files::Safetensors(files));
    assert_alike(&selection, &[5, 99, 5, 0, 98]);
    let weighed = Selection { sampling: Some(Sampling::Weights("w".into())), ..selection.clone() };
    assert_alike(&weighed, &[5, 99, 5, 0, 98]);
    let tokens = open(&Selection { memory_bytes: Some(FEW), ..selection }).ok().unwrap().train;
    assert_eq!(
        (tokens.facts().inputs[0].range, tokens.facts().inputs[2].range),
        (super::super::Range::of((0..4).map(i64::from), 1), None)
    );

    let entries =
        [("x.npy", npy("<f4", "False", "(100, 4)", &floats)), ("y.npy", npy("<i8", "False", "(100,)", &classes))];
    let path = put(folder.path(), "set.npz", &super::super::npz::tests::archive(&entries, false));
    let npz = super::super::npz::Files { paths: path.into(), inputs: vec![], target: "y".into() };
    assert_alike(&Selection::of(Files::Npz(npz)), &[42, 41, 0, 3]);

    let images = [&[0, 0, 8, 3, 0, 0, 0, 100, 0, 0, 0, 4, 0, 0, 0, 4][..], &floats].concat();
    let labels = [&[0, 0, 8, 1, 0, 0, 0, 100][..], &[0, 1, 2, 9].repeat(25)].concat();
    let (images, labels) = (put(folder.path(), "images", &images), put(folder.path(), "labels", &labels));
    let idx = idx::Files { images: images.into(), labels: Some(labels.into()) };
    assert_alike(&Selection { measure: true, ..Selection::of(Files::Idx(idx)) }, &[0, 99, 1]);
}

/// A set of 100 rows of eight numbers, whose values and order are these.
fn set(folder: &Path, order: &str, values: &[f32]) -> Selection {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let input = put(folder, "x.npy", &npy("<f4", order, "(100, 8)", &bytes));
    let target = put(folder, "y.npy", &npy("|u1", "False", "(100,)", &[1; 100]));
    let files = arrays::Files { input: input.into(), target: Some(target.into()) };
    Selection { memory_bytes: Some(FEW), ..Selection::of(Files::Npy(files)) }
}

#[test]
fn values_that_a_batch_cannot_hold_and_a_file_that_shrinks_are_told_when_they_are_met() {
    let folder = tempfile::tempdir().unwrap();
    let mut values = vec![1.0; 800];
    values[41 * 8 + 3] = f32::NAN;
    let selection = set(folder.path(), "False", &values);
    let source = open(&selection).ok().unwrap().train;
    let fill = |places: &[u64]| source.fill(places, &mut HostBatch::default());
    fill(&[40, 42]).unwrap();
    let path = folder.path().canonicalize().unwrap().join("x.npy");
    let words =
        format!("{} holds NaN in \"x\", in the example 41 counted from 0; every value must be finite", path.display());
    for places in [&[41][..], &[3, 41, 2], &[40, 41, 42]] {
        let problem = fill(places).unwrap_err();
        assert_eq!((problem.file.as_ref(), problem.what.as_str(), problem.unjudged), ("input", &*words, None));
    }
    // Where all rows are measured it shows before.
    let measured = open(&Selection { measure: true, ..selection });
    assert_eq!(measured.err().unwrap()[0].problem.what, words);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(path.metadata().unwrap().len() - 1).unwrap();
    fill(&[98]).unwrap();
    let problem = fill(&[99, 0]).unwrap_err();
    assert_eq!(problem.unjudged, Some(Unjudged::Changed));
    let words = format!("{} has changed since it was opened: it has become shorter", path.display());
    assert_eq!(problem.what, words);
}

#[test]
fn arrays_that_are_read_as_a_whole_are_refused_with_a_remedy_where_no_memory_holds_them() {
    let folder = tempfile::tempdir().unwrap();
    let told = |selection: &Selection| {
        let files: Vec<_> = selection.train.paths().into_iter().map(|path| DataFile::open(path).unwrap()).collect();
        let (_caller, wanted) = Wanted::by_caller();
        let judged = selection.judge(&OpenFiles::of(files), &wanted).map(|judged| judged.memory_bytes);
        let opened = open(selection).map(|sets| sets.train.access() == Access::Memory);
        let words = |faults: Vec<Fault>| faults.into_iter().map(|fault| fault.problem.what).collect::<String>();
        (judged.map_err(words), opened.map_err(words))
    };
    let columns = set(folder.path(), "True", &[1.0; 800]);
    let path = folder.path().canonicalize().unwrap().join("x.npy");
    let words = |remedy: &str| {
        let what = "which takes 3200 bytes of memory, as it is read as a whole, and the job has 2000";
        format!("{} has \"x\", {what}; {remedy}, so that rows can be read one by one", path.display())
    };
    let refused = words("save np.ascontiguousarray of it");
    assert_eq!(told(&columns), (Err(refused.clone()), Err(refused)));
    // What fits all memory, though not the share of data, is read as a whole as ever.
    let fits = Selection { memory_bytes: Some(2500), ..columns };
    assert_eq!(told(&fits), (Ok(4000), Ok(true)));
    let rows = set(folder.path(), "False", &[1.0; 800]);
    // The labels, a number for each row, and what is read ahead.
    assert_eq!(told(&rows), (Ok(800 + 400 + FEW / 8), Ok(false)));
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &fs::read(&path).unwrap()).unwrap();
    fs::write(&path, packed.finish().unwrap()).unwrap();
    let refused = words("unpack it");
    assert_eq!(told(&rows), (Err(refused.clone()), Err(refused)));
}
