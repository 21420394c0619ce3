//! From files to the letters of a text, in blocks.

use std::fs::File;
use std::io::{self, Read as _, Seek};
use std::path::{Path, PathBuf};

use super::super::compressed::Source;
use super::super::{DataFile, Depth, Problem, Reading};
use super::Unit;
use super::letters::{Letters, Writer};
use crate::looks::{self, HEAD_BYTES};

/// Bytes that are read at a time.
const BLOCK: usize = 1 << 20;
/// Bytes that are read of a file at least: reads of fewer would be read ahead by the buffer of the
/// source, and the share of the file that was read could not be told.
const LEAST_BLOCK: usize = 1 << 16;
/// The byte-order mark, with which some programs begin a file of UTF-8.
const MARK: char = '\u{feff}';

/// The text of the files of a set.
pub(super) struct Read {
    pub(super) letters: Letters,
    /// The files, each with the place of its first letter.
    pub(super) begins: Vec<(usize, PathBuf)>,
    /// Bytes of the files.
    pub(super) sizes: Vec<u64>,
    /// The letters of files that were read in part, as far as that tells; None where all were read
    /// whole.
    pub(super) estimate: Option<u64>,
}

/// Reads the files, which a spec names in that field. Of text that is judged no more than about
/// `whole_below` bytes are read.
pub(super) fn all(
    files: &[DataFile],
    unit: Unit,
    field: &'static str,
    reading: &Reading<'_>,
    whole_below: u64,
) -> Result<Read, Vec<Problem>> {
    let sizes = files
        .iter()
        .map(|file| Ok(file.metadata().map_err(|error| Problem::unreadable(field, file.path(), &error))?.len()));
    let sizes = sizes.collect::<Result<Vec<u64>, Problem>>().map_err(|problem| vec![problem])?;
    let is_small = sizes.iter().fold(0, |sum: u64, size| sum.saturating_add(*size)) < whole_below;
    let (mut left, mut estimate, mut is_sample) = (whole_below, 0.0, false);
    let (mut writer, mut begins, mut problems) = (Writer::default(), Vec::new(), Vec::new());
    for ((file, size), files_left) in files.iter().zip(&sizes).zip((1..=files.len() as u64).rev()) {
        let begin = writer.letters().len();
        begins.push((begin, file.path().to_owned()));
        let most = match reading.depth {
            Depth::Train => u64::MAX,
            Depth::Judge if is_small => left,
            Depth::Judge => left / files_left,
        };
        writer.reserve((*size).min(most) as usize);
        let read = Open::new(file, unit, field).and_then(|mut open| open.read(most, reading, &mut writer));
        match read {
            Ok(Part { bytes, share }) => {
                left = left.saturating_sub(bytes);
                is_sample |= share < 1.0;
                estimate += (writer.letters().len() - begin) as f64 / share;
            }
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Read { letters: writer.finish(), begins, sizes, estimate: is_sample.then_some(estimate as u64) })
}

/// A file that is read.
struct Open<'a> {
    path: &'a Path,
    field: &'static str,
    unit: Unit,
    source: Source,
    /// Another handle, which tells how far the file was read.
    file: File,
}

/// The part of a file that was read.
struct Part {
    /// Bytes of text.
    bytes: u64,
    /// Its share of the file, as far as that is known of packed ones; 1 for all of it.
    share: f64,
}

impl<'a> Open<'a> {
    fn new(file: &'a DataFile, unit: Unit, field: &'static str) -> Result<Self, Problem> {
        let path = file.path();
        let opened = file.reader().and_then(|reader| Ok((reader.try_clone()?, Source::new(reader)?)));
        let (file, source) = opened.map_err(|error| Problem::unreadable(field, path, &error))?;
        Ok(Self { path, field, unit, source, file })
    }

