//! Copies of what jobs leave, in a folder that outlives the machine, such as `/Volumes/...` or
//! `/dbfs/...`.
//!
//! Such file systems neither append, rename nor lock, so files are written whole, read back and
//! compared. `mirror.json` is written last and lists what is whole, with sizes and checksums; of a
//! checkpoint, `checkpoint.json` is written last. A copy that fails leaves everything as it is for
//! the next pass.
//!
//! Others may write below the roots too. So each pass opens its folder anew, works beneath it by
//! descriptors, follows no link, and removes only files that it has written. This module does not
//! decide when a pass is due.

mod judge;
mod pass;
mod pulse;
mod roots;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::beneath::Folder;
use crate::journal::{self, JobFolder, artifact_path, artifacts, write_whole};
use crate::umask::open_to_others;

pub use judge::{Refusal, judge};
use pass::Pass;
pub use pulse::Pulse;
pub use roots::Roots;
use roots::named;

/// The list of a copy's files.
const LIST: &str = "mirror.json";
/// Names, in a job's own folder, the files that its copy was ever given and that were not removed
/// since.
const GIVEN: &str = "mirror_given.json";
/// Says in a job's own folder that its copy is complete.
const DONE: &str = "mirrored";

/// The copy of one job.
#[derive(Debug)]
pub struct Mirror {
    folder: JobFolder,
    roots: Arc<Roots>,
    target: PathBuf,
    /// Copied files, with their size and time.
    copied: BTreeMap<String, (u64, SystemTime, Copied)>,
    /// Files that the copy may have. No other one is removed from it.
    given: BTreeSet<String>,
    /// The files that an earlier daemon has copied are not known yet.
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
    /// The copy of a job in a folder of its own in `wanted`, which was judged once.
    pub fn new(folder: JobFolder, roots: Arc<Roots>, wanted: &Path, id: &str) -> Self {
        let target = wanted.join(id);
        let (copied, given) = (BTreeMap::new(), BTreeSet::new());
        Self { folder, roots, target, copied, given, is_first: true, is_list_due: false }
    }

    /// Where the copy lies.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Copies new files, and removes checkpoints and event files that the job has removed. With
    /// `is_last`, for a job that has ended, it copies everything. Returns how many files were
    /// copied. Blocks for as long as the file systems do; `pulse` tells that it goes on.
    ///
    /// # Errors
    /// The errors of the file systems, with the path.
    pub fn pass(&mut self, is_last: bool, pulse: &Pulse) -> io::Result<usize> {
        let from = Folder::open(self.folder.path()).map_err(named(self.folder.path()))?;
        let to = self.roots.open(&self.target)?;
        let pass = Pass { from, to, pulse };
        if self.is_first {
            self.recall(&pass)?;
            self.is_first = false;
        }
        let wanted = self.wanted(&pass, is_last)?;
        self.note(&wanted)?;
        let mut count = 0;
        for path in &wanted {
            count += usize::from(self.copy(&pass, path)?);
        }
        self.remove_old(&pass, &wanted.iter().map(String::as_str).collect())?;
        if self.is_list_due {
            let list: BTreeMap<_, _> = self.copied.iter().map(|(path, (.., copied))| (path, copied)).collect();
            let text = serde_json::to_vec_pretty(&list)?;
            pass.write_and_compare(LIST, &mut text.as_slice()).map_err(|error| self.told(LIST, error))?;
            self.is_list_due = false;
        }
        if is_last {
            write_whole(&self.folder.path().join(DONE), self.target.to_string_lossy().as_bytes())?;
        }
        Ok(count)
    }

    /// The files that the copy should have, in the order in which they are copied.
    fn wanted(&self, pass: &Pass<'_>, is_last: bool) -> io::Result<Vec<String>> {
        let mut wanted: Vec<String> = artifacts(&self.folder)?.into_iter().map(|artifact| artifact.path).collect();
        // A job that was deleted meanwhile seems to have removed everything.
        let now = Folder::open(self.folder.path()).map_err(named(self.folder.path()))?;
        if now.identity()? != pass.from.identity()? {
            return Err(io::Error::other(format!("{} is another folder than before", self.folder.path().display())));
        }
        // The manifest of a checkpoint comes behind its files.
        wanted.sort_by_key(|path| (is_manifest(path), path.clone()));
        wanted.push("spec.json".into());
        if is_last {
            wanted.extend(["journal", "runner.log", "exit.json"].map(str::to_owned));
        }
        wanted.push("job.json".into());
        Ok(wanted)
    }

