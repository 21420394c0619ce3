//! The files of a job: listed, fetched whole or in part, and no other files.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use sha2::{Digest, Sha256};
use tonic::{Code, Status};
use torchd::proto::v1;
use torchd::proto::v1::download_artifact_response::Part;

use super::daemon::{Daemon, LIMIT, Setup};
use super::spec;
use super::torchctl::told;

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A job that has ended, with its result and a checkpoint.
async fn ended(daemon: &Daemon) -> String {
    let job = daemon.watch_to_end(&daemon.create(spec::short()).await.name).await;
    assert_eq!(job.state(), v1::JobState::Succeeded);
    job.name
}

/// The facts and the bytes of a file that a download returns.
async fn download(daemon: &Daemon, name: &str, offset_bytes: u64) -> Result<(v1::Artifact, Vec<u8>), Status> {
    let request = v1::DownloadArtifactRequest { name: name.into(), offset_bytes };
    let mut stream = daemon.jobs().await.download_artifact(request).await?.into_inner();
    let Some(Part::Artifact(about)) = stream.message().await?.unwrap().part else { panic!("bytes come first") };
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await? {
        let Some(Part::Data(data)) = message.part else { panic!("{message:?}") };
        assert!(!data.is_empty());
        bytes.extend(data);
    }
    Ok((about, bytes))
}

#[tokio::test]
async fn every_file_of_a_job_is_listed_and_arrives_whole_and_from_any_byte() {
    let daemon = Daemon::start();
    let name = ended(&daemon).await;
    // More than one message can hold.
    let large: Vec<u8> = (0..700_001_u32).map(|number| (number.wrapping_mul(number) >> 7) as u8).collect();
    fs::write(daemon.job_folder(&name).join("artifacts/large.bin"), &large).unwrap();
    fs::write(daemon.job_folder(&name).join("artifacts/empty"), "").unwrap();
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListArtifactsRequest { name: name.clone(), page_size: 2, page_token };
        let page = daemon.jobs().await.list_artifacts(request).await.unwrap().into_inner();
        assert!(page.artifacts.len() <= 2);
        listed.extend(page.artifacts);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(listed.is_sorted_by(|one, other| one.name < other.name), "{listed:?}");
    let summed = listed.iter().filter(|artifact| !artifact.sha256.is_empty()).count();
    for part in ["artifacts/model.safetensors", "checkpoints/step-20/state.safetensors", "tensorboard/events."] {
        assert!(listed.iter().any(|artifact| artifact.name.starts_with(&format!("{name}/{part}"))), "{part}");
    }
    assert!(summed > 0, "checkpoints have checksums: {listed:?}");
    for artifact in &listed {
        let bytes = fs::read(daemon.state_dir.join(&artifact.name)).unwrap();
        let (about, arrived) = download(&daemon, &artifact.name, 0).await.unwrap();
        assert!(arrived == bytes, "{}", artifact.name);
        let size = bytes.len() as u64;
        let told = (about.name.as_str(), about.size_bytes, about.sha256.as_str(), about.update_time);
        assert_eq!(told, (artifact.name.as_str(), size, sha256(&bytes).as_str(), told.3));
        assert!(artifact.size_bytes == size && ["", &about.sha256].contains(&artifact.sha256.as_str()), "{artifact:?}");
        for offset in [1, size / 2, size.saturating_sub(1), size] {
            let offset = offset.min(size);
            let (rest_of, rest) = download(&daemon, &artifact.name, offset).await.unwrap();
            assert!(rest_of == about && rest == bytes[offset as usize..], "{} from {offset}", artifact.name);
        }
        let status = download(&daemon, &artifact.name, size + 1).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
        assert!(status.message().contains(&format!("has {size} bytes")), "{}", status.message());
    }
}

