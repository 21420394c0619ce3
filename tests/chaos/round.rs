//! One round: a daemon, some jobs, what happens to them, and how they get to their ends all the
//! same.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use torchd::journal::Signature;
use torchd::proto::v1::job_service_client::JobServiceClient;
use torchd::proto::v1::{self, JobState};

use super::blows::{Blow, POINTS};
use super::daemon::{Daemon, LIMIT, Setup};
use super::follower::{Seen, follow, is_lost};
use super::invariants;
use super::random::Random;
use super::reference::{Kind, Reference, serving_all};
use super::small_disk::SmallDisk;
use super::spec;

/// How often what happened.
pub(crate) type Tally = BTreeMap<String, u64>;

/// One round in this number is on a small disk.
const SMALL_DISK_EVERY: u64 = 4;

/// A job of a round.
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) max_restarts: u32,
    pub(crate) is_cancel_asked: bool,
    pub(crate) is_deleted: bool,
    follower: Option<JoinHandle<Seen>>,
}

pub(crate) struct Round {
    pub(crate) random: Random,
    seed: u64,
    /// None while a blow takes it away.
    pub(crate) daemon: Option<Daemon>,
    pub(crate) address: watch::Sender<Option<SocketAddr>>,
    pub(crate) state_dir: PathBuf,
    state: Option<tempfile::TempDir>,
    /// Where results are copied to.
    pub(crate) copies: tempfile::TempDir,
    pub(crate) disk: Option<SmallDisk>,
    settings: Vec<(&'static str, &'static str)>,
    /// The point at which what is started now dies.
    pub(crate) fault: Option<String>,
    pub(crate) subjects: Vec<Subject>,
    pub(crate) frozen: Vec<Signature>,
    pub(crate) clients: Vec<(String, Child)>,
    tally: Tally,
    log: Vec<String>,
}

/// Plays a round.
pub(crate) async fn play(seed: u64, reference: &Reference) -> Tally {
    let mut round = Round::begin(seed);
    let jobs = 2 + round.random.below(3);
    for _ in 0..jobs {
        round.create().await;
    }
    for _ in 0..6 + round.random.below(8) {
        let pause = Duration::from_millis(round.random.below(200));
        tokio::time::sleep(pause).await;
        let blow = Blow::any(&mut round.random);
        round.strike(blow).await;
    }
    round.settle().await;
    let seen = round.followers().await;
    invariants::check_served(&mut round, &seen, reference).await;
    round.end().await;
    invariants::check_left(&mut round, &seen, reference);
    round.count_points();
    std::mem::take(&mut round.tally)
}

impl Round {
    fn begin(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let (point, (who, most)) = POINTS[(seed % POINTS.len() as u64) as usize];
        let fault = Some(format!("{point}:{}", 1 + random.below(most)));
        let disk = if seed.is_multiple_of(SMALL_DISK_EVERY) { SmallDisk::mount().ok() } else { None };
        let state = disk.is_none().then(|| tempfile::tempdir().unwrap());
        let state_dir = disk.as_ref().map_or_else(|| state.as_ref().unwrap().path(), SmallDisk::path).join("state");
        let mut settings = vec![("jobs.cpu_slots", "2"), ("runner.stop_grace", "500ms")];
        settings.push(("shutdown.runners", *random.of(&["leave", "stop"])));
        settings.push(("jobs.orphan_timeout", *random.of(&["1s", "60s"])));
        settings.push(("jobs.preemption", *random.of(&["true", "false"])));
        let mut round = Self {
            random,
            seed,
            daemon: None,
            address: watch::channel(None).0,
            state_dir,
            state,
            copies: tempfile::tempdir().unwrap(),
            disk,
            settings,
            fault,
            subjects: Vec::new(),
            frozen: Vec::new(),
            clients: Vec::new(),
            tally: Tally::new(),
            log: Vec::new(),
        };
        round.note(format!("dies at {:?} of {who:?}; {:?}", round.fault, round.settings));
        if round.disk.is_some() {
            round.count("rounds on a small disk");
        }
        round.start();
        round
    }

