//! Headers of safetensors files: what is taken is what a plain reader of the format takes, costs no
//! more than the header, and comes back the same from being written again.
//!
//! The first byte chooses between a file as it is, and a header that gets its length in front and
//! that number of values behind.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use torchd::tensor_file::{TensorFile, Values, judge_values, safetensors};
use torchd_fuzz::memory::bounded;

fn file(header: &[u8], values: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, values].concat()
}

/// The tensors of a file as a JSON object, and its values.
fn plain(file: &[u8]) -> (Map<String, Value>, &[u8]) {
    let (length, rest) = file.split_first_chunk().unwrap();
    let (header, values) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut tensors: Map<_, _> = serde_json::from_slice(header).unwrap();
    tensors.remove("__metadata__");
    (tensors, values)
}

fuzz_target!(|data: &[u8]| {
    let [mode, count, rest @ ..] = data else { return };
    let bytes = if mode % 2 == 0 { rest.to_vec() } else { file(rest, &vec![0x7f; usize::from(*count)]) };
    let read = bounded((1 << 20) + 256 * bytes.len(), || safetensors::read(&bytes, bytes.len() as u64));
    let found = match read {
        Ok(found) => found,
        Err(problem) => return assert!(!problem.to_string().is_empty()),
    };
    let (tensors, values) = plain(&bytes);
    assert_eq!(found.len(), tensors.len());
    let mut end = 0;
    let mut again = Map::new();
    for tensor in &found {
        let told = &tensors[&tensor.name];
        assert_eq!((&told["dtype"], &told["shape"]), (&json!(tensor.dtype.name()), &json!(tensor.shape)));
        let offsets = json!([end, end + tensor.size_bytes()]);
        assert_eq!(told["data_offsets"], offsets, "one after the other");
        again.insert(
            tensor.name.clone(),
            json!({"dtype": tensor.dtype.name(), "shape": tensor.shape, "data_offsets": offsets}),
        );
        assert_eq!(tensor.read(&bytes).unwrap(), values[end as usize..][..tensor.size_bytes() as usize]);
        end += tensor.size_bytes();
    }
    assert_eq!(end, values.len() as u64);
    let has_nan = |dtype: &str, values: &[u8]| match dtype {
        "F32" => values.chunks(4).any(|bytes| !f32::from_le_bytes(bytes.try_into().unwrap()).is_finite()),
        "F64" => values.chunks(8).any(|bytes| !f64::from_le_bytes(bytes.try_into().unwrap()).is_finite()),
        _ => false,
    };
    let is_finite = found.iter().all(|tensor| !has_nan(tensor.dtype.name(), &tensor.read(&bytes).unwrap()));
    // The smaller types are judged as well.
    assert!(is_finite || judge_values(&found, Values::Finite, &bytes).is_err());
    let written = file(&serde_json::to_vec(&again).unwrap(), values);
    let read = TensorFile::read_from(&written, written.len() as u64);
    let read = read.unwrap().tensors;
    assert_eq!(read.len(), found.len());
    for (one, other) in read.iter().zip(&found) {
        assert_eq!((&one.name, one.dtype, &one.shape), (&other.name, other.dtype, &other.shape));
    }
});
