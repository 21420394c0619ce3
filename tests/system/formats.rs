//! Formats of data from their files to a trained job, and their faults at the request.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use torchd::proto::v1::dataset::Format;
use torchd::proto::{text, v1};

use super::daemon::{Daemon, Setup};
use super::weights::mistakes;
use super::{spec, tools};

/// A file as `np.save` writes it.
pub(super) fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), values].concat()
}

/// The bytes in gzip.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// An archive as `np.savez` writes it.
fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = rawzip::ZipArchiveWriter::new(&mut bytes);
    for (name, content) in arrays {
        let (mut entry, config) =
            archive.new_file(name).compression_method(rawzip::CompressionMethod::STORE).start().unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(content).unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    bytes
}

/// A grey PNG image of one colour.
pub(super) fn png(height: u32, width: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = png::Encoder::new(&mut bytes, width, height).write_header().unwrap();
    writer.write_image_data(&vec![7; (height * width) as usize]).unwrap();
    writer.finish().unwrap();
    bytes
}

/// A job that trains an MLP on these examples.
pub(super) fn job(train: Format) -> v1::JobSpec {
    let mlp = v1::Mlp { hidden: vec![8], ..v1::Mlp::default() };
    let train = Some(v1::Dataset { format: Some(train) });
    let mut job = v1::JobSpec {
        model: Some(v1::Model { family: Some(v1::model::Family::Mlp(mlp)) }),
        data: Some(v1::Data { train, ..v1::Data::default() }),
        resources: Some(spec::threads(1)),
        ..spec::short()
    };
    let training = job.training.as_mut().unwrap();
    (training.batch_size, training.validation_batch_size) = (Some(2), None);
    job
}

pub(super) fn npy_of(input: &str, target: &str) -> Format {
    Format::Npy(v1::NpyDataset { input: input.into(), target: target.into(), ..v1::NpyDataset::default() })
}

fn images_of(path: &str) -> v1::ImageFolderDataset {
    v1::ImageFolderDataset { path: path.into(), ..v1::ImageFolderDataset::default() }
}

fn cifar_of(paths: &[&str]) -> v1::CifarDataset {
    v1::CifarDataset { paths: paths.iter().map(|&path| path.into()).collect(), classes: None }
}

fn files(root: &Path) {
    let put = |name: &str, bytes: &[u8]| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let floats: Vec<u8> = (0..12).flat_map(|value| (value as f32).to_le_bytes()).collect();
    let classes: Vec<u8> = (0..4i64).flat_map(|value| (value % 2).to_le_bytes()).collect();
    put("x.npy", &npy("<f4", "(4, 3)", &floats));
    put("y.npy", &npy("<i8", "(4,)", &classes));
    put("cut.npy", &npy("<f4", "(4, 3)", &floats[..40]));
    put("objects.npy", &npy("|O", "(4,)", &[0x80, 4, 0x2e]));
    put("tokens.npy", &npy("<i8", "(4,)", &classes));
    put("tokens.npy.gz", &packed(&npy("<i8", "(4,)", &classes)));
    put("words.txt", b"to be or not to be");
    let x = || ("x.npy", npy("<f4", "(4, 3)", &floats));
    let y = |most: i64| {
        let values: Vec<u8> = (0..4i64).flat_map(|value| value.min(most).to_le_bytes()).collect();
        ("y.npy", npy("<i8", "(4,)", &values))
    };
    put("two.npz", &npz(&[x(), y(1), ("a.npy", npy("<f4", "(4,)", &floats[..16]))]));
    put("one.npz", &npz(&[x(), y(1)]));
    put("more.npz", &npz(&[x(), y(2)]));
    put("cifar/data_batch_1.bin", &[[3; 3073], [4; 3073]].concat());
    put("cifar/data_batch_2.bin", &[5; 3073]);
    put("cifar/bad.bin", &[[3; 3073], [12; 3073]].concat());
    for class in ["cat", "dog"] {
        for number in 0..3 {
            put(&format!("images/{class}/{number}.png"), &png(6, 5));
        }
    }
    put("sizes/cat/0.png", &png(6, 5));
    put("sizes/cat/1.png", &png(5, 5));
    put("broken/cat/0.png", &png(6, 5)[..50]);
    put("other/zebra/0.png", &png(6, 5));
    put("linked/cat/0.png", &png(6, 5));
    for number in 0..12 {
        put(&format!("gifs/cat/{number:02}.gif"), b"GIF89a");
    }
    symlink("/etc/passwd", root.join("linked/cat/1.png")).unwrap();
    symlink("/etc", root.join("outside")).unwrap();
}

