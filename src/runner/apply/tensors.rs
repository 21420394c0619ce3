//! Answers as arrays in a safetensors file, whose length is known before the first of them.
//!
//! The format: <https://github.com/huggingface/safetensors#format>. Arrays lie one behind the
//! other, and each batch is written into all of them, so that memory holds no more than a batch.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde_json::{Map, json};
use tch::Tensor;

use super::Sink;
use super::answers::{Answers, Layout};
use crate::failure::{Failure, Result};

/// A file that is being written.
pub(super) struct Arrays<'a> {
    file: &'a File,
    columns: Vec<Column>,
}

/// An array: where its next row goes.
struct Column {
    at: u64,
}

impl<'a> Arrays<'a> {
    /// Writes the header, for that many examples.
    pub(super) fn begin(file: &'a File, layout: &Layout, examples: u64) -> io::Result<Self> {
        let whole = |is_whole: bool| if is_whole { ("I64", 8) } else { ("F32", 4) };
        let mut arrays = vec![("predictions", whole(layout.is_whole()), layout.predictions.clone())];
        if let Some(target) = &layout.target {
            arrays.push(("targets", whole(layout.has_whole_targets()), target.shape.clone()));
        }
        arrays.extend(layout.probabilities.clone().map(|shape| ("probabilities", whole(false), shape)));
        arrays.extend(layout.target.as_ref().map(|_| ("loss", whole(false), Vec::new())));
        let (mut header, mut begins, mut end) = (Map::new(), Vec::new(), 0u64);
        for (name, (dtype, bytes), shape) in arrays {
            let shape: Vec<u64> = [examples].into_iter().chain(shape).collect();
            let begin = end;
            let values = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size));
            let behind = values.and_then(|values| values.checked_mul(bytes)?.checked_add(begin));
            end = behind.ok_or_else(|| io::Error::other("there are more answers than a file can hold"))?;
            header.insert(name.into(), json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}));
            begins.push(begin);
        }
        let mut header = serde_json::to_vec(&header)?;
        // The arrays begin at a multiple of eight bytes.
        header.resize(header.len().next_multiple_of(8), b' ');
        let first = 8 + header.len() as u64;
        file.write_all_at(&(header.len() as u64).to_le_bytes(), 0)?;
        file.write_all_at(&header, 8)?;
        let columns = begins.into_iter().map(|begin| Column { at: first + begin }).collect();
        Ok(Self { file, columns })
    }
}

impl Sink for Arrays<'_> {
    fn add(&mut self, answers: &Answers) -> Result<()> {
        // Such a file holds no text: its rows are in the order of the set.
        let Answers { names: _, predictions, probabilities, targets, loss } = answers;
        let arrays = [Some(predictions), targets.as_ref(), probabilities.as_ref(), loss.as_ref()];
        for (column, array) in self.columns.iter_mut().zip(arrays.into_iter().flatten()) {
            let bytes = bytes(array)?;
            let written = self.file.write_all_at(&bytes, column.at);
            written.map_err(Failure::storage("the predictions could not be written"))?;
            column.at += bytes.len() as u64;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The values of a tensor on the CPU, as they lie in memory.
fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let count = tensor.numel();
    let mut bytes = vec![0; count * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, count)?;
    Ok(bytes)
}
