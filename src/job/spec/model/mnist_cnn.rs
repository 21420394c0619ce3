//! The network of the single-node PyTorch notebook: 28x28 grey images in ten classes.

use super::{Family, Loss, Set, Weight};
use crate::dataset::{Dtype, Facts};
use crate::job::Violations;
use crate::job::spec::loss::Nll;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Sizes of an image: channels, height, width.
const IMAGE: [u64; 3] = [1, 28, 28];
/// Classes that it tells apart.
const CLASSES: u64 = 10;

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
    fn judge(&self, set: &Set<'_>, wrong: &mut Violations) {
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

    fn gives(&self, _: &Facts, _: Option<u64>) -> Option<Vec<u64>> {
        Some(vec![CLASSES])
    }

    fn loss(&self) -> Option<Loss> {
        Some(Loss::Nll(Nll::default()))
    }

    fn weights(&self, _: &Facts, _: &[u64]) -> Vec<Weight> {
        let layers: [(&str, &[i64]); 4] =
            [("conv1", &[10, 1, 5, 5]), ("conv2", &[20, 10, 5, 5]), ("fc1", &[50, 320]), ("fc2", &[10, 50])];
        layers.into_iter().flat_map(|(name, weight)| Weight::layer(name, weight)).collect()
    }

    fn bytes_per_example(&self, _: &Facts) -> u64 {
        // The values as 32-bit floats, and the output of the first layer.
        4 * (28 * 28 + 10 * 24 * 24)
    }
}
