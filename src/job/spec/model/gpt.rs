//! A decoder-only transformer for tokens, after "Language Models are Unsupervised Multitask
//! Learners" (GPT-2).

use super::vit::read_sizes;
use super::{Family, Initial, Set, Task, Weight, demand_one_input};
use crate::dataset::{Dtype, Facts, Field};
use crate::job::Violations;
use crate::job::spec::layer::affine;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gpt {
    /// Layers.
    pub layers: u32,
    /// Heads of attention.
    pub heads: u32,
    /// Numbers for each token.
    pub width: u32,
    /// Positions; None for as many as an example has tokens.
    pub context: Option<u32>,
    /// Probability of each dropout.
    pub dropout: f64,
    /// Tokens that are told apart; None for those of the training set.
    pub vocabulary: Option<u32>,
}

impl Section for Gpt {
    type Message = v1::Gpt;
    const NAME: &str = "gpt";

    fn read(message: &v1::Gpt, mut fields: Fields<'_>) -> Option<Self> {
        let v1::Gpt { layers, heads, width, context, dropout, vocabulary } = *message;
        read_sizes(layers, heads, width, &mut fields);
        fields.at_least_one("context", context, 1);
        let dropout = fields.probability("dropout", dropout);
        fields.at_least_one("vocabulary", vocabulary, 1);
        fields.done(Self { layers, heads, width, context, dropout, vocabulary })
    }

    fn to_proto(&self) -> v1::Gpt {
        let Self { layers, heads, width, context, dropout, vocabulary } = *self;
        v1::Gpt { layers, heads, width, context, dropout, vocabulary }
    }
}

impl Family for Gpt {
    fn judge(&self, set: &Set<'_>, task: Option<&Task<'_>>, wrong: &mut Violations) {
        if !demand_one_input(set, Self::NAME, wrong) {
            return;
        }
        let input = &set.facts.inputs[0];
        let (Dtype::I64, &[tokens]) = (input.dtype, &input.shape[..]) else {
            let found = format!("has {:?} as {:?} of {}", input.name, input.shape, input.dtype.name());
            return wrong.add(set.file(input), format!("{found}; gpt takes [tokens] of 64-bit integers"));
        };
        if let Some(context) = self.context.filter(|context| u64::from(*context) < tokens) {
            let found = format!("is {context}, and {:?} has {tokens} tokens for an example", input.name);
            wrong.add("model.gpt.context", format!("{found}; at least as many are needed"));
        }
        let vocabulary = self.vocabulary.map(u64::from).or_else(|| self.vocabulary(task?.train));
        let Some(vocabulary) = vocabulary else { return };
        if let Some(range) = input.range {
            let last = vocabulary.saturating_sub(1);
            if range.lowest < 0 {
                wrong.add(set.file(input), format!("holds the token {}; gpt takes 0 to {last}", range.lowest));
            }
            if u64::try_from(range.highest).is_ok_and(|highest| highest > last) {
                let found = format!("holds the token {} at place {}, counted from 0", range.highest, range.highest_at);
                wrong.add(set.file(input), format!("{found}; gpt takes 0 to {last}"));
            }
        }
        // Losses take the first dimension for the classes where both would do.
        if vocabulary == tokens {
            let found = format!("is {vocabulary}, which is the number of tokens of an example as well");
            let needed = format!("set it to {} at least, so that scores can be told from tokens", vocabulary + 1);
            wrong.add("model.gpt.vocabulary", format!("{found}; {needed}"));
        }
    }

    fn gives(&self, task: &Task<'_>) -> Option<Vec<u64>> {
        let tokens = task.train.inputs.first()?.shape.first()?;
        Some(vec![*tokens, self.vocabulary(task.train)?])
    }

    fn weights(&self, task: &Task<'_>) -> Vec<Weight> {
        let (Some(output), width) = (self.gives(task), i64::from(self.width)) else { return Vec::new() };
        let [tokens, vocabulary] = [output[0], output[1]].map(|size| i64::try_from(size).unwrap_or(i64::MAX));
        let context = self.context.map_or(tokens, i64::from);
        let normal = |name: &str, shape: [i64; 2]| Weight::learned(name, &shape, Initial::Normal(DEVIATION));
        let mut weights = vec![
            normal("transformer.wte.weight", [vocabulary, width]),
            normal("transformer.wpe.weight", [context, width]),
        ];
        for layer in 0..self.layers {
            weights.extend(self.layer().into_iter().map(|weight| weight.within(&Self::layer_name(layer))));
        }
        weights.extend(affine("transformer.ln_f", self.width.into()));
        let tied = weights[0].clone();
        weights.push(Weight { name: "lm_head.weight".into(), same_as: Some(tied.name.clone()), ..tied });
        weights
    }
}

/// The deviation of initial weights.
const DEVIATION: f64 = 0.02;

impl Gpt {
    /// The number that is added to the variances of a normalisation.
    pub const EPS: f64 = 1e-5;

    /// The name of a layer.
    pub fn layer_name(layer: u32) -> String {
        format!("transformer.h.{layer}")
    }

    /// Tokens that are told apart; None where the training set does not tell yet.
    fn vocabulary(&self, train: &Facts) -> Option<u64> {
        let highest = |field: &Field| u64::try_from(field.range?.highest).ok();
        let of_set = || Some(highest(train.inputs.first()?)?.max(highest(&train.target)?).saturating_add(1));
        self.vocabulary.map(u64::from).or_else(of_set)
    }

    /// The tensors of a layer. What is added to the way through all layers begins smaller, the more
    /// there are.
    fn layer(&self) -> Vec<Weight> {
        let width = i64::from(self.width);
        let added = DEVIATION / (2.0 * f64::from(self.layers)).sqrt();
        let linear = |name: &str, shape: [i64; 2], deviation| {
            let weight = Weight::learned("weight", &shape, Initial::Normal(deviation));
            [weight, Weight::learned("bias", &shape[..1], Initial::Constant(0.0))].map(|weight| weight.within(name))
        };
        let norm = |name| affine(name, self.width.into());
        [
            norm("ln_1"),
            linear("attn.c_attn", [3 * width, width], DEVIATION),
            linear("attn.c_proj", [width, width], added),
            norm("ln_2"),
            linear("mlp.c_fc", [4 * width, width], DEVIATION),
            linear("mlp.c_proj", [width, 4 * width], added),
        ]
        .concat()
    }
}
