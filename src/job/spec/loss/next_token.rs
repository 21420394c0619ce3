//! Cross-entropy of the scores at each token and the token that follows it.

use super::{Answer, IGNORED_LABEL, Misfit, Objective, classes, fits_range};
use crate::dataset::{Dtype, Field};
use crate::job::spec::metric::{Metric, Perplexity};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextToken {
    /// Targets of this value do not count.
    pub ignored_label: i64,
}

impl Section for NextToken {
    type Message = v1::NextToken;
    const NAME: &str = "next_token";

    fn read(message: &v1::NextToken, fields: Fields<'_>) -> Option<Self> {
        fields.done(Self { ignored_label: message.ignored_label.unwrap_or(IGNORED_LABEL) })
    }

    fn to_proto(&self) -> v1::NextToken {
        v1::NextToken { ignored_label: Some(self.ignored_label) }
    }
}

impl Objective for NextToken {
    fn outputs(&self, target: &Field) -> Option<u64> {
        classes(target)
    }

    fn metric(&self) -> Option<Metric> {
        Some(Metric::Perplexity(Perplexity))
    }

    fn takes(&self, target: &Field) -> Result<(), Misfit> {
        let name = &target.name;
        let &[tokens] = target.shape.as_slice() else {
            let found = format!("needs the tokens of a text as [tokens], and {name:?} is {:?}", target.shape);
            return Err(Misfit::Loss(found));
        };
        if target.dtype != Dtype::I64 {
            return Err(Misfit::Loss(format!("needs tokens, and {name:?} has {}", target.dtype.name())));
        }
        if tokens < 2 {
            return Err(Misfit::Loss(format!("needs texts of 2 tokens at least, and {name:?} has {tokens}")));
        }
        Ok(())
    }

    fn fits(&self, output: &[u64], target: &Field, model: &str) -> Result<Answer, Misfit> {
        self.takes(target)?;
        let (name, tokens) = (&target.name, target.shape[0]);
        match *output {
            [places, vocabulary] | [vocabulary, places] if places == tokens => {
                fits_range(target, model, vocabulary, self.ignored_label)?;
                Ok(Answer::Class(vocabulary))
            }
            _ => Err(Misfit::Output(format!(
                "gives {output:?} for an example, and the loss needs scores at each token, [{tokens}, vocabulary], for \
                 the target {name:?}"
            ))),
        }
    }

    fn ignored_label(&self) -> Option<i64> {
        Some(self.ignored_label)
    }
}
