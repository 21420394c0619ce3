//! Sets of tables beside each other: what one has taught, and how the other is held against it.

use std::fs;
use std::path::PathBuf;

use super::super::{
    DataFile, Fault, Files as Kinds, HostBatch, Judged, OpenFiles, Selection, Source, csv, paths::Paths,
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
            let words = format!("missing: v.csv has no value of {column:?} in 1 of 2 rows, and the training set taught no");
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
        (zip("y", &["zip"]), zip("y", &[]), "categorical: v.csv has \"zip\" as numbers, and the training set has it as"),
        (zip("y", &[]), zip("y", &["zip"]), "categorical: v.csv has \"zip\" as categories, and the training set has it as"),
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
