//! Arrays of several files: those of the same name follow one another, and each file has as many
//! examples of one array as of every other.

use super::super::Problem;
use super::{Array, At, Part};

impl<'a> Array<'a> {
    /// The arrays of several files, in their order, as those of one. Each file needs the arrays
    /// that `is_asked` tells of, alike but for the number of examples.
    ///
    /// # Errors
    /// Each array of a file that is not like that of the first one.
    pub(in super::super) fn joined(
        files: Vec<(At<'a>, Vec<Self>)>,
        is_asked: impl Fn(&str) -> bool,
    ) -> Result<Vec<Self>, Vec<Problem>> {
        let mut files = files.into_iter();
        let Some((first, mut joined)) = files.next() else { return Ok(Vec::new()) };
        let lacks = |at: At<'_>, name: &str, has: At<'_>| {
            at.problem(format!("has no array {name:?}, and {} has one", has.data.path().display()))
        };
        let mut wrong = Vec::new();
        for (at, mut others) in files {
            for array in joined.iter_mut().filter(|array| is_asked(&array.name)) {
                match others.iter().position(|other| other.name == array.name) {
                    Some(place) => wrong.extend(array.append(others.swap_remove(place)).err()),
                    None => wrong.push(lacks(at, &array.name, first)),
                }
            }
            let more = others.iter().filter(|other| is_asked(&other.name));
            wrong.extend(more.map(|other| lacks(first, &other.name, at)));
        }
        if wrong.is_empty() { Ok(joined) } else { Err(wrong) }
    }

    /// Adds the examples of another file.
    fn append(&mut self, other: Self) -> Result<(), Problem> {
        let (Some(first), Some(part)) = (self.parts.first(), other.parts.first()) else { return Ok(()) };
        let (name, place) = (&self.name, first.file.data.path().display());
        let told = |what: String| Err(part.file.problem(what));
        match (&self.numbers, &other.numbers) {
            (Ok(had), Ok(has)) if !had.are_like(*has) => {
                let (had, has) = (had.in_words(), has.in_words());
                return told(format!("has {name:?} as {has}, and {place} has it as {had}; one type is needed"));
            }
            (_, Err(what)) => return told(format!("has {name:?} as {what}")),
            (Ok(_) | Err(_), Ok(_)) => {}
        }
        let (had, has) = (&self.shape, &other.shape);
        if had.get(1..) != has.get(1..) {
            let right = "all sizes but the first one must be the same";
            return told(format!(
                "has {name:?} of the shape {has:?}, and {place} has it of the shape {had:?}; {right}"
            ));
        }
        if let (Some(had), Some(has)) = (self.shape.first_mut(), has.first()) {
            *had = had.saturating_add(*has);
        }
        self.parts.extend(other.parts);
        Ok(())
    }

    /// The files that have another number of examples of this array than of another one.
    pub(super) fn judge_examples(&self, other: &Self) -> Vec<Problem> {
        let (name, counted) = (&self.name, &other.name);
        if self.parts.len() != other.parts.len() {
            let (has, had) = (self.parts.len(), other.parts.len());
            let field = other.parts.first().map_or("", |part| part.file.field);
            let what = format!("names {has} files, and {field} names {had}; each needs one to it");
            return self.parts.first().map(|part| Problem::of_field(part.file.field, what)).into_iter().collect();
        }
        let pairs = self.parts.iter().zip(&other.parts).filter(|(part, other)| part.examples != other.examples);
        let told = |(part, other): (&Part<'_>, &Part<'_>)| {
            let of = match part.file.data.path() == other.file.data.path() {
                true => String::new(),
                false => format!(" of {}", other.file.data.path().display()),
            };
            let (has, had) = (part.examples, other.examples);
            let what = format!("has {has} examples in {name:?} and {had} in {counted:?}{of}; there must be one each");
            part.file.problem(what)
        };
        pairs.map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::super::npy::tests::npy;
    use super::super::super::paths::Paths;
    use super::super::super::{DataFile, Fault, Files, HostBatch, OpenFiles, Selection, Split, idx, npy as arrays};

    fn floats(values: impl IntoIterator<Item = u8>) -> Vec<u8> {
        values.into_iter().flat_map(|value| f32::from(value).to_le_bytes()).collect()
    }

    fn whole(values: impl IntoIterator<Item = i64>) -> Vec<u8> {
        values.into_iter().flat_map(i64::to_le_bytes).collect()
    }

    /// Rows of two numbers from `first` on, and their classes.
    fn pair(first: u8, rows: u8, order: &str) -> [Vec<u8>; 2] {
        let row = |row: u8| [2 * (first + row), 2 * (first + row) + 1];
        let values: Vec<u8> = match order {
            "False" => (0..rows).flat_map(row).collect(),
            _ => (0..2).flat_map(|column| (0..rows).map(move |one| row(one)[column])).collect(),
        };
        let classes = whole((0..rows).map(|row| i64::from(first + row) % 3));
        [
            npy("<f4", order, &format!("({rows}, 2)"), &floats(values)),
            npy("<i8", "False", &format!("({rows},)"), &classes),
        ]
    }

    fn write(folder: &Path, files: &[(&str, &[u8])]) -> Vec<DataFile> {
        let place = folder.canonicalize().unwrap();
        let written = files.iter().map(|(name, bytes)| {
            fs::write(place.join(name), bytes).unwrap();
            DataFile::open(&place.join(name)).unwrap()
        });
        written.collect()
    }

    fn selection(inputs: usize, targets: usize) -> Selection {
        let paths = |count| Paths::Paths(vec!["".into(); count]);
        Selection::of(Files::Npy(arrays::Files { input: paths(inputs), target: Some(paths(targets)) }))
    }

    fn told(selection: &Selection, files: Vec<DataFile>) -> Vec<(String, String)> {
        let faults = selection.open(&OpenFiles::of(files), None).err().unwrap();
        faults.into_iter().map(|Fault { problem, .. }| (problem.file.into_owned(), problem.what)).collect()
    }

    #[test]
    fn examples_of_several_files_follow_one_another_in_the_order_of_the_list() {
        let folder = tempfile::tempdir().unwrap();
        let [[x0, y0], [x1, y1], [x2, y2]] = [pair(0, 4, "False"), pair(4, 1, "True"), pair(5, 3, "True")];
        let files = [("x0", &x0[..]), ("x1", &x1), ("x2", &x2), ("y0", &y0), ("y1", &y1), ("y2", &y2)];
        let files = OpenFiles::of(write(folder.path(), &files));
        let mut several = selection(3, 3);
        let set = several.open(&files, None).ok().unwrap().train;
        let facts = set.facts();
        assert_eq!((facts.examples, facts.sizes.len(), facts.inputs[0].name.as_str()), (8, 6, "x0"));
        assert_eq!((facts.inputs[0].range.unwrap().highest, facts.target.range.unwrap().highest_at), (15, 2));
        let mut batch = HostBatch::default();
        set.fill(&(0..8).collect::<Vec<_>>(), &mut batch).unwrap();
        assert_eq!((&batch.inputs[0], batch.targets), (&floats(0..16), whole((0..8).map(|row| row % 3))));
        // A split is one of all rows.
        several.division.split = Some(Split::Fraction { fraction: 0.25, seed: 1, stratify: false });
        let sets = several.open(&files, None).ok().unwrap();
        assert_eq!((sets.train.facts().examples, sets.validation.unwrap().facts().examples), (6, 2));
    }

    #[test]
    fn files_that_do_not_go_together_are_told_with_both_and_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let [x, y] = pair(0, 3, "False");
        let wide = npy("<f4", "False", "(3, 4)", &floats(0..12));
        let doubles = npy("<f8", "False", "(3, 2)", &[0; 48]);
        let swapped = npy(">f4", "False", "(3, 2)", &[0; 24]);
        let nan = npy("<f4", "False", "(1, 2)", &[floats([0]), f32::NAN.to_le_bytes().to_vec()].concat());
        let one = npy("<i8", "False", "(1,)", &whole([1]));
        let x_of = |second: &[u8]| {
            write(
                folder.path(),
                &[("x0", &x), ("x1", second), ("y0", &y), ("y1", if second == nan { &one } else { &y })],
            )
        };
        for (second, words) in [
            (&wide, &["x1 has \"x0\" of the shape [3, 4], and ", "x0 has it of the shape [3, 2]; all sizes"][..]),
            (&doubles, &["x1 has \"x0\" as 64-bit floats, and ", "x0 has it as 32-bit floats; one type"]),
            (&swapped, &["x1 has \"x0\" as 32-bit floats in big-endian order, and ", "has it as 32-bit floats;"]),
            (&nan, &["x1 holds NaN in \"x0\", in the example 0 counted from 0"]),
        ] {
            let found = told(&selection(2, 2), x_of(second));
            assert!(found.len() == 1 && found[0].0 == "input_paths", "{found:?}");
            assert!(words.iter().all(|words| found[0].1.contains(words)), "{words:?}: {found:?}");
        }
        // As many rows in all, and not file by file.
        let [[x1, _], [_, y0], [_, y1]] = [pair(3, 2, "False"), pair(0, 2, "False"), pair(2, 3, "False")];
        let files = write(folder.path(), &[("x0", &x), ("x1", &x1), ("y0", &y0), ("y1", &y1)]);
        let found = told(&selection(2, 2), files);
        assert_eq!(found.len(), 2, "{found:?}");
        let place = folder.path().canonicalize().unwrap();
        let words = format!(
            "x0 has 3 examples in \"x0\" and 2 in \"y0\" of {}; there must be one each",
            place.join("y0").display()
        );
        assert!(found[0].1.ends_with(&words), "{words}: {found:?}");
        let files = write(folder.path(), &[("x0", &x), ("x1", &x1), ("y0", &y)]);
        let found = told(&selection(2, 1), files);
        let words = "names 2 files, and target_paths names 1; each needs one to it";
        assert_eq!(found, [("input_paths".to_owned(), words.to_owned())]);
    }

    #[test]
    fn images_and_labels_go_together_file_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let images = |count: u8| {
            [&[0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 1, 0, 0, 0, 2][..], &vec![count; 2 * count as usize]].concat()
        };
        let labels = |count: u8| [&[0, 0, 8, 1, 0, 0, 0, count][..], &vec![count; count as usize]].concat();
        let paths = || Paths::Path(vec!["".into(), "".into()]);
        let set = Selection::of(Files::Idx(idx::Files { images: paths(), labels: Some(paths()) }));
        let open = |counts: [u8; 4]| {
            let [i0, i1, l0, l1] = counts;
            let files = [("i0", &images(i0)[..]), ("i1", &images(i1)), ("l0", &labels(l0)), ("l1", &labels(l1))];
            write(folder.path(), &files)
        };
        let source = set.open(&OpenFiles::of(open([2, 1, 2, 1])), None).ok().unwrap().train;
        let mut batch = HostBatch::default();
        source.fill(&[2, 0], &mut batch).unwrap();
        assert_eq!((&batch.inputs[0][..], batch.targets), (&[1, 1, 2, 2][..], whole([1, 2])));
        let found = told(&set, open([2, 1, 1, 2]));
        assert!(found.len() == 2 && found[0].0 == "labels", "{found:?}");
        assert!(found[0].1.contains("l0 has 1 labels for the 2 images of") && found[0].1.contains("i0;"), "{found:?}");
    }
}
