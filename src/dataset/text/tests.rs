//! Windows of texts: their tokens, what is learned from them, and files that are refused.

use std::fs;
use std::io::Write;

use super::super::{Division, Fault, Files as Kinds, Judged, OpenFiles, Selection, Sets, Split};
use super::*;
use crate::gate::Wanted;

/// Files with these contents.
struct Folder(tempfile::TempDir, Vec<PathBuf>);

impl Folder {
    fn of(contents: &[&[u8]]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().canonicalize().unwrap();
        let paths: Vec<_> = (0..contents.len()).map(|number| place.join(format!("{number}.txt"))).collect();
        paths.iter().zip(contents).for_each(|(path, content)| fs::write(path, content).unwrap());
        Self(folder, paths)
    }

    fn opened(&self) -> Vec<DataFile> {
        self.1.iter().map(|path| DataFile::open(path).unwrap()).collect()
    }

    fn files(&self, unit: Unit, context: u32, stride: u32) -> Kinds {
        Kinds::Text(Files { paths: Paths::Paths(self.1.clone()), unit, cut: Cut { context, stride } })
    }

    /// The first problem of the selection of these files.
    fn refused(&self, selection: &Selection) -> (String, String) {
        let (_caller, waits) = Wanted::by_caller();
        let judged = selection.judge(&OpenFiles::of(self.opened()), &waits).map(|_| ()).unwrap_err();
        let opened = selection.open(&OpenFiles::of(self.opened()), None).map(|_| ()).unwrap_err();
        assert_eq!(judged, opened);
        let Fault { problem, .. } = judged.into_iter().next().unwrap();
        (problem.file.into_owned(), problem.what)
    }
}

fn open(selection: &Selection, folder: &Folder) -> Sets {
    let files = OpenFiles::of(folder.opened());
    let sets = selection.open(&files, None).unwrap();
    let (_caller, waits) = Wanted::by_caller();
    let Judged { train, validation, preparation, .. } = selection.judge(&files, &waits).unwrap();
    assert_eq!((&train, &preparation), (sets.train.facts(), &sets.preparation));
    assert_eq!(validation.as_ref(), sets.validation.as_ref().map(|set| set.facts()));
    sets
}

/// All examples, as inputs and targets.
fn examples(source: &dyn Source) -> Vec<(Vec<i64>, Vec<i64>)> {
    let width = source.facts().inputs[0].values() as usize;
    let numbers = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|&value| i64::from_le_bytes(value)).collect::<Vec<_>>();
    let mut batch = HostBatch::default();
    // The content of the batch is replaced.
    source.fill(&[0], &mut batch).unwrap();
    source.fill(&(0..source.facts().examples).collect::<Vec<_>>(), &mut batch).unwrap();
    let (inputs, targets) = (numbers(&batch.inputs[0]), numbers(&batch.targets));
    inputs.chunks(width).zip(targets.chunks(width)).map(|(input, target)| (input.to_vec(), target.to_vec())).collect()
}

fn characters(preparation: &Preparation) -> &str {
    match &preparation.text {
        Some(TextEncoding::Character { characters }) => characters,
        other => panic!("{other:?}"),
    }
}

fn fraction(fraction: f64) -> Division {
    Division { split: Some(Split::Fraction { fraction, seed: 1, stratify: false }), limit: None }
}

