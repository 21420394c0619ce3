//! The networks: a family is a file in `model/`, one in `src/runner/model/`, and a line in each
//! registry.

mod exported;
mod gpt;
mod linear;
mod mlp;
mod mnist_cnn;
mod resnet;
mod sequential;
mod torchscript;
mod vit;

use super::layer::Flow;
use super::loss::Loss;
use super::module::{Misfit, Module};
use super::remedy;
use super::section::{Fields, registry};
use crate::dataset::{Dtype, Facts, Field};
use crate::exported::summary::Role;
use crate::job::Violations;
use crate::proto::v1::{self, model::Family as Kind};
use crate::tensor_file;
pub use exported::Exported;
pub use gpt::Gpt;
pub use linear::LinearModel;
pub use mlp::{Activation, Mlp};
pub use mnist_cnn::MnistCnn;
pub use resnet::{Resnet, Stem};
pub use sequential::Sequential;
pub use torchscript::{Seen, TorchScript};
pub use vit::Vit;

registry! {
    /// A network, by family.
    Model as Family, from Kind, {
        /// The notebook's.
        MnistCnn(MnistCnn),
        /// Linear layers.
        Mlp(Mlp),
        /// One that PyTorch exported.
        Exported(Exported),
        /// Layers in a row.
        Sequential(Sequential),
        /// A single linear layer.
        Linear(LinearModel),
        /// A residual network.
        Resnet(Resnet),
        /// A Vision Transformer.
        Vit(Vit),
        /// A decoder-only transformer.
        Gpt(Gpt),
        /// A TorchScript module.
        Torchscript(TorchScript),
    }
}

/// The rules of a family of networks, known before one is built. A family that is a tree of modules
/// has no half in the runner: its shapes and tensors follow from the tree.
pub trait Family {
    /// Adds what is wrong with the inputs or targets of a set, whose field is `set`. The task is
    /// that of the job; None where its training set is not known.
    fn judge(&self, set: &Set<'_>, task: Option<&Task<'_>>, wrong: &mut Violations);

    /// Its modules, with so many outputs where the spec leaves them open; None for a family that is
    /// no tree, and is computed by a file of its own in the runner.
    fn modules(&self, _: Option<u64>) -> Option<Module> {
        None
    }

    /// The shape of its output for one example, as it is trained for this task. None where the set
    /// does not tell yet.
    fn gives(&self, task: &Task<'_>) -> Option<Vec<u64>> {
        let given = self.modules(task.outputs)?.gives(&task.flow()?);
        given.ok().map(|flow| flow.shape)
    }

    /// The loss that it calls for; None for that of the target.
    fn loss(&self) -> Option<Loss> {
        None
    }

    /// The loss that it computes itself; None for one that computes an output.
    fn own_loss(&self) -> Option<OwnLoss<'_>> {
        None
    }

    /// Adds what its batches make impossible on these sets.
    fn judge_batches(&self, batches: &Batches<'_>, wrong: &mut Violations) {
        let task = batches.task.as_ref();
        let flow = task.and_then(|task| Some((self.modules(task.outputs)?, task.flow()?)));
        if let Some((name, kind)) = flow.and_then(|(modules, input)| modules.needs_two(&input)) {
            batches.demand_two(&format!("{kind} {name:?}"), wrong);
        }
    }

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

    /// Its tensors, in the order of PyTorch's `state_dict`, for a task whose output it tells.
    fn weights(&self, task: &Task<'_>) -> Vec<Weight> {
        let modules = self.modules(task.outputs).zip(task.flow());
        modules.map(|(modules, input)| modules.weights(&input)).unwrap_or_default()
    }

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

/// The task that a network is built for.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// The training set.
    pub train: &'a Facts,
    /// As many outputs as its target calls for, by way of the loss; None where the set does not
    /// tell yet, or the network computes its loss.
    pub outputs: Option<u64>,
}

impl Task<'_> {
    /// The first input.
    fn flow(&self) -> Option<Flow> {
        self.train.inputs.first().map(Flow::of)
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

    /// Its format, as the spec names it.
    pub fn format(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }
}

