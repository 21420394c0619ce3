//! The header of an `.npy` file: a magic number, a version, a length, and a dictionary that is
//! written as Python writes it. (numpy/lib/format.py, versions 1.0 to 3.0)
//!
//! Nothing is executed: the dictionary is read as the few literals that it may have.

use std::io::{self, Read};

use super::super::column::Order;
use super::super::numbers::{Kind, Numbers};
use crate::looks::{self, looks_like};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Larger headers are refused. NumPy refuses those of more than 10,000 bytes.
const MAX_HEADER_BYTES: usize = 1 << 16;
/// More dimensions are refused, as NumPy does.
const MAX_DIMENSIONS: usize = 64;

/// The shape and type of an array, and where its values begin.
#[derive(Debug, PartialEq)]
pub(in super::super) struct Header {
    /// The type of its values, or the one that is not read, in words that follow "has it as".
    pub numbers: Result<Numbers, String>,
    pub order: Order,
    /// Its sizes, outermost first.
    pub shape: Vec<u64>,
    /// Bytes before the first value.
    pub size_bytes: u64,
}

/// The mistake of a header.
#[derive(Debug)]
pub(in super::super) enum Wrong {
    /// The system or the unpacking refuses.
    Unreadable(io::Error),
    /// In words that follow the path.
    Header(String),
}

impl Header {
    /// Reads the header at the beginning of a file.
    pub(in super::super) fn read(mut source: impl Read) -> Result<Self, Wrong> {
        let mut head = [0; 8];
        let count = fill(&mut source, &mut head)?;
        if count < head.len() || !head.starts_with(MAGIC) {
            let mut head = head[..count].to_vec();
            // A read error is ignored: the bytes before it show the kind of file.
            let _ = source.take((looks::HEAD_BYTES - count) as u64).read_to_end(&mut head);
            let looks = looks_like(&head).filter(|_| !head.starts_with(MAGIC));
            let looks = looks.map_or_else(String::new, |looks| format!(": it looks like {looks}"));
            return Err(Wrong::Header(format!("is no .npy file{looks}")));
        }
        let mut length = [0; 4];
        let width = match head[6] {
            1 => 2,
            2 | 3 => 4,
            other => {
                let found = format!("is an .npy file of version {other}.{}; 1.0, 2.0 and 3.0 are read", head[7]);
                return Err(Wrong::Header(found));
            }
        };
        let cut = || Wrong::Header("is cut off within its header".into());
        if fill(&mut source, &mut length[..width])? < width {
            return Err(cut());
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_HEADER_BYTES {
            let found = format!("has a header of {length} bytes; {MAX_HEADER_BYTES} at most are read");
            return Err(Wrong::Header(found));
        }
        let mut text = vec![0; length];
        if fill(&mut source, &mut text)? < length {
            return Err(cut());
        }
        let size_bytes = (head.len() + width + length) as u64;
        parse(&text, size_bytes).map_err(|what| Wrong::Header(format!("has a header that {what}")))
    }
}

/// Reads until the buffer is full or the source ends. The bytes that were there.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Wrong> {
    let mut found = 0;
    while found < buffer.len() {
        match source.read(&mut buffer[found..]) {
            Ok(0) => break,
            Ok(count) => found += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Wrong::Unreadable(error)),
        }
    }
    Ok(found)
}

/// Reads the dictionary. The mistake follows "has a header that".
fn parse(text: &[u8], size_bytes: u64) -> Result<Header, String> {
    let mut at = Cursor(text);
    at.take(b'{')?;
    let (mut numbers, mut order, mut shape) = (None, None, None);
    while !at.skips(b'}') {
        let key = at.string()?;
        at.take(b':')?;
        let is_new = match key {
            b"descr" if at.peek() == Some(b'[') => {
                return Err("describes an array with fields; save each field as an array of its own".into());
            }
            b"descr" => numbers.replace(numbers_of(at.string()?)).is_none(),
            b"fortran_order" => {
                let found = if at.boolean()? { Order::Columns } else { Order::Rows };
                order.replace(found).is_none()
            }
            b"shape" => shape.replace(at.sizes()?).is_none(),
            other => {
                return Err(format!("has the key {:?}, which NumPy does not write", String::from_utf8_lossy(other)));
            }
        };
        if !is_new {
            return Err(format!("has the key {:?} twice", String::from_utf8_lossy(key)));
        }
        if !at.skips(b',') && at.peek() != Some(b'}') {
            return Err(at.unexpected());
        }
    }
    if at.peek().is_some() {
        return Err(at.unexpected());
    }
    let (Some(numbers), Some(order), Some(shape)) = (numbers, order, shape) else {
        return Err("lacks one of descr, fortran_order and shape".into());
    };
    Ok(Header { numbers, order, shape, size_bytes })
}

