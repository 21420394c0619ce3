//! `launch.json`: a launch as the next daemon finds it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{LauncherKey, Mailbox, Place, RankPart};
use crate::beneath::present;
use crate::job::spec::Engine;
use crate::journal::{JobFolder, write_whole};

/// A launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) attempt: u32,
    pub(super) engine: Engine,
    /// The owner of its launcher.
    owner: String,
    /// The launcher's name.
    launcher: String,
    pub(super) world_size: u32,
    /// The hash of its token, in hexadecimal.
    pub(super) token_sha256: String,
    pub(super) began: SystemTime,
    pub(super) join_timeout: Duration,
    cpu_threads: u32,
    memory_limit_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gpu: bool,
    /// Its mailbox; None where ranks have a route to the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mailbox: Option<Mailbox>,
    /// The sequence of the last results that got their names.
    #[serde(default)]
    pub(super) results: u64,
    /// All of its ranks have ended, or are given up.
    #[serde(default)]
    pub(super) is_over: bool,
    /// Bytes of earlier attempts in the files of each rank.
    pub(super) before: Vec<Before>,
    /// Event files of earlier attempts end where this one goes on.
    pub(super) events_are_cut: bool,
}

/// Bytes of earlier attempts in the files of a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Before {
    pub(super) journal: u64,
    pub(super) log: u64,
}

impl Record {
    /// A launch that begins now. The folders of its ranks are there.
    pub(super) fn new(
        folder: &JobFolder,
        attempt: u32,
        place: Place,
        token_sha256: String,
        join_timeout: Duration,
        part: RankPart,
        mailbox: Option<Mailbox>,
    ) -> io::Result<Self> {
        let length = |path: &Path| Ok::<_, io::Error>(present(fs::metadata(path))?.map_or(0, |about| about.len()));
        let before = (0..place.world_size).map(|rank| {
            let folder = if rank == 0 { folder.clone() } else { folder.rank(rank) };
            Ok(Before { journal: length(&folder.journal())?, log: length(&folder.log())? })
        });
        Ok(Self {
            attempt,
            engine: place.engine,
            owner: place.launcher.owner.to_string(),
            launcher: place.launcher.name.to_string(),
            world_size: place.world_size,
            token_sha256,
            began: SystemTime::now(),
            join_timeout,
            cpu_threads: part.cpu_threads,
            memory_limit_bytes: part.memory_limit_bytes,
            gpu: part.gpu,
            mailbox,
            results: 0,
            is_over: false,
            before: before.collect::<io::Result<_>>()?,
            events_are_cut: false,
        })
    }

    /// Its launcher.
    pub(super) fn launcher(&self) -> LauncherKey {
        LauncherKey { owner: self.owner.as_str().into(), name: self.launcher.as_str().into() }
    }

    /// The part of its machine that each rank gets.
    pub(super) fn part(&self) -> RankPart {
        RankPart { cpu_threads: self.cpu_threads, memory_limit_bytes: self.memory_limit_bytes, gpu: self.gpu }
    }

    /// Writes it down.
    pub(super) fn write(&self, folder: &JobFolder) -> io::Result<()> {
        write_whole(&folder.launch(), &serde_json::to_vec_pretty(self)?)
    }

    /// The last launch of a job; None where there was none.
    pub(super) fn read(folder: &JobFolder) -> io::Result<Option<Self>> {
        let Some(bytes) = present(fs::read(folder.launch()))? else { return Ok(None) };
        let record: Self = serde_json::from_slice(&bytes)?;
        if record.before.len() != record.world_size as usize || record.world_size == 0 {
            let what = format!("launch.json tells of {} ranks, not {}", record.before.len(), record.world_size);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(Some(record))
    }
}
