//! TorchScript modules: trained by the runner, and never loaded by the daemon.

use std::fs;
use std::path::Path;

use tonic::Code;
use tonic_types::StatusExt;
use torchd::proto::v1;
use torchd::proto::v1::training::Length;

use super::daemon::{Daemon, Setup, wait_for};
use super::spec;

const SCRIPTS: &str = "tests/data/torchscript";

/// A job of a module, for two epochs of four steps.
pub(crate) fn script(file: &str, training_step: bool) -> v1::JobSpec {
    let set = || v1::Dataset {
        format: Some(v1::dataset::Format::Safetensors(v1::SafetensorsDataset {
            path: "data.safetensors".into(),
            ..v1::SafetensorsDataset::default()
        })),
    };
    let model = v1::TorchScriptModel { path: file.into(), training_step };
    v1::JobSpec {
        seed: 7,
        model: Some(v1::Model { family: Some(v1::model::Family::Torchscript(model)) }),
        data: Some(v1::Data { train: Some(set()), validation: Some(set()), ..v1::Data::default() }),
        training: Some(v1::Training {
            length: Some(Length::Epochs(2)),
            batch_size: Some(8),
            ..v1::Training::default()
        }),
        optimizer: Some(spec::sgd(0.05, 0.9)),
        logging: Some(v1::Logging { scalar_every_steps: Some(1) }),
        resources: Some(spec::threads(1)),
        ..v1::JobSpec::default()
    }
}

pub(crate) fn daemon() -> Daemon {
    Setup::new().data_root(&Path::new(SCRIPTS).canonicalize().unwrap()).start()
}

async fn tags(daemon: &Daemon, name: &str) -> Vec<String> {
    let request = v1::ListScalarTagsRequest { name: name.into(), ..Default::default() };
    let tags = daemon.jobs().await.list_scalar_tags(request).await.unwrap().into_inner().tags;
    tags.into_iter().map(|tag| tag.tag).collect()
}

