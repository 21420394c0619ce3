//! Records of delimited text (RFC 4180), as they stand in a buffer: line ends of every kind, quotes
//! at the begin of a field, doubled inside one.
//!
//! The rules are strict where a lenient reader would lose rows: a quote that never closes and text
//! behind a closing quote are told with their line.

use super::plain::plain;

/// A byte that belongs to a field.
const ORDINARY: u8 = 0;
const DELIMITER: u8 = 1;
const LINE_END: u8 = 2;

/// Takes the fields of records.
pub trait Sink {
    /// A record begins, or begins again when more of it is there.
    fn begin(&mut self);

    /// The next field of the record, counted from 0.
    fn field(&mut self, place: usize, text: &[u8], is_quoted: bool);

    /// Whether numbers of that field go to [`Self::number`]. Those that take more than a look go to
    /// [`Self::field`] all the same, as all else does.
    fn takes_number(&self, _place: usize) -> bool {
        false
    }

    /// The next field of the record, where it takes numbers and is one.
    fn number(&mut self, _place: usize, _value: f32) {}

    /// The record ended with so many fields. It began in that line.
    fn end(&mut self, fields: usize, line: u64);
}

/// The place where text breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A quote opens there and does not close.
    Open {
        /// Its line, counted from 1.
        line: u64,
        /// Its field, counted from 0.
        field: usize,
    },
    /// This byte stands behind a closing quote.
    Behind {
        /// Its line, counted from 1.
        line: u64,
        /// Its field, counted from 0.
        field: usize,
        /// The byte.
        byte: u8,
    },
}

/// The end of a record in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The next record begins there.
    At(usize),
    /// The record goes on behind the buffer; a quote of it may be open, in that line and field.
    Cut(Option<(u64, usize)>),
}

/// The rules of a text, and the line in hand.
#[derive(Debug)]
pub struct Scanner {
    classes: [u8; 256],
    quote: Option<u8>,
    comment: Option<u8>,
    /// Whether no byte of a number divides fields.
    is_plain: bool,
    /// The line of the next record, counted from 1.
    pub line: u64,
    unquoted: Vec<u8>,
}

impl Scanner {
    /// Text with these special bytes, each ASCII.
    pub fn new(delimiter: u8, quote: Option<u8>, comment: Option<u8>) -> Self {
        let mut classes = [ORDINARY; 256];
        classes[usize::from(b'\n')] = LINE_END;
        classes[usize::from(b'\r')] = LINE_END;
        classes[usize::from(delimiter)] = DELIMITER;
        let is_plain = !b"0123456789.+-eE".contains(&delimiter);
        Self { classes, quote, comment, is_plain, line: 1, unquoted: Vec::new() }
    }

    /// Skips empty lines and comments; where the next record begins. `is_last` says that nothing
    /// follows the buffer.
    pub fn skip(&mut self, text: &[u8], mut at: usize, is_last: bool) -> usize {
        while let Some(first) = text.get(at) {
            let end = if Some(*first) == self.comment {
                match text[at..].iter().position(|byte| self.classes[usize::from(*byte)] == LINE_END) {
                    Some(offset) => at + offset,
                    None => return if is_last { text.len() } else { at },
                }
            } else if self.classes[usize::from(*first)] == LINE_END {
                at
            } else {
                return at;
            };
            let Some(next) = line_end(text, end, is_last) else { return at };
            self.line += 1;
            at = next;
        }
        at
    }

    /// Hands out the fields of the record that begins there.
    ///
    /// # Errors
    /// The place where the record breaks the rules.
    pub fn record<S: Sink>(
        &mut self,
        text: &[u8],
        mut at: usize,
        is_last: bool,
        sink: &mut S,
    ) -> Result<Ended, Broken> {
        sink.begin();
        // A comment is skipped once its end is there.
        if self.comment.is_some() && text.get(at).copied() == self.comment {
            return Ok(Ended::Cut(None));
        }
        let (mut line, mut field) = (self.line, 0);
        loop {
            if self.quote.is_some() && text.get(at).copied() == self.quote {
                let opened = (line, field);
                let Some(close) = self.close(text, at + 1, is_last) else {
                    return if is_last {
                        Err(Broken::Open { line: opened.0, field })
                    } else {
                        Ok(Ended::Cut(Some(opened)))
                    };
                };
                let inside = &text[at + 1..close];
                line += line_ends(inside);
                at = close + 1;
                if let Some(&byte) = text.get(at).filter(|byte| self.classes[usize::from(**byte)] == ORDINARY) {
                    return Err(Broken::Behind { line, field, byte });
                }
                sink.field(field, self.unquote(inside), true);
            } else if self.is_plain
                && sink.takes_number(field)
                && let Some((value, length)) = plain(&text[at..])
                && let Some(&byte) = text.get(at + length)
                && self.classes[usize::from(byte)] != ORDINARY
            {
                sink.number(field, value);
                at += length;
            } else {
                let begin = at;
                while let Some(&byte) = text.get(at)
                    && self.classes[usize::from(byte)] == ORDINARY
                {
                    at += 1;
                }
                if at == text.len() && !is_last {
                    return Ok(Ended::Cut(None));
                }
                sink.field(field, &text[begin..at], false);
            }
            field += 1;
            match text.get(at) {
                Some(&byte) if self.classes[usize::from(byte)] == DELIMITER => at += 1,
                None if !is_last => return Ok(Ended::Cut(None)),
                _ => break,
            }
        }
        let Some(next) = line_end(text, at, is_last) else { return Ok(Ended::Cut(None)) };
        sink.end(field, self.line);
        self.line = line + 1;
        Ok(Ended::At(next))
    }

