//! Tables in Parquet files: what is judged of one is what training gets, and a table that was
//! written comes back.
//!
//! The first byte chooses the roles of the columns, and whether the bytes that follow are a file as
//! it is or a table that is written first.
//!
//! The decoder is not ours. It may panic, which is a mistake of the file, and it allocates what
//! headers of pages promise: files of strangers are judged in a process whose memory is limited.
//! There is no bound on memory here.

#![no_main]

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use parquet::basic::{Compression, Encoding};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int32Type};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use torchd::dataset::parquet::Files;
use torchd::dataset::paths::Paths;
use torchd::dataset::table::roles::{Missing, MissingRule, Roles, TargetType};
use torchd::dataset::{DataFile, Dtype, Files as Kinds, HostBatch, OpenFiles, Selection};
use torchd::gate::Wanted;
use torchd_fuzz::framed::{self, Damage};
use torchd_fuzz::{panics, scratch};

/// Tables of more rows cost time and nothing else.
const MANY_ROWS: i64 = 1 << 14;

static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
    panics::of_decoders_may_be_caught();
    scratch::folder("parquet").canonicalize().unwrap().join("table.parquet")
});

const SCHEMA: &str =
    "message table { required int32 a; required double b; required boolean c; optional binary d (UTF8); }";

#[derive(Arbitrary, Debug)]
struct Made {
    groups: Vec<Vec<(i32, f64, bool, Option<Vec<u8>>)>>,
    compression: u8,
    encoding: u8,
    is_second_version: bool,
    damages: Vec<Damage>,
}

impl Made {
    fn file(&self) -> Vec<u8> {
        let compression = match self.compression % 4 {
            0 => Compression::UNCOMPRESSED,
            1 => Compression::SNAPPY,
            2 => Compression::GZIP(Default::default()),
            _ => Compression::ZSTD(Default::default()),
        };
        let properties = WriterProperties::builder().set_compression(compression);
        let properties = properties.set_writer_version(match self.is_second_version {
            false => WriterVersion::PARQUET_1_0,
            true => WriterVersion::PARQUET_2_0,
        });
        let properties = match self.encoding % 3 {
            0 => properties,
            1 => properties.set_dictionary_enabled(false),
            _ => properties
                .set_dictionary_enabled(false)
                .set_column_encoding("a".into(), Encoding::DELTA_BINARY_PACKED)
                .set_column_encoding("b".into(), Encoding::BYTE_STREAM_SPLIT)
                .set_column_encoding("c".into(), Encoding::RLE)
                .set_column_encoding("d".into(), Encoding::DELTA_BYTE_ARRAY),
        };
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build())).unwrap();
        for rows in &self.groups {
            let mut group = writer.next_row_group().unwrap();
            let mut next = |put: &dyn Fn(&mut SerializedColumnWriter<'_>) -> usize| {
                let mut column = group.next_column().unwrap().unwrap();
                put(&mut column);
                column.close().unwrap();
            };
            let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
            let (mut d, mut levels) = (Vec::new(), Vec::new());
            for row in rows {
                a.push(row.0);
                b.push(row.1);
                c.push(row.2);
                d.extend(row.3.clone().map(ByteArray::from));
                levels.push(i16::from(row.3.is_some()));
            }
            next(&|column| column.typed::<Int32Type>().write_batch(&a, None, None).unwrap());
            next(&|column| column.typed::<DoubleType>().write_batch(&b, None, None).unwrap());
            next(&|column| column.typed::<BoolType>().write_batch(&c, None, None).unwrap());
            next(&|column| column.typed::<ByteArrayType>().write_batch(&d, Some(&levels), None).unwrap());
            group.close().unwrap();
        }
        writer.into_inner().unwrap()
    }

    /// The targets and the inputs where `a` is the target, and `b` and `c` are features.
    fn plain(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let rows = || self.groups.iter().flatten();
        let is_right = self.damages.is_empty() && rows().count() > 0 && rows().all(|row| (row.1 as f32).is_finite());
        is_right.then(|| {
            let targets = rows().flat_map(|row| (row.0 as f32).to_le_bytes()).collect();
            let inputs = rows().flat_map(|row| [row.1 as f32, row.2.into()]).flat_map(f32::to_le_bytes).collect();
            (targets, inputs)
        })
    }
}

