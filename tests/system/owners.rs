//! Whose a job is: who may change it, how much one owner may have, and whose turn it is.

use std::os::unix::process::CommandExt;
use std::process::Command;

use tonic::{Code, Status};
use torchd::proto::v1;
use torchd::proto::v1::job_service_client::JobServiceClient;

use super::credentials::{Headers, Link, over_tcp, refusal, token};
use super::daemon::{Daemon, LIMIT, Setup};
use super::torchctl::told;
use super::{spec, tools};

async fn jobs_of(daemon: &Daemon, name: &str, role: v1::Role) -> JobServiceClient<Link> {
    let secret = token(daemon, name, role, "").await;
    JobServiceClient::new(over_tcp(daemon, Headers::token(&secret)).await)
}

async fn create(client: &mut JobServiceClient<Link>, spec: v1::JobSpec) -> Result<v1::Job, Status> {
    let request = v1::CreateJobRequest { spec: Some(spec), request_id: String::new() };
    client.create_job(request).await.map(tonic::Response::into_inner)
}

/// What each method that changes a job answers.
async fn change(client: &mut JobServiceClient<Link>, name: &str) -> Vec<(&'static str, Result<(), Status>)> {
    let name = || name.to_owned();
    vec![
        ("pause", client.pause_job(v1::PauseJobRequest { name: name() }).await.map(drop)),
        ("resume", client.resume_job(v1::ResumeJobRequest { name: name(), ..Default::default() }).await.map(drop)),
        ("priority", client.set_job_priority(v1::SetJobPriorityRequest { name: name(), priority: 3 }).await.map(drop)),
        ("cancel", client.cancel_job(v1::CancelJobRequest { name: name(), now: true }).await.map(drop)),
        ("delete", client.delete_job(v1::DeleteJobRequest { name: name() }).await.map(drop)),
    ]
}

#[tokio::test]
async fn a_job_is_changed_by_its_owner_and_by_admins_and_read_by_all() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let (mut alice, mut bob) =
        (jobs_of(&daemon, "alice", v1::Role::Submitter).await, jobs_of(&daemon, "bob", v1::Role::Submitter).await);
    let (mut viewer, mut admin) =
        (jobs_of(&daemon, "viewer", v1::Role::Viewer).await, jobs_of(&daemon, "root2", v1::Role::Admin).await);
    let first = create(&mut alice, spec::endless()).await.unwrap();
    assert_eq!(first.owner, "alice");
    for (method, answer) in change(&mut bob, &first.name).await {
        let status = answer.unwrap_err();
        assert_eq!(refusal(&status), (Code::PermissionDenied, "NOT_OWNER".into()), "{method}");
        assert!(status.message().contains("belongs to alice, and bob is no admin"), "{status}");
    }
    for (method, answer) in change(&mut viewer, &first.name).await {
        assert_eq!(refusal(&answer.unwrap_err()), (Code::PermissionDenied, "ROLE_TOO_LOW".into()), "{method}");
    }
    let read = viewer.get_job(v1::GetJobRequest { name: first.name.clone() }).await.unwrap().into_inner();
    assert!(read.end.is_none() && read.spec.unwrap().priority == 0, "nothing was changed");
    // A job of one's own may be made of another's spec.
    let request = v1::RedoJobRequest { name: first.name.clone(), ..Default::default() };
    let second = bob.redo_job(request).await.unwrap().into_inner();
    assert_eq!(second.owner, "bob");
    let list = async |client: &mut JobServiceClient<Link>, owner: &str| {
        let request = v1::ListJobsRequest { owner: owner.into(), ..Default::default() };
        let jobs = client.list_jobs(request).await.unwrap().into_inner().jobs;
        jobs.into_iter().map(|job| job.name).collect::<Vec<_>>()
    };
    assert_eq!(list(&mut viewer, "alice").await, std::slice::from_ref(&first.name));
    assert_eq!(list(&mut viewer, "bob").await, std::slice::from_ref(&second.name));
    assert_eq!(list(&mut viewer, "").await.len(), 2);
    assert!(list(&mut viewer, "eve").await.is_empty());
    let cancel = |name: &str| v1::CancelJobRequest { name: name.into(), now: true };
    alice.cancel_job(cancel(&first.name)).await.unwrap();
    admin.cancel_job(cancel(&second.name)).await.unwrap();
    for name in [&first.name, &second.name] {
        daemon.watch_to_end(name).await;
    }
    alice.delete_job(v1::DeleteJobRequest { name: first.name }).await.unwrap();
    let (_, out, _) = told(&daemon.ctl(&["show", &second.name]));
    assert!(out.contains("owner") && out.contains("bob"), "{out}");
}

