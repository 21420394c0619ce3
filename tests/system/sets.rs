//! One set of files that becomes two sets of examples, and values that are measured on it.

use std::fs;

use tonic::Code;
use tonic_types::StatusExt;
use torchd::proto::v1;

use super::daemon::Daemon;
use super::spec;

/// A job on the 4,000 images of the examples, which are divided.
fn divided(split: v1::Split) -> v1::JobSpec {
    let mut spec = spec::short();
    let data = spec.data.as_mut().unwrap();
    (data.validation, data.split) = (None, Some(split));
    data.normalize = Some(v1::Normalize { measure: true, ..v1::Normalize::default() });
    spec
}

fn share(fraction: f64) -> v1::Split {
    v1::Split { by: Some(v1::split::By::Fraction(fraction)), stratify: true, ..v1::Split::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_held_out_and_what_is_measured_is_kept_with_the_result() {
    let daemon = Daemon::start();
    let spec = divided(share(0.25));
    let request = v1::ValidateJobRequest { spec: Some(spec.clone()), ..Default::default() };
    let told = daemon.jobs().await.validate_job(request).await.unwrap().into_inner();
    assert_eq!((told.train_examples, told.validation_examples), (3000, 1000));
    let data = told.spec.unwrap().data.unwrap();
    assert_eq!((data.split, data.limit, data.normalize.unwrap().measure), (Some(share(0.25)), None, true));

    let job = daemon.create(spec.clone()).await;
    daemon.watch_to_end(&job.name).await;
    let scalars =
        v1::ReadScalarsRequest { name: job.name.clone(), tag: "accuracy/validation".into(), ..Default::default() };
    let points = daemon.jobs().await.read_scalars(scalars).await.unwrap().into_inner().points;
    // Steps end within the first epoch: one pass at the end.
    assert_eq!(points.len(), 1);
    let thousandths = points[0].value * 1000.0;
    assert!((thousandths - thousandths.round()).abs() < 1e-9 && thousandths > 0.0, "{thousandths} of 1000 examples");
    let kept = fs::read(daemon.job_folder(&job.name).join("artifacts/preprocessing.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    let number = |name: &str| kept["inputs"][0][name][0].as_f64().unwrap();
    assert!((number("mean") - 0.13).abs() < 0.01 && (number("std") - 0.31).abs() < 0.01, "{kept}");

    // The same rows for another seed of the job; the limit leaves fewer.
    let mut few = v1::JobSpec { seed: 99, ..spec };
    few.data.as_mut().unwrap().limit = Some(400);
    few.training.as_mut().unwrap().validation_batch_size = None;
    let request = v1::ValidateJobRequest { spec: Some(few), ..Default::default() };
    let told = daemon.jobs().await.validate_job(request).await.unwrap().into_inner();
    assert_eq!((told.train_examples, told.validation_examples), (300, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn divisions_that_cannot_be_are_refused_by_their_fields() {
    let daemon = Daemon::start();
    let both = v1::JobSpec {
        data: Some(v1::Data { split: Some(share(0.5)), ..spec::short().data.unwrap() }),
        ..spec::short()
    };
    let column = v1::Split { by: Some(v1::split::By::Column("part".into())), ..v1::Split::default() };
    let seeded = v1::Split { seed: 3, ..column.clone() };
    let mut none = divided(share(0.5));
    none.data.as_mut().unwrap().limit = Some(0);
    let mut twice = divided(share(0.5));
    twice.data.as_mut().unwrap().normalize.as_mut().unwrap().mean = vec![0.5];
    for (spec, field, words) in [
        (both, "data.split", "is set, and data.validation names the examples to judge by"),
        (divided(share(1.0)), "data.split.fraction", "is 1; above 0 and below 1 is needed"),
        (divided(share(f64::NAN)), "data.split.fraction", "is NaN"),
        (divided(share(0.0001)), "data.split.fraction", "makes 0 of 4000 examples"),
        (divided(v1::Split::default()), "data.split", "names no way; choose one: fraction, column"),
        (divided(column), "data.split.column", "is \"part\", and the data are no table"),
        (divided(seeded), "data.split.seed", "is set, and a column divides the examples"),
        (none, "data.limit", "is 0; at least 1 is needed"),
        (twice, "data.normalize.mean", "is set, and measure is as well"),
    ] {
        let request = v1::CreateJobRequest { spec: Some(spec), ..Default::default() };
        let refused = daemon.jobs().await.create_job(request).await.unwrap_err();
        let violations = refused.get_details_bad_request().unwrap().field_violations;
        let told: Vec<_> = violations.iter().map(|one| (one.field.as_str(), one.description.as_str())).collect();
        assert_eq!(
            (refused.code(), told.len(), told[0].0),
            (Code::InvalidArgument, 1, &*format!("spec.{field}")),
            "{told:?}"
        );
        assert!(told[0].1.contains(words), "{told:?}");
    }
}

/// A job on the images of the examples with this sampling.
fn sampled(by: Option<v1::sampling::By>) -> v1::JobSpec {
    let mut spec = spec::short();
    spec.data.as_mut().unwrap().sampling = Some(v1::Sampling { by });
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_are_drawn_by_their_classes_and_what_cannot_be_drawn_is_refused_by_its_field() {
    use v1::sampling::By;
    let daemon = Daemon::start();
    let balanced = sampled(Some(By::BalanceClasses(true)));
    let job = daemon.create(balanced.clone()).await;
    assert_eq!(job.spec.as_ref().unwrap().data.as_ref().unwrap().sampling, balanced.data.unwrap().sampling);
    let job = daemon.watch_to_end(&job.name).await;
    assert_eq!(job.state(), v1::JobState::Succeeded, "{job:?}");
    let mut in_order = sampled(Some(By::BalanceClasses(true)));
    in_order.data.as_mut().unwrap().shuffle = Some(false);
    for (spec, field, words) in [
        (sampled(None), "sampling", "names no way; choose one: weights, balance_classes"),
        (sampled(Some(By::BalanceClasses(false))), "sampling.balance_classes", "is false; leave data.sampling out"),
        (sampled(Some(By::Weights(String::new()))), "sampling.weights", "is empty; name an array of the file"),
        (
            sampled(Some(By::Weights("w".into()))),
            "sampling.weights",
            r#"is "w", and the data are images and labels without weights"#,
        ),
        (in_order, "sampling", "is set, and data.shuffle is false"),
    ] {
        let request = v1::CreateJobRequest { spec: Some(spec), ..Default::default() };
        let refused = daemon.jobs().await.create_job(request).await.unwrap_err();
        let violations = refused.get_details_bad_request().unwrap().field_violations;
        let told: Vec<_> = violations.iter().map(|one| (one.field.as_str(), one.description.as_str())).collect();
        assert!(told.len() == 1 && told[0].0 == format!("spec.data.{field}"), "{told:?}");
        assert!(told[0].1.contains(words), "{told:?}");
    }
}
