//! Files of PyTorch 2.11 itself (`tests/python/make_pt.py`), and what others make of them.

use std::fs;
use std::io::Write;

use rawzip::ZipArchiveWriter;
use serde_json::Value as Json;

use super::super::{Dtype, Problem, TensorFile};
use super::*;

fn golden(name: &str) -> Vec<u8> {
    fs::read(format!("tests/data/golden/pt/{name}")).unwrap()
}

fn read_all(file: &[u8]) -> Result<TensorFile, Problem> {
    let read = TensorFile::read_from(&file, file.len() as u64)?;
    for tensor in &read.tensors {
        tensor.read(&file)?;
    }
    Ok(read)
}

fn refusal(file: &[u8]) -> String {
    read_all(file).unwrap_err().to_string()
}

/// An archive of these entries, stored as they are.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipArchiveWriter::new(Vec::new());
    for (name, content) in entries {
        let (mut entry, config) = archive.new_file(*name).start().unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(content).unwrap();
        let (_, summary) = writer.finish().unwrap();
        entry.finish(summary).unwrap();
    }
    archive.finish().unwrap()
}

/// A file with that pickle and one storage of eight bytes.
fn with_pickle(pickle: &[u8]) -> Vec<u8> {
    archive(&[("model/data.pkl", pickle), ("model/data/0", &[0; 8])])
}

