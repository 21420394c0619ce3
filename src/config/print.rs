//! The effective settings as a settings file: what `--check-config` prints.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::{LogFormat, Settings, ShutdownRunners, security};

/// The settings as TOML that reads back the same. Values that are found at run time stay out, as a
/// comment.
pub fn to_toml(settings: &Settings) -> String {
    let time = |duration: Duration| quoted(&humantime::format_duration(duration).to_string());
    let path = |path: &Path| quoted(&path.display().to_string());
    let listen = |address: Option<SocketAddr>| quoted(&address.map(|address| address.to_string()).unwrap_or_default());
    let chosen = |name: &str, value: Option<String>, otherwise: &str| match value {
        Some(value) => format!("{name} = {value}\n"),
        None => format!("# {name} is not set: {otherwise}\n"),
    };
    let (http, security) = security::to_toml(&settings.security, quoted);
    let roots: Vec<_> = settings.data_roots.iter().map(|root| path(root)).collect();
    let hosts: Vec<_> = settings.http_allowed_hosts.iter().map(|name| quoted(name)).collect();
    let format = match settings.log_format {
        LogFormat::Auto => "auto",
        LogFormat::Human => "human",
        LogFormat::Json => "json",
    };
    let programs: Vec<_> = settings.programs_allowed.iter().map(|program| path(program)).collect();
    let variables: Vec<_> = settings.programs_environment.iter().map(|name| quoted(name)).collect();
    let mirrors: Vec<_> = settings.output_mirror_roots.iter().map(|root| path(root)).collect();
    let runners = match settings.shutdown_runners {
        ShutdownRunners::Leave => "leave",
        ShutdownRunners::Stop => "stop",
    };
    [
        format!("state_dir = {}\n", path(&settings.state_dir)),
        format!("state_group_read = {}\n", settings.state_group_read),
        format!("\n[grpc]\nlisten = {}\n", listen(settings.grpc_listen)),
        format!("max_message_bytes = {}\n", settings.grpc_max_message_bytes),
        format!("max_streams = {}\n", settings.grpc_max_streams),
        format!("keepalive_interval = {}\n", time(settings.grpc_keepalive_interval)),
        chosen(
            "unix_socket",
            settings.grpc_unix_socket.as_deref().map(path),
            "torchd.sock in $RUNTIME_DIRECTORY, else in the state folder",
        ),
        format!("unix_socket_mode = \"{:04o}\"\n", settings.grpc_unix_socket_mode),
        format!("\n[http]\nlisten = {}\n", listen(settings.http_listen)),
        format!("allowed_hosts = [{}]\n", hosts.join(", ")),
        http,
        security,
        format!("\n[audit]\nmax_file_bytes = {}\n", settings.audit_max_file_bytes),
        format!("files = {}\nreads = {}\n", settings.audit_files, settings.audit_reads),
        "\n[daemon]\n".to_owned(),
        chosen("max_file_bytes", settings.daemon_max_file_bytes.map(|bytes| bytes.to_string()), "no limit"),
        chosen(
            "max_address_space_bytes",
            settings.daemon_max_address_space_bytes.map(|bytes| bytes.to_string()),
            "no limit",
        ),
        format!("\n[data]\nroots = [{}]\n", roots.join(", ")),
        format!("\n[uploads]\nquota_bytes = {}\n", settings.uploads_quota_bytes),
        format!("max_files = {}\n", settings.uploads_max_files),
        format!("\n[programs]\nenabled = {}\n", settings.programs_enabled),
        format!("allowed = [{}]\n", programs.join(", ")),
        format!("environment = [{}]\n", variables.join(", ")),
        chosen("max_memory_bytes", settings.programs_max_memory_bytes.map(|bytes| bytes.to_string()), "no limit"),
        chosen("max_processes", settings.programs_max_processes.map(|count| count.to_string()), "no limit"),
        chosen("max_file_bytes", settings.programs_max_file_bytes.map(|bytes| bytes.to_string()), "no limit"),
        "\n[cluster]\nworkers = 0\nrole = \"driver\"\n".to_owned(),
        chosen("runtime", settings.cluster_runtime.as_deref().map(quoted), "taken from DATABRICKS_RUNTIME_VERSION"),
        chosen("node_type", settings.cluster_node_type.as_deref().map(quoted), "taken from DB_INSTANCE_TYPE"),
        chosen(
            "python",
            settings.cluster_python.as_deref().map(path),
            "PYSPARK_PYTHON, else that of the environment of torchd, else python3 on the PATH",
        ),
        "\n[compatibility]\n".to_owned(),
        chosen("catalogue_dir", settings.catalogue_dir.as_deref().map(path), "the catalogue that is built in"),
        format!("on_catalogue_error = \"{}\"\n", if settings.catalogue_falls_back { "embedded" } else { "refuse" }),
        format!("check_interval = {}\n", time(settings.check_interval)),
        "\n[gpu]\n".to_owned(),
        chosen("nvml_library", settings.nvml_library.as_deref().map(path), "libnvidia-ml.so.1, as the loader finds it"),
        format!("sample_interval = {}\n", time(settings.gpu_sample_interval)),
        format!("pcie_throughput = {}\n", settings.gpu_pcie_throughput),
        chosen("replay", settings.gpu_replay.as_deref().map(path), "the machine's own GPUs are watched"),
        format!("show_foreign_processes = {}\n", settings.gpu_show_foreign_processes),
        format!("share_with_foreign_processes = {}\n", settings.gpu_share_with_foreign_processes),
        format!("\n[metrics]\ndcgm_names = {}\n", settings.metrics_dcgm_names),
        format!("dcgm_hostname_label = {}\n", quoted(&settings.metrics_dcgm_hostname_label)),
        chosen(
            "hpc_job_mapping_dir",
            settings.metrics_hpc_job_mapping_dir.as_deref().map(path),
            "no files are written for dcgm-exporter",
        ),
        "\n[runner]\n".to_owned(),
        chosen("path", settings.runner_path.as_deref().map(path), "beside the executable, else in ../lib/torchd/"),
        chosen(
            "libtorch_dir",
            settings.runner_libtorch_dir.as_deref().map(path),
            "the one that the runner was built with",
        ),
        format!("stop_grace = {}\n", time(settings.runner_stop_grace)),
        format!("dry_run_timeout = {}\n", time(settings.runner_dry_run_timeout)),
        chosen(
            "dry_run_memory_bytes",
            settings.runner_dry_run_memory_bytes.map(|bytes| bytes.to_string()),
            "half of what jobs can have",
        ),
        chosen("max_file_bytes", settings.runner_max_file_bytes.map(|bytes| bytes.to_string()), "no limit"),
        chosen(
            "max_address_space_bytes",
            settings.runner_max_address_space_bytes.map(|bytes| bytes.to_string()),
            "no limit",
        ),
        format!("\n[jobs]\nmax_queued = {}\ncpu_slots = {}\n", settings.jobs_max_queued, settings.jobs_cpu_slots),
        format!("thread_wait = {}\n", quoted(&settings.jobs_thread_wait)),
        format!("preemption = {}\n", settings.jobs_preemption),
        format!("control_groups = {}\n", settings.jobs_control_groups),
        chosen("ttl_after_end", settings.jobs_ttl_after_end.map(time), "ended jobs stay until somebody deletes them"),
        format!("orphan_timeout = {}\n", time(settings.jobs_orphan_timeout)),
        format!("rank_lease = {}\n", time(settings.jobs_rank_lease)),
        format!("log_max_bytes = {}\n", settings.jobs_log_max_bytes),
        format!("max_event_bytes = {}\n", settings.jobs_max_event_bytes),
        chosen("max_state_bytes", settings.jobs_max_state_bytes.map(|bytes| bytes.to_string()), "no limit"),
        chosen("max_queued_per_owner", settings.jobs_max_queued_per_owner.map(|jobs| jobs.to_string()), "no limit"),
        chosen("max_running_per_owner", settings.jobs_max_running_per_owner.map(|jobs| jobs.to_string()), "no limit"),
        chosen(
            "max_state_bytes_per_owner",
            settings.jobs_max_state_bytes_per_owner.map(|bytes| bytes.to_string()),
            "no limit",
        ),
        format!("\n[output]\nmirror_roots = [{}]\n", mirrors.join(", ")),
        format!("mirror_interval = {}\n", time(settings.output_mirror_interval)),
        format!("\n[shutdown]\ntimeout = {}\n", time(settings.shutdown_timeout)),
        format!("runners = \"{runners}\"\n"),
        format!("\n[log]\nformat = {}\nlevel = {}\n", quoted(format), quoted(&settings.log_level)),
    ]
    .concat()
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, Flags, load};
    use super::*;

    #[test]
    fn what_is_printed_reads_back_the_same() {
        let environment: Environment = [
            ("HOME", "/home/a \"quoted\""),
            ("TORCHD__RUNNER__STOP_GRACE", "1min 30s"),
            ("TORCHD__SHUTDOWN__TIMEOUT", "2min"),
            ("TORCHD__DATA__ROOTS", "/tmp:/usr"),
            ("TORCHD__CLUSTER__RUNTIME", "15.4.x-gpu-ml-scala2.12"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        let settings = load(&Flags { config: Some("/dev/null".into()), ..Flags::default() }, &environment, 4).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), to_toml(&settings)).unwrap();
        let again = load(&Flags { config: Some(file.path().into()), ..Flags::default() }, &Environment::new(), 4);
        assert_eq!(again.unwrap(), settings);
    }
}