#[tokio::test]
async fn every_fault_of_arrays_and_images_is_told_at_the_request() {
    let root = tempfile::tempdir().unwrap();
    files(root.path());
    let daemon = Setup::new().data_root(root.path()).start();
    let images = |path: &str| Format::ImageFolder(images_of(path));
    let npz = |path: &str| Format::Npz(v1::NpzDataset { path: path.into(), ..v1::NpzDataset::default() });
    let sized = |size: &[u32], channels| {
        Format::ImageFolder(v1::ImageFolderDataset { size: size.into(), channels, ..images_of("images") })
    };
    for (set, field, words) in [
        (npy_of("", "y.npy"), "npy.input", "is missing; name a file"),
        (npy_of("gone.npy", "y.npy"), "npy.input", "is not there; looked in"),
        (npy_of("cut.npy", "y.npy"), "npy.input", "is cut off: its header says 12 values, 10 are there"),
        (
            npy_of("objects.npy", "y.npy"),
            "npy.input",
            "Python objects, which are pickled; nothing of a file is executed",
        ),
        (npz("x.npy"), "npz.path", "is no .npz file: it looks like a NumPy array"),
        (Format::Cifar(cifar_of(&[])), "cifar.paths", "is missing; name files"),
        (Format::Cifar(cifar_of(&["cifar/*.nothing"])), "cifar.paths", "matches no file"),
        (
            Format::Cifar(cifar_of(&["cifar/*.bin"])),
            "cifar.paths",
            "holds the label 12 in the record 1, counted from 0",
        ),
        (
            Format::Cifar(v1::CifarDataset { classes: Some(50), ..cifar_of(&["cifar/bad.bin"]) }),
            "cifar.classes",
            "is 50; 10 for CIFAR-10",
        ),
        (images("gone"), "image_folder.path", "is not there; looked in"),
        (images("x.npy"), "image_folder.path", "is a file, and a folder is needed"),
        (images("outside"), "image_folder.path", "leads out of the data roots"),
        (images("images/cat"), "image_folder.path", "holds images, and no folder of them"),
        (
            images("sizes"),
            "image_folder.path",
            "cat/1.png is an image of 5x5 pixels (height x width), and cat/0.png has 6x5; 1 of 2 images differ",
        ),
        (images("broken"), "image_folder.path", "cat/0.png is a damaged PNG image"),
        (images("linked"), "image_folder.path", "cat/1.png is a link, pipe or device, and links are not followed"),
        (sized(&[0], None), "image_folder.size[0]", "is 0; 1 to 4096 is needed"),
        (sized(&[], Some(4)), "image_folder.channels", "is 4; 1 for grey or 3 for red, green and blue is needed"),
    ] {
        let told = mistakes(&daemon, job(set)).await;
        let [(found, what)] = &told[..] else { panic!("{words}: {told:?}") };
        assert_eq!(*found, format!("spec.data.train.{field}"), "{what}");
        assert!(what.contains(words), "{words}: {what}");
    }
    // Remedies are those of the format.
    let words = Format::Text(v1::TextDataset { path: "words.txt".into(), context: 4, ..v1::TextDataset::default() });
    for (set, field, words) in [
        (words, "text.path", "mlp takes 32-bit floats: the tokens of a text are for gpt, or for sequential with"),
        (
            npy_of("tokens.npy.gz", "y.npy"),
            "npy.input",
            "has \"tokens\" as 64-bit integers; mlp takes 32-bit floats: save \
             tokens.astype(np.float32)",
        ),
        (
            npz("two.npz"),
            "npz",
            "has the inputs a, x; mlp takes one; `inputs` names the arrays that the model gets, and",
        ),
    ] {
        let told = mistakes(&daemon, job(set)).await;
        assert!(told[0].0 == format!("spec.data.train.{field}") && told[0].1.contains(words), "{words}: {told:?}");
    }
    let mut more = job(npz("one.npz"));
    more.data.as_mut().unwrap().validation = Some(v1::Dataset { format: Some(npz("more.npz")) });
    let told = mistakes(&daemon, more).await;
    assert!(told[0].1.ends_with("mlp has scores for 0 to 1; the highest label of data.train.npz is 1"), "{told:?}");
    let told = mistakes(&daemon, job(images("gifs"))).await;
    assert!(told.len() == 10 && told[9].1.ends_with("convert it (and 2 more such files)"), "{told:?}");
    let mut both = job(images("images"));
    both.data.as_mut().unwrap().validation = Some(v1::Dataset { format: Some(images("other")) });
    let told = mistakes(&daemon, both).await;
    assert_eq!(told[0].0, "spec.data.validation.image_folder.path");
    assert!(
        told[0].1.contains("zebra is a folder, and so a class, which the training set has not: it has \"cat\""),
        "{told:?}"
    );
}