    /// Learns what an earlier daemon has copied. Closed checkpoints are taken for what they are,
    /// instead of written anew: a machine that goes in between would leave the copy without them.
    fn recall(&mut self, pass: &Pass<'_>) -> io::Result<()> {
        let path = self.folder.path().join(GIVEN);
        match fs::read(&path) {
            Ok(text) => self.given = serde_json::from_slice(&text).map_err(|error| named(&path)(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(named(&path)(error)),
        }
        // Where there is no list, everything is copied.
        let Ok(list) = pass.list() else { return Ok(()) };
        // Earlier versions have noted nothing else.
        self.given.extend(list.keys().filter(|path| artifact_path(&self.folder, path).is_some()).cloned());
        for checkpoint in journal::checkpoints(&self.folder).unwrap_or_default() {
            let name = JobFolder::checkpoint_name(checkpoint.step());
            for file in &checkpoint.manifest.files {
                let path = format!("{name}/{}", file.name);
                let copied = Copied { size_bytes: file.size_bytes, sha256: file.sha256.clone() };
                let about = pass.from.file(&path).and_then(|file| file.metadata());
                let about = about.and_then(|about| Ok((about.len(), about.modified()?)));
                let there = pass.to.file(&path).and_then(|file| file.metadata());
                let is_there = there.is_ok_and(|there| there.len() == file.size_bytes);
                if let (Ok((size, time)), true, true) = (about, is_there, list.get(&path) == Some(&copied)) {
                    self.copied.insert(path, (size, time, copied));
                }
            }
        }
        Ok(())
    }

    /// Notes which files the copy is about to be given, so that they are removed from it once they
    /// are old, whatever happens to the daemon meanwhile.
    fn note(&mut self, wanted: &[String]) -> io::Result<()> {
        let new: Vec<_> = wanted.iter().filter(|path| !self.given.contains(*path)).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        let given: BTreeSet<_> = self.given.iter().chain(&new).collect();
        write_whole(&self.folder.path().join(GIVEN), &serde_json::to_vec(&given)?)?;
        self.given.extend(new);
        Ok(())
    }

    /// Copies a file unless it was; whether it was needed. One that is not there any more is passed
    /// over.
    fn copy(&mut self, pass: &Pass<'_>, path: &str) -> io::Result<bool> {
        let own = named(&self.folder.path().join(path));
        let from = match pass.from.file(path) {
            Ok(from) => from,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(own(error)),
        };
        let about = from.metadata().map_err(&own)?;
        let stamp = (about.len(), about.modified().map_err(&own)?);
        if self.copied.get(path).is_some_and(|(size, time, _)| (*size, *time) == stamp) {
            return Ok(false);
        }
        if let Some(parent) = parent(path) {
            pass.to.make_folder_and(parent, open_to_others).map_err(|error| self.told(parent, error))?;
        }
        // While a file of a checkpoint is written it is none; what tells of it is copied again
        // behind it.
        if path.starts_with("checkpoints/") && !is_manifest(path) {
            let about = Path::new(path).with_file_name("checkpoint.json");
            self.copied.remove(&*about.to_string_lossy());
            pass.to.remove_file(&about).map_err(|error| self.told(path, error))?;
        }
        self.is_list_due = true;
        // As long as it was when we looked: an event file may grow meanwhile.
        let copied = pass.write_and_compare(path, &mut from.take(stamp.0));
        let copied = copied.map_err(|error| self.told(path, error))?;
        self.copied.insert(path.to_owned(), (stamp.0, stamp.1, copied));
        Ok(true)
    }

    /// Removes the checkpoints and event files of the copy that the job does not have any more. The
    /// steps of a removed event file were done again. Files that others have put beside them stay.
    fn remove_old(&mut self, pass: &Pass<'_>, wanted: &BTreeSet<&str>) -> io::Result<()> {
        let may_go =
            |path: &str| ["checkpoints/", "program/", "tensorboard/"].iter().any(|folder| path.starts_with(folder));
        let is_old = |path: &&String| may_go(path) && !wanted.contains(path.as_str());
        let mut old: Vec<String> = self.given.iter().filter(is_old).cloned().collect();
        // Without it the rest is no checkpoint.
        old.sort_by_key(|path| !is_manifest(path));
        for path in &old {
            pass.pulse.beat(path);
            self.is_list_due = true;
            self.copied.remove(path);
            match pass.to.remove_file(path) {
                // Somebody has put a folder there, or a link on the way to it: the copy does not
                // have it any more.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory) => {}
                other => other.map_err(|error| self.told(path, error))?,
            }
            self.given.remove(path);
        }
        let parents = old.iter().filter_map(|path| parent(path)).filter(|parent| parent.contains('/'));
        for parent in parents.collect::<BTreeSet<_>>().into_iter().rev() {
            match pass.to.remove_empty_folder(parent) {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::DirectoryNotEmpty) => {}
                other => other.map_err(|error| self.told(parent, error))?,
            }
        }
        Ok(())
    }

    /// An error at a file of the copy.
    fn told(&self, path: &str, error: io::Error) -> io::Error {
        named(&self.target.join(path))(error)
    }
}

/// Whether a file tells of a checkpoint.
fn is_manifest(path: &str) -> bool {
    path.ends_with("/checkpoint.json")
}

/// The folder of a file; None where it lies in none.
fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A job's folder, a root for its copy beside it, and one for everybody else's files.
    struct Place {
        folder: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let place = Self { folder: tempfile::tempdir().unwrap() };
            for folder in ["job", "root", "other"] {
                fs::create_dir(place.at(folder)).unwrap();
            }
            place
        }

