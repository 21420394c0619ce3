//! From Parquet files to a table: row groups in their order, in blocks of rows; or any run of the
//! rows of a group, where the table is read in shards.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::basic::CompressionCodec;
use ::parquet::errors::{ParquetError, Result as Decoded};
use ::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use ::parquet::file::reader::{ChunkReader, FileReader, Length};
use ::parquet::file::serialized_reader::SerializedFileReader;
use ::parquet::schema::types::SchemaDescriptor;
use bytes::Bytes;

use super::super::table::layout::{Apart, Layout, Slot, same_columns};
use super::super::table::roles::{Roles, TargetType};
use super::super::table::shards::Runs;
use super::super::table::{Batch, Table, Tables, unreadable, wrong_with};
use super::super::{DataFile, Depth, Problem, Reading, WHOLE_BELOW_BYTES};
use super::columns::{Kind, Lane, kind};
use crate::looks::{HEAD_BYTES, looks_like};

/// Bytes of rows of a table that are decoded at a time: they stay in the cache of a core, while one
/// column after the other is put into them.
const BLOCK_BYTES: u64 = 1 << 15;
/// Rows of such a block, where they are long or short.
const BLOCK_ROWS: Range<u64> = 64..8192;
/// Values that a request reads at most: a small file may unpack to many.
const MOST_JUDGED_VALUES: u64 = 1 << 26;
/// The largest footer.
const MOST_FOOTER_BYTES: u64 = 1 << 28;
/// The first and last bytes of a file, and of one that is encrypted.
const MAGIC: &[u8; 4] = b"PAR1";
const ENCRYPTED: &[u8; 4] = b"PARE";
/// Rows, as messages call them; they are counted from 0.
const ROW: &str = "row";

/// Reads the files, which a spec names in that field; the roles are those of the spec.
pub(super) fn tables(
    files: &[DataFile],
    field: &'static str,
    roles: &Roles,
    reading: &Reading<'_>,
) -> Result<Tables, Vec<Problem>> {
    reading.demand_target(!roles.targets.is_empty(), "target")?;
    let opened: Vec<_> = files.iter().map(Opened::of).collect::<Result<_, _>>()?;
    let [first, others @ ..] = &opened[..] else { unreachable!("a set has a file at least") };
    for other in others {
        same_columns((&first.path, &first.names), (&other.path, &other.names))?;
    }
    let (roles, apart) = (roles.in_files(&first.names, reading), Apart::of(reading));
    let layout = Layout::of(&first.path, &first.names, &roles, first.target_type(&roles), &apart)?;
    let (slots, taken) = (layout.slots.clone(), layout.columns.len() as u64);
    let wrong: Vec<_> = opened.iter().flat_map(|file| file.judge(&slots, &roles)).collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut table = Table::new(field, layout, first.names.clone(), roles, apart, ROW);
    let rows = total(opened.iter().map(|file| file.rows));
    let sizes = || opened.iter().map(|file| file.size).collect();
    let of_shards = reading.memory_bytes.filter(|most| rows.saturating_mul(table.row_bytes()) > *most);
    if let (Some(most), Depth::Train) = (of_shards, reading.depth) {
        return Tables::in_shards(table, sizes(), Box::new(Groups::of(opened, slots)), most);
    }
    let bytes: u64 = opened.iter().map(|file| file.size).sum();
    let is_whole =
        reading.depth == Depth::Train || bytes < WHOLE_BELOW_BYTES && rows.saturating_mul(taken) < MOST_JUDGED_VALUES;
    let share = (MOST_JUDGED_VALUES / taken.max(1) / opened.len() as u64).max(1);
    for file in &opened {
        file.read(&slots, &mut table, if is_whole { u64::MAX } else { share }, reading)?;
    }
    table.finish(sizes(), (!is_whole).then_some(rows), reading)?;
    Ok(Tables::whole(table, of_shards))
}

/// The row groups of files.
struct Groups {
    files: Vec<Opened>,
    slots: Vec<Slot>,
    /// The file of each group, its number there, and the rows of the file before it.
    groups: Vec<(usize, usize, u64)>,
    /// The rows of all files up to the end of each group.
    ends: Vec<u64>,
}

impl Groups {
    fn of(files: Vec<Opened>, slots: Vec<Slot>) -> Self {
        let (mut groups, mut ends, mut end) = (Vec::new(), Vec::new(), 0);
        for (place, file) in files.iter().enumerate() {
            let mut before = 0;
            for (number, group) in file.reader.metadata().row_groups().iter().enumerate() {
                let rows = rows_of(group);
                groups.push((place, number, before));
                before = u64::saturating_add(before, rows);
                end = u64::saturating_add(end, rows);
                ends.push(end);
            }
        }
        Self { files, slots, groups, ends }
    }

