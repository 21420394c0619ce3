//! The content of the files of a set, before it is divided and prepared.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::image_folder::Fit;
use super::split::Part;
use super::table::TableEncoding;
use super::text::TextEncoding;
use super::{Details, Facts, Problem, Rows, Source};
use crate::gate::Wanted;

/// How files are read.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// How far.
    pub depth: Depth,
    /// Whether anybody waits for it.
    pub wanted: &'a Wanted,
    /// The column that divides a table.
    pub split_column: Option<&'a str>,
    /// The array or column that weighs the examples. It is no input by default.
    pub weights: Option<&'a str>,
    /// Whether its values are asked for: the examples of a set to judge by come once each.
    pub is_weighed: bool,
    /// Whether examples may lack their targets: a format that finds none gives them a target
    /// without values.
    pub may_lack_target: bool,
    /// The preparation that a model was trained with, where the files are data to use it on.
    pub known: Option<&'a Preparation>,
    /// The memory that the values of the files may take. A format that can reads what has more in
    /// shards, or row by row. None for all that they take.
    pub memory_bytes: Option<u64>,
}

/// [`Reading::memory_bytes`] is one part in so many of the memory that a job can have: the model,
/// what is computed with it, and the libraries take the rest. Values of formats that read their
/// files as a whole may take all.
pub const SHARE_OF_DATA: u64 = 2;

impl Reading<'_> {
    /// Demands that a set names its targets in that field, unless they may be lacking.
    pub(super) fn demand_target(&self, is_named: bool, field: &'static str) -> Result<(), Vec<Problem>> {
        if is_named || self.may_lack_target {
            return Ok(());
        }
        let what = "is missing; it may be where warm_start.checkpoint names the job that trained the model, whose \
                    targets are known, and mode is predict";
        Err(vec![Problem::of_field(field, what.into())])
    }
}

/// How far files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Far enough to judge a request: small files whole, large ones by their headers or a sample.
    Judge,
    /// Far enough to train.
    Train,
}

/// The content of the files of a set: rows, each of which may become an example.
pub trait Content: Send {
    /// Rows, at least one. Of files that were read in part those that were read, which may be none.
    fn rows(&self) -> u64;

    /// The rows of all files, as far as a part of them tells, where no more was read: the facts are
    /// those of a sample. None where all rows are known.
    fn estimate(&self) -> Option<u64> {
        None
    }

    /// Bytes of memory that its values take while a job has them: all of them, or those that are
    /// read ahead. None where it is not known better than by the facts of its sets.
    fn memory_bytes(&self) -> Option<u64> {
        None
    }

    /// Whether its examples are read in shards.
    fn is_in_shards(&self) -> bool {
        false
    }

    /// Whether values stay in their files, and rows are read one by one when they are needed.
    fn is_in_files(&self) -> bool {
        false
    }

    /// The reason why its values take more than their share of the memory, with the remedy, in
    /// words that follow "the data"; None where they do not.
    fn whole(&self) -> Option<&str> {
        None
    }

    /// A number for each row: those with the same one are of the same class.
    ///
    /// # Errors
    /// The reason why it has none, in words that follow the field, which the caller knows.
    fn strata(&self) -> Result<Vec<u32>, Problem>;

    /// The reason why rows that are drawn at random tell of the others, in words that follow
    /// the field of a split; None where each stands for itself.
    fn overlap(&self) -> Option<String> {
        None
    }

    /// The numbers of the array or column that weighs the examples, one for each row; None where a
    /// large file is judged without its values.
    ///
    /// # Errors
    /// The reason why there are none, in words that follow the name and "and".
    fn weights(&self) -> Result<Option<Cow<'_, [f64]>>, String> {
        Err("the data have neither named arrays nor columns".into())
    }

    /// The part that a column gives to each row.
    ///
    /// # Errors
    /// The reason why it does not, in words that follow the field, which the caller knows.
    fn parts_by(&self, column: &str) -> Result<Vec<Part>, Problem> {
        Err(format!("is {column:?}, and the data are no table").into())
    }

    /// Looks over the rows of its sets, once, before they are learned from and prepared. `measure`
    /// asks for the mean and deviation of inputs.
    ///
    /// # Errors
    /// All that is wrong with them.
    fn look_over(&mut self, _sets: &[&Rows], _measure: bool) -> Result<(), Vec<Problem>> {
        Ok(())
    }

    /// The preparation of values by these rows, which are those to learn from. `measure` asks for
    /// the mean and deviation of inputs.
    fn learn(&self, rows: &Rows, measure: bool) -> Result<Preparation, Vec<Problem>>;

    /// A closer look at these rows, for people. Nothing is known of values that were not read.
    fn details(&self, _rows: &Rows, _preparation: &Preparation) -> Details {
        Details::default()
    }

    /// The examples of these rows, their values prepared.
    ///
    /// # Errors
    /// All that is wrong with them.
    fn prepare(&self, rows: Rows, preparation: &Preparation) -> Result<Prepared, Vec<Problem>>;
}

/// A set of examples.
pub struct Prepared {
    /// Its facts.
    pub facts: Facts,
    /// Its values; None where it was read to be judged.
    pub source: Option<Box<dyn Source>>,
    /// Remarkable values, such as categories that no training row has, which are no mistakes.
    pub notes: Vec<String>,
}

/// How values become inputs and targets, learned from the training set: the validation set and new
/// data are prepared the same way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preparation {
    /// The names of the classes in the order of their numbers; empty where targets are numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Measured moments of inputs, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub moments: BTreeMap<String, Moments>,
    /// How the rows of a table become examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableEncoding>,
    /// How images became the size of the input. Absent where all had that size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_fit: Option<Fit>,
    /// The height and width in pixels of the images that a model was trained on, where new ones are
    /// read for it: the facts of its training set have it (`Preprocessing::known`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<[u64; 2]>,
    /// How text becomes tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextEncoding>,
    /// Whether files that were read in part have taught it: the whole may have more classes and
    /// categories. So it is while a request is judged, and never when a job runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_of_sample: bool,
}

impl Preparation {
    /// Names and values that only the set a model was trained on can tell, but for classes: another
    /// set may have others in their place. None where there are none.
    pub fn of_training(&self) -> Option<&'static str> {
        let columns = || self.table.iter().flat_map(|table| &table.inputs).flat_map(|input| &input.columns);
        if columns().any(|column| column.categories.is_some()) {
            return Some("the categories of columns");
        }
        match &self.text {
            Some(TextEncoding::Character { .. }) => Some("the characters of a text"),
            Some(TextEncoding::Byte) | None => None,
        }
    }
}

/// Means and standard deviations, one for each channel of images or each number of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moments {
    /// The means.
    pub mean: Vec<f64>,
    /// The standard deviations, of the whole (divided by the count); 1 for values that do not vary.
    pub std: Vec<f64>,
}
