//! Models that cannot be trained: each is refused with its field, the place, what was found there
//! and what would be right.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use torchd::proto::v1;

use super::archives::{self, Content, Entries};
use super::daemon::{Daemon, Setup};
use super::exported::{job, model, start, validated};
use super::spec;
use super::warm_start::safetensors;
use super::weights::mistakes;

/// The mistakes of a spec are in that field alone, and told in words like these.
async fn assert_refused(daemon: &Daemon, case: &str, spec: v1::JobSpec, field: &str, words: &[&str]) {
    let wrong = mistakes(daemon, spec).await;
    let field = format!("spec.{field}");
    assert!(!wrong.is_empty() && wrong.iter().all(|(found, _)| *found == field), "{case}: {wrong:?}");
    let told = &wrong[0].1;
    assert!(words.iter().all(|word| told.contains(word)), "{case}: {told} lacks one of {words:?}");
    assert!(!told.contains('\n'), "{case}: {told}");
}

/// The first weight of `mlp`, which has 16 rows and 8 columns, as an archive tells of it.
fn first_weight(rows: u64, columns: u64) -> String {
    let size = |size: u64| format!(r#"{{"as_int": {size}}}"#);
    let (sizes, strides) = ([rows, columns].map(size).join(", "), [columns, 1].map(size).join(", "));
    format!(
        r#""sizes": [{sizes}], "requires_grad": true, "device": {{"type": "cpu", "index": null}}, "strides": [{strides}]"#
    )
}

fn batches(size: u32, spec: v1::JobSpec) -> v1::JobSpec {
    let training = spec.training.map(|training| v1::Training { batch_size: Some(size), ..training });
    v1::JobSpec { training, ..spec }
}

/// Data of zeros: each array with its type, its width and its shape.
fn data(path: &Path, arrays: &[(&str, &str, usize, &[usize])]) -> v1::Data {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, dtype, width, shape) in arrays {
        let begin = end;
        end += width * shape.iter().product::<usize>();
        let told = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]});
        header.insert((*name).to_owned(), told);
    }
    fs::write(path, safetensors(&header, &vec![0; end])).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let set = v1::SafetensorsDataset { path: name, ..Default::default() };
    v1::Data { train: Some(v1::Dataset { format: Some(v1::dataset::Format::Safetensors(set)) }), ..Default::default() }
}

#[tokio::test]
async fn an_archive_that_cannot_be_trained_is_refused_with_the_place_and_the_remedy() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    let train = "models/train.json";
    let changed = |name: &str, ending: &str, from: &str, to: &str| {
        let mut entries = archives::entries(&archives::file("mlp/net.pt2"));
        archives::change(&mut entries, ending, from, to);
        archives::write(&root.path().join(name), &entries);
    };
    let version = r#""schema_version": {"major": "#;
    changed("newer.pt2", train, &format!("{version}8"), &format!("{version}9"));
    let linear = r#""target": "torch.ops.aten.linear.default""#;
    changed("unknown.pt2", train, linear, r#""target": "torch.ops.aten.linear2.default""#);
    changed("arguments.pt2", train, r#"{"name": "weight", "arg""#, r#"{"name": "wait", "arg""#);
    changed("other_shape.pt2", "weights_config.json", &first_weight(16, 8), &first_weight(8, 16));
    let mut missing = archives::entries(&archives::file("mlp/net.pt2"));
    missing.retain(|(name, _)| !name.ends_with("/weight_0"));
    archives::write(&root.path().join("missing.pt2"), &missing);
    let mut deep = archives::entries(&archives::file("mlp/net.pt2"));
    for (_, content) in deep.iter_mut().filter(|(name, _)| name.ends_with(train)) {
        *content = Content::Bytes(vec![b'['; 1 << 20]);
    }
    archives::write(&root.path().join("deep.pt2"), &deep);
    let mut many = archives::entries(&archives::file("mlp/net.pt2"));
    many.extend((0..3).map(|place| (format!("net/models/{place}.json"), Content::Hole(50 << 20))));
    archives::write(&root.path().join("many.pt2"), &many);
    for (archive, words) in [
        (
            "newer.pt2",
            &[
                "newer.pt2 cannot be taken: models/train.json at schema_version",
                "9.17, by PyTorch 2.11.0",
                "8.7 (PyTorch 2.7) to",
            ][..],
        ),
        (
            "unknown.pt2",
            &["node linear (torch.ops.aten.linear2.default)", "models.py, line ", "no operator of the name"],
        ),
        (
            "arguments.pt2",
            &[
                "node linear (",
                "models.py, line ",
                "it has no argument wait; the operator is aten::linear(Tensor input",
            ],
        ),
        (
            "other_shape.pt2",
            &[".json, net.0.weight: the archive holds float32 [8, 16], and the graph takes float32 [16, 8]"],
        ),
        ("missing.pt2", &["is a damaged zip archive: it has no entry \"net/data/weights/weight_0\""]),
        ("deep.pt2", &["cannot be taken: models/train.json at [0][0]"]),
        ("many.pt2", &["cannot be taken: models/: its JSON has 1573", "bytes; 134217728 at most are read"]),
        (
            "bad/custom_operator.pt2",
            &["(torch.ops.mine.double.default)", "make_fixtures.py, line ", "of the library mine"],
        ),
        ("bad/static_batch.pt2", &["its input x takes batches of 4 alone", "torch.export.Dim(\"batch\", min=1)"]),
        ("bad/eval_as_train.pt2", &["exported in evaluation mode", "call train() before the export"]),
        ("bad/cuda.pt2", &["exported on cuda:0", "to the CPU and export it again"]),
        ("bad/nan_weights.pt2", &["holds NaN in \"net.0.weight\" at place 0"]),
        ("bad/pickled_weight.pt2", &["weights_config.json", "stored as a pickle, which is a program"]),
    ] {
        assert_refused(&daemon, archive, job(archive, "mlp"), "model.exported.path", words).await;
    }
}

#[tokio::test]
async fn an_archive_that_is_cut_off_at_any_entry_is_refused_as_damaged() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    let whole = archives::file("tied/net.pt2");
    let path = root.path().join("cut.pt2");
    let mut cuts = 0;
    for (name, place) in archives::ends(&whole) {
        for length in [place.start.midpoint(place.end), place.end] {
            fs::write(&path, &whole[..length as usize]).unwrap();
            let words = ["cut.pt2 is a damaged zip archive: "];
            assert_refused(&daemon, &name, job("cut.pt2", "tied"), "model.exported.path", &words).await;
            cuts += 1;
        }
    }
    assert!(cuts >= 40, "{cuts}");
}