    /// The file of a row, the group there, the first row of the group in the file, and the place of
    /// the row in the group.
    fn find(&self, row: u64) -> (&Opened, usize, u64, u64) {
        let at = self.ends.partition_point(|end| *end <= row).min(self.groups.len() - 1);
        let (file, group, before) = self.groups[at];
        let begin = at.checked_sub(1).map_or(0, |last| self.ends[last]);
        (&self.files[file], group, before, row - begin)
    }
}

impl Runs for Groups {
    fn groups(&self) -> &[u64] {
        &self.ends
    }

    fn read(&self, rows: Range<u64>, columns: Option<&[usize]>, into: &mut Table) -> Result<(), Vec<Problem>> {
        let (file, group, before, begin) = self.find(rows.start);
        let mut batch = Batch { rows: (rows.end - rows.start) as usize, ..Batch::default() };
        into.places.file(&file.path);
        into.begin_rows(batch.rows);
        guarded(&file.path, || {
            let group = file.reader.get_row_group(group)?;
            let is_wanted =
                |slot: Slot| slot.column().is_some_and(|column| columns.is_none_or(|all| all.contains(&column)));
            // One after the other: pages of all of a wide table at once would take much memory.
            for (slot, leaf) in file.leaves_of(&self.slots).filter(|(slot, _)| is_wanted(*slot)) {
                if let Some(mut lane) = Lane::of(group.as_ref(), leaf, slot)? {
                    lane.skip(begin as usize)?;
                    lane.decode(into, &mut batch)?;
                }
            }
            Ok(())
        })?;
        into.keep_rows(&file.path, before + begin, &mut batch);
        Ok(())
    }

    fn place(&self, row: u64) -> (&Path, u64) {
        let (file, _, before, begin) = self.find(row);
        (&file.path, before + begin)
    }
}

/// A file whose footer is read.
struct Opened {
    path: PathBuf,
    reader: SerializedFileReader<Chunks>,
    /// The columns at the root of its schema ...
    names: Vec<String>,
    /// ... and the leaf of each; None of one that is nested.
    leaves: Vec<Option<usize>>,
    rows: u64,
    size: u64,
}

impl Opened {
    fn of(file: &DataFile) -> Result<Self, Vec<Problem>> {
        let path = file.path().to_owned();
        let cannot = |error: io::Error| vec![unreadable(&path, &error)];
        let size = file.metadata().map_err(cannot)?.len();
        let chunks = Chunks { file: Arc::new(file.reader().map_err(cannot)?), size };
        judge_ends(&path, &chunks)?;
        let reader = guarded(&path, || SerializedFileReader::new(chunks))?;
        let about = reader.metadata();
        let (names, leaves) = columns(about.file_metadata().schema_descr());
        let rows = total(about.row_groups().iter().map(rows_of));
        judge_counts(&path, about, &leaves, rows)?;
        Ok(Self { path, reader, names, leaves, rows, size })
    }

