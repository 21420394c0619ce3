//! A `.pt2` archive: its models, each with the program and the tensors. No code in it is run, and
//! nothing is taken that would have to be.

use std::collections::BTreeMap;

use super::problem::{Problem, Result, shown};
use super::program::{Input, Program, Size};
use super::stored::{self, Stored, Tensors};
use super::{earlier, json, resolve, schema};
use crate::looks::{HEAD_BYTES, looks_like};
use crate::tensor_file::{self, ReaderAt, Values, archive as zip};

/// The program of a model in JSON, at most: that of ResNet-50 has 1 MB.
const MOST_JSON_BYTES: u64 = 64 << 20;
/// The JSON of an archive, at most: it is kept, or what is made of it.
const MOST_JSON_BYTES_TOGETHER: u64 = 128 << 20;
/// The entry by which an archive is known.
const FORMAT: &str = "archive_format";
/// Models in an archive, at most.
const MOST_MODELS: usize = 16;
/// The version of the schema that is understood.
const MAJOR: u32 = 8;
/// The first minor version that is: PyTorch 2.7.
const LEAST_MINOR: u32 = 7;
/// The newest minor version that was looked at. A newer one is read by the same rule as the others:
/// what this version does not know is refused where it stands.
const NEWEST_MINOR: u32 = 20;

/// An archive that has been read: everything but the values of its tensors.
#[derive(Debug)]
pub struct Archive {
    /// The places of its entries.
    pub entries: zip::Archive,
    /// The folder that all entries have, with its slash.
    pub folder: String,
    /// Its models by name: `model` alone where `torch.export.save` wrote it.
    pub models: BTreeMap<String, Model>,
}

/// A program with its tensors.
#[derive(Debug)]
pub struct Model {
    /// The computation.
    pub program: Program,
    /// Parameters and those buffers that `state_dict()` has.
    pub weights: Tensors,
    /// Other buffers, and tensors that stood in the code.
    pub constants: Tensors,
}

impl Archive {
    /// Whether a file of that size is such an archive, sound or not, and nothing else.
    pub fn is_one(source: &dyn ReaderAt, size_bytes: u64) -> bool {
        let entries = zip::Archive::read(source, size_bytes);
        entries.is_ok_and(|entries| folder(&entries).is_some() || entries.has(earlier::PROGRAM))
    }

    /// Reads an archive of that size.
    ///
    /// # Errors
    /// If it is none, is damaged, or holds what this version does not take.
    pub fn read(source: &dyn ReaderAt, size_bytes: u64) -> Result<Self> {
        let mut head = vec![0; HEAD_BYTES.min(usize::try_from(size_bytes).unwrap_or(HEAD_BYTES))];
        source.read_exact_at(&mut head, 0).map_err(tensor_file::Problem::Unreadable)?;
        if !head.starts_with(zip::SIGNATURE) {
            return Err(Problem::NotExported(looks_like(&head)));
        }
        let entries = zip::Archive::read(source, size_bytes)?;
        if entries.has(earlier::PROGRAM) {
            return earlier::read(entries, source);
        }
        let folder = folder(&entries).map(str::to_owned).ok_or_else(|| other_kind(&entries))?;
        for (entry, right) in [(FORMAT, "pt2"), ("archive_version", "0"), ("byteorder", "little")] {
            let found = entries.bytes(source, &format!("{folder}{entry}"), 64)?;
            if found != right.as_bytes() {
                let what = format!("it is {}; {right} is understood", shown(&String::from_utf8_lossy(&found)));
                return Err(Problem::unsupported(entry, what));
            }
        }
        let models = format!("{folder}models/");
        let names: Vec<_> = entries
            .names()
            .filter_map(|name| name.strip_prefix(&models)?.strip_suffix(".json"))
            .map(str::to_owned)
            .collect();
        if names.is_empty() || names.len() > MOST_MODELS {
            let what = format!("it holds {} models; from 1 to {MOST_MODELS} are taken", names.len());
            return Err(Problem::unsupported("models/", what));
        }
        let documents = entries.names().filter(|name| name.ends_with(".json"));
        let sizes = documents.map(|name| entries.place(name).map(|place| place.end - place.start));
        let bytes: u64 = sizes.sum::<std::result::Result<_, _>>()?;
        if bytes > MOST_JSON_BYTES_TOGETHER {
            let what = format!("its JSON has {bytes} bytes; {MOST_JSON_BYTES_TOGETHER} at most are read");
            return Err(Problem::unsupported("models/", what));
        }
        let mut archive = Self { entries, folder, models: BTreeMap::new() };
        for name in names {
            let model = Model::read(&archive, source, &name)?;
            archive.models.insert(name, model);
        }
        Ok(archive)
    }

