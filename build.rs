//! Two things that Cargo has no keys for. Link arguments of the shared library: its SONAME, and that it is never unloaded
//! (threads of the compile pipeline may still run when a host calls `dlclose`). And the generator's version: a digest of
//! the sources that decide what a cached kernel contains and how it is launched, so that nobody can forget to raise it.

use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

/// What is generated, and what the launch of a generated kernel relies on.
const GENERATOR: [&str; 3] = ["src/compile", "src/device", "src/graph"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let mut digest = DefaultHasher::new();
    for directory in GENERATOR {
        println!("cargo:rerun-if-changed={directory}");
        hash_directory(Path::new(directory), &mut digest);
    }
    println!("cargo:rustc-env=KASMINA_GENERATOR={:016x}", digest.finish());
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        let major = std::env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libkasmina.so.{major}");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic");
    }
}

/// Adds every file under a directory, by name and content, in the order of names.
fn hash_directory(directory: &Path, digest: &mut DefaultHasher) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            hash_directory(&path, digest);
        } else {
            digest.write(path.as_os_str().as_encoded_bytes());
            digest.write(&std::fs::read(&path).unwrap_or_default());
        }
    }
}
