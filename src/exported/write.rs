//! Writes an archive once more with other values of its tensors, as `torch.export.load` takes it:
//! the result of training.
//!
//! Everything else stays as it was, but for torchd's own record of a step, whose numbers are those
//! of the old values.

use std::collections::HashMap;
use std::io::{self, Write};

use rawzip::ZipArchiveWriter;

use super::archive::Archive;
use super::stored::Stored;
use crate::tensor_file::{Problem, ReaderAt, Tensor};

/// Entries that tell of a step with the old values. (`python/torchd_export.py`)
const OLD_STEP: [&str; 2] = ["extra/torchd.json", "data/torchd/"];

/// Writes the archive that `source` holds. `values` gives the values of a tensor by its name, row
/// by row and in little-endian order; None for one that keeps its own. It is asked once for each
/// name and storage.
///
/// # Errors
/// Those of reading, of writing and of `values`; where that gives another number of bytes; and for
/// the container of PyTorch 2.7.
pub fn write<W: Write>(
    out: W,
    archive: &Archive,
    source: &dyn ReaderAt,
    mut values: impl FnMut(&str) -> io::Result<Option<Vec<u8>>>,
) -> io::Result<W> {
    if !archive.can_be_written() {
        let what = "it is the container of PyTorch 2.7, which is not written: export the model again with 2.8 or newer";
        return Err(io::Error::new(io::ErrorKind::Unsupported, what));
    }
    let mut storages: HashMap<(u64, u64), Vec<&Stored>> = HashMap::new();
    for model in archive.models.values() {
        for stored in model.weights.iter().chain(model.constants.iter()) {
            let layout = &stored.tensor.layout;
            let named = storages.entry((layout.offset, layout.storage_bytes)).or_default();
            // Both graphs list the same tensors.
            if named.iter().all(|known| known.tensor != stored.tensor) {
                named.push(stored);
            }
        }
    }
    let mut written = ZipArchiveWriter::new(out);
    for name in archive.entries.names() {
        let own = name.strip_prefix(&archive.folder).unwrap_or(name);
        if OLD_STEP.iter().any(|old| own.starts_with(old)) {
            continue;
        }
        let place = archive.entries.place(name).map_err(unread)?;
        let mut bytes = archive.entries.bytes(source, name, u64::MAX).map_err(unread)?;
        for stored in storages.get(&(place.start, place.end - place.start)).into_iter().flatten() {
            if let Some(values) = values(&stored.tensor.name)? {
                scatter(&stored.tensor, &values, &mut bytes)?;
            }
        }
        put(&mut written, name, &bytes)?;
    }
    written.finish().map_err(io::Error::other)
}

fn unread(problem: Problem) -> io::Error {
    match problem {
        Problem::Unreadable(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, format!("the archive {other}")),
    }
}

fn put<W: Write>(archive: &mut ZipArchiveWriter<W>, name: &str, content: &[u8]) -> io::Result<()> {
    let (mut entry, config) = archive.new_file(name).start().map_err(io::Error::other)?;
    let mut writer = config.wrap(&mut entry);
    writer.write_all(content)?;
    let (_, summary) = writer.finish().map_err(io::Error::other)?;
    entry.finish(summary).map_err(io::Error::other)?;
    Ok(())
}

/// Puts the values of a tensor, row by row, where they lie in its storage.
fn scatter(tensor: &Tensor, values: &[u8], storage: &mut [u8]) -> io::Result<()> {
    if values.len() as u64 != tensor.size_bytes() {
        let what = format!("{} bytes are given for {}, which has {}", values.len(), tensor.name, tensor.size_bytes());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    // Every value lies within the storage: that was judged when the archive was read.
    let width = (tensor.dtype.bits() / 8) as usize;
    let mut index = vec![0; tensor.shape.len()];
    for value in values.chunks_exact(width.max(1)) {
        let behind: u64 = index.iter().zip(&tensor.layout.strides).map(|(index, stride)| index * stride).sum();
        let at = (tensor.layout.first + behind) as usize * width;
        storage[at..at + width].copy_from_slice(value);
        for (index, &size) in index.iter_mut().zip(&tensor.shape).rev() {
            *index += 1;
            if *index < size {
                break;
            }
            *index = 0;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exported::tests::file;

    fn read(bytes: &[u8]) -> Archive {
        Archive::read(&bytes, bytes.len() as u64).unwrap()
    }

    fn value(archive: &Archive, bytes: &[u8], graph: &str, name: &str) -> Vec<u8> {
        archive.models[graph].weights.get(name).unwrap().tensor.read(&bytes).unwrap()
    }

    #[test]
    fn both_graphs_have_the_new_values_and_everything_else_stays() {
        let bytes = file("cnn/net.pt2");
        let archive = read(&bytes);
        let given = "head.weight";
        let new: Vec<u8> = value(&archive, &bytes, "train", given).iter().map(|byte| byte ^ 0x40).collect();
        let written = write(Vec::new(), &archive, &bytes, |name| Ok((name == given).then(|| new.clone()))).unwrap();
        let again = read(&written);
        for graph in ["train", "eval"] {
            for stored in archive.models[graph].weights.iter() {
                let name = &stored.tensor.name;
                let old = value(&archive, &bytes, graph, name);
                let expected = if name == given { &new } else { &old };
                assert_eq!(&value(&again, &written, graph, name), expected, "{graph} {name}");
            }
        }
        // Without the record of a step with the old values.
        let names = |archive: &Archive| archive.entries.names().map(str::to_owned).collect::<Vec<_>>();
        let mut expected = names(&archive);
        expected.retain(|name| !name.contains("torchd"));
        assert_eq!(names(&again), expected);
        assert!(expected.len() < names(&archive).len());
    }

    #[test]
    fn tied_weights_stay_tied_and_another_number_of_bytes_is_refused() {
        let bytes = file("gpt/net.pt2");
        let archive = read(&bytes);
        let old = value(&archive, &bytes, "train", "head.weight");
        let new: Vec<u8> = old.iter().map(|byte| byte ^ 1).collect();
        let tied = ["head.weight", "token.weight"];
        let written =
            write(Vec::new(), &archive, &bytes, |name| Ok(tied.contains(&name).then(|| new.clone()))).unwrap();
        let again = read(&written);
        let weights = &again.models["train"].weights;
        let [one, other] = tied.map(|name| weights.get(name).unwrap());
        assert!(one.is_tied_to(other));
        assert_eq!(value(&again, &written, "eval", "token.weight"), new);
        let told = write(Vec::new(), &archive, &bytes, |_| Ok(Some(vec![0; 3]))).unwrap_err().to_string();
        assert!(told.contains("3 bytes are given for "), "{told}");
    }
}
