//! The data of the rows: small sets that are written where a row is tried.

use std::io::Write;
use std::path::Path;

use rawzip::ZipArchiveWriter;
use tch::{Device, Kind, Tensor};
use torchd::dataset::paths::Paths;
use torchd::dataset::table::roles::{Missing, MissingRule, Roles};
use torchd::dataset::{Files, cifar, csv, idx, image_folder, named_arrays, npy, npz, parquet, text};
use torchd::journal::JobFolder;

/// The data of a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Data {
    /// Grey images of 28x28 in ten classes, as IDX files.
    Images,
    /// Rows of six numbers in three classes, as named arrays.
    Classes,
    /// The same with a weight each, `w`.
    Weighted,
    /// Rows of six numbers with a number each.
    Numbers,
    /// Pictures of three channels and 8x8 in three classes.
    Pictures,
    /// Rows of seven tokens out of eleven, each with the one that follows.
    Tokens,
    /// 44 windows of seven characters of a text.
    Text,
    /// Rows of seven tokens in three classes.
    Sentences,
    /// Rows of six numbers with three labels each.
    Labels,
    /// Rows of six numbers with a label each.
    Label,
    /// Rows of six numbers with a distribution of three shares each.
    Shares,
    /// Rows of six numbers in three classes, as two NumPy arrays.
    Npy,
    /// The same in an archive.
    Npz,
    /// Records of CIFAR-10.
    Cifar,
    /// Files of colour images in three folders, which are resized to 4x4.
    ImageFolder,
    /// The same files in three classes by a table, one of them twice.
    ListedImages,
    /// Rows of a number and a category in three classes, as delimited text.
    Csv,
    /// The same as Parquet.
    Parquet,
    /// Those of an exported model, whose archives are in this folder of `tests/data/exported`.
    Exported(&'static str),
    /// Those of a TorchScript module.
    Script,
}

