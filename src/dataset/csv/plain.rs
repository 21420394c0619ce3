//! Numbers as most tables have them, at the begin of a text: digits, a point, an exponent. Reading one
//! finds its end as well, so that most text is gone over once.
//!
//! A number is taken only where the result is certain to be that of the parser of all numbers: the
//! nearest 64-bit float, made a 32-bit one. The others are left to that parser.

/// Bytes that a number is looked for in. Text that is shorter is left to the other parser.
const HEAD_BYTES: usize = 64;
/// Digits that a 64-bit integer holds, whatever they are.
const MOST_DIGITS: usize = 19;
/// The lowest power of ten that scales digits. All results are normal 32-bit floats: from 1e-37 to
/// below 1e19 times 1e18.
const LOWEST_POWER: i64 = -37;
/// The nearest floats to the powers of ten from the lowest to 1e18.
const POWERS: [f64; 56] = [
    1e-37, 1e-36, 1e-35, 1e-34, 1e-33, 1e-32, 1e-31, 1e-30, 1e-29, 1e-28, 1e-27, 1e-26, 1e-25, 1e-24, 1e-23, 1e-22,
    1e-21, 1e-20, 1e-19, 1e-18, 1e-17, 1e-16, 1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5,
    1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18,
];
/// The powers of ten up to 1e7.
const TENS: [u64; 8] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000];
/// A word whose bytes are all 1.
const EACH: u64 = u64::MAX / 0xff;
/// Bits that a 64-bit float has beyond a 32-bit one.
const BITS_BEYOND: u32 = f64::MANTISSA_DIGITS - f32::MANTISSA_DIGITS;
/// A bound of the error of a product, in units in the last place. Digits as a float, a power and their
/// product are wrong by half of a unit at most, or 2^-53 of the value, and a value has less than 2^53
/// units: they are wrong by 3 units together. The nearest float to the number is another half away.
const ERROR: u64 = 8;

/// The number at the begin of a text, and its length; None where this is not the parser for it. The
/// byte behind it may be any.
#[inline]
pub(super) fn plain(text: &[u8]) -> Option<(f32, usize)> {
    let text = text.first_chunk::<HEAD_BYTES>()?;
    let is_negative = text[0] == b'-';
    let whole = Run::of(text, usize::from(is_negative), 0)?;
    let (all, power) = if text.get(whole.end) == Some(&b'.') {
        let all = Run::of(text, whole.end + 1, whole.value)?;
        (all, -(all.count as i64))
    } else {
        (Run { count: 0, ..whole }, 0)
    };
    let (count, mut end) = (whole.count + all.count, all.end);
    if count == 0 || count > MOST_DIGITS {
        return None;
    }
    let exponent = if matches!(text.get(end), Some(b'e' | b'E')) {
        let sign = text.get(end + 1)?;
        let run = Run::of(text, end + 1 + usize::from(matches!(sign, b'+' | b'-')), 0)?;
        if run.count == 0 || run.count > 4 {
            return None;
        }
        end = run.end;
        if *sign == b'-' { -(run.value as i64) } else { run.value as i64 }
    } else {
        0
    };
    let power = POWERS.get(usize::try_from(power + exponent - LOWEST_POWER).ok()?)?;
    let about = all.value as f64 * power;
    // It is made the same 32-bit float as the nearest 64-bit one, unless the middle of two such floats
    // may lie between both.
    let beyond = about.to_bits() & ((1 << BITS_BEYOND) - 1);
    if beyond.abs_diff(1 << (BITS_BEYOND - 1)) <= ERROR {
        return None;
    }
    let value = about as f32;
    Some((if is_negative { -value } else { value }, end))
}

/// Successive digits.
#[derive(Clone, Copy)]
struct Run {
    /// Their value, behind the digits before them; right where there are 19 in all at most.
    value: u64,
    count: usize,
    end: usize,
}

impl Run {
    /// The digits from a place on, behind those of a value; None where the text may go on with some.
    #[inline]
    fn of(text: &[u8; HEAD_BYTES], begin: usize, mut value: u64) -> Option<Self> {
        let mut end = begin;
        loop {
            let word = u64::from_le_bytes(*text.get(end..)?.first_chunk()?);
            // Digits become their values, and other bytes become 10 and more: these have their highest
            // bit in one of both. What they add to the bytes behind them does not matter.
            let values = word ^ (b'0' as u64 * EACH);
            let others = (values | values.wrapping_add(0x76 * EACH)) & (0x80 * EACH);
            if others == 0 {
                value = value.wrapping_mul(100_000_000).wrapping_add(eight(values));
                end += 8;
                continue;
            }
            let count = (others.trailing_zeros() / 8) as usize;
            // The last digit comes to the end, behind zeros. No digit at all is a shift by all bits.
            let half = 4 * (8 - count);
            let values = values << half << half;
            value = value.wrapping_mul(TENS[count]).wrapping_add(eight(values));
            end += count;
            return Some(Self { value, count: end - begin, end });
        }
    }
}

