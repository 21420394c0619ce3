//! The families of networks: which data and settings each refuses, and a network of layers from its
//! spec to its result.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use torchd::proto::{json as mapping, text, v1};

use super::daemon::{Daemon, Setup};
use super::spec;
use super::warm_start::safetensors;
use super::weights::mistakes;

/// Examples in each file of data.
const EXAMPLES: usize = 9;

/// An array for each example: its shape, and numbers drawn, or whole numbers below a limit.
enum Array {
    Numbers(&'static [usize]),
    Below(i64, &'static [usize]),
}

/// A file of data with the inputs `x`, and the target `y`.
fn write(path: &Path, arrays: &[(&str, Array)]) {
    let (mut header, mut bytes) = (Map::new(), Vec::new());
    for (name, array) in arrays {
        let begin = bytes.len();
        let (dtype, shape) = match array {
            Array::Numbers(shape) => ("F32", shape),
            Array::Below(_, shape) => ("I64", shape),
        };
        for place in 0..EXAMPLES * shape.iter().product::<usize>() {
            match array {
                Array::Numbers(_) => bytes.extend_from_slice(&(place as f32 * 0.7).sin().to_le_bytes()),
                Array::Below(limit, _) => bytes.extend_from_slice(&(place as i64 % limit).to_le_bytes()),
            }
        }
        let shape = [&[EXAMPLES], *shape].concat();
        let told = json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, bytes.len()]});
        header.insert((*name).to_owned(), told);
    }
    fs::write(path, safetensors(&header, &bytes)).unwrap();
}

/// A daemon, and a folder with the data of its jobs.
fn start(root: &Path) -> Daemon {
    let classes = || ("y", Array::Below(3, &[]));
    write(&root.join("pictures"), &[("x", Array::Numbers(&[3, 8, 8])), classes()]);
    write(&root.join("wide"), &[("x", Array::Numbers(&[3, 8, 6])), classes()]);
    write(&root.join("points"), &[("x", Array::Numbers(&[3, 1, 1])), classes()]);
    write(&root.join("rows"), &[("x", Array::Numbers(&[6])), classes()]);
    write(&root.join("two"), &[("a", Array::Numbers(&[6])), ("b", Array::Numbers(&[6])), classes()]);
    write(&root.join("sentences"), &[("x", Array::Below(11, &[7])), classes()]);
    write(&root.join("text"), &[("x", Array::Below(11, &[7])), ("y", Array::Below(11, &[7]))]);
    Setup::new().data_root(root).start()
}

fn set(name: &str) -> v1::Dataset {
    let set = v1::SafetensorsDataset { path: name.into(), ..v1::SafetensorsDataset::default() };
    v1::Dataset { format: Some(v1::dataset::Format::Safetensors(set)) }
}

/// A job with that model, in JSON, and that data.
fn job(model: &Value, data: &str) -> v1::JobSpec {
    v1::JobSpec {
        model: Some(mapping::from_str(&model.to_string()).unwrap_or_else(|error| panic!("{model}: {error:?}"))),
        data: Some(v1::Data { train: Some(set(data)), ..v1::Data::default() }),
        training: Some(v1::Training {
            length: Some(v1::training::Length::MaxSteps(6)),
            batch_size: Some(3),
            ..v1::Training::default()
        }),
        optimizer: Some(spec::sgd(0.05, 0.9)),
        resources: Some(spec::threads(1)),
        ..v1::JobSpec::default()
    }
}

fn layers(layers: Value) -> Value {
    json!({"sequential": {"layers": layers}})
}

fn gpt(more: &Value) -> Value {
    let mut gpt = json!({"layers": 1, "heads": 2, "width": 8});
    gpt.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"gpt": gpt})
}

fn vit(patch: u32, heads: u32) -> Value {
    json!({"vit": {"patch": patch, "layers": 1, "heads": heads, "width": 8}})
}

const FILE: &str = "data.train.safetensors.path";

