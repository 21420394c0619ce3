//! A set of grey images with a label each, from a pair of IDX files.

mod file;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::resident::Arrays;
use super::{Content, DataFile, Depth, Dtype, Facts, Field, Find, Format, Problem, Range, Reading, WHOLE_BELOW_BYTES};
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

    fn locate<Q>(&self, find: &mut dyn Find<P, Q>) -> Option<Files<Q>> {
        let (images, labels) = (find.one(IMAGES, &self.images), find.one(LABELS, &self.labels));
        Some(Files { images: images?, labels: labels? })
    }

    fn read(&self, files: &[DataFile], reading: &Reading<'_>) -> Result<Box<dyn Content>, Vec<Problem>> {
        let (images, labels) = pair(files);
        let (image_values, label_values) = both(values(images, IMAGES, reading), values(labels, LABELS, reading))?;
        let range = label_values.bytes.as_ref();
        let range = range.and_then(|labels| Range::of(labels.iter().map(|&label| label.into()), 1));
        let facts = agree(images.path(), labels.path(), &image_values, &label_values, range)?;
        let targets = label_values.bytes.as_ref();
        let targets = targets.map(|labels| labels.iter().flat_map(|&label| i64::from(label).to_le_bytes()).collect());
        let inputs = image_values.bytes.filter(|_| reading.depth == Depth::Train).map(|pixels| vec![Arc::new(pixels)]);
        let weights = Err("the data are images and labels without weights".into());
        Ok(Box::new(Arrays { facts, inputs, targets: targets.map(Arc::new), weights }))
    }
}

/// A file as far as it was read.
struct Values {
    dimensions: Vec<u32>,
    on_disk: u64,
    /// Its values; None of a large file that is judged, and of images that are.
    bytes: Option<Vec<u8>>,
}

/// Reads a file. Images that are judged are read, and not kept.
fn values(data: &DataFile, field: &'static str, reading: &Reading<'_>) -> Result<Values, Problem> {
    let mut file = open(data, field)?;
    let (dimensions, on_disk) = (file.dimensions.clone(), file.on_disk);
    let is_judged = reading.depth == Depth::Judge;
    if is_judged && !is_small(&file) {
        file.judge_size().map_err(|error| problem(data.path(), field, &error))?;
        return Ok(Values { dimensions, on_disk, bytes: None });
    }
    let mut bytes = (!is_judged || field == LABELS).then(Vec::new);
    let keep = |block: &[u8]| {
        if let Some(bytes) = &mut bytes {
            bytes.extend_from_slice(block);
        }
        reading.wanted.check()
    };
    file.each_block(keep).map_err(|error| problem(data.path(), field, &error))?;
    Ok(Values { dimensions, on_disk, bytes })
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
    shape: &Values,
    label_shape: &Values,
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
        is_resident: true,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::super::{Fault, Files as Kinds, HostBatch, OpenFiles, Selection};
    use super::*;
    use crate::gate::Wanted;

    fn set() -> Selection {
        Selection::of(Kinds::Idx(Files { images: PathBuf::new(), labels: PathBuf::new() }))
    }

    fn pair(count: u32, labels: &[u8]) -> (tempfile::TempDir, OpenFiles) {
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
        (folder, OpenFiles::of([image_path, label_path].map(|path| DataFile::open(&path).unwrap())))
    }

    fn judge(files: &OpenFiles) -> Result<Facts, Vec<Problem>> {
        let (_caller, wanted) = Wanted::by_caller();
        let problems = |faults: Vec<Fault>| faults.into_iter().map(|fault| fault.problem).collect();
        set().judge(files, &wanted).map(|judged| judged.train).map_err(problems)
    }

    #[test]
    fn a_set_is_judged_as_it_is_loaded_and_gives_the_examples_of_any_places() {
        let (_folder, files) = pair(3, &[1, 9, 9]);
        let (caller, wanted) = Wanted::by_caller();
        let facts = set().judge(&files, &wanted).unwrap().train;
        assert_eq!(facts.sizes, [28, 11]);
        drop(caller);
        let ended = set().judge(&files, &wanted).unwrap_err();
        assert!(ended.len() == 2 && ended.iter().all(|one| one.problem.what.contains("nobody waits")), "{ended:?}");
        assert_eq!((facts.examples, facts.inputs[0].shape.as_slice()), (3, &[1, 2, 2][..]));
        assert_eq!(facts.target.range, Some(Range { lowest: 1, highest: 9, highest_at: 1 }));
        let set = set().open(&files, None).ok().unwrap().train;
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
        let (_folder, mut files) = pair(1, &[1]);
        files.train.reverse();
        let problems = judge(&files).unwrap_err();
        assert_eq!(problems.iter().map(|problem| problem.file.as_ref()).collect::<Vec<_>>(), [IMAGES, LABELS]);
    }
}
