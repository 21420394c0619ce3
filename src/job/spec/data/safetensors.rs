//! Named arrays in a safetensors file, as a spec names them.

use super::{read_names, read_path};
use crate::dataset::named_arrays::Files;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

impl Section for Files<String> {
    type Message = v1::SafetensorsDataset;
    const NAME: &str = "safetensors";

    fn read(message: &v1::SafetensorsDataset, mut fields: Fields<'_>) -> Option<Self> {
        let v1::SafetensorsDataset { path, inputs, target } = message.clone();
        let path = read_path("path", &path, &mut fields);
        let (inputs, target) = read_names(inputs, target, &mut fields);
        fields.done(Self { path, inputs, target })
    }

    fn to_proto(&self) -> v1::SafetensorsDataset {
        v1::SafetensorsDataset { path: self.path.clone(), inputs: self.inputs.clone(), target: self.target.clone() }
    }
}