#[tokio::test]
async fn what_a_family_cannot_train_is_refused_by_its_field() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    let conv = |kernel: u32| json!({"conv2d": {"out_channels": 4, "kernel_size": kernel}});
    let linear = || json!({"linear": {}});
    let cases = [
        (layers(json!([])), "rows", "model.sequential.layers", "is empty; name one layer at least"),
        (layers(json!([{}])), "rows", "model.sequential.layers[0]", "names no layer; choose one: linear, conv1d"),
        (
            layers(json!([linear(), {"relu": {}}, linear()])),
            "rows",
            "model.sequential.layers[0].linear.out_features",
            "is missing; the last linear layer alone",
        ),
        (
            layers(json!([{"flatten": {}}, {"relu": {}}, {"relu": {}}, conv(3), linear()])),
            "pictures",
            "model.sequential.layers[3].conv2d",
            "gets [192] of 32-bit floats for an example; it takes [channels, height, width]",
        ),
        (
            layers(json!([conv(9), {"flatten": {}}, linear()])),
            "pictures",
            "model.sequential.layers[0].conv2d",
            "gets [3, 8, 8] of 32-bit floats for an example; it takes sizes from 9 on",
        ),
        (
            layers(json!([{"max_pool2d": {"kernel_size": 2, "padding": 2}}, linear()])),
            "pictures",
            "model.sequential.layers[0].max_pool2d.padding",
            "is 2; at most 1, half of the kernel's size",
        ),
        (
            layers(json!([{"conv2d": {"out_channels": 4, "kernel_size": 0, "groups": 3}}])),
            "pictures",
            "model.sequential.layers[0].conv2d.kernel_size",
            "is 0; at least 1 is needed",
        ),
        (
            layers(json!([{"conv2d": {"out_channels": 4, "kernel_size": 1, "groups": 3}}])),
            "pictures",
            "model.sequential.layers[0].conv2d.groups",
            "is 3; a divisor of out_channels, which is 4",
        ),
        (
            layers(json!([linear()])),
            "sentences",
            "model.sequential.layers[0].linear",
            "gets [7] of 64-bit integers for an example; it takes 32-bit floats; an embedding",
        ),
        (
            layers(json!([{"embedding": {"num_embeddings": 10, "embedding_dim": 4}}, {"flatten": {}}, linear()])),
            "sentences",
            "model.sequential.layers[0].embedding",
            "it takes tokens from 0 to 9, and 10 is among them",
        ),
        (
            layers(json!([{"gelu": {"approximate": "erf"}}, linear()])),
            "rows",
            "model.sequential.layers[0].gelu.approximate",
            "is \"erf\"; none or tanh is needed",
        ),
        (layers(json!([linear()])), "two", "data.train.safetensors", "has the inputs a, b; sequential takes one"),
        (
            layers(json!([{"linear": {"out_features": 4}}, {"flatten": {}}])),
            "text",
            "model.sequential.layers[0].linear",
            "an embedding",
        ),
        (json!({"resnet": {"depth": 20}}), "pictures", "model.resnet.depth", "is 20; 18, 34 or 50 is needed"),
        (
            json!({"resnet": {"depth": 18}}),
            "rows",
            FILE,
            "has \"x\" as [6] of 32-bit floats; the conv2d \"conv1\" gets [6] of 32-bit floats, and takes [channels, height",
        ),
        (
            json!({"resnet": {"depth": 18}}),
            "sentences",
            FILE,
            "has \"x\" as 64-bit integers; resnet takes 32-bit floats",
        ),
        (vit(4, 3), "pictures", "model.vit.heads", "is 3; a divisor of the width, which is 8"),
        (vit(3, 2), "pictures", "model.vit.patch", "is 3, and images are 8x8; a divisor of their size"),
        (vit(u32::MAX, 2), "pictures", "model.vit.patch", "is 4294967295, and images are 8x8"),
        (vit(2, 2), "wide", FILE, "has \"x\" as [3, 8, 6]; vit takes images as [channels, size, size]"),
        (
            json!({"vit": {"patch": 2, "layers": 257, "heads": 1, "width": 8}}),
            "pictures",
            "model.vit.layers",
            "is 257; 1 to 256",
        ),
        (gpt(&json!({"context": 6})), "text", "model.gpt.context", "is 6, and \"x\" has 7 tokens for an example"),
        (gpt(&json!({"heads": 3})), "text", "model.gpt.heads", "is 3; a divisor of the width, which is 8"),
        (
            gpt(&json!({"vocabulary": 7})),
            "text",
            "model.gpt.vocabulary",
            "is 7, which is the number of tokens of an example",
        ),
        (
            gpt(&json!({"vocabulary": 10})),
            "text",
            FILE,
            "holds the token 10 at place 1, counted from 0; gpt takes 0 to 9",
        ),
        (gpt(&json!({})), "rows", FILE, "has \"x\" as [6] of 32-bit floats; gpt takes [tokens] of 64-bit integers"),
        (gpt(&json!({})), "sentences", "model.gpt", "gives [7, 11] for an example"),
        (
            json!({"linear": {"outputs": 2}}),
            "rows",
            FILE,
            "holds the label 2 at place 2, counted from 0; linear has scores for 0 to 1",
        ),
        (json!({"linear": {}}), "two", "data.train.safetensors", "has the inputs a, b; linear takes one"),
        (
            layers(json!([{"softmax": {"dim": 2}}, linear()])),
            "rows",
            "model.sequential.layers[0].softmax",
            "takes examples with the dimension 2",
        ),
        (
            layers(json!([{"softmax": {"dim": 0}}, linear()])),
            "rows",
            "model.sequential.layers[0].softmax",
            "takes examples with the dimension 0",
        ),
    ];
    for (model, data, field, words) in cases {
        let wrong = mistakes(&daemon, job(&model, data)).await;
        let field = format!("spec.{field}");
        assert!(
            wrong.iter().any(|(found, what)| *found == field && what.contains(words)),
            "{model}: {field} {words}: {wrong:?}"
        );
    }
}