#[tokio::test]
async fn the_id_of_a_request_tells_nothing_of_the_jobs_of_others() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let (mut alice, mut bob) =
        (jobs_of(&daemon, "alice", v1::Role::Submitter).await, jobs_of(&daemon, "bob", v1::Role::Submitter).await);
    let request = || v1::CreateJobRequest { spec: Some(spec::endless()), request_id: "r-1".into() };
    let first = alice.create_job(request()).await.unwrap().into_inner();
    assert_eq!(alice.create_job(request()).await.unwrap().into_inner().name, first.name);
    let status = bob.create_job(request()).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::AlreadyExists, "REQUEST_ID_TAKEN".into()));
}

#[tokio::test]
async fn an_owner_stays_when_the_daemon_is_restarted_and_when_the_database_is_rebuilt() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let mut alice = jobs_of(&daemon, "alice", v1::Role::Submitter).await;
    let job = create(&mut alice, spec::short()).await.unwrap();
    daemon.watch_to_end(&job.name).await;
    let (_, state_dir, _guard) = daemon.stop();
    let daemon = Setup::in_state(&state_dir).start();
    assert_eq!(daemon.get(&job.name).await.owner, "alice");
    let (_, state_dir, _) = daemon.stop();
    std::fs::remove_file(state_dir.join("torchd.db")).unwrap();
    let repaired = Command::new(env!("CARGO_BIN_EXE_torchd"))
        .args(["doctor", "--repair", "--config", "/dev/null", "--state-dir"])
        .arg(&state_dir)
        .output()
        .unwrap();
    assert!(repaired.status.success(), "{repaired:?}");
    let daemon = Setup::in_state(&state_dir).start();
    assert_eq!(daemon.get(&job.name).await.owner, "alice");
}

#[tokio::test]
async fn quotas_bind_an_owner_and_nobody_else() {
    let daemon = Setup::new()
        .set("jobs.cpu_slots", "4")
        .set("jobs.max_running_per_owner", "1")
        .set("jobs.max_queued_per_owner", "1")
        .start();
    let (mut alice, mut bob) =
        (jobs_of(&daemon, "alice", v1::Role::Submitter).await, jobs_of(&daemon, "bob", v1::Role::Submitter).await);
    let one = || v1::JobSpec { resources: spec::threads(1).into(), ..spec::endless() };
    let running = create(&mut alice, one()).await.unwrap();
    daemon.watch_until(&running.name, |job| job.state() == v1::JobState::Running).await;
    let waiting = create(&mut alice, one()).await.unwrap();
    let waiting = daemon.watch_until(&waiting.name, |job| !job.waiting_reason.is_empty()).await;
    assert_eq!(waiting.waiting_reason, "1 job runs for alice, and jobs.max_running_per_owner allows no more");
    let status = create(&mut alice, one()).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::ResourceExhausted, "OWNER_QUOTA".into()));
    assert!(status.message().contains("1 jobs of alice wait"), "{status}");
    let other = create(&mut bob, one()).await.unwrap();
    daemon.watch_until(&other.name, |job| job.state() == v1::JobState::Running).await;
}

#[tokio::test]
async fn an_owner_whose_jobs_hold_too_much_gets_no_further_job() {
    let daemon = Setup::new().start();
    let mut alice = jobs_of(&daemon, "alice", v1::Role::Submitter).await;
    let job = create(&mut alice, spec::short()).await.unwrap();
    daemon.watch_to_end(&job.name).await;
    let (_, state_dir, _guard) = daemon.stop();
    // What there is is measured at the start.
    let daemon = Setup::in_state(&state_dir).set("jobs.max_state_bytes_per_owner", "1000").start();
    let secret = token(&daemon, "again", v1::Role::Submitter, "alice").await;
    let mut alice = JobServiceClient::new(over_tcp(&daemon, Headers::token(&secret)).await);
    let mut bob = jobs_of(&daemon, "bob", v1::Role::Submitter).await;
    let begun = std::time::Instant::now();
    let status = loop {
        match create(&mut alice, spec::short()).await {
            Err(status) => break status,
            Ok(_) => assert!(begun.elapsed() < LIMIT, "nothing was measured"),
        }
    };
    assert_eq!(refusal(&status), (Code::ResourceExhausted, "OWNER_QUOTA".into()));
    assert!(status.message().contains("jobs.max_state_bytes_per_owner in the settings is 1000"), "{status}");
    create(&mut bob, spec::short()).await.unwrap();
}

#[tokio::test]
async fn owners_of_one_priority_take_turns() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let (mut alice, mut bob) =
        (jobs_of(&daemon, "alice", v1::Role::Submitter).await, jobs_of(&daemon, "bob", v1::Role::Submitter).await);
    let mut names = Vec::new();
    let first = create(&mut alice, spec::endless()).await.unwrap();
    daemon.watch_until(&first.name, |job| job.state() == v1::JobState::Running).await;
    for _ in 0..3 {
        names.push(create(&mut alice, spec::short()).await.unwrap().name);
    }
    for _ in 0..2 {
        names.push(create(&mut bob, spec::short()).await.unwrap().name);
    }
    alice.cancel_job(v1::CancelJobRequest { name: first.name, now: true }).await.unwrap();
    let mut started = Vec::new();
    for name in &names {
        let job = daemon.watch_to_end(name).await;
        let time = job.start_time.unwrap();
        started.push(((time.seconds, time.nanos), job.owner));
    }
    started.sort();
    let order: Vec<_> = started.iter().map(|(_, owner)| owner.as_str()).collect();
    assert_eq!(order, ["bob", "alice", "bob", "alice", "alice"]);
}

