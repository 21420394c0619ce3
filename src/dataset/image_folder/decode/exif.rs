//! The orientation in the EXIF data of an image: how the rows of the file lie in the scene. (CIPA
//! DC-008, 4.6.2 and the tag 0x0112; TIFF 6.0, section 2)

use super::{Image, Size};

/// The tag of the orientation.
const ORIENTATION: u16 = 0x0112;

/// The size of an image that is turned upright.
pub(super) fn turned(size: Size, exif: Option<&[u8]>) -> Size {
    match exif.and_then(orientation) {
        Some(5..=8) => Size { height: size.width, width: size.height },
        _ => size,
    }
}

/// The image turned upright.
pub(super) fn upright(image: Image, exif: Option<&[u8]>) -> Image {
    let Some(orientation @ 2..=8) = exif.and_then(orientation) else { return image };
    let Image { size: Size { height, width }, channels, pixels } = image;
    let size = turned(Size { height, width }, exif);
    let mut turned = Vec::with_capacity(pixels.len());
    for y in 0..size.height {
        for x in 0..size.width {
            let (row, column) = match orientation {
                2 => (y, width - 1 - x),
                3 => (height - 1 - y, width - 1 - x),
                4 => (height - 1 - y, x),
                5 => (x, y),
                6 => (height - 1 - x, y),
                7 => (height - 1 - x, width - 1 - y),
                _ => (x, width - 1 - y),
            };
            let begin = (row * width + column) * channels;
            turned.extend_from_slice(&pixels[begin..begin + channels]);
        }
    }
    Image { size, channels, pixels: turned }
}

/// The orientation, 1 to 8; None where there is none.
fn orientation(exif: &[u8]) -> Option<u16> {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let is_little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |place: usize| {
        let bytes = *tiff.get(place..)?.first_chunk()?;
        Some(if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |place: usize| {
        let bytes = *tiff.get(place..)?.first_chunk()?;
        Some(if is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let directory = long(4)? as usize;
    let count = usize::from(short(directory)?);
    let entry =
        (0..count).map(|number| directory + 2 + 12 * number).find(|&place| short(place) == Some(ORIENTATION))?;
    short(entry + 8).filter(|found| (1..=8).contains(found))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// EXIF data with an orientation alone, in either order of bytes.
    pub(in super::super) fn exif(orientation: u16, is_little: bool) -> Vec<u8> {
        let short = |value: u16| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
        let long = |value: u32| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
        let head: &[u8] = if is_little { b"Exif\0\0II*\0" } else { b"Exif\0\0MM\0*" };
        let entry = [&short(ORIENTATION)[..], &short(3), &long(1), &short(orientation), &[0; 2]].concat();
        [head, &long(8), &short(1), &entry, &long(0)].concat()
    }

    #[test]
    fn images_are_turned_as_their_orientation_says() {
        // An "F" of 3 rows and 2 columns, as the eight orientations store it.
        // (https://jdhao.github.io/2019/07/31/image_rotation_exif_info/ has the same figures)
        let upright_f = [1, 1, 1, 0, 1, 0];
        for (orientation, width, stored) in [
            (1, 2, [1, 1, 1, 0, 1, 0]),
            (2, 2, [1, 1, 0, 1, 0, 1]),
            (3, 2, [0, 1, 0, 1, 1, 1]),
            (4, 2, [1, 0, 1, 0, 1, 1]),
            (5, 3, [1, 1, 1, 1, 0, 0]),
            (6, 3, [1, 0, 0, 1, 1, 1]),
            (7, 3, [0, 0, 1, 1, 1, 1]),
            (8, 3, [1, 1, 1, 0, 0, 1]),
        ] {
            for is_little in [true, false] {
                let size = Size { height: 6 / width, width };
                let image = Image { size, channels: 1, pixels: stored.to_vec() };
                let found = upright(image, Some(&exif(orientation, is_little)));
                assert_eq!(
                    (found.pixels, found.size),
                    (upright_f.to_vec(), Size { height: 3, width: 2 }),
                    "{orientation}"
                );
            }
        }
    }

    #[test]
    fn data_that_are_cut_or_lie_tell_nothing() {
        let whole = exif(6, true);
        for cut in 0..whole.len() - 6 {
            assert_eq!(orientation(&whole[..cut]), None, "{cut} bytes");
        }
        assert_eq!(orientation(&exif(9, true)), None);
        let mut far = whole.clone();
        far[10..14].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(orientation(&far), None);
    }
}
