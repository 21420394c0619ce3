//! The columns of a row group, decoded in blocks of rows into a table.

use ::parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::DataType;
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::reader::RowGroupReader;
use ::parquet::schema::types::ColumnDescriptor;

use super::super::table::layout::Slot;
use super::super::table::{Batch, Table};

/// The kind of the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Whole numbers, floats, and booleans as 1 and 0.
    Numbers,
    /// Texts.
    Words,
}

const TIME: &str = "is a date or time; make it numbers, such as days or year and month, or list the column in `ignore`";

/// The kind of a column, or what it is instead and what would be right.
pub(super) fn kind(column: &ColumnDescriptor) -> std::result::Result<Kind, &'static str> {
    if column.max_rep_level() > 0 {
        return Err("is a list; every value has to be one number or word");
    }
    match column.logical_type_ref() {
        Some(LogicalType::Decimal(_)) => return Err("holds decimals; cast them to a 64-bit float"),
        Some(LogicalType::Date | LogicalType::Time(_) | LogicalType::Timestamp(_)) => return Err(TIME),
        _ => {}
    }
    match column.converted_type() {
        ConvertedType::DECIMAL => return Err("holds decimals; cast them to a 64-bit float"),
        ConvertedType::DATE
        | ConvertedType::TIME_MILLIS
        | ConvertedType::TIME_MICROS
        | ConvertedType::TIMESTAMP_MILLIS
        | ConvertedType::TIMESTAMP_MICROS
        | ConvertedType::INTERVAL => return Err(TIME),
        _ => {}
    }
    match column.physical_type() {
        Physical::BOOLEAN | Physical::INT32 | Physical::INT64 | Physical::FLOAT | Physical::DOUBLE => Ok(Kind::Numbers),
        Physical::INT96 => Err(TIME),
        Physical::BYTE_ARRAY => Ok(Kind::Words),
        Physical::FIXED_LEN_BYTE_ARRAY => Err("holds bytes of a fixed length; cast 16-bit floats to 32-bit ones"),
    }
}

/// A column of a row group, and the place of its values in a table.
pub(super) struct Lane {
    reader: ColumnReader,
    slot: Slot,
    levels: Vec<i16>,
    /// The level of a value that is there; 0 where all are.
    present: i16,
    is_unsigned: bool,
}

impl Lane {
    /// The lane of a leaf; None of a column that is not taken.
    pub(super) fn of(group: &dyn RowGroupReader, leaf: usize, slot: Slot) -> Result<Option<Self>> {
        if matches!(slot, Slot::Skip | Slot::Text { .. }) {
            return Ok(None);
        }
        let about = group.metadata().column(leaf).column_descr();
        let is_unsigned = match about.logical_type_ref() {
            Some(LogicalType::Integer(kind)) => !kind.is_signed,
            _ => matches!(
                about.converted_type(),
                ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64
            ),
        };
        let present = about.max_def_level();
        Ok(Some(Self { reader: group.get_column_reader(leaf)?, slot, levels: Vec::new(), present, is_unsigned }))
    }

    /// Leaves rows out.
    pub(super) fn skip(&mut self, rows: usize) -> Result<()> {
        let skipped = match &mut self.reader {
            ColumnReader::BoolColumnReader(reader) => reader.skip_records(rows),
            ColumnReader::Int32ColumnReader(reader) => reader.skip_records(rows),
            ColumnReader::Int64ColumnReader(reader) => reader.skip_records(rows),
            ColumnReader::Int96ColumnReader(reader) => reader.skip_records(rows),
            ColumnReader::FloatColumnReader(reader) => reader.skip_records(rows),
            ColumnReader::DoubleColumnReader(reader) => reader.skip_records(rows),
            ColumnReader::ByteArrayColumnReader(reader) => reader.skip_records(rows),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => reader.skip_records(rows),
        }?;
        if skipped < rows { Err(too_few()) } else { Ok(()) }
    }