/// Runs torchctl as another user of the machine.
fn as_user(daemon: &Daemon, uid: u32, groups: &[u32], arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_torchctl"));
    command.env_clear().env("TORCHD_SERVER", daemon.server()).args(arguments);
    let groups: Vec<_> = groups.iter().map(|group| nix::unistd::Gid::from_raw(*group)).collect();
    // SAFETY: nothing but system calls happens between fork and exec.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setgroups(&groups)?;
            nix::unistd::setgid(nix::unistd::Gid::from_raw(uid))?;
            nix::unistd::setuid(nix::unistd::Uid::from_raw(uid))?;
            Ok(())
        });
    }
    told(&command.output().unwrap())
}

#[test]
fn users_of_the_unix_socket_are_told_by_the_kernel() {
    if !tools::is_root() {
        return;
    }
    // A folder that others may enter, unlike that of the state.
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let socket = place.path().join("torchd.sock");
    let daemon = Setup::new()
        .set("grpc.unix_socket", socket.to_str().unwrap())
        .set("grpc.unix_socket_mode", "0666")
        .set("security.users", "4001=viewer,4002=admin")
        .set("security.groups", "4100=submitter")
        .start();
    assert!(daemon.log().contains("lets every user of this machine connect"), "{}", daemon.log());
    let who = |uid, groups: &[u32]| {
        let (code, out, err) = as_user(&daemon, uid, groups, &["whoami"]);
        let field =
            |name: &str| out.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
        (code, field("owner"), field("role"), err)
    };
    for (uid, groups, owner, role) in [
        (0, &[][..], "root", "admin"),
        (4001, &[], "uid-4001", "viewer"),
        (4002, &[], "uid-4002", "admin"),
        (4003, &[4100], "uid-4003", "submitter"),
        // A member of the socket's group, which is root's here.
        (4004, &[0], "uid-4004", "submitter"),
    ] {
        let (code, found, has, err) = who(uid, groups);
        assert_eq!((code, found.as_str(), has.as_str()), (0, owner, role), "{uid} {groups:?}: {err}");
    }
    let (code, _, _, err) = who(4005, &[4101]);
    assert!(code == 1 && err.contains("uid-4005 has no role here"), "{err}");
    // With many groups, as directory servers give them.
    let many: Vec<u32> = (5000..5200).chain([4100]).collect();
    assert_eq!(who(4006, &many).2, "submitter");
    let (code, out, err) =
        as_user(&daemon, 4003, &[4100], &["submit", "examples/mnist.toml", "--set", "training.epochs=1"]);
    assert_eq!(code, 0, "{err}");
    let name = out.split(' ').next().unwrap().to_owned();
    let (code, _, err) = as_user(&daemon, 4004, &[0], &["cancel", &name]);
    assert!(code == 1 && err.contains("belongs to uid-4003"), "{err}");
    assert_eq!(as_user(&daemon, 4003, &[4100], &["cancel", &name]).0, 0);
}

#[tokio::test]
async fn a_program_of_a_job_has_the_user_of_torchd_and_none_of_its_rights() {
    let ctl = env!("CARGO_BIN_EXE_torchctl");
    // A kernel that is new enough refuses the connection itself; it is the daemon's turn on others.
    let allowed = format!("{ctl}:/bin:/usr/bin");
    let daemon = Setup::new().set("programs.enabled", "true").set("programs.allowed", &allowed).start();
    let server = daemon.server();
    // By itself, and by a process whose parent is gone.
    for command in [
        vec![ctl.to_owned(), "--server".into(), server.clone(), "token".into(), "list".into()],
        vec![
            "/bin/sh".into(),
            "-c".into(),
            format!("(setsid sh -c 'sleep 0.2; {ctl} --server {server} token list; echo done' &) ; sleep 3"),
        ],
    ] {
        let program = v1::Program { command, ..Default::default() };
        let job = daemon.create(v1::JobSpec { program: Some(program), ..Default::default() }).await;
        daemon.watch_to_end(&job.name).await;
        let log = std::fs::read_to_string(daemon.job_folder(&job.name).join("runner.log")).unwrap();
        let is_refused = log.contains("this comes from a program of a job") || log.contains("Permission denied");
        assert!(is_refused && !log.contains("EXPIRES"), "{log}");
    }
}
