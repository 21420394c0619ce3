//! Compiles the C++ half against the headers of the libtorch that torch-sys links.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=src/aten.cpp");
    println!("cargo:rerun-if-changed=src/aten.h");
    let libtorch = PathBuf::from(std::env::var_os("LIBTORCH").ok_or("LIBTORCH names no folder with libtorch")?);
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .flag("-Wno-unused-parameter")
        .opt_level(2)
        .debug(false)
        // Not -I: warnings of libtorch's headers are not ours.
        .flag("-isystem")
        .flag(libtorch.join("include"))
        .file("src/aten.cpp")
        .try_compile("torchd_aten")?;
    println!("cargo:rustc-link-search=native={}", libtorch.join("lib").display());
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
    Ok(())
}
