//! Weights in and out: jobs that begin with files of torch.save, and what they leave.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use tonic_types::StatusExt;
use torchd::proto::v1;
use torchd::proto::v1::warm_start::Source;
use torchd::tensor_file::{Format, Positioned, TensorFile, pt};

use super::daemon::{Daemon, Setup};
use super::spec;

/// The values of a file of weights, by name.
fn values(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = File::open(path).unwrap();
    let read = TensorFile::read(&file).unwrap();
    read.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.read(&Positioned(&file)).unwrap())).collect()
}

/// Writes a .pt file of those tensors of another file that `name` gives a name.
fn write_pt(from: &Path, to: &Path, name: impl Fn(&str) -> Option<String>) {
    let file = File::open(from).unwrap();
    let tensors: Vec<_> = TensorFile::read(&file).unwrap().tensors;
    let entry = |(storage, tensor): (usize, &torchd::tensor_file::Tensor)| {
        let (dtype, shape) = (tensor.dtype, tensor.shape.clone());
        Some(pt::Entry { name: name(&tensor.name)?, dtype, shape, storage })
    };
    let entries: Vec<_> = tensors.iter().enumerate().filter_map(entry).collect();
    let values =
        |storage: usize, out: &mut dyn Write| out.write_all(&tensors[storage].read(&Positioned(&file)).unwrap());
    pt::write(File::create(to).unwrap(), &entries, values).unwrap();
}

fn warm(file: &str, rules: v1::WarmStart, spec: v1::JobSpec) -> v1::JobSpec {
    v1::JobSpec { warm_start: Some(v1::WarmStart { source: Some(Source::File(file.into())), ..rules }), ..spec }
}

/// One step so short that no weight changes by it.
fn still() -> v1::JobSpec {
    v1::JobSpec { optimizer: Some(spec::sgd(1e-30, 0.0)), ..spec::mnist(v1::training::Length::MaxSteps(1)) }
}

/// Where a job that succeeds has left its weights.
async fn result(daemon: &Daemon, spec: v1::JobSpec) -> std::path::PathBuf {
    let job = daemon.create(spec).await;
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
    daemon.job_folder(&job.name).join("artifacts")
}

/// The fields that are wrong with a spec, each with what is told of it.
pub(crate) async fn mistakes(daemon: &Daemon, spec: v1::JobSpec) -> Vec<(String, String)> {
    let request = v1::ValidateJobRequest { spec: Some(spec), dry_run: false };
    let status = daemon.jobs().await.validate_job(request).await.unwrap_err();
    let wrong = status.get_details_bad_request().unwrap().field_violations;
    wrong.into_iter().map(|wrong| (wrong.field, wrong.description)).collect()
}

#[tokio::test]
async fn a_job_leaves_its_weights_for_torch_load_and_another_begins_with_them() {
    let root = tempfile::tempdir().unwrap();
    let daemon = Setup::new().data_root(root.path()).start();
    let teacher = result(&daemon, spec::short()).await;
    let saved = values(&teacher.join("model.safetensors"));
    assert!(values(&teacher.join("model.pt")) == saved && saved.len() == 8);
    let order = |name: &str| {
        let read = TensorFile::read(&File::open(teacher.join(name)).unwrap()).unwrap();
        (read.format, read.tensors[0].name.clone())
    };
    assert_eq!(order("model.pt"), (Format::Pt, "conv1.weight".into()), "in the order of state_dict()");

    for name in ["model.safetensors", "model.pt"] {
        fs::copy(teacher.join(name), root.path().join(name)).unwrap();
        let pupil = result(&daemon, warm(name, v1::WarmStart::default(), still())).await;
        assert!(values(&pupil.join("model.safetensors")) == saved, "{name}");
        // The copy lies under the name that says what it is.
        let copy = pupil.with_file_name(name.replace("model", "warm_start"));
        assert!(values(&copy) == saved, "{}", copy.display());
    }
}

