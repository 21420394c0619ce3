//! IDX files, plain and gzip: what is judged from a pair of them is what is loaded, and a header or
//! a packing that lies costs nothing.
//!
//! The first byte chooses between a file of labels as it is, with images to it, and a pair that is
//! made up and then damaged.

#![no_main]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use flate2::{Compression, GzBuilder};
use libfuzzer_sys::fuzz_target;
use torchd::dataset::idx::{self, IdxFile};
use torchd::dataset::{DataFile, Dtype, Facts, Fault, Files, HostBatch, OpenFiles, Problem, Range, Selection, Sets};
use torchd::gate::Wanted;
use torchd_fuzz::framed::{self, Damage};
use torchd_fuzz::memory::bounded;
use torchd_fuzz::scratch;

#[derive(Arbitrary, Debug)]
struct Pair {
    /// The labels' count is that of the images.
    agrees: bool,
    images: Set,
    labels: Set,
}

#[derive(Arbitrary, Debug)]
struct Set {
    /// The type of its values, and how many dimensions of those that may be.
    kind: u8,
    dimensions: u8,
    header: Header,
    values: Values,
    packing: Packing,
    damages: Vec<Damage>,
}

#[derive(Arbitrary, Debug)]
enum Header {
    /// As many dimensions as there should be, small ones.
    Small([u8; 4]),
    /// Any.
    Any([u32; 4]),
    /// Another kind of file.
    Other([u8; 4]),
    None,
}

#[derive(Arbitrary, Debug)]
enum Values {
    /// As many as the header says, all of them this.
    Right(u8),
    /// That many more or fewer.
    Off(i8),
    These(Vec<u8>),
    /// Zeros, of which gzip makes a thousandth.
    Bomb,
}

#[derive(Arbitrary, Debug)]
enum Packing {
    Plain,
    /// gzip, in that many members, with what its header may hold.
    Gzip {
        level: u8,
        members: u8,
        name: Option<Vec<u8>>,
        comment: Option<Vec<u8>>,
        extra: Option<Vec<u8>>,
    },
    /// gzip, and bytes after its end.
    Trailed(Vec<u8>),
}

/// Labels in `examples/mnist-5k/t10k-labels-idx1-ubyte.gz`.
const LABELS_OF_SEED: u32 = 1000;

const BOMB_BYTES: usize = 1 << 17;

struct Place {
    images: PathBuf,
    labels: PathBuf,
    /// The same set again, as we write it.
    again: (PathBuf, PathBuf),
    /// A packed bomb, which takes long to make.
    bomb: Vec<u8>,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let folder = scratch::folder("idx").canonicalize().unwrap();
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&vec![0; BOMB_BYTES]).unwrap();
    Place {
        images: folder.join("images"),
        labels: folder.join("labels"),
        again: (folder.join("images-again"), folder.join("labels-again")),
        bomb: bomb.finish().unwrap(),
    }
});

/// A file as it is on disk, and its content where that is not gone with the packing.
struct Made {
    file: Vec<u8>,
    content: Option<Vec<u8>>,
}

