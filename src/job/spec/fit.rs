//! Whether a spec fits its data, and what the data fill in.

use super::data::{Augment, Normalize};
use super::loss::{Answer, Misfit};
use super::model::{Batches, Set, Task};
use super::module::Module;
use super::{Data, Loss, Metric, Mode, Model, ModelWork, Optimizer, Predictions, Recipe, Schedule, Weight, remedy};
use crate::dataset::{Facts, Field};
use crate::job::Violations;
use crate::job::length::{Length, Place};
use crate::job::retention::{Checkpoints, Quantity};

/// The facts of the data files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFacts {
    /// The training set.
    pub train: Facts,
    /// The validation set.
    pub validation: Option<Facts>,
}

/// Numbers of an example that a table of answers has at most.
const MOST_COLUMNS: u64 = 4096;
/// Validation batches are no larger than this by default.
const DEFAULT_VALIDATION_BATCH: u64 = 1000;

/// The parts of a spec that depend on the data; None where one is not right by itself.
#[derive(Debug, Clone)]
pub struct Demands {
    /// The purpose of the job.
    pub mode: Mode,
    /// The network.
    pub model: Option<Model>,
    /// The loss, if the client said; None where what was said is wrong, so that nothing is judged
    /// by another one.
    pub loss: Option<Option<Loss>>,
    /// The metrics, if the client said.
    pub metrics: Vec<Metric>,
    /// How gradients become new weights.
    pub optimizer: Option<Optimizer>,
    /// How the learning rate changes.
    pub schedule: Option<Schedule>,
    /// How pixels become inputs, if the client said.
    pub normalize: Option<Normalize>,
    /// Random changes of the training examples.
    pub augment: Vec<Augment>,
    /// Which checkpoints are kept.
    pub checkpoints: Checkpoints,
    /// How long to train.
    pub length: Option<Length>,
    /// Examples a step.
    pub batch_size: u32,
    /// The way of training besides.
    pub recipe: Recipe,
    /// Examples at a time in validation, if the client said.
    pub validation_batch_size: Option<u32>,
}

/// A spec that fits its data.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// The work with all that only the data can tell.
    pub work: ModelWork,
    /// None where the data were not read far enough to tell.
    pub network: Option<Network>,
}

/// A network for certain data.
#[derive(Debug, Clone)]
pub struct Network {
    /// The shape of its output for an example.
    pub output: Vec<u64>,
    /// Its tensors.
    pub weights: Vec<Weight>,
    /// How the output answers the target; None for a network that computes its loss.
    pub answer: Option<Answer>,
    /// Its modules, if its family is a tree of these.
    pub modules: Option<Module>,
}

/// The numbers that a job is about on a certain training set.
#[derive(Debug, Clone)]
pub struct Aim {
    /// The loss; None where the model computes it.
    pub loss: Option<Loss>,
    /// The metrics besides it.
    pub metrics: Vec<Metric>,
    /// The shape of the model's output for an example; None where the data do not tell yet.
    pub output: Option<Vec<u64>>,
}

impl Aim {
    /// How the output answers a target, by way of the loss.
    fn answer(&self, target: &Field, model: &str) -> Option<Result<Answer, Misfit>> {
        Some(self.loss.as_ref()?.fits(self.output.as_ref()?, target, model))
    }
}

impl Demands {
    /// Adds what keeps a model that was trained on a set from being applied to another one.
    pub fn judge_use(&self, trained_on: &Set<'_>, test: &Set<'_>, wrong: &mut Violations) {
        let before = wrong.0.len();
        let Some(model) = &self.model else { return };
        model.judge(test, self.task(trained_on.facts).as_ref(), wrong);
        judge_alike(trained_on, test, wrong);
        if let Some(normalize) = &self.normalize {
            normalize.judge(test.facts, wrong);
        }
        // A network that cannot take the set has no output to be judged.
        if wrong.0.len() == before && test.facts.has_target() {
            self.judge_targets(Some(trained_on), test, wrong);
            self.judge_counts(trained_on.facts, test.facts, wrong);
        }
        self.judge_own_loss(model, wrong);
        let validation = Some((u64::from(self.batch_size), test.facts.examples));
        model.judge_batches(&Batches { training: None, shards: None, task: None, validation }, wrong);
        if let Mode::Predict(format) = self.mode {
            self.judge_predictions(model, format, trained_on.facts, wrong);
        }
    }

