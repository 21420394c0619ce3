//! Images that tables list: refused with table, line and column, and trained on as folders of
//! classes are.

use std::fs;
use std::path::Path;
use std::process::Command;

use torchd::proto::v1::{self, dataset::Format};

use super::daemon::{Daemon, Setup};
use super::formats::{job, last_of_example, png};
use super::tools;
use super::weights::mistakes;

/// A folder of six images, and tables beside it.
fn files(root: &Path) {
    let put = |name: &str, bytes: &[u8]| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for number in 0..6 {
        put(&format!("images/{number}.png"), &png(6, 5));
    }
    put("outside.png", &png(6, 5));
    let rows: String = (0..6).map(|n| format!("{n}.png\t{}\t{}\t{n}\n", ["cat", "dog"][n % 2], part(n))).collect();
    let text = format!("path\tkind\tpart\tsize\n{rows}");
    put("good.tsv", text.as_bytes());
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packer, text.as_bytes()).unwrap();
    put("good.tsv.gz", &packer.finish().unwrap());
    put("new.tsv", b"path\n5.png\n0.png\n5.png\n");
    put("zebra.csv", b"path,kind\n1.png,cat\n2.png,zebra\n");
    for (name, rows) in [
        ("missing", "1.png,cat\n9.png,dog\n"),
        ("outside", "1.png,cat\n../outside.png,dog\n"),
        ("absolute", "1.png,cat\n/etc/passwd,dog\n"),
        ("folder", "1.png,cat\nsub.png,dog\n"),
        ("empty", "1.png,cat\n,dog\n"),
        ("quote", "1.png,\"cat\n2.png,dog\n"),
        ("none", ""),
    ] {
        put(&format!("{name}.csv"), format!("path,kind\n{rows}").as_bytes());
    }
    put("twice.csv", b"path,kind,kind\n1.png,cat,dog\n");
    fs::create_dir(root.join("images/sub.png")).unwrap();
}

fn part(number: usize) -> &'static str {
    if number < 4 { "train" } else { "validation" }
}

fn table(path: &str) -> v1::CsvDataset {
    v1::CsvDataset { path: path.into(), target: "kind".into(), ..v1::CsvDataset::default() }
}

fn images(table: v1::CsvDataset) -> v1::ImageFolderDataset {
    v1::ImageFolderDataset { path: "images".into(), table: Some(table), ..v1::ImageFolderDataset::default() }
}

#[tokio::test]
async fn every_fault_of_a_table_of_images_is_told_at_the_request_with_line_and_column() {
    let root = tempfile::tempdir().unwrap();
    files(root.path());
    let daemon = Setup::new().data_root(root.path()).start();
    let of = |path: &str| images(table(path));
    let column = |name: &str| v1::ImageFolderDataset { image_column: name.into(), ..of("good.tsv") };
    for (set, field, words) in [
        (of("missing.csv"), "table.path", "missing.csv line 3, column \"path\": \"9.png\" is not in "),
        (
            of("outside.csv"),
            "table.path",
            "outside.csv line 3, column \"path\": \"../outside.png\" leads out of the folder",
        ),
        (of("absolute.csv"), "table.path", "absolute.csv line 3, column \"path\": \"/etc/passwd\" is an absolute path"),
        (of("folder.csv"), "table.path", "folder.csv line 3, column \"path\": \"sub.png\" is a folder in "),
        (of("empty.csv"), "table.path", "empty.csv line 3, column \"path\": the name is missing"),
        (of("quote.csv"), "table.path", "quote.csv line 2: a quote opens in field 2 and never closes"),
        (of("none.csv"), "table.path", "none.csv has no rows"),
        (of("twice.csv"), "table.path", "twice.csv has \"kind\" as column 2 and as column 3"),
        (of("gone.csv"), "table.path", "is not there; looked in"),
        (of(""), "table.path", "is missing; name a file"),
        (of("images"), "table.path", "is a folder, and a file is needed"),
        (
            images(v1::CsvDataset { target: "knid".into(), ..table("good.tsv") }),
            "table.target",
            "did you mean \"kind\"?",
        ),
        (
            images(v1::CsvDataset { target: String::new(), ..table("good.tsv") }),
            "table.target",
            "is missing; name the column",
        ),
        (
            images(v1::CsvDataset { ignore: vec!["size".into()], ..table("good.tsv") }),
            "table.ignore",
            "is set, and the images are",
        ),
        (column("file"), "image_column", "good.tsv has no column \"file\"; it has \"path\""),
        (column("kind"), "image_column", "is \"kind\", which is a target as well"),
        (v1::ImageFolderDataset { table: None, ..column("file") }, "image_column", "is set, and table is not"),
    ] {
        let told = mistakes(&daemon, job(Format::ImageFolder(set))).await;
        let [(found, what)] = &told[..] else { panic!("{words}: {told:?}") };
        assert_eq!(*found, format!("spec.data.train.image_folder.{field}"), "{what}");
        assert!(what.contains(words), "{words}: {what}");
    }
    let mut both = job(Format::ImageFolder(of("good.tsv")));
    let other = v1::Dataset { format: Some(Format::ImageFolder(of("zebra.csv"))) };
    both.data.as_mut().unwrap().validation = Some(other);
    let told = mistakes(&daemon, both).await;
    assert_eq!(told[0].0, "spec.data.validation.image_folder.table.target");
    assert!(told[0].1.contains("zebra.csv line 3, column \"kind\": \"zebra\" is no class of the training"), "{told:?}");
}

