//! CSV and TSV, right and wrong.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use super::super::split::Split;
use super::super::table::roles::{InputEncoding, InputRole, Missing, MissingRule, TargetType};
use super::super::{Division, Dtype, Facts, Files as Kinds, HostBatch, Judged, OpenFiles, Range, Selection, Sets};
use super::*;
use crate::gate::Wanted;

/// Files of a name and a content each, in a folder of their own.
fn opened(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Vec<DataFile>) {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let open = |(name, content): &(&str, &[u8])| {
        fs::write(place.join(name), content).unwrap();
        DataFile::open(&place.join(name)).unwrap()
    };
    let files = files.iter().map(open).collect();
    (folder, files)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn roles(target: &str) -> Roles {
    Roles { targets: names(&[target]), ..Roles::default() }
}

fn set(roles: Roles) -> Files<PathBuf> {
    Files { paths: Paths::Path(vec![]), roles, dialect: Dialect::default() }
}

fn open(set: Files<PathBuf>, text: &str) -> Sets {
    let (_folder, files) = opened(&[("a.csv", text.as_bytes())]);
    Selection::of(Kinds::Csv(set))
        .open(&OpenFiles::of(files), None)
        .map_err(|faults| format!("{faults:?}"))
        .ok()
        .unwrap()
}

fn judge(selection: &Selection, files: &OpenFiles) -> Result<Judged, Vec<String>> {
    let (_caller, wanted) = Wanted::by_caller();
    let judged = selection.judge(files, &wanted);
    judged.map_err(|faults| {
        let told = faults.into_iter().map(|fault| format!("{}: {}", fault.problem.file, fault.problem.what));
        told.collect()
    })
}

/// The problems of a file, the path left out.
fn problems(set: Files<PathBuf>, text: &[u8]) -> String {
    let (folder, files) = opened(&[("a.csv", text)]);
    let told = judge(&Selection::of(Kinds::Csv(set)), &OpenFiles::of(files)).unwrap_err();
    let path = format!("{}/", folder.path().canonicalize().unwrap().display());
    told.join("\n").replace(&path, "")
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect()
}

fn whole(bytes: &[u8]) -> Vec<i64> {
    bytes.as_chunks().0.iter().map(|&value| i64::from_le_bytes(value)).collect()
}

/// All examples of a set.
fn batch(set: &mut Box<dyn super::super::Source>) -> HostBatch {
    let mut batch = HostBatch::default();
    let places: Vec<_> = (0..set.facts().examples).collect();
    set.fill(&places, &mut batch).unwrap();
    batch
}

fn shapes(facts: &Facts) -> Vec<(&str, Dtype, &[u64])> {
    facts.inputs.iter().map(|field| (field.name.as_str(), field.dtype, &field.shape[..])).collect()
}

const PETS: &str = "\u{feff}age,kind,weight,name\r\n1,cat,4.5,Tom\r\n2,dog,20,\"Rex, the \"\"old\"\"\"\n3,cat,5,Kim\n";

#[test]
fn a_table_gives_numbers_categories_and_classes_by_name() {
    let roles = Roles { ignore: names(&["name"]), categorical: names(&["kind"]), ..roles("weight") };
    let mut sets = open(set(roles), PETS);
    assert_eq!(shapes(sets.train.facts()), [("x", Dtype::F32, &[3][..])]);
    let target = sets.train.facts().target.clone();
    assert_eq!((target.dtype, target.shape.len(), target.name.as_str()), (Dtype::F32, 0, "weight"));
    assert_eq!(target.range, Some(Range { lowest: 4, highest: 20, highest_at: 1 }));
    let examples = batch(&mut sets.train);
    assert_eq!(floats(&examples.inputs[0]), [1.0, 1.0, 0.0, 2.0, 0.0, 1.0, 3.0, 1.0, 0.0]);
    assert_eq!(floats(&examples.targets), [4.5, 20.0, 5.0]);

    let roles = Roles { features: names(&["weight", "age"]), ..super::tests::roles("kind") };
    let mut sets = open(set(roles), PETS);
    let examples = batch(&mut sets.train);
    assert_eq!(floats(&examples.inputs[0]), [4.5, 1.0, 20.0, 2.0, 5.0, 3.0]);
    assert_eq!(whole(&examples.targets), [0, 1, 0]);
    assert_eq!(sets.preparation.classes, names(&["cat", "dog"]));
    let kept = serde_json::to_string(&sets.preparation).unwrap();
    assert_eq!(serde_json::from_str::<super::super::Preparation>(&kept).unwrap(), sets.preparation);
}

#[test]
fn labels_from_one_on_are_classes_where_the_spec_says_so() {
    let text = "x,y\n1,10\n2,2.0\n3,1\n4,2\n";
    let classes = Roles { target_type: Some(TargetType::Classes), ..roles("y") };
    let mut sets = open(set(classes), text);
    assert_eq!(whole(&batch(&mut sets.train).targets), [2, 1, 0, 1]);
    assert_eq!(sets.preparation.classes, names(&["1", "2", "10"]));
    assert_eq!(open(set(roles("y")), text).train.facts().target.dtype, Dtype::F32);
    let several = Roles { targets: names(&["y", "x"]), features: names(&["z"]), ..Roles::default() };
    let mut sets = open(set(several), "x,y,z\n1,0,5\n0,1,6\n");
    assert_eq!(sets.train.facts().target.shape, [2]);
    assert_eq!(floats(&batch(&mut sets.train).targets), [0.0, 1.0, 1.0, 0.0]);
}

#[test]
fn several_inputs_take_numbers_and_indices() {
    let input =
        |name: &str, columns: &[&str], encoding| InputRole { name: name.into(), columns: names(columns), encoding };
    let inputs = vec![
        input("ids", &["kind", "age"], InputEncoding::Index),
        input("numbers", &["weight"], InputEncoding::OneHot),
    ];
    let mut sets = open(
        set(Roles { inputs, ..roles("weight2") }),
        &PETS
            .replace("name", "weight2")
            .replace("Tom", "1")
            .replace("Kim", "3")
            .replace("\"Rex, the \"\"old\"\"\"", "2"),
    );
    assert_eq!(shapes(sets.train.facts()), [("ids", Dtype::I64, &[2][..]), ("numbers", Dtype::F32, &[1][..])]);
    let examples = batch(&mut sets.train);
    assert_eq!(whole(&examples.inputs[0]), [1, 1, 2, 2, 1, 3]);
    assert_eq!(floats(&examples.inputs[1]), [4.5, 20.0, 5.0]);
    assert_eq!(sets.train.facts().inputs[0].range, Some(Range { lowest: 0, highest: 3, highest_at: 0 }));
}

#[test]
fn missing_values_are_refused_dropped_or_filled_as_the_rules_say() {
    let text = "a,b,c,y\n1,NA,red,1\n,2,blue,2\n3,4,,3\n5,6,\"NA\",4\n";
    let told = problems(set(Roles { categorical: names(&["c"]), ..roles("y") }), text.as_bytes());
    for place in ["line 2, column \"b\"", "line 3, column \"a\"", "line 4, column \"c\""] {
        assert!(told.contains(&format!("path: a.csv {place}: the value is missing; `missing` says")), "{told}");
    }
    let rule = |columns: &[&str], by| MissingRule { columns: names(columns), by };
    let missing = vec![rule(&[], Missing::Mean), rule(&["b"], Missing::Constant(-1.0))];
    let mut sets = open(set(Roles { missing, categorical: names(&["c"]), ..roles("y") }), text);
    let inputs = floats(&batch(&mut sets.train).inputs[0]);
    // The categories are NA, blue and red: a word in quotes is one.
    let expected =
        [1.0, -1.0, 0.0, 0.0, 1.0, 3.0, 2.0, 0.0, 1.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 5.0, 6.0, 1.0, 0.0, 0.0];
    assert_eq!(inputs, expected);
    let missing = vec![rule(&[], Missing::Drop)];
    let mut sets = open(set(Roles { missing, categorical: names(&["c"]), ..roles("y") }), text);
    assert_eq!(floats(&batch(&mut sets.train).inputs[0]), [5.0, 6.0, 1.0]);
}

#[test]
fn a_column_divides_the_rows_and_the_training_rows_alone_teach() {
    let text = "x,k,part,y\n1,a,train,u\n100,b,validation,v\n3,a,train,v\n,c,test,u\n50,,validation,u\n";
    let missing = vec![MissingRule { columns: vec![], by: Missing::Mean }];
    let files = Kinds::Csv(set(Roles { missing, categorical: names(&["k"]), ..roles("y") }));
    let (_folder, opened) = opened(&[("a.csv", text.as_bytes())]);
    let opened = OpenFiles::of(opened);
    let division = Division { split: Some(Split::Column("part".into())), limit: None };
    let selection = Selection { division, measure: true, ..Selection::of(files.clone()) };
    let mut sets = selection.open(&opened, None).ok().unwrap();
    assert_eq!(floats(&batch(&mut sets.train).inputs[0]), [1.0, 1.0, 3.0, 1.0]);
    let mut validation = sets.validation.unwrap();
    assert_eq!(floats(&batch(&mut validation).inputs[0]), [100.0, 0.0, 50.0, 0.0]);
    assert_eq!(whole(&batch(&mut validation).targets), [1, 0]);
    let moments = &sets.preparation.moments["x"];
    assert_eq!((&moments.mean[..], &moments.std[..]), (&[2.0, 0.0][..], &[1.0, 1.0][..]));
    let [note] = &sets.notes[..] else { panic!("{:?}", sets.notes) };
    assert!(
        note.contains("line 3, column \"k\": the first of 1 values whose category no training row has (\"b\")"),
        "{note}"
    );

    let by = |column: &str| {
        let division = Division { split: Some(Split::Column(column.into())), limit: None };
        let selection = Selection { division, ..Selection::of(Kinds::Csv(set(roles("y")))) };
        let (_folder, files) = super::tests::opened(&[("a.csv", b"part,y\ntrain,1\nb,2\n")]);
        judge(&selection, &OpenFiles::of(files)).unwrap_err().concat()
    };
    let told = by("parts");
    assert!(
        told.contains("split.column: is \"parts\", which is no column of the data; did you mean \"part\"?"),
        "{told}"
    );
    let told = by("part");
    assert!(told.starts_with("path: ") && told.contains("besides"), "{told}");
}

#[test]
fn a_column_that_divides_says_which_part_a_row_belongs_to() {
    let division = Division { split: Some(Split::Column("part".into())), limit: None };
    let selection = Selection { division, ..Selection::of(Kinds::Csv(set(roles("y")))) };
    let (_folder, files) = opened(&[("a.csv", b"x,part,y\n1,train,1\n2,eval,2\n")]);
    let told = judge(&selection, &OpenFiles::of(files)).unwrap_err().concat();
    assert!(told.starts_with("split.column: names a column that says \"eval\""), "{told}");
    assert!(told.contains("a.csv line 3, column \"part\"; train, validation or test is right"), "{told}");
}

#[test]
fn decimals_that_are_to_be_classes_are_told_once_with_the_way_out() {
    let (_folder, mut files) = opened(&[("t.csv", b"a,y\n1,0.5\n3,2\n"), ("v.csv", b"a,y\n1,0.75\n2,3\n")]);
    let validation = files.split_off(1);
    let kind = Kinds::Csv(set(Roles { target_type: Some(TargetType::Classes), ..roles("y") }));
    let selection = Selection { validation: Some(kind.clone()), ..Selection::of(kind) };
    let told = judge(&selection, &OpenFiles { train: files, validation }).unwrap_err();
    let words =
        "line 2, column \"y\": \"0.75\" is no class of the training rows, which have \"0.5\", \"2\"; decimals are";
    assert!(told.len() == 1 && told[0].contains(words) && told[0].ends_with("leave it out"), "{told:?}");
}

#[test]
fn validation_has_the_columns_and_classes_of_the_training_set() {
    let judge = |text: &str| {
        let (_folder, mut files) = opened(&[("t.csv", b"a,b,y\n1,2,u\n3,4,v\n"), ("v.csv", text.as_bytes())]);
        let validation = files.split_off(1);
        let kind = Kinds::Csv(set(roles("y")));
        let selection = Selection { validation: Some(kind.clone()), ..Selection::of(kind) };
        judge(&selection, &OpenFiles { train: files, validation })
    };
    // Columns go by their names.
    assert_eq!(judge("b,a,y\n1,2,v\n").unwrap().validation.unwrap().examples, 1);
    for (text, words) in [
        ("b,c,y\n1,2,v\n", "v.csv has no column \"a\", which the training set has; it has \"b\", \"c\", \"y\""),
        ("b,c,a,y\n1,2,3,v\n", "v.csv has the column \"c\", which the training set has not"),
        ("a,b,y\n1,2,v\n3,4,w\n", "target: "),
        (
            "a,b,y\n1,2,v\n3,4,w\n",
            "line 3, column \"y\": \"w\" is no class of the training rows, which have \"u\", \"v\"",
        ),
        ("a,b,y\n1,2,3\n", "has numbers in \"y\", and the training set has words; set target_type"),
    ] {
        let told = judge(text).unwrap_err().join("\n");
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn every_fault_of_a_text_is_told_with_its_file_line_and_column() {
    let with = |change: fn(&mut Files<PathBuf>)| {
        let mut set = set(roles("y"));
        change(&mut set);
        set
    };
    let plain = || with(|_| {});
    let utf16: Vec<u8> = "x,y\n1,2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: Vec<(Files<PathBuf>, &[u8], &str)> = vec![
        (plain(), b"", "path: a.csv is empty"),
        (plain(), b"\n\n", "path: a.csv has no rows"),
        (plain(), b"x,y\n", "path: a.csv has no rows that can be taken"),
        (
            plain(),
            b"x,y\n1,2\nred,3\n",
            "path: a.csv line 3, column \"x\": \"red\" is no number; mend the value; a column of words",
        ),
        (
            plain(),
            b"x,y\n\n1,2\n2024-01-31,3\n",
            "a.csv line 4, column \"x\": \"2024-01-31\" is no number; it looks like a date",
        ),
        (plain(), b"x,y\n1,2\n\"a\nb\",2\ninf,3\n", "a.csv line 5, column \"x\": \"inf\" is not finite"),
        (plain(), b"x,y\n1,2\n3,red\n", "a.csv line 3, column \"y\": \"red\" is no number"),
        (plain(), b"x,y\n1,2\n3\n", "a.csv line 3: the number of fields is 1, and that of the columns 2"),
        (plain(), b"x,y\n1,2,3\n", "a.csv line 2: the number of fields is 3, and that of the columns 2"),
        (plain(), b"x,y\n1,\"2\n3,4\n", "a.csv line 2: a quote opens in field 2 and never closes"),
        (plain(), b"x,y\n1,\"2\"3\n", "a.csv line 2: '3' stands behind the quote that closes field 2"),
        (plain(), b"x,y,x\n1,2,3\n", "a.csv has \"x\" as column 1 and as column 3"),
        (plain(), b",x,y\n0,1,2\n", "a.csv has no name for column 1; pandas writes its index so"),
        (plain(), b"x,Y\n1,2\n", "target: a.csv has no column \"y\"; did you mean \"Y\"?"),
        (plain(), b"x;y\n1;2\n", "a.csv has one column \"x;y\", as ',' is the delimiter; set `delimiter` to ';'"),
        (plain(), b"y\n1\n", "a.csv has no column to learn from besides \"y\""),
        (plain(), b"x,y\n1,\n", "a.csv line 2, column \"y\": the value is missing"),
        (plain(), &utf16, "a.csv looks like UTF-16"),
        (plain(), b"\xff\xfex\0,\0y\0", "a.csv is UTF-16"),
        (plain(), b"PK\x03\x04 an Excel file", "is no delimited text; it looks like a zip archive"),
        (plain(), b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b", "a.csv is cut off"),
        (plain(), b"x,\xe9\n1,2\n", "line 1: holds the byte 0xe9, which is no UTF-8; if it is Latin-1, iconv"),
        (
            plain(),
            b"x,y\n1,\xe9t\xe9\n",
            "a.csv line 2, column \"y\": \"\u{fffd}t\u{fffd}\" holds a byte above 127, which is no UTF-8; if it is Latin-1",
        ),
        (
            with(|set| set.roles.features = names(&["z"])),
            b"x,y\n1,2\n",
            "features: a.csv has no column \"z\"; it has \"x\", \"y\"",
        ),
        (with(|set| set.roles.ignore = names(&["xx"])), b"x,y\n1,2\n", "ignore: a.csv has no column \"xx\""),
        (with(|set| set.roles.categorical = names(&["xx"])), b"x,y\n1,2\n", "categorical: a.csv has no column \"xx\""),
    ];
    for (set, text, words) in cases {
        let told = problems(set, text);
        assert!(told.contains(words), "{words}: {told}");
    }
    // Values of a column that are alike are one mistake, with the lines of the first ten.
    let many = |rows: usize| problems(plain(), format!("x,y\n1,\n{}", "a,1\n".repeat(rows)).as_bytes());
    let told = many(50);
    let (missing, words) = told.split_once('\n').unwrap();
    assert!(missing.contains("a.csv line 2, column \"y\": the value is missing"), "{missing}");
    assert!(words.starts_with("path: a.csv line 3, column \"x\": \"a\" is no number; mend the value; a"), "{words}");
    assert!(
        words.ends_with("(and 49 more rows of this column: the next lines 4, 5, 6, 7, 8, 9, 10, 11, 12)"),
        "{words}"
    );
    assert!(many(2).ends_with("(and 1 more row of this column: line 4)"));
    assert!(many(5000).contains("(and at least 998 more rows of this column: the next lines 4, 5,"));
    let wide =
        |line: usize| (0..12).map(|n| if line == 0 { format!("c{n},") } else { "a,".to_owned() }).collect::<String>();
    let told = problems(plain(), format!("{}y\n{}1\n", wide(0), wide(1)).as_bytes());
    assert!(told.lines().count() == 10 && told.ends_with("there may be others)"), "{told}");
}

#[test]
fn several_files_are_one_table_where_their_columns_agree() {
    let selection = Selection::of(Kinds::Csv(set(roles("y"))));
    let (_folder, files) = opened(&[("a.csv", b"x,y\n1,2\n"), ("b.csv", b"x,y\r\n3,4\r\n5,6")]);
    let files = OpenFiles::of(files);
    assert_eq!(judge(&selection, &files).unwrap().train.sizes, [8, 13]);
    let mut sets = selection.open(&files, None).ok().unwrap();
    assert_eq!(floats(&batch(&mut sets.train).inputs[0]), [1.0, 3.0, 5.0]);
    for (other, words) in [
        ("y,x\n1,2\n", "b.csv has \"y\" as column 1, which is \"x\" in"),
        ("x,y,z\n1,2,3\n", "b.csv has 3 columns, and there are 2 in"),
        ("x,y\n1,2\nred,3\n", "b.csv line 3, column \"x\""),
    ] {
        let (_folder, files) = opened(&[("a.csv", b"x,y\n1,2\n"), ("b.csv", other.as_bytes())]);
        let told = judge(&selection, &OpenFiles::of(files)).unwrap_err().concat();
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn dialects_and_packings_give_the_same_table() {
    let text = "# a note\nx\ty\n1\t2\n3\t4\n";
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text.as_bytes()).unwrap();
    let packed = packer.finish().unwrap();
    let frames = [&text[..12], &text[12..]].map(|part| zstd::encode_all(part.as_bytes(), 1).unwrap()).concat();
    for (name, content) in [("a.tsv", text.as_bytes()), ("a.tsv.gz", &packed), ("a.TSV.zst", &frames)] {
        let dialect = Dialect { comment: Some(b'#'), ..Dialect::default() };
        let (_folder, files) = opened(&[(name, content)]);
        let selection = Selection::of(Kinds::Csv(Files { dialect, ..set(roles("y")) }));
        let mut sets = selection.open(&OpenFiles::of(files), None).ok().unwrap();
        assert_eq!(floats(&batch(&mut sets.train).inputs[0]), [1.0, 3.0], "{name}");
    }
    let dialect = Dialect { delimiter: Some(b';'), header: false, quote: None, ..Dialect::default() };
    let mut sets = open(Files { dialect, ..set(roles("2")) }, "1;\"\n3;4\n");
    assert_eq!(whole(&batch(&mut sets.train).targets), [0, 1]);
}

#[test]
fn a_large_file_is_judged_by_its_beginning() {
    // Few records, that are long: the text is read all the same.
    let mut text = b"x,y,note\n".to_vec();
    let record = format!("0.5,red,{0}\n0.25,green,{0}\n", "a".repeat(100_000));
    while text.len() < 70_000_000 {
        text.extend_from_slice(record.as_bytes());
    }
    let rows = text.len() as u64 * 2 / record.len() as u64;
    text.extend_from_slice(b"0.5,yellow,\nno number,red,\n");
    let (_folder, files) = opened(&[("a.csv", &text)]);
    let roles = Roles { ignore: names(&["note"]), ..roles("y") };
    let judged = judge(&Selection::of(Kinds::Csv(set(roles))), &OpenFiles::of(files)).unwrap();
    assert!(judged.is_sample && judged.train.target.range.is_none());
    assert!(judged.train.examples.abs_diff(rows) < rows / 100, "{} of {rows}", judged.train.examples);
}
