//! Named arrays in an archive of NumPy, as a spec names them.

use super::{read_names, read_path};
use crate::dataset::npz::Files;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

impl Section for Files<String> {
    type Message = v1::NpzDataset;
    const NAME: &str = "npz";

    fn read(message: &v1::NpzDataset, mut fields: Fields<'_>) -> Option<Self> {
        let v1::NpzDataset { path, inputs, target } = message.clone();
        let path = read_path("path", &path, &mut fields);
        let (inputs, target) = read_names(inputs, target, &mut fields);
        fields.done(Self { path, inputs, target })
    }

    fn to_proto(&self) -> v1::NpzDataset {
        v1::NpzDataset { path: self.path.clone(), inputs: self.inputs.clone(), target: self.target.clone() }
    }
}
