//! The words of a column: each is kept once, and rows have its number.

use std::borrow::Cow;
use std::collections::HashMap;

/// The number of a word that is missing.
pub(in crate::dataset) const MISSING: u32 = u32::MAX;
/// The most different spellings of a column. More are no categories.
pub(super) const MOST_SPELLINGS: usize = 1 << 20;
/// The most bytes of all of them, each counted twice, as a column keeps them.
pub(super) const MOST_BYTES: usize = 1 << 26;

/// The different words of a column, in the order in which they were met.
#[derive(Debug, Default)]
pub(in crate::dataset) struct Words {
    words: Vec<Box<str>>,
    /// The number of each spelling. Whole numbers may be spelled in several ways: 3, 03 and 3.0.
    spellings: HashMap<Box<[u8]>, u32>,
    bytes: usize,
}

/// Why a word is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dataset) enum NotTaken {
    /// It is no UTF-8.
    Encoding,
    /// There are too many words in the column.
    TooMany,
}

/// Bytes of a word that a message shows.
const SHOWN: usize = 40;
/// The remedy for text that is no UTF-8.
pub(in crate::dataset) const NO_UTF_8: &str =
    "which is no UTF-8; if it is Latin-1, iconv -f LATIN1 -t UTF-8 makes it so";

impl NotTaken {
    /// The reason in a message.
    pub(in crate::dataset) fn told(self, word: &[u8]) -> String {
        match self {
            Self::Encoding => format!("{} holds a byte above 127, {NO_UTF_8}", shown(word)),
            Self::TooMany => "there are more than a million different words; a column that names each row is no \
                              category"
                .into(),
        }
    }
}

/// A text as messages show it.
pub(in crate::dataset) fn shown(text: &[u8]) -> String {
    if text.len() <= SHOWN {
        return format!("{:?}", String::from_utf8_lossy(text));
    }
    format!("{:?} and {} bytes more", String::from_utf8_lossy(&text[..SHOWN]), text.len() - SHOWN)
}

impl Words {
    /// The number of a word, which is a new one where it was not met before.
    pub(in crate::dataset) fn number(&mut self, spelling: &[u8]) -> Result<u32, NotTaken> {
        if let Some(number) = self.spellings.get(spelling) {
            return Ok(*number);
        }
        let word = std::str::from_utf8(spelling).map_err(|_| NotTaken::Encoding)?;
        self.bytes += 2 * spelling.len();
        if self.spellings.len() >= MOST_SPELLINGS || self.bytes > MOST_BYTES {
            return Err(NotTaken::TooMany);
        }
        let word = canonical(word);
        let number = match self.spellings.get(word.as_bytes()) {
            Some(number) => *number,
            None => {
                let number = self.words.len() as u32;
                self.spellings.insert(word.as_bytes().into(), number);
                self.words.push(word.into());
                number
            }
        };
        self.spellings.insert(spelling.into(), number);
        Ok(number)
    }

    /// A word by its number.
    pub(in crate::dataset) fn word(&self, number: u32) -> &str {
        self.words.get(number as usize).map_or("", |word| word)
    }

    /// How many there are.
    pub(in crate::dataset) fn count(&self) -> usize {
        self.words.len()
    }
}

/// Sorts words: whole numbers by value where all are such, else by character.
pub(super) fn sort(words: &mut [String]) {
    let whole = |word: &String| word.parse::<i64>().ok();
    if words.iter().all(|word| whole(word).is_some()) {
        words.sort_unstable_by_key(whole);
    } else {
        words.sort_unstable();
    }
}

/// A whole number in its shortest spelling; any other word as it is.
fn canonical(word: &str) -> Cow<'_, str> {
    let is_number = word.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    let value = if is_number { word.parse::<f64>().ok() } else { None };
    // Beyond these not every whole number is a float.
    match value.filter(|value| value.trunc() == *value && value.abs() <= 9_007_199_254_740_992.0) {
        Some(value) => Cow::Owned((value as i64).to_string()),
        None => Cow::Borrowed(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_one_number_however_a_whole_number_is_spelled() {
        let mut words = Words::default();
        let spelled = ["b", "a", "3", "3.0", "03", "+3", "3e0", "b", "3.5", "-0", "0", "-", "."];
        let numbers: Vec<_> = spelled.iter().map(|word| words.number(word.as_bytes()).unwrap()).collect();
        assert_eq!(numbers, [0, 1, 2, 2, 2, 2, 2, 0, 3, 4, 4, 5, 6]);
        assert_eq!((words.word(2), words.word(3), words.count()), ("3", "3.5", 7));
        assert_eq!(words.number(b"\xe9"), Err(NotTaken::Encoding));
        let long = |number: usize| format!("w{number}{}", "a".repeat(MOST_BYTES / 16));
        let taken = (0..16).take_while(|number| words.number(long(*number).as_bytes()).is_ok()).count();
        assert_eq!((taken, words.number(long(99).as_bytes())), (7, Err(NotTaken::TooMany)));
    }

    #[test]
    fn numbers_are_sorted_by_value_and_words_by_character() {
        let sorted = |words: &[&str]| {
            let mut words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            sort(&mut words);
            words.join(" ")
        };
        assert_eq!(sorted(&["10", "9", "-1"]), "-1 9 10");
        assert_eq!(sorted(&["10", "9", "a"]), "10 9 a");
    }
}
