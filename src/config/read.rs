//! From sources to settings.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::environment::first_folder;
use super::keys::{Keys, Mistake, parsed, text};
use super::sources::merge;
use super::values::{
    INTERVALS, LONGEST_SOCKET, LONGEST_STATE_DIR, MOST_MESSAGE_BYTES, duration, hosts, in_range, listen, log_format,
    log_level, long_duration, mode, path, paths, thread_wait, variables,
};
use super::{Environment, LogFormat, Settings, ShutdownRunners, security};

/// The settings file that is read where no other is named.
pub const DEFAULT_FILE: &str = "/etc/torchd/torchd.toml";

/// Variables that programs get where the settings do not say.
const PROGRAMS_ENVIRONMENT: [&str; 8] =
    ["PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "NVIDIA_*", "OMP_*", "MKL_*"];

/// The settings that flags give; None and empty where they give none.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
    /// `--grpc-listen`
    pub grpc_listen: Option<String>,
    /// `--http-listen`
    pub http_listen: Option<String>,
    /// `--data-root`
    pub data_roots: Vec<PathBuf>,
}

/// Settings that are wrong: all mistakes.
#[derive(Debug)]
pub struct Invalid(pub Vec<Mistake>);

/// Reads, merges and judges all sources. `cpus` is what this machine has.
pub fn load(flags: &Flags, environment: &Environment, cpus: u32) -> Result<Settings, Invalid> {
    let mut odd = Vec::new();
    let merged = merge(flags, environment, &mut odd).map_err(|error| {
        Invalid(vec![Mistake { key: "settings".into(), origin: String::new(), what: error.to_string() }])
    })?;
    let mut keys = Keys::new(&merged).map_err(|error| {
        Invalid(vec![Mistake { key: "settings".into(), origin: String::new(), what: error.to_string() }])
    })?;
    let settings = read(&mut keys, environment, cpus);
    odd.extend(keys.finish());
    match settings {
        Some(settings) if odd.is_empty() => Ok(settings),
        _ => Err(Invalid(odd)),
    }
}

/// How often something is done again.
fn interval(keys: &mut Keys, key: &'static str) -> Option<Duration> {
    let interval = keys.take(key, duration);
    if let Some(interval) = interval.filter(|interval| !INTERVALS.contains(interval)) {
        keys.add(key, format!("is {}; 100ms to 1h is right", humantime::format_duration(interval)));
    }
    interval
}

