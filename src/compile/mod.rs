//! From a blueprint to something a device can run.
//!
//! In order: [`passes`] builds the graph of a pass (forward with the blend, backward, isolated training) from a
//! blueprint; [`lower`] turns it into a [`Program`] of primitives and [`simplify`] improves that; [`codegen`] prints a
//! whole layer's kernel; [`nvrtc`] turns CUDA C++ into machine code; [`pipeline`] does all of it in the background, one
//! compile per key, and keeps the result in the [`crate::store`].
//!
//! This module must know no layer: what it compiles is a [`KernelClass`].

mod check;
pub mod codegen;
mod cost;
mod display;
mod expression;
pub mod integer;
mod lower;
pub mod nvrtc;
#[cfg(test)]
pub(crate) mod pace;
pub mod passes;
mod pipeline;
mod program;
pub mod random;
pub mod reference;
mod schedule;
mod simplify;
mod tiling;

pub use cost::operations;
pub use lower::{Lowered, Lowering, View, lower};
pub use passes::kernel_class;
pub use pipeline::{Artifact, Compiler, Origin, Pipeline, Statistics, Ticket, pipeline};
pub use program::*;
pub use simplify::{Simplification, simplify};
pub use tiling::{Tiling, alternatives, tiling};

use crate::Status;
use crate::graph::{DataType, RowInput};
use crate::lifecycle::Lifecycle;
use serde::{Deserialize, Serialize};

/// What a kernel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// Output and telemetry from the input.
    Forward,
    /// Input gradient, parameter gradients and, if the programs compute it, the gradient of alpha.
    Backward,
    /// Loss and parameter gradients of isolated training. Writes no rows.
    Train,
}

impl Pass {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
            Pass::Train => "train",
        }
    }

    /// The row input that telemetry watches, which is also what a seed without a program passes on.
    pub fn watched(self) -> Option<RowInput> {
        match self {
            Pass::Forward => Some(RowInput::X),
            Pass::Backward => Some(RowInput::OutputGradient),
            Pass::Train => None,
        }
    }

    /// Whether seeds in this state run a program. The others are identity, or in training nothing.
    pub fn runs(self, state: Lifecycle) -> bool {
        match self {
            Pass::Forward | Pass::Backward => state.applies_blueprint(),
            Pass::Train => state == Lifecycle::Training,
        }
    }

    /// Whether the program is one of [`KernelClass::frozen`].
    pub fn is_frozen(self, state: Lifecycle) -> bool {
        self == Pass::Backward && !state.trains_on_main_loss()
    }
}

/// How a kernel goes about its work. Every schedule computes the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// As fast as is known: in fragments on tensor cores, in blocked contractions on the CPU, wherever a program allows it.
    Best,
    /// The plain way, for where the best one fails: on CUDA every value in shared memory, on the CPU every step by itself.
    Generic,
    /// As the best one, cut as measuring found to be faster.
    Tuned(Tiling),
}

impl Schedule {
    /// What to try where this one fails.
    pub fn simpler(self) -> Option<Schedule> {
        match self {
            Schedule::Tuned(_) => Some(Schedule::Best),
            Schedule::Best => Some(Schedule::Generic),
            Schedule::Generic => None,
        }
    }

    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Schedule::Best => "best",
            Schedule::Generic => "generic",
            Schedule::Tuned(_) => "tuned",
        }
    }
}

/// Everything a kernel's machine code depends on, but the target: one kernel serves all seeds of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelClass {
    /// What the kernel is for.
    pub pass: Pass,
    /// How the kernel goes about it.
    pub schedule: Schedule,
    /// Element type of the row tensors. Parameters and their gradients are of its compute type.
    pub data_type: DataType,
    /// Whether tensor cores multiply f32 rounded to TF32: see [`KernelClass::with_tf32`].
    pub tf32: bool,
    /// Channels of a seed's chunk.
    pub chunk: usize,
    /// The programs of the live blueprints, by branch. In a backward class: of seeds that train on the main loss.
    pub programs: Vec<Program>,
    /// Backward only: what the programs are for seeds whose parameters are frozen, by branch: the same without gradients of
    /// parameters, so a backend may run the program itself for both. Empty otherwise.
    pub frozen: Vec<Program>,
}

impl KernelClass {
    /// The same class with f32 rounded to TF32 in products, if that is allowed. Where it would change nothing it stays as it
    /// is, for it must not be another kernel then, nor be proven less strictly: rows of other types, the CPU, cards before 8.0.
    pub fn with_tf32(self, allowed: bool, architecture: Architecture) -> KernelClass {
        let multiplies = self.data_type == DataType::F32 && !self.programs.is_empty();
        KernelClass { tf32: allowed && multiplies && matches!(architecture, Architecture::Cuda(80..)), ..self }
    }

    /// What its rows are and how they are multiplied, in a word.
    pub fn arithmetic(&self) -> &'static str {
        if self.tf32 { "tf32" } else { self.data_type.name() }
    }
}

/// Whether an error in making a kernel says that the kernel is at fault, and not that something around it is missing.
pub(crate) fn is_of_the_kernel(status: Status) -> bool {
    use Status::{CompilerUnavailable, DeviceUnavailable, Forked, NotReady, OutOfMemory};
    !matches!(status, CompilerUnavailable | DeviceUnavailable | Forked | NotReady | OutOfMemory)
}

/// What machine code is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Architecture {
    /// This library's own CPU backend.
    Cpu,
    /// NVIDIA compute capability, as major * 10 + minor: 90 is sm_90.
    Cuda(u32),
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Architecture::Cpu => formatter.write_str("cpu"),
            Architecture::Cuda(capability) => write!(formatter, "sm_{capability}"),
        }
    }
}
