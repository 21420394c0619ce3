//! One image: from the bytes of a JPEG or PNG file to pixels of one channel or three, upright.
//!
//! The size in the header is judged before anything is decoded: a small file can promise gigabytes.

mod exif;

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use png::{ColorType, Limits, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::looks::looks_like;

/// More pixels are refused, as Pillow warns of them.
const MAX_PIXELS: usize = 89_478_485;
/// So are longer sides. JPEG has none, and to resize costs the height of an image times the width
/// of the result.
const MAX_SIDE: usize = 1 << 16;
/// Bytes that the parts of a PNG file besides its pixels may take.
const MAX_PNG_BYTES: usize = 64 << 20;

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// Its size, upright.
    pub size: Size,
    /// 1, or 3 for red, green and blue.
    pub channels: usize,
    /// Row by row, the channels of a pixel side by side.
    pub pixels: Vec<u8>,
}

/// The size of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub height: usize,
    pub width: usize,
}

/// The size of an image by its header.
///
/// # Errors
/// The mistake, in words that follow the file's path.
pub(super) fn size(bytes: &[u8]) -> Result<Size, String> {
    guarded(|| {
        Ok(match Opened::of(bytes)? {
            Opened::Jpeg(mut jpeg) => {
                let (size, _) = head_of_jpeg(&mut jpeg)?;
                exif::turned(size, jpeg.exif().map(Vec::as_slice))
            }
            Opened::Png(png) => exif::turned(size_of_png(&png)?, exif_of(&png)),
        })
    })
}

/// Decodes an image into so many channels, 1 or 3.
///
/// # Errors
/// The mistake, in words that follow the file's path.
pub(super) fn decode(bytes: &[u8], channels: usize) -> Result<Image, String> {
    let (image, exif) = guarded(|| match Opened::of(bytes)? {
        Opened::Jpeg(jpeg) => decode_jpeg(*jpeg, bytes),
        Opened::Png(png) => decode_png(*png),
    })?;
    Ok(exif::upright(image.into_channels(channels), exif.as_deref()))
}

/// Calls a decoder; a panic of it is a mistake of the file. Decoders are crates of others that read
/// bytes of strangers, and nothing of theirs is kept after a panic.
fn guarded<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err("is a damaged image, or of a kind that is not read: it cannot be decoded".into()))
}

/// A file whose first bytes are those of an image.
enum Opened<'a> {
    Jpeg(Box<JpegDecoder<ZCursor<&'a [u8]>>>),
    Png(Box<png::Reader<Cursor<&'a [u8]>>>),
}

impl<'a> Opened<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, String> {
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            let limits = Limits { bytes: MAX_PNG_BYTES };
            let mut png = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
            // Palettes and transparent colours become pixels, and 16 bits become their upper 8.
            png.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
            let opened = png.read_info().map_err(|error| damaged("PNG", &error))?;
            return Ok(Self::Png(Box::new(opened)));
        }
        if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            let options = DecoderOptions::default().set_max_width(MAX_SIDE).set_max_height(MAX_SIDE);
            return Ok(Self::Jpeg(Box::new(JpegDecoder::new_with_options(ZCursor::new(bytes), options))));
        }
        let looks = looks_like(bytes).map_or_else(String::new, |looks| format!(": it looks like {looks}"));
        Err(format!("is no JPEG or PNG image{looks}"))
    }
}

/// The mistake of a file that a decoder refuses.
fn damaged(format: &str, error: &dyn std::fmt::Display) -> String {
    // Errors of a decoder may have line breaks.
    let words = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    format!("is a damaged {format} image: {words}")
}

fn bounded(size: Size) -> Result<Size, String> {
    let Size { height, width } = size;
    match height.checked_mul(width) {
        Some(0) => Err(format!("is an empty image of {height}x{width} pixels")),
        Some(pixels) if pixels <= MAX_PIXELS && height.max(width) <= MAX_SIDE => Ok(size),
        Some(pixels) if pixels <= MAX_PIXELS => {
            Err(format!("is an image of {height}x{width} pixels; sides of {MAX_SIDE} pixels at most are read"))
        }
        _ => Err(format!("is an image of {height}x{width} pixels; {MAX_PIXELS} pixels at most are read")),
    }
}

