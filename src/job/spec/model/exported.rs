//! A model that PyTorch exported: one archive with its graphs, or a file a graph.
//!
//! A spec names the files. The rest follows from a summary of them, which is absent until they have
//! been read: nothing but its files can be judged then.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Batches, Family, Initial, OwnLoss, Set, Task, Weight};
use crate::dataset::{Dtype, Facts, Field};
use crate::exported::Summary;
use crate::exported::extent::{Extent, Known};
use crate::exported::facts::Batch;
use crate::exported::summary::{Returned, Taken};
use crate::job::Violations;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;
use crate::tensor_file;

/// Its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// The archive of the graph for training, or of both.
    pub path: String,
    /// That of the graph for evaluation, where it is another one.
    pub eval_path: Option<String>,
    /// The contents of the files; None until they have been read.
    pub summary: Option<Arc<Summary>>,
}

impl Section for Exported {
    type Message = v1::ExportedModel;
    const NAME: &str = "exported";

    fn read(message: &v1::ExportedModel, mut fields: Fields<'_>) -> Option<Self> {
        let v1::ExportedModel { path, eval_path } = message;
        if path.is_empty() {
            fields.wrong("path", "is missing; name the .pt2 archive of the model");
        }
        let eval_path = Some(eval_path.clone()).filter(|path| !path.is_empty());
        fields.done(Self { path: path.clone(), eval_path, summary: None })
    }

    fn to_proto(&self) -> v1::ExportedModel {
        v1::ExportedModel { path: self.path.clone(), eval_path: self.eval_path.clone().unwrap_or_default() }
    }
}

/// The field that is blamed for the contents of the archive.
const PATH: &str = "model.exported.path";

impl Family for Exported {
    fn judge(&self, set: &Set<'_>, _: Option<&Task<'_>>, wrong: &mut Violations) {
        let Some(summary) = &self.summary else { return };
        let fields = match arrange(summary, set.facts) {
            Ok(fields) => fields,
            Err(what) => return wrong.add(&set.path, what),
        };
        let mut known = Known::new();
        for (taken, field) in summary.inputs.iter().zip(fields) {
            judge_input(taken, field, &mut known, set, wrong);
        }
        let Returned::Output { sizes, .. } = &summary.returns else { return };
        if let Some(size) = sizes.iter().find(|size| size.value(&known).is_none()) {
            wrong.add(PATH, format!("gives an output of the size {size}, which cannot be told from the data"));
        }
    }

    fn gives(&self, task: &Task<'_>) -> Option<Vec<u64>> {
        let summary = self.summary.as_ref()?;
        let Returned::Output { sizes, .. } = &summary.returns else { return Some(Vec::new()) };
        let fields = arrange(summary, task.train).ok()?;
        let mut known = Known::new();
        for (taken, field) in summary.inputs.iter().zip(fields) {
            for (extent, size) in taken.sizes.iter().zip(&field.shape) {
                if let Extent::Open { symbol, .. } = extent {
                    known.insert(symbol, *size);
                }
            }
        }
        sizes.iter().map(|size| size.value(&known)).collect()
    }

    fn own_loss(&self) -> Option<OwnLoss<'_>> {
        let summary = self.summary.as_ref().filter(|summary| summary.brings_loss())?;
        Some(OwnLoss { metrics: summary.metrics() })
    }

    fn judge_batches(&self, batches: &Batches<'_>, wrong: &mut Violations) {
        let Some(summary) = &self.summary else { return };
        let of_rest = |rest: u64, examples: u64| format!("leaves {rest} of {examples} examples for the last batch");
        if let Some(size) = batches.training {
            let field = "training.batch_size";
            let of_slice = |slice: u64| match batches.shards {
                Some(shards) => format!(", and training.shards = {shards} makes a slice of {slice} of it"),
                None => String::new(),
            };
            for slice in batches.slices(size.into()) {
                judge_batch(summary.batch, slice, || format!("is {size}{}", of_slice(slice)), field, wrong);
            }
            if let Some((rest, examples)) = batches.last() {
                for slice in batches.slices(rest) {
                    let found = || format!("is {size}, which {}{}", of_rest(rest, examples), of_slice(slice));
                    judge_batch(summary.batch, slice, found, field, wrong);
                }
            }
        }
        if let Some(line) = &summary.needs_two {
            batches.demand_two(line, wrong);
        }
        let (set, field) = match batches.training {
            Some(_) => ("data.validation", "training.validation_batch_size"),
            None => ("data.test", "training.batch_size"),
        };
        match (batches.validation, summary.eval_batch) {
            (Some(_), None) => {
                let what = "is set, and the model has no graph for evaluation; export it with both graphs, as \
                            torchd_export.export does, or name one as model.exported.eval_path, or leave this out";
                wrong.add(set, what);
            }
            (Some((size, examples)), Some(batch)) => {
                for slice in batches.slices(size) {
                    judge_batch(batch, slice, || format!("is {size}{}", batches.of_slices()), field, wrong);
                }
                let rest = Batches::rest(examples, size);
                for (rest, slice) in
                    rest.iter().flat_map(|rest| batches.slices(*rest).into_iter().map(|slice| (*rest, slice)))
                {
                    let found = || format!("is {size}{}, which {}", batches.of_slices(), of_rest(rest, examples));
                    judge_batch(batch, slice, found, field, wrong);
                }
            }
            (None, _) => {}
        }
    }

    fn places(&self, facts: &Facts) -> Result<Vec<Option<usize>>, String> {
        let Some(summary) = &self.summary else { return Err("is for a model whose files were not read".into()) };
        places(summary, facts)
    }

    fn files(&self) -> Vec<(&'static str, &str)> {
        let eval = self.eval_path.as_deref().map(|path| ("eval_path", path));
        [("path", self.path.as_str())].into_iter().chain(eval).collect()
    }

    fn weights(&self, _: &Task<'_>) -> Vec<Weight> {
        let held = self.summary.iter().flat_map(|summary| &summary.tensors);
        let weight = |held: &crate::exported::summary::Held| Weight {
            name: held.name.clone(),
            dtype: held.dtype,
            shape: held.shape.iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX)).collect(),
            role: held.role,
            same_as: held.same_as.clone(),
            initial: Initial::Given,
        };
        held.map(weight).collect()
    }
}