#[tokio::test]
async fn a_module_is_trained_with_the_loss_of_the_job_or_with_its_own() {
    let daemon = daemon();
    for (training_step, metric) in [(false, "accuracy"), (true, "hits")] {
        let job = daemon.create(script("net.pt", training_step)).await;
        assert_eq!(job.spec.as_ref().unwrap().loss.is_none(), training_step);
        let ended = daemon.watch_to_end(&job.name).await;
        assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
        let tags = tags(&daemon, &job.name).await;
        for split in ["train", "validation"] {
            assert!(tags.contains(&format!("{metric}/{split}")), "{tags:?}");
        }
        let artifacts = daemon.job_folder(&job.name).join("artifacts");
        let mut files: Vec<_> = fs::read_dir(&artifacts).unwrap().map(|file| file.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, ["model.pt", "model.safetensors", "model.ts", "preprocessing.json"]);

        // The result is a module that another job begins with.
        let again = Setup::new().data_root(&Path::new(SCRIPTS).canonicalize().unwrap()).data_root(&artifacts).start();
        let job = again.create(script(&artifacts.join("model.ts").display().to_string(), training_step)).await;
        assert_eq!(again.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_module_is_told_when_it_runs_and_ends_the_job_alone() {
    let daemon = daemon();
    let mut long = script("net.pt", false);
    long.optimizer.as_mut().unwrap().freeze = vec!["haed.*".into()];
    let own_loss = v1::JobSpec { metrics: Vec::new(), ..script("breaks.pt", true) };
    let cases = [
        (
            script("breaks.pt", false),
            "forward of [8, 6] of Float: mat1 and mat2 shapes cannot be multiplied (8x6 and 5x3) (File \"net.py\", line 33, in forward: return torch.mm(x, self.weight))",
        ),
        (own_loss, "it has no method training_step"),
        (script("pair.pt", false), "forward returns several values"),
        (script("flat.pt", false), "forward returns the shape [48] for 8 examples"),
        (long, "optimizer.freeze[0]: is \"haed.*\", which describes no parameter; there are head.bias, head.weight"),
    ];
    for (spec, words) in cases {
        let job = daemon.create(spec).await;
        let end = daemon.watch_to_end(&job.name).await.end.unwrap();
        assert_eq!(end.reason(), v1::JobEndReason::BadData, "{}", end.message);
        assert!(end.message.contains(words), "{words}: {}", end.message);
    }
}

#[tokio::test]
async fn a_module_that_writes_reaches_nothing_outside_of_its_job() {
    let daemon = daemon();
    // Without a confined runner it does: a test in `src/runner/script.rs` shows it.
    let job = daemon.create(script("writes.pt", false)).await;
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
    assert!(!Path::new("/tmp/torchd-torchscript-writes").exists());
}

#[tokio::test]
async fn a_file_that_is_no_module_is_refused_when_the_job_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    for (from, to) in [
        ("tests/data/torchscript/newer.pt", "newer.pt"),
        ("tests/data/exported/mlp/net.pt2", "exported.pt2"),
        ("tests/data/golden/pt/written.pt", "weights.pt"),
        ("tests/data/torchscript/data.safetensors", "data.safetensors"),
    ] {
        fs::copy(from, place.join(to)).unwrap();
    }
    let whole = fs::read("tests/data/torchscript/net.pt").unwrap();
    fs::write(place.join("cut.pt"), &whole[..whole.len() / 2]).unwrap();
    let daemon = Setup::new().data_root(&place).start();
    for (file, words) in [
        ("newer.pt", "is a TorchScript archive of version 99, and 10 is the newest"),
        ("exported.pt2", "is an exported program (.pt2), which model.exported takes"),
        ("weights.pt", "is a .pt file of torch.save; a TorchScript archive is needed"),
        ("data.safetensors", "looks like a safetensors file; a TorchScript archive is needed"),
        ("cut.pt", "zip archive"),
        ("gone.pt", "gone.pt"),
        ("", "is missing; name the archive of the module"),
    ] {
        let request = v1::CreateJobRequest { spec: Some(script(file, false)), ..Default::default() };
        let status = daemon.jobs().await.create_job(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{file}");
        let told = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].field, "spec.model.torchscript.path");
        assert!(told[0].description.contains(words), "{file}: {}", told[0].description);
    }
}

async fn dry_run(daemon: &Daemon, spec: v1::JobSpec) -> Result<v1::DryRun, tonic::Status> {
    let request = v1::ValidateJobRequest { spec: Some(spec), dry_run: true };
    daemon.jobs().await.validate_job(request).await.map(|answer| answer.into_inner().dry_run.unwrap())
}

#[tokio::test]
async fn a_dry_run_trains_on_one_batch_and_leaves_nothing() {
    let daemon = Setup::new().data_root(&Path::new("tests/data").canonicalize().unwrap()).start();
    let at = |spec: v1::JobSpec, folder: &str| {
        let set = || v1::Dataset {
            format: Some(v1::dataset::Format::Safetensors(v1::SafetensorsDataset {
                path: format!("{folder}/data.safetensors"),
                ..v1::SafetensorsDataset::default()
            })),
        };
        v1::JobSpec {
            data: Some(v1::Data { train: Some(set()), validation: Some(set()), ..Default::default() }),
            ..spec
        }
    };
    let exported = v1::ExportedModel { path: "exported/mlp/net.pt2".into(), ..Default::default() };
    let exported = v1::model::Family::Exported(exported);
    let exported = v1::JobSpec { model: Some(v1::Model { family: Some(exported) }), ..script("", false) };
    let own = script("torchscript/net.pt", true);
    for (spec, output, metric) in [
        (at(script("torchscript/net.pt", false), "torchscript"), &[3][..], "accuracy"),
        (at(own, "torchscript"), &[], "hits"),
        (at(exported, "exported/mlp"), &[3], "accuracy"),
    ] {
        let job = daemon.create(spec.clone()).await;
        let tried = dry_run(&daemon, spec).await.unwrap();
        assert_eq!((tried.output_sizes.as_slice(), tried.metrics.keys().next().unwrap().as_str()), (output, metric));
        assert!(tried.peak_memory_bytes > 1 << 20 && tried.step_time.is_some(), "{tried:?}");
        // The first step of the job itself is the same.
        let ended = daemon.watch_to_end(&job.name).await;
        assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
        let request = v1::ReadScalarsRequest { name: job.name.clone(), tag: "loss/train".into(), ..Default::default() };
        let points = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner().points;
        assert_eq!(points[0].value, tried.loss);
        assert!(tried.model_outline.unwrap().parameter_count > 0);
    }
    // The folder of a dry run is removed beside the answer.
    wait_for("the end of the folders of the dry runs", || {
        (fs::read_dir(daemon.state_dir.join("jobs")).unwrap().count() == 3).then_some(())
    });
}

#[tokio::test]
async fn a_dry_run_refuses_what_breaks_and_bounds_what_takes_too_much() {
    let roots = Path::new(SCRIPTS).canonicalize().unwrap();
    // Long enough for libtorch to be loaded, or not.
    let daemon = |limit: &str| {
        let setup = Setup::new().data_root(&roots).set("runner.dry_run_timeout", limit);
        setup.set("runner.dry_run_memory_bytes", "1073741824").start()
    };
    let [patient, hasty] = ["10min", "2s"].map(daemon);
    for (daemon, file, words) in [
        (&hasty, "loops.pt", "did not come through one batch within runner.dry_run_timeout, 2s"),
        (&patient, "breaks.pt", "(File \"net.py\", line 33, in forward: return torch.mm(x, self.weight))"),
        (&patient, "swells.pt", "needs more than 1073741824 bytes of memory for one batch"),
    ] {
        let status = dry_run(daemon, script(file, false)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{file}: {status}");
        let told = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(told[0].field, "spec.model.torchscript");
        assert!(told[0].description.contains(words), "{file}: {}", told[0].description);
    }
}
