//! A set of examples in archives of named NumPy arrays, as `np.savez` and `np.savez_compressed`
//! write them.

use std::fs::File;
use std::io::{self, BufReader, Read};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;
use serde::{Deserialize, Serialize};

use super::array_set::{self, Array, At, Mistake, Open, Roles};
use super::npy::{Header, Wrong, problem};
use super::paths::Paths;
use super::{Content, DataFile, Find, Format, Problem, Reading};
use crate::looks::{self, looks_like};
use crate::tensor_file::archive::{Archive, Entry, Packing, SIGNATURE};
use crate::tensor_file::{self, Positioned, ReaderAt};

/// What makes an array that is packed one that can be read in parts.
const STORE: &str = "write it with np.savez, which does not pack";
/// The end of the name of an entry that is an array.
const SUFFIX: &str = ".npy";

/// Archives of named arrays, and the part that each array plays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(bound(deserialize = "P: Deserialize<'de>"))]
pub struct Files<P> {
    /// The archives.
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
        let is_asked = |name: &str| self.asks_for(name) || reading.weights == Some(name);
        let (mut found, mut names, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for data in files {
            match arrays(data, self.paths.field(), is_asked) {
                Ok((at, of_file, of_all)) => {
                    // Mistakes in names are told of the first file.
                    if found.is_empty() {
                        names = of_all;
                    }
                    found.push((at, of_file));
                }
                Err(problems) => wrong.extend(problems),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let [(first, _), ..] = found[..] else { unreachable!("a set has a file at least") };
        let sizes = found.iter().map(|(at, _)| at.size_bytes).collect();
        let arrays = Array::joined(found, is_asked)?;
        let roles = Roles::named(&arrays, &names, &self.inputs, &self.target, reading, first);
        array_set::read(arrays, roles, sizes, reading)
    }
}

impl<P> Files<P> {
    fn asks_for(&self, name: &str) -> bool {
        self.inputs.is_empty() || self.target == name || self.inputs.iter().any(|input| input == name)
    }
}

/// The arrays of an archive that are asked for, and the names of all. One that no part is asked of
/// may be anything.
fn arrays<'a>(
    data: &'a DataFile,
    field: &'static str,
    is_asked: impl Fn(&str) -> bool,
) -> Result<(At<'a>, Vec<Array<'a>>, Vec<String>), Vec<Problem>> {
    let path = data.path();
    let told = |wrong| problem(field, path, wrong);
    let unreadable = |error| vec![told(Wrong::Unreadable(error))];
    let file = data.reader().map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let archive = open(&file, size).map_err(|wrong| vec![told(wrong)])?;
    let at = At { field, data, size_bytes: size };
    let (mut arrays, mut names, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for name in archive.names() {
        let Some(short) = name.strip_suffix(SUFFIX) else { continue };
        names.push(short.to_owned());
        if !is_asked(short) {
            continue;
        }
        let Some(entry) = archive.entry(name).cloned() else { continue };
        match begun(&entry, data) {
            Ok((header, _)) => {
                let packed = (entry.packing == Packing::Deflated).then_some((entry.packed_bytes(), "zip"));
                let place = match entry.packing {
                    Packing::Stored => Ok(entry.place.start + header.size_bytes),
                    Packing::Deflated | Packing::Other => Err(STORE),
                };
                let open: Open<'a> = Box::new(move || Ok(begun(&entry, data)?.1));
                arrays.push(header.array(short.into(), at, place, packed, open));
            }
            Err(Wrong::Header(what)) => wrong.push(told(Wrong::Header(format!("has an array {short:?} that {what}")))),
            Err(error) => wrong.push(told(error)),
        }
    }
    if wrong.is_empty() { Ok((at, arrays, names)) } else { Err(wrong) }
}

/// The directory of an archive.
fn open(file: &File, size: u64) -> Result<Archive, Wrong> {
    let mut head = [0; looks::HEAD_BYTES];
    let count = Positioned(file).read_at(&mut head, 0).map_err(Wrong::Unreadable)?;
    let head = &head[..count];
    if !head.starts_with(SIGNATURE) {
        let looks = looks_like(head).map_or_else(String::new, |looks| format!(": it looks like {looks}"));
        return Err(Wrong::Header(format!("is no .npz file{looks}")));
    }
    Archive::read(&Positioned(file), size).map_err(|error| match error {
        tensor_file::Problem::Unreadable(error) => Wrong::Unreadable(error),
        other => Wrong::Header(other.to_string()),
    })
}

/// The header of an entry, and what follows it.
fn begun<'a>(entry: &Entry, data: &'a DataFile) -> Result<(Header, Box<dyn Read + 'a>), Wrong> {
    let packed = data.part(entry.place.clone());
    let unpacked: Box<dyn Read + 'a> = match entry.packing {
        Packing::Stored => Box::new(packed),
        Packing::Deflated => Box::new(DeflateDecoder::new(BufReader::with_capacity(1 << 16, packed))),
        Packing::Other => {
            let what = "is packed otherwise than np.savez and np.savez_compressed do, or encrypted";
            return Err(Wrong::Header(what.into()));
        }
    };
    let mut values = Checked { inner: unpacked, crc: Crc::new(), expected: entry.crc32, left: entry.size_bytes };
    let header = Header::read(&mut values)?;
    if let Ok(numbers) = &header.numbers {
        // Large archives are judged by this alone.
        let wanted = header.shape.iter().product::<u64>() * numbers.kind.width() as u64;
        if header.size_bytes + wanted != entry.size_bytes {
            let (shape, found) = (&header.shape, entry.size_bytes.saturating_sub(header.size_bytes));
            let what = format!("has the shape {shape:?}, which takes {wanted} bytes, and {found} bytes of values");
            return Err(Wrong::Header(what));
        }
    }
    Ok((header, Box::new(values)))
}

