//! A set of examples in safetensors files of named arrays.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::array_set::{self, Array, At, Open, Part, Roles};
use super::column::Order;
use super::numbers::{Kind, Numbers};
use super::paths::Paths;
use super::{Content, DataFile, Find, Format, Problem, Reading};
use crate::shortage::Unjudged;
use crate::tensor_file::{self, Dtype as Stored, Positioned, Tensor, safetensors};

/// Files of named arrays, and the part that each array plays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(bound(deserialize = "P: Deserialize<'de>"))]
pub struct Files<P> {
    /// The files.
    #[serde(rename = "path")]
    pub paths: Paths<P>,
    /// The arrays that a network gets, in its order; empty for all but the target, by name.
    pub inputs: Vec<String>,
    /// The array that it should answer.
    pub target: String,
}

impl<P> Format<P> for Files<P> {
    type With<Q> = Files<Q>;

    fn files(&self) -> Vec<(&'static str, &P)> {
        self.paths.files()
    }

    fn locate<Q>(&self, find: &mut dyn Find<P, Q>) -> Option<Files<Q>> {
        let paths = self.paths.locate(find)?;
        Some(Files { paths, inputs: self.inputs.clone(), target: self.target.clone() })
    }

    fn read(&self, files: &[DataFile], reading: &Reading<'_>) -> Result<Box<dyn Content>, Vec<Problem>> {
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for data in files {
            match arrays(data, self.paths.field()) {
                Ok(of_file) => found.push(of_file),
                Err(error) => wrong.push(problem(self.paths.field(), data.path(), &error)),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let [(first, _), ..] = found[..] else { unreachable!("a set has a file at least") };
        let sizes = found.iter().map(|(at, _)| at.size_bytes).collect();
        let inputs = &self.inputs;
        let arrays = Array::joined(found, |name| {
            inputs.is_empty()
                || self.target == name
                || reading.weights == Some(name)
                || inputs.iter().any(|input| input == name)
        })?;
        let names: Vec<_> = arrays.iter().map(|array| array.name.clone()).collect();
        let roles = Roles::named(&arrays, &names, inputs, &self.target, reading, first);
        array_set::read(arrays, roles, sizes, reading)
    }
}

/// The arrays of a file.
fn arrays<'a>(data: &'a DataFile, field: &'static str) -> Result<(At<'a>, Vec<Array<'a>>), tensor_file::Problem> {
    let size = data.metadata().map_err(tensor_file::Problem::Unreadable)?.len();
    let file = data.reader().map_err(tensor_file::Problem::Unreadable)?;
    let tensors = safetensors::read(&Positioned(&file), size)?;
    let at = At { field, data, size_bytes: size };
    Ok((at, tensors.into_iter().map(|tensor| array(tensor, at, data)).collect()))
}

/// A tensor as an array.
fn array<'a>(tensor: Tensor, file: At<'a>, data: &'a DataFile) -> Array<'a> {
    let kind = match tensor.dtype {
        Stored::Bool => Some(Kind::Bool),
        Stored::U8 => Some(Kind::U8),
        Stored::I8 => Some(Kind::I8),
        Stored::U16 => Some(Kind::U16),
        Stored::I16 => Some(Kind::I16),
        Stored::U32 => Some(Kind::U32),
        Stored::I32 => Some(Kind::I32),
        Stored::U64 => Some(Kind::U64),
        Stored::I64 => Some(Kind::I64),
        Stored::F16 => Some(Kind::F16),
        Stored::Bf16 => Some(Kind::Bf16),
        Stored::F32 => Some(Kind::F32),
        Stored::F64 => Some(Kind::F64),
        Stored::F4
        | Stored::F6E2M3
        | Stored::F6E3M2
        | Stored::F8E5M2
        | Stored::F8E4M3
        | Stored::F8E8M0
        | Stored::F8E5M2Fnuz
        | Stored::F8E4M3Fnuz
        | Stored::C64 => None,
    };
    let refusal = || format!("{}; floats of 16 to 64 bits, integers or truth values are needed", tensor.dtype.name());
    let extent = tensor.extent();
    let place = Ok(extent.start);
    let open: Open<'a> = Box::new(move || Ok(Box::new(data.part(extent.clone()))));
    let examples = tensor.shape.first().copied().unwrap_or(0);
    Array {
        numbers: kind.map(Numbers::little_endian).ok_or_else(refusal),
        is_quantity: false,
        name: tensor.name,
        shape: tensor.shape,
        parts: vec![Part { file, examples, order: Order::Rows, place, packed: None, open }],
    }
}

fn problem(field: &'static str, path: &Path, error: &tensor_file::Problem) -> Problem {
    let unjudged = match error {
        tensor_file::Problem::Unreadable(cause) => Unjudged::of(cause),
        _ => None,
    };
    Problem { unjudged, ..Problem::of_file(field, path, error) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use ::safetensors::Dtype as Written;
    use ::safetensors::tensor::TensorView;

    use super::super::{Dtype, Facts, Fault, Files as Kinds, HostBatch, OpenFiles, Range, Selection};
    use super::*;
    use crate::gate::Wanted;

    fn wanted(inputs: &[&str]) -> Selection {
        let inputs = inputs.iter().map(|&name| name.into()).collect();
        Selection::of(Kinds::Safetensors(Files { paths: "".into(), inputs, target: "y".into() }))
    }

    fn written(arrays: &[(&str, Written, &[usize], Vec<u8>)]) -> (tempfile::TempDir, OpenFiles) {
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
            ("x", Written::F32, &[3, 2], floats(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])),
            ("a", Written::I64, &[3, 1], whole(&[7, 5, 9])),
            ("y", Written::I64, &[3], whole(&[0, 2, 1])),
        ]);
        let facts = judge(&[], &files).unwrap();
        let names = |facts: &Facts| facts.inputs.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
        assert_eq!((names(&facts), facts.examples), (vec!["a".into(), "x".into()], 3));
        assert_eq!(facts.target.range, Some(Range { lowest: 0, highest: 2, highest_at: 1 }));
        let (_folder, shares) = written(&[
            ("x", Written::F32, &[3], floats(&[-0.5, 7.25, 7.75])),
            ("y", Written::F32, &[3], floats(&[0.0, 0.25, 1.0])),
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
                ("x", Written::F32, &[4, 1], floats(&[0.0, 1.0, 2.0, 3.0])),
                ("w", Written::F32, &[weights.len()], floats(weights)),
                ("n", Written::F32, &[4, 2], floats(&[1.0; 8])),
                ("y", Written::I64, &[4], whole(&[0, 0, 0, 1])),
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
            ("x", Written::F32, &[2], floats(&[0.5, 1.5])),
            ("y", Written::I64, &[2, 3], whole(&[4, 1, 0, 2, 3, 9])),
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
            ("x", Written::C64, &[1], vec![0; 8]),
            ("n", Written::F32, &[2], floats(&[1.0, f32::NAN])),
            ("s", Written::F32, &[], floats(&[1.0])),
            ("y", Written::I64, &[2], whole(&[0, 1])),
            ("z", Written::I64, &[0, 4], vec![]),
        ]);
        let told = |inputs: &[&str]| {
            let problems = judge(inputs, &files).unwrap_err();
            problems.into_iter().map(|problem| problem.what).collect::<Vec<_>>().join("\n")
        };
        let all = told(&["x", "s", "z", "w"]);
        for words in [
            r#"has "x" as C64; floats of 16 to 64 bits, integers or truth values are needed"#,
            r#"a single number as "s""#,
            r#""z" of the shape [0, 4], which is empty"#,
            r#"has no array "w"; it has "n", "s", "x", "y", "z""#,
        ] {
            assert!(all.contains(words), "{words}: {all}");
        }
        assert!(told(&["n"]).contains(r#"holds NaN in "n", in the example 1 counted from 0"#));
        let (_folder, files) = written(&[("y", Written::F32, &[2], floats(&[0.0, 1.0]))]);
        assert!(judge(&[], &files).unwrap_err()[0].what.contains("no array besides"));
        let (_folder, files) =
            written(&[("x", Written::F32, &[3], floats(&[0.0; 3])), ("y", Written::F32, &[2], floats(&[0.0, 1.0]))]);
        assert!(judge(&[], &files).unwrap_err()[0].what.contains(r#"3 examples in "x" and 2 in "y""#));
    }

    #[test]
    fn every_type_becomes_one_that_networks_take() {
        let (_folder, files) = written(&[
            ("bytes", Written::U8, &[2, 1, 2], vec![0, 1, 2, 255]),
            ("colours", Written::U8, &[2, 3, 1, 1], vec![0, 1, 2, 3, 4, 255]),
            ("halves", Written::F16, &[2], vec![0, 0x3c, 0, 0xc0]),
            ("mask", Written::BOOL, &[2, 2], vec![0, 1, 1, 0]),
            ("tokens", Written::U8, &[2, 2], vec![1, 2, 3, 4]),
            ("y", Written::I32, &[2], [3i32, -1].iter().flat_map(|value| value.to_le_bytes()).collect()),
        ]);
        let facts = judge(&[], &files).unwrap();
        let found: Vec<_> = facts.inputs.iter().map(|field| (field.dtype, field.shape.clone())).collect();
        let pixels = [(Dtype::Pixel, vec![1, 1, 2]), (Dtype::Pixel, vec![3, 1, 1])];
        let others = [(Dtype::F32, vec![]), (Dtype::F32, vec![2]), (Dtype::I64, vec![2])];
        assert_eq!(found, [&pixels[..], &others].concat());
        let set = wanted(&[]).open(&files, None).ok().unwrap().train;
        let mut batch = HostBatch::default();
        set.fill(&[1], &mut batch).unwrap();
        let inputs = [vec![2, 255], vec![3, 4, 255], floats(&[-2.0]), floats(&[1.0, 0.0]), whole(&[3, 4])];
        assert_eq!((batch.inputs, batch.targets), (inputs.to_vec(), whole(&[-1])));
    }
}
