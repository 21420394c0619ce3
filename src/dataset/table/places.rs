//! The place of each row of a table: its file, and its line or row there.

use std::path::{Path, PathBuf};

/// The files of a table, and runs of rows that lie in successive lines.
#[derive(Debug, Default)]
pub(in crate::dataset) struct Places {
    files: Vec<PathBuf>,
    /// The first row of each run, its file, and its line.
    runs: Vec<(u64, u32, u64)>,
    /// The row that is next, and the line at which it would go on the run.
    next: (u64, u64),
}

impl Places {
    /// Begins with another file.
    pub(in crate::dataset) fn file(&mut self, path: &Path) {
        self.files.push(path.to_owned());
        // No line has this number, so that the next row begins a run.
        self.next.1 = u64::MAX;
    }

    /// Adds a row at that line of the file in hand.
    pub(in crate::dataset) fn add(&mut self, line: u64) {
        let (row, expected) = self.next;
        if line != expected {
            self.runs.push((row, self.files.len().saturating_sub(1) as u32, line));
        }
        self.next = (row + 1, line + 1);
    }

    /// Adds that many rows at successive lines.
    pub(in crate::dataset) fn add_all(&mut self, line: u64, count: u64) {
        if count > 0 {
            self.add(line);
            self.next = (self.next.0 + count - 1, self.next.1 + count - 1);
        }
    }

    /// The first file.
    pub(in crate::dataset) fn first_file(&self) -> &Path {
        self.files.first().map_or(Path::new(""), PathBuf::as_path)
    }

    /// The file and the line of a row.
    pub(in crate::dataset) fn of(&self, row: u64) -> (&Path, u64) {
        let run = self.runs.partition_point(|(first, ..)| *first <= row).saturating_sub(1);
        let Some(&(first, file, line)) = self.runs.get(run) else { return (self.first_file(), 0) };
        (self.files.get(file as usize).map_or(Path::new(""), PathBuf::as_path), line + row.saturating_sub(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_found_in_its_file_and_line() {
        let mut places = Places::default();
        places.file(Path::new("/a"));
        for line in [2, 3, 6, 7] {
            places.add(line);
        }
        places.file(Path::new("/b"));
        places.add_all(8, 3);
        places.add(12);
        assert_eq!(places.runs.len(), 4);
        let found: Vec<_> = (0..8).map(|row| places.of(row)).collect();
        let (a, b) = (Path::new("/a"), Path::new("/b"));
        assert_eq!(found, [(a, 2), (a, 3), (a, 6), (a, 7), (b, 8), (b, 9), (b, 10), (b, 12)]);
    }
}