/// The size of a JPEG image as it lies in the file, and whether it has colours.
fn head_of_jpeg(jpeg: &mut JpegDecoder<ZCursor<&[u8]>>) -> Result<(Size, bool), String> {
    jpeg.decode_headers().map_err(|error| damaged("JPEG", &error))?;
    let (width, height) = jpeg.dimensions().unwrap_or_default();
    let has_colours = match jpeg.input_colorspace() {
        Some(ColorSpace::Luma) => false,
        Some(ColorSpace::YCbCr | ColorSpace::RGB) => true,
        Some(ColorSpace::CMYK | ColorSpace::YCCK) => {
            return Err("is a CMYK image; convert it to RGB, for example with mogrify -colorspace sRGB".into());
        }
        other => return Err(format!("is a JPEG image in the colours {other:?}; grey and RGB ones are read")),
    };
    Ok((bounded(Size { height, width })?, has_colours))
}

/// Decodes a JPEG image; with its EXIF data.
fn decode_jpeg(mut jpeg: JpegDecoder<ZCursor<&[u8]>>, bytes: &[u8]) -> Result<(Image, Option<Vec<u8>>), String> {
    let (size, has_colours) = head_of_jpeg(&mut jpeg)?;
    // As it stands in the header: `size` sees no other.
    let exif = jpeg.exif().cloned();
    if !has_end(bytes) {
        return Err("is a JPEG image that is cut off: its end is missing".into());
    }
    let (colours, channels) = if has_colours { (ColorSpace::RGB, 3) } else { (ColorSpace::Luma, 1) };
    let options = jpeg.options().jpeg_set_out_colorspace(colours);
    jpeg.set_options(options);
    let mut pixels = vec![0; size.height * size.width * channels];
    jpeg.decode_into(&mut pixels).map_err(|error| damaged("JPEG", &error))?;
    Ok((Image { size, channels, pixels }, exif))
}

/// Whether a JPEG file has an end of image behind its last scan. The decoder takes the pixels that
/// are missing for grey. (ITU-T T.81, B.1.1.3: no marker is among the data of a scan)
fn has_end(bytes: &[u8]) -> bool {
    // Nearly every file ends with it. Anything may follow it, such as a film: then the markers tell.
    bytes.ends_with(&[0xff, 0xd9]) || is_ended(bytes)
}

/// The same by a walk over the markers, from one segment to the next.
fn is_ended(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(place) = rest.iter().position(|&byte| byte == 0xff) {
        rest = &rest[place..];
        match *rest {
            [_, 0xd9, ..] => return true,
            // A byte that fills up.
            [_, 0xff, ..] => rest = &rest[1..],
            // A byte of a scan, and markers without a segment.
            [_, 0x00 | 0x01 | 0xd0..=0xd8, ..] => rest = &rest[2..],
            [_, _, high, low, ..] => {
                let length = 2 + usize::from(u16::from_be_bytes([high, low]));
                rest = rest.get(length..).unwrap_or_default();
            }
            _ => return false,
        }
    }
    false
}

fn size_of_png(png: &png::Reader<Cursor<&[u8]>>) -> Result<Size, String> {
    let (width, height) = png.info().size();
    bounded(Size { height: height as usize, width: width as usize })
}

fn exif_of<'a>(png: &'a png::Reader<Cursor<&[u8]>>) -> Option<&'a [u8]> {
    png.info().exif_metadata.as_deref()
}

/// Decodes a PNG image, the first of an animation; with its EXIF data.
fn decode_png(mut png: png::Reader<Cursor<&[u8]>>) -> Result<(Image, Option<Vec<u8>>), String> {
    let size = size_of_png(&png)?;
    let exif = exif_of(&png).map(<[u8]>::to_vec);
    let (colour, _) = png.output_color_type();
    let samples = colour.samples();
    let mut pixels = vec![0; png.output_buffer_size().unwrap_or_default()];
    png.next_frame(&mut pixels).map_err(|error| damaged("PNG", &error))?;
    let expected = size.height * size.width * samples;
    if pixels.len() != expected {
        return Err(format!("is a PNG image of {} bytes, where its header says {expected}", pixels.len()));
    }
    let (channels, pixels) = match colour {
        ColorType::Grayscale => (1, pixels),
        ColorType::Rgb => (3, pixels),
        ColorType::GrayscaleAlpha => (1, over_white::<1, 2>(&pixels)),
        ColorType::Rgba => (3, over_white::<3, 4>(&pixels)),
        ColorType::Indexed => return Err("is a PNG image without its palette".into()),
    };
    Ok((Image { size, channels, pixels }, exif))
}

/// Pixels whose last sample is their opacity, over a white ground.
fn over_white<const N: usize, const WITH_ALPHA: usize>(pixels: &[u8]) -> Vec<u8> {
    let over = |pixel: &[u8; WITH_ALPHA]| {
        let opacity = u32::from(pixel[N]);
        let mut shown = [0; N];
        for (shown, &sample) in shown.iter_mut().zip(pixel) {
            *shown = ((u32::from(sample) * opacity + 255 * (255 - opacity) + 127) / 255) as u8;
        }
        shown
    };
    pixels.as_chunks().0.iter().flat_map(over).collect()
}

