//! Images of a folder: what is judged of one is what training gets, upright, and in the size that
//! is asked for.
//!
//! The first byte chooses the input that an image becomes, and whether the bytes that follow are a
//! file as it is, a PNG file whose checksums are made right, or the parts of one.

#![no_main]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use flate2::{Compression, Crc, write::ZlibEncoder};
use libfuzzer_sys::fuzz_target;
use torchd::dataset::image_folder::{self, Fit};
use torchd::dataset::{DataFile, Dtype, Fault, Files, HostBatch, OpenFiles, Problem, Selection};
use torchd::gate::Wanted;
use torchd_fuzz::framed::{self, Damage};
use torchd_fuzz::memory::bounded;
use torchd_fuzz::{panics, scratch};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Images of more pixels are not decoded here, for the time that they take ...
const MANY_PIXELS: u64 = 1 << 18;
/// ... up to those that have to be refused by their header.
const TOO_MANY_PIXELS: u64 = 89_478_485;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    panics::of_decoders_may_be_caught();
    let folder = scratch::folder("image").canonicalize().unwrap();
    fs::create_dir(folder.join("class")).unwrap();
    folder
});

/// The samples of an image, row by row.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Plain {
    rows: Vec<Vec<[u8; 3]>>,
}

impl Plain {
    fn transposed(&self) -> Self {
        let width = self.rows.first().map_or(0, Vec::len);
        Self { rows: (0..width).map(|x| self.rows.iter().map(|row| row[x]).collect()).collect() }
    }

    fn mirrored(mut self) -> Self {
        self.rows.iter_mut().for_each(|row| row.reverse());
        self
    }

    fn upside_down(mut self) -> Self {
        self.rows.reverse();
        self
    }

    /// The image of a scene that is stored in this orientation.
    fn upright(self, orientation: u16) -> Self {
        match orientation {
            2 => self.mirrored(),
            3 => self.mirrored().upside_down(),
            4 => self.upside_down(),
            5 => self.transposed(),
            6 => self.transposed().mirrored(),
            7 => self.transposed().mirrored().upside_down(),
            8 => self.transposed().upside_down(),
            _ => self,
        }
    }

    /// The bytes of an input of so many channels.
    fn input(&self, channels: usize) -> Vec<u8> {
        let pixels = || self.rows.iter().flatten();
        (0..channels).flat_map(|channel| pixels().map(move |pixel| pixel[channel])).collect()
    }
}

