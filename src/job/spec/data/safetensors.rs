//! Named arrays in safetensors files, as a spec names them.

use super::{files_to_proto, read_files, read_names};
use crate::dataset::named_arrays::Files;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

impl Section for Files<String> {
    type Message = v1::SafetensorsDataset;
    const NAME: &str = "safetensors";

    fn read(message: &v1::SafetensorsDataset, mut fields: Fields<'_>) -> Option<Self> {
        let v1::SafetensorsDataset { path, paths, inputs, target } = message.clone();
        let paths = read_files(["path", "paths"], &path, &paths, &mut fields);
        let (inputs, target) = read_names(inputs, target, &mut fields);
        fields.done(Self { paths, inputs, target })
    }

    fn to_proto(&self) -> v1::SafetensorsDataset {
        let (path, paths) = files_to_proto(&self.paths);
        v1::SafetensorsDataset { path, paths, inputs: self.inputs.clone(), target: self.target.clone() }
    }
}
