//! A set of images in a folder: a folder in it is a class, and its images are JPEG and PNG files.
//!
//! Images are decoded when they are asked for, since they take many times their bytes. The folder
//! stays open, and all files are opened below it, without following links.

mod decode;
mod list;
mod planes;
mod resize;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::decode::{Image, Size};
pub(super) use self::list::is_image;
use self::list::{List, Wrong};
use self::planes::by_channel;
use self::resize::resize;
use super::content::{Content, Moments, Preparation, Prepared};
use super::details::{self, Details};
use super::draw::{mix, shuffle};
use super::{
    Access, DataFile, Depth, Dtype, Facts, Field, Find, Format, HostBatch, Problem, Range, Reading, Rows, Source,
};
use crate::beneath::Folder;
use crate::shortage::Unjudged;

/// The field of the folder.
const PATH: &str = "path";
/// The name of the input, as that of other images.
const IMAGES: &str = "images";
/// The name of the target.
const LABELS: &str = "labels";

/// Larger files are refused.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// Images of which the headers are read when a request is judged.
const SAMPLE: usize = 2000;
/// Images are decoded then until they have taken so many bytes and pixels.
const DECODED_BYTES: u64 = super::WHOLE_BELOW_BYTES;
const DECODED_PIXELS: u64 = 100_000_000;
/// Images that moments are measured on, and the seed by which they are drawn.
const MEASURED: usize = 2000;
const SEED_OF_MEASURED: u64 = 0;
/// Mistakes of images that are told.
const MOST_TOLD: usize = 10;

/// A folder of images, and how they become inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files<P> {
    /// The folder.
    pub path: P,
    /// The pixels of images, height and width; None where all have the same.
    pub size: Option<[u32; 2]>,
    /// 1 for grey, 3 for red, green and blue.
    pub channels: u8,
    /// How images of another shape become that size.
    pub fit: Fit,
}

/// How images of another shape become a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// They cover it, and the middle is taken.
    Crop,
    /// Height and width change apart.
    Stretch,
}

impl<P> Format<P> for Files<P> {
    type With<Q> = Files<Q>;

    fn files(&self) -> Vec<(&'static str, &P)> {
        vec![(PATH, &self.path)]
    }

    fn locate<Q>(&self, find: &mut dyn Find<P, Q>) -> Option<Files<Q>> {
        let Self { path, size, channels, fit } = self;
        Some(Files { path: find.folder(PATH, path)?, size: *size, channels: *channels, fit: *fit })
    }

    fn read(&self, files: &[DataFile], reading: &Reading<'_>) -> Result<Box<dyn Content>, Vec<Problem>> {
        let [data] = files else { unreachable!("a set of images is one folder") };
        let told = |path: &str, error: &io::Error| vec![unreadable(&below(data.path(), path), error)];
        let folder = data.folder().map_err(|error| told("", &error))?.clone();
        let list = List::of(&folder, reading.wanted).map_err(|wrong| match wrong {
            Wrong::Unreadable(path, error) => told(&path, &error),
            Wrong::Found(path, what) => vec![Problem::of_file(PATH, &below(data.path(), &path), what)],
        })?;
        let mut images = Images {
            folder,
            root: data.path().to_owned(),
            list,
            size: Size { height: 0, width: 0 },
            channels: usize::from(self.channels),
            fit: self.fit,
            is_resized: self.size.is_some(),
        };
        images.size = match self.size {
            Some([height, width]) => Size { height: height as usize, width: width as usize },
            None => images.header(0).map_err(|problem| vec![problem])?,
        };
        let is_judged = reading.depth == Depth::Judge;
        if is_judged {
            images.judge_sample(reading)?;
        }
        Ok(Box::new(Set { images: Arc::new(images), is_judged }))
    }
}

/// The images of a folder, as inputs of a size.
struct Images {
    folder: Arc<Folder>,
    root: PathBuf,
    list: List,
    size: Size,
    channels: usize,
    fit: Fit,
    /// Whether images of other sizes become this one.
    is_resized: bool,
}

