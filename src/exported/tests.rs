//! Archives that PyTorch wrote, and changed ones: both are read and judged.
//! `tests/data/exported/README.md` tells where they come from.

use std::fs;
use std::io::Write;
use std::path::Path;

use rawzip::ZipArchiveWriter;

use super::facts::{Batch, Mode, Returns};
use super::judge::{self, Judged};
use super::operators::Operators;
use super::program::Size;
use super::refusal::Refusal;
use super::{Archive, Problem};
use crate::tensor_file::{Dtype, archive, judge_values};

pub(super) fn file(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/exported").join(name)).unwrap()
}

pub(super) fn operators() -> Operators {
    let schemas = String::from_utf8(file("operators.txt")).unwrap();
    Operators::new(schemas.lines())
}

fn read(bytes: &[u8]) -> Result<Archive, Problem> {
    Archive::read(&bytes, bytes.len() as u64)
}

fn refusal(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

fn judged(name: &str) -> Result<Judged, Vec<Refusal>> {
    let archive = read(&file(name)).unwrap();
    let model = archive.models.get("train").or(archive.models.get("model")).unwrap();
    judge::train(model, &operators())
}

/// The entries of an archive, without the folder that all have.
pub(super) fn entries(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let archive = archive::Archive::read(&bytes, bytes.len() as u64).unwrap();
    let names: Vec<_> = archive.names().map(str::to_owned).collect();
    let entry = |name: String| {
        let content = archive.bytes(&bytes, &name, u64::MAX).unwrap();
        (name.split_once('/').unwrap().1.to_owned(), content)
    };
    names.into_iter().map(entry).collect()
}

pub(super) fn archive_of(folder: &str, entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = ZipArchiveWriter::new(&mut bytes);
    for (name, content) in entries {
        let (mut entry, config) = archive.new_file(format!("{folder}{name}").as_str()).start().unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(content).unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    bytes
}

/// An archive in which a text of an entry is another one.
fn changed(name: &str, entry: &str, from: &str, to: &str) -> Vec<u8> {
    let mut entries = entries(&file(name));
    let (_, content) = entries.iter_mut().find(|(found, _)| found == entry).unwrap();
    let text = String::from_utf8(content.clone()).unwrap();
    assert!(text.contains(from), "{entry} of {name} has no {from}");
    *content = text.replacen(from, to, 1).into_bytes();
    archive_of("net/", &entries)
}

/// The refusals of a changed `mlp`.
fn judged_change(from: &str, to: &str) -> String {
    let archive = read(&changed("mlp/net.pt2", TRAIN, from, to)).unwrap();
    let refusals = judge::train(&archive.models["train"], &operators()).unwrap_err();
    refusals.iter().map(Refusal::to_string).collect::<Vec<_>>().join("\n")
}

const TRAIN: &str = "models/train.json";

#[test]
fn every_model_is_read_and_judged_as_what_it_is() {
    let metrics = |names: &[&str]| Returns::Loss(names.iter().map(|&name| name.to_owned()).collect());
    for (name, inputs, own_loss) in [
        ("mlp", &["x"][..], None),
        ("cnn", &["x"], None),
        ("gpt", &["tokens"], None),
        ("encoder", &["tokens"], None),
        ("lstm", &["tokens"], None),
        ("tied", &["x"], None),
        ("step_loss", &["x", "y"], Some(metrics(&[]))),
        ("step_metrics", &["x", "y"], Some(metrics(&["accuracy", "score_norm"]))),
        ("two_inputs", &["image", "numbers"], None),
        ("branch", &["x"], None),
        ("masks", &["tokens"], None),
    ] {
        let bytes = file(&format!("{name}/net.pt2"));
        let archive = read(&bytes).unwrap_or_else(|problem| panic!("{name} {problem}"));
        let (train, eval) = (&archive.models["train"], &archive.models["eval"]);
        let told = judge::train(train, &operators()).unwrap_or_else(|refusals| panic!("{name}: {refusals:?}"));
        let fields: Vec<_> = told.facts.inputs.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(fields, inputs, "{name}");
        assert_eq!(told.facts.batch, Batch { least: 1, most: None }, "{name}");
        match own_loss {
            Some(own_loss) => assert_eq!(told.facts.returns, own_loss, "{name}"),
            None => assert!(matches!(told.facts.returns, Returns::Output(_)), "{name}"),
        }
        judge::eval(eval, train, &told.facts, &operators()).unwrap_or_else(|refusals| panic!("{name}: {refusals:?}"));
        for (tensors, values) in train.state() {
            judge_values(&tensors, values, &bytes).unwrap();
        }
    }
}

#[test]
fn a_model_of_two_files_is_read_as_one_of_a_single_archive() {
    let (train, eval) = (read(&file("plain/train.pt2")).unwrap(), read(&file("plain/eval.pt2")).unwrap());
    let (train, eval) = (&train.models["model"], &eval.models["model"]);
    let told = judge::train(train, &operators()).unwrap();
    assert_eq!((told.facts.mode, told.facts.inputs[0].dtype), (Mode::Training, Dtype::F32));
    assert_eq!(told.facts.inputs[0].sizes, [Size::Fixed(8)]);
    judge::eval(eval, train, &told.facts, &operators()).unwrap();
    // The wrong way round.
    let swapped = judge::train(eval, &operators()).unwrap_err();
    assert!(swapped[0].what.contains("exported in evaluation mode"), "{swapped:?}");
    let told = judge::eval(train, train, &told.facts, &operators()).unwrap_err();
    assert!(told[0].what.contains("exported in training mode"), "{told:?}");
    let other = read(&file("cnn/net.pt2")).unwrap();
    let facts = judge::train(&other.models["train"], &operators()).unwrap().facts;
    let told = judge::eval(eval, &other.models["train"], &facts, &operators()).unwrap_err();
    let told: Vec<_> = told.iter().map(Refusal::to_string).collect();
    assert!(told[0].contains("it takes x float32 [8], and the graph for training x float32 ["), "{told:?}");
    assert!(told[1].contains("which the graph for training has not"), "{told:?}");
}

#[test]
fn what_no_training_can_be_made_of_is_refused_by_what_it_is() {
    for (name, words) in [
        ("static_batch", &["takes batches of 4 alone", "torch.export.Dim(\"batch\", min=1)"][..]),
        ("eval_as_train", &["in evaluation mode", "call train() before the export"]),
        ("cuda", &["exported on cuda:0", "to the CPU"]),
        (
            "custom_operator",
            &["node ", "(torch.ops.mine.double.default)", "make_fixtures.py, line ", "of the library mine"],
        ),
    ] {
        let refusals = judged(&format!("bad/{name}.pt2")).map(|judged| judged.facts).unwrap_err();
        let told: Vec<_> = refusals.iter().map(Refusal::to_string).collect();
        assert!(words.iter().all(|word| told.join("\n").contains(word)), "{name}: {told:?}");
    }
    let told = refusal(&file("bad/pickled_weight.pt2"));
    assert!(told.contains("weights_config.json") && told.contains("stored as a pickle"), "{told}");
    let bytes = file("bad/nan_weights.pt2");
    let archive = read(&bytes).unwrap();
    let [(parameters, values), _] = archive.models["train"].state();
    let told = judge_values(&parameters, values, &bytes).unwrap_err().to_string();
    assert!(told.contains("NaN") && told.contains("at place 0"), "{told}");
}

#[test]
fn operators_that_differ_are_refused_with_node_schema_and_line() {
    let linear = r#""target": "torch.ops.aten.linear.default""#;
    let told = judged_change(linear, r#""target": "torch.ops.aten.linear2.default""#);
    assert!(
        told.contains("node linear (torch.ops.aten.linear2.default) of ") && told.contains("models.py, line "),
        "{told}"
    );
    assert!(told.contains("no operator of the name"), "{told}");
    let told = judged_change(linear, r#""target": "torch.ops.aten.from_file.default""#);
    assert!(told.contains("it opens files"), "{told}");
    let told = judged_change(r#"{"name": "weight", "arg""#, r#"{"name": "wait", "arg""#);
    assert!(told.contains("it has no argument wait; the operator is aten::linear(Tensor input"), "{told}");
    let told =
        judged_change(r#"{"name": "eps", "arg": {"as_float": 1e-05}"#, r#"{"name": "eps", "arg": {"as_string": "x"}"#);
    assert!(told.contains("the argument eps cannot be a text; the operator is aten::"), "{told}");
    let told = judged_change(
        r#"{"name": "eps", "arg": {"as_float": 1e-05}, "kind": 1}"#,
        r#"{"name": "eps", "arg": {"as_complex": {"real": 1.0, "imag": 0.0}}, "kind": 1}"#,
    );
    assert!(told.contains("the argument eps cannot be as_complex"), "{told}");
    // All of them at once.
    let told = judged_change(linear, r#""target": "posix.system""#);
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn what_another_version_might_mean_is_refused_where_it_stands() {
    let version = r#""schema_version": {"major": 8, "minor": 17}"#;
    let with = |from: &str, to: &str| changed("mlp/net.pt2", TRAIN, from, to);
    let told = refusal(&with(version, r#""schema_version": {"major": 9, "minor": 0}"#));
    assert!(told.contains("schema 9.0, by PyTorch 2.11.0") && told.contains("8.7 (PyTorch 2.7) to 8.20"), "{told}");
    assert!(refusal(&with(version, r#""schema_version": {"major": 8, "minor": 6}"#)).contains("8.6"));
    // A newer minor version is read where nothing in it is new.
    read(&with(version, r#""schema_version": {"major": 8, "minor": 99}"#)).unwrap();
    for (from, to, place, what) in [
        (
            r#""as_float": 1e-05"#,
            r#""as_quaternion": 1"#,
            "graph_module.graph.nodes[",
            "unknown variant `as_quaternion`",
        ),
        (r#""is_hop_single_tensor_return""#, r#""is_new""#, "graph_module.graph.nodes[0]", "unknown field `is_new`"),
        (r#""dtype": 7"#, r#""dtype": 99"#, "graph.tensor_values.", "a data type of the number 99"),
        (r#""layout": 7"#, r#""layout": 1"#, "graph.tensor_values.", "the layout 1; dense ones"),
        (r#"{"user_output":"#, r#"{"buffer_mutation":"#, "signature.output_specs[0]", "unknown field `as_tensor`"),
        (r#""out_spec": "[1, "#, r#""out_spec": "[2, "#, "out_spec", "in the form 2; 1 is understood"),
    ] {
        let told = refusal(&with(from, to));
        assert!(told.contains("models/train.json") && told.contains(place) && told.contains(what), "{told}");
    }
}

#[test]
fn names_that_do_not_fit_together_are_damage() {
    let with = |from: &str, to: &str| refusal(&changed("mlp/net.pt2", TRAIN, from, to));
    for (from, to, words) in [
        (
            r#"{"as_tensor": {"name": "x"}}, "kind": 1"#,
            r#"{"as_tensor": {"name": "q"}}, "kind": 1"#,
            "q is used and not defined",
        ),
        (
            r#""outputs": [{"as_tensor": {"name": "linear"}}]"#,
            r#""outputs": [{"as_tensor": {"name": "x"}}]"#,
            "x is defined a second time",
        ),
        (
            r#""outputs": [{"as_tensor": {"name": "linear"}}]"#,
            r#""outputs": [{"as_tensor": {"name": "q"}}]"#,
            "does not tell what q is",
        ),
        (
            r#""parameter_name": "net.0.weight""#,
            r#""parameter_name": "net.9.weight""#,
            "the archive does not hold this tensor",
        ),
        (
            r#"{"parameter": {"arg": {"name": "p_net_0_weight"}"#,
            r#"{"parameter": {"arg": {"name": "p_net_0_bias"}"#,
            "is not the input that the graph has",
        ),
    ] {
        let told = with(from, to);
        assert!(told.starts_with("is damaged: ") && told.contains(words), "{told}");
    }
    let config = "data/weights/train_weights_config.json";
    for (from, to, words) in [
        (r#""sizes": [{"as_int": "#, r#""sizes": [{"as_int": 9999"#, "a storage of"),
        (r#""path_name": "weight_0""#, r#""path_name": "weight_77""#, "no entry"),
        (r#""dtype": 7"#, r#""dtype": 6"#, "the archive holds float16"),
        (
            r#""storage_offset": {"as_int": 0}"#,
            r#""storage_offset": {"as_int": -1}"#,
            "-1 is no size, stride or offset",
        ),
    ] {
        let told = refusal(&changed("mlp/net.pt2", config, from, to));
        assert!(told.contains(words), "{words}: {told}");
    }
    let mut big = entries(&file("mlp/net.pt2"));
    big.iter_mut().find(|(name, _)| name == "byteorder").unwrap().1 = b"big".to_vec();
    assert!(refusal(&archive_of("net/", &big)).contains("byteorder: it is big; little is understood"));
}

#[test]
fn an_archive_that_lacks_an_entry_or_ends_early_is_refused() {
    let whole = file("tied/net.pt2");
    for cut in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
        assert!(read(&whole[..cut]).is_err(), "{cut} bytes");
    }
    let all = entries(&whole);
    let mut needed = 0;
    for place in 0..all.len() {
        let mut some = all.clone();
        let (name, _) = some.remove(place);
        let is_read =
            ["archive_", "byteorder", "data/weights", "data/constants"].iter().any(|word| name.starts_with(word));
        // The models are found by looking, so that one which is missing was never there.
        assert_eq!(read(&archive_of("net/", &some)).is_err(), is_read, "{name}");
        needed += usize::from(is_read);
    }
    assert!(needed > 8, "{needed}");
}

#[test]
fn graphs_that_ask_the_device_are_told_from_those_that_do_not() {
    for (name, reason) in [
        ("mlp", None),
        ("cnn", None),
        ("gpt", None),
        ("masks", None),
        ("branch", Some(" takes a branch by a value on the host")),
        ("lstm", Some(" keeps random numbers of its own")),
    ] {
        let plan = judged(&format!("{name}/net.pt2")).ok().unwrap().plan;
        let told = super::waits::first(&plan);
        match reason {
            None => assert_eq!(told, None, "{name}"),
            Some(reason) => {
                let told = told.unwrap();
                assert!(told.starts_with("node ") && told.ends_with(reason), "{name}: {told}");
            }
        }
    }
}

#[test]
fn other_files_are_named() {
    for (bytes, words) in [
        (&b"version https://git-lfs.github.com/spec/v1"[..], "Git LFS"),
        (b"", "an empty file"),
        (b"PK\x03\x04", "damaged zip archive"),
    ] {
        let told = refusal(bytes);
        assert!(told.contains(words), "{told}");
    }
    let told = |names: &[&str]| {
        let entries: Vec<_> = names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
        refusal(&archive_of("net/", &entries))
    };
    assert!(told(&["data.pkl", "byteorder"]).contains("a .pt file of torch.save"));
    assert!(told(&["data.pkl", "constants.pkl"]).contains("a TorchScript module"));
    assert!(told(&["a"]).contains("a zip archive"));
}
