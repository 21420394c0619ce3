//! The most that each list and each text of a request may hold, checked on the encoded bytes before
//! they are decoded.
//!
//! A list of two million numbers fits into a message of 4 MB and costs hundreds once it is decoded.
//! So the bytes are walked first, along the descriptors, in one pass. A list or a text of a request
//! that has no bound here fails a test, and may hold nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_varint, skip_field};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// A name, a version, a date.
const NAME: usize = 256;
/// A path, as the kernel takes it, and a token, which may be one. (PATH_MAX)
const PATH: usize = 4096;
/// A few lines that a program printed.
const WORDS: usize = 16_384;

/// Fields of messages in `torchd.v1`, and how many entries or bytes they may hold. The comment of
/// each field in the protocol tells the same number.
#[rustfmt::skip]
const BOUNDS: &[(usize, &[&str])] = &[
    (16, &["ListJobsRequest.labels", "JobSpec.labels", "JobSpec.metrics", "Data.augment"]),
    (63, &["ListJobsRequest.LabelsEntry.key", "JobSpec.LabelsEntry.key"]),
    // 63 characters.
    (252, &["ListJobsRequest.LabelsEntry.value", "JobSpec.LabelsEntry.value"]),
    (64, &[
        "UploadBegin.sha256", "PutFile.sha256", "PushJournalRequest.pieces", "CreateTokenRequest.token_id", "CreateTokenRequest.owner", "ListJobsRequest.states", "Retry.also_on", "Retry.never_on", "Normalize.mean", "Normalize.std", "GpuList.gpus",
        "Mlp.hidden", "SafetensorsDataset.inputs", "NpzDataset.inputs", "CifarDataset.paths", "TextDataset.paths", "WarmStart.rename", "WarmStart.only",
        "Optimizer.freeze", "Optimizer.groups", "ParameterGroup.parameters", "JobEdits.set", "JobSpec.after", "RedoJobRequest.after",
        "CsvDataset.paths", "CsvDataset.missing", "CsvDataset.inputs",
        "ParquetDataset.paths", "ParquetDataset.missing", "ParquetDataset.inputs",
        "IdxDataset.image_paths", "IdxDataset.label_paths", "NpyDataset.input_paths", "NpyDataset.target_paths", "NpzDataset.paths",
        "SafetensorsDataset.paths",
    ]),
    (2, &["ImageFolderDataset.size"]),
    // The columns of a table.
    (4096, &[
        "CsvDataset.targets", "CsvDataset.features", "CsvDataset.ignore", "CsvDataset.categorical",
        "ParquetDataset.targets", "ParquetDataset.features", "ParquetDataset.ignore", "ParquetDataset.categorical", "MissingValues.columns",
        "TableInput.columns",
    ]),
    (4096, &["AttachLauncherRequest.running", "PutFilesBegin.files", "EndRankRequest.exit"]),
    // A character.
    (4, &["CsvDataset.delimiter", "CsvDataset.quote", "CsvDataset.comment"]),
    (256, &["Sequential.layers", "Program.env"]),
    (65_536, &["CrossEntropy.class_weights", "Nll.class_weights", "BinaryCrossEntropy.positive_weights", "EndLaunchRequest.message", "EndRankRequest.fault", "PutFilesBegin.removed_steps"]),
    (1024, &["Program.command", "MultiStep.at_steps", "UploadBegin.name", "StatFileRequest.name", "DeleteFileRequest.name", "GetLaunchFileRequest.path"]),
    (524_288, &["UploadFileRequest.data", "PutFilesRequest.data", "Piece.data"]),
    (128, &["CreateJobRequest.request_id", "RedoJobRequest.request_id", "AttachLauncherRequest.launcher", "EndLaunchRequest.launcher"]),
    (NAME, &[
        "Program.EnvEntry.key", "GetJobRequest.name", "WatchJobRequest.name", "CancelJobRequest.name", "PauseJobRequest.name",
        "ResumeJobRequest.name", "SetJobPriorityRequest.name", "RedoJobRequest.name", "DeleteJobRequest.name", "Dependency.job", "ReadJobLogRequest.name", "ListScalarTagsRequest.name",
        "ReadScalarsRequest.name", "ListCheckpointsRequest.name", "ListArtifactsRequest.name", "GetGpuRequest.name",
        "GetRuntimeRequest.name", "RevokeTokenRequest.name", "ListJobsRequest.owner", "ListGpuProcessesRequest.gpu", "ListGpuEventsRequest.gpu", "WarmStart.checkpoint",
        "WarmStart.only[]", "Optimizer.freeze[]", "ParameterGroup.parameters[]", "Rename.prefix", "Rename.name",
        "Gelu.approximate", "KeepBest.metric", "EarlyStopping.metric", "Plateau.metric", "FieldEdit.path", "JobSpec.metrics[]", "SafetensorsDataset.target", "ImageFolderDataset.image_column", "SafetensorsDataset.inputs[]", "NpzDataset.target", "NpzDataset.inputs[]", "Split.column", "Sampling.weights", "ListRuntimesRequest.pytorch_version", "ListRuntimesRequest.as_of",
        "GetRuntimeRequest.as_of", "CheckCompatibilityRequest.as_of", "PlanInstallRequest.runtime",
        "PlanInstallRequest.python_version", "PlanInstallRequest.pytorch_version", "PlanInstallRequest.cuda_variant",
        "PlanInstallRequest.driver_version", "PlanInstallRequest.compute_capability", "MachineFacts.driver_version",
        "MachineFacts.glibc_version", "MachineFacts.glibcxx_version", "MachineFacts.runtime",
        "MachineFacts.node_type", "MachineFacts.python_version", "MachineFacts.model_pytorch_version",
        "MachineFacts.os", "GpuDescription.name",
        "GpuDescription.compute_capability", "TorchFacts.version", "TorchFacts.variant",
        "TorchFacts.built_for_version",
        "CsvDataset.target", "CsvDataset.targets[]", "CsvDataset.features[]", "CsvDataset.ignore[]", "CsvDataset.categorical[]",
        "ParquetDataset.target", "ParquetDataset.targets[]", "ParquetDataset.features[]", "ParquetDataset.ignore[]", "ParquetDataset.categorical[]",
        "MissingValues.columns[]", "TableInput.name", "TableInput.columns[]",
        "EndLaunchRequest.job", "LaunchName.job", "JoinLaunchRequest.version", "JoinLaunchRequest.host", "PutFile.name",
    ]),
    // 128 characters.
    (512, &["JobSpec.display_name", "Piece.file"]),
    (PATH, &[
        "Program.working_dir", "Program.EnvEntry.value", "FieldEdit.value", "CsvDataset.path", "CsvDataset.paths[]",
        "ParquetDataset.path", "ParquetDataset.paths[]",
        "DownloadArtifactRequest.name", "ReadScalarsRequest.tag", "WarmStart.file", "Output.mirror", "Scale.storage",
        "IdxDataset.image_paths[]", "IdxDataset.label_paths[]", "NpyDataset.input_paths[]", "NpyDataset.target_paths[]",
        "NpzDataset.paths[]", "SafetensorsDataset.paths[]",
        "IdxDataset.images", "IdxDataset.labels", "ExportedModel.path", "ExportedModel.eval_path", "TorchScriptModel.path", "SafetensorsDataset.path", "NpyDataset.input", "NpyDataset.target", "NpzDataset.path",
        "CifarDataset.paths[]", "TextDataset.path", "TextDataset.paths[]", "ImageFolderDataset.path", "MachineFacts.forward_compatibility_dir",
        "ListJobsRequest.page_token", "ListScalarTagsRequest.page_token", "ReadScalarsRequest.page_token",
        "ListCheckpointsRequest.page_token", "ListArtifactsRequest.page_token", "ListGpusRequest.page_token",
        "ListGpuProcessesRequest.page_token", "ListGpuEventsRequest.page_token", "ListRuntimesRequest.page_token", "ListFilesRequest.page_token", "ListTokensRequest.page_token",
    ]),
    (WORDS, &["Program.command[]", "TorchFacts.load_error", "TorchFacts.cuda_load_error"]),
];

