//! The container of PyTorch 2.7: the program beside two `.pt` files, one with the state dict and
//! one with the constants. Later versions write archives. (PyTorch 2.7, torch/export/__init__.py,
//! save)

use super::archive::{Archive, Model};
use super::problem::Result;
use super::program::{Input, Program};
use super::stored::{Stored, Tensors};
use crate::tensor_file::{Part, ReaderAt, TensorFile, archive as zip};

/// The program, by which the container is known.
pub(super) const PROGRAM: &str = "serialized_exported_program.json";
const STATE: &str = "serialized_state_dict.pt";
const CONSTANTS: &str = "serialized_constants.pt";

/// Reads a container; its only model is called as in an archive of `torch.export.save`.
pub(super) fn read(entries: zip::Archive, source: &dyn ReaderAt) -> Result<Archive> {
    let program = Model::program(&entries, source, PROGRAM, PROGRAM)?;
    let weights = tensors(&entries, source, STATE, &program)?;
    let constants = tensors(&entries, source, CONSTANTS, &program)?;
    let model = Model::new(program, weights, constants, PROGRAM)?;
    Ok(Archive { entries, folder: String::new(), models: [("model".to_owned(), model)].into() })
}

/// The tensors of a `.pt` file within the container; none where it has none.
fn tensors(entries: &zip::Archive, source: &dyn ReaderAt, name: &str, program: &Program) -> Result<Tensors> {
    let place = entries.place(name)?;
    let part = Part { whole: source, offset: place.start, size_bytes: place.end - place.start };
    let is_wanted = program.inputs.iter().any(|input| match input {
        Input::Parameter { .. } | Input::Buffer { is_persistent: true, .. } => name == STATE,
        Input::Buffer { is_persistent: false, .. } | Input::Constant { .. } => name == CONSTANTS,
        Input::User { .. } | Input::Fixed { .. } => false,
    });
    // A .pt file without tensors is refused by its reader.
    if !is_wanted {
        return Ok(Tensors::default());
    }
    let file = TensorFile::read_from(&part, part.size_bytes)?;
    let stored = file.tensors.into_iter().map(|mut tensor| {
        tensor.layout.offset += place.start;
        let parameter = program.inputs.iter().find_map(|input| match input {
            Input::Parameter { name, value } if *name == tensor.name => Some(*value),
            _ => None,
        });
        let requires_grad = parameter.and_then(|value| program.tensor(value)).is_some_and(|info| info.requires_grad);
        Stored { tensor, is_parameter: parameter.is_some(), requires_grad }
    });
    Ok(stored.collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::exported::tests::{archive_of, entries, file};
    use crate::exported::{judge, write};
    use crate::tensor_file::pt;

    /// The container that PyTorch 2.7 would have written of this archive.
    fn container(bytes: &[u8]) -> Vec<u8> {
        let archive = Archive::read(&bytes, bytes.len() as u64).unwrap();
        let model = &archive.models["model"];
        let stored: Vec<_> = model.weights.iter().map(|stored| &stored.tensor).collect();
        let entry = |(storage, tensor): (usize, &&crate::tensor_file::Tensor)| {
            let (name, dtype, shape) = (tensor.name.clone(), tensor.dtype, tensor.shape.clone());
            pt::Entry { name, dtype, shape, storage }
        };
        let listed: Vec<_> = stored.iter().enumerate().map(entry).collect();
        let values = |storage: usize, out: &mut dyn Write| out.write_all(&stored[storage].read(&bytes).unwrap());
        let state = pt::write(Vec::new(), &listed, values).unwrap();
        let program = entries(bytes).into_iter().find(|(name, _)| name == "models/model.json").unwrap().1;
        archive_of("", &[(PROGRAM.into(), program), (STATE.into(), state), (CONSTANTS.into(), Vec::new())])
    }

    #[test]
    fn a_container_of_2_7_is_read_as_an_archive_of_the_same_model() {
        let bytes = file("plain/train.pt2");
        let earlier = container(&bytes);
        let (one, other) = (Archive::read(&bytes, bytes.len() as u64), Archive::read(&earlier, earlier.len() as u64));
        let (one, other) = (one.unwrap(), other.unwrap());
        let (one, other) = (&one.models["model"], &other.models["model"]);
        let described = |model: &Model| {
            let each = model.weights.iter().map(|stored| {
                (stored.tensor.name.clone(), stored.to_string(), stored.is_parameter, stored.requires_grad)
            });
            each.collect::<Vec<_>>()
        };
        assert_eq!(described(other), described(one));
        for stored in one.weights.iter() {
            let found = other.weights.get(&stored.tensor.name).unwrap();
            assert_eq!(found.tensor.read(&earlier).unwrap(), stored.tensor.read(&bytes).unwrap());
        }
        let operators = crate::exported::tests::operators();
        assert_eq!(judge::train(other, &operators).unwrap().facts, judge::train(one, &operators).unwrap().facts);
    }

    #[test]
    fn a_container_is_not_written_and_a_damaged_one_not_read() {
        let earlier = container(&file("plain/train.pt2"));
        let archive = Archive::read(&earlier, earlier.len() as u64).unwrap();
        let told = write(Vec::new(), &archive, &earlier, |_| Ok(None)).unwrap_err().to_string();
        assert!(told.contains("the container of PyTorch 2.7"), "{told}");
        for cut in (0..earlier.len()).step_by(101) {
            assert!(Archive::read(&&earlier[..cut], cut as u64).is_err(), "{cut} bytes");
        }
        let mut state = earlier.clone();
        let pickle = state.windows(8).rposition(|bytes| bytes == b"data.pkl").unwrap();
        state[pickle] = b'x';
        assert!(Archive::read(&state, state.len() as u64).is_err());
    }
}