/// The parts of a PNG file.
#[derive(Arbitrary, Debug)]
struct Parts {
    width: u8,
    height: u8,
    colour: Colour,
    is_interlaced: bool,
    filter: u8,
    palette: Vec<[u8; 3]>,
    opacity: Option<Vec<u8>>,
    exif: Option<Exif>,
    other: Vec<([u8; 4], Vec<u8>)>,
    damages: Vec<Damage>,
    samples: Vec<u8>,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Colour {
    Grey,
    Rgb,
    Other { depth: u8, kind: u8 },
}

#[derive(Arbitrary, Debug)]
struct Exif {
    orientation: u16,
    is_little: bool,
    has_name: bool,
    entries: Vec<[u8; 12]>,
}

impl Exif {
    fn bytes(&self) -> Vec<u8> {
        let short = |value: u16| if self.is_little { value.to_le_bytes() } else { value.to_be_bytes() };
        let long = |value: u32| if self.is_little { value.to_le_bytes() } else { value.to_be_bytes() };
        let name: &[u8] = if self.has_name { b"Exif\0\0" } else { b"" };
        let order: &[u8] = if self.is_little { b"II*\0" } else { b"MM\0*" };
        let entry = [&short(0x112)[..], &short(3), &long(1), &short(self.orientation), &[0; 2]].concat();
        let count = short(self.entries.len() as u16 + 1);
        [name, order, &long(8), &count, &entry, self.entries.as_flattened(), &long(0)].concat()
    }
}

impl Parts {
    /// The file, and the image that it is where that is plain.
    fn file(&self) -> (Vec<u8>, Option<Plain>) {
        let (width, height) = (usize::from(self.width % 40), usize::from(self.height % 40));
        let (depth, kind, samples) = match self.colour {
            Colour::Grey => (8, 0, 1),
            Colour::Rgb => (8, 2, 3),
            Colour::Other { depth, kind } => (depth, kind, [1, 1, 3, 1, 2, 1, 4][usize::from(kind % 7)]),
        };
        let row_bytes = (width * samples * usize::from(depth)).div_ceil(8);
        let mut values = self.samples.iter().copied().chain(std::iter::repeat(self.filter));
        let mut rows: Vec<Vec<u8>> = (0..height).map(|_| values.by_ref().take(row_bytes).collect()).collect();
        rows.iter_mut().for_each(|row| row.insert(0, self.filter % 6));
        let mut lines = rows.concat();
        if self.is_interlaced {
            // Passes have more lines.
            lines.extend(values.take(64));
        }
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&lines).unwrap();
        let sizes = [(width as u32).to_be_bytes(), (height as u32).to_be_bytes()].concat();
        let mut chunks = vec![(*b"IHDR", [&sizes[..], &[depth, kind, 0, 0, self.is_interlaced.into()]].concat())];
        chunks.extend(self.other.iter().cloned());
        if !self.palette.is_empty() {
            chunks.push((*b"PLTE", self.palette.as_flattened().to_vec()));
        }
        chunks.extend(self.opacity.iter().map(|opacity| (*b"tRNS", opacity.clone())));
        chunks.extend(self.exif.iter().map(|exif| (*b"eXIf", exif.bytes())));
        chunks.push((*b"IDAT", packed.finish().unwrap()));
        chunks.push((*b"IEND", Vec::new()));
        let mut file = SIGNATURE.to_vec();
        for (name, data) in chunks {
            file.extend([&(data.len() as u32).to_be_bytes()[..], &name, &data, &[0; 4]].concat());
        }
        let is_plain = !matches!(self.colour, Colour::Other { .. })
            && width * height > 0
            && self.filter % 6 == 0
            && !self.is_interlaced
            && self.palette.is_empty()
            && self.opacity.is_none()
            && self.other.is_empty()
            && self.damages.is_empty();
        let pixel = |bytes: &[u8]| if samples == 1 { [bytes[0]; 3] } else { [bytes[0], bytes[1], bytes[2]] };
        let rows = || rows.iter().map(|row| row[1..].chunks(samples).map(pixel).collect()).collect();
        let plain = is_plain.then(|| Plain { rows: rows() });
        // The first orientation counts.
        (file, plain.map(|plain| plain.upright(self.exif.as_ref().map_or(1, |exif| exif.orientation))))
    }
}

/// Makes the checksums of all chunks right.
fn correct(file: &mut [u8]) {
    let mut at = SIGNATURE.len();
    while let Some(length) = file.get(at..).and_then(|rest| rest.first_chunk()) {
        let end = at + 8 + u32::from_be_bytes(*length) as usize;
        let Some(data) = file.get(at + 4..end) else { return };
        let mut crc = Crc::new();
        crc.update(data);
        let Some(place) = file.get_mut(end..end + 4) else { return };
        place.copy_from_slice(&crc.sum().to_be_bytes());
        at = end + 4;
    }
}