#[test]
fn an_example_is_a_window_with_the_token_that_follows_each_of_its_tokens() {
    // Files follow one another; two tokens at the end are no example.
    let folder = Folder::of(&[b"ab\r\n", b"\0\xff\xc3c"]);
    let sets = open(&Selection::of(folder.files(Unit::Byte, 2, 2)), &folder);
    let bytes = |input: &[u8], target: &[u8]| {
        let numbers = |bytes: &[u8]| bytes.iter().map(|&byte| i64::from(byte)).collect::<Vec<_>>();
        (numbers(input), numbers(target))
    };
    assert_eq!(
        examples(sets.train.as_ref()),
        [bytes(b"ab", b"b\r"), bytes(b"\r\n", b"\n\0"), bytes(b"\0\xff", b"\xff\xc3")]
    );
    let facts = sets.train.facts();
    let told = |field: &Field| (field.name.clone(), field.dtype, field.shape.clone(), field.range.unwrap().highest);
    assert_eq!(told(&facts.inputs[0]), ("tokens".into(), Dtype::I64, vec![2], 255));
    assert_eq!(told(&facts.target), ("next".into(), Dtype::I64, vec![2], 255));
    assert_eq!((&facts.sizes[..], &sets.preparation.text), (&[4, 4][..], &Some(TextEncoding::Byte)));
    for (context, stride, count) in [(7, 7, 1), (7, 1, 1), (3, 1, 5), (3, 2, 3), (1, 1, 7), (2, 5, 2)] {
        let sets = open(&Selection::of(folder.files(Unit::Byte, context, stride)), &folder);
        let examples = examples(sets.train.as_ref());
        assert_eq!(examples.len(), count, "{context} {stride}");
        assert!(examples.iter().all(|(input, target)| input[1..] == target[..context as usize - 1]));
    }
}

#[test]
fn characters_are_numbered_by_code_point_as_the_training_files_have_them() {
    // A byte-order mark is no character of the text where a file begins, and is one elsewhere.
    let text = "\u{feff}zé\u{feff}\u{1F600}a".as_bytes();
    let folder = Folder::of(&[text, b"\xef\xbb\xbfza!"]);
    let sets = open(&Selection::of(folder.files(Unit::Character, 6, 6)), &folder);
    // "!" is in no example, and in the files.
    assert_eq!(characters(&sets.preparation), "!azé\u{feff}\u{1F600}");
    assert_eq!(examples(sets.train.as_ref()), [(vec![2, 3, 4, 5, 1, 2], vec![3, 4, 5, 1, 2, 1])]);
    assert_eq!(sets.train.facts().target.range, Some(Range { lowest: 0, highest: 5, highest_at: 0 }));
    let kept = serde_json::to_string(&sets.preparation).unwrap();
    assert_eq!(kept, "{\"text\":{\"unit\":\"character\",\"characters\":\"!azé\u{feff}\u{1F600}\"}}");
    assert_eq!(serde_json::from_str::<Preparation>(&kept).unwrap(), sets.preparation);
}

#[test]
fn a_character_that_the_training_examples_lack_is_told_with_its_place() {
    let folder = Folder::of(&[b"abcabcabc", "\u{feff}ab\r\nab£§".as_bytes()]);
    let files = |place: usize| {
        let paths = Paths::Path(vec![folder.1[place].clone()]);
        Kinds::Text(Files { paths, unit: Unit::Character, cut: Cut { context: 2, stride: 1 } })
    };
    let selection = Selection { validation: Some(files(1)), ..Selection::of(files(0)) };
    let mut opened = folder.opened();
    let files = OpenFiles { validation: opened.split_off(1), train: opened };
    let (_caller, waits) = Wanted::by_caller();
    let faults = selection.judge(&files, &waits).unwrap_err();
    assert_eq!(selection.open(&files, None).map(|_| ()).unwrap_err(), faults);
    let told = |what: &str| {
        let what = what.replace(folder.0.path().canonicalize().unwrap().to_str().unwrap(), "");
        assert_eq!(
            what,
            "/1.txt line 1, column 3: the character '\\r' (U+000D) is in no training file, and so are 3 others; \
             unit = \"byte\" takes every text"
        );
    };
    told(&faults[0].problem.what);
    assert_eq!((faults[0].set, &*faults[0].problem.file), (Some(super::super::Use::Validation), "path"));
    // A model of bytes takes no characters.
    let known = Preparation { text: Some(TextEncoding::Byte), ..Preparation::default() };
    let faults = selection.open(&files, Some(known)).map(|_| ()).unwrap_err();
    assert_eq!(faults[0].problem.file, "unit");
    assert_eq!(faults[0].problem.what, "is character, and the model has learned the bytes of a text");
}