/// The sizes of the batches of a job.
#[derive(Debug, Clone, Copy)]
pub struct Batches<'a> {
    /// Examples in a training step; None where nothing is trained, and a test set is gone over.
    pub training: Option<u32>,
    /// Slices in which it is computed; None for the whole at once.
    pub shards: Option<u32>,
    /// The task, with the training set; None where it is not known.
    pub task: Option<Task<'a>>,
    /// Examples at a time in validation, and those of the validation set.
    pub validation: Option<(u64, u64)>,
}

impl Batches<'_> {
    /// The size of the last batch of an epoch, where it is a smaller one, and the examples of the
    /// training set.
    fn last(&self) -> Option<(u64, u64)> {
        let examples = self.task.as_ref()?.train.examples;
        Some((Self::rest(examples, self.training?.into())?, examples))
    }

    /// Adds batches of one example, for a model that normalises over each batch at `line`.
    fn demand_two(&self, line: &str, wrong: &mut Violations) {
        const FIELD: &str = "training.batch_size";
        let Some(size) = self.training else { return };
        let what = format!("the model normalises over each batch, which needs 2 examples at least: {line}");
        let of_slices = self.of_slices();
        if self.slices(size.into()).contains(&1) {
            wrong.add(FIELD, format!("is {size}{of_slices}; {what}"));
        } else if let Some((rest, examples)) = self.last().filter(|(rest, _)| self.slices(*rest).contains(&1)) {
            let left = format!("leaves {rest} of {examples} examples for the last batch{of_slices}");
            wrong.add(FIELD, format!("is {size}, which {left}; {what}"));
        }
    }

    /// That batches are computed in slices, in words; empty where they are not.
    pub fn of_slices(&self) -> String {
        self.shards.map_or_else(String::new, |shards| format!(", in {shards} slices by training.shards"))
    }

    /// The sizes in which a batch of that many examples is computed.
    pub fn slices(&self, size: u64) -> Vec<u64> {
        let shards = u64::from(self.shards.unwrap_or(1));
        let mut sizes = vec![size / shards, size.div_ceil(shards)];
        sizes.dedup();
        sizes.retain(|size| *size > 0);
        sizes
    }

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
    /// Its initial values.
    pub initial: Initial,
}

/// The initial values of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    /// Drawn evenly between this bound and its negative.
    Uniform(f64),
    /// Drawn from a normal distribution of mean 0 with this deviation.
    Normal(f64),
    /// The same without the numbers beyond -2 and 2.
    TruncatedNormal(f64),
    /// All alike.
    Constant(f64),
    /// Those of a file.
    Given,
}

impl Weight {
    /// A parameter of 32-bit floats.
    pub fn learned(name: impl Into<String>, shape: &[i64], initial: Initial) -> Self {
        let (dtype, role) = (tensor_file::Dtype::F32, Role::Learned);
        Self { name: name.into(), dtype, shape: shape.to_vec(), role, same_as: None, initial }
    }

    /// A buffer that begins with a number.
    pub fn kept(name: impl Into<String>, dtype: tensor_file::Dtype, shape: &[i64], value: f64) -> Self {
        Self { dtype, role: Role::Kept, ..Self::learned(name, shape, Initial::Constant(value)) }
    }

    /// The weight and the bias of a layer, as torch.nn.Linear and torch.nn.Conv2d begin: uniform
    /// within 1/sqrt(fan_in), which is the product of all sizes but the first.
    pub fn layer(name: &str, weight: &[i64]) -> [Self; 2] {
        let fan_in: f64 = weight.iter().skip(1).map(|&size| size as f64).product();
        let made =
            |part: &str, shape: &[i64]| Self::learned(part, shape, Initial::Uniform(1.0 / fan_in.sqrt())).within(name);
        [made("weight", weight), made("bias", &weight[..1])]
    }

    /// The same tensor within a module of that name, which may be empty.
    pub fn within(self, module: &str) -> Self {
        let name = if module.is_empty() { self.name } else { format!("{module}.{}", self.name) };
        Self { name, ..self }
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
        match self {
            Self::Exported(exported) => exported.summary = None,
            Self::Torchscript(script) => script.seen = None,
            _ => {}
        }
    }
}

