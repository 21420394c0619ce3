//! The event files that a program writes, read as they grow. They are hostile input: files, bytes
//! and values have bounds, links are not followed, and a file that is odd is given up.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use prost::Message;

use super::reports::{MOST_TOLD, MOST_VALUES, is_tag};
use super::say;
use super::tell::Teller;
use crate::beneath::Folder;
use crate::proto::tensorboard::{Event, event, summary::value};
use crate::record::{FOOTER_BYTES, HEADER_BYTES, masked_crc};
use crate::shortage::is_shortage;
use crate::tensorboard::MARK;

/// Files that are read, those that were given up not counted.
const MOST_FILES: usize = 1000;
/// Files whose names are remembered.
const MOST_NAMES: usize = 10_000;
/// Folders below each other.
const MOST_DEPTH: usize = 6;
/// Entries of folders that are looked at each time.
const MOST_ENTRIES: usize = 10_000;
/// Bytes that are read of a file before it is the turn of the next one.
const TURN_BYTES: u64 = 128 << 10;
/// Bytes that are read before signals are looked at again.
const MOST_AT_ONCE: u64 = 1 << 20;
/// Bytes that are read of all files from one look to the next.
const MOST_BYTES: u64 = 16 << 20;
/// The same when the program has ended.
const MOST_LAST_BYTES: u64 = 256 << 20;
/// The time that this may take: a program that was asked to stop has a time to leave.
const MOST_LAST_TIME: Duration = Duration::from_secs(5);
/// Records that are longer are passed over: pictures and graphs.
const MOST_READ_BYTES: u64 = 256 << 10;
/// Longer records are damage: nothing that a viewer takes is as long.
const MOST_RECORD_BYTES: u64 = 1 << 30;
/// Bytes around the data of a record.
const FRAME_BYTES: u64 = (HEADER_BYTES + FOOTER_BYTES) as u64;

/// The event files below a folder.
pub(super) struct EventFiles {
    root: Folder,
    files: BTreeMap<String, Tail>,
    /// Those of them that are not given up.
    good: usize,
    given_up: u64,
    /// Values that are no finite numbers, and are dropped.
    odd: u64,
    /// Bytes that may still be read before the next look.
    left: u64,
    /// The file that was read last; the one behind it is next.
    last: String,
    is_told: Told,
}

/// The findings that the log has already.
#[derive(Debug, Default)]
struct Told {
    many: bool,
    entries: bool,
    link: bool,
}

/// A file that may grow. It is open while it is read.
#[derive(Debug, Default)]
pub struct Tail {
    is_given_up: bool,
    /// Which file has been read; another one may get its name.
    identity: Option<(u64, u64)>,
    /// Bytes that were read.
    offset: u64,
    /// Its length when there was no whole record left; there may be one once it has another.
    seen: u64,
    /// It may have some now.
    is_due: bool,
}

impl EventFiles {
    /// Those that come, and what comes to those that are there.
    pub(super) fn new(root: Folder) -> Self {
        let mut files = Self {
            root,
            files: BTreeMap::new(),
            good: 0,
            given_up: 0,
            odd: 0,
            left: MOST_BYTES,
            last: String::new(),
            is_told: Told::default(),
        };
        files.find();
        for (path, tail) in &mut files.files {
            let about = files.root.file(path).and_then(|file| file.metadata());
            if let Ok(about) = about {
                tail.pass_over(&about);
            }
        }
        files
    }

    /// Finds new files, and lets some more bytes be read.
    pub(super) fn look(&mut self) {
        self.left = MOST_BYTES;
        self.find();
    }

    /// Tells all that is there, as far as bytes may be read.
    pub(super) fn catch_up(&mut self, teller: &mut Teller) -> io::Result<()> {
        self.find();
        while self.read(teller)? {}
        Ok(())
    }

