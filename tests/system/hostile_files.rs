//! Programs that leave files which harm: event files, links and deep folders.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use torchd::proto::v1::{self, JobState};
use torchd::record::{append, masked_crc};
use torchd::tensorboard::EventFileWriter;

use super::hostile_programs::{WAIT, cancel, delete, run, wait_for_log, with_data};
use super::programs::{log, report, scalars, setup};

fn has_told(job: &v1::Job, tag: &str) -> bool {
    job.progress.as_ref().is_some_and(|told| told.latest_scalars.contains_key(tag))
}

/// An event file with these values of a tag, from step 1 on.
fn events(folder: &Path, tag: &str, count: i64) -> Vec<u8> {
    let mut file = EventFileWriter::create(folder, 0).unwrap();
    for step in 1..=count {
        file.scalar(SystemTime::now(), step, tag, step as f32).unwrap();
    }
    file.flush().unwrap();
    let bytes = fs::read(file.path()).unwrap();
    fs::remove_file(file.path()).unwrap();
    bytes
}

#[tokio::test]
async fn event_files_that_are_broken_are_told_and_the_good_ones_beside_them_are_read() {
    let root = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(root.path().join(name), bytes).unwrap();
    let good = |tag: &str| events(root.path(), tag, 3);
    put("1-good.tfevents", &good("first"));
    let mut cut = good("cut");
    cut.truncate(cut.len() - 5);
    put("2-cut.tfevents", &cut);
    let mut rotten = good("rotten");
    *rotten.last_mut().unwrap() ^= 1;
    put("3-rotten.tfevents", &rotten);
    let length = (1_u64 << 60).to_le_bytes();
    put("4-huge.tfevents", &[&length[..], &masked_crc(&length).to_le_bytes(), &[0; 100]].concat());
    put("5-text.tfevents", "no record at all, whatever its name says".repeat(10).as_bytes());
    let mut odd = Vec::new();
    append(&mut odd, |bytes| bytes.extend([0xff; 100]));
    put("6-odd.tfevents", &[odd, good("behind odd")].concat());
    put("secret.tfevents", &good("secret"));
    put("z-good.tfevents", &good("last"));
    let daemon = setup(root.path()).start();
    let script = "cd $TORCHD_TENSORBOARD_DIR; ln -s $DATA/secret.tfevents 0-link.tfevents; mkfifo 0-pipe.tfevents\n\
                  ln -s $DATA 0-folder; mkdir 0-folder.tfevents; cp $DATA/[1-6]-*.tfevents .\n\
                  cp $DATA/1-good.tfevents shortened.tfevents; while [ ! -e ../more ]; do sleep 0.05; done\n\
                  i=0; while [ $i -lt 300 ]; do cp $DATA/5-text.tfevents 7-$i.tfevents; i=$((i+1)); done\n\
                  cp $DATA/z-good.tfevents .\n";
    let job = daemon.create(with_data(root.path(), &(script.to_owned() + WAIT))).await;
    // Once it was read it becomes shorter.
    let place = daemon.job_folder(&job.name).join("program");
    daemon.watch_until(&job.name, |job| has_told(job, "behind odd")).await;
    let shortened = place.join("tensorboard/shortened.tfevents");
    while scalars(&daemon, &job.name, "first").await.len() < 6 {}
    fs::OpenOptions::new().write(true).open(shortened).unwrap().set_len(20).unwrap();
    wait_for_log(&daemon, &job, "it has become shorter");
    fs::write(place.join("more"), "").unwrap();
    daemon.watch_until(&job.name, |job| has_told(job, "last")).await;
    let ended = cancel(&daemon, &job).await;
    let log = log(&daemon, &ended);
    for tag in ["first", "last", "behind odd"] {
        let found = scalars(&daemon, &job.name, tag).await;
        let once = [(1, 1.0), (2, 2.0), (3, 3.0)];
        assert!(found == once || tag == "first" && found == once.repeat(2), "{tag}: {found:?} {log}");
    }
    assert_eq!(scalars(&daemon, &job.name, "cut").await.len(), 2);
    assert_eq!(scalars(&daemon, &job.name, "rotten").await.len(), 2);
    let request = v1::ListScalarTagsRequest { name: job.name.clone(), ..Default::default() };
    let tags = daemon.jobs().await.list_scalar_tags(request).await.unwrap().into_inner().tags;
    assert!(tags.iter().all(|tag| tag.tag != "secret"), "{tags:?}");
    for words in [
        "\"0-link.tfevents\" is a link, a pipe or a device",
        "\"3-rotten.tfevents\" is given up: the record at byte",
        "\"4-huge.tfevents\" is given up: at byte 0 is no record",
        "event files were given up in all",
        "bytes of the event file \"2-cut.tfevents\" are not read: they are no whole record",
    ] {
        assert_eq!(log.matches(words).count(), 1, "{words}: {log}");
    }
    assert!(log.lines().count() < 40, "{log}");
}