/// Whether a set has one input, as the family of that name takes; adds it where not.
fn demand_one_input(set: &Set<'_>, name: &str, wrong: &mut Violations) -> bool {
    let inputs = &set.facts.inputs;
    if inputs.len() != 1 {
        let names: Vec<_> = inputs.iter().map(|input| input.name.as_str()).collect();
        let (names, remedy) = (names.join(", "), remedy::of_inputs(set));
        wrong.add(&set.path, format!("has the inputs {names}; {name} takes one{remedy}"));
    }
    inputs.len() == 1
}

/// Whether the inputs of a set are numbers, as the family of that name takes them; adds those that
/// are not.
fn demand_numbers(set: &Set<'_>, name: &str, wrong: &mut Violations) -> bool {
    let mut integers = set.facts.inputs.iter().filter(|input| input.dtype == Dtype::I64).peekable();
    let are_numbers = integers.peek().is_none();
    for input in integers {
        let found = format!("has {:?} as {}", input.name, input.dtype.name());
        let remedy = remedy::of_integers(set, input);
        wrong.add(set.file(input), format!("{found}; {name} takes 32-bit floats: {remedy}"));
    }
    are_numbers
}

/// Adds what keeps a tree of modules from taking the input of a set. `field` is that of the layer
/// of a name in the tree and a kind; None where no field of the spec has it, so that the set is to
/// blame.
fn judge_modules(
    modules: &Module,
    set: &Set<'_>,
    field: impl Fn(&str, &str) -> Option<String>,
    wrong: &mut Violations,
) {
    let Some(input) = set.facts.inputs.first() else { return };
    let Err(misfit) = modules.gives(&Flow::of(input)) else { return };
    let Misfit { module, layer, gets, takes: Some(takes) } = *misfit else { return };
    match field(&module, layer) {
        Some(field) => wrong.add(field, format!("gets {gets} for an example; it takes {takes}")),
        None => {
            let found = format!("has {:?} as {:?} of {}", input.name, input.shape, input.dtype.name());
            wrong.add(set.file(input), format!("{found}; the {layer} {module:?} gets {gets}, and takes {takes}"));
        }
    }
}

