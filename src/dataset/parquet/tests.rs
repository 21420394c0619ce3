//! Parquet, right and wrong.

mod values;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use ::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use ::parquet::schema::parser::parse_message_type;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::draw::numbers;
use super::super::table::roles::{Missing, MissingRule, TargetType};
use super::super::{
    Access, Division, Dtype, Facts, Files as Kinds, HostBatch, Judged, OpenFiles, Sampling, Selection, Sets, Source,
    Split,
};
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
    assert!(told.contains("pets.parquet row 2, column \"kind\": the value is missing"), "{told}");
    assert!(told.ends_with("(and 1 more row of this column: row 5)"), "{told}");
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
fn columns_of_a_codec_that_is_not_read_are_refused_by_name() {
    for (file, codec) in [("lz4", "LZ4"), ("brotli", "BROTLI")] {
        let (_folder, path) = folder();
        fs::copy(format!("tests/data/parquet/{file}.parquet"), &path).unwrap();
        let told = judge(Roles { ignore: vec![], ..roles("y") }, &path).unwrap_err();
        assert!(told.contains("column \"a\" is compressed with ") && told.contains(codec), "{told}");
        assert!(told.contains("write it with zstd, snappy or gzip"), "{told}");
    }
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
fn several_targets_are_numbers_whatever_the_first_holds() {
    let (_folder, path) = folder();
    write(&path, 2, Compression::SNAPPY);
    for targets in [["kind", "age"], ["age", "kind"]] {
        let several = Roles { targets: names(&targets), features: names(&["tame"]), ..roles("") };
        let told = judge(several, &path).unwrap_err();
        assert!(told.contains("column \"kind\": holds words; several targets are numbers"), "{told}");
    }
    let several = Roles { targets: names(&["chip", "age"]), features: names(&["tame"]), ..roles("") };
    assert_eq!(judge(several, &path).unwrap().train.target.shape, [2]);
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
        match judge(roles(), &path) {
            Err(told) => assert!(told.contains("pets.parquet"), "byte {place}: {told}"),
            // Values are no promises: another number is one.
            Ok(judged) => assert_eq!(judged.train.examples, 6, "byte {place}"),
        }
    }
}

/// Rows of drawn values in two files, their row groups of these sizes: of each column about a sixth
/// of the values that may be missing are.
fn write_drawn(place: &Path, seed: u64, sizes: [&[usize]; 2]) -> Vec<PathBuf> {
    let schema = "message rows {
        required int64 a; optional double b; optional binary kind (UTF8); required binary part (UTF8); required int32 y;
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    // Pages of a few rows, so that runs begin within pages and between them.
    let properties = WriterProperties::builder().set_data_page_row_count_limit(5).set_write_batch_size(5);
    let properties = Arc::new(properties.build());
    let mut drawn = numbers(seed);
    let mut below = |most: u64| drawn.next().unwrap() % most;
    let paths = ["one.parquet", "two.parquet"].map(|name| place.join(name));
    for (path, sizes) in paths.iter().zip(sizes) {
        let mut writer =
            SerializedFileWriter::new(fs::File::create(path).unwrap(), schema.clone(), properties.clone()).unwrap();
        for &rows in sizes {
            let mut group = writer.next_row_group().unwrap();
            let mut next = |put: &mut dyn FnMut(&mut SerializedColumnWriter<'_>)| {
                let mut column = group.next_column().unwrap().unwrap();
                put(&mut column);
                column.close().unwrap();
            };
            let levels =
                |below: &mut dyn FnMut(u64) -> u64| (0..rows).map(|_| i16::from(below(6) > 0)).collect::<Vec<_>>();
            let present = |levels: &[i16]| levels.iter().filter(|level| **level > 0).count();
            let whole: Vec<_> = (0..rows).map(|_| below(1000) as i64 - 500).collect();
            next(&mut |column| assert!(column.typed::<Int64Type>().write_batch(&whole, None, None).is_ok()));
            let is_there = levels(&mut below);
            let floats: Vec<_> = (0..present(&is_there)).map(|_| below(1 << 20) as f64 / 64.0).collect();
            next(&mut |column| {
                assert!(column.typed::<DoubleType>().write_batch(&floats, Some(&is_there), None).is_ok())
            });
            let is_there = levels(&mut below);
            let words: Vec<_> = (0..present(&is_there)).map(|_| format!("k{}", below(9)).as_str().into()).collect();
            next(&mut |column| {
                assert!(column.typed::<ByteArrayType>().write_batch(&words, Some(&is_there), None).is_ok())
            });
            let parts = ["train", "validation", "test", "train"];
            let parts: Vec<_> = (0..rows).map(|_| ByteArray::from(parts[below(4) as usize])).collect();
            next(&mut |column| assert!(column.typed::<ByteArrayType>().write_batch(&parts, None, None).is_ok()));
            let classes: Vec<_> = (0..rows).map(|_| below(4) as i32).collect();
            next(&mut |column| assert!(column.typed::<Int32Type>().write_batch(&classes, None, None).is_ok()));
            group.close().unwrap();
        }
        writer.close().unwrap();
    }
    paths.to_vec()
}