/// The type that a description names: the order of bytes, the kind and the width.
fn numbers_of(descr: &[u8]) -> Result<Numbers, String> {
    let text = String::from_utf8_lossy(descr).into_owned();
    let (order, name) = match descr {
        [order @ (b'<' | b'>' | b'|'), rest @ ..] => (*order, rest),
        rest => (b'|', rest),
    };
    let kind = match name {
        b"b1" => Kind::Bool,
        b"u1" => Kind::U8,
        b"i1" => Kind::I8,
        b"u2" => Kind::U16,
        b"i2" => Kind::I16,
        b"u4" => Kind::U32,
        b"i4" => Kind::I32,
        b"u8" => Kind::U64,
        b"i8" => Kind::I64,
        b"f2" => Kind::F16,
        b"f4" => Kind::F32,
        b"f8" => Kind::F64,
        _ => {
            let what = match name.first() {
                Some(b'O') => {
                    "Python objects, which are pickled; nothing of a file is executed: save numbers, as of \
                               x.astype(np.float32)"
                }
                Some(b'U' | b'S' | b'a') => {
                    "text; `inputs` names the arrays to use where this is none of them; else save the numbers of its classes, \
                     as of np.unique(x, return_inverse=True)"
                }
                Some(b'M' | b'm') => "dates; save numbers, as of x.astype(np.int64)",
                Some(b'c') => "complex numbers; save x.real and x.imag",
                Some(b'f') => "floats of more than 64 bits; save x.astype(np.float64)",
                _ => "values that are not read; save numbers, as of x.astype(np.float32)",
            };
            return Err(format!("{text:?}: {what}"));
        }
    };
    if order == b'|' && kind.width() > 1 {
        return Err(format!("{text:?}, which does not tell the order of its bytes"));
    }
    Ok(Numbers { kind, is_big_endian: order == b'>' })
}