#[test]
fn a_share_is_held_out_of_windows_that_do_not_overlap() {
    let text: Vec<u8> = (0..=200).collect();
    let folder = Folder::of(&[&text]);
    let selection =
        |stride| Selection { division: fraction(0.25), ..Selection::of(folder.files(Unit::Byte, 10, stride)) };
    let sets = open(&selection(10), &folder);
    let targets = |source: &dyn Source| examples(source).into_iter().flat_map(|(_, target)| target).collect::<Vec<_>>();
    let (train, held_out) = (targets(sets.train.as_ref()), targets(sets.validation.as_deref().unwrap()));
    assert_eq!((train.len(), held_out.len()), (150, 50));
    let mut all = [train, held_out].concat();
    all.sort_unstable();
    assert_eq!(all, (1..=200).collect::<Vec<_>>(), "each token is the target of one example");
    let (field, what) = folder.refused(&selection(9));
    assert_eq!(field, "split.fraction");
    assert!(what.starts_with("is set, and windows of 10 tokens that begin every 9 overlap"), "{what}");
    let stratified = Division { split: Some(Split::Fraction { fraction: 0.5, seed: 1, stratify: true }), limit: None };
    let (field, what) = folder.refused(&Selection { division: stratified, ..selection(10) });
    assert_eq!((&*field, what.contains("an example has no class")), ("split.stratify", true));
}

#[test]
fn files_that_are_no_text_are_told_with_the_byte_and_its_line() {
    let whole = |content: &[u8]| content.to_vec();
    let long = [vec![b'a'; (1 << 20) - 1], "é\n\u{20AC}".as_bytes().to_vec(), vec![0xff]].concat();
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(b"ab\xff").unwrap();
    let packed = packer.finish().unwrap();
    let bzip2 = whole(b"BZh91AY&SY and so on");
    for (content, words) in [
        (whole(b""), " is empty"),
        (whole(b"\xef\xbb\xbf"), " is empty"),
        (whole(b"ab\ncd\xe9f"), " is not UTF-8: the byte 0xe9 at 5, counted from 0, in line 2, column 3; unit ="),
        (whole(b"\xef\xbb\xbf\xff"), "the byte 0xff at 3, counted from 0, in line 1, column 1"),
        (whole(b"ab\xe2\x82"), "the byte 0xe2 at 2, counted from 0, in line 1, column 3"),
        (whole(b"\xff\xfea\0b\0"), " is UTF-16, and UTF-8 is needed; iconv"),
        (whole(b"\x89PNG\r\n\x1a\n"), "in line 1, column 1; it looks like a PNG image"),
        (long, "the byte 0xff at 1048581, counted from 0, in line 2, column 2"),
        (packed.clone(), "the byte 0xff at 2, counted from 0, in line 1, column 3"),
        (packed[..packed.len() - 9].to_vec(), " is cut off"),
        (bzip2.clone(), " is no text: it looks like a bzip2 file (unpack it)"),
    ] {
        let folder = Folder::of(&[b"good", &content]);
        let (field, what) = folder.refused(&Selection::of(folder.files(Unit::Character, 1, 1)));
        let told = what.strip_prefix(folder.1[1].to_str().unwrap()).unwrap();
        assert!(field == "paths" && told.contains(words), "{words}: {told}");
    }
    let folder = Folder::of(&[&bzip2]);
    assert!(folder.refused(&Selection::of(folder.files(Unit::Byte, 1, 1))).1.contains("a bzip2 file"));
    let folder = Folder::of(&[b"abc"]);
    let (field, what) = folder.refused(&Selection::of(folder.files(Unit::Character, 3, 1)));
    let path = folder.1[0].display();
    assert_eq!(field, "context");
    assert!(what.starts_with(&format!("is 3, and {path} has 3 characters; 4 at least are needed")), "{what}");
}

