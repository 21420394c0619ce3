//! Programs that harm: themselves at most.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torchd::proto::v1::{self, JobEndReason, JobState};

use super::daemon::{Daemon, Setup, is_gone, wait_for};
use super::programs::{log, report, scalars, setup, shell};
use super::small_disk::SmallDisk;
use super::tools;
use super::torchctl::told;

/// A script in a job, with the data root in $DATA.
pub(super) fn with_data(root: &Path, script: &str) -> v1::JobSpec {
    let mut spec = shell(script);
    spec.program.as_mut().unwrap().env = BTreeMap::from([("DATA".to_owned(), root.display().to_string())]);
    spec
}

pub(super) async fn run(daemon: &Daemon, spec: v1::JobSpec) -> v1::Job {
    daemon.watch_to_end(&daemon.create(spec).await.name).await
}

/// Ends, with its own exit code, when it is asked to; else it would wait.
pub(super) const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done\n";

pub(super) async fn cancel(daemon: &Daemon, job: &v1::Job) -> v1::Job {
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: job.name.clone(), now: false }).await.unwrap();
    daemon.watch_to_end(&job.name).await
}

pub(super) fn wait_for_log(daemon: &Daemon, job: &v1::Job, words: &str) {
    wait_for(words, || {
        let text = fs::read(daemon.job_folder(&job.name).join("runner.log")).ok()?;
        String::from_utf8_lossy(&text).contains(words).then_some(())
    });
}

pub(super) async fn delete(daemon: &Daemon, job: &v1::Job) {
    daemon.jobs().await.delete_job(v1::DeleteJobRequest { name: job.name.clone() }).await.unwrap();
    let folder = daemon.job_folder(&job.name);
    let aside = folder.with_file_name(format!(".deleted-{}", job.name.trim_start_matches("jobs/")));
    wait_for("the end of the folder", || (!folder.exists() && !aside.exists()).then_some(()));
}

#[tokio::test]
async fn a_program_that_prints_garbage_has_a_log_that_can_be_read_and_orders_no_terminal() {
    let root = tempfile::tempdir().unwrap();
    let mut garbage: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    garbage.extend(b"\x1b[2J\xc2\x9b2J\x1b]0;title\x07\xff last words\n");
    fs::write(root.path().join("garbage"), &garbage).unwrap();
    let daemon = setup(root.path()).start();
    let job = run(&daemon, with_data(root.path(), "cat $DATA/garbage; cat $DATA/garbage >&2; exit 3")).await;
    let end = job.end.clone().unwrap();
    assert_eq!((end.reason(), end.exit_code), (JobEndReason::ProgramFailed, Some(3)));
    assert_eq!(end.message, "the program ended with exit code 3");
    assert_eq!(fs::read(daemon.job_folder(&job.name).join("runner.log")).unwrap(), garbage.repeat(2));
    let request = v1::ReadJobLogRequest { name: job.name.clone(), ..Default::default() };
    let mut stream = daemon.jobs().await.read_job_log(request).await.unwrap().into_inner();
    let mut bytes = 0;
    while let Some(message) = stream.message().await.unwrap() {
        bytes = message.next_offset_bytes;
    }
    assert_eq!(bytes as usize, 2 * garbage.len());
    let logs = daemon.ctl(&["logs", &job.name]);
    assert!(logs.status.success() && logs.stdout.len() >= garbage.len());
    for command in [&["show", &job.name][..], &["list"], &["watch", &job.name]] {
        let (_, out, err) = told(&daemon.ctl(command));
        let order = (out + &err).chars().find(|letter| letter.is_control() && !"\n\t".contains(*letter));
        assert_eq!(order, None, "{command:?}");
    }
}