#[tokio::test]
async fn weights_are_taken_by_the_rules_of_the_spec() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let daemon = Setup::new().data_root(root.path()).start();
    let cold = values(&result(&daemon, still()).await.join("model.safetensors"));
    let seeded = v1::JobSpec { seed: 7, ..still() };
    let teacher = result(&daemon, seeded).await.join("model.safetensors");
    let taught = values(&teacher);
    assert!(cold.iter().all(|(name, values)| taught[name] != *values), "the teacher has other weights");

    let wrapped = |name: &str| Some(format!("_orig_mod.module.{name}"));
    let convolutions = |name: &str| name.starts_with("conv").then(|| format!("backbone.{name}"));
    write_pt(&teacher, &path("wrapped.pt"), wrapped);
    write_pt(&teacher, &path("backbone.pt"), convolutions);
    let rename = |prefix: &str, name: &str| vec![v1::Rename { prefix: prefix.into(), name: name.into() }];
    let whole = v1::WarmStart { rename: rename("_orig_mod.module.", ""), ..Default::default() };
    let part = v1::WarmStart { rename: rename("backbone.", ""), ..Default::default() };
    let loose = v1::WarmStart { strict: Some(false), ..part.clone() };
    let only = |pattern: &str, rules: &v1::WarmStart| v1::WarmStart { only: vec![pattern.into()], ..rules.clone() };
    let taken = async |file: &str, rules: v1::WarmStart| {
        let found = values(&result(&daemon, warm(file, rules, still())).await.join("model.safetensors"));
        let taken: Vec<_> = found.keys().filter(|name| found[*name] == taught[*name]).cloned().collect();
        // Tensors that are not taken keep their initial values.
        assert!(found.iter().all(|(name, values)| taken.contains(name) || cold[name] == *values), "{taken:?}");
        taken
    };
    let named = |begin: &str| taught.keys().filter(|name| name.starts_with(begin)).cloned().collect::<Vec<_>>();
    assert_eq!(taken("wrapped.pt", whole.clone()).await, named(""));
    assert_eq!(taken("wrapped.pt", only("fc2.*", &whole)).await, named("fc2."));
    assert_eq!(taken("backbone.pt", loose).await, named("conv"));
    assert_eq!(taken("backbone.pt", only("conv*", &part)).await, named("conv"));

    let file = |rules: v1::WarmStart| mistakes(&daemon, warm("wrapped.pt", rules, still()));
    let wrong = file(v1::WarmStart::default()).await;
    assert_eq!((wrong.len(), wrong[0].0.as_str()), (1, "spec.warm_start.file"), "{wrong:?}");
    assert!(wrong[0].1.contains(r#"rename = [{ prefix = "_orig_mod.module.", name = "" }]"#), "{wrong:?}");
    let wrong = mistakes(&daemon, warm("backbone.pt", part, still())).await;
    assert!(wrong[0].1.contains("missing are fc1.bias, fc1.weight, fc2.bias, fc2.weight; strict = false"), "{wrong:?}");
    let nothing = v1::WarmStart { rename: rename("modul.", ""), only: vec!["encoder.*".into()], ..Default::default() };
    let fields: Vec<_> = file(nothing).await.into_iter().map(|(field, _)| field).collect();
    assert_eq!(fields, ["spec.warm_start.only[0]", "spec.warm_start.rename[0].prefix"]);
    let with_resume = v1::WarmStart { resume: true, strict: Some(false), ..only("", &whole) };
    let fields: Vec<_> = file(with_resume).await.into_iter().map(|(field, _)| field).collect();
    let expected = ["strict", "rename", "only", "only[0]"].map(|field| format!("spec.warm_start.{field}"));
    assert_eq!(fields[..4], expected, "{fields:?}");
}

#[tokio::test]
async fn files_that_are_no_state_dict_are_refused_with_what_they_are() {
    let root = tempfile::tempdir().unwrap();
    for entry in fs::read_dir("tests/data/golden/pt").unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, root.path().join(path.file_name().unwrap())).unwrap();
    }
    let daemon = Setup::new().data_root(root.path()).start();
    for (name, words) in [
        ("code.pt", "names posix.system, which runs code"),
        ("whole_module.pt", "names __main__.Net, which stands for a whole object"),
        ("before_1_6.pt", "the form before PyTorch 1.6"),
        ("script.pt", "is a TorchScript archive"),
        ("two_state_dicts.pt", r#"choose one, as with rename = [{ prefix = "model.", name = "" }]"#),
        ("checkpoint.pt", "has the tensors layer.bias, layer.weight, norm.bias"),
    ] {
        let wrong = mistakes(&daemon, warm(name, v1::WarmStart::default(), spec::short())).await;
        assert_eq!((wrong.len(), wrong[0].0.as_str()), (1, "spec.warm_start.file"), "{name}: {wrong:?}");
        assert!(wrong[0].1.contains(words), "{name}: {wrong:?}");
    }
    assert!(!fs::exists("/tmp/torchd-read-code-from-a-pickle").unwrap());
}
