//! What a layer tells people and controllers: transitions, refusals, health.

use super::bank::Bank;
use super::command::number_or_null;
use super::state::flags;
use super::{Action, BreakersReport, Evidence, Layer, Lifecycle, Restoration};
use crate::compile::{Pass, Schedule};
use crate::graph::DataType;
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// A transition that took place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransitionRecord {
    /// The epoch that was ending, or running in an emergency rollback; the first is 1.
    pub epoch: u32,
    /// Which seed.
    pub seed: u32,
    /// What was asked.
    pub action: Action,
    /// The state before.
    pub from: Lifecycle,
    /// The state after.
    pub to: Lifecycle,
    /// The blueprint the seed had, or -1.
    pub blueprint: i32,
    /// What spoke for it.
    pub evidence: Evidence,
    /// Why, in the controller's words.
    pub reason: String,
    /// Why the seed was culled instead of what was asked, in the gate's words; nothing if it was not.
    #[serde(default)]
    pub culled_for: Option<String>,
}

/// A batch that was accepted when it was submitted but could not be applied when the epoch ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refusal {
    /// The commands of the batch; none of them took effect.
    pub commands: Vec<super::Command>,
    /// Which seed, which transition, and why.
    pub reason: String,
}

/// A seed whose alpha did not rise although it is GRAFTING and not paused.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Held {
    /// Which seed.
    pub seed: u32,
    /// What its strategy waits for.
    pub reason: String,
}

/// What the end of an epoch did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EpochSummary {
    /// The epoch that ended; the first is 1.
    pub epoch: u32,
    /// Transitions, in the order in which they were applied.
    pub applied: Vec<TransitionRecord>,
    /// Batches that were refused.
    pub refused: Vec<Refusal>,
    /// Seeds whose strategy held their alpha.
    pub held: Vec<Held>,
    /// Damage to the state arrays that was found and repaired, one sentence each.
    pub repaired: Vec<String>,
    /// Restores since the last summary.
    pub restored: Vec<Restoration>,
}

/// What was seen of one seed's chunk in one epoch. NaN (in JSON: null) where nothing was seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Metrics {
    /// Elements seen.
    pub count: u64,
    /// Mean of the finite elements.
    #[serde(with = "number_or_null")]
    pub mean: f64,
    /// Their variance (population).
    #[serde(with = "number_or_null")]
    pub variance: f64,
    /// Smallest.
    #[serde(with = "number_or_null")]
    pub minimum: f64,
    /// Largest.
    #[serde(with = "number_or_null")]
    pub maximum: f64,
    /// Share of elements with |x| < 1e-6.
    #[serde(with = "number_or_null")]
    pub dead_ratio: f64,
    /// Correlation of neighbouring channels, -1 to 1.
    #[serde(with = "number_or_null")]
    pub correlation: f64,
    /// Signal to noise ratio: mean² / variance.
    #[serde(with = "number_or_null")]
    pub snr: f64,
    /// Root of the sum of the squares of the output gradient's elements.
    #[serde(with = "number_or_null")]
    pub gradient_norm: f64,
    /// Elements that were not finite.
    pub non_finite: u64,
    /// Rows in which the blueprint fell back to identity.
    pub fallback_rows: u64,
    /// Mean squared error of isolated training, over the epoch's steps.
    #[serde(with = "number_or_null")]
    pub loss: f64,
}

/// One seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeedReport {
    /// Which seed.
    pub seed: u32,
    /// Its state.
    pub state: Lifecycle,
    /// Its blueprint, or -1.
    pub blueprint: i32,
    /// Its slot in the blueprint's bank, or -1.
    pub slot: i32,
    /// Epochs in this state.
    pub epochs: i16,
    /// Its blend weight.
    pub alpha: f32,
    /// Whether alpha is held.
    pub paused: bool,
    /// Whether its kernel is compiled and part of what runs.
    pub ready: bool,
    /// Whether a row ever fell back to identity since it germinated.
    pub fallback_used: bool,
    /// Whether an optimiser step ever met a gradient that was not finite since it germinated.
    pub non_finite_seen: bool,
    /// Epochs with errors since it germinated.
    pub error_count: u16,
    /// Epochs until it may be reset.
    pub embargo: u16,
    /// What was seen in the last epoch.
    pub metrics: Metrics,
}