#[tokio::test]
async fn a_network_without_parameters_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    let model = layers(json!([{"relu": {}}, {"flatten": {}}]));
    write(&root.path().join("scores"), &[("x", Array::Numbers(&[3])), ("y", Array::Below(3, &[]))]);
    let wrong = mistakes(&daemon, job(&model, "scores")).await;
    assert_eq!(
        wrong,
        [("spec.model.sequential".to_owned(), "has no parameters, so that nothing is trained".to_owned())]
    );
}

#[tokio::test]
async fn a_batch_that_leaves_one_example_to_normalise_over_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    let norm = layers(json!([{"linear": {"out_features": 4}}, {"batch_norm1d": {}}, {"linear": {}}]));
    let resnet = json!({"resnet": {"depth": 18}});
    for (model, data, layer) in [(&norm, "rows", "batch_norm1d \"1\""), (&resnet, "points", "batch_norm2d \"bn1\"")] {
        for (size, words) in [(1, "is 1; "), (4, "is 4, which leaves 1 of 9 examples for the last batch; ")] {
            let mut spec = job(model, data);
            spec.training.as_mut().unwrap().batch_size = Some(size);
            let wrong = mistakes(&daemon, spec).await;
            let told = format!("{words}the model normalises over each batch, which needs 2 examples at least: {layer}");
            assert_eq!(wrong, [("spec.training.batch_size".to_owned(), told)]);
        }
    }
    // Over the pixels as well.
    let mut spec = job(&json!({"resnet": {"depth": 18, "stem": "STEM_SMALL"}}), "pictures");
    spec.training.as_mut().unwrap().batch_size = Some(4);
    let wrong = mistakes(&daemon, spec).await;
    assert!(wrong[0].1.contains("batch_norm2d \"layer4.0.bn1\""), "{wrong:?}");
    let model = layers(json!([{"batch_norm2d": {}}, {"flatten": {}}, {"linear": {}}]));
    let mut spec = job(&model, "pictures");
    spec.training.as_mut().unwrap().batch_size = Some(4);
    daemon.jobs().await.validate_job(v1::ValidateJobRequest { spec: Some(spec), dry_run: false }).await.unwrap();
}

#[tokio::test]
async fn a_network_of_layers_is_trained_and_told_with_the_names_of_pytorch() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    let model = layers(json!([
        {"conv2d": {"out_channels": 4, "kernel_size": 3, "bias": false}}, {"batch_norm2d": {}}, {"relu": {}},
        {"flatten": {}}, {"linear": {}}
    ]));
    let mut spec = job(&model, "pictures");
    spec.optimizer.as_mut().unwrap().freeze = vec!["0.*".into()];
    let created = daemon.create(spec.clone()).await;
    let ended = daemon.watch_to_end(&created.name).await;
    assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
    let outline = ended.model_outline.unwrap();
    let told: Vec<_> = outline.layers.iter().map(|it| (&*it.name, it.parameter_count, it.kept_count)).collect();
    assert_eq!(told, [("0", 108, 0), ("1", 8, 9), ("4", 435, 0)]);
    // The defaults are filled in.
    let Some(v1::model::Family::Sequential(filled)) = ended.spec.unwrap().model.unwrap().family else { panic!() };
    let Some(v1::layer::Kind::Conv2d(conv)) = filled.layers[0].kind else { panic!() };
    assert_eq!((conv.stride, conv.dilation, conv.groups, conv.bias), (Some(1), Some(1), Some(1), Some(false)));
    let bytes = fs::read(daemon.job_folder(&created.name).join("artifacts/model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let counter = header["1.num_batches_tracked"]["data_offsets"][0].as_u64().unwrap() as usize;
    let counted = &bytes[8 + length + counter..][..8];
    assert_eq!(i64::from_le_bytes(counted.try_into().unwrap()), 6);
    // Another job begins with all of it.
    let source = v1::warm_start::Source::Checkpoint(created.name);
    spec.warm_start = Some(v1::WarmStart { source: Some(source), ..v1::WarmStart::default() });
    let again = daemon.create(spec).await;
    assert_eq!(daemon.watch_to_end(&again.name).await.state(), v1::JobState::Succeeded);
}

#[tokio::test]
async fn the_network_of_the_readme_is_taken() {
    let readme = fs::read_to_string("README.md").unwrap();
    let section = readme.split("## Networks without Python\n").nth(1).unwrap();
    let example = section.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let spec = text::message::<v1::JobSpec>(&[text::to_table(example, false).unwrap()]).unwrap();
    let daemon = Daemon::start();
    daemon.jobs().await.validate_job(v1::ValidateJobRequest { spec: Some(spec), dry_run: false }).await.unwrap();
}

#[tokio::test]
async fn the_example_of_a_recipe_trains_on_a_batch() {
    let example = text::to_table(&fs::read_to_string("examples/recipe.toml").unwrap(), false).unwrap();
    let spec = text::message::<v1::JobSpec>(&[example]).unwrap();
    let daemon = Daemon::start();
    daemon.jobs().await.validate_job(v1::ValidateJobRequest { spec: Some(spec), dry_run: true }).await.unwrap();
}
