//! The data section: sets of examples by format, and how values become inputs. A format is a file
//! in `data/`, one in `src/dataset/`, and a line in each registry.

pub mod augment;
mod cifar;
mod csv;
mod idx;
pub(super) mod image_folder;
mod npy;
mod npz;
mod parquet;
mod safetensors;
pub(super) mod table;
pub(super) mod text;

use super::Mode;
use super::section::{Fields, Section};
use crate::dataset::paths::Paths;
use crate::dataset::{self, Division, Facts, Field, Files, Moments, Preparation, Sampling, Selection, Split};
use crate::job::Violations;
use crate::proto::v1::{self, dataset::Format as Kind};
pub use augment::Augment;

/// The field of a sampling.
const SAMPLING: &str = "data.sampling";

/// The fields of the sets that a job goes over.
const TRAIN: &str = "data.train";
const TEST: &str = "data.test";

/// The files of a set of examples as a client names them.
pub type Named = dataset::Files<String>;

/// The examples of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// To learn from; the examples to use a model on, where the job applies one.
    pub train: Named,
    /// Whether the job applies a model: `train` is the set `data.test` then.
    pub is_test: bool,
    /// To judge by.
    pub validation: Option<Named>,
    /// How rows of the files become sets.
    pub division: Division,
    /// How values become inputs, if the client said.
    pub normalize: Option<Normalize>,
    /// A new order each epoch.
    pub shuffle: bool,
    /// Random changes of the training examples, in their order.
    pub augment: Vec<Augment>,
    /// How often the training examples are drawn; None for once each in an epoch.
    pub sampling: Option<Sampling>,
}

/// How values become inputs: `(value - mean) / std`, by channel of images, whose pixels are scaled
/// to 0..1, and by number of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Normalize {
    /// By these.
    By {
        /// The means; empty for 0.
        mean: Vec<f64>,
        /// The standard deviations; empty for 1.
        std: Vec<f64>,
    },
    /// By those of the training set.
    Measured,
}

