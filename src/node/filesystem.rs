//! Whether a file system can hold the daemon's state: SQLite, locks and synced appends need a local
//! one.

use std::path::Path;

use nix::sys::statfs::statfs;

/// Magic numbers of network and FUSE file systems, from linux/magic.h and, for those outside of the
/// kernel, statfs(2).
const UNSUITABLE: [(i64, &str); 10] = [
    (0x6969, "NFS"),
    (0x6573_5546, "FUSE"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x7461_636f, "OCFS2"),
];

/// The name of the network or FUSE file system that a path lies on; None on a local one. A path
/// that is not there yet is judged by the folder that will hold it.
pub fn unsuitable_filesystem(path: &Path) -> Option<&'static str> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    let magic = statfs(existing).ok()?.filesystem_type().0 as i64 & 0xffff_ffff;
    UNSUITABLE.iter().find(|(number, _)| *number == magic).map(|&(_, name)| name)
}
