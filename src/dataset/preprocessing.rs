//! `preprocessing.json`: how values become the inputs and targets of a trained model. It is kept
//! with the weights, so that the model can be built and used without its training data.

use serde::{Deserialize, Serialize};

use super::content::{Moments, Preparation};
use super::{Dtype, Facts, Field, Range};

/// The version of the format that is written. Readers refuse other ones.
const VERSION: u32 = 1;

/// Pixels are divided by it.
pub const PIXEL_SCALE: f64 = 255.0;

/// How values become inputs and targets, as the training set taught it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    version: u32,
    /// Examples of the training set.
    examples: u64,
    /// The inputs of the network, in the order of the set.
    inputs: Vec<Input>,
    target: Array,
    /// The preparation that the training set has taught.
    #[serde(default, skip_serializing_if = "is_empty")]
    preparation: Preparation,
}

/// An input: an array, and the steps from its values to those that the network gets, in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Input {
    #[serde(flatten)]
    array: Array,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    divide_by: Option<f64>,
    /// Subtracted by channel of images, or number of a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mean: Option<Vec<f64>>,
    /// Divides, by channel or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    std: Option<Vec<f64>>,
}

/// An array of an example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Array {
    name: String,
    dtype: Stored,
    /// Without the dimension that counts examples.
    shape: Vec<u64>,
    /// The lowest and the highest value; whole numbers around them for floats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range: Option<[i64; 2]>,
}

/// The types of values, by NumPy's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stored {
    Uint8,
    Float32,
    Int64,
}

fn is_empty(preparation: &Preparation) -> bool {
    *preparation == Preparation::default()
}

impl Preprocessing {
    /// That of a training set with these facts. `normalized` gives the moments by which an input is
    /// normalized, if it is; a list in them that is empty stands for 0 or 1.
    pub fn of<'a>(
        train: &Facts,
        preparation: Preparation,
        normalized: impl Fn(&Field) -> Option<(&'a [f64], &'a [f64])>,
    ) -> Self {
        let input = |field: &Field| {
            let numbers = normalized(field);
            let filled = |numbers: &[f64]| (!numbers.is_empty()).then(|| numbers.to_vec());
            Input {
                array: Array::of(field),
                divide_by: (field.dtype == Dtype::Pixel).then_some(PIXEL_SCALE),
                mean: numbers.and_then(|(mean, _)| filled(mean)),
                std: numbers.and_then(|(_, std)| filled(std)),
            }
        };
        Self {
            version: VERSION,
            examples: train.examples,
            inputs: train.inputs.iter().map(input).collect(),
            target: Array::of(&train.target),
            preparation,
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// The reason why it cannot be used, in words that follow its name.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let unread = |error: serde_json::Error| format!("cannot be read: {error}");
        let Versioned { version } = serde_json::from_slice(bytes).map_err(unread)?;
        if version != VERSION {
            return Err(format!("has the version {version}; this torchd reads version {VERSION}"));
        }
        let read: Self = serde_json::from_slice(bytes).map_err(unread)?;
        if read.inputs.is_empty() {
            return Err("names no input".into());
        }
        Ok(read)
    }

    /// Its file.
    ///
    /// # Errors
    /// Those of serde.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
    }

    /// The preparation that the training set has taught.
    pub fn preparation(&self) -> &Preparation {
        &self.preparation
    }

    /// The same, for new data: with the size of the images that the model was trained on.
    pub fn known(&self) -> Preparation {
        let size = |Input { array, .. }: &Input| match (array.dtype, &array.shape[..]) {
            (Stored::Uint8, &[_, height, width]) => Some([height, width]),
            _ => None,
        };
        let image_size = self.inputs.first().and_then(size);
        Preparation { image_size, ..self.preparation.clone() }
    }

    /// The facts of the training set, as far as a network and its loss depend on them.
    pub fn facts(&self) -> Facts {
        Facts {
            examples: self.examples,
            inputs: self.inputs.iter().map(|input| input.array.field()).collect(),
            target: self.target.field(),
            sizes: Vec::new(),
            is_resident: true,
            may_widen: false,
        }
    }
}

impl Array {
    fn of(field: &Field) -> Self {
        let dtype = match field.dtype {
            Dtype::Pixel => Stored::Uint8,
            Dtype::F32 => Stored::Float32,
            Dtype::I64 => Stored::Int64,
        };
        let range = field.range.map(|Range { lowest, highest, .. }| [lowest, highest]);
        Self { name: field.name.clone(), dtype, shape: field.shape.clone(), range }
    }

    fn field(&self) -> Field {
        let dtype = match self.dtype {
            Stored::Uint8 => Dtype::Pixel,
            Stored::Float32 => Dtype::F32,
            Stored::Int64 => Dtype::I64,
        };
        let range = self.range.map(|[lowest, highest]| Range { lowest, highest, highest_at: 0 });
        Field { name: self.name.clone(), file: "".into(), dtype, shape: self.shape.clone(), range }
    }
}

impl Moments {
    /// Both lists.
    pub fn parts(&self) -> (&[f64], &[f64]) {
        (&self.mean, &self.std)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let field = |name: &str, dtype, shape: &[u64], range| Field {
            name: name.into(),
            file: "".into(),
            dtype,
            shape: shape.to_vec(),
            range,
        };
        let classes = Some(Range { lowest: 0, highest: 9, highest_at: 0 });
        Facts {
            examples: 4000,
            inputs: vec![field("images", Dtype::Pixel, &[1, 28, 28], None), field("x", Dtype::F32, &[3], None)],
            target: field("labels", Dtype::I64, &[], classes),
            sizes: Vec::new(),
            is_resident: true,
            may_widen: false,
        }
    }

    #[test]
    fn a_file_gives_back_the_facts_that_a_network_is_built_from() {
        let preparation = Preparation { classes: vec!["a".into()], ..Preparation::default() };
        let of_images = |field: &Field| (field.name == "images").then_some((&[0.25][..], &[][..]));
        let written = Preprocessing::of(&facts(), preparation.clone(), of_images).to_json().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&written).unwrap();
        let images = serde_json::json!({
            "name": "images", "dtype": "uint8", "shape": [1, 28, 28], "divide_by": 255.0, "mean": [0.25]
        });
        assert_eq!(value["inputs"][0], images);
        assert_eq!(value["inputs"][1], serde_json::json!({"name": "x", "dtype": "float32", "shape": [3]}));
        assert_eq!(value["target"]["range"], serde_json::json!([0, 9]));
        let read = Preprocessing::read(&written).unwrap();
        assert_eq!((read.facts(), read.preparation()), (facts(), &preparation));
        assert_eq!(read.known(), Preparation { image_size: Some([28, 28]), ..preparation });
    }

    #[test]
    fn other_versions_and_other_files_are_refused() {
        for (bytes, words) in [
            (&b"{\"version\": 2, \"new\": true}"[..], "has the version 2; this torchd reads version 1"),
            (b"{\"version\": 1}", "cannot be read: missing field"),
            (b"{}", "cannot be read: missing field `version`"),
            (b"", "cannot be read"),
            (br#"{"version": 1, "examples": 1, "inputs": [], "target": {"name": "y", "dtype": "int64", "shape": []}}"#, "no input"),
        ] {
            let told = Preprocessing::read(bytes).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
    }
}
