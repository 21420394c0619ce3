//! The environment of a runner: the variables of ours that programs and libraries need, and none of
//! systemd's.

use std::ffi::OsString;
use std::path::Path;

use crate::journal::JobFolder;

// The last one means something in debug builds only: see `fault`.
const NAMES: [&str; 6] = ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "TZ", "TORCHD_FAULT"];
const PREFIXES: [&str; 6] = ["CUDA_", "NVIDIA_", "NCCL_", "OMP_", "GOMP_", "MKL_"];

/// Prefixes of the variables by which a Python interpreter finds its packages.
const PYTHON_PREFIXES: [&str; 3] = ["PYTHON", "PYENV_", "VIRTUAL_ENV"];

/// The environment of a Python interpreter.
pub(super) fn of_python(ours: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let is_kept = |name: &str| {
        NAMES.contains(&name) || PREFIXES.iter().chain(&PYTHON_PREFIXES).any(|prefix| name.starts_with(prefix))
    };
    ours.filter(|(name, _)| is_kept(&name.to_string_lossy())).collect()
}

/// Our environment, cleared of everything that is not meant for a runner. `libraries` go before
/// what LD_LIBRARY_PATH has.
pub(super) fn of_runner(
    ours: impl Iterator<Item = (OsString, OsString)>,
    libraries: Option<&Path>,
) -> Vec<(OsString, OsString)> {
    let mut kept: Vec<_> = ours
        .filter(|(name, _)| {
            let name = name.to_string_lossy();
            NAMES.contains(&name.as_ref()) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        })
        .collect();
    if let Some(libraries) = libraries {
        let place = kept.iter().position(|(name, _)| name == "LD_LIBRARY_PATH");
        let mut path = OsString::from(libraries);
        if let Some(place) = place {
            let (_, before) = kept.swap_remove(place);
            path.push(":");
            path.push(before);
        }
        kept.push(("LD_LIBRARY_PATH".into(), path));
    }
    kept
}

/// The environment of the host of a program, which hands it on: the variables that have such a
/// name, or begin so where it ends with `*`. None of ours is for a program.
pub(super) fn of_host(
    ours: impl Iterator<Item = (OsString, OsString)>,
    wanted: &[String],
) -> Vec<(OsString, OsString)> {
    let is_wanted = |name: &str| {
        wanted.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == wanted,
        })
    };
    ours.filter(|(name, _)| {
        let name = name.to_string_lossy();
        // That one is for the host itself.
        if name.starts_with("TORCHD_") { name == "TORCHD_FAULT" } else { is_wanted(&name) }
    })
    .collect()
}

/// Further variables of a runner with a GPU: the GPU that CUDA shows it, and the folders of
/// compiled kernels of CUDA and PyTorch. Jobs do not share these folders, so that no job can give
/// another its kernels.
pub(super) fn of_gpu(visible: &str, folder: &JobFolder) -> [(&'static str, OsString); 3] {
    let kernels = folder.kernels().into_os_string();
    [
        ("CUDA_VISIBLE_DEVICES", visible.into()),
        ("CUDA_CACHE_PATH", kernels.clone()),
        ("PYTORCH_KERNEL_CACHE_PATH", kernels),
    ]
}

/// Further variables of a runner with a GPU. Where ours do not have them, NCCL speaks by that
/// interface, and makes all connections at once, since a runner may make none later.
pub(super) fn of_nccl(interface: Option<&str>) -> impl Iterator<Item = (&'static str, &str)> {
    let wanted = [("NCCL_SOCKET_IFNAME", interface), ("NCCL_RUNTIME_CONNECT", Some("0"))];
    // NCCL takes no notice of an empty name.
    let wanted = wanted.into_iter().filter(|(name, _)| std::env::var_os(name).is_none_or(|ours| ours.is_empty()));
    // PyTorch's watchdog does not end a rank that has lost another one, as torchrun wants it: the
    // daemon does, and knows the cause.
    let watchdog = [("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")];
    wanted.filter_map(|(name, value)| Some((name, value?))).chain(watchdog)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_a_runner_is_handed_on() {
        let ours = [
            ("PATH", "/bin"),
            ("NOTIFY_SOCKET", "/n"),
            ("OMP_SCHEDULE", "static"),
            ("GOMP_SPINCOUNT", "1000"),
            ("SECRET", "x"),
            ("LD_LIBRARY_PATH", "/a"),
        ];
        let ours = ours.map(|(name, value)| (name.into(), value.into())).into_iter();
        let kept = of_runner(ours, Some(Path::new("/libtorch/lib")));
        let kept: Vec<_> = kept.iter().map(|(name, value)| (name.to_str().unwrap(), value.to_str().unwrap())).collect();
        assert_eq!(
            kept,
            [
                ("PATH", "/bin"),
                ("OMP_SCHEDULE", "static"),
                ("GOMP_SPINCOUNT", "1000"),
                ("LD_LIBRARY_PATH", "/libtorch/lib:/a")
            ]
        );
    }

    #[test]
    fn a_program_gets_the_variables_that_are_named() {
        let names = ["PATH", "PATHS", "OMP_PLACES", "TORCHD__GRPC__LISTEN", "TORCHD_FAULT", "SECRET"];
        let ours = names.map(|name| (name.into(), OsString::new())).into_iter();
        let kept = of_host(ours, &["PATH".into(), "OMP_*".into(), "TORCHD_*".into()]);
        let kept: Vec<_> = kept.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(kept, ["PATH", "OMP_PLACES", "TORCHD_FAULT"]);
    }

    #[test]
    fn kernels_are_compiled_into_the_jobs_own_folder() {
        let seen = of_gpu("GPU-1", &JobFolder::new("/state/jobs/1".into()));
        let kernels = OsString::from("/state/jobs/1/kernels");
        assert!(seen.contains(&("CUDA_CACHE_PATH", kernels.clone())), "{seen:?}");
        assert!(seen.contains(&("PYTORCH_KERNEL_CACHE_PATH", kernels)), "{seen:?}");
    }
}
