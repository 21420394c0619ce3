//! Starts a program: its folder, its environment, its limits, and its confinement.
//!
//! Landlock keeps it, and all that it starts, to reading libraries, its installation and the data
//! roots, and to writing in its own folder. It may start programs and speak to the network, as
//! programs that train on several processes do.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, Scope, make_bitflags,
};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::SigSet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::say;
use super::tell::{Kept, PROGRAM};
use crate::beneath::Folder;
use crate::job::order::{Launch, LeasedDevice, Order, ProgramLimits};
use crate::job::spec::Program;
use crate::journal::JobFolder;

/// The newest ABI of Landlock whose rights are asked for.
const NEWEST: ABI = ABI::V8;
/// To read and to start what lies in a folder.
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | Execute});
/// To use a device.
const DEVICE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | IoctlDev});

/// Paths that every program may read: libraries and their data, facts about the machine, and the
/// files by which a C library finds hosts and users.
const SYSTEM: [&str; 31] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/nix/store",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
    "/sys",
    "/proc/self",
    "/proc/sys",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
];

/// A program that was started.
pub(super) struct Started {
    pub child: Child,
    /// The end of its reports that we read.
    pub reports: OwnedFd,
}

/// Makes the folder of a program, and opens that of its event files; None where the program has put
/// something else in its place.
pub(super) fn prepare(folder: &JobFolder) -> io::Result<Option<Folder>> {
    let place = folder.path().join(PROGRAM);
    for part in ["", "checkpoints", "tensorboard", "tmp"] {
        make_folder(&place.join(part))?;
    }
    Ok(Folder::open(&place).and_then(|place| place.folder("tensorboard")).ok())
}

/// Starts a program.
///
/// # Errors
/// It cannot be started; in words that say what was tried.
pub(super) fn start(
    folder: &JobFolder,
    order: &Order,
    program: &Program,
    launch: &Launch,
    kept: &Kept,
) -> io::Result<Started> {
    let place = folder.path().join(PROGRAM);
    let told = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"))
    };
    let (reports, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&reports, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut confinement = match confinement(&place, order, launch) {
        Ok(ruleset) => Some(ruleset),
        Err(why) => {
            say(&format!("the kernel does not keep the program to its folder: {why}"));
            None
        }
    };
    let limits = order.limits.clone();
    let mut command = Command::new(&launch.executable);
    command
        .args(program.command.iter().skip(1))
        .arg0(program.command.first().map(String::as_str).unwrap_or_default())
        .env_clear()
        .envs(environment(folder, &place, order, program, kept, theirs.as_raw_fd()))
        .current_dir(launch.working_dir.as_deref().unwrap_or(&place))
        .stdin(Stdio::null());
    let theirs_number = theirs.as_raw_fd();
    let before = move || {
        // It gets signals, and the descriptor of its reports.
        SigSet::all().thread_unblock()?;
        // SAFETY: the descriptor is open in this process, which has just been forked off.
        let theirs = unsafe { std::os::fd::BorrowedFd::borrow_raw(theirs_number) };
        fcntl(theirs, FcntlArg::F_SETFD(FdFlag::empty()))?;
        limit(&limits)?;
        nix::sys::prctl::set_no_new_privs()?;
        match confinement.take() {
            Some(ruleset) => ruleset.restrict_self().map(drop).map_err(io::Error::other),
            None => Ok(()),
        }
    };
    // SAFETY: this process has one thread, so that nothing is locked in the new one, and what is
    // called there may allocate.
    unsafe { command.pre_exec(before) };
    let what = format!("{} cannot be started", launch.executable.display());
    let child = command.spawn().map_err(told(&what))?;
    // The kernel takes the program before it takes us.
    let _ = fs::write(format!("/proc/{}/oom_score_adj", child.id()), "600");
    drop(theirs);
    Ok(Started { child, reports })
}

/// Makes a folder for the daemon's user alone, unless it is there.
fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o700)),
        // Something else in its place is found when it is used.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The environment of a program: ours as far as programs need it, that of the spec, and what it is
