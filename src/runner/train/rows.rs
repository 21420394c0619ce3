//! Every row of every registry goes on from a checkpoint as if it had never been stopped, bit for
//! bit: a new row fails here until it has an example.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};
use torchd::dataset::{Files, idx, named_arrays};
use torchd::job::spec::layer::Layer;
use torchd::job::spec::optimizer::Method;
use torchd::job::spec::{self, Loss, Metric, Model, Schedule};
use torchd::journal::Manifest;
use torchd::proto::{text, v1};

use super::tests::order;
use super::*;
use crate::assemble::assemble;
use crate::inputs::OpenInputs;
use crate::seed::tests::generator;

/// Steps of the unbroken run, two epochs of three batches, the last of them smaller ...
const STEPS: u64 = 6;
/// ... and after how many of them it is broken.
const BROKEN_AFTER: [u64; 2] = [1, 4];

/// A row: the section of a spec that it is about, and a spec with it in JSON, but for the data.
struct Row {
    section: &'static str,
    name: &'static str,
    spec: &'static str,
    data: Data,
}

#[derive(Debug, Clone, Copy)]
enum Data {
    /// Grey images of 28x28 in ten classes, as IDX files.
    Images,
    /// Rows of six numbers in three classes, as named arrays.
    Classes,
    /// Rows of six numbers with a number each.
    Numbers,
    /// Pictures of three channels and 8x8 in three classes.
    Pictures,
    /// Rows of seven tokens out of eleven, each with the one that follows.
    Tokens,
    /// Rows of seven tokens in three classes.
    Sentences,
    /// Rows of six numbers with three labels each.
    Labels,
    /// Rows of six numbers with a label each.
    Label,
    /// Rows of six numbers with a distribution of three shares each.
    Shares,
    /// Those of an exported model, whose archives are in this folder of `tests/data/exported`.
    Exported(&'static str),
    /// Those of a TorchScript module.
    Script,
}

const EXPORTED: &str = r#""model": {"exported": {"path": "p"}}, SGD"#;

const MLP: &str = r#""model": {"mlp": {"hidden": [8, 5], "dropout": 0.25}}"#;
const SGD: &str = r#""optimizer": {"sgd": {"learning_rate": 0.05, "momentum": 0.9}}"#;

const ROWS: &[Row] = &[
    Row { section: "model", name: "mnist_cnn", spec: r#""model": {"mnist_cnn": {}}, SGD"#, data: Data::Images },
    Row { section: "model", name: "mlp", spec: "MLP, SGD", data: Data::Classes },
    Row { section: "model", name: "linear", spec: r#""model": {"linear": {}}, SGD"#, data: Data::Numbers },
    Row {
        section: "model",
        name: "resnet",
        spec: r#""model": {"resnet": {"depth": 18, "stem": "STEM_SMALL"}}, SGD"#,
        data: Data::Pictures,
    },
    Row {
        section: "model",
        name: "vit",
        spec: r#""model": {"vit": {"patch": 4, "layers": 2, "heads": 2, "width": 8, "dropout": 0.25}}, SGD"#,
        data: Data::Pictures,
    },
    Row {
        section: "model",
        name: "gpt",
        spec: r#""model": {"gpt": {"layers": 2, "heads": 2, "width": 8, "context": 9, "dropout": 0.25}}, SGD"#,
        data: Data::Tokens,
    },
    Row {
        section: "model",
        name: "sequential",
        spec: r#""model": {"sequential": {"layers": [
            {"conv2d": {"out_channels": 6, "kernel_size": 3, "stride": 2, "padding": 2, "groups": 3, "bias": false}},
            {"batch_norm2d": {}}, {"leaky_relu": {"negative_slope": 0.2}},
            {"max_pool2d": {"kernel_size": 3, "stride": 1, "padding": 1}}, {"dropout2d": {"p": 0.25}},
            {"group_norm": {"num_groups": 2}}, {"elu": {"alpha": 0.5}}, {"avg_pool2d": {"kernel_size": 2, "stride": 1, "padding": 1}},
            {"silu": {}}, {"adaptive_avg_pool2d": {"output_size": 2}}, {"flatten": {}}, {"linear": {"out_features": 9, "bias": false}},
            {"batch_norm1d": {"momentum": 0.5}}, {"tanh": {}}, {"linear": {"out_features": 8}}, {"sigmoid": {}}, {"softmax": {}},
            {"layer_norm": {}}, {"relu": {}}, {"linear": {}}, {"log_softmax": {}}
        ]}}, "loss": {"nll": {}}, SGD"#,
        data: Data::Pictures,
    },
    Row {
        section: "model",
        name: "sequential",
        spec: r#""model": {"sequential": {"layers": [
            {"embedding": {"num_embeddings": 11, "embedding_dim": 8}},
            {"transformer_encoder_layer": {"nhead": 2, "dim_feedforward": 12, "dropout": 0.25, "activation": "ACTIVATION_GELU", "norm_first": true}},
            {"transformer_encoder_layer": {"nhead": 4, "dim_feedforward": 12}}, {"gelu": {"approximate": "tanh"}},
            {"conv1d": {"out_channels": 4, "kernel_size": 3, "dilation": 2}}, {"max_pool1d": {"kernel_size": 2}},
            {"flatten": {}}, {"dropout": {"p": 0.25}}, {"linear": {}}
        ]}}, SGD"#,
        data: Data::Sentences,
    },
    // BatchNorm and dropout; tied weights; a constant and a buffer that is not saved; its own loss and
    // metrics; two inputs; two files.
    Row { section: "model", name: "exported", spec: EXPORTED, data: Data::Exported("cnn") },
    Row { section: "model", name: "exported", spec: EXPORTED, data: Data::Exported("gpt") },
    Row { section: "model", name: "exported", spec: EXPORTED, data: Data::Exported("tied") },
    Row { section: "model", name: "exported", spec: EXPORTED, data: Data::Exported("step_metrics") },
    Row { section: "model", name: "exported", spec: EXPORTED, data: Data::Exported("two_inputs") },
    Row {
        section: "model",
        name: "exported",
        spec: r#""model": {"exported": {"path": "p", "eval_path": "e"}}, SGD"#,
        data: Data::Exported("plain"),
    },
    Row {
        section: "model",
        name: "torchscript",
        spec: r#""model": {"torchscript": {"path": "p"}}, SGD"#,
        data: Data::Script,
    },
    Row {
        section: "model",
        name: "torchscript",
        spec: r#""model": {"torchscript": {"path": "p", "training_step": true}}, SGD"#,
        data: Data::Script,
    },
    Row { section: "data", name: "idx", spec: "MLP, SGD", data: Data::Images },
    Row { section: "data", name: "safetensors", spec: "MLP, SGD", data: Data::Classes },
    Row {
        section: "optimizer",
        name: "sgd",
        spec: r#"MLP, "optimizer": {"sgd": {"learning_rate": 0.05, "momentum": 0.9, "nesterov": true, "weight_decay": 0.01}}"#,
        data: Data::Classes,
    },
    Row {
        section: "optimizer",
        name: "sgd",
        spec: r#"MLP, "optimizer": {"sgd": {"learning_rate": 0.05, "momentum": 0.9, "dampening": 0.3}}"#,
        data: Data::Classes,
    },
    Row { section: "optimizer", name: "adamw", spec: r#"MLP, "optimizer": {"adamw": {}}"#, data: Data::Classes },
    Row {
        section: "optimizer",
        name: "adamw",
        spec: r#"MLP, "optimizer": {"adamw": {}, "freeze": ["0.*"], "groups": [{"parameters": ["6.*"], "rate_scale": 0.1, "weight_decay": 0}]}"#,
        data: Data::Classes,
    },
    Row {
        section: "optimizer",
        name: "adamw",
        spec: r#"MLP, "optimizer": {"adamw": {"amsgrad": true}}"#,
        data: Data::Classes,
    },
    Row {
        section: "optimizer",
        name: "adam",
        spec: r#"MLP, "optimizer": {"adam": {"weight_decay": 0.1}}"#,
        data: Data::Classes,
    },
    Row {
        section: "optimizer",
        name: "adam",
        spec: r#"MLP, "optimizer": {"adam": {"amsgrad": true}}"#,
        data: Data::Classes,
    },
    Row { section: "optimizer", name: "rmsprop", spec: r#"MLP, "optimizer": {"rmsprop": {}}"#, data: Data::Classes },
    Row {
        section: "optimizer",
        name: "rmsprop",
        spec: r#"MLP, "optimizer": {"rmsprop": {"weight_decay": 0.1, "momentum": 0.9, "centered": true}}"#,
        data: Data::Classes,
    },
    Row {
        section: "optimizer",
        name: "adagrad",
        spec: r#"MLP, "optimizer": {"adagrad": {"lr_decay": 0.1, "initial_accumulator_value": 0.1}}"#,
        data: Data::Classes,
    },
    Row {
        section: "optimizer",
        name: "lion",
        spec: r#"MLP, "optimizer": {"lion": {"weight_decay": 0.1}, "freeze": ["0.*"]}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "constant",
        spec: r#"MLP, SGD, "schedule": {"constant": {"warmup_steps": 3}}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "cosine",
        spec: r#"MLP, SGD, "schedule": {"cosine": {"warmup_steps": 2, "final_ratio": 0.1}}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "cosine",
        spec: r#"MLP, SGD, "schedule": {"cosine": {"warmup_steps": 1, "restart_steps": 2, "restart_growth": 2}}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "step",
        spec: r#"MLP, SGD, "schedule": {"step": {"warmup_steps": 1, "every_steps": 2}}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "multi_step",
        spec: r#"MLP, SGD, "schedule": {"multi_step": {"at_steps": [1, 4]}}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "exponential",
        spec: r#"MLP, SGD, "schedule": {"exponential": {"factor": 0.9}}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "polynomial",
        spec: r#"MLP, SGD, "schedule": {"polynomial": {"power": 2, "final_ratio": 0.1}}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "linear",
        spec: r#"MLP, SGD, "schedule": {"linear": {"warmup_steps": 2}}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "one_cycle",
        spec: r#"MLP, SGD, "schedule": {"one_cycle": {}}"#,
        data: Data::Classes,
    },
    // It falls with each validation pass but the first, and those after a fall.
    Row {
        section: "schedule",
        name: "plateau",
        spec: r#"MLP, SGD, "schedule": {"plateau": {"patience_validations": 0, "threshold": 1, "cooldown": 1}}"#,
        data: Data::Classes,
    },
    Row {
        section: "loss",
        name: "cross_entropy",
        spec: r#"MLP, SGD, "loss": {"cross_entropy": {"label_smoothing": 0.1, "class_weights": [1, 2, 3], "ignored_label": 1}}"#,
        data: Data::Classes,
    },
    Row { section: "loss", name: "nll", spec: r#"MLP, SGD, "loss": {"nll": {}}"#, data: Data::Classes },
    Row { section: "loss", name: "mse", spec: r#"MLP, SGD, "loss": {"mse": {}}"#, data: Data::Numbers },
    Row {
        section: "training",
        name: "precision",
        spec: r#"MLP, SGD, "training": {"precision": "PRECISION_BFLOAT16", REST}"#,
        data: Data::Classes,
    },
    Row {
        section: "training",
        name: "accumulate_steps",
        spec: r#"MLP, SGD, "training": {"accumulate_steps": 4, REST}, "loss": {"cross_entropy": {"class_weights": [1, 2, 3]}}"#,
        data: Data::Classes,
    },
    Row {
        section: "training",
        name: "ema_decay",
        spec: r#"MLP, SGD, "training": {"ema_decay": 0.9, REST}"#,
        data: Data::Classes,
    },
    Row {
        section: "training",
        name: "on_divergence",
        spec: r#"MLP, SGD, "training": {"on_divergence": "ON_DIVERGENCE_SKIP_STEP", REST}"#,
        data: Data::Classes,
    },
    Row {
        section: "mode",
        name: "lr_range",
        spec: r#"MLP, SGD, "mode": "MODE_LR_RANGE", "lr_range": {"steps": 6}"#,
        data: Data::Classes,
    },
    Row {
        section: "loss",
        name: "binary_cross_entropy",
        spec: r#"MLP, SGD, "loss": {"binary_cross_entropy": {"positive_weights": [1, 2, 3]}}"#,
        data: Data::Labels,
    },
    Row { section: "loss", name: "l1", spec: r#"MLP, SGD, "loss": {"l1": {}}"#, data: Data::Numbers },
    Row { section: "loss", name: "huber", spec: r#"MLP, SGD, "loss": {"huber": {"delta": 0.2}}"#, data: Data::Numbers },
    Row {
        section: "loss",
        name: "kl_divergence",
        spec: r#"MLP, SGD, "loss": {"kl_divergence": {}}"#,
        data: Data::Shares,
    },
    Row {
        section: "loss",
        name: "next_token",
        spec: r#""model": {"exported": {"path": "p"}}, SGD, "loss": {"next_token": {"ignored_label": 3}}"#,
        data: Data::Exported("gpt"),
    },
    Row { section: "metrics", name: "accuracy", spec: r#"MLP, SGD, "metrics": ["accuracy"]"#, data: Data::Classes },
    Row {
        section: "metrics",
        name: "accuracy",
        spec: r#"MLP, SGD, "metrics": ["accuracy"], "loss": {"binary_cross_entropy": {}}"#,
        data: Data::Labels,
    },
    Row { section: "metrics", name: "perplexity", spec: r#"MLP, SGD, "metrics": ["perplexity"]"#, data: Data::Classes },
    Row { section: "metrics", name: "mae", spec: r#"MLP, SGD, "metrics": ["mae"]"#, data: Data::Numbers },
    Row { section: "metrics", name: "top_<k>", spec: r#"MLP, SGD, "metrics": ["top_2"]"#, data: Data::Classes },
    Row {
        section: "metrics",
        name: "precision_macro",
        spec: r#"MLP, SGD, "metrics": ["precision_macro"]"#,
        data: Data::Classes,
    },
    Row {
        section: "metrics",
        name: "precision_micro",
        spec: r#"MLP, SGD, "metrics": ["precision_micro"]"#,
        data: Data::Classes,
    },
    Row {
        section: "metrics",
        name: "recall_macro",
        spec: r#"MLP, SGD, "metrics": ["recall_macro"]"#,
        data: Data::Classes,
    },
    Row {
        section: "metrics",
        name: "recall_micro",
        spec: r#"MLP, SGD, "metrics": ["recall_micro"]"#,
        data: Data::Classes,
    },
    Row { section: "metrics", name: "f1_macro", spec: r#"MLP, SGD, "metrics": ["f1_macro"]"#, data: Data::Classes },
    Row { section: "metrics", name: "f1_micro", spec: r#"MLP, SGD, "metrics": ["f1_micro"]"#, data: Data::Classes },
    Row {
        section: "metrics",
        name: "f1_macro",
        spec: r#"MLP, SGD, "metrics": ["f1_macro", "recall_micro"], "loss": {"binary_cross_entropy": {}}"#,
        data: Data::Labels,
    },
    Row {
        section: "metrics",
        name: "auc",
        spec: r#"MLP, SGD, "metrics": ["auc"], "loss": {"binary_cross_entropy": {}}"#,
        data: Data::Label,
    },
    Row { section: "metrics", name: "rmse", spec: r#"MLP, SGD, "metrics": ["rmse"]"#, data: Data::Numbers },
    Row { section: "metrics", name: "r2", spec: r#"MLP, SGD, "metrics": ["r2"]"#, data: Data::Numbers },
    Row {
        section: "metrics",
        name: "confusion_matrix",
        spec: r#"MLP, SGD, "metrics": ["confusion_matrix", "f1_macro"]"#,
        data: Data::Classes,
    },
];

#[test]
fn every_row_of_every_registry_goes_on_bit_for_bit() {
    for (section, names) in [
        ("model", Model::NAMES),
        ("data", &["idx", "safetensors"]),
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

/// Training of a row, from a checkpoint or from its beginning.
fn new(row: &Row, folder: &Path, loaded: Option<checkpoint::Loaded>) -> Training {
    let files = data(row.data, folder);
    let rest = r#""max_steps": 6, "batch_size": 16"#;
    let mut told = row.spec.replace("MLP", MLP).replace("SGD", SGD).replace("REST", rest);
    if !told.contains("training\"") {
        told = format!(r#"{told}, "training": {{{rest}}}"#);
    }
    let table = text::to_table(&format!(r#"{{{told}, "seed": 7}}"#), true).unwrap();
    let mut request: v1::JobSpec = text::message(&[table]).unwrap();
    let idx = v1::IdxDataset { images: "i".into(), labels: "l".into() };
    let train = v1::Dataset { format: Some(v1::dataset::Format::Idx(idx)) };
    request.data = Some(v1::Data { validation: Some(train.clone()), train: Some(train), ..v1::Data::default() });
    let reading = spec::read(&request);
    let spec = reading.spec.unwrap_or_else(|| panic!("{}: {}", row.name, reading.mistakes));
    let order = order(files.clone(), Some(files));
    let folder = JobFolder::new(folder.into());
    match assemble(spec, &order, OpenInputs::open(&order), &folder, Device::Cpu, loaded) {
        Ok(training) => training,
        Err(failure) => panic!("{}: {}", row.name, failure.message),
    }
}

/// The data of a kind, drawn anew the same each time.
fn data(data: Data, folder: &Path) -> Files {
    let numbers = |shape: &[i64]| {
        tch::manual_seed(3);
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    };
    let both = |name: &str, inputs: Tensor, targets: Tensor| {
        let path = folder.join(name);
        let tensors = [("x", inputs), ("y", targets)];
        Tensor::write_safetensors(&tensors, &path).unwrap();
        Files::Safetensors(named_arrays::Files { path, inputs: vec![], target: "y".into() })
    };
    let arrays = |name: &str, targets: Tensor| both(name, numbers(&[40, 6]), targets);
    let tokens = || {
        tch::manual_seed(4);
        Tensor::randint(11, [40, 8], (Kind::Int64, Device::Cpu))
    };
    let classes = || Tensor::arange(40, (Kind::Int64, Device::Cpu));
    match data {
        Data::Images => {
            let (images, labels) = (folder.join("images"), folder.join("labels"));
            let pixels = (numbers(&[40, 28, 28]) * 50.0 + 128.0).clamp(0.0, 255.0).to_kind(Kind::Uint8);
            write_idx(&images, &[40, 28, 28], &Vec::<u8>::try_from(pixels.view([-1])).unwrap());
            write_idx(&labels, &[40], &(0..40).map(|place| place % 10).collect::<Vec<_>>());
            Files::Idx(idx::Files { images, labels })
        }
        Data::Classes => arrays("classes.safetensors", classes().remainder(3)),
        Data::Numbers => arrays("numbers.safetensors", classes().to_kind(Kind::Float) / 40.0),
        Data::Pictures => both("pictures.safetensors", numbers(&[40, 3, 8, 8]), classes().remainder(3)),
        Data::Tokens => {
            let [inputs, targets] = [0, 1].map(|first| tokens().narrow(1, first, 7).contiguous());
            both("tokens.safetensors", inputs, targets)
        }
        Data::Sentences => both("sentences.safetensors", tokens().narrow(1, 0, 7).contiguous(), classes().remainder(3)),
        Data::Script => {
            let scripts = Path::new("tests/data/torchscript").canonicalize().unwrap();
            std::fs::copy(scripts.join("net.pt"), folder.join(JobFolder::SCRIPT)).unwrap();
            let path = scripts.join("data.safetensors");
            Files::Safetensors(named_arrays::Files { path, inputs: vec![], target: "y".into() })
        }
        Data::Labels => arrays("labels.safetensors", numbers(&[40, 3]).gt(0.0).to_kind(Kind::Int64)),
        Data::Label => arrays("label.safetensors", classes().remainder(2)),
        Data::Shares => arrays("shares.safetensors", numbers(&[40, 3]).softmax(-1, Kind::Float)),
        Data::Exported(model) => {
            let exported = Path::new("tests/data/exported").canonicalize().unwrap();
            let archives = [("net.pt2", JobFolder::EXPORTED), ("train.pt2", JobFolder::EXPORTED)];
            for (from, to) in archives.into_iter().chain([("eval.pt2", JobFolder::EXPORTED_EVAL)]) {
                let from = exported.join(model).join(from);
                if from.exists() {
                    std::fs::copy(from, folder.join(to)).unwrap();
                }
            }
            // The module of `plain` is that of `mlp`.
            let data = if model == "plain" { "mlp" } else { model };
            let path = exported.join(data).join("data.safetensors");
            Files::Safetensors(named_arrays::Files { path, inputs: vec![], target: "y".into() })
        }
    }
}

fn write_idx(path: &PathBuf, sizes: &[u32], values: &[u8]) {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend_from_slice(values);
    std::fs::write(path, bytes).unwrap();
}

/// The next step, as the loop makes it.
fn step(training: &mut Training) {
    let order = training.order(training.place.epoch);
    let (start, count) = (training.place.examples, order.len() as u64);
    let end = count.min(start + u64::from(training.spec.batch_size));
    let batch = training.train.batch(&order[start as usize..end as usize]).unwrap();
    training.train_step(&batch, false).unwrap();
    judge(training);
    if training.place.examples == count {
        training.place = Place { epoch: training.place.epoch + 1, examples: 0, ..training.place };
    }
}

/// A validation pass after each step, where there is a validation set.
fn judge(training: &mut Training) {
    let Some(mut feed) = training.validation.take() else { return };
    let validated = training.validate(&mut feed, || Ok(true)).unwrap().unwrap();
    training.validation = Some(feed);
    let values = [("loss/validation".to_owned(), validated.loss)].into();
    let rate = training.spec.optimizer.learning_rate();
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
