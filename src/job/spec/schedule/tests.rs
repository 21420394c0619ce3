//! The schedules against the values of `torch.optim.lr_scheduler`, and what is refused of them.

use super::*;
use crate::job::retention::Quantity;
use crate::job::spec::Metric;
use crate::job::spec::metric::Accuracy;
use crate::proto::json;

#[test]
fn a_cosine_goes_as_pytorch_tells_it_and_a_warmup_grows_evenly() {
    let cosine = Schedule::Cosine(Cosine { warmup_steps: 0, final_ratio: 0.1, restarts: None });
    // CosineAnnealingLR(T_max=10, eta_min=0.1) of a rate of 1: 0.1 + 0.9 * (1 + cos(pi t / 10))
    // / 2.
    for (step, rate) in [(0, 1.0), (5, 0.55), (9, 0.122_024_567_667_181_15), (10, 0.1)] {
        assert!((cosine.at(step, 10) - rate).abs() < 1e-15, "{step}: {}", cosine.at(step, 10));
    }
    let warm = Schedule::Cosine(Cosine { warmup_steps: 4, final_ratio: 0.0, restarts: None });
    let rates: Vec<_> = (0..6).map(|step| warm.at(step, 6)).collect();
    assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0, 0.5]);
    let constant = Schedule::Constant(Constant { warmup_steps: 2 });
    assert_eq!((constant.at(0, 9), constant.at(1, 9), constant.at(8, 9)), (0.5, 1.0, 1.0));
    let mut wrong = Violations::default();
    warm.judge(5, &mut wrong);
    assert!(wrong.0.is_empty());
    warm.judge(4, &mut wrong);
    assert!(wrong.to_string().starts_with("schedule.cosine.warmup_steps: is 4, and the job has 4"), "{wrong}");
}

/// The schedule that a section in JSON makes, or the mistakes, beside a job of that many steps.
fn schedule(text: &str, steps: u64) -> Result<Schedule, Vec<String>> {
    let mut wrong = Violations::default();
    let message: v1::Schedule = json::from_str(text).unwrap();
    let schedule = Schedule::read(Some(&message), true, &mut wrong);
    if let Some(schedule) = &schedule {
        schedule.judge(steps, &mut wrong);
        assert_eq!(Schedule::read(Some(&schedule.to_proto()), true, &mut wrong).as_ref(), Some(schedule));
    }
    let told = |mistake: crate::job::Violation| format!("{}: {}", mistake.field, mistake.description);
    if wrong.0.is_empty() { Ok(schedule.unwrap()) } else { Err(wrong.0.into_iter().map(told).collect()) }
}

