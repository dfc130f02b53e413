//! How a kernel cuts its work, in numbers: what the planners choose by rule and tuning chooses by measuring.

use super::codegen::{cpu, cuda};
use super::{Architecture, KernelClass, Schedule};
use crate::Result;
use serde::{Deserialize, Serialize};

/// How a kernel cuts its work. Every tiling computes the same, but for the order in which sums over rows are added up.
///
/// The CPU backend has but the rows; the other numbers are 0 there, and 0 where a kernel has no use for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiling {
    /// Whether programs run in fragments where they fit.
    pub fragments: bool,
    /// Rows that a program works on at a time: lanes on the CPU, rows in a block's shared memory on CUDA.
    pub rows: u16,
    /// Threads of a block.
    pub threads: u16,
    /// Blocks that a multiprocessor is to run at once, at least; it bounds the registers of a thread.
    pub blocks: u16,
    /// Tiles of rows that a warp has on their way to fragments at a time.
    pub stages: u16,
    /// How often a launch fills the card, if it has the rows.
    pub waves: u16,
}

/// The tiling that a kernel of this class has: by its planner's rules unless its schedule says which.
///
/// # Errors
///
/// As compiling the class: `KernelTooLarge` if a block of it has no room on the architecture.
pub fn tiling(class: &KernelClass, architecture: Architecture) -> Result<Tiling> {
    match architecture {
        Architecture::Cpu => cpu::tiling(class),
        Architecture::Cuda(capability) => cuda::tiling(class, capability),
    }
}

/// A tiling with which a multiprocessor has so much less of memory on its way than with the planner's is not worth a try.
const LEAST_IN_FLIGHT: f64 = 0.25;

/// What tuning may try instead of a tiling: for each number, the tilings in which it alone is another. Those that cannot be
/// planned are left out, and those that are slow beyond doubt.
pub fn alternatives(class: &KernelClass, architecture: Architecture, from: Tiling) -> Vec<Vec<Tiling>> {
    let lines = match architecture {
        Architecture::Cpu => cpu::alternatives(from),
        Architecture::Cuda(_) => cuda::alternatives(class, from),
    };
    let least = in_flight(class, architecture).unwrap_or(0.0) * LEAST_IN_FLIGHT;
    let may_serve = |other: &Tiling| {
        let tuned = KernelClass { schedule: Schedule::Tuned(*other), ..class.clone() };
        *other != from && in_flight(&tuned, architecture).is_ok_and(|bytes| bytes >= least)
    };
    lines.into_iter().map(|line| line.into_iter().filter(may_serve).collect()).collect()
}

/// Bytes that are on their way from memory at once; nothing on the CPU, which fetches ahead by itself.
fn in_flight(class: &KernelClass, architecture: Architecture) -> Result<f64> {
    match architecture {
        Architecture::Cpu => cpu::tiling(class).map(|_| 0.0),
        Architecture::Cuda(capability) => cuda::bytes_in_flight(class, capability).map(|bytes| bytes as f64),
    }
}
