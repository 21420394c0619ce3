//! The images of a folder, one by one: their bytes, their pixels as inputs, and a judgement of
//! some.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use super::decode::{self, Image, Size};
use super::list::List;
use super::listed;
use super::planes::by_channel;
use super::resize::resize;
use super::{Files, Fit, IMAGES, MOST_TOLD, PATH, SIZE, unreadable};
use crate::beneath::Folder;
use crate::dataset::content::{Moments, Preparation};
use crate::dataset::draw::{mix, shuffle};
use crate::dataset::table::Table;
use crate::dataset::{Access, Dtype, Facts, Field, HostBatch, Problem, Rows, Source, WHOLE_BELOW_BYTES};
use crate::gate::Wanted;

/// Larger files are refused.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// Images of which the headers are read when a request is judged.
const SAMPLE: u64 = 2000;
/// A header lies in so many first bytes of nearly every file; the whole is read of others.
const HEAD_BYTES: u64 = 256 << 10;
/// Images are decoded then until they have taken so many bytes and pixels.
const DECODED_BYTES: u64 = WHOLE_BELOW_BYTES;
const DECODED_PIXELS: u64 = 100_000_000;
/// Images that moments are measured on, and the seed by which they are drawn.
const MEASURED: usize = 2000;
const SEED_OF_MEASURED: u64 = 0;

/// The names of images, as paths below their folder.
pub(super) enum Names {
    /// Those that a walk over the folder has found.
    Walked(List),
    /// Those in a table.
    Listed(Arc<Table>),
}

/// The images of a folder, as inputs of a size.
pub(super) struct Images {
    folder: Arc<Folder>,
    pub(super) root: PathBuf,
    pub(super) names: Names,
    size: Size,
    channels: usize,
    fit: Fit,
    /// Whether images of other sizes become this one.
    is_resized: bool,
    /// Whether it is that of the images that a model was trained on.
    is_of_training: bool,
}

impl Images {
    /// Those of an open folder with that path. Without a size they have that of the images that a
    /// model was `trained` on, height and width, else that of the first one.
    ///
    /// # Errors
    /// The mistake of the first image.
    pub(super) fn new<P>(
        folder: Arc<Folder>,
        root: PathBuf,
        names: Names,
        files: &Files<P>,
        trained: Option<[u64; 2]>,
    ) -> Result<Self, Vec<Problem>> {
        let &Files { size, channels, fit, .. } = files;
        let is_resized = size.is_some();
        let named = size.map(|size| size.map(u64::from)).or(trained);
        let [height, width] = named.unwrap_or_default().map(|side| side as usize);
        let size = Size { height, width };
        let is_of_training = !is_resized && named.is_some();
        let mut images = Self { folder, root, names, size, channels: channels.into(), fit, is_resized, is_of_training };
        if named.is_none() {
            images.size = images.header(0).map_err(|problem| vec![problem])?;
        }
        Ok(images)
    }

    /// How many there are; of a table that was read in part those that were read.
    pub(super) fn count(&self) -> u64 {
        match &self.names {
            Names::Walked(list) => list.images.len() as u64,
            Names::Listed(table) => table.rows,
        }
    }

    /// The path of an image below the folder.
    pub(super) fn path(&self, row: u64) -> &str {
        match &self.names {
            Names::Walked(list) => &list.images[row as usize].path,
            Names::Listed(table) => listed::path(table, row),
        }
    }

    /// The field of its pixels.
    pub(super) fn field(&self) -> Field {
        let shape = [self.channels, self.size.height, self.size.width].map(|size| size as u64).to_vec();
        Field { name: IMAGES.into(), file: PATH.into(), dtype: Dtype::Pixel, shape, range: None }
    }

    /// The preparation that they teach, with these classes.
    ///
    /// # Errors
    /// The mistakes of images whose moments are measured.
    pub(super) fn learn(&self, classes: Vec<String>, measured: Option<&Rows>) -> Result<Preparation, Vec<Problem>> {
        let moments = match measured {
            Some(rows) => BTreeMap::from([(IMAGES.to_owned(), self.measure(rows)?)]),
            None => BTreeMap::new(),
        };
        let image_fit = self.is_resized.then_some(self.fit);
        Ok(Preparation { classes, moments, image_fit, ..Preparation::default() })
    }

