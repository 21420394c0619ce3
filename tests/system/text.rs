//! Texts for language models: trained by bytes and by characters, used on other texts, and refused
//! with file and place.

use std::fs;
use std::path::Path;
use std::process::Command;

use tonic::Code;
use tonic_types::StatusExt;
use torchd::dataset::draw;
use torchd::proto::v1::{self, TextUnit, dataset::Format};

use super::daemon::{Daemon, Setup};
use super::torchctl::told;
use super::{spec, tools};

/// The values of a scalar of a job.
async fn scalars(daemon: &Daemon, job: &str, tag: &str) -> Vec<f64> {
    let request = v1::ReadScalarsRequest { name: job.into(), tag: tag.into(), ..Default::default() };
    let points = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner().points;
    points.into_iter().map(|point| point.value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_a_text_is_trained_and_its_perplexity_falls() {
    let daemon = Setup::new().data_root("proto".as_ref()).start();
    let set = [
        "--set",
        "training.epochs=2",
        "--set",
        "training.batch_size=16",
        "--set",
        "data.limit=400",
        "--set",
        "resources.cpu_threads=1",
    ];
    let (code, out, err) = told(&daemon.ctl(&[&["submit", "examples/text.toml", "--watch"][..], &set].concat()));
    assert!(code == 0 && out.contains("succeeded: trained to the end"), "{out}{err}");
    let job = out.split_whitespace().next().unwrap();
    let perplexities = scalars(&daemon, job, "perplexity/validation").await;
    assert!(perplexities.len() == 2 && perplexities[1] < perplexities[0] && perplexities[1] < 50.0, "{perplexities:?}");
    let kept = fs::read(daemon.job_folder(job).join("artifacts/preprocessing.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    assert_eq!(kept["preparation"]["text"], serde_json::json!({"unit": "byte"}));
    assert_eq!(kept["target"]["range"], serde_json::json!([0, 255]), "whichever bytes the text has");
    assert!(python(&daemon, job, "é\n").is_none_or(|tokens| tokens == [0xc3, 0xa9, 10]));
}

fn text(path: &str, unit: TextUnit, context: u32) -> v1::TextDataset {
    v1::TextDataset { path: path.into(), unit: unit.into(), context, ..v1::TextDataset::default() }
}

fn set(text: v1::TextDataset) -> v1::Dataset {
    v1::Dataset { format: Some(Format::Text(text)) }
}

/// A job of a small GPT on these texts.
fn job(train: v1::TextDataset, validation: Option<v1::TextDataset>) -> v1::JobSpec {
    let adamw = v1::AdamW { learning_rate: Some(0.01), ..v1::AdamW::default() };
    let gpt = v1::Gpt { layers: 1, heads: 2, width: 16, ..v1::Gpt::default() };
    v1::JobSpec {
        model: Some(v1::Model { family: Some(v1::model::Family::Gpt(gpt)) }),
        data: Some(v1::Data { train: Some(set(train)), validation: validation.map(set), ..v1::Data::default() }),
        training: Some(v1::Training {
            length: Some(v1::training::Length::Epochs(4)),
            batch_size: Some(4),
            ..v1::Training::default()
        }),
        optimizer: Some(v1::Optimizer { kind: Some(v1::optimizer::Kind::Adamw(adamw)), ..v1::Optimizer::default() }),
        resources: Some(spec::threads(1)),
        ..v1::JobSpec::default()
    }
}

/// A daemon whose data root has these files.
fn start(root: &Path, files: &[(&str, &[u8])]) -> Daemon {
    for (name, content) in files {
        fs::write(root.join(name), content).unwrap();
    }
    Setup::new().data_root(root).start()
}

/// The places of characters among all.
fn tokens(characters: &str, text: &str) -> Vec<usize> {
    text.chars().map(|one| characters.chars().position(|character| character == one).unwrap()).collect()
}

/// The tokens of a text, as the README makes them in Python of what a job has kept; None without
/// Python.
fn python(daemon: &Daemon, job: &str, text: &str) -> Option<Vec<usize>> {
    if !tools::is_there("python3", "apt-get install python3") {
        return None;
    }
    let readme = fs::read_to_string("README.md").unwrap();
    let section = readme.split("## Text\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let code = section.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = daemon.job_folder(job);
    let asked = "import sys\ntext = sys.argv[1]\nassert text_of(tokens_of(text)) == text\nprint(tokens_of(text))";
    let mut python = Command::new("python3");
    python.current_dir(folder).arg("-c").arg(format!("{code}\n{asked}")).arg(text);
    let (code, out, err) = told(&python.output().unwrap());
    assert_eq!(code, 0, "{err}");
    Some(serde_json::from_str(&out).unwrap())
}

/// So many words of a rhyme, each after any other.
fn words(seed: u64, count: usize) -> String {
    let words = ["Fünf", "Füchse", "fingen", "früh", "frische", "Fische\r\n"];
    draw::numbers(seed).take(count).flat_map(|number| [words[number as usize % words.len()], " "]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_characters_keeps_its_tokens_and_is_used_on_another_text_by_them() {
    let root = tempfile::tempdir().unwrap();
    let rhyme = words(1, 400);
    let others = words(2, 80);
    let daemon = start(
        root.path(),
        &[
            ("rhyme.txt", rhyme.as_bytes()),
            ("others.txt", others.as_bytes()),
            ("odd.txt", "fünf\n fängt frische Fische".as_bytes()),
        ],
    );
    let context = 16;
    let train = || text("rhyme.txt", TextUnit::Character, context);
    let spec = v1::JobSpec {
        metrics: vec!["perplexity".into()],
        ..job(train(), Some(text("others.txt", TextUnit::Character, context)))
    };
    let request = v1::ValidateJobRequest { spec: Some(spec.clone()), ..Default::default() };
    let told = daemon.jobs().await.validate_job(request).await.unwrap().into_inner();
    let examples = |text: &str| (text.chars().count() as u64 - 1) / 16;
    assert_eq!((told.train_examples, told.validation_examples), (examples(&rhyme), examples(&others)));
    let validated = told.spec.unwrap().data.unwrap().train.unwrap();
    assert_eq!(validated, set(v1::TextDataset { stride: Some(context), ..train() }));
    let job = daemon.create(spec).await;
    let job = daemon.watch_to_end(&job.name).await;
    assert_eq!(job.state(), v1::JobState::Succeeded, "{job:?}");
    let perplexities = scalars(&daemon, &job.name, "perplexity/validation").await;
    assert!(perplexities.len() == 4 && perplexities[3] < 0.8 * perplexities[0], "{perplexities:?}");
    let kept = fs::read(daemon.job_folder(&job.name).join("artifacts/preprocessing.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    let characters = "\n\r Fcefghinrsü";
    assert_eq!(kept["preparation"]["text"], serde_json::json!({"unit": "character", "characters": characters}));

    let told = python(&daemon, &job.name, "früh\r\n");
    assert!(told.is_none_or(|told| told == tokens(characters, "früh\r\n")));

    // The text of a test is read by the tokens of the model.
    let evaluate = |path: &str| v1::JobSpec {
        mode: v1::Mode::Evaluate.into(),
        // The unit and the context are those of the job.
        data: Some(v1::Data { test: Some(set(text(path, TextUnit::Unspecified, 0))), ..v1::Data::default() }),
        warm_start: Some(v1::WarmStart {
            source: Some(v1::warm_start::Source::Checkpoint(job.name.clone())),
            ..v1::WarmStart::default()
        }),
        resources: Some(spec::threads(1)),
        ..v1::JobSpec::default()
    };
    let evaluated = daemon.create(evaluate("others.txt")).await;
    let evaluated = daemon.watch_to_end(&evaluated.name).await;
    assert_eq!(evaluated.state(), v1::JobState::Succeeded, "{evaluated:?}");
    let perplexity = scalars(&daemon, &evaluated.name, "perplexity/test").await;
    assert!((perplexity[0] - perplexities[3]).abs() < 1e-6 * perplexity[0], "{perplexity:?} {perplexities:?}");
    let wrong = refused(&daemon, evaluate("odd.txt")).await;
    assert_eq!(wrong[0].0, "spec.data.test.text.path");
    assert!(
        wrong[0].1.contains("odd.txt line 2, column 3: the character 'ä' (U+00E4) is in no training file"),
        "{wrong:?}"
    );
}

async fn refused(daemon: &Daemon, spec: v1::JobSpec) -> Vec<(String, String)> {
    let request = v1::CreateJobRequest { spec: Some(spec), ..Default::default() };
    let status = daemon.jobs().await.create_job(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let fields = status.get_details_bad_request().unwrap().field_violations;
    fields.into_iter().map(|one| (one.field, one.description)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_text_is_told_with_its_field_and_place() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(
        root.path(),
        &[
            ("good.txt", &b"abcd\n".repeat(20)),
            ("empty.txt", b""),
            ("latin.txt", b"abc\r\ncaf\xe9 and so on"),
            ("utf16.txt", b"\xff\xfea\0b\0c\0"),
            ("other.txt", &[&b"abcd\n".repeat(5)[..], b"abxd\n"].concat()),
            ("packed.xz", b"\xfd7zXZ\0 and so on"),
        ],
    );
    let (byte, character) = (TextUnit::Byte, TextUnit::Character);
    let good = || text("good.txt", byte, 4);
    let of = |train| job(train, None);
    let split = |train: v1::TextDataset| {
        let mut job = of(train);
        let by = Some(v1::split::By::Fraction(0.5));
        job.data.as_mut().unwrap().split = Some(v1::Split { by, ..v1::Split::default() });
        job
    };
    let next = v1::Loss { kind: Some(v1::loss::Kind::NextToken(v1::NextToken::default())) };
    for (spec, field, words) in [
        (of(text("", byte, 4)), "data.train.text.path", "is missing"),
        (of(text("gone.txt", byte, 4)), "data.train.text.path", "is not there"),
        (of(text("gone*.txt", byte, 4)), "data.train.text.path", "matches no file"),
        (of(v1::TextDataset { paths: vec!["good.txt".into()], ..good() }), "data.train.text.path", "paths is as well"),
        (
            of(v1::TextDataset { path: String::new(), paths: vec!["good.txt".into(), String::new()], ..good() }),
            "data.train.text.paths[1]",
            "is missing",
        ),
        (of(v1::TextDataset { unit: 7, ..good() }), "data.train.text.unit", "is 7; byte or character is needed"),
        (
            of(text("good.txt", byte, 0)),
            "data.train.text.context",
            "is missing or 0; a number of tokens of 1 to 1048576 is needed",
        ),
        (of(text("good.txt", byte, 2_000_000)), "data.train.text.context", "is 2000000; a number of tokens"),
        (of(text("good.txt", byte, 100)), "data.train.text.context", "good.txt has 100 bytes; 101 at least are needed"),
        (of(v1::TextDataset { stride: Some(0), ..good() }), "data.train.text.stride", "is 0; at least 1 is needed"),
        (of(text("empty.txt", byte, 4)), "data.train.text.path", "empty.txt is empty"),
        (
            of(text("packed.xz", byte, 4)),
            "data.train.text.path",
            "packed.xz is no text: it looks like an xz file (unpack it)",
        ),
        (
            of(text("latin.txt", character, 4)),
            "data.train.text.path",
            "latin.txt is not UTF-8: the byte 0xe9 at 8, counted from 0, in line 2, column 4; unit = \"byte\"",
        ),
        (of(text("utf16.txt", character, 4)), "data.train.text.path", "utf16.txt is UTF-16, and UTF-8 is needed"),
        (
            job(text("good.txt", character, 4), Some(text("other.txt", character, 4))),
            "data.validation.text.path",
            "other.txt line 6, column 3: the character 'x' (U+0078) is in no training file; unit = \"byte\"",
        ),
        (
            split(v1::TextDataset { stride: Some(3), ..good() }),
            "data.split.fraction",
            "windows of 4 tokens that begin every 3 overlap",
        ),
        (v1::JobSpec { loss: Some(next), ..of(good()) }, "loss.next_token", "are the tokens that follow already"),
    ] {
        let told = refused(&daemon, spec).await;
        let is_told = told.len() == 1 && told[0].0 == format!("spec.{field}") && told[0].1.contains(words);
        assert!(is_told, "{field} {words}: {told:?}");
    }
}

#[tokio::test]
async fn a_limit_on_a_text_of_a_gigabyte_is_judged_within_the_memory_of_a_request() {
    let root = tempfile::tempdir().unwrap();
    // Frames follow one another, each of a few kilobytes.
    let frame = zstd::encode_all(&vec![b'x'; 64 << 20][..], 1).unwrap();
    let daemon = start(root.path(), &[("large.txt.zst", &frame.repeat(16))]);
    let mut spec = job(v1::TextDataset { stride: Some(1), ..text("large.txt.zst", TextUnit::Byte, 8) }, None);
    spec.data.as_mut().unwrap().limit = Some(1000);
    let request = v1::ValidateJobRequest { spec: Some(spec), dry_run: false };
    let told = daemon.jobs().await.validate_job(request).await.unwrap().into_inner();
    assert_eq!(told.train_examples, 1000);
    assert!(told.notes.iter().any(|note| note.contains("counts are estimates")), "{:?}", told.notes);
}
