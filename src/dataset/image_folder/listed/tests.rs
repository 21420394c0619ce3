//! Images that tables list, as sets.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::super::super::paths::Paths;
use super::super::super::table::roles::{Roles, TargetType};
use super::super::super::{
    Division, Dtype, Facts, Fault, Files as Kinds, HostBatch, Judged, OpenFiles, Range, Sampling, Selection, Split,
};
use super::super::tests::{folder, plain};
use super::super::{Files, Fit};
use super::*;
use crate::gate::Wanted;

proptest::proptest! {
    #[test]
    fn a_name_that_is_taken_leads_below_the_folder(name in "[./a\\\\\\x00]{0,8}(\\.png|/1\\.JPG)?") {
        let name = name.strip_prefix("./").unwrap_or(&name);
        if judge_name(name).is_ok() {
            let normal = |part: &str| !part.starts_with('.') && !part.contains('\0');
            proptest::prop_assert!(is_image(name) && name.split('/').all(normal));
            proptest::prop_assert!(!name.starts_with('/'));
        }
    }
}

/// A folder of five images of the values 1 to 5, and a table.
fn place(table: &str) -> tempfile::TempDir {
    let image = |value| plain(2, 2, value);
    folder(&[
        ("set/cat/1.png", image(1)),
        ("set/cat/2.png", image(2)),
        ("set/dog/3.png", image(3)),
        ("set/4.PNG", image(4)),
        ("set/dog/5.png", image(5)),
        ("table.csv", table.as_bytes().to_vec()),
    ])
}

const TABLE: &str = "size,path,kind,part\n\
    0.5,dog/3.png,dog,train\n\
    1.5,./4.PNG,\"a,b\",validation\n\
    2.5,cat/1.png,cat,train\n\
    3.5,dog/3.png,dog,validation\n\
    4,cat/2.png,cat,train\n";

fn files(targets: &[&str], target_type: Option<TargetType>) -> Kinds {
    let roles = Roles { targets: targets.iter().map(|&name| name.into()).collect(), target_type, ..Roles::default() };
    let table = csv::Files { paths: Paths::Path(vec![PathBuf::new()]), roles, dialect: csv::Dialect::default() };
    let listing = Some(Listing { table, column: "path".into() });
    Kinds::ImageFolder(Files { path: PathBuf::new(), size: None, channels: 3, fit: Fit::Crop, listing })
}

fn open(root: &tempfile::TempDir, table: &str) -> Vec<DataFile> {
    let root = root.path().canonicalize().unwrap();
    vec![DataFile::open_folder(&root.join("set")).unwrap(), DataFile::open(&root.join(table)).unwrap()]
}

fn opened(root: &tempfile::TempDir) -> OpenFiles {
    OpenFiles::of(open(root, "table.csv"))
}

fn judge(selection: &Selection, files: &OpenFiles) -> Result<Judged, Vec<Problem>> {
    let (_caller, wanted) = Wanted::by_caller();
    let problems = |faults: Vec<Fault>| faults.into_iter().map(|fault| fault.problem).collect();
    selection.judge(files, &wanted).map_err(problems)
}

/// The values of all images of a set, and the bytes of its targets.
fn values(source: &dyn Source) -> (Vec<u8>, Vec<u8>) {
    let (mut batch, places) = (HostBatch::default(), (0..source.facts().examples).collect::<Vec<_>>());
    source.fill(&places, &mut batch).unwrap();
    source.fill(&places, &mut batch).unwrap();
    let images = batch.inputs[0].chunks(12).map(|image| {
        assert!(image.iter().all(|value| *value == image[0]));
        image[0]
    });
    (images.collect(), batch.targets)
}

