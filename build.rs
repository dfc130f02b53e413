//! Two things that Cargo has no keys for. Link arguments of the shared library: its SONAME, and that it is never unloaded
//! (threads of the compile pipeline may still run when a host calls `dlclose`). And the generator's version: a digest of
//! the sources that decide what a cached kernel contains and how it is launched, so that nobody can forget to raise it.

use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

/// What is generated, and what the launch of a generated kernel relies on. Operators are not here: what they lower to is
/// in the kernel's class, and so in its key. A test looks whether anything else that the generators read is missing.
const GENERATOR: [&str; 4] = ["src/compile", "src/device", "src/graph", "src/lifecycle.rs"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let mut digest = DefaultHasher::new();
    for path in GENERATOR {
        println!("cargo:rerun-if-changed={path}");
        hash(Path::new(path), &mut digest);
    }
    println!("cargo:rustc-env=KASMINA_GENERATOR={:016x}", digest.finish());
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        let major = std::env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libkasmina.so.{major}");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic");
    }
}

/// Adds a file, or every file under a directory, by name and content, in the order of names.
fn hash(path: &Path, digest: &mut DefaultHasher) {
    if !path.is_dir() {
        digest.write(path.as_os_str().as_encoded_bytes());
        digest.write(&std::fs::read(path).unwrap_or_default());
        return;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().for_each(|path| hash(path, digest));
}
