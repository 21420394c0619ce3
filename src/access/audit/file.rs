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
    /// It is full, and no other can be begun.
    is_stuck: bool,
}

impl Rotated {
    /// Goes on in the file where it is there.
    pub(super) fn open(path: PathBuf, max_bytes: u64, files: usize) -> io::Result<Self> {
        let file = append_to(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, max_bytes, files: files.max(1), file, bytes, is_stuck: false })
    }

    /// Adds a line, whole or not at all as far as the file system allows. Where no new file can be
    /// begun the full one takes as much again.
    pub(super) fn append(&mut self, line: &str) -> io::Result<()> {
        let length = line.len() as u64;
        if self.bytes > 0 && self.bytes + length > self.max_bytes {
            let rotated = self.rotate();
            if let Err(error) = &rotated
                && !self.is_stuck
            {
                tracing::error!(%error, path = %self.path.display(), "the audit's file is full, and no other can be begun; it takes as much again");
            }
            self.is_stuck = rotated.is_err();
            if self.bytes + length > 2 * self.max_bytes {
                rotated?;
            }
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

    /// Begins a new file, which is made first: without it nothing gets another name.
    fn rotate(&mut self) -> io::Result<()> {
        let named = |end: &str| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{end}"));
            PathBuf::from(name)
        };
        let next = named("new");
        let _ = fs::remove_file(&next);
        let file = append_to(&next)?;
        for number in (1..self.files).rev() {
            let from = if number == 1 { self.path.clone() } else { named(&(number - 1).to_string()) };
            match fs::rename(&from, named(&number.to_string())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&next, &self.path)?;
        (self.file, self.bytes) = (file, 0);
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
    fn where_no_file_can_be_made_nothing_is_renamed_and_the_full_one_takes_as_much_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut file = Rotated::open(path.clone(), 12, 3).unwrap();
        fs::write(folder.path().join("audit.jsonl.1"), "older\n").unwrap();
        // A folder in its place cannot be removed.
        fs::create_dir_all(folder.path().join("audit.jsonl.new/x")).unwrap();
        let appended: Vec<bool> = (0..5).map(|number| file.append(&format!("line{number}\n")).is_ok()).collect();
        assert_eq!(appended, [true, true, true, true, false]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "line0\nline1\nline2\nline3\n");
        assert_eq!(fs::read_to_string(folder.path().join("audit.jsonl.1")).unwrap(), "older\n");
        fs::remove_dir_all(folder.path().join("audit.jsonl.new")).unwrap();
        file.append("line5\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "line5\n");
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