/// The data of a kind, drawn anew the same each time.
pub(super) fn data(data: Data, folder: &Path) -> Files {
    let numbers = |shape: &[i64]| {
        tch::manual_seed(3);
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    };
    let both = |name: &str, inputs: Tensor, targets: Tensor| {
        let path = folder.join(name);
        let tensors = [("x", inputs), ("y", targets)];
        Tensor::write_safetensors(&tensors, &path).unwrap();
        Files::Safetensors(named_arrays::Files { paths: path.into(), inputs: vec![], target: "y".into() })
    };
    let arrays = |name: &str, targets: Tensor| both(name, numbers(&[40, 6]), targets);
    let tokens = || {
        tch::manual_seed(4);
        Tensor::randint(11, [40, 8], (Kind::Int64, Device::Cpu))
    };
    let classes = || Tensor::arange(40, (Kind::Int64, Device::Cpu));
    match data {
        Data::Images => {
            let (images, labels) = (folder.join("images"), folder.join("labels"));
            let pixels = (numbers(&[40, 28, 28]) * 50.0 + 128.0).clamp(0.0, 255.0).to_kind(Kind::Uint8);
            write_idx(&images, &[40, 28, 28], &Vec::<u8>::try_from(pixels.view([-1])).unwrap());
            write_idx(&labels, &[40], &(0..40).map(|place| place % 10).collect::<Vec<_>>());
            Files::Idx(idx::Files { images: images.into(), labels: Some(labels.into()) })
        }
        Data::Classes => arrays("classes.safetensors", classes().remainder(3)),
        Data::Weighted => {
            let path = folder.join("weighted.safetensors");
            let weights = classes().remainder(5).to_kind(Kind::Float);
            let tensors = [("w", weights), ("x", numbers(&[40, 6])), ("y", classes().remainder(3))];
            Tensor::write_safetensors(&tensors, &path).unwrap();
            Files::Safetensors(named_arrays::Files { paths: path.into(), inputs: vec![], target: "y".into() })
        }
        Data::Numbers => arrays("numbers.safetensors", classes().to_kind(Kind::Float) / 40.0),
        Data::Pictures => both("pictures.safetensors", numbers(&[40, 3, 8, 8]), classes().remainder(3)),
        Data::Tokens => {
            let [inputs, targets] = [0, 1].map(|first| tokens().narrow(1, first, 7).contiguous());
            both("tokens.safetensors", inputs, targets)
        }
        Data::Text => {
            let path = folder.join("text");
            let characters = ['a', 'b', 'c', ' ', '\n', 'é', '\u{1F600}'];
            let text: String = (0..44 * 7 + 3).map(|place: usize| characters[place * place % 11 % 7]).collect();
            std::fs::write(&path, text).unwrap();
            let cut = text::Cut { context: 7, stride: 7 };
            Files::Text(text::Files { paths: Paths::Path(vec![path]), unit: text::Unit::Character, cut })
        }
        Data::Sentences => both("sentences.safetensors", tokens().narrow(1, 0, 7).contiguous(), classes().remainder(3)),
        Data::Script => {
            let scripts = Path::new("tests/data/torchscript").canonicalize().unwrap();
            std::fs::copy(scripts.join("net.pt"), folder.join(JobFolder::SCRIPT)).unwrap();
            let path = scripts.join("data.safetensors");
            Files::Safetensors(named_arrays::Files { paths: path.into(), inputs: vec![], target: "y".into() })
        }
        Data::Npy => {
            let (input, target) = (folder.join("x.npy"), folder.join("y.npy"));
            let [inputs, targets] = numpy(&numbers(&[40, 6]));
            std::fs::write(&input, inputs).unwrap();
            std::fs::write(&target, targets).unwrap();
            Files::Npy(npy::Files { input: input.into(), target: Some(target.into()) })
        }
        Data::Npz => {
            let path = folder.join("set.npz");
            let mut archive = ZipArchiveWriter::new(std::fs::File::create(&path).unwrap());
            for (name, bytes) in ["x.npy", "y.npy"].into_iter().zip(numpy(&numbers(&[40, 6]))) {
                let (mut entry, config) = archive.new_file(name).start().unwrap();
                let mut writer = config.wrap(&mut entry);
                writer.write_all(&bytes).unwrap();
                let (_, descriptor) = writer.finish().unwrap();
                entry.finish(descriptor).unwrap();
            }
            archive.finish().unwrap();
            Files::Npz(npz::Files { paths: path.into(), inputs: vec![], target: "y".into() })
        }
        Data::Cifar => {
            let path = folder.join("data_batch_1.bin");
            let pixels = (numbers(&[40, 3072]) * 50.0 + 128.0).clamp(0.0, 255.0);
            let records = Tensor::cat(&[classes().remainder(10).view([40, 1]).to_kind(Kind::Float), pixels], 1);
            std::fs::write(&path, Vec::<u8>::try_from(records.to_kind(Kind::Uint8).view([-1])).unwrap()).unwrap();
            Files::Cifar(cifar::Files { paths: vec![path], classes: cifar::Classes::Ten })
        }
        Data::ImageFolder | Data::ListedImages => {
            let path = folder.join("pictures");
            let pixels = (numbers(&[40, 5 * 6 * 3]) * 50.0 + 128.0).clamp(0.0, 255.0).to_kind(Kind::Uint8);
            for place in 0..40 {
                let class = path.join(format!("class {}", place % 3));
                std::fs::create_dir_all(&class).unwrap();
                let file = std::fs::File::create(class.join(format!("{place}.png"))).unwrap();
                let mut encoder = png::Encoder::new(file, 6, 5);
                encoder.set_color(png::ColorType::Rgb);
                let mut writer = encoder.write_header().unwrap();
                writer.write_image_data(&Vec::<u8>::try_from(pixels.get(place)).unwrap()).unwrap();
            }
            let listing = matches!(data, Data::ListedImages).then(|| {
                let table = folder.join("pictures.csv");
                let row = |place: usize| format!("class {}/{place}.png,{}\n", place % 3, ["a", "b", "c"][place % 3]);
                let rows: String = (0..39).chain([5]).map(row).collect();
                std::fs::write(&table, format!("path,kind\n{rows}")).unwrap();
                let roles = Roles { targets: vec!["kind".into()], ..Roles::default() };
                let (paths, dialect) = (Paths::Path(vec![table]), csv::Dialect::default());
                image_folder::Listing { table: csv::Files { paths, roles, dialect }, column: "path".into() }
            });
            let fit = image_folder::Fit::Crop;
            Files::ImageFolder(image_folder::Files { path, size: Some([4, 4]), channels: 3, fit, listing })
        }
        Data::Labels => arrays("labels.safetensors", numbers(&[40, 3]).gt(0.0).to_kind(Kind::Int64)),
        Data::Label => arrays("label.safetensors", classes().remainder(2)),
        Data::Shares => arrays("shares.safetensors", numbers(&[40, 3]).softmax(-1, Kind::Float)),
        Data::Csv => {
            let path = folder.join("table.csv");
            std::fs::write(&path, table()).unwrap();
            Files::Csv(csv::Files { paths: Paths::Path(vec![path]), roles: roles(), dialect: csv::Dialect::default() })
        }
        Data::Parquet => {
            let path = folder.join("table.parquet");
            write_parquet(&path);
            Files::Parquet(parquet::Files { paths: Paths::Path(vec![path]), roles: roles() })
        }
        Data::Exported(model) => {
            let exported = Path::new("tests/data/exported").canonicalize().unwrap();
            let archives = [("net.pt2", JobFolder::EXPORTED), ("train.pt2", JobFolder::EXPORTED)];
            for (from, to) in archives.into_iter().chain([("eval.pt2", JobFolder::EXPORTED_EVAL)]) {
                let from = exported.join(model).join(from);
                if from.exists() {
                    std::fs::copy(from, folder.join(to)).unwrap();
                }
            }
            // The module of `plain` is that of `mlp`.
            let data = if model == "plain" { "mlp" } else { model };
            let path = exported.join(data).join("data.safetensors");
            Files::Safetensors(named_arrays::Files { paths: path.into(), inputs: vec![], target: "y".into() })
        }
    }
}

