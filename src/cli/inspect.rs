//! `inspect`: what is in a file of a model, read here and without a daemon.

mod exported;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use super::failure::Failure;
use super::output::Output;
use super::table::{columns, facts};
use crate::proto::v1::{FileContents, FileKind, TensorContents};
use crate::tensor_file::{
    Format, Positioned, Problem, Tensor, TensorFile, VALUES_BELOW_BYTES, Values, bytes_to_judge, judge_values, script,
};

/// Tells what is in a file; None for one of another kind.
type Reader = fn(&File) -> Option<FileContents>;

/// The readers, each for a kind of file. The first that knows a file reads it; the last takes every
/// file and names its kind.
const READERS: [Reader; 3] = [exported::read, script, weights];

/// Prints what is in a file. Exits with 1 where torchd would refuse it.
pub(super) fn inspect(output: Output, path: &Path) -> Result<ExitCode, Failure> {
    let unreadable = |error: std::io::Error| Failure::Other(format!("{} cannot be read: {error}", path.display()));
    // A pipe would be waited for.
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        return Err(Failure::Other(format!("{} is no file", path.display())));
    }
    let file = File::open(path).map_err(unreadable)?;
    let contents = READERS.iter().find_map(|read| read(&file)).unwrap_or_default();
    let contents = FileContents { path: path.display().to_string(), size_bytes: about.len(), ..contents };
    output.print(&contents, describe)?;
    Ok(if contents.refusals.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A TorchScript archive.
fn script(file: &File) -> Option<FileContents> {
    script::judge(&Positioned(file), file.metadata().ok()?.len()).ok()?;
    Some(FileContents { kind: FileKind::Torchscript.into(), ..FileContents::default() })
}

/// A file of weights.
fn weights(file: &File) -> Option<FileContents> {
    let refused = |problem: &Problem| vec![problem.to_string()];
    let read = match TensorFile::read(file) {
        Ok(read) => read,
        Err(problem) => return Some(FileContents { refusals: refused(&problem), ..FileContents::default() }),
    };
    let kind = match read.format {
        Format::Safetensors => FileKind::Safetensors,
        Format::Pt => FileKind::Pt,
    };
    let mut contents = FileContents {
        kind: kind.into(),
        state_dicts: read.state_dicts,
        left_out_tensors: read.left_out,
        values_were_read: bytes_to_judge(&read.tensors) < VALUES_BELOW_BYTES,
        ..FileContents::default()
    };
    if contents.values_were_read {
        // Which of them are masks, the file does not tell.
        judge(&read.tensors, Values::Infinite, &Positioned(file), &mut contents);
    }
    list(&read.tensors, &mut contents);
    Some(contents)
}

/// Tells of values that torchd would refuse, and of infinities where it may take them.
fn judge(tensors: &[Tensor], allowed: Values, source: &Positioned<'_>, contents: &mut FileContents) {
    match judge_values(tensors, allowed, source) {
        Err(problem) => contents.refusals.push(problem.to_string()),
        Ok(()) => {
            if let Err(Problem::Value { name, place, value, .. }) = judge_values(tensors, Values::Finite, source) {
                contents.infinity = format!("{value} in {name:?} at place {place}, which a buffer alone may hold");
            }
        }
    }
}

/// Lists tensors; those at the same place are tied.
fn list(tensors: &[Tensor], contents: &mut FileContents) {
    let mut places = HashMap::new();
    for tensor in tensors {
        // Tensors without values all lie at the same place.
        let place = (tensor.count() > 0).then_some((tensor.extent(), &tensor.shape, &tensor.layout.strides));
        let first = place.map(|place| *places.entry(place).or_insert(&tensor.name));
        let tied_to = first.filter(|first| **first != tensor.name).cloned().unwrap_or_default();
        if tied_to.is_empty() {
            contents.values = contents.values.saturating_add(tensor.count());
            contents.values_bytes = contents.values_bytes.saturating_add(tensor.size_bytes());
        }
        contents.tensors.push(TensorContents {
            name: tensor.name.clone(),
            dtype: tensor.dtype.name().into(),
            shape: tensor.shape.clone(),
            size_bytes: tensor.size_bytes(),
            tied_to,
        });
    }
}

fn describe(contents: &FileContents) -> String {
    let kind = match contents.kind() {
        FileKind::Unspecified => "unknown",
        FileKind::Safetensors => "safetensors",
        FileKind::Pt => ".pt of torch.save",
        FileKind::Pt2 => ".pt2 of torch.export",
        FileKind::Torchscript => "TorchScript, for model.torchscript; torchctl validate with --dry-run runs it once",
    };
    let tensors = match (contents.state_dicts.as_slice(), contents.left_out_tensors) {
        ([key], 0) => format!(" under {key:?}"),
        ([key], more) => format!(" under {key:?}; {more} more beside it are left out"),
        ([], _) => String::new(),
        (keys, _) => format!(" in the state dicts {}: a job has to say which of them is meant", keys.join(", ")),
    };
    let is_read = match contents.infinity.as_str() {
        "" if contents.values_were_read => "all finite",
        "" => "not read: too many",
        infinity => infinity,
    };
    let judged = if contents.refusals.is_empty() { is_read } else { "" };
    let has_kind = !matches!(contents.kind(), FileKind::Unspecified | FileKind::Torchscript);
    let about = |text: String| if has_kind { text } else { String::new() };
    let mut text = facts(&[
        ("file", contents.path.clone()),
        ("kind", kind.into()),
        ("bytes", contents.size_bytes.to_string()),
        ("tensors", about(format!("{}{tensors}", contents.tensors.len()))),
        ("values", about(format!("{} in {} bytes", contents.values, contents.values_bytes))),
        ("numbers", about(judged.into())),
        ("refused", contents.refusals.iter().map(|what| format!("it {what}")).collect::<Vec<_>>().join("\n")),
    ]);
    text += &exported::describe(&contents.graphs);
    if contents.tensors.is_empty() {
        return text;
    }
    let row = |tensor: &TensorContents| {
        let tied = if tensor.tied_to.is_empty() { String::new() } else { format!("= {}", tensor.tied_to) };
        let TensorContents { name, dtype, shape, size_bytes, .. } = tensor;
        [name.clone(), dtype.clone(), format!("{shape:?}"), size_bytes.to_string(), tied]
    };
    let rows: Vec<_> = contents.tensors.iter().map(row).collect();
    text.push('\n');
    text + &columns(["NAME", "TYPE", "SHAPE", "BYTES", "TIED"], &rows)
}