    pub(crate) fn count(&mut self, what: &str) {
        *self.tally.entry(what.to_owned()).or_default() += 1;
    }

    pub(crate) fn attempts(&mut self) -> &mut u64 {
        self.tally.entry("attempts of jobs".into()).or_default()
    }

    pub(crate) fn note(&mut self, what: String) {
        self.log.push(what);
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.state_dir.join(name)
    }

    /// Starts the daemon, again where it dies before it serves.
    pub(crate) fn start(&mut self) {
        // A daemon that runs lives with a full disk; one that begins may say that it cannot.
        if let Some(disk) = &self.disk {
            disk.free();
        }
        for _ in 0..20 {
            let mut setup = serving_all(Setup::in_state(&self.state_dir)).open();
            for (key, value) in &self.settings {
                setup = setup.set(key, value);
            }
            setup = setup.set("output.mirror_roots", self.copies.path().to_str().unwrap());
            setup = setup.set("output.mirror_interval", "300ms");
            if let Some(fault) = &self.fault {
                setup = setup.env("TORCHD_FAULT", fault);
            }
            match setup.try_start() {
                Ok(daemon) => {
                    self.address.send_replace(Some(daemon.grpc));
                    self.daemon = Some(daemon);
                    return;
                }
                Err(status) if self.fault.is_some() => {
                    self.note(format!("the daemon ended with {status} before it served"));
                    if self.random.once_in(2) {
                        self.fault = None;
                    }
                }
                Err(status) => {
                    let log = fs::read_to_string(self.state_dir.join("daemon.log")).unwrap_or_default();
                    panic!("the daemon does not start: {status}\n{log}");
                }
            }
        }
        panic!("the daemon died too often at {:?}", self.fault);
    }

    /// Starts another one where the daemon has died.
    pub(crate) fn revive(&mut self) {
        let is_dead = self.daemon.as_mut().is_none_or(Daemon::has_ended);
        if is_dead {
            if let Some(daemon) = self.daemon.take() {
                let (..) = daemon.crash();
                self.note("the daemon has died by itself".into());
                if self.random.once_in(2) {
                    self.fault = None;
                }
            }
            self.start();
        }
    }