    /// The bytes of an image's file.
    fn bytes(&self, row: u64) -> Result<Vec<u8>, Problem> {
        Ok(self.first_bytes(row, |_| MAX_FILE_BYTES)?.0)
    }

    /// As many first bytes of an image's file as `most` says of its size, and whether these are
    /// all.
    fn first_bytes(&self, row: u64, most: impl FnOnce(u64) -> u64) -> Result<(Vec<u8>, bool), Problem> {
        let path = self.path(row);
        let told = |error: &io::Error| unreadable(&self.root.join(path), error);
        let file = self.folder.file(path).map_err(|error| match &self.names {
            Names::Walked(_) => told(&error),
            Names::Listed(table) => listed::unopened(table, row, &self.root, &error),
        })?;
        let size = file.metadata().map_err(|error| told(&error))?.len();
        if size > MAX_FILE_BYTES {
            return Err(self.problem(row, &format!("has {size} bytes; {MAX_FILE_BYTES} at most are read of an image")));
        }
        // A file that grows meanwhile is no larger for that.
        let most = most(size).min(MAX_FILE_BYTES);
        let mut bytes = Vec::with_capacity(size.min(most) as usize);
        file.take(most).read_to_end(&mut bytes).map_err(|error| told(&error))?;
        Ok((bytes, size <= most))
    }

    fn problem(&self, row: u64, what: &str) -> Problem {
        Problem::of_file(PATH, &self.root.join(self.path(row)), what)
    }

    /// The size of an image by its header.
    fn header(&self, row: u64) -> Result<Size, Problem> {
        let (head, is_whole) = self.first_bytes(row, |_| HEAD_BYTES)?;
        match decode::size(&head) {
            Err(_) if !is_whole => decode::size(&self.bytes(row)?),
            found => found,
        }
        .map_err(|what| self.problem(row, &what))
    }

    /// Whether an image of that size can be an input.
    fn is_of_size(&self, found: Size) -> bool {
        self.is_resized || found == self.size
    }

    /// The problem of an image of another size, with the count of those like it in a sample.
    fn other_size(&self, row: u64, found: Size, of_sample: Option<[u64; 2]>) -> Problem {
        let Size { height, width } = self.size;
        let mut what = format!("is an image of {}x{} pixels (height x width), and ", found.height, found.width);
        what += &match self.is_of_training {
            true => format!("the model was trained on images of {height}x{width}"),
            false => format!("{} has {height}x{width}", self.path(0)),
        };
        if let Some([count, sample]) = of_sample {
            what += &format!("; {count} of {sample} images differ");
        }
        if self.is_of_training {
            let image = self.root.join(self.path(row));
            let right = format!("size = [{height}, {width}] resizes all to the size of training");
            return Problem::of_field(SIZE, format!("is not set: {} {what}; {right}", image.display()));
        }
        self.problem(row, &format!("{what}; set size, so that all become the same"))
    }

    /// The pixels of an image, row by row, with its channels side by side.
    fn pixels(&self, row: u64) -> Result<Vec<u8>, Problem> {
        let image = decode::decode(&self.bytes(row)?, self.channels).map_err(|what| self.problem(row, &what))?;
        if !self.is_of_size(image.size) {
            return Err(self.other_size(row, image.size, None));
        }
        let Image { pixels, .. } = if image.size == self.size { image } else { resize(image, self.size, self.fit) };
        Ok(pixels)
    }