    /// The quote that closes a field, whose text begins at `at`; None where it is not there, or
    /// the byte behind it is not there yet.
    fn close(&self, text: &[u8], mut at: usize, is_last: bool) -> Option<usize> {
        loop {
            at += text[at..].iter().position(|byte| Some(*byte) == self.quote)?;
            match text.get(at + 1) {
                Some(next) if Some(*next) == self.quote => at += 2,
                None if !is_last => return None,
                Some(_) | None => return Some(at),
            }
        }
    }

    /// The text between quotes, those in it no longer doubled.
    fn unquote<'a>(&'a mut self, inside: &'a [u8]) -> &'a [u8] {
        let Some(quote) = self.quote.filter(|quote| inside.contains(quote)) else { return inside };
        self.unquoted.clear();
        let mut is_second = false;
        for &byte in inside {
            is_second = byte == quote && !is_second;
            if !is_second {
                self.unquoted.push(byte);
            }
        }
        &self.unquoted
    }
}

/// Where the line after a line end begins; None where the buffer does not tell.
fn line_end(text: &[u8], at: usize, is_last: bool) -> Option<usize> {
    match (text.get(at), text.get(at + 1)) {
        (Some(b'\r'), Some(b'\n')) => Some(at + 2),
        (Some(b'\r'), None) if !is_last => None,
        (Some(_), _) => Some(at + 1),
        (None, _) => Some(at),
    }
}