    fn judge_predictions(&self, model: &Model, format: Predictions, trained_on: &Facts, wrong: &mut Violations) {
        if model.own_loss().is_some() {
            let what = "returns its own loss, and mode = predict needs outputs; use a module that returns these";
            return wrong.add(format!("model.{}", model.name()), what);
        }
        let output = self.aim(trained_on).and_then(|aim| aim.output).unwrap_or_default();
        let numbers = output.iter().fold(1, |product: u64, &size| product.saturating_mul(size));
        let table = match format {
            Predictions::Csv => "csv",
            Predictions::Parquet => "parquet",
            Predictions::Safetensors => return,
        };
        if numbers > MOST_COLUMNS {
            let found = format!("is {table}, and the model gives {numbers} numbers for an example");
            wrong.add("output.predictions", format!("{found}; {table} takes {MOST_COLUMNS}, safetensors any"));
        }
    }

    /// Adds what does not fit the sets that are known, each with its field and format.
    pub fn judge(&self, train: Option<&Set<'_>>, validation: Option<&Set<'_>>, wrong: &mut Violations) {
        let task = train.and_then(|train| self.task(train.facts));
        let shown = [train, validation];
        for set in shown.into_iter().flatten() {
            let mut found = Violations::default();
            if let Some(model) = &self.model {
                model.judge(set, task.as_ref(), &mut found);
            }
            // A network that cannot take the set has no output to be judged.
            if found.0.is_empty() {
                self.judge_targets(train, set, &mut found);
            }
            // A metric that does not fit one set does not fit the other: that is one mistake.
            found.0.retain(|one| !wrong.0.contains(one));
            wrong.0.append(&mut found.0);
        }
        if let (Some(normalize), Some(train)) = (&self.normalize, train) {
            normalize.judge(train.facts, wrong);
        }
        if let Some(train) = train {
            Augment::judge_all(&self.augment, train.facts, self.answer(train.facts), wrong);
        }
        if let (Some(train), Some(validation)) = (train, validation) {
            judge_alike(train, validation, wrong);
            self.judge_counts(train.facts, validation.facts, wrong);
        }
        if let Some(train) = train {
            self.judge_quantities(train.facts, wrong);
            self.judge_length(train.facts, wrong);
        }
        let network = train.and_then(|train| self.network(train.facts));
        if let (Some(model), Some(network)) = (&self.model, &network)
            && !network.weights.iter().any(Weight::is_learned)
        {
            wrong.add(format!("model.{}", model.name()), "has no parameters, so that nothing is trained");
        }
        if let (Some(optimizer), Some(network)) = (&self.optimizer, network) {
            optimizer.groups.judge(&network.weights, wrong);
        }
        if let Some(model) = &self.model {
            self.judge_own_loss(model, wrong);
            let validation = validation.map(|set| (self.validation_size(set.facts), set.facts.examples));
            let size = self.recipe.part(self.batch_size);
            let batches = Batches { training: Some(size), shards: self.recipe.shards, task, validation };
            model.judge_batches(&batches, wrong);
        }
    }

    /// The numbers that the job is about; None where the model or the loss is not known.
    pub fn aim(&self, train: &Facts) -> Option<Aim> {
        let output = self.model.as_ref()?.gives(&self.task(train)?);
        self.loss.as_ref()?;
        let Some(loss) = self.loss_on(train) else {
            return Some(Aim { loss: None, metrics: Vec::new(), output });
        };
        let called_for = || loss.metric().into_iter().collect();
        let metrics = if self.metrics.is_empty() { called_for() } else { self.metrics.clone() };
        Some(Aim { loss: Some(loss), metrics, output })
    }

    /// The loss on this training set; None where the model or the loss is not known, or the model
    /// computes it.
    fn loss_on(&self, train: &Facts) -> Option<Loss> {
        let model = self.model.as_ref().filter(|model| model.own_loss().is_none())?;
        let named = self.loss.clone()?;
        Some(named.or_else(|| model.loss()).unwrap_or_else(|| Loss::of(&train.target)))
    }

