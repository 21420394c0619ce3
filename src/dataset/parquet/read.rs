//! From Parquet files to a table: row groups in their order, in blocks of rows.
//!
//! A row group is decoded by itself, with nothing but the layout of the table.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ::parquet::errors::{ParquetError, Result as Decoded};
use ::parquet::file::reader::{ChunkReader, FileReader, Length};
use ::parquet::file::serialized_reader::SerializedFileReader;
use ::parquet::schema::types::SchemaDescriptor;
use bytes::Bytes;

use super::super::table::layout::{Apart, Layout, Slot, same_columns};
use super::super::table::roles::{Roles, TargetType};
use super::super::table::{Batch, Table, unreadable, wrong_with};
use super::super::{DataFile, Depth, Problem, Reading, WHOLE_BELOW_BYTES};
use super::columns::{Kind, Lane, kind};
use crate::looks::{HEAD_BYTES, looks_like};

/// Rows that are decoded at a time.
const BLOCK_ROWS: u64 = 8192;
/// Values that a request reads at most: a small file may unpack to many.
const MOST_JUDGED_VALUES: u64 = 1 << 26;
/// The largest footer.
const MOST_FOOTER_BYTES: u64 = 1 << 28;
/// The first and last bytes of a file, and of one that is encrypted.
const MAGIC: &[u8; 4] = b"PAR1";
const ENCRYPTED: &[u8; 4] = b"PARE";
/// Rows, as messages call them; they are counted from 0.
const ROW: &str = "row";

/// Reads the files; the roles are those of a spec.
pub(super) fn table(files: &[DataFile], roles: &Roles, reading: &Reading<'_>) -> Result<Table, Vec<Problem>> {
    let opened: Vec<_> = files.iter().map(Opened::of).collect::<Result<_, _>>()?;
    let [first, others @ ..] = &opened[..] else { unreachable!("a set has a file at least") };
    for other in others {
        same_columns((first.path, &first.names), (other.path, &other.names))?;
    }
    let (roles, apart) = (roles.in_files(&first.names, reading), Apart::of(reading));
    let layout = Layout::of(first.path, &first.names, &roles, first.target_type(&roles), &apart)?;
    let (slots, taken) = (layout.slots.clone(), layout.columns.len() as u64);
    let wrong: Vec<_> = opened.iter().flat_map(|file| file.judge(&slots)).collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut table = Table::new(layout, first.names.clone(), roles, apart, ROW);
    let rows: u64 = opened.iter().map(|file| file.rows).sum();
    let bytes: u64 = opened.iter().map(|file| file.size).sum();
    let is_whole =
        reading.depth == Depth::Train || bytes < WHOLE_BELOW_BYTES && rows.saturating_mul(taken) < MOST_JUDGED_VALUES;
    let share = (MOST_JUDGED_VALUES / taken.max(1) / opened.len() as u64).max(1);
    for file in &opened {
        file.read(&slots, &mut table, if is_whole { u64::MAX } else { share }, reading)?;
    }
    table.finish(opened.iter().map(|file| file.size).collect(), reading)?;
    table.estimate = (!is_whole).then_some(rows);
    Ok(table)
}

/// A file whose footer is read.
struct Opened<'a> {
    path: &'a Path,
    reader: SerializedFileReader<Chunks>,
    /// The columns at the root of its schema ...
    names: Vec<String>,
    /// ... and the leaf of each; None of one that is nested.
    leaves: Vec<Option<usize>>,
    rows: u64,
    size: u64,
}