    /// Adds its letters, until at least `most` bytes of text were read.
    fn read(&mut self, most: u64, reading: &Reading<'_>, writer: &mut Writer) -> Result<Part, Problem> {
        let begin = writer.letters().len();
        let (path, field) = (self.path, self.field);
        let cannot = |error: io::Error| Problem::unreadable(field, path, &error);
        // Of many files that are judged, each gives a small part.
        let mut block = vec![0; BLOCK.min(usize::try_from(most).unwrap_or(BLOCK)).max(LEAST_BLOCK)];
        // Bytes of text before the block, and those of a character that the last block has cut.
        let (mut bytes, mut cut) = (0u64, 0);
        let mut head = Vec::new();
        loop {
            let count = reading.wanted.check().and_then(|()| fill(&mut self.source, &mut block[cut..]));
            let count = count.map_err(cannot)?;
            let part = &block[..cut + count];
            if bytes == 0 && head.is_empty() {
                head.extend_from_slice(&part[..part.len().min(HEAD_BYTES)]);
                self.judge_head(&head)?;
            }
            let is_last = count < block.len() - cut;
            let taken = match self.unit {
                Unit::Byte => {
                    writer.add_bytes(part);
                    part.len()
                }
                Unit::Character => {
                    let (text, error) = match std::str::from_utf8(part) {
                        Ok(text) => (text, None),
                        Err(error) => {
                            (std::str::from_utf8(&part[..error.valid_up_to()]).unwrap_or_default(), Some(error))
                        }
                    };
                    writer.add(if bytes == 0 { text.strip_prefix(MARK).unwrap_or(text) } else { text });
                    if error.is_some_and(|error| is_last || error.error_len().is_some()) {
                        return Err(self.no_utf8(
                            writer.letters(),
                            begin,
                            bytes,
                            &part[text.len()..],
                            text.len(),
                            &head,
                        ));
                    }
                    text.len()
                }
            };
            bytes += taken as u64;
            let rest = taken..part.len();
            cut = rest.len();
            block.copy_within(rest, 0);
            if is_last {
                break;
            }
            if bytes >= most {
                let share = self.share().map_err(cannot)?;
                return Ok(Part { bytes, share });
            }
        }
        if writer.letters().len() == begin {
            return Err(self.wrong("is empty".into()));
        }
        Ok(Part { bytes, share: 1.0 })
    }

    /// Refuses what is packed in a way that is not unpacked here: its bytes are no text.
    fn judge_head(&self, head: &[u8]) -> Result<(), Problem> {
        match looks::packed(head) {
            Some(what) => Err(self.wrong(format!("is no text: it looks like {what}"))),
            None => Ok(()),
        }
    }

    /// The share of the file that was read, packed or not; below 1.
    fn share(&mut self) -> io::Result<f64> {
        let (read, size) = (self.file.stream_position()?, self.file.metadata()?.len());
        Ok((read as f64 / size.max(1) as f64).clamp(f64::EPSILON, 1.0 - f64::EPSILON))
    }

    /// That the bytes behind the letters from `begin` on are not UTF-8. The first of them is at
    /// `bytes + offset` of the text.
    fn no_utf8(&self, letters: &Letters, begin: usize, bytes: u64, rest: &[u8], offset: usize, head: &[u8]) -> Problem {
        if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
            let remedy = "iconv -f UTF-16 -t UTF-8 makes it so";
            return self.wrong(format!("is UTF-16, and UTF-8 is needed; {remedy}"));
        }
        let (line, column) = letters.line_and_column(begin..letters.len());
        let found = rest.first().map_or_else(String::new, |byte| format!(" 0x{byte:02x}"));
        let looks = match looks::looks_like(head) {
            None | Some("text" | "JSON") => String::new(),
            Some(looks) => format!("; it looks like {looks}"),
        };
        self.wrong(format!(
            "is not UTF-8: the byte{found} at {}, counted from 0, in line {line}, column {column}{looks}; unit = \
             \"byte\" takes every text",
            bytes + offset as u64
        ))
    }

    fn wrong(&self, what: String) -> Problem {
        Problem { file: self.field.into(), what: format!("{} {what}", self.path.display()), unjudged: None }
    }
}

/// Fills a buffer as far as there are bytes; how many it got.
fn fill(source: &mut Source, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
