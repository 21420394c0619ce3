//! Settings that are wrong, and what stands in the way of a start.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::daemon::{Daemon, Setup, wait_for};

fn refused(setup: Setup) -> (i32, String) {
    let output = setup.run();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_file_with_five_mistakes_is_told_all_five() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("torchd.toml");
    let content = "state_dir = 7\n[grpc]\nlisten = 'localhost'\nmax_mesage_bytes = 5\n[cluster]\nworkers = 3\n[runner]\nstop_grace = 10\n";
    fs::write(&file, content).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_torchd"))
        .env_clear()
        .env("HOME", folder.path())
        .arg("--config")
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let words = String::from_utf8(output.stderr).unwrap();
    let expected = [
        "5 mistakes",
        "state_dir (from",
        "grpc.listen (from",
        "is \"localhost\"; host:port is needed",
        "grpc.max_mesage_bytes (from",
        "the nearest is grpc.max_message_bytes",
        "cluster.workers (from",
        "is 3; torchd runs on the driver of a driver-only cluster",
        "runner.stop_grace (from",
        "is 10; a time with its unit is needed",
    ];
    for expected in expected {
        assert!(words.contains(expected), "{expected}:\n{words}");
    }
    assert!(words.contains(file.to_str().unwrap()));
}

#[test]
fn a_worker_node_is_refused() {
    let (code, words) = refused(Setup::new().env("DB_IS_DRIVER", "FALSE"));
    assert_eq!(code, 64);
    assert!(words.contains("this node is a worker; start torchd on the driver"), "{words}");
    let (code, words) = refused(Setup::new().set("cluster.workers", "2"));
    assert!(code == 64 && words.contains("cluster.workers (from TORCHD__CLUSTER__WORKERS): is 2"), "{words}");
}

#[test]
fn limits_of_uploads_that_cannot_be_are_refused() {
    let setup = Setup::new().set("uploads.quota_bytes", "-1").set("uploads.max_files", "0");
    let (code, words) = refused(setup.set("uploads.quota", "7"));
    assert_eq!(code, 64);
    for expected in [
        "uploads.quota_bytes (from TORCHD__UPLOADS__QUOTA_BYTES): is \"-1\"; a whole number is needed",
        "uploads.max_files (from TORCHD__UPLOADS__MAX_FILES): is 0; 1 to 100000 files are right",
        "uploads.quota (from TORCHD__UPLOADS__QUOTA): no such setting",
    ] {
        assert!(words.contains(expected), "{expected}:\n{words}");
    }
}

#[test]
fn an_address_that_others_can_reach_is_refused_unless_it_is_meant() {
    let check = |meant: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_torchd"))
            .args(["--config", "/dev/null", "--check-config", "--grpc-listen", "0.0.0.0:7080"])
            .env("TORCHD__SECURITY__ALLOW_UNAUTHENTICATED_REMOTE", meant)
            .output()
            .unwrap()
    };
    let refused = check("false");
    let words = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(64));
    assert!(words.contains("grpc.listen") && words.contains("allow_unauthenticated_remote"), "{words}");
    let meant = check("true");
    assert_eq!(meant.status.code(), Some(0));
    assert!(String::from_utf8(meant.stdout).unwrap().contains("0.0.0.0:7080"));
}

#[test]
fn what_is_in_the_way_of_a_start_is_named() {
    let daemon = Daemon::start();
    let (code, words) = refused(Setup::in_state(&daemon.state_dir));
    let who = format!("another torchd uses it, with pid {}", daemon.pid());
    assert!(code == 69 && words.contains(&who), "{code} {words}");

    let address = daemon.grpc.to_string();
    let taken = std::process::Command::new(env!("CARGO_BIN_EXE_torchd"))
        .args(["--config", "/dev/null", "--http-listen", "127.0.0.1:0", "--grpc-listen", &address, "--state-dir"])
        .arg(daemon.state_dir.join("other"))
        .output()
        .unwrap();
    let words = String::from_utf8(taken.stderr).unwrap();
    assert!(taken.status.code() == Some(69) && words.contains("grpc.listen = ") && words.contains("in use"), "{words}");
    assert!(words.contains("another torchd may listen there, and --grpc-listen 127.0.0.1:0 takes"), "{words}");

    let (code, words) = refused(Setup::new().set("runner.path", "/nonexistent/runner"));
    assert!(code == 64 && words.contains("runner.path") && words.contains("is no file"), "{words}");
    let (code, words) = refused(Setup::new().arg("--no-such-flag"));
    assert!(code == 64 && words.contains("--no-such-flag"), "{words}");
}

