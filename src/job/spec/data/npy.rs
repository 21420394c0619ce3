//! NumPy arrays that have files of their own, as a spec names them.

use super::{files_to_proto, read_files, read_target_files};
use crate::dataset::npy::Files;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

impl Section for Files<String> {
    type Message = v1::NpyDataset;
    const NAME: &str = "npy";

    fn read(message: &v1::NpyDataset, mut fields: Fields<'_>) -> Option<Self> {
        let v1::NpyDataset { input, target, input_paths, target_paths } = message;
        let input = read_files(["input", "input_paths"], input, input_paths, &mut fields);
        let target = read_target_files(["target", "target_paths"], target, target_paths, &mut fields);
        fields.done(Self { input, target })
    }

    fn to_proto(&self) -> v1::NpyDataset {
        let (input, input_paths) = files_to_proto(&self.input);
        let (target, target_paths) = self.target.as_ref().map(files_to_proto).unwrap_or_default();
        v1::NpyDataset { input, target, input_paths, target_paths }
    }
}
