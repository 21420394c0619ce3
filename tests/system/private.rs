//! Access of other users to the daemon and its files: none, unless the settings allow it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use torchd::proto::v1;

use super::daemon::{Setup, wait_for};
use super::spec;

/// All folders and files of torchd in a state folder, with their modes.
fn modes(state_dir: &Path) -> Vec<(PathBuf, u32)> {
    fn walk(path: PathBuf, found: &mut Vec<(PathBuf, u32)>) {
        let about = fs::symlink_metadata(&path).unwrap();
        // Sockets have a setting of their own, and the tests make these two files.
        let is_ours = !["daemon.log", "ready.json"].iter().any(|name| path.ends_with(name));
        if (about.is_dir() || about.is_file()) && is_ours {
            found.push((path.clone(), about.mode() & 0o777));
        }
        if about.is_dir() {
            fs::read_dir(&path).unwrap().for_each(|entry| walk(entry.unwrap().path(), found));
        }
    }
    let mut found = Vec::new();
    walk(state_dir.to_owned(), &mut found);
    found
}

/// Gives everything in a state folder the modes that earlier versions left, which had no token.
fn as_before(state_dir: &Path) {
    fs::remove_file(state_dir.join("token")).unwrap();
    for (path, _) in modes(state_dir) {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
}

fn assert_private(state_dir: &Path) {
    let found = modes(state_dir);
    assert!(found.len() > 15 && found.iter().any(|(path, _)| path.ends_with("torchd.lock")), "{found:?}");
    for (path, mode) in found {
        let right = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, right, "{}: {mode:o}", path.display());
    }
}

#[tokio::test]
async fn other_users_cannot_read_the_state_and_old_modes_are_corrected() {
    let daemon = Setup::new().start();
    let job = daemon.create(spec::short()).await;
    assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded);
    assert!(daemon.ctl(&["upload", "README.md", "--as", "a/b"]).status.success());
    assert_private(&daemon.state_dir);
    let (_, state_dir, _guard) = daemon.stop();

    as_before(&state_dir);
    assert!(modes(&state_dir).iter().all(|(_, mode)| mode & 0o077 != 0), "the fault was not provoked");
    let daemon = Setup::in_state(&state_dir).start();
    assert_private(&daemon.state_dir);

    // A second daemon with other settings leaves the folder of the first one as it is.
    let output = Setup::in_state(&state_dir).set("state_group_read", "true").run();
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another torchd uses it"), "{output:?}");
    assert_private(&state_dir);
}

#[tokio::test]
async fn the_group_reads_results_and_nothing_else_where_the_settings_say_so() {
    let daemon = Setup::new().start();
    let before = daemon.create(spec::short()).await;
    daemon.watch_to_end(&before.name).await;
    let (_, state_dir, _guard) = daemon.stop();
    let daemon = Setup::in_state(&state_dir).set("state_group_read", "true").start();
    let after = daemon.create(spec::short()).await;
    daemon.watch_to_end(&after.name).await;
    let mut read = 0;
    for (path, mode) in modes(&state_dir) {
        let below = path.strip_prefix(&state_dir).unwrap();
        let parts: Vec<_> = below.iter().map(|part| part.to_str().unwrap()).collect();
        let right = match parts[..] {
            // The group passes through it.
            [] => 0o710,
            ["runs"] | ["jobs"] | ["jobs", _] if path.is_dir() => 0o750,
            ["jobs", _, "tensorboard" | "artifacts", ..] => {
                read += usize::from(path.is_file());
                if path.is_dir() { 0o750 } else { 0o640 }
            }
            _ if path.is_dir() => 0o700,
            _ => 0o600,
        };
        // Files of checkpoints have the runner's umask; their folder cannot be entered.
        let is_shut = matches!(parts[..], ["jobs", _, "checkpoints", _, ..]);
        assert!(mode == right || is_shut, "{}: {mode:o} and not {right:o}", path.display());
    }
    assert!(read >= 4, "event files and results of two jobs: {read}");
}