impl<'a> Opened<'a> {
    fn of(file: &'a DataFile) -> Result<Self, Vec<Problem>> {
        let path = file.path();
        let cannot = |error: io::Error| vec![unreadable(path, &error)];
        let size = file.metadata().map_err(cannot)?.len();
        let chunks = Chunks { file: Arc::new(file.reader().map_err(cannot)?), size };
        judge_ends(path, &chunks)?;
        let reader = guarded(path, || SerializedFileReader::new(chunks))?;
        let about = reader.metadata();
        let (names, leaves) = columns(about.file_metadata().schema_descr());
        let rows = about.row_groups().iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).sum();
        Ok(Self { path, reader, names, leaves, rows, size })
    }

    fn kind(&self, column: usize) -> Result<Kind, &'static str> {
        match self.leaves.get(column).copied().flatten() {
            Some(leaf) => kind(&self.reader.metadata().file_metadata().schema_descr().column(leaf)),
            None => Err("is nested; every value has to be one number or word"),
        }
    }

    /// The kind of the target: that of the spec, or else that of its column.
    fn target_type(&self, roles: &Roles) -> TargetType {
        let column = |name: &String| self.names.iter().position(|known| known == name);
        let kind = roles.targets.first().and_then(column).and_then(|column| self.kind(column).ok());
        roles.target_type.unwrap_or(match kind {
            Some(Kind::Words) => TargetType::Classes,
            Some(Kind::Numbers) | None => TargetType::Numbers,
        })
    }

    /// Tells the columns whose values cannot be taken.
    fn judge(&self, slots: &[Slot]) -> Vec<Problem> {
        let mut wrong = Vec::new();
        for (column, (slot, name)) in slots.iter().zip(&self.names).enumerate() {
            let what = match (slot, self.kind(column)) {
                (Slot::Skip, _) | (Slot::Numbers { .. }, Ok(Kind::Numbers)) | (Slot::Words { .. }, Ok(_)) => continue,
                (Slot::Numbers { .. }, Ok(Kind::Words)) => {
                    "holds words; a column of words has to be listed in `categorical` or `ignore`"
                }
                (Slot::Numbers { .. } | Slot::Words { .. }, Err(what)) => what,
            };
            wrong.push(wrong_with(self.path, format!("column {name:?}: {what}")));
        }
        wrong
    }

    /// Reads rows into a table, no more than so many.
    fn read(&self, slots: &[Slot], table: &mut Table, most: u64, reading: &Reading<'_>) -> Result<(), Vec<Problem>> {
        table.places.file(self.path);
        let (mut first, mut left) = (0, most);
        for group in 0..self.reader.num_row_groups() {
            let rows = u64::try_from(self.reader.metadata().row_group(group).num_rows()).unwrap_or(0);
            self.read_group(group, first, rows.min(left), slots, table, reading)?;
            first += rows;
            left -= rows.min(left);
            if left == 0 || table.is_full() {
                break;
            }
        }
        Ok(())
    }

    /// Reads the first rows of a row group, which begins with that row of the file.
    fn read_group(
        &self,
        group: usize,
        first: u64,
        rows: u64,
        slots: &[Slot],
        table: &mut Table,
        reading: &Reading<'_>,
    ) -> Result<(), Vec<Problem>> {
        let lanes = || {
            let group = self.reader.get_row_group(group)?;
            let leaves = slots.iter().zip(&self.leaves).filter_map(|(slot, leaf)| Some((*slot, (*leaf)?)));
            let lanes = leaves.map(|(slot, leaf)| Lane::of(group.as_ref(), leaf, slot));
            lanes.filter_map(Decoded::transpose).collect::<Decoded<Vec<_>>>()
        };
        let mut lanes = guarded(self.path, lanes)?;
        let mut begin = 0;
        while begin < rows && !table.is_full() {
            reading.wanted.check().map_err(|error| vec![unreadable(self.path, &error)])?;
            let count = (rows - begin).min(BLOCK_ROWS);
            let mut batch = Batch { rows: count as usize, ..Batch::default() };
            table.begin_rows(batch.rows);
            guarded(self.path, || lanes.iter_mut().try_for_each(|lane| lane.decode(table, &mut batch)))?;
            table.keep_rows(self.path, first + begin, &mut batch);
            begin += count;
        }
        Ok(())
    }
}

/// The columns at the root of a schema, and the leaf of each that is no group.
fn columns(schema: &SchemaDescriptor) -> (Vec<String>, Vec<Option<usize>>) {
    let fields = schema.root_schema().get_fields();
    let mut leaves = vec![None; fields.len()];
    for leaf in 0..schema.num_columns() {
        let root = schema.get_column_root_idx(leaf);
        if fields.get(root).is_some_and(|field| field.is_primitive()) {
            leaves[root] = Some(leaf);
        }
    }
    (fields.iter().map(|field| field.name().to_owned()).collect(), leaves)
}

/// Refuses a file that is no Parquet, or breaks off, by its first and last bytes.
fn judge_ends(path: &Path, chunks: &Chunks) -> Result<(), Vec<Problem>> {
    let refuse = |what: String| Err(vec![wrong_with(path, what)]);
    let read = |at: u64, count: u64| {
        let mut bytes = vec![0; count.min(chunks.size - at) as usize];
        chunks.file.read_exact_at(&mut bytes, at).map(|()| bytes).map_err(|error| vec![unreadable(path, &error)])
    };
    let head = read(0, HEAD_BYTES as u64)?;
    if !head.starts_with(MAGIC) {
        if head.starts_with(ENCRYPTED) {
            return refuse("is encrypted".into());
        }
        let looks = looks_like(&head).map_or(String::new(), |looks| format!("; it looks like {looks}"));
        return refuse(format!("is no Parquet file{looks}"));
    }
    match read(chunks.size.saturating_sub(8), 8)?[..] {
        [a, b, c, d, ref magic @ ..] if magic == MAGIC => {
            let footer = u64::from(u32::from_le_bytes([a, b, c, d]));
            if footer > MOST_FOOTER_BYTES {
                return refuse(format!("has a footer of {footer} bytes; {MOST_FOOTER_BYTES} at most are read"));
            }
            Ok(())
        }
        _ => refuse("is cut off: it does not end as a Parquet file does".into()),
    }
}

/// Calls the decoder, which may panic on files that are damaged.
fn guarded<T>(path: &Path, decode: impl FnOnce() -> Decoded<T>) -> Result<T, Vec<Problem>> {
    let what = match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(decoded)) => return Ok(decoded),
        Ok(Err(ParquetError::External(cause))) => match cause.downcast::<io::Error>() {
            Ok(error) => return Err(vec![unreadable(path, &error)]),
            Err(cause) => cause.to_string(),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => "its pages cannot be decoded".into(),
    };
    Err(vec![wrong_with(path, format!("is damaged, or of a kind that is not read: {what}"))])
}

/// A file that is read at places, as readers of several columns have no position in common.
struct Chunks {
    file: Arc<File>,
    size: u64,
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<FromPlace>;

    fn get_read(&self, start: u64) -> Decoded<Self::T> {
        Ok(BufReader::new(FromPlace { file: self.file.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Decoded<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Err(ParquetError::EOF(format!("there are no {length} bytes at {start} of {}", self.size)));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start).map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(bytes.into())
    }
}

/// The bytes of a file from a place on.
struct FromPlace {
    file: Arc<File>,
    at: u64,
}

impl Read for FromPlace {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
