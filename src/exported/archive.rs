//! A `.pt2` archive: its models, each with the program and the tensors. No code in it is run, and
//! nothing is taken that would have to be.

use std::collections::BTreeMap;

use rawzip::ReaderAt;

use super::container::Container;
use super::problem::{Problem, Result, shown};
use super::program::{Input, Program, Size};
use super::stored::{self, Stored, Tensors};
use super::{json, resolve, schema};

/// The program of a model in JSON, at most: that of ResNet-50 has 1 MB.
const MOST_JSON_BYTES: u64 = 64 << 20;
/// Models in an archive, at most.
const MOST_MODELS: usize = 16;
/// The version of the schema that is understood.
const MAJOR: u32 = 8;
/// The first minor version that is: PyTorch 2.7.
const LEAST_MINOR: u32 = 7;
/// The newest minor version that was looked at. A newer one is read by the same rule as the others:
/// what this version does not know is refused where it stands.
const NEWEST_MINOR: u32 = 20;

/// An archive that has been read: everything but the numbers of its tensors.
#[derive(Debug)]
pub struct Archive<R> {
    /// The archive itself, from which the numbers are read.
    pub container: Container<R>,
    /// Its models by name: `model` alone where `torch.export.save` wrote it.
    pub models: BTreeMap<String, Model>,
}

/// A program with its tensors.
#[derive(Debug)]
pub struct Model {
    /// What it computes.
    pub program: Program,
    /// Parameters and those buffers that `state_dict()` has.
    pub weights: Tensors,
    /// Other buffers, and tensors that stood in the code.
    pub constants: Tensors,
}

impl<R: ReaderAt> Archive<R> {
    /// Reads an archive of so many bytes.
    ///
    /// # Errors
    /// If it is none, is damaged, or holds what this version does not take.
    pub fn open(source: R, file_bytes: u64) -> Result<Self> {
        let container = Container::open(source, file_bytes)?;
        if container.find("archive_format").is_none() {
            return Err(other_kind(&container));
        }
        for (entry, right) in [("archive_format", "pt2"), ("archive_version", "0"), ("byteorder", "little")] {
            let found = container.read(entry, 64)?;
            if found != right.as_bytes() {
                let what = format!("it is {}; {right} is understood", shown(&String::from_utf8_lossy(&found)));
                return Err(Problem::unsupported(entry, what));
            }
        }
        let names: Vec<_> = container
            .names()
            .filter_map(|name| name.strip_prefix("models/")?.strip_suffix(".json"))
            .map(str::to_owned)
            .collect();
        if names.is_empty() || names.len() > MOST_MODELS {
            let what = format!("it holds {} models; from 1 to {MOST_MODELS} are taken", names.len());
            return Err(Problem::unsupported("models/", what));
        }
        let mut models = BTreeMap::new();
        for name in names {
            models.insert(name.clone(), Model::read(&container, &name)?);
        }
        Ok(Self { container, models })
    }
}

impl Model {
    fn read<R: ReaderAt>(container: &Container<R>, name: &str) -> Result<Self> {
        let entry = format!("models/{name}.json");
        let bytes = container.read(&entry, MOST_JSON_BYTES)?;
        let versions: schema::Versions = json::read(&bytes, &entry)?;
        judge_version(&versions, &entry)?;
        let file: schema::ExportedProgram = json::read(&bytes, &entry)?;
        let program = resolve::program(file, &entry)?;
        let config = |folder: &str| format!("data/{folder}/{name}_{folder}_config.json");
        let weights = stored::read(container, &config("weights"), "data/weights/", MOST_JSON_BYTES)?;
        let constants = stored::read(container, &config("constants"), "data/constants/", MOST_JSON_BYTES)?;
        let model = Self { program, weights, constants };
        model.judge_tensors(&entry)?;
        Ok(model)
    }

    /// The stored tensor behind an input of the program; None for those that the user gives.
    pub fn stored(&self, input: &Input) -> Option<&Stored> {
        match input {
            Input::Parameter { name, .. } | Input::Buffer { name, is_persistent: true, .. } => self.weights.get(name),
            Input::Buffer { name, is_persistent: false, .. } | Input::Constant { name, .. } => self.constants.get(name),
            Input::User { .. } | Input::Fixed { .. } => None,
        }
    }

    /// Every tensor that the program asks for is there, of the type and the sizes that it has there.
    fn judge_tensors(&self, entry: &str) -> Result<()> {
        for input in &self.program.inputs {
            let (Input::Parameter { name, value }
            | Input::Buffer { name, value, .. }
            | Input::Constant { name, value }) = input
            else {
                continue;
            };
            let place = || format!("{}, {}", shown(entry), shown(name));
            let damaged = |what: String| Err(Problem::damaged(place(), what));
            let Some(found) = self.stored(input) else {
                return damaged("the archive does not hold this tensor".into());
            };
            let Some(wanted) = self.program.tensor(*value) else {
                return damaged("it is no tensor in the graph".into());
            };
            let sizes = found.sizes.iter().map(|&size| Size::Fixed(size));
            if found.dtype != wanted.dtype || !wanted.sizes.iter().cloned().eq(sizes) {
                let (dtype, sizes) = (found.dtype.name(), &found.sizes);
                return damaged(format!("the archive holds {dtype} {sizes:?}, and the graph takes {wanted}"));
            }
        }
        Ok(())
    }
}

fn judge_version(versions: &schema::Versions, entry: &str) -> Result<()> {
    let schema::SchemaVersion { major, minor } = versions.schema_version;
    if major == MAJOR && minor >= LEAST_MINOR {
        return Ok(());
    }
    let by = match versions.torch_version.as_str() {
        "" => String::new(),
        version => format!(", by PyTorch {}", shown(version)),
    };
    let what = format!(
        "it is written in schema {major}.{minor}{by}; {MAJOR}.{LEAST_MINOR} (PyTorch 2.7) to {MAJOR}.{NEWEST_MINOR} are understood"
    );
    Err(Problem::unsupported(format!("{} at schema_version", shown(entry)), what))
}

/// What a zip archive is that is no `.pt2`, where that can be told.
fn other_kind<R: ReaderAt>(container: &Container<R>) -> Problem {
    let has = |name: &str| container.find(name).is_some();
    if has("serialized_exported_program.json") {
        let what = "it is the container of PyTorch 2.7 and earlier; export it again with 2.8 or newer";
        return Problem::unsupported("serialized_exported_program.json", what);
    }
    let looks = match (has("data.pkl"), has("constants.pkl")) {
        (true, true) => "a TorchScript module",
        (true, false) => "a .pt file of torch.save",
        (false, _) => "a zip archive",
    };
    Problem::NotExported(Some(looks))
}
