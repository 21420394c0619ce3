//! Files that a rank brings whole: a checkpoint, or results. They come aside, are held against
//! their checksums, and get their names once the disk has them.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::LaunchError;
use super::launch::Launch;
use crate::beneath::{bytes_below, remove_tree};
use crate::journal::{Checkpoint, JobFolder, Manifest, sync_folder};
use crate::sha256::Sha256;

/// Names of folders in which files come begin so, beside the place where they will lie.
const ASIDE: &str = ".coming-";

/// Files that are about to come.
#[derive(Debug, Clone)]
pub struct PutPlan {
    /// The rank that brings them.
    pub rank: u32,
    /// Its outpost.
    pub outpost: u64,
    /// The step of a checkpoint; None for results.
    pub step: Option<u64>,
    /// The files, in the order in which they come.
    pub files: Vec<PutFile>,
    /// The steps of checkpoints that the rank has removed.
    pub removed_steps: Vec<u64>,
    /// Counts what the outpost has put.
    pub sequence: u64,
}

/// A file that is about to come.
#[derive(Debug, Clone)]
pub struct PutFile {
    /// Its name, without a folder.
    pub name: String,
    /// Its bytes.
    pub size_bytes: u64,
    /// Their checksum.
    pub sha256: String,
}

/// Files that come.
pub struct Put {
    launch: Arc<Launch>,
    plan: PutPlan,
    aside: PathBuf,
    /// They are there already, and what comes is dropped.
    is_there: bool,
    next: usize,
    current: Option<Coming>,
}

struct Coming {
    file: File,
    sum: Sha256,
    left: u64,
}

impl PutPlan {
    /// The bytes of all files.
    fn size_bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.size_bytes))
    }
}

impl Launch {
    /// Begins to take files. Blocks.
    ///
    /// # Errors
    /// The rank is not this outpost's, or it is not the first, or a name is that of no file.
    pub fn begin_put(self: &Arc<Self>, plan: PutPlan) -> Result<Put, LaunchError> {
        let rank = plan.rank;
        self.noted(rank, self.begin(plan))
    }

    /// The result of writing for a rank; the job is told of a disk that refuses.
    fn noted<T>(&self, rank: u32, result: Result<T, LaunchError>) -> Result<T, LaunchError> {
        if let Err(LaunchError::Folder(error)) = &result {
            self.note_disk(rank, Some(error.to_string()));
        }
        result
    }

    /// The bytes that files will take beside what is there, and those of the checkpoints that go
    /// away once they are there; none where they are at home already. Blocks.
    ///
    /// # Errors
    /// A checkpoint that goes away cannot be read.
    pub fn room_for(&self, plan: &PutPlan) -> Result<(u64, u64), LaunchError> {
        let Some(step) = plan.step else { return Ok((plan.size_bytes(), 0)) };
        if self.has(step, &plan.files) {
            return Ok((0, 0));
        }
        // A damaged one of the same step goes too.
        let removed: BTreeSet<u64> = plan.removed_steps.iter().copied().chain([step]).collect();
        let mut freed: u64 = 0;
        for removed in removed {
            freed = freed.saturating_add(bytes_below(&self.checkpoint(removed))?);
        }
        Ok((plan.size_bytes(), freed))
    }

    fn begin(self: &Arc<Self>, plan: PutPlan) -> Result<Put, LaunchError> {
        self.hear(plan.rank, plan.outpost)?;
        if plan.rank != 0 {
            return Err(LaunchError::Damaged(format!("rank {} brings files; the first rank alone does", plan.rank)));
        }
        let is_name = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        if let Some(odd) = plan.files.iter().find(|file| !is_name(&file.name)) {
            let right = "a name without a folder that does not begin with a dot";
            return Err(LaunchError::Name { field: "files.name", found: odd.name.clone(), right });
        }
        let folder = match plan.step {
            Some(_) => self.folder.checkpoints(),
            None => self.folder.artifacts(),
        };
        // Another one may not have ended yet.
        let aside = folder.join(format!("{ASIDE}{:016x}-{}", plan.outpost, self.next_put()));
        let is_there = plan.step.is_some_and(|step| self.has(step, &plan.files));
        if !is_there {
            let _fence = self.admit(plan.rank, plan.outpost)?;
            fs::create_dir(&aside)?;
        }
        let mut put = Put { launch: self.clone(), plan, aside, is_there, next: 0, current: None };
        put.go_on()?;
        Ok(put)
    }

    /// Whether a checkpoint is there with that manifest.
    fn has(&self, step: u64, files: &[PutFile]) -> bool {
        let place = self.checkpoint(step);
        let told = files.iter().find(|file| file.name == Manifest::NAME);
        let sum = File::open(Manifest::path(&place)).and_then(|mut file| Sha256::of_reader(&mut file));
        Checkpoint::open(&place).is_ok() && told.is_some_and(|told| sum.is_ok_and(|sum| sum == told.sha256))
    }