/// The pickle of a dict of one tensor, with the middle of its call: storage, first, sizes, strides.
fn pickle_of(middle: &[u8]) -> Vec<u8> {
    [b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(", middle, b"\x89NtRs."].concat()
}

const STORAGE: &[u8] = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x02tQ";

#[test]
fn every_type_and_every_view_of_a_state_dict_has_the_values_that_pytorch_has() {
    let file = golden("state_dict.pt");
    let read = read_all(&file).unwrap();
    let told: serde_json::Map<String, Json> = serde_json::from_slice(&golden("state_dict.json")).unwrap();
    let names: Vec<_> = read.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, told.keys().collect::<Vec<_>>(), "in the order of the state dict");
    for tensor in &read.tensors {
        let told = &told[&tensor.name];
        assert_eq!(tensor.dtype.torch_name(), told["dtype"].as_str(), "{}", tensor.name);
        assert_eq!(serde_json::json!(tensor.shape), told["shape"], "{}", tensor.name);
        let values: String = tensor.read(&&file[..]).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(Some(values.as_str()), told["hex"].as_str(), "{}", tensor.name);
    }
    assert_eq!((read.state_dicts.len(), read.left_out), (0, 0));
    let layout = |name| &read.tensor(name).unwrap().layout;
    assert_eq!(layout("tied_a"), layout("tied_b"));
    assert_eq!((layout("tied_rows").offset, layout("tied_rows").first), (layout("tied_a").offset, 8));
}

#[test]
fn the_state_dict_is_found_among_what_scripts_save() {
    let of = |name: &str| {
        let read = read_all(&golden(name)).unwrap();
        let names = read.tensors.into_iter().map(|tensor| tensor.name).collect::<Vec<_>>();
        (read.state_dicts, read.left_out, names)
    };
    let net = ["layer.weight", "layer.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"];
    let net = [&net[..], &["norm.num_batches_tracked"]].concat();
    let under = |key: &str| net.iter().map(|name| format!("{key}.{name}")).collect::<Vec<_>>();
    let (keys, left_out, names) = of("checkpoint.pt");
    // AdamW has a step and two moments for each of four parameters; the state of the generator.
    assert_eq!((keys, left_out), (vec!["model".to_owned()], 3 * 4 + 1));
    assert_eq!(names, net);
    let (keys, left_out, names) = of("two_state_dicts.pt");
    assert_eq!((keys, left_out), (vec!["model".to_owned(), "state_dict".to_owned()], 0));
    assert_eq!(names, [under("model"), under("state_dict")].concat());
    let (keys, _, names) = of("two_networks.pt");
    assert_eq!(keys, [] as [String; 0]);
    assert_eq!(names, [under("generator"), under("critic")].concat());
}

#[test]
fn what_is_not_read_is_refused_with_what_it_is() {
    for (name, words) in [
        ("before_1_6.pt", "the form before PyTorch 1.6"),
        ("protocol_4.pt", "protocol 4, and 2 is read"),
        ("whole_module.pt", "names __main__.Net, which stands for a whole object with its code"),
        ("sparse.pt", "a sparse tensor: save it with .to_dense()"),
        ("conjugated.pt", ".resolve_conj()"),
        ("complex128.pt", "torch.ComplexDoubleStorage, which stands for a type of tensor that is not read"),
        ("script.pt", "is a TorchScript archive"),
        ("tensor.pt", "holds one tensor without a name"),
        ("code.pt", "names posix.system, which runs code where the file is loaded by Python. It was not run."),
    ] {
        let told = refusal(&golden(name));
        assert!(told.contains(words), "{name}: {told}");
    }
    assert!(!fs::exists("/tmp/torchd-read-code-from-a-pickle").unwrap());
    for (entries, words) in [
        (&[("a/readme", &b""[..])][..], "is a zip archive without data.pkl"),
        (&[("net/archive_format", b"pt2")], "is an exported program (.pt2)"),
        (&[("a/data.pkl", b"\x80\x02}."), ("a/byteorder", b"big")], "big-endian"),
        (&[("a/data.pkl", b"\x80\x02N.")], "holds no tensors"),
    ] {
        let told = refusal(&archive(entries));
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let whole = golden("state_dict.pt");
    for cut in 0..whole.len() {
        assert!(read_all(&whole[..cut]).is_err(), "{cut} bytes");
    }
    assert!(refusal(&whole[..whole.len() - 1]).contains("is a damaged zip archive"));
    assert!(refusal(&[&whole[..], b"more"].concat()).contains("is a damaged zip archive: it ends at byte"));
}

#[test]
fn a_pickle_that_is_cut_anywhere_is_refused() {
    let whole = golden("checkpoint.pt");
    let read = Archive::read(&whole, whole.len() as u64).unwrap();
    let pickle = read.bytes(&whole, "checkpoint/data.pkl", 1 << 20).unwrap();
    for cut in 0..pickle.len() {
        let told = refusal(&with_pickle(&pickle[..cut]));
        assert!(told.contains("its pickle at byte") || told.contains("names "), "{cut} bytes: {told}");
    }
}

#[test]
fn no_byte_of_a_file_can_be_changed_so_that_something_outside_of_it_is_read() {
    let whole = golden("two_networks.pt");
    let (mut taken, mut refused) = (0, 0);
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= [0x01, 0x80, 0xff][at % 3];
        match read_all(&changed) {
            Ok(_) => taken += 1,
            // The file itself can be read: no place may be beyond its end.
            Err(Problem::Unreadable(error)) => panic!("byte {at}: {error}"),
            Err(_) => refused += 1,
        }
    }
    assert!(taken > 500 && refused > 500, "{taken} {refused}");
}

#[test]
fn numbers_of_a_pickle_are_not_believed() {
    let tensor = |rest: &[u8]| with_pickle(&pickle_of(&[STORAGE, rest].concat()));
    let read = read_all(&tensor(b"K\x00K\x02\x85K\x01\x85")).unwrap();
    assert_eq!((read.tensors[0].name.as_str(), read.tensors[0].dtype), ("w", Dtype::F32));
    for (rest, words) in [
        (&b"K\x01K\x02\x85K\x01\x85"[..], "end at byte 12 of a storage of 8"),
        (b"K\x00J\xff\xff\xff\x7f\x85K\x01\x85", "end at byte 8589934588"),
        (b"K\x00J\xff\xff\xff\xff\x85K\x01\x85", "a tensor with the size Int(-1)"),
        (b"K\x00\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85K\x01\x85", "no number of bytes"),
        (b"K\x00K\x02\x85K\x01K\x01\x86", "1 sizes and 2 strides"),
        (b"K\x00K\x02K\x02\x86K\x01K\x01\x86", "lie over each other"),
        (b"K\x00NK\x01\x85", "whose sizes are no tuple"),
    ] {
        let told = refusal(&tensor(rest));
        assert!(told.contains(words), "{words}: {told}");
    }
    let count = |count: &[u8]| {
        let storage = [b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu", count, b"tQ"].concat();
        with_pickle(&pickle_of(&[&storage[..], b"K\x00K\x02\x85K\x01\x85"].concat()))
    };
    assert!(refusal(&count(b"K\x03")).contains("3 values of 4 bytes, whose entry has 8 bytes"));
    assert!(refusal(&count(b"J\xff\xff\xff\xff")).contains("a storage of -1 values"));
    let other = [&STORAGE[..STORAGE.len() - 13], b"1X\x03\0\0\0cpuK\x02tQK\x00K\x02\x85K\x01\x85"].concat();
    assert!(refusal(&with_pickle(&pickle_of(&other))).contains(r#"lies in "model/data/1", which is missing"#));
}

#[test]
fn values_that_hold_each_other_come_to_an_end() {
    // A dict that holds itself.
    assert!(refusal(&with_pickle(b"\x80\x02}q\x00X\x01\0\0\0ah\x00s.")).contains("deeper than 64"));
    // Each dict holds the one before twice: two to the power of 40 values.
    let mut doubling = b"\x80\x02}q\x00".to_vec();
    for level in 0..40 {
        doubling.extend(*b"}(K\x00h");
        doubling.push(level);
        doubling.extend(*b"K\x01h");
        doubling.push(level);
        doubling.extend(*b"uq");
        doubling.push(level + 1);
        doubling.push(b'0');
    }
    doubling.extend(b"0h\x28.");
    assert!(refusal(&with_pickle(&doubling)).contains("refers to the same values over and over"));
}

#[test]
fn a_pickle_without_the_shape_of_a_state_dict_is_refused_at_its_byte() {
    for (pickle, words) in [
        (&b"\x80\x02."[..], "at byte 2: values are missing"),
        (b"\x80\x02t.", "at byte 2: a mark is missing"),
        (b"\x80\x02}N.", "values that nothing holds"),
        (b"\x80\x02}.N", "1 bytes left"),
        (b"\x80\x02h\x05.", "a value 5 that is not there"),
        (b"\x80\x02NNb.", "what is no OrderedDict"),
        (b"\x80\x02N(K\x01e.", "what is no list"),
        (b"\x80\x02}(K\x01u.", "what is no dict"),
        (b"\x80\x02ccollections\nOrderedDict\n(K\x01tR.", "other arguments"),
        (b"\x80\x02X\xff\xff\xff\xff.", "ends before its last instruction"),
        (b"\x80\x02X\x01\0\0\0\xff.", "not UTF-8"),
        (b"\x80\x02ccollections\nOrderedDict", "does not end"),
        (b"\x80\x02(K\x01tQ.", "not its five parts"),
        (b"\x80\x02\x93.", "the instruction 0x93"),
    ] {
        let told = refusal(&with_pickle(pickle));
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn an_archive_that_lies_about_its_entries_is_refused() {
    let stored = archive(&[("a/data.pkl", b"\x80\x02}."), ("a/data/0", &[0; 8])]);
    let directory = stored.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    let changed = |at: usize, bytes: &[u8]| {
        let mut file = stored.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        refusal(&file)
    };
    let end = stored.len() - 22;
    for (told, words) in [
        (changed(directory + 10, &[8, 0]), "is compressed or encrypted"),
        (changed(directory + 8, &[9, 0]), "is compressed or encrypted"),
        (changed(directory + 20, &[0xff, 0xff, 0, 0]), "and the directory begins at"),
        (changed(directory + 24, &[5, 0, 0, 0]), "has 5 bytes, lies at"),
        (changed(directory + 42, &[0xff, 0xff, 0, 0]), "behind the directory"),
        (changed(end + 10, &[1, 0]), "tells of 1 entries"),
        (changed(end + 10, &[3, 0]), "tells of 3 entries"),
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let twice = archive(&[("a/data.pkl", b"\x80\x02}."), ("a/data.pkl", b"\x80\x02}.")]);
    assert!(refusal(&twice).contains(r#""a/data.pkl" stands there twice"#));
}
