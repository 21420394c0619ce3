//! Cuts out of the event files of earlier attempts what a resumed one will write again.
//! TensorBoard's loaders differ in what they drop at a session START, so nothing is left for them
//! to drop.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use prost::Message;

use super::MARK;
use crate::proto::tensorboard::{Event, event::What};
use crate::record::{FrameError, Next, RecordReader};

/// Shortens the event files of a folder so that no event is beyond `step`, and every file ends with
/// a whole record. The steps of a file rise, so that what is cut is its end. A file that is left
/// without any value is removed.
pub fn cut_after(folder: &Path, step: i64) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_ours = path.file_name().is_some_and(|name| name.to_string_lossy().contains(MARK));
        if is_ours && path.is_file() {
            cut_file(&path, step)?;
        }
    }
    Ok(())
}

fn cut_file(path: &Path, step: i64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut reader = RecordReader::new(&file);
    let mut has_values = false;
    let end = loop {
        let before = reader.offset();
        let event = match reader.next() {
            Ok(Next::Record(data)) => Event::decode(data),
            Ok(Next::End | Next::Torn) | Err(FrameError::Damaged { .. }) => break before,
            Err(FrameError::Io(error)) => return Err(error),
        };
        // Readers cannot use anything behind a record that is not an event.
        let Ok(event) = event else { break before };
        let is_value = matches!(event.what, Some(What::Summary(_)));
        if is_value && event.step > step {
            break before;
        }
        has_values |= is_value;
    };
    if !has_values {
        return fs::remove_file(path);
    }
    if end < file.metadata()?.len() {
        file.set_len(end)?;
        file.sync_data()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::time::SystemTime;

    use super::super::{EventFileWriter, EventReader};
    use super::*;

    fn steps(folder: &Path) -> Vec<i64> {
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let events = paths.iter().flat_map(|path| EventReader::new(File::open(path).unwrap()).read_all().unwrap());
        events.filter(|event| matches!(event.what, Some(What::Summary(_)))).map(|event| event.step).collect()
    }

    #[test]
    fn nothing_beyond_the_step_stays_and_torn_ends_go() {
        let folder = tempfile::tempdir().unwrap();
        let write = |from: i64, to: i64| {
            let mut writer = EventFileWriter::create(folder.path(), from).unwrap();
            for step in from..=to {
                writer.scalar(SystemTime::now(), step, "loss/train", 1.0).unwrap();
            }
            writer.flush().unwrap();
            writer.path().to_owned()
        };
        let first = write(1, 5);
        OpenOptions::new().append(true).open(first).unwrap().write_all(b"torn").unwrap();
        write(6, 9);
        cut_after(folder.path(), 7).unwrap();
        assert_eq!(steps(folder.path()), [1, 2, 3, 4, 5, 6, 7]);
        cut_after(folder.path(), 4).unwrap();
        assert_eq!(steps(folder.path()), [1, 2, 3, 4]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a file without values is removed");
        write(5, 6);
        assert_eq!(steps(folder.path()), [1, 2, 3, 4, 5, 6]);
    }
}
