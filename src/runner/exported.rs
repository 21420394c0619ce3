//! A model that was exported from Python: its tensors, and its graphs for training and evaluation,
//! which share them.
//!
//! Owns the state: each parameter and each buffer once, however many names it has. Parameters are
//! changed by an optimizer, buffers by the graph itself as it runs.

mod rehearsal;
mod state;

use tch::{Device, TchError, Tensor};
use torchd::exported::Model;
use torchd::exported::judge::Judged;
use torchd::exported::program::Input;
use torchd::exported::summary::{Held, Role};
use torchd::tensor_file::ReaderAt;

use self::state::Reader;
use crate::graph::{self, Graph, Value};
use crate::model::Mode;

/// A graph with the tensors that it gets besides the user's.
#[derive(Debug)]
struct Bound {
    graph: Graph,
    inputs: Vec<Source>,
}

/// The source of an input of a graph.
#[derive(Debug)]
enum Source {
    /// The state, or a constant of this graph.
    Kept(Tensor),
    /// The user's inputs, in their order.
    User,
    /// Nowhere: the graph has it in it.
    Fixed,
}

/// A tensor of the state.
#[derive(Debug)]
pub(crate) struct Named {
    /// Its name in the module; of several the first.
    pub(crate) name: String,
    /// Its use.
    pub(crate) role: Role,
    /// The tensor itself: a change of it is a change of the model.
    pub(crate) tensor: Tensor,
}

/// A model with its weights.
#[derive(Debug)]
pub(crate) struct Exported {
    train: Bound,
    eval: Option<Bound>,
    /// The tensors that an optimizer changes, each once.
    pub(crate) parameters: Vec<Named>,
    /// The tensors that the graphs change as they run, and parameters without a gradient, each
    /// once.
    pub(crate) buffers: Vec<Named>,
    /// Further names of tensors that `state_dict()` has: the other name first, then the one that
    /// they have above.
    pub(crate) ties: Vec<(String, String)>,
}

/// A program of an archive, and how it was judged.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    /// The file of the archive.
    pub(crate) source: &'a dyn ReaderAt,
    /// The program with its tensors.
    pub(crate) model: &'a Model,
    /// The judgement.
    pub(crate) judged: &'a Judged,
}

impl Exported {
    /// Reads the tensors, and finds the operators.
    ///
    /// # Errors
    /// If the archive cannot be read, or libtorch does not take what is in it.
    pub(crate) fn load(
        train: Part<'_>,
        eval: Option<Part<'_>>,
        tensors: &[Held],
        device: Device,
    ) -> Result<Self, TchError> {
        let mut reader = Reader::new(train.source, device);
        let (mut parameters, mut buffers, mut ties) = (Vec::new(), Vec::new(), Vec::new());
        for Held { name, role, same_as, .. } in tensors {
            if let Some(first) = same_as {
                ties.push((name.clone(), first.clone()));
                continue;
            }
            let lists = [&train.model.weights, &train.model.constants];
            let Some(stored) = lists.into_iter().find_map(|list| list.get(name)) else { continue };
            let (tensor, name, role) = (reader.read(stored)?, name.clone(), *role);
            match role {
                Role::Learned => parameters.push(Named { name, role, tensor: tensor.f_set_requires_grad(true)? }),
                Role::Kept | Role::Hidden => buffers.push(Named { name, role, tensor }),
            }
        }
        let graph = Graph::prepare(&train.judged.plan, device)?;
        let mut loaded = Self { train: Bound { graph, inputs: Vec::new() }, eval: None, parameters, buffers, ties };
        for input in &train.model.program.inputs {
            let source = loaded.source(input, train.model, &mut reader)?;
            loaded.train.inputs.push(source);
        }
        if let Some(eval) = eval {
            let mut reader = Reader::new(eval.source, device);
            let mut inputs = Vec::new();
            for input in &eval.model.program.inputs {
                inputs.push(loaded.source(input, eval.model, &mut reader)?);
            }
            loaded.eval = Some(Bound { graph: Graph::prepare(&eval.judged.plan, device)?, inputs });
        }
        Ok(loaded)
    }

    /// The source of an input of a graph.
    fn source(&self, input: &Input, model: &Model, reader: &mut Reader<'_>) -> Result<Source, TchError> {
        Ok(match (input, model.stored(input)) {
            (Input::User { .. }, _) => Source::User,
            (_, None) => Source::Fixed,
            (_, Some(stored)) => {
                let is_state = !matches!(input, Input::Constant { .. });
                match self.tensor(&stored.tensor.name).filter(|_| is_state) {
                    Some(shared) => Source::Kept(shared.shallow_clone()),
                    // A constant, or a buffer that only evaluation has.
                    None => Source::Kept(reader.read(stored)?),
                }
            }
        })
    }

    /// Everything that `state_dict()` has, each tensor once.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Named> {
        self.parameters.iter().chain(&self.buffers).filter(|named| named.role != Role::Hidden)
    }

    /// The buffers that it has not.
    pub(crate) fn hidden(&self) -> impl Iterator<Item = &Named> {
        self.buffers.iter().filter(|named| named.role == Role::Hidden)
    }

    /// A tensor of the state by any of its names.
    pub(crate) fn tensor(&self, name: &str) -> Option<&Tensor> {
        let name = self.ties.iter().find(|(other, _)| other == name).map_or(name, |(_, first)| first);
        self.parameters.iter().chain(&self.buffers).find(|named| named.name == name).map(|named| &named.tensor)
    }

    /// Runs a graph on these inputs, one for each argument of the module. Without a graph
    /// for evaluation there is an error.
    pub(crate) fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Vec<Value>, TchError> {
        let bound = match (mode, &self.eval) {
            (Mode::Train, _) => &self.train,
            (Mode::Evaluate, Some(eval)) => eval,
            (Mode::Evaluate, None) => return Err(TchError::Torch("it has no graph for evaluation".into())),
        };
        let wanted = bound.inputs.iter().filter(|source| matches!(source, Source::User)).count();
        if wanted > inputs.len() {
            return Err(TchError::Torch(format!("{} inputs are not as many as it takes: {wanted}", inputs.len())));
        }
        let mut users = inputs.iter();
        bound.graph.run(bound.inputs.iter().map(|source| match source {
            Source::Kept(tensor) => graph::Input::Tensor(tensor),
            Source::Fixed => graph::Input::Nothing,
            Source::User => users.next().map_or(graph::Input::Nothing, |tensor| graph::Input::Tensor(tensor)),
        }))
    }
}

#[cfg(test)]
mod tests;
