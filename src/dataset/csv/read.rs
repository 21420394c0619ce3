//! From files of delimited text to a table, in blocks: memory holds a block and the values.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use super::super::compressed::Source;
use super::super::table::layout::{Apart, Layout, Slot, same_columns};
use super::super::table::roles::{Roles, TargetType};
use super::super::table::words::NO_UTF_8;
use super::super::table::{Batch, Table, unreadable, wrong_with};
use super::super::{DataFile, Depth, Problem, Reading, WHOLE_BELOW_BYTES};
use super::Dialect;
use super::cell::{Cell, is_missing, not_a_number, number};
use super::scan::{Broken, Ended, Scanner, Sink};
use crate::looks::{HEAD_BYTES, looks_like};

/// Bytes that are read at a time.
const BLOCK: usize = 1 << 20;
/// The longest record.
const MOST_RECORD_BYTES: usize = 1 << 24;
/// The most columns.
const MOST_COLUMNS: usize = 100_000;
/// Lines, as messages call them.
const LINE: &str = "line";

/// Reads the files, which a spec names in that field; the roles are those of the spec.
pub(super) fn table(
    files: &[DataFile],
    field: &'static str,
    roles: &Roles,
    dialect: &Dialect,
    apart: &Apart,
    reading: &Reading<'_>,
) -> Result<Table, Vec<Problem>> {
    reading.demand_target(!roles.targets.is_empty(), "target")?;
    let mut collector: Option<Collector> = None;
    let mut sizes = Vec::with_capacity(files.len());
    let (mut is_sample, mut rows) = (false, 0.0);
    let share = WHOLE_BELOW_BYTES / files.len().max(1) as u64;
    for file in files {
        let path = file.path();
        let unreadable = |error: io::Error| vec![unreadable(path, &error)];
        let size = file.metadata().map_err(unreadable)?.len();
        sizes.push(size);
        let mut text = Text::open(path, file.reader().map_err(unreadable)?, dialect, reading)?;
        let names = text.header(dialect)?;
        let into = match &mut collector {
            None => {
                let roles = roles.in_files(&names, reading);
                let target = text.target_type(&names, &roles)?;
                let layout = Layout::of(path, &names, &roles, target, apart)?;
                let slots = layout.slots.clone();
                let table = Table::new(field, layout, names, roles, apart.clone(), LINE);
                let record = Batch { rows: 1, ..Batch::default() };
                collector.insert(Collector { table, slots, path: PathBuf::new(), record })
            }
            Some(collector) => {
                same_columns((files[0].path(), collector.table.names()), (path, &names))?;
                collector
            }
        };
        let before = into.table.met();
        into.table.places.file(path);
        path.clone_into(&mut into.path);
        let budget = if reading.depth == Depth::Judge { share } else { u64::MAX };
        let part = if text.read(budget, into)? { 1.0 } else { text.share_of(size).map_err(unreadable)? };
        is_sample |= part < 1.0;
        rows += (into.table.met() - before) as f64 / part;
    }
    let Some(Collector { mut table, .. }) = collector else { unreachable!("a set has a file at least") };
    table.finish(sizes, is_sample.then_some(rows as u64), reading)?;
    Ok(table)
}

/// A file of text, and the part of it that is in memory.
struct Text<'a> {
    path: &'a Path,
    source: Source,
    /// Another handle of the file, which tells how far it was read.
    file: File,
    reading: &'a Reading<'a>,
    scanner: Scanner,
    delimiter: u8,
    buffer: Vec<u8>,
    /// The bytes of the buffer that are taken.
    taken: usize,
    /// The place in the buffer where the last record began.
    begun: usize,
    is_last: bool,
    /// Bytes of text that were read.
    read: u64,
}