/// told of its job.
fn environment(
    folder: &JobFolder,
    place: &Path,
    order: &Order,
    program: &Program,
    kept: &Kept,
    reports: i32,
) -> Vec<(OsString, OsString)> {
    const NAMES: [&str; 5] = ["PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH"];
    const PREFIXES: [&str; 3] = ["NVIDIA_", "OMP_", "MKL_"];
    let is_kept = |name: &str| NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let ours = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_kept));
    let at = |part: &str| place.join(part).into_os_string();
    let job = folder.path().file_name().unwrap_or_default().to_string_lossy();
    let visible = match order.lease.device {
        LeasedDevice::Cuda => order.lease.gpu.as_ref().map(|gpu| gpu.visible.clone()).unwrap_or_default(),
        LeasedDevice::Cpu => String::new(),
    };
    let mut environment: Vec<(OsString, OsString)> = ours.collect();
    environment.extend([
        ("HOME".into(), place.into()),
        ("TMPDIR".into(), at("tmp")),
        ("OMP_NUM_THREADS".into(), order.lease.cpu_threads.to_string().into()),
        ("PYTHONUNBUFFERED".into(), "1".into()),
    ]);
    environment.extend(program.env.iter().map(|(name, value)| (name.into(), value.into())));
    environment.extend([
        ("CUDA_VISIBLE_DEVICES".into(), visible.into()),
        ("TORCHD_JOB".into(), format!("jobs/{job}").into()),
        ("TORCHD_ATTEMPT".into(), order.attempt.to_string().into()),
        ("TORCHD_TENSORBOARD_DIR".into(), at("tensorboard")),
        ("TORCHD_CHECKPOINT_DIR".into(), at("checkpoints")),
        ("TORCHD_PROGRAM_DIR".into(), place.into()),
        ("TORCHD_REPORT_FD".into(), reports.to_string().into()),
    ]);
    environment.extend(kept.checkpoint.as_ref().map(|path| ("TORCHD_RESUME_FROM".into(), at(path))));
    environment
}

/// Sets the limits of this process and of those that it starts.
fn limit(limits: &ProgramLimits) -> io::Result<()> {
    let ProgramLimits { memory_bytes, processes, file_bytes } = limits;
    for (resource, most) in
        [(Resource::Data, memory_bytes), (Resource::Nproc, processes), (Resource::Fsize, file_bytes)]
    {
        let Some(most) = *most else { continue };
        let allowed = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        setrlimit(resource, Rlimit { current: Some(most.min(allowed)), maximum: Some(most.min(allowed)) })?;
    }
    // No copy of its memory is left in its folder.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// The rules that a program is kept to, or why there are none.
fn confinement(place: &Path, order: &Order, launch: &Launch) -> Result<RulesetCreated, String> {
    let own = AccessFs::from_all(NEWEST) & !make_bitflags!(AccessFs::{MakeChar | MakeBlock | IoctlDev});
    let nvidia = || {
        let devices = fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.path());
        devices.filter(|path| path.to_string_lossy().starts_with("/dev/nvidia")).chain(["/dev/dxg".into()])
    };
    let gpus: Vec<PathBuf> = if order.lease.gpu.is_some() { nvidia().collect() } else { Vec::new() };
    let rules = [
        (READ, SYSTEM.iter().map(PathBuf::from).chain(launch.reads.iter().cloned()).collect::<Vec<_>>()),
        (READ, launch.executable.parent().map(Path::to_owned).into_iter().collect()),
        (own, vec![place.to_owned()]),
        // Processes that share tensors do so there.
        (own, vec!["/dev/shm".into()]),
        (DEVICE, vec!["/dev/null".into()]),
        (DEVICE, gpus),
    ];
    let create = || -> Result<RulesetCreated, landlock::RulesetError> {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?;
        for (access, paths) in &rules {
            for path in paths.iter().filter_map(|path| PathFd::new(path).ok()) {
                ruleset = ruleset.add_rule(PathBeneath::new(path, *access))?;
            }
        }
        Ok(ruleset)
    };
    let ruleset = create().map_err(|error| format!("Landlock refuses: {error}"))?;
    Ok(ruleset)
}
