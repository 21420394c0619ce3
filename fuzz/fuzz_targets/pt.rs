//! `.pt` files: what is read costs memory in proportion to the file, lies within it, and comes back
//! the same from being written again.
//!
//! The first byte chooses between a file as it is, and a pickle for which an archive is made; the
//! second tells how many bytes each of its storages has.

#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use rawzip::ZipArchiveWriter;
use torchd::tensor_file::{TensorFile, Values, bytes_to_judge, judge_values, pt};
use torchd_fuzz::memory::bounded;

/// More storages are not needed to reach everything.
const STORAGES: usize = 20;

/// An archive of this pickle, and of storages that hold ones.
fn archive(pickle: &[u8], storage_bytes: u8) -> Vec<u8> {
    let mut archive = ZipArchiveWriter::new(Vec::new());
    let mut put = |name: &str, content: &[u8]| {
        let (mut entry, config) = archive.new_file(name).start().unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(content).unwrap();
        let (_, summary) = writer.finish().unwrap();
        entry.finish(summary).unwrap();
    };
    put("a/data.pkl", pickle);
    for number in 0..STORAGES {
        put(&format!("a/data/{number}"), &vec![1; usize::from(storage_bytes)]);
    }
    archive.finish().unwrap()
}

fuzz_target!(|data: &[u8]| {
    let [mode, storage_bytes, rest @ ..] = data else { return };
    let bytes = if mode % 2 == 0 { rest.to_vec() } else { archive(rest, *storage_bytes) };
    // The directory is read through a buffer of 200 kB.
    let most = (1 << 20) + 1024 * bytes.len();
    let file = match bounded(most, || TensorFile::read_from(&bytes, bytes.len() as u64)) {
        Ok(file) => file,
        Err(problem) => return assert!(!problem.to_string().is_empty()),
    };
    let end = bytes.len() as u64;
    let mut kept: u64 = 0;
    for tensor in &file.tensors {
        let extent = tensor.extent();
        assert!(extent.start <= extent.end && extent.end <= end, "{tensor:?}");
        // Only what repeats itself can be larger than the file.
        let is_repeated =
            tensor.shape.iter().zip(&tensor.layout.strides).any(|(&size, &stride)| size > 1 && stride == 0);
        assert!(is_repeated || tensor.size_bytes() <= end, "{tensor:?}");
        kept = kept.saturating_add(tensor.size_bytes());
    }
    // A caller that reads values has compared the shape with a model's.
    if kept > 1 << 20 || bytes_to_judge(&file.tensors) > 1 << 20 {
        return;
    }
    let _ = judge_values(&file.tensors, Values::Finite, &bytes);
    let values: Vec<_> = file.tensors.iter().map(|tensor| tensor.read(&bytes).unwrap()).collect();
    let entries = file.tensors.iter().enumerate().map(|(storage, tensor)| pt::Entry {
        name: tensor.name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        storage,
    });
    // A safetensors file holds types that PyTorch has not.
    let entries: Vec<_> = entries.filter(|entry| entry.dtype.torch_name().is_some()).collect();
    let written = pt::write(Vec::new(), &entries, |storage, out| out.write_all(&values[storage])).unwrap();
    let again = TensorFile::read_from(&written, written.len() as u64);
    if entries.is_empty() {
        return;
    }
    let again = again.unwrap();
    assert_eq!((again.tensors.len(), again.state_dicts.len()), (entries.len(), 0));
    for (entry, tensor) in entries.iter().zip(&again.tensors) {
        assert_eq!((&entry.name, entry.dtype, &entry.shape), (&tensor.name, tensor.dtype, &tensor.shape));
        assert_eq!(tensor.read(&written).unwrap(), values[entry.storage]);
    }
});