#[tokio::test]
async fn files_outside_the_state_folder_have_the_modes_of_the_inherited_umask() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    fs::create_dir(&root).unwrap();
    let usual = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    let file = place.path().join("usual");
    fs::write(&file, "").unwrap();
    let (folders, files) = (usual(&root), usual(&file));
    assert_ne!((folders, files), (0o700, 0o600), "the umask of the test lets others read nothing anyway");

    let daemon = Setup::new().set("output.mirror_roots", root.to_str().unwrap()).start();
    assert_eq!(usual(&daemon.state_dir.join("ready.json")), files);
    let output = Some(v1::Output { mirror: root.join("a/b").display().to_string(), ..v1::Output::default() });
    let job = daemon.create(v1::JobSpec { output, ..spec::short() }).await;
    daemon.watch_to_end(&job.name).await;
    daemon.stop();
    let copied = modes(&root);
    assert!(copied.iter().any(|(path, _)| path.ends_with("mirror.json")), "{copied:?}");
    for (path, mode) in copied {
        assert_eq!(mode, if path.is_dir() { folders } else { files }, "{}: {mode:o}", path.display());
    }
}

#[test]
fn a_shared_lock_of_a_reader_is_told_for_what_it_is() {
    let (_, state_dir, _guard) = Setup::new().start().stop();
    let reader = fs::File::open(state_dir.join("torchd.lock")).unwrap();
    let shared = nix::libc::flock {
        l_type: nix::libc::F_RDLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_OFD_SETLK(&shared)).unwrap();
    let output = Setup::in_state(&state_dir).run();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("a program that is no torchd holds a shared lock on"), "{words}");
    drop(reader);
    Setup::in_state(&state_dir).start();
}

/// The number of TCP ports that a process listens on.
fn listens(pid: u32) -> usize {
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let tables =
        ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default());
    let is_ours = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // State 0A is LISTEN; the tenth field is the inode. (proc_net_tcp)
        fields.get(3) == Some(&"0A") && fields.get(9).is_some_and(|inode| sockets.iter().any(|ours| ours == inode))
    };
    tables.iter().flat_map(|table| table.lines()).filter(is_ours).count()
}

#[test]
fn tcp_can_be_switched_off_and_the_unix_socket_stays() {
    let daemon = Setup::new().start();
    assert_eq!(listens(daemon.pid()), 2);
    drop(daemon);
    let place = tempfile::tempdir().unwrap();
    let (state_dir, ready_file) = (place.path().join("state"), place.path().join("ready.json"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_torchd"));
    command.env_clear().env("HOME", place.path()).env("TORCHD__GRPC__LISTEN", "");
    command.args(["--config", "/dev/null", "--http-listen", "", "--state-dir"]).arg(&state_dir);
    let log = fs::File::create(place.path().join("log")).unwrap();
    let mut child = command.arg("--ready-file").arg(&ready_file).stderr(log).spawn().unwrap();
    let ready: serde_json::Value = wait_for("the ready file", || {
        assert!(child.try_wait().unwrap().is_none(), "{}", fs::read_to_string(place.path().join("log")).unwrap());
        serde_json::from_slice(&fs::read(&ready_file).ok()?).ok()
    });
    let listening = listens(child.id());
    let server = format!("unix:{}", ready["unix"].as_str().unwrap());
    let answer = Command::new(env!("CARGO_BIN_EXE_torchctl")).args(["--server", &server, "jobs"]).output().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ready["grpc"].is_null() && ready["http"].is_null(), "{ready}");
    assert_eq!(listening, 0);
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
}

#[tokio::test]
async fn the_folder_of_jobs_may_be_a_link_to_another_disk() {
    let place = tempfile::tempdir().unwrap();
    let (state, disk) = (place.path().join("state"), place.path().join("disk"));
    fs::create_dir(&state).unwrap();
    fs::create_dir(&disk).unwrap();
    std::os::unix::fs::symlink(&disk, state.join("jobs")).unwrap();
    let daemon = Setup::in_state(&state).start();
    let job = daemon.create(spec::short()).await;
    assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded);
    let id = job.name.trim_start_matches("jobs/");
    assert!(disk.join(id).join("artifacts/model.safetensors").exists());
    let fetched = place.path().join("model");
    let output = daemon.ctl(&["download", id, "artifacts/model.safetensors", "--to", fetched.to_str().unwrap()]);
    assert!(output.status.success() && fetched.exists(), "{}", String::from_utf8_lossy(&output.stderr));
}
