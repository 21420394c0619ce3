//! Recipes: what is refused of them, how a plateau lowers the rate, and edits of a paused job.

use std::collections::BTreeMap;
use std::fs;

use tonic_types::StatusExt;
use torchd::proto::{json, v1};

use super::daemon::{Daemon, Setup};
use super::spec;
use super::torchctl::told;

/// A short job with other sections in JSON.
fn with(sections: &str) -> v1::JobSpec {
    let others: v1::JobSpec = json::from_str(sections).unwrap();
    let training = others.training.or(spec::short().training);
    let mlp = v1::Mlp { hidden: vec![8], ..v1::Mlp::default() };
    v1::JobSpec {
        model: Some(v1::Model { family: Some(v1::model::Family::Mlp(mlp)) }),
        optimizer: others.optimizer.or(Some(spec::sgd(0.01, 0.5))),
        schedule: others.schedule,
        metrics: others.metrics,
        training,
        logging: others.logging,
        resources: Some(spec::threads(1)),
        ..spec::short()
    }
}

/// The learning rates that were told, by step.
async fn rates(daemon: &Daemon, job: &str) -> BTreeMap<u64, f64> {
    let mut rates = BTreeMap::new();
    let mut request = v1::ReadScalarsRequest { name: job.into(), tag: "learning_rate".into(), ..Default::default() };
    loop {
        let read = daemon.jobs().await.read_scalars(request.clone()).await.unwrap().into_inner();
        rates.extend(read.points.iter().map(|point| (point.step, point.value)));
        request.page_token = read.next_page_token;
        if request.page_token.is_empty() {
            return rates;
        }
    }
}

async fn past(daemon: &Daemon, job: &str, step: u64) {
    daemon.watch_until(job, |job| job.progress.as_ref().is_some_and(|progress| progress.step > step)).await;
}

async fn pause(daemon: &Daemon, job: &str) -> u64 {
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: job.into() }).await.unwrap();
    let paused = daemon.watch_until(job, |job| job.state() == v1::JobState::Paused).await;
    paused.resume_from.unwrap().step
}

