//! A folder of images, as a spec names it.

use super::read_path;
use crate::dataset::image_folder::{Files, Fit};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// The most pixels of a side.
const MAX_SIDE: u32 = 4096;

impl Section for Files<String> {
    type Message = v1::ImageFolderDataset;
    const NAME: &str = "image_folder";

    fn read(message: &v1::ImageFolderDataset, mut fields: Fields<'_>) -> Option<Self> {
        let v1::ImageFolderDataset { path, size, channels, .. } = message;
        let path = read_path("path", path, &mut fields);
        let size = match **size {
            [] => None,
            [side] => Some([side, side]),
            [height, width] => Some([height, width]),
            _ => {
                fields.wrong("size", "has more than two entries; name the height and the width");
                None
            }
        };
        for (place, side) in size.into_iter().flatten().enumerate().take(message.size.len()) {
            let is_right = (1..=MAX_SIDE).contains(&side);
            fields.demand(&format!("size[{place}]"), is_right, side, &format!("1 to {MAX_SIDE}"));
        }
        let channels = channels.unwrap_or(3);
        fields.demand("channels", matches!(channels, 1 | 3), channels, "1 for grey or 3 for red, green and blue");
        let fit = match message.fit() {
            v1::ImageFit::Unspecified | v1::ImageFit::Crop => Fit::Crop,
            v1::ImageFit::Stretch => Fit::Stretch,
        };
        if message.fit() != v1::ImageFit::Unspecified && size.is_none() {
            fields.wrong("fit", "is set, and size is not; without a size images stay as they are");
        }
        fields.done(Self { path, size, channels: channels as u8, fit })
    }

    fn to_proto(&self) -> v1::ImageFolderDataset {
        let fit = match self.fit {
            _ if self.size.is_none() => v1::ImageFit::Unspecified,
            Fit::Crop => v1::ImageFit::Crop,
            Fit::Stretch => v1::ImageFit::Stretch,
        };
        v1::ImageFolderDataset {
            path: self.path.clone(),
            size: self.size.iter().flatten().copied().collect(),
            channels: Some(self.channels.into()),
            fit: fit.into(),
        }
    }
}