    /// Judges some images, spread over all: their headers, and the pixels of the first of them.
    /// Images of other sizes are one mistake.
    pub(super) fn judge_sample(&self, wanted: &Wanted) -> Result<(), Vec<Problem>> {
        let count = self.count();
        let (mut wrong, mut unlike) = (Vec::new(), None);
        let (mut bytes_left, mut pixels_left) = (DECODED_BYTES, DECODED_PIXELS);
        for number in 0..count.min(SAMPLE) {
            let row = number * count / count.min(SAMPLE);
            wanted.check().map_err(|error| vec![unreadable(&self.root, &error)])?;
            let most = |size| if size <= bytes_left { size } else { HEAD_BYTES };
            let judged = self.first_bytes(row, most).and_then(|(bytes, is_whole)| {
                let told = |what: String| self.problem(row, &what);
                let size = match decode::size(&bytes) {
                    Err(_) if !is_whole => self.header(row)?,
                    found => found.map_err(told)?,
                };
                if !self.is_of_size(size) {
                    let (_, _, _, count) = unlike.get_or_insert((wrong.len(), row, size, 0));
                    *count += 1;
                    return Ok(());
                }
                let pixels = size.height as u64 * size.width as u64;
                let left = (bytes_left.checked_sub(bytes.len() as u64), pixels_left.checked_sub(pixels));
                if let (Some(bytes_then), Some(pixels_then), true) = (left.0, left.1, is_whole) {
                    (bytes_left, pixels_left) = (bytes_then, pixels_then);
                    decode::decode(&bytes, self.channels).map_err(told)?;
                }
                Ok(())
            });
            wrong.extend(judged.err());
            if wrong.len() == MOST_TOLD {
                break;
            }
        }
        if let Some((place, row, size, images)) = unlike {
            wrong.insert(place, self.other_size(row, size, Some([images, count.min(SAMPLE)])));
            wrong.truncate(MOST_TOLD);
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// The means and deviations of channels over some of these rows.
    pub(super) fn measure(&self, rows: &Rows) -> Result<Moments, Vec<Problem>> {
        let mut places: Vec<u64> = (0..rows.count()).collect();
        if places.len() > MEASURED {
            shuffle(&mut places, mix(SEED_OF_MEASURED));
            places.truncate(MEASURED);
        }
        let mut sums = vec![(0u64, 0u64); self.channels];
        for &place in &places {
            let pixels = self.pixels(rows.row(place)).map_err(|problem| vec![problem])?;
            for pixel in pixels.chunks_exact(self.channels) {
                for ((sum, squares), &sample) in sums.iter_mut().zip(pixel) {
                    *sum += u64::from(sample);
                    *squares += u64::from(sample) * u64::from(sample);
                }
            }
        }
        let count = (places.len() * self.size.height * self.size.width) as f64;
        let moments = sums.into_iter().map(|(sum, squares)| {
            let mean = sum as f64 / count;
            let std = (squares as f64 / count - mean * mean).max(0.0).sqrt() / 255.0;
            (mean / 255.0, if std > 0.0 { std } else { 1.0 })
        });
        let (mean, std) = moments.unzip();
        Ok(Moments { mean, std })
    }
}

/// The targets of examples.
pub(super) enum Targets {
    /// They have none.
    None,
    /// The classes of their folders, by the numbers of these.
    Classes(Vec<i64>),
    /// Those of rows of a table.
    Table(Box<dyn Source>),
}

/// Some images of a folder, with their targets.
pub(super) struct Decoded {
    pub(super) facts: Facts,
    pub(super) images: Arc<Images>,
    pub(super) rows: Rows,
    pub(super) targets: Targets,
}

impl Source for Decoded {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn name(&self, place: u64) -> Option<&str> {
        Some(self.images.path(self.rows.row(place)))
    }

    fn access(&self) -> Access<'_> {
        Access::Single
    }

    fn fill(&self, places: &[u64], into: &mut HostBatch) -> Result<(), Problem> {
        let mut inputs = std::mem::take(&mut into.inputs);
        inputs.resize_with(1, Vec::new);
        into.targets.clear();
        match (&self.targets, &self.images.names) {
            (Targets::None, _) => {}
            (Targets::Table(targets), _) => targets.fill(places, into)?,
            (Targets::Classes(numbers), Names::Walked(list)) => {
                let class = |place: &u64| list.images[self.rows.row(*place) as usize].class as usize;
                into.targets.extend(places.iter().flat_map(|place| numbers[class(place)].to_le_bytes()));
            }
            (Targets::Classes(_), Names::Listed(_)) => unreachable!("a table has its targets"),
        }
        let example_bytes = self.facts.inputs[0].bytes() as usize;
        // The bytes of the batch before are written over, and need not become zeros first.
        inputs[0].resize(places.len() * example_bytes, 0);
        for (&place, into) in places.iter().zip(inputs[0].chunks_exact_mut(example_bytes)) {
            by_channel(&self.images.pixels(self.rows.row(place))?, self.images.channels, into);
        }
        into.inputs = inputs;
        Ok(())
    }
}