    /// Calls the daemon; None where it dies meanwhile.
    pub(crate) async fn call<T, F>(
        &mut self,
        call: impl FnOnce(JobServiceClient<Channel>) -> F,
    ) -> Option<Result<T, tonic::Status>>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        self.revive();
        let address = self.daemon().grpc;
        let asked = async {
            let client = JobServiceClient::connect(format!("http://{address}")).await;
            call(client.map_err(|error| tonic::Status::unavailable(error.to_string()))?).await
        };
        let answer = tokio::time::timeout(LIMIT, asked).await;
        let answer = answer.unwrap_or_else(|_| panic!("the daemon does not answer"));
        match answer {
            Err(status) if is_lost(status.code()) && status.code() != tonic::Code::Internal => {
                // Between the death of a process and its end.
                tokio::time::sleep(Duration::from_millis(20)).await;
                None
            }
            answer => Some(answer.map(tonic::Response::into_inner)),
        }
    }

    pub(crate) async fn create(&mut self) {
        let max_restarts = *self.random.of(&[0, 1, 100, 100, 100]);
        let backoff = *self.random.of(&[0, 0, 200]);
        let backoff = Some(prost_types::Duration { seconds: 0, nanos: backoff * 1_000_000 });
        let mirror = if self.random.once_in(2) { self.copies.path().display().to_string() } else { String::new() };
        let stall_timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        let retry = v1::Retry { max_restarts, initial_backoff: backoff, stall_timeout, ..v1::Retry::default() };
        let every_steps = Some(*self.random.of(&[37, 50, 111]));
        let kind = *self.random.of(Kind::all());
        let checkpoint = v1::Checkpoint { every_steps, ..v1::Checkpoint::default() };
        let spec = v1::JobSpec {
            retry: Some(retry),
            // A program says by itself when it saves.
            checkpoint: (kind != Kind::Program).then_some(checkpoint),
            priority: self.random.below(3) as i32,
            output: Some(v1::Output { mirror, ..v1::Output::default() }),
            ..kind.numbers()
        };
        // The same request until somebody answers: it makes one job.
        let request_id = format!("{}-{}", self.seed, self.subjects.len());
        for _ in 0..20 {
            let request = v1::CreateJobRequest { spec: Some(spec.clone()), request_id: request_id.clone() };
            match self.call(async move |mut jobs| jobs.create_job(request).await).await {
                None => self.note("the daemon died while a job was created".into()),
                Some(Ok(job)) => {
                    let pace = Duration::from_millis(*self.random.of(&[0, 0, 5, 60]));
                    let follower = tokio::spawn(follow(job.name.clone(), self.address.subscribe(), pace));
                    self.note(format!("{} created, {kind:?}, {max_restarts} restarts", job.name));
                    self.count(&format!("jobs of the kind {kind:?}"));
                    self.subjects.push(Subject {
                        name: job.name,
                        kind,
                        max_restarts,
                        is_cancel_asked: false,
                        is_deleted: false,
                        follower: Some(follower),
                    });
                    return;
                }
                // Every process that judges files dies at this point.
                Some(Err(status)) if self.fault.as_ref().is_some_and(|fault| fault.starts_with("file-judged")) => {
                    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
                    self.count("jobs whose files could not be judged");
                    self.fault = None;
                    self.daemon.take().unwrap().crash();
                    self.start();
                }
                Some(Err(status)) => {
                    assert!(self.disk.is_some(), "{status}");
                    self.note(format!("a job was refused: {}", status.message()));
                    self.count("jobs refused by a full disk");
                    return;
                }
            }
        }
        panic!("no job could be created");
    }

    /// Nothing happens any more: every job comes to its end.
    async fn settle(&mut self) {
        self.note("settling".into());
        for runner in std::mem::take(&mut self.frozen) {
            if runner.is_running().unwrap() {
                let _ = kill(Pid::from_raw(runner.pid as i32), Signal::SIGCONT);
            }
        }
        if let Some(disk) = &self.disk {
            disk.free();
        }
        if self.fault.take().is_some() {
            self.daemon.take().unwrap().crash();
            self.start();
        }
        let begun = Instant::now();
        loop {
            let list = v1::ListJobsRequest { page_size: 1000, ..v1::ListJobsRequest::default() };
            let listed = self.call(async move |mut jobs| jobs.list_jobs(list).await).await;
            let jobs = listed.expect("no point is left to die at").unwrap().jobs;
            if jobs.iter().all(|job| job.end.is_some()) {
                break;
            }
            for job in jobs.iter().filter(|job| job.state() == JobState::Paused) {
                let request = v1::ResumeJobRequest { name: job.name.clone(), ..Default::default() };
                let anew = v1::ResumeJobRequest { from_scratch: true, ..request.clone() };
                let resumed = self.call(async move |mut jobs| jobs.resume_job(request).await).await.unwrap();
                let Err(refused) = resumed else { continue };
                // The harness has flipped bits in all of them.
                assert!(refused.message().contains("no checkpoint can be used"), "{refused}");
                self.count("jobs begun anew because no checkpoint was left");
                self.call(async move |mut jobs| jobs.resume_job(anew).await).await.unwrap().unwrap();
            }
            let words = || jobs.iter().map(|job| format!("{} {:?} {}", job.name, job.state(), job.waiting_reason));
            assert!(begun.elapsed() < LIMIT, "jobs do not end: {:?}", words().collect::<Vec<_>>());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // It needs all of the machine: nobody holds a part of it.
        let all = v1::JobSpec { resources: Some(spec::threads(2)), ..spec::short() };
        let last = self.daemon().create(all).await;
        let ended = self.daemon().watch_to_end(&last.name).await;
        assert_eq!(ended.state(), JobState::Succeeded, "{:?}", ended.end);
    }

    /// The observations of the followers, by job.
    async fn followers(&mut self) -> Vec<(usize, Seen)> {
        let mut all = Vec::new();
        for place in 0..self.subjects.len() {
            let follower = self.subjects[place].follower.take().unwrap();
            let name = self.subjects[place].name.clone();
            let seen = tokio::time::timeout(LIMIT, follower).await;
            let seen = seen.unwrap_or_else(|_| panic!("a follower of {name} does not come to the end")).unwrap();
            *self.tally.entry("streams of followers".into()).or_default() += seen.streams;
            all.push((place, seen));
        }
        let mut records = 0;
        for (name, mut child) in std::mem::take(&mut self.clients) {
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGCONT);
            let mut last = 0;
            for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
                let message: serde_json::Value = serde_json::from_str(&line).unwrap();
                for event in message["events"].as_array().unwrap() {
                    if let Some(sequence) = event["record"]["sequence"].as_str() {
                        let sequence: u64 = sequence.parse().unwrap();
                        assert_eq!(sequence, last + 1, "a frozen torchctl that watches {name}");
                        last = sequence;
                        records += 1;
                    }
                }
            }
            child.wait().unwrap();
        }
        if records > 0 {
            *self.tally.entry("records that frozen clients got".into()).or_default() += records;
        }
        all
    }

    /// Where the results of a job have been copied to, once all of them are.
    pub(crate) async fn copied(&mut self, name: &str) -> PathBuf {
        let begun = Instant::now();
        loop {
            let mirror = self.daemon().get(name).await.mirror.unwrap();
            if mirror.complete {
                return mirror.folder.into();
            }
            assert!(begun.elapsed() < LIMIT, "the copy of {name} does not get complete: {mirror:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(&mut self) {
        let daemon = self.daemon.take().unwrap();
        let (status, ..) = tokio::task::spawn_blocking(|| daemon.stop()).await.unwrap();
        assert!(status.success(), "torchd ended with {status}");
    }

    /// Counts the deaths at each point: a process that dies there says so.
    fn count_points(&mut self) {
        let mut logs = vec![self.state_dir.join("daemon.log")];
        let jobs = fs::read_dir(self.state_dir.join("jobs")).unwrap();
        logs.extend(jobs.map(|job| job.unwrap().path().join("runner.log")));
        for text in logs.iter().filter_map(|log| fs::read(log).ok()) {
            for line in String::from_utf8_lossy(&text).lines().filter_map(|line| line.strip_prefix("[fault: dies at "))
            {
                self.count(&format!("deaths at {}", line.trim_end_matches(']')));
            }
        }
    }

    /// The programs that are at work in the state folder.
    pub(crate) fn processes(&self) -> Vec<String> {
        let name = self.state_dir.display().to_string();
        let line = |path: &Path| {
            let line = fs::read(path.join("cmdline")).ok()?;
            let is_alive = fs::read_to_string(path.join("stat")).ok().is_some_and(|stat| !stat.contains(") Z "));
            Some(String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| is_alive && line.contains(&name))
        };
        fs::read_dir("/proc").unwrap().filter_map(|entry| line(&entry.ok()?.path())).collect()
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        for (_, client) in &mut self.clients {
            let _ = client.kill();
            let _ = client.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the round CHAOS_SEED={}", self.seed);
            self.log.iter().for_each(|line| eprintln!("{line}"));
            if let Some(state) = self.state.take() {
                eprintln!("its state folder stays in {}", state.keep().display());
            }
        }
    }
}
