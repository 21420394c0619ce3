//! Texts of a column that are kept as they are, such as the names of files: one behind the other, so
//! that each costs its bytes and the place of its end.

/// Some texts.
#[derive(Debug, Default)]
pub(super) struct Texts {
    all: String,
    /// The bytes up to the end of each.
    ends: Vec<usize>,
}

impl Texts {
    /// Adds a text.
    pub(super) fn push(&mut self, text: &str) {
        self.all.push_str(text);
        self.ends.push(self.all.len());
    }

    /// Keeps the first ones, no more than so many.
    pub(super) fn truncate(&mut self, count: usize) {
        self.ends.truncate(count);
        self.all.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// One of them; empty beyond the last.
    pub(super) fn text(&self, place: usize) -> &str {
        let begin = place.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        let part = begin.zip(self.ends.get(place)).map(|(begin, end)| begin..*end);
        part.and_then(|part| self.all.get(part)).unwrap_or_default()
    }

    /// Bytes of memory that all of them take.
    pub(super) fn bytes(&self) -> u64 {
        (self.all.len() + size_of::<usize>() * self.ends.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_by_their_places_and_the_last_ones_are_taken_back() {
        let mut texts = Texts::default();
        for text in ["a", "", "\u{e4}/b", "c"] {
            texts.push(text);
        }
        let all: Vec<_> = (0..5).map(|place| texts.text(place)).collect();
        assert_eq!((all, texts.bytes()), (vec!["a", "", "\u{e4}/b", "c", ""], 6 + 4 * 8));
        texts.truncate(2);
        texts.truncate(7);
        texts.push("d");
        assert_eq!([0, 1, 2, 3].map(|place| texts.text(place)), ["a", "", "d", ""]);
    }
}