#[tokio::test]
async fn every_mistake_of_a_recipe_is_told_by_its_field() {
    let daemon = Daemon::start();
    for (sections, wrong) in [
        (r#"{"optimizer": {"adam": {"beta1": 1}}}"#, "optimizer.adam.beta1: is 1; at least 0 and below 1"),
        (r#"{"optimizer": {"adamw": {"beta2": "NaN"}}}"#, "optimizer.adamw.beta2: is NaN; at least 0 and below 1"),
        (r#"{"optimizer": {"lion": {"beta1": -0.1}}}"#, "optimizer.lion.beta1: is -0.1; at least 0 and below 1"),
        (r#"{"optimizer": {"rmsprop": {"alpha": 1.5}}}"#, "optimizer.rmsprop.alpha: is 1.5; at least 0 and below 1"),
        (r#"{"optimizer": {"rmsprop": {"momentum": 1}}}"#, "optimizer.rmsprop.momentum: is 1; at least 0 and below 1"),
        (r#"{"optimizer": {"adagrad": {"lr_decay": -1}}}"#, "optimizer.adagrad.lr_decay: is -1; a finite number of at"),
        (
            r#"{"optimizer": {"adagrad": {"initial_accumulator_value": -1}}}"#,
            "optimizer.adagrad.initial_accumulator_value: is -1; a finite number of at least 0",
        ),
        (
            r#"{"optimizer": {"adam": {"learning_rate": 0}}}"#,
            "optimizer.adam.learning_rate: is 0; a finite number abov",
        ),
        (r#"{"optimizer": {"lion": {"weight_decay": -1}}}"#, "optimizer.lion.weight_decay: is -1; a finite number of"),
        (r#"{"schedule": {"linear": {"warmup_steps": 630}}}"#, "schedule.linear.warmup_steps: is 630, and the job has"),
        (r#"{"schedule": {"step": {"every_steps": 9000}}}"#, "schedule.step.every_steps: is 9000, and the job has"),
        (r#"{"schedule": {"multi_step": {"at_steps": [9, 8]}}}"#, "schedule.multi_step.at_steps[1]: is 8; more than 9"),
        (
            r#"{"schedule": {"multi_step": {"at_steps": [9000]}}}"#,
            "schedule.multi_step.at_steps[0]: is 9000, and the job",
        ),
        (
            r#"{"schedule": {"exponential": {"factor": 1.1}}}"#,
            "schedule.exponential.factor: is 1.1; above 0 and at most",
        ),
        (r#"{"schedule": {"cosine": {"restart_steps": 9000}}}"#, "schedule.cosine.restart_steps: is 9000, and the job"),
        (r#"{"schedule": {"one_cycle": {"rise_share": 0.001}}}"#, "schedule.one_cycle.rise_share: is 0.001, which is"),
        (
            r#"{"schedule": {"plateau": {"metric": "mae/validation"}}}"#,
            "schedule.plateau.metric: is \"mae/validation\", which the job does not tell; it can be loss/validation or",
        ),
        (r#"{"training": {"epochs": 1, "gradient_clip_value": 0}}"#, "training.gradient_clip_value: is 0; a finite"),
    ] {
        let request = v1::ValidateJobRequest { spec: Some(with(sections)), dry_run: false };
        let status = daemon.jobs().await.validate_job(request).await.unwrap_err();
        let fields = status.get_details_bad_request().unwrap().field_violations;
        let told: Vec<_> = fields.iter().map(|wrong| format!("{}: {}", wrong.field, wrong.description)).collect();
        assert!(told.len() == 1 && told[0].starts_with(&format!("spec.{wrong}")), "{sections}: {told:#?}");
    }
    let mut blind = with(r#"{"schedule": {"plateau": {}}}"#);
    blind.data.as_mut().unwrap().validation = None;
    let status = daemon
        .jobs()
        .await
        .validate_job(v1::ValidateJobRequest { spec: Some(blind), dry_run: false })
        .await
        .unwrap_err();
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "spec.schedule.plateau");
}

#[tokio::test]
async fn a_plateau_lowers_the_rate_after_validation_and_goes_on_where_it_stood() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    // No loss is better than the best by all of it, so that the rate falls after each validation
    // pass but the first, and but for every other of them with the cooldown.
    let job = daemon
        .create(with(
            r#"{
                "schedule": {"plateau": {"factor": 0.9, "patience_validations": 0, "threshold": 1, "cooldown": 1}},
                "training": {"epochs": 100000}, "logging": {"scalar_every_steps": 1}
            }"#,
        ))
        .await;
    past(&daemon, &job.name, 63 * 2).await;
    let at = pause(&daemon, &job.name).await;
    let resume = v1::ResumeJobRequest { name: job.name.clone(), ..Default::default() };
    daemon.jobs().await.resume_job(resume).await.unwrap();
    past(&daemon, &job.name, at + 63 * 3).await;
    let end = pause(&daemon, &job.name).await;
    let mut ratio = 1.0;
    let mut expected = BTreeMap::new();
    for step in 0..end {
        if step > 0 && step % (63 * 2) == 0 {
            ratio *= 0.9;
        }
        expected.insert(step + 1, 0.01 * ratio);
    }
    assert!(ratio < 0.9 && at > 63 * 2, "it has not fallen before and after the pause, at step {at}");
    assert_eq!(rates(&daemon, &job.name).await, expected);
}

#[tokio::test]
async fn fields_of_a_recipe_are_edited_on_resume_and_shown() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let sections = r#"{
        "optimizer": {"adamw": {}}, "schedule": {"cosine": {"final_ratio": 0.5}},
        "training": {"epochs": 100000}, "logging": {"scalar_every_steps": 1}
    }"#;
    let job = daemon.create(with(sections)).await;
    past(&daemon, &job.name, 5).await;
    let at = pause(&daemon, &job.name).await;

    let resume = |sets: &[&str]| {
        let sets = sets.iter().flat_map(|&set| ["--set", set]);
        told(&daemon.ctl(&["resume", &job.name].into_iter().chain(sets).collect::<Vec<_>>()))
    };
    let (code, _, err) = resume(&[
        "seed=2",
        "optimizer.adamw.weigth_decay=1",
        "optimizer.sgd.momentum=0.1",
        "optimizer.adamw.amsgrad=true",
    ]);
    assert_eq!(code, 64, "{err}");
    for words in [
        "seed may not change: everything random",
        "optimizer.adamw.weigth_decay no such field; did you mean weight_decay?",
        "optimizer.sgd.momentum may not change: the job has optimizer.adamw",
        "optimizer.adamw.amsgrad may not change: the state of the checkpoint",
    ] {
        assert!(err.contains(words), "{words}:\n{err}");
    }
    let (_, _, err) = resume(&["schedule.cosine.final_ratio=1.5"]);
    assert!(err.contains("schedule.cosine.final_ratio is 1.5; at least 0 and at most 1"), "{err}");

    let (code, _, err) =
        resume(&["optimizer.adamw.weight_decay=0.1", "optimizer.adamw.learning_rate=0.002", "labels.team=b"]);
    assert_eq!(code, 0, "{err}");
    past(&daemon, &job.name, at + 5).await;
    let second = pause(&daemon, &job.name).await;
    let last = second + 10;
    let (code, _, err) = resume(&[
        &format!("training.max_steps={last}"),
        "schedule.cosine.final_ratio=1",
        "optimizer.adamw.learning_rate=0.004",
        "training.gradient_clip_value=0.5",
    ]);
    assert_eq!(code, 0, "{err}");
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!((ended.state(), ended.progress.unwrap().step), (v1::JobState::Succeeded, last));

    let edits = ended.edits.unwrap().set;
    let edits: Vec<_> = edits.iter().map(|edit| (edit.path.as_str(), edit.value.as_str())).collect();
    let max_steps = last.to_string();
    assert_eq!(
        edits,
        [
            ("optimizer.adamw.weight_decay", "0.1"),
            ("labels.team", "\"b\""),
            ("training.max_steps", &max_steps),
            ("schedule.cosine.final_ratio", "1"),
            ("optimizer.adamw.learning_rate", "0.004"),
            ("training.gradient_clip_value", "0.5"),
        ]
    );
    let spec = ended.spec.unwrap();
    let Some(v1::optimizer::Kind::Adamw(adamw)) = spec.optimizer.unwrap().kind else { panic!("another optimizer") };
    assert_eq!((adamw.weight_decay, adamw.learning_rate, spec.labels["team"].as_str()), (Some(0.1), Some(0.004), "b"));
    let told_rates = rates(&daemon, &job.name).await;
    let rate = |step: u64| told_rates[&step];
    assert!((rate(at) - 0.001).abs() < 1e-9 && (rate(second) - 0.002).abs() < 1e-9, "{told_rates:?}");
    assert_eq!((rate(second + 1), rate(last)), (0.004, 0.004));
    let (_, shown, _) = told(&daemon.ctl(&["show", &job.name]));
    assert!(shown.contains("optimizer.adamw.weight_decay = 0.1"), "{shown}");
    let job_json = fs::read_to_string(daemon.job_folder(&job.name).join("job.json")).unwrap();
    assert!(job_json.contains("optimizer.adamw.weight_decay"), "{job_json}");
}