impl Image {
    /// The same image with so many channels: grey in all three, or the luma of its colours.
    fn into_channels(self, wanted: usize) -> Self {
        let Self { size, channels, pixels } = self;
        let pixels = match (channels, wanted) {
            (1, 3) => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
            (3, 1) => pixels.as_chunks().0.iter().map(luma).collect(),
            _ => pixels,
        };
        Self { size, channels: wanted, pixels }
    }
}

/// Luma of ITU-R 601-2, rounded as Pillow does.
fn luma(&[red, green, blue]: &[u8; 3]) -> u8 {
    let weighted = u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471;
    ((weighted + 0x8000) >> 16) as u8
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A PNG file of samples row by row.
    pub(in super::super) fn png(
        width: u32,
        height: u32,
        colour: ColorType,
        depth: png::BitDepth,
        samples: &[u8],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(samples).unwrap();
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn png_images_of_every_kind_become_grey_or_rgb() {
        use png::BitDepth::{Eight, One, Sixteen};
        for (colour, depth, samples, grey, rgb) in [
            (ColorType::Grayscale, Eight, &[0, 200][..], [0, 200], [0, 0, 0, 200, 200, 200]),
            (ColorType::Grayscale, One, &[0b0100_0000], [0, 255], [0, 0, 0, 255, 255, 255]),
            (ColorType::Grayscale, Sixteen, &[1, 255, 200, 0], [1, 200], [1, 1, 1, 200, 200, 200]),
            (ColorType::GrayscaleAlpha, Eight, &[9, 255, 0, 128], [9, 127], [9, 9, 9, 127, 127, 127]),
            (ColorType::Rgb, Eight, &[255, 0, 0, 0, 255, 0], [76, 150], [255, 0, 0, 0, 255, 0]),
            (ColorType::Rgba, Eight, &[9, 9, 9, 0, 1, 2, 3, 255], [255, 2], [255, 255, 255, 1, 2, 3]),
        ] {
            let file = png(2, 1, colour, depth, samples);
            assert_eq!(size(&file).unwrap(), Size { height: 1, width: 2 });
            assert_eq!(decode(&file, 1).unwrap().pixels, grey, "{colour:?} {depth:?}");
            assert_eq!(decode(&file, 3).unwrap().pixels, rgb, "{colour:?} {depth:?}");
        }
    }

    #[test]
    fn every_cut_of_a_png_image_is_noticed() {
        let samples: Vec<u8> = (0..64u32 * 3).map(|value| (value * 37 % 251) as u8).collect();
        let file = png(8, 8, ColorType::Rgb, png::BitDepth::Eight, &samples);
        assert_eq!(decode(&file, 3).unwrap().pixels, samples);
        // Behind the last pixel stand the checksum of its chunk and the chunk of the end.
        for cut in 0..file.len() - 16 {
            let told = decode(&file[..cut], 3).unwrap_err();
            assert!(told.starts_with("is "), "{cut} bytes: {told}");
        }
    }

    #[test]
    fn an_image_that_promises_too_much_is_refused_by_its_header() {
        for (width, height, rule) in [
            (60_000u32, 60_000u32, "89478485 pixels at most are read"),
            (1, 65_537, "sides of 65536 pixels at most are read"),
            (65_537, 1, "sides of 65536 pixels at most are read"),
        ] {
            let mut file = png(1, 1, ColorType::Grayscale, png::BitDepth::Eight, &[0]);
            file[16..20].copy_from_slice(&width.to_be_bytes());
            file[20..24].copy_from_slice(&height.to_be_bytes());
            let mut crc = flate2::Crc::new();
            crc.update(&file[12..29]);
            file[29..33].copy_from_slice(&crc.sum().to_be_bytes());
            for told in [size(&file).unwrap_err(), decode(&file, 3).unwrap_err()] {
                assert_eq!(told, format!("is an image of {height}x{width} pixels; {rule}"));
            }
        }
    }

    #[test]
    fn other_files_are_named() {
        for (bytes, words) in [
            (&b"GIF89a"[..], "is no JPEG or PNG image"),
            (b"<!DOCTYPE html><html>", "it looks like an HTML page"),
            (b"version https://git-lfs.github.com/spec/v1", "it looks like a Git LFS pointer"),
            (b"", "it looks like an empty file"),
            (&[0xff, 0xd8, 0xff, 0xe0], "is a damaged JPEG image"),
        ] {
            let told = decode(bytes, 3).unwrap_err();
            assert!(told.contains(words) && size(bytes).is_err(), "{words}: {told}");
        }
    }
}
