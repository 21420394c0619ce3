//! The header of safetensors files, read strictly: the length of the JSON as a u64 in little-endian
//! order, the JSON that tells name, type, shape and place of each tensor, then the values without a
//! gap. (<https://github.com/huggingface/safetensors#format>)
//!
//! Takes no more memory than the header, which is bounded, and never trusts a length before the
//! file has shown it.

use std::collections::BTreeMap;
use std::fmt;

use rawzip::ReaderAt;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::source::read_at_most;
use super::tensor::{Layout, Tensor, contiguous};
use super::{Dtype, Format, Problem};
use crate::looks::{self, looks_like};

/// A longer header is refused: 30,000 tensors with long names fit.
pub const MAX_HEADER_BYTES: u64 = 4 << 20;

/// The header's length at the beginning of the file.
const LENGTH_BYTES: u64 = 8;

/// Whether a file with these first bytes may be a safetensors file.
pub(super) fn begins(head: &[u8]) -> bool {
    head.first_chunk().is_some_and(|length| *length != [0; 8]) && head.get(8) == Some(&b'{')
}

/// Reads the header of a file of `file_bytes` bytes: its tensors, in the order of their values.
///
/// # Errors
/// The mistake in the file.
pub fn read(source: &dyn ReaderAt, file_bytes: u64) -> Result<Vec<Tensor>, Problem> {
    let head = read_at_most(source, 0, looks::HEAD_BYTES as u64, file_bytes)?;
    let length = head.first_chunk().filter(|_| begins(&head)).map(|length| u64::from_le_bytes(*length));
    let Some(length) = length else {
        return Err(Problem::Other { looks: looks_like(&head), needed: "a safetensors file" });
    };
    if length > MAX_HEADER_BYTES {
        return Err(Problem::Refused(format!("has a header of {length} bytes; {MAX_HEADER_BYTES} at most are read")));
    }
    let json = read_at_most(source, LENGTH_BYTES, length, file_bytes)?;
    let begin = LENGTH_BYTES + length;
    if (json.len() as u64) < length {
        return Err(Problem::Truncated { found: LENGTH_BYTES + json.len() as u64, wanted: begin });
    }
    let Entries(entries) = serde_json::from_slice(&json).map_err(|error| bad(error.to_string()))?;
    let (tensors, wanted) = in_order(entries, begin)?;
    match file_bytes {
        found if found < wanted => Err(Problem::Truncated { found, wanted }),
        found if found > wanted => Err(Problem::Trailing { found, wanted }),
        _ => Ok(tensors),
    }
}

fn bad(what: impl Into<String>) -> Problem {
    Problem::Damaged { format: Format::Safetensors, what: what.into() }
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

/// The tensors by their place, which must leave no gap and share nothing, and the place in the file
/// where the last one ends. The first begins at `begin`.
fn in_order(mut entries: Vec<(String, Entry)>, begin: u64) -> Result<(Vec<Tensor>, u64), Problem> {
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
        let dtype = Dtype::of_safetensors(&dtype)
            .ok_or_else(|| bad(format!("{name:?} has the type {dtype:?}, which this version does not know")))?;
        let size_bytes = to - from;
        let bits = shape.iter().try_fold(dtype.bits(), |product, &size| product.checked_mul(size));
        if bits.is_none_or(|bits| !bits.is_multiple_of(8) || bits / 8 != size_bytes) {
            return Err(bad(format!("{name:?} is {} {shape:?}, and has {size_bytes} bytes", dtype.name())));
        }
        let offset = begin.checked_add(from).ok_or_else(|| bad("it tells of more than a file can hold"))?;
        let layout = Layout { offset, storage_bytes: size_bytes, first: 0, strides: contiguous(&shape) };
        tensors.push(Tensor::new(name.clone(), dtype, shape, layout).map_err(|what| bad(format!("{name:?} {what}")))?);
        end = to;
    }
    let end = begin.checked_add(end).ok_or_else(|| bad("it tells of more than a file can hold"))?;
    Ok((tensors, end))
}

#[cfg(test)]
mod tests {
    use super::super::{TensorFile, Values, judge_values};
    use super::*;

    fn file(header: &str, values: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), values].concat()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Tensor>, Problem> {
        let file = TensorFile::read_from(&bytes, bytes.len() as u64)?;
        judge_values(&file.tensors, Values::Finite, &bytes).map(|()| file.tensors)
    }

    fn refusal(bytes: &[u8]) -> String {
        read(bytes).unwrap_err().to_string()
    }

    const TWO: &str = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[],"data_offsets":[8,12]},"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}   "#;

    #[test]
    fn tensors_come_in_the_order_of_their_values_and_every_cut_is_noticed() {
        let whole = file(TWO, &[0; 12]);
        let found: Vec<_> = read(&whole).unwrap().into_iter().map(|told| (told.name, told.shape)).collect();
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
        assert!(refusal(b"PK\x03\x04........").contains("is a damaged zip archive"));
        assert!(refusal(b"version https://git-lfs.github.com/spec/v1").contains("Git LFS"));
        assert!(refusal(&[1, 2, 3]).contains("is no safetensors file"));
        assert!(refusal(b"\0\0\0\0\0\0\0\0{").contains("is no safetensors file"));
        assert!(refusal(b"").contains("an empty file"));
    }
}
