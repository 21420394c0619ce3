//! The deployed files: the unit, the settings file, and the messages to systemd.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use super::daemon::{LIMIT, Setup};
use super::tools;

#[test]
fn systemd_accepts_the_unit() {
    if !tools::is_there("systemd-analyze", "sudo apt-get install systemd") {
        return;
    }
    // The unit names programs and users of an installation; a copy names those of this build.
    let folder = tempfile::tempdir().unwrap();
    let unit = fs::read_to_string("deploy/systemd/torchd.service").unwrap();
    let copy = folder.path().join("torchd.service");
    fs::write(&copy, unit.replace("/usr/bin/torchd", env!("CARGO_BIN_EXE_torchd"))).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&copy).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    let about_us: Vec<_> = words.lines().filter(|line| line.contains("torchd")).collect();
    assert!(output.status.success() && about_us.is_empty(), "{words}");
    assert!(unit.contains("Type=notify"));
}

#[tokio::test]
async fn systemd_is_told_when_the_daemon_serves_and_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let hear = || {
        let mut message = [0; 4096];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let daemon = Setup::new().env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000").start();
    let ready = hear();
    assert!(ready.contains("READY=1") && ready.contains(&daemon.grpc.to_string()), "{ready}");
    assert!(hear().contains("WATCHDOG=1"));
    let (status, ..) = daemon.stop();
    assert_eq!(status.code(), Some(0));
    let told = std::iter::from_fn(|| Some(hear())).find(|message| !message.contains("WATCHDOG=1"));
    assert!(told.unwrap().contains("STOPPING=1"));
}

#[test]
fn the_settings_file_that_is_deployed_shows_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let effective = |file: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_torchd"))
            .env_clear()
            .env("HOME", folder.path())
            .args(["--check-config", "--config", file])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let defaults = effective("/dev/null");
    assert_eq!(effective("deploy/torchd.toml"), defaults);

    // With its comments taken off the file says the same in words, apart from what depends on the
    // machine.
    let shown = fs::read_to_string("deploy/torchd.toml").unwrap();
    let is_value = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ");
    let depends = [
        "#state_dir",
        "#roots",
        "#runtime",
        "#node_type",
        "#python",
        "#catalogue_dir",
        "#unix_socket ",
        "#nvml_library",
        "#replay",
        "#hpc_job_mapping_dir",
        "#dry_run_memory_bytes",
        "#max_address_space_bytes",
        "#max_memory_bytes",
        "#max_processes",
        "#max_file_bytes",
        "#path",
        "#libtorch_dir",
        "#cpu_slots",
        "#ttl_after_end",
        "#max_state_bytes",
        "#max_queued_per_owner",
        "#max_running_per_owner",
        "#web_config",
        "#users",
        "#groups",
        "#certificate",
        "#key ",
        "#client_ca",
        "#client_names",
        "#min_version",
    ];
    let mut compared = 0;
    for line in shown.lines().filter(|line| is_value(line) && !depends.iter().any(|name| line.starts_with(name))) {
        assert!(defaults.contains(&format!("\n{}\n", &line[1..])), "{line}\n{defaults}");
        compared += 1;
    }
    assert_eq!(compared, 45);
    let all: String =
        shown.lines().map(|line| if is_value(line) { &line[1..] } else { line }).collect::<Vec<_>>().join("\n");
    let file = folder.path().join("all.toml");
    fs::write(&file, all.replace("/srv/datasets", "/tmp").replace("/usr/lib/torchd/torchd-runner", "/dev/null"))
        .unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_torchd")).args(["--check-config", "--config"]).arg(&file).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!words.contains("no such setting"), "{words}");
}

#[test]
fn the_unit_leaves_runners_to_torchd_and_gives_it_the_time_that_it_takes() {
    let unit = fs::read_to_string("deploy/systemd/torchd.service").unwrap();
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap().to_owned();
    assert_eq!(
        (value("KillMode"), value("OOMPolicy"), value("Type")),
        ("process".into(), "continue".into(), "notify".into())
    );
    let output =
        Command::new(env!("CARGO_BIN_EXE_torchd")).args(["--check-config", "--config", "/dev/null"]).output().unwrap();
    let settings = String::from_utf8(output.stdout).unwrap();
    let timeout = |key: &str| {
        let line = settings.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = ")).unwrap();
        humantime::parse_duration(line.trim_matches('"')).unwrap().as_secs()
    };
    // [shutdown] timeout is the only key of that name.
    let stop: u64 = value("TimeoutStopSec").parse().unwrap();
    assert!(stop > timeout("timeout") && timeout("timeout") > timeout("stop_grace"), "{settings}");
}

#[test]
fn the_daemon_and_the_client_link_no_libtorch() {
    for program in [env!("CARGO_BIN_EXE_torchd"), env!("CARGO_BIN_EXE_torchctl")] {
        let output = Command::new("ldd").arg(program).output().unwrap();
        // Names only: an address may hold any letters.
        let text = String::from_utf8_lossy(&output.stdout);
        let names: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
        let libraries = names.join("\n");
        assert!(output.status.success() && libraries.contains("libc.so"), "{libraries}");
        for library in ["torch", "c10", "cuda", "stdc++"] {
            assert!(!libraries.contains(library), "{program} links {library}:\n{libraries}");
        }
    }
}