    /// The task of the network on this training set; None where the model is not known.
    fn task<'a>(&self, train: &'a Facts) -> Option<Task<'a>> {
        self.model.as_ref()?;
        let outputs = self.loss_on(train).and_then(|loss| loss.outputs(&train.target));
        Some(Task { train, outputs })
    }

    /// The network on this training set; None where it is not known.
    pub fn network(&self, train: &Facts) -> Option<Network> {
        let (model, aim, task) = (self.model.as_ref()?, self.aim(train)?, self.task(train)?);
        let answer = aim.answer(&train.target, model.name()).and_then(Result::ok);
        Some(Network {
            output: aim.output?,
            weights: model.weights(&task),
            answer,
            modules: model.modules(task.outputs),
        })
    }

    /// How the output of the network answers the target: None in it for a model that computes its
    /// loss; None where that is not known.
    fn answer(&self, train: &Facts) -> Option<Option<Answer>> {
        let model = self.model.as_ref()?;
        if model.own_loss().is_some() {
            return Some(None);
        }
        self.aim(train)?.answer(&train.target, model.name())?.ok().map(Some)
    }

    /// The names of the metrics that the model gives.
    pub fn own_metrics(&self) -> &[String] {
        self.model.as_ref().and_then(|model| model.own_loss()).map_or(&[], |own| own.metrics)
    }

    /// Examples at a time in validation.
    fn validation_size(&self, validation: &Facts) -> u64 {
        // The set may have become smaller since the spec was completed.
        self.validation_batch_size.map_or(DEFAULT_VALIDATION_BATCH, u64::from).min(validation.examples)
    }

    /// A model that computes its own loss leaves no choice of one.
    fn judge_own_loss(&self, model: &Model, wrong: &mut Violations) {
        if model.own_loss().is_none() {
            return;
        }
        if let Some(Some(loss)) = &self.loss {
            let what = "is set, and the model returns its own loss; leave this out, or export a module that returns \
                        its output";
            wrong.add(format!("loss.{}", loss.name()), what);
        }
        if !self.metrics.is_empty() {
            let what = "are set, and the model returns its own loss; it can return metrics besides, as (loss, {name: \
                        value})";
            wrong.add("metrics", what);
        }
    }

    fn judge_targets(&self, train: Option<&Set<'_>>, set: &Set<'_>, wrong: &mut Violations) {
        let (Some(model), Some(train)) = (&self.model, train) else { return };
        let target = &set.facts.target;
        let Some(aim) = self.aim(train.facts) else { return };
        let Some(loss) = &aim.loss else { return };
        // The output may not be known for this reason.
        let answer = match loss.takes(target) {
            Ok(()) => aim.answer(target, model.name()),
            Err(misfit) => Some(Err(misfit)),
        };
        let Some(answer) = answer else { return };
        let answer = match answer {
            Ok(answer) => answer,
            Err(misfit) => {
                let (field, what) = remedy::of_misfit(misfit, train, set, loss, model);
                return wrong.add(field, what);
            }
        };
        for (place, metric) in aim.metrics.iter().enumerate() {
            if let Err(what) = metric.fits(answer) {
                wrong.add(format!("metrics[{place}]"), format!("is {:?}, which {what}", metric.name()));
            }
        }
    }

    /// Metrics that keep something of each target of a validation set have a limit.
    fn judge_counts(&self, train: &Facts, validation: &Facts, wrong: &mut Violations) {
        let metrics = self.aim(train).map(|aim| aim.metrics).unwrap_or_default();
        let targets = validation.targets();
        for (place, metric) in metrics.iter().enumerate() {
            if let Some(most) = metric.most_targets().filter(|most| targets > *most) {
                let found = format!("takes {most} targets at most, and the validation set has {targets}");
                wrong.add(format!("metrics[{place}]"), format!("is {:?}, which {found}", metric.name()));
            }
        }
    }

    /// A watched quantity is the loss, or a metric of the job or of its model.
    fn judge_quantities(&self, train: &Facts, wrong: &mut Violations) {
        let Some(Aim { metrics, .. }) = self.aim(train) else { return };
        let best = self.checkpoints.keep_best.and_then(|best| best.by);
        let stopping = self.recipe.early_stopping.and_then(|stopping| stopping.by);
        let plateau = self.schedule.as_ref().and_then(|schedule| schedule.plateau()).map(|plateau| plateau.metric);
        for (field, quantity) in [
            ("checkpoint.keep_best.metric", best),
            ("training.early_stopping.metric", stopping),
            ("schedule.plateau.metric", plateau),
        ] {
            let Some(Quantity::Metric(metric)) = quantity else { continue };
            if !metrics.contains(&metric) && self.own_metrics().iter().all(|own| *own != metric.name()) {
                let right =
                    [Quantity::Loss].into_iter().chain(metrics.iter().filter_map(|one| Quantity::of_metric(*one)));
                let right: Vec<_> = right.map(Quantity::tag).collect();
                let found = Quantity::Metric(metric).tag();
                wrong
                    .add(field, format!("is {found:?}, which the job does not tell; it can be {}", right.join(" or ")));
            }
        }
    }

    fn judge_length(&self, train: &Facts, wrong: &mut Violations) {
        let (found, examples) = (self.batch_size, train.examples);
        if u64::from(found) > examples {
            wrong.add("training.batch_size", format!("is {found}, and the training set has {examples} examples"));
        }
        let Some(length) = self.length else { return };
        match (length.plan(found, examples, Place::default()), &self.schedule) {
            (None, _) => wrong.add("training", "makes more steps than can be counted"),
            (Some(plan), Some(schedule)) => schedule.judge(plan.total_steps, wrong),
            (Some(_), None) => {}
        }
    }
}