    /// Tells what is left, once the program has ended, and which files end in what is no record.
    pub(super) fn finish(&mut self, teller: &mut Teller) -> io::Result<()> {
        self.left = MOST_LAST_BYTES;
        self.find();
        let begun = Instant::now();
        let mut is_more = true;
        while is_more && begun.elapsed() < MOST_LAST_TIME {
            is_more = self.read(teller)?;
        }
        let is_cut = is_more || self.left == 0 || teller.is_full();
        let good = self.files.iter().filter(|(_, tail)| !tail.is_given_up);
        let rests = good.filter_map(|(path, tail)| {
            let length = self.root.file(path).ok()?.metadata().ok()?.len();
            Some((path, length.saturating_sub(tail.offset)))
        });
        for (path, rest) in rests.filter(|(_, rest)| *rest > 0).take(MOST_TOLD as usize) {
            let why = if is_cut { "more than is read" } else { "no whole record" };
            say(&format!("the last {rest} bytes of the event file {path:?} are not read: they are {why}"));
        }
        if self.odd > 1 {
            say(&format!("{} values of event files were dropped, as they are no finite numbers", self.odd));
        }
        if self.given_up > MOST_TOLD {
            say(&format!("{} event files were given up in all", self.given_up));
        }
        Ok(())
    }

    /// Tells some of what is new: a turn of each file. Whether there is more that may be read now.
    pub(super) fn read(&mut self, teller: &mut Teller) -> io::Result<bool> {
        if teller.is_full() {
            return Ok(false);
        }
        let behind = self.files.range::<str, _>((Bound::Excluded(&*self.last), Bound::Unbounded));
        let before = self.files.range::<str, _>((Bound::Unbounded, Bound::Included(&*self.last)));
        let due = behind.chain(before).filter(|(_, tail)| tail.is_due && !tail.is_given_up);
        let paths: Vec<String> = due.map(|(path, _)| path.clone()).collect();
        let (mut at_once, mut is_more) = (MOST_AT_ONCE, false);
        for path in paths {
            let may = TURN_BYTES.min(self.left).min(at_once);
            if may == 0 {
                is_more = true;
                break;
            }
            let Some(tail) = self.files.get_mut(&path) else { continue };
            let (found, bytes) = match tail.read(&self.root, &path, may) {
                Ok(read) => read,
                // The next look finds what it is now.
                Err(Odd::Passing) => continue,
                Err(Odd::Told { why, found, bytes }) => {
                    give_up(&path, &why, &mut self.given_up);
                    tail.is_given_up = true;
                    self.good -= 1;
                    (found, bytes)
                }
            };
            self.left = self.left.saturating_sub(bytes);
            at_once = at_once.saturating_sub(bytes);
            is_more |= bytes >= may;
            for (step, mut values) in found {
                if let Some((tag, value)) = values.iter().find(|(_, value)| !value.is_finite()) {
                    if self.odd == 0 {
                        say(&format!(
                            "{tag} is {value} at step {step} of the event file {path:?}; such values are dropped"
                        ));
                    }
                    let count = values.len();
                    values.retain(|(_, value)| value.is_finite());
                    self.odd += (count - values.len()) as u64;
                }
                teller.values(step, values)?;
            }
            self.last = path;
        }
        Ok(is_more && self.left > 0)
    }

    /// Finds new files.
    fn find(&mut self) {
        let mut folders = vec![(String::new(), 0)];
        let mut left = MOST_ENTRIES;
        while let Some((path, depth)) = folders.pop() {
            let some = |folder: &Folder| folder.some_entries(left);
            let opened =
                if path.is_empty() { some(&self.root) } else { self.root.folder(&path).and_then(|it| some(&it)) };
            // A folder that is gone again, or a link, is nothing to read from.
            let Ok((entries, are_all)) = opened else { continue };
            left -= entries.len();
            if !are_all && !std::mem::replace(&mut self.is_told.entries, true) {
                say(&format!(
                    "the program has more than {MOST_ENTRIES} files among event files; not all are looked at"
                ));
            }
            for entry in entries {
                let path = if path.is_empty() { entry.name.clone() } else { format!("{path}/{}", entry.name) };
                if entry.is_folder && depth < MOST_DEPTH {
                    folders.push((path, depth + 1));
                } else if entry.name.contains(MARK) && !entry.is_folder {
                    self.add(path, entry.is_file);
                }
            }
        }
    }

