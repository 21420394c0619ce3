//! The networks: a family is a file in `model/`, one in `src/runner/model/`, and a line in each
//! registry.

mod mlp;
mod mnist_cnn;

use super::loss::Loss;
use super::section::{Fields, registry};
use crate::dataset::{Dtype, Facts, Field};
use crate::job::Violations;
use crate::proto::v1::{self, model::Family as Kind};
pub use mlp::{Activation, Mlp};
pub use mnist_cnn::MnistCnn;

registry! {
    /// A network, by family.
    Model as Family, from Kind, {
        /// The notebook's.
        MnistCnn(MnistCnn),
        /// Linear layers.
        Mlp(Mlp),
    }
}

/// What has to be known of a network before it is built.
pub trait Family {
    /// Adds what is wrong with the inputs or targets of a set, whose field is `set`.
    fn judge(&self, set: &Set<'_>, wrong: &mut Violations);

    /// The shape of its output for one example, as it is trained on this set; None where the set
    /// does not tell yet.
    fn gives(&self, train: &Facts) -> Option<Vec<u64>>;

    /// The loss that it calls for; None for that of the target.
    fn loss(&self) -> Option<Loss> {
        None
    }

    /// What it learns, in the order of PyTorch's `state_dict`, with such a training set and output.
    fn parameters(&self, train: &Facts, output: &[u64]) -> Vec<Parameter>;

    /// Bytes in memory at once for each example of a batch, at least.
    fn bytes_per_example(&self, train: &Facts) -> u64 {
        // The inputs as 32-bit floats, or as integers.
        train
            .inputs
            .iter()
            .map(|field| field.values().saturating_mul(field.dtype.bytes().max(4)))
            .fold(0, u64::saturating_add)
    }
}

/// A set of examples in a spec.
pub struct Set<'a> {
    /// Its field with its format, such as `data.train.idx`.
    pub path: String,
    /// What it holds.
    pub facts: &'a Facts,
}

impl Set<'_> {
    /// The path of the file that a field of the set comes from.
    pub fn file(&self, field: &Field) -> String {
        format!("{}.{}", self.path, field.file)
    }
}

/// A tensor that a model learns: 32-bit floats.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// As in PyTorch's `state_dict`.
    pub name: String,
    /// Its sizes, outermost first.
    pub shape: Vec<i64>,
    /// The bound of the uniform distribution of its initial values.
    pub bound: f64,
}

impl Parameter {
    /// The weight and the bias of a layer, as torch.nn.Linear and torch.nn.Conv2d begin: uniform
    /// within 1/sqrt(fan_in), which is the product of all sizes but the first.
    pub fn layer(name: &str, weight: &[i64]) -> [Self; 2] {
        let fan_in: i64 = weight.iter().skip(1).product();
        let bound = 1.0 / (fan_in as f64).sqrt();
        let made = |part: &str, shape: &[i64]| Self { name: format!("{name}.{part}"), shape: shape.to_vec(), bound };
        [made("weight", weight), made("bias", &weight[..1])]
    }
}

impl Model {
    /// Reads the section of a spec.
    pub(super) fn read(message: Option<&v1::Model>, wrong: &mut Violations) -> Option<Self> {
        let kind = message.and_then(|model| model.family.as_ref());
        Self::choose(kind, Fields::new("model", wrong), "is missing; choose a network")
    }

    /// The message that it was read from.
    pub(super) fn to_proto(&self) -> v1::Model {
        v1::Model { family: Some(self.to_kind()) }
    }
}

/// Adds the inputs of a set that are no numbers, for networks that compute with them.
fn demand_numbers(set: &Set<'_>, name: &str, wrong: &mut Violations) {
    for input in set.facts.inputs.iter().filter(|input| input.dtype == Dtype::I64) {
        let found = format!("has {:?} as {}", input.name, input.dtype.name());
        wrong.add(set.file(input), format!("{found}; {name} takes 32-bit floats"));
    }
}

/// How many classes a target has; None where its values are no classes, or were not read.
fn classes(target: &Field) -> Option<u64> {
    let range = target.range.filter(|_| target.dtype == Dtype::I64)?;
    u64::try_from(range.highest).ok().map(|highest| highest.saturating_add(1))
}
