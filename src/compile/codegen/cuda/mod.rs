//! CUDA C++ for a whole layer's kernel, and machine code from it.

use crate::compile::{Architecture, KernelClass};
use crate::{Result, fail};

/// One CUDA C++ source for a kernel class: readable, without headers, the same for equal input.
///
/// Fails with `KernelTooLarge` if a block needs more shared memory than the architecture has.
pub fn generate(class: &KernelClass, architecture: Architecture) -> Result<String> {
    fail!(Unsupported, "this build cannot print {:?} kernels for {architecture:?} yet", class.pass)
}

/// Compiles a kernel class for an architecture to what [`crate::device::cuda`] loads.
pub fn compile(class: &KernelClass, architecture: Architecture) -> Result<Vec<u8>> {
    fail!(Unsupported, "this build cannot compile {:?} kernels for {architecture:?} yet", class.pass)
}
