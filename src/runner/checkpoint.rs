//! Weights on disk, as safetensors with PyTorch's names: `safetensors.torch.load_file` and `load_state_dict` take them.

use std::collections::HashMap;
use std::fs;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tch::{Device, Kind};
use torchd::journal::{JobFolder, sync_folder, write_whole};
use torchd::proto::v1::{CheckpointSaved, JobEndReason};

use crate::failure::{Failure, Result};
use crate::model::Network;

/// The file in a checkpoint's folder, and among the artifacts.
pub(crate) const MODEL_FILE: &str = "model.safetensors";

/// Saves a checkpoint. Its folder is whole or absent: it is made aside and renamed when the disk has it.
pub(crate) fn save(folder: &JobFolder, network: &Network, step: u64) -> Result<CheckpointSaved> {
    let bytes = encode(network)?;
    let name = JobFolder::checkpoint_name(step);
    let place = folder.path().join(&name);
    let aside = folder.checkpoints().join(format!(".step-{step}"));
    let write = || {
        fs::create_dir_all(&aside)?;
        write_whole(&aside.join(MODEL_FILE), &bytes)?;
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::rename(&aside, &place)?;
        sync_folder(&folder.checkpoints())
    };
    write().map_err(Failure::storage(format!("the checkpoint {name} could not be saved")))?;
    Ok(CheckpointSaved { step, path: name, size_bytes: bytes.len() as u64 })
}

/// Saves the final weights.
pub(crate) fn save_result(folder: &JobFolder, network: &Network) -> Result<()> {
    let path = folder.artifacts().join(MODEL_FILE);
    write_whole(&path, &encode(network)?).map_err(Failure::storage("the final weights could not be saved"))
}

fn encode(network: &Network) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for (name, tensor) in &network.parameters {
        let tensor = tensor.detach().f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
        let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
        let mut bytes = vec![0; tensor.numel() * 4];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        tensors.push((*name, shape, bytes));
    }
    let internal = |error| Failure::new(JobEndReason::Internal, format!("safetensors: {error}"));
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(internal)?)))
        .collect::<Result<Vec<_>>>()?;
    // What Hugging Face's loaders look for. One entry: the library writes several in an order that changes from run to run.
    let about = HashMap::from([("format".into(), "pt".into())]);
    safetensors::serialize(views, Some(about)).map_err(internal)
}

/// Puts weights from a file into a network.
#[cfg(test)]
pub(crate) fn load(path: &std::path::Path, network: &Network) -> Result<()> {
    let bytes = fs::read(path).map_err(Failure::storage(path.display()))?;
    let file = safetensors::SafeTensors::deserialize(&bytes)
        .map_err(|error| Failure::new(JobEndReason::Internal, error.to_string()))?;
    for (name, parameter) in &network.parameters {
        let view = file.tensor(name).map_err(|error| Failure::new(JobEndReason::Internal, error.to_string()))?;
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        let values = tch::Tensor::f_from_data_size(view.data(), &shape, Kind::Float)?;
        tch::no_grad(|| parameter.shallow_clone().f_copy_(&values))?;
    }
    Ok(())
}
