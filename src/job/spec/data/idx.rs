//! Grey images and labels in a pair of IDX files, as a spec names them.

use super::{read_path, read_target};
use crate::dataset::idx::Files;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

impl Section for Files<String> {
    type Message = v1::IdxDataset;
    const NAME: &str = "idx";

    fn read(message: &v1::IdxDataset, mut fields: Fields<'_>) -> Option<Self> {
        let images = read_path("images", &message.images, &mut fields);
        let labels = read_target("labels", &message.labels, &mut fields);
        fields.done(Self { images, labels })
    }

    fn to_proto(&self) -> v1::IdxDataset {
        v1::IdxDataset { images: self.images.clone(), labels: self.labels.clone().unwrap_or_default() }
    }
}