fn whole(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn rows_are_examples_in_the_order_of_the_table_with_classes_by_name() {
    let root = place(TABLE);
    let selection = Selection { measure: true, ..Selection::of(files(&["kind"], None)) };
    let judged = judge(&selection, &opened(&root)).unwrap();
    let Facts { examples, inputs, target, is_resident, .. } = &judged.train;
    assert_eq!((*examples, &inputs[0].shape[..], *is_resident), (5, &[3, 2, 2][..], false));
    assert_eq!((target.name.as_str(), &*target.file, target.dtype), ("kind", "table.target", Dtype::I64));
    assert_eq!(target.range, Some(Range { lowest: 0, highest: 2, highest_at: 0 }));
    let counts: Vec<_> = judged.details.classes.iter().map(|class| (&*class.name, class.examples)).collect();
    assert_eq!(counts, [("a,b", 1), ("cat", 2), ("dog", 2)]);
    let columns: Vec<_> = judged.details.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(columns, ["kind"]);
    // Five names of 43 bytes with the places of their ends, and a word a row.
    assert_eq!(judged.memory_bytes, 5 * (4 + (43u64 + 5 * 8).div_ceil(5)));
    let sets = selection.open(&opened(&root), None).ok().unwrap();
    assert_eq!(
        (sets.train.facts(), &sets.preparation.classes[..]),
        (&judged.train, &["a,b", "cat", "dog"].map(String::from)[..])
    );
    assert_eq!(values(sets.train.as_ref()), (vec![3, 4, 1, 3, 2], whole(&[2, 0, 1, 2, 1])));
    let mean = sets.preparation.moments["images"].mean[0] * 255.0;
    assert!((mean - 13.0 / 5.0).abs() < 1e-9 && sets.preparation.table.is_none(), "{mean}");
    let packed = root.path().join("table.csv.gz");
    let mut packer = flate2::write::GzEncoder::new(fs::File::create(packed).unwrap(), flate2::Compression::fast());
    io::Write::write_all(&mut packer, TABLE.as_bytes()).unwrap();
    packer.finish().unwrap();
    let sets = selection.open(&OpenFiles::of(open(&root, "table.csv.gz")), None).ok().unwrap();
    assert_eq!(sets.train.facts().target, judged.train.target);
}

#[test]
fn targets_of_numbers_are_numbers_one_or_several() {
    let root = place(TABLE);
    let sets = Selection::of(files(&["size"], None)).open(&opened(&root), None).ok().unwrap();
    let Field { dtype, shape, file, .. } = &sets.train.facts().target;
    assert_eq!((*dtype, &shape[..], &**file), (Dtype::F32, &[][..], "table.target"));
    assert_eq!(values(sets.train.as_ref()).1, floats(&[0.5, 1.5, 2.5, 3.5, 4.0]));
    let root = place("a,b,path\n1,0,cat/1.png\n0,1,cat/2.png\n");
    let sets = Selection::of(files(&["b", "a"], None)).open(&opened(&root), None).ok().unwrap();
    assert_eq!((&sets.train.facts().target.shape[..], &*sets.train.facts().target.file), (&[2][..], "table.targets"));
    assert_eq!(values(sets.train.as_ref()), (vec![1, 2], floats(&[0.0, 1.0, 1.0, 0.0])));
    let classes = Selection::of(files(&["a"], Some(TargetType::Classes))).open(&opened(&root), None).ok().unwrap();
    assert_eq!(
        (classes.preparation.classes.join(" "), values(classes.train.as_ref()).1),
        ("0 1".into(), whole(&[1, 0]))
    );
}

#[test]
fn a_set_is_divided_limited_and_weighed_as_a_table_is() {
    let root = place(TABLE);
    let by = |split| Selection {
        division: Division { split: Some(split), limit: None },
        ..Selection::of(files(&["kind"], None))
    };
    // The held-out rows have a class that the training rows lack: it is told with its line.
    let problems = judge(&by(Split::Column("part".into())), &opened(&root)).unwrap_err();
    assert_eq!((problems.len(), &*problems[0].file), (1, "table.target"));
    let words = r#"table.csv line 3, column "kind": "a,b" is no class of the training rows, which have "cat", "dog""#;
    assert!(problems[0].what.ends_with(words), "{problems:?}");
    fs::write(root.path().join("table.csv"), TABLE.replace("\"a,b\"", "cat")).unwrap();
    let sets = by(Split::Column("part".into())).open(&opened(&root), None).ok().unwrap();
    let held_out = sets.validation.unwrap();
    assert_eq!((values(sets.train.as_ref()).0, values(held_out.as_ref()).0), (vec![3, 1, 2], vec![4, 3]));
    let share = Split::Fraction { fraction: 0.4, seed: 1, stratify: true };
    let sets = by(share).open(&opened(&root), None).ok().unwrap();
    let mut classes = values(sets.validation.unwrap().as_ref()).1;
    classes.sort_unstable();
    assert_eq!((sets.train.facts().examples, classes.iter().filter(|byte| **byte == 1).count()), (3, 1));
    let limited =
        Selection { division: Division { split: None, limit: Some(2) }, ..Selection::of(files(&["kind"], None)) };
    assert_eq!(judge(&limited, &opened(&root)).unwrap().train.examples, 2);
    let weighed = |name: &str| Selection {
        sampling: Some(Sampling::Weights(name.into())),
        ..Selection::of(files(&["kind"], None))
    };
    let sets = weighed("size").open(&opened(&root), None).ok().unwrap();
    let drawn = sets.train.chances().unwrap().draw(1200, 7);
    let (first, last) = (drawn.iter().filter(|row| **row == 0).count(), drawn.iter().filter(|row| **row == 4).count());
    assert!((30..70).contains(&first) && (340..460).contains(&last), "{first} {last}");
    for (selection, file, words) in [
        (weighed("path"), "sampling.weights", "names files; numbers are needed"),
        (by(Split::Column("path".into())), "split.column", r#"is "path", the column that names the files"#),
    ] {
        let problems = judge(&selection, &opened(&root)).unwrap_err();
        assert!(problems[0].file == file && problems[0].what.contains(words), "{problems:?}");
    }
}

#[test]
fn every_name_that_is_no_image_beneath_the_folder_is_told_with_table_line_and_column() {
    let name = |name: &str| format!("path,kind\ncat/1.png,a\n{name},b\n");
    let root = place(TABLE);
    symlink("cat/1.png", root.path().join("set/link.png")).unwrap();
    symlink("cat", root.path().join("set/linked")).unwrap();
    fs::create_dir(root.path().join("set/folder.png")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.path().join("set/pipe.png"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let deep = format!("{}1.png", "a/".repeat(17));
    for (found, words) in [
        ("cat/9.png", "is not in "),
        ("cat\\1.png", "is not in "),
        ("../table.png", "leads out of the folder, or may; an image is named by its path below the folder"),
        ("cat/../cat/1.png", "leads out of the folder, or may"),
        ("/etc/passwd.png", "is an absolute path; an image is named by its path below the folder"),
        ("folder.png", "is a folder in "),
        ("pipe.png", "is a pipe, socket or device in "),
        ("cat", "is no image by its name; images are .jpg, .jpeg or .png"),
        ("cat/1.gif", "is no image by its name"),
        ("./", "is no image by its name"),
        ("cat/.1.png", "has a part that begins with a dot; such files are passed over"),
        ("link.png", "is a link in "),
        ("linked/1.png", "is a link in "),
        ("cat/1.png/2.png", "is a link in "),
        (&deep, "lies deeper than 16 folders"),
        ("a\0.png", "holds a zero byte"),
    ] {
        fs::write(root.path().join("table.csv"), name(found)).unwrap();
        let problems = judge(&Selection::of(files(&["kind"], None)), &opened(&root)).unwrap_err();
        assert_eq!((problems.len(), &*problems[0].file), (1, "table.path"), "{problems:?}");
        let table = root.path().canonicalize().unwrap().join("table.csv");
        let begin =
            format!("{} line 3, column \"path\": {:?} {words}", table.display(), found.trim_start_matches("./"));
        let begin = if found == "./" { begin.replace(r#""" is"#, r#""./" is"#) } else { begin };
        assert!(problems[0].what.starts_with(&begin), "{problems:?} and {begin}");
    }
    for (text, words) in [
        ("path,kind\n,a\n".to_owned(), r#"line 2, column "path": the name is missing; each row has to name a file"#),
        ("path,kind\n\"\",a\n".to_owned(), "the name is missing"),
        (name("x").replace('\n', "\n,\n"), "line 2, column \"path\": the name is missing"),
    ] {
        fs::write(root.path().join("table.csv"), text).unwrap();
        let problems = judge(&Selection::of(files(&["kind"], None)), &opened(&root)).unwrap_err();
        assert!(problems[0].file == "table.path" && problems[0].what.contains(words), "{problems:?}");
    }
    fs::write(root.path().join("table.csv"), b"path,kind\ncat/\xe9.png,a\n").unwrap();
    let problems = judge(&Selection::of(files(&["kind"], None)), &opened(&root)).unwrap_err();
    assert!(problems[0].what.contains("line 2") && problems[0].what.contains("no UTF-8"), "{problems:?}");
    // An image that goes while it is trained on.
    fs::write(root.path().join("table.csv"), name("dog/5.png")).unwrap();
    let sets = Selection::of(files(&["kind"], None)).open(&opened(&root), None).ok().unwrap();
    fs::remove_file(root.path().join("set/dog/5.png")).unwrap();
    let told = sets.train.fill(&[1], &mut HostBatch::default()).unwrap_err().what;
    assert!(told.contains("table.csv line 3, column \"path\": \"dog/5.png\" is not in "), "{told}");
    // The mistakes of a file are those of the image.
    fs::write(root.path().join("set/cat/2.png"), "text").unwrap();
    fs::write(root.path().join("table.csv"), name("cat/2.png")).unwrap();
    let problems = judge(&Selection::of(files(&["kind"], None)), &opened(&root)).unwrap_err();
    assert!(
        problems[0].file == "path" && problems[0].what.contains("cat/2.png is no JPEG or PNG image"),
        "{problems:?}"
    );
}

#[test]
fn every_fault_of_the_table_is_told_at_its_field() {
    let root = place(TABLE);
    for (table, file, words) in [
        ("path,kind,path\ncat/1.png,a,b\n", "table.path", r#"has "path" as column 1 and as column 3"#),
        ("file,kind\ncat/1.png,a\n", "image_column", r#"has no column "path"; it has "file", "kind""#),
        ("path,sort\ncat/1.png,a\n", "table.target", r#"has no column "kind"; it has "path", "sort""#),
        ("path,kind\ncat/1.png,\"a\n", "table.path", "line 2: a quote opens in field 2 and never closes"),
        ("path,kind\n", "table.path", "has no rows"),
        ("", "table.path", "is empty"),
        ("path,kind\ncat/1.png\n", "table.path", "line 2: the number of fields is 1, and that of the columns 2"),
        ("path,kind\ncat/1.png,\n", "table.path", r#"line 2, column "kind": the value is missing"#),
        ("path,kind\ncat/1.png,1\ncat/2.png,x\n", "table.path", r#"line 3, column "kind": "x" is no number"#),
    ] {
        fs::write(root.path().join("table.csv"), table).unwrap();
        let problems = judge(&Selection::of(files(&["kind"], None)), &opened(&root)).unwrap_err();
        assert_eq!((problems.len(), &*problems[0].file), (1, file), "{problems:?}");
        assert!(problems[0].what.contains("table.csv") && problems[0].what.contains(words), "{words}: {problems:?}");
    }
}

#[test]
fn classes_of_validation_are_those_of_training_and_another_is_told_with_its_line() {
    let root = place("path,kind\ncat/1.png,cat\ndog/3.png,dog\n");
    let both = Selection { validation: Some(files(&["kind"], None)), ..Selection::of(files(&["kind"], None)) };
    let with = |table: &str| {
        fs::write(root.path().join("validation.csv"), table).unwrap();
        OpenFiles { train: open(&root, "table.csv"), validation: open(&root, "validation.csv") }
    };
    let sets = both.open(&with("path,kind\ndog/5.png,dog\n"), None).ok().unwrap();
    assert_eq!(values(sets.validation.unwrap().as_ref()), (vec![5], whole(&[1])));
    let problems = judge(&both, &with("path,kind\ndog/5.png,dog\ncat/1.png,zebra\n")).unwrap_err();
    let words = r#"validation.csv line 3, column "kind": "zebra" is no class of the training rows"#;
    assert!(problems[0].file == "table.target" && problems[0].what.contains(words), "{problems:?}");
    let problems = judge(&both, &with("path,kind\ndog/5.png,7\n")).unwrap_err();
    assert!(problems[0].file == "table.target" && problems[0].what.contains("has numbers in \"kind\""), "{problems:?}");
}
