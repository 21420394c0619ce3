//! Turns the protocol files into Rust, records the git revision, and tells the runner where
//! libtorch lies.

use std::path::PathBuf;
use std::{env, fs, process::Command};

const PROTOS: &[&str] = &[
    "torchd/v1/access.proto",
    "torchd/v1/end.proto",
    "torchd/v1/spec.proto",
    "torchd/v1/job.proto",
    "torchd/v1/system.proto",
    "torchd/v1/compatibility.proto",
    "torchd/v1/file.proto",
    "torchd/v1/gpu.proto",
    "torchd/v1/upload.proto",
    "torchd/v1/launch.proto",
    "torchd/journal/v1/journal.proto",
    "tensorboard/event.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    compile_protos()?;
    record_revision();
    println!("cargo:rustc-env=TORCHD_BUILD_LIBTORCH={}", libraries_of_build().unwrap_or_default());
    if env::var_os("CARGO_FEATURE_RUNNER").is_some() {
        set_runner_library_path();
    }
    #[cfg(feature = "runner")]
    cpp::link()?;
    Ok(())
}

/// The C++ half of the runner, compiled against the headers of the libtorch that torch-sys links.
#[cfg(feature = "runner")]
mod cpp {
    use std::path::{Path, PathBuf};
    use std::{env, fs};

    /// Sources, each with the header beside it.
    const SOURCES: [&str; 2] = ["src/runner/dispatcher/aten", "src/runner/script/script"];

    /// The header that all of them include.
    const COMMON: &str = "src/runner/guarded.h";

    /// Compiles it and links it to the runner: the other programs are to load no libtorch.
    pub(super) fn link() -> Result<(), Box<dyn std::error::Error>> {
        let libtorch = PathBuf::from(env::var_os("LIBTORCH").ok_or("LIBTORCH names no folder with libtorch")?);
        let out = PathBuf::from(env::var("OUT_DIR")?);
        for source in SOURCES.map(Path::new) {
            let name = source.file_name().unwrap_or_default().to_string_lossy();
            compile(source, &name, &libtorch, &out)?;
            let archive = out.join(format!("libtorchd_{name}.a"));
            println!("cargo:rustc-link-arg-bin=torchd-runner={}", archive.display());
        }
        for library in ["-ltorch_cpu", "-lc10", "-lstdc++"] {
            println!("cargo:rustc-link-arg-bin=torchd-runner={library}");
        }
        Ok(())
    }

    /// Takes half a minute, and this script runs after every commit: a source that has not changed
    /// is not compiled again.
    fn compile(source: &Path, name: &str, libtorch: &Path, out: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let [source, header] = ["cpp", "h"].map(|extension| source.with_extension(extension));
        println!("cargo:rerun-if-changed={}", source.display());
        println!("cargo:rerun-if-changed={}", header.display());
        println!("cargo:rerun-if-changed={COMMON}");
        let mark = out.join(format!("{name}.mark"));
        let contents = [&source, &header, &PathBuf::from(COMMON)].map(fs::read_to_string);
        let [text, declarations, common] = contents;
        let now = format!("{}\n{}\n{}\n{}", libtorch.display(), text?, declarations?, common?);
        if fs::read_to_string(&mark).is_ok_and(|before| before == now) {
            return Ok(());
        }
        cc::Build::new()
            .cpp(true)
            .std("c++17")
            .flag("-Wno-unused-parameter")
            .opt_level(2)
            .debug(false)
            // Not -I: warnings of libtorch's headers are not ours.
            .flag("-isystem")
            .flag(libtorch.join("include"))
            .file(source)
            .cargo_metadata(false)
            .try_compile(&format!("torchd_{name}"))?;
        fs::write(mark, now)?;
        Ok(())
    }
}

/// protox is a protocol compiler in Rust: nobody has to install protoc.
fn compile_protos() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(PROTOS)?;
    let set = compiler.file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // With the options of our own, which the messages of prost have no field for.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names().btree_map(["."]);
    tonic_prost_build::configure().build_server(false).compile_fds_with_config(set.clone(), config)?;
    // The server's side by itself, with a codec that judges requests before it decodes them, and
    // with the same messages but for one, which many watchers get and which is encoded once for all
    // of them.
    let server = out.join("server");
    fs::create_dir_all(&server)?;
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".torchd.v1", "crate::proto::v1")
        .extern_path(".torchd.v1.WatchJobResponse", "crate::proto::EncodedWatch")
        .codec_path("crate::services::BoundedCodec")
        .out_dir(&server)
        .compile_fds(set)?;
    Ok(())
}

fn record_revision() {
    println!("cargo:rerun-if-env-changed=TORCHD_REVISION");
    for path in [".git/HEAD", ".git/index"] {
        if fs::exists(path).unwrap_or(false) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let from_git = || {
        let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let revision = env::var("TORCHD_REVISION").ok().or_else(from_git).unwrap_or_default();
    println!("cargo:rustc-env=TORCHD_REVISION={revision}");
    let rustc = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()))
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_default();
    println!("cargo:rustc-env=TORCHD_RUSTC={}", rustc.trim());
}

/// The libraries of libtorch that this build is linked against; None in a package, which is for
/// other machines: TORCHD_PACKAGE says that it is one.
fn libraries_of_build() -> Option<String> {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=TORCHD_PACKAGE");
    let libtorch = env::var_os("LIBTORCH").filter(|_| env::var_os("TORCHD_PACKAGE").is_none())?;
    Some(PathBuf::from(libtorch).join("lib").display().to_string())
}

/// The rpath that torch-sys asks for does not reach our program, so it is set here, for that one
/// program: first the places of an installation, then the folder this build was linked against.
fn set_runner_library_path() {
    let mut places = vec!["$ORIGIN/../lib/torchd/libtorch/lib".to_owned(), "$ORIGIN/libtorch/lib".to_owned()];
    places.extend(libraries_of_build());
    println!("cargo:rustc-link-arg-bin=torchd-runner=-Wl,--enable-new-dtags,-rpath,{}", places.join(":"));
}
