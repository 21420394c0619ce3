//! The network of the single-node PyTorch notebook: 28x28 grey images in ten classes.

use super::{Family, Loss, Set, Task};
use crate::dataset::{Dtype, Facts};
use crate::job::Violations;
use crate::job::spec::layer::{Convolution, Dropout, Flatten, Layer, Linear, LogSoftmax, MaxPool, Relu};
use crate::job::spec::loss::Nll;
use crate::job::spec::module::Module;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Sizes of an image: channels, height, width.
const IMAGE: [u64; 3] = [1, 28, 28];
/// Classes that it tells apart.
const CLASSES: u32 = 10;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MnistCnn {
    /// Probability of both dropouts.
    pub dropout: f64,
}

impl Section for MnistCnn {
    type Message = v1::MnistCnn;
    const NAME: &str = "mnist_cnn";

    fn read(message: &v1::MnistCnn, mut fields: Fields<'_>) -> Option<Self> {
        let dropout = fields.probability("dropout", message.dropout.unwrap_or(0.5));
        fields.done(Self { dropout })
    }

    fn to_proto(&self) -> v1::MnistCnn {
        v1::MnistCnn { dropout: Some(self.dropout) }
    }
}

impl Family for MnistCnn {
    fn judge(&self, set: &Set<'_>, _: Option<&Task<'_>>, wrong: &mut Violations) {
        let [_, height, width] = IMAGE;
        let name = Self::NAME;
        match set.facts.inputs.as_slice() {
            [images] if images.dtype == Dtype::I64 || images.shape != IMAGE => {
                let found = match images.shape.as_slice() {
                    [1, height, width] if images.dtype == Dtype::Pixel => format!("images of {height}x{width}"),
                    shape => format!("{:?} of {:?} {}", images.name, shape, images.dtype.name()),
                };
                wrong.add(set.file(images), format!("holds {found}; {name} takes {height}x{width}"));
            }
            [_] => {}
            inputs => {
                let names: Vec<_> = inputs.iter().map(|input| input.name.as_str()).collect();
                wrong.add(&set.path, format!("has the inputs {}; {name} takes one, of images", names.join(", ")));
            }
        }
        let target = &set.facts.target;
        if target.dtype != Dtype::I64 {
            let found = format!("has {:?} as {}", target.name, target.dtype.name());
            wrong.add(set.file(target), format!("{found}; {name} takes labels, as 64-bit integers"));
        }
    }

    fn modules(&self, _: Option<u64>) -> Option<Module> {
        let conv = |out_channels| {
            let (stride, padding, dilation, groups) = (1, 0, 1, 1);
            Layer::Conv2d(Convolution { out_channels, kernel_size: 5, stride, padding, dilation, groups, bias: true })
        };
        let pool = Layer::MaxPool2d(MaxPool { kernel_size: 2, stride: 2, padding: 0, dilation: 1 });
        let linear = |outputs| Layer::Linear(Linear { out_features: Some(outputs), bias: true });
        let (relu, p) = (Layer::Relu(Relu), self.dropout);
        let layers = [
            ("conv1", conv(10)),
            ("pool1", pool.clone()),
            ("relu1", relu.clone()),
            ("conv2", conv(20)),
            ("conv2_drop", Layer::Dropout2d(Dropout { p })),
            ("pool2", pool),
            ("relu2", relu.clone()),
            ("flatten", Layer::Flatten(Flatten::default())),
            ("fc1", linear(50)),
            ("relu3", relu),
            ("fc1_drop", Layer::Dropout(Dropout { p })),
            ("fc2", linear(CLASSES)),
            ("log_softmax", Layer::LogSoftmax(LogSoftmax { dim: 1 })),
        ];
        Some(Module::row(layers.map(|(name, layer)| (name, layer.into()))))
    }

    fn loss(&self) -> Option<Loss> {
        Some(Loss::Nll(Nll::default()))
    }

    fn bytes_per_example(&self, _: &Facts) -> u64 {
        // The values as 32-bit floats, and the output of the first layer.
        4 * (28 * 28 + 10 * 24 * 24)
    }
}
