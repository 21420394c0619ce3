//! Answers as a table in a Parquet file. Its row groups have as many rows as are kept in memory.

use std::fs::File;
use std::io;
use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::Sink;
use super::answers::{Answers, Layout};
use super::columns::{Cells, Columns, Kind, class};
use crate::failure::{Failure, Result};

/// Cells that are kept before they are written as a row group. The writer keeps some hundred bytes
/// for each column of each group, so that groups of a wide table may not be small.
const MOST_CELLS: usize = 1 << 22;

/// A file that is being written.
pub(super) struct Groups<'a> {
    /// None once the file is closed.
    writer: Option<SerializedFileWriter<&'a File>>,
    layout: &'a Layout,
    /// The names of classes; empty where they have none.
    classes: &'a [String],
    /// Rows that are written.
    written: i64,
    /// Rows that are kept.
    rows: usize,
    /// The columns behind that of the row, as far as they are kept.
    columns: Vec<Kept>,
}

/// The cells of a column.
enum Kept {
    Words(Vec<ByteArray>),
    Whole(Vec<i64>),
    Numbers(Vec<f32>),
}

impl<'a> Groups<'a> {
    /// Writes the beginning of the file.
    pub(super) fn begin(file: &'a File, layout: &'a Layout, classes: &'a [String]) -> io::Result<Self> {
        let leaf = |name: &str, physical: Physical, converted: ConvertedType| {
            let leaf = Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
            leaf.with_converted_type(converted).build().map(Arc::new)
        };
        let (mut fields, mut columns) =
            (vec![leaf("row", Physical::INT64, ConvertedType::NONE).map_err(io::Error::other)?], Vec::new());
        for Columns { names, kind } in layout.columns(classes) {
            for name in names {
                let (physical, converted, kept) = match kind {
                    Kind::Name => (Physical::BYTE_ARRAY, ConvertedType::UTF8, Kept::Words(Vec::new())),
                    Kind::Class if !classes.is_empty() => {
                        (Physical::BYTE_ARRAY, ConvertedType::UTF8, Kept::Words(Vec::new()))
                    }
                    Kind::Class | Kind::Whole => (Physical::INT64, ConvertedType::NONE, Kept::Whole(Vec::new())),
                    Kind::Number => (Physical::FLOAT, ConvertedType::NONE, Kept::Numbers(Vec::new())),
                };
                fields.push(leaf(&name, physical, converted).map_err(io::Error::other)?);
                columns.push(kept);
            }
        }
        let schema = Type::group_type_builder("predictions").with_fields(fields).build().map_err(io::Error::other)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true)
            .build();
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties));
        let writer = Some(writer.map_err(io::Error::other)?);
        Ok(Self { writer, layout, classes, written: 0, rows: 0, columns })
    }

    /// Writes the rows that are kept.
    fn write(&mut self) -> std::result::Result<(), ParquetError> {
        let Some(writer) = self.writer.as_mut().filter(|_| self.rows > 0) else { return Ok(()) };
        let behind = self.written + self.rows as i64;
        let mut group = writer.next_row_group()?;
        let mut column = |cells: &Kept| -> std::result::Result<(), ParquetError> {
            let missing = || ParquetError::General("the schema has fewer columns".into());
            let mut column = group.next_column()?.ok_or_else(missing)?;
            match cells {
                Kept::Words(words) => column.typed::<ByteArrayType>().write_batch(words, None, None)?,
                Kept::Whole(numbers) => column.typed::<Int64Type>().write_batch(numbers, None, None)?,
                Kept::Numbers(numbers) => column.typed::<FloatType>().write_batch(numbers, None, None)?,
            };
            column.close()
        };
        column(&Kept::Whole((self.written..behind).collect()))?;
        self.columns.iter().try_for_each(column)?;
        group.close()?;
        for column in &mut self.columns {
            match column {
                Kept::Words(words) => words.clear(),
                Kept::Whole(numbers) => numbers.clear(),
                Kept::Numbers(numbers) => numbers.clear(),
            }
        }
        (self.written, self.rows) = (behind, 0);
        Ok(())
    }
}

impl Sink for Groups<'_> {
    fn add(&mut self, answers: &Answers) -> Result<()> {
        let size = answers.count();
        let mut columns = self.columns.iter_mut();
        for cells in answers.cells(self.layout)? {
            let width = match &cells {
                Cells::Whole(numbers) => numbers.len() / size,
                Cells::Numbers(numbers) => numbers.len() / size,
                Cells::Names(names) => names.len() / size,
            };
            for (place, column) in columns.by_ref().take(width).enumerate() {
                match (&cells, column) {
                    (Cells::Whole(numbers), Kept::Words(words)) => {
                        let named =
                            numbers.iter().skip(place).step_by(width).map(|&number| class(number, self.classes));
                        words.extend(named.map(|name| ByteArray::from(name.into_bytes())));
                    }
                    (Cells::Whole(numbers), Kept::Whole(kept)) => {
                        kept.extend(numbers.iter().skip(place).step_by(width))
                    }
                    (Cells::Numbers(numbers), Kept::Numbers(kept)) => {
                        kept.extend(numbers.iter().skip(place).step_by(width));
                    }
                    (Cells::Names(names), Kept::Words(kept)) => {
                        kept.extend(names.iter().skip(place).step_by(width).map(|name| name.as_str().into()));
                    }
                    (Cells::Numbers(_), Kept::Words(_) | Kept::Whole(_))
                    | (Cells::Whole(_), Kept::Numbers(_))
                    | (Cells::Names(_), Kept::Whole(_) | Kept::Numbers(_)) => {
                        unreachable!("columns are made for the cells of the layout")
                    }
                }
            }
        }
        self.rows += size;
        if self.rows * self.columns.len() < MOST_CELLS {
            return Ok(());
        }
        let written = self.write().map_err(io_error);
        written.map_err(Failure::storage("the predictions could not be written"))
    }

    fn finish(&mut self) -> io::Result<()> {
        self.write().map_err(io_error)?;
        self.writer.take().map_or(Ok(()), |writer| writer.close().map(drop).map_err(io_error))
    }
}

/// The error of the file, where it is one.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(cause) => io::Error::other(cause),
        },
        other => io::Error::other(other),
    }
}
