//! Archives of torch.export: their graphs, and the tensors of the one for training.
//!
//! Operators are not judged: only a runner knows those of its libtorch.

use std::fs::File;

use super::{judge, list};
use crate::cli::table::facts;
use crate::exported::facts::{Facts, Mode, Returns};
use crate::exported::program::{Graph, TensorInfo};
use crate::exported::refusal::Refusal;
use crate::exported::{Archive, Model, Summary};
use crate::proto::v1::{FileContents, FileKind, GraphContents, GraphInput, GraphMode};
use crate::tensor_file::{Positioned, Tensor, VALUES_BELOW_BYTES, bytes_to_judge};

/// The contents of an archive; None for a file of another kind.
pub(super) fn read(file: &File) -> Option<FileContents> {
    let size_bytes = file.metadata().ok()?.len();
    let source = Positioned(file);
    if !Archive::is_one(&source, size_bytes) {
        return None;
    }
    let mut contents = FileContents { kind: FileKind::Pt2.into(), ..FileContents::default() };
    let archive = match Archive::read(&source, size_bytes) {
        Ok(archive) => archive,
        Err(problem) => return Some(FileContents { refusals: vec![problem.to_string()], ..contents }),
    };
    for (name, model) in &archive.models {
        contents.graphs.push(graph(name, model, &mut contents.refusals));
    }
    let trained = archive.models.get("train").or_else(|| archive.models.values().next())?;
    let tensors: Vec<Tensor> = trained.weights.iter().map(|stored| stored.tensor.clone()).collect();
    let state = trained.state();
    contents.values_were_read = state.iter().all(|(tensors, _)| bytes_to_judge(tensors) < VALUES_BELOW_BYTES);
    if contents.values_were_read {
        state.iter().for_each(|(tensors, values)| judge(tensors, *values, &source, &mut contents));
    }
    list(&tensors, &mut contents);
    Some(contents)
}

fn graph(name: &str, model: &Model, refusals: &mut Vec<String>) -> GraphContents {
    let program = &model.program;
    let inputs = program.user_inputs().filter_map(|(name, value)| Some(input(name, program.tensor(value)?)));
    let mut contents = GraphContents {
        name: name.into(),
        torch_version: program.torch_version.clone(),
        schema_version: format!("{}.{}", program.schema.0, program.schema.1),
        inputs: inputs.collect(),
        operations: operations(&program.graph),
        ..GraphContents::default()
    };
    let told = |wrong: &[Refusal]| wrong.iter().map(|refusal| format!("has the graph {name}, and {refusal}")).collect();
    match Facts::of(program) {
        Ok(facts) => {
            contents.returns = returned(&facts.returns);
            contents.mode = mode(facts.mode).into();
            contents.least_batch_size = u64::try_from(facts.batch.least).unwrap_or(0);
            refusals.extend(wrong_mode(name, facts.mode));
            refusals.extend(Summary::of(model, &facts, None).err().map_or_else(Vec::new, |wrong| told(&wrong)));
        }
        Err(wrong) => refusals.extend::<Vec<_>>(told(&wrong)),
    }
    name_batch(&mut contents);
    contents
}

/// Calls the size of the batch so: PyTorch's own name of it, such as `s31`, says nothing.
fn name_batch(contents: &mut GraphContents) {
    let first = contents.inputs.first().and_then(|input| input.sizes.first());
    let is_name = |size: &&String| size.starts_with(|c: char| c.is_ascii_alphabetic()) && size.chars().all(is_in_name);
    let Some(symbol) = first.filter(is_name).cloned() else { return };
    let sizes = contents.inputs.iter_mut().flat_map(|input| &mut input.sizes);
    for text in sizes.chain([&mut contents.returns]) {
        *text = renamed(text, &symbol);
    }
}

fn is_in_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// A text with a name in it, as a whole word, replaced by `batch`.
fn renamed(text: &str, symbol: &str) -> String {
    let mut renamed = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_in_name) {
        let end = rest[start..].find(|c| !is_in_name(c)).map_or(rest.len(), |length| start + length);
        renamed += &rest[..start];
        renamed += if &rest[start..end] == symbol { "batch" } else { &rest[start..end] };
        rest = &rest[end..];
    }
    renamed + rest
}

/// A graph that is called by the name of the mode that it is not in.
fn wrong_mode(name: &str, mode: Mode) -> Option<String> {
    let found = match (name, mode) {
        ("train", Mode::Evaluation) => "evaluation",
        ("eval", Mode::Training) => "training",
        _ => return None,
    };
    Some(format!("has the graph {name}, and it was exported in {found} mode"))
}

fn input(name: &str, info: &TensorInfo) -> GraphInput {
    let dtype = info.dtype.torch_name().unwrap_or_else(|| info.dtype.name());
    GraphInput { name: name.into(), dtype: dtype.into(), sizes: info.sizes.iter().map(ToString::to_string).collect() }
}

fn operations(graph: &Graph) -> u64 {
    let inner = graph.nodes.iter().flat_map(|node| &node.arguments).filter_map(|(_, argument)| argument.graph());
    graph.nodes.len() as u64 + inner.map(operations).sum::<u64>()
}

fn returned(returns: &Returns) -> String {
    match returns {
        Returns::Output(info) => info.to_string(),
        Returns::Loss(metrics) if metrics.is_empty() => "its own loss".into(),
        Returns::Loss(metrics) => format!("its own loss, and the metrics {}", metrics.join(", ")),
        Returns::Other(what) => what.clone(),
    }
}

fn mode(mode: Mode) -> GraphMode {
    match mode {
        Mode::Training => GraphMode::Training,
        Mode::Evaluation => GraphMode::Evaluation,
        Mode::Either => GraphMode::Either,
    }
}

/// The graphs for people.
pub(super) fn describe(graphs: &[GraphContents]) -> String {
    let describe = |graph: &GraphContents| {
        let input = |input: &GraphInput| format!("{} {} [{}]", input.name, input.dtype, input.sizes.join(", "));
        let inputs: Vec<_> = graph.inputs.iter().map(input).collect();
        let mode = match graph.mode() {
            GraphMode::Unspecified => "",
            GraphMode::Training => "training",
            GraphMode::Evaluation => "evaluation",
            GraphMode::Either => "no layer differs between training and evaluation",
        };
        let told = facts(&[
            ("graph", graph.name.clone()),
            ("mode", mode.into()),
            ("takes", inputs.join(", ")),
            ("returns", graph.returns.clone()),
            ("operations", graph.operations.to_string()),
            ("written by", format!("PyTorch {}, schema {}", graph.torch_version, graph.schema_version)),
        ]);
        format!("\n{told}")
    };
    graphs.iter().map(describe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_the_batch_is_called_so_and_others_keep_their_names() {
        let input = |sizes: &[&str]| GraphInput {
            sizes: sizes.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        let mut contents = GraphContents {
            inputs: vec![input(&["s3", "s31"]), input(&["s3", "20"])],
            returns: "float32 [2*s3, s31]".into(),
            ..GraphContents::default()
        };
        name_batch(&mut contents);
        let sizes: Vec<_> = contents.inputs.iter().map(|input| input.sizes.join(", ")).collect();
        assert_eq!(
            (sizes.join("; ").as_str(), contents.returns.as_str()),
            ("batch, s31; batch, 20", "float32 [2*batch, s31]")
        );
        let mut fixed = GraphContents { inputs: vec![input(&["4", "20"])], ..GraphContents::default() };
        name_batch(&mut fixed);
        assert_eq!(fixed.inputs[0].sizes, ["4", "20"]);
    }
}