/// Every message of ours, by its full name.
static SHAPES: LazyLock<HashMap<String, Shape>> = LazyLock::new(|| {
    let named = |(most, names): &(usize, &[&str])| {
        let most = *most;
        names.iter().map(move |name| (format!("torchd.v1.{name}"), most)).collect::<Vec<_>>()
    };
    let bounds = BOUNDS.iter().flat_map(named).collect();
    // Nobody sends the messages of which descriptors are made: the options of methods need them.
    let is_sent = |kind: &MessageDescriptor| kind.parent_file().name() != "google/protobuf/descriptor.proto";
    super::descriptors()
        .all_messages()
        .filter(is_sent)
        .map(|kind| (kind.full_name().to_owned(), Shape::of(&kind, &bounds)))
        .collect()
});

/// A message as far as its size goes.
struct Shape {
    /// An entry of a map: a message whose fields nobody has named.
    is_entry: bool,
    fields: BTreeMap<u32, Field>,
}

struct Field {
    name: String,
    /// The most entries of a list; None where it is none.
    entries: Option<usize>,
    what: What,
}

/// The kind of a field, or of each entry of a list.
enum What {
    /// A number; its bytes where they are always as many.
    Number(Option<usize>),
    /// A text, or bytes, with a limit in bytes.
    Text(usize),
    /// A message of that full name.
    Message(String),
}