#[tokio::test]
async fn thousands_of_event_files_and_one_that_grows_for_ever_are_read_within_bounds() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("chunk"), events(root.path(), "grows", 20_000)).unwrap();
    fs::write(root.path().join("first"), events(root.path(), "first", 1)).unwrap();
    fs::write(root.path().join("good"), events(root.path(), "good", 3)).unwrap();
    let daemon = setup(root.path()).set("jobs.max_event_bytes", "2000000").start();
    // The two files that count are known before the others come, and the few values of the one have
    // their turn while the other has more than a look reads. Then that fills the journal.
    let script = "cd $TORCHD_TENSORBOARD_DIR\n\
                  cat $DATA/chunk > a-grows.tfevents; cat $DATA/first > b-good.tfevents\n\
                  while [ ! -e $DATA/seen ]; do sleep 0.05; done\n\
                  i=0; while [ $i -lt 5000 ]; do : > many-$i.tfevents; i=$((i+1)); done\n\
                  cat $DATA/chunk $DATA/chunk >> a-grows.tfevents; cat $DATA/good >> b-good.tfevents\n\
                  while [ ! -e $DATA/told ]; do sleep 0.05; done\n\
                  while :; do cat $DATA/chunk >> a-grows.tfevents; sleep 0.05; done &\n";
    let job = daemon.create(with_data(root.path(), &(script.to_owned() + WAIT))).await;
    daemon.watch_until(&job.name, |job| has_told(job, "first") && has_told(job, "grows")).await;
    fs::write(root.path().join("seen"), "").unwrap();
    daemon.watch_until(&job.name, |job| has_told(job, "good")).await;
    fs::write(root.path().join("told"), "").unwrap();
    wait_for_log(&daemon, &job, "takes no more values");
    let ended = cancel(&daemon, &job).await;
    assert_eq!(ended.end.clone().unwrap().exit_code, Some(0), "{:?}", ended.end);
    let log = log(&daemon, &ended);
    assert_eq!(log.matches("more than 1000 event files").count(), 1, "{log}");
    assert_eq!(scalars(&daemon, &job.name, "good").await.len(), 3);
    let journal = fs::metadata(daemon.job_folder(&job.name).join("journal")).unwrap().len();
    assert!(journal < 8_100_000, "{journal}");
}

#[tokio::test]
async fn links_and_deep_folders_of_a_program_lead_nobody_out_of_it_and_go_with_its_job() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let copies = tempfile::tempdir().unwrap();
    fs::write(root.join("secret"), "of others").unwrap();
    fs::create_dir(root.join("folder")).unwrap();
    fs::write(root.join("folder/secret"), "of others").unwrap();
    let daemon = setup(&root).set("output.mirror_roots", copies.path().to_str().unwrap()).start();
    let mut script = String::from(
        "ln -s $DATA/folder checkpoints/link; ln -s $DATA/secret secret; rm -r tensorboard; ln -s $DATA/folder tensorboard\n\
         p=$(printf 'd/%.0s' $(seq 1400)); mkdir -p $p && (cd $p && mkdir -p $p) && echo deep\n",
    );
    for path in ["../../..", "/etc/passwd", "checkpoints/link", "checkpoints/link/secret", "secret", "", "."] {
        script += &report(&format!(r#"{{"step": 1, "checkpoint": "{path}"}}"#));
        script += "sleep 0.2\n";
    }
    let spec = v1::JobSpec {
        output: Some(v1::Output { mirror: copies.path().display().to_string(), ..Default::default() }),
        ..with_data(&root, &script)
    };
    let job = run(&daemon, spec).await;
    let text = log(&daemon, &job);
    assert!(job.state() == JobState::Succeeded && text.contains("deep"), "{:?} {text}", job.end);
    assert_eq!(text.matches("is nothing to go on from").count(), 5, "{text}");
    assert!(text.contains("7 checkpoints were nothing to go on from"), "{text}");
    assert!(!daemon.job_folder(&job.name).join("program.json").exists());
    let request = v1::ListArtifactsRequest { name: job.name.clone(), ..Default::default() };
    let artifacts = daemon.jobs().await.list_artifacts(request).await.unwrap().into_inner().artifacts;
    assert!(artifacts.iter().all(|file| !file.name.contains("secret")), "{artifacts:?}");
    for path in ["program/secret", "program/checkpoints/link/secret", "tensorboard/secret"] {
        let request =
            v1::DownloadArtifactRequest { name: format!("{}/artifacts/{path}", job.name), ..Default::default() };
        let refused = match daemon.jobs().await.download_artifact(request).await {
            Err(status) => status,
            Ok(stream) => stream.into_inner().message().await.unwrap_err(),
        };
        assert_eq!(refused.code(), tonic::Code::NotFound, "{path}: {refused}");
    }
    let folder = loop {
        match daemon.get(&job.name).await.mirror.unwrap() {
            mirror if mirror.complete => break mirror.folder,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let list = fs::read_to_string(Path::new(&folder).join("mirror.json")).unwrap();
    assert!(list.contains("journal") && !list.contains("secret") && !list.contains("program/"), "{list}");
    delete(&daemon, &job).await;
    assert_eq!(fs::read_to_string(root.join("folder/secret")).unwrap(), "of others");
    assert_eq!(fs::read_to_string(root.join("secret")).unwrap(), "of others");
}