/// The names of the columns at the root, where the decoder can tell them; None of too many rows.
fn columns() -> Option<Vec<String>> {
    let about = catch_unwind(AssertUnwindSafe(|| {
        let reader = SerializedFileReader::new(File::open(&*PLACE).unwrap()).ok()?;
        let about = reader.metadata();
        let fields = about.file_metadata().schema_descr().root_schema().get_fields();
        let names = fields.iter().map(|field| field.name().to_owned()).collect::<Vec<_>>();
        let rows = about.row_groups().iter().map(|group| group.num_rows().max(0));
        Some((names, rows.fold(0, i64::saturating_add)))
    }));
    match about {
        Ok(Some((_, rows))) if rows > MANY_ROWS => None,
        Ok(Some((names, _))) => Some(names),
        _ => Some(Vec::new()),
    }
}

/// Roles of columns: one is the target, and each other one a number, a word or nothing.
fn roles(choice: u8, names: &[String]) -> Roles {
    let target = usize::from(choice / 2) % names.len().max(1);
    let others = |is_taken: fn(usize) -> bool| {
        let others = names.iter().enumerate().filter(move |(place, _)| *place != target && is_taken(*place));
        others.map(|(_, name)| name.clone()).collect()
    };
    let by = [Missing::Refuse, Missing::Drop, Missing::Mean, Missing::Constant(0.5)][usize::from(choice >> 4 & 3)];
    Roles {
        targets: vec![names.get(target).cloned().unwrap_or("a".into())],
        target_type: [None, Some(TargetType::Classes), Some(TargetType::Numbers)][usize::from(choice >> 6) % 3],
        categorical: others(|place| place % 2 == 1),
        ignore: others(|place| place % 4 == 2),
        missing: vec![MissingRule { columns: Vec::new(), by }],
        ..Roles::default()
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    LazyLock::force(&PLACE);
    let (mut bytes, made) = match choice % 2 {
        0 => (rest.to_vec(), None),
        _ => {
            let Ok(made) = Made::arbitrary_take_rest(Unstructured::new(rest)) else { return };
            (made.file(), Some(made))
        }
    };
    let expected = made.as_ref().and_then(Made::plain);
    if let Some(made) = &made {
        framed::damage(&mut bytes, &made.damages);
    }
    fs::write(&*PLACE, &bytes).unwrap();
    let Some(names) = columns() else { return };
    let roles = match &expected {
        Some(_) => Roles {
            targets: vec!["a".into()],
            features: vec!["b".into(), "c".into()],
            target_type: Some(TargetType::Numbers),
            ..Roles::default()
        },
        None => roles(*choice, &names),
    };
    let paths = Paths::Path(vec![PLACE.clone()]);
    let selection = Selection::of(Kinds::Parquet(Files { paths, roles }));
    let opened = || OpenFiles::of([DataFile::open(&PLACE).unwrap()]);
    let (_caller, wanted) = Wanted::by_caller();
    match (selection.judge(&opened(), &wanted), selection.open(&opened(), None)) {
        (Ok(judged), Ok(sets)) => {
            assert_eq!(judged.preparation, sets.preparation);
            let facts = sets.train.facts().clone();
            assert_eq!(judged.train, facts);
            let mut batch = HostBatch::default();
            sets.train.fill(&(0..facts.examples).collect::<Vec<_>>(), &mut batch).unwrap();
            for (field, bytes) in facts.inputs.iter().zip(&batch.inputs).chain([(&facts.target, &batch.targets)]) {
                assert_eq!(bytes.len() as u64, facts.examples * field.bytes());
                if field.dtype == Dtype::F32 {
                    assert!(bytes.as_chunks().0.iter().all(|value| f32::from_le_bytes(*value).is_finite()));
                }
            }
            if let Some((targets, inputs)) = expected {
                assert!(batch.targets == targets && batch.inputs == [inputs]);
            }
        }
        (Err(judged), Err(loaded)) => {
            assert!(expected.is_none(), "{loaded:?}");
            assert_eq!(judged, loaded);
            let path = PLACE.to_str().unwrap();
            assert!(judged.iter().all(|fault| fault.problem.what.starts_with(path)), "{judged:?}");
        }
        (Ok(_), Err(loaded)) => panic!("{loaded:?}, and it was judged right"),
        (Err(judged), Ok(_)) => panic!("{judged:?}, and it can be loaded"),
    }
});