#[tokio::test]
async fn what_is_not_a_file_of_that_job_for_its_user_is_refused() {
    let daemon = Daemon::start();
    let name = ended(&daemon).await;
    let folder = daemon.job_folder(&name);
    let diverges = v1::JobSpec { optimizer: Some(spec::sgd(1e30, 0.0)), ..spec::short() };
    let other = daemon.watch_to_end(&daemon.create(diverges).await.name).await.name;
    let link = |from: &Path, to: &str| std::os::unix::fs::symlink(from, folder.join(to)).unwrap();
    link(Path::new("/etc/passwd"), "artifacts/link");
    link(Path::new("/etc"), "artifacts/folder");
    link(&folder, "artifacts/round");
    nix::unistd::mkfifo(&folder.join("artifacts/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let id = name.strip_prefix("jobs/").unwrap();
    let long = "a".repeat(300);
    let mut cases = vec![
        (String::new(), Code::InvalidArgument),
        (name.clone(), Code::InvalidArgument),
        ("artifacts/model.safetensors".into(), Code::InvalidArgument),
        (format!("{id}/artifacts/model.safetensors"), Code::InvalidArgument),
        ("jobs/../etc/passwd".into(), Code::InvalidArgument),
        ("jobs/20200101-000000-aaaa/artifacts/model.safetensors".into(), Code::NotFound),
        (format!("{other}/artifacts/model.safetensors"), Code::NotFound),
    ];
    for path in [
        "",
        "artifacts",
        "artifacts/",
        "artifacts/none",
        "artifacts/../spec.json",
        "artifacts/../../../torchd.db",
        "artifacts//model.safetensors",
        "/etc/passwd",
        "spec.json",
        "journal",
        "runner.log",
        "checkpoints/step-20",
        "artifacts/link",
        "artifacts/folder/passwd",
        "artifacts/round/spec.json",
        "artifacts/round/artifacts/model.safetensors",
        "artifacts/pipe",
        "artifacts/model.safetensors/more",
        "artifacts/\0",
        &format!("artifacts/{long}"),
        &format!("artifacts/../../{other}/runner.log"),
    ] {
        cases.push((format!("{name}/{path}"), Code::NotFound));
    }
    for (asked, code) in cases {
        // A pipe that is opened waits for ever.
        let refused = tokio::time::timeout(LIMIT, download(&daemon, &asked, 0)).await.unwrap().unwrap_err();
        assert_eq!(refused.code(), code, "{asked:?}: {refused:?}");
        assert!(!refused.details().is_empty(), "{asked:?}");
    }
    let list = v1::ListArtifactsRequest { name: name.clone(), ..Default::default() };
    let artifacts = daemon.jobs().await.list_artifacts(list).await.unwrap().into_inner().artifacts;
    assert!(
        !artifacts
            .iter()
            .any(|artifact| ["link", "folder", "round", "pipe"].iter().any(|part| artifact.name.contains(part)))
    );
}

#[tokio::test]
async fn torchctl_goes_on_with_what_it_has_and_notices_what_is_wrong() {
    let daemon = Daemon::start();
    let name = ended(&daemon).await;
    let path = "artifacts/model.safetensors";
    let bytes = fs::read(daemon.job_folder(&name).join(path)).unwrap();
    let home = tempfile::tempdir().unwrap();
    let (to, part) = (home.path().join("model"), home.path().join("model.part"));
    let fetch = || told(&daemon.ctl(&["download", &name, path, "--to", to.to_str().unwrap()]));

    let (code, out, err) = told(&daemon.ctl(&["download", &name]));
    assert!(code == 0 && out.starts_with("FILE") && out.contains(path) && !out.contains(&name), "{out}{err}");

    let half = bytes.len() / 2;
    let right: [&[u8]; 4] = [&[], &bytes[..1], &bytes[..half], &bytes];
    for begun in right {
        fs::write(&part, begun).unwrap();
        let (code, out, err) = fetch();
        assert!(code == 0 && out.contains(&sha256(&bytes)), "{} bytes: {err}", begun.len());
        assert!(fs::read(&to).unwrap() == bytes && !part.exists());
        fs::remove_file(&to).unwrap();
    }

    // Somebody else's bytes: of those the rest would not be told from the right rest, were it not
    // for the checksum.
    let mut wrong = bytes[..half].to_vec();
    wrong[0] ^= 1;
    for begun in [wrong.as_slice(), &vec![0; bytes.len()]] {
        fs::write(&part, begun).unwrap();
        let (code, _, err) = fetch();
        assert!(code == 1 && err.contains("did not arrive as it is there") && err.contains(&sha256(&bytes)), "{err}");
        assert!(!to.exists() && !part.exists(), "nothing wrong is left");
        let (code, _, err) = fetch();
        assert!(code == 0 && fs::read(&to).unwrap() == bytes, "{err}");
        fs::remove_file(&to).unwrap();
    }

    // More than there is: another file, which is begun anew.
    fs::write(&part, vec![0; bytes.len() + 1]).unwrap();
    let (code, _, err) = fetch();
    assert!(code == 0 && fs::read(&to).unwrap() == bytes && !part.exists(), "{err}");

    let (code, _, err) = told(&daemon.ctl(&["download", &name, "artifacts/none", "--to", to.to_str().unwrap()]));
    assert!(code == 1 && err.contains("has no file \"artifacts/none\"; `torchctl download"), "{err}");
    assert!(fs::read(&to).unwrap() == bytes && !part.exists(), "what is there stays");
}

/// A way to the daemon that hands on so many bytes of what it sends, and then breaks off.
fn breaks_after(daemon: SocketAddr, mut left: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let upstream = TcpStream::connect(daemon).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let (mut source, mut sink) = (&upstream, &client);
        let mut data = [0; 4096];
        while left > 0 {
            let wanted = left.min(data.len());
            let Ok(count @ 1..) = source.read(&mut data[..wanted]) else { break };
            if sink.write_all(&data[..count]).is_err() {
                break;
            }
            left -= count;
        }
        let _ = (client.shutdown(Shutdown::Both), upstream.shutdown(Shutdown::Both));
    });
    address
}

#[tokio::test]
async fn torchctl_keeps_a_part_that_broke_off_and_says_how_to_go_on() {
    let daemon = Setup::new().open().start();
    let name = ended(&daemon).await;
    // Bytes that do not become fewer on the way, in many messages.
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let bytes: Vec<u8> = (0..1_000_000).map(|_| random()).collect();
    fs::write(daemon.job_folder(&name).join("artifacts/large.bin"), &bytes).unwrap();
    let home = tempfile::tempdir().unwrap();
    let (to, part) = (home.path().join("large"), home.path().join("large.part"));
    let fetch = |server: SocketAddr| {
        let (server, to) = (server.to_string(), to.to_str().unwrap());
        told(&daemon.ctl(&["--server", &server, "download", &name, "artifacts/large.bin", "--to", to]))
    };
    let mut had = 0;
    for _ in 0..2 {
        let (code, _, err) = fetch(breaks_after(daemon.grpc, 400_000));
        let have = fs::read(&part).unwrap();
        assert!(!to.exists() && bytes.starts_with(&have) && have.len() > had, "{} bytes: {err}", have.len());
        let words =
            format!("{name}/artifacts/large.bin broke off after {} bytes of 1000000; the same command", have.len());
        assert!(code == 69 && err.contains(&words), "{code} {err}");
        had = have.len();
    }
    let (code, _, err) = fetch(daemon.grpc);
    assert!(code == 0 && fs::read(&to).unwrap() == bytes && !part.exists(), "{err}");
}
