//! A set of examples in NumPy arrays that have a file each: the inputs and the targets. Either may
//! lie in several files, which follow one another.

mod header;

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub(super) use self::header::{Header, Wrong};
use super::array_set::{self, Array, At, Mistake, Open, Part, Roles, UNPACK};
use super::compressed::Source;
use super::paths::{Fields, Paths};
use super::{Content, DataFile, Field, Find, Format, Problem, Reading};

/// The fields of the inputs: one file or pattern, or a list.
const INPUT: Fields = ["input", "input_paths"];
/// The same of the targets.
const TARGET: Fields = ["target", "target_paths"];

/// Pairs of `.npy` files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(bound(deserialize = "P: Deserialize<'de>"))]
pub struct Files<P> {
    /// The array that a network gets.
    pub input: Paths<P>,
    /// The array that it should answer; None for inputs that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Paths<P>>,
}

impl<P> Format<P> for Files<P> {
    type With<Q> = Files<Q>;

    fn files(&self) -> Vec<(&'static str, &P)> {
        let target = self.target.iter().flat_map(|target| target.files_of(TARGET));
        self.input.files_of(INPUT).into_iter().chain(target).collect()
    }

    fn locate<Q>(&self, find: &mut dyn Find<P, Q>) -> Option<Files<Q>> {
        let input = self.input.locate_of(INPUT, find);
        let target = self.target.as_ref().map(|target| target.locate_of(TARGET, find));
        Some(Files { input: input?, target: target.map_or(Some(None), |target| target.map(Some))? })
    }

    fn read(&self, files: &[DataFile], reading: &Reading<'_>) -> Result<Box<dyn Content>, Vec<Problem>> {
        let (inputs, targets) = files.split_at(self.input.all().len().min(files.len()));
        let of_target = self.target.as_ref().map_or(TARGET[0], |target| target.field_of(TARGET));
        reading.demand_target(!targets.is_empty(), of_target)?;
        let (mut arrays, mut sizes, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for (files, field) in [(inputs, self.input.field_of(INPUT)), (targets, of_target)] {
            let mut found = Vec::new();
            for file in files {
                match array(file, field) {
                    // One array, whatever the names of its files.
                    Ok((at, array)) => {
                        sizes.push(at.size_bytes);
                        let name = found.first().map_or(&array.name, |(_, of): &(_, Vec<Array<'_>>)| &of[0].name);
                        let name = name.clone();
                        found.push((at, vec![Array { name, ..array }]));
                    }
                    Err(problem) => wrong.push(problem),
                }
            }
            match Array::joined(found, |_| true) {
                Ok(joined) => arrays.extend(joined),
                Err(problems) => wrong.extend(problems),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let weights = Err("the data are two arrays, and none of weights; an archive (npz) may have one".into());
        let (target, no_target) = match targets {
            [] => (None, Some(Field::no_target(TARGET[0], TARGET[0]))),
            _ => (Some(1), None),
        };
        array_set::read(arrays, Roles { inputs: vec![0], target, no_target, weights, wrong }, sizes, reading)
    }
}

/// The name of the array of a file: that of the file without the ends for packing and format.
fn name_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy();
    let unpacked = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    let short = Path::new(unpacked).file_stem()?.to_string_lossy();
    Some(short.into_owned())
}

/// The array of a file. Its name is that of the file.
fn array<'a>(data: &'a DataFile, field: &'static str) -> Result<(At<'a>, Array<'a>), Problem> {
    let path = data.path();
    let told = |wrong| problem(field, path, wrong);
    let size = data.metadata().map_err(|error| told(Wrong::Unreadable(error)))?.len();
    let (header, source) = begun(data).map_err(told)?;
    // Large files are judged by this alone.
    if let (true, Ok(numbers)) = (source.is_plain(), &header.numbers) {
        let width = numbers.kind.width() as u64;
        let (wanted, found) = (header.shape.iter().product::<u64>(), size.saturating_sub(header.size_bytes));
        let told = |what| Err(told(Wrong::Header(what)));
        if found < wanted * width {
            return told(format!("is cut off: its header says {wanted} values, {} are there", found / width));
        }
        if found > wanted * width {
            return told(format!("goes on after the {wanted} values that its header says"));
        }
    }
    let name = name_of(path).unwrap_or_else(|| field.to_owned());
    let at = At { field, data, size_bytes: size };
    let place = if source.is_plain() { Ok(header.size_bytes) } else { Err(UNPACK) };
    let packed = source.is_gzip().then_some((size, "gzip"));
    let open: Open<'a> = Box::new(move || Ok(Box::new(begun(data)?.1)));
    Ok((at, header.array(name, at, place, packed, open)))
}

/// The header of a file, and the file behind it.
fn begun(data: &DataFile) -> Result<(Header, Source), Wrong> {
    let mut source = data.reader().and_then(Source::new).map_err(Wrong::Unreadable)?;
    Ok((Header::read(&mut source)?, source))
}

impl From<Wrong> for io::Error {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Unreadable(error) => error,
            Wrong::Header(what) => Mistake(what).into(),
        }
    }
}

impl Header {
    /// The array of this header.
    pub(super) fn array<'a>(
        self,
        name: String,
        file: At<'a>,
        place: Result<u64, &'static str>,
        packed: Option<(u64, &'static str)>,
        open: Open<'a>,
    ) -> Array<'a> {
        let Self { numbers, order, shape, .. } = self;
        let examples = shape.first().copied().unwrap_or(0);
        Array {
            name,
            numbers,
            shape,
            is_quantity: false,
            parts: vec![Part { file, examples, order, place, packed, open }],
        }
    }
}