#[tokio::test]
async fn arrays_and_images_are_trained_on_by_a_confined_runner() {
    let root = tempfile::tempdir().unwrap();
    files(root.path());
    fs::remove_file(root.path().join("cifar/bad.bin")).unwrap();
    let daemon = Setup::new().data_root(root.path()).start();
    let measured = |set| {
        let mut job = job(set);
        let normalize = v1::Normalize { measure: true, ..v1::Normalize::default() };
        job.data.as_mut().unwrap().normalize = Some(normalize);
        job
    };
    let mut images = measured(Format::ImageFolder(v1::ImageFolderDataset { size: vec![4], ..images_of("images") }));
    let split = v1::Split { by: Some(v1::split::By::Fraction(0.34)), stratify: true, ..v1::Split::default() };
    images.data.as_mut().unwrap().split = Some(split);
    for (name, job, classes) in [
        ("npy", measured(npy_of("x.npy", "y.npy")), None),
        ("cifar", measured(Format::Cifar(cifar_of(&["cifar/*.bin"]))), None),
        ("image_folder", images, Some("\"image_fit\": \"crop\"")),
    ] {
        let job = daemon.create(job).await;
        let ended = daemon.watch_to_end(&job.name).await;
        assert_eq!(ended.state(), v1::JobState::Succeeded, "{name}: {:?}", ended.end);
        let kept = fs::read_to_string(daemon.job_folder(&job.name).join("artifacts/preprocessing.json")).unwrap();
        assert!(kept.contains("\"mean\"") && classes.is_none_or(|classes| kept.contains(classes)), "{name}: {kept}");
    }
}