#[tokio::test]
async fn files_of_other_kinds_and_places_are_refused_by_what_they_are() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let daemon = Setup::new().data_root(Path::new("tests/data")).data_root(root.path()).start();
    let path = |name: &str| root.path().join(name);
    fs::write(path("page.pt2"), "<!DOCTYPE html>\n<html><body>Sign in</body></html>").unwrap();
    fs::write(path("empty.pt2"), "").unwrap();
    fs::create_dir(path("folder.pt2")).unwrap();
    mkfifo(&path("pipe.pt2"), Mode::S_IRWXU).unwrap();
    fs::write(outside.path().join("net.pt2"), archives::file("mlp/net.pt2")).unwrap();
    symlink(outside.path().join("net.pt2"), path("link.pt2")).unwrap();
    let absolute = outside.path().join("net.pt2");
    let data = |spec: v1::JobSpec| {
        let set = v1::SafetensorsDataset { path: "exported/mlp/data.safetensors".into(), ..Default::default() };
        let train = Some(v1::Dataset { format: Some(v1::dataset::Format::Safetensors(set)) });
        v1::JobSpec { data: Some(v1::Data { train, ..Default::default() }), ..spec }
    };
    for (file, words) in [
        (
            "golden/pt/state_dict.pt",
            &["looks like a .pt file of torch.save, and a .pt2 archive of torch.export.save is needed"][..],
        ),
        ("golden/pt/script.pt", &["looks like a TorchScript module, and a .pt2 archive"]),
        ("page.pt2", &["looks like", "HTML", "a .pt2 archive"]),
        ("empty.pt2", &["looks like an empty file, and a .pt2 archive"]),
        ("folder.pt2", &["folder"]),
        ("pipe.pt2", &["pipe"]),
        ("link.pt2", &["leads out of the data roots"]),
        (absolute.to_str().unwrap(), &["leads out of the data roots"]),
        ("absent.pt2", &["is not there"]),
        ("", &["is missing; name the .pt2 archive of the model"]),
    ] {
        assert_refused(&daemon, file, data(job(file, "mlp")), "model.exported.path", words).await;
    }
    for (file, words) in [
        ("exported/plain/train.pt2", &["exported in training mode", "call eval() before the export"][..]),
        ("exported/cnn/net.pt2", &["has the graphs eval, train", "one for eval alone"]),
        ("absent.pt2", &["is not there"]),
        ("golden/pt/state_dict.pt", &["looks like a .pt file of torch.save"]),
    ] {
        let spec = v1::JobSpec { model: Some(model("exported/plain/train.pt2", file)), ..data(job("", "mlp")) };
        assert_refused(&daemon, file, spec, "model.exported.eval_path", words).await;
    }
    let both =
        v1::JobSpec { model: Some(model("exported/mlp/net.pt2", "exported/plain/eval.pt2")), ..data(job("", "mlp")) };
    let words = ["plain/eval.pt2 is not needed: the archive of path has a graph eval; leave one of them out"];
    assert_refused(&daemon, "both", both, "model.exported.eval_path", &words).await;
}

