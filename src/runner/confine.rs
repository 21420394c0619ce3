//! Confinement: the runner asks the kernel to keep it to its job before it reads a byte that others
//! wrote. From then on it reads libraries and facts about the machine, writes in the job's folder
//! and to its GPU, starts no program and speaks to nobody. That cannot be undone.
//!
//! Landlock (landlock(7)) enforces it, each part where the kernel is new enough. Rules are about
//! what is opened later: what is open stays usable, so data files, the journal and the log are
//! opened before. A folder of data files is open too, and files below it may be opened later. The
//! threads that are started later inherit the rules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};
use nix::sys::prctl;
use rustix::process::{Resource, getrlimit};
use torchd::attempt::READABLE;
use torchd::beneath::Folder;
use torchd::job::order::{LeasedDevice, Order};
use torchd::job::probe::Confinement;
use torchd::journal::JobFolder;

use crate::cuda;

/// The newest ABI whose rights are asked for. An older kernel is asked for those that it has.
const NEWEST: ABI = ABI::V10;

/// To read a file, or everything in a folder.
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
/// To make, change and remove regular files and folders. Not links, pipes and sockets: the daemon
/// could stumble over them.
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
});
/// To use a device.
const DEVICE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | IoctlDev});
/// To speak to another process by pipes and sockets.
const SPEAK: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeFifo | MakeSock | RemoveFile | ResolveUnix
});

/// The limits of a runner, each with the ABI of Landlock and the kernel that brought it.
/// (Documentation/userspace-api/landlock.rst in Linux)
const LIMITS: [(ABI, &str, &str); 9] = [
    (ABI::V1, "5.13", "it reads only libraries, facts about the machine, and the data of its job"),
    (ABI::V1, "5.13", "it makes, writes and removes files only in the folder of its job"),
    (ABI::V1, "5.13", "it starts no program"),
    (ABI::V3, "6.2", "it cuts no file outside the folder of its job"),
    (ABI::V4, "6.7", "it neither connects nor listens by TCP"),
    (ABI::V5, "6.10", "it controls no device but its GPU"),
    (ABI::V6, "6.12", "it signals no process outside and connects to no abstract socket"),
    (ABI::V9, "7.1", "it connects to no socket in the file system"),
    (ABI::V10, "7.2", "it neither sends nor receives by UDP"),
];

/// A set of rules: paths, and what may be done with them.
type Rules = Vec<(BitFlags<AccessFs>, Vec<PathBuf>)>;

/// Keeps this process to its job, as far as the kernel can, and tells the log what it cannot.
/// `data` are folders with data of the job; `also` is another one that it may read.
pub(crate) fn confine(folder: &JobFolder, also: Option<&Path>, order: &Order, data: &[Arc<Folder>]) {
    // Rules hold for the thread that asks, and for those that it starts.
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if order.rank.is_some() {
        tracing::info!(
            "the threads that exchange tensors with other ranks, {} of them, are not confined",
            threads.saturating_sub(1)
        );
    } else if threads != 1 {
        tracing::warn!("{threads} threads ran before the runner was confined; those of libraries are not covered");
    }
    let mut allowed = allowed(folder, order);
    allowed.push((READ, also.into_iter().map(Path::to_owned).collect()));
    let Confinement { missing, .. } = enforce(&allowed, data);
    if !missing.is_empty() {
        tracing::warn!("the kernel does not enforce every limit of a runner: {}", missing.join("; "));
    }
}

/// Keeps this thread to what every runner may use, and returns what the kernel enforces.
pub(crate) fn probe() -> Confinement {
    enforce(&vec![(READ, system())], &[])
}

/// The files and devices that a runner may use.
fn allowed(folder: &JobFolder, order: &Order) -> Rules {
    let nvml = order.nvml_library.iter().filter_map(|library| library.parent());
    let mut allowed = vec![
        (READ, system()),
        (READ, nvml.map(Path::to_owned).collect()),
        (WRITE, vec![folder.path().to_owned()]),
        (DEVICE, vec!["/dev/null".into()]),
    ];
    if order.lease.device == LeasedDevice::Cuda || order.lease.gpu().is_some() {
        let is_nvidia = |name: &Path| name.to_string_lossy().starts_with("/dev/nvidia");
        let devices = fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.path());
        // In WSL the GPU is that last one.
        allowed.push((DEVICE, devices.filter(|path| is_nvidia(path)).chain(["/dev/dxg".into()]).collect()));
        // The driver names its threads, and takes no refusal: CUDA ends with error 304.
        allowed.push((make_bitflags!(AccessFs::{WriteFile | Truncate}), vec!["/proc/self/task".into()]));
        // The Multi-Process Service, where it runs.
        let service = std::env::var_os("CUDA_MPS_PIPE_DIRECTORY").map_or("/tmp/nvidia-mps".into(), PathBuf::from);
        if service.is_dir() {
            allowed.push((SPEAK, vec![service, "/dev/shm".into()]));
        }
    }
    allowed
}

