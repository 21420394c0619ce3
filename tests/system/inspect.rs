//! torchctl inspect: what is in a file of a model, without a daemon.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use super::torchctl::told;

fn inspect(arguments: &[&str]) -> (i32, String, String) {
    told(&Command::new(env!("CARGO_BIN_EXE_torchctl")).arg("inspect").args(arguments).output().unwrap())
}

#[test]
fn the_tensors_of_a_file_are_listed_for_people_and_for_scripts() {
    let (code, out, err) = inspect(&["tests/data/golden/mnist_cnn_init.safetensors"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for words in ["safetensors", "tensors  8", "values   21840 in 87360 bytes", "all finite", "TYPE  SHAPE"] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let row = out.lines().find(|line| line.starts_with("conv2.weight")).unwrap();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["conv2.weight", "F32", "[20,", "10,", "5,", "5]", "20000"]);

    let (code, out, _) = inspect(&["tests/data/golden/pt/state_dict.pt", "-o", "json"]);
    let contents: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &contents["kind"], &contents["refusals"]), (0, &json!("FILE_KIND_PT"), &json!([])));
    assert_eq!(contents["path"], "tests/data/golden/pt/state_dict.pt");
    let tensor = |name: &str| {
        let tensors = contents["tensors"].as_array().unwrap();
        tensors.iter().find(|tensor| tensor["name"] == name).unwrap().clone()
    };
    let view = json!({"name": "view", "dtype": "F32", "shape": ["2", "3"], "size_bytes": "24", "tied_to": ""});
    assert_eq!(tensor("view"), view);
    assert_eq!((&tensor("tied_b")["tied_to"], &tensor("tied_rows")["tied_to"]), (&json!("tied_a"), &json!("")));
    assert_eq!(tensor("bf16")["dtype"], "BF16");
}

#[test]
fn a_torchscript_archive_is_named_and_not_refused() {
    let (code, out, _) = inspect(&["tests/data/torchscript/net.pt", "-o", "json"]);
    let contents: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &contents["kind"], &contents["refusals"]), (0, &json!("FILE_KIND_TORCHSCRIPT"), &json!([])));
    let (code, out, err) = inspect(&["tests/data/torchscript/net.pt"]);
    assert!(code == 0 && out.contains("for model.torchscript") && !out.contains("tensors"), "{out}{err}");
}

#[test]
fn infinities_of_masks_are_told_and_not_refused() {
    let (code, out, err) = inspect(&["tests/data/exported/masks/net.pt2"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let words = "-inf in \"causal\" at place 1, which a buffer alone may hold";
    assert!(out.contains(words), "{out}");
    let (code, out, _) = inspect(&["tests/data/exported/masks/sgd.safetensors"]);
    assert!(code == 0 && out.contains("-inf in \"state.causal"), "{out}");
}

#[test]
fn the_graphs_of_an_exported_model_are_told_with_what_they_take_and_return() {
    let (code, out, err) = inspect(&["tests/data/exported/step_metrics/net.pt2"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for words in [
        ".pt2 of torch.export",
        "x float32 [batch, 8]",
        "y int64 [batch]",
        "its own loss, and the metrics accuracy, score_norm",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    assert!(out.contains("PyTorch 2.11.0") && out.contains("evaluation") && out.contains("all finite"), "{out}");
    let (code, out, _) = inspect(&["tests/data/exported/tied/net.pt2", "-o", "json"]);
    let contents: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &contents["kind"], &contents["refusals"]), (0, &json!("FILE_KIND_PT2"), &json!([])));
    assert_eq!(contents["graphs"][1]["name"], "train");
    assert!(contents["tensors"].as_array().unwrap().iter().any(|tensor| tensor["tied_to"] != ""), "{out}");
    for (file, words) in [
        ("static_batch", "it has the graph model, and its input x takes batches of 4 alone"),
        ("cuda", "exported on cuda:0"),
        ("pickled_weight", "stored as a pickle"),
        ("nan_weights", "it holds NaN in"),
    ] {
        let (code, out, _) = inspect(&[&format!("tests/data/exported/bad/{file}.pt2")]);
        assert!(code == 1 && out.contains(words), "{file}: {out}");
    }
}

#[test]
fn the_state_dict_of_a_checkpoint_is_told_from_the_rest() {
    let (code, out, _) = inspect(&["tests/data/golden/pt/checkpoint.pt"]);
    assert!(code == 0 && out.contains("7 under \"model\"; 13 more beside it are left out"), "{out}");
    assert!(!out.contains("exp_avg"), "{out}");
    let (code, out, _) = inspect(&["tests/data/golden/pt/two_state_dicts.pt"]);
    assert!(code == 0 && out.contains("14 in the state dicts model, state_dict: a job has to say which"), "{out}");
}

#[test]
fn what_torchd_would_refuse_is_told_and_exits_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut weights = fs::read("tests/data/golden/mnist_cnn_init.safetensors").unwrap();
    let last = weights.len() - 4;
    weights[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(path("nan"), &weights).unwrap();
    fs::write(path("cut"), &weights[..last]).unwrap();
    fs::write(path("page"), "<!doctype html><title>404\u{1b}[2J").unwrap();
    for (file, words) in [
        ("tests/data/golden/pt/code.pt", "it names posix.system, which runs code"),
        ("tests/data/golden/pt/whole_module.pt", "it names __main__.Net"),
        ("tests/data/golden/pt/before_1_6.pt", "the form before PyTorch 1.6"),
        (&path("nan"), "it holds NaN in \"fc2.weight\""),
        (&path("cut"), "it is cut off"),
        (&path("page"), "it looks like an HTML page"),
    ] {
        let (code, out, err) = inspect(&[file]);
        assert!(code == 1 && out.contains(words) && err.is_empty(), "{file}: {out}{err}");
        let (code, out, _) = inspect(&[file, "-o", "json"]);
        let contents: Value = serde_json::from_str(&out).unwrap();
        assert!(code == 1 && contents["refusals"].as_array().unwrap().len() == 1, "{file}: {out}");
    }
    // A read of a pipe or a folder does not block.
    mkfifo(folder.path().join("pipe").as_path(), Mode::S_IRWXU).unwrap();
    symlink(folder.path(), folder.path().join("folder")).unwrap();
    for (name, words) in [("pipe", "is no file"), ("folder", "is no file"), ("absent", "cannot be read: No such file")]
    {
        let (code, out, err) = inspect(&[&path(name)]);
        assert!(code == 1 && err.contains(words) && out.is_empty(), "{name}: {out}{err}");
    }
}
