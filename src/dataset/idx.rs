//! A set of images or rows of numbers with a label each, from pairs of IDX files.

mod file;

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::array_set::{self, Array, At, Mistake, Open, Part, Roles, UNPACK};
use super::column::Order;
use super::numbers::Numbers;
use super::paths::{Fields, Paths};
use super::{Content, DataFile, Field, Find, Format, Problem, Reading};
use crate::shortage::Unjudged;
pub use file::{IdxError, IdxFile};

/// The names of the two arrays.
const IMAGES: &str = "images";
const LABELS: &str = "labels";

/// The fields of their files: one file or pattern, or a list.
const OF_IMAGES: Fields = [IMAGES, "image_paths"];
const OF_LABELS: Fields = [LABELS, "label_paths"];

/// Dimensions of the two files, the usual ones first.
pub const DIMENSIONS_OF_IMAGES: &[u8] = &[3, 4, 2];
/// The same of labels.
pub const DIMENSIONS_OF_LABELS: &[u8] = &[1];

/// Pairs of IDX files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(bound(deserialize = "P: Deserialize<'de>"))]
pub struct Files<P> {
    /// The images.
    pub images: Paths<P>,
    /// The labels; None where images are to be answered that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Paths<P>>,
}

impl<P> Format<P> for Files<P> {
    type With<Q> = Files<Q>;

    fn files(&self) -> Vec<(&'static str, &P)> {
        let labels = self.labels.iter().flat_map(|labels| labels.files_of(OF_LABELS));
        self.images.files_of(OF_IMAGES).into_iter().chain(labels).collect()
    }

    fn locate<Q>(&self, find: &mut dyn Find<P, Q>) -> Option<Files<Q>> {
        let images = self.images.locate_of(OF_IMAGES, find);
        let labels = self.labels.as_ref().map(|labels| labels.locate_of(OF_LABELS, find));
        Some(Files { images: images?, labels: labels.map_or(Some(None), |labels| labels.map(Some))? })
    }

    fn read(&self, files: &[DataFile], reading: &Reading<'_>) -> Result<Box<dyn Content>, Vec<Problem>> {
        let (images, labels) = files.split_at(self.images.all().len().min(files.len()));
        let of_labels = self.labels.as_ref().map_or(LABELS, |labels| labels.field_of(OF_LABELS));
        reading.demand_target(!labels.is_empty(), of_labels)?;
        let (mut arrays, mut sizes, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for (files, name, field, wanted) in [
            (images, IMAGES, self.images.field_of(OF_IMAGES), DIMENSIONS_OF_IMAGES),
            (labels, LABELS, of_labels, DIMENSIONS_OF_LABELS),
        ] {
            let mut found = Vec::new();
            for data in files {
                match array(data, name, field, wanted) {
                    Ok((at, array)) => {
                        sizes.push(at.size_bytes);
                        found.push((at, vec![array]));
                    }
                    Err(problem) => wrong.push(problem),
                }
            }
            match Array::joined(found, |_| true) {
                Ok(joined) => arrays.extend(joined),
                Err(problems) => wrong.extend(problems),
            }
        }
        if let [images, labels] = &arrays[..] {
            wrong.extend(unpaired(images, labels));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let weights = Err("the data are images and labels without weights".into());
        let (target, no_target) = match labels {
            [] => (None, Some(Field::no_target(LABELS, LABELS))),
            _ => (Some(1), None),
        };
        array_set::read(arrays, Roles { inputs: vec![0], target, no_target, weights, wrong }, sizes, reading)
    }
}

/// The files of labels that are not those of as many images.
fn unpaired(images: &Array<'_>, labels: &Array<'_>) -> Vec<Problem> {
    let pairs = images.parts.iter().zip(&labels.parts).filter(|_| images.parts.len() == labels.parts.len());
    let differ = pairs.filter(|(images, labels)| images.examples != labels.examples);
    let told = |(images, labels): (&Part<'_>, &Part<'_>)| {
        let (count, place) = (labels.examples, images.file.data.path().display());
        let what = format!("has {count} labels for the {} images of {place}; there must be one each", images.examples);
        labels.file.problem(what)
    };
    differ.map(told).collect()
}

/// The array of a file. Images of one channel get a dimension for it.
fn array<'a>(
    data: &'a DataFile,
    name: &str,
    field: &'static str,
    wanted: &'static [u8],
) -> Result<(At<'a>, Array<'a>), Problem> {
    let file = open(data, wanted).map_err(|error| problem(data.path(), field, &error))?;
    let mut shape: Vec<u64> = file.dimensions.iter().copied().map(u64::from).collect();
    if shape.len() == 3 {
        shape.insert(1, 1);
    }
    let at = At { field, data, size_bytes: file.on_disk };
    let packed = file.is_gzip().then_some((file.on_disk, "gzip"));
    let again: Open<'a> = Box::new(move || match open(data, wanted) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(io::Error::from(error)),
    });
    let examples = shape.first().copied().unwrap_or(0);
    let array = Array {
        name: name.into(),
        numbers: Ok(Numbers { kind: file.kind, is_big_endian: true }),
        shape,
        is_quantity: name == IMAGES,
        parts: vec![Part {
            file: at,
            examples,
            order: Order::Rows,
            place: file.first_value().ok_or(UNPACK),
            packed,
            open: again,
        }],
    };
    Ok((at, array))
}

