//! Fields of numbers: what is one, what is missing, and what others look like.

use super::super::table::words::shown;

/// Spellings of a missing value, besides none at all.
const MISSING: [&[u8]; 10] = [b"NA", b"N/A", b"n/a", b"#N/A", b"<NA>", b"NaN", b"nan", b"NULL", b"null", b"None"];

/// A field of a column of numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell {
    /// A number.
    Number(f32),
    /// No value.
    Missing,
    /// Something else.
    Other,
}

/// Reads a field of numbers. Spaces around it do not count. The number is the nearest 64-bit
/// float, made a 32-bit one, as NumPy and pandas do.
#[inline]
pub(super) fn number(text: &[u8]) -> Cell {
    let text = text.trim_ascii();
    let digits = match text {
        [b'+' | b'-', rest @ ..] => rest,
        _ => text,
    };
    // Words such as `inf` are numbers to the parser, and not here.
    if let Some(b'0'..=b'9' | b'.') = digits.first()
        && let Ok(value) = fast_float2::parse::<f64, _>(text)
    {
        let value = value as f32;
        return if value.is_finite() { Cell::Number(value) } else { Cell::Other };
    }
    if is_missing(text) { Cell::Missing } else { Cell::Other }
}

/// Whether a field that is not in quotes says that its value is missing.
pub(super) fn is_missing(text: &[u8]) -> bool {
    text.is_empty() || MISSING.contains(&text)
}

/// The mistake of a field that is no number: the text that was found, and the remedy, which for
/// words is that one.
pub(super) fn not_a_number(text: &[u8], remedy_for_words: &str) -> String {
    let text = text.trim_ascii();
    let found = shown(text);
    let word = String::from_utf8_lossy(text).to_lowercase();
    let unsigned = word.trim_start_matches(['+', '-']);
    if ["inf", "infinity"].contains(&unsigned) {
        return format!("{found} is not finite; every number must be");
    }
    if unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') && word.parse::<f64>().is_ok() {
        return format!("{found} is beyond 32-bit floats, which end at 3.4e38");
    }
    let a_word = format!("mend the value; {remedy_for_words}");
    let yes_or_no = format!("write 1 and 0; {remedy_for_words}");
    let hint = if is_date(text) {
        "it looks like a date: make it numbers, such as days or year and month, or list the column in `ignore`"
    } else if word.replacen(',', ".", 1).parse::<f64>().is_ok() {
        "write a point in place of the comma"
    } else if word.replace([',', '\'', ' '], "").parse::<f64>().is_ok() {
        "write it without separators of thousands"
    } else if word.trim_end_matches('%').trim_end().parse::<f64>().is_ok() {
        "write it without the percent sign"
    } else if ["true", "false", "yes", "no"].contains(&word.as_str()) {
        &yes_or_no
    } else {
        &a_word
    };
    format!("{found} is no number; {hint}")
}

/// Whether a text begins with three numbers as dates have them.
fn is_date(text: &[u8]) -> bool {
    let date: Vec<_> = text
        .split(|byte| b"-/. T".contains(byte))
        .take(3)
        .map(|part| {
            let digits = part.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == part.len() { digits } else { 0 }
        })
        .collect();
    matches!(date[..], [4, 1 | 2, 1 | 2] | [1 | 2, 1 | 2, 4 | 2])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_those_of_the_standard_library() {
        for (text, value) in [("1", 1.0), (" -2.5\t", -2.5), ("+.5", 0.5), ("1e-3", 1e-3), ("7.", 7.0), ("0x1", 0.0)] {
            let expected = if text == "0x1" { Cell::Other } else { Cell::Number(value) };
            assert_eq!(number(text.as_bytes()), expected, "{text}");
        }
        for text in ["", "  ", "NA", " nan ", "null", "<NA>"] {
            assert_eq!(number(text.as_bytes()), Cell::Missing, "{text}");
        }
        for text in ["inf", "-inf", "1e39", "1,5", "a", "-", "+nan", "1_000", "\u{e9}", "1 2"] {
            assert_eq!(number(text.as_bytes()), Cell::Other, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_number_is_that_of_the_standard_library(text in r"[+-]?[0-9]{0,18}\.?[0-9]{0,18}(e-?[0-9]{1,2})?") {
            let expected = match text.parse::<f64>() {
                Ok(value) if (value as f32).is_finite() => Cell::Number(value as f32),
                _ if text.is_empty() => Cell::Missing,
                _ => Cell::Other,
            };
            prop_assert_eq!(number(text.as_bytes()), expected);
        }
    }

    #[test]
    fn what_is_no_number_is_told_with_what_would_be_right() {
        for (text, words) in [
            ("1e39", "is beyond 32-bit floats"),
            ("-Inf", "is not finite"),
            ("2024-02-30", "looks like a date"),
            ("2024-01-01T10:00:00Z", "looks like a date"),
            ("3/31/24", "looks like a date"),
            ("1,5", "a point in place of the comma"),
            ("1,234.5", "without separators of thousands"),
            ("45 %", "without the percent sign"),
            ("True", "write 1 and 0"),
            ("red", "listed in `categorical`"),
        ] {
            let told = not_a_number(text.as_bytes(), "it is listed in `categorical`");
            assert!(told.starts_with(&format!("{text:?} is")) && told.contains(words), "{told}");
        }
        assert!(not_a_number(&[b'a'; 5000], "").len() < 200);
    }
}