#[tokio::test]
async fn data_batches_and_settings_that_a_model_cannot_take_are_told_by_their_fields() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    let path = |name: &str| root.path().join(name);
    let mut entries = archives::entries(&archives::file("encoder/net.pt2"));
    archives::change(&mut entries, "models/train.json", r#""min_val": 1, "#, r#""min_val": 2, "#);
    archives::write(&path("two.pt2"), &entries);
    let with = |archive: &str, name: &str, arrays: &[(&str, &str, usize, &[usize])]| v1::JobSpec {
        data: Some(data(&path(name), arrays)),
        ..job(archive, "")
    };
    let (classes, x) = (("y", "I64", 8, &[28][..]), "data.train.safetensors");
    let seeded = |spec: v1::JobSpec| {
        let training = spec.training.map(|training| v1::Training { init_seed: Some(3), ..training });
        v1::JobSpec { training, ..spec }
    };
    let best = |spec: v1::JobSpec| {
        let keep_best = Some(v1::KeepBest { metric: "accuracy/validation".into(), ..Default::default() });
        v1::JobSpec { checkpoint: Some(v1::Checkpoint { keep_best, ..Default::default() }), ..spec }
    };
    let mse = v1::Loss { kind: Some(v1::loss::Kind::Mse(v1::Mse {})) };
    let cases: Vec<(&str, v1::JobSpec, &str, &[&str])> = vec![
        (
            "another shape",
            with("mlp/net.pt2", "shape", &[("x", "F32", 4, &[28, 9]), classes]),
            "data.train.safetensors.path",
            &[r#"has "x" as [9] of 32-bit floats; the model takes x as [8] of float32"#],
        ),
        (
            "another type",
            with("mlp/net.pt2", "type", &[("x", "I64", 8, &[28, 8]), classes]),
            "data.train.safetensors.path",
            &[r#"has "x" as [8] of 64-bit integers; the model takes x as [8] of float32"#],
        ),
        ("too many inputs", job("mlp/net.pt2", "two_inputs"), x, &["has image, numbers; the model takes x"]),
        ("too few inputs", job("two_inputs/net.pt2", "mlp"), x, &["has x; the model takes image, numbers"]),
        (
            "an output that has no classes for the targets",
            with("mlp/net.pt2", "targets", &[("x", "F32", 4, &[28, 8]), ("y", "I64", 8, &[28, 5])]),
            "model.exported",
            &["gives"],
        ),
        (
            "a last batch of one where two are the least",
            batches(9, job("two.pt2", "encoder")),
            "training.batch_size",
            &["leaves 1 of 28 examples for the last batch; the model takes batches from 2 on", "min=1"],
        ),
        (
            "a last batch of one and BatchNorm1d",
            batches(9, job("mlp/net.pt2", "mlp")),
            "training.batch_size",
            &["is 9, which leaves 1 of 28 examples for the last batch; the model normalises", "models.py, line "],
        ),
        (
            "an only further batch of one and BatchNorm1d",
            batches(27, job("mlp/net.pt2", "mlp")),
            "training.batch_size",
            &["is 27, which leaves 1 of 28 examples"],
        ),
        (
            "batches of one and BatchNorm1d",
            batches(1, job("mlp/net.pt2", "mlp")),
            "training.batch_size",
            &["is 1; the model normalises over each batch, which needs 2 examples at least: ", "models.py, line "],
        ),
        (
            "a validation set without a graph for it",
            validated("mlp", job("plain/train.pt2", "mlp")),
            "data.validation",
            &["the model has no graph for evaluation", "model.exported.eval_path", "leave this out"],
        ),
        (
            "a loss beside that of the model",
            v1::JobSpec { loss: Some(mse), ..job("step_loss/net.pt2", "step_loss") },
            "loss.mse",
            &["the model returns its own loss; leave this out"],
        ),
        (
            "metrics beside those of the model",
            v1::JobSpec { metrics: vec!["accuracy".into()], ..job("step_metrics/net.pt2", "step_metrics") },
            "metrics",
            &["the model returns its own loss; it can return metrics besides"],
        ),
        (
            "best checkpoints by a metric that the model does not return",
            best(validated("step_loss", job("step_loss/net.pt2", "step_loss"))),
            "checkpoint.keep_best.metric",
            &["is \"accuracy/validation\", which the job does not tell; it can be loss/validation"],
        ),
        ("a seed of weights", seeded(job("mlp/net.pt2", "mlp")), "training.init_seed", &["weights"]),
    ];
    for (case, spec, field, words) in cases {
        assert_refused(&daemon, case, spec, field, words).await;
    }
    // Where images are normalised over their pixels as well, one is enough.
    let one = batches(9, job("cnn/net.pt2", "cnn"));
    let best = best(validated("step_metrics", job("step_metrics/net.pt2", "step_metrics")));
    for spec in [one, best] {
        daemon.jobs().await.validate_job(v1::ValidateJobRequest { spec: Some(spec), dry_run: false }).await.unwrap();
    }
}

#[tokio::test]
async fn a_model_that_is_larger_than_the_machine_is_refused_before_anything_is_copied() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    let about = fs::read_to_string("/proc/meminfo").unwrap();
    let total = about.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let total: u64 = total.unwrap().parse::<u64>().unwrap() << 10;
    // One weight that fills the memory. Its gradient does not fit beside it.
    let columns = total / 64;
    let mut entries: Entries = archives::entries(&archives::file("mlp/net.pt2"));
    archives::change(&mut entries, ".json", &first_weight(16, 8), &first_weight(16, columns));
    for (_, content) in entries.iter_mut().filter(|(name, _)| name.ends_with("/weight_0")) {
        *content = Content::Hole(columns * 64);
    }
    let path = root.path().join("large.pt2");
    archives::write(&path, &entries);
    assert!(File::open(&path).unwrap().metadata().unwrap().len() > columns * 64);
    let words = [format!("has {} parameters", columns * 16 + 403), "of memory at least, and ".into()];
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let spec = v1::JobSpec { optimizer: Some(spec::sgd(0.1, 0.0)), ..job("large.pt2", "mlp") };
    assert_refused(&daemon, "large", spec, "model.exported", &words).await;
}

#[tokio::test]
async fn a_graph_that_computes_something_else_than_its_archive_tells_ends_the_job() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    let mut sizes = archives::entries(&archives::file("mlp/net.pt2"));
    let output = |classes: u32| format!(r#""hint": {{"as_int": 4}}}}}}, {{"as_int": {classes}}}]"#);
    archives::change(&mut sizes, ".json", &output(3), &output(4));
    let mut weights = archives::entries(&archives::file("mlp/net.pt2"));
    for (_, content) in weights.iter_mut().filter(|(name, _)| name.ends_with("/weight_0")) {
        *content = Content::Bytes(1f32.to_le_bytes().repeat(128));
    }
    for (name, entries, words) in [
        ("sizes.pt2", sizes, ["its graph returned [8, 3] and 0 metrics", "by its archive it returns [8, 4]"]),
        ("weights.pt2", weights, ["the loss of the graph for evaluation is ", " in PyTorch"]),
    ] {
        archives::write(&root.path().join(name), &entries);
        let job = daemon.create(job(name, "mlp")).await;
        let end = daemon.watch_to_end(&job.name).await.end.unwrap();
        assert_eq!(end.reason(), v1::JobEndReason::BadData, "{name}: {}", end.message);
        assert!(words.iter().all(|word| end.message.contains(word)), "{name}: {}", end.message);
    }
}

#[tokio::test]
async fn a_token_that_the_embedding_of_an_archive_has_no_row_for_ends_the_job_with_its_node() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    let mut data = fs::read("tests/data/exported/gpt/data.safetensors").unwrap();
    let header = u64::from_le_bytes(*data.first_chunk().unwrap()) as usize;
    // The first value of the first array, `tokens`.
    data[8 + header..][..8].copy_from_slice(&9999i64.to_le_bytes());
    fs::create_dir(root.path().join("odd")).unwrap();
    fs::write(root.path().join("odd/data.safetensors"), data).unwrap();
    let job = daemon.create(job("gpt/net.pt2", "odd")).await;
    let end = daemon.watch_to_end(&job.name).await.end.unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::BadData, "{}", end.message);
    let words = "index out of range in self; the data hold a number beyond the rows of this embedding";
    assert!(end.message.starts_with("model.exported: node ") && end.message.contains(words), "{}", end.message);
}
