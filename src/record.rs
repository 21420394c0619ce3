//! TFRecord framing with masked CRC-32C: one framing for event files and for journals.
//!
//! A record is `u64 length`, `u32 masked_crc(length)`, `data`, `u32 masked_crc(data)`, all little-endian
//! (TensorFlow's `core/lib/io/record_writer.h`). What the bytes of `data` mean is not known here.

mod crc;
mod reader;

pub use crc::masked_crc;
pub use reader::{FrameError, Next, RecordReader};

/// Bytes before the data: length and its CRC.
pub const HEADER_BYTES: usize = 12;
/// Bytes after the data: its CRC.
pub const FOOTER_BYTES: usize = 4;

/// Appends one record whose data `fill` writes, without a copy: its length is put in afterwards.
pub fn append(buffer: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER_BYTES]);
    fill(buffer);
    let data = start + HEADER_BYTES;
    let length = ((buffer.len() - data) as u64).to_le_bytes();
    buffer[start..start + 8].copy_from_slice(&length);
    buffer[start + 8..data].copy_from_slice(&masked_crc(&length).to_le_bytes());
    let footer = masked_crc(&buffer[data..]).to_le_bytes();
    buffer.extend_from_slice(&footer);
}

/// Whether a whole record begins anywhere in these bytes.
pub fn holds_record(bytes: &[u8]) -> bool {
    let begins = |start: &usize| {
        let header = &bytes[*start..start + HEADER_BYTES];
        header[8..] == masked_crc(&header[..8]).to_le_bytes()
    };
    let starts = 0..bytes.len().saturating_sub(HEADER_BYTES + FOOTER_BYTES - 1);
    starts.filter(begins).any(|start| matches!(RecordReader::new(&bytes[start..]).next(), Ok(Next::Record(_))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for record in records {
            append(&mut bytes, |buffer| buffer.extend_from_slice(record));
        }
        bytes
    }

    proptest! {
        #[test]
        fn records_come_back_and_every_cut_is_torn(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6), cut in any::<prop::sample::Index>(),
        ) {
            let bytes = framed(&records);
            let cut = cut.index(bytes.len() + 1);
            let mut reader = RecordReader::new(&bytes[..cut]);
            let mut whole = 0;
            let tail = loop {
                match reader.next().unwrap() {
                    Next::Record(data) => {
                        prop_assert_eq!(data, records[whole].as_slice());
                        whole += 1;
                    }
                    end => break end,
                }
            };
            let whole_bytes = framed(&records[..whole]).len();
            prop_assert_eq!(tail, if cut == whole_bytes { Next::End } else { Next::Torn });
            prop_assert_eq!(reader.offset(), whole_bytes as u64);
            prop_assert!(cut < bytes.len() || whole == records.len());
        }

        #[test]
        fn a_flipped_bit_is_noticed(data in prop::collection::vec(any::<u8>(), 0..40), bit in any::<prop::sample::Index>()) {
            let mut bytes = framed(&[data]);
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(RecordReader::new(bytes.as_slice()).next().is_err());
        }
    }
}
