//! The networks: a family is a file in `model/`, one in `src/runner/model/`, and a line in each
//! registry.

mod exported;
mod mlp;
mod mnist_cnn;

use super::loss::Loss;
use super::section::{Fields, registry};
use crate::dataset::{Dtype, Facts, Field};
use crate::exported::summary::Role;
use crate::job::Violations;
use crate::proto::v1::{self, model::Family as Kind};
use crate::tensor_file;
pub use exported::Exported;
pub use mlp::{Activation, Mlp};
pub use mnist_cnn::MnistCnn;

registry! {
    /// A network, by family.
    Model as Family, from Kind, {
        /// The notebook's.
        MnistCnn(MnistCnn),
        /// Linear layers.
        Mlp(Mlp),
        /// One that PyTorch exported.
        Exported(Exported),
    }
}

/// The rules of a family of networks, known before one is built.
pub trait Family {
    /// Adds what is wrong with the inputs or targets of a set, whose field is `set`.
    fn judge(&self, set: &Set<'_>, wrong: &mut Violations);

    /// The shape of its output for one example, as it is trained on this set. `outputs` are as many
    /// as the target calls for. None where the set does not tell yet.
    fn gives(&self, train: &Facts, outputs: Option<u64>) -> Option<Vec<u64>>;

    /// The loss that it calls for; None for that of the target.
    fn loss(&self) -> Option<Loss> {
        None
    }

    /// The loss that it computes itself; None for one that computes an output.
    fn own_loss(&self) -> Option<OwnLoss<'_>> {
        None
    }

    /// Adds what its batches make impossible on these sets.
    fn judge_batches(&self, _: &Batches, _: &mut Violations) {}

    /// The inputs of a set in the order in which it takes them: the places of inputs, or None for
    /// the target.
    ///
    /// # Errors
    /// The reason why they do not go together, in words that follow the set.
    fn places(&self, facts: &Facts) -> Result<Vec<Option<usize>>, String> {
        Ok((0..facts.inputs.len()).map(Some).collect())
    }

    /// The files that it is read from, each with its field; none for a family of torchd's.
    fn files(&self) -> Vec<(&'static str, &str)> {
        Vec::new()
    }

    /// Its tensors, in the order of PyTorch's `state_dict`, with such a training set and output.
    fn weights(&self, train: &Facts, output: &[u64]) -> Vec<Weight>;

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
    /// Its facts.
    pub facts: &'a Facts,
}

impl Set<'_> {
    /// The path of the file that a field of the set comes from.
    pub fn file(&self, field: &Field) -> String {
        format!("{}.{}", self.path, field.file)
    }
}

/// The sizes of the batches of a job.
#[derive(Debug, Clone, Copy)]
pub struct Batches {
    /// Examples in a training step.
    pub size: u32,
    /// Examples of the training set; None where they are not known.
    pub examples: Option<u64>,
    /// Examples at a time in validation, and those of the validation set.
    pub validation: Option<(u64, u64)>,
}

impl Batches {
    /// The size of the last batch of that many examples, where it is a smaller one.
    pub fn rest(examples: u64, size: u64) -> Option<u64> {
        Some(examples.checked_rem(size)?).filter(|rest| *rest > 0)
    }
}

/// A loss that a model computes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnLoss<'a> {
    /// The names of the metrics that it gives besides.
    pub metrics: &'a [String],
}

/// A tensor of a model: a parameter, or a buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// As in PyTorch's `state_dict`.
    pub name: String,
    /// The type of its values.
    pub dtype: tensor_file::Dtype,
    /// Its sizes, outermost first.
    pub shape: Vec<i64>,
    /// Its use.
    pub role: Role,
    /// The name of the same tensor that stands before it, as with tied weights.
    pub same_as: Option<String>,
    /// The bound of the uniform distribution of its initial values; None where a file has these.
    pub bound: Option<f64>,
}

impl Weight {
    /// The weight and the bias of a layer, as torch.nn.Linear and torch.nn.Conv2d begin: uniform
    /// within 1/sqrt(fan_in), which is the product of all sizes but the first.
    pub fn layer(name: &str, weight: &[i64]) -> [Self; 2] {
        let fan_in: i64 = weight.iter().skip(1).product();
        let bound = Some(1.0 / (fan_in as f64).sqrt());
        let made = |part: &str, shape: &[i64]| Self {
            name: format!("{name}.{part}"),
            dtype: tensor_file::Dtype::F32,
            shape: shape.to_vec(),
            role: Role::Learned,
            same_as: None,
            bound,
        };
        [made("weight", weight), made("bias", &weight[..1])]
    }

    /// Its numbers.
    pub fn values(&self) -> u64 {
        self.shape.iter().fold(1, |product: u64, size| product.saturating_mul(size.unsigned_abs()))
    }

    /// Its bytes.
    pub fn bytes(&self) -> u64 {
        self.values().saturating_mul(self.dtype.bits()) / 8
    }

    /// Whether training changes it; each such tensor once.
    pub fn is_learned(&self) -> bool {
        self.role == Role::Learned && self.same_as.is_none()
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

    /// Forgets the contents of its files: a job is kept without them.
    pub fn forget_files(&mut self) {
        if let Self::Exported(exported) = self {
            exported.summary = None;
        }
    }
}

/// Adds the inputs of a set that are no numbers, for networks that compute with them.
fn demand_numbers(set: &Set<'_>, name: &str, wrong: &mut Violations) {
    for input in set.facts.inputs.iter().filter(|input| input.dtype == Dtype::I64) {
        let found = format!("has {:?} as {}", input.name, input.dtype.name());
        wrong.add(set.file(input), format!("{found}; {name} takes 32-bit floats"));
    }
}
