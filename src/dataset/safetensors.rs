//! The header of safetensors files, read strictly and without libtorch: an u64 in little-endian order, so many bytes of
//! JSON that tell name, type, shape and place of each tensor, then the values without a gap.
//! (<https://github.com/huggingface/safetensors#format>)
//!
//! Takes no more memory than the header, which is bounded, and never trusts a length before the file has shown it. This
//! module must not decide which tensors a model needs.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::looks::{self, looks_like};

/// A longer header is refused: 30,000 tensors with long names fit.
pub const MAX_HEADER_BYTES: u64 = 4 << 20;

/// The header's length at the beginning of the file.
const LENGTH_BYTES: u64 = 8;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its tensors, in the order of their values in the file.
    pub tensors: Vec<TensorInfo>,
}

/// A tensor, as the header tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its type as the format names it: `F32`, `BF16`, `I64` and so on.
    pub dtype: String,
    /// Its sizes, outermost first; none for a single number.
    pub shape: Vec<u64>,
    /// Bytes of its values.
    pub size_bytes: u64,
}

/// What is wrong with a file.
#[derive(Debug)]
pub enum SafetensorsError {
    /// The system refuses.
    Unreadable(io::Error),
    /// Another kind of file, with its name if it is known.
    NotSafetensors(Option<&'static str>),
    /// A header that is longer than we read.
    HeaderTooLarge(u64),
    /// The header breaks the format.
    BadHeader(String),
    /// Fewer bytes than the header says.
    Truncated {
        /// Bytes that are there.
        found: u64,
        /// Bytes that the header says, itself included.
        wanted: u64,
    },
    /// More bytes than the header says.
    Trailing {
        /// Bytes that are there.
        found: u64,
        /// Bytes that the header says, itself included.
        wanted: u64,
    },
    /// A value that is no number to go on from.
    NotFinite {
        /// The tensor.
        name: String,
        /// The place of the first such value, row by row.
        place: u64,
        /// NaN or an infinity.
        value: f64,
    },
}

impl Header {
    /// Reads the header of a file that has so many bytes. The reader stands before the first value then.
    pub fn read(source: &mut impl Read, file_bytes: u64) -> Result<Self, SafetensorsError> {
        let mut head = Vec::with_capacity(looks::HEAD_BYTES);
        source.by_ref().take(LENGTH_BYTES + 1).read_to_end(&mut head).map_err(SafetensorsError::Unreadable)?;
        let length = match head.first_chunk() {
            Some(length) if *length != [0; 8] && head.get(8) == Some(&b'{') => u64::from_le_bytes(*length),
            _ => {
                let rest = (looks::HEAD_BYTES - head.len()) as u64;
                source.take(rest).read_to_end(&mut head).map_err(SafetensorsError::Unreadable)?;
                return Err(SafetensorsError::NotSafetensors(looks_like(&head)));
            }
        };
        if length > MAX_HEADER_BYTES {
            return Err(SafetensorsError::HeaderTooLarge(length));
        }
        let mut json = vec![b'{'];
        source.take(length - 1).read_to_end(&mut json).map_err(SafetensorsError::Unreadable)?;
        if (json.len() as u64) < length {
            let found = LENGTH_BYTES + json.len() as u64;
            return Err(SafetensorsError::Truncated { found, wanted: LENGTH_BYTES + length });
        }
        let Entries(entries) = serde_json::from_slice(&json).map_err(|error| bad(error.to_string()))?;
        let (tensors, data_bytes) = in_order(entries)?;
        let wanted = LENGTH_BYTES + length;
        let wanted = wanted.checked_add(data_bytes).ok_or_else(|| bad("it tells of more than a file can hold"))?;
        match file_bytes {
            found if found < wanted => Err(SafetensorsError::Truncated { found, wanted }),
            found if found > wanted => Err(SafetensorsError::Trailing { found, wanted }),
            _ => Ok(Self { tensors }),
        }
    }