#[tokio::test]
async fn arrays_of_several_files_are_trained_on_as_one_and_their_faults_are_told() {
    let root = tempfile::tempdir().unwrap();
    let set = |first: usize, rows: usize| {
        let x: Vec<u8> = (first * 3..(first + rows) * 3).flat_map(|value| (value as f32).to_le_bytes()).collect();
        let y: Vec<u8> = (first..first + rows).flat_map(|row| (row as i64 % 2).to_le_bytes()).collect();
        [npy("<f4", &format!("({rows}, 3)"), &x), npy("<i8", &format!("({rows},)"), &y)]
    };
    for (name, [x, y]) in [("whole", set(0, 100)), ("2", set(30, 70)), ("1", set(0, 30))] {
        fs::write(root.path().join(format!("x-{name}.npy")), x).unwrap();
        fs::write(root.path().join(format!("y-{name}.npy")), y).unwrap();
    }
    let daemon = Setup::new().data_root(root.path()).start();
    let listed = |inputs: &[&str], targets: &[&str]| {
        let list = |paths: &[&str]| paths.iter().map(|&path| path.into()).collect();
        let (input_paths, target_paths) = (list(inputs), list(targets));
        Format::Npy(v1::NpyDataset { input_paths, target_paths, ..v1::NpyDataset::default() })
    };
    let mut results = Vec::new();
    for set in [
        npy_of("x-whole.npy", "y-whole.npy"),
        npy_of("x-[0-9].npy", "y-[0-9].npy"),
        listed(&["x-1.npy", "x-2.npy"], &["y-1.npy", "y-2.npy"]),
    ] {
        let mut job = job(set.clone());
        job.data.as_mut().unwrap().split =
            Some(v1::Split { by: Some(v1::split::By::Fraction(0.2)), stratify: true, ..v1::Split::default() });
        let job = daemon.create(job).await;
        assert_eq!(job.spec.as_ref().unwrap().data.as_ref().unwrap().train.as_ref().unwrap().format, Some(set));
        let ended = daemon.watch_to_end(&job.name).await;
        assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
        results.push(fs::read(daemon.job_folder(&job.name).join("artifacts/model.safetensors")).unwrap());
    }
    assert!(results[0] == results[1] && results[0] == results[2], "the files are not as one");

    let both = v1::NpyDataset { input: "x-1.npy".into(), target: "y-1.npy".into(), ..v1::NpyDataset::default() };
    for (set, field, words) in [
        (
            listed(&["x-1.npy", "x-2.npy"], &["y-2.npy", "y-1.npy"]),
            "input_paths",
            "x-1.npy has 30 examples in \"x-1\" and 70",
        ),
        (listed(&["x-1.npy", "x-2.npy"], &["y-1.npy"]), "input_paths", "names 2 files, and target_paths names 1"),
        (
            listed(&["x-1.npy", "y-1.npy"], &["y-1.npy", "x-1.npy"]),
            "input_paths",
            "y-1.npy has \"x-1\" as 64-bit integers",
        ),
        (listed(&["x-1.npy", ""], &["y-1.npy"]), "input_paths[1]", "is missing; name a file"),
        (
            Format::Npy(v1::NpyDataset { input_paths: vec!["x-2.npy".into()], ..both }),
            "input",
            "is set, and input_paths is as well",
        ),
    ] {
        let told = mistakes(&daemon, job(set)).await;
        assert_eq!(told[0].0, format!("spec.data.train.npy.{field}"), "{told:?}");
        assert!(told[0].1.contains(words), "{words}: {told:?}");
    }
}

#[tokio::test]
async fn a_set_of_more_files_than_a_runner_has_descriptors_is_trained_on() {
    let root = tempfile::tempdir().unwrap();
    let apples = fs::canonicalize("examples/apples/apples.parquet").unwrap();
    for number in 0..100 {
        let x: Vec<u8> = (0..6).flat_map(|value| ((number + value) as f32).to_le_bytes()).collect();
        fs::write(root.path().join(format!("x-{number}.npy")), npy("<f4", "(2, 3)", &x)).unwrap();
        fs::write(root.path().join(format!("y-{number}.npy")), npy("|u1", "(2,)", &[0, 1])).unwrap();
        fs::copy(&apples, root.path().join(format!("{number}.parquet"))).unwrap();
    }
    let daemon = Setup::new().data_root(root.path()).open_files(128).start();
    let job = daemon.create(job(npy_of("x-*.npy", "y-*.npy"))).await;
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
    let parquet = v1::ParquetDataset {
        path: "*.parquet".into(),
        target: "sort".into(),
        ignore: vec!["id".into()],
        categorical: vec!["colour".into()],
        missing: vec![v1::MissingValues { by: v1::MissingBy::Mean.into(), ..v1::MissingValues::default() }],
        ..v1::ParquetDataset::default()
    };
    let job = daemon.create(self::job(Format::Parquet(parquet))).await;
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
}

