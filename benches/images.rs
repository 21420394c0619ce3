//! Images of a folder a second and core, beside torchvision's ImageFolder with Pillow: JPEG files
//! of 224x224 pixels as they are, and of 500x375 pixels resized and cropped to 224x224.
//!
//! Python makes the files. Both read the same ones in turns, on one thread each, and the time of
//! their processors counts. `.pytorch` is what `make pytorch` fetches; PYTHON names another one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot run stops")]

use std::path::Path;
use std::process::Command;

use nix::sys::resource::{UsageWho, getrusage};
use torchd::dataset::image_folder::{self, Fit};
use torchd::dataset::{DataFile, Files, HostBatch, OpenFiles, Selection};

const IMAGES: usize = 600;
const ROUNDS: usize = 5;
const BATCH: usize = 50;

/// Colours that change slowly with a little noise, as those of photographs do.
const MAKE: &str = r#"
import numpy as np, pathlib, sys
from PIL import Image
folder, count, width, height = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:])
draw = np.random.default_rng(1)
for number in range(count):
    coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    fine = np.asarray(coarse.resize((width, height), Image.BICUBIC)).astype(np.float32)
    image = np.clip(fine + draw.normal(0, 6, fine.shape), 0, 255).astype(np.uint8)
    place = folder / f"class {number % 4}"
    place.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(place / f"{number:04}.jpg", quality=90)
"#;

const READ: &str = r#"
import sys, time, torch
from torchvision import datasets, transforms
torch.set_num_threads(1)
resize = [transforms.Resize(224), transforms.CenterCrop(224)] if sys.argv[2] == "resize" else []
images = datasets.ImageFolder(sys.argv[1], transforms.Compose([*resize, transforms.PILToTensor()]))
images[0]
begun = time.process_time()
for image, label in images:
    pass
print(len(images) / (time.process_time() - begun))
"#;

fn python(code: &str, arguments: &[&str]) -> String {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| ".pytorch/bin/python".into());
    let done = Command::new(python).args(["-c", code]).args(arguments).env("OMP_NUM_THREADS", "1").output();
    let done = done.expect("Python with torchvision: make pytorch");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}

/// Seconds that processors have worked for this process.
fn worked() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the usage of this process");
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

fn read(folder: &Path, size: Option<[u32; 2]>) -> f64 {
    let path = folder.canonicalize().expect("the folder");
    let opened = OpenFiles::of([DataFile::open_folder(&path).expect("the folder")]);
    let files = image_folder::Files { path, size, channels: 3, fit: Fit::Crop, listing: None };
    let sets = Selection::of(Files::ImageFolder(files)).open(&opened, None);
    let source = sets.unwrap_or_else(|faults| panic!("{faults:?}")).train;
    let mut batch = HostBatch::default();
    let begun = worked();
    for first in (0..IMAGES).step_by(BATCH) {
        let places: Vec<u64> = (first..first + BATCH).map(|place| place as u64).collect();
        source.fill(&places, &mut batch).expect("images");
    }
    IMAGES as f64 / (worked() - begun)
}

fn main() {
    for (name, width, height, size) in [("224x224", "224", "224", None), ("500x375", "500", "375", Some([224, 224]))] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().to_str().expect("a path of text");
        python(MAKE, &[place, &IMAGES.to_string(), width, height]);
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let how = if size.is_some() { "resize" } else { "as they are" };
            let theirs: f64 = python(READ, &[place, how]).trim().parse().expect("a number");
            let ours = read(folder.path(), size);
            rounds.push((ours / theirs, ours, theirs));
        }
        rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (ratio, ours, theirs) = rounds[ROUNDS / 2];
        println!(
            "JPEG {name}: {ours:.0} images/s and core, torchvision with Pillow {theirs:.0}: {ratio:.2} times (median of \
             {ROUNDS} rounds of {IMAGES}; {:.2} to {:.2})",
            rounds[0].0,
            rounds[ROUNDS - 1].0
        );
    }
}
