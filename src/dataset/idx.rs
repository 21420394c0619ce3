//! A set of grey images with a label each, from a pair of IDX files.

mod file;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::resident::Resident;
use super::{DataFile, Dtype, Facts, Field, Format, Problem, Range, Source, WHOLE_BELOW_BYTES};
use crate::gate::Wanted;
use crate::shortage::Unjudged;
pub use file::{IdxError, IdxFile};

/// A file is judged by its header too where a small gzip promises more values than this.
const WHOLE_BELOW_VALUES: u64 = 1 << 30;
/// The fields of the two files.
const IMAGES: &str = "images";
const LABELS: &str = "labels";

/// A pair of IDX files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files<P> {
    /// The images.
    pub images: P,
    /// The labels.
    pub labels: P,
}

impl<P> Format<P> for Files<P> {
    type With<Q> = Files<Q>;

    fn files(&self) -> Vec<(&'static str, &P)> {
        vec![(IMAGES, &self.images), (LABELS, &self.labels)]
    }

    fn locate<Q>(&self, find: &mut dyn FnMut(&'static str, &P) -> Option<Q>) -> Option<Files<Q>> {
        let (images, labels) = (find(IMAGES, &self.images), find(LABELS, &self.labels));
        Some(Files { images: images?, labels: labels? })
    }

    fn inspect(&self, files: &[DataFile], wanted: &Wanted) -> Result<Facts, Vec<Problem>> {
        let (images, labels) = pair(files);
        let image_check = open(images, IMAGES).and_then(|mut file| {
            let judged = if is_small(&file) { file.each_block(|_| wanted.check()) } else { file.judge_size() };
            judged.map_err(|error| problem(images.path(), IMAGES, &error))?;
            Ok(Shape::of(&file))
        });
        let label_check = open(labels, LABELS).and_then(|mut file| {
            let mut found = None;
            let mut place = 0;
            let note = |block: &[u8]| {
                for &label in block {
                    found = Some(Range::with(found, label.into(), place));
                    place += 1;
                }
                wanted.check()
            };
            let judged = if is_small(&file) { file.each_block(note) } else { file.judge_size() };
            judged.map_err(|error| problem(labels.path(), LABELS, &error))?;
            Ok((Shape::of(&file), found))
        });
        let (shape, (label_shape, range)) = both(image_check, label_check)?;
        agree(images.path(), labels.path(), &shape, &label_shape, range)
    }

    fn open(&self, files: &[DataFile]) -> Result<Box<dyn Source>, Vec<Problem>> {
        let (images, labels) = pair(files);
        let read = |data: &DataFile, field| {
            let file = open(data, field)?;
            let shape = Shape::of(&file);
            file.read().map(|values| (shape, values)).map_err(|error| problem(data.path(), field, &error))
        };
        let ((shape, pixels), (label_shape, label_values)) = both(read(images, IMAGES), read(labels, LABELS))?;
        let range = Range::of(label_values.iter().map(|&label| label.into()), 1);
        let facts = agree(images.path(), labels.path(), &shape, &label_shape, range)?;
        let targets = label_values.iter().flat_map(|&label| i64::from(label).to_le_bytes()).collect();
        Ok(Box::new(Resident::new(facts, vec![pixels], targets)))
    }
}

/// The words of a header and of the file system on a file.
struct Shape {
    dimensions: Vec<u32>,
    on_disk: u64,
}

impl Shape {
    fn of(file: &IdxFile) -> Self {
        Self { dimensions: file.dimensions.clone(), on_disk: file.on_disk }
    }
}

/// The two files in the order of [`Format::files`].
fn pair(files: &[DataFile]) -> (&DataFile, &DataFile) {
    let [images, labels] = files else { unreachable!("a set of IDX files has two files") };
    (images, labels)
}

fn open(data: &DataFile, field: &'static str) -> Result<IdxFile, Problem> {
    let dimensions = if field == IMAGES { 3 } else { 1 };
    let file = data.reader().map_err(IdxError::Unreadable);
    file.and_then(|file| IdxFile::open(file, dimensions)).map_err(|error| problem(data.path(), field, &error))
}

fn is_small(file: &IdxFile) -> bool {
    file.on_disk < WHOLE_BELOW_BYTES && file.value_count().is_some_and(|count| count < WHOLE_BELOW_VALUES)
}

fn problem(path: &Path, file: &'static str, error: &IdxError) -> Problem {
    let unjudged = match error {
        IdxError::Unreadable(cause) => Unjudged::of(cause),
        IdxError::NoHeader
        | IdxError::WrongMagic { .. }
        | IdxError::GzipCut { .. }
        | IdxError::GzipTooShort { .. }
        | IdxError::SwappedSizes { .. }
        | IdxError::Truncated { .. }
        | IdxError::Trailing { .. }
        | IdxError::TooLarge => None,
    };
    Problem { file: file.into(), what: format!("{} {error}", path.display()), unjudged }
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
    range: Option<Range>,
) -> Result<Facts, Vec<Problem>> {
    let (&[count, height, width], &[label_count]) = (&shape.dimensions[..], &label_shape.dimensions[..]) else {
        unreachable!("opened with 3 dimensions and with 1");
    };
    let refuse = |file: &'static str, what| Err(vec![Problem { file: file.into(), what, unjudged: None }]);
    if count != label_count {
        return refuse(
            LABELS,
            format!(
                "{} has {label_count} labels for the {count} images of {}; there must be one each",
                labels.display(),
                images.display()
            ),
        );
    }
    if count == 0 || height == 0 || width == 0 {
        return refuse(IMAGES, format!("{} is empty: [{count}, {height}, {width}]", images.display()));
    }
    Ok(Facts {
        examples: u64::from(count),
        inputs: vec![Field {
            name: IMAGES.into(),
            file: IMAGES.into(),
            dtype: Dtype::Pixel,
            // One channel: images are grey.
            shape: vec![1, height.into(), width.into()],
            range: None,
        }],
        target: Field { name: LABELS.into(), file: LABELS.into(), dtype: Dtype::I64, shape: vec![], range },
        sizes: vec![shape.on_disk, label_shape.on_disk],
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::super::HostBatch;
    use super::*;

    const SET: Files<PathBuf> = Files { images: PathBuf::new(), labels: PathBuf::new() };

    fn pair(count: u32, labels: &[u8]) -> (tempfile::TempDir, [DataFile; 2]) {
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
        (folder, [image_path, label_path].map(|path| DataFile::open(&path).unwrap()))
    }

    fn judge(files: &[DataFile]) -> Result<Facts, Vec<Problem>> {
        let (_caller, wanted) = Wanted::by_caller();
        SET.inspect(files, &wanted)
    }

    #[test]
    fn a_set_is_judged_as_it_is_loaded_and_gives_the_examples_of_any_places() {
        let (_folder, files) = pair(3, &[1, 9, 9]);
        let (caller, wanted) = Wanted::by_caller();
        let facts = SET.inspect(&files, &wanted).unwrap();
        assert_eq!(facts.sizes, [28, 11]);
        drop(caller);
        let ended = SET.inspect(&files, &wanted).unwrap_err();
        assert!(ended.len() == 2 && ended.iter().all(|one| one.what.contains("nobody waits")), "{ended:?}");
        assert_eq!((facts.examples, facts.inputs[0].shape.as_slice()), (3, &[1, 2, 2][..]));
        assert_eq!(facts.target.range, Some(Range { lowest: 1, highest: 9, highest_at: 1 }));
        let mut set = SET.open(&files).ok().unwrap();
        assert_eq!(set.facts(), &facts);
        let mut batch = HostBatch::default();
        set.fill(&[2, 0], &mut batch).unwrap();
        assert_eq!(batch.inputs, [[8, 9, 10, 11, 0, 1, 2, 3]]);
        assert_eq!(batch.targets, [9i64.to_le_bytes(), 1i64.to_le_bytes()].concat());
    }

    #[test]
    fn counts_that_differ_are_told() {
        let (_folder, files) = pair(3, &[1, 2]);
        let problems = judge(&files).unwrap_err();
        assert_eq!(problems[0].file, LABELS);
        assert!(problems[0].what.contains("2 labels for the 3 images"), "{problems:?}");
    }

    #[test]
    fn an_empty_set_is_refused() {
        let (_folder, files) = pair(0, &[]);
        assert!(judge(&files).unwrap_err()[0].what.contains("is empty: [0, 2, 2]"));
    }

    #[test]
    fn both_files_are_judged_at_once() {
        let (_folder, [images, labels]) = pair(1, &[1]);
        let problems = judge(&[labels, images]).unwrap_err();
        assert_eq!(problems.iter().map(|problem| problem.file.as_ref()).collect::<Vec<_>>(), [IMAGES, LABELS]);
    }
}
