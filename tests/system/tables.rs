//! Tables: trained from CSV and Parquet alike, and refused with file, line and column.

use std::fs;

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use tonic::Code;
use tonic_types::StatusExt;
use torchd::proto::v1::{self, dataset::Format};

use super::daemon::{Daemon, Setup};
use super::spec;
use super::torchctl::told;

#[test]
fn the_example_of_a_table_is_trained_from_csv_and_parquet_alike() {
    let daemon = Daemon::start();
    let spec = fs::read_to_string("examples/table.toml").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let parquet = folder.path().join("parquet.toml");
    fs::write(&parquet, spec.replace("data.train.csv]", "data.train.parquet]").replace("apples.csv", "apples.parquet"))
        .unwrap();
    let run = |spec: &str| {
        let (code, out, err) = told(&daemon.ctl(&["submit", spec, "--watch", "--set", "resources.cpu_threads=1"]));
        assert!(code == 0 && out.contains("succeeded: trained to the end"), "{out}{err}");
        let job = out.split_whitespace().find(|word| word.starts_with("jobs/")).unwrap().trim_end_matches([':', ',']);
        let artifact = |name: &str| fs::read(daemon.job_folder(job).join("artifacts").join(name)).unwrap();
        let (_, scalars, _) = told(&daemon.ctl(&["scalars", job, "--tag", "accuracy/validation", "-o", "json"]));
        let scalars: serde_json::Value = serde_json::from_str(&scalars).unwrap();
        let last = scalars["points"].as_array().unwrap().last().unwrap()["value"].as_f64().unwrap();
        (artifact("model.safetensors"), artifact("preprocessing.json"), last)
    };
    let (weights, preparation, accuracy) = run("examples/table.toml");
    assert!(accuracy > 0.9, "{accuracy}");
    let kept: serde_json::Value = serde_json::from_slice(&preparation).unwrap();
    let kept = &kept["preparation"];
    assert_eq!(kept["classes"], serde_json::json!(["Boskoop", "Gala", "Golden Delicious"]));
    let columns = kept["table"]["inputs"][0]["columns"].as_array().unwrap();
    assert_eq!(columns[4], serde_json::json!({"name": "colour", "categories": ["green", "red", "yellow"]}));
    let firmness = columns[3]["missing"].as_f64().unwrap();
    assert!((55.0..70.0).contains(&firmness), "{firmness}");
    let from_parquet = run(parquet.to_str().unwrap());
    assert!(from_parquet == (weights, preparation, accuracy), "the same numbers from Parquet");
}

