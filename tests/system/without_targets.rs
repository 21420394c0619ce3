//! New data without targets, answered by the model of a job in every format that may lack them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use torchd::proto::v1::{self, dataset::Format, warm_start::Source};

use super::daemon::{Daemon, Setup};
use super::formats::{job, npy, npy_of, png};
use super::predict::{apply, artifact, of_job, refused, succeed};

fn put(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A job that applies a model to a set.
fn on(mode: v1::Mode, trained: &v1::Job, test: Format) -> v1::JobSpec {
    let test = Some(v1::Dataset { format: Some(test) });
    v1::JobSpec { data: Some(v1::Data { test, ..v1::Data::default() }), ..apply(mode, of_job(&trained.name)) }
}

/// The answers of a job as lines.
fn answers(daemon: &Daemon, job: &v1::Job) -> Vec<String> {
    let text = String::from_utf8(artifact(daemon, job, "predictions.csv")).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn folder(path: &str) -> v1::ImageFolderDataset {
    v1::ImageFolderDataset { path: path.into(), ..v1::ImageFolderDataset::default() }
}

fn listed(path: &str, table: &str, target: &str) -> Format {
    let table = v1::CsvDataset { path: table.into(), target: target.into(), ..v1::CsvDataset::default() };
    Format::ImageFolder(v1::ImageFolderDataset { table: Some(table), ..folder(path) })
}

#[tokio::test]
async fn images_without_classes_are_answered_by_name_from_a_folder_and_from_a_table() {
    let root = tempfile::tempdir().unwrap();
    for number in 0..8 {
        let class = ["cat", "dog"][number % 2];
        put(root.path(), &format!("train/{class}/{number}.png"), &png(6, 5));
        put(root.path(), &format!("new/{number}.png"), &png(6, 5));
    }
    put(root.path(), "train.csv", b"path,kind\ncat/0.png,cat\ndog/1.png,dog\n");
    put(root.path(), "new.csv", b"path,note\n3.png,x\n\"0.png\",y\n3.png,z\n");
    put(root.path(), "test.csv", b"path,kind\n3.png,dog\n0.png,cat\n");
    let daemon = Setup::new().data_root(root.path()).start();
    // Trained on folders and on a table.
    let by_folder = succeed(&daemon, job(Format::ImageFolder(folder("train")))).await;
    let Format::ImageFolder(set) = listed("train", "train.csv", "kind") else { unreachable!() };
    let resized = v1::ImageFolderDataset { size: vec![4], channels: Some(1), ..set };
    let by_table = succeed(&daemon, job(Format::ImageFolder(resized))).await;
    let head = "row,path,prediction,probability_cat,probability_dog";
    for trained in [&by_folder, &by_table] {
        let predict = |test| on(v1::Mode::Predict, trained, test);
        let loose = succeed(&daemon, predict(Format::ImageFolder(folder("new")))).await;
        let lines = answers(&daemon, &loose);
        assert_eq!((lines.len(), lines[0].as_str()), (9, head));
        let of: BTreeMap<_, _> = lines[1..]
            .iter()
            .map(|line| {
                let (row, rest) = line.split_once(',').unwrap();
                let (path, answer) = rest.split_once(',').unwrap();
                assert_eq!(path, format!("{row}.png"));
                (path, answer)
            })
            .collect();
        let table = succeed(&daemon, predict(listed("new", "new.csv", ""))).await;
        let expected: Vec<_> =
            [(0, "3.png"), (1, "0.png"), (2, "3.png")].map(|(row, path)| format!("{row},{path},{}", of[path])).into();
        assert_eq!(
            (answers(&daemon, &table).remove(0), answers(&daemon, &table)[1..].to_vec()),
            (head.to_owned(), expected.clone())
        );
        // With targets every row has its loss besides; a target that is named may be lacking.
        let judged = answers(&daemon, &succeed(&daemon, predict(listed("new", "test.csv", "kind"))).await);
        assert_eq!(judged[0], format!("{head},target,loss"));
        assert!(judged[1].starts_with(&format!("{},dog,", expected[0])), "{judged:?}");
        let named = succeed(&daemon, predict(listed("new", "new.csv", "kind"))).await;
        assert_eq!(answers(&daemon, &named), answers(&daemon, &table));
        succeed(&daemon, on(v1::Mode::Evaluate, trained, listed("new", "test.csv", "kind"))).await;
        for (mode, test, field, words) in [
            (v1::Mode::Evaluate, Format::ImageFolder(folder("new")), "path", "holds images, and no folder of them"),
            (v1::Mode::Evaluate, listed("new", "new.csv", "kind"), "table.target", "has no column \"kind\""),
        ] {
            let told = refused(&daemon, on(mode, trained, test)).await;
            let begin = format!("spec.data.test.image_folder.{field}: ");
            assert!(told.len() == 1 && told[0].starts_with(&begin) && told[0].contains(words), "{told:?}");
        }
    }
    // The column of the trained job is taken over, and none is where it has none.
    let told = refused(&daemon, on(v1::Mode::Evaluate, &by_folder, listed("new", "test.csv", ""))).await;
    assert!(told[0].starts_with("spec.data.test.image_folder.table.target: is missing; name the column"), "{told:?}");
    let taken = succeed(&daemon, on(v1::Mode::Evaluate, &by_table, listed("new", "test.csv", ""))).await;
    let set = taken.spec.unwrap().data.unwrap().test.unwrap().format.unwrap();
    let Format::ImageFolder(v1::ImageFolderDataset { table: Some(table), size, channels, .. }) = set else {
        panic!("{set:?}")
    };
    assert_eq!((table.target.as_str(), size, channels), ("kind", vec![4, 4], Some(1)));
    let mut parquet = on(v1::Mode::Predict, &by_table, Format::ImageFolder(folder("new")));
    parquet.output = Some(v1::Output { predictions: v1::Predictions::Parquet.into(), ..v1::Output::default() });
    let parquet = artifact(&daemon, &succeed(&daemon, parquet).await, "predictions.parquet");
    let read = SerializedFileReader::new(Bytes::from(parquet)).unwrap();
    let columns = read.metadata().file_metadata().schema_descr().columns().to_vec();
    assert_eq!(columns.iter().map(|column| column.name()).collect::<Vec<_>>().join(","), head);
    let row = read.get_row_iter(None).unwrap().nth(3).unwrap().unwrap();
    let (_, path) = row.get_column_iter().nth(1).unwrap();
    assert_eq!(*path, parquet::record::Field::Str("3.png".into()));
}

#[tokio::test]
async fn arrays_without_targets_are_answered_and_only_then_may_their_files_be_left_out() {
    let root = tempfile::tempdir().unwrap();
    let floats: Vec<u8> = (0..12).flat_map(|value| (value as f32).to_le_bytes()).collect();
    let classes: Vec<u8> = (0..4i64).flat_map(|value| (value % 2).to_le_bytes()).collect();
    let (x, y) = (npy("<f4", "(4, 3)", &floats), npy("<i8", "(4,)", &classes));
    put(root.path(), "x.npy", &x);
    put(root.path(), "y.npy", &y);
    put(root.path(), "images", &[&[0, 0, 13, 2, 0, 0, 0, 4, 0, 0, 0, 3][..], &big_endian(&floats)].concat());
    put(root.path(), "labels", &[0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 0, 1]);
    put(root.path(), "both.npz", &archive(&[("x.npy", &x), ("y.npy", &y)]));
    put(root.path(), "new.npz", &archive(&[("x.npy", &x)]));
    let daemon = Setup::new().data_root(root.path()).start();
    let idx = |labels: &str| {
        let files = v1::IdxDataset { images: "images".into(), labels: labels.into(), ..v1::IdxDataset::default() };
        Format::Idx(files)
    };
    let npz = |path: &str| Format::Npz(v1::NpzDataset { path: path.into(), ..v1::NpzDataset::default() });
    for (name, with, without, field, words) in [
        ("idx", idx("labels"), idx(""), "idx.labels", "is missing; name a file"),
        ("npy", npy_of("x.npy", "y.npy"), npy_of("x.npy", ""), "npy.target", "is missing; name a file"),
        ("npz", npz("both.npz"), npz("new.npz"), "npz.path", "has no array \"y\"; it has \"x\""),
    ] {
        let trained = succeed(&daemon, job(with.clone())).await;
        let [all, new] = [with, without.clone()].map(|test| on(v1::Mode::Predict, &trained, test));
        let (all, new) = (succeed(&daemon, all).await, succeed(&daemon, new).await);
        let (all, new) = (answers(&daemon, &all), answers(&daemon, &new));
        assert_eq!((all.len(), new.len(), all[0].ends_with(",target,loss")), (5, 5, true), "{name}");
        for (all, new) in all.iter().zip(&new) {
            assert!(all.starts_with(&format!("{new},")), "{name}: {all} and {new}");
        }
        let evaluate = on(v1::Mode::Evaluate, &trained, without.clone());
        let mut train = job(without.clone());
        for (set, spec) in [("test", evaluate), ("train", train.clone())] {
            let told = refused(&daemon, spec).await;
            assert!(told[0].starts_with(&format!("spec.data.{set}.{field}: ")) && told[0].contains(words), "{told:?}");
        }
        // Weights in a file do not tell the targets.
        let weights = daemon.job_folder(&trained.name).join("artifacts/model.safetensors");
        fs::copy(weights, root.path().join("weights.safetensors")).unwrap();
        let model = train.model.take();
        let warm_start = apply(v1::Mode::Predict, Source::File("weights.safetensors".into())).warm_start;
        let told =
            refused(&daemon, v1::JobSpec { model, warm_start, ..on(v1::Mode::Predict, &trained, without) }).await;
        let words = if name == "npz" { words } else { "it may be where warm_start.checkpoint names the job" };
        assert!(told[0].starts_with(&format!("spec.data.test.{field}: ")) && told[0].contains(words), "{told:?}");
    }
}

fn big_endian(floats: &[u8]) -> Vec<u8> {
    floats.as_chunks::<4>().0.iter().flat_map(|bytes| [bytes[3], bytes[2], bytes[1], bytes[0]]).collect()
}

/// An archive of stored entries, as `np.savez` writes it.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = rawzip::ZipArchiveWriter::new(&mut bytes);
    for (name, content) in entries {
        let (mut entry, config) =
            archive.new_file(name).compression_method(rawzip::CompressionMethod::STORE).start().unwrap();
        let mut writer = config.wrap(&mut entry);
        std::io::Write::write_all(&mut writer, content).unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    bytes
}

/// Images are not resized without a word: a job whose images had one size takes new ones of that
/// size.
#[tokio::test]
async fn new_images_have_the_size_of_training_or_are_told_to_be_resized() {
    let root = tempfile::tempdir().unwrap();
    for number in 0..4 {
        put(root.path(), &format!("train/{}/{number}.png", ["cat", "dog"][number % 2]), &png(6, 5));
        put(root.path(), &format!("same/{number}.png"), &png(6, 5));
        put(root.path(), &format!("other/{number}.png"), &png(8, 9));
        put(root.path(), &format!("mixed/{number}.png"), &png(6 + number as u32 % 2, 5));
    }
    let daemon = Setup::new().data_root(root.path()).start();
    let trained = succeed(&daemon, job(Format::ImageFolder(folder("train")))).await;
    let predict = |path: &str, size: &[u32]| {
        let set = v1::ImageFolderDataset { size: size.into(), ..folder(path) };
        on(v1::Mode::Predict, &trained, Format::ImageFolder(set))
    };
    for (path, found, count) in [("other", "0.png is an image of 8x9", 4), ("mixed", "1.png is an image of 7x5", 2)] {
        let told = refused(&daemon, predict(path, &[])).await;
        assert!(told.len() == 1 && told[0].starts_with("spec.data.test.image_folder.size: is not set: "), "{told:?}");
        let words = format!(
            "{found} pixels (height x width), and the model was trained on images of 6x5; {count} of 4 images \
             differ; size = [6, 5] resizes all to the size of training"
        );
        assert!(told[0].ends_with(&words), "{told:?}");
        succeed(&daemon, predict(path, &[6, 5])).await;
    }
    succeed(&daemon, predict("same", &[])).await;
}
