//! Parquet, right and wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use ::parquet::schema::parser::parse_message_type;

use super::super::table::roles::{Missing, MissingRule, TargetType};
use super::super::{Dtype, Files as Kinds, HostBatch, Judged, OpenFiles, Selection, Sets};
use super::*;
use crate::gate::Wanted;

const SCHEMA: &str = "message pets {
    required int32 age; optional double weight; required boolean tame; optional binary kind (UTF8);
    required int64 born (TIMESTAMP_MILLIS); required int32 price (DECIMAL(9, 2)); required int64 chip (UINT_64);
    required group home { required int32 rooms; }
}";

/// Writes row groups of three pets each.
fn write(path: &Path, groups: usize, compression: Compression) {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut writer = SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, properties).unwrap();
    for group in 0..groups as i32 {
        let mut row_group = writer.next_row_group().unwrap();
        let mut next = |put: &dyn Fn(&mut SerializedColumnWriter<'_>) -> usize| {
            let mut column = row_group.next_column().unwrap().unwrap();
            put(&mut column);
            column.close().unwrap();
        };
        let ages = [1 + group, 2 + group, 3 + group];
        next(&|column| column.typed::<Int32Type>().write_batch(&ages, None, None).unwrap());
        next(&|column| column.typed::<DoubleType>().write_batch(&[4.5, 20.0], Some(&[1, 0, 1]), None).unwrap());
        next(&|column| column.typed::<BoolType>().write_batch(&[true, false, true], None, None).unwrap());
        let kinds = [ByteArray::from("dog"), ByteArray::from("cat")];
        next(&|column| column.typed::<ByteArrayType>().write_batch(&kinds, Some(&[1, 1, 0]), None).unwrap());
        next(&|column| column.typed::<Int64Type>().write_batch(&[0, 1, 2], None, None).unwrap());
        next(&|column| column.typed::<Int32Type>().write_batch(&[100, 200, 300], None, None).unwrap());
        next(&|column| column.typed::<Int64Type>().write_batch(&[0, 1, -1], None, None).unwrap());
        next(&|column| column.typed::<Int32Type>().write_batch(&[1, 2, 3], None, None).unwrap());
        row_group.close().unwrap();
    }
    writer.close().unwrap();
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn selection(roles: Roles) -> Selection {
    Selection::of(Kinds::Parquet(Files::<PathBuf> { paths: Paths::Path(vec![]), roles }))
}

/// Roles without columns that cannot be read.
fn roles(target: &str) -> Roles {
    Roles { targets: names(&[target]), ignore: names(&["born", "price", "home"]), ..Roles::default() }
}

fn judge(roles: Roles, file: &Path) -> Result<Judged, String> {
    let (_caller, wanted) = Wanted::by_caller();
    let judged = selection(roles).judge(&OpenFiles::of([DataFile::open(file).unwrap()]), &wanted);
    let told = |faults: Vec<super::super::Fault>| {
        faults
            .into_iter()
            .map(|fault| format!("{}: {}", fault.problem.file, fault.problem.what))
            .collect::<Vec<_>>()
            .join("\n")
    };
    judged.map_err(told)
}

fn open(roles: Roles, file: &Path) -> Sets {
    selection(roles).open(&OpenFiles::of([DataFile::open(file).unwrap()]), None).ok().unwrap()
}

fn batch(sets: &mut Sets) -> (Vec<f32>, Vec<u8>) {
    let mut batch = HostBatch::default();
    let places: Vec<_> = (0..sets.train.facts().examples).collect();
    sets.train.fill(&places, &mut batch).unwrap();
    (batch.inputs[0].as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect(), batch.targets)
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().join("pets.parquet");
    (folder, path)
}

