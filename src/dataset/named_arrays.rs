//! A set of examples in one safetensors file of named arrays, whose first dimension counts the
//! examples: 32-bit floats, and 64-bit integers for classes and tokens.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::resident::Arrays;
use super::{Content, DataFile, Depth, Dtype, Facts, Field, Find, Format, Problem, Range, Reading, WHOLE_BELOW_BYTES};
use crate::shortage::Unjudged;
use crate::tensor_file::{self, Positioned, ReaderAt, Tensor, safetensors};

/// The field of the file.
const PATH: &str = "path";
/// Bytes that are read at a time.
const BLOCK: usize = 1 << 20;

/// A file of named arrays, and the part that each plays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files<P> {
    /// The file.
    pub path: P,
    /// The arrays that a network gets, in its order; empty for all but the target, by name.
    pub inputs: Vec<String>,
    /// The array that it should answer.
    pub target: String,
}

impl<P> Format<P> for Files<P> {
    type With<Q> = Files<Q>;

    fn files(&self) -> Vec<(&'static str, &P)> {
        vec![(PATH, &self.path)]
    }

    fn locate<Q>(&self, find: &mut dyn Find<P, Q>) -> Option<Files<Q>> {
        let path = find.one(PATH, &self.path)?;
        Some(Files { path, inputs: self.inputs.clone(), target: self.target.clone() })
    }

    fn read(&self, files: &[DataFile], reading: &Reading<'_>) -> Result<Box<dyn Content>, Vec<Problem>> {
        let mut set = Named::open(self, files, reading)?;
        let is_small = set.facts.sizes.iter().all(|size| *size < WHOLE_BELOW_BYTES);
        let is_read = reading.depth == Depth::Train || is_small;
        let weights = match reading.weights.map(|name| set.weights(name)) {
            Some(Ok(array)) if is_read => Ok(Some(set.numbers(array, reading)?)),
            Some(Ok(_)) | None => Ok(None),
            Some(Err(what)) => Err(what),
        };
        if !is_read {
            return Ok(Box::new(Arrays { facts: set.facts, inputs: None, targets: None, weights }));
        }
        let mut columns = set.read(reading)?.into_iter().map(Arc::new).collect::<Vec<_>>();
        let targets = columns.pop();
        let inputs = (reading.depth == Depth::Train).then_some(columns);
        Ok(Box::new(Arrays { facts: set.facts, inputs, targets, weights }))
    }
}

/// A file whose header is right, up to its first value.
struct Named<'a> {
    path: &'a Path,
    file: File,
    /// All arrays of the file, in its order.
    tensors: Vec<Tensor>,
    facts: Facts,
}

impl<'a> Named<'a> {
    fn open<P>(wanted: &Files<P>, files: &'a [DataFile], reading: &Reading<'_>) -> Result<Self, Vec<Problem>> {
        let [file] = files else { unreachable!("a set of named arrays has one file") };
        let path = file.path();
        let unreadable = |error| vec![problem(path, &tensor_file::Problem::Unreadable(error))];
        let size = file.metadata().map_err(unreadable)?.len();
        let file = file.reader().map_err(unreadable)?;
        let tensors = safetensors::read(&Positioned(&file), size).map_err(|error| vec![problem(path, &error)])?;
        let mut facts = facts(wanted, &tensors, reading).map_err(|wrong| {
            let told = |what| wrong_with(path, what);
            wrong.into_iter().map(told).collect::<Vec<_>>()
        })?;
        facts.sizes = vec![size];
        Ok(Self { path, file, tensors, facts })
    }

    /// The array that weighs the examples.
    fn weights(&self, name: &str) -> Result<&Tensor, String> {
        let examples = self.facts.examples;
        let Some(array) = self.tensors.iter().find(|tensor| tensor.name == name) else {
            return Err(format!("{} has no such array", self.path.display()));
        };
        if !matches!(array.dtype, tensor_file::Dtype::F32 | tensor_file::Dtype::I64) {
            return Err(format!("the array is {}; F32 or I64 is needed", array.dtype.name()));
        }
        if array.shape != [examples] {
            return Err(format!("the array is {:?}; [{examples}], a number an example, is needed", array.shape));
        }
        Ok(array)
    }

