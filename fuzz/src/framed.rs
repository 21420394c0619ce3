//! Files of framed records: what should be read of one, by the plainest reader that there can be,
//! and how to make ones whose damage lies behind the checksums.

use arbitrary::Arbitrary;
use torchd::record::{FOOTER_BYTES, HEADER_BYTES, masked_crc};

/// A record is no longer than this.
const LONGEST: u64 = 1 << 20;

/// The bytes behind the last whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    Nothing,
    /// A record that is not complete.
    Torn,
    /// Bytes that do not match their checksum.
    Damaged,
}

/// The data of every whole record before the first damage, where the last of them ends, and what
/// stands behind it.
pub fn whole_records(bytes: &[u8]) -> (Vec<&[u8]>, usize, Rest) {
    let (mut records, mut at) = (Vec::new(), 0);
    loop {
        let rest = &bytes[at..];
        if rest.is_empty() {
            return (records, at, Rest::Nothing);
        }
        let Some((header, behind)) = rest.split_at_checked(HEADER_BYTES) else { return (records, at, Rest::Torn) };
        let length = u64::from_le_bytes(header[..8].try_into().unwrap());
        if header[8..] != masked_crc(&header[..8]).to_le_bytes() || length > LONGEST {
            return (records, at, Rest::Damaged);
        }
        let Some((data, footer)) = behind.split_at_checked(length as usize) else { return (records, at, Rest::Torn) };
        let Some(footer) = footer.get(..FOOTER_BYTES) else { return (records, at, Rest::Torn) };
        if footer != masked_crc(data).to_le_bytes() {
            return (records, at, Rest::Damaged);
        }
        records.push(data);
        at += HEADER_BYTES + data.len() + FOOTER_BYTES;
    }
}

/// Makes every checksum right that there is room for, so that a changed length or a changed byte of
/// data is believed.
pub fn correct(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + HEADER_BYTES) {
        let length = u64::from_le_bytes(header[..8].try_into().unwrap());
        let checksum = masked_crc(&header[..8]).to_le_bytes();
        let data = at + HEADER_BYTES;
        bytes[at + 8..data].copy_from_slice(&checksum);
        let end = usize::try_from(length).ok().and_then(|length| data.checked_add(length));
        let Some(end) = end.filter(|end| end.checked_add(FOOTER_BYTES).is_some_and(|end| end <= bytes.len())) else {
            return;
        };
        let footer = masked_crc(&bytes[data..end]).to_le_bytes();
        bytes[end..end + FOOTER_BYTES].copy_from_slice(&footer);
        at = end + FOOTER_BYTES;
    }
}

/// A part of a file that is being made up.
#[derive(Arbitrary, Debug)]
pub enum Piece<M> {
    /// A record that holds a message.
    Whole(M),
    /// A record that holds a message in which a byte is another one, with the checksum of that.
    Altered(M, u16, u8),
    /// A record of anything.
    Anything(Vec<u8>),
    /// A record that holds nothing.
    Empty,
    /// The header of a record of this length, with its checksum; what follows is its data.
    Length(u64),
    /// Bytes without a frame.
    Stray(Vec<u8>),
}

/// The file of these pieces.
pub fn file<M>(pieces: &[Piece<M>], encode: impl Fn(&M) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Whole(message) => append(&mut bytes, &encode(message)),
            Piece::Altered(message, at, byte) => {
                let mut data = encode(message);
                let length = data.len();
                if length > 0 {
                    data[usize::from(*at) % length] = *byte;
                }
                append(&mut bytes, &data);
            }
            Piece::Anything(data) => append(&mut bytes, data),
            Piece::Empty => append(&mut bytes, &[]),
            Piece::Length(length) => {
                let length = length.to_le_bytes();
                bytes.extend_from_slice(&length);
                bytes.extend_from_slice(&masked_crc(&length).to_le_bytes());
            }
            Piece::Stray(stray) => bytes.extend_from_slice(stray),
        }
    }
    bytes
}

fn append(bytes: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&masked_crc(&length).to_le_bytes());
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(&masked_crc(data).to_le_bytes());
}

/// A damage to a file that was whole.
#[derive(Arbitrary, Debug)]
pub enum Damage {
    /// A bit is another one.
    Flip(u16, u8),
    /// The end is missing.
    Cut(u16),
    /// Bytes are missing in the middle.
    Lose(u16, u8),
    /// A part stands there twice.
    Repeat(u16, u16),
    /// A page of zeros, as some file systems leave it after a power cut.
    Zeros(u16, u16),
}

/// Does the damage.
pub fn damage(bytes: &mut Vec<u8>, damages: &[Damage]) {
    for damage in damages {
        let place = |at: u16| usize::from(at) % (bytes.len() + 1);
        match *damage {
            Damage::Flip(at, bit) if !bytes.is_empty() => {
                let at = usize::from(at) % bytes.len();
                bytes[at] ^= 1 << (bit % 8);
            }
            Damage::Flip(..) => {}
            Damage::Cut(at) => bytes.truncate(place(at)),
            Damage::Lose(at, count) => {
                let from = place(at);
                let to = (from + usize::from(count)).min(bytes.len());
                bytes.drain(from..to);
            }
            Damage::Repeat(at, count) => {
                let from = place(at);
                let part = bytes[from..(from + usize::from(count % 512)).min(bytes.len())].to_vec();
                bytes.splice(from..from, part);
            }
            Damage::Zeros(at, count) => {
                let from = place(at);
                let to = (from + usize::from(count % 512)).min(bytes.len());
                bytes[from..to].fill(0);
            }
        }
    }
}