fn read(keys: &mut Keys, environment: &Environment, cpus: u32) -> Option<Settings> {
    let default = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
    let grpc_listen = keys.take("grpc.listen", listen).unwrap_or(default(7080));
    let http_listen = keys.take("http.listen", listen).unwrap_or(default(7081));
    let http_allowed_hosts = keys.take("http.allowed_hosts", hosts).unwrap_or_default();
    let security = security::read(keys, environment, grpc_listen, http_listen);
    let audit_max_file_bytes = keys.take("audit.max_file_bytes", in_range(4096, 1 << 40, "bytes"));
    let audit_files = keys.take("audit.files", in_range(1, 1000, "files"));
    let audit_reads = keys.take("audit.reads", parsed("true or false is needed"));
    let grpc_max_message_bytes = keys.take("grpc.max_message_bytes", in_range(1024, MOST_MESSAGE_BYTES, "bytes"));
    let grpc_max_streams = keys.take("grpc.max_streams", in_range(1, 1 << 20, "calls"));
    let grpc_keepalive_interval = interval(keys, "grpc.keepalive_interval");
    let state_dir = keys.take("state_dir", path);
    let state_group_read = keys.take("state_group_read", parsed("true or false is needed")).unwrap_or(false);
    let data_roots = keys.take("data.roots", paths).unwrap_or_default();
    for root in &data_roots {
        if !root.is_dir() {
            keys.add("data.roots", format!("names {}, which is no folder", root.display()));
        }
    }
    let uploads_quota_bytes = keys.take("uploads.quota_bytes", in_range(0, 1 << 50, "bytes"));
    let uploads_max_files = keys.take("uploads.max_files", in_range(1, 100_000, "files"));
    let programs_enabled = keys.take("programs.enabled", parsed("true or false is needed")).unwrap_or(false);
    let programs_allowed: Vec<_> = keys.take("programs.allowed", paths).unwrap_or_default();
    for path in programs_allowed.iter().filter(|path| !path.is_absolute()) {
        keys.add("programs.allowed", format!("names {}; absolute paths are needed", path.display()));
    }
    for path in programs_allowed.iter().filter(|path| path.is_absolute() && !path.exists()) {
        keys.add("programs.allowed", format!("names {}, which is not there", path.display()));
    }
    if programs_enabled && programs_allowed.is_empty() {
        let what = "is empty, and programs.enabled is true; name programs, or folders of programs, that jobs may run";
        keys.add("programs.allowed", what.into());
    }
    let programs_environment = keys.take("programs.environment", variables);
    let programs_max_memory_bytes = keys.take("programs.max_memory_bytes", in_range(1 << 20, 1 << 50, "bytes"));
    let programs_max_processes = keys.take("programs.max_processes", in_range(1, 1 << 22, "processes"));
    let programs_max_file_bytes = keys.take("programs.max_file_bytes", in_range(1 << 20, 1 << 50, "bytes"));
    read_cluster(keys, environment);
    let cluster_runtime = keys.take("cluster.runtime", text).filter(|runtime| !runtime.is_empty());
    let cluster_node_type = keys.take("cluster.node_type", text).filter(|kind| !kind.is_empty());
    let catalogue_dir = keys.take("compatibility.catalogue_dir", path);
    if let Some(folder) = catalogue_dir.as_ref().filter(|folder| !folder.is_dir()) {
        keys.add("compatibility.catalogue_dir", format!("is {}, which is no folder", folder.display()));
    }
    let catalogue_falls_back = keys.take("compatibility.on_catalogue_error", |value| match text(value)?.as_str() {
        "refuse" => Ok(false),
        "embedded" => Ok(true),
        other => Err(format!("is {other:?}; refuse or embedded is right")),
    });
    let grpc_unix_socket = keys.take("grpc.unix_socket", path);
    if let Some(path) = grpc_unix_socket.as_ref().filter(|path| path.as_os_str().len() > LONGEST_SOCKET) {
        let length = path.as_os_str().len();
        keys.add("grpc.unix_socket", format!("has {length} bytes; a socket's path has at most {LONGEST_SOCKET}"));
    }
    let grpc_unix_socket_mode = keys.take("grpc.unix_socket_mode", mode);
    let cluster_python = keys.take("cluster.python", path);
    if let Some(path) = cluster_python.as_ref().filter(|path| !path.is_file()) {
        keys.add(
            "cluster.python",
            format!("is {}, which is no file; an interpreter of Python is right", path.display()),
        );
    }
    let check_interval = keys.take("compatibility.check_interval", duration);
    if check_interval.is_some_and(|interval| interval < Duration::from_secs(1)) {
        keys.add("compatibility.check_interval", "is shorter than 1s, the shortest that is right".into());
    }
    let nvml_library = keys.take("gpu.nvml_library", path);
    let gpu_sample_interval = interval(keys, "gpu.sample_interval");
    let switch = parsed("true or false is needed");
    let gpu_pcie_throughput = keys.take("gpu.pcie_throughput", &switch);
    let gpu_replay = keys.take("gpu.replay", path);
    let gpu_show_foreign_processes = keys.take("gpu.show_foreign_processes", &switch);
    let gpu_share_with_foreign_processes = keys.take("gpu.share_with_foreign_processes", &switch);
    let metrics_dcgm_names = keys.take("metrics.dcgm_names", &switch);
    let metrics_dcgm_hostname_label = keys.take("metrics.dcgm_hostname_label", |value| match text(value)?.as_str() {
        label @ ("Hostname" | "hostname") => Ok(label.to_owned()),
        other => Err(format!("is {other:?}; Hostname or hostname is right")),
    });
    let metrics_hpc_job_mapping_dir = keys.take("metrics.hpc_job_mapping_dir", path);
    if let Some(folder) = metrics_hpc_job_mapping_dir.as_ref().filter(|folder| !folder.is_dir()) {
        keys.add("metrics.hpc_job_mapping_dir", format!("is {}, which is no folder", folder.display()));
    }
    let runner_path = keys.take("runner.path", path);
    let runner_libtorch_dir = keys.take("runner.libtorch_dir", path);
    for (key, named, what) in
        [("runner.path", &runner_path, "file"), ("runner.libtorch_dir", &runner_libtorch_dir, "folder")]
    {
        if let Some(path) = named.as_ref().filter(|path| if what == "file" { !path.is_file() } else { !path.is_dir() })
        {
            keys.add(key, format!("is {}, which is no {what}", path.display()));
        }
    }
    // Runners work in folders of their own, where a relative path would mean something else.
    let runner_libtorch_dir = runner_libtorch_dir.and_then(|folder| folder.canonicalize().ok());
    if let Some(folder) = runner_libtorch_dir.as_ref().filter(|folder| !folder.join("libtorch_cpu.so").is_file()) {
        keys.add("runner.libtorch_dir", format!("is {}, which holds no libtorch_cpu.so", folder.display()));
    }
    let runner_dry_run_timeout = keys.take("runner.dry_run_timeout", duration).unwrap_or(Duration::from_secs(60));
    let runner_dry_run_memory_bytes = keys.take("runner.dry_run_memory_bytes", in_range(1 << 26, 1 << 46, "bytes"));
    let daemon_max_file_bytes = keys.take("daemon.max_file_bytes", in_range(1 << 20, 1 << 50, "bytes"));
    let daemon_max_address_space_bytes =
        keys.take("daemon.max_address_space_bytes", in_range(1 << 30, 1 << 50, "bytes"));
    let runner_max_file_bytes = keys.take("runner.max_file_bytes", in_range(1 << 20, 1 << 50, "bytes"));
    let runner_max_address_space_bytes =
        keys.take("runner.max_address_space_bytes", in_range(1 << 30, 1 << 50, "bytes"));
    let runner_stop_grace = keys.take("runner.stop_grace", duration).unwrap_or(Duration::from_secs(10));
    let jobs_max_queued = keys.take("jobs.max_queued", in_range(1, 100_000, "jobs"));
    let jobs_max_queued_per_owner = keys.take("jobs.max_queued_per_owner", in_range(1, 100_000, "jobs"));
    let jobs_max_running_per_owner = keys.take("jobs.max_running_per_owner", in_range(1, 4096, "jobs"));
    let jobs_max_state_bytes_per_owner = keys.take("jobs.max_state_bytes_per_owner", in_range(1, 1 << 50, "bytes"));
    let jobs_cpu_slots = keys.take("jobs.cpu_slots", in_range(1, 4096, "cores"));
    let jobs_thread_wait = keys.take("jobs.thread_wait", thread_wait);
    let output_mirror_roots = keys.take("output.mirror_roots", paths).unwrap_or_default();
    for root in output_mirror_roots.iter().filter(|root| !root.is_absolute()) {
        keys.add("output.mirror_roots", format!("names {}; absolute paths are needed", root.display()));
    }
    let output_mirror_interval = keys.take("output.mirror_interval", duration);
    if output_mirror_interval.is_some_and(|interval| interval < Duration::from_millis(100)) {
        keys.add("output.mirror_interval", "is shorter than 100ms, the shortest that is right".into());
    }
    let jobs_preemption = keys.take("jobs.preemption", &switch);
    let jobs_control_groups = keys.take("jobs.control_groups", &switch);
    let jobs_ttl_after_end = keys.take("jobs.ttl_after_end", long_duration);
    let jobs_orphan_timeout = keys.take("jobs.orphan_timeout", duration);
    let jobs_rank_lease = keys.take("jobs.rank_lease", duration);
    if jobs_rank_lease.is_some_and(|lease| lease < Duration::from_secs(3)) {
        keys.add("jobs.rank_lease", "is shorter than 3s, the shortest that is right".into());
    }
    let jobs_log_max_bytes = keys.take("jobs.log_max_bytes", in_range(4096, 1 << 40, "bytes"));
    let jobs_max_event_bytes = keys.take("jobs.max_event_bytes", in_range(4096, 1 << 40, "bytes"));
    let jobs_max_state_bytes = keys.take("jobs.max_state_bytes", in_range(1, 1 << 50, "bytes"));
    let shutdown_runners = keys.take("shutdown.runners", |value| match text(value)?.as_str() {
        "leave" => Ok(ShutdownRunners::Leave),
        "stop" => Ok(ShutdownRunners::Stop),
        other => Err(format!("is {other:?}; leave or stop is right")),
    });
    let shutdown_timeout = keys.take("shutdown.timeout", duration).unwrap_or(Duration::from_secs(30));
    if shutdown_timeout <= runner_stop_grace {
        let (timeout, grace) =
            (humantime::format_duration(shutdown_timeout), humantime::format_duration(runner_stop_grace));
        let found =
            format!("is {timeout}, and runners may take runner.stop_grace = {grace} to stop; it has to be longer");
        keys.add("shutdown.timeout", found);
    }
    let log_format = keys.take("log.format", log_format);
    let log_level = keys.take("log.level", log_level);
    let state_dir = state_dir.or_else(|| default_state_dir(environment));
    // The length counts after links are followed, if the folder exists.
    let full = state_dir.as_ref().and_then(|path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok());
    if let Some(length) = full.map(|path| path.as_os_str().len()).filter(|length| *length > LONGEST_STATE_DIR) {
        let what =
            format!("has {length} bytes; SQLite takes paths of at most {LONGEST_STATE_DIR} for its database's folder");
        keys.add("state_dir", what);
    }
    if state_dir.is_none() {
        keys.add("state_dir", "is not set, and neither STATE_DIRECTORY nor HOME tells where to keep state".into());
    }
    Some(Settings {
        state_dir: state_dir?,
        state_group_read,
        grpc_listen,
        grpc_max_message_bytes: grpc_max_message_bytes.unwrap_or(4 << 20),
        grpc_max_streams: grpc_max_streams.map_or(1000, |calls| calls as u32),
        grpc_keepalive_interval: grpc_keepalive_interval.unwrap_or(Duration::from_secs(30)),
        grpc_unix_socket,
        grpc_unix_socket_mode: grpc_unix_socket_mode.unwrap_or(0o660),
        http_listen,
        http_allowed_hosts,
        security,
        audit_max_file_bytes: audit_max_file_bytes.map_or(16 << 20, |bytes| bytes as u64),
        audit_files: audit_files.unwrap_or(5),
        audit_reads: audit_reads.unwrap_or(false),
        data_roots,
        uploads_quota_bytes: uploads_quota_bytes.map_or(50 << 30, |bytes| bytes as u64),
        uploads_max_files: uploads_max_files.unwrap_or(10_000),
        programs_enabled,
        // Their folders by their own names: those of links may change.
        programs_allowed: programs_allowed.into_iter().map(|path| canonical_parent(&path)).collect(),
        programs_environment: programs_environment.unwrap_or_else(|| PROGRAMS_ENVIRONMENT.map(str::to_owned).to_vec()),
        programs_max_memory_bytes: programs_max_memory_bytes.map(|bytes| bytes as u64),
        programs_max_processes: programs_max_processes.map(|count| count as u64),
        programs_max_file_bytes: programs_max_file_bytes.map(|bytes| bytes as u64),
        cluster_runtime,
        cluster_node_type,
        cluster_python,
        catalogue_dir,
        catalogue_falls_back: catalogue_falls_back.unwrap_or(false),
        check_interval: check_interval.unwrap_or(Duration::from_secs(3600)),
        nvml_library,
        gpu_sample_interval: gpu_sample_interval.unwrap_or(Duration::from_secs(1)),
        gpu_pcie_throughput: gpu_pcie_throughput.unwrap_or(false),
        gpu_replay,
        gpu_show_foreign_processes: gpu_show_foreign_processes.unwrap_or(false),
        gpu_share_with_foreign_processes: gpu_share_with_foreign_processes.unwrap_or(false),
        metrics_dcgm_names: metrics_dcgm_names.unwrap_or(false),
        metrics_dcgm_hostname_label: metrics_dcgm_hostname_label.unwrap_or_else(|| "Hostname".into()),
        metrics_hpc_job_mapping_dir,
        runner_path,
        runner_libtorch_dir,
        runner_stop_grace,
        runner_dry_run_timeout,
        runner_dry_run_memory_bytes: runner_dry_run_memory_bytes.map(|bytes| bytes as u64),
        daemon_max_file_bytes: daemon_max_file_bytes.map(|bytes| bytes as u64),
        daemon_max_address_space_bytes: daemon_max_address_space_bytes.map(|bytes| bytes as u64),
        runner_max_file_bytes: runner_max_file_bytes.map(|bytes| bytes as u64),
        runner_max_address_space_bytes: runner_max_address_space_bytes.map(|bytes| bytes as u64),
        jobs_max_queued: jobs_max_queued.unwrap_or(100),
        jobs_max_queued_per_owner,
        jobs_max_running_per_owner: jobs_max_running_per_owner.map(|jobs| jobs as u32),
        jobs_max_state_bytes_per_owner: jobs_max_state_bytes_per_owner.map(|bytes| bytes as u64),
        jobs_thread_wait: jobs_thread_wait.unwrap_or_else(|| "adaptive".to_owned()),
        jobs_cpu_slots: jobs_cpu_slots.map_or(cpus, |slots| slots as u32),
        output_mirror_roots,
        output_mirror_interval: output_mirror_interval.unwrap_or(Duration::from_secs(30)),
        jobs_preemption: jobs_preemption.unwrap_or(false),
        jobs_control_groups: jobs_control_groups.unwrap_or(false),
        jobs_ttl_after_end,
        jobs_orphan_timeout: jobs_orphan_timeout.unwrap_or(Duration::from_secs(3600)),
        jobs_rank_lease: jobs_rank_lease.unwrap_or(Duration::from_secs(30)),
        jobs_log_max_bytes: jobs_log_max_bytes.map_or(64 << 20, |bytes| bytes as u64),
        jobs_max_event_bytes: jobs_max_event_bytes.map_or(256 << 20, |bytes| bytes as u64),
        jobs_max_state_bytes: jobs_max_state_bytes.map(|bytes| bytes as u64),
        shutdown_runners: shutdown_runners.unwrap_or(ShutdownRunners::Leave),
        shutdown_timeout,
        log_format: log_format.unwrap_or(LogFormat::Auto),
        log_level: log_level.unwrap_or_else(|| "info".into()),
    })
}

