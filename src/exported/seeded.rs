//! The record of one seeded step that torchd's export helper writes into an archive: inputs, and
//! the losses and gradients that PyTorch computed of them. (`python/torchd_export.py`)

use serde::Deserialize;

use super::archive::Archive;
use super::json;
use super::problem::{Problem, Result, shown};
use crate::tensor_file::{Dtype, Layout, ReaderAt, Tensor};

const ENTRY: &str = "extra/torchd.json";
/// The form of the record that is understood.
const FORMAT: u32 = 1;
/// The record itself is small: the values of its tensors are entries of their own.
const MOST_BYTES: u64 = 1 << 20;

/// A step that PyTorch made with the weights of the archive, on the CPU.
#[derive(Debug, Clone, PartialEq)]
pub struct SeededStep {
    /// The seed of the generator before each graph runs.
    pub seed: i64,
    /// The inputs, in the order of the graph, row by row.
    pub inputs: Vec<Tensor>,
    /// The loss that was made of the first output.
    pub criterion: Criterion,
    /// The target of that loss; None for one that takes none.
    pub target: Option<Tensor>,
    /// The loss of the graph for training.
    pub train_loss: f64,
    /// The norm of all its gradients taken as one vector.
    pub gradient_norm: f64,
    /// The loss of the graph for evaluation, which ran first.
    pub eval_loss: f64,
}

/// A loss of the first output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// The output itself.
    Output,
    /// The mean of its squares.
    MeanSquare,
    /// `torch.nn.functional.cross_entropy`.
    CrossEntropy,
    /// `torch.nn.functional.nll_loss`.
    Nll,
    /// `torch.nn.functional.mse_loss`.
    Mse,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u32,
    #[serde(rename = "torch")]
    _torch: String,
    seed: i64,
    inputs: Vec<Field>,
    loss: Criterion,
    target: Option<Field>,
    train: Train,
    eval: Eval,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Field {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Train {
    loss: f64,
    gradient_norm: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Eval {
    loss: f64,
}

impl SeededStep {
    /// The record of an archive; None where it has none.
    ///
    /// # Errors
    /// If it is damaged or in another form.
    pub fn read(archive: &Archive, source: &dyn ReaderAt) -> Result<Option<Self>> {
        if !archive.entries.has(&format!("{}{ENTRY}", archive.folder)) {
            return Ok(None);
        }
        let record: Record = json::read(&archive.bytes(source, ENTRY, MOST_BYTES)?, ENTRY)?;
        if record.format != FORMAT {
            let what = format!("the form {} of the record; {FORMAT} is understood", record.format);
            return Err(Problem::unsupported(ENTRY, what));
        }
        let takes_target = matches!(record.loss, Criterion::CrossEntropy | Criterion::Nll | Criterion::Mse);
        if takes_target != record.target.is_some() {
            return Err(Problem::damaged(ENTRY, "its loss and its target do not go together"));
        }
        Ok(Some(Self {
            seed: record.seed,
            inputs: record.inputs.into_iter().map(|field| field.tensor(archive)).collect::<Result<_>>()?,
            criterion: record.loss,
            target: record.target.map(|field| field.tensor(archive)).transpose()?,
            train_loss: record.train.loss,
            gradient_norm: record.train.gradient_norm,
            eval_loss: record.eval.loss,
        }))
    }
}

impl Field {
    fn tensor(self, archive: &Archive) -> Result<Tensor> {
        let place = format!("{ENTRY}, {}", shown(&self.name));
        let dtype = Dtype::of_torch(&self.dtype)
            .ok_or_else(|| Problem::unsupported(&place, format!("the data type {}", shown(&self.dtype))))?;
        let bytes = archive.entries.place(&format!("{}{}", archive.folder, self.path))?;
        let storage_bytes = bytes.end - bytes.start;
        let mut strides = vec![1_u64; self.shape.len()];
        for inner in (1..self.shape.len()).rev() {
            strides[inner - 1] = strides[inner].saturating_mul(self.shape[inner].max(1));
        }
        let within = Layout { offset: bytes.start, storage_bytes, first: 0, strides };
        let tensor =
            Tensor::new(self.name, dtype, self.shape, within).map_err(|what| Problem::damaged(&place, what))?;
        if tensor.size_bytes() != storage_bytes {
            let what = format!("it has {} bytes, and its entry {storage_bytes}", tensor.size_bytes());
            return Err(Problem::damaged(place, what));
        }
        Ok(tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exported::tests::{archive_of, entries, file};

    fn read(bytes: &[u8]) -> Result<Option<SeededStep>> {
        let archive = Archive::read(&bytes, bytes.len() as u64).unwrap();
        SeededStep::read(&archive, &bytes)
    }

    #[test]
    fn the_record_of_the_helper_is_read_and_other_archives_have_none() {
        let step = read(&file("step_metrics/net.pt2")).unwrap().unwrap();
        let names: Vec<_> = step.inputs.iter().map(|input| (input.name.as_str(), input.dtype)).collect();
        assert_eq!(names, [("x", Dtype::F32), ("y", Dtype::I64)]);
        assert_eq!((step.criterion, step.target), (Criterion::Output, None));
        assert!(step.train_loss > 0.0 && step.gradient_norm > 0.0 && step.eval_loss > 0.0);
        let step = read(&file("mlp/net.pt2")).unwrap().unwrap();
        assert_eq!((step.criterion, step.target.unwrap().dtype), (Criterion::CrossEntropy, Dtype::I64));
        assert_eq!(read(&file("plain/train.pt2")).unwrap(), None);
    }

    #[test]
    fn a_record_that_does_not_fit_is_refused() {
        for (from, to, words) in [
            (r#""format": 1"#, r#""format": 2"#, "the form 2 of the record; 1 is understood"),
            (r#""loss": "cross_entropy""#, r#""loss": "output""#, "do not go together"),
            (r#""loss": "cross_entropy""#, r#""loss": "hinge""#, "unknown variant `hinge`"),
            (r#""dtype": "float32""#, r#""dtype": "float99""#, "the data type float99"),
            (r#""dtype": "float32""#, r#""dtype": "float16""#, "bytes, and its entry"),
            (r#""seed": "#, r#""sand": 1, "seed": "#, "unknown field `sand`"),
        ] {
            let mut all = entries(&file("mlp/net.pt2"));
            let record = &mut all.iter_mut().find(|(name, _)| name == ENTRY).unwrap().1;
            let text = String::from_utf8(record.clone()).unwrap();
            assert!(text.contains(from), "{from}: {text}");
            *record = text.replacen(from, to, 1).into_bytes();
            let told = read(&archive_of("net/", &all)).unwrap_err().to_string();
            assert!(told.contains(words), "{words}: {told}");
        }
    }
}