/// Where libraries lie: the system's folders, those that the loader was told, and those of what is
/// loaded, since libraries load others from beside themselves when they need them.
fn system() -> Vec<PathBuf> {
    let path = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let loaded = cuda::mapped().into_iter().filter(|file| file.to_string_lossy().contains(".so"));
    let beside = loaded.filter_map(|file| file.parent().map(Path::to_owned));
    let all: BTreeSet<PathBuf> = std::env::split_paths(&path).filter(|path| path.is_absolute()).chain(beside).collect();
    READABLE.iter().map(PathBuf::from).chain(all).collect()
}

/// Allows this thread nothing but that from now on, and to read what lies in folders of data. What
/// is not there needs no rule.
fn enforce(allowed: &Rules, data: &[Arc<Folder>]) -> Confinement {
    // Landlock wants it first, and it holds without Landlock, too.
    let no_new_privileges = prctl::set_no_new_privs().is_ok();
    let mut confinement = told(restrict(allowed, data), no_new_privileges);
    confinement.enforced.extend(resource_limits());
    confinement
}

/// The ABI of Landlock that is in force then, or why none is.
fn restrict(allowed: &Rules, data: &[Arc<Folder>]) -> Result<ABI, String> {
    let restrict = || -> Result<LandlockStatus, RulesetError> {
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?;
        let mut named = Vec::new();
        for (access, paths) in allowed {
            for path in paths.iter().filter_map(|path| PathFd::new(path).ok()) {
                rules = rules.add_rule(PathBeneath::new(&path, *access))?;
                named.push(path);
            }
        }
        for folder in data {
            rules = rules.add_rule(PathBeneath::new(folder.as_ref(), READ))?;
        }
        // A rule holds for an inode, and /proc makes a new one for the same name once the kernel
        // has dropped the name from memory. What is open is not dropped.
        std::mem::forget(named);
        Ok(rules.restrict_self()?.landlock)
    };
    match restrict() {
        Ok(LandlockStatus::Available { effective_abi, .. }) => Ok(effective_abi),
        Ok(LandlockStatus::NotEnabled) => Err("Landlock is not among the kernel's lsm= parameters".into()),
        Ok(LandlockStatus::NotImplemented) => Err("the kernel has no Landlock, or a container forbids it".into()),
        Err(error) => Err(format!("Landlock refuses: {error}")),
    }
}

/// The limits that are enforced and those that are not, in words.
fn told(landlock: Result<ABI, String>, no_new_privileges: bool) -> Confinement {
    let abi = *landlock.as_ref().unwrap_or(&ABI::Unsupported);
    let mut confinement = Confinement { landlock_abi: abi as u32, no_new_privileges, ..Confinement::default() };
    for (since, kernel, what) in LIMITS {
        match &landlock {
            Ok(abi) if since <= *abi => confinement.enforced.push(what.into()),
            Ok(_) => confinement.missing.push(format!("{what} (from Linux {kernel} on)")),
            Err(why) => confinement.missing.push(format!("{what} ({why})")),
        }
    }
    let what = "it gains no privileges by starting a program";
    match no_new_privileges {
        true => confinement.enforced.push(what.into()),
        false => confinement.missing.push(format!("{what} (the kernel refuses PR_SET_NO_NEW_PRIVS)")),
    }
    confinement
}

