//! TorchScript archives, as `torch.jit.save` writes them: whether a file is one that libtorch may
//! read. Nothing in it is executed, and its code is not read.

use super::archive::Archive;
use super::source::read_at_most;
use super::{Problem, ReaderAt};
use crate::looks::{HEAD_BYTES, looks_like};

/// The newest version of archives that libtorch 2.11 reads (kMaxSupportedFileFormatVersion in
/// caffe2/serialize/versions.h).
const NEWEST_VERSION: u64 = 10;

/// The remedy for a file of another kind.
const NEEDED: &str = "a TorchScript archive is needed, as torch.jit.script(module).save(PATH) writes it";

/// Judges an archive by its directory and its version.
///
/// # Errors
/// The reason why it is none.
pub fn judge(source: &dyn ReaderAt, size_bytes: u64) -> Result<(), Problem> {
    let head = read_at_most(source, 0, HEAD_BYTES as u64, size_bytes)?;
    if !head.starts_with(b"PK") {
        let found = looks_like(&head).map_or_else(|| "is no zip archive".into(), |looks| format!("looks like {looks}"));
        return Err(Problem::Refused(format!("{found}; {NEEDED}")));
    }
    let archive = Archive::read(source, size_bytes)?;
    let root = archive.names().find_map(|name| name.strip_suffix("/constants.pkl")).map(|root| format!("{root}/"));
    let is_script = root.as_ref().is_some_and(|root| {
        let code = format!("{root}code/");
        archive.has(&format!("{root}data.pkl")) && archive.names().any(|name| name.starts_with(&code))
    });
    let Some(root) = root.filter(|_| is_script) else {
        let has = |name: &str| archive.names().any(|entry| entry.rsplit('/').next() == Some(name));
        let found = match (has("archive_format"), has("data.pkl")) {
            (true, _) => "an exported program (.pt2), which model.exported takes",
            (false, true) => "a .pt file of torch.save",
            (false, false) => "a zip archive",
        };
        return Err(Problem::Refused(format!("is {found}; {NEEDED}")));
    };
    // Where libtorch itself looks for it.
    let entries = [format!("{root}.data/version"), format!("{root}version")];
    let entry = entries.iter().find(|entry| archive.has(entry)).unwrap_or(&entries[1]);
    let version = String::from_utf8(archive.bytes(source, entry, 64)?).unwrap_or_default();
    match version.trim().parse::<u64>() {
        Ok(version) if version <= NEWEST_VERSION => Ok(()),
        Ok(version) => Err(Problem::Refused(format!(
            "is a TorchScript archive of version {version}, and {NEWEST_VERSION} is the newest that this libtorch \
             reads: save it with an older PyTorch"
        ))),
        Err(_) => Err(Problem::BadArchive(format!("{entry:?} holds {version:?}, which is no version"))),
    }
}