#[test]
fn values_are_read_whatever_packs_their_pages() {
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
    ] {
        let (_folder, path) = folder();
        write(&path, 2, compression);
        let missing = vec![MissingRule { columns: names(&["weight"]), by: Missing::Mean }];
        let kept = Roles { missing, features: names(&["weight", "tame", "chip"]), ..roles("age") };
        let mut sets = open(kept, &path);
        assert_eq!((sets.train.facts().examples, &sets.train.facts().inputs[0].shape[..]), (6, &[3][..]));
        let most = u64::MAX as f32;
        let group = [4.5, 1.0, 0.0, 12.25, 0.0, 1.0, 20.0, 1.0, most];
        let (inputs, targets) = batch(&mut sets);
        assert_eq!(inputs, [group, group].concat());
        let ages = [1f32, 2.0, 3.0, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat();
        assert_eq!(targets, ages);
    }
}

#[test]
fn words_are_classes_and_rows_without_them_are_told_or_dropped() {
    let (_folder, path) = folder();
    write(&path, 2, Compression::SNAPPY);
    let features = names(&["age"]);
    let told = judge(Roles { features: features.clone(), ..roles("kind") }, &path).unwrap_err();
    for row in ["row 2", "row 5"] {
        assert!(told.contains(&format!("pets.parquet {row}, column \"kind\": the value is missing")), "{told}");
    }
    let missing = vec![MissingRule { columns: vec![], by: Missing::Drop }];
    let mut sets = open(Roles { features, missing, ..roles("kind") }, &path);
    let (inputs, targets) = batch(&mut sets);
    assert_eq!((inputs, targets), (vec![1.0, 2.0, 2.0, 3.0], [1i64, 0, 1, 0].map(i64::to_le_bytes).concat()));
    assert_eq!(sets.preparation.classes, names(&["cat", "dog"]));
    // Whole numbers are classes where the spec says so.
    let classes = Roles { features: names(&["tame"]), target_type: Some(TargetType::Classes), ..roles("age") };
    let mut sets = open(classes, &path);
    assert_eq!(sets.train.facts().target.dtype, Dtype::I64);
    assert_eq!(batch(&mut sets).1, [0i64, 1, 2, 1, 2, 3].map(i64::to_le_bytes).concat());
}

#[test]
fn columns_that_are_no_numbers_are_refused_by_name() {
    let (_folder, path) = folder();
    write(&path, 1, Compression::SNAPPY);
    let told = judge(Roles { ignore: vec![], ..roles("age") }, &path).unwrap_err();
    for words in [
        "path: ",
        "column \"born\": is a date or time; make it numbers",
        "column \"price\": holds decimals; cast them",
        "column \"kind\": holds words; a column of words has to be listed",
        "column \"home\": is nested",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let told = judge(roles("ages"), &path).unwrap_err();
    assert!(told.contains("target: ") && told.contains("has no column \"ages\"; did you mean \"age\"?"), "{told}");
}

#[test]
fn files_that_are_damaged_are_refused_and_never_read_in_part() {
    let (_folder, path) = folder();
    write(&path, 2, Compression::SNAPPY);
    let whole = fs::read(&path).unwrap();
    let roles = || Roles { features: names(&["age", "tame"]), ..roles("chip") };
    assert_eq!(judge(roles(), &path).unwrap().train.examples, 6);
    for cut in (0..whole.len()).filter(|cut| *cut < 9 || cut % 17 == 0) {
        fs::write(&path, &whole[..cut]).unwrap();
        let told = judge(roles(), &path).unwrap_err();
        let words = if cut < 4 { "is no Parquet file" } else { "is cut off" };
        assert!(told.contains(words), "{cut} bytes: {told}");
    }
    fs::write(&path, b"x,y\n1,2\n").unwrap();
    assert!(judge(roles(), &path).unwrap_err().contains("is no Parquet file; it looks like text"));
    // A footer that promises what is not there costs nothing.
    for place in (0..whole.len()).step_by(3) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0xff;
        fs::write(&path, &damaged).unwrap();
        if let Err(told) = judge(roles(), &path) {
            assert!(told.contains("pets.parquet"), "byte {place}: {told}");
        }
    }
}