fn make(set: &Set, dimensions: &[u8], count: Option<u32>) -> Made {
    let sizes = match set.header {
        Header::Small(sizes) => sizes.map(|size| u32::from(size) % 8),
        Header::Any(sizes) => sizes,
        Header::Other(_) | Header::None => [0; 4],
    };
    let dimensions = dimensions[usize::from(set.dimensions) % dimensions.len()];
    // Most have bytes.
    let (kind, width) = match set.kind % 10 {
        0 => (9, 1),
        1 => (11, 2),
        2 => (12, 4),
        3 => (13, 4),
        4 => (14, 8),
        _ => (8, 1),
    };
    let mut sizes = sizes[..usize::from(dimensions)].to_vec();
    if let Some(count) = count {
        sizes[0] = count;
    }
    let mut content = Vec::new();
    match set.header {
        Header::Small(..) | Header::Any(..) => {
            content.extend_from_slice(&[0, 0, kind, dimensions]);
            sizes.iter().for_each(|size| content.extend_from_slice(&size.to_be_bytes()));
        }
        Header::Other(magic) => content.extend_from_slice(&magic),
        Header::None => {}
    }
    let promised: u64 = sizes.iter().fold(width, |product, &size| product.saturating_mul(size.into()));
    let promised = promised.min(1 << 12) as usize;
    let is_bomb = matches!(set.values, Values::Bomb) && !matches!(set.packing, Packing::Plain);
    match &set.values {
        Values::Right(value) => content.resize(content.len() + promised, *value),
        Values::Off(off) => {
            content.resize(content.len() + promised.saturating_add_signed((*off).into()), 1);
        }
        Values::These(values) => content.extend_from_slice(values),
        Values::Bomb => {}
    }
    let gzip = |level: u8, bytes: &[u8], builder: GzBuilder| {
        let mut packer = builder.write(Vec::new(), Compression::new(u32::from(level) % 10));
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    };
    let mut file = match &set.packing {
        Packing::Plain => content.clone(),
        Packing::Gzip { level, members, name, comment, extra } => {
            let size = content.len() / (usize::from(*members) % 4 + 1) + 1;
            let text = |text: &[u8]| text.iter().copied().filter(|&byte| byte != 0).collect::<Vec<_>>();
            let member = |part: &[u8]| {
                let mut builder = GzBuilder::new();
                if let Some(name) = name {
                    builder = builder.filename(text(name));
                }
                if let Some(comment) = comment {
                    builder = builder.comment(text(comment));
                }
                if let Some(extra) = extra {
                    builder = builder.extra(extra.clone());
                }
                gzip(*level, part, builder)
            };
            match content.is_empty() {
                true => member(&[]),
                false => content.chunks(size).flat_map(member).collect(),
            }
        }
        Packing::Trailed(_) => gzip(1, &content, GzBuilder::new()),
    };
    if is_bomb {
        file.extend_from_slice(&PLACE.bomb);
    }
    let mut is_known = !is_bomb && set.damages.is_empty();
    if let Packing::Trailed(trail) = &set.packing {
        file.extend_from_slice(trail);
        is_known &= trail.is_empty();
    }
    framed::damage(&mut file, &set.damages);
    // A plain file stays the content that is expected, also when it is damaged.
    if matches!(set.packing, Packing::Plain) && !file.starts_with(&[0x1f, 0x8b]) {
        return Made { content: Some(file.clone()), file };
    }
    // A plain file that begins as gzip does is taken for gzip.
    is_known &= !matches!(set.packing, Packing::Plain);
    Made { file, content: is_known.then_some(content) }
}

/// The type, the dimensions and the values of an IDX file with that content, by the plainest
/// reader.
fn plain<'a>(content: &'a [u8], wanted: &[u8]) -> Option<(u8, Vec<u32>, &'a [u8])> {
    let (magic, rest) = content.split_at_checked(4)?;
    let &[0, 0, kind, count] = magic else { return None };
    let (sizes, values) = rest.split_at_checked(4 * usize::from(count))?;
    let dimensions: Vec<u32> = sizes.chunks(4).map(|size| u32::from_be_bytes(size.try_into().unwrap())).collect();
    let width = match kind {
        8 | 9 => 1,
        11 => 2,
        12 | 13 => 4,
        14 => 8,
        _ => return None,
    };
    if !wanted.contains(&count) {
        return None;
    }
    let product: u128 = dimensions.iter().map(|&size| u128::from(size)).product();
    (product.checked_mul(width) == Some(values.len() as u128)).then_some((kind, dimensions, values))
}