    /// Takes up a file, or finds out whether it has grown.
    fn add(&mut self, path: String, is_file: bool) {
        if let Some(tail) = self.files.get_mut(&path) {
            // A link in its place is told as soon as it is to be read.
            tail.is_due = true;
        } else if !is_file {
            if !std::mem::replace(&mut self.is_told.link, true) {
                say(&format!("{path:?} is a link, a pipe or a device, and no event file; none such is read"));
            }
        } else if self.good == MOST_FILES || self.files.len() == MOST_NAMES {
            if !std::mem::replace(&mut self.is_told.many, true) {
                say(&format!("the program writes more than {MOST_FILES} event files; the others are not read"));
            }
        } else {
            self.good += 1;
            self.files.insert(path, Tail { is_due: true, ..Tail::default() });
        }
    }
}

fn give_up(path: &str, why: &str, count: &mut u64) {
    *count += 1;
    if *count <= MOST_TOLD {
        say(&format!("the event file {path:?} is given up: {why}"));
    }
}

/// Scalars of a step.
pub type Scalars = (u64, Vec<(String, f64)>);

/// Why a file is not read now.
#[derive(Debug)]
pub enum Odd {
    /// It is gone, or the machine is short of something.
    Passing,
    /// It is given up, for this reason, after this was read.
    Told {
        /// The reason, in words.
        why: String,
        /// The values before the damage.
        found: Vec<Scalars>,
        /// The bytes that were read for them.
        bytes: u64,
    },
}

impl Tail {
    /// All that the file has now is passed over.
    fn pass_over(&mut self, about: &Metadata) {
        self.identity = Some((about.dev(), about.ino()));
        (self.offset, self.seen) = (about.len(), about.len());
    }

    /// The scalars of the whole records that are new, of about `may` bytes, and the bytes that were
    /// read for them.
    ///
    /// # Errors
    /// The file is gone, or a record is damaged.
    pub fn read(&mut self, root: &Folder, path: &str, may: u64) -> Result<(Vec<Scalars>, u64), Odd> {
        self.is_due = false;
        let (mut found, mut bytes) = (Vec::new(), 0);
        let odd = |why, found, bytes| Odd::Told { why, found, bytes };
        let opened = root.file(path).and_then(|file| Ok((file.metadata()?, file)));
        let (about, file) = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Odd::Passing,
            _ if is_shortage(&error) => Odd::Passing,
            _ => odd(format!("it cannot be opened: {error}"), Vec::new(), 0),
        })?;
        let identity = Some((about.dev(), about.ino()));
        if self.identity != identity {
            (self.identity, self.offset, self.seen) = (identity, 0, 0);
        }
        if about.len() == self.seen {
            return Ok((found, bytes));
        }
        while bytes < may {
            match next(&file, self.offset) {
                Ok(Some((event, end))) => {
                    bytes += if event.is_some() { end - self.offset } else { FRAME_BYTES };
                    self.offset = end;
                    found.extend(event.and_then(scalars));
                }
                Ok(None) => {
                    self.seen = about.len();
                    return Ok((found, bytes));
                }
                Err(why) => return Err(odd(why, found, bytes)),
            }
        }
        self.is_due = true;
        Ok((found, bytes))
    }
}

/// The next record, unless it is long or none of ours, and where it ends; None where it is not
/// whole yet.
fn next(file: &File, offset: u64) -> Result<Option<(Option<Event>, u64)>, String> {
    let told = |error: io::Error| format!("it cannot be read: {error}");
    let size = file.metadata().map_err(told)?.len();
    let mut header = [0; 12];
    if size < offset {
        return Err(format!("it has become shorter, {size} bytes instead of {offset}"));
    }
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
    if length > MOST_READ_BYTES {
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
        is_tag(&told.tag).then_some((told.tag, value))
    });
    Some((step, values.take(MOST_VALUES).collect()))
}