fn open(data: &DataFile, wanted: &'static [u8]) -> Result<IdxFile, IdxError> {
    let file = data.reader().map_err(IdxError::Unreadable)?;
    IdxFile::open(file, wanted)
}

impl From<IdxError> for io::Error {
    fn from(error: IdxError) -> Self {
        match error {
            IdxError::Unreadable(cause) => cause,
            other => Mistake(other.to_string()).into(),
        }
    }
}

fn problem(path: &Path, field: &'static str, error: &IdxError) -> Problem {
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
    Problem { unjudged, ..Problem::of_file(field, path, error) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Dtype, Facts, Fault, Files as Kinds, HostBatch, OpenFiles, Range, Selection};
    use super::*;
    use crate::gate::Wanted;

    fn set() -> Selection {
        Selection::of(Kinds::Idx(Files { images: "".into(), labels: Some("".into()) }))
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
        let told = judge(&files).unwrap_err();
        assert!(told.iter().any(|one| one.what.contains("of the shape [0, 1, 2, 2], which is empty")), "{told:?}");
    }

    #[test]
    fn both_files_are_judged_at_once() {
        let (_folder, mut files) = pair(1, &[1]);
        files.train.reverse();
        let problems = judge(&files).unwrap_err();
        assert_eq!(problems.iter().map(|problem| problem.file.as_ref()).collect::<Vec<_>>(), [IMAGES, LABELS]);
    }

    /// A file of that type and those dimensions.
    fn file(kind: u8, dimensions: &[u32], values: &[u8]) -> Vec<u8> {
        let sizes = dimensions.iter().flat_map(|size| size.to_be_bytes());
        [0, 0, kind, dimensions.len() as u8].into_iter().chain(sizes).chain(values.iter().copied()).collect()
    }

    fn opened(images: &[u8], labels: &[u8]) -> (tempfile::TempDir, OpenFiles) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().canonicalize().unwrap();
        let files = [("images", images), ("labels", labels)].map(|(name, bytes)| {
            fs::write(place.join(name), bytes).unwrap();
            DataFile::open(&place.join(name)).unwrap()
        });
        (folder, OpenFiles::of(files))
    }

    #[test]
    fn every_type_and_number_of_dimensions_becomes_what_a_network_takes() {
        let wide = |values: &[i32]| values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<_>>();
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        let doubles: Vec<u8> = [0.1f64, -2.0].iter().flat_map(|value| value.to_be_bytes()).collect();
        for (images, labels, dtype, shape, input, target) in [
            (
                file(0x08, &[2, 3, 1, 1], &[1, 2, 3, 4, 5, 6]),
                file(0x0c, &[2], &wide(&[-1, 70_000])),
                Dtype::Pixel,
                &[3, 1, 1][..],
                vec![1, 2, 3, 4, 5, 6],
                Some(&[-1i64, 70_000][..]),
            ),
            (
                file(0x0e, &[2, 1], &doubles),
                file(0x09, &[2], &[0xff, 3]),
                Dtype::F32,
                &[1],
                floats(&[0.1, -2.0]),
                Some(&[-1, 3]),
            ),
            (
                file(0x08, &[1, 2], &[7, 255]),
                file(0x0b, &[1], &[1, 0]),
                Dtype::F32,
                &[2],
                floats(&[7.0, 255.0]),
                Some(&[256]),
            ),
            (
                file(0x0b, &[1, 1, 2], &[0, 1, 0xff, 0xff]),
                file(0x0d, &[1], &1.5f32.to_be_bytes()),
                Dtype::F32,
                &[1, 1, 2],
                floats(&[1.0, -1.0]),
                None,
            ),
        ] {
            let (_folder, files) = opened(&images, &labels);
            let facts = judge(&files).unwrap();
            assert_eq!((facts.inputs[0].dtype, &facts.inputs[0].shape[..]), (dtype, shape));
            let set = set().open(&files, None).ok().unwrap().train;
            assert_eq!(set.facts(), &facts);
            let mut batch = HostBatch::default();
            set.fill(&(0..facts.examples).collect::<Vec<_>>(), &mut batch).unwrap();
            assert_eq!(batch.inputs, [input]);
            let target =
                target.map_or(floats(&[1.5]), |whole| whole.iter().flat_map(|one| one.to_le_bytes()).collect());
            assert_eq!(batch.targets, target);
        }
    }

    #[test]
    fn values_that_are_not_finite_and_channels_that_come_last_are_told() {
        let label = file(0x08, &[1], &[0]);
        let (_folder, files) = opened(&file(0x0d, &[1, 1], &f32::INFINITY.to_be_bytes()), &label);
        let problems = judge(&files).unwrap_err();
        assert!(problems[0].what.contains(r#"holds inf in "images", in the example 0"#), "{problems:?}");
        let (_folder, files) = opened(&file(0x08, &[1, 28, 28, 3], &[0; 28 * 28 * 3]), &label);
        let problems = judge(&files).unwrap_err();
        assert!(problems[0].what.contains("[1, 28, 28, 3], whose channels (3) are last"), "{problems:?}");
    }
}
