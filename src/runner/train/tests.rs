//! The training loop against the numbers of PyTorch, and on what has diverged.

use std::path::Path;

use tch::{Kind, Tensor};
use torchd::dataset::{Files, idx};
use torchd::job::DataInputs;
use torchd::job::order::{Lease, Order, ProgramLimits};
use torchd::job::spec::{self, ModelWork};
use torchd::journal::{JobLock, JournalWriter, checkpoints};
use torchd::proto::v1;

use super::*;
use crate::assemble::assemble;
use crate::inputs::open_inputs;
use crate::model::Mode;
use crate::seed::tests::generator;

#[derive(serde::Deserialize)]
struct Golden {
    loss: Vec<f64>,
    gradient_norm: Vec<f64>,
    logprobs_first_8_validation: Vec<Vec<f64>>,
    validation_after_20: GoldenValidation,
}

#[derive(serde::Deserialize)]
struct GoldenValidation {
    loss: f64,
    accuracy: f64,
}

/// The request of the golden values: the notebook's, without dropout and in the order of the
/// files.
fn request() -> v1::JobSpec {
    let paths = || v1::IdxDataset { images: "i".into(), labels: "l".into(), ..Default::default() };
    let set = || Some(v1::Dataset { format: Some(v1::dataset::Format::Idx(paths())) });
    v1::JobSpec {
        model: Some(v1::Model { family: Some(v1::model::Family::MnistCnn(v1::MnistCnn { dropout: Some(0.0) })) }),
        data: Some(v1::Data {
            train: set(),
            validation: set(),
            normalize: Some(v1::Normalize { mean: vec![0.1307], std: vec![0.3081], ..v1::Normalize::default() }),
            shuffle: Some(false),
            ..v1::Data::default()
        }),
        training: Some(v1::Training { length: Some(v1::training::Length::MaxSteps(20)), ..v1::Training::default() }),
        optimizer: Some(v1::Optimizer {
            kind: Some(v1::optimizer::Kind::Sgd(v1::Sgd {
                learning_rate: Some(0.01),
                momentum: 0.5,
                ..v1::Sgd::default()
            })),
            ..v1::Optimizer::default()
        }),
        ..v1::JobSpec::default()
    }
}

fn work() -> ModelWork {
    spec::read(&request()).spec.unwrap().model().unwrap().clone()
}

/// An order to train on the CPU with these data.
pub(super) fn order(train: Files, validation: Option<Files>) -> Order {
    Order {
        attempt: 1,
        rank: None,
        meeting: None,
        lease: Lease::of_cpu(1),
        inputs: DataInputs { train, validation, outline: None, memory_bytes: None }.into(),
        nvml_library: None,
        max_event_bytes: u64::MAX,
        resume_step: None,
        accepted_data_at: None,
        log_begins: 0,
        limits: ProgramLimits::default(),
        edits: None,
    }
}

/// Training on the example's data, with initial weights.
fn training() -> Training {
    let files = |name: &str| {
        let file = |kind: &str| format!("examples/mnist-5k/{name}-{kind}-ubyte.gz");
        let place = |kind| Path::new(&file(kind)).canonicalize().unwrap();
        Files::Idx(idx::Files { images: place("images-idx3").into(), labels: Some(place("labels-idx1").into()) })
    };
    let work = work();
    let order = order(files("train"), Some(files("t10k")));
    assemble(work, &order, open_inputs(&order), &JobFolder::new("unused".into()), Device::Cpu, None, None).unwrap()
}

/// The same with the weights that PyTorch began with.
fn golden_training() -> Training {
    let mut training = training();
    let initial = Path::new("tests/data/golden/mnist_cnn_init.safetensors");
    checkpoint::load_weights(initial, training.network.as_mut());
    training
}

fn is_close(ours: f64, theirs: f64, relative: f64) -> bool {
    (ours - theirs).abs() <= relative * theirs.abs()
}

