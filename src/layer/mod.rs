//! A layer: its seeds, their state and lifecycle, their parameters, and what is seen of them.
//!
//! [`Layer`] owns everything. The hot path ([`Layer::forward`], [`Layer::backward`], [`Layer::train`],
//! [`Layer::adamw`]) takes `&self` and launches one kernel over all seeds, which reads the state arrays on the device;
//! it allocates nothing, logs nothing and waits for nothing. Everything else happens between epochs, on the host:
//! [`Layer::submit`] checks and queues commands, [`Layer::end_epoch`] applies them all at once.
//!
//! This module must know no C ABI and no tensor library; of devices it knows the trait only. It decides nothing: a
//! controller sends the commands.

mod command;
mod lifecycle;
mod report;
mod run;
mod settings;

pub use command::{Command, Evidence};
pub use lifecycle::{Action, Effect, Gate, Lifecycle, Next, transition};
pub use report::{EpochSummary, HealthReport, Metrics, Refusal, SeedReport, Totals, TransitionRecord};
pub use run::{AdamwStep, Backward, Forward, Train};
pub use settings::{GateSettings, MinimumEpochs, Settings, TrainingSettings};

use crate::Result;
use crate::device::{Buffer, DeviceKind, Stream};
use crate::fail;
use crate::graph::{Blueprint, DataType};
use std::path::Path;

/// What a layer is made from.
#[derive(Clone, Debug)]
pub struct LayerConfig {
    /// Channels of a row.
    pub hidden: usize,
    /// Seeds; each has a chunk of `hidden / seeds` channels, and the channels left over are identity.
    pub seeds: u32,
    /// Where the layer lives.
    pub device: DeviceKind,
    /// Type of parameters and moments: `F32` for f32, f16 and bf16 rows, `F64` for f64 rows.
    pub parameter_type: DataType,
    /// Everything else.
    pub settings: Settings,
}

/// A state array on the device, shared with the host: it stays valid for as long as anyone holds the buffer.
#[derive(Clone)]
pub struct Array {
    /// The memory; dense.
    pub buffer: Buffer,
    /// Type of the elements.
    pub data_type: DataType,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// The arrays of one blueprint's bank, shared with the host. Slots are handed out to seeds at germination.
#[derive(Clone)]
pub struct BankArrays {
    /// `[capacity, size]` of the parameter type.
    pub parameters: Buffer,
    /// `[capacity, size]` of the parameter type: running mean of the gradient.
    pub first_moment: Buffer,
    /// `[capacity, size]` of the parameter type: running mean of its square.
    pub second_moment: Buffer,
    /// `[capacity]` u32: optimiser steps of each slot since its germination.
    pub steps: Buffer,
    /// `[capacity]` u8: 0 frozen or free, 1 trains on the main loss, 2 trains in isolation.
    pub mode: Buffer,
    /// Slots.
    pub capacity: usize,
    /// Elements of a slot.
    pub size: usize,
}

/// A layer on a device.
pub struct Layer {
    config: LayerConfig,
}

impl Layer {
    /// A layer of dormant seeds without blueprints.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if there are no seeds or fewer channels than seeds, or a setting means nothing;
    /// `TypeMismatch` if the parameter type is neither F32 nor F64; `DeviceUnavailable`, `OutOfMemory`.
    pub fn new(config: LayerConfig) -> Result<Layer> {
        fail!(Unsupported, "layers of {} seeds cannot be made yet", config.seeds)
    }

    /// What the layer was made from.
    pub fn config(&self) -> &LayerConfig {
        &self.config
    }

    /// Channels of a seed's chunk.
    pub fn chunk(&self) -> usize {
        self.config.hidden / self.config.seeds as usize
    }

    /// Epochs that have ended.
    pub fn epoch(&self) -> u32 {
        0
    }

    /// Makes a blueprint known and allocates a bank of `capacity` slots for it. Returns its index.
    ///
    /// # Errors
    ///
    /// `ShapeMismatch` if its chunk is not the layer's; `CapacityExceeded` beyond 256 blueprints or if capacity is 0;
    /// `InvalidArgument` if this structure is known already (the message gives its index); `OutOfMemory`.
    pub fn add_blueprint(&mut self, blueprint: Blueprint, capacity: u32) -> Result<u32> {
        fail!(Unsupported, "blueprint '{}' cannot be given {capacity} slots yet", blueprint.name)
    }

    /// How many blueprints the layer knows.
    pub fn blueprint_count(&self) -> u32 {
        0
    }