impl<'a> Text<'a> {
    fn open(path: &'a Path, file: File, dialect: &Dialect, reading: &'a Reading<'a>) -> Result<Self, Vec<Problem>> {
        let cannot = |error: io::Error| vec![unreadable(path, &error)];
        let handle = file.try_clone().map_err(cannot)?;
        let source = Source::new(file).map_err(cannot)?;
        let delimiter = dialect.delimiter.unwrap_or_else(|| if is_tsv(path) { b'\t' } else { b',' });
        let scanner = Scanner::new(delimiter, dialect.quote, dialect.comment);
        let mut text = Self {
            path,
            source,
            file: handle,
            reading,
            scanner,
            delimiter,
            buffer: Vec::new(),
            taken: 0,
            begun: 0,
            is_last: false,
            read: 0,
        };
        text.fill()?;
        text.judge_encoding()?;
        Ok(text)
    }

    /// The share of a file of that size that was taken, as far as that is known of packed ones.
    fn share_of(&mut self, size: u64) -> io::Result<f64> {
        let packed = self.file.stream_position()?.max(1) as f64;
        let taken = self.taken_bytes() as f64 / self.read.max(1) as f64;
        Ok((packed * taken / size.max(1) as f64).clamp(f64::EPSILON, 1.0))
    }

    /// Bytes of text that were taken.
    fn taken_bytes(&self) -> u64 {
        self.read - (self.buffer.len() - self.taken) as u64
    }

