//! Pairs of IDX files, as a spec names them.

use super::{files_to_proto, read_files, read_target_files};
use crate::dataset::idx::Files;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

impl Section for Files<String> {
    type Message = v1::IdxDataset;
    const NAME: &str = "idx";

    fn read(message: &v1::IdxDataset, mut fields: Fields<'_>) -> Option<Self> {
        let v1::IdxDataset { images, labels, image_paths, label_paths } = message;
        let images = read_files(["images", "image_paths"], images, image_paths, &mut fields);
        let labels = read_target_files(["labels", "label_paths"], labels, label_paths, &mut fields);
        fields.done(Self { images, labels })
    }

    fn to_proto(&self) -> v1::IdxDataset {
        let (images, image_paths) = files_to_proto(&self.images);
        let (labels, label_paths) = self.labels.as_ref().map(files_to_proto).unwrap_or_default();
        v1::IdxDataset { images, labels, image_paths, label_paths }
    }
}
