//! Every row of every registry goes on from a checkpoint as if it had never been stopped, bit for
//! bit: a new row fails here until it has an example.

mod captured;
mod data;
mod sliced;
mod table;

use std::collections::BTreeMap;
use std::mem;
use std::path::Path;

use tch::Tensor;
use torchd::dataset::{Access, DataFile, OpenFiles, Selection, Source};
use torchd::job::Violations;
use torchd::job::spec::data::{Augment, FORMATS};
use torchd::job::spec::layer::Layer;
use torchd::job::spec::optimizer::Method;
use torchd::job::spec::{self, Loss, Metric, Model, Schedule};
use torchd::journal::Manifest;
use torchd::proto::{text, v1};

use self::data::{Data, data};
use self::table::{MLP, ROWS, Row, SGD};
use super::tests::order;
use super::*;
use crate::assemble::assemble;
use crate::feed::tests::{Told, Way};
use crate::inputs::open_inputs;
use crate::seed::tests::generator;

/// Steps of the unbroken run, two epochs of three batches, the last of them smaller ...
const STEPS: u64 = 6;
/// ... and after how many of them it is broken.
const BROKEN_AFTER: [u64; 2] = [1, 4];

#[test]
fn every_row_of_every_registry_goes_on_bit_for_bit() {
    for (section, names) in [
        ("model", Model::NAMES),
        ("data", FORMATS),
        ("data", &["split", "limit", "normalize", "sampling"]),
        ("augment", Augment::NAMES),
        ("optimizer", Method::NAMES),
        ("schedule", Schedule::NAMES),
        ("loss", Loss::NAMES),
        ("metrics", &Metric::names()),
    ] {
        for name in names {
            assert!(ROWS.iter().any(|row| row.section == section && row.name == *name), "{section} {name} has no row");
        }
    }
    for name in Layer::NAMES {
        let has = |row: &&Row| row.name == "sequential" && row.spec.contains(&format!("{{\"{name}\":"));
        assert!(ROWS.iter().any(|row| has(&row)), "the layer {name} is in no row");
    }
    let _alone = generator();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    for row in ROWS {
        let new = |loaded| new(row, &place, loaded);
        let mut unbroken = new(None);
        let begun = weights(&unbroken);
        let mut checkpoints = Vec::new();
        for _ in 0..STEPS {
            step(&mut unbroken);
            if BROKEN_AFTER.contains(&unbroken.place.step) {
                checkpoints.push(saved(&unbroken));
            }
        }
        let (end, what) = (saved(&unbroken), format!("{} {} with {:?}", row.section, row.name, row.data));
        assert_ne!(begun, end.weights, "{what} has learned nothing");
        for checkpoint in checkpoints {
            let at = checkpoint.manifest.place.step;
            let mut broken = new(Some(checkpoint));
            while broken.place.step < STEPS {
                step(&mut broken);
            }
            let again = saved(&broken);
            assert_eq!(again.weights, end.weights, "{what} from step {at}");
            assert_eq!(again.state, end.state, "{what} from step {at}");
            // Buffers count in evaluation, and only there.
            assert_eq!(result(&broken), result(&unbroken), "{what} from step {at}");
        }
    }
}