    fn checkpoint(&self, step: u64) -> PathBuf {
        self.folder.path().join(JobFolder::checkpoint_name(step))
    }
}

impl Put {
    /// Takes bytes. Blocks.
    ///
    /// # Errors
    /// There are more than was told, or a file has another checksum.
    pub fn write(&mut self, data: &[u8]) -> Result<(), LaunchError> {
        let (launch, written) = (self.launch.clone(), self.take(data));
        launch.noted(self.plan.rank, written)
    }

    fn take(&mut self, mut data: &[u8]) -> Result<(), LaunchError> {
        self.launch.hear(self.plan.rank, self.plan.outpost)?;
        self.launch.note_carried(self.plan.rank);
        if self.is_there {
            return Ok(());
        }
        while !data.is_empty() {
            let Some(coming) = &mut self.current else {
                return Err(LaunchError::Damaged("more bytes came than the files have".into()));
            };
            let (now, rest) = data.split_at(usize::try_from(coming.left).unwrap_or(usize::MAX).min(data.len()));
            coming.file.write_all(now)?;
            coming.sum.update(now);
            coming.left -= now.len() as u64;
            data = rest;
            self.go_on()?;
        }
        Ok(())
    }

    /// Gives the files their names. Blocks.
    ///
    /// # Errors
    /// Not all have come, or they are no checkpoint.
    pub fn finish(self) -> Result<(), LaunchError> {
        let named = self.name();
        if named.is_ok() {
            self.launch.note_disk(self.plan.rank, None);
        }
        self.launch.noted(self.plan.rank, named)
    }

    fn name(&self) -> Result<(), LaunchError> {
        self.launch.hear(self.plan.rank, self.plan.outpost)?;
        if self.is_there {
            return Ok(());
        }
        if self.next < self.plan.files.len() || self.current.is_some() {
            return Err(LaunchError::Damaged("fewer bytes came than the files have".into()));
        }
        sync_folder(&self.aside)?;
        match self.plan.step {
            Some(step) => self.name_checkpoint(step),
            None => self.name_results(),
        }
    }

    fn name_checkpoint(&self, step: u64) -> Result<(), LaunchError> {
        let checkpoint = Checkpoint::open(&self.aside)?;
        if checkpoint.step() != step {
            return Err(LaunchError::Damaged(format!("the checkpoint is that of step {}", checkpoint.step())));
        }
        let (place, folder) = (self.launch.checkpoint(step), self.launch.folder.checkpoints());
        // An attempt that goes on from it needs what was told before it.
        self.launch.sync_told(self.plan.rank)?;
        let _fence = self.launch.admit(self.plan.rank, self.plan.outpost)?;
        // One that is damaged.
        if place.try_exists()? {
            remove_tree(&place)?;
        }
        fs::rename(&self.aside, place)?;
        sync_folder(&folder)?;
        for removed in self.plan.removed_steps.iter().filter(|removed| **removed != step) {
            match remove_tree(&self.launch.checkpoint(*removed)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    fn name_results(&self) -> Result<(), LaunchError> {
        let folder = self.launch.folder.artifacts();
        let (mut record, _) = self.launch.admit(self.plan.rank, self.plan.outpost)?;
        // A call that was given up may end behind the one that took its place.
        if record.results > self.plan.sequence {
            return Ok(remove_tree(&self.aside)?);
        }
        if record.results != self.plan.sequence {
            record.results = self.plan.sequence;
            record.write(&self.launch.folder)?;
        }
        for file in &self.plan.files {
            fs::rename(self.aside.join(&file.name), folder.join(&file.name))?;
        }
        fs::remove_dir(&self.aside)?;
        Ok(sync_folder(&folder)?)
    }

    /// Closes the file in hand once all of its bytes have come, and opens the next one.
    fn go_on(&mut self) -> Result<(), LaunchError> {
        while !self.is_there {
            match self.current.take_if(|coming| coming.left == 0) {
                Some(coming) => self.close(coming)?,
                None if self.current.is_some() => return Ok(()),
                None => {}
            }
            let Some(told) = self.plan.files.get(self.next) else { return Ok(()) };
            let file = File::create_new(self.aside.join(&told.name))?;
            if self.launch.limits.group_reads && self.plan.step.is_none() {
                file.set_permissions(Permissions::from_mode(0o640))?;
            }
            self.current = Some(Coming { file, sum: Sha256::default(), left: told.size_bytes });
        }
        Ok(())
    }

    fn close(&mut self, coming: Coming) -> Result<(), LaunchError> {
        let told = &self.plan.files[self.next];
        if coming.sum.finish() != told.sha256 {
            return Err(LaunchError::Damaged(format!("{} did not come with the checksum that was told", told.name)));
        }
        coming.file.sync_all()?;
        self.next += 1;
        Ok(())
    }
}

impl Drop for Put {
    fn drop(&mut self) {
        // A full disk needs its room.
        let _ = remove_tree(&self.aside);
    }
}
