//! Copies of what jobs leave, in a folder that outlives the machine, such as `/Volumes/...` or `/dbfs/...`. Nothing is appended to there,
//! renamed or locked, since such file systems do none of it: files are written whole, read back and compared. `mirror.json` is written
//! last and lists what is whole, with sizes and checksums; of a checkpoint `checkpoint.json` is written last.
//!
//! A copy that fails leaves everything as it is for the next pass. Nothing here decides when that is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::journal::{self, JobFolder, artifacts, sha256_of, write_whole};
use crate::umask::{make_folder_for_others, open_to_others};

/// What lists the files of a copy.
const LIST: &str = "mirror.json";
/// Says in a job's own folder that its copy is complete.
const DONE: &str = "mirrored";

/// The copy of one job.
#[derive(Debug)]
pub struct Mirror {
    folder: JobFolder,
    target: PathBuf,
    /// What was copied, with the size and the time that it had.
    copied: BTreeMap<String, (u64, SystemTime, Copied)>,
    /// What an earlier daemon has copied is not known yet.
    is_first: bool,
    /// The list does not tell yet what the last passes, also those that failed, have done.
    is_list_due: bool,
}

/// A file of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Its bytes.
    pub size_bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

impl Mirror {
    /// The copy of a job in a folder of its own under `root`.
    pub fn new(folder: JobFolder, root: &Path, id: &str) -> Self {
        Self { folder, target: root.join(id), copied: BTreeMap::new(), is_first: true, is_list_due: false }
    }

    /// Where the copy lies.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Copies what is new, and removes checkpoints that the job has removed. With `is_last` everything that there is: the job has ended.
    /// Returns how many files were copied. Blocks.
    pub fn pass(&mut self, is_last: bool) -> io::Result<usize> {
        make_folder_for_others(&self.target)?;
        if std::mem::take(&mut self.is_first) {
            self.recall();
        }
        let present = artifacts(&self.folder)?;
        let mut wanted: Vec<String> = present.into_iter().map(|artifact| artifact.path).collect();
        // What tells of a checkpoint comes behind what it tells of.
        wanted.sort_by_key(|path| (path.ends_with("/checkpoint.json"), path.clone()));
        wanted.push("spec.json".into());
        if is_last {
            wanted.extend(["journal", "runner.log", "exit.json"].map(str::to_owned));
        }
        wanted.push("job.json".into());
        let mut count = 0;
        for path in &wanted {
            count += usize::from(self.copy(path)?);
        }
        let wanted = wanted.iter().map(String::as_str).collect();
        self.remove_old_checkpoints(&wanted)?;
        self.remove_old_events(&wanted)?;
        if self.is_list_due {
            let list: BTreeMap<_, _> = self.copied.iter().map(|(path, (.., copied))| (path, copied)).collect();
            write_and_compare(&self.target.join(LIST), &mut serde_json::to_vec_pretty(&list)?.as_slice())?;
            self.is_list_due = false;
        }
        if is_last {
            write_whole(&self.folder.path().join(DONE), self.target.to_string_lossy().as_bytes())?;
        }
        Ok(count)
    }

    /// Takes closed checkpoints that an earlier daemon has copied for what they are, instead of writing them anew: a machine that goes in
    /// between would leave the copy without them.
    fn recall(&mut self) {
        let read = || -> io::Result<BTreeMap<String, Copied>> {
            Ok(serde_json::from_slice(&fs::read(self.target.join(LIST))?)?)
        };
        // Where there is no list, everything is copied.
        let Ok(list) = read() else { return };
        for checkpoint in journal::checkpoints(&self.folder).unwrap_or_default() {
            let name = JobFolder::checkpoint_name(checkpoint.step());
            for file in &checkpoint.manifest.files {
                let path = format!("{name}/{}", file.name);
                let copied = Copied { size_bytes: file.size_bytes, sha256: file.sha256.clone() };
                let about =
                    fs::metadata(self.folder.path().join(&path)).and_then(|about| Ok((about.len(), about.modified()?)));
                let is_there = fs::metadata(self.target.join(&path)).is_ok_and(|about| about.len() == file.size_bytes);
                if let (Ok((size, time)), true, true) = (about, is_there, list.get(&path) == Some(&copied)) {
                    self.copied.insert(path, (size, time, copied));
                }
            }
        }
    }

