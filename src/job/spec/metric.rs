//! The metrics: each is a file in `metric/`, one in `src/runner/metric/`, and a line in each
//! registry.

mod accuracy;
mod mae;

use super::loss::Answer;
use crate::job::Violations;
pub use accuracy::Accuracy;
pub use mae::Mae;

/// The rules of a metric, known before it is computed.
pub trait Measure {
    /// Its name in a spec, and before the slash of its tags.
    fn name(&self) -> String;

    /// Which values are better.
    fn better(&self) -> Better;

    /// Whether it can be told of outputs that answer so; an error says in words why not.
    fn fits(&self, answer: Answer) -> Result<(), String>;

    /// Its sums, as the state of a checkpoint has them.
    fn sums(&self, answer: Answer) -> Vec<Sum>;
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
}

impl Metric {
    /// Reads the list of a spec.
    pub(super) fn read(names: &[String], wrong: &mut Violations) -> Vec<Self> {
        let mut metrics = Vec::new();
        for (place, name) in names.iter().enumerate() {
            match Self::parse(name) {
                Some(known) if metrics.contains(&known) => {
                    wrong.add(format!("metrics[{place}]"), format!("is {name:?}, which stands there twice"));
                }
                Some(known) => metrics.push(known),
                None => {
                    let right = format!("one of {} is right", Self::names().join(", "));
                    wrong.add(format!("metrics[{place}]"), format!("is {name:?}; {right}"));
                }
            }
        }
        metrics
    }
}
