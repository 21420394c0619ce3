//! GPUs that tests make up: a library of NVML's interface, built from `tests/native/nvml.cpp`, and
//! what it tells.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use super::daemon::Setup;

/// Puts the library into a folder, built with these switches of the compiler.
pub(crate) fn build(folder: &Path, switches: &[&str]) -> PathBuf {
    // Compiled once: many tests need it.
    static BUILT: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let library = folder.join("libnvidia-ml.so.1");
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = built.entry(switches.join(" ")).or_insert_with(|| {
        let mut compiler = Command::new("c++");
        compiler.args(["-std=c++17", "-O1", "-shared", "-fPIC"]).args(switches);
        let made = compiler.arg("-o").arg(&library).arg("tests/native/nvml.cpp").status();
        assert!(made.unwrap().success());
        fs::read(&library).unwrap()
    });
    fs::write(&library, bytes).unwrap();
    library
}

/// GPUs whose readings stand in a file, which a test may change at any time.
pub(crate) struct FakeGpus {
    folder: TempDir,
    library: PathBuf,
}

impl FakeGpus {
    /// A machine as the scenario says.
    pub(crate) fn new(scenario: &str) -> Self {
        Self::built(scenario, &[])
    }

    /// The same with a library that was built with switches.
    pub(crate) fn built(scenario: &str, switches: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = build(folder.path(), switches);
        let gpus = Self { folder, library };
        gpus.tell(scenario);
        gpus
    }

    /// From now on the machine is as this scenario says.
    pub(crate) fn tell(&self, scenario: &str) {
        let aside = self.folder.path().join("aside");
        fs::write(&aside, scenario).unwrap();
        fs::rename(aside, self.path("scenario")).unwrap();
    }

    /// A daemon that watches these GPUs ten times a second.
    pub(crate) fn setup(&self) -> Setup {
        self.watched_by(Setup::new())
    }

    /// The same of any daemon.
    pub(crate) fn watched_by(&self, setup: Setup) -> Setup {
        setup
            .env("NVML_FAKE", self.path("scenario"))
            .set("gpu.nvml_library", self.library.to_str().unwrap())
            .set("gpu.sample_interval", "100ms")
    }

    /// A file in a folder of its own; `scenario` is what the library reads.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// The uuid of the GPU of that number in `gpus`.
pub(crate) fn uuid(index: usize) -> String {
    format!("GPU-00000000-0000-4000-8000-{index:012}")
}

/// So many GPUs with 80 GB, of which each tells the usual.
pub(crate) fn gpus(count: usize) -> String {
    let mut text = "driver 590.48.01\nnvml 13.590.48.01\ncuda 13010\n".to_owned();
    for index in 0..count {
        let readings = [
            ("util", 50_i64),
            ("memutil", 10),
            ("total", 80_000_000_000),
            ("used", 1_000_000_000),
            ("reserved", 500_000_000),
            ("power", 300_000),
            ("limit", 700_000),
            ("energy", 5_000_000),
            ("temp", 60),
            ("clock.1", 1980),
            ("reasons", 4),
            ("pstate", 0),
            ("ecc", 1),
            ("field.230", 0),
        ];
        text += &format!("gpu {} NVIDIA_H100_80GB_HBM3\n", uuid(index));
        for (key, value) in readings {
            text += &format!("set {index} {key} {value}\n");
        }
    }
    text
}