#[tokio::test]
async fn an_image_that_goes_bad_while_a_job_waits_ends_it_with_the_name_of_its_file() {
    let root = tempfile::tempdir().unwrap();
    files(root.path());
    let daemon = Setup::new().data_root(root.path()).set("jobs.cpu_slots", "1").start();
    let first = daemon.create(spec::endless()).await;
    let second = daemon.create(job(Format::ImageFolder(images_of("images")))).await;
    fs::write(root.path().join("images/dog/2.png"), "no image any more").unwrap();
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: first.name, now: false }).await.unwrap();
    let end = daemon.watch_to_end(&second.name).await.end.unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::BadData);
    assert!(end.message.contains("images/dog/2.png is no JPEG or PNG image: it looks like text"), "{}", end.message);
}

#[tokio::test]
async fn the_example_of_images_learns_what_it_shows() {
    if !tools::is_there("python3", "apt-get install python3") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let made = Command::new("python3").arg("examples/shapes/make.py").arg(root.path().join("shapes/images")).status();
    assert!(made.unwrap().success());
    let daemon = Setup::new().data_root(root.path()).start();
    // One class in three by chance.
    let accuracy = last_of_example(&daemon, "examples/shapes.toml", "accuracy/validation").await;
    assert!(accuracy > 0.8, "{accuracy}");
}

#[tokio::test]
async fn the_example_of_arrays_tells_the_frequency_of_waves() {
    let r2 = last_of_example(&Daemon::start(), "examples/arrays.toml", "r2/validation").await;
    assert!(r2 > 0.95, "{r2}");
}

/// The last value of a scalar of the job that an example describes.
pub(super) async fn last_of_example(daemon: &Daemon, example: &str, tag: &str) -> f64 {
    let example = text::to_table(&fs::read_to_string(example).unwrap(), false).unwrap();
    let mut job: v1::JobSpec = text::message(&[example]).unwrap();
    job.resources = Some(spec::threads(1));
    let job = daemon.create(job).await;
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
    let request = v1::ReadScalarsRequest { name: job.name, tag: tag.into(), ..Default::default() };
    let points = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner().points;
    points.last().unwrap().value
}

#[tokio::test]
async fn a_set_whose_files_have_other_names_is_normalized_as_the_training_set() {
    let root = tempfile::tempdir().unwrap();
    files(root.path());
    for (name, copy) in [("x.npy", "x_test.npy"), ("y.npy", "y_test.npy")] {
        fs::copy(root.path().join(name), root.path().join(copy)).unwrap();
    }
    let daemon = Setup::new().data_root(root.path()).start();
    let loss = async |job: &str, tag: &str| {
        let request = v1::ReadScalarsRequest { name: job.into(), tag: tag.into(), ..Default::default() };
        let points = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner().points;
        points.last().unwrap_or_else(|| panic!("no {tag}")).value
    };
    let mut losses = Vec::new();
    for (input, target) in [("x.npy", "y.npy"), ("x_test.npy", "y_test.npy")] {
        let mut job = job(npy_of("x.npy", "y.npy"));
        let data = job.data.as_mut().unwrap();
        data.normalize = Some(v1::Normalize { measure: true, ..v1::Normalize::default() });
        data.validation = Some(v1::Dataset { format: Some(npy_of(input, target)) });
        let trained = daemon.create(job).await;
        let ended = daemon.watch_to_end(&trained.name).await;
        assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
        losses.push(loss(&trained.name, "loss/validation").await);
        let test = Some(v1::Dataset { format: Some(npy_of(input, target)) });
        let source = Some(v1::warm_start::Source::Checkpoint(trained.name));
        let evaluation = v1::JobSpec {
            mode: v1::Mode::Evaluate.into(),
            data: Some(v1::Data { test, ..v1::Data::default() }),
            warm_start: Some(v1::WarmStart { source, ..v1::WarmStart::default() }),
            ..v1::JobSpec::default()
        };
        let evaluation = daemon.create(evaluation).await;
        let ended = daemon.watch_to_end(&evaluation.name).await;
        assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
        losses.push(loss(&evaluation.name, "loss/test").await);
    }
    assert!(losses.iter().all(|loss| *loss == losses[0]), "{losses:?}");
}