/// The examples of a set in their order, read as it wants to be.
fn examples(set: &dyn Source) -> (Vec<Vec<u8>>, Vec<u8>) {
    let all = [set.facts().examples];
    let ends = match set.access() {
        Access::Shards { ends, .. } => ends,
        Access::Memory | Access::Single => &all,
    };
    assert!(ends.is_sorted_by(|one, other| one < other) && ends.last() == all.last(), "{ends:?}");
    let (mut read, mut batch) = ((vec![Vec::new(); set.facts().inputs.len()], Vec::new()), HostBatch::default());
    for (begin, end) in [0].iter().chain(ends).zip(ends) {
        set.fill(&(*begin..*end).collect::<Vec<_>>(), &mut batch).unwrap();
        read.0.iter_mut().zip(&batch.inputs).for_each(|(all, part)| all.extend(part));
        read.1.extend(&batch.targets);
    }
    read
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_table_in_shards_gives_what_the_same_in_memory_gives(
        (seed, one, two) in (any::<u64>(), vec(1usize..40, 1..4), vec(1usize..90, 1..3)),
        (memory_bytes, by) in (0u64..2000, 0usize..3),
        (is_class, measure, division) in (any::<bool>(), any::<bool>(), 0usize..6),
    ) {
        let (_folder, place) = folder();
        let paths = write_drawn(place.parent().unwrap(), seed, [&one, &two]);
        let rule = |column: &str, by| MissingRule { columns: names(&[column]), by };
        let missing = match by {
            0 => vec![rule("kind", Missing::Drop), rule("b", Missing::Mean)],
            1 => vec![rule("b", Missing::Drop), rule("kind", Missing::Drop)],
            _ => vec![rule("b", Missing::Constant(7.5)), rule("kind", Missing::Drop)],
        };
        let by_column = division == 5;
        let roles = Roles {
            missing,
            target_type: is_class.then_some(TargetType::Classes),
            categorical: names(&["kind"]),
            ignore: if by_column { vec![] } else { names(&["part"]) },
            ..Roles::default()
        };
        let roles = Roles { targets: names(&["y"]), ..roles };
        let fraction = |stratify| Split::Fraction { fraction: 0.3, seed, stratify };
        let division = match division {
            0 => Division::default(),
            1 => Division { split: None, limit: Some(seed % 50 + 1) },
            2 | 3 => Division { split: Some(fraction(false)), limit: None },
            4 => Division { split: Some(fraction(is_class)), limit: Some(60) },
            _ => Division { split: Some(Split::Column("part".into())), limit: None },
        };
        let files = Files { paths: Paths::Paths(paths.clone()), roles };
        let open = |memory_bytes| {
            let selection = Selection {
                division: division.clone(),
                measure,
                memory_bytes,
                ..Selection::of(Kinds::Parquet(files.clone()))
            };
            let opened: Vec<_> = paths.iter().map(|path| DataFile::open(path).unwrap()).collect();
            selection.open(&OpenFiles::of(opened), None)
        };
        let (whole, shards) = (open(None), open(Some(memory_bytes)));
        let (whole, mut shards) = match (whole, shards) {
            (Ok(whole), Ok(shards)) => (whole, shards),
            (whole, shards) => {
                prop_assert_eq!(whole.err(), shards.err());
                return Ok(());
            }
        };
        let is_larger = memory_bytes < 4 * (4 + u64::from(by_column)) * (one.iter().chain(&two).sum::<usize>() as u64);
        prop_assert_eq!(matches!(shards.train.access(), Access::Shards { .. }), is_larger);
        if is_larger {
            prop_assert!(shards.notes.pop().unwrap().contains("are read in shards"));
        }
        prop_assert_eq!(&whole.preparation, &shards.preparation);
        prop_assert_eq!(&whole.notes, &shards.notes);
        prop_assert_eq!(whole.validation.is_some(), shards.validation.is_some());
        let pairs = [Some((whole.train, shards.train)), whole.validation.zip(shards.validation)];
        for (whole, shards) in pairs.into_iter().flatten() {
            prop_assert_eq!(&Facts { is_resident: !is_larger, ..whole.facts().clone() }, shards.facts());
            prop_assert_eq!(examples(whole.as_ref()), examples(shards.as_ref()));
        }
    }
}

