//! A layer: its seeds, their state and lifecycle, their parameters, and what is seen of them.
//!
//! [`Layer`] owns everything. The hot path ([`Layer::forward`], [`Layer::backward`], [`Layer::train`],
//! [`Layer::adamw`]) takes `&self` and launches one kernel over all seeds, which reads the state arrays on the device;
//! it allocates nothing, logs nothing and waits for nothing. Everything else happens between epochs, on the host:
//! [`Layer::submit`] checks and queues commands, [`Layer::end_epoch`] applies them all at once.
//!
//! This module must know no C ABI and no tensor library; of devices it knows the trait only. It decides nothing: a
//! controller sends the commands.

mod bank;
mod breaker;
mod breakers;
mod census;
mod checkpoint;
mod command;
mod epoch;
mod epoch_end;
mod foresight;
mod gates;
mod grafting;
mod integrity;
#[cfg(test)]
mod interleavings;
mod kernel_set;
mod kernels;
mod kind;
mod ladder;
mod lifecycle;
mod loss_guard;
mod measured;
mod plan;
mod report;
mod run;
mod settings;
mod snapshot;
mod state;
mod telemetry;
mod user_strategy;

pub use breaker::{BreakerReport, BreakerState};
pub use breakers::BreakersReport;
pub use command::{Command, Evidence};
pub use epoch_end::EpochEnd;
pub use grafting::{GraftingInput, Strategy};
pub use ladder::{LadderStatistics, ladder_statistics};
pub use lifecycle::{Action, Effect, Gate, Lifecycle, Next, Verdict, transition};
pub use loss_guard::LossGuard;
pub use report::{
    EpochSummary, HealthReport, Held, KernelReport, KernelState, Metrics, Refusal, SeedReport, Totals, TransitionRecord,
};
pub use run::{AdamwStep, Backward, Forward, Observe, Train};
pub use settings::{BreakerSettings, GateSettings, GraftingSettings, MinimumEpochs, Settings, TrainingSettings};
pub use snapshot::{Restoration, Snapshot};
pub use user_strategy::{Answers, Inquiry, UserStrategy};

use crate::device::{self, Buffer, Device, DeviceKind, Stream};
use crate::graph::{Blueprint, DataType, Limits};
use crate::{Result, fail};
use bank::Bank;
use breakers::Breakers;
use command::Batch;
use foresight::Foresight;
use kernel_set::MAXIMUM_BLUEPRINTS;
use kernels::Kernels;
use state::{COLUMNS, Columns, SeedState, StateArrays};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use telemetry::Telemetry;

/// Seeds of a layer at most; ten times the design size.
const MAXIMUM_SEEDS: u32 = 1_000_000;

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
    /// `[capacity]` u8: 1 where an optimiser step met a gradient that was not finite in this epoch.
    pub non_finite: Buffer,
    /// Slots.
    pub capacity: usize,
    /// Elements of a slot.
    pub size: usize,
}

/// A layer on a device.
pub struct Layer {
    /// By which a snapshot knows its layer.
    identity: u64,
    config: LayerConfig,
    device: Arc<dyn Device>,
    /// Epochs that have ended.
    epoch: u32,
    state: StateArrays,
    telemetry: Telemetry,
    banks: Vec<Bank>,
    kernels: Kernels,
    /// Batches that wait for the epoch's end.
    queue: Vec<Batch>,
    /// How many batches were ever accepted.
    accepted: u64,
    /// Batches of an epoch that has ended, given back when the next ones come.
    spent: Arc<Vec<Batch>>,
    /// What the queue will make of the seeds, if that is known.
    pending: Option<Foresight>,
    /// Emergency rollbacks of the running epoch.
    rolled_back: Vec<TransitionRecord>,
    /// Repairs of the running epoch.
    repaired: Vec<String>,
    /// Restores that no summary has told of yet.
    restored: Vec<Restoration>,
    /// What failed of late. Neither checkpoints nor snapshots have it: time goes on.
    breakers: Breakers,
    /// The trainer's metric for the running epoch, or NaN.
    metric: f64,
    /// The last one of an epoch that has ended, or NaN.
    last_metric: f64,
    /// The strategy of seeds that germinate with [`Strategy::User`].
    strategy: Option<UserStrategy>,
    /// u64: the random seed of the settings, from which the keys of isolated training are counted on.
    random: Buffer,
    /// Steps of isolated training so far: each draws other numbers.
    training_steps: AtomicU64,
}

