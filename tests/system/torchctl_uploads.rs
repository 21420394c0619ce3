//! Uploads by torchctl: gone on with, told on a terminal, and refused with the way out.

use std::fs;
use std::process::{Command, Stdio};

use super::daemon::{Daemon, Setup, wait_for};
use super::tools;
use super::torchctl::told;
use super::uploads::{PIECE, apart, large, own, sha256, until_received};

#[tokio::test]
async fn a_torchctl_that_is_killed_goes_on_where_it_was_and_damage_to_what_is_there_is_noticed() {
    let home = tempfile::tempdir().unwrap();
    let (path, whole) = large(home.path());
    let hold = home.path().join("hold");
    fs::write(&hold, "").unwrap();
    let fault = format!("upload-piece:1@{}", hold.display());
    let daemon = Setup::new().env("TORCHD_FAULT", fault).start();
    let mut killed = Command::new(env!("CARGO_BIN_EXE_torchctl"))
        .args(["--server", &daemon.server(), "upload", path.to_str().unwrap()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The thread that has written the first piece stays there.
    until_received(&daemon, "large.bin", PIECE as u64).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    fs::remove_file(&hold).unwrap();
    let (_, out, _) = told(&daemon.ctl(&["files"]));
    let (some, all) = (PIECE, whole.len());
    assert!(out.contains("large.bin") && out.contains(&format!("{some} of {all} bytes")), "{out}");

    // One byte of those that are there is another: the whole does not have its checksum, so they
    // were not sent again.
    let part = apart(&daemon).into_iter().find(|path| path.extension().is_some_and(|ending| ending == "part")).unwrap();
    let mut there = fs::read(&part).unwrap();
    there[7] ^= 1;
    fs::write(&part, there).unwrap();
    let upload = || {
        // The daemon may not have noticed yet that the client is gone.
        wait_for("the end of the first upload", || {
            let output = told(&daemon.ctl(&["upload", path.to_str().unwrap()]));
            (!output.2.contains("is being uploaded")).then_some(output)
        })
    };
    let (code, _, err) = upload();
    assert!(code == 1 && err.contains("did not arrive as it was sent"), "{code} {err}");
    let (code, out, err) = upload();
    assert!(code == 0 && out.contains(&sha256(&whole)), "{code} {out}{err}");
    assert!(fs::read(own(&daemon, "large.bin")).unwrap() == whole);
    let (code, out, err) = upload();
    assert!(code == 0 && out == "large.bin: is there already\n", "{code} {out}{err}");
}

#[tokio::test]
async fn mistakes_with_torchctl_are_told_with_the_way_out() {
    let daemon = Daemon::start();
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("a"), "one").unwrap();
    fs::write(path("b"), "two").unwrap();
    let (code, _, err) = told(&daemon.ctl(&["upload", &path("a"), &path("b"), "--as", "c"]));
    assert!(code == 64 && err.contains("--as names one file, and 2 are given"), "{code} {err}");
    let (code, _, err) = told(&daemon.ctl(&["upload", &path("")]));
    assert!(code == 64 && err.contains("is a folder, and a file is needed"), "{code} {err}");
    nix::unistd::mkfifo(path("pipe").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (code, _, err) = told(&daemon.ctl(&["upload", &path("pipe")]));
    assert!(code == 64 && err.contains("is a pipe, socket or device, and a file is needed"), "{code} {err}");
    let (code, _, err) = told(&daemon.ctl(&["upload", &path("none")]));
    assert!(code == 1 && err.contains("cannot be read: No such file"), "{code} {err}");
    let (code, _, err) = told(&daemon.ctl(&["upload", &path("a"), "--as", "../a"]));
    assert!(code == 64 && err.contains("a part is \"..\""), "{code} {err}");
    let (code, out, err) = told(&daemon.ctl(&["upload", &path("a"), &path("b")]));
    assert!(code == 0 && out.lines().count() == 2, "{code} {out}{err}");
    let (code, _, err) = told(&daemon.ctl(&["upload", &path("b"), "--as", "a"]));
    assert!(code == 1 && err.contains("\"a\" is there already; --overwrite replaces it"), "{code} {err}");
    let (code, out, err) = told(&daemon.ctl(&["upload", &path("b"), "--as", "a", "--overwrite", "-o", "json"]));
    let shown: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(code == 0 && shown["sha256"] == sha256(b"two").as_str(), "{code} {out}{err}");
    assert_eq!(fs::read(own(&daemon, "a")).unwrap(), b"two");
    // A refusal arrives although more is on its way.
    let (large, _) = large(home.path());
    let (code, _, err) = told(&daemon.ctl(&["upload", large.to_str().unwrap(), "--as", "a"]));
    assert!(code == 1 && err.contains("\"a\" is there already"), "{code} {err}");
    let (code, _, err) = told(&daemon.ctl(&["files", "rm", "none"]));
    assert!(code == 1 && err.contains("there is no uploaded file \"none\""), "{code} {err}");
}

#[tokio::test]
async fn a_terminal_shows_how_far_an_upload_is() {
    if !tools::is_there("script", "apt-get install bsdutils") {
        return;
    }
    let (daemon, home) = (Daemon::start(), tempfile::tempdir().unwrap());
    let (path, whole) = large(home.path());
    let command = format!("{} upload {}", env!("CARGO_BIN_EXE_torchctl"), path.display());
    let mut script = Command::new("script");
    let output = script.args(["-qec", &command, "/dev/null"]).env("TORCHD_SERVER", daemon.server());
    // Without one the terminal is taken for one that cannot show a bar.
    let output = output.env("TERM", "xterm").output();
    let (code, out, _) = told(&output.unwrap());
    assert!(code == 0 && out.contains("sending [") && out.contains(&sha256(&whole)), "{code} {out}");
}