    /// The values of an array of [`Named::weights`].
    fn numbers(&self, array: &Tensor, reading: &Reading<'_>) -> Result<Vec<f64>, Vec<Problem>> {
        let (mut at, mut block, mut numbers) = (array.extent(), vec![0; BLOCK], Vec::new());
        while !at.is_empty() {
            let part = &mut block[..(at.end - at.start).min(BLOCK as u64) as usize];
            let read = reading.wanted.check().and_then(|()| Positioned(&self.file).read_exact_at(part, at.start));
            read.map_err(|error| vec![problem(self.path, &tensor_file::Problem::Unreadable(error))])?;
            match array.dtype {
                tensor_file::Dtype::F32 => {
                    numbers.extend(part.as_chunks().0.iter().map(|&value| f64::from(f32::from_le_bytes(value))));
                }
                _ => numbers.extend(part.as_chunks().0.iter().map(|&value| i64::from_le_bytes(value) as f64)),
            }
            at.start += part.len() as u64;
        }
        Ok(numbers)
    }

    /// Reads all values: each of the set's fields gets its range, and its floats are finite. The
    /// columns of the inputs and the target. Inputs that are judged are read, and not kept.
    fn read(&mut self, reading: &Reading<'_>) -> Result<Vec<Vec<u8>>, Vec<Problem>> {
        let Self { path, file, tensors, facts } = self;
        let source = Positioned(file);
        let mut fields: Vec<&mut Field> = facts.inputs.iter_mut().chain([&mut facts.target]).collect();
        let mut columns = vec![Vec::new(); fields.len()];
        let first_kept = if reading.depth == Depth::Judge { fields.len() - 1 } else { 0 };
        let mut block = vec![0; BLOCK];
        for tensor in tensors {
            // A text is input and target of a network that tells the tokens that follow.
            let mut taking: Vec<_> =
                fields.iter_mut().enumerate().filter(|(_, field)| field.name == tensor.name).collect();
            let (mut at, mut begin) = (tensor.extent(), 0);
            while !at.is_empty() {
                let part = &mut block[..(at.end - at.start).min(BLOCK as u64) as usize];
                let cannot = |error: io::Error| vec![problem(path, &tensor_file::Problem::Unreadable(error))];
                reading.wanted.check().and_then(|()| source.read_exact_at(part, at.start)).map_err(cannot)?;
                at.start += part.len() as u64;
                let first = begin;
                for (column, field) in &mut taking {
                    begin = look(field, part, first).map_err(|what| vec![wrong_with(path, what)])?;
                    if *column >= first_kept {
                        columns[*column].extend_from_slice(part);
                    }
                }
            }
        }
        Ok(columns)
    }
}

/// Looks at the next values of a field, the first of which is at `place` over all examples. The
/// place behind them.
fn look(field: &mut Field, values: &[u8], mut place: u64) -> Result<u64, String> {
    let width = field.values();
    match field.dtype {
        Dtype::F32 => {
            for value in values.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)) {
                if !value.is_finite() {
                    let (name, example) = (&field.name, place / width);
                    return Err(format!(
                        "holds {value} in {name:?}, in the example {example} counted from 0; every value must be finite"
                    ));
                }
                for bound in [value.floor(), value.ceil()] {
                    field.range = Some(Range::with(field.range, bound as i64, place / width));
                }
                place += 1;
            }
        }
        Dtype::I64 => {
            for value in values.as_chunks().0.iter().map(|&value| i64::from_le_bytes(value)) {
                field.range = Some(Range::with(field.range, value, place / width));
                place += 1;
            }
        }
        Dtype::Pixel => {}
    }
    Ok(place)
}

