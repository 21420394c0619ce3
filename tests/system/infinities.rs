//! Models whose buffers hold infinities, as masks do: what their jobs save is taken up again, and
//! nothing else that is not finite is.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tonic_types::StatusExt;
use torchd::journal::FileSum;
use torchd::proto::v1;
use torchd::proto::v1::training::Length;
use torchd::proto::v1::warm_start::Source;

use super::daemon::Daemon;
use super::exported::{job, length, start, trained, validated};
use super::spec;
use super::warm_start::{safetensors, split, warm};

/// A job that trains a model with two masks of -inf: `causal`, which `state_dict()` has, and `far`,
/// which only checkpoints hold.
fn masked(archive: &str, steps: u64) -> v1::JobSpec {
    let spec = length(Length::MaxSteps(steps), validated("masks", job(archive, "masks")));
    v1::JobSpec { logging: Some(v1::Logging { scalar_every_steps: Some(3) }), ..spec }
}

/// A step so short that it changes no weight.
fn still(spec: v1::JobSpec) -> v1::JobSpec {
    v1::JobSpec { optimizer: Some(spec::sgd(1e-30, 0.0)), ..spec }
}

fn result(daemon: &Daemon, name: &str) -> Vec<u8> {
    fs::read(daemon.job_folder(name).join("artifacts/model.safetensors")).unwrap()
}

fn last_state(daemon: &Daemon, name: &str, step: u64) -> Vec<u8> {
    fs::read(daemon.job_folder(name).join(format!("checkpoints/step-{step}/state.safetensors"))).unwrap()
}

/// The values of a tensor in a safetensors file.
fn values(file: &[u8], name: &str) -> Vec<f32> {
    let (header, values) = split(file);
    let [from, to] = [0, 1].map(|index| header[name]["data_offsets"][index].as_u64().unwrap() as usize);
    values[from..to].chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[tokio::test]
async fn masks_are_taken_up_from_a_checkpoint_and_from_every_kind_of_weights() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    let whole = trained(&daemon, masked("masks/net.pt2", 40)).await.name;
    let half = trained(&daemon, masked("masks/net.pt2", 20)).await.name;
    let checkpoint = format!("{half}/checkpoints/step-20");
    let goes_on = warm(Source::Checkpoint(checkpoint.clone()), true, masked("masks/net.pt2", 40));
    let goes_on = trained(&daemon, goes_on).await.name;
    assert!(result(&daemon, &goes_on) == result(&daemon, &whole), "bit for bit");
    assert!(last_state(&daemon, &goes_on, 40) == last_state(&daemon, &whole, 40), "bit for bit");
    for (file, name) in [(result(&daemon, &half), "causal"), (last_state(&daemon, &half, 20), "hidden.far")] {
        assert!(values(&file, name).contains(&f32::NEG_INFINITY), "{name}");
    }

    for name in ["model.safetensors", "model.pt", "model.pt2"] {
        fs::copy(daemon.job_folder(&half).join("artifacts").join(name), root.path().join(name)).unwrap();
    }
    for source in [
        Source::Checkpoint(half.clone()),
        Source::Checkpoint(checkpoint),
        Source::File("model.safetensors".into()),
        Source::File("model.pt".into()),
    ] {
        let job = trained(&daemon, warm(source.clone(), false, still(masked("masks/net.pt2", 1)))).await.name;
        assert!(result(&daemon, &job) == result(&daemon, &half), "{source:?}");
    }
    let job = trained(&daemon, still(masked("model.pt2", 1))).await.name;
    assert!(result(&daemon, &job) == result(&daemon, &half), "from the archive");
}

/// Puts a value in the place of the first one of a tensor, in a file of a copy of a checkpoint.
fn spoil(copy: &Path, file: &str, tensor: &str, value: f32) {
    let path = copy.join(file);
    let (header, mut values) = split(&fs::read(&path).unwrap());
    let place = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    values[place..place + 4].copy_from_slice(&value.to_le_bytes());
    let bytes = safetensors(&header, &values);
    fs::write(&path, &bytes).unwrap();
    let manifest = copy.join("checkpoint.json");
    let mut told: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    let files = told["files"].as_array_mut().unwrap();
    let entry = files.iter_mut().find(|entry| entry["name"] == file).unwrap();
    *entry = serde_json::to_value(FileSum::of(file, &bytes)).unwrap();
    fs::write(&manifest, told.to_string()).unwrap();
}

#[tokio::test]
async fn infinities_elsewhere_and_what_is_no_number_in_a_mask_are_told_before_the_job_is_taken() {
    const MODEL: &str = "model.safetensors";
    const STATE: &str = "state.safetensors";
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    let half = trained(&daemon, masked("masks/net.pt2", 20)).await.name;
    let from = daemon.job_folder(&half).join("checkpoints/step-20");
    for (file, tensor, value, words) in [
        (MODEL, "causal", f32::INFINITY, None),
        (STATE, "hidden.far", f32::INFINITY, None),
        (MODEL, "causal", f32::NAN, Some("holds NaN in \"causal\" at place 0")),
        (STATE, "hidden.far", f32::NAN, Some("holds NaN in \"hidden.far\" at place 0")),
        (MODEL, "query.weight", f32::NEG_INFINITY, Some("holds -inf in \"query.weight\" at place 0")),
        (STATE, "velocity.query.weight", f32::INFINITY, Some("holds inf in \"velocity.query.weight\" at place 0")),
    ] {
        let copy = root.path().join("copy");
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir(&copy).unwrap();
        for name in [MODEL, STATE, "checkpoint.json"] {
            fs::copy(from.join(name), copy.join(name)).unwrap();
        }
        spoil(&copy, file, tensor, value);
        // Weights are taken without the state.
        for resume in if file == MODEL { &[true, false][..] } else { &[true] } {
            let spec = Some(warm(Source::File("copy".into()), *resume, masked("masks/net.pt2", 40)));
            let judged = daemon.jobs().await.validate_job(v1::ValidateJobRequest { spec, dry_run: false }).await;
            let Some(words) = words else {
                judged.unwrap();
                continue;
            };
            let wrong = judged.unwrap_err().get_details_bad_request().unwrap().field_violations;
            assert_eq!((wrong.len(), wrong[0].field.as_str()), (1, "spec.warm_start.file"), "{wrong:?}");
            assert!(wrong[0].description.contains(words), "{words}: {}", wrong[0].description);
        }
    }
}