        fn at(&self, path: &str) -> PathBuf {
            self.folder.path().join(path)
        }

        fn put(&self, path: &str, text: &str) {
            fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
            fs::write(self.at(path), text).unwrap();
        }

        fn text(&self, path: &str) -> String {
            fs::read_to_string(self.at(path)).unwrap()
        }

        fn job(&self) -> JobFolder {
            JobFolder::new(self.at("job"))
        }

        /// As a daemon begins with it.
        fn mirror(&self) -> Mirror {
            let roots = Roots::new(vec![self.at("root")], self.at("record.json"));
            Mirror::new(self.job(), Arc::new(roots), &self.at("root"), "a")
        }

        fn list(&self) -> BTreeMap<String, Copied> {
            serde_json::from_slice(&fs::read(self.at("root/a").join(LIST)).unwrap()).unwrap()
        }
    }

    fn pass(mirror: &mut Mirror, is_last: bool) -> io::Result<usize> {
        mirror.pass(is_last, &Pulse::new(PathBuf::new()))
    }

    #[test]
    fn what_is_new_is_copied_and_what_was_removed_goes() {
        let place = Place::new();
        for path in ["spec.json", "job.json", "journal", "checkpoints/step-1/model", "checkpoints/.step-2/model"] {
            place.put(&format!("job/{path}"), path);
        }
        let mut mirror = place.mirror();
        assert_eq!(pass(&mut mirror, false).unwrap(), 3);
        assert_eq!(pass(&mut mirror, false).unwrap(), 0, "nothing is new");
        place.put("job/tensorboard/events", "one");
        place.put("job/tensorboard/superseded", "two");
        pass(&mut mirror, false).unwrap();
        fs::remove_file(place.at("job/tensorboard/superseded")).unwrap();
        place.put("job/checkpoints/step-3/model", "new");
        place.put("job/checkpoints/step-3/checkpoint.json", "about");
        fs::remove_dir_all(place.at("job/checkpoints/step-1")).unwrap();
        assert_eq!(pass(&mut mirror, false).unwrap(), 2);
        assert!(!place.at("root/a/checkpoints/step-1").exists() && !is_done(&place.job()));
        place.put("job/checkpoints/step-3/model", "newer");
        assert_eq!(pass(&mut mirror, false).unwrap(), 2, "with what tells of it");
        assert!(place.at("root/a/checkpoints/step-3/checkpoint.json").exists());
        assert_eq!(pass(&mut mirror, true).unwrap(), 1);
        assert!(is_done(&place.job()));
        place.put(&format!("job/{DONE}"), "");
        assert!(!is_done(&place.job()), "a daemon died while it wrote that");
        let list = place.list();
        let paths: Vec<_> = list.keys().map(String::as_str).collect();
        let expected = ["checkpoints/step-3/checkpoint.json", "checkpoints/step-3/model"];
        assert_eq!(paths, [&expected[..], &["job.json", "journal", "spec.json", "tensorboard/events"]].concat());
        assert_eq!(list["checkpoints/step-3/model"].size_bytes, 5);
    }

    #[test]
    fn what_a_pass_that_failed_has_copied_is_listed_by_the_next() {
        let place = Place::new();
        place.put("job/spec.json", "{}");
        // A folder in the way of the list stands for a file system that fails.
        fs::create_dir_all(place.at("root/a").join(LIST)).unwrap();
        let mut mirror = place.mirror();
        let error = pass(&mut mirror, true).unwrap_err().to_string();
        assert!(error.contains(LIST), "{error}");
        fs::remove_dir(place.at("root/a").join(LIST)).unwrap();
        assert_eq!(pass(&mut mirror, true).unwrap(), 0);
        assert!(place.list().contains_key("spec.json"));
    }

    #[test]
    fn what_a_daemon_copied_before_it_died_is_removed_by_the_next_once_it_is_old() {
        let place = Place::new();
        place.put("job/tensorboard/superseded", "one");
        // It dies before it has written the list.
        fs::create_dir_all(place.at("root/a").join(LIST)).unwrap();
        pass(&mut place.mirror(), false).unwrap_err();
        assert!(place.at("root/a/tensorboard/superseded").exists());
        fs::remove_dir(place.at("root/a").join(LIST)).unwrap();
        fs::remove_file(place.at("job/tensorboard/superseded")).unwrap();
        pass(&mut place.mirror(), false).unwrap();
        assert!(!place.at("root/a/tensorboard/superseded").exists());
    }

    #[test]
    fn what_others_have_put_into_a_copy_stays_and_is_in_nobodys_way() {
        let place = Place::new();
        place.put("job/tensorboard/events", "one");
        place.put("job/checkpoints/step-1/model", "one");
        let mut mirror = place.mirror();
        pass(&mut mirror, false).unwrap();
        let theirs =
            ["tensorboard/notes", "tensorboard/folder/notes", "checkpoints/step-1/notes", "checkpoints/step-9/model"];
        for path in theirs {
            place.put(&format!("root/a/{path}"), "theirs");
        }
        fs::remove_dir_all(place.at("job/checkpoints/step-1")).unwrap();
        pass(&mut mirror, false).unwrap();
        pass(&mut place.mirror(), true).unwrap();
        assert!(!place.at("root/a/checkpoints/step-1/model").exists());
        for path in theirs {
            assert_eq!(place.text(&format!("root/a/{path}")), "theirs");
        }
    }

    #[test]
    fn no_link_in_a_copy_leads_out_of_it_and_a_pipe_is_not_waited_for() {
        let place = Place::new();
        for path in ["spec.json", "job.json", "tensorboard/events", "checkpoints/step-1/model"] {
            place.put(&format!("job/{path}"), path);
            place.put(&format!("other/{path}"), "theirs");
        }
        let mut mirror = place.mirror();
        pass(&mut mirror, false).unwrap();
        let assert_theirs = || {
            for path in ["spec.json", "job.json", "tensorboard/events", "checkpoints/step-1/model"] {
                assert_eq!(place.text(&format!("other/{path}")), "theirs");
            }
        };
        // Folders: the job removes what it has there, and writes more.
        for folder in ["tensorboard", "checkpoints"] {
            fs::remove_dir_all(place.at("root/a").join(folder)).unwrap();
            symlink(place.at("other").join(folder), place.at("root/a").join(folder)).unwrap();
        }
        fs::remove_file(place.at("job/tensorboard/events")).unwrap();
        fs::remove_dir_all(place.at("job/checkpoints/step-1")).unwrap();
        pass(&mut mirror, false).unwrap();
        assert_theirs();
        place.put("job/tensorboard/more", "more");
        pass(&mut mirror, false).unwrap_err();
        assert!(!place.at("other/tensorboard/more").exists());
        fs::remove_file(place.at("root/a/tensorboard")).unwrap();
        pass(&mut mirror, false).unwrap();
        // Files, by both kinds of links.
        let job = place.at("root/a/job.json");
        fs::remove_file(&job).unwrap();
        symlink(place.at("other/job.json"), &job).unwrap();
        place.put("job/job.json", "changed");
        pass(&mut mirror, false).unwrap_err();
        fs::remove_file(&job).unwrap();
        fs::hard_link(place.at("other/job.json"), &job).unwrap();
        pass(&mut mirror, false).unwrap_err();
        assert_theirs();
        fs::remove_file(&job).unwrap();
        nix::unistd::mkfifo(&job, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = pass(&mut mirror, false).unwrap_err().to_string();
        assert!(error.contains("root/a/job.json"), "{error}");
        fs::remove_file(&job).unwrap();
        pass(&mut mirror, false).unwrap();
        assert_eq!(place.text("root/a/job.json"), "changed");
        // The folder of the copy itself.
        fs::rename(place.at("root/a"), place.at("root/b")).unwrap();
        symlink(place.at("other"), place.at("root/a")).unwrap();
        pass(&mut mirror, true).unwrap_err();
        assert_theirs();
        assert!(!place.at("other").join(LIST).exists() && !is_done(&place.job()));
    }

    #[test]
    fn a_list_that_others_have_written_removes_nothing_outside_and_none_of_the_rest() {
        let place = Place::new();
        place.put("other/file", "theirs");
        place.put("job/spec.json", "{}");
        pass(&mut place.mirror(), false).unwrap();
        let copied = Copied { size_bytes: 6, sha256: String::new() };
        let outside = ["../../other/file", "checkpoints/../../../other/file", "/etc/hostname", "spec.json"];
        let list: BTreeMap<_, _> = outside.iter().map(|path| (*path, &copied)).collect();
        place.put("root/a/mirror.json", &serde_json::to_string(&list).unwrap());
        pass(&mut place.mirror(), false).unwrap();
        assert_eq!((place.text("other/file").as_str(), place.text("root/a/spec.json").as_str()), ("theirs", "{}"));
    }

    #[test]
    fn a_link_in_the_jobs_own_folder_is_not_copied() {
        let place = Place::new();
        place.put("other/secret", "theirs");
        place.put("job/spec.json", "{}");
        symlink(place.at("other/secret"), place.at("job/job.json")).unwrap();
        let error = pass(&mut place.mirror(), true).unwrap_err().to_string();
        assert!(error.contains("job/job.json"), "{error}");
        assert!(!place.at("root/a/job.json").exists());
    }

    #[test]
    fn a_job_that_was_deleted_takes_nothing_out_of_its_copy() {
        let place = Place::new();
        place.put("job/checkpoints/step-1/model", "one");
        let mut mirror = place.mirror();
        pass(&mut mirror, false).unwrap();
        let (from, to) = (Folder::open(&place.at("job")).unwrap(), Folder::open(&place.at("root/a")).unwrap());
        fs::rename(place.at("job"), place.at(".deleted-job")).unwrap();
        pass(&mut mirror, true).unwrap_err();
        // Also where that happens between two looks at it.
        let pass = Pass { from, to, pulse: &Pulse::new(PathBuf::new()) };
        mirror.wanted(&pass, true).unwrap_err();
        fs::create_dir(place.at("job")).unwrap();
        mirror.wanted(&pass, true).unwrap_err();
        assert!(place.at("root/a/checkpoints/step-1/model").exists());
    }
}
