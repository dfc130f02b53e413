//! Code for the CPU backend.

use crate::compile::KernelClass;
use crate::{Result, fail};

/// Compiles a kernel class to code that [`crate::device::cpu`] loads and runs.
///
/// The code is the same on every machine; which instructions run it is chosen where it is loaded. Fails with
/// `CompileFailed` if a program contradicts itself.
pub fn compile(class: &KernelClass) -> Result<Vec<u8>> {
    fail!(Unsupported, "this build cannot compile {:?} kernels for the CPU yet", class.pass)
}