/// The value of eight digits, the first in the lowest byte.
#[inline]
fn eight(values: u64) -> u64 {
    // Neighbours make pairs, pairs groups of four, and these all eight, each in the lower bits.
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8);
    let (even, odd) = (pairs & 0xff_0000_00ff, (pairs >> 16) & 0xff_0000_00ff);
    let all = even.wrapping_mul(100 + (1_000_000 << 32)).wrapping_add(odd.wrapping_mul(1 + (10_000 << 32)));
    all >> 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::cell::{Cell, number};
    use super::*;

    /// The number at the begin of a text that goes on behind it.
    fn read(text: &str) -> Option<(f32, usize)> {
        let mut text = text.as_bytes().to_vec();
        text.extend_from_slice(&[b','; HEAD_BYTES]);
        plain(&text)
    }

    /// Demands that a number is left alone, or read to its end with the bits that the parser of all
    /// numbers gives; whether it was read.
    fn same(text: &str) -> bool {
        let Some((value, length)) = read(text) else { return false };
        let Cell::Number(expected) = number(text.as_bytes()) else { panic!("{text:?} is no number, and {value}") };
        assert_eq!((value.to_bits(), length), (expected.to_bits(), text.len()), "{text:?}: {value}, not {expected}");
        true
    }

    #[test]
    fn numbers_of_most_tables_are_taken() {
        for text in [
            "0",
            "-0",
            "-0.0",
            "0.000",
            "1",
            "-12",
            "0.5",
            ".5",
            "-.25",
            "7.",
            "123456",
            "0.123456",
            "-3.25",
            "16777216",
            "0.1234567890123456",
            "-0.12345678901234567",
            "1234567890123456789",
            "9999999999999999999",
            "1e5",
            "1E+05",
            "-1.5e-05",
            "2.5e-1",
            "1e-37",
            "9999999999999999999e18",
            "1e18",
            "0e18",
            "00001",
        ] {
            assert!(same(text), "{text}");
        }
        assert_eq!(read("-0.0").map(|(value, _)| value.to_bits()), Some((-0.0f32).to_bits()));
    }

    #[test]
    fn other_numbers_are_left_to_the_other_parser() {
        for text in [
            // The middle of two 32-bit floats.
            "16777217",
            "33554434",
            "3355443.4e1",
            "-0.50000002980232238769",
            // Beyond the table: subnormal numbers, the largest ones, too many digits.
            "1e-45",
            "1e-38",
            "1.1754944e-38",
            "3.4028236e38",
            "3.4028235e38",
            "1e39",
            "1e19",
            "1e-400",
            "1e00005",
            "10000000000000000000",
            "0.00000000000000000001",
            "1.00000000000000000000000000000000000000000000000000000",
            "+1",
            "",
            "-",
            ".",
            "-.",
            "e5",
            "1e",
            "1e+",
            "1e-",
            "a",
            " 1",
            "inf",
            "nan",
            "--1",
            "-+1",
            "\u{e9}",
        ] {
            assert!(!same(text), "{text}");
        }
        assert_eq!(plain(b"1,2"), None, "too few bytes");
    }

    #[test]
    fn a_number_ends_at_the_first_byte_that_is_none_of_it() {
        for (text, length) in [
            ("1,5", 1),
            ("-12.5;", 5),
            ("1.2.3", 3),
            ("1-2", 1),
            ("7e5e", 3),
            ("3 ", 1),
            ("2024-01-01", 4),
            ("0x10", 1),
            ("1_000", 1),
            ("12345678:", 8),
            ("12345678.12345678/", 17),
            ("5\u{e9}", 1),
            ("1:", 1),
        ] {
            assert_eq!(read(text).map(|(_, length)| length), Some(length), "{text}");
        }
    }

    /// Every byte behind some digits, in every place of a word.
    #[test]
    fn digits_are_told_from_all_other_bytes() {
        for count in 0..=17 {
            for other in (0..=255u8).filter(|other| !other.is_ascii_digit()) {
                for behind in [0, b'0', b'9', 0xff] {
                    let mut text = [behind; HEAD_BYTES];
                    text[..count].copy_from_slice(&b"98765432109876543"[..count]);
                    text[count] = other;
                    let value = std::str::from_utf8(&text[..count]).unwrap().parse().unwrap_or(0);
                    let run = Run::of(&text, 0, 0).unwrap();
                    assert_eq!((run.value, run.count, run.end), (value, count, count), "{text:?}");
                }
            }
        }
        assert!(Run::of(&[b'0'; HEAD_BYTES], 0, 0).is_none(), "a text that may go on");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn any_number_is_that_of_the_parser_of_all(text in r"-?[0-9]{0,20}\.?[0-9]{0,20}([eE][+-]?[0-9]{1,3})?") {
            same(&text);
        }

        #[test]
        fn any_float_is_itself(bits in any::<u32>(), more in any::<u64>()) {
            for text in [
                format!("{}", f32::from_bits(bits)), format!("{:e}", f32::from_bits(bits)),
                format!("{}", f64::from_bits(more)), format!("{:e}", f64::from_bits(more)),
                format!("{}", more as f64 / 2f64.powi(64)),
            ] {
                same(&text);
            }
        }

        /// Numbers at the middle of two 32-bit floats, and as near to it as 64-bit floats get.
        #[test]
        fn any_number_near_a_middle_is_that_of_the_parser_of_all(
            bits in 0x0400_0000u32..0x7d00_0000,
            away in -40i64..40,
            digits in 12usize..24,
        ) {
            let (one, next) = (f64::from(f32::from_bits(bits)), f64::from(f32::from_bits(bits + 1)));
            let near = f64::from_bits((((one + next) / 2.0).to_bits() as i64 + away) as u64);
            for text in [format!("{near}"), format!("{near:e}"), format!("{near:.digits$e}"), format!("{near:.digits$}")] {
                same(&text);
            }
        }
    }
}
