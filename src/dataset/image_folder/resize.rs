//! Images of other sizes: bilinear, over all pixels that one of the result covers, with the weights
//! and the rounding of Pillow and torchvision. (Pillow, `src/libImaging/Resample.c`)
//!
//! Rows are made first, then columns, as in Pillow up to 12. Pillow 13 begins with columns where an
//! image loses more of its height; samples differ by 1 then.

use super::Fit;
use super::decode::{Image, Size};

/// Bits of a weight behind the point.
const PRECISION: u32 = 32 - 8 - 2;
/// One half.
const HALF: i32 = 1 << (PRECISION - 1);

/// The image in that size.
pub(super) fn resize(image: Image, wanted: Size, fit: Fit) -> Image {
    let (whole, top, left) = match fit {
        Fit::Stretch => (wanted, 0, 0),
        Fit::Crop => {
            let whole = covering(image.size, wanted);
            (whole, margin(whole.height, wanted.height), margin(whole.width, wanted.width))
        }
    };
    let Image { size, channels, pixels } = image;
    let columns = weights(size.width, whole.width, left, wanted.width);
    let rows = weights(size.height, whole.height, top, wanted.height);
    let pixels = match channels {
        1 => resample::<1>(&pixels, size.width, &columns, &rows),
        _ => resample::<3>(&pixels, size.width, &columns, &rows),
    };
    Image { size: wanted, channels, pixels }
}

/// The smallest size of the shape of an image that covers another one. The longer side is rounded
/// down, as torchvision's Resize does.
fn covering(has: Size, wanted: Size) -> Size {
    let by_height = wanted.height * has.width / has.height;
    if by_height >= wanted.width {
        return Size { height: wanted.height, width: by_height };
    }
    Size { height: (wanted.width * has.height / has.width).max(wanted.height), width: wanted.width }
}

/// Pixels before the middle, half to even, as torchvision's CenterCrop rounds.
fn margin(has: usize, wanted: usize) -> usize {
    let rest = has - wanted;
    match rest % 4 {
        3 => rest / 2 + 1,
        _ => rest / 2,
    }
}

/// The pixels that one of the result is made of: the first of them, and their weights.
struct Weighted {
    first: usize,
    weights: Vec<i32>,
}

/// The weights of `count` pixels from `begin` on, of `whole` that are made of `has`.
fn weights(has: usize, whole: usize, begin: usize, count: usize) -> Vec<Weighted> {
    if has == whole {
        let one = |place| Weighted { first: place, weights: vec![2 * HALF] };
        return (begin..begin + count).map(one).collect();
    }
    let scale = has as f64 / whole as f64;
    let support = scale.max(1.0);
    let of = |place: usize| {
        let centre = (place as f64 + 0.5) * scale;
        // Truncated towards zero, as a cast in C is.
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(has);
        let weight = |pixel: usize| {
            let distance = ((pixel as f64 - centre + 0.5) * (1.0 / support)).abs();
            (1.0 - distance).max(0.0)
        };
        let all: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = all.iter().sum();
        let scaled = |weight: &f64| (weight / sum * f64::from(2 * HALF) + 0.5) as i32;
        Weighted { first, weights: all.iter().map(scaled).collect() }
    };
    (begin..begin + count).map(of).collect()
}

fn rounded(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Pixels of other widths and heights. A row of the image is resampled and then added to each row
/// of the result that it is part of: whatever the shape of the image, no more is held than the
/// result.
fn resample<const CHANNELS: usize>(pixels: &[u8], width: usize, columns: &[Weighted], rows: &[Weighted]) -> Vec<u8> {
    let samples = columns.len() * CHANNELS;
    let mut sums = vec![HALF; rows.len() * samples];
    let mut across = Vec::with_capacity(samples);
    let mut done = 0;
    for (place, row) in pixels.chunks_exact(width * CHANNELS).enumerate() {
        done += rows[done..].iter().take_while(|row| row.first + row.weights.len() <= place).count();
        let parts = rows[done..].iter().take_while(|row| row.first <= place);
        let mut parts = parts.zip(sums[done * samples..].chunks_exact_mut(samples)).peekable();
        if parts.peek().is_some() {
            resample_row::<CHANNELS>(row, columns, &mut across);
        }
        for (part, sums) in parts {
            let weight = part.weights[place - part.first];
            for (sum, &sample) in sums.iter_mut().zip(&across) {
                *sum += i32::from(sample) * weight;
            }
        }
    }
    sums.into_iter().map(rounded).collect()
}

/// A row of another width.
fn resample_row<const CHANNELS: usize>(row: &[u8], columns: &[Weighted], into: &mut Vec<u8>) {
    into.clear();
    let (row, _) = row.as_chunks::<CHANNELS>();
    for Weighted { first, weights } in columns {
        let mut sums = [HALF; CHANNELS];
        for (pixel, weight) in row[*first..].iter().zip(weights) {
            for (sum, &sample) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(sample) * weight;
            }
        }
        into.extend(sums.map(rounded));
    }
}
