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
    fn bytes(&self, _targets: u64) -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: [Answer; 6] = [
        Answer::Class(2),
        Answer::Class(1000),
        Answer::Labels(1),
        Answer::Labels(3),
        Answer::Numbers(2),
        Answer::Shares,
    ];

    #[test]
    fn a_metric_is_told_of_the_answers_that_it_compares_and_says_why_not_of_others() {
        let told: [(&str, [Option<&str>; 6]); 11] = [
            ("accuracy", [None, None, None, None, Some("labels, and the target has numbers"), Some("distributions")]),
            (
                "top_2",
                [Some("all of 2 classes"), None, Some("classes"), Some("classes"), Some("numbers"), Some("needs")],
            ),
            ("precision_macro", [None, None, None, None, Some("needs classes or labels"), Some("needs")]),
            ("recall_micro", [None, None, None, None, Some("needs classes or labels"), Some("needs")]),
            ("f1_macro", [None, None, None, None, Some("needs classes or labels"), Some("needs")]),
            ("auc", [None, Some("tells 1000 apart"), None, Some("has 3 labels"), Some("needs"), Some("needs")]),
            ("perplexity", [None, None, Some("labels"), Some("labels"), Some("numbers"), Some("distributions")]),
            ("mae", [Some("classes"), Some("classes"), Some("labels"), Some("labels"), None, Some("distributions")]),
            ("rmse", [Some("classes"), Some("classes"), Some("labels"), Some("labels"), None, Some("distributions")]),
            ("r2", [Some("classes"), Some("classes"), Some("labels"), Some("labels"), None, Some("distributions")]),
            ("confusion_matrix", [None, None, None, Some("has 3 labels"), Some("needs"), Some("needs")]),
        ];
        for (name, expected) in told {
            let metric = Metric::parse(name).unwrap();
            for (answer, expected) in ANSWERS.into_iter().zip(expected) {
                match (metric.fits(answer), expected) {
                    (Ok(()), None) => {}
                    (Err(what), Some(words)) if what.contains(words) => {}
                    (found, _) => panic!("{name} of {answer:?}: {found:?}"),
                }
            }
        }
        let confused = Metric::parse("confusion_matrix").unwrap().fits(Answer::Class(1001)).unwrap_err();
        assert!(confused.contains("has 1001 classes; 1000 at most"), "{confused}");
    }

    #[test]
    fn names_are_read_as_they_are_written_and_others_are_told_with_the_nearest() {
        for name in Metric::names().into_iter().map(|name| name.replace("<k>", "17")) {
            assert_eq!(Metric::parse(&name).unwrap().name(), name);
        }
        let read = |names: &[&str], lacks_validation| {
            let mut wrong = Violations::default();
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            Metric::read(&names, lacks_validation, &mut wrong);
            wrong.0.into_iter().map(|wrong| format!("{}: {}", wrong.field, wrong.description)).collect::<Vec<_>>()
        };
        for (name, nearest) in [
            ("acuracy", "accuracy"),
            ("f1_makro", "f1_macro"),
            ("top_1", "top_<k>"),
            ("top_05", "top_<k>"),
            ("top_5 ", "top_<k>"),
            ("top_99999999999", "top_<k>"),
            ("confusion", "confusion_matrix"),
        ] {
            let told = read(&["mae", name], false);
            let words =
                format!("metrics[1]: is {name:?}, which is no metric; the nearest is {nearest}, and there are acc");
            assert!(told.len() == 1 && told[0].starts_with(&words), "{words}: {told:?}");
        }
        assert_eq!(read(&["top_2", "top_3"], true), [""; 0]);
        assert_eq!(read(&["top_2", "top_2"], false), [r#"metrics[1]: is "top_2", which stands there twice"#]);
        let alone = "which is told of a validation set alone; name one as data.validation";
        assert_eq!(
            read(&["auc", "accuracy", "confusion_matrix"], true),
            [format!(r#"metrics[0]: is "auc", {alone}"#), format!(r#"metrics[2]: is "confusion_matrix", {alone}"#)]
        );
    }

    #[test]
    fn the_sums_of_all_metrics_of_a_job_have_names_of_their_own() {
        for answer in ANSWERS {
            let all = Metric::names().into_iter().filter_map(|name| Metric::parse(&name.replace("<k>", "17")));
            let sums = all.filter(|metric| metric.fits(answer).is_ok()).flat_map(|metric| metric.sums(answer));
            let mut names: Vec<_> = sums.map(|sum| sum.name).collect();
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count, "{answer:?}");
        }
    }
}
