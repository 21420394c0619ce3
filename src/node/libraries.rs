//! The facts about the system's libraries and devices that compatibility depends on.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use super::NodeSource;

/// Folders that loaders search on the systems that we know.
const FOLDERS: [&str; 4] = ["/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/lib64"];

/// Where NVIDIA's forward-compatibility packages lie.
const COMPAT: &str = "/usr/local/cuda/compat";

/// Facts about the system's libraries and devices; empty and None are not known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SystemLibraries {
    /// Version of the C library.
    pub glibc: String,
    /// Newest GLIBCXX version of the C++ library.
    pub glibcxx: String,
    /// Folder of a forward-compatibility package that the loader searches first.
    pub forward_compatibility_dir: String,
    /// The device of nvidia_uvm is there.
    pub nvidia_uvm: bool,
    /// Type of the virtual machine.
    pub node_type: String,
}

pub(super) fn read(source: &NodeSource) -> SystemLibraries {
    SystemLibraries {
        glibc: glibc(),
        glibcxx: glibcxx(source).unwrap_or_default(),
        forward_compatibility_dir: forward_compatibility_dir(source).unwrap_or_default(),
        nvidia_uvm: source.path("/dev/nvidia-uvm").exists(),
        // Databricks tells the type to processes of the cluster. (Documentation of init scripts,
        // environment variables)
        node_type: source
            .node_type
            .clone()
            .or_else(|| source.variable("DB_INSTANCE_TYPE").map(str::to_owned))
            .unwrap_or_default(),
    }
}

fn glibc() -> String {
    // SAFETY: it returns a static text that is never freed, and takes nothing.
    let version = unsafe { CStr::from_ptr(nix::libc::gnu_get_libc_version()) };
    version.to_string_lossy().into_owned()
}

/// The newest of the versions whose names stand in the file of the C++ library.
fn glibcxx(source: &NodeSource) -> Option<String> {
    let file = FOLDERS.iter().map(|folder| source.path(folder).join("libstdc++.so.6")).find(|file| file.is_file())?;
    let bytes = std::fs::read(file).ok()?;
    const MARK: &[u8] = b"GLIBCXX_";
    let starts =
        bytes.windows(MARK.len()).enumerate().filter(|(_, part)| *part == MARK).map(|(place, _)| place + MARK.len());
    let versions = starts.filter_map(|start| {
        let end = bytes[start..].iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
        let text = std::str::from_utf8(&bytes[start..start + end]).ok()?;
        let numbers: Vec<u32> = text.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        Some((numbers, text.to_owned()))
    });
    versions.max().map(|(_, text)| text)
}

/// A folder of a forward-compatibility package in `LD_LIBRARY_PATH` or in the loader's
/// configuration.
fn forward_compatibility_dir(source: &NodeSource) -> Option<String> {
    let has_driver = |folder: &str| source.path(folder).join("libcuda.so.1").exists();
    let from_variable = source.variable("LD_LIBRARY_PATH").unwrap_or_default().split(':').map(str::to_owned);
    let configured = std::fs::read_dir(source.path("/etc/ld.so.conf.d")).into_iter().flatten().flatten();
    let configured = configured.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    let lines: Vec<String> =
        configured.flat_map(|text| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()).collect();
    let is_compat = |folder: &String| {
        let resolved: PathBuf = Path::new(folder).components().collect();
        resolved == Path::new(COMPAT) || (folder.contains("/cuda") && folder.trim_end_matches('/').ends_with("/compat"))
    };
    from_variable.chain(lines).find(|folder| is_compat(folder) && has_driver(folder))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Environment;

    #[test]
    fn libraries_and_devices_are_found_where_systems_have_them() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        write("usr/lib64/libstdc++.so.6", b"\0GLIBCXX_3.4\0GLIBCXX_3.4.9\0GLIBCXX_3.4.30\0GLIBCXX_DEBUG\0");
        write("usr/local/cuda/compat/libcuda.so.1", b"");
        write("etc/ld.so.conf.d/cuda.conf", b"/usr/local/cuda/compat\n");
        let source = NodeSource::at(root.path().into(), Environment::new(), None);
        let found = source.libraries();
        assert_eq!(found.glibcxx, "3.4.30");
        assert_eq!(found.forward_compatibility_dir, "/usr/local/cuda/compat");
        assert!(!found.nvidia_uvm && found.glibc.starts_with("2."), "{found:?}");
        write("dev/nvidia-uvm", b"");
        assert!(source.libraries().nvidia_uvm);
        let environment = [("DB_INSTANCE_TYPE".to_owned(), "Standard_NC4as_T4_v3".to_owned())].into();
        let bare = NodeSource::at(tempfile::tempdir().unwrap().path().into(), environment, None).libraries();
        assert_eq!((bare.glibcxx.as_str(), bare.forward_compatibility_dir.as_str()), ("", ""));
        assert_eq!(bare.node_type, "Standard_NC4as_T4_v3");
    }
}
