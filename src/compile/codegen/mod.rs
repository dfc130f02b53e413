//! From a whole layer's [`KernelClass`](super::KernelClass) to code for one kind of device: a folder or file each.
//!
//! Backends know only the primitives of a [`Program`](super::Program), no operator and no layer.

pub mod cpu;
pub mod cuda;
pub mod triton;