/// The fields of the set, or all that is wrong with its arrays.
fn facts<P>(wanted: &Files<P>, tensors: &[Tensor], reading: &Reading<'_>) -> Result<Facts, Vec<String>> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    let inputs: Vec<&str> = if wanted.inputs.is_empty() {
        names.iter().copied().filter(|name| *name != wanted.target && Some(*name) != reading.weights).collect()
    } else {
        wanted.inputs.iter().map(String::as_str).collect()
    };
    let mut wrong = Vec::new();
    let mut field = |name: &str| {
        let Some(tensor) = tensors.iter().find(|tensor| tensor.name == name) else {
            let has = names.iter().take(12).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
            wrong.push(format!("has no array {name:?}; it has {}", if has.is_empty() { "none" } else { &has }));
            return None;
        };
        let dtype = match tensor.dtype {
            tensor_file::Dtype::F32 => Dtype::F32,
            tensor_file::Dtype::I64 => Dtype::I64,
            other => {
                wrong.push(format!("has {name:?} as {}; F32 or I64 is needed", other.name()));
                return None;
            }
        };
        let Some((&examples, shape)) = tensor.shape.split_first() else {
            wrong.push(format!("has a single number as {name:?}; the first dimension counts the examples"));
            return None;
        };
        let field = Field { name: name.to_owned(), file: PATH.into(), dtype, shape: shape.to_vec(), range: None };
        if examples == 0 || field.values() == 0 {
            wrong.push(format!("has {name:?} of the shape {:?}, which is empty", tensor.shape));
            return None;
        }
        Some((examples, field))
    };
    let has_target = !reading.may_lack_target || names.contains(&wanted.target.as_str());
    let inputs: Vec<_> = inputs.into_iter().map(&mut field).collect();
    let target = if has_target {
        field(&wanted.target)
    } else {
        let examples = inputs.iter().flatten().next().map(|(examples, _)| *examples);
        examples.map(|examples| (examples, Field::no_target(&wanted.target, PATH)))
    };
    if inputs.is_empty() {
        wrong.push(format!("has no array besides {:?}, the target", wanted.target));
    }
    let (Some((examples, target)), Some(inputs), true) =
        (target, inputs.into_iter().collect::<Option<Vec<_>>>(), wrong.is_empty())
    else {
        return Err(wrong);
    };
    for (found, field) in &inputs {
        if *found != examples {
            let (name, target) = (&field.name, &target.name);
            wrong
                .push(format!("has {found} examples in {name:?} and {examples} in {target:?}; there must be one each"));
        }
    }
    let inputs = inputs.into_iter().map(|(_, field)| field).collect();
    if wrong.is_empty() {
        Ok(Facts { examples, inputs, target, sizes: Vec::new(), is_resident: true })
    } else {
        Err(wrong)
    }
}

fn problem(path: &Path, error: &tensor_file::Problem) -> Problem {
    let unjudged = match error {
        tensor_file::Problem::Unreadable(cause) => Unjudged::of(cause),
        _ => None,
    };
    Problem { file: PATH.into(), what: format!("{} {error}", path.display()), unjudged }
}