/// These inputs and their classes, as `np.save` writes them.
fn numpy(inputs: &Tensor) -> [Vec<u8>; 2] {
    let npy = |descr: &str, shape: &str, values: Vec<u8>| {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &values].concat()
    };
    let values = Vec::<f32>::try_from(inputs.view([-1])).unwrap();
    let classes = (0..40i64).flat_map(|place| (place % 3).to_le_bytes()).collect();
    [npy("<f4", "(40, 6)", values.iter().flat_map(|value| value.to_le_bytes()).collect()), npy("<i8", "(40,)", classes)]
}

/// Forty rows of delimited text, some of which have no number.
fn table() -> String {
    let row = |place: usize| {
        let number = if place % 7 == 3 { String::new() } else { format!("{:.3}", (place as f64).sin()) };
        format!("{number},{},{}\n", ["red", "green", "blue"][place % 3], ["a", "b", "c"][place / 2 % 3])
    };
    format!("number,colour,kind\n{}", (0..40).map(row).collect::<String>())
}

/// The roles of its columns.
fn roles() -> Roles {
    Roles {
        targets: vec!["kind".into()],
        categorical: vec!["colour".into()],
        missing: vec![MissingRule { columns: vec![], by: Missing::Mean }],
        ..Roles::default()
    }
}

/// The rows of `table` as Parquet.
fn write_parquet(path: &Path) {
    use ::parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
    use ::parquet::{file::writer::SerializedFileWriter, schema::parser::parse_message_type};
    let text = table();
    let cells = |column: usize| text.lines().skip(1).map(move |line| line.split(',').nth(column).unwrap());
    let columns = "optional double number; required binary colour (UTF8); required binary kind (UTF8);";
    let schema = parse_message_type(&format!("message table {{ {columns} }}")).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema.into(), Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let levels: Vec<i16> = cells(0).map(|cell| i16::from(!cell.is_empty())).collect();
    let numbers: Vec<f64> = cells(0).filter_map(|cell| cell.parse().ok()).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<DoubleType>().write_batch(&numbers, Some(&levels), None).unwrap();
    column.close().unwrap();
    for place in [1, 2] {
        let words: Vec<_> = cells(place).map(ByteArray::from).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&words, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

fn write_idx(path: &Path, sizes: &[u32], values: &[u8]) {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend_from_slice(values);
    std::fs::write(path, bytes).unwrap();
}
