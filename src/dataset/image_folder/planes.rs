//! From pixels with their channels side by side to one channel after the other, eight pixels at a
//! time in 64-bit words.

/// Puts pixels channel by channel in place of as many bytes.
pub(super) fn by_channel(pixels: &[u8], channels: usize, into: &mut [u8]) {
    if channels == 1 {
        return into.copy_from_slice(pixels);
    }
    let (reds, others) = into.split_at_mut(pixels.len() / 3);
    let (greens, blues) = others.split_at_mut(pixels.len() / 3);
    let (eights, rest) = pixels.as_chunks();
    let [(red, reds), (green, greens), (blue, blues)] = [reds, greens, blues].map(<[u8]>::as_chunks_mut);
    for (((eight, red), green), blue) in eights.iter().zip(red).zip(green).zip(blue) {
        [*red, *green, *blue] = planes(eight).map(u64::to_le_bytes);
    }
    for (((pixel, red), green), blue) in rest.as_chunks().0.iter().zip(reds).zip(greens).zip(blues) {
        [*red, *green, *blue] = *pixel;
    }
}

/// The reds, greens and blues of eight pixels; the first in the lowest bytes.
fn planes(pixels: &[u8; 24]) -> [u64; 3] {
    let (words, _) = pixels.as_chunks();
    let [one, two, three] = [0, 1, 2].map(|place| u64::from_le_bytes(words[place]));
    // They are rgbrgbrg, brgbrgbr and gbrgbrgb.
    [
        thirds(one) | thirds(two >> 8) << 24 | pair(three >> 16) << 48,
        thirds(one >> 8) | pair(two >> 16) << 24 | thirds(three) << 40,
        pair(one >> 16) | thirds(two) << 16 | thirds(three >> 8) << 40,
    ]
}

/// The bytes 0, 3 and 6 of a word, side by side: of three copies of it, each has one in its place.
fn thirds(word: u64) -> u64 {
    const COPIES: u64 = 1 << 32 | 1 << 16 | 1;
    (word & 0x00ff_0000_ff00_00ff).wrapping_mul(COPIES) >> 32 & 0xff_ffff
}

/// The bytes 0 and 3 of a word, side by side.
fn pair(word: u64) -> u64 {
    word & 0xff | word >> 16 & 0xff00
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_come_one_after_the_other_however_many_pixels_there_are() {
        for count in 0..40 {
            let pixels: Vec<u8> = (0..3 * count).map(|place: usize| (place * 89 + 7) as u8).collect();
            let expected: Vec<u8> = (0..3)
                .flat_map(|channel| pixels.iter().skip(channel).step_by(3).copied().collect::<Vec<_>>())
                .collect();
            let mut found = vec![0xee; pixels.len()];
            by_channel(&pixels, 3, &mut found);
            assert_eq!(found, expected, "{count} pixels");
            by_channel(&pixels, 1, &mut found);
            assert_eq!(found, pixels);
        }
    }

    #[test]
    fn every_bit_of_eight_pixels_goes_to_its_place() {
        for bit in 0..24 * 8 {
            let mut pixels = [0u8; 24];
            pixels[bit / 8] = 1 << (bit % 8);
            let mut expected = [0u64; 3];
            expected[bit / 8 % 3] = 1 << (bit / 24 * 8 + bit % 8);
            assert_eq!(planes(&pixels), expected, "bit {bit}");
        }
    }
}