#[test]
fn mistakes_in_shards_are_told_with_file_and_row_and_a_file_that_shrinks_with_its_name() {
    let (_folder, place) = folder();
    let paths = write_drawn(place.parent().unwrap(), 3, [&[30, 30], &[40]]);
    let open = |roles: Roles, memory_bytes| {
        let files = Files { paths: Paths::Paths(paths.clone()), roles };
        let selection = Selection { memory_bytes: Some(memory_bytes), ..Selection::of(Kinds::Parquet(files)) };
        let opened: Vec<_> = paths.iter().map(|path| DataFile::open(path).unwrap()).collect();
        selection.open(&OpenFiles::of(opened), None)
    };
    let roles = |by| Roles {
        targets: names(&["y"]),
        features: names(&["a", "b"]),
        missing: vec![MissingRule { columns: vec![], by }],
        ..Roles::default()
    };
    let told = |roles| open(roles, 100).err().unwrap().remove(0).problem.what;
    let refused = told(roles(Missing::Refuse));
    assert!(
        refused.contains("one.parquet row ") && refused.contains("column \"b\": the value is missing"),
        "{refused}"
    );
    let sampling = Some(Sampling::BalanceClasses);
    let files = Kinds::Parquet(Files { paths: Paths::Paths(paths.clone()), roles: roles(Missing::Drop) });
    let sampled = Selection { sampling, memory_bytes: Some(100), ..Selection::of(files) };
    let (_caller, wanted) = Wanted::by_caller();
    let opened = || OpenFiles::of(paths.iter().map(|path| DataFile::open(path).unwrap()).collect::<Vec<_>>());
    let faults = sampled.judge(&opened(), &wanted).unwrap_err();
    assert!(faults[0].problem.file == "sampling" && faults[0].problem.what.contains("read in shards"), "{faults:?}");
    let judged = Selection { sampling: None, ..sampled }.judge(&opened(), &wanted).unwrap();
    assert!(judged.notes[0].contains("the training data are read in shards"), "{:?}", judged.notes);
    assert_eq!(judged.memory_bytes, 2 * (100 / 8), "a window, and as much ahead of it");
    let sets = open(roles(Missing::Drop), 100).ok().unwrap();
    assert_eq!(sets.train.facts(), &judged.train);
    let Access::Shards { ends, .. } = sets.train.access() else { panic!("in memory") };
    let last = (ends[ends.len() - 2]..ends[ends.len() - 1]).collect::<Vec<_>>();
    let cut = fs::OpenOptions::new().write(true).open(&paths[1]).unwrap();
    cut.set_len(10).unwrap();
    let problem = sets.train.fill(&last, &mut HostBatch::default()).unwrap_err();
    assert!(problem.file == "paths" && problem.what.contains("two.parquet"), "{problem:?}");
}

/// Puts a footer in the place of that of a file.
fn put_footer(file: &mut Vec<u8>, about: &ParquetMetaData) {
    // Places in the file count from its beginning, so that the new one stands in for the old one.
    let (rest, [length @ .., _, _, _, _]) = file.split_last_chunk::<8>().unwrap();
    let data = rest.len() - u32::from_le_bytes(*length) as usize;
    file.truncate(data);
    ParquetMetaDataWriter::new(file, about).finish().unwrap();
}

#[test]
fn row_groups_that_promise_more_rows_than_can_be_counted_are_refused() {
    let (_folder, path) = folder();
    write(&path, 5, Compression::SNAPPY);
    let mut file = fs::read(&path).unwrap();
    let about = ParquetMetaDataReader::new().parse_and_finish(&fs::File::open(&path).unwrap()).unwrap();
    // The writer adds them up as signed numbers; those below zero count for none here.
    let promised = [i64::MAX, -i64::MAX, i64::MAX, -i64::MAX, i64::MAX];
    let groups = about.row_groups().iter().cloned().zip(promised);
    let groups = groups.map(|(group, rows)| group.into_builder().set_num_rows(rows).build().unwrap()).collect();
    let about = about.into_builder().set_row_groups(groups).build();
    put_footer(&mut file, &about);
    fs::write(&path, &file).unwrap();
    let kept = Roles { features: names(&["age", "tame"]), ..roles("chip") };
    let told = judge(kept, &path).unwrap_err();
    assert!(told.contains("is damaged: its footer promises 9223372036854775807 rows, and its row groups"), "{told}");
}

#[test]
fn footers_that_promise_fewer_rows_than_there_are_are_refused() {
    let (_folder, path) = folder();
    write(&path, 2, Compression::SNAPPY);
    let mut file = fs::read(&path).unwrap();
    let about = ParquetMetaDataReader::new().parse_and_finish(&fs::File::open(&path).unwrap()).unwrap();
    let groups = about.row_groups().iter().cloned();
    let groups = groups.map(|group| group.into_builder().set_num_rows(2).build().unwrap()).collect();
    let about = about.into_builder().set_row_groups(groups).build();
    put_footer(&mut file, &about);
    fs::write(&path, &file).unwrap();
    let told = judge(Roles { features: names(&["age", "tame"]), ..roles("chip") }, &path).unwrap_err();
    assert!(told.contains("promises 2 rows in group 0, and 3 values of its column \"age\""), "{told}");
}
