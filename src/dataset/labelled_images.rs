//! A set of grey images with a label each, from a pair of IDX files.

use std::path::Path;

use super::DataFile;
use super::idx::{IdxError, IdxFile};
use crate::gate::Wanted;
use crate::shortage::Unjudged;

/// Below this size on disk a file is read whole when a request is judged; above it the header has
/// to do.
pub const WHOLE_BELOW_BYTES: u64 = 64_000_000;
/// And so it is where a small gzip file promises more than this.
const WHOLE_BELOW_VALUES: u64 = 1 << 30;

/// The set in memory.
pub struct LabelledImages {
    /// What it holds.
    pub facts: Facts,
    /// Shape `[examples, height, width]`, 0 to 255.
    pub images: Vec<u8>,
    /// Shape `[examples]`.
    pub labels: Vec<u8>,
}

/// What a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Images, and as many labels.
    pub examples: u64,
    /// Pixels from top to bottom.
    pub height: u32,
    /// Pixels from left to right.
    pub width: u32,
    /// The highest label and the place where it stands first; None where the labels were not read.
    pub highest_label: Option<(u8, u64)>,
    /// The lowest label; None where the labels were not read.
    pub lowest_label: Option<u8>,
    /// Bytes of the images' file as it lies on the disk.
    pub images_bytes: u64,
    /// Bytes of the labels' file as it lies on the disk.
    pub labels_bytes: u64,
}

/// What was found among labels that were read so far.
#[derive(Debug, Clone, Copy, Default)]
struct Range {
    highest: Option<(u8, u64)>,
    lowest: Option<u8>,
    /// How many they are.
    count: u64,
}

impl Range {
    fn take(&mut self, block: &[u8]) {
        for &label in block {
            if self.highest.is_none_or(|(value, _)| label > value) {
                self.highest = Some((label, self.count));
            }
            self.lowest = Some(self.lowest.map_or(label, |lowest| lowest.min(label)));
            self.count += 1;
        }
    }
}

/// What the header of a file and the file system tell of it.
struct Shape {
    dimensions: Vec<u32>,
    on_disk: u64,
}

impl Shape {
    fn of(file: &IdxFile) -> Self {
        Self { dimensions: file.dimensions.clone(), on_disk: file.on_disk }
    }
}

/// One of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The images.
    Images,
    /// The labels.
    Labels,
}

/// What is wrong with a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// With which of its files.
    pub part: Part,
    /// In a user's words, beginning with the path.
    pub what: String,
    /// Nothing is known to be wrong with it: why it could not be read now.
    pub unjudged: Option<Unjudged>,
}

/// Judges a set without keeping it: small files whole, large ones by their headers. Ends with a
/// problem that says so where nobody waits for it.
pub fn inspect(images: &DataFile, labels: &DataFile, wanted: &Wanted) -> Result<Facts, Vec<Problem>> {
    let image_check = open(images, Part::Images).and_then(|mut file| {
        if is_small(&file) {
            file.each_block(|_| wanted.check()).map_err(|error| problem(images.path(), Part::Images, &error))?;
        }
        Ok(Shape::of(&file))
    });
    let label_check = open(labels, Part::Labels).and_then(|mut file| {
        let mut range = Range::default();
        if is_small(&file) {
            let take = |block: &[u8]| {
                range.take(block);
                wanted.check()
            };
            file.each_block(take).map_err(|error| problem(labels.path(), Part::Labels, &error))?;
        }
        Ok((Shape::of(&file), range))
    });
    let (shape, (label_shape, range)) = both(image_check, label_check)?;
    agree(images.path(), labels.path(), &shape, &label_shape, range)
}

/// Reads a set.
pub fn load(images: &DataFile, labels: &DataFile) -> Result<LabelledImages, Vec<Problem>> {
    let read = |data: &DataFile, part| {
        let file = open(data, part)?;
        let shape = Shape::of(&file);
        file.read().map(|values| (shape, values)).map_err(|error| problem(data.path(), part, &error))
    };
    let ((shape, image_values), (label_shape, label_values)) =
        both(read(images, Part::Images), read(labels, Part::Labels))?;
    let mut range = Range::default();
    range.take(&label_values);
    let facts = agree(images.path(), labels.path(), &shape, &label_shape, range)?;
    Ok(LabelledImages { facts, images: image_values, labels: label_values })
}

fn open(data: &DataFile, part: Part) -> Result<IdxFile, Problem> {
    let dimensions = match part {
        Part::Images => 3,
        Part::Labels => 1,
    };
    let file = data.reader().map_err(IdxError::Unreadable);
    file.and_then(|file| IdxFile::open(file, dimensions)).map_err(|error| problem(data.path(), part, &error))
}

fn is_small(file: &IdxFile) -> bool {
    file.on_disk < WHOLE_BELOW_BYTES && file.value_count().is_some_and(|count| count < WHOLE_BELOW_VALUES)
}