#[test]
fn a_set_in_shards_goes_on_bit_for_bit_with_another_number_of_readers() {
    let _alone = generator();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    for of in [Data::Classes, Data::Parquet] {
        let row = ROWS.iter().find(|row| mem::discriminant(&row.data) == mem::discriminant(&of)).unwrap();
        let new = |readers, loaded| {
            let mut training = new(row, &place, loaded);
            let files = data(row.data, &place);
            let opened: Vec<_> = files.paths().into_iter().map(|path| DataFile::open(path).unwrap()).collect();
            // 40 rows of 12 bytes: four shards at least are read together, of a row each.
            let selection = Selection { memory_bytes: Some(400), ..Selection::of(files) };
            let set = selection.open(&OpenFiles::of(opened), None).ok().unwrap().train;
            let set: Box<dyn Source> = match set.access() {
                Access::Shards { ends, .. } => {
                    assert_eq!(ends.len(), 40);
                    set
                }
                Access::Memory | Access::Single if matches!(of, Data::Parquet) => panic!("not in shards"),
                // In shards of seven.
                Access::Memory | Access::Single => Box::new(Told::new(set, Way::Shards(vec![7, 14, 21, 28, 35, 40]))),
            };
            training.train = Feed::new(set, readers, vec![None], vec![Some(0)], Device::Cpu, 0).unwrap();
            training
        };
        let mut unbroken = new(1, None);
        let mut checkpoints = Vec::new();
        for _ in 0..STEPS {
            step(&mut unbroken);
            if BROKEN_AFTER.contains(&unbroken.place.step) {
                checkpoints.push(saved(&unbroken));
            }
        }
        let end = saved(&unbroken);
        for checkpoint in checkpoints {
            let mut broken = new(3, Some(checkpoint));
            assert!(broken.place.examples > 0, "it goes on in the midst of an epoch");
            while broken.place.step < STEPS {
                step(&mut broken);
            }
            let again = saved(&broken);
            assert_eq!(again.weights, end.weights);
            assert_eq!(again.state, end.state);
        }
    }
}

#[test]
fn infinities_of_masks_alone_are_taken_up_and_what_is_no_number_is_taken_nowhere() {
    let _alone = generator();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let rows = ROWS.iter().filter(|row| matches!(row.data, Data::Exported("masks")));
    let [row, averaged] = ["exported", "ema_decay"].map(|name| rows.clone().find(|row| row.name == name).unwrap());
    type Part = fn(&mut checkpoint::Loaded) -> &mut BTreeMap<String, Tensor>;
    let (weights, state): (Part, Part) = (|loaded| &mut loaded.weights, |loaded| &mut loaded.state);
    for (part, name, value, words) in [
        (weights, "causal", f64::INFINITY, None),
        (state, "hidden.far", f64::INFINITY, None),
        (weights, "causal", f64::NAN, Some("causal holds NaN")),
        (state, "hidden.far", f64::NAN, Some("hidden.far holds NaN")),
        (weights, "query.weight", f64::INFINITY, Some("query.weight holds numbers that are not finite")),
        (state, "velocity.query.weight", f64::INFINITY, Some("velocity.query.weight holds numbers that are not")),
        (state, "sums.loss", f64::INFINITY, Some("sums.loss holds numbers that are not finite")),
        (state, "average.causal", f64::INFINITY, None),
        (state, "average.causal", f64::NAN, Some("average.causal holds NaN")),
        (state, "average.query.weight", f64::INFINITY, Some("average.query.weight holds numbers that are not")),
    ] {
        let row = if name.starts_with("average.") { averaged } else { row };
        let mut training = new(row, &place, None);
        step(&mut training);
        let mut loaded = saved(&training);
        let _ = part(&mut loaded)[name].view(-1).narrow(0, 0, 1).fill_(value);
        let restored = training.restore(loaded).map_err(|failure| (failure.reason, failure.message));
        match words {
            None => restored.unwrap(),
            Some(words) => {
                let (reason, message) = restored.unwrap_err();
                assert!(reason == JobEndReason::BadCheckpoint && message.contains(words), "{name}: {message}");
            }
        }
    }
}

#[test]
fn changes_go_for_training_batches_alone() {
    let _alone = generator();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let noisy = r#"MLP, SGD, "data": {"augment": [{"noise": {"std": 100}}]}"#;
    let [plain, changed] = ["MLP, SGD", noisy].map(|spec| {
        let mut training = new(&Row { section: "data", name: "augment", spec, data: Data::Classes }, &place, None);
        let batch = training.next_batch(&mut |_| Ok(true)).unwrap().unwrap();
        let mut validation = training.validation.take().unwrap();
        let judged = training.validate(&mut validation, |_| Ok(true)).unwrap().unwrap();
        (batch.inputs, batch.targets, judged.loss, training.train.first(8).unwrap().inputs)
    });
    assert_ne!(plain.0, changed.0);
    assert_eq!((plain.1, plain.2, plain.3), (changed.1, changed.2, changed.3));
}