#[test]
fn a_large_text_is_judged_by_its_beginning_and_its_bytes_are_counted_exactly() {
    let text = [vec![b'x'; 3 << 20], "é".repeat(50).into_bytes()].concat();
    let folder = Folder::of(&[b"xy", &text]);
    let (_caller, wanted) = Wanted::by_caller();
    let content = |unit, depth| {
        let Kinds::Text(files) = folder.files(unit, 4, 4) else { unreachable!() };
        let reading = Reading {
            depth,
            wanted: &wanted,
            split_column: None,
            weights: None,
            may_lack_target: false,
            known: None,
            memory_bytes: None,
        };
        files.read_text(&folder.opened(), &reading, 2 << 20).unwrap()
    };
    let whole = content(Unit::Byte, Depth::Train);
    let judged = content(Unit::Byte, Depth::Judge);
    assert_eq!((whole.rows, judged.rows), (((3 << 20) + 102 - 5) / 4 + 1, whole.rows));
    assert!(judged.is_sample && judged.letters.len() < whole.letters.len() && !whole.is_sample);
    // The rest may have other characters, and its own number of them.
    let judged = content(Unit::Character, Depth::Judge);
    let (rows, preparation) = (Rows::All(judged.rows), judged.learn(&Rows::All(judged.rows), false).unwrap());
    assert_eq!(preparation, Preparation::default());
    let prepared = judged.prepare(rows, &preparation).unwrap();
    assert!(prepared.source.is_none() && prepared.facts.target.range.is_none());
    assert_eq!(prepared.facts.examples, judged.rows);
    // Nor does a small set beside it know them.
    let Kinds::Text(mut small) = folder.files(Unit::Character, 1, 1) else { unreachable!() };
    small.paths = Paths::Path(vec![folder.1[0].clone()]);
    let reading = Reading {
        depth: Depth::Judge,
        wanted: &wanted,
        split_column: None,
        weights: None,
        may_lack_target: false,
        known: None,
        memory_bytes: None,
    };
    let small = small.read_text(&folder.opened()[..1], &reading, 2 << 20).unwrap();
    assert!(!small.is_sample && small.prepare(Rows::All(1), &preparation).unwrap().facts.target.range.is_none());
    let whole = content(Unit::Character, Depth::Train);
    assert_eq!(characters(&whole.learn(&Rows::All(whole.rows), false).unwrap()), "xyé");
    assert_eq!((whole.memory_bytes(), whole.letters.width()), (Some((3 << 20) + 52), 1));
}

#[test]
fn of_many_files_a_small_part_each_is_judged() {
    let text = vec![b'x'; 1 << 20];
    let folder = Folder::of(&[&text[..]; 20]);
    let (_caller, wanted) = Wanted::by_caller();
    let Kinds::Text(files) = folder.files(Unit::Character, 4, 4) else { unreachable!() };
    let reading = Reading {
        depth: Depth::Judge,
        wanted: &wanted,
        split_column: None,
        weights: None,
        may_lack_target: false,
        known: None,
        memory_bytes: None,
    };
    let judged = files.read_text(&folder.opened(), &reading, 2 << 20).unwrap();
    assert!(judged.is_sample && judged.letters.len() <= 3 << 20, "{} letters", judged.letters.len());
    assert_eq!(judged.tokens, 20 << 20);
}

#[test]
fn a_character_of_the_share_that_is_held_out_is_known() {
    let text: Vec<u8> = (b' '..=b'~').collect();
    let folder = Folder::of(&[&text]);
    let split = Split::Fraction { fraction: 0.5, seed: 1, stratify: false };
    let division = Division { split: Some(split), limit: None };
    let sets = open(&Selection { division, ..Selection::of(folder.files(Unit::Character, 4, 4)) }, &folder);
    assert_eq!(characters(&sets.preparation).len(), text.len());
    assert_eq!(sets.validation.unwrap().facts().examples, 12);
}