/// Makes the two directions between the message of a set and its files, one line a format.
macro_rules! sections {
    ($($variant:ident($section:ty)),+ $(,)?) => {
        /// The names of all formats.
        pub const FORMATS: &[&str] = &[$(<$section as Section>::NAME),+];

        fn read_set(field: &str, message: &v1::Dataset, mode: Mode, wrong: &mut Violations) -> Option<Named> {
            let mut fields = Fields::new(field, wrong).lacking_targets(mode.may_lack_target());
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
    Npy(dataset::npy::Files<String>),
    Npz(dataset::npz::Files<String>),
    Cifar(dataset::cifar::Files<String>),
    ImageFolder(dataset::image_folder::Files<String>),
    Csv(dataset::csv::Files<String>),
    Parquet(dataset::parquet::Files<String>),
    Text(dataset::text::Files<String>),
}

impl Data {
    /// Its fields that may change when a job goes on.
    pub(super) const EDITABLE: [&str; 1] = ["augment"];

    /// Reads the section of the spec of a job of that mode.
    pub(super) fn read(message: Option<&v1::Data>, mode: Mode, wrong: &mut Violations) -> Option<Self> {
        let (before, applies) = (wrong.0.len(), mode.applies());
        let (field, purpose) = if applies { (TEST, "use the model on") } else { (TRAIN, "learn from") };
        let Some(v1::Data { train, validation, test, normalize, shuffle, split, limit, augment, sampling }) = message
        else {
            wrong.add("data", format!("is missing; {field} at least is needed"));
            return None;
        };
        let train = match if applies { test } else { train } {
            Some(train) => read_set(field, train, mode, wrong),
            None => {
                wrong.add(field, format!("is missing; name the examples to {purpose}, for example {field}.idx"));
                None
            }
        };
        if test.is_some() && !applies {
            let what =
                "is set, and the mode is none that uses a model; set mode to evaluate or predict, or leave this out";
            wrong.add(TEST, what);
        }
        let validation = validation.as_ref().map(|set| read_set("data.validation", set, mode, wrong));
        let normalize = normalize.as_ref().map(|normalize| Normalize::read(normalize, wrong));
        let split = split.as_ref().map(|split| read_split(split, Fields::new("data.split", wrong)));
        if split.is_some() && validation.is_some() {
            let what = "is set, and data.validation names the examples to judge by; leave one of them out";
            wrong.add("data.split", what);
        }
        if *limit == Some(0) {
            wrong.add("data.limit", "is 0; at least 1 is needed");
        }
        let augment = Augment::read(augment, wrong);
        let sampling = sampling.as_ref().and_then(|sampling| read_sampling(sampling, Fields::new(SAMPLING, wrong)));
        if sampling.is_some() && *shuffle == Some(false) {
            wrong.add(
                SAMPLING,
                "is set, and data.shuffle is false; examples are drawn at random, so leave one of them out",
            );
        }
        if wrong.0.len() > before {
            return None;
        }
        let division = Division { split: split.flatten(), limit: *limit };
        let (train, validation, shuffle) = (train?, validation.flatten(), shuffle.unwrap_or(true));
        Some(Self { train, is_test: applies, validation, division, normalize, shuffle, augment, sampling })
    }

    /// The message that it was read from, every default filled in.
    pub(super) fn to_proto(&self) -> v1::Data {
        let set = Some(set_to_proto(&self.train));
        let (train, test) = if self.is_test { (None, set) } else { (set, None) };
        v1::Data {
            train,
            test,
            validation: self.validation.as_ref().map(set_to_proto),
            normalize: self.normalize.as_ref().map(Normalize::to_proto),
            shuffle: Some(self.shuffle),
            split: self.division.split.as_ref().map(split_to_proto),
            limit: self.division.limit,
            augment: self.augment.iter().map(Augment::to_proto).collect(),
            sampling: self.sampling.as_ref().map(sampling_to_proto),
        }
    }

    /// Whether there are examples to judge by.
    pub fn has_validation(&self) -> bool {
        self.validation.is_some() || self.division.split.is_some()
    }

    /// The selection of these files, which are those of the sets.
    pub fn selection(&self, train: Files, validation: Option<Files>) -> Selection {
        let measure = self.normalize == Some(Normalize::Measured);
        let (division, sampling) = (self.division.clone(), self.sampling.clone());
        Selection { validation, division, measure, sampling, ..Selection::of(train) }
    }

    /// The field of the first set.
    pub fn field(&self) -> &'static str {
        if self.is_test { TEST } else { TRAIN }
    }

    /// Every set with its field.
    pub fn sets(&self) -> impl Iterator<Item = (&'static str, &Named)> {
        [(self.field(), Some(&self.train)), ("data.validation", self.validation.as_ref())]
            .into_iter()
            .filter_map(|(field, set)| Some((field, set?)))
    }
}

fn read_sampling(message: &v1::Sampling, mut fields: Fields<'_>) -> Option<Sampling> {
    use v1::sampling::By;
    let sampling = match message.by.clone() {
        Some(By::Weights(name)) => {
            if name.is_empty() {
                fields.wrong("weights", "is empty; name an array of the file with a number for each example");
            }
            Sampling::Weights(name)
        }
        Some(By::BalanceClasses(true)) => Sampling::BalanceClasses,
        Some(By::BalanceClasses(false)) => {
            fields.wrong("balance_classes", "is false; leave data.sampling out to draw each example once");
            return None;
        }
        None => {
            fields.wrong_itself("names no way; choose one: weights, balance_classes");
            return None;
        }
    };
    fields.done(sampling)
}

fn sampling_to_proto(sampling: &Sampling) -> v1::Sampling {
    use v1::sampling::By;
    let by = match sampling {
        Sampling::Weights(name) => By::Weights(name.clone()),
        Sampling::BalanceClasses => By::BalanceClasses(true),
    };
    v1::Sampling { by: Some(by) }
}

fn read_split(message: &v1::Split, mut fields: Fields<'_>) -> Option<Split> {
    use v1::split::By;
    let v1::Split { by, seed, stratify } = message.clone();
    let split = match by {
        Some(By::Fraction(fraction)) => {
            fields.demand_given("fraction", fraction > 0.0 && fraction < 1.0, fraction, "above 0 and below 1");
            Split::Fraction { fraction, seed, stratify }
        }
        Some(By::Column(column)) => {
            if column.is_empty() {
                fields.wrong("column", "is empty; name a column that says train or validation");
            }
            for (field, is_set) in [("seed", seed != 0), ("stratify", stratify)] {
                if is_set {
                    fields.wrong(field, "is set, and a column divides the examples; it goes with fraction");
                }
            }
            Split::Column(column)
        }
        None => {
            fields.wrong_itself("names no way; choose one: fraction, column");
            return None;
        }
    };
    fields.done(split)
}

fn split_to_proto(split: &Split) -> v1::Split {
    use v1::split::By;
    match split {
        Split::Fraction { fraction, seed, stratify } => {
            v1::Split { by: Some(By::Fraction(*fraction)), seed: *seed, stratify: *stratify }
        }
        Split::Column(column) => v1::Split { by: Some(By::Column(column.clone())), ..v1::Split::default() },
    }
}

impl Normalize {
    pub(super) fn read(message: &v1::Normalize, wrong: &mut Violations) -> Self {
        let v1::Normalize { mean, std, measure } = message.clone();
        let mut fields = Fields::new("data.normalize", wrong);
        for (place, mean) in mean.iter().enumerate() {
            fields.demand(&format!("mean[{place}]"), mean.is_finite(), mean, "a finite number");
        }
        for (place, &std) in std.iter().enumerate() {
            fields.positive(&format!("std[{place}]"), std);
        }
        for (field, is_set) in [("mean", !mean.is_empty()), ("std", !std.is_empty())] {
            if measure && is_set {
                fields.wrong(field, "is set, and measure is as well; leave one of them out");
            }
        }
        if measure { Self::Measured } else { Self::By { mean, std } }
    }

    fn to_proto(&self) -> v1::Normalize {
        match self {
            Self::By { mean, std } => v1::Normalize { mean: mean.clone(), std: std.clone(), measure: false },
            Self::Measured => v1::Normalize { measure: true, ..v1::Normalize::default() },
        }
    }

    /// The means and deviations of an input of that name that can be normalized; None where they
    /// were not measured. An empty list stands for 0 or 1.
    pub fn moments<'a>(&'a self, input: &str, preparation: &'a Preparation) -> Option<(&'a [f64], &'a [f64])> {
        match self {
            Self::By { mean, std } => Some((mean, std)),
            Self::Measured => preparation.moments.get(input).map(Moments::parts),
        }
    }

    /// Adds what does not fit a set.
    pub(super) fn judge(&self, facts: &Facts, wrong: &mut Violations) {
        let known: Vec<_> = facts.inputs.iter().filter_map(Field::normalized).collect();
        let Some(numbers) = known.first() else {
            let what = "is set, and no input is images or rows of numbers; other values are taken as they are";
            return wrong.add("data.normalize", what);
        };
        let Self::By { mean, std } = self else { return };
        if facts.may_widen {
            // The runner, which reads all, knows how many numbers there are.
            return;
        }
        if let Some(other) = known.iter().find(|other| *other != numbers) {
            let what = format!("is set for all inputs, and they have {numbers} and {other} numbers to normalize");
            return wrong.add("data.normalize", format!("{what}; let it measure"));
        }
        for (field, values) in [("data.normalize.mean", mean), ("data.normalize.std", std)] {
            let found = values.len() as u64;
            if found > 0 && found != *numbers {
                wrong.add(field, format!("has {found} entries; the inputs have {numbers}, one a channel or number"));
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

/// Judges the names of files of targets; None where they are left out, and may be.
fn read_target_files(names: [&str; 2], path: &str, paths: &[String], fields: &mut Fields<'_>) -> Option<Paths<String>> {
    let is_left_out = path.is_empty() && paths.is_empty() && fields.may_lack_target();
    (!is_left_out).then(|| read_files(names, path, paths, fields))
}

/// Judges the names of files, each of which may be a pattern.
fn read_paths(field: &str, paths: &[String], fields: &mut Fields<'_>) -> Vec<String> {
    if paths.is_empty() {
        fields.wrong(field, "is missing; name files under the data roots, for example [\"data_batch_*.bin\"]");
    }
    paths.iter().enumerate().map(|(place, path)| read_path(&format!("{field}[{place}]"), path, fields)).collect()
}

/// Judges the names of files that one field names, or another one as a list. Each may be a pattern.
fn read_files([one, several]: [&str; 2], path: &str, paths: &[String], fields: &mut Fields<'_>) -> Paths<String> {
    if paths.is_empty() {
        return Paths::one(read_path(one, path, fields));
    }
    if !path.is_empty() {
        fields.wrong(one, format!("is set, and {several} is as well; leave one of them out"));
    }
    Paths::Paths(read_paths(several, paths, fields))
}

/// The values of the two fields that `read_files` reads.
fn files_to_proto(files: &Paths<String>) -> (String, Vec<String>) {
    match files {
        Paths::Path(paths) => (paths.first().cloned().unwrap_or_default(), Vec::new()),
        Paths::Paths(paths) => (String::new(), paths.clone()),
    }
}

/// Judges the names of the arrays of a file: those of the inputs, and the target, which is `y`
/// where none is named.
fn read_names(inputs: Vec<String>, target: String, fields: &mut Fields<'_>) -> (Vec<String>, String) {
    for (place, name) in inputs.iter().enumerate() {
        let field = format!("inputs[{place}]");
        if name.is_empty() {
            fields.wrong(&field, "is empty; name an array of the file");
        } else if inputs[..place].contains(name) {
            fields.wrong(&field, format!("is {name:?}, which stands there twice"));
        }
    }
    (inputs, if target.is_empty() { "y".to_owned() } else { target })
}