/// Training of a row, from a checkpoint or from its beginning.
fn new(row: &Row, folder: &Path, loaded: Option<checkpoint::Loaded>) -> Training {
    let tried = new_with(row, r#""max_steps": 6, "batch_size": 16"#, folder, loaded);
    tried.unwrap_or_else(|mistakes| panic!("{}: {mistakes}", row.name))
}

/// The same with `rest` in the section of training, or the mistakes of the spec.
fn new_with(
    row: &Row,
    rest: &str,
    folder: &Path,
    loaded: Option<checkpoint::Loaded>,
) -> std::result::Result<Training, Violations> {
    let files = data(row.data, folder);
    let mut told = row.spec.replace("MLP", MLP).replace("SGD", SGD).replace("REST", rest);
    if !told.contains("training\"") {
        told = format!(r#"{told}, "training": {{{rest}}}"#);
    }
    let table = text::to_table(&format!(r#"{{{told}, "seed": 7}}"#), true).unwrap();
    let mut request: v1::JobSpec = text::message(&[table]).unwrap();
    let idx = v1::IdxDataset { images: "i".into(), labels: "l".into(), ..Default::default() };
    let train = v1::Dataset { format: Some(v1::dataset::Format::Idx(idx)) };
    let told = request.data.take().unwrap_or_default();
    let is_split = told.split.is_some();
    request.data = Some(v1::Data { validation: (!is_split).then(|| train.clone()), train: Some(train), ..told });
    let reading = spec::read(&request);
    let spec = reading.spec.ok_or(reading.mistakes)?;
    let order = order(files.clone(), (!is_split).then_some(files));
    let folder = JobFolder::new(folder.into());
    match assemble(spec.model().unwrap().clone(), &order, open_inputs(&order), &folder, Device::Cpu, loaded, None) {
        Ok(training) => Ok(training),
        Err(failure) => panic!("{}: {}", row.name, failure.message),
    }
}

/// The next step, as the loop makes it.
fn step(training: &mut Training) {
    let batch = training.next_batch(&mut |_| Ok(true)).unwrap().unwrap();
    training.train_step(&batch, false).unwrap();
    judge(training);
    if training.place.examples == training.train.facts().examples {
        training.place = Place { epoch: training.place.epoch + 1, examples: 0, ..training.place };
    }
}

/// A validation pass after each step, where there is a validation set.
fn judge(training: &mut Training) {
    let Some(mut feed) = training.validation.take() else { return };
    let validated = training.validate(&mut feed, |_| Ok(true)).unwrap().unwrap();
    training.validation = Some(feed);
    let values = [("loss/validation".to_owned(), validated.loss)].into();
    let rate = training.work.optimizer.learning_rate();
    training.schedule.hear(&values, training.place.step, rate).unwrap();
}

fn weights(training: &Training) -> BTreeMap<String, Tensor> {
    saved(training).weights
}

/// Every tensor of the network, by every name.
fn result(training: &Training) -> BTreeMap<String, Tensor> {
    let mut tensors = BTreeMap::new();
    let mut put = |name: &str, tensor: &Tensor| {
        tensors.insert(name.to_owned(), tensor.detach().copy());
        Ok(())
    };
    training.network.result(&mut put).unwrap();
    tensors
}

/// A checkpoint of this place, by way of the bytes of its files.
fn saved(training: &Training) -> checkpoint::Loaded {
    let tensors = |parts: &[&dyn Stateful]| Snapshot::of(training.place.step, parts).unwrap().read_back();
    checkpoint::Loaded {
        weights: tensors(&[training.network.as_ref()]),
        state: tensors(&training.state()),
        manifest: Manifest {
            place: training.place,
            attempt: 1,
            time: SystemTime::now(),
            summed_examples: training.sums.examples,
            metrics: BTreeMap::new(),
            validation_due: false,
            context: training.context.clone(),
            trained_on: Some(training.trained_on.clone()),
            files: Vec::new(),
        },
    }
}
