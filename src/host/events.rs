//! The event files that a program writes, read as they grow. They are hostile input: files, bytes
//! and values have bounds, links are not followed, and a file that is odd is given up.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use prost::Message;

use super::reports::is_tag;
use super::say;
use super::tell::Teller;
use crate::beneath::Folder;
use crate::proto::tensorboard::{Event, event, summary::value};
use crate::record::{MAX_DATA_BYTES, masked_crc};
use crate::tensorboard::MARK;

/// Files that are read.
const MOST_FILES: usize = 256;
/// Folders below each other.
const MOST_DEPTH: usize = 6;
/// Entries of folders that are looked at each time.
const MOST_ENTRIES: usize = 10_000;
/// Bytes that are read each time, of all files together.
const MOST_BYTES: u64 = 16 << 20;
/// The same when the program has ended.
const MOST_LAST_BYTES: u64 = 1 << 30;
/// Longer records are damage: nothing of a curve is as long.
const MOST_RECORD_BYTES: u64 = 1 << 30;

/// The event files below a folder.
pub(super) struct EventFiles {
    root: Folder,
    files: BTreeMap<String, Tail>,
    is_full: bool,
}

/// A file that may grow.
struct Tail {
    /// None for one that is given up.
    file: Option<File>,
    offset: u64,
}

impl EventFiles {
    /// Those that come, and what comes to those that are there.
    pub(super) fn new(root: Folder) -> Self {
        let mut files = Self { root, files: BTreeMap::new(), is_full: false };
        files.find();
        for tail in files.files.values_mut() {
            tail.offset = tail.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |about| about.len());
        }
        files
    }

    /// Tells what is new. The last time, when the program has ended, the rest is read.
    pub(super) fn look(&mut self, teller: &mut Teller, is_last: bool) -> io::Result<()> {
        self.find();
        let mut left = if is_last { MOST_LAST_BYTES } else { MOST_BYTES };
        for (path, tail) in &mut self.files {
            while let Some(events) = tail.read(&mut left, path) {
                if events.is_empty() {
                    break;
                }
                for (step, values) in events {
                    teller.values(step, values)?;
                }
            }
        }
        Ok(())
    }

    /// Finds new files.
    fn find(&mut self) {
        let mut folders = vec![(String::new(), 0)];
        let mut entries = 0;
        while let Some((path, depth)) = folders.pop() {
            let opened =
                if path.is_empty() { self.root.entries() } else { self.root.folder(&path).and_then(|it| it.entries()) };
            // A folder that is gone again, or a link, is nothing to read from.
            for entry in opened.unwrap_or_default() {
                entries += 1;
                if entries > MOST_ENTRIES {
                    return;
                }
                let path = if path.is_empty() { entry.name.clone() } else { format!("{path}/{}", entry.name) };
                if entry.is_folder && depth < MOST_DEPTH {
                    folders.push((path, depth + 1));
                } else if entry.is_file && entry.name.contains(MARK) && !self.files.contains_key(&path) {
                    if self.files.len() == MOST_FILES {
                        if !std::mem::replace(&mut self.is_full, true) {
                            say(&format!(
                                "the program writes more than {MOST_FILES} event files; the others are not read"
                            ));
                        }
                        return;
                    }
                    let file = self.root.file(&path).ok();
                    self.files.insert(path, Tail { file, offset: 0 });
                }
            }
        }
    }
}

/// Scalars of a step.
type Scalars = (u64, Vec<(String, f64)>);

impl Tail {
    /// The scalars of some of the records that are new, empty where none is whole; None where the
    /// file is given up, or enough was read.
    fn read(&mut self, left: &mut u64, path: &str) -> Option<Vec<Scalars>> {
        let file = self.file.as_ref()?;
        let begin = self.offset;
        let mut found = Vec::new();
        while self.offset - begin < MAX_DATA_BYTES as u64 && *left > 0 {
            match next(file, self.offset) {
                Ok(Some((event, end))) => {
                    *left = left.saturating_sub(end - self.offset);
                    self.offset = end;
                    found.extend(event.and_then(scalars));
                    // A record without scalars is progress too.
                    if found.is_empty() {
                        found.push((0, Vec::new()));
                    }
                }
                Ok(None) => break,
                Err(what) => {
                    say(&format!("the event file {path:?} is given up: {what}"));
                    self.file = None;
                    break;
                }
            }
        }
        Some(found)
    }
}

/// The next record, unless it is long or none of ours, and where it ends; None where it is not
/// whole yet.
fn next(file: &File, offset: u64) -> Result<Option<(Option<Event>, u64)>, String> {
    let told = |error: io::Error| format!("it cannot be read: {error}");
    let size = file.metadata().map_err(told)?.len();
    let mut header = [0; 12];
    if offset + 12 > size {
        return Ok(None);
    }
    file.read_exact_at(&mut header, offset).map_err(told)?;
    let (length, crc) = header.split_at(8);
    let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
    let crc = u32::from_le_bytes(crc.try_into().unwrap_or_default());
    if masked_crc(&header[..8]) != crc || length > MOST_RECORD_BYTES {
        return Err(format!("at byte {offset} is no record"));
    }
    let end = offset + 12 + length + 4;
    if end > size {
        return Ok(None);
    }
    // Pictures and graphs, which are passed over.
    if length > MAX_DATA_BYTES as u64 {
        return Ok(Some((None, end)));
    }
    let mut data = vec![0; length as usize + 4];
    file.read_exact_at(&mut data, offset + 12).map_err(told)?;
    let (data, crc) = data.split_at(length as usize);
    if masked_crc(data) != u32::from_le_bytes(crc.try_into().unwrap_or_default()) {
        return Err(format!("the record at byte {offset} has another checksum"));
    }
    Ok(Some((Event::decode(data).ok(), end)))
}

/// The scalars of an event.
fn scalars(event: Event) -> Option<Scalars> {
    let Some(event::What::Summary(summary)) = event.what else { return None };
    let step = u64::try_from(event.step).ok()?;
    let values = summary.value.into_iter().filter_map(|told| {
        let value = match told.value? {
            value::Value::SimpleValue(value) => f64::from(value),
            // As TensorFlow 2 writes them.
            value::Value::Tensor(tensor) if tensor.tensor_shape.as_ref().is_none_or(|shape| shape.dim.is_empty()) => {
                match (tensor.dtype, &tensor.tensor_content[..]) {
                    (1, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
                    (1, []) => f64::from(*tensor.float_val.first()?),
                    (2, []) => *tensor.double_val.first()?,
                    (2, bytes) => f64::from_le_bytes(bytes.try_into().ok()?),
                    _ => return None,
                }
            }
            _ => return None,
        };
        (value.is_finite() && is_tag(&told.tag)).then_some((told.tag, value))
    });
    Some((step, values.collect()))
}