impl Images {
    /// The bytes of an image's file.
    fn bytes(&self, row: usize) -> Result<Vec<u8>, Problem> {
        let path = &*self.list.images[row].path;
        let told = |error: &io::Error| unreadable(&self.root.join(path), error);
        let file = self.folder.file(path).map_err(|error| told(&error))?;
        let size = file.metadata().map_err(|error| told(&error))?.len();
        if size > MAX_FILE_BYTES {
            return Err(self.problem(row, &format!("has {size} bytes; {MAX_FILE_BYTES} at most are read of an image")));
        }
        let mut bytes = Vec::with_capacity(size as usize);
        // A file that grows meanwhile is no larger for that.
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(|error| told(&error))?;
        Ok(bytes)
    }

    fn problem(&self, row: usize, what: &str) -> Problem {
        Problem::of_file(PATH, &self.root.join(&*self.list.images[row].path), what)
    }

    /// The size of an image by its header.
    fn header(&self, row: usize) -> Result<Size, Problem> {
        decode::size(&self.bytes(row)?).map_err(|what| self.problem(row, &what))
    }

    /// Whether an image of that size can be an input.
    fn judge_size(&self, row: usize, found: Size) -> Result<(), Problem> {
        if self.is_resized || found == self.size {
            return Ok(());
        }
        let Size { height, width } = self.size;
        let first = &self.list.images[0].path;
        let what = format!(
            "is an image of {}x{} pixels, and {first} has {height}x{width}; set size, so that all become the same",
            found.height, found.width
        );
        Err(self.problem(row, &what))
    }

    /// The pixels of an image, row by row, with its channels side by side.
    fn pixels(&self, row: usize) -> Result<Vec<u8>, Problem> {
        let image = decode::decode(&self.bytes(row)?, self.channels).map_err(|what| self.problem(row, &what))?;
        self.judge_size(row, image.size)?;
        let Image { pixels, .. } = if image.size == self.size { image } else { resize(image, self.size, self.fit) };
        Ok(pixels)
    }