/// The line ends in a text.
fn line_ends(text: &[u8]) -> u64 {
    let is_end = |(at, byte): (usize, &u8)| match byte {
        b'\n' => true,
        b'\r' => text.get(at + 1) != Some(&b'\n'),
        _ => false,
    };
    text.iter().enumerate().filter(|one| is_end(*one)).count() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::cell::{Cell, number};
    use super::*;

    /// The fields of a record.
    type Record = Vec<Vec<u8>>;

    #[derive(Default)]
    struct Kept {
        record: Record,
        records: Vec<(u64, Record)>,
    }

    impl Sink for Kept {
        fn begin(&mut self) {
            self.record.clear();
        }

        fn field(&mut self, place: usize, text: &[u8], _: bool) {
            assert_eq!(place, self.record.len());
            self.record.push(text.to_vec());
        }

        fn end(&mut self, fields: usize, line: u64) {
            assert_eq!(fields, self.record.len());
            self.records.push((line, std::mem::take(&mut self.record)));
        }
    }

    /// Fields as text, but for the numbers of even places.
    #[derive(Default)]
    struct Read {
        record: Vec<Field>,
        records: Vec<(u64, Vec<Field>)>,
        numbers: usize,
    }

    #[derive(Debug, Clone, PartialEq)]
    enum Field {
        Number(u32),
        Text(Vec<u8>, bool),
    }

    impl Field {
        /// A field that has come as text, as it has to be told.
        fn told(place: usize, text: &[u8], is_quoted: bool) -> Self {
            match number(text) {
                Cell::Number(value) if place.is_multiple_of(2) => Self::Number(value.to_bits()),
                _ => Self::Text(text.to_vec(), is_quoted),
            }
        }
    }

    impl Sink for Read {
        fn begin(&mut self) {
            self.record.clear();
        }

        fn field(&mut self, place: usize, text: &[u8], is_quoted: bool) {
            self.record.push(Field::told(place, text, is_quoted));
        }

        fn takes_number(&self, place: usize) -> bool {
            place.is_multiple_of(2)
        }

        fn number(&mut self, place: usize, value: f32) {
            assert!(place.is_multiple_of(2) && place == self.record.len());
            self.numbers += 1;
            self.record.push(Field::Number(value.to_bits()));
        }

        fn end(&mut self, fields: usize, line: u64) {
            assert_eq!(fields, self.record.len());
            self.records.push((line, std::mem::take(&mut self.record)));
        }
    }

    /// The same sink, which takes all fields as text.
    #[derive(Default)]
    struct Plainly(Read);

    impl Sink for Plainly {
        fn begin(&mut self) {
            self.0.begin();
        }

        fn field(&mut self, place: usize, text: &[u8], is_quoted: bool) {
            self.0.field(place, text, is_quoted);
        }

        fn end(&mut self, fields: usize, line: u64) {
            self.0.end(fields, line);
        }
    }

    /// The records of a text that comes in blocks of that size.
    fn scan(text: &[u8], block: usize) -> Result<Vec<(u64, Record)>, Broken> {
        let mut kept = Kept::default();
        scan_into(text, block, b',', &mut kept)?;
        Ok(kept.records)
    }

    fn scan_into<S: Sink>(text: &[u8], block: usize, delimiter: u8, kept: &mut S) -> Result<(), Broken> {
        let mut scanner = Scanner::new(delimiter, Some(b'"'), Some(b'#'));
        let (mut begin, mut there) = (0, 0);
        loop {
            there = text.len().min(there + block);
            let is_last = there == text.len();
            let mut at = begin;
            loop {
                at = scanner.skip(&text[..there], at, is_last);
                if at == there {
                    break;
                }
                match scanner.record(&text[..there], at, is_last, kept)? {
                    Ended::At(next) => at = next,
                    Ended::Cut(_) => break,
                }
            }
            begin = at;
            if is_last {
                assert_eq!(at, there);
                return Ok(());
            }
        }
    }

    fn words(text: &str) -> String {
        let records = scan(text.as_bytes(), 1).unwrap();
        assert_eq!(scan(text.as_bytes(), 1 << 20).unwrap(), records);
        let record = |(line, fields): (u64, Record)| {
            format!(
                "{line}:{}",
                fields.iter().map(|field| String::from_utf8_lossy(field)).collect::<Vec<_>>().join("|")
            )
        };
        records.into_iter().map(record).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn records_have_their_lines_whatever_ends_them() {
        assert_eq!(words("a,b\r\n1,2\n3,\r\r4,5"), "1:a|b 2:1|2 3:3| 5:4|5");
        assert_eq!(words("#x\n\n\"a\"\"\nb\",c\r\n\"\"\n,\n#\n"), "3:a\"\nb|c 5: 6:|");
        assert_eq!(words("\"a\rb\r\nc\"\nd"), "1:a\rb\r\nc 4:d");
        assert_eq!(words("a\n#\",\"b\"1\nc"), "1:a 3:c");
        assert_eq!(words(""), "");
        assert_eq!(words("a\"b,c"), "1:a\"b|c");
    }

    #[test]
    fn a_quote_that_does_not_close_and_text_behind_one_are_told() {
        for block in [1, 1 << 20] {
            assert_eq!(scan(b"a,b\n1,\"2\n3,4\n", block), Err(Broken::Open { line: 2, field: 1 }));
            assert_eq!(scan(b"a\n\"1\n2\"3\n", block), Err(Broken::Behind { line: 3, field: 0, byte: b'3' }));
        }
    }

    #[test]
    fn numbers_end_where_fields_do() {
        let behind = "a,".repeat(64);
        for (text, numbers) in [
            ("1.5,2,-3\n", 2),
            ("1.5\r\n-0.0\r2e3\n", 3),
            ("1 ,2, 3\n", 0),
            ("\"1\",2,\"3\"\n", 0),
            ("1\"2,3,1a,4,1.2.3,5,2024-01-01\n", 0),
            ("+1,2,,3,NA,4,1e-45,5,3.4028236e38\n", 0),
            ("00.5,2,7.,3,.5,4,1E5\n", 4),
        ] {
            let mut read = Read::default();
            scan_into(format!("{text}\n{behind}\n").as_bytes(), 1 << 20, b',', &mut read).unwrap();
            assert_eq!(read.numbers, numbers, "{text}");
        }
    }

    proptest! {
        /// Numbers that are read with their ends are those that are read behind them, with any byte
        /// between fields and in blocks of any size.
        #[test]
        fn numbers_are_those_of_text(
            text in proptest::collection::vec(proptest::sample::select(&b"0123459.-+eE, ;,,\"\n\r\t"[..]), 0..400),
            delimiter in proptest::sample::select(&b",;\t.-5eE"[..]),
            block in 1usize..200,
        ) {
            let (mut read, mut plainly) = (Read::default(), Plainly::default());
            let found = scan_into(&text, block, delimiter, &mut read);
            prop_assert_eq!(found, scan_into(&text, block, delimiter, &mut plainly));
            prop_assert_eq!(read.records, plainly.0.records);
        }

        /// The crate csv takes all text; where ours takes it, both give the same records.
        #[test]
        fn records_are_those_of_another_reader(
            text in proptest::collection::vec(proptest::sample::select(&b"ab1,\"\"\n\r"[..]), 0..60),
            block in 1usize..9,
        ) {
            if let Ok(records) = scan(&text, block) {
                let mut reader = csv::ReaderBuilder::new();
                reader.has_headers(false).flexible(true);
                let expected: Vec<Record> = reader
                    .from_reader(&text[..])
                    .byte_records()
                    .map(|record| record.unwrap().iter().map(<[u8]>::to_vec).collect())
                    .collect();
                let found: Vec<_> = records.into_iter().map(|(_, record)| record).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
