//! A folder of images, as a spec names it.

use super::read_path;
use crate::dataset::csv;
use crate::dataset::image_folder::{Files, Fit, Listing};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1::{self, dataset::Format as Kind};

/// The most pixels of a side.
const MAX_SIDE: u32 = 4096;
/// The column of names, where none is named.
const IMAGE_COLUMN: &str = "path";

impl Section for Files<String> {
    type Message = v1::ImageFolderDataset;
    const NAME: &str = "image_folder";

    fn read(message: &v1::ImageFolderDataset, mut fields: Fields<'_>) -> Option<Self> {
        let v1::ImageFolderDataset { path, size, channels, table, image_column, .. } = message;
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
        let listing = match table {
            Some(table) => read_listing(table, image_column, &mut fields),
            None => {
                if !image_column.is_empty() {
                    fields.wrong("image_column", "is set, and table is not; name the table that lists the images");
                }
                None
            }
        };
        fields.done(Self { path, size, channels: channels as u8, fit, listing })
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
            table: self.listing.as_ref().map(|listing| listing.table.to_proto()),
            image_column: self.listing.as_ref().map(|listing| listing.column.clone()).unwrap_or_default(),
        }
    }
}

/// Gives images to use a model on the size and channels of those that the model was trained on, and
/// the column of their names, where they name none themselves.
pub(in crate::job::spec) fn take_over(test: &mut v1::Dataset, trained: &v1::Dataset) {
    let (Some(Kind::ImageFolder(test)), Some(Kind::ImageFolder(trained))) = (&mut test.format, &trained.format) else {
        return;
    };
    if test.size.is_empty() {
        test.size.clone_from(&trained.size);
        if test.fit() == v1::ImageFit::Unspecified {
            test.fit = trained.fit;
        }
    }
    test.channels = test.channels.or(trained.channels);
    if test.table.is_some() && test.image_column.is_empty() {
        test.image_column.clone_from(&trained.image_column);
    }
}

fn read_listing(table: &v1::CsvDataset, column: &str, fields: &mut Fields<'_>) -> Option<Listing<String>> {
    for (field, is_set) in [
        ("features", !table.features.is_empty()),
        ("ignore", !table.ignore.is_empty()),
        ("categorical", !table.categorical.is_empty()),
        ("inputs", !table.inputs.is_empty()),
    ] {
        if is_set {
            let what = "is set, and the images are the only inputs; leave it out: other columns are not read";
            fields.wrong(&format!("table.{field}"), what);
        }
    }
    let column = if column.is_empty() { IMAGE_COLUMN } else { column };
    if table.target == column || table.targets.iter().any(|target| target == column) {
        fields.wrong("image_column", format!("is {column:?}, which is a target as well"));
    }
    let table = csv::Files::read(table, fields.within("table"))?;
    Some(Listing { table, column: column.to_owned() })
}