    /// Copies a file unless it was; whether it was needed. One that is not there any more is passed over.
    fn copy(&mut self, path: &str) -> io::Result<bool> {
        let from = self.folder.path().join(path);
        let about = match fs::metadata(&from) {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let stamp = (about.len(), about.modified()?);
        if self.copied.get(path).is_some_and(|(size, time, _)| (*size, *time) == stamp) {
            return Ok(false);
        }
        let to = self.target.join(path);
        if let Some(parent) = to.parent() {
            make_folder_for_others(parent)?;
            // While a file of a checkpoint is written it is none; what tells of it is copied again behind it.
            if path.starts_with("checkpoints/") && !path.ends_with("/checkpoint.json") {
                let about = Path::new(path).with_file_name("checkpoint.json");
                self.copied.remove(&*about.to_string_lossy());
                match fs::remove_file(self.target.join(about)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        self.is_list_due = true;
        // As long as it was when we looked: an event file may grow meanwhile.
        let copied = write_and_compare(&to, &mut File::open(&from)?.take(stamp.0))?;
        self.copied.insert(path.to_owned(), (stamp.0, stamp.1, copied));
        Ok(true)
    }

    /// Removes the checkpoints of the copy that the job does not have any more.
    fn remove_old_checkpoints(&mut self, wanted: &BTreeSet<&str>) -> io::Result<()> {
        for entry in journal::entries(&self.target.join("checkpoints"))? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let prefix = format!("checkpoints/{name}/");
            if !name.starts_with("step-") || wanted.iter().any(|path| path.starts_with(&prefix)) {
                continue;
            }
            self.is_list_due = true;
            self.copied.retain(|path, _| !path.starts_with(&prefix));
            // Without it the rest is no checkpoint.
            match fs::remove_file(path.join("checkpoint.json")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => fs::remove_dir_all(&path)?,
            }
        }
        Ok(())
    }

    /// Removes the event files that the job has removed: what stood in them was done again.
    fn remove_old_events(&mut self, wanted: &BTreeSet<&str>) -> io::Result<()> {
        for entry in journal::entries(&self.target.join("tensorboard"))? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let name = format!("tensorboard/{name}");
            if !wanted.contains(name.as_str()) {
                self.is_list_due = true;
                self.copied.remove(&name);
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// Whether the copy of a job is complete.
pub fn is_done(folder: &JobFolder) -> bool {
    done(folder).is_some()
}

/// Where the complete copy of a job lies, and since when; None where it is not complete.
pub fn done(folder: &JobFolder) -> Option<(String, SystemTime)> {
    let path = folder.path().join(DONE);
    // An empty one was left by a version that did not write it whole.
    let target = fs::read_to_string(&path).ok().filter(|target| !target.is_empty())?;
    Some((target, fs::metadata(&path).ok()?.modified().ok()?))
}

/// Judges where a request wants its copy: an absolute path under one of the roots, whatever links there are on the way.
pub fn judge(wanted: &str, roots: &[PathBuf]) -> Result<PathBuf, String> {
    let names = || roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ");
    if roots.is_empty() {
        return Err(format!("is {wanted:?}, and the settings name no output.mirror_roots"));
    }
    let path = Path::new(wanted);
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !is_plain {
        return Err(format!("is {wanted:?}; an absolute path without \"..\" is needed, under {}", names()));
    }
    // What is there already decides where it leads; the rest is made later.
    let there = path.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    let (part, real) = there.ok_or_else(|| format!("is {wanted:?}, which leads nowhere"))?;
    let full = real.join(path.strip_prefix(part).unwrap_or(Path::new("")));
    let is_inside = roots.iter().any(|root| root.canonicalize().is_ok_and(|root| full.starts_with(root)));
    if is_inside { Ok(full) } else { Err(format!("is {wanted:?}, which does not lie under {}", names())) }
}

/// Writes a file whole, reads it back, and tells its checksum.
fn write_and_compare(to: &Path, from: &mut impl Read) -> io::Result<Copied> {
    let mut file = File::create(to)?;
    open_to_others(&file);
    let (mut digest, mut size) = (Sha256::new(), 0u64);
    let mut block = vec![0; 1 << 20];
    loop {
        let count = from.read(&mut block)?;
        if count == 0 {
            break;
        }
        file.write_all(&block[..count])?;
        digest.update(&block[..count]);
        size += count as u64;
    }
    match file.sync_all() {
        // Some of these file systems have no such thing.
        Err(error) if !matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => {
            return Err(error);
        }
        _ => {}
    }
    drop(file);
    let sha256: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let found = sha256_of(&mut File::open(to)?)?;
    if found != sha256 {
        return Err(io::Error::other(format!("{} does not read back as it was written", to.display())));
    }
    Ok(Copied { size_bytes: size, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_copied_and_what_was_removed_goes() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let put = |path: &str, text: &str| {
            let path = own.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for path in ["spec.json", "job.json", "journal", "checkpoints/step-1/model", "checkpoints/.step-2/model"] {
            put(path, path);
        }
        let folder = JobFolder::new(own.path().into());
        let mut mirror = Mirror::new(folder.clone(), other.path(), "a");
        assert_eq!(mirror.pass(false).unwrap(), 3);
        assert_eq!(mirror.pass(false).unwrap(), 0, "nothing is new");
        put("tensorboard/events", "one");
        put("tensorboard/superseded", "two");
        mirror.pass(false).unwrap();
        fs::remove_file(own.path().join("tensorboard/superseded")).unwrap();
        put("checkpoints/step-3/model", "new");
        put("checkpoints/step-3/checkpoint.json", "about");
        fs::remove_dir_all(own.path().join("checkpoints/step-1")).unwrap();
        assert_eq!(mirror.pass(false).unwrap(), 2);
        assert!(!other.path().join("a/checkpoints/step-1").exists() && !is_done(&folder));
        put("checkpoints/step-3/model", "newer");
        assert_eq!(mirror.pass(false).unwrap(), 2, "with what tells of it");
        assert!(other.path().join("a/checkpoints/step-3/checkpoint.json").exists());
        assert_eq!(mirror.pass(true).unwrap(), 1);
        assert!(is_done(&folder));
        fs::write(own.path().join(DONE), "").unwrap();
        assert!(!is_done(&folder), "a daemon died while it wrote that");
        let list: BTreeMap<String, Copied> =
            serde_json::from_slice(&fs::read(other.path().join("a/mirror.json")).unwrap()).unwrap();
        let paths: Vec<_> = list.keys().map(String::as_str).collect();
        let expected = ["checkpoints/step-3/checkpoint.json", "checkpoints/step-3/model"];
        assert_eq!(paths, [&expected[..], &["job.json", "journal", "spec.json", "tensorboard/events"]].concat());
        assert_eq!(list["checkpoints/step-3/model"].size_bytes, 5);
    }

    #[test]
    fn what_a_pass_that_failed_has_copied_is_listed_by_the_next() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(own.path().join("spec.json"), "{}").unwrap();
        // What is in the way of the list, as a file system that fails would be.
        let list = other.path().join("a").join(LIST);
        fs::create_dir_all(&list).unwrap();
        let mut mirror = Mirror::new(JobFolder::new(own.path().into()), other.path(), "a");
        mirror.pass(true).unwrap_err();
        fs::remove_dir(&list).unwrap();
        assert_eq!(mirror.pass(true).unwrap(), 0);
        assert!(fs::read_to_string(&list).unwrap().contains("spec.json"));
    }

    #[test]
    fn a_copy_stays_under_its_roots() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
        let roots = [root.path().to_owned()];
        let inside = root.path().join("runs/one");
        assert_eq!(
            judge(inside.to_str().unwrap(), &roots).unwrap(),
            root.path().canonicalize().unwrap().join("runs/one")
        );
        for wrong in
            ["runs", "/etc", root.path().join("../x").to_str().unwrap(), root.path().join("link/x").to_str().unwrap()]
        {
            assert!(judge(wrong, &roots).is_err(), "{wrong}");
        }
        assert!(judge("/x", &[]).unwrap_err().contains("output.mirror_roots"));
    }
}
