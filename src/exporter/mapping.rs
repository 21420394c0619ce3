//! Files for people who keep their dcgm-exporter: it labels its own series with the jobs that stand
//! in a file for each GPU, named by its number (`0`), or by number and instance (`0.3`), with a job
//! on each line. (dcgm-exporter, --hpc-job-mapping-dir)

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::gpu::Watcher;
use crate::proto::v1;
use crate::umask::open_to_others;

/// Keeps the files of a folder true, until the watcher is gone. Files of other names are left
/// alone.
pub async fn keep(watcher: Watcher, folder: std::path::PathBuf) {
    let (mut holders, mut samples) = (watcher.holder_changes(), watcher.changes());
    let mut written: Option<BTreeMap<String, String>> = None;
    let mut complained = false;
    loop {
        holders.borrow_and_update();
        samples.borrow_and_update();
        let now = files(&watcher.joined().0);
        if written.as_ref() != Some(&now) {
            let (place, before, wanted) = (folder.clone(), written.clone().unwrap_or_default(), now.clone());
            let done = tokio::task::spawn_blocking(move || write(&place, &before, &wanted)).await;
            match done.map_err(io::Error::other).flatten() {
                Ok(()) => (written, complained) = (Some(now), false),
                Err(error) => {
                    if !complained {
                        tracing::error!(folder = %folder.display(), %error, "the jobs of GPUs cannot be written for dcgm-exporter");
                    }
                    complained = true;
                }
            }
        }
        tokio::select! {
            changed = holders.changed() => if changed.is_err() { return },
            changed = samples.changed() => if changed.is_err() { return },
        }
    }
}

/// The content that each file should have. A GPU without a job has an empty one, which replaces the
/// file of an earlier daemon.
fn files(gpus: &[v1::Gpu]) -> BTreeMap<String, String> {
    let lines = |jobs: &[String]| jobs.iter().map(|job| job.trim_start_matches("jobs/").to_owned() + "\n").collect();
    let mut files = BTreeMap::new();
    for gpu in gpus {
        files.insert(gpu.index.to_string(), lines(&gpu.jobs));
        for instance in &gpu.mig_instances {
            if let Some(id) = instance.gpu_instance_id {
                files.insert(format!("{}.{id}", gpu.index), lines(&instance.jobs));
            }
        }
    }
    files
}

/// Writes what has changed, each file whole, and removes those of GPUs that are gone.
fn write(folder: &Path, before: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> io::Result<()> {
    for (name, content) in wanted.iter().filter(|(name, content)| before.get(*name) != Some(content)) {
        let aside = folder.join(format!(".torchd-{name}"));
        let mut file = File::create(&aside)?;
        open_to_others(&file);
        file.write_all(content.as_bytes())?;
        std::fs::rename(&aside, folder.join(name))?;
    }
    for name in before.keys().filter(|name| !wanted.contains_key(*name)) {
        match std::fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_hold_the_jobs_of_each_gpu() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = |index, jobs: &[&str]| v1::Gpu {
            index,
            jobs: jobs.iter().map(|job| format!("jobs/{job}")).collect(),
            ..Default::default()
        };
        let instance = v1::MigInstance { gpu_instance_id: Some(3), jobs: vec!["jobs/c".into()], ..Default::default() };
        let divided = v1::Gpu { mig_instances: vec![instance], ..gpu(1, &[]) };
        let first = files(&[gpu(0, &["a", "b"]), divided]);
        write(folder.path(), &BTreeMap::new(), &first).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name));
        assert_eq!((read("0").unwrap().as_str(), read("1.3").unwrap().as_str()), ("a\nb\n", "c\n"));
        write(folder.path(), &first, &files(&[gpu(0, &[])])).unwrap();
        assert_eq!(read("0").unwrap(), "");
        assert!(read("1").is_err() && read("1.3").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
