//! The edits that a paused job allows.

use super::Spec;
use crate::job::length::Length;
use crate::proto::v1::{self, job_edits};

impl Spec {
    /// The spec with the edits made. Whether it still is right is judged as that of a new job.
    pub fn edited(mut self, edits: &v1::JobEdits) -> Self {
        let v1::JobEdits { length, learning_rate, batch_size } = edits;
        self.length = length.map_or(self.length, |length| match length {
            job_edits::Length::Epochs(epochs) => Length::Epochs(epochs),
            job_edits::Length::MaxSteps(steps) => Length::Steps(steps),
        });
        self.batch_size = batch_size.unwrap_or(self.batch_size);
        if let Some(rate) = learning_rate {
            self.optimizer.set_learning_rate(*rate);
        }
        self
    }
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
    use super::super::read;
    use super::super::read::tests::good;
    use super::*;

    #[test]
    fn edits_change_what_they_name_and_later_ones_win() {
        let spec = read(&good()).spec.unwrap();
        assert_eq!(spec.clone().edited(&v1::JobEdits::default()), spec);
        let first = v1::JobEdits { learning_rate: Some(0.01), batch_size: Some(32), ..v1::JobEdits::default() };
        let second = v1::JobEdits {
            length: Some(job_edits::Length::MaxSteps(9)),
            batch_size: Some(16),
            ..v1::JobEdits::default()
        };
        let both = spec.clone().edited(&merged(Some(first), &second));
        assert_eq!((both.length, both.batch_size), (Length::Steps(9), 16));
        assert_eq!(both.optimizer.learning_rate(), 0.01);
        let wrong = v1::JobEdits { learning_rate: Some(-1.0), batch_size: Some(0), ..v1::JobEdits::default() };
        let mistakes = read(&spec.edited(&wrong).to_proto()).mistakes;
        let fields: Vec<_> = mistakes.0.into_iter().map(|mistake| mistake.field).collect();
        assert_eq!(fields, ["training.batch_size", "optimizer.sgd.learning_rate"]);
    }
}