    /// Whether [`write`](super::write()) can write it once more: the container of PyTorch 2.7 is
    /// read alone.
    pub fn can_be_written(&self) -> bool {
        !self.entries.has(earlier::PROGRAM)
    }

    /// The bytes of an entry, by its name without the folder that all have.
    ///
    /// # Errors
    /// If there is no such entry, or if it has more than `most`.
    pub fn bytes(&self, source: &dyn ReaderAt, name: &str, most: u64) -> Result<Vec<u8>> {
        Ok(self.entries.bytes(source, &format!("{}{name}", self.folder), most)?)
    }
}

impl Model {
    fn read(archive: &Archive, source: &dyn ReaderAt, name: &str) -> Result<Self> {
        let entry = format!("models/{name}.json");
        let program = Self::program(&archive.entries, source, &format!("{}{entry}", archive.folder), &entry)?;
        let tensors = |kind: &str| {
            let folder = format!("{}data/{kind}/", archive.folder);
            let config = format!("{folder}{name}_{kind}_config.json");
            stored::read(&archive.entries, source, &config, &folder, MOST_JSON_BYTES)
        };
        Self::new(program, tensors("weights")?, tensors("constants")?, &entry)
    }

    /// The program in an entry, which messages call `shown_as`.
    pub(super) fn program(
        entries: &zip::Archive,
        source: &dyn ReaderAt,
        name: &str,
        shown_as: &str,
    ) -> Result<Program> {
        let bytes = entries.bytes(source, name, MOST_JSON_BYTES)?;
        let versions: schema::Versions = json::read(&bytes, shown_as)?;
        judge_version(&versions, shown_as)?;
        let file: schema::ExportedProgram = json::read(&bytes, shown_as)?;
        resolve::program(file, shown_as)
    }

    /// A program with all tensors that it asks for.
    pub(super) fn new(program: Program, weights: Tensors, constants: Tensors, entry: &str) -> Result<Self> {
        let model = Self { program, weights, constants };
        model.judge_tensors(entry)?;
        Ok(model)
    }

    /// Its parameters and its buffers, each with the values that they may hold: masks are infinite.
    pub fn state(&self) -> [(Vec<tensor_file::Tensor>, Values); 2] {
        let (parameters, kept): (Vec<_>, Vec<_>) = self.weights.iter().partition(|stored| stored.is_parameter);
        let hidden = self.program.inputs.iter().filter_map(|input| match input {
            Input::Buffer { is_persistent: false, .. } => self.stored(input),
            _ => None,
        });
        let tensors = |list: Vec<&Stored>| list.into_iter().map(|stored| stored.tensor.clone()).collect();
        let buffers = kept.into_iter().chain(hidden).collect();
        [(tensors(parameters), Values::Finite), (tensors(buffers), Values::Infinite)]
    }

    /// The stored tensor behind an input of the program; None for those that the user gives.
    pub fn stored(&self, input: &Input) -> Option<&Stored> {
        match input {
            Input::Parameter { name, .. } | Input::Buffer { name, is_persistent: true, .. } => self.weights.get(name),
            Input::Buffer { name, is_persistent: false, .. } | Input::Constant { name, .. } => self.constants.get(name),
            Input::User { .. } | Input::Fixed { .. } => None,
        }
    }

    /// Every tensor that the program asks for is there, of the type and the sizes that it has
    /// there.
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
            let sizes = found.tensor.shape.iter().map(|&size| i64::try_from(size).ok().map(Size::Fixed));
            if found.tensor.dtype != wanted.dtype || !wanted.sizes.iter().cloned().map(Some).eq(sizes) {
                return damaged(format!("the archive holds {found}, and the graph takes {wanted}"));
            }
        }
        Ok(())
    }
}

/// The folder that all entries have, with its slash; None where this is another kind of archive.
fn folder(entries: &zip::Archive) -> Option<&str> {
    let is_folder = |folder: &&str| folder.is_empty() || folder.ends_with('/');
    entries.names().filter_map(|name| name.strip_suffix(FORMAT)).find(is_folder)
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

/// The refusal of a zip archive that is no `.pt2`, with its kind if that is known.
fn other_kind(entries: &zip::Archive) -> Problem {
    let ends = |ending: &str| entries.names().any(|name| name.ends_with(ending));
    let looks = match (ends("/data.pkl"), ends("/constants.pkl")) {
        (true, true) => "a TorchScript module",
        (true, false) => "a .pt file of torch.save",
        (false, _) => "a zip archive",
    };
    Problem::NotExported(Some(looks))
}