/// The heights and widths that a file may promise, by each place that may be a header.
fn promised(file: &[u8]) -> Vec<[u64; 2]> {
    let of_png = file.starts_with(SIGNATURE).then(|| file.get(16..24)).flatten();
    let of_png = of_png.map(|sizes| [4, 0].map(|at| u32::from_be_bytes(sizes[at..at + 4].try_into().unwrap()).into()));
    let of_jpeg = file.windows(9).filter_map(|bytes| match *bytes {
        [0xff, 0xc0..=0xcf, _, _, _, a, b, c, d] => Some([[a, b], [c, d]].map(|size| u16::from_be_bytes(size).into())),
        _ => None,
    });
    of_png.into_iter().chain(of_jpeg).collect()
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let (bytes, expected) = match choice / 6 % 3 {
        0 => (rest.to_vec(), None),
        1 => {
            let mut bytes = rest.to_vec();
            correct(&mut bytes);
            (bytes, None)
        }
        _ => {
            let Ok(parts) = Parts::arbitrary_take_rest(Unstructured::new(rest)) else { return };
            let (mut bytes, expected) = parts.file();
            framed::damage(&mut bytes, &parts.damages);
            correct(&mut bytes);
            (bytes, expected)
        }
    };
    LazyLock::force(&FOLDER);
    let promised = promised(&bytes);
    let is_slow = |[height, width]: &[u64; 2]| (MANY_PIXELS..=TOO_MANY_PIXELS).contains(&height.saturating_mul(*width));
    if promised.iter().any(is_slow) {
        return;
    }
    fs::write(FOLDER.join("class/image.png"), &bytes).unwrap();
    let channels = if choice % 2 == 0 { 1 } else { 3 };
    let (size, fit) = match choice / 2 % 3 {
        0 => (None, Fit::Crop),
        1 => (Some([5, 3]), Fit::Crop),
        _ => (Some([1, 40]), Fit::Stretch),
    };
    // Blocks of a JPEG image have up to 32 pixels on a side, and a decoder holds a pixel a few
    // times, in up to 16 bits a sample; the result of a resize has 40 pixels at most.
    let padded = promised.iter().map(|[height, width]| (height + 64).saturating_mul(width + 64));
    let padded = padded.filter(|&pixels| pixels <= 8 * MANY_PIXELS).max().unwrap_or(0) as usize;
    let most = (2 << 20) + 48 * padded + 4 * 1032 * bytes.len();
    let (judged, given) = bounded(most, || (judge(size, fit, channels), give(size, fit, channels)));
    let (shape, given) = match (judged, given) {
        (Ok(shape), Ok(given)) => (shape, given),
        (Err(judged), Err(given)) => {
            assert!(expected.is_none(), "{given:?}");
            assert_eq!(judged, given);
            let [Problem { what, .. }] = &given[..] else { panic!("{given:?}") };
            let rest = what.strip_prefix(FOLDER.join("class/image.png").to_str().unwrap());
            return assert!(rest.is_some_and(|rest| rest.starts_with(" is ")), "{what}");
        }
        (judged, given) => panic!("{judged:?} and {given:?}"),
    };
    assert_eq!(shape[0], channels);
    assert_eq!(shape.iter().product::<u64>(), given.len() as u64);
    match size {
        None => {
            if let Some(expected) = expected {
                assert_eq!(shape[1..], [expected.rows.len() as u64, expected.rows[0].len() as u64]);
                // The luma of grey is that grey; that of colours is another matter.
                let is_grey = expected.rows.iter().flatten().all(|[red, green, blue]| red == green && green == blue);
                assert!(channels == 1 && !is_grey || given == expected.input(channels as usize));
            }
        }
        Some(size) => {
            assert_eq!(shape[1..], size.map(u64::from));
            // A mean lies between what it is of, but for the rounding of its weights.
            let whole = give(None, fit, channels).unwrap();
            let ends = |bytes: &[u8]| (*bytes.iter().min().unwrap(), *bytes.iter().max().unwrap());
            let ((lowest, highest), (least, most)) = (ends(&given), ends(&whole));
            assert!(lowest.saturating_add(1) >= least && highest <= most.saturating_add(1), "{given:?} of {whole:?}");
        }
    }
});

fn selection(size: Option<[u32; 2]>, fit: Fit, channels: u64) -> (Selection, OpenFiles) {
    let files = image_folder::Files { path: PathBuf::new(), size, channels: channels as u8, fit, listing: None };
    (Selection::of(Files::ImageFolder(files)), OpenFiles::of([DataFile::open_folder(&FOLDER).unwrap()]))
}

/// The shape of the input, as a request is told.
fn judge(size: Option<[u32; 2]>, fit: Fit, channels: u64) -> Result<Vec<u64>, Vec<Problem>> {
    let (selection, opened) = selection(size, fit, channels);
    let (_caller, wanted) = Wanted::by_caller();
    let judged = selection.judge(&opened, &wanted).map_err(problems)?.train;
    assert!(judged.examples == 1 && judged.inputs[0].dtype == Dtype::Pixel);
    Ok(judged.inputs[0].shape.clone())
}

/// The bytes of the input, as training gets them.
fn give(size: Option<[u32; 2]>, fit: Fit, channels: u64) -> Result<Vec<u8>, Vec<Problem>> {
    let (selection, opened) = selection(size, fit, channels);
    let sets = selection.open(&opened, None).map_err(problems)?;
    let mut batch = HostBatch::default();
    sets.train.fill(&[0], &mut batch).map_err(|problem| vec![problem])?;
    assert_eq!(batch.targets, [0; 8]);
    Ok(batch.inputs.remove(0))
}

fn problems(faults: Vec<Fault>) -> Vec<Problem> {
    faults.into_iter().map(|fault| fault.problem).collect()
}
