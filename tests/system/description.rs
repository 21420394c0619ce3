//! The closer look that ValidateJob takes at data and model.

use std::fs;

use torchd::proto::v1;

use super::daemon::{Daemon, Setup};
use super::spec;
use super::torchctl::told;

async fn described(daemon: &Daemon, spec: v1::JobSpec) -> v1::ValidateJobResponse {
    let request = v1::ValidateJobRequest { spec: Some(spec), dry_run: false };
    daemon.jobs().await.validate_job(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn images_are_described_with_their_values_classes_and_memory() {
    let daemon = Daemon::start();
    let told = described(&daemon, spec::short()).await;
    let (train, validation) = (told.train.unwrap(), told.validation.unwrap());
    assert!(train.was_read && validation.was_read && told.test.is_none());
    assert_eq!((train.examples, validation.examples), (told.train_examples, told.validation_examples));
    assert_eq!((train.file_count, train.files.len(), train.left_out_rows), (2, 2, 0));
    let on_disk: u64 = train.files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(train.size_bytes, on_disk);
    let [images] = &train.inputs[..] else { panic!("{train:?}") };
    assert_eq!((images.dtype.as_str(), &images.sizes[..]), ("uint8", &[1, 28, 28][..]));
    let numbers: Vec<_> = train.classes.iter().map(|class| class.number).collect();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    assert_eq!(train.classes.iter().map(|class| class.examples).sum::<u64>(), train.examples);
    assert_eq!(train.memory_bytes, train.examples * (28 * 28 + 8));
    let parameters = told.model_outline.unwrap().parameter_count;
    assert!(told.memory_bytes > train.memory_bytes + validation.memory_bytes + 8 * parameters);
}

#[tokio::test]
async fn a_table_is_described_by_its_columns() {
    let root = tempfile::tempdir().unwrap();
    let rows =
        ["a,kind,y,w,part", "1,red,cat,2,train", "-3.5,,dog,1,train", ",blue,cat,1,train", "7,red,cat,1,validation"];
    fs::write(root.path().join("rows.csv"), rows.join("\n")).unwrap();
    let text = r#"
        [model.mlp]
        [data.train.csv]
        path = "rows.csv"
        target = "y"
        categorical = ["kind"]
        missing = [{ columns = ["a"], by = "drop" }, { by = "constant", value = 0.0 }]
        [data.split]
        column = "part"
        [data.sampling]
        weights = "w"
        [training]
        epochs = 1
        batch_size = 1
        [optimizer.sgd]
        learning_rate = 0.1
    "#;
    let file = root.path().join("spec.toml");
    fs::write(&file, text).unwrap();
    let daemon = Setup::new().data_root(root.path()).start();
    let (code, out, err) = told(&daemon.ctl(&["validate", file.to_str().unwrap(), "-o", "json"]));
    assert_eq!(code, 0, "{err}");
    let told_in_json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let train = &told_in_json["train"];
    let column = |name: &str| {
        let columns = train["columns"].as_array().unwrap();
        columns.iter().find(|column| column["name"] == name).unwrap().clone()
    };
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    assert_eq!((number(&column("a")["lowest"]), number(&column("a")["highest"])), (-3.5, 1.0));
    assert_eq!(column("a")["role"], "COLUMN_ROLE_FEATURE");
    assert_eq!((column("kind")["different"].as_str(), column("kind")["missing"].as_str()), (Some("1"), Some("1")));
    assert_eq!(column("y")["role"], "COLUMN_ROLE_TARGET");
    assert_eq!(column("part")["role"], "COLUMN_ROLE_SPLIT");
    assert_eq!((&column("w")["role"], number(&column("w")["highest"])), (&"COLUMN_ROLE_WEIGHT".into(), 2.0));
    assert_eq!((&train["examples"], &train["left_out_rows"]), (&"2".into(), &"1".into()));
    let classes: Vec<_> = train["classes"].as_array().unwrap().iter().map(|class| class["name"].clone()).collect();
    assert_eq!(classes, ["cat", "dog"]);
    let (_, words, _) = told(&daemon.ctl(&["validate", file.to_str().unwrap()]));
    for line in [
        "2 examples, all read",
        "2 classes: cat: 1, dog: 1",
        "column a, -3.5 to 1",
        "column kind, 1 different words, 1 missing",
        "column y, the target, 2 different words",
        "column part, which divides the rows, 1 different words",
        "column w, which weighs the rows, 1 to 2",
        "1 rows are left out, since values are missing",
    ] {
        assert!(words.contains(line), "{line}\n{words}");
    }
}
