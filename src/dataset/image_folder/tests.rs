//! Folders of images as sets.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use png::{BitDepth, ColorType};

use super::super::{Facts, Fault, Files as Kinds, HostBatch, OpenFiles, Range, Selection, Split};
use super::decode::tests::png;
use super::decode::{self, Image, Size};
use super::resize::resize;
use super::*;
use crate::gate::Wanted;

/// A file of `tests/data/images`, which Pillow made.
fn jpeg(name: &str) -> Vec<u8> {
    fs::read(Path::new("tests/data/images").join(name)).unwrap()
}

/// A colour PNG of one value.
pub(super) fn plain(height: u32, width: u32, value: u8) -> Vec<u8> {
    png(width, height, ColorType::Rgb, BitDepth::Eight, &vec![value; (height * width * 3) as usize])
}

pub(super) fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    root
}

pub(super) fn opened(root: &tempfile::TempDir) -> DataFile {
    DataFile::open_folder(&root.path().canonicalize().unwrap()).unwrap()
}

fn files(size: Option<[u32; 2]>) -> Kinds {
    Kinds::ImageFolder(Files { path: PathBuf::new(), size, channels: 3, fit: Fit::Crop, listing: None })
}

fn judge(size: Option<[u32; 2]>, root: &tempfile::TempDir) -> Result<Facts, Vec<String>> {
    let (_caller, wanted) = Wanted::by_caller();
    let told = |faults: Vec<Fault>| faults.into_iter().map(|fault| fault.problem.what).collect();
    let judged = Selection::of(files(size)).judge(&OpenFiles::of([opened(root)]), &wanted);
    judged.map(|judged| judged.train).map_err(told)
}

#[test]
fn images_are_decoded_when_they_are_asked_for_with_the_classes_of_their_folders() {
    let root = folder(&[
        ("dog/a.png", plain(2, 3, 7)),
        ("cat/b.png", png(3, 2, ColorType::Rgb, BitDepth::Eight, &(0..18).collect::<Vec<_>>())),
        ("cat/a.png", plain(2, 3, 1)),
    ]);
    let facts = judge(None, &root).unwrap();
    assert_eq!((facts.examples, &facts.inputs[0].shape[..], facts.is_resident), (3, &[3, 2, 3][..], false));
    assert_eq!(facts.target.range, Some(Range { lowest: 0, highest: 1, highest_at: 2 }));
    let selection = Selection { measure: true, ..Selection::of(files(None)) };
    let sets = selection.open(&OpenFiles::of([opened(&root)]), None).ok().unwrap();
    assert_eq!(sets.train.facts(), &facts);
    assert_eq!(sets.preparation.classes, ["cat", "dog"]);
    let mut batch = HostBatch::default();
    sets.train.fill(&[2, 1], &mut batch).unwrap();
    let planes = [0, 3, 6, 9, 12, 15, 1, 4, 7, 10, 13, 16, 2, 5, 8, 11, 14, 17];
    assert_eq!(batch.inputs, [[&[7; 18][..], &planes].concat()]);
    assert_eq!(batch.targets, [1i64.to_le_bytes(), 0i64.to_le_bytes()].concat());
    // Of 18 values of the first channel: six each of 1 and 7, and 0, 3, ... 15.
    let moments = &sets.preparation.moments[IMAGES];
    let (mean, squares) = ((6.0 + 42.0 + 45.0) / 18.0, (6.0 + 294.0 + 495.0) / 18.0);
    let expected = (mean / 255.0, f64::sqrt(squares - mean * mean) / 255.0);
    assert!((moments.mean[0] - expected.0).abs() < 1e-12 && (moments.std[0] - expected.1).abs() < 1e-12, "{moments:?}");
    // A file that changes while it is trained on.
    fs::write(root.path().join("cat/a.png"), plain(3, 3, 1)).unwrap();
    let told = sets.train.fill(&[0], &mut batch).unwrap_err().what;
    assert!(
        told.contains("cat/a.png is an image of 3x3 pixels (height x width), and cat/a.png has 2x3; set size"),
        "{told}"
    );
    fs::remove_file(root.path().join("cat/a.png")).unwrap();
    symlink("/etc/passwd", root.path().join("cat/a.png")).unwrap();
    let told = sets.train.fill(&[0], &mut batch).unwrap_err().what;
    assert!(told.contains("cat/a.png cannot be read: "), "{told}");
}