#[test]
fn a_ready_file_in_the_working_directory_is_written_and_one_that_cannot_be_is_refused_at_once() {
    let place = tempfile::tempdir().unwrap();
    let start = |ready_file: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_torchd"));
        command.env_clear().env("HOME", place.path()).current_dir(place.path());
        command.args(["--config", "/dev/null", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        // The state folder and the socket have bare names too.
        command.args(["--state-dir", "state", "--ready-file", ready_file]).env("TORCHD__GRPC__UNIX_SOCKET", "socket");
        command.stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let mut daemon = start("ready.json");
    wait_for("the ready file", || place.path().join("ready.json").exists().then_some(()));
    let server = format!("unix:{}", place.path().join("socket").display());
    let mut jobs = std::process::Command::new(env!("CARGO_BIN_EXE_torchctl"));
    assert!(jobs.args(["--server", &server, "jobs"]).output().unwrap().status.success());
    kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM).unwrap();
    let status = daemon.wait().unwrap();
    assert!(status.success(), "{status}");

    let output = start("nowhere/ready.json").wait_with_output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(69) && words.contains("--ready-file nowhere/ready.json: No such file"),
        "{words}"
    );
    assert!(!words.contains("torchd serves"), "{words}");

    // Something else than a file is neither removed nor replaced.
    let pipe = place.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let output = start("pipe").wait_with_output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(69) && words.contains("pipe: is there and no regular file"), "{words}");
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&pipe.metadata().unwrap().file_type()));
}

#[test]
fn a_state_folder_whose_path_is_too_long_for_the_database_is_refused_and_the_longest_one_is_served() {
    let place = tempfile::tempdir().unwrap();
    let longest = 480;
    let mut path = place.path().canonicalize().unwrap();
    while path.as_os_str().len() + 102 < longest {
        path.push("a".repeat(100));
    }
    path.push("b".repeat(longest - path.as_os_str().len() - 1));
    fs::create_dir_all(&path).unwrap();
    // The path of the socket has to be shorter.
    let setup = |path: &Path| Setup::in_state(path).set("grpc.unix_socket", place.path().join("s").to_str().unwrap());
    setup(&path).start();
    let (code, words) = refused(setup(&path.with_file_name("b".repeat(101))));
    assert!(code == 64 && words.contains("state_dir (from --state-dir): has "), "{code} {words}");
    assert!(words.contains("SQLite takes paths of at most 480"), "{words}");
}

#[test]
fn variables_and_paths_that_are_not_utf_8_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"7\xff");
    let setup =
        Setup::new().env("TORCHD__JOBS__MAX_QUEUED", odd).env("DATABRICKS_RUNTIME_VERSION", odd).env("EDITOR", odd);
    let (code, words) = refused(setup.arg("--data-root").arg(odd));
    for key in ["TORCHD__JOBS__MAX_QUEUED", "DATABRICKS_RUNTIME_VERSION"] {
        assert!(words.contains(&format!("{key} (from the environment): is \"7\\xFF\", which is not UTF-8")), "{words}");
    }
    assert!(
        code == 64 && words.contains("3 mistakes") && words.contains("data.roots (from --data-root): is"),
        "{words}"
    );
}

#[test]
fn a_limit_of_the_address_space_is_told_and_so_is_what_fails_for_it() {
    // Each thread's arena of malloc reserves 64 MiB, which the daemon itself could lack then.
    let setup = Setup::new().env("MALLOC_ARENA_MAX", "1");
    let daemon = setup.shell("ulimit -v 300000").start();
    let told = |what: &str| wait_for(what, || daemon.log().contains(what).then_some(()));
    told("the address space of torchd and of its runners is limited to 307200000 bytes");
    told("failed to map segment from shared object");
    told("libtorch cannot be loaded: the process may not map so much memory");
    told("`LimitAS=infinity` in the unit of torchd");
}

#[test]
fn effective_settings_are_printed() {
    let output = Setup::new().set("jobs.max_queued", "7").arg("--check-config").run();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && printed.contains("max_queued = 7\n"), "{printed}");
}