/// A path whose folder is canonical: the last part may be a link, by which a program is started.
fn canonical_parent(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.canonicalize().unwrap_or_else(|_| path.to_owned());
    }
    match (path.parent().and_then(|parent| parent.canonicalize().ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

/// torchd runs on the one node of a driver-only cluster. Both ways of saying otherwise are refused.
fn read_cluster(keys: &mut Keys, environment: &Environment) {
    let workers: Option<u64> = keys.take("cluster.workers", parsed("only 0 is right"));
    if let Some(workers) = workers.filter(|&workers| workers > 0) {
        keys.add(
            "cluster.workers",
            format!(
                "is {workers}; torchd runs on the driver of a driver-only cluster, which has 0 workers, and does not \
                 spread training over machines"
            ),
        );
    }
    let role = keys.take("cluster.role", |value| match text(value)?.as_str() {
        "driver" => Ok("driver"),
        "worker" => Ok("worker"),
        other => Err(format!("is {other:?}; driver is right")),
    });
    let is_worker = "this node is a worker; start torchd on the driver";
    if role == Some("worker") {
        keys.add("cluster.role", format!("says that {is_worker}"));
    }
    if environment.get("DB_IS_DRIVER").is_some_and(|value| value.eq_ignore_ascii_case("false")) {
        keys.add("cluster.role", format!("is not what Databricks says: DB_IS_DRIVER is FALSE, so {is_worker}"));
    }
}

/// `$STATE_DIRECTORY` as systemd sets it (the first where it names several), else the user's own.
fn default_state_dir(environment: &Environment) -> Option<PathBuf> {
    let home = || environment.get("HOME").filter(|home| !home.is_empty());
    let own = || Some(Path::new(home()?).join(".local/state/torchd"));
    first_folder(environment, "STATE_DIRECTORY").map(PathBuf::from).or_else(own)
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the settings have {count} mistake{}:", if count == 1 { "" } else { "s" })?;
        for Mistake { key, origin, what } in &self.0 {
            let origin = if origin.is_empty() { String::new() } else { format!(" (from {origin})") };
            write!(f, "\n  {key}{origin}: {what}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(content: &str, environment: &[(&str, &str)], flags: Flags) -> Result<Settings, Invalid> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let environment: Environment =
            [("HOME", "/home/a")].iter().chain(environment).map(|&(k, v)| (k.into(), v.into())).collect();
        load(&Flags { config: Some(file.path().into()), ..flags }, &environment, 8)
    }

    fn mistakes(content: &str, environment: &[(&str, &str)]) -> Vec<String> {
        let invalid = with_file(content, environment, Flags::default()).unwrap_err();
        invalid.0.into_iter().map(|mistake| mistake.key).collect()
    }

    #[test]
    fn without_any_settings_the_defaults_of_the_contract_come_out() {
        let settings = with_file("", &[], Flags::default()).unwrap();
        assert_eq!(settings.grpc_listen.unwrap().to_string(), "127.0.0.1:7080");
        assert_eq!(settings.http_listen.unwrap().to_string(), "127.0.0.1:7081");
        assert!(!settings.state_group_read);
        assert_eq!(settings.state_dir, Path::new("/home/a/.local/state/torchd"));
        assert_eq!(settings.jobs_cpu_slots, 8);
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let file = "state_dir = '/file'\n[grpc]\nlisten = '127.0.0.1:1'\n[jobs]\nmax_queued = 5";
        let environment =
            [("TORCHD__GRPC__LISTEN", "127.0.0.1:2"), ("TORCHD__STATE_DIR", "/env"), ("STATE_DIRECTORY", "/sd")];
        let flags = Flags { grpc_listen: Some("127.0.0.1:3".into()), ..Flags::default() };
        let settings = with_file(file, &environment, flags).unwrap();
        assert_eq!(settings.grpc_listen.unwrap().port(), 3);
        assert_eq!(settings.state_dir, Path::new("/env"));
        assert_eq!(settings.jobs_max_queued, 5);
        let settings = with_file("", &[("STATE_DIRECTORY", ":/sd:/other")], Flags::default()).unwrap();
        assert_eq!(settings.state_dir, Path::new("/sd"));
    }

    #[test]
    fn all_mistakes_are_told_with_their_origin() {
        let file = "[grpc]\nlisten = 'nowhere'\n[http]\nlitsen = '127.0.0.1:1'\n[runner]\nstop_grace = 5\n[cluster]\nworkers = 2";
        let keys = mistakes(file, &[("TORCHD__JOBS__MAX_QUEUED", "many")]);
        assert_eq!(keys, ["grpc.listen", "cluster.workers", "runner.stop_grace", "jobs.max_queued", "http.litsen"]);
        let text = with_file(file, &[("TORCHD__JOBS__MAX_QUEUED", "many")], Flags::default()).unwrap_err().to_string();
        assert!(text.contains("5 mistakes") && text.contains("(from TORCHD__JOBS__MAX_QUEUED)"), "{text}");
        assert!(text.contains("the nearest is http.listen"), "{text}");
    }

    #[test]
    fn where_no_setting_is_near_those_of_the_section_are_told() {
        let told = |file| with_file(file, &[], Flags::default()).unwrap_err().to_string();
        let jobs = told("[jobs]\nmax_runing = 3");
        assert!(jobs.contains("jobs.max_runing") && jobs.contains("jobs has control_groups, cpu_slots, "), "{jobs}");
        for file in ["[colour]\nx = 1", "[colour]"] {
            let odd = told(file);
            assert!(
                odd.contains("colour") && odd.contains("there are audit, cluster, compatibility, daemon, data, "),
                "{odd}"
            );
        }
        assert!(with_file("[jobs]", &[], Flags::default()).is_ok());
    }

    #[test]
    fn an_address_that_others_can_reach_has_to_be_meant() {
        let open = "[grpc]\nlisten = '0.0.0.0:7080'\n";
        assert_eq!(mistakes(open, &[]), ["grpc.listen"]);
        let meant = format!("{open}[security]\nallow_unauthenticated_remote = true");
        assert!(with_file(&meant, &[], Flags::default()).is_ok());
    }

    #[test]
    fn an_address_that_is_empty_is_none() {
        let flags = Flags { http_listen: Some(String::new()), ..Flags::default() };
        let settings = with_file("[grpc]\nlisten = ''", &[], flags).unwrap();
        assert_eq!((settings.grpc_listen, settings.http_listen), (None, None));
    }

    #[test]
    fn a_worker_node_is_refused() {
        assert_eq!(mistakes("", &[("DB_IS_DRIVER", "FALSE")]), ["cluster.role"]);
        assert_eq!(mistakes("[cluster]\nrole = 'worker'", &[]), ["cluster.role"]);
    }

    #[test]
    fn times_are_bounded_and_runners_get_theirs_before_the_daemon_gives_up() {
        assert_eq!(mistakes("[runner]\nstop_grace = '5000years'", &[]), ["runner.stop_grace"]);
        assert_eq!(mistakes("[runner]\nstop_grace = '30s'", &[]), ["shutdown.timeout"]);
        assert!(with_file("[shutdown]\ntimeout = '11s'", &[], Flags::default()).is_ok());
        assert_eq!(mistakes("[jobs]\nttl_after_end = '20000years'", &[]), ["jobs.ttl_after_end"]);
        assert!(with_file("[jobs]\nttl_after_end = '9000years'", &[], Flags::default()).is_ok());
    }

    #[test]
    fn a_variable_that_can_name_no_setting_hides_no_other_mistake() {
        let keys = mistakes("", &[("TORCHD__A B", "1"), ("TORCHD__GRPC__", "1"), ("TORCHD__GRPC__LISTEN", "bad")]);
        assert_eq!(keys, ["a b", "grpc.", "grpc.listen"]);
    }

    #[test]
    fn a_key_that_asks_for_a_list_of_gigabytes_is_no_setting() {
        let file = "'a[99999999999]' = 1\n'jobs[-99999999999].x' = 1\n[jobs]\nmax_queued = 0";
        let mut keys = mistakes(file, &[("TORCHD__B[99999999999]", "1")]);
        keys.sort();
        assert_eq!(keys, ["\"a[99999999999]\"", "\"jobs[-99999999999].x\"", "b[99999999999]", "jobs.max_queued"]);
    }

    #[test]
    fn a_folder_without_libtorch_is_refused() {
        assert_eq!(mistakes("[runner]\nlibtorch_dir = '/etc'", &[]), ["runner.libtorch_dir"]);
    }

    #[test]
    fn a_file_that_is_no_toml_is_told_with_its_place() {
        let text = with_file("[grpc\n", &[], Flags::default()).unwrap_err().to_string();
        assert!(text.contains("line 1"), "{text}");
    }
}
