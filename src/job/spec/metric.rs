//! The metrics: each is a file in `metric/`, one in `src/runner/metric/`, and a line in each
//! registry.

mod accuracy;
mod auc;
mod confusion_matrix;
mod mae;
mod perplexity;
mod precision_recall;
mod r2;
mod rmse;
mod top_k;

use super::loss::Answer;
use crate::job::Violations;
pub use accuracy::Accuracy;
pub use auc::Auc;
pub use confusion_matrix::ConfusionMatrix;
pub use mae::Mae;
pub use perplexity::Perplexity;
pub use precision_recall::{Average, PrecisionRecall, Quality};
pub use r2::R2;
pub use rmse::Rmse;
pub use top_k::TopK;

/// The rules of a metric, known before it is computed.
pub trait Measure {
    /// Its name in a spec, and before the slash of its tags.
    fn name(&self) -> String;

    /// Which values are better; None for one that is no scalar.
    fn better(&self) -> Option<Better>;

    /// Whether it can be told of outputs that answer so; an error says in words why not.
    fn fits(&self, answer: Answer) -> Result<(), String>;

    /// Its sums, as the state of a checkpoint has them.
    fn sums(&self, answer: Answer) -> Vec<Sum>;

    /// Whether it is told of validation alone, and not of training steps. Such a one has no sums:
    /// what it keeps is not saved.
    fn is_of_validation_alone(&self) -> bool {
        false
    }

    /// The most targets of a validation set, if there is a limit.
    fn most_targets(&self) -> Option<u64> {
        None
    }

    /// Bytes of the host's memory that it takes for a validation set with so many targets, where
    /// that is more than a few numbers a class.
    fn bytes(&self, _: Answer, _targets: u64) -> u64 {
        0
    }
}

/// A metric that a spec names.
pub trait Named: Measure + Sized {
    /// The names, or patterns of names, that it goes by.
    const NAMES: &[&str];

    /// The metric of that name.
    fn parse(name: &str) -> Option<Self>;
}

/// A sum of a metric, or a row of sums: numbers of 64 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// Its name in the state of a checkpoint.
    pub name: String,
    /// How many there are; None for a single one.
    pub count: Option<u64>,
    /// Earlier versions did not save it, and it was the number of examples.
    pub can_be_absent: bool,
}

impl Sum {
    /// A single sum that every checkpoint has.
    pub fn one(name: impl Into<String>) -> Self {
        Self { name: name.into(), count: None, can_be_absent: false }
    }

    /// A row of as many sums.
    pub fn row(name: impl Into<String>, count: u64) -> Self {
        Self { count: Some(count), ..Self::one(name) }
    }
}

/// Which values of a metric are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// The higher ones.
    Higher,
    /// The lower ones.
    Lower,
}

/// Makes the enum of all metrics.
macro_rules! metrics {
    ($($(#[$about:meta])* $metric:ident),+ $(,)?) => {
        /// A number that is told of a job besides its loss.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Metric {
            $($(#[$about])* $metric($metric)),+
        }

        impl Metric {
            /// The names, or patterns of names, of all.
            pub fn names() -> Vec<&'static str> {
                [$(<$metric as Named>::NAMES),+].concat()
            }

            /// The metric of that name.
            pub fn parse(name: &str) -> Option<Self> {
                None$(.or_else(|| <$metric as Named>::parse(name).map(Self::$metric)))+
            }
        }

        impl std::ops::Deref for Metric {
            type Target = dyn Measure;

            fn deref(&self) -> &Self::Target {
                match self {
                    $(Self::$metric(metric) => metric),+
                }
            }
        }
    };
}

/// The names of the sums of a metric that a model gives, in the state of a checkpoint: that of its
/// values and that of examples.
pub fn own_sums(name: &str) -> [String; 2] {
    ["values", "examples"].map(|sum| format!("sums.own.{name}.{sum}"))
}

metrics! {
    /// The share of classes that are right.
    Accuracy,
    /// The mean of absolute differences.
    Mae,
    /// The exponential of the mean cross-entropy.
    Perplexity,
    /// The share of classes among those with the highest scores.
    TopK,
    /// Precision, recall and F1.
    PrecisionRecall,
    /// The area under the receiver operating characteristic.
    Auc,
    /// The root of the mean of squared differences.
    Rmse,
    /// The coefficient of determination.
    R2,
    /// How many of each class were taken for which.
    ConfusionMatrix,
}

/// Why a metric that needs such targets cannot be told of an answer.
fn needs(what: &str, answer: Answer) -> Result<(), String> {
    Err(format!("needs {what}, and the target has {}", answer.targets()))
}

impl Metric {
    /// Reads the list of a spec. `lacks_validation`: there are data, and no validation set.
    pub(super) fn read(names: &[String], lacks_validation: bool, wrong: &mut Violations) -> Vec<Self> {
        let mut metrics = Vec::new();
        for (place, name) in names.iter().enumerate() {
            match Self::parse(name) {
                Some(known) if metrics.contains(&known) => {
                    wrong.add(format!("metrics[{place}]"), format!("is {name:?}, which stands there twice"));
                }
                Some(known) if lacks_validation && known.is_of_validation_alone() => {
                    let what = "which is told of a validation set alone; name one as data.validation";
                    wrong.add(format!("metrics[{place}]"), format!("is {name:?}, {what}"));
                }
                Some(known) => metrics.push(known),
                None => wrong.add(format!("metrics[{place}]"), format!("is {name:?}, {}", Self::unknown(name))),
            }
        }
        metrics
    }

    /// The words that follow a name that no metric has.
    pub fn unknown(name: &str) -> String {
        let names = Self::names();
        let likeness = |known: &&&str| strsim::jaro_winkler(known, name);
        let nearest = names.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
        let all = "top_<k> stands for top_2, top_3 and so on";
        format!(
            "which is no metric; the nearest is {}, and there are {}; {all}",
            nearest.unwrap_or(&""),
            names.join(", ")
        )
    }
}
