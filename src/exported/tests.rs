//! Archives that tests make up, and what is refused of them.

use std::io::Write;

use rawzip::ZipArchiveWriter;

/// An archive with these entries, stored in a folder of this name.
pub(super) fn archive(folder: &str, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = ZipArchiveWriter::new(&mut bytes);
    for (name, data) in entries {
        let (mut entry, config) = archive.new_file(&format!("{folder}/{name}")).start().unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(data).unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    bytes
}
