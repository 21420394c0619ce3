//! Images of a folder a second and core, beside torchvision's ImageFolder with Pillow: JPEG files
//! of 224x224 pixels as they are, and of 500x375 pixels resized and cropped to 224x224.
//!
//! The peer makes the files (`benches/images.py`). Both read the same ones by turns, on one thread
//! each, and the time of their processors counts. PYTHON names another interpreter than
//! `.pytorch`'s.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot run stops")]

#[path = "harness/peer.rs"]
mod peer;
#[path = "harness/python.rs"]
mod python;
#[path = "harness/rounds.rs"]
mod rounds;

use std::ffi::OsStr;
use std::path::Path;

use peer::{Peer, by_turns, worked_for};
use python::python;
use torchd::dataset::image_folder::{self, Fit};
use torchd::dataset::{DataFile, Files, HostBatch, OpenFiles, Selection};

const IMAGES: usize = 600;
const BATCH: usize = 50;

/// Seconds to hand out all images once.
fn read(folder: &Path, size: Option<[u32; 2]>) -> f64 {
    let path = folder.canonicalize().expect("the folder");
    let opened = OpenFiles::of([DataFile::open_folder(&path).expect("the folder")]);
    let files = image_folder::Files { path, size, channels: 3, fit: Fit::Crop, listing: None };
    let sets = Selection::of(Files::ImageFolder(files)).open(&opened, None);
    let source = sets.unwrap_or_else(|faults| panic!("{faults:?}")).train;
    let mut batch = HostBatch::default();
    worked_for(|| {
        for first in (0..IMAGES).step_by(BATCH) {
            let places: Vec<u64> = (first..first + BATCH).map(|place| place as u64).collect();
            source.fill(&places, &mut batch).expect("images");
        }
    })
}

fn main() {
    let chosen = std::env::var("IMAGES").ok();
    for (name, width, height, size) in [("224x224", "224", "224", None), ("500x375", "500", "375", Some([224, 224]))] {
        if chosen.as_ref().is_some_and(|chosen| chosen != name) {
            continue;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().as_os_str();
        let made =
            python("PYTHON", "images.py").arg("make").arg(place).args([&IMAGES.to_string(), width, height]).status();
        assert!(made.expect("Python with torchvision: make pytorch").success());
        let how = if size.is_some() { "resized" } else { "as-they-are" };
        let mut peer = Peer::start(python("PYTHON", "images.py"), &[OsStr::new("read"), place, OsStr::new(how)]);
        let unit = |seconds: f64| format!("{:.0} images/s and core", IMAGES as f64 / seconds);
        let ours = || read(folder.path(), size);
        by_turns(&format!("JPEG {name}, {how}"), unit, ours, &mut peer, &[("ImageFolder with Pillow", "")]);
    }
}