/// The content of an entry, whose size and checksum are compared with the directory's.
struct Checked<'a> {
    inner: Box<dyn Read + 'a>,
    crc: Crc,
    expected: u32,
    left: u64,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.crc.update(&buffer[..count]);
        let wrong = |what: &str| Err(Mistake(what.into()).into());
        match self.left.checked_sub(count as u64) {
            None => return wrong("has an entry that is larger than its directory says"),
            Some(left) => self.left = left,
        }
        if count == 0 && !buffer.is_empty() {
            if self.left > 0 {
                return wrong("has an entry that is smaller than its directory says");
            }
            if self.crc.sum() != self.expected {
                return wrong("has an entry whose checksum is wrong: the file is damaged");
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::io::Write;

    use rawzip::{CompressionMethod, ZipArchiveWriter};

    use super::super::npy::tests::npy;
    use super::super::{Facts, Fault, Files as Kinds, HostBatch, OpenFiles, Sampling, Selection};
    use super::*;
    use crate::gate::Wanted;

    fn set(inputs: &[&str]) -> Selection {
        let inputs = inputs.iter().map(|&name| name.into()).collect();
        Selection::of(Kinds::Npz(Files { paths: "".into(), inputs, target: "y".into() }))
    }

    pub(in super::super) fn archive(entries: &[(&str, Vec<u8>)], is_compressed: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut archive = ZipArchiveWriter::new(&mut bytes);
        for (name, content) in entries {
            let method = if is_compressed { CompressionMethod::DEFLATE } else { CompressionMethod::STORE };
            let (mut entry, config) = archive.new_file(name).compression_method(method).start().unwrap();
            let descriptor = if is_compressed {
                let packer = flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::fast());
                let mut writer = config.wrap(packer);
                writer.write_all(content).unwrap();
                let (packer, descriptor) = writer.finish().unwrap();
                packer.finish().unwrap();
                descriptor
            } else {
                let mut writer = config.wrap(&mut entry);
                writer.write_all(content).unwrap();
                writer.finish().unwrap().1
            };
            entry.finish(descriptor).unwrap();
        }
        archive.finish().unwrap();
        bytes
    }

    fn opened(bytes: &[u8]) -> (tempfile::TempDir, OpenFiles) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("set.npz");
        fs::write(&path, bytes).unwrap();
        let file = DataFile::open(&path).unwrap();
        (folder, OpenFiles::of([file]))
    }

    fn judge(inputs: &[&str], files: &OpenFiles) -> Result<Facts, Vec<Problem>> {
        let (_caller, wanted) = Wanted::by_caller();
        let problems = |faults: Vec<Fault>| faults.into_iter().map(|fault| fault.problem).collect();
        set(inputs).judge(files, &wanted).map(|judged| judged.train).map_err(problems)
    }

    fn whole(values: &[i64]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn entries() -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("b.npy", npy("<i8", "False", "(2,)", &whole(&[5, 6]))),
            ("a.npy", npy("|u1", "False", "(2, 1, 2)", &[1, 2, 3, 4])),
            ("y.npy", npy("<i4", "False", "(2,)", &[7, 0, 0, 0, 9, 0, 0, 0])),
            ("notes.txt", b"no array".to_vec()),
        ]
    }

    #[test]
    fn archives_are_read_as_numpy_writes_them_packed_or_not() {
        for is_compressed in [false, true] {
            let (_folder, files) = opened(&archive(&entries(), is_compressed));
            let facts = judge(&[], &files).unwrap();
            let names: Vec<_> = facts.inputs.iter().map(|field| field.name.as_str()).collect();
            assert_eq!(names, ["a", "b"]);
            let source = set(&[]).open(&files, None).ok().unwrap().train;
            assert_eq!(source.facts(), &facts);
            let mut batch = HostBatch::default();
            source.fill(&[1, 0], &mut batch).unwrap();
            assert_eq!(batch.inputs, [vec![3, 4, 1, 2], whole(&[6, 5])]);
            assert_eq!(batch.targets, whole(&[9, 7]));
            assert_eq!(judge(&["b"], &files).unwrap().inputs.len(), 1);
        }
    }

    #[test]
    fn an_array_of_weights_is_read_whatever_its_type_and_is_no_input() {
        let mut entries = entries();
        entries.push(("w.npy", npy(">f8", "False", "(2,)", &[0.0f64, 2.0].map(f64::to_be_bytes).concat())));
        entries.push(("wide.npy", npy("|u1", "False", "(2, 2)", &[1; 4])));
        let (_folder, files) = opened(&archive(&entries, true));
        let by = |inputs: &[&str], name: &str| {
            let sampling = Some(Sampling::Weights(name.into()));
            Selection { sampling, ..set(inputs) }.open(&files, None)
        };
        for inputs in [&[][..], &["a"]] {
            let source = by(inputs, "w").ok().unwrap().train;
            assert!(source.facts().inputs.iter().all(|field| field.name != "w"));
            assert_eq!(source.chances().unwrap().draw(5, 1), [1; 5]);
        }
        let faults = by(&["a"], "wide").err().unwrap();
        assert!(faults[0].problem.what.contains("the array is [2, 2]; [2], a number an example"), "{faults:?}");
        let faults = by(&["a"], "none").err().unwrap();
        assert!(faults[0].problem.what.contains("set.npz has no such array"), "{faults:?}");
    }

    #[test]
    fn an_archive_that_is_packed_and_takes_most_of_the_memory_is_noted_with_the_remedy() {
        let notes = |is_compressed: bool, memory_bytes: u64| {
            let (_folder, files) = opened(&archive(&entries(), is_compressed));
            let (_caller, wanted) = Wanted::by_caller();
            let selection = Selection { memory_bytes: Some(memory_bytes), ..set(&["b"]) };
            selection.judge(&files, &wanted).unwrap().notes
        };
        let told = "the training data take 32 bytes of memory, as they are read as a whole, and the job has 40; for \"y\" \
                    write it with np.savez, which does not pack, so that rows can be read one by one";
        assert_eq!(notes(true, 20), [told]);
        assert!(notes(true, 32).is_empty());
        assert!(notes(false, 20)[0].starts_with("the training data stay in their files"));
    }

    #[test]
    fn every_cut_is_noticed_and_damage_of_values_too() {
        for is_compressed in [false, true] {
            let whole = archive(&entries(), is_compressed);
            for cut in 0..whole.len() {
                let (_folder, files) = opened(&whole[..cut]);
                judge(&[], &files).unwrap_err();
            }
        }
        let mut damaged = archive(&entries(), false);
        let place = damaged.windows(4).position(|bytes| bytes == [1, 2, 3, 4]).unwrap();
        damaged[place] = 9;
        let (_folder, files) = opened(&damaged);
        let problems = judge(&[], &files).unwrap_err();
        assert!(problems[0].what.contains("has an entry whose checksum is wrong"), "{problems:?}");
        judge(&["b"], &files).unwrap();
    }

    #[test]
    fn entries_that_lie_and_objects_are_told_by_name() {
        let y = || ("y.npy", npy("<i8", "False", "(2,)", &whole(&[5, 6])));
        for (name, content, words) in [
            (
                "x.npy",
                npy("<f4", "False", "(2, 1000000000)", &[0; 8]),
                r#"an array "x" that has the shape [2, 1000000000], which takes 8000000000 bytes, and 8 bytes of values"#,
            ),
            (
                "x.npy",
                npy("|O", "False", "(2,)", &[0x80, 4, 0x2e]),
                r#"has "x" as "|O": Python objects, which are pickled"#,
            ),
            ("x.npy", b"text".to_vec(), r#"has an array "x" that is no .npy file: it looks like text"#),
            ("x.txt", b"text".to_vec(), "no array besides"),
        ] {
            for is_compressed in [false, true] {
                let (_folder, files) = opened(&archive(&[(name, content.clone()), y()], is_compressed));
                let problems = judge(&[], &files).unwrap_err();
                assert!(problems[0].what.contains(words), "{words}: {problems:?}");
            }
        }
        let (_folder, files) = opened(&npy("|u1", "False", "(2,)", &[0, 1]));
        assert!(
            judge(&[], &files).unwrap_err()[0].what.contains("is no .npz file: it looks like a NumPy array (.npy)")
        );
        let (_folder, files) = opened(&archive(&[y()], false));
        assert!(judge(&["x"], &files).unwrap_err()[0].what.contains(r#"has no array "x"; it has "y""#));
        // Those that nothing is asked of are told as well.
        let other = ("other.npy", npy("|u1", "False", "(2,)", &[0, 1]));
        let (_folder, files) = opened(&archive(&[other, y()], false));
        assert!(judge(&["x"], &files).unwrap_err()[0].what.contains(r#"has no array "x"; it has "other", "y""#));
    }

    #[test]
    fn archives_of_numpy_itself_hold_what_it_has_put_there() {
        let golden = std::path::Path::new("tests/data/numpy").canonicalize().unwrap();
        let expected: Vec<u8> = (0..12u8).flat_map(|place| (f32::from(place) / 4.0).to_le_bytes()).collect();
        for name in ["stored.npz", "packed.npz"] {
            let files = OpenFiles::of([DataFile::open(&golden.join(name)).unwrap()]);
            assert_eq!(judge(&[], &files).unwrap().inputs[0].shape, [2, 2], "{name}");
            let source = set(&[]).open(&files, None).ok().unwrap().train;
            let mut batch = HostBatch::default();
            source.fill(&[0, 1, 2], &mut batch).unwrap();
            assert_eq!((&batch.inputs[0], batch.targets), (&expected, whole(&[2, 0, 1])), "{name}");
        }
    }
}
