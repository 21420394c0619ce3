//! The edits that a paused job allows.

use crate::proto::v1::{self, job_edits, training};

/// The spec with the edits made. Whether it still is right is judged as that of a new job.
pub fn edited(mut spec: v1::JobSpec, edits: &v1::JobEdits) -> v1::JobSpec {
    let v1::JobEdits { length, learning_rate, batch_size } = edits;
    if length.is_some() || batch_size.is_some() {
        let training = spec.training.get_or_insert_default();
        match *length {
            Some(job_edits::Length::Epochs(epochs)) => training.length = Some(training::Length::Epochs(epochs)),
            Some(job_edits::Length::MaxSteps(steps)) => training.length = Some(training::Length::MaxSteps(steps)),
            None => {}
        }
        training.batch_size = batch_size.or(training.batch_size);
    }
    if let Some(v1::optimizer::Kind::Sgd(sgd)) = spec.optimizer.as_mut().and_then(|optimizer| optimizer.kind.as_mut()) {
        sgd.learning_rate = learning_rate.or(sgd.learning_rate);
    }
    spec
}

/// The edits of earlier resumes and those of a new one, which win.
pub fn merged(before: Option<v1::JobEdits>, now: &v1::JobEdits) -> v1::JobEdits {
    let before = before.unwrap_or_default();
    v1::JobEdits {
        length: now.length.or(before.length),
        learning_rate: now.learning_rate.or(before.learning_rate),
        batch_size: now.batch_size.or(before.batch_size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_change_what_they_name_and_later_ones_win() {
        let sgd = v1::Sgd { learning_rate: Some(0.1), momentum: 0.5 };
        let spec = v1::JobSpec {
            training: Some(v1::Training {
                length: Some(training::Length::Epochs(3)),
                batch_size: Some(64),
                validation_batch_size: Some(7),
            }),
            optimizer: Some(v1::Optimizer { kind: Some(v1::optimizer::Kind::Sgd(sgd)) }),
            ..v1::JobSpec::default()
        };
        assert_eq!(edited(spec.clone(), &v1::JobEdits::default()), spec);
        let first = v1::JobEdits { learning_rate: Some(0.01), batch_size: Some(32), ..v1::JobEdits::default() };
        let second = v1::JobEdits {
            length: Some(job_edits::Length::MaxSteps(9)),
            batch_size: Some(16),
            ..v1::JobEdits::default()
        };
        let both = edited(spec, &merged(Some(first), &second));
        let training = both.training.unwrap();
        assert_eq!((training.length, training.batch_size), (Some(training::Length::MaxSteps(9)), Some(16)));
        assert_eq!(training.validation_batch_size, Some(7));
        let Some(v1::optimizer::Kind::Sgd(sgd)) = both.optimizer.unwrap().kind else { panic!("sgd") };
        assert_eq!((sgd.learning_rate, sgd.momentum), (Some(0.01), 0.5));
    }
}
