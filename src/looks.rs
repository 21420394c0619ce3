//! Names what a file is by its first bytes, for messages about a file that is not what was
//! expected.

/// As many first bytes as [`looks_like`] looks at.
pub const HEAD_BYTES: usize = 64;

/// The remedy for files that are packed in a way that is not unpacked here.
const UNPACK: &str = "(unpack it)";

/// Signatures at the very beginning. The remedy is in the words where there is a usual one.
const SIGNATURES: [(&[u8], &str); 17] = [
    (b"version https://git-lfs", "a Git LFS pointer (fetch the file that it stands for with git lfs pull)"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (&[0x1f, 0x8b], "a gzip file"),
    (b"BZh", "a bzip2 file (unpack it)"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "an xz file (unpack it)"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "a Zstandard file (unpack it)"),
    (&[0x50, 0x2a, 0x4d, 0x18], "a Zstandard file (unpack it)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"PAR1", "a Parquet file"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (&[0xff, 0xd8, 0xff], "a JPEG image"),
    (b"%PDF-", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3", "an SQLite database"),
];

/// The kind of a file with these first bytes; None where they tell nothing.
pub fn looks_like(head: &[u8]) -> Option<&'static str> {
    let head = &head[..head.len().min(HEAD_BYTES)];
    if let Some((_, words)) = SIGNATURES.iter().find(|(signature, _)| head.starts_with(signature)) {
        return Some(words);
    }
    match head {
        [] => return Some("an empty file"),
        // The protocols that torch.save and pickle.dump write.
        [0x80, 2..=5, ..] => return Some("a Python pickle"),
        // The length of a header of JSON, and its first byte.
        [_, _, _, _, _, 0, 0, 0, b'{', ..] if head[..5] != [0; 5] => return Some("a safetensors file"),
        _ if head.iter().all(|&byte| byte == 0) => {
            return Some("a file of null bytes, as a download leaves that failed");
        }
        _ => {}
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let begins = |word: &[u8]| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if begins(b"<!doctype html") || begins(b"<html") || begins(b"<head") {
        return Some("an HTML page, as a server sends it in place of a file");
    }
    if begins(b"<?xml") {
        return Some("an XML document, as a server sends it in place of a file");
    }
    let is_text = |&byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
    text.iter().all(is_text).then_some(if begins(b"{") || begins(b"[") { "JSON" } else { "text" })
}

/// The kind of a packed file with these first bytes that has to be unpacked by hand.
pub fn packed(head: &[u8]) -> Option<&'static str> {
    looks_like(head).filter(|words| words.ends_with(UNPACK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_people_have_in_place_of_data_are_named() {
        let cases: [(&[u8], &str); 12] = [
            (b"", "empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
            (b"<!DOCTYPE html><html><head>", "HTML"),
            (b"\xef\xbb\xbf\r\n  <HTML lang=en>", "HTML"),
            (b"<?xml version='1.0'?><Error><Code>AccessDenied", "XML"),
            (b"PK\x03\x04\x14\0", "zip"),
            (&[0x1f, 0x8b, 8], "gzip"),
            (&[0x80, 2, b'}'], "pickle"),
            (&[40, 3, 0, 0, 0, 0, 0, 0, b'{', b'"'], "safetensors"),
            (&[0; 100], "null bytes"),
            (b"{\"message\": \"Not Found\"}", "JSON"),
            (b"label,pixel1\n5,0\n", "text"),
        ];
        for (head, words) in cases {
            let told = looks_like(head).unwrap_or_default();
            assert!(told.contains(words), "{words}: {told}");
        }
        assert!(packed(b"BZh9").is_some() && packed(b"PK\x03\x04").is_none() && packed(b"text").is_none());
        assert_eq!(looks_like(&[0, 0, 8, 3, 0, 0, 0, 1]), None);
        assert_eq!(looks_like(&[0x9c, 0x01, 0xff]), None);
    }
}