/// The layer as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Seeds.
    pub seeds: u32,
    /// Seeds in states 1 to 6.
    pub active: u32,
    /// Seeds in TRAINING.
    pub training: u32,
    /// Seeds whose blueprint is part of the output.
    pub applied: u32,
    /// Seeds in FOSSILIZED.
    pub fossilized: u32,
    /// Bytes of device memory in the slots of seeds: what `max_seed_bytes` bounds.
    pub seed_bytes: u64,
    /// Elements seen in the last epoch that were not finite.
    pub non_finite: u64,
    /// Rows in the last epoch in which a blueprint fell back to identity.
    pub fallback_rows: u64,
}

/// How far a kernel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KernelState {
    /// It is being compiled, or will be loaded and proven when the epoch ends.
    Waiting,
    /// It is loaded and proven.
    Ready,
    /// It cannot be had.
    Failed,
}

/// A kernel that the layer runs, or that seeds wait for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelReport {
    /// What it is for.
    pub pass: Pass,
    /// The type of the rows.
    pub data_type: DataType,
    /// Whether a backward kernel computes the gradient of alpha.
    pub alpha_gradient: bool,
    /// The blueprints that it serves.
    pub blueprints: Vec<u32>,
    /// Whether launches use it now.
    pub runs: bool,
    /// How far it is.
    pub state: KernelState,
    /// How it goes about its work, as far as that is decided.
    pub schedule: Option<Schedule>,
    /// Why a better schedule does not serve, or why none does.
    pub reason: Option<String>,
}

/// The health of a layer since the last epoch's end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HealthReport {
    /// The layer's name, from its settings.
    pub layer_id: String,
    /// Epochs that have ended.
    pub epoch: u32,
    /// When this was written, in seconds since 1970.
    pub timestamp: f64,
    /// Every seed, in order.
    pub seeds: Vec<SeedReport>,
    /// The layer as a whole.
    pub totals: Totals,
    /// The kernels that run, and those that were asked for when the last epoch ended.
    pub kernels: Vec<KernelReport>,
    /// What may not begin because it failed of late.
    pub breakers: BreakersReport,
}

impl Layer {
    /// What is known of the layer since the last epoch's end.
    pub fn report(&self) -> HealthReport {
        let chunk = self.chunk();
        let mut totals = Totals { seeds: self.config.seeds, ..Totals::default() };
        let mut seeds = Vec::with_capacity(self.config.seeds as usize);
        for ((number, seed), observation) in (0..).zip(self.state.columns().iter()).zip(self.telemetry.last.iter()) {
            let metrics = observation.metrics(chunk);
            totals.active += u32::from(seed.lifecycle.is_active());
            totals.training += u32::from(seed.lifecycle == Lifecycle::Training);
            totals.applied += u32::from(seed.lifecycle.applies_blueprint());
            totals.fossilized += u32::from(seed.lifecycle == Lifecycle::Fossilized);
            let bank = usize::try_from(seed.blueprint).ok().and_then(|blueprint| self.banks.get(blueprint));
            totals.seed_bytes += bank.map_or(0, Bank::bytes_of_a_slot);
            totals.non_finite += metrics.non_finite;
            totals.fallback_rows += metrics.fallback_rows;
            seeds.push(SeedReport {
                seed: number,
                state: seed.lifecycle,
                blueprint: seed.blueprint,
                slot: seed.slot,
                epochs: seed.epochs_in_state,
                alpha: seed.alpha,
                paused: seed.has(flags::PAUSED),
                ready: seed.has(flags::READY),
                fallback_used: seed.has(flags::FALLBACK_USED),
                non_finite_seen: seed.has(flags::NON_FINITE_SEEN),
                error_count: seed.error_count,
                embargo: seed.embargo,
                metrics,
            });
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        HealthReport {
            layer_id: self.config.settings.layer_id.clone(),
            epoch: self.epoch,
            timestamp: since.map_or(0.0, |since| since.as_secs_f64()),
            seeds,
            totals,
            kernels: self.kernels.report(),
            breakers: self.breakers_report(),
        }
    }
}

impl HealthReport {
    /// As JSON. Numbers that are not finite are null.
    ///
    /// # Errors
    ///
    /// Never for reports made by a layer.
    pub fn to_json(&self) -> crate::Result<String> {
        serde_json::to_string(self)
            .map_err(|cause| crate::error!(InvalidArgument, "a report is no JSON").caused_by(cause))
    }
}