    /// Judges some images, spread over all: their headers, and the pixels of the first of them.
    fn judge_sample(&self, reading: &Reading<'_>) -> Result<(), Vec<Problem>> {
        let count = self.list.images.len();
        let mut wrong = Vec::new();
        let (mut bytes_left, mut pixels_left) = (DECODED_BYTES, DECODED_PIXELS);
        for number in 0..count.min(SAMPLE) {
            let row = number * count / count.min(SAMPLE);
            reading.wanted.check().map_err(|error| vec![unreadable(&self.root, &error)])?;
            let judged = self.bytes(row).and_then(|bytes| {
                let told = |what: String| self.problem(row, &what);
                let size = decode::size(&bytes).map_err(told)?;
                self.judge_size(row, size)?;
                let pixels = size.height as u64 * size.width as u64;
                let left = (bytes_left.checked_sub(bytes.len() as u64), pixels_left.checked_sub(pixels));
                if let (Some(bytes_then), Some(pixels_then)) = left {
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
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// The means and deviations of channels over some of these rows.
    fn measure(&self, rows: &Rows) -> Result<Moments, Vec<Problem>> {
        let mut places: Vec<u64> = (0..rows.count()).collect();
        if places.len() > MEASURED {
            shuffle(&mut places, mix(SEED_OF_MEASURED));
            places.truncate(MEASURED);
        }
        let mut sums = vec![(0u64, 0u64); self.channels];
        for &place in &places {
            let pixels = self.pixels(rows.row(place) as usize).map_err(|problem| vec![problem])?;
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

/// All images of a folder.
struct Set {
    images: Arc<Images>,
    is_judged: bool,
}

impl Content for Set {
    fn rows(&self) -> u64 {
        self.images.list.images.len() as u64
    }

    fn strata(&self) -> Result<Vec<u32>, Problem> {
        Ok(self.images.list.images.iter().map(|image| image.class).collect())
    }

    fn learn(&self, rows: &Rows, measure: bool) -> Result<Preparation, Vec<Problem>> {
        let mut preparation = Preparation { classes: self.images.list.classes.clone(), ..Preparation::default() };
        if measure && !self.is_judged {
            preparation.moments = BTreeMap::from([(IMAGES.to_owned(), self.images.measure(rows)?)]);
        }
        Ok(preparation)
    }

    fn details(&self, rows: &Rows, preparation: &Preparation) -> Details {
        let list = &self.images.list;
        let known = |class: &String| preparation.classes.iter().position(|known| known == class);
        let numbers: Vec<_> = list.classes.iter().map(known).collect();
        let number = |row: u64| numbers[list.images[row as usize].class as usize].map(|number| number as i64);
        let classes = details::classes(rows.iter().filter_map(number), &preparation.classes);
        Details { classes, ..Details::default() }
    }

    fn prepare(&self, rows: Rows, preparation: &Preparation) -> Result<Prepared, Vec<Problem>> {
        let Images { list, root, size, channels, .. } = &*self.images;
        let number = |class: &String| preparation.classes.iter().position(|known| known == class);
        let found = list.classes.iter().map(|class| number(class).ok_or(class));
        let (mut numbers, mut wrong) = (Vec::new(), Vec::new());
        found.for_each(|found| match found {
            Ok(number) => numbers.push(number as i64),
            Err(class) => wrong.push(Problem::of_file(PATH, &root.join(class), "is a class that training has not")),
        });
        if !wrong.is_empty() {
            wrong.truncate(MOST_TOLD);
            return Err(wrong);
        }
        let mut range = None;
        for (row, place) in rows.iter().zip(0..) {
            range = Some(Range::with(range, numbers[list.images[row as usize].class as usize], place));
        }
        let shape = [*channels, size.height, size.width].map(|size| size as u64).to_vec();
        let field =
            |name: &str, dtype, shape, range| Field { name: name.into(), file: PATH.into(), dtype, shape, range };
        let facts = Facts {
            examples: rows.count(),
            inputs: vec![field(IMAGES, Dtype::Pixel, shape, None)],
            target: field(LABELS, Dtype::I64, vec![], range),
            sizes: Vec::new(),
            is_resident: false,
        };
        let decoded = Decoded { facts: facts.clone(), images: self.images.clone(), rows, numbers };
        let source = (!self.is_judged).then(|| Box::new(decoded) as Box<dyn Source>);
        Ok(Prepared { facts, source, notes: Vec::new() })
    }
}

/// Some images of a folder.
struct Decoded {
    facts: Facts,
    images: Arc<Images>,
    rows: Rows,
    /// The number of each class of the folder.
    numbers: Vec<i64>,
}

impl Source for Decoded {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn access(&self) -> Access<'_> {
        Access::Single
    }

    fn fill(&self, places: &[u64], into: &mut HostBatch) -> Result<(), Problem> {
        into.inputs.resize_with(1, Vec::new);
        let HostBatch { inputs, targets } = into;
        let example_bytes = self.facts.inputs[0].bytes() as usize;
        // What the batch before has left is written over, and need not become zeros first.
        inputs[0].resize(places.len() * example_bytes, 0);
        targets.clear();
        for (&place, into) in places.iter().zip(inputs[0].chunks_exact_mut(example_bytes)) {
            let row = self.rows.row(place) as usize;
            let pixels = self.images.pixels(row)?;
            by_channel(&pixels, self.images.channels, into);
            let class = self.images.list.images[row].class as usize;
            targets.extend_from_slice(&self.numbers[class].to_le_bytes());
        }
        Ok(())
    }
}

/// A path below the folder; the folder's own where it is empty.
fn below(root: &Path, path: &str) -> PathBuf {
    if path.is_empty() { root.to_owned() } else { root.join(path) }
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let unjudged = Unjudged::of(error);
    Problem { unjudged, ..Problem::of_file(PATH, path, format!("cannot be read: {error}")) }
}

#[cfg(test)]
mod tests;
