//! The checkpoints of programs: listed, fetched, copied, and gone on from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use torchd::proto::v1::{self, JobState};

use super::daemon::{Daemon, wait_for};
use super::programs::{log, report, scalars, setup, shell};
use super::torchctl::told;

async fn checkpoints(daemon: &Daemon, job: &v1::Job, size: i32, token: &str) -> v1::ListCheckpointsResponse {
    let request = v1::ListCheckpointsRequest { name: job.name.clone(), page_size: size, page_token: token.to_owned() };
    daemon.jobs().await.list_checkpoints(request).await.unwrap().into_inner()
}

/// Waits until the newest checkpoint is the one of this step.
async fn saved(daemon: &Daemon, job: &v1::Job, step: u64) -> v1::ListCheckpointsResponse {
    let wait = async {
        loop {
            let all = checkpoints(daemon, job, 0, "").await;
            if all.checkpoints.first().is_some_and(|newest| newest.step == step) {
                break all;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(super::daemon::LIMIT, wait).await.expect("the checkpoint is listed")
}

/// A script that goes on once the test has put a file of that name into its data root.
fn gate(name: &str) -> String {
    format!("while [ ! -e $DATA/{name} ]; do sleep 0.02; done\n")
}

fn open(root: &Path, name: &str) {
    fs::write(root.join(name), "").unwrap();
}

fn with_data(root: &Path, script: &str) -> v1::JobSpec {
    let mut spec = shell(script);
    spec.program.as_mut().unwrap().env = BTreeMap::from([("DATA".to_owned(), root.display().to_string())]);
    spec
}

#[tokio::test]
async fn checkpoints_that_a_program_reports_are_listed_fetched_and_copied() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    fs::create_dir(root.join("folder")).unwrap();
    fs::write(root.join("folder/secret"), "of others").unwrap();
    let copies = tempfile::tempdir().unwrap();
    let daemon = setup(&root).set("output.mirror_roots", copies.path().to_str().unwrap()).start();
    let mut script = String::from("cd checkpoints; echo one > at-1; echo nobody > unreported\n");
    script += &report(r#"{"step": 1, "checkpoint": "checkpoints/at-1"}"#);
    script += &gate("second");
    script += "mkdir -p at-2/shards; echo weights > at-2/weights; echo shard > at-2/shards/0; echo half > at-2/.half\n";
    script += "ln -s $DATA/folder at-2/link; ln -s $DATA/folder/secret at-2/file\n";
    script += &report(r#"{"step": 2, "checkpoint": "checkpoints/at-2"}"#);
    script += &gate("third");
    script += "rm at-1; echo three > at-3\n";
    // It lies in a folder that counts as a whole, and its files are listed once.
    script += &report(r#"{"step": 3, "checkpoint": "checkpoints/at-2/weights"}"#);
    script += &gate("fourth");
    script += &report(r#"{"step": 4, "checkpoint": "checkpoints/at-3"}"#);
    script += &gate("end");
    let spec = v1::JobSpec {
        output: Some(v1::Output { mirror: copies.path().display().to_string(), ..Default::default() }),
        ..with_data(&root, &script)
    };
    let job = daemon.create(spec).await;
    let first = saved(&daemon, &job, 1).await;
    assert_eq!(first.checkpoints[0].name, format!("{}/program/checkpoints/at-1", job.name));
    assert_eq!(first.checkpoints[0].size_bytes, 4);
    for (step, name) in [(2, "second"), (3, "third"), (4, "fourth")] {
        open(&root, name);
        saved(&daemon, &job, step).await;
    }

    let below = format!("{}/program/checkpoints/", job.name);
    let all = checkpoints(&daemon, &job, 0, "").await.checkpoints;
    let summary: Vec<_> =
        all.iter().map(|one| (one.step, one.name.strip_prefix(&below).unwrap(), one.size_bytes)).collect();
    assert_eq!(summary, [(4, "at-3", 6), (3, "at-2/weights", 8), (2, "at-2", 14)]);
    let files: Vec<_> = all[2].files.iter().map(|file| file.name.strip_prefix(&below).unwrap()).collect();
    assert_eq!(files, ["at-2/shards/0", "at-2/weights"]);
    let (mut token, mut pages) = (String::new(), Vec::new());
    loop {
        let page = checkpoints(&daemon, &job, 1, &token).await;
        pages.extend(page.checkpoints);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, all);

    let listed = || async {
        let request = v1::ListArtifactsRequest { name: job.name.clone(), ..Default::default() };
        let files = daemon.jobs().await.list_artifacts(request).await.unwrap().into_inner().artifacts;
        let ours = files.into_iter().filter_map(|file| file.name.strip_prefix(&below).map(str::to_owned));
        ours.collect::<Vec<_>>()
    };
    assert_eq!(listed().await, ["at-2/shards/0", "at-2/weights", "at-3"]);
    let to = tempfile::tempdir().unwrap();
    let at = |name: &str| to.path().join(name);
    let fetch = |path: &str, to: &str| {
        told(&daemon.ctl(&[
            "download",
            &job.name,
            &format!("program/checkpoints/{path}"),
            "--to",
            at(to).to_str().unwrap(),
        ]))
    };
    let (code, _, words) = fetch("at-2", "folder");
    assert_eq!(code, 0, "{words}");
    assert_eq!(fs::read_to_string(at("folder/weights")).unwrap(), "weights\n");
    assert_eq!(fs::read_to_string(at("folder/shards/0")).unwrap(), "shard\n");
    assert_eq!(fs::read_dir(at("folder")).unwrap().count(), 2, "neither links nor what is hidden");
    assert_eq!(fetch("at-3", "file").0, 0);
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "three\n");
    for path in [
        "unreported",
        "at-1",
        "at-2/.half",
        "at-2/file",
        "at-2/link/secret",
        "at-2/../unreported",
        "../../program.json",
    ] {
        let (code, _, words) = fetch(path, "none");
        assert!(code != 0 && words.contains("has no file") && !at("none").exists(), "{path}: {code} {words}");
    }
    let (code, words, _) = told(&daemon.ctl(&["checkpoints", &job.name]));
    assert!(code == 0 && words.contains("program/checkpoints/at-3"), "{words}");

    open(&root, "end");
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), JobState::Succeeded, "{:?} {}", ended.end, log(&daemon, &ended));
    let mirror = daemon.get(&job.name).await.mirror.unwrap().folder;
    let copied = |path: &str| fs::read_to_string(Path::new(&mirror).join("program/checkpoints").join(path)).ok();
    wait_for("the last checkpoint in the copy", || (copied("at-3")? == "three\n").then_some(()));
    assert_eq!(copied("at-2/weights").unwrap(), "weights\n");
    wait_for("the end of the one that the program has removed", || copied("at-1").is_none().then_some(()));
    for path in ["unreported", "at-2/file", "at-2/.half"] {
        assert_eq!(copied(path), None, "{path}");
    }
}

#[tokio::test]
async fn a_program_whose_last_checkpoint_is_gone_goes_on_from_the_one_before() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let daemon = setup(&root).start();
    let value = |step: u64| report(&format!(r#"{{"step": {step}, "scalars": {{"loss": {step}}}}}"#));
    let save = |step: u64| {
        format!("echo {step} > checkpoints/at-{step}\n")
            + &report(&format!(r#"{{"step": {step}, "checkpoint": "checkpoints/at-{step}"}}"#))
    };
    let mut script =
        format!("if [ -n \"$TORCHD_RESUME_FROM\" ]; then cat $TORCHD_RESUME_FROM\n{}exit 0; fi\n", value(3));
    script += &(value(1) + &save(1) + &gate("second") + &value(2) + &save(2) + &gate("never"));
    let job = daemon.create(with_data(&root, &script)).await;
    saved(&daemon, &job, 1).await;
    open(&root, "second");
    saved(&daemon, &job, 2).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: job.name.clone() }).await.unwrap();
    daemon.watch_until(&job.name, |job| job.state() == JobState::Paused).await;
    fs::remove_file(daemon.job_folder(&job.name).join("program/checkpoints/at-2")).unwrap();
    assert_eq!(saved(&daemon, &job, 1).await.checkpoints.len(), 1);
    let request = v1::ResumeJobRequest { name: job.name.clone(), ..Default::default() };
    daemon.jobs().await.resume_job(request).await.unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    let words = log(&daemon, &ended);
    assert_eq!(ended.state(), JobState::Succeeded, "{:?} {words}", ended.end);
    assert!(words.contains("\"checkpoints/at-2\" is gone, and \"checkpoints/at-1\" is tried"), "{words}");
    assert!(words.contains("\n1\n") || words.ends_with("\n1\n"), "{words}");
    // Step 2 counts no longer.
    assert_eq!(scalars(&daemon, &job.name, "loss").await, [(1, 1.0), (3, 3.0)]);
}

#[tokio::test]
async fn a_program_reads_the_results_of_the_jobs_that_it_has_waited_for_and_of_no_others() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    let script = format!(
        "echo result > result; echo saved > checkpoints/at-1; echo mine > mine\n{}{}",
        report(r#"{"artifact": "result"}"#),
        report(r#"{"step": 1, "checkpoint": "checkpoints/at-1"}"#),
    );
    let first = daemon.watch_to_end(&daemon.create(shell(&script)).await.name).await;
    assert_eq!(first.state(), JobState::Succeeded, "{:?}", first.end);
    let reads = "for dir in ${TORCHD_AFTER_DIRS:-$OTHER}; do cd $dir; cat artifacts/result program/checkpoints/at-1;\n\
                 cat program/mine job.json; echo forged >> artifacts/result && echo wrote; done; exit 0";
    let run = async |is_after: bool| {
        let mut spec = shell(reads);
        let env = [("OTHER".to_owned(), daemon.job_folder(&first.name).display().to_string())];
        spec.program.as_mut().unwrap().env = env.into();
        if is_after {
            spec.after = vec![v1::Dependency { job: first.name.clone(), ..Default::default() }];
        }
        let job = daemon.watch_to_end(&daemon.create(spec).await.name).await;
        assert_eq!(job.state(), JobState::Succeeded, "{:?}", job.end);
        log(&daemon, &job)
    };
    let words = run(true).await;
    assert!(words.contains("result\n") && words.contains("saved\n"), "{words}");
    if super::tools::landlock().is_some() {
        assert!(!words.contains("mine\n") && !words.contains("generation") && !words.contains("wrote"), "{words}");
        let words = run(false).await;
        assert!(!words.contains("result\n") && !words.contains("saved\n"), "{words}");
    }
    assert_eq!(fs::read_to_string(daemon.job_folder(&first.name).join("artifacts/result")).unwrap(), "result\n");
}