/// The limits of resources of this process, which its parent has set, in words.
fn resource_limits() -> impl Iterator<Item = String> {
    let most = |resource| getrlimit(resource).maximum;
    let core = (most(Resource::Core) == Some(0)).then(|| "it writes no core file".to_owned());
    let file = most(Resource::Fsize).map(|bytes| format!("no file that it writes has more than {bytes} bytes"));
    let space = most(Resource::As).map(|bytes| format!("its address space has at most {bytes} bytes"));
    [core, file, space].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::symlink;
    use std::process::Command;
    use std::thread;

    use torchd::dataset::{Files, idx};
    use torchd::job::order::{DataInputs, Lease, LeasedGpu, ProgramLimits};

    use super::*;

    mod skips {
        include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/skips/tell.rs"));
    }

    fn order(gpu: Option<LeasedGpu>) -> Order {
        let train = Files::Idx(idx::Files { images: "/nowhere/i".into(), labels: Some("/nowhere/l".into()) });
        Order {
            attempt: 1,
            rank: None,
            meeting: None,
            lease: Lease { gpus: gpu.into_iter().collect(), ..Lease::of_cpu(1) },
            inputs: DataInputs { train, validation: None, outline: None, memory_bytes: None }.into(),
            nvml_library: None,
            max_event_bytes: u64::MAX,
            resume_step: None,
            accepted_data_at: None,
            log_begins: 0,
            limits: ProgramLimits::default(),
            edits: None,
        }
    }

    fn gpu() -> Option<LeasedGpu> {
        Some(LeasedGpu { visible: "0".into(), index: 0, memory_bytes: None })
    }

    /// The result of the work on a thread that is confined to a job; the other threads stay free.
    /// None where the kernel does not enforce so much.
    fn confined<T: Send>(job: &Path, order: &Order, least: ABI, work: impl FnOnce() -> T + Send) -> Option<T> {
        confined_with(job, order, &[], least, work)
    }

    /// The same with folders of data.
    fn confined_with<T: Send>(
        job: &Path,
        order: &Order,
        data: &[Arc<Folder>],
        least: ABI,
        work: impl FnOnce() -> T + Send,
    ) -> Option<T> {
        let rules = allowed(&JobFolder::new(job.to_owned()), order);
        let limited = move || match enforce(&rules, data) {
            confinement if confinement.landlock_abi < least as u32 => {
                skips::tell(skips::Skip::CannotRun, &confinement.missing.join("; "));
                None
            }
            _ => Some(work()),
        };
        thread::scope(|scope| scope.spawn(limited).join().unwrap())
    }

    fn is_denied<T>(done: io::Result<T>) -> bool {
        done.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn a_runner_writes_in_its_jobs_folder_and_nowhere_else() {
        let place = tempfile::tempdir().unwrap();
        let (job, beside) = (place.path().join("job"), place.path().join("job-2"));
        [&job, &beside].into_iter().for_each(|folder| fs::create_dir(folder).unwrap());
        fs::write(beside.join("old"), "of another job").unwrap();
        symlink(&beside, job.join("link")).unwrap();
        let open = fs::File::create(beside.join("open")).unwrap();
        let done = confined(&job, &order(None), ABI::V3, || {
            fs::write(job.join(".new"), "ours").unwrap();
            fs::create_dir(job.join("folder")).unwrap();
            fs::rename(job.join(".new"), job.join("folder/file")).unwrap();
            fs::remove_file(job.join("folder/file")).unwrap();
            fs::remove_dir(job.join("folder")).unwrap();
            fs::write("/dev/null", "nothing").unwrap();
            io::Write::write_all(&mut &open, b"what is open stays open").unwrap();
            assert!(is_denied(fs::write(beside.join("new"), "")), "make");
            assert!(is_denied(fs::write(job.join("link/new"), "")), "make behind a link");
            assert!(is_denied(fs::write(beside.join("old"), "")), "write");
            assert!(is_denied(fs::create_dir(beside.join("folder"))), "make a folder");
            assert!(is_denied(fs::remove_file(beside.join("old"))), "remove");
            fs::write(job.join("file"), "ours").unwrap();
            assert!(fs::rename(job.join("file"), beside.join("file")).is_err(), "move out");
            assert!(fs::rename(beside.join("old"), job.join("old")).is_err(), "move in");
            assert!(is_denied(symlink("/etc", job.join("etc"))), "make a link");
            assert!(is_denied(fs::write("/proc/self/comm", "name")), "write in /proc");
        });
        let found = |folder: &Path| fs::read_dir(folder).unwrap().count();
        if done.is_some() {
            assert_eq!((fs::read(beside.join("old")).unwrap(), found(&beside)), (b"of another job".to_vec(), 2));
        }
    }

    #[test]
    fn a_runner_reads_libraries_and_facts_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let (job, secret) = (place.path().join("job"), place.path().join("secret"));
        fs::create_dir(&job).unwrap();
        fs::write(&secret, "of somebody else").unwrap();
        let open = fs::File::open(&secret).unwrap();
        let loaded = cuda::loaded("libtorch_cpu.so").unwrap();
        let parent = format!("/proc/{}/environ", std::os::unix::process::parent_id());
        confined(&job, &order(None), ABI::V1, || {
            for path in ["/proc/cpuinfo", "/proc/self/status", "/sys/devices/system/cpu/online", "/dev/urandom"] {
                fs::File::open(path).unwrap_or_else(|error| panic!("{path}: {error}"));
            }
            fs::File::open(&loaded).unwrap();
            assert_eq!(io::read_to_string(&open).unwrap(), "of somebody else", "what is open stays open");
            for path in [secret.to_str().unwrap(), "/etc/passwd", "/proc/self/root/etc/passwd", &parent, "/proc/kmsg"] {
                assert!(is_denied(fs::File::open(path)), "{path}");
            }
            assert!(is_denied(fs::read_dir(place.path())), "a list of files");
        });
    }

    #[test]
    fn a_runner_reads_the_files_in_its_folders_of_data_and_none_beside_them() {
        let place = tempfile::tempdir().unwrap();
        let (job, data) = (place.path().join("job"), place.path().join("data"));
        fs::create_dir(&job).unwrap();
        fs::create_dir_all(data.join("class")).unwrap();
        fs::write(data.join("class/image"), "pixels").unwrap();
        fs::write(place.path().join("beside"), "of somebody else").unwrap();
        let folder = Arc::new(Folder::open(&data).unwrap());
        confined_with(&job, &order(None), std::slice::from_ref(&folder), ABI::V1, || {
            assert_eq!(io::read_to_string(folder.file("class/image").unwrap()).unwrap(), "pixels");
            assert!(is_denied(fs::write(data.join("class/image"), "")), "write");
            assert!(is_denied(fs::File::open(place.path().join("beside"))), "a file beside");
        });
    }

    #[test]
    fn a_runner_starts_no_program_and_speaks_to_nobody() {
        let job = tempfile::tempdir().unwrap();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        confined(job.path(), &order(None), ABI::V6, || {
            assert!(is_denied(Command::new("/bin/true").status()), "a program");
            assert!(is_denied(TcpStream::connect(server.local_addr().unwrap())), "connect");
            assert!(is_denied(TcpListener::bind("127.0.0.1:0")), "listen");
            let parent = nix::unistd::getppid();
            assert_eq!(nix::sys::signal::kill(parent, None), Err(nix::errno::Errno::EPERM), "signal");
        });
    }

    #[test]
    fn with_a_gpu_a_runner_names_threads_that_are_started_later() {
        let job = tempfile::tempdir().unwrap();
        let rename = || {
            let thread = format!("/proc/self/task/{}/comm", nix::unistd::gettid());
            thread::scope(|scope| scope.spawn(move || fs::write(thread, "kernel")).join().unwrap())
        };
        confined(job.path(), &order(gpu()), ABI::V1, || {
            rename().unwrap();
            assert!(is_denied(fs::write("/proc/self/comm", "name")), "the rest of /proc");
        });
        confined(job.path(), &order(None), ABI::V1, || assert!(is_denied(rename()), "without a GPU"));
    }

    #[test]
    fn what_a_kernel_does_not_enforce_is_told_with_the_reason() {
        let all = told(Ok(NEWEST), true);
        assert_eq!((all.landlock_abi, all.enforced.len(), all.missing.len()), (10, LIMITS.len() + 1, 0));
        let older = told(Ok(ABI::V4), true);
        assert_eq!((older.landlock_abi, older.enforced.len()), (4, 6));
        assert_eq!(older.missing[0], "it controls no device but its GPU (from Linux 6.10 on)");
        let none = told(Err("there is none".into()), false);
        assert_eq!((none.landlock_abi, none.no_new_privileges, none.enforced.len()), (0, false, 0));
        assert_eq!(none.missing.len(), LIMITS.len() + 1);
        assert!(none.missing[0].ends_with("(there is none)"), "{none:?}");
    }
}