/// A network is judged by examples of the shape that it has learned from.
fn judge_alike(train: &Set<'_>, validation: &Set<'_>, wrong: &mut Violations) {
    let (had, has) = (&train.facts.inputs, &validation.facts.inputs);
    let [names, others] = [had, has].map(|fields| fields.iter().map(|field| &field.name).collect::<Vec<_>>());
    if names.len() != others.len() {
        let remedy = remedy::of_inputs(validation);
        let what = format!("has the inputs {others:?}, and {} has {names:?}{remedy}", train.path);
        return wrong.add(&validation.path, what);
    }
    let targets = validation.facts.has_target().then_some((&train.facts.target, &validation.facts.target));
    let pairs = had.iter().zip(has).chain(targets);
    for (one, other) in pairs {
        if (one.dtype, &one.shape) != (other.dtype, &other.shape) {
            let found = format!("has {:?} as {:?} of {}", other.name, other.shape, other.dtype.name());
            let wanted = format!("{} has {:?} as {:?} of {}", train.path, one.name, one.shape, one.dtype.name());
            wrong.add(validation.file(other), format!("{found}; {wanted}"));
        }
    }
}

/// The set that a model was trained on, in messages.
pub const TRAINED_ON: &str = "the training set";

impl Data {
    /// The facts of its sets, with their fields. Where the job applies a model, they are those of
    /// the set that it was trained on and of the test set.
    pub fn with_facts<'a>(&self, facts: &'a DataFacts) -> (Set<'a>, Option<Set<'a>>) {
        let set = |field: &str, format: &str, facts| Set { path: format!("{field}.{format}"), facts };
        if self.is_test {
            let test = facts.validation.as_ref().map(|facts| set(self.field(), self.train.format(), facts));
            return (Set { path: TRAINED_ON.into(), facts: &facts.train }, test);
        }
        let held_out = ("data.train", self.train.format());
        let (field, format) = self.validation.as_ref().map_or(held_out, |named| ("data.validation", named.format()));
        (
            set("data.train", self.train.format(), &facts.train),
            facts.validation.as_ref().map(|facts| set(field, format, facts)),
        )
    }
}

impl ModelWork {
    /// The work with what only the data can tell filled in, or why it does not fit.
    pub fn fit(mut self, facts: &DataFacts) -> Result<Fitted, Violations> {
        let mut wrong = Violations::default();
        let demands = Demands {
            mode: self.mode,
            model: Some(self.model.clone()),
            loss: Some(self.loss.clone()),
            metrics: self.metrics.clone(),
            optimizer: Some(self.optimizer.clone()).filter(|_| !self.mode.applies()),
            schedule: Some(self.schedule.clone()),
            normalize: self.data.normalize.clone(),
            augment: self.data.augment.clone(),
            checkpoints: self.checkpoints,
            length: Some(self.length),
            batch_size: self.batch_size,
            recipe: self.recipe,
            validation_batch_size: self.validation_batch_size,
        };
        let (train, validation) = self.data.with_facts(facts);
        match (&validation, self.mode.applies()) {
            (Some(test), true) => demands.judge_use(&train, test, &mut wrong),
            (_, _) => demands.judge(Some(&train), validation.as_ref(), &mut wrong),
        }
        if !wrong.0.is_empty() {
            return Err(wrong);
        }
        if let Some(set) = facts.validation.as_ref().filter(|_| !self.mode.applies()) {
            self.validation_batch_size = u32::try_from(demands.validation_size(set)).ok();
        }
        if let Some(aim) = demands.aim(&facts.train) {
            let tells = !matches!(self.mode, Mode::Predict(_));
            (self.loss, self.metrics) = (aim.loss, if tells { aim.metrics } else { Vec::new() });
        }
        self.checkpoints.complete(&self.metrics);
        if let Some(stopping) = &mut self.recipe.early_stopping {
            stopping.by = stopping.by.or(Some(Quantity::of(&self.metrics)));
        }
        Ok(Fitted { network: demands.network(&facts.train), work: self })
    }
}

