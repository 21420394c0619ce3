//! The metrics: each is a file in `metric/`, one in `src/runner/metric/`, and a line in each
//! registry.

mod accuracy;
mod mae;

use crate::dataset::{Dtype, Field};
use crate::job::Violations;
pub use accuracy::Accuracy;
pub use mae::Mae;

/// The rules of a metric, known before it is computed.
pub trait Measure: Sync {
    /// Its name in a spec, and before the slash of its tags.
    fn name(&self) -> &'static str;

    /// Which values are better.
    fn better(&self) -> Better;

    /// Whether it can be told of such a target; an error says in words why not.
    fn fits(&self, target: &Field) -> Result<(), String>;

    /// The names of its sums in the state of a checkpoint: numbers of 64 bits.
    fn sums(&self) -> &'static [&'static str];
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
            $($(#[$about])* $metric),+
        }

        impl Metric {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$metric),+];
        }

        impl std::ops::Deref for Metric {
            type Target = dyn Measure;

            fn deref(&self) -> &Self::Target {
                match self {
                    $(Self::$metric => &$metric),+
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
            match Self::ALL.iter().find(|known| known.name() == name) {
                Some(known) if metrics.contains(known) => {
                    wrong.add(format!("metrics[{place}]"), format!("is {name:?}, which stands there twice"));
                }
                Some(&known) => metrics.push(known),
                None => {
                    let known: Vec<_> = Self::ALL.iter().map(|known| known.name()).collect();
                    let right = format!("one of {} is right", known.join(", "));
                    wrong.add(format!("metrics[{place}]"), format!("is {name:?}; {right}"));
                }
            }
        }
        metrics
    }

    /// The one that a target calls for.
    pub(super) fn of(target: &Field) -> Self {
        match target.dtype {
            Dtype::I64 => Self::Accuracy,
            Dtype::F32 | Dtype::Pixel => Self::Mae,
        }
    }
}