#[test]
fn every_image_that_is_none_is_told_with_its_file() {
    let whole = plain(2, 2, 9);
    let cut = &whole[..whole.len() - 20];
    let root = folder(&[
        ("a/1.png", plain(2, 2, 1)),
        ("a/2.png", cut.to_vec()),
        ("a/3.png", b"<!DOCTYPE html><html>".to_vec()),
        ("a/4.jpg", jpeg("cmyk.jpg")),
        ("a/5.png", plain(2, 3, 1)),
        ("b/6.png", Vec::new()),
        ("b/7.jpg", jpeg("rgb.jpg")[..700].to_vec()),
    ]);
    let told = judge(None, &root).unwrap_err();
    let place = root.path().canonicalize().unwrap();
    let expected = [
        ("a/2.png", "is a damaged PNG image: "),
        ("a/3.png", "is no JPEG or PNG image: it looks like an HTML page"),
        ("a/4.jpg", "is a CMYK image; convert it to RGB"),
        (
            "a/5.png",
            "is an image of 2x3 pixels (height x width), and a/1.png has 2x2; 2 of 7 images differ; \
             set size, so that all become the same",
        ),
        ("b/6.png", "is no JPEG or PNG image: it looks like an empty file"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, (file, words)) in told.iter().zip(expected) {
        assert!(told.starts_with(&format!("{} {words}", place.join(file).display())), "{words}: {told}");
    }
    let told = judge(Some([2, 2]), &root).unwrap_err();
    assert!(
        told.len() == 5 && told[4].ends_with("b/7.jpg is a JPEG image that is cut off: its end is missing"),
        "{told:#?}"
    );
}

#[test]
fn classes_are_numbered_as_training_has_them_and_no_other_is_taken() {
    let train = folder(&[("a/1.png", plain(2, 2, 1)), ("b/1.png", plain(2, 2, 1)), ("c/1.png", plain(2, 2, 1))]);
    let fewer = folder(&[("c/1.png", plain(2, 2, 1))]);
    let (_caller, wanted) = Wanted::by_caller();
    let both = Selection { validation: Some(files(None)), ..Selection::of(files(None)) };
    let open = |validation| OpenFiles { train: vec![opened(&train)], validation: vec![opened(validation)] };
    let judged = both.judge(&open(&fewer), &wanted).unwrap();
    assert_eq!(judged.validation.unwrap().target.range, Some(Range { lowest: 2, highest: 2, highest_at: 0 }));
    let other = folder(&[("c/1.png", plain(2, 2, 1)), ("zebra/1.png", plain(2, 2, 1))]);
    let faults = both.judge(&open(&other), &wanted).unwrap_err();
    assert!(
        faults[0].problem.what.contains("zebra is a folder, and so a class, which the training set has not: it has"),
        "{faults:?}"
    );
    let split = Split::Fraction { fraction: 0.34, seed: 1, stratify: true };
    let divided = Selection {
        division: super::super::Division { split: Some(split), limit: None },
        ..Selection::of(files(None))
    };
    let judged = divided.judge(&OpenFiles::of([opened(&train)]), &wanted).unwrap();
    assert_eq!((judged.train.examples, judged.validation.unwrap().examples), (2, 1));
}

#[test]
fn jpeg_images_are_those_that_pillow_sees_but_for_rounding() {
    let colour = |y: i32, x: i32| [x * 10, y * 15, 255 - x * 5 - y * 5];
    for (name, channels, most) in [
        ("rgb.jpg", 3, 6),
        ("progressive.jpg", 3, 6),
        ("turned.jpg", 3, 6),
        ("subsampled.jpg", 3, 24),
        ("grey.jpg", 1, 4),
    ] {
        let bytes = jpeg(name);
        let image = decode::decode(&bytes, channels).unwrap();
        assert_eq!((image.size, decode::size(&bytes).unwrap()), (Size { height: 16, width: 24 }, image.size), "{name}");
        for (place, pixel) in image.pixels.chunks(channels).enumerate() {
            let [red, green, blue] = colour(place as i32 / 24, place as i32 % 24);
            let luma = (red * 299 + green * 587 + blue * 114) / 1000;
            let expected = if channels == 1 { vec![luma] } else { vec![red, green, blue] };
            let found = pixel.iter().map(|&sample| i32::from(sample));
            let worst = found.zip(expected).map(|(found, expected)| (found - expected).abs()).max();
            assert!(worst.unwrap() <= most, "{name} at {place}: {pixel:?}");
        }
        for cut in 0..bytes.len() - 2 {
            assert!(decode::decode(&bytes[..cut], channels).is_err(), "{name}, {cut} bytes");
        }
        // A film behind the end may hold the bytes of any marker.
        for behind in [&b"behind the end"[..], &[0xff, 0xda, 0, 1, 2], &[0xff, 0xd9, 0xff, 0xda, 0xff]] {
            assert_eq!(decode::decode(&[&bytes, behind].concat(), channels).unwrap(), image, "{name}");
        }
    }
}

#[test]
fn a_request_and_training_see_the_same_orientation() {
    let turned = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let segment = [&[0xff, 0xe1, 0, 2 + turned.len() as u8][..], turned].concat();
    let image = jpeg("progressive.jpg");
    let scans = image.windows(2).enumerate().filter(|(_, pair)| *pair == [0xff, 0xda]).map(|(place, _)| place);
    let scans = scans.collect::<Vec<_>>();
    assert!(scans.len() > 1);
    // Behind the first scan it is no part of the header.
    for (place, height, width) in [(scans[0], 24, 16), (scans[1], 16, 24)] {
        let image = [&image[..place], &segment, &image[place..]].concat();
        let size = Size { height, width };
        assert_eq!((decode::size(&image).unwrap(), decode::decode(&image, 3).unwrap().size), (size, size), "{place}");
    }
}

#[test]
fn a_header_that_lies_far_behind_the_beginning_is_found() {
    let image = jpeg("subsampled.jpg");
    let segment = [&[0xff, 0xef, 0xfa, 0][..], &[7; 0xfa00 - 2]].concat();
    let far = [&image[..2], &segment.repeat(5), &image[2..]].concat();
    assert!(far.len() > 256 << 10);
    let cut = far[..300 << 10].to_vec();
    let root = folder(&[("cat/a.jpg", far)]);
    assert_eq!(judge(None, &root).unwrap().inputs[0].shape, [3, 16, 24]);
    assert!(judge(None, &folder(&[("cat/a.jpg", cut)])).is_err());
}

#[test]
fn a_panic_of_the_decoder_is_a_mistake_of_the_image() {
    // The third component has more blocks side by side than the first one, and the only scan is of
    // the second one.
    let mut image = jpeg("subsampled.jpg");
    let marker = |bytes: [u8; 2]| image.windows(2).position(|pair| pair == bytes).unwrap();
    let (frame, scan) = (marker([0xff, 0xc0]), marker([0xff, 0xda]));
    image[frame + 17] = 0x41;
    image.truncate(scan);
    image.extend([&[0xff, 0xda, 0, 8, 1, 2, 0x11, 0, 63, 0][..], &[0; 120], &[0xff, 0xd9]].concat());
    assert_eq!(decode::size(&image).unwrap(), Size { height: 16, width: 24 });
    let told = decode::decode(&image, 3).unwrap_err();
    assert!(told.starts_with("is a damaged image, or of a kind that is not read"), "{told}");
}

#[test]
fn images_are_resized_as_pillow_and_torchvision_do() {
    let made = |height: usize, width: usize, channels: usize| {
        let places = (0..height * width * channels)
            .map(|place| (place / channels / width, place / channels % width, place % channels));
        let value = |(y, x, c): (usize, usize, usize)| ((y * 37 + x * 91 + c * 53) * (y + 3 * x + 7 * c + 1)) as u8;
        Image { size: Size { height, width }, channels, pixels: places.map(value).collect() }
    };
    let small = resize(made(4, 8, 1), Size { height: 2, width: 2 }, Fit::Stretch);
    assert_eq!(small.pixels, [139, 151, 134, 116]);
    // CRC-32 of the pixels by Pillow 13.0.0: Image.resize with BILINEAR; Resize and CenterCrop of
    // torchvision 0.26.0.
    for (height, width, channels, to_height, to_width, fit, expected) in [
        (5, 7, 3, 3, 4, Fit::Stretch, 0x5003_002c),
        (5, 7, 3, 3, 3, Fit::Stretch, 0x3fbc_802a),
        (5, 7, 3, 3, 3, Fit::Crop, 0xb140_55d9),
        (3, 3, 3, 7, 5, Fit::Stretch, 0x4617_55ff),
        (4, 8, 1, 2, 2, Fit::Crop, 0x0aa0_f643),
        (4, 4, 1, 8, 8, Fit::Stretch, 0x4e6c_d31e),
        (4, 4, 1, 8, 8, Fit::Crop, 0x4e6c_d31e),
        (50, 75, 3, 32, 32, Fit::Stretch, 0x7fd8_abb1),
        (50, 75, 3, 32, 32, Fit::Crop, 0x11ce_dda2),
        (375, 500, 3, 224, 224, Fit::Stretch, 0xf3e8_1b22),
        (375, 500, 3, 224, 224, Fit::Crop, 0x4aca_72d5),
        (500, 375, 1, 224, 224, Fit::Stretch, 0xad3a_b93e),
        (500, 375, 1, 224, 224, Fit::Crop, 0xe505_1e61),
        (33, 64, 3, 224, 224, Fit::Stretch, 0xed1e_e073),
        (33, 64, 3, 224, 224, Fit::Crop, 0xec52_ed94),
        (9, 4, 3, 4, 4, Fit::Stretch, 0xb823_3a84),
        (9, 4, 3, 4, 4, Fit::Crop, 0x7df0_97ab_u32),
    ] {
        let size = Size { height: to_height, width: to_width };
        let found = resize(made(height, width, channels), size, fit);
        let mut crc = flate2::Crc::new();
        crc.update(&found.pixels);
        assert_eq!(found.pixels.len(), to_height * to_width * channels);
        assert_eq!(crc.sum(), expected, "{height}x{width}x{channels} to {to_height}x{to_width}, {fit:?}");
    }
}