    /// The blueprint of an index.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if there is none.
    pub fn blueprint(&self, index: u32) -> Result<&Blueprint> {
        fail!(InvalidArgument, "there is no blueprint {index}")
    }

    /// The bank of a blueprint.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if there is no such blueprint.
    pub fn bank(&self, index: u32) -> Result<BankArrays> {
        fail!(InvalidArgument, "there is no blueprint {index}")
    }

    /// A state array by name: `lifecycle` i8, `blueprint` i32, `slot` i32, `alpha` f32, `epochs_in_state` i16,
    /// `strategy` i8, `last_update_epoch` u32, `embargo` u16, `error_count` u16, `flags` u8, `germinations` u32, each
    /// `[seeds]`; `telemetry` f64 `[seeds, 10]`; `loss` f64 `[seeds, 2]`.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` listing the names.
    pub fn array(&self, name: &str) -> Result<Array> {
        fail!(InvalidArgument, "there is no state array '{name}'")
    }

    /// The state as the host keeps it, `[seeds, 4]`: lifecycle, blueprint, epochs in state, strategy.
    pub fn state(&self) -> Vec<[i32; 4]> {
        Vec::new()
    }

    /// Checks commands against the table and their gates, as they will stand when this epoch ends, and queues them.
    ///
    /// Commands are applied in order to what the queue so far will have made of the seeds, so two commands for one
    /// seed are two transitions. Either all are queued or none. They take effect at [`Layer::end_epoch`].
    ///
    /// # Errors
    ///
    /// `TransitionRefused` or `CapacityExceeded`, naming the seed, the transition, the value and the threshold;
    /// `InvalidArgument` for a seed or blueprint that does not exist; `Unsupported` for a strategy that does not.
    pub fn submit(&mut self, commands: &[Command]) -> Result<()> {
        fail!(Unsupported, "{} commands cannot be taken yet", commands.len())
    }

    /// Ends an epoch: reads telemetry and losses once, moves the ramps, applies the queued batches (each all or
    /// nothing, checked again against what is known now), gives slots back and swaps kernels in that became ready.
    ///
    /// # Errors
    ///
    /// `DeviceFailed` if the device cannot be read or written; `StateCorrupted` if neither copy of the state matches
    /// its checksum. A refused batch is no error: it is in the summary.
    pub fn end_epoch(&mut self, stream: Stream) -> Result<EpochSummary> {
        fail!(Unsupported, "epochs cannot end yet on {stream:?}")
    }

    /// Takes a seed out at once: it is ROLLED_BACK before the next forward on the stream. Allowed from states 2 to 6.
    ///
    /// # Errors
    ///
    /// `TransitionRefused` from other states; `InvalidArgument` for a seed that does not exist.
    pub fn roll_back(&mut self, seed: u32, reason: &str, stream: Stream) -> Result<TransitionRecord> {
        fail!(Unsupported, "seed {seed} cannot be rolled back yet ({reason}, {stream:?})")
    }

    /// What is known of the layer since the last epoch's end.
    pub fn report(&self) -> Result<HealthReport> {
        fail!(Unsupported, "there is no report yet")
    }

    /// The whole layer as a checkpoint, after all work on the stream.
    ///
    /// # Errors
    ///
    /// `DeviceFailed` if the device cannot be read.
    pub fn to_bytes(&self, stream: Stream) -> Result<Vec<u8>> {
        fail!(Unsupported, "layers cannot be saved yet on {stream:?}")
    }

    /// A layer from a checkpoint, on any device. Any bytes give a layer or an error.
    ///
    /// # Errors
    ///
    /// `FileCorrupted` if the bytes are damaged or not a checkpoint; `FileTooNew` if a newer version wrote them.
    pub fn from_bytes(bytes: &[u8], device: DeviceKind) -> Result<Layer> {
        fail!(Unsupported, "a checkpoint of {} bytes cannot be loaded on {device:?} yet", bytes.len())
    }

    /// Writes a checkpoint. A file that was there before is replaced at once or not at all.
    ///
    /// # Errors
    ///
    /// `StorageFailed` naming the path, or as [`Layer::to_bytes`].
    pub fn save(&self, path: &Path, stream: Stream) -> Result<()> {
        fail!(Unsupported, "layers cannot be saved to {} yet on {stream:?}", path.display())
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    ///
    /// `StorageFailed` naming the path, or as [`Layer::from_bytes`].
    pub fn load(path: &Path, device: DeviceKind) -> Result<Layer> {
        fail!(Unsupported, "layers cannot be loaded from {} on {device:?} yet", path.display())
    }
}
