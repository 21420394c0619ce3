//! TFRecord framing with masked CRC-32C: one framing for event files and for journals.
//!
//! A record is `u64 length`, `u32 masked_crc(length)`, `data`, `u32 masked_crc(data)`, all
//! little-endian (TensorFlow's `core/lib/io/record_writer.h`). The meaning of `data` is not known
//! here.

mod crc;
mod reader;

use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::FileExt;

pub use crc::masked_crc;
pub use reader::{FrameError, MAX_DATA_BYTES, Next, RecordReader};

/// Bytes before the data: length and its CRC.
pub const HEADER_BYTES: usize = 12;
/// Bytes after the data: its CRC.
pub const FOOTER_BYTES: usize = 4;
/// Bytes of a file that are looked through at a time.
const BLOCK: usize = 1 << 16;

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

/// Whether a whole record begins anywhere in a file from byte `from` on.
pub fn holds_record(file: &File, from: u64) -> io::Result<bool> {
    let mut from = from;
    while let Some(start) = next_header(file, from)? {
        let mut at = file;
        at.seek(io::SeekFrom::Start(start))?;
        match RecordReader::new(at).next() {
            Ok(Next::Record(_)) => return Ok(true),
            Err(FrameError::Io(error)) => return Err(error),
            Ok(Next::End | Next::Torn) | Err(FrameError::Damaged { .. }) => from = start + 1,
        }
    }
    Ok(false)
}

/// The first place in a file, from byte `from` on, with a length and its checksum. Whether a record
/// begins there its data tell. Holds a block of the file at a time.
pub fn next_header(file: &File, from: u64) -> io::Result<Option<u64>> {
    let mut block = vec![0; BLOCK];
    let mut offset = from;
    loop {
        let filled = fill(file, &mut block, offset)?;
        let begins = |header: &[u8]| header[8..] == masked_crc(&header[..8]).to_le_bytes();
        if let Some(start) = block[..filled].windows(HEADER_BYTES).position(begins) {
            return Ok(Some(offset + start as u64));
        }
        if filled < block.len() {
            return Ok(None);
        }
        // A header may lie across two blocks.
        offset += (filled - HEADER_BYTES + 1) as u64;
    }
}

/// Reads a block, or what there is of it.
fn fill(file: &File, block: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read_at(&mut block[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
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

    #[test]
    fn a_record_is_found_wherever_it_begins_also_across_blocks() {
        let record = framed(&[b"here".to_vec()]);
        let found = |bytes: &[u8], from| {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(bytes, 0).unwrap();
            holds_record(&file, from).unwrap()
        };
        for before in [0, 1, BLOCK - 13, BLOCK - 12, BLOCK - 11, BLOCK - 1, BLOCK, 2 * BLOCK, 2 * BLOCK + 5] {
            let bytes = [vec![0x5a; before], record.clone()].concat();
            assert!(found(&bytes, 0) && found(&bytes, before as u64), "{before}");
            assert!(!found(&bytes, before as u64 + 1) && !found(&bytes[..bytes.len() - 1], 0), "{before}");
            let damaged = [vec![0x5a; before], record[..14].to_vec(), vec![0; 6]].concat();
            assert!(!found(&damaged, 0), "{before}");
        }
        assert!(!found(&vec![0; 3 * BLOCK], 0) && !found(b"", 0));
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