impl Layer {
    /// A layer of dormant seeds without blueprints.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if there are no seeds, fewer channels than seeds or more in a chunk than any blueprint has, or a
    /// setting means nothing;
    /// `TypeMismatch` if the parameter type is neither F32 nor F64; `DeviceUnavailable`, `OutOfMemory`.
    pub fn new(config: LayerConfig) -> Result<Layer> {
        let LayerConfig { hidden, seeds, device, parameter_type, ref settings } = config;
        if seeds == 0 || seeds > MAXIMUM_SEEDS || hidden < seeds as usize {
            fail!(
                InvalidArgument,
                "{hidden} channels and {seeds} seeds make no layer: a seed needs a channel, and there may be 1 to \
                 {MAXIMUM_SEEDS} seeds"
            );
        }
        let (chunk, most) = (hidden / seeds as usize, Limits::DEFAULT.elements);
        if chunk > most {
            fail!(
                InvalidArgument,
                "{hidden} channels and {seeds} seeds make chunks of {chunk}; no blueprint has more than {most} channels"
            );
        }
        if !matches!(parameter_type, DataType::F32 | DataType::F64) {
            fail!(TypeMismatch, "parameters cannot be {}; use f32 or f64", parameter_type.name());
        }
        settings.check()?;
        Layer::on(device::open(device)?, config)
    }

    /// As `new`, on this device.
    fn on(device: Arc<dyn Device>, config: LayerConfig) -> Result<Layer> {
        let LayerConfig { hidden, seeds, parameter_type, .. } = config;
        let (tf32, stream) = (config.settings.allow_tf32, Stream::default());
        let layer = Layer {
            identity: snapshot::identity(),
            state: StateArrays::new(Columns::new(seeds), &device, stream)?,
            telemetry: Telemetry::new(seeds, &device, stream)?,
            banks: Vec::new(),
            kernels: Kernels::new(device.clone(), hidden / seeds as usize, parameter_type, tf32, stream)?,
            epoch: 0,
            queue: Vec::new(),
            accepted: 0,
            spent: Arc::default(),
            pending: None,
            rolled_back: Vec::new(),
            repaired: Vec::new(),
            restored: Vec::new(),
            breakers: Breakers::new(config.settings.breakers),
            metric: f64::NAN,
            last_metric: f64::NAN,
            strategy: None,
            random: Buffer::new(&device, size_of::<u64>())?,
            training_steps: AtomicU64::new(0),
            device,
            config,
        };
        layer.device.upload(layer.random.address(), &layer.config.settings.random_seed.to_ne_bytes(), stream)?;
        // Whatever stream comes next must find the arrays filled.
        layer.device.synchronize(stream)?;
        Ok(layer)
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
        self.epoch
    }

    /// Makes a blueprint known and allocates a bank of `capacity` slots for it. Returns its index.
    ///
    /// # Errors
    ///
    /// `ShapeMismatch` if its chunk is not the layer's; `InvalidArgument` if there is no slot or there are more slots
    /// than seeds; `InvalidBlueprint` if a parameter cannot start finite in the parameter type; `CapacityExceeded`
    /// beyond 256 blueprints; `OutOfMemory`.
    pub fn add_blueprint(&mut self, blueprint: Blueprint, capacity: u32) -> Result<u32> {
        let name = &blueprint.name;
        if blueprint.chunk != self.chunk() {
            let (has, needs) = (blueprint.chunk, self.chunk());
            fail!(ShapeMismatch, "blueprint '{name}' is for chunks of {has} channels, those of the layer have {needs}");
        }
        if capacity == 0 || capacity > self.config.seeds {
            let seeds = self.config.seeds;
            fail!(InvalidArgument, "{capacity} slots for blueprint '{name}' of {seeds} seeds; give it 1 to {seeds}");
        }
        if self.banks.len() == MAXIMUM_BLUEPRINTS {
            fail!(
                CapacityExceeded,
                "the layer knows {MAXIMUM_BLUEPRINTS} blueprints already; '{name}' is one too many"
            );
        }
        self.banks.push(Bank::new(Arc::new(blueprint), capacity, self.config.parameter_type, &self.device)?);
        self.breakers.add(self.config.settings.breakers);
        self.pending = None;
        Ok(self.banks.len() as u32 - 1)
    }

