//! CUDA C++ to machine code, by NVIDIA's run-time compiler.

use crate::compile::Architecture;
use crate::{Result, fail};

/// Compiles CUDA C++ to the machine code (cubin) of an architecture.
///
/// `CompilerUnavailable` lists every place where NVRTC was looked for; `CompileFailed` has the log and the source
/// attached.
pub fn compile(source: &str, architecture: Architecture) -> Result<Vec<u8>> {
    fail!(CompilerUnavailable, "this build cannot compile {} bytes for {architecture:?} yet", source.len())
}

/// The compiler's version, such as `13.0`; part of a cache key.
pub fn version() -> Result<String> {
    fail!(CompilerUnavailable, "this build does not look for NVRTC yet")
}
