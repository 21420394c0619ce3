//! The data section: sets of examples by format, and how values become inputs. A format is a file
//! in `data/`, one in `src/dataset/`, and a line in each registry.

mod idx;
mod safetensors;

use super::section::{Fields, Section};
use crate::dataset::{self, Dtype, Facts};
use crate::job::Violations;
use crate::proto::v1::{self, dataset::Format as Kind};

/// The files of a set of examples as a client names them.
pub type Named = dataset::Files<String>;

/// The examples of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// To learn from.
    pub train: Named,
    /// To judge by.
    pub validation: Option<Named>,
    /// How pixels become inputs, if the client said.
    pub normalize: Option<Normalize>,
    /// A new order each epoch.
    pub shuffle: bool,
}

/// How pixels, scaled to 0..1, become inputs: by channel, `(value - mean) / std`.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalize {
    /// Their means; empty for 0.
    pub mean: Vec<f64>,
    /// Their standard deviations; empty for 1.
    pub std: Vec<f64>,
}

/// Makes the two directions between the message of a set and its files, one line a format.
macro_rules! sections {
    ($($variant:ident($section:ty)),+ $(,)?) => {
        /// The names of all formats.
        const FORMATS: &[&str] = &[$(<$section as Section>::NAME),+];

        fn read_set(field: &str, message: &v1::Dataset, wrong: &mut Violations) -> Option<Named> {
            let mut fields = Fields::new(field, wrong);
            match &message.format {
                $(Some(Kind::$variant(message)) => {
                    let fields = fields.within(<$section as Section>::NAME);
                    <$section as Section>::read(message, fields).map(Named::$variant)
                })+
                None => {
                    fields.wrong_itself(format!("names no format; choose one: {}", FORMATS.join(", ")));
                    None
                }
            }
        }

        fn set_to_proto(set: &Named) -> v1::Dataset {
            let format = match set { $(Named::$variant(files) => Kind::$variant(files.to_proto())),+ };
            v1::Dataset { format: Some(format) }
        }
    };
}

sections! {
    Idx(dataset::idx::Files<String>),
    Safetensors(dataset::named_arrays::Files<String>),
}

impl Data {
    /// Reads the section of a spec.
    pub(super) fn read(message: Option<&v1::Data>, wrong: &mut Violations) -> Option<Self> {
        let before = wrong.0.len();
        let Some(v1::Data { train, validation, normalize, shuffle }) = message else {
            wrong.add("data", "is missing; data.train at least is needed");
            return None;
        };
        let train = match train {
            Some(train) => read_set("data.train", train, wrong),
            None => {
                wrong.add("data.train", "is missing; name the examples to learn from, for example data.train.idx");
                None
            }
        };
        let validation = validation.as_ref().map(|set| read_set("data.validation", set, wrong));
        let normalize = normalize.as_ref().map(|normalize| Normalize::read(normalize, wrong));
        if wrong.0.len() > before {
            return None;
        }
        Some(Self { train: train?, validation: validation.flatten(), normalize, shuffle: shuffle.unwrap_or(true) })
    }

    /// The message that it was read from, every default filled in.
    pub(super) fn to_proto(&self) -> v1::Data {
        v1::Data {
            train: Some(set_to_proto(&self.train)),
            validation: self.validation.as_ref().map(set_to_proto),
            normalize: self.normalize.clone().map(|Normalize { mean, std }| v1::Normalize { mean, std }),
            shuffle: Some(self.shuffle),
        }
    }

    /// Every set with its field.
    pub fn sets(&self) -> impl Iterator<Item = (&'static str, &Named)> {
        [("data.train", Some(&self.train)), ("data.validation", self.validation.as_ref())]
            .into_iter()
            .filter_map(|(field, set)| Some((field, set?)))
    }
}

impl Normalize {
    fn read(message: &v1::Normalize, wrong: &mut Violations) -> Self {
        let v1::Normalize { mean, std } = message.clone();
        let mut fields = Fields::new("data.normalize", wrong);
        for (place, mean) in mean.iter().enumerate() {
            fields.demand(&format!("mean[{place}]"), mean.is_finite(), mean, "a finite number");
        }
        for (place, &std) in std.iter().enumerate() {
            fields.positive(&format!("std[{place}]"), std);
        }
        Self { mean, std }
    }

    /// Adds what does not fit a set.
    pub(super) fn judge(&self, facts: &Facts, wrong: &mut Violations) {
        let Some(images) = facts.inputs.iter().find(|input| input.dtype == Dtype::Pixel) else {
            return wrong
                .add("data.normalize", "is set, and the data have no images; other values are taken as they are");
        };
        let channels = images.shape.first().copied().unwrap_or(1);
        for (field, values) in [("data.normalize.mean", &self.mean), ("data.normalize.std", &self.std)] {
            let found = values.len() as u64;
            if found > 0 && found != channels {
                wrong.add(field, format!("has {found} entries; the images have {channels}, one a channel"));
            }
        }
    }
}

/// Judges the name of a file.
fn read_path(field: &str, path: &str, fields: &mut Fields<'_>) -> String {
    if path.is_empty() {
        fields.wrong(field, "is missing; name a file under the data roots");
    } else if path.contains('\0') {
        fields.wrong(field, "holds a zero byte, which no path can");
    }
    path.to_owned()
}