fn wrong_with(path: &Path, what: String) -> Problem {
    Problem { file: PATH.into(), what: format!("{} {what}", path.display()), unjudged: None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use ::safetensors::Dtype as Stored;
    use ::safetensors::tensor::TensorView;

    use std::path::PathBuf;

    use super::super::{Fault, Files as Kinds, HostBatch, OpenFiles, Selection};
    use super::*;
    use crate::gate::Wanted;

    fn wanted(inputs: &[&str]) -> Selection {
        let inputs = inputs.iter().map(|&name| name.into()).collect();
        Selection::of(Kinds::Safetensors(Files { path: PathBuf::new(), inputs, target: "y".into() }))
    }

    fn written(arrays: &[(&str, Stored, &[usize], Vec<u8>)]) -> (tempfile::TempDir, OpenFiles) {
        let views: BTreeMap<_, _> = arrays
            .iter()
            .map(|(name, dtype, shape, bytes)| (*name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap()))
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("set.safetensors");
        fs::write(&path, ::safetensors::serialize(views, None).unwrap()).unwrap();
        let file = DataFile::open(&path).unwrap();
        (folder, OpenFiles::of([file]))
    }

    fn judge(inputs: &[&str], files: &OpenFiles) -> Result<Facts, Vec<Problem>> {
        let (_caller, caller_waits) = Wanted::by_caller();
        let problems = |faults: Vec<Fault>| faults.into_iter().map(|fault| fault.problem).collect();
        wanted(inputs).judge(files, &caller_waits).map(|judged| judged.train).map_err(problems)
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn whole(values: &[i64]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn arrays_are_judged_as_they_are_loaded_and_keep_their_order() {
        let (_folder, files) = written(&[
            ("x", Stored::F32, &[3, 2], floats(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])),
            ("a", Stored::I64, &[3, 1], whole(&[7, 5, 9])),
            ("y", Stored::I64, &[3], whole(&[0, 2, 1])),
        ]);
        let facts = judge(&[], &files).unwrap();
        let names = |facts: &Facts| facts.inputs.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
        assert_eq!((names(&facts), facts.examples), (vec!["a".into(), "x".into()], 3));
        assert_eq!(facts.target.range, Some(Range { lowest: 0, highest: 2, highest_at: 1 }));
        let (_folder, shares) = written(&[
            ("x", Stored::F32, &[3], floats(&[-0.5, 7.25, 7.75])),
            ("y", Stored::F32, &[3], floats(&[0.0, 0.25, 1.0])),
        ]);
        let shares = judge(&[], &shares).unwrap();
        assert_eq!(shares.inputs[0].range, Some(Range { lowest: -1, highest: 8, highest_at: 1 }));
        assert_eq!(shares.target.range, Some(Range { lowest: 0, highest: 1, highest_at: 1 }));
        let set = wanted(&["x", "a"]).open(&files, None).ok().unwrap().train;
        assert_eq!(names(set.facts()), ["x", "a"]);
        let mut batch = HostBatch::default();
        set.fill(&[2, 1], &mut batch).unwrap();
        assert_eq!(batch.inputs, [floats(&[4.0, 5.0, 2.0, 3.0]), whole(&[9, 5])]);
        assert_eq!(batch.targets, whole(&[1, 2]));
    }

    #[test]
    fn an_array_of_weights_is_no_input_and_is_told_where_it_is_none() {
        use super::super::{Sampling, Split};
        let arrays = |weights: &[f32]| {
            written(&[
                ("x", Stored::F32, &[4, 1], floats(&[0.0, 1.0, 2.0, 3.0])),
                ("w", Stored::F32, &[weights.len()], floats(weights)),
                ("n", Stored::F32, &[4, 2], floats(&[1.0; 8])),
                ("y", Stored::I64, &[4], whole(&[0, 0, 0, 1])),
            ])
        };
        let by = |sampling: Sampling| Selection { sampling: Some(sampling), ..wanted(&[]) };
        let weighed = |name: &str| by(Sampling::Weights(name.into()));
        let (_folder, files) = arrays(&[0.0, 3.0, 0.0, 1.0]);
        let set = weighed("w").open(&files, None).ok().unwrap().train;
        assert_eq!(set.facts().inputs.iter().map(|field| &field.name).collect::<Vec<_>>(), ["n", "x"]);
        let drawn = set.chances().unwrap().draw(1000, 7);
        assert!(drawn.iter().all(|example| [1, 3].contains(example)));
        let threes = drawn.iter().filter(|example| **example == 3).count();
        assert!((200..300).contains(&threes), "{threes}");
        let set = by(Sampling::BalanceClasses).open(&files, None).ok().unwrap().train;
        let threes = set.chances().unwrap().draw(1000, 7).iter().filter(|example| **example == 3).count();
        assert!((450..550).contains(&threes), "{threes}");
        assert!(wanted(&[]).open(&files, None).ok().unwrap().train.chances().is_none());
        // The rows that are held out have no chances.
        let split = Some(Split::Fraction { fraction: 0.5, seed: 1, stratify: false });
        let mut half = weighed("w");
        half.division.split = split;
        let sets = half.open(&files, None).ok().unwrap();
        assert!(sets.train.chances().is_some() && sets.validation.unwrap().chances().is_none());
        let (_other, bad) = arrays(&[0.0, -1.0, 0.0, 1.0]);
        let (_third, short) = arrays(&[1.0, 1.0]);
        for (name, files, words) in [
            ("w", &bad, r#"is "w", and it holds -1 for the example 1, counted from 0"#),
            ("w", &short, r#"is "w", and the array is [2]; [4], a number an example, is needed"#),
            ("n", &files, r#"is "n", and the array is [4, 2]; [4]"#),
            ("v", &files, "set.safetensors has no such array"),
        ] {
            let (_caller, waits) = Wanted::by_caller();
            let faults = weighed(name).judge(files, &waits).unwrap_err();
            let Fault { set: None, problem } = &faults[0] else { panic!("{faults:?}") };
            assert!(problem.file == "sampling.weights" && problem.what.contains(words), "{words}: {problem:?}");
        }
    }

    #[test]
    fn a_text_is_input_and_target_at_once() {
        let (_folder, files) = written(&[
            ("x", Stored::F32, &[2], floats(&[0.5, 1.5])),
            ("y", Stored::I64, &[2, 3], whole(&[4, 1, 0, 2, 3, 9])),
        ]);
        let facts = judge(&["y", "x"], &files).unwrap();
        let range = Some(Range { lowest: 0, highest: 9, highest_at: 1 });
        assert_eq!((facts.inputs[0].range, facts.target.range), (range, range));
        let set = wanted(&["y", "x"]).open(&files, None).ok().unwrap().train;
        let mut batch = HostBatch::default();
        set.fill(&[1], &mut batch).unwrap();
        assert_eq!(batch.inputs, [whole(&[2, 3, 9]), floats(&[1.5])]);
        assert_eq!(batch.targets, whole(&[2, 3, 9]));
    }

    #[test]
    fn all_that_is_wrong_with_the_arrays_is_told_by_name() {
        let (_folder, files) = written(&[
            ("x", Stored::F64, &[1], vec![0; 8]),
            ("n", Stored::F32, &[2], floats(&[1.0, f32::NAN])),
            ("s", Stored::F32, &[], floats(&[1.0])),
            ("y", Stored::I64, &[2], whole(&[0, 1])),
            ("z", Stored::I64, &[0, 4], vec![]),
        ]);
        let told = |inputs: &[&str]| {
            let problems = judge(inputs, &files).unwrap_err();
            problems.into_iter().map(|problem| problem.what).collect::<Vec<_>>().join("\n")
        };
        let all = told(&["x", "s", "z", "w"]);
        for words in [
            r#"has "x" as F64; F32 or I64 is needed"#,
            r#"a single number as "s""#,
            r#""z" of the shape [0, 4], which is empty"#,
            r#"has no array "w"; it has "n", "s", "x", "y", "z""#,
        ] {
            assert!(all.contains(words), "{words}: {all}");
        }
        assert!(told(&["n"]).contains(r#"holds NaN in "n", in the example 1 counted from 0"#));
        let (_folder, files) = written(&[("y", Stored::F32, &[2], floats(&[0.0, 1.0]))]);
        assert!(judge(&[], &files).unwrap_err()[0].what.contains("no array besides"));
        let (_folder, files) =
            written(&[("x", Stored::F32, &[3], floats(&[0.0; 3])), ("y", Stored::F32, &[2], floats(&[0.0, 1.0]))]);
        assert!(judge(&[], &files).unwrap_err()[0].what.contains(r#"3 examples in "x" and 2 in "y""#));
    }
}