/// Whether all values are numbers that a 32-bit float holds.
fn is_finite(kind: u8, values: &[u8]) -> bool {
    match kind {
        13 => values.chunks(4).all(|value| f32::from_be_bytes(value.try_into().unwrap()).is_finite()),
        14 => values.chunks(8).all(|value| (f64::from_be_bytes(value.try_into().unwrap()) as f32).is_finite()),
        _ => true,
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, rest)) = data.split_first() else { return };
    let place = &*PLACE;
    let (images, labels) = if mode % 2 == 0 {
        let mut images = vec![0, 0, 8, 3];
        [LABELS_OF_SEED, 1, 1].iter().for_each(|size| images.extend_from_slice(&size.to_be_bytes()));
        images.resize(images.len() + LABELS_OF_SEED as usize, 7);
        let content = (!rest.starts_with(&[0x1f, 0x8b])).then(|| rest.to_vec());
        (Made { content: Some(images.clone()), file: images }, Made { content, file: rest.to_vec() })
    } else {
        let Ok(pair) = Pair::arbitrary_take_rest(Unstructured::new(rest)) else { return };
        let images = make(&pair.images, idx::DIMENSIONS_OF_IMAGES, None);
        let count = match (&pair.images.header, pair.agrees) {
            (Header::Small([count, ..]), true) => Some(u32::from(*count) % 8),
            (Header::Any([count, ..]), true) => Some(*count),
            _ => None,
        };
        (images, make(&pair.labels, idx::DIMENSIONS_OF_LABELS, count))
    };
    fs::write(&place.images, &images.file).unwrap();
    fs::write(&place.labels, &labels.file).unwrap();

    // To judge takes two buffers, what unpacks, and the labels, whatever the files promise.
    let most_judged = (1 << 20) + 3 * 1032 * 9 * labels.file.len();
    let (_caller, wanted) = Wanted::by_caller();
    let judged = bounded(most_judged, || selection().judge(&opened(&place.images, &place.labels), &wanted));
    let judged = judged.map(|judged| judged.train).map_err(problems);
    // To load takes what is there, and a vector holds up to three times that while it grows; a
    // label becomes eight bytes, and a byte of a row of numbers four. gzip packs 1032 bytes into
    // one at best.
    let most = (1 << 20) + 3 * 1032 * (4 * images.file.len() + 9 * labels.file.len());
    let loaded = bounded(most, || selection().open(&opened(&place.images, &place.labels), None));
    let loaded = loaded.map(Loaded::of).map_err(problems);
    match (&judged, &loaded) {
        (Ok(facts), Ok(set)) => {
            assert_eq!(*facts, set.facts);
            assert_eq!(set.images.len() as u64, set.facts.examples * set.facts.inputs[0].bytes());
            assert_eq!(set.labels.len() as u64, set.facts.examples * set.facts.target.bytes());
            if set.facts.target.dtype == Dtype::I64 {
                let Range { lowest, highest, highest_at } = set.facts.target.range.unwrap();
                let labels = || set.labels.chunks(8).map(|label| i64::from_le_bytes(label.try_into().unwrap()));
                assert_eq!((labels().min(), labels().max()), (Some(lowest), Some(highest)));
                assert_eq!(labels().position(|label| label == highest), Some(highest_at as usize));
            }
        }
        (_, Err(loaded)) => {
            named(loaded);
            // Where much is promised the header alone is judged.
            let promises_much =
                [(&place.images, idx::DIMENSIONS_OF_IMAGES), (&place.labels, idx::DIMENSIONS_OF_LABELS)].iter().any(
                    |(path, dimensions)| {
                        IdxFile::open(fs::File::open(path).unwrap(), *dimensions)
                            .is_ok_and(|file| file.value_count().is_some_and(|count| count >= 1 << 30))
                    },
                );
            assert!(promises_much || judged.as_ref().err() == Some(loaded), "{judged:?} and {loaded:?}");
        }
        (Err(problems), Ok(_)) => panic!("{problems:?}, and it can be loaded"),
    }
    if let (Some(images), Some(labels)) = (&images.content, &labels.content) {
        let expected = plain(images, idx::DIMENSIONS_OF_IMAGES).zip(plain(labels, idx::DIMENSIONS_OF_LABELS));
        let expected = expected.filter(|((kind, sizes, values), (label_kind, label_sizes, labels))| {
            let has_channels_last = matches!(sizes[..], [_, channels, _, 1 | 3 | 4] if channels > 4);
            let is_finite = is_finite(*kind, values) && is_finite(*label_kind, labels);
            sizes[0] == label_sizes[0] && !values.is_empty() && is_finite && !has_channels_last
        });
        match (expected, &loaded) {
            (Some(((kind, sizes, images), (label_kind, _, labels))), Ok(set)) => {
                assert!(kind != 8 || sizes.len() == 2 || set.images == images);
                let wide: Vec<u8> = labels.iter().flat_map(|&label| i64::from(label).to_le_bytes()).collect();
                assert!(label_kind != 8 || set.labels == wide);
            }
            (None, Err(_)) => {}
            (_, loaded) => panic!("{:?}", loaded.as_ref().map(|set| &set.facts)),
        }
    }
    if let Ok(set) = loaded {
        let write = |path: &Path, kind: u8, dimensions: &[u32], values: &[u8]| {
            let mut bytes = vec![0, 0, kind, dimensions.len() as u8];
            dimensions.iter().for_each(|size| bytes.extend_from_slice(&size.to_be_bytes()));
            bytes.extend_from_slice(values);
            fs::write(path, bytes).unwrap();
        };
        let reversed = |values: &[u8], width: usize| {
            let swapped = values.chunks(width).flat_map(|value| value.iter().take(4).rev().copied());
            swapped.collect::<Vec<u8>>()
        };
        let (examples, shape) = (set.facts.examples as u32, &set.facts.inputs[0].shape);
        let shape = shape.strip_prefix(&[1]).filter(|rest| rest.len() == 2).unwrap_or(shape);
        let sizes: Vec<u32> = [set.facts.examples].iter().chain(shape).map(|&size| size as u32).collect();
        let (images, labels) = &place.again;
        match set.facts.inputs[0].dtype {
            Dtype::Pixel => write(images, 8, &sizes, &set.images),
            _ => write(images, 13, &sizes, &reversed(&set.images, 4)),
        }
        match set.facts.target.dtype {
            // No type of the format has more than 32 bits of a whole number.
            Dtype::I64 => write(labels, 12, &[examples], &reversed(&set.labels, 8)),
            _ => write(labels, 13, &[examples], &reversed(&set.labels, 4)),
        }
        let again = Loaded::of(set_again(images, labels));
        // Files that are written anew have other sizes than those that they came out of.
        let facts = Facts { sizes: set.facts.sizes.clone(), ..again.facts };
        assert!(facts == set.facts && again.images == set.images && again.labels == set.labels);
    }
});