/// A job on the images of a table, one column of which divides them.
fn divided(path: &str) -> v1::JobSpec {
    let mut job = job(Format::ImageFolder(v1::ImageFolderDataset { size: vec![4], ..images(table(path)) }));
    let data = job.data.as_mut().unwrap();
    data.split = Some(v1::Split { by: Some(v1::split::By::Column("part".into())), ..v1::Split::default() });
    data.normalize = Some(v1::Normalize { measure: true, ..v1::Normalize::default() });
    job
}

#[tokio::test]
async fn images_of_a_table_are_described_and_trained_on_by_a_confined_runner() {
    let root = tempfile::tempdir().unwrap();
    files(root.path());
    let daemon = Setup::new().data_root(root.path()).start();
    for path in ["good.tsv", "good.tsv.gz"] {
        let request = v1::ValidateJobRequest { spec: Some(divided(path)), dry_run: false };
        let told = daemon.jobs().await.validate_job(request).await.unwrap().into_inner();
        assert_eq!((told.train_examples, told.validation_examples), (4, 2));
        let train = told.train.unwrap();
        let names: Vec<_> = train.files.iter().map(|file| file.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["images", path]);
        let classes: Vec<_> = train.classes.iter().map(|class| (&*class.name, class.examples)).collect();
        assert_eq!(classes, [("cat", 2), ("dog", 2)]);
        let columns: Vec<_> = train.columns.iter().map(|column| (&*column.name, column.role())).collect();
        assert_eq!(columns, [("kind", v1::ColumnRole::Target), ("part", v1::ColumnRole::Split)]);
        // The spec that is told names the same.
        let job = daemon.create(told.spec.unwrap()).await;
        let ended = daemon.watch_to_end(&job.name).await;
        assert_eq!(ended.state(), v1::JobState::Succeeded, "{path}: {:?}", ended.end);
        let kept = fs::read_to_string(daemon.job_folder(&job.name).join("artifacts/preprocessing.json")).unwrap();
        assert!(kept.contains("\"mean\"") && kept.contains("\"cat\""), "{kept}");
    }
    // Numbers are answered by numbers.
    let numbers = images(v1::CsvDataset { target: "size".into(), ..table("good.tsv") });
    let job = daemon.create(job(Format::ImageFolder(numbers))).await;
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
    assert!(matches!(ended.spec.unwrap().loss.unwrap().kind, Some(v1::loss::Kind::Mse(_))));
}

#[tokio::test]
async fn the_example_of_a_table_of_images_learns_what_it_shows() {
    if !tools::is_there("python3", "apt-get install python3") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let made = Command::new("python3").arg("examples/shapes/make.py").arg(root.path().join("shapes/images")).status();
    assert!(made.unwrap().success());
    let daemon: Daemon = Setup::new().data_root(root.path()).start();
    // One class in three by chance.
    let accuracy = last_of_example(&daemon, "examples/shapes-table.toml", "accuracy/validation").await;
    assert!(accuracy > 0.8, "{accuracy}");
}
