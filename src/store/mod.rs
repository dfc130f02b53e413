//! Where compiled kernels are kept: [`MemoryCache`] for this process, [`DiskCache`] for the next one.
//!
//! Both are found by a [`Key`] that is made of content only, and both treat anything doubtful as a miss: a cache may be
//! slow, never wrong. This module must know no device and no layer, and it compiles nothing.

mod disk;
mod entry;
mod key;
mod memory;
mod place;

pub use disk::{DiskCache, DiskLimits};
pub use key::{GENERATOR_VERSION, Key};
pub use memory::MemoryCache;