#[cfg(test)]
mod tests {
    use super::super::metric::Accuracy;
    use super::super::read;
    use super::super::read::tests::good;
    use super::super::{Spec, example_work};
    use super::*;
    use crate::dataset::{Dtype, Range};
    use crate::proto::v1;

    fn facts(examples: u64, width: u64, highest: i64) -> Facts {
        let images = Field {
            name: "images".into(),
            file: "images".into(),
            dtype: Dtype::Pixel,
            shape: vec![1, 28, width],
            range: None,
        };
        let range = Some(Range { lowest: i64::from(highest == 26), highest, highest_at: 3 });
        let target = Field { name: "labels".into(), file: "labels".into(), dtype: Dtype::I64, shape: vec![], range };
        Facts { examples, inputs: vec![images], target, sizes: vec![], is_resident: true, may_widen: false }
    }

    fn work_of(message: &v1::JobSpec) -> ModelWork {
        read(message).spec.unwrap().model().unwrap().clone()
    }

    #[test]
    fn the_validation_batch_is_no_larger_than_its_set() {
        for (examples, batch) in [(500, 500), (5000, 1000)] {
            let both = DataFacts { train: facts(4000, 28, 9), validation: Some(facts(examples, 28, 9)) };
            assert_eq!(example_work().fit(&both).unwrap().work.validation_batch_size, Some(batch));
        }
    }

    #[test]
    fn data_that_the_model_cannot_take_is_named() {
        let told = |train: Facts| {
            let wrong = example_work().fit(&DataFacts { train, validation: None }).unwrap_err();
            wrong.0.into_iter().map(|violation| (violation.field, violation.description)).collect::<Vec<_>>()
        };
        let odd = told(facts(32, 27, 9));
        assert_eq!(odd[0].0, "data.train.idx.images");
        assert!(odd[0].1.contains("holds images of 28x27; mnist_cnn takes 28x28"), "{odd:?}");
        assert_eq!(odd[1].0, "training.batch_size");
        let letters = told(facts(400, 28, 26));
        assert_eq!(letters[0].0, "data.train.idx.labels");
        assert!(letters[0].1.contains("the label 26 at place 3") && letters[0].1.contains("subtract 1"), "{letters:?}");
    }

    #[test]
    fn what_the_data_call_for_is_filled_in_and_read_back_the_same() {
        let both = DataFacts { train: facts(4000, 28, 9), validation: Some(facts(500, 28, 9)) };
        let fitted = example_work().fit(&both).unwrap();
        let loss = |fitted: &Fitted| fitted.work.loss.as_ref().unwrap().name();
        assert_eq!((loss(&fitted), fitted.work.metrics.as_slice()), ("nll", &[Metric::Accuracy(Accuracy)][..]));
        let fits = Spec { work: fitted.work.into(), ..read(&good()).spec.unwrap() };
        assert_eq!(read(&fits.to_proto()).spec.unwrap(), fits);
        let mlp = v1::Mlp { hidden: vec![16], ..v1::Mlp::default() };
        let model = Some(v1::Model { family: Some(v1::model::Family::Mlp(mlp)) });
        let mlp = work_of(&v1::JobSpec { model, ..good() }).fit(&both).unwrap();
        assert_eq!(loss(&mlp), "cross_entropy");
        let Network { output, weights, answer, .. } = mlp.network.unwrap();
        assert_eq!(answer, Some(Answer::Class(10)));
        let shapes: Vec<_> = weights.iter().map(|told| (told.name.as_str(), told.shape.as_slice())).collect();
        assert_eq!(output, [10]);
        assert_eq!(
            shapes,
            [("0.weight", &[16, 784][..]), ("0.bias", &[16]), ("3.weight", &[10, 16]), ("3.bias", &[10])]
        );
    }
}
