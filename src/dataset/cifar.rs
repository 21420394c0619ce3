//! The binary files of CIFAR-10 and CIFAR-100: records of one label or two and the red, green and
//! blue plane of an image of 32x32 pixels. (<https://www.cs.toronto.edu/~kriz/cifar.html>)

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use super::resident::{Arrays, Values};
use super::{Content, DataFile, Depth, Dtype, Facts, Field, Find, Format, Problem, Range, Reading};
use crate::looks::{self, looks_like};

/// The field of the files.
const PATHS: &str = "paths";
/// Bytes of an image.
const IMAGE: usize = 3 * 32 * 32;
/// Records that are read at a time.
const BLOCK: usize = 256;
/// Files of more bytes together are judged by their sizes. Those of CIFAR itself have 184 MB.
const WHOLE_BELOW_BYTES: u64 = 256_000_000;

/// Binary files of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files<P> {
    /// The files, in order.
    pub paths: Vec<P>,
    /// The labels that are taken.
    pub classes: Classes,
}

/// The labels of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Classes {
    /// The ten of CIFAR-10.
    Ten,
    /// The twenty coarse ones of CIFAR-100.
    Twenty,
    /// The hundred fine ones of CIFAR-100.
    Hundred,
}

impl Classes {
    /// How many there are.
    pub fn count(self) -> u8 {
        match self {
            Self::Ten => 10,
            Self::Twenty => 20,
            Self::Hundred => 100,
        }
    }

    /// Bytes before an image, and the place of the label among them.
    fn labels(self) -> (usize, usize) {
        match self {
            Self::Ten => (1, 0),
            Self::Twenty => (2, 0),
            Self::Hundred => (2, 1),
        }
    }
}

impl<P> Format<P> for Files<P> {
    type With<Q> = Files<Q>;

    fn files(&self) -> Vec<(&'static str, &P)> {
        self.paths.iter().map(|path| (PATHS, path)).collect()
    }

    fn locate<Q>(&self, find: &mut dyn Find<P, Q>) -> Option<Files<Q>> {
        Some(Files { paths: find.all(PATHS, &self.paths)?, classes: self.classes })
    }

    fn read(&self, files: &[DataFile], reading: &Reading<'_>) -> Result<Box<dyn Content>, Vec<Problem>> {
        let opened: Vec<_> = files.iter().map(|data| Records::open(data, self.classes)).collect();
        let (mut records, mut wrong) = (Vec::new(), Vec::new());
        opened.into_iter().for_each(|opened| match opened {
            Ok(opened) => records.push(opened),
            Err(problem) => wrong.push(problem),
        });
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let sizes: Vec<u64> = records.iter().map(|records| records.size).collect();
        let is_judged = reading.depth == Depth::Judge;
        let (mut pixels, mut labels, mut range) = (Vec::new(), Vec::new(), None);
        let is_read = !is_judged || sizes.iter().sum::<u64>() < WHOLE_BELOW_BYTES;
        for one in records.iter_mut().filter(|_| is_read) {
            let first = labels.len() as u64 / 8;
            let read = one.each(reading, |place, label, image| {
                labels.extend_from_slice(&i64::from(label).to_le_bytes());
                range = Some(Range::with(range, label.into(), first + place));
                if !is_judged {
                    pixels.extend_from_slice(image);
                }
            });
            match read {
                Ok(()) => {}
                Err(problem) => wrong.push(problem),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let field =
            |name: &str, dtype, shape, range| Field { name: name.into(), file: PATHS.into(), dtype, shape, range };
        let facts = Facts {
            examples: records.iter().map(|records| records.count).sum(),
            inputs: vec![field("images", Dtype::Pixel, vec![3, 32, 32], None)],
            target: field("labels", Dtype::I64, vec![], range),
            sizes,
            is_resident: true,
            may_widen: false,
        };
        let inputs = (!is_judged).then(|| vec![Values::of(pixels)]);
        let targets = is_read.then(|| Values::of(labels));
        let weights = Err("the data are images and labels without weights".into());
        Ok(Box::new(Arrays { facts, inputs, targets, weights, in_files: None, whole: None }))
    }
}

/// A file of records, up to its first one.
struct Records<'a> {
    data: &'a DataFile,
    classes: Classes,
    /// Bytes of the file.
    size: u64,
    /// Its records.
    count: u64,
}

impl<'a> Records<'a> {
    fn open(data: &'a DataFile, classes: Classes) -> Result<Self, Problem> {
        let size = data.metadata().map_err(|error| unreadable(data, &error))?.len();
        let of = |classes: Classes| (classes.labels().0 + IMAGE) as u64;
        let told = |what: String| Err(Problem::of_file(PATHS, data.path(), what));
        if size > 0 && size.is_multiple_of(of(classes)) {
            return Ok(Self { data, classes, size, count: size / of(classes) });
        }
        let mut head = Vec::new();
        let reader = data.reader().and_then(|file| file.take(looks::HEAD_BYTES as u64).read_to_end(&mut head));
        reader.map_err(|error| unreadable(data, &error))?;
        let other = if classes == Classes::Ten { Classes::Hundred } else { Classes::Ten };
        let instead = match looks_like(&head) {
            _ if size > 0 && size.is_multiple_of(of(other)) => match other {
                Classes::Ten => ": its size is that of CIFAR-10; set classes to 10".into(),
                Classes::Twenty | Classes::Hundred => {
                    ": its size is that of CIFAR-100; set classes to 100, or to 20 for the coarse ones".into()
                }
            },
            Some("a Python pickle") => ": it looks like the version for Python; take the binary one (.bin)".into(),
            Some(looks) => format!(": it looks like {looks}"),
            None => String::new(),
        };
        told(format!("has {size} bytes, which is no number of records of {} bytes{instead}", of(classes)))
    }

