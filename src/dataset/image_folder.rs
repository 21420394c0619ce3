//! A set of images in a folder, JPEG and PNG files: a folder in it is a class, or a table lists the
//! images with their targets.
//!
//! Images are decoded when they are asked for, since they take many times their bytes. The folder
//! stays open, and all files are opened below it, without following links.

mod decode;
mod images;
mod list;
mod listed;
mod planes;
mod resize;
mod walked;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::images::{Images, Names};
pub(super) use self::list::is_image;
use self::list::{List, Wrong};
use self::listed::Listed;
pub use self::listed::Listing;
use self::walked::Walked;
use super::{Content, DataFile, Depth, Find, Format, Problem, Reading};

/// The field of the folder.
const PATH: &str = "path";
/// That of the size.
const SIZE: &str = "size";
/// The name of the input, as that of other images.
const IMAGES: &str = "images";
/// The name of the target, where folders are classes.
const LABELS: &str = "labels";

/// Mistakes of images that are told.
const MOST_TOLD: usize = 10;

/// A folder of images, and how they become inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files<P> {
    /// The folder.
    pub path: P,
    /// The pixels of images, height and width; None where all have the same.
    pub size: Option<[u32; 2]>,
    /// 1 for grey, 3 for red, green and blue.
    pub channels: u8,
    /// How images of another shape become that size.
    pub fit: Fit,
    /// The tables that list the images; None where each folder is a class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listing: Option<Listing<P>>,
}

/// How images of another shape become a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// They cover it, and the middle is taken.
    Crop,
    /// Height and width change apart.
    Stretch,
}

impl<P> Format<P> for Files<P> {
    type With<Q> = Files<Q>;

    fn files(&self) -> Vec<(&'static str, &P)> {
        let tables = self.listing.iter().flat_map(Listing::files);
        [(PATH, &self.path)].into_iter().chain(tables).collect()
    }

    fn locate<Q>(&self, find: &mut dyn Find<P, Q>) -> Option<Files<Q>> {
        let Self { path, size, channels, fit, listing } = self;
        let path = find.folder(PATH, path);
        let listing = listing.as_ref().map(|listing| listing.locate(find));
        let listing = match listing {
            Some(found) => Some(found?),
            None => None,
        };
        Some(Files { path: path?, size: *size, channels: *channels, fit: *fit, listing })
    }

    fn read(&self, files: &[DataFile], reading: &Reading<'_>) -> Result<Box<dyn Content>, Vec<Problem>> {
        let [data, tables @ ..] = files else { unreachable!("a set of images has a folder") };
        let told = |path: &str, error: &io::Error| vec![unreadable(&below(data.path(), path), error)];
        let folder = data.folder().map_err(|error| told("", &error))?;
        let is_judged = reading.depth == Depth::Judge;
        let images = |names| {
            let trained = reading.known.and_then(|known| known.image_size);
            let images = Images::new(folder.clone(), data.path().to_owned(), names, self, trained)?;
            if is_judged {
                images.judge_sample(reading.wanted)?;
            }
            Ok::<_, Vec<Problem>>(images)
        };
        if let Some(listing) = &self.listing {
            let tables = listing.read(tables, reading)?;
            let images = images(Names::Listed(tables.table().clone()))?;
            return Ok(Box::new(Listed::new(tables, images, is_judged)));
        }
        let list = List::of(folder, reading.may_lack_target, reading.wanted).map_err(|wrong| match wrong {
            Wrong::Unreadable(path, error) => told(&path, &error),
            Wrong::Found(path, what) => vec![Problem::of_file(PATH, &below(data.path(), &path), what)],
            Wrong::Others(others, count) => {
                let more = count.saturating_sub(others.len() as u64);
                let last = others.len().saturating_sub(1);
                let told = others.into_iter().enumerate().map(|(place, (path, mut what))| {
                    if place == last && more > 0 {
                        what += &format!(" (and {more} more such files)");
                    }
                    Problem::of_file(PATH, &below(data.path(), &path), what)
                });
                told.collect()
            }
        })?;
        Ok(Box::new(Walked::new(images(Names::Walked(list))?, is_judged)))
    }
}

/// A path below the folder; the folder's own where it is empty.
fn below(root: &Path, path: &str) -> PathBuf {
    if path.is_empty() { root.to_owned() } else { root.join(path) }
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    Problem::unreadable(PATH, path, error)
}

#[cfg(test)]
mod tests;
