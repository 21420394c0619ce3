//! The data of the rows: small sets that are written where a row is tried.

use std::path::Path;

use tch::{Device, Kind, Tensor};
use torchd::dataset::paths::Paths;
use torchd::dataset::{Files, idx, named_arrays, text};
use torchd::journal::JobFolder;

/// The data of a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Data {
    /// Grey images of 28x28 in ten classes, as IDX files.
    Images,
    /// Rows of six numbers in three classes, as named arrays.
    Classes,
    /// The same with a weight each, `w`.
    Weighted,
    /// Rows of six numbers with a number each.
    Numbers,
    /// Pictures of three channels and 8x8 in three classes.
    Pictures,
    /// Rows of seven tokens out of eleven, each with the one that follows.
    Tokens,
    /// 44 windows of seven characters of a text.
    Text,
    /// Rows of seven tokens in three classes.
    Sentences,
    /// Rows of six numbers with three labels each.
    Labels,
    /// Rows of six numbers with a label each.
    Label,
    /// Rows of six numbers with a distribution of three shares each.
    Shares,
    /// Those of an exported model, whose archives are in this folder of `tests/data/exported`.
    Exported(&'static str),
    /// Those of a TorchScript module.
    Script,
}

/// The data of a kind, drawn anew the same each time.
pub(super) fn data(data: Data, folder: &Path) -> Files {
    let numbers = |shape: &[i64]| {
        tch::manual_seed(3);
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    };
    let both = |name: &str, inputs: Tensor, targets: Tensor| {
        let path = folder.join(name);
        let tensors = [("x", inputs), ("y", targets)];
        Tensor::write_safetensors(&tensors, &path).unwrap();
        Files::Safetensors(named_arrays::Files { path, inputs: vec![], target: "y".into() })
    };
    let arrays = |name: &str, targets: Tensor| both(name, numbers(&[40, 6]), targets);
    let tokens = || {
        tch::manual_seed(4);
        Tensor::randint(11, [40, 8], (Kind::Int64, Device::Cpu))
    };
    let classes = || Tensor::arange(40, (Kind::Int64, Device::Cpu));
    match data {
        Data::Images => {
            let (images, labels) = (folder.join("images"), folder.join("labels"));
            let pixels = (numbers(&[40, 28, 28]) * 50.0 + 128.0).clamp(0.0, 255.0).to_kind(Kind::Uint8);
            write_idx(&images, &[40, 28, 28], &Vec::<u8>::try_from(pixels.view([-1])).unwrap());
            write_idx(&labels, &[40], &(0..40).map(|place| place % 10).collect::<Vec<_>>());
            Files::Idx(idx::Files { images, labels })
        }
        Data::Classes => arrays("classes.safetensors", classes().remainder(3)),
        Data::Weighted => {
            let path = folder.join("weighted.safetensors");
            let weights = classes().remainder(5).to_kind(Kind::Float);
            let tensors = [("w", weights), ("x", numbers(&[40, 6])), ("y", classes().remainder(3))];
            Tensor::write_safetensors(&tensors, &path).unwrap();
            Files::Safetensors(named_arrays::Files { path, inputs: vec![], target: "y".into() })
        }
        Data::Numbers => arrays("numbers.safetensors", classes().to_kind(Kind::Float) / 40.0),
        Data::Pictures => both("pictures.safetensors", numbers(&[40, 3, 8, 8]), classes().remainder(3)),
        Data::Tokens => {
            let [inputs, targets] = [0, 1].map(|first| tokens().narrow(1, first, 7).contiguous());
            both("tokens.safetensors", inputs, targets)
        }
        Data::Text => {
            let path = folder.join("text");
            let characters = ['a', 'b', 'c', ' ', '\n', 'é', '\u{1F600}'];
            let text: String = (0..44 * 7 + 3).map(|place: usize| characters[place * place % 11 % 7]).collect();
            std::fs::write(&path, text).unwrap();
            let cut = text::Cut { context: 7, stride: 7 };
            Files::Text(text::Files { paths: Paths::Path(vec![path]), unit: text::Unit::Character, cut })
        }
        Data::Sentences => both("sentences.safetensors", tokens().narrow(1, 0, 7).contiguous(), classes().remainder(3)),
        Data::Script => {
            let scripts = Path::new("tests/data/torchscript").canonicalize().unwrap();
            std::fs::copy(scripts.join("net.pt"), folder.join(JobFolder::SCRIPT)).unwrap();
            let path = scripts.join("data.safetensors");
            Files::Safetensors(named_arrays::Files { path, inputs: vec![], target: "y".into() })
        }
        Data::Labels => arrays("labels.safetensors", numbers(&[40, 3]).gt(0.0).to_kind(Kind::Int64)),
        Data::Label => arrays("label.safetensors", classes().remainder(2)),
        Data::Shares => arrays("shares.safetensors", numbers(&[40, 3]).softmax(-1, Kind::Float)),
        Data::Exported(model) => {
            let exported = Path::new("tests/data/exported").canonicalize().unwrap();
            let archives = [("net.pt2", JobFolder::EXPORTED), ("train.pt2", JobFolder::EXPORTED)];
            for (from, to) in archives.into_iter().chain([("eval.pt2", JobFolder::EXPORTED_EVAL)]) {
                let from = exported.join(model).join(from);
                if from.exists() {
                    std::fs::copy(from, folder.join(to)).unwrap();
                }
            }
            // The module of `plain` is that of `mlp`.
            let data = if model == "plain" { "mlp" } else { model };
            let path = exported.join(data).join("data.safetensors");
            Files::Safetensors(named_arrays::Files { path, inputs: vec![], target: "y".into() })
        }
    }
}

fn write_idx(path: &Path, sizes: &[u32], values: &[u8]) {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend_from_slice(values);
    std::fs::write(path, bytes).unwrap();
}
