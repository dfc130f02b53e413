//! Link arguments of the shared library that Cargo has no keys for: its SONAME, and that it is never unloaded (threads
//! of the compile pipeline may still run when a host calls `dlclose`).

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        let major = std::env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libkasmina.so.{major}");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic");
    }
}
