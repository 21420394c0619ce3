//! The effect of each blow.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torchd::journal::{Signature, is_held};
use torchd::proto::v1;

use super::blows::Blow;
use super::daemon::{Daemon, LIMIT, Setup};
use super::reference::Kind;
use super::round::Round;

impl Round {
    pub(crate) async fn strike(&mut self, blow: Blow) {
        if self.disk.is_none() && matches!(blow, Blow::FillDisk | Blow::FreeDisk) {
            return;
        }
        let victim = self.victim(blow);
        let name = self.subjects[victim].name.clone();
        self.note(format!("{blow:?} {name}"));
        self.count(&format!("{blow:?}"));
        match blow {
            Blow::KillDaemon => {
                self.daemon.take().unwrap().crash();
                self.revive_later().await;
            }
            Blow::StopDaemon => {
                let daemon = self.daemon.take().unwrap();
                self.address.send_replace(None);
                let (status, ..) = tokio::task::spawn_blocking(|| daemon.stop()).await.unwrap();
                // It may have come to its point meanwhile.
                assert!(status.success() || self.fault.is_some(), "torchd ended with {status}");
                self.revive_later().await;
            }
            Blow::SecondDaemon => {
                self.revive();
                // It serves where the first one has died.
                let ready = self.state_dir.with_file_name("second.json");
                let second = Setup::in_state(&self.state_dir).arg("--ready-file").arg(&ready).run_for(LIMIT);
                let is_dead = self.daemon.as_mut().is_some_and(Daemon::has_ended);
                match second {
                    Some((status, words)) => {
                        let is_refused = status.code() == Some(69) && words.contains("another torchd uses it");
                        assert!(is_refused || is_dead, "{status} {words}");
                    }
                    None => assert!(is_dead, "a second daemon serves"),
                }
            }
            Blow::FreezeDaemon => {
                self.revive();
                self.daemon().signal(Signal::SIGSTOP);
                // Longer than jobs may be silent.
                tokio::time::sleep(Duration::from_millis(2500)).await;
                self.daemon().signal(Signal::SIGCONT);
            }
            Blow::KillRunner => self.signal(victim, Kind::runners, Signal::SIGKILL),
            Blow::TermRunner => self.signal(victim, Kind::runners, Signal::SIGTERM),
            Blow::FreezeRunner => self.signal(victim, Kind::runners, Signal::SIGSTOP),
            Blow::KillShim => self.signal(victim, Kind::shims, Signal::SIGKILL),
            Blow::TermShim => self.signal(victim, Kind::shims, Signal::SIGTERM),
            Blow::FreezeShim => self.signal(victim, Kind::shims, Signal::SIGSTOP),
            Blow::FreezeClient => self.freeze_client(name),
            Blow::Pause => {
                let request = v1::PauseJobRequest { name };
                self.call(async move |mut jobs| jobs.pause_job(request).await).await;
            }
            Blow::Resume => {
                let request = v1::ResumeJobRequest { name, ..Default::default() };
                self.call(async move |mut jobs| jobs.resume_job(request).await).await;
            }
            Blow::Cancel | Blow::CancelNow => {
                self.subjects[victim].is_cancel_asked = true;
                let request = v1::CancelJobRequest { name, now: blow == Blow::CancelNow };
                self.call(async move |mut jobs| jobs.cancel_job(request).await).await;
            }
            Blow::Delete => {
                let request = v1::DeleteJobRequest { name };
                let answer = self.call(async move |mut jobs| jobs.delete_job(request).await).await;
                // Where the daemon died it may or may not have been done; nor where the disk was so
                // full that other writers took the room of the job's folder.
                self.subjects[victim].is_deleted |= match answer {
                    None | Some(Ok(())) => true,
                    Some(Err(status)) => self.disk.is_some() && status.message().contains("full"),
                };
            }
            Blow::Create => self.create().await,
            Blow::Rot => self.rot(&name),
            Blow::FillDisk => {
                self.disk.as_ref().unwrap().fill();
                self.answers().await;
            }
            Blow::FreeDisk => self.disk.as_ref().unwrap().free(),
        }
    }

    /// Whom a blow hits: where it is for processes, a job that has one, as long as there is any.
    fn victim(&mut self, blow: Blow) -> usize {
        let lock = match blow {
            Blow::KillRunner | Blow::TermRunner | Blow::FreezeRunner => Some("lock"),
            Blow::KillShim | Blow::TermShim | Blow::FreezeShim => Some("shim"),
            _ => None,
        };
        let all: Vec<usize> = (0..self.subjects.len()).collect();
        let has_one = |place: &usize| {
            lock.is_none_or(|lock| is_held(&self.folder(&self.subjects[*place].name).join(lock)).unwrap_or(false))
        };
        let those: Vec<usize> = all.iter().copied().filter(has_one).collect();
        *self.random.of(if those.is_empty() { &all } else { &those })
    }

    async fn revive_later(&mut self) {
        self.address.send_replace(None);
        let pause = Duration::from_millis(*self.random.of(&[0, 0, 100, 1500]));
        tokio::time::sleep(pause).await;
        if self.random.once_in(3) {
            self.fault = None;
        }
        self.start();
    }

    /// A daemon whose disk is full answers what it is asked.
    async fn answers(&mut self) {
        if let Some(answer) = self.call(async |mut jobs| jobs.list_jobs(v1::ListJobsRequest::default()).await).await {
            let listed = answer.unwrap_or_else(|status| panic!("with a full disk: {status}")).jobs.len();
            let expected = self.subjects.iter().filter(|subject| !subject.is_deleted).count();
            assert!(listed >= expected.min(50), "{listed} of {expected} jobs are listed");
        }
    }

    /// Signals a process that has signed one of these locks of a job, if it still runs.
    fn signal(&mut self, victim: usize, locks: fn(Kind) -> &'static [&'static str], signal: Signal) {
        let name = self.subjects[victim].name.clone();
        let locks = locks(self.subjects[victim].kind);
        let lock = *self.random.of(locks);
        if let Ok(Some(runner)) = Signature::read_file(&self.folder(&name).join(lock))
            && runner.is_running().unwrap()
        {
            let _ = kill(Pid::from_raw(runner.pid as i32), signal);
            self.count(&format!(
                "{signal} that hit a {}",
                match lock {
                    "lock" => "runner",
                    "shim" => "shim",
                    _ => "process of another rank",
                }
            ));
            if signal == Signal::SIGSTOP {
                self.frozen.push(runner);
            }
        }
    }

    /// A torchctl that watches, and whose clock stands still for a while.
    fn freeze_client(&mut self, name: String) {
        self.revive();
        let mut command = Command::new(env!("CARGO_BIN_EXE_torchctl"));
        command.env_clear().env("TORCHD_SERVER", self.daemon().grpc.to_string());
        command.args(["watch", &name, "-o", "json"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGSTOP);
        self.clients.push((name, child));
    }

    /// A bit of the newest checkpoint flips.
    fn rot(&mut self, name: &str) {
        let newest = torchd::journal::checkpoints(&torchd::journal::JobFolder::new(self.folder(name)));
        let Some(newest) = newest.ok().and_then(|found| found.into_iter().next()) else { return };
        let file = newest.path.join("model.safetensors");
        if let Ok(mut bytes) = fs::read(&file) {
            let place = self.random.below(bytes.len() as u64) as usize;
            bytes[place] ^= 1 << self.random.below(8);
            // In place, as a disk would.
            let _ = fs::write(&file, bytes);
            self.count("checkpoints with a flipped bit");
        }
    }
}