    /// Reads all values, from a reader that stands before the first, and refuses NaN and infinities.
    pub fn check_values(&self, source: &mut impl Read) -> Result<(), SafetensorsError> {
        let mut block = vec![0; 1 << 16];
        for tensor in &self.tensors {
            let decode = decoder(&tensor.dtype);
            let mut left = tensor.size_bytes;
            while left > 0 {
                let part = &mut block[..usize::try_from(left).unwrap_or(usize::MAX).min(1 << 16)];
                source.read_exact(part).map_err(SafetensorsError::Unreadable)?;
                if let Some((width, value)) = decode {
                    let values = part.chunks_exact(width).map(value);
                    if let Some((at, value)) = values.enumerate().find(|(_, value)| !value.is_finite()) {
                        let place = (tensor.size_bytes - left) / width as u64 + at as u64;
                        return Err(SafetensorsError::NotFinite { name: tensor.name.clone(), place, value });
                    }
                }
                left -= part.len() as u64;
            }
        }
        Ok(())
    }
}

fn bad(what: impl Into<String>) -> SafetensorsError {
    SafetensorsError::BadHeader(what.into())
}

/// Bytes of a value, and how it is read; None for types that have neither NaN nor infinity, or that we do not know.
fn decoder(dtype: &str) -> Option<(usize, fn(&[u8]) -> f64)> {
    fn word<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.first_chunk().copied().unwrap_or([0; N])
    }
    match dtype {
        "F64" => Some((8, |bytes| f64::from_le_bytes(word(bytes)))),
        "F32" => Some((4, |bytes| f32::from_le_bytes(word(bytes)).into())),
        // The upper half of an F32.
        "BF16" => Some((2, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(word(bytes))) << 16).into())),
        // Only whether it is finite counts: an exponent of ones is what an F32 with such an exponent is.
        "F16" => Some((2, |bytes| {
            let bits = u32::from(u16::from_le_bytes(word(bytes)));
            let exponent = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
            f32::from_bits(((bits & 0x8000) << 16) | exponent | ((bits & 0x3ff) << 13)).into()
        })),
        _ => None,
    }
}

/// Bits of a value; None for a type that this version does not know.
fn bits(dtype: &str) -> Option<u64> {
    match dtype {
        "F4" => Some(4),
        "F6_E2M3" | "F6_E3M2" => Some(6),
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" => Some(8),
        "I16" | "U16" | "F16" | "BF16" => Some(16),
        "I32" | "U32" | "F32" => Some(32),
        "I64" | "U64" | "F64" | "C64" => Some(64),
        _ => None,
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The entries of a header as they come, so that a name that stands there twice is seen.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tensor for each name")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Entries, M::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<BTreeMap<String, String>>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// The tensors by their place, which must leave no gap and share nothing, and the bytes of all values.
fn in_order(mut entries: Vec<(String, Entry)>) -> Result<(Vec<TensorInfo>, u64), SafetensorsError> {
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(bad(format!("it tells of {:?} twice", pair[0].0)));
    }
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut end = 0;
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, Entry { dtype, shape, data_offsets: (from, to) }) in entries {
        if from != end || to < from {
            return Err(bad(format!("the values of {name:?} are at {from} to {to}, and should begin at {end}")));
        }
        let size_bytes = to - from;
        if let Some(bits) = bits(&dtype) {
            let needed = shape.iter().try_fold(bits, |product, &size| product.checked_mul(size));
            if needed.is_none_or(|needed| !needed.is_multiple_of(8) || needed / 8 != size_bytes) {
                return Err(bad(format!("{name:?} is {dtype} {shape:?}, and has {size_bytes} bytes")));
            }
        }
        end = to;
        tensors.push(TensorInfo { name, dtype, shape, size_bytes });
    }
    Ok((tensors, end))
}