#[test]
fn new_rows_without_the_target_are_answered_with_the_names_of_classes() {
    let root = tempfile::tempdir().unwrap();
    let all = fs::read_to_string("examples/apples/apples.csv").unwrap();
    fs::write(root.path().join("apples.csv"), &all).unwrap();
    // The new rows have neither `id` nor `sort`; the other columns stand in another order, with one
    // more.
    let mut sorts = Vec::new();
    let new = all.lines().take(101).map(|line| {
        let mut row: Vec<_> = line.split(',').collect();
        sorts.push(row.pop().unwrap().to_owned());
        row[0] = if row[0] == "id" { "note" } else { "fell" };
        row.reverse();
        row.join(",") + "\n"
    });
    fs::write(root.path().join("new.csv"), new.collect::<String>()).unwrap();
    let daemon = Setup::new().data_root(root.path()).start();
    let submit = |arguments: &[&str]| {
        let (code, out, err) = told(&daemon.ctl(&[&["submit"], arguments, &["--watch"]].concat()));
        assert!(code == 0 && out.contains("succeeded"), "{out}{err}");
        out.split_whitespace().find(|word| word.starts_with("jobs/")).unwrap().trim_end_matches([':', ',']).to_owned()
    };
    let trained = submit(&["examples/table.toml", "--set", "data.train.csv.path=apples.csv"]);
    let spec = format!("[warm_start]\ncheckpoint = {trained:?}\n[data.test.csv]\npath = \"new.csv\"\n");
    let file = root.path().join("use.toml");
    fs::write(&file, spec).unwrap();
    let file = file.to_str().unwrap();
    let answers = submit(&[file, "--set", "mode=predict"]);
    let answers = fs::read_to_string(daemon.job_folder(&answers).join("artifacts/predictions.csv")).unwrap();
    let head = "row,prediction,probability_Boskoop,probability_Gala,probability_Golden Delicious";
    assert_eq!(answers.lines().next().unwrap(), head);
    let told_sorts: Vec<_> = answers.lines().skip(1).map(|line| line.split(',').nth(1).unwrap()).collect();
    assert_eq!(told_sorts.len(), 100);
    let right = told_sorts.iter().zip(&sorts[1..]).filter(|(told, sort)| told == sort).count();
    assert!(right > 90, "{right} of 100");
    // The same answers in Parquet.
    let parquet = submit(&[file, "--set", "mode=predict", "--set", "output.predictions=parquet"]);
    let bytes = fs::read(daemon.job_folder(&parquet).join("artifacts/predictions.parquet")).unwrap();
    let read = SerializedFileReader::new(Bytes::from(bytes)).unwrap();
    let rows = read.get_row_iter(None).unwrap().map(|row| {
        let cells = row.unwrap().into_columns().into_iter().map(|(_, cell)| match cell {
            Field::Str(name) => name,
            Field::Long(number) => number.to_string(),
            Field::Float(number) => format!("{number:?}"),
            other => panic!("{other:?}"),
        });
        cells.collect::<Vec<_>>().join(",")
    });
    assert_eq!(rows.collect::<Vec<_>>(), answers.lines().skip(1).collect::<Vec<_>>());
    let schema = read.metadata().file_metadata().schema_descr();
    let names: Vec<_> = schema.columns().iter().map(|column| column.name().to_owned()).collect();
    assert_eq!(names.join(","), head);
    // Without targets there is nothing to judge by; with them every row is judged.
    let (code, _, err) = told(&daemon.ctl(&["validate", file, "--set", "mode=evaluate"]));
    assert!(code != 0 && err.contains("data.test.csv.target ") && err.contains("has no column \"sort\""), "{err}");
    submit(&[file, "--set", "mode=evaluate", "--set", "data.test.csv.path=apples.csv"]);
}

#[test]
fn missing_values_of_new_rows_are_filled_as_was_learned_or_asked_for_and_else_refused() {
    let root = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
    put("train.csv", "a,b,y\n1,1,3\n2,,4\n,3,5\n4,5,9\n");
    put("new.csv", "a,b\n1,\n2,3\n");
    put("hole.csv", "a,b\n1,2\n,3\n");
    let train = "model.mlp.hidden = [4]\noptimizer.sgd = { learning_rate = 0.01 }\n\
                 training = { max_steps = 2, batch_size = 1 }\n[data.train.csv]\npath = \"train.csv\"\n\
                 target = \"y\"\nmissing = [{ columns = [\"a\"], by = \"drop\" }, { by = \"mean\" }]\n";
    put("train.toml", train);
    let daemon = Setup::new().data_root(root.path()).start();
    let file = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let (code, out, err) = told(&daemon.ctl(&["submit", &file("train.toml"), "--watch"]));
    assert!(code == 0 && out.contains("succeeded"), "{out}{err}");
    let trained = out.split_whitespace().find(|word| word.starts_with("jobs/")).unwrap().trim_end_matches([':', ',']);
    let apply = |rows: &str, roles: &str| {
        let job = "mode = \"predict\"\nwarm_start.checkpoint = ";
        put("use.toml", &format!("{job}{trained:?}\n[data.test.csv]\npath = {rows:?}\n{roles}"));
        told(&daemon.ctl(&["submit", &file("use.toml"), "--watch"]))
    };
    let (code, out, err) = apply("new.csv", "");
    assert!(code == 0 && out.contains("succeeded"), "{out}{err}");
    // Rows without `a` were dropped, so that nothing tells what it would be.
    let (code, _, err) = apply("hole.csv", "");
    let words = "hole.csv line 3, column \"a\": the value is missing";
    assert!(code != 0 && err.contains("data.test.csv.path") && err.contains(words), "{err}");
    // A section with a rule of its own takes the rest over all the same.
    let own = |rule: &str| apply("hole.csv", &format!("missing = [{{ {rule} }}]\n"));
    let (code, _, err) = own("by = \"mean\"");
    let words = "hole.csv has no value of \"a\" in 1 of 2 rows, and the training set taught no mean of it";
    assert!(code != 0 && err.contains("data.test.csv.missing") && err.contains(words), "{err}");
    let (code, out, err) = own("by = \"constant\", value = 2.0");
    assert!(code == 0 && out.contains("succeeded"), "{out}{err}");
    let answers = out.split_whitespace().find(|word| word.starts_with("jobs/")).unwrap().trim_end_matches([':', ',']);
    let answers = fs::read_to_string(daemon.job_folder(answers).join("artifacts/predictions.csv")).unwrap();
    let numbers: Vec<f32> =
        answers.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect();
    assert!(numbers.len() == 2 && numbers.iter().all(|number| number.is_finite()), "{answers}");
    // A target that is there has values.
    put("unanswered.csv", "a,b,y\n1,2,\n");
    let (code, _, err) = apply("unanswered.csv", "missing = [{ by = \"mean\" }]\n");
    let words = "column \"y\": the value is missing; no value stands in for a target";
    assert!(code != 0 && err.contains(words) && err.contains("leave the column out"), "{err}");
}

