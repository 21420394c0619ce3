//! A file that is begun anew when it is full; some before it stay, with a number at the end of
//! their names: `audit.jsonl.1` is the newest of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// The file.
pub(super) struct Rotated {
    path: PathBuf,
    max_bytes: u64,
    files: usize,
    file: File,
    bytes: u64,
}

impl Rotated {
    /// Goes on in the file where it is there.
    pub(super) fn open(path: PathBuf, max_bytes: u64, files: usize) -> io::Result<Self> {
        let file = append_to(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, max_bytes, files: files.max(1), file, bytes })
    }

    /// Adds a line, whole or not at all as far as the file system allows.
    pub(super) fn append(&mut self, line: &str) -> io::Result<()> {
        let length = line.len() as u64;
        if self.bytes > 0 && self.bytes + length > self.max_bytes {
            self.rotate()?;
        }
        match self.file.write_all(line.as_bytes()) {
            Ok(()) => {
                self.bytes += length;
                Ok(())
            }
            Err(error) => {
                // Half a line would spoil the one behind it.
                let _ = self.file.set_len(self.bytes);
                Err(error)
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let named = |number: usize| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.files).rev() {
            let from = if number == 1 { self.path.clone() } else { named(number - 1) };
            match fs::rename(&from, named(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.files == 1 {
            self.file.set_len(0)?;
        }
        self.file = append_to(&self.path)?;
        self.bytes = self.file.metadata()?.len();
        Ok(())
    }
}

fn append_to(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_files_get_numbers_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        for number in 0..7 {
            // Every other line by another process.
            let mut file = Rotated::open(path.clone(), 10, 3).unwrap();
            file.append(&format!("line{number}\n")).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("audit.jsonl"), "line6\n");
        assert_eq!(read("audit.jsonl.1"), "line5\n");
        assert_eq!(read("audit.jsonl.2"), "line4\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_single_file_begins_anew_and_a_line_that_is_too_long_is_written_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut file = Rotated::open(path.clone(), 10, 1).unwrap();
        for line in ["a\n", "a line that is too long\n", "b\n"] {
            file.append(line).unwrap();
            assert!(fs::read_to_string(&path).unwrap().ends_with(line));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "b\n");
    }
}