#[tokio::test]
async fn a_program_that_floods_its_reports_and_its_log_has_bounds_and_still_hears_that_it_should_stop() {
    let root = tempfile::tempdir().unwrap();
    // Many values a line: a slow machine, too, reads more than 10,000 of them in a second.
    let others: String = (1..64).map(|tag| format!(r#", "v{tag}": 0.5"#)).collect();
    let value =
        format!(r#"{{"step": 7, "scalars": {{"loss": 0.125{others}}}, "progress": 0.5, "checkpoint": "checkpoints"}}"#);
    let daemon = setup(root.path()).set("jobs.max_event_bytes", "65536").set("jobs.log_max_bytes", "65536").start();
    let floods = format!(
        "head -c 3000000 /dev/zero | tr '\\0' x >&$TORCHD_REPORT_FD; echo >&$TORCHD_REPORT_FD\n\
         yes odd | head -n 100000 >&$TORCHD_REPORT_FD\n\
         yes '{value}' >&$TORCHD_REPORT_FD &\n {WAIT}"
    );
    let job = daemon.create(shell(&floods)).await;
    wait_for_log(&daemon, &job, "takes no more values");
    wait_for_log(&daemon, &job, "more than 10000 values come in a second");
    let ended = cancel(&daemon, &job).await;
    let (words, end) = (log(&daemon, &ended), ended.end.clone().unwrap());
    // It was not killed after its time to leave: it has said so itself.
    assert_eq!((ended.state(), end.exit_code, end.signal), (JobState::Cancelled, Some(0), None), "{end:?}");
    for part in [
        "a report has more than 65536 bytes",
        "a report is not as it should be",
        "oddities of reports were passed over in all",
        "more than 10000 values come in a second",
        "values were dropped in all",
    ] {
        assert!(words.contains(part), "{part}: {words:.2000}");
    }
    assert!(words.lines().count() < 20, "{words:.2000}");
    let journal = fs::metadata(daemon.job_folder(&job.name).join("journal")).unwrap().len();
    assert!((200_000..400_000).contains(&journal), "{journal}");
    assert!(scalars(&daemon, &job.name, "loss").await.len() >= 100);

    let job = daemon.create(shell(&format!("yes printed &\n {WAIT}"))).await;
    let size = || fs::metadata(daemon.job_folder(&job.name).join("runner.log")).map_or(0, |log| log.len());
    wait_for("a full log", || (size() >= 65536).then_some(()));
    let end = cancel(&daemon, &job).await.end.unwrap();
    assert_eq!((end.exit_code, end.signal), (Some(0), None), "{end:?}");
    assert!(log(&daemon, &ended).len() < 80_000 && size() < 80_000, "{}", size());
    let full = fs::read_to_string(daemon.job_folder(&job.name).join("runner.log")).unwrap();
    assert!(full.contains("[torchd: the log is full, "), "{:.300}", full);
}

#[tokio::test]
async fn reports_that_are_wrong_are_told_by_their_field_and_those_beside_them_count() {
    let root = tempfile::tempdir().unwrap();
    let mut lines: Vec<Vec<u8>> = [
        r#"{"step": 5, "scalars": {"loss": 1}}"#,
        r#"{"step": 3, "scalars": {"loss": 2}}"#,
        r#"{"step": 6, "scalars": {"loss": NaN}}"#,
        r#"{"step": 6, "scalars": {"loss": null}}"#,
        r#"{"step": -1, "scalars": {"loss": 3}}"#,
        r#"{"step": 18446744073709551616}"#,
        r#"{"step": 7, "scalars": {"loss": 4, "loss": 5}}"#,
        r#"{"stop": 7}"#,
    ]
    .iter()
    .map(|line| line.as_bytes().to_vec())
    .collect();
    lines.push([&b"{\"x\": "[..], &b"[".repeat(50_000)].concat());
    lines.push(b"\xff\xfe".to_vec());
    lines.push(r#"{"step": 18446744073709551615, "scalars": {"huge": 1e308}, "epoch": 4294967295}"#.into());
    fs::write(root.path().join("reports"), lines.join(&b'\n').into_iter().chain(*b"\n").collect::<Vec<_>>()).unwrap();
    let daemon = setup(root.path()).start();
    let job = run(&daemon, with_data(root.path(), "cat $DATA/reports >&$TORCHD_REPORT_FD")).await;
    let log = log(&daemon, &job);
    assert_eq!(job.state(), JobState::Succeeded, "{:?} {log}", job.end);
    assert_eq!(scalars(&daemon, &job.name, "loss").await, [(5, 1.0), (3, 2.0), (7, 5.0)], "{log}");
    assert_eq!(scalars(&daemon, &job.name, "huge").await, [(i64::MAX as u64, 1e308)]);
    assert!(
        log.contains("NaN}}\" is no JSON at byte 33") && log.contains("for NaN and Infinity JSON has null"),
        "{log}"
    );
    assert!(log.contains("step is -1, and a whole number from 0 to 18446744073709551615 is right"), "{log}");
    assert!(log.contains("7 oddities of reports were passed over in all"), "{log}");
    let progress = job.progress.unwrap();
    assert_eq!((progress.step, progress.epoch), (i64::MAX as u64, u32::MAX));
    for command in [&["show", &job.name][..], &["watch", &job.name]] {
        assert_eq!(told(&daemon.ctl(command)).0, 0, "{command:?}");
    }
    assert_eq!(daemon.page("/metrics").0, 200);
}

#[tokio::test]
async fn a_program_that_forks_and_leaves_is_over_once_what_it_has_left_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    let script = "setsid sh -c 'trap \"\" TERM HUP; setsid sleep 1000 & echo $! > new; mv new child; sleep 1000' &\n\
                  while [ ! -s child ]; do sleep 0.01; done; exit 0";
    let job = run(&daemon, shell(script)).await;
    let child = fs::read_to_string(daemon.job_folder(&job.name).join("program/child")).unwrap();
    assert!(is_gone(child.trim().parse().unwrap()), "{child}");
    assert_eq!((job.state(), job.end.unwrap().exit_code), (JobState::Succeeded, Some(0)));
}

#[tokio::test]
async fn a_program_that_closes_its_descriptors_goes_on_to_its_own_end() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    let close = "eval \"exec $TORCHD_REPORT_FD>&-\"; exec >&- 2>&- <&-; : > closed\n";
    let script = report(r#"{"step": 1, "scalars": {"loss": 1}}"#) + close + WAIT;
    let job = daemon.create(shell(&script)).await;
    let closed = daemon.job_folder(&job.name).join("program/closed");
    wait_for("the closed descriptors", || closed.exists().then_some(()));
    let ended = cancel(&daemon, &job).await;
    assert_eq!((ended.state(), ended.end.unwrap().exit_code), (JobState::Cancelled, Some(0)));
    assert_eq!(scalars(&daemon, &job.name, "loss").await, [(1, 1.0)]);
    let job = run(&daemon, shell(&(close.to_owned() + "exit 4"))).await;
    assert_eq!(job.end.unwrap().exit_code, Some(4));
}

#[tokio::test]
async fn a_program_that_fills_the_disk_is_paused_and_goes_on_with_every_value_once_there_is_room() {
    let Some(disk) = tools::allowed("a small disk", SmallDisk::mount()) else { return };
    let root = tempfile::tempdir().unwrap();
    let state = disk.path().join("state");
    let daemon = Setup::in_state(&state)
        .data_root(root.path())
        .set("programs.enabled", "true")
        .set("programs.allowed", "/usr/bin:/bin")
        .start();
    // It goes on from the step that its checkpoint has.
    let script = "step=$(cat ${TORCHD_RESUME_FROM:-/dev/null}); step=$((${step:-0} + 1))\n\
                  while [ $TORCHD_ATTEMPT = 1 ] || [ $step -le 60 ]; do\n\
                  echo \"{\\\"step\\\": $step, \\\"scalars\\\": {\\\"loss\\\": $step}}\" >&$TORCHD_REPORT_FD\n\
                  if [ $step = 20 ]; then echo 20 > checkpoints/20\n\
                  echo '{\"step\": 20, \"checkpoint\": \"checkpoints/20\"}' >&$TORCHD_REPORT_FD; fi\n\
                  if [ $step = 40 ] && [ $TORCHD_ATTEMPT = 1 ]; then cat /dev/zero > ballast; fi\n\
                  sleep 0.01; step=$((step + 1)); done";
    let job = daemon.create(shell(script)).await;
    let says_so = |job: &v1::Job| {
        let told = [&job.end, &job.last_attempt_end];
        told.iter().any(|end| end.as_ref().is_some_and(|end| end.reason() == JobEndReason::Storage))
            || job.waiting_reason.contains("cannot be written down")
    };
    daemon.watch_until(&job.name, says_so).await;
    fs::remove_file(daemon.job_folder(&job.name).join("program/ballast")).unwrap();
    let paused = daemon.watch_until(&job.name, |job| job.state() == JobState::Paused).await;
    assert_eq!(paused.last_attempt_end.unwrap().reason(), JobEndReason::Storage);
    let request = v1::ResumeJobRequest { name: job.name.clone(), ..Default::default() };
    daemon.jobs().await.resume_job(request).await.unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), JobState::Succeeded, "{:?} {}", ended.end, log(&daemon, &ended));
    let expected: Vec<_> = (1..=60).map(|step| (step, step as f64)).collect();
    assert_eq!(scalars(&daemon, &job.name, "loss").await, expected);
}

#[tokio::test]
async fn memory_counts_with_what_a_program_has_forked_off_and_each_process_has_its_own_limit() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    // It is no descendant of the program any more: its parent has ended.
    let script = "(setsid sh -c 'head -c 400000000 /dev/zero | tail' &)\n";
    let mut spec = shell(&(script.to_owned() + WAIT));
    spec.resources.as_mut().unwrap().memory_limit_bytes = Some(200 << 20);
    let end = run(&daemon, spec).await.end.unwrap();
    assert_eq!(end.reason(), JobEndReason::OutOfMemory, "{end:?}");
    assert!(end.message.contains("resources.memory_limit_bytes is 209715200"), "{end:?}");
    let limited = setup(root.path()).set("programs.max_memory_bytes", "134217728").start();
    let script = "head -c 400000000 /dev/zero | tail > tail; exit $((50 + $?))";
    let end = run(&limited, shell(script)).await.end.unwrap();
    assert_eq!((end.reason(), end.exit_code), (JobEndReason::ProgramFailed, Some(51)), "{end:?}");
}

