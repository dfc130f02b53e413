//! What was tuned, and what came of it: the records of the tuning database, and the bounds of what may be in one.

use crate::graph::Features;
use crate::{Result, fail};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of the texts of a problem, each.
const LONGEST_TEXT: usize = 256;
/// Bytes of a schedule.
const LONGEST_SCHEDULE: usize = 1 << 16;
/// Operators that features name. There are fewer.
const MOST_OPERATORS: usize = 256;
/// Numbers have 63 bits where they are kept.
const LARGEST: u64 = i64::MAX as u64;

/// What a schedule is looked for: a kernel without its schedule, on a device, for a shape of work. All fields together are its
/// identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// A hash of all that is computed: the kernel's class but for the schedule.
    #[serde(with = "hexadecimal")]
    pub class: [u8; 32],
    /// What two problems must have in common for a schedule of the one to mean anything for the other, such as pass and
    /// element type: `backward bf16`.
    pub kind: String,
    /// What it was measured on, such as `NVIDIA H100 80GB HBM3, sm_90`.
    pub device: String,
    /// The version of the code generators, such as [`GENERATOR_VERSION`](crate::store::GENERATOR_VERSION).
    pub generator: String,
    /// The version of the compiler behind them; empty where there is none.
    pub compiler: String,
    /// Rows of the tensors.
    pub rows: u64,
    /// Seeds that run the kernel.
    pub seeds: u64,
}

/// A schedule that was tried on a problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The schedule, in a notation of whoever tunes. Of one schedule of a problem the last measurement counts.
    pub schedule: String,
    /// Median of the measured seconds; 0 if there was nothing to measure.
    pub seconds: f64,
    /// How far the measurements lie apart, in seconds.
    pub spread: f64,
    /// How many measurements there were.
    pub samples: u32,
    /// Whether it could be compiled and computed what it should. The others are kept so that nobody tries them again, and are
    /// never the best.
    pub valid: bool,
    /// When, in seconds since 1970.
    pub measured_at: u64,
}

/// A problem with all that was tried on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    /// What was tuned.
    pub problem: Problem,
    /// What its graph is like.
    pub features: Features,
    /// What was tried: the valid ones first, the fastest of them first.
    pub candidates: Vec<Candidate>,
}

/// A problem like another one, and what served it best.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// The other problem. Its shape of work, generator and compiler may differ as well.
    pub problem: Problem,
    /// How similar the graphs are: 1 if their features are equal.
    pub similarity: f64,
    /// The fastest valid candidate there.
    pub best: Candidate,
}

impl Problem {
    /// What it is found by.
    pub(super) fn identity(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("kasmina tuning 1 identity of a problem");
        hasher.update(&self.class);
        for text in [&self.kind, &self.device, &self.generator, &self.compiler] {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        hasher.update(&self.rows.to_le_bytes()).update(&self.seeds.to_le_bytes());
        *hasher.finalize().as_bytes()
    }

    /// Refuses what cannot be kept.
    pub(super) fn check(&self) -> Result<()> {
        let texts = [("kind", &self.kind), ("device", &self.device), ("generator", &self.generator)];
        for (name, text) in texts.into_iter().chain([("compiler", &self.compiler)]) {
            check_text(name, text, LONGEST_TEXT)?;
        }
        for (name, number) in [("rows", self.rows), ("seeds", self.seeds)] {
            if number > LARGEST {
                fail!(InvalidArgument, "`{name}` of a problem is {number}; at most {LARGEST} can be kept");
            }
        }
        Ok(())
    }
}

impl Candidate {
    /// A valid candidate that was measured just now.
    pub fn new(schedule: impl Into<String>, seconds: f64, spread: f64, samples: u32) -> Candidate {
        Candidate { schedule: schedule.into(), seconds, spread, samples, valid: true, measured_at: now() }
    }

    /// A candidate that cannot be compiled or computes something else.
    pub fn invalid(schedule: impl Into<String>) -> Candidate {
        Candidate { valid: false, ..Candidate::new(schedule, 0.0, 0.0, 0) }
    }

    /// What its schedule is found by within a problem.
    pub(super) fn identity(&self) -> [u8; 32] {
        *blake3::hash(self.schedule.as_bytes()).as_bytes()
    }

    /// Refuses what cannot be kept.
    pub(super) fn check(&self) -> Result<()> {
        check_text("schedule", &self.schedule, LONGEST_SCHEDULE)?;
        for (name, number) in [("seconds", self.seconds), ("spread", self.spread)] {
            if !(number.is_finite() && number >= 0.0) {
                fail!(InvalidArgument, "`{name}` of a candidate is {number}; a finite number from 0 on can be kept");
            }
        }
        if self.measured_at > LARGEST {
            fail!(InvalidArgument, "`measured_at` of a candidate is {}; it is in seconds since 1970", self.measured_at);
        }
        Ok(())
    }
}

/// Refuses features that no graph has and that would take room.
pub(super) fn check_features(features: &Features) -> Result<()> {
    if features.operators.len() > MOST_OPERATORS {
        fail!(InvalidArgument, "the features name {} operators; there are fewer", features.operators.len());
    }
    features.operators.keys().try_for_each(|name| check_text("operator", name, LONGEST_TEXT))
}

fn check_text(name: &str, text: &str, longest: usize) -> Result<()> {
    if text.len() > longest {
        fail!(InvalidArgument, "`{name}` has {} bytes; at most {longest} can be kept", text.len());
    }
    // PostgreSQL has no room for it.
    if text.contains('\0') {
        fail!(InvalidArgument, "`{name}` has a character of number 0, which cannot be kept");
    }
    Ok(())
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// 32 bytes as 64 letters.
mod hexadecimal {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&blake3::Hash::from_bytes(*bytes).to_hex())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let hash = blake3::Hash::from_hex(&text).map_err(|_| D::Error::custom("a class is 64 hexadecimal digits"))?;
        Ok(*hash.as_bytes())
    }
}