#[test]
fn twenty_steps_give_the_numbers_of_pytorch() {
    let _alone = generator();
    let golden: Golden =
        serde_json::from_str(&std::fs::read_to_string("tests/data/golden/mnist_cnn_steps.json").unwrap()).unwrap();
    assert_eq!((golden.loss.len(), golden.gradient_norm.len(), golden.logprobs_first_8_validation.len()), (20, 20, 8));
    let mut training = golden_training();

    let eight = training.validation.as_mut().unwrap().first(8).unwrap();
    let ours = training.network.forward(&eight, Mode::Evaluate).unwrap().output.to_kind(Kind::Double);
    let ours = Vec::<Vec<f64>>::try_from(ours).unwrap();
    for (ours, theirs) in ours.iter().flatten().zip(golden.logprobs_first_8_validation.iter().flatten()) {
        assert!(is_close(*ours, *theirs, 1e-4), "log-probability {ours}, PyTorch {theirs}");
    }

    for (step, (loss, norm)) in golden.loss.iter().zip(&golden.gradient_norm).enumerate() {
        assert_eq!(training.place.examples, step as u64 * 64);
        let batch = training.next_batch(&mut |_| Ok(true)).unwrap().unwrap();
        training.sums = training.no_sums().unwrap();
        let Stepped::Moved(Some(our_norm)) = training.train_step(&batch, true).unwrap() else { panic!() };
        let our_loss = training.sums.mean_loss().unwrap();
        assert!(is_close(our_loss, *loss, 1e-4), "loss of step {step}: {our_loss}, PyTorch {loss}");
        assert!(is_close(our_norm, *norm, 1e-4), "norm of step {step}: {our_norm}, PyTorch {norm}");
    }

    let mut other = golden_training().network;
    checkpoint::load_weights(Path::new("tests/data/golden/mnist_cnn_after_20_steps.safetensors"), other.as_mut());
    for ((name, ours), (_, theirs)) in training.network.parameters().named().zip(other.parameters().named()) {
        let apart = (ours - theirs).abs().max().double_value(&[]);
        let scale = theirs.abs().max().double_value(&[]);
        assert!(apart <= 1e-5 * scale, "{name} is {apart} apart, its largest weight is {scale}");
    }

    let mut validation = training.validation.take().unwrap();
    let Validated { loss, metrics, .. } = training.validate(&mut validation, |_| Ok(true)).unwrap().unwrap();
    assert!(is_close(loss, golden.validation_after_20.loss, 1e-4), "{loss}");
    let [(name, accuracy)] = &metrics[..] else { panic!("{metrics:?}") };
    assert_eq!(name, "accuracy");
    assert!(is_close(*accuracy, golden.validation_after_20.accuracy, 1e-6), "{accuracy}");
}

#[test]
fn what_has_diverged_is_not_saved_wherever_it_shows() {
    let _alone = generator();
    let folder = tempfile::tempdir().unwrap();
    let journal = JobFolder::new(folder.path().into());
    let lock = JobLock::take(&journal).unwrap().unwrap();
    let mut report = Report::new(JournalWriter::open(&journal, &lock, 1).unwrap());
    std::fs::create_dir(journal.checkpoints()).unwrap();
    let mut saver = Saver::start(journal.clone(), work().checkpoints, vec![]).unwrap();
    let mut training = golden_training();
    let batch = training.next_batch(&mut |_| Ok(true)).unwrap().unwrap();
    training.train_step(&batch, false).unwrap();
    training.save(BTreeMap::new(), &mut report, &mut saver).unwrap();
    let saved = saver.finish(|_| Ok(())).unwrap();
    assert_eq!(saved.iter().map(|saved| saved.step).collect::<Vec<_>>(), [1]);

    type Spoil = fn(&mut Training) -> Tensor;
    let spoils: [(Spoil, &str); 3] = [
        (|training| training.sums.loss.shallow_clone(), "the loss was NaN"),
        (|training| training.network.parameters().tensors()[3].detach(), "conv2.bias"),
        (
            |training| {
                let mut last = Tensor::new();
                let keep = &mut |_: &str, tensor: &Tensor| {
                    last = tensor.shallow_clone();
                    Ok(())
                };
                training.optimizer.save(keep).unwrap();
                last
            },
            "velocity.fc2.bias",
        ),
    ];
    for (spoil, words) in spoils {
        let mut tensor = spoil(&mut training);
        let before = tensor.copy();
        let _ = tensor.view(-1).narrow(0, 0, 1).fill_(f64::NAN);
        training.place.step += 1;
        let failure = training.save(BTreeMap::new(), &mut report, &mut saver).unwrap_err();
        assert_eq!(failure.reason, JobEndReason::Diverged);
        assert!(failure.message.contains(words), "{}", failure.message);
        tensor.copy_(&before);
    }
    assert!(saver.finish(|_| Ok(())).unwrap().is_empty());
    assert_eq!(checkpoints(&journal).unwrap().len(), 1);
}

#[test]
fn initial_weights_have_the_names_shapes_and_ranges_of_pytorch() {
    let _alone = generator();
    let network = training().network;
    assert_eq!(network.parameters().count(), 21_840);
    let golden = std::fs::read("tests/data/golden/mnist_cnn_init.safetensors").unwrap();
    let golden = safetensors::SafeTensors::deserialize(&golden).unwrap();
    for (name, tensor) in network.parameters().named() {
        let shape: Vec<i64> = golden.tensor(name).unwrap().shape().iter().map(|&size| size as i64).collect();
        assert_eq!(tensor.size(), shape, "{name}");
        let fan_in = if name.starts_with("conv1") {
            25.0
        } else if name.starts_with("conv2") {
            250.0
        } else if name.starts_with("fc1") {
            320.0
        } else {
            50.0
        };
        let largest = tensor.abs().max().double_value(&[]);
        let bound = 1.0 / f64::sqrt(fan_in);
        assert!(largest <= bound && largest > 0.5 * bound, "{name}: {largest}, bound {bound}");
    }
}