#[tokio::test]
async fn the_kernel_keeps_a_program_to_its_memory_where_its_host_cannot() {
    let root = tempfile::tempdir().unwrap();
    let delegated = Delegated::make();
    let mut setup = setup(root.path()).set("jobs.control_groups", "true");
    if let Some(Delegated(group)) = &delegated {
        setup = setup.shell(&format!("echo $$ > {}/daemon/cgroup.procs", group.display()));
    }
    let daemon = setup.start();
    let cluster = daemon.system().await.get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner();
    let groups = cluster.capabilities.into_iter().find(|capability| capability.name == "control_groups").unwrap();
    let works = if groups.available { Ok(()) } else { Err(groups.reason) };
    let Some(()) = tools::allowed("control groups of jobs", works) else { return };
    // It keeps all that it reads, in search of the end of a line.
    let mut spec = shell("until [ -e go ]; do sleep 0.05; done; tail /dev/zero; exit 1");
    spec.resources.as_mut().unwrap().memory_limit_bytes = Some(100 << 20);
    let job = daemon.create(spec).await;
    // It ends by the same signal, and not because of its memory.
    let mut beside = shell("until [ -e go ]; do sleep 0.05; done; kill -9 $$");
    beside.resources.as_mut().unwrap().memory_limit_bytes = Some(100 << 20);
    let beside = daemon.create(beside).await;
    daemon.watch_until(&beside.name, |job| job.state() == JobState::Running).await;
    daemon.watch_until(&job.name, |job| job.state() == JobState::Running).await;
    let (host, id) = (daemon.signed(&job.name, "lock"), job.name.trim_start_matches("jobs/"));
    let program = wait_for("the program", || {
        let children = fs::read_to_string(format!("/proc/{host}/task/{host}/children")).ok()?;
        children.split_whitespace().next()?.parse::<i32>().ok()
    });
    let told = fs::read_to_string(format!("/proc/{program}/cgroup")).unwrap();
    let group = told.lines().find(|line| line.ends_with(&format!("/torchd-job-{id}"))).expect(&told);
    let path = group.splitn(3, ':').nth(2).unwrap();
    let mounts = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(|mount| format!("{mount}{path}"));
    let folder = mounts.iter().find(|folder| Path::new(folder).is_dir()).unwrap();
    let limit = ["memory.max", "memory.limit_in_bytes"].map(|name| Path::new(folder).join(name));
    let limit = limit.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap();
    assert_eq!(limit.trim(), "104857600");
    // So that it ends nothing by itself.
    kill(Pid::from_raw(host), Signal::SIGSTOP).unwrap();
    fs::write(daemon.job_folder(&job.name).join("program/go"), "").unwrap();
    wait_for("the end of the program", || {
        let stat = fs::read_to_string(format!("/proc/{program}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.starts_with('Z').then_some(())
    });
    kill(Pid::from_raw(host), Signal::SIGCONT).unwrap();
    let end = daemon.watch_to_end(&job.name).await.end.unwrap();
    assert_eq!((end.reason(), end.exit_code), (JobEndReason::OutOfMemory, Some(1)), "{end:?}");
    assert!(end.message.ends_with("the job had reached resources.memory_limit_bytes, 104857600"), "{end:?}");
    assert!(!Path::new(folder).exists(), "the group outlives its job");
    fs::write(daemon.job_folder(&beside.name).join("program/go"), "").unwrap();
    let end = daemon.watch_to_end(&beside.name).await.end.unwrap();
    assert_eq!((end.reason(), end.signal), (JobEndReason::ProgramFailed, Some(9)), "{end:?}");
    drop(daemon);
}

/// A control group of version 2 in which a daemon is alone, as systemd makes one for a unit.
struct Delegated(PathBuf);

impl Delegated {
    /// None where control groups are of version 1, or none can be made.
    fn make() -> Option<Self> {
        let top = Path::new("/sys/fs/cgroup");
        // With version 1 this is a folder of another file system.
        fs::metadata(top.join("cgroup.controllers")).ok()?;
        fs::write(top.join("cgroup.subtree_control"), "+memory").ok()?;
        let group = Self(top.join(format!("torchd-test-delegated-{}", std::process::id())));
        fs::create_dir_all(group.0.join("daemon")).ok()?;
        Some(group)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for group in [self.0.join("daemon"), self.0.clone()] {
            let _ = fs::remove_dir(group);
        }
    }
}

#[tokio::test]
async fn processes_beyond_their_number_and_a_file_without_end_have_bounds() {
    let root = tempfile::tempdir().unwrap();
    let limits = setup(root.path()).set("programs.max_processes", "100").set("programs.max_file_bytes", "1048576");
    let daemon = limits.start();
    let name = tempfile::Builder::new().prefix("forks").tempdir().unwrap();
    let mark = name.path().file_name().unwrap().to_string_lossy().into_owned();
    // As many as show the bound. A bomb that grows by itself would be one of this machine as well.
    let script = format!("i=0; while [ $i -lt 300 ]; do sh -c ': {mark}; sleep 1000; true' & i=$((i + 1)); done; wait");
    let end = run(&daemon, shell(&script)).await.end.unwrap();
    // The kernel refuses the fork, but not to root.
    assert_eq!(end.reason(), JobEndReason::ProgramFailed, "{end:?}");
    assert!(end.message.contains("programs.max_processes is 100") || end.exit_code == Some(2), "{end:?}");
    let command = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).ok();
    let left = fs::read_dir("/proc").unwrap().filter_map(|entry| command(entry.unwrap()));
    assert_eq!(left.filter(|line| String::from_utf8_lossy(line).contains(&mark)).count(), 0);
    let job = run(&daemon, shell("head -c 5000000 /dev/zero > big; exit 6")).await;
    assert_eq!(job.end.unwrap().exit_code, Some(6));
    let big = daemon.job_folder(&job.name).join("program/big");
    assert_eq!(fs::metadata(big).unwrap().len(), 1 << 20);
}

/// Makes a file that can be started.
fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_program_that_cannot_be_started_says_why() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = elsewhere.path().canonicalize().unwrap();
    for folder in ["programs", "work"] {
        fs::create_dir(root.join(folder)).unwrap();
    }
    let programs = elsewhere.join("programs");
    fs::create_dir_all(programs.join("bin")).unwrap();
    // Named by a link: the folder that it leads to now.
    symlink(&programs, elsewhere.join("allowed")).unwrap();
    fs::create_dir(elsewhere.join("other")).unwrap();
    fs::copy("/bin/sh", elsewhere.join("other/sh")).unwrap();
    let other = elsewhere.join("other/sh").display().to_string();
    script(&programs.join("bin/fine"), "#!/bin/sh\nexit 7\n");
    script(&programs.join("bin/foreign"), &format!("#!{other} -e\nexit 7\n"));
    script(&programs.join("bin/absent"), "#!/nowhere/python\n");
    let allowed = format!("{}:/bin/sh:/usr/bin/sh", elsewhere.join("allowed").display());
    let daemon = Setup::new()
        .data_root(&root)
        .set("programs.enabled", "true")
        .set("programs.allowed", &allowed)
        .set("jobs.cpu_slots", "1")
        .start();
    let of = |path: String| {
        let program = v1::Program { command: vec![path], ..v1::Program::default() };
        v1::JobSpec { program: Some(program), ..shell("") }
    };
    for folder in [&programs, &elsewhere.join("allowed")] {
        let job = run(&daemon, of(folder.join("bin/fine").display().to_string())).await;
        assert_eq!(job.end.unwrap().exit_code, Some(7));
    }
    let request = v1::CreateJobRequest { spec: Some(of(other.clone())), ..Default::default() };
    let refused = daemon.jobs().await.create_job(request).await.unwrap_err();
    assert!(refused.message().contains("is not among the programs"), "{refused}");
    let foreign =
        tools::landlock().map(|_| ("foreign", format!("names {other:?} as its interpreter, which lies outside")));
    let absent = ("absent", "names \"/nowhere/python\" as its interpreter, which is not there".to_owned());
    for (name, words) in foreign.into_iter().chain([absent]) {
        let end = run(&daemon, of(programs.join("bin").join(name).display().to_string())).await.end.unwrap();
        assert_eq!(end.reason(), JobEndReason::ProgramFailed, "{end:?}");
        assert!(end.message.contains(&words), "{end:?}");
    }
    // The folder goes while the job waits.
    let first = daemon.create(shell(WAIT)).await;
    let mut waits = shell("exit 0");
    waits.program.as_mut().unwrap().working_dir = root.join("work").display().to_string();
    let waits = daemon.create(waits).await;
    fs::remove_dir(root.join("work")).unwrap();
    cancel(&daemon, &first).await;
    let end = daemon.watch_to_end(&waits.name).await.end.unwrap();
    let work = root.join("work").display().to_string();
    assert!(end.message.contains(&format!("program.working_dir, {work}, cannot be entered")), "{end:?}");
}