/// A spec whose training set is a table.
fn table(format: Format) -> v1::JobSpec {
    let mlp = v1::Mlp { hidden: vec![4], ..v1::Mlp::default() };
    v1::JobSpec {
        model: Some(v1::Model { family: Some(v1::model::Family::Mlp(mlp)) }),
        data: Some(v1::Data { train: Some(v1::Dataset { format: Some(format) }), ..v1::Data::default() }),
        training: Some(v1::Training {
            length: Some(v1::training::Length::MaxSteps(2)),
            batch_size: Some(1),
            ..v1::Training::default()
        }),
        ..spec::short()
    }
}

fn csv(path: &str, target: &str) -> v1::CsvDataset {
    v1::CsvDataset { path: path.into(), target: target.into(), ..v1::CsvDataset::default() }
}

async fn refusal(daemon: &Daemon, spec: v1::JobSpec) -> Vec<(String, String)> {
    let request = v1::ValidateJobRequest { spec: Some(spec), dry_run: false };
    let status = daemon.jobs().await.validate_job(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let fields = status.get_details_bad_request().unwrap().field_violations;
    fields.into_iter().map(|one| (one.field, one.description)).collect()
}

#[tokio::test]
async fn every_fault_of_a_table_is_told_with_its_field_file_line_and_column() {
    let root = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(root.path().join(name), bytes).unwrap();
    put("good.csv", b"x,y\n1,2\n3,4\n");
    put("word.csv", b"x,y\r\n1,2\r\n\r\nred,4\r\n");
    put("date.csv", b"x,y\n1,2\n2024-05-01,4\n");
    put("missing.csv", b"x,y\n1,2\nNA,4\n");
    put("infinite.csv", b"x,y\n1,2\n-inf,4\n");
    put("quote.csv", b"x,y\n1,2\n\"3,4\n5,6\n");
    put("short.csv", b"x,y\n1,2\n3\n");
    put("long.csv", b"x,y\n1,2\n3,4,5\n");
    put("twice.csv", b"x,x,y\n1,1,2\n");
    put("latin.csv", b"x,k,y\n1,caf\xe9,2\n");
    put("utf16.csv", b"\xff\xfex\0,\0y\0\n\0");
    put("empty.csv", b"");
    put("header.csv", b"x,y\n");
    put("other.csv", b"y,x\n1,2\n");
    put("class.csv", b"x,y\n1,red\n2,blue\n");
    put("bad.parquet", b"PAR1 this is none");
    let daemon = Setup::new().data_root(root.path()).start();
    let cases = [
        (csv("word.csv", "y"), "path", "word.csv line 4, column \"x\": \"red\" is no number"),
        (
            csv("date.csv", "y"),
            "path",
            "date.csv line 3, column \"x\": \"2024-05-01\" is no number; it looks like a date",
        ),
        (csv("missing.csv", "y"), "path", "missing.csv line 3, column \"x\": the value is missing"),
        (csv("infinite.csv", "y"), "path", "infinite.csv line 3, column \"x\": \"-inf\" is not finite"),
        (csv("quote.csv", "y"), "path", "quote.csv line 3: a quote opens in field 1 and never closes"),
        (csv("short.csv", "y"), "path", "short.csv line 3: the number of fields is 1"),
        (csv("long.csv", "y"), "path", "long.csv line 3: the number of fields is 3"),
        (csv("twice.csv", "y"), "path", "twice.csv has \"x\" as column 1 and as column 2"),
        (
            v1::CsvDataset { categorical: vec!["k".into()], ..csv("latin.csv", "y") },
            "path",
            "latin.csv line 2, column \"k\"",
        ),
        (csv("utf16.csv", "y"), "path", "utf16.csv is UTF-16"),
        (csv("empty.csv", "y"), "path", "empty.csv is empty"),
        (csv("header.csv", "y"), "path", "header.csv has no rows that can be taken"),
        (csv("gone.csv", "y"), "path", "is not there; looked in"),
        (csv("good.csv", "Y"), "target", "good.csv has no column \"Y\"; did you mean \"y\"?"),
        (csv("good.csv", ""), "target", "is missing; name the column to answer"),
        (
            v1::CsvDataset { targets: vec!["x".into()], ..csv("good.csv", "y") },
            "target",
            "is set, and targets is as well",
        ),
        (
            v1::CsvDataset { features: vec!["y".into()], ..csv("good.csv", "y") },
            "features",
            "holds \"y\", which is in target as well",
        ),
        (
            v1::CsvDataset { categorical: vec!["y".into()], ..csv("good.csv", "y") },
            "categorical",
            "holds \"y\", which is a target",
        ),
        (v1::CsvDataset { ignore: vec!["z".into()], ..csv("good.csv", "y") }, "ignore", "good.csv has no column \"z\""),
        (
            v1::CsvDataset { delimiter: ", ".into(), ..csv("good.csv", "y") },
            "delimiter",
            "one ASCII character is needed",
        ),
        (v1::CsvDataset { comment: "\"".into(), ..csv("good.csv", "y") }, "comment", "is the same character as quote"),
        (
            v1::CsvDataset { missing: vec![v1::MissingValues::default()], ..csv("good.csv", "y") },
            "missing[0].by",
            "is missing or unknown; refuse, drop, mean or constant is needed",
        ),
        (
            v1::CsvDataset {
                inputs: vec![v1::TableInput { name: "x".into(), ..Default::default() }],
                ..csv("good.csv", "y")
            },
            "inputs[0].columns",
            "is missing; name the columns of the input",
        ),
        (
            v1::CsvDataset { paths: vec!["good.csv".into(), "other.csv".into()], ..csv("", "y") },
            "paths",
            "other.csv has \"y\" as column 1, which is \"x\" in",
        ),
    ];
    for (set, field, words) in cases {
        let told = refusal(&daemon, table(Format::Csv(set))).await;
        let [(found, what)] = &told[..] else { panic!("{words}: {told:?}") };
        assert_eq!(*found, format!("spec.data.train.csv.{field}"), "{words}: {what}");
        assert!(what.contains(words), "{words}: {what}");
    }
    put("words.csv", b"x,y\nred,2\nblue,4\n1,NA\ngrey,3\n");
    let told = refusal(&daemon, table(Format::Csv(csv("words.csv", "y")))).await;
    let [(_, words), (_, missing)] = &told[..] else { panic!("{told:?}") };
    assert!(words.contains("line 2, column \"x\": \"red\" is no number; mend the value; a column of words"));
    assert!(words.ends_with("(and 2 more rows of this column: lines 3, 5)"), "{words}");
    assert!(missing.contains("line 4, column \"y\": the value is missing") && !missing.contains("more"), "{missing}");
    // The remedy is one of tables.
    let loss = |kind| Some(v1::Loss { kind: Some(kind) });
    let numbers =
        v1::JobSpec { loss: loss(v1::loss::Kind::Mse(v1::Mse {})), ..table(Format::Csv(csv("class.csv", "y"))) };
    let classes = v1::loss::Kind::CrossEntropy(v1::CrossEntropy::default());
    let classes = v1::JobSpec { loss: loss(classes), ..table(Format::Csv(csv("good.csv", "y"))) };
    for (spec, field, words) in [
        (
            numbers,
            "mse",
            "needs numbers, and \"y\" has classes; cross_entropy and nll take those, and a column of numbers",
        ),
        (classes, "cross_entropy", "mse takes those, and target_type = \"classes\" makes classes"),
    ] {
        let told = refusal(&daemon, spec).await;
        assert!(told[0].0 == format!("spec.loss.{field}") && told[0].1.contains(words), "{told:?}");
    }
    let set = v1::ParquetDataset { path: "bad.parquet".into(), target: "y".into(), ..Default::default() };
    let told = refusal(&daemon, table(Format::Parquet(set))).await;
    assert!(told[0].0 == "spec.data.train.parquet.path" && told[0].1.contains("bad.parquet is cut off"), "{told:?}");
    let mut spec = table(Format::Csv(csv("good.csv", "y")));
    let by = v1::split::By::Column("part".into());
    spec.data.as_mut().unwrap().split = Some(v1::Split { by: Some(by), ..v1::Split::default() });
    let told = refusal(&daemon, spec).await;
    assert!(told[0].0 == "spec.data.split.column" && told[0].1.contains("which is no column of the data"), "{told:?}");
    // A validation set with a class that no training row has.
    let mut spec = table(Format::Csv(csv("class.csv", "y")));
    put("other-class.csv", b"x,y\n1,red\n2,green\n");
    spec.data.as_mut().unwrap().validation =
        Some(v1::Dataset { format: Some(Format::Csv(csv("other-class.csv", "y"))) });
    spec.training.as_mut().unwrap().validation_batch_size = None;
    let told = refusal(&daemon, spec).await;
    assert_eq!(told[0].0, "spec.data.validation.csv.target");
    assert!(
        told[0].1.contains("other-class.csv line 3, column \"y\": \"green\" is no class of the training rows"),
        "{told:?}"
    );
}

#[tokio::test]
async fn categories_that_no_training_row_has_are_told_and_no_mistake() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("t.csv"), "k,y\na,1\nb,2\n").unwrap();
    fs::write(root.path().join("v.csv"), "k,y\na,1\nc,2\n").unwrap();
    let daemon = Setup::new().data_root(root.path()).start();
    let set = |path: &str| {
        let set = v1::CsvDataset { categorical: vec!["k".into()], ..csv(path, "y") };
        v1::Dataset { format: Some(Format::Csv(set)) }
    };
    let mut spec = table(Format::Csv(csv("t.csv", "y")));
    let data = spec.data.as_mut().unwrap();
    (data.train, data.validation) = (Some(set("t.csv")), Some(set("v.csv")));
    let request = v1::ValidateJobRequest { spec: Some(spec), dry_run: false };
    let answer = daemon.jobs().await.validate_job(request).await.unwrap().into_inner();
    let [note] = &answer.notes[..] else { panic!("{:?}", answer.notes) };
    assert!(note.contains("v.csv line 3, column \"k\"") && note.contains("\"c\""), "{note}");
}