/// By their names where all are among the data, whatever else is there; otherwise in their order,
/// as long as they are as many.
fn places(summary: &Summary, facts: &Facts) -> Result<Vec<Option<usize>>, String> {
    // A model with its own loss takes the target as an input.
    let target = summary.brings_loss().then_some(None);
    let inputs: Vec<_> = (0..facts.inputs.len()).map(Some).chain(target).collect();
    let name = |place: &Option<usize>| place.map_or(&facts.target, |place| &facts.inputs[place]).name.as_str();
    let by_name: BTreeMap<_, _> = inputs.iter().map(|place| (name(place), *place)).collect();
    let found: Option<Vec<_>> = summary.inputs.iter().map(|taken| by_name.get(taken.name.as_str()).copied()).collect();
    if let Some(found) = found.filter(|_| by_name.len() == inputs.len()) {
        return Ok(found);
    }
    if summary.inputs.len() != inputs.len() {
        let (has, takes): (Vec<_>, Vec<_>) =
            (inputs.iter().map(name).collect(), summary.inputs.iter().map(|taken| taken.name.as_str()).collect());
        let way = if has.len() > takes.len() {
            "; inputs = [...] beside the path of the data names the arrays for them, in that order"
        } else {
            ""
        };
        return Err(format!("has {}; the model takes {}{way}", has.join(", "), takes.join(", ")));
    }
    Ok(inputs)
}

/// The fields of a set, in the order of the module's arguments.
fn arrange<'a>(summary: &Summary, facts: &'a Facts) -> Result<Vec<&'a Field>, String> {
    let places = places(summary, facts)?;
    Ok(places.into_iter().map(|place| place.map_or(&facts.target, |place| &facts.inputs[place])).collect())
}

fn judge_input<'a>(taken: &'a Taken, field: &Field, known: &mut Known<'a>, set: &Set<'_>, wrong: &mut Violations) {
    let gives = match field.dtype {
        Dtype::Pixel | Dtype::F32 => tensor_file::Dtype::F32,
        Dtype::I64 => tensor_file::Dtype::I64,
    };
    let may_widen = set.facts.may_widen;
    let mut fits = taken.sizes.len() == field.shape.len() && taken.dtype == gives;
    for (extent, &size) in taken.sizes.iter().zip(&field.shape) {
        fits &= match extent {
            // The runner, which reads all, knows how wide it is.
            Extent::Fixed(right) if may_widen => size.cmp(right).is_le(),
            Extent::Open { .. } | Extent::Computed(_) if may_widen => true,
            Extent::Fixed(right) => *right == size,
            Extent::Open { symbol, least, most } => {
                let before = *known.entry(symbol).or_insert(size);
                before == size && size >= *least && most.is_none_or(|most| size <= most)
            }
            Extent::Computed(_) => extent.value(known).is_none_or(|right| right == size),
        };
    }
    if !fits {
        let sizes: Vec<_> = taken.sizes.iter().map(extent).collect();
        let dtype = taken.dtype.torch_name().unwrap_or_else(|| taken.dtype.name());
        let found = format!("has {:?} as {:?} of {}", field.name, field.shape, field.dtype.name());
        let right = format!("the model takes {} as [{}] of {dtype}", taken.name, sizes.join(", "));
        wrong.add(set.file(field), format!("{found}; {right}"));
    }
}

/// A size in words.
fn extent(extent: &Extent) -> String {
    match extent {
        Extent::Open { symbol, least, most: Some(most) } => format!("{symbol} from {least} to {most}"),
        Extent::Open { symbol, least, most: None } if *least > 1 => format!("{symbol} from {least}"),
        other => other.to_string(),
    }
}

fn judge_batch(takes: Batch, size: u64, found: impl Fn() -> String, field: &str, wrong: &mut Violations) {
    let Batch { least, most } = takes;
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    if size < least {
        let way = "export it with torch.export.Dim(\"batch\", min=1), or choose another size";
        wrong.add(field, format!("{}; the model takes batches from {least} on: {way}", found()));
    } else if let Some(most) = most.filter(|most| size > *most) {
        wrong.add(field, format!("{}; the model takes batches up to {most}", found()));
    }
}
