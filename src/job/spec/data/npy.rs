//! Two NumPy arrays, a file each, as a spec names them.

use super::{read_path, read_target};
use crate::dataset::npy::Files;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

impl Section for Files<String> {
    type Message = v1::NpyDataset;
    const NAME: &str = "npy";

    fn read(message: &v1::NpyDataset, mut fields: Fields<'_>) -> Option<Self> {
        let input = read_path("input", &message.input, &mut fields);
        let target = read_target("target", &message.target, &mut fields);
        fields.done(Self { input, target })
    }

    fn to_proto(&self) -> v1::NpyDataset {
        v1::NpyDataset { input: self.input.clone(), target: self.target.clone().unwrap_or_default() }
    }
}