    /// Refuses what is no text of one byte a character, and skips a byte-order mark.
    fn judge_encoding(&mut self) -> Result<(), Vec<Problem>> {
        let head = &self.buffer[..self.buffer.len().min(HEAD_BYTES)];
        let refuse = |what: &str| Err(vec![wrong_with(self.path, what.to_owned())]);
        if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
            return refuse("is UTF-16, and UTF-8 is needed; iconv -f UTF-16 -t UTF-8 makes it so");
        }
        let zeros = |from: usize| head.iter().skip(from).step_by(2).all(|byte| *byte == 0);
        if head.len() >= 4 && zeros(0) != zeros(1) {
            return refuse("looks like UTF-16, and UTF-8 is needed; iconv -f UTF-16 -t UTF-8 makes it so");
        }
        match looks_like(head) {
            None | Some("text" | "JSON") => {}
            Some("an empty file") => return refuse("is empty"),
            Some(other) => return refuse(&format!("is no delimited text; it looks like {other}")),
        }
        if head.starts_with(b"\xef\xbb\xbf") {
            self.taken = 3;
        }
        Ok(())
    }

    /// Reads more behind the bytes that are not taken.
    fn fill(&mut self) -> Result<(), Vec<Problem>> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        // A record that is longer than the buffer makes it grow twofold.
        let more = BLOCK.max(self.buffer.len());
        let wanted = self.buffer.len() + more;
        let read = self.reading.wanted.check().and_then(|()| {
            let mut source = (&mut self.source).take(more as u64);
            source.read_to_end(&mut self.buffer)
        });
        let count = read.map_err(|error| vec![unreadable(self.path, &error)])?;
        self.read += count as u64;
        self.is_last = self.buffer.len() < wanted;
        Ok(())
    }

    /// Hands the next record to a sink; false where there is none.
    fn record<S: Sink>(&mut self, sink: &mut S) -> Result<bool, Vec<Problem>> {
        loop {
            self.taken = self.scanner.skip(&self.buffer, self.taken, self.is_last);
            if self.taken < self.buffer.len() {
                let ended = self.scanner.record(&self.buffer, self.taken, self.is_last, sink);
                match ended.map_err(|broken| vec![self.broken(broken)])? {
                    Ended::At(next) => {
                        (self.begun, self.taken) = (self.taken, next);
                        return Ok(true);
                    }
                    Ended::Cut(open) if self.buffer.len() - self.taken >= MOST_RECORD_BYTES => {
                        return Err(vec![self.too_long(open)]);
                    }
                    Ended::Cut(_) => {}
                }
            }
            if self.is_last {
                return Ok(false);
            }
            self.fill()?;
        }
    }

    /// Reads records into a table, until so many bytes of text were read; whether that was all.
    fn read(&mut self, budget: u64, into: &mut Collector) -> Result<bool, Vec<Problem>> {
        while self.record(into)? {
            if into.table.is_full() {
                return Ok(true);
            }
            if self.taken_bytes() > budget {
                return Ok(self.is_last && self.taken == self.buffer.len());
            }
        }
        Ok(true)
    }

    /// The names of the columns. Where there is no header the first record is left where it is.
    fn header(&mut self, dialect: &Dialect) -> Result<Vec<String>, Vec<Problem>> {
        let mut record = Record::default();
        let is_there = self.record(&mut record)?;
        let (path, line) = (self.path, record.line);
        let refuse = |what: String| vec![wrong_with(path, what)];
        if !is_there {
            return Err(refuse("has no rows".into()));
        }
        if record.is_long {
            return Err(refuse(format!("has more than {MOST_COLUMNS} columns in line {line}")));
        }
        if !dialect.header {
            (self.taken, self.scanner.line) = (self.begun, line);
            return Ok((1..=record.fields.len()).map(|number| number.to_string()).collect());
        }
        let name = |field: Vec<u8>| {
            let name = String::from_utf8(field).map_err(|error| {
                let byte = error.as_bytes()[error.utf8_error().valid_up_to()];
                refuse(format!("line {line}: holds the byte {byte:#04x}, {NO_UTF_8}"))
            });
            name.map(|name| name.trim().to_owned())
        };
        let names = record.fields.into_iter().map(name).collect::<Result<Vec<_>, _>>()?;
        if let [only] = &names[..] {
            let others = [',', ';', '\t', '|'].into_iter().filter(|other| *other != char::from(self.delimiter));
            if let Some(other) = others.into_iter().find(|other| only.contains(*other)) {
                let found = char::from(self.delimiter);
                return Err(refuse(format!(
                    "has one column {only:?}, as {found:?} is the delimiter; set `delimiter` to {other:?} if that is meant"
                )));
            }
        }
        Ok(names)
    }

    /// The kind of the target: that of the spec, or else that of its first value.
    fn target_type(&mut self, names: &[String], roles: &Roles) -> Result<TargetType, Vec<Problem>> {
        let (None, [target]) = (roles.target_type, &roles.targets[..]) else {
            return Ok(roles.target_type.unwrap_or(TargetType::Numbers));
        };
        let Some(column) = names.iter().position(|name| name == target) else { return Ok(TargetType::Numbers) };
        // The first values of the block in hand tell; they are read again as rows.
        let mut first = First { column, found: None };
        let (mut at, line) = (self.taken, self.scanner.line);
        while first.found.is_none() {
            at = self.scanner.skip(&self.buffer, at, self.is_last);
            if at >= self.buffer.len() {
                break;
            }
            match self.scanner.record(&self.buffer, at, self.is_last, &mut first) {
                Ok(Ended::At(next)) => at = next,
                Ok(Ended::Cut(_)) | Err(_) => break,
            }
        }
        self.scanner.line = line;
        Ok(first.found.unwrap_or(TargetType::Numbers))
    }

    fn broken(&self, broken: Broken) -> Problem {
        let what = match broken {
            Broken::Open { line, field } => {
                format!("line {line}: a quote opens in field {} and never closes", field + 1)
            }
            Broken::Behind { line, field, byte } => {
                let byte = char::from(byte);
                format!(
                    "line {line}: {byte:?} stands behind the quote that closes field {}; quotes in a field are doubled",
                    field + 1
                )
            }
        };
        wrong_with(self.path, what)
    }

    fn too_long(&self, open: Option<(u64, usize)>) -> Problem {
        let what = match open {
            Some((line, field)) => {
                format!("line {line}: a quote opens in field {} and does not close within", field + 1)
            }
            None => format!("line {}: a record has more than", self.scanner.line),
        };
        wrong_with(self.path, format!("{what} {MOST_RECORD_BYTES} bytes"))
    }
}

