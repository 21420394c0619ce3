//! Parameters that are trained with numbers of their own, and parameters that are not trained,
//! chosen by patterns of their names.

use crate::job::Violations;
use crate::job::spec::Weight;
use crate::job::spec::section::Fields;
use crate::proto::v1;
use crate::tensor_file::matching::describes;

/// The choice of parameters. Those that no pattern describes are trained with the numbers of the
/// optimizer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Groups {
    /// Patterns of the names of parameters that are not trained.
    pub freeze: Vec<String>,
    /// Parameters with numbers of their own.
    pub groups: Vec<Group>,
}

/// Parameters with numbers of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Patterns of their names.
    pub parameters: Vec<String>,
    /// Their learning rate is so many times that of the job.
    pub rate_scale: f64,
    /// Their weight decay; None for that of the optimizer.
    pub weight_decay: Option<f64>,
}

impl Group {
    /// Its fields that may change when a job goes on: the state of the optimizer does not depend on
    /// them.
    pub(super) const EDITABLE: [&str; 2] = ["rate_scale", "weight_decay"];
}

/// The lot of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// It is trained with the numbers of the optimizer.
    Plain,
    /// It is trained with those of the group at this place.
    Group(usize),
    /// It is not trained.
    Frozen,
}

/// Names that are told at most where a pattern describes none.
const MOST_NAMES: usize = 5;

impl Groups {
    /// Reads the fields of an optimizer.
    pub(super) fn read(message: &v1::Optimizer, wrong: &mut Violations) -> Option<Self> {
        let mut fields = Fields::new("optimizer", wrong);
        let mut groups = Vec::new();
        for (place, message) in message.groups.iter().enumerate() {
            let mut fields = fields.within(&format!("groups[{place}]"));
            let v1::ParameterGroup { parameters, rate_scale, weight_decay } = message;
            if parameters.is_empty() {
                fields.wrong("parameters", "is empty; name parameters, or patterns such as \"head.*\"");
            }
            let rate_scale = fields.not_negative("rate_scale", rate_scale.unwrap_or(1.0));
            let weight_decay = weight_decay.map(|decay| fields.not_negative("weight_decay", decay));
            if rate_scale == 0.0 {
                fields.wrong("rate_scale", "is 0; optimizer.freeze holds parameters that are not trained");
            }
            groups.push(Group { parameters: parameters.clone(), rate_scale, weight_decay });
        }
        fields.done(Self { freeze: message.freeze.clone(), groups })
    }

    /// The fields that it was read from.
    pub(super) fn to_proto(&self) -> (Vec<String>, Vec<v1::ParameterGroup>) {
        let group = |Group { parameters, rate_scale, weight_decay }: &Group| v1::ParameterGroup {
            parameters: parameters.clone(),
            rate_scale: Some(*rate_scale),
            weight_decay: *weight_decay,
        };
        (self.freeze.clone(), self.groups.iter().map(group).collect())
    }

    /// The lot of the parameter of that name. The first pattern that describes it counts.
    pub fn share(&self, name: &str) -> Share {
        let is_described = |patterns: &[String]| patterns.iter().any(|pattern| describes(pattern, name));
        if is_described(&self.freeze) {
            return Share::Frozen;
        }
        let place = self.groups.iter().position(|group| is_described(&group.parameters));
        place.map_or(Share::Plain, Share::Group)
    }

    /// The tensors that are trained.
    pub fn trained<'a>(&self, weights: &'a [Weight]) -> impl Iterator<Item = &'a Weight> {
        weights.iter().filter(|weight| weight.is_learned() && self.share(&weight.name) != Share::Frozen)
    }

    /// Adds the patterns that describe no parameter of a network, the parameters that two groups
    /// claim, and the choice that leaves nothing to train.
    pub fn judge(&self, weights: &[Weight], wrong: &mut Violations) {
        let learned: Vec<_> = weights.iter().filter(|weight| weight.is_learned()).map(|told| &*told.name).collect();
        let frozen = self.freeze.iter().enumerate().map(|(at, pattern)| (format!("optimizer.freeze[{at}]"), pattern));
        let mut choices = vec![frozen.collect::<Vec<_>>()];
        for (group, Group { parameters, .. }) in self.groups.iter().enumerate() {
            let field = |at: usize| format!("optimizer.groups[{group}].parameters[{at}]");
            choices.push(parameters.iter().enumerate().map(|(at, pattern)| (field(at), pattern)).collect());
        }
        for (choice, patterns) in choices.iter().enumerate() {
            for (field, pattern) in patterns {
                let described: Vec<_> = learned.iter().filter(|name| describes(pattern, name)).collect();
                if described.is_empty() {
                    let nearest = nearest(pattern, &learned);
                    wrong.add(field, format!("is {pattern:?}, which describes no parameter; there are {nearest}"));
                }
                let before = choices[..choice].iter().flatten();
                for (other, claim) in before {
                    if let Some(name) = described.iter().find(|name| describes(claim, name)) {
                        let what = "a parameter belongs to one group, or is frozen";
                        wrong.add(field, format!("is {pattern:?}, which describes {name}, as {other} does; {what}"));
                    }
                }
            }
        }
        if !learned.is_empty() && learned.iter().all(|name| self.share(name) == Share::Frozen) {
            wrong.add("optimizer.freeze", "describes every parameter, so that nothing is trained");
        }
    }
}

/// The names most like a pattern, in words.
fn nearest(pattern: &str, names: &[&str]) -> String {
    let mut names = names.to_vec();
    names.sort_by(|one, other| {
        let likeness = |name: &str| strsim::jaro_winkler(name, pattern);
        likeness(other).total_cmp(&likeness(one))
    });
    let more = names.len().saturating_sub(MOST_NAMES);
    let told = names.into_iter().take(MOST_NAMES).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{told} and {more} more") } else { told }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(freeze: &[&str], groups: &[&[&str]]) -> Vec<String> {
        let owned = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>();
        let group = |patterns: &&[&str]| Group { parameters: owned(patterns), rate_scale: 0.1, weight_decay: None };
        let groups = Groups { freeze: owned(freeze), groups: groups.iter().map(group).collect() };
        let weights: Vec<_> =
            ["backbone.0", "backbone.1", "head"].into_iter().flat_map(|name| Weight::layer(name, &[2, 2])).collect();
        let mut wrong = Violations::default();
        groups.judge(&weights, &mut wrong);
        wrong.0.into_iter().map(|wrong| format!("{}: {}", wrong.field, wrong.description)).collect()
    }

    #[test]
    fn patterns_that_describe_nothing_or_too_much_are_told() {
        assert_eq!(judge(&["backbone.*"], &[&["head.*"]]), [""; 0]);
        assert_eq!(
            judge(&["bakbone.*"], &[]),
            [
                r#"optimizer.freeze[0]: is "bakbone.*", which describes no parameter; there are backbone.0.bias, backbone.1.bias, backbone.0.weight, backbone.1.weight, head.bias and 1 more"#
            ]
        );
        let twice = judge(&["backbone.0.*"], &[&["head.*"], &["*.weight"]]);
        assert_eq!(
            twice,
            [
                r#"optimizer.groups[1].parameters[0]: is "*.weight", which describes backbone.0.weight, as optimizer.freeze[0] does; a parameter belongs to one group, or is frozen"#,
                r#"optimizer.groups[1].parameters[0]: is "*.weight", which describes head.weight, as optimizer.groups[0].parameters[0] does; a parameter belongs to one group, or is frozen"#,
            ]
        );
        assert_eq!(judge(&["*"], &[]), ["optimizer.freeze: describes every parameter, so that nothing is trained"]);
    }
}
