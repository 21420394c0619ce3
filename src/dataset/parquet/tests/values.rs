//! Values of every type over several blocks: each is the one that was written, as a 32-bit float.

use ::parquet::data_type::{DataType, FloatType};

use super::*;

const SCHEMA: &str = "message rows {
    required double a; optional double b; required float c; optional float d; required int64 e;
    required int64 f (UINT_64); required int32 g; required int32 h (UINT_32); optional boolean i; required int32 y;
}";
const COLUMNS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
/// Several blocks of these columns, and a row more.
const ROWS: usize = 4 * 820 + 1;
/// It stands for values that are missing.
const MISSING: f32 = -77.25;

/// Bits that mean a number below the largest 32-bit float, small ones and zeros among them.
fn finite(bits: u64) -> f64 {
    let value = f64::from_bits(bits);
    match bits % 7 {
        0 => -0.0,
        1 => f64::from(f32::from_bits((bits >> 40) as u32 & 0x3f_ffff)),
        2 => f64::from(f32::MAX),
        _ if (value as f32).is_finite() => value,
        _ => bits as f64 / 2f64.powi(40),
    }
}

/// Writes a column whose values that are missing are None; what a table has to hold of it.
fn put<T: DataType>(
    column: &mut SerializedColumnWriter<'_>,
    values: &[Option<T::T>],
    single: impl Fn(&T::T) -> f32,
) -> Vec<f32> {
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let present: Vec<T::T> = values.iter().flatten().cloned().collect();
    column.typed::<T>().write_batch(&present, Some(&levels), None).unwrap();
    values.iter().map(|value| value.as_ref().map_or(MISSING, &single)).collect()
}

/// Writes a file; its columns. `is_there` says which of the rows has a value where none is needed.
fn write_values(path: &Path, seed: u64, is_there: impl Fn(usize) -> bool) -> Vec<Vec<f32>> {
    let mut drawn = numbers(seed);
    let mut draw = || (0..ROWS).map(|_| drawn.next().unwrap()).collect::<Vec<u64>>();
    let properties = WriterProperties::builder().set_data_page_row_count_limit(700).set_write_batch_size(100);
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, properties.build().into()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut expected = Vec::new();
    let mut place = 0;
    while let Some(mut column) = group.next_column().unwrap() {
        let is_optional = matches!(place, 1 | 3 | 8);
        let bits = draw().into_iter().enumerate().map(|(row, bits)| (!is_optional || is_there(row)).then_some(bits));
        let bits: Vec<Option<u64>> = bits.collect();
        fn each<T>(bits: &[Option<u64>], value: impl Fn(u64) -> T) -> Vec<Option<T>> {
            bits.iter().map(|bits| bits.map(&value)).collect()
        }
        expected.push(match place {
            0 | 1 => put::<DoubleType>(&mut column, &each(&bits, finite), |value| *value as f32),
            2 | 3 => put::<FloatType>(&mut column, &each(&bits, |bits| finite(bits) as f32), |value| *value),
            4 => put::<Int64Type>(&mut column, &each(&bits, |bits| bits as i64), |value| *value as f32),
            5 => put::<Int64Type>(&mut column, &each(&bits, |bits| bits as i64), |value| *value as u64 as f32),
            6 | 9 => put::<Int32Type>(&mut column, &each(&bits, |bits| bits as i32), |value| *value as f32),
            7 => put::<Int32Type>(&mut column, &each(&bits, |bits| bits as i32), |value| *value as u32 as f32),
            _ => put::<BoolType>(&mut column, &each(&bits, |bits| bits & 1 > 0), |value| f32::from(u8::from(*value))),
        });
        column.close().unwrap();
        place += 1;
    }
    group.close().unwrap();
    writer.close().unwrap();
    expected
}

fn bits(values: impl IntoIterator<Item = f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn every_value_is_the_one_that_was_written_whatever_is_missing_beside_it() {
    let (_folder, path) = folder();
    let rule = MissingRule { columns: vec![], by: Missing::Constant(MISSING.into()) };
    let roles = Roles { targets: names(&["y"]), missing: vec![rule], ..Roles::default() };
    // All of them, none in some blocks, a single one missing at a block's end, every third.
    for is_there in [|_| true, |row| row > 2000, |row| row != 1639, |row: usize| !row.is_multiple_of(3)] {
        let columns = write_values(&path, 7, is_there);
        let (inputs, targets) = batch(&mut open(roles.clone(), &path));
        let rows = (0..ROWS).flat_map(|row| columns[..COLUMNS.len()].iter().map(move |column| column[row]));
        assert_eq!(bits(inputs), bits(rows));
        let targets = targets.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value));
        assert_eq!(bits(targets), bits(columns[COLUMNS.len()].iter().copied()));
    }
}

#[test]
fn a_value_beyond_32_bits_is_told_with_its_row_and_not_a_number_is_missing() {
    for (value, words) in [
        (1e39, Some("1e39 is beyond 32-bit floats, which end at 3.4e38")),
        (f64::INFINITY, Some("inf is not finite")),
        (f64::NAN, None),
    ] {
        let (_folder, path) = folder();
        let schema = Arc::new(parse_message_type("message rows { required double x; required double y; }").unwrap());
        let mut writer =
            SerializedFileWriter::new(fs::File::create(&path).unwrap(), schema, Default::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let values: Vec<f64> = (0..10_000).map(|row| if row == 9000 { value } else { f64::from(row) }).collect();
        while let Some(mut column) = group.next_column().unwrap() {
            // The target has all.
            let values = if column.typed::<DoubleType>().get_descriptor().name() == "x" {
                values.clone()
            } else {
                vec![0.5; 10_000]
            };
            column.typed::<DoubleType>().write_batch(&values, None, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        let told = judge(Roles { targets: names(&["y"]), ..Roles::default() }, &path).unwrap_err();
        let words = words.unwrap_or("the value is missing");
        assert!(told.contains(&format!("pets.parquet row 9000, column \"x\": {words}")), "{told}");
        let missing = vec![MissingRule { columns: vec![], by: Missing::Constant(0.25) }];
        if value.is_nan() {
            let (inputs, _) = batch(&mut open(Roles { targets: names(&["y"]), missing, ..Roles::default() }, &path));
            assert_eq!(inputs[8999..9002], [8999.0, 0.25, 9001.0]);
        }
    }
}