/// The fields of one record.
#[derive(Default)]
struct Record {
    fields: Vec<Vec<u8>>,
    line: u64,
    is_long: bool,
}

impl Sink for Record {
    fn begin(&mut self) {
        self.fields.clear();
    }

    fn field(&mut self, _: usize, text: &[u8], _: bool) {
        if self.fields.len() < MOST_COLUMNS {
            self.fields.push(text.to_vec());
        } else {
            self.is_long = true;
        }
    }

    fn end(&mut self, _: usize, line: u64) {
        self.line = line;
    }
}

/// The kind of the first value of a column.
struct First {
    column: usize,
    found: Option<TargetType>,
}

impl Sink for First {
    fn begin(&mut self) {}

    fn field(&mut self, place: usize, text: &[u8], is_quoted: bool) {
        if place == self.column && self.found.is_none() {
            self.found = match number(text) {
                Cell::Number(_) => Some(TargetType::Numbers),
                Cell::Missing if text.is_empty() || !is_quoted => None,
                Cell::Missing | Cell::Other => Some(TargetType::Classes),
            };
        }
    }

    fn end(&mut self, _: usize, _: u64) {}
}

/// Puts records into a table.
struct Collector {
    table: Table,
    slots: Vec<Slot>,
    path: PathBuf,
    /// The record in hand.
    record: Batch,
}

impl Sink for Collector {
    #[inline]
    fn begin(&mut self) {
        self.table.begin_rows(1);
        self.record.missing.clear();
        self.record.mistakes.clear();
    }

    #[inline]
    fn field(&mut self, place: usize, text: &[u8], is_quoted: bool) {
        match self.slots.get(place) {
            Some(&Slot::Numbers { column, slot }) => match number(text) {
                Cell::Number(value) => self.table.set_number(0, slot, value),
                Cell::Missing => self.record.missing.push((0, column)),
                Cell::Other => {
                    let what = not_a_number(text, self.table.remedy_for_words(column));
                    self.record.mistakes.push((0, column, what));
                }
            },
            Some(&Slot::Words { column, slot }) => {
                if text.is_empty() || !is_quoted && is_missing(text) {
                    return self.record.missing.push((0, column));
                }
                match self.table.word_number(column, text) {
                    Ok(number) => self.table.set_word(0, slot, number),
                    Err(wrong) => self.record.mistakes.push((0, column, wrong.told(text))),
                }
            }
            Some(&Slot::Text { column }) => {
                if text.is_empty() {
                    let what = "the name is missing; each row has to name a file";
                    return self.record.mistakes.push((0, column, what.into()));
                }
                if let Err(wrong) = self.table.set_text(text) {
                    self.record.mistakes.push((0, column, wrong.told(text)));
                }
            }
            Some(Slot::Skip) | None => {}
        }
    }

    #[inline]
    fn takes_number(&self, place: usize) -> bool {
        matches!(self.slots.get(place), Some(Slot::Numbers { .. }))
    }

    #[inline]
    fn number(&mut self, place: usize, value: f32) {
        if let Some(&Slot::Numbers { slot, .. }) = self.slots.get(place) {
            self.table.set_number(0, slot, value);
        }
    }

    #[inline]
    fn end(&mut self, fields: usize, line: u64) {
        if fields == self.slots.len() {
            return self.table.keep_rows(&self.path, line, &mut self.record);
        }
        let (path, wanted) = (self.path.display(), self.slots.len());
        let what = format!("{path} line {line}: the number of fields is {fields}, and that of the columns {wanted}");
        self.table.tell(what);
    }
}

/// Whether a name says that fields are divided by tabs.
fn is_tsv(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    name.ends_with(".tsv") || name.ends_with(".tab")
}