impl fmt::Display for SafetensorsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(cause) => write!(f, "cannot be read: {cause}"),
            Self::NotSafetensors(Some(looks)) => {
                write!(f, "looks like {looks}, and a safetensors file is needed")?;
                // Both are what torch.save writes.
                let is_torch = looks.contains("zip archive") || looks.contains("pickle");
                f.write_str(if is_torch { ": save a .pt file anew with safetensors.torch.save_file" } else { "" })
            }
            Self::NotSafetensors(None) => {
                f.write_str("is no safetensors file: it does not begin with the length of a header and the header")
            }
            Self::HeaderTooLarge(found) => {
                write!(f, "has a header of {found} bytes; {MAX_HEADER_BYTES} at most are read")
            }
            Self::BadHeader(what) => write!(f, "has a damaged safetensors header: {what}"),
            Self::Truncated { found, wanted } => {
                write!(f, "is cut off: its header says {wanted} bytes, {found} are there")
            }
            Self::Trailing { found, wanted } => {
                write!(f, "goes on after its end: its header says {wanted} bytes, {found} are there")
            }
            Self::NotFinite { name, place, value } => {
                write!(f, "holds {value} in {name:?} at place {place}, counted from 0; every value must be finite")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, values: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), values].concat()
    }

    fn read(bytes: &[u8]) -> Result<Header, SafetensorsError> {
        let mut source = bytes;
        let header = Header::read(&mut source, bytes.len() as u64)?;
        header.check_values(&mut source).map(|()| header)
    }

    fn refusal(bytes: &[u8]) -> String {
        read(bytes).unwrap_err().to_string()
    }

    const TWO: &str = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[],"data_offsets":[8,12]},"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}   "#;

    #[test]
    fn tensors_come_in_the_order_of_their_values_and_every_cut_is_noticed() {
        let whole = file(TWO, &[0; 12]);
        let found: Vec<_> = read(&whole).unwrap().tensors.into_iter().map(|told| (told.name, told.shape)).collect();
        assert_eq!(found, [("a".to_owned(), vec![1]), ("b".to_owned(), vec![])]);
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "{cut} bytes");
        }
        assert!(refusal(&[&whole[..], &[0]].concat()).contains("goes on after its end"));
        assert!(refusal(&whole[..whole.len() - 1]).contains("is cut off"));
    }

    #[test]
    fn a_header_that_lies_is_refused() {
        let entry = |shape: &str, from: u64, to: u64| {
            format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
        };
        let a = |entry: String| format!(r#"{{"a":{entry}}}"#);
        for (header, words) in [
            (a(entry("[2]", 0, 4)), "and has 4 bytes"),
            (a(entry("[1]", 4, 8)), "should begin at 0"),
            (a(entry("[1]", 8, 4)), "should begin at 0"),
            (a(entry(&format!("[{}, {}]", u64::MAX, u64::MAX), 0, 4)), "and has 4 bytes"),
            (a(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}"#.into()), "unknown field"),
            (format!(r#"{{"a":{0},"a":{0}}}"#, entry("[0]", 0, 0)), "twice"),
            (format!(r#"{{"a":{0},"b":{0}}}"#, entry("[1]", 0, 4)), "should begin at 4"),
            ("{".into(), "EOF"),
        ] {
            let found = refusal(&file(&header, &[0; 4]));
            assert!(found.contains(words), "{header}: {found}");
        }
        let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
        assert!(refusal(&huge).contains("at most are read"));
    }

    #[test]
    fn what_is_no_number_is_named_with_its_place_in_every_float_type() {
        let cases: [(&str, Vec<u8>, Vec<u8>); 5] = [
            ("F64", 1f64.to_le_bytes().into(), f64::NAN.to_le_bytes().into()),
            ("F32", f32::MAX.to_le_bytes().into(), f32::NEG_INFINITY.to_le_bytes().into()),
            ("BF16", vec![0x7f, 0x7f], vec![0x80, 0x7f]),
            // The largest F16, and a NaN.
            ("F16", vec![0xff, 0x7b], vec![0x00, 0x7e]),
            ("F16", vec![0xff, 0xfb], vec![0x00, 0xfc]),
        ];
        for (dtype, good, wrong) in cases {
            let header = |bytes: usize| {
                let count = bytes / good.len();
                format!(r#"{{"a":{{"dtype":"{dtype}","shape":[{count}],"data_offsets":[0,{bytes}]}}}}"#)
            };
            // More than a block.
            let mut values = good.repeat(50_000);
            read(&file(&header(values.len()), &values)).unwrap();
            let at = 40_001 * good.len();
            values[at..at + good.len()].copy_from_slice(&wrong);
            let found = refusal(&file(&header(values.len()), &values));
            assert!(found.contains(r#"in "a" at place 40001"#), "{dtype}: {found}");
        }
    }

    #[test]
    fn other_files_are_named() {
        assert!(refusal(b"PK\x03\x04........").contains("zip archive, and a safetensors file is needed: save a .pt"));
        assert!(refusal(b"version https://git-lfs.github.com/spec/v1").contains("Git LFS"));
        assert!(refusal(&[1, 2, 3]).contains("is no safetensors file"));
        assert!(refusal(b"\0\0\0\0\0\0\0\0{").contains("is no safetensors file"));
        assert!(refusal(b"").contains("an empty file"));
    }
}
