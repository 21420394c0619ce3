//! Changes of training examples: what is refused of them, and what is told back.

use tonic_types::StatusExt;
use torchd::proto::{json, v1};

use super::daemon::Daemon;
use super::spec;

/// A short job on images with this list in JSON.
fn with(list: &str) -> v1::JobSpec {
    let others: v1::Data = json::from_str(&format!(r#"{{"augment": {list}}}"#)).unwrap();
    let mut spec = spec::short();
    spec.data.as_mut().unwrap().augment = others.augment;
    spec
}

#[tokio::test]
async fn every_mistake_of_a_change_is_told_by_its_field() {
    let daemon = Daemon::start();
    for (list, wrong) in [
        (r#"[{}]"#, "[0]: names no change; choose one: crop, flip, erase, mix_up, cut_mix, noise"),
        (r#"[{"crop": {}}]"#, "[0].crop.padding: is missing or 0; at least 1"),
        (r#"[{"crop": {"padding": 28}}]"#, "[0].crop.padding: is 28, and the images are 28x28; less than 28"),
        (r#"[{"crop": {"padding": 2, "fill": "NaN"}}]"#, "[0].crop.fill: is NaN; a finite number"),
        (r#"[{"flip": {}}, {"flip": {"p": 1.5}}]"#, "[1].flip.p: is 1.5; at least 0 and at most 1"),
        (r#"[{"erase": {"p": -1}}]"#, "[0].erase.p: is -1; at least 0 and at most 1"),
        (r#"[{"erase": {"min_area": 0}}]"#, "[0].erase.min_area: is 0; above 0 and at most 1"),
        (r#"[{"erase": {"min_area": 0.5}}]"#, "[0].erase.max_area: is 0.33; 0.5 to 1 is needed"),
        (r#"[{"erase": {"max_area": 1.1}}]"#, "[0].erase.max_area: is 1.1; 0.02 to 1 is needed"),
        (r#"[{"erase": {"min_ratio": 0}}]"#, "[0].erase.min_ratio: is 0; a finite number above 0"),
        (r#"[{"erase": {"max_ratio": 0.1}}]"#, "[0].erase.max_ratio: is 0.1; a finite number of at least 0.3"),
        (r#"[{"erase": {"value": 1e39}}]"#, "[0].erase.value: is 1000000000000000000000000000000000000000; a finite"),
        (r#"[{"mix_up": {"alpha": 0}}]"#, "[0].mix_up.alpha: is 0; 0.001 to 1000 is needed"),
        (r#"[{"cut_mix": {"alpha": "NaN"}}]"#, "[0].cut_mix.alpha: is NaN; 0.001 to 1000 is needed"),
        (r#"[{"mix_up": {}}, {"flip": {}}, {"cut_mix": {}}]"#, "[2].cut_mix: mixes examples, and mix_up does already"),
        (r#"[{"noise": {}}]"#, "[0].noise.std: is missing or 0; a finite number of 32 bits above 0"),
        (&format!("[{}]", [r#"{"flip": {}}"#; 17].join(",")), ": has 17 entries; at most 16 are right"),
    ] {
        let request = v1::ValidateJobRequest { spec: Some(with(list)), dry_run: false };
        let status = daemon.jobs().await.validate_job(request).await.unwrap_err();
        let fields = status.get_details_bad_request().unwrap().field_violations;
        let told: Vec<_> = fields.iter().map(|wrong| format!("{}: {}", wrong.field, wrong.description)).collect();
        assert!(told.len() == 1 && told[0].starts_with(&format!("spec.data.augment{wrong}")), "{list}: {told:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_changed_examples_tells_its_defaults_and_learns() {
    let daemon = Daemon::start();
    let spec = with(r#"[{"crop": {"padding": 2}}, {"cut_mix": {}}, {"erase": {"p": 0.25}}]"#);
    let request = v1::ValidateJobRequest { spec: Some(spec.clone()), dry_run: true };
    let told = daemon.jobs().await.validate_job(request).await.unwrap().into_inner();
    let whole = with(
        r#"[{"crop": {"padding": 2, "fill": 0}}, {"cut_mix": {"alpha": 1}},
            {"erase": {"p": 0.25, "min_area": 0.02, "max_area": 0.33, "min_ratio": 0.3, "max_ratio": 3.3}}]"#,
    );
    assert_eq!(told.spec.unwrap().data.unwrap().augment, whole.data.unwrap().augment);
    let tried = told.dry_run.unwrap();
    let job = daemon.create(spec).await;
    let job = daemon.watch_to_end(&job.name).await;
    assert_eq!(job.state(), v1::JobState::Succeeded, "{job:?}");
    let scalars = v1::ReadScalarsRequest { name: job.name, tag: "loss/train".into(), ..Default::default() };
    let points = daemon.jobs().await.read_scalars(scalars).await.unwrap().into_inner().points;
    assert!(points.last().unwrap().value < points[0].value, "it learns: {tried:?} {points:?}");
}