#[tokio::test]
async fn the_width_of_a_model_is_held_against_all_rows_and_not_against_a_sample() {
    let root = tempfile::tempdir().unwrap();
    let row = |category: usize| format!("1,2,k{category},{}\n", category % 2);
    // A request reads a megabyte at most of each of 64 files: five of six categories.
    let (header, read) = ("a,b,k,y\n", (0..5).map(row).collect::<String>());
    for number in 0..63 {
        fs::write(root.path().join(format!("part_{number:02}.csv")), format!("{header}{read}")).unwrap();
    }
    let large = [header, &read.repeat(1_100_000 / read.len()), &row(5).repeat(100_000)].concat();
    fs::write(root.path().join("part_63.csv"), large).unwrap();
    let daemon = super::exported::start(root.path());
    let validate = async |categorical: &[&str]| {
        let set = v1::CsvDataset {
            categorical: categorical.iter().map(|name| (*name).to_owned()).collect(),
            target_type: v1::TargetType::Classes.into(),
            ..csv("part_*.csv", "y")
        };
        let mut spec = super::exported::job("mlp/net.pt2", "mlp");
        spec.data.as_mut().unwrap().train = Some(v1::Dataset { format: Some(Format::Csv(set)) });
        daemon.jobs().await.validate_job(v1::ValidateJobRequest { spec: Some(spec), dry_run: false }).await
    };
    // Two numbers and six categories are the eight numbers that the model takes.
    let told = validate(&["k"]).await.unwrap().into_inner();
    assert!(told.notes.iter().any(|note| note.contains("counts are estimates")), "{:?}", told.notes);
}

