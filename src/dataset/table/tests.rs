//! Sets of tables beside each other: what one has taught, and how the other is held against it.

use std::fs;
use std::path::PathBuf;

use super::super::{
    DataFile, Division, Fault, Files as Kinds, HostBatch, Judged, OpenFiles, Sampling, Selection, Source, Split, csv,
    paths::Paths,
};
use super::roles::{Missing, MissingRule, Roles};
use crate::gate::Wanted;

/// A folder of files, each with its text.
struct Folder {
    place: PathBuf,
    /// It goes with this.
    _kept: tempfile::TempDir,
}

impl Folder {
    fn of(files: &[(&str, &str)]) -> Self {
        let kept = tempfile::tempdir().unwrap();
        let place = kept.path().canonicalize().unwrap();
        files.iter().for_each(|(name, text)| fs::write(place.join(name), text).unwrap());
        Self { place, _kept: kept }
    }

    fn open(&self, names: &[&str]) -> Vec<DataFile> {
        names.iter().map(|name| DataFile::open(&self.place.join(name)).unwrap()).collect()
    }

    /// Faults with their fields, the folder left out.
    fn told(&self, faults: Vec<Fault>) -> String {
        let told = faults.into_iter().map(|fault| format!("{}: {}", fault.problem.file, fault.problem.what));
        told.collect::<Vec<_>>().join("\n").replace(&format!("{}/", self.place.display()), "")
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn roles(target: &str) -> Roles {
    Roles { targets: names(&[target]), ..Roles::default() }
}

fn csv(roles: Roles) -> Kinds {
    Kinds::Csv(csv::Files { paths: Paths::Path(vec![]), roles, dialect: csv::Dialect::default() })
}

fn rule(columns: &[&str], by: Missing) -> MissingRule {
    MissingRule { columns: names(columns), by }
}

/// The values of the only input of a set.
fn inputs(set: &dyn Source) -> Vec<f32> {
    let mut batch = HostBatch::default();
    set.fill(&(0..set.facts().examples).collect::<Vec<_>>(), &mut batch).unwrap();
    batch.inputs[0].as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// Two sets with these roles, of a text each: the verdict, and the inputs of the second.
fn both(train: (Roles, &str), validation: (Roles, &str)) -> Result<(Judged, Vec<f32>), String> {
    let folder = Folder::of(&[("t.csv", train.1), ("v.csv", validation.1)]);
    let selection = Selection { validation: Some(csv(validation.0)), ..Selection::of(csv(train.0)) };
    let files = OpenFiles { train: folder.open(&["t.csv"]), validation: folder.open(&["v.csv"]) };
    let (_caller, wanted) = Wanted::by_caller();
    let judged = selection.judge(&files, &wanted).map_err(|faults| folder.told(faults))?;
    let sets = selection.open(&files, None).map_err(|faults| folder.told(faults))?;
    Ok((judged, inputs(sets.validation.unwrap().as_ref())))
}

#[test]
fn missing_values_of_a_set_are_filled_by_its_constants_or_by_means_that_were_learned() {
    let with = |missing: &[MissingRule]| Roles { missing: missing.to_vec(), ..roles("y") };
    let (whole, holes) = ("a,b,y\n1,2,3\n4,5,6\n", "a,b,y\n,7,1\n8,,2\n");
    let constants = with(&[rule(&[], Missing::Constant(-1.0))]);
    let (_, inputs) = both((roles("y"), whole), (constants.clone(), holes)).unwrap();
    assert_eq!(inputs, [-1.0, 7.0, 8.0, -1.0]);
    let means = || with(&[rule(&[], Missing::Mean)]);
    let (_, inputs) = both((means(), whole), (means(), holes)).unwrap();
    assert_eq!(inputs, [2.5, 7.0, 8.0, 3.5]);
    // A constant that the set names itself goes before a mean.
    assert_eq!(both((means(), whole), (constants, holes)).unwrap().1, [-1.0, 7.0, 8.0, -1.0]);
    for train in [roles("y"), with(&[rule(&[], Missing::Drop)])] {
        let told = both((train.clone(), whole), (means(), holes)).unwrap_err();
        for column in ["a", "b"] {
            let words =
                format!("missing: v.csv has no value of {column:?} in 1 of 2 rows, and the training set taught no");
            assert!(told.contains(&words) && told.contains("by = \"mean\""), "{told}");
        }
        // A rule that nothing calls for does no harm.
        assert_eq!(both((train, whole), (means(), whole)).unwrap().1, [1.0, 2.0, 4.0, 5.0]);
    }
}

#[test]
fn another_target_and_another_kind_of_column_are_told_at_their_fields() {
    let zip = |target: &str, categorical: &[&str]| Roles { categorical: names(categorical), ..roles(target) };
    let text = "zip,y,z\n1,2,3\n4,5,6\n";
    let of = |role: Roles| Roles { features: names(&["zip"]), ..role };
    for (train, validation, words) in [
        (zip("y", &[]), zip("z", &[]), "target: v.csv has \"z\" as its target, and the training set has \"y\""),
        (
            zip("y", &["zip"]),
            zip("y", &[]),
            "categorical: v.csv has \"zip\" as numbers, and the training set has it as",
        ),
        (
            zip("y", &[]),
            zip("y", &["zip"]),
            "categorical: v.csv has \"zip\" as categories, and the training set has it as",
        ),
    ] {
        let told = both((of(train), text), (of(validation), text)).unwrap_err();
        assert!(told.starts_with(words) && told.lines().count() == 1, "{words}: {told}");
    }
    let several = |targets: &[&str]| Roles { targets: names(targets), ..of(roles("")) };
    let told = both((several(&["y", "z"]), text), (several(&["y"]), text)).unwrap_err();
    assert!(told.starts_with("target: v.csv has \"y\" as its target, and the training set has \"y\", \"z\""), "{told}");
    assert!(both((several(&["y", "z"]), text), (several(&["z", "y"]), text)).is_ok(), "in any order");
}

/// Files of which a request reads the first ones whole, and no more than a part of the last.
const SMALL_FILES: usize = 99;

/// Judges files that are too large to be read whole: of the rows of the last one those of `head`
/// are read, over and over, and those of `tail`, as many bytes, are not.
fn judge_sampled(
    selection: &Selection,
    [header, head, tail]: [&str; 3],
    validation: Option<&str>,
) -> Result<Judged, String> {
    let bytes = (super::super::WHOLE_BELOW_BYTES as usize / (SMALL_FILES + 1)) + 1000;
    let many = |rows: &str| rows.repeat(bytes / rows.len());
    let (small, large) = (format!("{header}{head}"), format!("{header}{}{}", many(head), many(tail)));
    let folder = Folder::of(&[("small.csv", &small), ("large.csv", &large), ("v.csv", validation.unwrap_or(""))]);
    let train = folder.open(&[&["small.csv"; SMALL_FILES][..], &["large.csv"]].concat());
    let files = OpenFiles { train, validation: validation.map_or(vec![], |_| folder.open(&["v.csv"])) };
    let (_caller, wanted) = Wanted::by_caller();
    let judged = selection.judge(&files, &wanted).map_err(|faults| folder.told(faults))?;
    assert!(judged.is_sample);
    Ok(judged)
}

/// Whether a count is that of so many bytes of rows of that length, twice, up to 1 %.
fn is_about(count: u64, rows: f64) -> bool {
    (count as f64 - rows).abs() < rows / 100.0
}

#[test]
fn a_whole_set_is_not_held_against_the_classes_and_categories_of_a_sample() {
    let roles = Roles { categorical: names(&["k"]), ..roles("y") };
    let selection = Selection { validation: Some(csv(roles.clone())), ..Selection::of(csv(roles)) };
    let rows = ["k,y\n", "one,red\n", "two,blue\n"];
    let judged = judge_sampled(&selection, rows, Some("k,y\none,red\ntwo,blue\n")).unwrap();
    assert!(judged.notes.is_empty(), "{:?}", judged.notes);
    assert_eq!(judged.validation.unwrap().examples, 2);
    // Numbers are no classes, however many the training set has.
    let told = judge_sampled(&selection, rows, Some("k,y\none,3\n")).unwrap_err();
    assert!(told.contains("has numbers in \"y\", and the training set has words"), "{told}");
}

#[test]
fn a_column_divides_a_sample_as_far_as_it_was_read_and_its_counts_are_those_of_the_whole() {
    let selection = Selection {
        division: Division { split: Some(Split::Column("part".into())), limit: None },
        ..Selection::of(csv(roles("y")))
    };
    let header = "x,part,y\n";
    // 33 bytes of rows, of which one is held out and one is in neither set.
    let judged =
        judge_sampled(&selection, [header, "1,validation,1\n1,train,2\n1,test,1\n", "1,test,12\n"], None).unwrap();
    let all = 2.0 * 641_000.0 / 34.0;
    let counts = (judged.train.examples, judged.validation.unwrap().examples);
    assert!(is_about(counts.0, all) && is_about(counts.1, all), "{counts:?} and not {all}");
    // Which rows are to judge by comes in the part that is not read: any may be.
    let rows = [header, "1,train,1\n", "1,validation,2\n"];
    let judged = judge_sampled(&selection, rows, None).unwrap();
    let counts = (judged.train.examples, judged.validation.unwrap().examples);
    assert!(is_about(counts.0, (1.5 * 641_000.0 + 0.5 * 641_000.0) / 10.0) && counts.0 == counts.1, "{counts:?}");
    let told = judge_sampled(&selection, [header, "1,eval,1\n", "1,test,2\n"], None).unwrap_err();
    assert!(told.starts_with("split.column: names a column that says \"eval\""), "{told}");
}

#[test]
fn a_limit_on_a_sample_counts_and_all_rows_that_were_read_teach() {
    let roles = Roles { missing: vec![rule(&["x"], Missing::Mean)], ..roles("y") };
    let of = |division| Selection { division, ..Selection::of(csv(roles.clone())) };
    let rows = ["x,y\n", "1,red\n,blue\n", "1,red\n,blue\n"];
    let split = Some(Split::Fraction { fraction: 0.25, seed: 1, stratify: true });
    let judged = judge_sampled(&of(Division { split: None, limit: Some(1) }), rows, None).unwrap();
    assert_eq!((judged.train.examples, judged.preparation.classes), (1, names(&["blue", "red"])));
    let judged = judge_sampled(&of(Division { split: split.clone(), limit: Some(8) }), rows, None).unwrap();
    assert_eq!((judged.train.examples, judged.validation.unwrap().examples), (6, 2));
    let judged = judge_sampled(&of(Division { split, limit: None }), rows, None).unwrap();
    let (train, held_out) = (judged.train.examples as f64, judged.validation.unwrap().examples as f64);
    assert!((held_out - 0.25 * (train + held_out)).abs() < 1.0 && is_about(train as u64, 0.75 * 1_282_000.0 / 6.0));
}

#[test]
fn what_a_sample_lacks_is_no_mistake() {
    let of = |by| Selection::of(csv(Roles { missing: vec![rule(&["x"], by)], ..roles("y") }));
    for by in [Missing::Drop, Missing::Mean] {
        let judged = judge_sampled(&of(by), ["x,y\n", ",red\n", "1,red\n"], None).unwrap();
        assert!(is_about(judged.train.examples, 1_282_000.0 / 5.0), "{by:?}: {}", judged.train.examples);
    }
    // Rows that are dropped are no examples.
    let judged = judge_sampled(&of(Missing::Drop), ["x,y\n", "1,red\n,red\n", "1,red\n"], None).unwrap();
    assert!(is_about(judged.train.examples, 1_282_000.0 / 11.0), "{}", judged.train.examples);
}

#[test]
fn widths_of_a_sample_are_told_as_such() {
    let of = |categorical: &[&str]| {
        let roles = Roles { categorical: names(categorical), ..roles("y") };
        judge_sampled(&Selection::of(csv(roles)), ["k,y\n", "1,1\n2,2\n", "3,3\n"], None).unwrap().train
    };
    let (one_hot, numbers) = (of(&["k"]), of(&[]));
    assert!(one_hot.may_widen && one_hot.inputs[0].shape == [2]);
    assert!(!numbers.may_widen && numbers.inputs[0].shape == [1]);
}

#[test]
fn a_set_to_judge_by_needs_no_weights() {
    let sampling = Some(Sampling::Weights("w".into()));
    let text = ["x,w,y\n1,2,3\n4,5,6\n", "x,y\n1,3\n", "x,w,y\n1,,3\n2,none,4\n"];
    let folder = Folder::of(&[("t.csv", text[0]), ("without.csv", text[1]), ("with.csv", text[2])]);
    for (name, examples) in [("without.csv", 1), ("with.csv", 2)] {
        let (train, validation) = (csv(roles("y")), Some(csv(roles("y"))));
        let selection = Selection { validation, sampling: sampling.clone(), ..Selection::of(train) };
        let files = OpenFiles { train: folder.open(&["t.csv"]), validation: folder.open(&[name]) };
        let sets = selection.open(&files, None).map_err(|faults| folder.told(faults)).ok().unwrap();
        let validation = sets.validation.unwrap();
        assert_eq!((validation.facts().examples, &validation.facts().inputs[0].shape[..]), (examples, &[1][..]));
    }
}

#[test]
fn rows_that_are_left_out_of_files_that_are_divided_are_told_once() {
    let split = Some(Split::Fraction { fraction: 0.5, seed: 1, stratify: false });
    let roles = Roles { missing: vec![rule(&[], Missing::Drop)], ..roles("y") };
    let selection = Selection { division: Division { split, limit: None }, ..Selection::of(csv(roles)) };
    let folder = Folder::of(&[("t.csv", "x,y\n1,2\n,4\n5,6\n")]);
    let (_caller, wanted) = Wanted::by_caller();
    let judged = selection.judge(&OpenFiles::of(folder.open(&["t.csv"])), &wanted).unwrap();
    assert_eq!((judged.details.left_out, judged.validation_details.unwrap().left_out), (1, 0));
}

#[test]
fn words_in_a_target_of_numbers_are_told_with_what_a_target_may_be() {
    let told = |roles: Roles, text: &str| {
        let folder = Folder::of(&[("t.csv", text)]);
        let (_caller, wanted) = Wanted::by_caller();
        let judged = Selection::of(csv(roles)).judge(&OpenFiles::of(folder.open(&["t.csv"])), &wanted);
        folder.told(judged.unwrap_err())
    };
    for word in ["b", "yes"] {
        let one = told(roles("y"), &format!("x,y\n1,1\n2,{word}\n"));
        assert!(
            one.contains("a target of words needs target_type = \"classes\"") && !one.contains("categorical"),
            "{one}"
        );
        let several = Roles { targets: names(&["y", "z"]), ..Roles::default() };
        let several = told(several, &format!("x,y,z\n1,1,1\n2,1,{word}\n"));
        assert!(several.contains("several targets are numbers") && !several.contains("categorical"), "{several}");
    }
}

#[test]
fn mistakes_of_files_are_told_at_the_field_that_names_them() {
    let folder = Folder::of(&[("t.csv", "a,b,y\n1,2,3\n"), ("v.csv", "a,c,y\n1,2,3\n")]);
    let several = |roles: Roles| {
        let paths = Paths::Paths(vec![PathBuf::new()]);
        Kinds::Csv(csv::Files { paths, roles, dialect: csv::Dialect::default() })
    };
    let selection = Selection { validation: Some(several(roles("y"))), ..Selection::of(several(roles("y"))) };
    let files = |validation: &str| OpenFiles { train: folder.open(&["t.csv"]), validation: folder.open(&[validation]) };
    let (_caller, wanted) = Wanted::by_caller();
    let told = folder.told(selection.judge(&files("v.csv"), &wanted).unwrap_err());
    assert!(told.lines().count() == 2 && told.lines().all(|line| line.starts_with("paths: v.csv has ")), "{told}");
    assert_eq!(selection.judge(&files("t.csv"), &wanted).unwrap().train.inputs[0].file, "paths");
}

#[test]
fn rules_go_by_the_first_that_names_a_column_and_else_by_the_first_for_all() {
    let missing = vec![
        rule(&["a"], Missing::Drop),
        rule(&[], Missing::Mean),
        rule(&["a", "b"], Missing::Refuse),
        rule(&[], Missing::Drop),
    ];
    let roles = Roles { missing, ..Roles::default() };
    let treatments = roles.treatments();
    assert_eq!(["a", "b", "c"].map(|name| treatments.of(name)), [Missing::Drop, Missing::Refuse, Missing::Mean]);
    assert_eq!(Roles::default().treatments().of("a"), Missing::Refuse);
}