    /// Decodes the next rows into those that a table has begun.
    pub(super) fn decode(&mut self, table: &mut Table, batch: &mut Batch) -> Result<()> {
        let Self { reader, slot, levels, present, is_unsigned } = self;
        let (present, is_unsigned) = (*present, *is_unsigned);
        let mut into = Cells { table, batch, slot: *slot };
        let into = &mut into;
        match reader {
            ColumnReader::BoolColumnReader(reader) => {
                let single = |value: &bool| f32::from(u8::from(*value));
                each(reader, levels, present, into, single, |into, row, value| into.whole(row, (*value).into()))
            }
            ColumnReader::Int32ColumnReader(reader) => {
                let single = |value: &i32| if is_unsigned { *value as u32 as f32 } else { *value as f32 };
                each(reader, levels, present, into, single, |into, row, value| {
                    into.whole(row, if is_unsigned { (*value as u32).into() } else { (*value).into() });
                })
            }
            ColumnReader::Int64ColumnReader(reader) => {
                let single = |value: &i64| if is_unsigned { *value as u64 as f32 } else { *value as f32 };
                each(reader, levels, present, into, single, |into, row, value| {
                    into.whole(row, if is_unsigned { (*value as u64).into() } else { (*value).into() });
                })
            }
            ColumnReader::FloatColumnReader(reader) => {
                each(reader, levels, present, into, |value| *value, |into, row, value| into.float(row, (*value).into()))
            }
            ColumnReader::DoubleColumnReader(reader) => {
                let single = |value: &f64| *value as f32;
                each(reader, levels, present, into, single, |into, row, value| into.float(row, *value))
            }
            ColumnReader::ByteArrayColumnReader(reader) => {
                each(reader, levels, present, into, |_| f32::NAN, |into, row, value| into.word(row, value.data()))
            }
            ColumnReader::Int96ColumnReader(_) | ColumnReader::FixedLenByteArrayColumnReader(_) => {
                Err(ParquetError::General("a column is of another type than its footer says".into()))
            }
        }
    }
}

/// Hands out the values of the rows of a batch, and notes the rows that have none. A column of numbers
/// that all are `single` ones is taken as a whole.
fn each<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    levels: &mut Vec<i16>,
    present: i16,
    into: &mut Cells<'_>,
    single: impl Fn(&T::T) -> f32,
    mut take: impl FnMut(&mut Cells<'_>, usize, &T::T),
) -> Result<()> {
    let rows = into.batch.rows;
    let mut values = Vec::with_capacity(rows);
    levels.clear();
    let mut read = 0;
    while read < rows {
        let levels = (present > 0).then_some(&mut *levels);
        let (records, ..) = reader.read_records(rows - read, levels, None, &mut values)?;
        if records == 0 {
            return Err(too_few());
        }
        read += records;
    }
    if let Slot::Numbers { slot, .. } = into.slot
        && values.len() == rows
        // Without a way out, the loop is one over several values at once.
        && values.iter().fold(true, |all, value| all & single(value).is_finite())
    {
        into.table.set_numbers(slot, values.iter().map(single));
        return Ok(());
    }
    if present == 0 {
        values.iter().take(rows).enumerate().for_each(|(row, value)| take(into, row, value));
        return Ok(());
    }
    let mut values = values.iter();
    for (row, level) in levels.iter().take(rows).enumerate() {
        match (*level == present).then(|| values.next()).flatten() {
            Some(value) => take(into, row, value),
            None => into.missing(row),
        }
    }
    Ok(())
}

fn too_few() -> ParquetError {
    ParquetError::EOF("a column has fewer values than its row group has rows".into())
}

/// The cells of a column in the rows that a table has begun.
struct Cells<'a> {
    table: &'a mut Table,
    batch: &'a mut Batch,
    slot: Slot,
}

impl Cells<'_> {
    fn missing(&mut self, row: usize) {
        if let Some(column) = self.slot.column() {
            self.batch.missing.push((row, column));
        }
    }

    fn whole(&mut self, row: usize, value: i128) {
        match self.slot {
            Slot::Numbers { slot, .. } => self.table.set_number(row, slot, value as f32),
            Slot::Words { .. } => self.word(row, value.to_string().as_bytes()),
            Slot::Skip | Slot::Text { .. } => {}
        }
    }

    fn float(&mut self, row: usize, value: f64) {
        if value.is_nan() {
            return self.missing(row);
        }
        match self.slot {
            Slot::Numbers { column, slot } => {
                let single = value as f32;
                if single.is_finite() {
                    return self.table.set_number(row, slot, single);
                }
                let what =
                    if value.is_finite() { "is beyond 32-bit floats, which end at 3.4e38" } else { "is not finite" };
                self.batch.mistakes.push((row, column, format!("{value:e} {what}")));
            }
            Slot::Words { .. } => self.word(row, value.to_string().as_bytes()),
            Slot::Skip | Slot::Text { .. } => {}
        }
    }

    fn word(&mut self, row: usize, word: &[u8]) {
        let Slot::Words { column, slot } = self.slot else { return };
        match self.table.word_number(column, word) {
            Ok(number) => self.table.set_word(row, slot, number),
            Err(wrong) => self.batch.mistakes.push((row, column, wrong.told(word))),
        }
    }
}