/// The problem of a file whose header is wrong.
pub(super) fn problem(field: &'static str, path: &Path, wrong: Wrong) -> Problem {
    match wrong {
        Wrong::Header(what) => Problem::of_file(field, path, what),
        Wrong::Unreadable(error) => Problem::unreadable(field, path, &error),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::super::{Dtype, Facts, Fault, Files as Kinds, HostBatch, OpenFiles, Selection};
    use super::*;
    use crate::gate::Wanted;

    /// A file as `np.save` writes it.
    pub(in super::super) fn npy(descr: &str, order: &str, shape: &str, values: &[u8]) -> Vec<u8> {
        let mut text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
        while (10 + text.len() + 1) % 64 != 0 {
            text.push(' ');
        }
        text.push('\n');
        let length = (text.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], text.as_bytes(), values].concat()
    }

    fn set() -> Selection {
        Selection::of(Kinds::Npy(Files { input: "".into(), target: Some("".into()) }))
    }

    fn opened(input: &[u8], target: &[u8]) -> (tempfile::TempDir, OpenFiles) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().canonicalize().unwrap();
        let files = [("x.npy", input), ("y.npy", target)].map(|(name, bytes)| {
            fs::write(place.join(name), bytes).unwrap();
            DataFile::open(&place.join(name)).unwrap()
        });
        (folder, OpenFiles::of(files))
    }

    fn judge(files: &OpenFiles) -> Result<Facts, Vec<Problem>> {
        let (_caller, wanted) = Wanted::by_caller();
        let problems = |faults: Vec<Fault>| faults.into_iter().map(|fault| fault.problem).collect();
        set().judge(files, &wanted).map(|judged| judged.train).map_err(problems)
    }

    fn whole(values: &[i64]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn arrays_in_both_orders_are_read_alike() {
        let doubles = |values: &[f64]| values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<_>>();
        let rows = npy(">f8", "False", "(2, 3)", &doubles(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
        let columns = npy(">f8", "True", "(2, 3)", &doubles(&[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
        for input in [rows, columns] {
            let (_folder, files) = opened(&input, &npy("|b1", "False", "(2,)", &[1, 0]));
            let facts = judge(&files).unwrap();
            assert_eq!((facts.inputs[0].name.as_str(), facts.target.dtype), ("x", Dtype::I64));
            let set = set().open(&files, None).ok().unwrap().train;
            assert_eq!(set.facts(), &facts);
            let mut batch = HostBatch::default();
            set.fill(&[1, 0], &mut batch).unwrap();
            assert_eq!(batch.inputs, [floats(&[3.0, 4.0, 5.0, 0.0, 1.0, 2.0])]);
            assert_eq!(batch.targets, whole(&[0, 1]));
        }
    }

    #[test]
    fn every_fault_of_an_array_is_told_with_its_file() {
        let good = npy("<i8", "False", "(2,)", &whole(&[0, 1]));
        let cut = npy("<f4", "False", "(2, 2)", &floats(&[0.0; 3]));
        let longer = npy("<f4", "False", "(2,)", &floats(&[0.0; 3]));
        let images = npy("|u1", "False", "(2, 8, 8, 3)", &[0; 2 * 8 * 8 * 3]);
        for (input, target, field, words) in [
            (&cut, &good, INPUT[0], "is cut off: its header says 4 values, 3 are there"),
            (&good, &longer, TARGET[0], "goes on after the 2 values that its header says"),
            (&npy("|O", "False", "(2,)", &[0x80, 4]), &good, INPUT[0], "has \"x\" as \"|O\": Python objects"),
            (&npy("<f4", "False", "()", &floats(&[1.0])), &good, INPUT[0], "has a single number as \"x\""),
            (&npy("<f4", "False", "(3,)", &floats(&[1.0; 3])), &good, INPUT[0], "3 examples in \"x\" and 2 in \"y\""),
            (&npy("<f4", "False", "(0, 4)", &[]), &good, INPUT[0], "of the shape [0, 4], which is empty"),
            (
                &npy("<f4", "False", "(2,)", &floats(&[1.0, f32::NAN])),
                &good,
                INPUT[0],
                "holds NaN in \"x\", in the example 1",
            ),
            (&images, &good, INPUT[0], "whose channels (3) are last; torchd takes [count, channels, height, width]"),
            (&b"PK\x03\x04....".to_vec(), &good, INPUT[0], "is no .npy file: it looks like a zip archive"),
        ] {
            let (_folder, files) = opened(input, target);
            let problems = judge(&files).unwrap_err();
            assert_eq!((problems.len(), problems[0].file.as_ref()), (1, field), "{problems:?}");
            assert!(problems[0].what.contains(words), "{words}: {problems:?}");
            let name = if field == INPUT[0] { "x.npy" } else { "y.npy" };
            assert!(problems[0].what.starts_with(&files.train[0].path().with_file_name(name).display().to_string()));
        }
        let (_folder, files) = opened(b"", b"text");
        assert_eq!(judge(&files).unwrap_err().len(), 2, "both files are judged at once");
    }

    #[test]
    fn files_of_numpy_itself_hold_what_it_has_put_there() {
        let golden = Path::new("tests/data/numpy").canonicalize().unwrap();
        let expected: Vec<f32> = (0..12u8).map(|place| f32::from(place) / 4.0).collect();
        for name in ["rows.npy", "columns.npy", "version-2.npy", "version-3.npy"] {
            let files = OpenFiles::of([name, "classes.npy"].map(|name| DataFile::open(&golden.join(name)).unwrap()));
            let facts = judge(&files).unwrap();
            assert_eq!((facts.examples, &facts.inputs[0].shape[..]), (3, &[2, 2][..]), "{name}");
            let set = set().open(&files, None).ok().unwrap().train;
            let mut batch = HostBatch::default();
            set.fill(&[0, 1, 2], &mut batch).unwrap();
            assert_eq!((&batch.inputs[0], batch.targets), (&floats(&expected), whole(&[2, 0, 1])), "{name}");
        }
    }
}