    /// Hands out the label and the image of each record.
    fn each(&mut self, reading: &Reading<'_>, mut take: impl FnMut(u64, u8, &[u8])) -> Result<(), Problem> {
        let (before, at) = self.classes.labels();
        let width = before + IMAGE;
        let mut file = self.data.reader().map_err(|error| unreadable(self.data, &error))?;
        let mut block = vec![0; BLOCK * width];
        let mut place = 0;
        while place < self.count {
            let records = (self.count - place).min(BLOCK as u64) as usize;
            let block = &mut block[..records * width];
            let read = reading.wanted.check().and_then(|()| file.read_exact(block));
            read.map_err(|error| unreadable(self.data, &error))?;
            for record in block.chunks_exact(width) {
                let label = record[at];
                if label >= self.classes.count() {
                    let last = self.classes.count() - 1;
                    let found = format!("holds the label {label} in the record {place}, counted from 0");
                    return Err(Problem::of_file(PATHS, self.data.path(), format!("{found}; labels are 0 to {last}")));
                }
                take(place, label, &record[before..]);
                place += 1;
            }
        }
        Ok(())
    }
}

fn unreadable(data: &DataFile, error: &io::Error) -> Problem {
    Problem::unreadable(PATHS, data.path(), error)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::super::{Fault, Files as Kinds, HostBatch, OpenFiles, Selection};
    use super::*;
    use crate::gate::Wanted;

    fn set(classes: Classes, count: usize) -> Selection {
        Selection::of(Kinds::Cifar(Files { paths: vec![PathBuf::new(); count], classes }))
    }

    fn opened(files: &[Vec<u8>]) -> (tempfile::TempDir, OpenFiles) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().canonicalize().unwrap();
        let open = |(number, bytes): (usize, &Vec<u8>)| {
            let path = place.join(format!("data_batch_{number}.bin"));
            fs::write(&path, bytes).unwrap();
            DataFile::open(&path).unwrap()
        };
        let files: Vec<_> = files.iter().enumerate().map(open).collect();
        (folder, OpenFiles::of(files))
    }

    fn judge(classes: Classes, files: &OpenFiles) -> Result<Facts, Vec<Problem>> {
        let (_caller, wanted) = Wanted::by_caller();
        let problems = |faults: Vec<Fault>| faults.into_iter().map(|fault| fault.problem).collect();
        set(classes, files.train.len()).judge(files, &wanted).map(|judged| judged.train).map_err(problems)
    }

    fn record(labels: &[u8], value: u8) -> Vec<u8> {
        [labels, &[value; IMAGE]].concat()
    }

    #[test]
    fn records_of_several_files_follow_each_other() {
        let files = [[record(&[3], 1), record(&[9], 2)].concat(), record(&[0], 7)];
        let (_folder, files) = opened(&files);
        let facts = judge(Classes::Ten, &files).unwrap();
        assert_eq!((facts.examples, &facts.inputs[0].shape[..]), (3, &[3, 32, 32][..]));
        assert_eq!(facts.target.range, Some(Range { lowest: 0, highest: 9, highest_at: 1 }));
        assert_eq!(facts.sizes, [2 * 3073, 3073]);
        let source = set(Classes::Ten, 2).open(&files, None).ok().unwrap().train;
        assert_eq!(source.facts(), &facts);
        let mut batch = HostBatch::default();
        source.fill(&[2, 1], &mut batch).unwrap();
        assert_eq!(batch.inputs, [[[7; IMAGE], [2; IMAGE]].concat()]);
        assert_eq!(batch.targets, [0i64.to_le_bytes(), 9i64.to_le_bytes()].concat());
    }

    #[test]
    fn fine_and_coarse_labels_are_told_apart() {
        let (_folder, files) = opened(&[record(&[19, 99], 1)]);
        for (classes, label) in [(Classes::Hundred, 99), (Classes::Twenty, 19)] {
            assert_eq!(judge(classes, &files).unwrap().target.range.unwrap().highest, label);
        }
        let problems = judge(Classes::Ten, &files).unwrap_err();
        assert!(problems[0].what.contains("its size is that of CIFAR-100; set classes to 100"), "{problems:?}");
    }

    #[test]
    fn every_fault_is_told_with_its_file() {
        let good = record(&[1], 1);
        for (bytes, words) in [
            (good[..3000].to_vec(), "has 3000 bytes, which is no number of records of 3073 bytes"),
            (vec![], "has 0 bytes, which is no number of records of 3073 bytes: it looks like an empty file"),
            ([&[0x80, 4, 0x95][..], &[7; 90]].concat(), "take the binary one (.bin)"),
            (vec![0x1f, 0x8b, 8, 0], "it looks like a gzip file"),
            (
                [good.clone(), record(&[10], 0)].concat(),
                "holds the label 10 in the record 1, counted from 0; labels are 0 to 9",
            ),
        ] {
            let (_folder, files) = opened(&[good.clone(), bytes]);
            let problems = judge(Classes::Ten, &files).unwrap_err();
            assert!(problems[0].what.contains("data_batch_1.bin") && problems[0].what.contains(words), "{problems:?}");
        }
    }
}