fn problem(path: &Path, part: Part, error: &IdxError) -> Problem {
    let unjudged = match error {
        IdxError::Unreadable(cause) => Unjudged::of(cause),
        IdxError::NoHeader
        | IdxError::WrongMagic { .. }
        | IdxError::GzipCut { .. }
        | IdxError::SwappedSizes { .. }
        | IdxError::Truncated { .. }
        | IdxError::Trailing { .. }
        | IdxError::TooLarge => None,
    };
    Problem { part, what: format!("{} {error}", path.display()), unjudged }
}

fn both<A, B>(images: Result<A, Problem>, labels: Result<B, Problem>) -> Result<(A, B), Vec<Problem>> {
    match (images, labels) {
        (Ok(images), Ok(labels)) => Ok((images, labels)),
        (images, labels) => Err(images.err().into_iter().chain(labels.err()).collect()),
    }
}

fn agree(
    images: &Path,
    labels: &Path,
    shape: &Shape,
    label_shape: &Shape,
    range: Range,
) -> Result<Facts, Vec<Problem>> {
    let (&[count, height, width], &[label_count]) = (&shape.dimensions[..], &label_shape.dimensions[..]) else {
        unreachable!("opened with 3 dimensions and with 1");
    };
    let refuse = |part, what| Err(vec![Problem { part, what, unjudged: None }]);
    if count != label_count {
        return refuse(
            Part::Labels,
            format!(
                "{} has {label_count} labels for the {count} images of {}; there must be one each",
                labels.display(),
                images.display()
            ),
        );
    }
    if count == 0 || height == 0 || width == 0 {
        return refuse(Part::Images, format!("{} is empty: [{count}, {height}, {width}]", images.display()));
    }
    let Range { highest, lowest, .. } = range;
    Ok(Facts {
        examples: u64::from(count),
        height,
        width,
        highest_label: highest,
        lowest_label: lowest,
        images_bytes: shape.on_disk,
        labels_bytes: label_shape.on_disk,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn pair(count: u32, labels: &[u8]) -> (tempfile::TempDir, DataFile, DataFile) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().canonicalize().unwrap();
        let (image_path, label_path) = (place.join("images"), place.join("labels"));
        let mut images = vec![0, 0, 8, 3];
        for size in [count, 2, 2] {
            images.extend_from_slice(&size.to_be_bytes());
        }
        images.extend((0..count * 4).map(|value| value as u8));
        let mut label_file = vec![0, 0, 8, 1];
        label_file.extend_from_slice(&(labels.len() as u32).to_be_bytes());
        label_file.extend_from_slice(labels);
        fs::write(&image_path, images).unwrap();
        fs::write(&label_path, label_file).unwrap();
        (folder, DataFile::open(&image_path).unwrap(), DataFile::open(&label_path).unwrap())
    }

    fn judge(images: &DataFile, labels: &DataFile) -> Result<Facts, Vec<Problem>> {
        let (_caller, wanted) = Wanted::by_caller();
        inspect(images, labels, &wanted)
    }

    #[test]
    fn a_set_is_judged_as_it_is_loaded() {
        let (_folder, images, labels) = pair(3, &[1, 9, 9]);
        let facts = Facts {
            examples: 3,
            height: 2,
            width: 2,
            highest_label: Some((9, 1)),
            lowest_label: Some(1),
            images_bytes: 28,
            labels_bytes: 11,
        };
        let (caller, wanted) = Wanted::by_caller();
        assert_eq!(inspect(&images, &labels, &wanted), Ok(facts));
        let set = load(&images, &labels).ok().unwrap();
        assert_eq!((set.facts, set.labels.as_slice(), set.images.len()), (facts, &[1, 9, 9][..], 12));
        drop(caller);
        let ended = inspect(&images, &labels, &wanted).unwrap_err();
        assert!(ended.len() == 2 && ended.iter().all(|one| one.what.contains("nobody waits")), "{ended:?}");
    }

    #[test]
    fn counts_that_differ_are_told() {
        let (_folder, images, labels) = pair(3, &[1, 2]);
        let problems = judge(&images, &labels).unwrap_err();
        assert_eq!(problems[0].part, Part::Labels);
        assert!(problems[0].what.contains("2 labels for the 3 images"), "{problems:?}");
    }

    #[test]
    fn an_empty_set_is_refused() {
        let (_folder, images, labels) = pair(0, &[]);
        assert!(judge(&images, &labels).unwrap_err()[0].what.contains("is empty: [0, 2, 2]"));
    }

    #[test]
    fn both_files_are_judged_at_once() {
        let (_folder, images, labels) = pair(1, &[1]);
        let problems = judge(&labels, &images).unwrap_err();
        assert_eq!(problems.iter().map(|problem| problem.part).collect::<Vec<_>>(), [Part::Images, Part::Labels]);
    }
}