impl What {
    /// How many entries of a list some bytes hold.
    fn entries(&self, data: &[u8]) -> usize {
        match self {
            Self::Number(Some(width)) => data.len() / width,
            // The last byte of each has no bit that says more.
            Self::Number(None) => data.iter().filter(|byte| **byte < 0x80).count(),
            Self::Text(_) | Self::Message(_) => 1,
        }
    }
}

impl Shape {
    fn of(kind: &MessageDescriptor, bounds: &HashMap<String, usize>) -> Self {
        let bound = |name: &str| bounds.get(name).copied().unwrap_or(0);
        let field = |field: FieldDescriptor| {
            let name = field.full_name();
            let entries = (field.is_list() || field.is_map()).then(|| bound(name));
            let what = match field.kind() {
                Kind::String | Kind::Bytes if entries.is_some() => What::Text(bound(&format!("{name}[]"))),
                Kind::String | Kind::Bytes => What::Text(bound(name)),
                Kind::Message(inner) => What::Message(inner.full_name().to_owned()),
                Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => What::Number(Some(8)),
                Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => What::Number(Some(4)),
                Kind::Int32
                | Kind::Int64
                | Kind::Uint32
                | Kind::Uint64
                | Kind::Sint32
                | Kind::Sint64
                | Kind::Bool
                | Kind::Enum(_) => What::Number(None),
            };
            (field.number(), Field { name: field.name().to_owned(), entries, what })
        };
        Self { is_entry: kind.is_map_entry(), fields: kind.fields().map(field).collect() }
    }
}

/// A field that holds more than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess {
    /// Its path in the request, such as `spec.retry.also_on`.
    pub field: String,
    /// The value that was found, and what would be right.
    pub description: String,
}

/// Judges an encoded request of that full name; every field that holds too much. Bytes that are no
/// such message are left to the decoder, which ends where this ends.
pub fn judge(name: &str, bytes: &[u8]) -> Vec<Excess> {
    let (mut seen, mut found) = (Seen::default(), Vec::new());
    walk(name, bytes, "", &mut seen, &mut found);
    seen.tell(name, "", &mut found);
    found
}

/// The parts of one message that were met. A part that comes twice is one part: decoders put them
/// together.
#[derive(Default)]
struct Seen {
    entries: BTreeMap<u32, usize>,
    parts: BTreeMap<u32, Seen>,
}