/// The outputs of a network: those of the spec, or else those that the target calls for.
fn outputs_of(of_spec: Option<u32>, of_target: Option<u64>) -> Option<u32> {
    of_spec.or_else(|| Some(u32::try_from(of_target?).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::super::layer::Layer;
    use super::*;
    use crate::proto::json;

    /// Every family but one that is read from files, and every layer.
    const MODELS: &[&str] = &[
        r#"{"mnist_cnn": {}}"#,
        r#"{"mlp": {"hidden": [3], "activation": "ACTIVATION_TANH"}}"#,
        r#"{"linear": {"outputs": 2}}"#,
        r#"{"resnet": {"depth": 34, "stem": "STEM_SMALL"}}"#,
        r#"{"vit": {"patch": 4, "layers": 1, "heads": 2, "width": 6}}"#,
        r#"{"gpt": {"layers": 1, "heads": 2, "width": 6, "context": 9}}"#,
        r#"{"sequential": {"layers": [
            {"conv1d": {"outChannels": 2, "kernelSize": 3}}, {"conv2d": {"outChannels": 2, "kernelSize": 3}},
            {"batchNorm1d": {"eps": 0.1}}, {"batchNorm2d": {"affine": false}}, {"layerNorm": {}},
            {"groupNorm": {"numGroups": 2}}, {"embedding": {"numEmbeddings": 3, "embeddingDim": 2}}, {"relu": {}},
            {"leakyRelu": {}}, {"elu": {}}, {"gelu": {"approximate": "tanh"}}, {"silu": {}}, {"tanh": {}},
            {"sigmoid": {}}, {"softmax": {}}, {"logSoftmax": {"dim": -1}}, {"maxPool1d": {"kernelSize": 2}},
            {"maxPool2d": {"kernelSize": 2}}, {"avgPool2d": {"kernelSize": 2}}, {"adaptiveAvgPool2d": {}},
            {"dropout": {}}, {"dropout2d": {"p": 0}}, {"flatten": {"startDim": 2}},
            {"transformerEncoderLayer": {"nhead": 2}}, {"linear": {}}
        ]}}"#,
        r#"{"torchscript": {"path": "net.pt", "training_step": true}}"#,
    ];

    fn read(text: &str) -> Model {
        let message: v1::Model = json::from_str(text).unwrap();
        let mut wrong = Violations::default();
        Model::read(Some(&message), &mut wrong).unwrap_or_else(|| panic!("{text}: {wrong}"))
    }

    #[test]
    fn every_network_is_read_back_the_same_with_its_defaults_filled_in() {
        let models: Vec<_> = MODELS.iter().map(|text| read(text)).collect();
        let left: Vec<_> = Model::NAMES.iter().filter(|name| models.iter().all(|had| had.name() != **name)).collect();
        assert_eq!(left, [&"exported"]);
        let layers = models.iter().filter_map(|model| match model {
            Model::Sequential(sequential) => Some(&sequential.layers),
            _ => None,
        });
        let layers: Vec<_> = layers.flatten().map(Layer::name).collect();
        assert!(Layer::NAMES.iter().all(|name| layers.contains(name)), "{layers:?}");
        for model in &models {
            let mut wrong = Violations::default();
            let message = model.to_proto();
            assert_eq!(Model::read(Some(&message), &mut wrong).as_ref(), Some(model));
            assert_eq!(read(&json::to_string(&message, false).unwrap()), *model);
        }
    }

    /// The rules of a network have to hold for any numbers: they are asked before it is known
    /// whether these fit the data.
    #[test]
    fn the_largest_numbers_are_judged_without_an_overflow() {
        let most = u32::MAX;
        let text = |model: String| read(&model);
        let window =
            format!(r#"{{"out_channels": {most}, "kernel_size": {most}, "padding": {most}, "dilation": {most}}}"#);
        let models = [
            text(format!(
                r#"{{"vit": {{"patch": {most}, "layers": 1, "heads": 1, "width": {most}, "mlp_width": {most}}}}}"#
            )),
            text(format!(r#"{{"gpt": {{"layers": 1, "heads": 1, "width": {most}, "vocabulary": {most}}}}}"#)),
            text(format!(r#"{{"mlp": {{"hidden": [{most}, {most}]}}}}"#)),
            text(format!(
                r#"{{"sequential": {{"layers": [{{"conv2d": {window}}}, {{"flatten": {{}}}}, {{"linear": {{}}}}]}}}}"#
            )),
            text(r#"{"sequential": {"layers": [{"transformer_encoder_layer": {"nhead": 1}}, {"linear": {}}]}}"#.into()),
        ];
        let field = |name: &str, dtype, shape: &[u64]| Field {
            name: name.into(),
            file: "path".into(),
            dtype,
            shape: shape.to_vec(),
            range: None,
        };
        for shape in [&[][..], &[u64::MAX], &[1, u64::MAX], &[u64::MAX, u64::MAX, u64::MAX]] {
            for dtype in [Dtype::F32, Dtype::I64] {
                let (inputs, target) = (vec![field("x", dtype, shape)], field("y", Dtype::F32, &[]));
                let train =
                    Facts { examples: 3, inputs, target, sizes: Vec::new(), is_resident: true, may_widen: false };
                let task = Task { train: &train, outputs: Some(u64::MAX) };
                let set = Set { path: "data.train.safetensors".into(), facts: &train };
                for model in &models {
                    let mut wrong = Violations::default();
                    model.judge(&set, Some(&task), &mut wrong);
                    model.judge_batches(
                        &Batches { training: Some(1), shards: None, task: Some(task), validation: None },
                        &mut wrong,
                    );
                    let _ = (model.gives(&task), model.weights(&task).iter().map(Weight::bytes).count());
                }
            }
        }
    }
}