/// The rest of the text.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        self.0 = self.0.trim_ascii_start();
        self.0.first().copied()
    }

    /// Passes a byte, where it is the next one.
    fn skips(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        if is_next {
            self.0 = &self.0[1..];
        }
        is_next
    }

    fn take(&mut self, byte: u8) -> Result<(), String> {
        if self.skips(byte) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> String {
        match self.0 {
            [] => "ends too early".into(),
            rest => {
                let rest = String::from_utf8_lossy(&rest[..rest.len().min(20)]).into_owned();
                format!("is no dictionary as NumPy writes it, at {rest:?}")
            }
        }
    }

    /// A text in quotes, without escapes: NumPy's keys and types have none.
    fn string(&mut self) -> Result<&'a [u8], String> {
        let quote = self.peek().filter(|byte| matches!(byte, b'\'' | b'"')).ok_or_else(|| self.unexpected())?;
        let rest = &self.0[1..];
        let end = rest.iter().position(|&byte| byte == quote || byte == b'\\');
        match end {
            Some(end) if rest[end] == quote => {
                self.0 = &rest[end + 1..];
                Ok(&rest[..end])
            }
            _ => Err(self.unexpected()),
        }
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.peek();
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if let Some(rest) = self.0.strip_prefix(word) {
                self.0 = rest;
                return Ok(value);
            }
        }
        Err(self.unexpected())
    }

    /// Whole numbers in parentheses. Python 2 wrote an L behind long ones.
    fn sizes(&mut self) -> Result<Vec<u64>, String> {
        self.take(b'(')?;
        let mut sizes = Vec::new();
        while !self.skips(b')') {
            self.peek();
            let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let number = std::str::from_utf8(&self.0[..digits]).ok().and_then(|text| text.parse().ok());
            sizes.push(number.ok_or_else(|| self.unexpected())?);
            self.0 = &self.0[digits..];
            self.0 = self.0.strip_prefix(b"L").unwrap_or(self.0);
            if !self.skips(b',') && self.peek() != Some(b')') {
                return Err(self.unexpected());
            }
            if sizes.len() > MAX_DIMENSIONS {
                return Err(format!("has more than {MAX_DIMENSIONS} dimensions"));
            }
        }
        let is_possible = sizes.iter().try_fold(8u64, |product, &size| product.checked_mul(size)).is_some();
        if is_possible { Ok(sizes) } else { Err(format!("promises {sizes:?}, more values than a file can hold")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8, text: &str) -> Vec<u8> {
        let length = (text.len() as u32).to_le_bytes();
        let length = if version == 1 { &length[..2] } else { &length };
        [MAGIC, &[version, 0][..], length, text.as_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Result<Header, String> {
        Header::read(bytes).map_err(|wrong| match wrong {
            Wrong::Header(what) => what,
            Wrong::Unreadable(error) => error.to_string(),
        })
    }

    #[test]
    fn headers_are_read_as_numpy_and_others_write_them() {
        let numpy = "{'descr': '<f4', 'fortran_order': False, 'shape': (60, 28), }                   \n";
        for (version, before) in [(1, 10), (2, 12), (3, 12)] {
            let header = read(&file(version, numpy)).unwrap();
            assert_eq!(header.numbers, Ok(Numbers::little_endian(Kind::F32)));
            assert_eq!((header.order, header.shape), (Order::Rows, vec![60, 28]));
            assert_eq!(header.size_bytes, before + numpy.len() as u64);
        }
        let other = r#"{"shape":(3L,),"fortran_order":True,"descr":">i2"}"#;
        let header = read(&file(1, other)).unwrap();
        assert_eq!(header.numbers, Ok(Numbers { kind: Kind::I16, is_big_endian: true }));
        assert_eq!((header.order, header.shape), (Order::Columns, vec![3]));
        assert_eq!(read(&file(1, &other.replace("(3L,)", "()"))).unwrap().shape, [0; 0]);
    }

    #[test]
    fn types_that_are_no_numbers_are_refused_with_a_remedy() {
        for (descr, words) in [
            ("|O", "which are pickled; nothing of a file is executed"),
            ("<U5", "np.unique(x, return_inverse=True)"),
            ("|S3", "np.unique"),
            ("<M8[ns]", "dates; save numbers"),
            ("<c8", "complex numbers"),
            ("<f16", "floats of more than 64 bits"),
            ("|V2", "not read; save numbers"),
            ("|i4", "does not tell the order of its bytes"),
            ("", "not read"),
        ] {
            let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,), }}");
            let told = read(&file(1, &text)).unwrap().numbers.unwrap_err();
            assert!(told.contains(words) && told.starts_with(&format!("{descr:?}")), "{words}: {told}");
        }
    }

    #[test]
    fn headers_that_lie_or_are_cut_cost_nothing_and_are_told() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n";
        let whole = file(1, good);
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "{cut} bytes");
        }
        for (text, words) in [
            ("", "ends too early"),
            ("{'descr': '<f4', 'shape': (2,), }", "lacks one of"),
            ("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", r#"the key "descr" twice"#),
            ("{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}", "is no dictionary as NumPy writes it"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", "is no dictionary as NumPy"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2.5,)}", "is no dictionary as NumPy"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': 2}", "is no dictionary as NumPy"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "is no dictionary"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", "than a file can hold"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", "an array with fields"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", r#"the key "x""#),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} + 1", "is no dictionary as NumPy"),
            ("__import__('os').system('true')", "is no dictionary as NumPy writes it"),
            ("{'descr': '<f\\x34', 'fortran_order': False, 'shape': (2,)}", "is no dictionary as NumPy"),
        ] {
            let told = read(&file(1, text)).unwrap_err();
            assert!(told.contains(words), "{words}: {told}");
        }
        let told = read(&[MAGIC, &[2, 0, 0xff, 0xff, 0xff, 0xff][..]].concat()).unwrap_err();
        assert!(told.contains("a header of 4294967295 bytes"), "{told}");
        assert!(read(&file(4, good)).unwrap_err().contains("version 4.0; 1.0, 2.0 and 3.0 are read"));
        assert_eq!(read(b"PK\x03\x04....").unwrap_err(), "is no .npy file: it looks like a zip archive");
        assert_eq!(
            read(&[0x80, 2, b'}', b'q', 0, 1, 2, 3]).unwrap_err(),
            "is no .npy file: it looks like a Python pickle"
        );
    }
}