fn set_again(images: &Path, labels: &Path) -> Sets {
    selection().open(&opened(images, labels), None).ok().unwrap()
}

/// The names of the files matter to nothing but messages.
fn selection() -> Selection {
    Selection::of(Files::Idx(idx::Files { images: "".into(), labels: Some("".into()) }))
}

fn opened(images: &Path, labels: &Path) -> OpenFiles {
    OpenFiles::of([images, labels].map(|path| DataFile::open(path).unwrap()))
}

fn problems(faults: Vec<Fault>) -> Vec<Problem> {
    faults.into_iter().map(|fault| fault.problem).collect()
}

/// A set as it comes out of its source: the bytes of its inputs and its targets.
struct Loaded {
    facts: Facts,
    images: Vec<u8>,
    labels: Vec<u8>,
}

impl Loaded {
    fn of(sets: Sets) -> Self {
        let source = sets.train;
        let facts = source.facts().clone();
        let mut batch = HostBatch::default();
        source.fill(&(0..facts.examples).collect::<Vec<_>>(), &mut batch).unwrap();
        Self { facts, images: batch.inputs.remove(0), labels: batch.targets }
    }
}

/// Each problem says with which file, and what is wrong with it.
fn named(problems: &[Problem]) {
    assert!(!problems.is_empty());
    for problem in problems {
        let rest = [&PLACE.images, &PLACE.labels].iter().find_map(|path| problem.what.strip_prefix(path.to_str()?));
        assert!(rest.is_some_and(|rest| rest.len() > 5), "{problem:?}");
    }
}
