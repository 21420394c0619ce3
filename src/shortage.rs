//! Errors of a machine that has run out of descriptors, processes or memory, and of a file system
//! that fails. They say nothing about the file, the job or the request at hand: the same call works
//! as soon as something is free, or the file system is back, again.

use std::io;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Whether the machine, or our share of it, has run out of something for now.
pub fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN | Errno::ENOMEM | Errno::ENOBUFS))
        || error.kind() == io::ErrorKind::OutOfMemory
}

/// Why something could not be judged, although nothing is known to be wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unjudged {
    /// The machine, or our share of it, has run out of something.
    Shortage,
    /// A file system or the disk below it fails, or does not answer.
    Storage,
    /// The file has changed while it was read.
    Changed,
}

impl Unjudged {
    /// The reason that an error is; None for one that tells of the file at hand.
    pub fn of(error: &io::Error) -> Option<Self> {
        if is_shortage(error) {
            return Some(Self::Shortage);
        }
        let errno = Errno::from_raw(error.raw_os_error()?);
        let is_of_storage = matches!(
            errno,
            Errno::EIO
                | Errno::ESTALE
                | Errno::EREMOTEIO
                | Errno::ENOMEDIUM
                | Errno::ENODEV
                | Errno::ENOTCONN
                | Errno::ETIMEDOUT
                | Errno::ECONNABORTED
                | Errno::ECONNREFUSED
                | Errno::ECONNRESET
                | Errno::EHOSTDOWN
                | Errno::EHOSTUNREACH
                | Errno::ENETDOWN
                | Errno::ENETUNREACH
                | Errno::ESHUTDOWN
        );
        is_of_storage.then_some(Self::Storage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_lacks_is_told_from_what_is_wrong_with_a_file() {
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::EAGAIN, Errno::ENOMEM] {
            assert!(is_shortage(&errno.into()), "{errno}");
        }
        for errno in [Errno::ENOENT, Errno::EACCES, Errno::EIO, Errno::ENOSPC, Errno::ETXTBSY] {
            assert!(!is_shortage(&errno.into()), "{errno}");
        }
        assert!(!is_shortage(&io::Error::other("words")));
        assert_eq!(Unjudged::of(&Errno::EMFILE.into()), Some(Unjudged::Shortage));
        for errno in [Errno::EIO, Errno::ESTALE, Errno::ENOTCONN, Errno::ETIMEDOUT] {
            assert_eq!(Unjudged::of(&errno.into()), Some(Unjudged::Storage), "{errno}");
        }
        for errno in [Errno::ENOENT, Errno::EACCES, Errno::ENAMETOOLONG, Errno::ELOOP] {
            assert_eq!(Unjudged::of(&errno.into()), None, "{errno}");
        }
    }
}