#[tokio::test]
async fn a_table_of_many_columns_is_described_by_the_first_thousand() {
    let root = tempfile::tempdir().unwrap();
    let columns = 40_000;
    let line = |cell: &dyn Fn(usize) -> String| (0..columns).map(cell).collect::<Vec<_>>().join(",") + "\n";
    let name = |column: usize| format!("reading_of_the_sensor_number_{column:05}_in_celsius");
    let rows = [line(&name), line(&|column| column.to_string()), line(&|column| (2 * column).to_string())];
    fs::write(root.path().join("wide.csv"), rows.concat()).unwrap();
    let daemon = Setup::new().data_root(root.path()).start();
    let mut spec = table(Format::Csv(csv("wide.csv", &name(columns - 1))));
    spec.data.as_mut().unwrap().normalize = Some(v1::Normalize { measure: true, ..v1::Normalize::default() });
    let request = v1::ValidateJobRequest { spec: Some(spec), dry_run: false };
    let train = daemon.jobs().await.validate_job(request).await.unwrap().into_inner().train.unwrap();
    assert_eq!((train.columns.len(), train.column_count, &train.inputs[0].sizes[..]), (1000, 40_000, &[39_999][..]));
}

#[tokio::test]
async fn a_description_of_more_columns_than_an_answer_has_room_for_is_refused_with_the_remedy() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, column: &dyn Fn(usize) -> String| {
        let line = |cell: &dyn Fn(usize) -> String| (0..100_000).map(cell).collect::<Vec<_>>().join(",") + "\n";
        let rows = [line(column), line(&|column| column.to_string()), line(&|column| (2 * column).to_string())];
        fs::write(root.path().join(name), rows.concat()).unwrap();
    };
    write("short.csv", &|column| format!("c{column}"));
    write("long.csv", &|column| format!("{column}_{}", "long".repeat(25)));
    let daemon = Setup::new().data_root(root.path()).start();
    let validate = async |path: &str, target: &str| {
        let mut spec = table(Format::Csv(csv(path, target)));
        spec.data.as_mut().unwrap().normalize = Some(v1::Normalize { measure: true, ..v1::Normalize::default() });
        daemon.jobs().await.validate_job(v1::ValidateJobRequest { spec: Some(spec), dry_run: false }).await
    };
    let train = validate("short.csv", "c0").await.unwrap().into_inner().train.unwrap();
    assert_eq!(train.column_count, 100_000);
    let status = validate("long.csv", &format!("0_{}", "long".repeat(25))).await.unwrap_err();
    let told = status.get_details_bad_request().unwrap().field_violations.remove(0);
    let words = "its description takes more than 8 MiB: name fewer columns in `features`, or give them, or classes and \
                 categories, shorter names";
    assert!(told.field == "spec.data.train.csv.path" && told.description.contains(words), "{told:?}");
}

#[test]
fn a_target_of_one_class_is_noted_and_counted_as_one() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("one.csv"), "x,y\n1,red\n2,red\n").unwrap();
    fs::create_dir_all(root.path().join("trees/ash")).unwrap();
    for number in 0..2 {
        fs::write(root.path().join(format!("trees/ash/{number}.png")), super::formats::png(6, 5)).unwrap();
    }
    let daemon = Setup::new().data_root(root.path()).start();
    let images = v1::ImageFolderDataset { path: "trees".into(), ..v1::ImageFolderDataset::default() };
    for (format, words) in
        [(Format::Csv(csv("one.csv", "y")), "1 class: red: 2"), (Format::ImageFolder(images), "1 class: ash: 2")]
    {
        let spec = root.path().join("one.json");
        fs::write(&spec, torchd::proto::json::to_string(&table(format), false).unwrap()).unwrap();
        let (code, out, err) = told(&daemon.ctl(&["validate", spec.to_str().unwrap()]));
        assert!(code == 0 && out.contains(words), "{out}{err}");
        assert!(out.contains("the target has one class: nothing can be learned from it"), "{out}");
        // The size of a folder is not known.
        assert!(!out.contains(", 0 B"), "{out}");
    }
}