impl Seen {
    /// Adds the lists that are too long.
    fn tell(&self, name: &str, path: &str, found: &mut Vec<Excess>) {
        let Some(shape) = SHAPES.get(name) else { return };
        for (number, count) in &self.entries {
            if let Some(Field { name, entries: Some(most), .. }) = shape.fields.get(number)
                && count > most
            {
                let description = format!("has {count} entries; at most {most} are right");
                found.push(Excess { field: joined(path, name), description });
            }
        }
        for (number, part) in &self.parts {
            if let Some(Field { name, what: What::Message(inner), .. }) = shape.fields.get(number) {
                part.tell(inner, &joined(path, name), found);
            }
        }
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Goes over a message; None where the bytes are none.
fn walk(name: &str, mut bytes: &[u8], path: &str, seen: &mut Seen, found: &mut Vec<Excess>) -> Option<()> {
    let shape = SHAPES.get(name)?;
    while !bytes.is_empty() {
        let (number, wire) = decode_key(&mut bytes).ok()?;
        let field = shape.fields.get(&number);
        let (Some(field), WireType::LengthDelimited) = (field, wire) else {
            skip_field(wire, number, &mut bytes, DecodeContext::default()).ok()?;
            if field.is_some_and(|field| field.entries.is_some()) {
                *seen.entries.entry(number).or_default() += 1;
            }
            continue;
        };
        let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
        let data;
        (data, bytes) = bytes.split_at_checked(length)?;
        let mut place = 0;
        if let Some(most) = field.entries {
            let entries = seen.entries.entry(number).or_default();
            place = *entries;
            *entries += field.what.entries(data);
            // Those beyond it are counted, and not looked into.
            if *entries > most {
                continue;
            }
        }
        match &field.what {
            What::Text(most) if length > *most => {
                let field = if shape.is_entry { path.to_owned() } else { joined(path, &field.name) };
                found.push(Excess { field, description: format!("has {length} bytes; at most {most} are right") });
            }
            What::Number(_) | What::Text(_) => {}
            What::Message(inner) if field.entries.is_none() => {
                let part = seen.parts.entry(number).or_default();
                walk(inner, data, &joined(path, &field.name), part, found)?;
            }
            What::Message(inner) => {
                let mut path = joined(path, &field.name);
                if SHAPES.get(inner).is_some_and(|shape| !shape.is_entry) {
                    path = format!("{path}[{place}]");
                }
                let mut element = Seen::default();
                walk(inner, data, &path, &mut element, found)?;
                element.tell(inner, &path, found);
            }
        }
    }
    Some(())
}

/// The same request without the lists and texts that hold too much, so that the rest of it can be
/// decoded and judged. None where the bytes are no such message.
pub fn without_excess(name: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut kept = Vec::new();
    keep(name, bytes, &mut Seen::default(), &mut kept)?;
    Some(kept)
}

fn keep(name: &str, mut bytes: &[u8], seen: &mut Seen, kept: &mut Vec<u8>) -> Option<()> {
    let shape = SHAPES.get(name)?;
    while !bytes.is_empty() {
        let all = bytes;
        let (number, wire) = decode_key(&mut bytes).ok()?;
        let field = shape.fields.get(&number);
        let (key, mut value) = all.split_at(all.len() - bytes.len());
        skip_field(wire, number, &mut bytes, DecodeContext::default()).ok()?;
        value = &value[..value.len() - bytes.len()];
        let mut data = value;
        if wire == WireType::LengthDelimited {
            decode_varint(&mut data).ok()?;
        }
        if let Some(Field { entries: Some(most), what, .. }) = field {
            let entries = seen.entries.entry(number).or_default();
            *entries += if wire == WireType::LengthDelimited { what.entries(data) } else { 1 };
            if *entries > *most {
                continue;
            }
        }
        match field.map(|field| (&field.what, field.entries)) {
            Some((What::Text(most), _)) if data.len() > *most => {}
            Some((What::Message(inner), entries)) if wire == WireType::LengthDelimited => {
                let (mut element, mut rest) = (Seen::default(), Vec::new());
                let part = if entries.is_none() { seen.parts.entry(number).or_default() } else { &mut element };
                keep(inner, data, part, &mut rest)?;
                kept.extend_from_slice(key);
                encode_varint(rest.len() as u64, kept);
                kept.extend_from_slice(&rest);
            }
            _ => {
                kept.extend_from_slice(key);
                kept.extend_from_slice(value);
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;

    use super::*;
    use crate::proto::v1;

    /// The lists and texts of a message and of what is in it, with their comments.
    fn bounded(kind: &MessageDescriptor, met: &mut BTreeSet<String>, found: &mut Vec<(FieldDescriptor, String)>) {
        if !met.insert(kind.full_name().to_owned()) || kind.full_name().starts_with("google.") {
            return;
        }
        let file = kind.parent_file();
        let info = file.file_descriptor_proto().source_code_info.clone().unwrap();
        for field in kind.fields() {
            let place = info.location.iter().find(|location| location.path == field.path());
            let comment = place.map(|place| place.leading_comments().to_owned()).unwrap_or_default();
            if field.is_list() || field.is_map() || matches!(field.kind(), Kind::String | Kind::Bytes) {
                found.push((field.clone(), comment));
            }
            if let Kind::Message(inner) = field.kind() {
                bounded(&inner, met, found);
            }
        }
    }

    #[test]
    fn every_list_and_text_of_every_request_has_a_bound_and_its_comment_tells_it() {
        let (mut met, mut found) = (BTreeSet::new(), Vec::new());
        for service in super::super::descriptors().services() {
            service.methods().for_each(|method| bounded(&method.input(), &mut met, &mut found));
        }
        assert!(found.len() > 60, "{}", found.len());
        let with_commas = |number: usize| match number {
            1000.. => format!("{},{:03}", number / 1000, number % 1000),
            _ => number.to_string(),
        };
        for (field, comment) in &found {
            let name = field.full_name();
            let shape = &SHAPES[field.parent_message().full_name()];
            let Field { entries, what, .. } = &shape.fields[&field.number()];
            let (most, unit) = match (entries, what) {
                (Some(entries), _) => (*entries, "entries"),
                (None, What::Text(bytes)) => (*bytes, "bytes"),
                (None, What::Number(_) | What::Message(_)) => panic!("{name} is neither"),
            };
            assert!(most > 0, "{name} has no bound");
            assert!(!matches!((entries, what), (Some(_), What::Text(0))), "{name}[] has no bound");
            let told = format!("At most {} {unit}.", with_commas(most));
            let words = comment.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(shape.is_entry || words.contains(&told), "the comment of {name} does not say {told:?}: {words}");
        }
        let known: BTreeSet<_> = found.iter().map(|(field, _)| field.full_name().to_owned()).collect();
        for name in BOUNDS.iter().flat_map(|(_, names)| *names) {
            let name = name.trim_end_matches("[]");
            assert!(known.contains(&format!("torchd.v1.{name}")), "{name} is no list or text of a request");
        }
    }

    fn told(name: &str, bytes: &[u8]) -> Vec<(String, String)> {
        judge(name, bytes).into_iter().map(|excess| (excess.field, excess.description)).collect()
    }

    #[test]
    fn lists_are_counted_packed_or_not_also_where_their_message_comes_in_parts() {
        let request = |also_on: usize, never_on: usize| {
            let retry = v1::Retry { also_on: vec![4; also_on], never_on: vec![1000; never_on], ..v1::Retry::default() };
            let normalize = v1::Normalize { mean: vec![0.1; also_on], std: Vec::new(), measure: false };
            let data = v1::Data { normalize: Some(normalize), ..v1::Data::default() };
            let spec = v1::JobSpec { retry: Some(retry), data: Some(data), ..v1::JobSpec::default() };
            v1::ValidateJobRequest { spec: Some(spec), dry_run: false }.encode_to_vec()
        };
        let name = "torchd.v1.ValidateJobRequest";
        assert_eq!(told(name, &request(64, 64)), []);
        let (field, words) = told(name, &request(10, 65)).remove(0);
        assert_eq!((field.as_str(), words.as_str()), ("spec.retry.never_on", "has 65 entries; at most 64 are right"));
        let fields: Vec<_> =
            told(name, &[request(40, 40), request(25, 24)].concat()).into_iter().map(|told| told.0).collect();
        assert_eq!(fields, ["spec.data.normalize.mean", "spec.retry.also_on"]);
        // One number at a time, as an encoder may write it: field 5 and a varint.
        let retry = [5 << 3, 4].repeat(65);
        let spec = [vec![12 << 3 | 2, retry.len() as u8 | 0x80, (retry.len() >> 7) as u8], retry].concat();
        let request = [vec![1 << 3 | 2, spec.len() as u8 | 0x80, (spec.len() >> 7) as u8], spec].concat();
        assert_eq!(v1::ValidateJobRequest::decode(&*request).unwrap().spec.unwrap().retry.unwrap().also_on.len(), 65);
        assert_eq!(told(name, &request)[0].0, "spec.retry.also_on");
    }

    #[test]
    fn texts_are_measured_wherever_they_stand() {
        let long = "x".repeat(5000);
        let gpu = |name: &str| v1::GpuDescription { name: name.into(), ..v1::GpuDescription::default() };
        let gpus = Some(v1::GpuList { gpus: vec![gpu("A10"), gpu(&long)] });
        let facts = Some(v1::MachineFacts { gpus, os: "Debian".into(), ..v1::MachineFacts::default() });
        let request = v1::CheckCompatibilityRequest { facts, as_of: String::new() }.encode_to_vec();
        let expected = [("facts.gpus.gpus[1].name".to_owned(), "has 5000 bytes; at most 256 are right".to_owned())];
        assert_eq!(told("torchd.v1.CheckCompatibilityRequest", &request), expected);
        let labels = [("k".into(), "v".repeat(253)), ("n".repeat(64), String::new())].into();
        let request = v1::ListJobsRequest { labels, page_token: long, ..v1::ListJobsRequest::default() };
        let fields: Vec<_> =
            told("torchd.v1.ListJobsRequest", &request.encode_to_vec()).into_iter().map(|told| told.0).collect();
        assert_eq!(fields, ["page_token", "labels", "labels"]);
    }

    #[test]
    fn a_list_of_millions_of_messages_is_counted_and_not_looked_into() {
        let gpus = v1::GpuList { gpus: vec![v1::GpuDescription::default(); 1_000_000] };
        let facts = Some(v1::MachineFacts { gpus: Some(gpus), ..v1::MachineFacts::default() });
        let request = v1::CheckCompatibilityRequest { facts, as_of: String::new() }.encode_to_vec();
        let found = told("torchd.v1.CheckCompatibilityRequest", &request);
        assert_eq!(found, [("facts.gpus.gpus".into(), "has 1000000 entries; at most 64 are right".into())]);
    }

    #[test]
    fn the_rest_of_a_request_stays_as_it_was() {
        let request = |excess: bool| {
            let many = |count: usize| if excess { count } else { 0 };
            let retry = v1::Retry { max_restarts: 7, also_on: vec![4; many(65)], ..v1::Retry::default() };
            let normalize = v1::Normalize { mean: vec![0.1; many(65)], std: vec![0.5], measure: false };
            let data = v1::Data { normalize: Some(normalize), ..v1::Data::default() };
            let labels = [("team".into(), "vision".into())].into();
            let output = v1::Output { mirror: "/m".repeat(many(5000)), ..v1::Output::default() };
            let spec = v1::JobSpec {
                display_name: "a".into(),
                retry: Some(retry),
                data: Some(data),
                labels,
                output: Some(output),
                ..v1::JobSpec::default()
            };
            v1::CreateJobRequest { spec: Some(spec), request_id: "r".repeat(many(200)) }
        };
        let name = "torchd.v1.CreateJobRequest";
        let rest = without_excess(name, &request(true).encode_to_vec()).unwrap();
        assert_eq!(v1::CreateJobRequest::decode(&*rest).unwrap(), request(false));
        assert_eq!(told(name, &rest), []);
        let whole = request(false).encode_to_vec();
        assert_eq!(without_excess(name, &whole).unwrap(), whole);
        assert_eq!(without_excess(name, &whole[..whole.len() - 1]), None);
    }

    #[test]
    fn bytes_that_are_no_message_are_left_to_the_decoder() {
        let request = v1::GetJobRequest { name: "x".repeat(300) }.encode_to_vec();
        for cut in 0..request.len() {
            assert_eq!(told("torchd.v1.GetJobRequest", &request[..cut]), []);
            assert!(cut == 0 || v1::GetJobRequest::decode(&request[..cut]).is_err());
        }
        assert_eq!(told("torchd.v1.GetJobRequest", &request).len(), 1);
    }
}