#[test]
fn schedules_go_as_those_of_pytorch() {
    // The rates of torch.optim.SGD with lr=1, with scheduler.step() after each step.
    for (text, torch) in [
        // StepLR(step_size=3, gamma=0.5)
        (
            r#"{"step": {"every_steps": 3, "factor": 0.5}}"#,
            &[1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125][..],
        ),
        // MultiStepLR(milestones=[2, 3, 7], gamma=0.5)
        (
            r#"{"multi_step": {"at_steps": [2, 3, 7], "factor": 0.5}}"#,
            &[1.0, 1.0, 0.5, 0.25, 0.25, 0.25, 0.25, 0.125, 0.125, 0.125],
        ),
        // ExponentialLR(gamma=0.9)
        (
            r#"{"exponential": {"factor": 0.9}}"#,
            &[1.0, 0.9, 0.81, 0.729, 0.6561, 0.59049, 0.531441, 0.4782969, 0.43046721, 0.387420489],
        ),
        // PolynomialLR(total_iters=10, power=2)
        (r#"{"polynomial": {"power": 2}}"#, &[1.0, 0.81, 0.64, 0.49, 0.36, 0.25, 0.16, 0.09, 0.04, 0.01]),
        // LinearLR(start_factor=1, end_factor=0.1, total_iters=10)
        (r#"{"linear": {"final_ratio": 0.1}}"#, &[1.0, 0.91, 0.82, 0.73, 0.64, 0.55, 0.46, 0.37, 0.28, 0.19]),
        // CosineAnnealingWarmRestarts(T_0=3, T_mult=1, eta_min=0.1)
        (
            r#"{"cosine": {"final_ratio": 0.1, "restart_steps": 3}}"#,
            &[1.0, 0.775, 0.325, 1.0, 0.775, 0.325, 1.0, 0.775, 0.325, 1.0],
        ),
        // CosineAnnealingWarmRestarts(T_0=2, T_mult=2, eta_min=0.1)
        (
            r#"{"cosine": {"final_ratio": 0.1, "restart_steps": 2, "restart_growth": 2}}"#,
            &[
                1.0,
                0.55,
                1.0,
                0.8681980515339464,
                0.55,
                0.23180194846605365,
                1.0,
                0.9657457896300791,
                0.8681980515339464,
                0.7222075445642904,
                0.55,
                0.3777924554357096,
                0.23180194846605365,
                0.13425421036992097,
                1.0,
                0.9913533761814537,
            ],
        ),
        // OneCycleLR(max_lr=1, total_steps=10)
        (
            r#"{"one_cycle": {}}"#,
            &[
                0.04,
                0.52,
                1.0,
                0.9504846320134737,
                0.8117456539497631,
                0.6112620219362893,
                0.38874197806371075,
                0.18825834605023697,
                0.049519367986526286,
                4e-6,
            ],
        ),
        // OneCycleLR(max_lr=1, total_steps=7, pct_start=0.45, div_factor=10, final_div_factor=10)
        (
            r#"{"one_cycle": {"rise_share": 0.45, "start_ratio": 0.1, "final_ratio": 0.01}}"#,
            &[
                0.1,
                0.5007829562299564,
                0.9892341449001671,
                0.8856305100429842,
                0.5352750221068122,
                0.16585485109091716,
                0.01,
            ],
        ),
    ] {
        let total = torch.len() as u64;
        let schedule = schedule(text, total).unwrap();
        for (step, rate) in torch.iter().enumerate() {
            let found = schedule.at(step as u64, total);
            assert!((found - rate).abs() < 1e-15, "{text}: step {step} has {found}, and PyTorch has {rate}");
        }
    }
}

#[test]
fn steps_are_counted_from_the_end_of_the_warmup() {
    for (text, rates) in [
        (r#"{"step": {"warmup_steps": 2, "every_steps": 2, "factor": 0.5}}"#, [0.5, 1.0, 1.0, 1.0, 0.5, 0.5]),
        (r#"{"multi_step": {"warmup_steps": 2, "at_steps": [1, 3], "factor": 0.5}}"#, [0.5, 1.0, 1.0, 0.5, 0.5, 0.25]),
        (r#"{"exponential": {"warmup_steps": 2, "factor": 0.5}}"#, [0.5, 1.0, 1.0, 0.5, 0.25, 0.125]),
        (r#"{"polynomial": {"warmup_steps": 2, "final_ratio": 0.5}}"#, [0.5, 1.0, 1.0, 0.875, 0.75, 0.625]),
        (r#"{"linear": {"warmup_steps": 2}}"#, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        (r#"{"cosine": {"warmup_steps": 2, "restart_steps": 2}}"#, [0.5, 1.0, 1.0, 0.5, 1.0, 0.5]),
        (r#"{"plateau": {"warmup_steps": 2}}"#, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ] {
        let schedule = schedule(text, 6).unwrap();
        let found: Vec<_> = (0..6).map(|step| schedule.at(step, 6)).collect();
        assert!(found.iter().zip(rates).all(|(found, rate)| (found - rate).abs() < 1e-15), "{text}: {found:?}");
    }
}

/// The shares of the rate after each value, with the standing taken through its numbers each time.
fn heard(text: &str, values: &[f64], rate: f64) -> Vec<f64> {
    let Schedule::Plateau(plateau) = schedule(text, 100).unwrap() else { panic!("{text}") };
    let mut standing = Standing::default();
    let hear = |&value: &f64| {
        plateau.hear(&mut standing, value, rate);
        standing = Standing::of(standing.numbers());
        standing.ratio
    };
    values.iter().map(hear).collect()
}

#[test]
fn a_plateau_falls_as_that_of_pytorch() {
    let values = [1.0, 0.9, 0.91, 0.89, 0.895, 0.89, 0.92, 0.93, 0.9, 0.88, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9];
    // ReduceLROnPlateau(mode="min", factor=0.5, patience=1, threshold=0.01, cooldown=2, min_lr=0.3)
    let text = r#"{"plateau": {"factor": 0.5, "patience_validations": 1, "threshold": 0.01, "cooldown": 2,
                   "least_ratio": 0.3}}"#;
    let torch = [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3, 0.3];
    assert_eq!(heard(text, &values, 1.0), torch);
    // ReduceLROnPlateau(mode="max", factor=0.5, patience=2, threshold=0)
    let text = r#"{"plateau": {"metric": "accuracy/validation", "factor": 0.5, "patience_validations": 2,
                   "threshold": 0}}"#;
    let torch = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125, 0.125, 0.0625, 0.0625, 0.0625, 0.03125];
    assert_eq!(heard(text, &values, 1.0), torch);
    // ReduceLROnPlateau(factor=0.5, patience=0) of a rate of 2.5e-8, which falls once.
    let text = r#"{"plateau": {"factor": 0.5, "patience_validations": 0}}"#;
    assert_eq!(heard(text, &[1.0; 4], 2.5e-8), [1.0, 0.5, 0.5, 0.5]);
    // A value that is not finite is no better, so that the state stays finite.
    assert_eq!(heard(text, &[f64::NAN, f64::NEG_INFINITY, 1.0, f64::NAN], 1.0), [0.5, 0.25, 0.25, 0.125]);
}

#[test]
fn a_plateau_is_read_with_its_defaults() {
    let Schedule::Plateau(plateau) = schedule(r#"{"plateau": {}}"#, 9).unwrap() else { panic!() };
    let Plateau { metric, factor, patience_validations, threshold, cooldown, least_ratio, .. } = plateau;
    assert_eq!((metric, factor, patience_validations), (Quantity::Loss, 0.1, 10));
    assert_eq!((threshold, cooldown, least_ratio), (1e-4, 0, 0.0));
    let accuracy = schedule(r#"{"plateau": {"metric": "accuracy/validation"}}"#, 9).unwrap();
    assert_eq!(accuracy.plateau().unwrap().metric, Quantity::Metric(Metric::Accuracy(Accuracy)));
}

#[test]
fn schedules_that_cannot_be_are_refused_by_field() {
    for (text, wrong) in [
        (r#"{"step": {}}"#, &["step.every_steps: is missing or 0; at least 1"][..]),
        (r#"{"step": {"every_steps": 9, "factor": 0}}"#, &["step.factor: is 0; above 0 and at most 1"]),
        (
            r#"{"step": {"every_steps": 9, "warmup_steps": 1}}"#,
            &["step.every_steps: is 9, and the job has 9 steps after the warm-up; fewer are needed"],
        ),
        (r#"{"step": {"every_steps": 1, "warmup_steps": 10}}"#, &["step.warmup_steps: is 10, and the job has 10"]),
        (r#"{"multi_step": {}}"#, &["multi_step.at_steps: is empty"]),
        (
            r#"{"multi_step": {"at_steps": [0, 3, 3, 2], "factor": 1.5}}"#,
            &[
                "multi_step.at_steps[0]: is 0; more than 0",
                "multi_step.at_steps[2]: is 3; more than 3",
                "multi_step.at_steps[3]: is 2; more than 3",
                "multi_step.factor: is 1.5; above 0 and at most 1",
            ],
        ),
        (
            r#"{"multi_step": {"at_steps": [3, 8], "warmup_steps": 2}}"#,
            &["multi_step.at_steps[1]: is 8, and the job has 8 steps after the warm-up; fewer"],
        ),
        (r#"{"exponential": {}}"#, &["exponential.factor: is 0; above 0 and at most 1"]),
        (r#"{"exponential": {"factor": "NaN"}}"#, &["exponential.factor: is NaN; above 0 and at most 1"]),
        (
            r#"{"polynomial": {"power": 0, "final_ratio": -1}}"#,
            &["polynomial.power: is 0; a finite number above 0", "polynomial.final_ratio: is -1; at least 0"],
        ),
        (r#"{"linear": {"final_ratio": 2}}"#, &["linear.final_ratio: is 2; at least 0 and at most 1"]),
        (r#"{"linear": {"warmup_steps": 11}}"#, &["linear.warmup_steps: is 11, and the job has 10"]),
        (
            r#"{"cosine": {"restart_steps": 0, "restart_growth": 0}}"#,
            &["cosine.restart_steps: is 0; at least 1", "cosine.restart_growth: is 0; at least 1"],
        ),
        (r#"{"cosine": {"restart_growth": 2}}"#, &["cosine.restart_growth: is 2, and there is no restart_steps"]),
        (r#"{"cosine": {"restart_steps": 11}}"#, &["cosine.restart_steps: is 11, and the job has 10"]),
        (
            r#"{"one_cycle": {"rise_share": 1, "start_ratio": 2, "final_ratio": "NaN"}}"#,
            &[
                "one_cycle.rise_share: is 1; above 0 and below 1",
                "one_cycle.start_ratio: is 2; at least 0",
                "one_cycle.final_ratio: is NaN; at least 0",
            ],
        ),
        (r#"{"one_cycle": {"rise_share": 0.1}}"#, &["one_cycle.rise_share: is 0.1, which is 1 of the 10 steps"]),
        (
            r#"{"plateau": {"metric": "accuracy", "factor": 1, "threshold": 2, "least_ratio": -1}}"#,
            &[
                "plateau.metric: is \"accuracy\", where loss/validation is right",
                "plateau.factor: is 1; above 0 and below 1",
                "plateau.threshold: is 2; at least 0",
                "plateau.least_ratio: is -1; at least 0",
            ],
        ),
    ] {
        let told = schedule(text, 10).unwrap_err();
        let are = told.iter().zip(wrong).all(|(told, wrong)| told.starts_with(&format!("schedule.{wrong}")));
        assert!(are && told.len() == wrong.len(), "{text}: {told:#?}");
    }
}

#[test]
fn a_plateau_needs_a_validation_set() {
    let mut wrong = Violations::default();
    let message = json::from_str(r#"{"plateau": {}}"#).unwrap();
    assert!(Schedule::read(Some(&message), false, &mut wrong).is_some());
    assert!(wrong.to_string().starts_with("schedule.plateau: needs data.validation"), "{wrong}");
}