    fn kind(&self, column: usize) -> Result<Kind, &'static str> {
        match self.leaves.get(column).copied().flatten() {
            Some(leaf) => kind(&self.reader.metadata().file_metadata().schema_descr().column(leaf)),
            None => Err("is nested; every value has to be one number or word"),
        }
    }

    /// The kind of the target: that of the spec, or else that of its column. Several are numbers.
    fn target_type(&self, roles: &Roles) -> TargetType {
        let (None, [target]) = (roles.target_type, &roles.targets[..]) else {
            return roles.target_type.unwrap_or(TargetType::Numbers);
        };
        let column = self.names.iter().position(|name| name == target);
        match column.and_then(|column| self.kind(column).ok()) {
            Some(Kind::Words) => TargetType::Classes,
            Some(Kind::Numbers) | None => TargetType::Numbers,
        }
    }

    /// The leaf of each column that has one, with its slot.
    fn leaves_of(&self, slots: &[Slot]) -> impl Iterator<Item = (Slot, usize)> {
        slots.iter().zip(&self.leaves).filter_map(|(slot, leaf)| Some((*slot, (*leaf)?)))
    }

    /// The compression of a column that is not decoded here, where it has such a one.
    fn other_codec(&self, column: usize) -> Option<CompressionCodec> {
        let leaf = self.leaves[column]?;
        let groups = self.reader.metadata().row_groups().iter();
        let mut codecs = groups.filter_map(|group| Some(group.columns().get(leaf)?.compression_codec()));
        codecs.find(|codec| {
            !matches!(
                codec,
                CompressionCodec::UNCOMPRESSED
                    | CompressionCodec::SNAPPY
                    | CompressionCodec::GZIP
                    | CompressionCodec::ZSTD
            )
        })
    }

    /// Tells the columns whose values cannot be taken.
    fn judge(&self, slots: &[Slot], roles: &Roles) -> Vec<Problem> {
        let mut wrong = Vec::new();
        for (column, (slot, name)) in slots.iter().zip(&self.names).enumerate() {
            if let Some(codec) = self.other_codec(column).filter(|_| *slot != Slot::Skip) {
                let what = format!("is compressed with {codec}; write it with zstd, snappy or gzip");
                wrong.push(wrong_with(&self.path, format!("column {name:?} {what}")));
                continue;
            }
            let what = match (slot, self.kind(column)) {
                (Slot::Skip | Slot::Text { .. }, _)
                | (Slot::Numbers { .. }, Ok(Kind::Numbers))
                | (Slot::Words { .. }, Ok(_)) => continue,
                (Slot::Numbers { .. }, Ok(Kind::Words)) => {
                    format!("holds words; {}", roles.remedy_for_words(name))
                }
                (Slot::Numbers { .. } | Slot::Words { .. }, Err(what)) => what.to_owned(),
            };
            wrong.push(wrong_with(&self.path, format!("column {name:?}: {what}")));
        }
        wrong
    }

    /// Reads rows into a table, no more than so many.
    fn read(&self, slots: &[Slot], table: &mut Table, most: u64, reading: &Reading<'_>) -> Result<(), Vec<Problem>> {
        table.places.file(&self.path);
        let (mut first, mut left) = (0, most);
        for group in 0..self.reader.num_row_groups() {
            let rows = rows_of(self.reader.metadata().row_group(group));
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
            let lanes = self.leaves_of(slots).map(|(slot, leaf)| Lane::of(group.as_ref(), leaf, slot));
            lanes.filter_map(Decoded::transpose).collect::<Decoded<Vec<_>>>()
        };
        let mut lanes = guarded(&self.path, lanes)?;
        let most = (BLOCK_BYTES / table.row_bytes().max(1)).clamp(BLOCK_ROWS.start, BLOCK_ROWS.end);
        let mut begin = 0;
        while begin < rows && !table.is_full() {
            reading.wanted.check().map_err(|error| vec![unreadable(&self.path, &error)])?;
            let count = (rows - begin).min(most);
            let mut batch = Batch { rows: count as usize, ..Batch::default() };
            table.begin_rows(batch.rows);
            guarded(&self.path, || lanes.iter_mut().try_for_each(|lane| lane.decode(table, &mut batch)))?;
            table.keep_rows(&self.path, first + begin, &mut batch);
            begin += count;
        }
        Ok(())
    }
}

/// The rows that the footer promises of a row group.
fn rows_of(group: &RowGroupMetaData) -> u64 {
    u64::try_from(group.num_rows()).unwrap_or(0)
}

/// The sum of such promises, which may be any.
fn total(rows: impl Iterator<Item = u64>) -> u64 {
    rows.fold(0, u64::saturating_add)
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

/// Refuses a footer that contradicts itself: with the rows of all groups, and the values of columns
/// that have one a row.
fn judge_counts(path: &Path, about: &ParquetMetaData, leaves: &[Option<usize>], rows: u64) -> Result<(), Vec<Problem>> {
    let refuse = |what: String| Err(vec![wrong_with(path, format!("is damaged: its footer promises {what}"))]);
    let promised = about.file_metadata().num_rows();
    if u64::try_from(promised) != Ok(rows) {
        return refuse(format!("{promised} rows, and its row groups have {rows}"));
    }
    for (number, group) in about.row_groups().iter().enumerate() {
        let columns = leaves.iter().flatten().filter_map(|leaf| group.columns().get(*leaf));
        let mut flat = columns.filter(|column| column.column_descr().max_rep_level() == 0);
        if let Some(column) = flat.find(|column| column.num_values() != group.num_rows()) {
            let (name, values, rows) = (column.column_descr().name(), column.num_values(), group.num_rows());
            return refuse(format!("{rows} rows in group {number}, and {values} values of its column {name:?}"));
        }
    }
    Ok(())
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
