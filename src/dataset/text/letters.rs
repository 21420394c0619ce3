//! The letters of a text in as few bytes as their kinds allow: each is the number of its kind, by
//! first appearance for characters, and its value for bytes.

use std::ops::Range;

/// The letters of a text.
#[derive(Debug, Default)]
pub(super) struct Letters {
    numbers: Numbers,
    /// The character of each number; none where letters are bytes.
    characters: Vec<char>,
}

/// Numbers in the narrowest type that holds them all.
#[derive(Debug)]
enum Numbers {
    Bytes(Vec<u8>),
    Short(Vec<u16>),
    Long(Vec<u32>),
}

impl Default for Numbers {
    fn default() -> Self {
        Self::Bytes(Vec::new())
    }
}

impl Letters {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match &self.numbers {
            Numbers::Bytes(numbers) => numbers.len(),
            Numbers::Short(numbers) => numbers.len(),
            Numbers::Long(numbers) => numbers.len(),
        }
    }

    /// Bytes that each takes.
    pub(super) fn width(&self) -> u64 {
        match &self.numbers {
            Numbers::Bytes(_) => 1,
            Numbers::Short(_) => 2,
            Numbers::Long(_) => 4,
        }
    }

    /// How many kinds there are.
    pub(super) fn kinds(&self) -> usize {
        if self.characters.is_empty() { 256 } else { self.characters.len() }
    }

    /// The character of a kind, that of Latin-1 for a byte.
    pub(super) fn character(&self, kind: usize) -> char {
        self.characters.get(kind).copied().unwrap_or_else(|| char::from(kind as u8))
    }

    /// Hands the place and the kind of each letter in a range on.
    pub(super) fn each(&self, places: Range<usize>, mut take: impl FnMut(usize, usize)) {
        let begin = places.start;
        match &self.numbers {
            Numbers::Bytes(all) => all[places].iter().zip(begin..).for_each(|(&kind, place)| take(place, kind.into())),
            Numbers::Short(all) => all[places].iter().zip(begin..).for_each(|(&kind, place)| take(place, kind.into())),
            Numbers::Long(all) => all[places].iter().zip(begin..).for_each(|(&kind, place)| take(place, kind as usize)),
        }
    }

    /// The line and the column of the letter behind a range that begins where its file does, both
    /// counted from 1. A line ends with a line feed, with or without a carriage return before it.
    pub(super) fn line_and_column(&self, before: Range<usize>) -> (usize, usize) {
        let (mut line, mut begun) = (1, before.start);
        self.each(before.clone(), |place, kind| {
            if self.character(kind) == '\n' {
                (line, begun) = (line + 1, place + 1);
            }
        });
        (line, before.end - begun + 1)
    }
}

/// Letters that are added.
#[derive(Debug, Default)]
pub(super) struct Writer {
    letters: Letters,
    /// One more than the number of each code point; 0 for one that was not met.
    numbers: Vec<u32>,
}

impl Writer {
    /// The letters so far.
    pub(super) fn letters(&self) -> &Letters {
        &self.letters
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        match &mut self.letters.numbers {
            Numbers::Bytes(numbers) => numbers.reserve_exact(more),
            Numbers::Short(numbers) => numbers.reserve_exact(more),
            Numbers::Long(numbers) => numbers.reserve_exact(more),
        }
    }

    /// Adds bytes. A text of these has no characters.
    pub(super) fn add_bytes(&mut self, bytes: &[u8]) {
        if let Numbers::Bytes(numbers) = &mut self.letters.numbers {
            numbers.extend_from_slice(bytes);
        }
    }

    /// Adds characters. A text of these has no bytes.
    pub(super) fn add(&mut self, text: &str) {
        if self.numbers.is_empty() {
            self.numbers = vec![0; char::MAX as usize + 1];
        }
        for character in text.chars() {
            let number = &mut self.numbers[character as usize];
            if *number == 0 {
                self.letters.characters.push(character);
                *number = self.letters.characters.len() as u32;
            }
            let kind = *number - 1;
            self.letters.numbers.push(kind);
        }
    }

    /// All of them.
    pub(super) fn finish(self) -> Letters {
        self.letters
    }
}

impl Numbers {
    /// Adds a number, in a wider type where this one does not hold it.
    fn push(&mut self, number: u32) {
        match self {
            Self::Bytes(numbers) => match u8::try_from(number) {
                Ok(number) => return numbers.push(number),
                Err(_) => *self = Self::Short(numbers.iter().map(|&number| number.into()).collect()),
            },
            Self::Short(numbers) => match u16::try_from(number) {
                Ok(number) => return numbers.push(number),
                Err(_) => *self = Self::Long(numbers.iter().map(|&number| number.into()).collect()),
            },
            Self::Long(numbers) => return numbers.push(number),
        }
        self.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_take_the_bytes_that_their_kinds_need_and_stay_the_same() {
        let text: String = (0..70_000).filter_map(|code| char::from_u32(code + 32)).collect();
        for (kinds, bytes) in [(1, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 4)] {
            let part: String = text.chars().take(kinds).collect();
            let mut writer = Writer::default();
            // In two parts, and each kind twice.
            let half = part.char_indices().nth(kinds / 2).unwrap().0;
            writer.add(&part[..half]);
            writer.add(&part[half..]);
            writer.add(&part);
            let letters = writer.finish();
            let width = match letters.numbers {
                Numbers::Bytes(_) => 1,
                Numbers::Short(_) => 2,
                Numbers::Long(_) => 4,
            };
            assert_eq!((width, letters.kinds(), letters.len()), (bytes, kinds, 2 * kinds));
            let mut read = String::new();
            letters.each(0..letters.len(), |_, kind| read.push(letters.character(kind)));
            assert!(read == part.repeat(2), "{kinds}");
        }
    }
}
