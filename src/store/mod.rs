//! Where compiled kernels are kept: [`MemoryCache`] for this process, [`DiskCache`] for the next one, [`Bundle`] for other
//! machines. And beside them what was measured of their schedules: [`TuningDatabase`].
//!
//! All are found by content only (a [`Key`], a [`Problem`]), and all treat anything doubtful as a miss: a cache may be slow,
//! never wrong. This module must know no device and no layer, and it compiles nothing.

mod bundle;
mod cleanup;
mod disk;
mod entry;
mod key;
mod memory;
mod place;
mod publish;
mod stored;
mod tuning;
mod turn;

pub use bundle::Bundle;
pub use cleanup::{Cleaned, DiskLimits};
pub use disk::DiskCache;
pub use key::{GENERATOR_VERSION, Key, Preimage};
pub use memory::MemoryCache;
pub use stored::{Imported, Stored};
pub use tuning::{
    Candidate, Neighbour, Problem, Tuned, TuningDatabase, TuningImported, TuningLimits, TuningPlace, TuningStatistics,
};
pub use turn::Turn;
pub(crate) use turn::give_back_inherited;
