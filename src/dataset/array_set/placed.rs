//! An array that stays in its files: an example is read from its place there when it is asked for.
//!
//! Files are read by position, so that several threads do it at once. Examples that lie close to
//! each other are read together.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::super::numbers::{Misfit, Numbers};
use super::super::{Dtype, Field, Problem, Rows};
use super::{Array, unread};
use crate::shortage::Unjudged;

/// Examples between which no more bytes lie than this are read together: to read so many costs less
/// than another call.
const MOST_BETWEEN: usize = 8 << 10;
/// Bytes that are read at once, where an example has not more.
const MOST_AT_ONCE: usize = 1 << 20;

/// The examples of an array in its files.
pub(in super::super) struct Placed {
    field: Field,
    numbers: Numbers,
    /// Bytes of an example in a file.
    width: usize,
    /// The files; at least one.
    stretches: Vec<Stretch>,
}

/// The examples in one file.
struct Stretch {
    file: File,
    path: PathBuf,
    /// The place of the first byte.
    offset: u64,
    /// The first example, and the one behind the last.
    begin: u64,
    end: u64,
}

impl Placed {
    /// The examples of an array whose values lie in their files as they are, as those of a field.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub(super) fn of(array: &Array<'_>, field: &Field, numbers: Numbers) -> Result<Self, Problem> {
        let mut end = 0;
        let stretches = array.parts.iter().map(|part| {
            let begin = end;
            end += part.examples;
            let file = part.file.data.handle().map_err(|error| unread(part.file, &error))?;
            let (path, offset) = (part.file.data.path().to_owned(), part.place.unwrap_or(0));
            Ok(Stretch { file, path, offset, begin, end })
        });
        let stretches = stretches.collect::<Result<_, Problem>>()?;
        let width = field.values() as usize * numbers.kind.width();
        Ok(Self { field: field.clone(), numbers, width, stretches })
    }

    /// Puts the examples of these rows into a batch, in place of what it holds.
    ///
    /// # Errors
    /// A value that a batch cannot hold, and a file that cannot be read any more.
    pub(in super::super) fn fill(&self, rows: impl Iterator<Item = u64>, into: &mut Vec<u8>) -> Result<(), Problem> {
        let mut wanted: Vec<(u64, usize)> = rows.zip(0..).collect();
        wanted.sort_unstable();
        into.clear();
        into.resize(wanted.len() * self.field.bytes() as usize, 0);
        let (mut rest, mut raw) = (&wanted[..], Vec::new());
        while let Some(&(first, _)) = rest.first() {
            let place = self.stretches.partition_point(|stretch| stretch.end <= first);
            let stretch = &self.stretches[place];
            let (run, others) = rest.split_at(self.together(rest, stretch.end));
            self.read(stretch, run, &mut raw, into)?;
            rest = others;
        }
        Ok(())
    }

    /// How many of these rows, which rise, are read together.
    fn together(&self, wanted: &[(u64, usize)], end: u64) -> usize {
        let first = wanted[0].0;
        let between = (MOST_BETWEEN / self.width) as u64;
        let most = (MOST_AT_ONCE / self.width).max(1) as u64;
        let is_near = |pair: &&[(u64, usize)]| {
            let (before, next) = (pair[0].0, pair[1].0);
            next < end && next - before <= between + 1 && next - first < most
        };
        1 + wanted.windows(2).take_while(is_near).count()
    }

    /// Reads rows of a file, each to its place in a batch.
    fn read(&self, stretch: &Stretch, run: &[(u64, usize)], raw: &mut Vec<u8>, into: &mut [u8]) -> Result<(), Problem> {
        let (Some(&(first, place)), Some(&(last, _))) = (run.first(), run.last()) else { return Ok(()) };
        let (width, example) = (self.width, self.field.bytes() as usize);
        let bytes = (last - first + 1) as usize * width;
        let offset = stretch.offset + (first - stretch.begin) * width as u64;
        let fails = |error| self.unreadable(stretch, &error);
        let misfits = |row: u64, misfit: Misfit| {
            let what = misfit.told_of(&self.field.name, row - stretch.begin);
            self.problem(stretch, what)
        };
        // Values that are stored as batches have them, and in this order, are read to their place.
        let is_straight =
            run.iter().zip(0..).all(|(&(row, at), number)| row == first + number && at == place + number as usize);
        if self.numbers.are(self.field.dtype) && is_straight {
            let values = &mut into[place * width..][..bytes];
            stretch.file.read_exact_at(values, offset).map_err(fails)?;
            let mut rows = values.chunks_exact(width).zip(first..);
            return rows.try_for_each(|(values, row)| self.judge(values).map_err(|misfit| misfits(row, misfit)));
        }
        raw.resize(bytes, 0);
        stretch.file.read_exact_at(raw, offset).map_err(fails)?;
        for &(row, at) in run {
            let values = &raw[(row - first) as usize * width..][..width];
            let converted = self.convert(values, &mut into[at * example..][..example]);
            converted.map_err(|misfit| misfits(row, misfit))?;
        }
        Ok(())
    }

    /// Judges values that are stored as batches have them.
    fn judge(&self, values: &[u8]) -> Result<(), Misfit> {
        let floats = if self.field.dtype == Dtype::F32 { values.as_chunks().0 } else { &[] };
        let floats = floats.iter().map(|&value| f32::from_le_bytes(value));
        floats.into_iter().find(|value| !value.is_finite()).map_or(Ok(()), |value| Err(Misfit::Float(value.into())))
    }

    /// Puts the values of an example into a batch.
    fn convert(&self, values: &[u8], into: &mut [u8]) -> Result<(), Misfit> {
        let mut misfit = None;
        match self.field.dtype {
            Dtype::Pixel => into.copy_from_slice(values),
            Dtype::F32 => {
                let mut places = into.as_chunks_mut().0.iter_mut();
                self.numbers.each_float(values, |value| {
                    let single = value as f32;
                    if !single.is_finite() {
                        misfit.get_or_insert(Misfit::Float(value));
                    }
                    places.next().into_iter().for_each(|place| *place = single.to_le_bytes());
                });
            }
            Dtype::I64 => {
                let mut places = into.as_chunks_mut().0.iter_mut();
                self.numbers.each_whole(values, |value| match value {
                    Ok(value) => places.next().into_iter().for_each(|place| *place = value.to_le_bytes()),
                    Err(value) => _ = misfit.get_or_insert(Misfit::Whole(value)),
                });
            }
        }
        misfit.map_or(Ok(()), Err)
    }

    /// Hands out the examples of these rows in their order, as batches have them.
    ///
    /// # Errors
    /// Those of [`Placed::fill`].
    pub(in super::super) fn each(&self, rows: &Rows, mut take: impl FnMut(u64, &[u8])) -> Result<(), Problem> {
        let example = self.field.bytes() as usize;
        let at_once = (MOST_AT_ONCE / example.max(self.width)).max(1);
        let (mut rows, mut some, mut values) = (rows.iter(), Vec::new(), Vec::new());
        loop {
            some.clear();
            some.extend(rows.by_ref().take(at_once));
            if some.is_empty() {
                return Ok(());
            }
            self.fill(some.iter().copied(), &mut values)?;
            some.iter().zip(values.chunks_exact(example)).for_each(|(row, values)| take(*row, values));
        }
    }

    fn problem(&self, stretch: &Stretch, what: String) -> Problem {
        let what = format!("{} {what}", stretch.path.display());
        Problem { file: self.field.file.clone(), what, unjudged: None }
    }

    fn unreadable(&self, stretch: &Stretch, error: &io::Error) -> Problem {
        let (what, unjudged) = match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                ("has changed since it was opened: it has become shorter".to_owned(), Some(Unjudged::Changed))
            }
            _ => (format!("cannot be read: {error}"), Unjudged::of(error)),
        };
        Problem { unjudged, ..self.problem(stretch, what) }
    }
}
