//! Every row whose steps can be captured as CUDA graphs gives the numbers of plain steps, and goes
//! on from a checkpoint: on the CPU, with a recorder that does recorded work again. So the places
//! in memory are tried that recorded work reads and writes, and not the recording.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use torchd::job::spec::Clip;

use super::*;
use crate::capture::tests::{Again, Calls};

/// Two epochs of two whole batches and a smaller one, and the first whole batches of a third.
const CAPTURED: &str = r#""max_steps": 8, "batch_size": 16, "cuda_graphs": true"#;
const STEPS: u64 = 8;
/// The step whose checkpoint is gone on from.
const BREAK: u64 = 5;

/// Rows that a spec with captured steps cannot be.
const REFUSED: [(&str, &str); 9] = [
    ("model", "torchscript"),
    ("augment", "mix_up"),
    ("augment", "cut_mix"),
    ("optimizer", "rmsprop"),
    ("optimizer", "adagrad"),
    ("optimizer", "lion"),
    ("metrics", "auc"),
    ("training", "on_divergence"),
    ("training", "shards"),
];

/// The next step, with the norm of the gradients where that is wanted.
fn step(training: &mut Training, want_norm: bool) -> Option<f64> {
    let batch = training.next_batch(&mut |_| Ok(true)).unwrap().unwrap();
    let Stepped::Moved(norm) = training.train_step(&batch, want_norm).unwrap() else { panic!("skipped") };
    if training.place.examples == training.train.facts().examples {
        training.place = Place { epoch: training.place.epoch + 1, examples: 0, ..training.place };
    }
    norm
}

/// So many more.
fn steps(training: &mut Training, count: u64) {
    for _ in 0..count {
        step(training, false);
    }
}

#[test]
fn captured_steps_give_the_numbers_of_plain_ones_in_every_row_that_can_be_captured() {
    let _alone = generator();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    for row in ROWS.iter().filter(|row| row.section != "data" && row.section != "schedule") {
        match REFUSED.contains(&(row.section, row.name)) {
            true => {
                let told = new_with(row, CAPTURED, &place, None).err().map(|mistakes| mistakes.to_string());
                assert!(
                    told.as_ref().is_some_and(|told| told.contains("training.cuda_graphs: is set, and ")),
                    "{}: {told:?}",
                    row.name
                );
            }
            false => try_row(row, CAPTURED, &place),
        }
    }
    let adamw = ROWS.iter().find(|row| (row.section, row.name) == ("optimizer", "adamw")).unwrap();
    // A norm that clips is always computed.
    for clip in [r#""gradient_clip_norm": 0.1"#, r#""gradient_clip_value": 0.01"#] {
        try_row(adamw, &format!("{CAPTURED}, {clip}"), &place);
    }
}

/// Trains a row by plain steps, by captured ones, and by captured ones with a break.
fn try_row(row: &Row, rest: &str, place: &Path) {
    let what = format!("{} {} with {:?}", row.section, row.name, row.data);
    let calls = Rc::new(Cell::new(Calls::default()));
    let captured = |loaded| {
        let training = new_with(row, rest, place, loaded);
        let mut training = training.unwrap_or_else(|mistakes| panic!("{what}: {mistakes}"));
        training.capture_by(Box::new(Again(calls.clone()))).unwrap();
        training
    };
    let mut plain = captured(None);
    // The rate stays on the device.
    plain.capture = None;
    let mut whole = captured(None);
    let mut checkpoint = None;
    let (mut warm, mut replayed, mut recorded) = (0, 0, BTreeSet::new());
    for number in 1..=STEPS {
        let is_normed = number == STEPS || matches!(whole.work.clip, Some(Clip::Norm(_)));
        match whole.place.examples + 16 <= whole.train.facts().examples {
            true if warm < 3 => warm += 1,
            true => {
                replayed += 1;
                recorded.insert(is_normed);
            }
            false => {}
        }
        let [one, other] = [&mut plain, &mut whole].map(|training| {
            let norm = step(training, number == STEPS);
            let loss = training.sums.mean_loss().unwrap();
            if number == BREAK {
                training.sums.clear().unwrap();
            }
            (norm, loss, training.place, training.sums.examples)
        });
        assert_eq!(one, other, "{what}, step {number}");
        if number == BREAK {
            checkpoint = Some(saved(&whole));
        }
    }
    // Three whole batches are plain, and smaller ones always.
    assert_eq!(calls.get(), Calls { recorded: recorded.len(), replayed, forgotten: 0 }, "{what}");
    assert!(replayed > 0, "{what}");
    let (plain, end) = (saved(&plain), saved(&whole));
    assert_eq!(plain.weights, end.weights, "{what}");
    assert_eq!(plain.state, end.state, "{what}");
    let mut broken = captured(checkpoint);
    assert_eq!(broken.place.step, BREAK);
    steps(&mut broken, STEPS - BREAK);
    let again = saved(&broken);
    assert_eq!(again.weights, end.weights, "{what}");
    assert_eq!(again.state, end.state, "{what}");
}

#[test]
fn what_comes_back_in_the_midst_of_a_job_is_captured_anew() {
    let _alone = generator();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let row = ROWS.iter().find(|row| (row.section, row.name) == ("optimizer", "adamw")).unwrap();
    let calls = Rc::new(Cell::new(Calls::default()));
    let mut training = new_with(row, CAPTURED, &place, None).ok().unwrap();
    training.capture_by(Box::new(Again(calls.clone()))).unwrap();
    steps(&mut training, 5);
    let checkpoint = saved(&training);
    steps(&mut training, 3);
    let end = saved(&training);
    training.restore(checkpoint).unwrap();
    steps(&mut training, 3);
    assert_eq!(saved(&training).state, end.state);
    assert_eq!(saved(&training).weights, end.weights);
    assert_eq!(calls.get(), Calls { recorded: 1, replayed: 3, forgotten: 1 });
    // A smaller batch, the third whole one, and one that is recorded.
    steps(&mut training, 3);
    assert_eq!(calls.get(), Calls { recorded: 2, replayed: 4, forgotten: 1 });
}

#[test]
fn without_the_library_training_is_as_if_nobody_had_asked() {
    let _alone = generator();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let row = ROWS.iter().find(|row| (row.section, row.name) == ("optimizer", "sgd")).unwrap();
    let plain = r#""max_steps": 8, "batch_size": 16"#;
    let ends =
        [(plain, None), (CAPTURED, None), (CAPTURED, Some(Err("it is not there".to_owned())))].map(|(rest, graphs)| {
            let mut training = new_with(row, rest, &place, None).ok().unwrap();
            training.begin_capture(graphs).unwrap();
            assert!(training.capture.is_none() && !training.context.captured);
            for _ in 0..STEPS {
                step(&mut training, true);
            }
            let end = saved(&training);
            (end.weights, end.state)
        });
    assert!(ends[0] == ends[1] && ends[0] == ends[2]);
}
