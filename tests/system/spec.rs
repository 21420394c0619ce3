//! Specs for tests.

use torchd::proto::v1;

/// The example job, with that length.
pub(crate) fn mnist(length: v1::training::Length) -> v1::JobSpec {
    let set = |name: &str| {
        let file = |kind: &str| format!("mnist-5k/{name}-{kind}-ubyte.gz");
        idx(&file("images-idx3"), &file("labels-idx1"))
    };
    v1::JobSpec {
        display_name: "mnist-cnn".into(),
        seed: 1,
        model: Some(v1::Model { family: Some(v1::model::Family::MnistCnn(v1::MnistCnn { dropout: None })) }),
        data: Some(v1::Data {
            train: Some(set("train")),
            validation: Some(set("t10k")),
            normalize: Some(v1::Normalize { mean: vec![0.1307], std: vec![0.3081], ..v1::Normalize::default() }),
            shuffle: None,
            ..v1::Data::default()
        }),
        training: Some(v1::Training {
            length: Some(length),
            batch_size: Some(64),
            validation_batch_size: Some(1000),
            ..v1::Training::default()
        }),
        optimizer: Some(sgd(0.01, 0.5)),
        ..v1::JobSpec::default()
    }
}

/// Few steps.
pub(crate) fn short() -> v1::JobSpec {
    mnist(v1::training::Length::MaxSteps(20))
}

/// More steps than any test waits for, on one core.
pub(crate) fn endless() -> v1::JobSpec {
    v1::JobSpec { resources: Some(threads(1)), ..mnist(v1::training::Length::MaxSteps(10_000_000)) }
}

/// Whether a scalar tells of time or of the machine, and not of what was computed.
pub(crate) fn is_of_the_machine(tag: &str) -> bool {
    ["data/", "gpu/", "process/", "throughput/"].iter().any(|group| tag.starts_with(group))
}

pub(crate) fn threads(cpu_threads: u32) -> v1::Resources {
    v1::Resources { device: v1::Device::Cpu.into(), cpu_threads: Some(cpu_threads), ..Default::default() }
}

pub(crate) fn idx(images: &str, labels: &str) -> v1::Dataset {
    let files = v1::IdxDataset { images: images.into(), labels: labels.into(), ..v1::IdxDataset::default() };
    v1::Dataset { format: Some(v1::dataset::Format::Idx(files)) }
}

pub(crate) fn sgd(learning_rate: f64, momentum: f64) -> v1::Optimizer {
    v1::Optimizer {
        kind: Some(v1::optimizer::Kind::Sgd(v1::Sgd {
            learning_rate: Some(learning_rate),
            momentum,
            ..v1::Sgd::default()
        })),
        ..v1::Optimizer::default()
    }
}