#[tokio::test]
async fn a_program_gets_the_variables_that_the_settings_pass_on() {
    let root = tempfile::tempdir().unwrap();
    let print =
        "echo \"[$LANG] [$MKL_X] [$SECRET] [$WANDB_MODE] [$WANDB_KEY] [$NOTIFY_SOCKET] [$TORCHD__JOBS__CPU_SLOTS]\"";
    let start = |setup: Setup| {
        let names = ["LANG", "MKL_X", "SECRET", "WANDB_MODE", "WANDB_KEY"];
        names.iter().fold(setup, |setup, name| setup.env(name, name.to_lowercase())).set("jobs.cpu_slots", "2").start()
    };
    let daemon = start(setup(root.path()));
    let job = run(&daemon, shell(print)).await;
    assert!(log(&daemon, &job).contains("[lang] [mkl_x] [] [] [] [] []"), "{}", log(&daemon, &job));
    let daemon = start(setup(root.path()).set("programs.environment", "PATH,SECRET,WANDB_*,TORCHD_*"));
    let job = run(&daemon, shell(print)).await;
    let log = log(&daemon, &job);
    assert!(log.contains("[] [] [secret] [wandb_mode] [wandb_key] [] []"), "{log}");
}

#[tokio::test]
async fn a_hundred_short_programs_all_end_once_although_the_daemon_is_killed_in_the_middle() {
    let root = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let start = || {
        Setup::in_state(state.path())
            .set("programs.enabled", "true")
            .set("programs.allowed", "/usr/bin:/bin")
            .set("jobs.cpu_slots", "4")
            .set("shutdown.runners", "leave")
            .data_root(root.path())
            .start()
    };
    let daemon = start();
    let mut names = Vec::new();
    for _ in 0..100 {
        names.push(daemon.create(shell("echo ran >> ran; exit 0")).await.name);
    }
    let ended = |name: &String| state.path().join(name).join("exit.json").exists();
    wait_for("some ends", || (names.iter().filter(|name| ended(name)).count() >= 20).then_some(()));
    let left = names.iter().filter(|name| !ended(name)).count();
    daemon.crash();
    assert!(left > 0, "all had ended before the daemon was killed");
    let daemon = start();
    for name in &names {
        let job = daemon.watch_to_end(name).await;
        // One that was assigned and not started yet has another attempt, and still runs once.
        assert_eq!((job.state(), job.restarts), (JobState::Succeeded, 0), "{:?} {}", job.end, log(&daemon, &job));
        assert_eq!(fs::read_to_string(daemon.job_folder(name).join("program/ran")).unwrap(), "ran\n", "{name}");
    }
    let list = v1::ListJobsRequest { page_size: 1000, ..Default::default() };
    assert_eq!(daemon.jobs().await.list_jobs(list).await.unwrap().into_inner().jobs.len(), 100);
}
