//! The tuning database, through what the crate exports. What it promises is asked of every place that it can be in.

mod answers;
mod exchange;
mod file;
mod places;
pub mod processes;
#[cfg(feature = "postgres")]
mod server;

use kasmina::graph::{Features, library};
use kasmina::store::{Candidate, Problem};

/// A problem of its own for each number.
pub fn problem(number: u64) -> Problem {
    Problem {
        class: *blake3::hash(&number.to_le_bytes()).as_bytes(),
        kind: "forward bf16".into(),
        device: "a device, sm_90".into(),
        generator: "generator".into(),
        compiler: "compiler".into(),
        rows: 8192,
        seeds: 64,
    }
}

/// What a blueprint of the library is like, in a width.
pub fn features(name: &str, chunk: usize) -> Features {
    Features::of([&library(name, chunk, &Default::default()).unwrap().graph])
}

/// A valid candidate that took so many microseconds.
pub fn candidate(schedule: &str, microseconds: u32) -> Candidate {
    Candidate::new(schedule, f64::from(microseconds) * 1e-6, 1e-7, 20)
}