    /// Whether any blueprint draws at random, so that a training pass wants a key.
    pub fn draws(&self) -> bool {
        self.banks.iter().any(|bank| bank.blueprint.draws())
    }

    /// Whether any seed is in TRAINING, so that [`Layer::train`] does something.
    pub fn trains(&self) -> bool {
        self.state.trains()
    }

    /// Whether any seed applies a blueprint. If none does, the layer's output is its input, and [`Layer::observe`] is enough.
    pub fn applies(&self) -> bool {
        self.state.applies()
    }

    /// How many blueprints the layer knows.
    pub fn blueprint_count(&self) -> u32 {
        self.banks.len() as u32
    }

    /// The blueprint of an index.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if there is none.
    pub fn blueprint(&self, index: u32) -> Result<&Blueprint> {
        Ok(&self.bank_at(index)?.blueprint)
    }

    /// The bank of a blueprint.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if there is no such blueprint.
    pub fn bank(&self, index: u32) -> Result<BankArrays> {
        Ok(self.bank_at(index)?.arrays.clone())
    }

    /// Slots of a blueprint's bank, and elements of each.
    ///
    /// # Errors
    ///
    /// As [`Layer::bank`].
    pub fn bank_shape(&self, index: u32) -> Result<[usize; 2]> {
        let arrays = &self.bank_at(index)?.arrays;
        Ok([arrays.capacity, arrays.size])
    }

    /// A state array by name: `lifecycle` i8, `blueprint` i32, `slot` i32, `alpha` f32, `epochs_in_state` i16,
    /// `strategy` i8, `last_update_epoch` u32, `embargo` u16, `error_count` u16, `flags` u8, `germinations` u32,
    /// `strategy_memory` f64, each `[seeds]`; `telemetry` f64 `[seeds, 10]`; `loss` f64 `[seeds, 2]`.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` listing the names.
    pub fn array(&self, name: &str) -> Result<Array> {
        let seeds = self.config.seeds as usize;
        let telemetry = &self.telemetry;
        match name {
            "telemetry" => {
                let shape = vec![seeds, device::telemetry::COLUMNS];
                Ok(Array { buffer: telemetry.array.clone(), data_type: DataType::F64, shape })
            }
            "loss" => Ok(Array { buffer: telemetry.loss.clone(), data_type: DataType::F64, shape: vec![seeds, 2] }),
            _ => {
                let Some(column) = COLUMNS.iter().position(|(column, _)| *column == name) else {
                    let names: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
                    fail!(
                        InvalidArgument,
                        "there is no state array '{name}'; there are {}, telemetry, loss",
                        names.join(", ")
                    );
                };
                let buffer = self.state.device_column(column)?;
                Ok(Array { buffer, data_type: COLUMNS[column].1, shape: vec![seeds] })
            }
        }
    }

    /// The state as the host keeps it, `[seeds, 4]`: lifecycle, blueprint, epochs in state, strategy.
    pub fn state(&self) -> Vec<[i32; 4]> {
        let row = |seed: SeedState| {
            [seed.lifecycle as i32, seed.blueprint, i32::from(seed.epochs_in_state), i32::from(seed.strategy)]
        };
        self.state.columns().iter().map(row).collect()
    }

    fn bank_at(&self, index: u32) -> Result<&Bank> {
        let known = self.banks.len();
        self.banks
            .get(index as usize)
            .ok_or_else(|| crate::error!(InvalidArgument, "there is no blueprint {index}; the layer knows {known}"))
    }
}
