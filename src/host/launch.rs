//! Starts a program: its folder, its environment, and its limits.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::confine;
use crate::beneath::Folder;
use crate::job::order::{Launch, LeasedDevice, Order, ProgramLimits};
use crate::job::spec::{Program, Spec};
use crate::journal::{JobFolder, PROGRAM, ProgramCheckpoint};
use crate::shortage::is_shortage;

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
    Ok(Folder::open(folder.path())?.folder(PROGRAM).and_then(|place| place.folder("tensorboard")).ok())
}

/// Starts a program.
///
/// # Errors
/// It cannot be started, in words that say what was tried; or the machine is short of something, as
/// the system's own error.
pub(super) fn start(
    folder: &JobFolder,
    order: &Order,
    spec: &Spec,
    launch: &Launch,
    goes_on_from: Option<&ProgramCheckpoint>,
) -> io::Result<Started> {
    let program = spec.program().ok_or_else(|| io::Error::other("the job is no program"))?;
    let before: Vec<_> = spec.after.iter().map(|other| folder.path().with_file_name(other.job.to_string())).collect();
    let place = folder.path().join(PROGRAM);
    let told = |what: &str, error: io::Error, hint: &str| match is_shortage(&error) {
        // By its number others know it again.
        true => error,
        false => io::Error::new(error.kind(), format!("{what}: {error}{hint}")),
    };
    if let Some(folder) = &launch.working_dir {
        let what = format!("program.working_dir, {}, cannot be entered", folder.display());
        Folder::open(folder).map_err(|error| told(&what, error, ""))?;
    }
    let (reports, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&reports, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut confinement = confine::rules(&place, &before, order, launch);
    let limits = order.limits.clone();
    let mut command = Command::new(&launch.executable);
    command
        .args(program.command.iter().skip(1))
        .arg0(program.command.first().map(String::as_str).unwrap_or_default())
        .env_clear()
        .envs(environment(folder, &place, &before, order, program, goes_on_from, theirs.as_raw_fd()))
        .current_dir(launch.working_dir.as_deref().unwrap_or(&place))
        .stdin(Stdio::null());
    let theirs_number = theirs.as_raw_fd();
    let before = move || {
        // It gets signals, and the descriptor of its reports.
        SigSet::all().thread_unblock()?;
        // SAFETY: the descriptor is open in this process, which has just been forked off.
        let theirs = unsafe { std::os::fd::BorrowedFd::borrow_raw(theirs_number) };
        fcntl(theirs, FcntlArg::F_SETFD(FdFlag::empty()))?;
        // Where we and our parent are killed nobody else would end it.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        limit(&limits)?;
        nix::sys::prctl::set_no_new_privs()?;
        match confinement.take() {
            Some(rules) => rules.restrict_self().map(drop).map_err(io::Error::other),
            None => Ok(()),
        }
    };
    // SAFETY: this process has one thread, so that nothing is locked in the new one, and what is
    // called there may allocate.
    unsafe { command.pre_exec(before) };
    let what = format!("{} cannot be started", launch.executable.display());
    let child = command.spawn().map_err(|error| {
        let hint = hint(&launch.executable);
        told(&what, error, &hint)
    })?;
    // The kernel takes the program before it takes us.
    // A point is a thousandth of the group's limit: in a small group 100 points more than ours are
    // less than our own memory.
    let points = if super::source().job_kills().is_some() { "1000" } else { "600" };
    let _ = fs::write(format!("/proc/{}/oom_score_adj", child.id()), points);
    drop(theirs);
    Ok(Started { child, reports })
}

/// A likely reason why the kernel does not start a program, to go behind its error.
fn hint(executable: &Path) -> String {
    let mut line = [0; 256];
    let read = File::open(executable).and_then(|mut file| file.read(&mut line)).unwrap_or(0);
    let Some(first) = line[..read].strip_prefix(b"#!").and_then(|rest| rest.split(|byte| *byte == b'\n').next()) else {
        return String::new();
    };
    let first = String::from_utf8_lossy(first);
    let Some(interpreter) = first.split_whitespace().next() else { return String::new() };
    let why = match Path::new(interpreter).exists() {
        true => "lies outside of what the program may read: the system, its own installation and the data roots",
        false => "is not there",
    };
    format!("; its first line names {interpreter:?} as its interpreter, which {why}")
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

/// The environment of a program: ours, that of the spec, and what it is
/// told of its job.
fn environment(
    folder: &JobFolder,
    place: &Path,
    before: &[PathBuf],
    order: &Order,
    program: &Program,
    goes_on_from: Option<&ProgramCheckpoint>,
    reports: i32,
) -> Vec<(OsString, OsString)> {
    // The daemon has left us those that the settings pass on.
    let is_ours = |name: &OsString| name.to_string_lossy().starts_with("TORCHD_");
    let passed = std::env::vars_os().filter(|(name, _)| !is_ours(name));
    let at = |part: &str| place.join(part).into_os_string();
    let job = folder.path().file_name().unwrap_or_default().to_string_lossy();
    let visible = match order.lease.device {
        LeasedDevice::Cuda => order.lease.visible().unwrap_or_default(),
        LeasedDevice::Cpu => String::new(),
    };
    let mut environment: Vec<(OsString, OsString)> = passed.collect();
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
    environment.extend(goes_on_from.map(|checkpoint| ("TORCHD_RESUME_FROM".into(), at(&checkpoint.path))));
    if let (false, Ok(before)) = (before.is_empty(), std::env::join_paths(before)) {
        environment.push(("TORCHD_AFTER_DIRS".into(), before));
    }
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
