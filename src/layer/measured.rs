//! What strategies look at: the trainer's metric, and what was seen of a seed's chunk in the epoch that ends.

use super::grafting::{self, GraftingInput, Step, Strategy};
use super::state::{SeedState, flags};
use super::telemetry::Observations;
use super::user_strategy::{Answers, Inquiry, Question, UserStrategy};
use super::{Layer, Lifecycle, Settings};
use crate::Result;
use crate::device::Stream;

/// What is known when an epoch ends.
pub(super) struct Measured<'a> {
    /// The epoch.
    pub epoch: u32,
    /// The trainer's metric for it, or NaN.
    pub metric: f64,
    /// The last one that was known before, or NaN.
    pub last_metric: f64,
    /// By seed, of this epoch.
    pub observations: &'a Observations,
    /// What the user's strategy said.
    pub answers: &'a Answers,
}

/// What a strategy says of a seed whose epochs are counted already. A fixed ramp goes on whatever is measured; for the
/// others alpha stays where it is as long as nothing is.
pub(super) fn step(seed: u32, state: &SeedState, settings: &Settings, measured: Option<&Measured<'_>>) -> Result<Step> {
    let (memory, constants) = (state.strategy_memory, &settings.grafting);
    Ok(match (Strategy::from_number(i32::from(state.strategy))?, measured) {
        (Strategy::FixedRamp, _) => grafting::fixed_ramp(state.alpha, settings.ramp_steps),
        (_, None) => Step::hold(memory, "the epoch has not ended".to_owned()),
        (Strategy::PerformanceLinked, Some(measured)) => {
            grafting::performance_linked(memory, &measured.input(seed, state), constants)
        }
        (Strategy::DriftControlled, Some(measured)) => {
            grafting::drift_controlled(memory, &measured.input(seed, state), constants)
        }
        (Strategy::GradNormGated, Some(measured)) => {
            grafting::grad_norm_gated(memory, &measured.input(seed, state), constants)
        }
        (Strategy::User, Some(measured)) => measured.answers.about(seed, state),
    })
}

/// Whether a seed's strategy is asked when an epoch ends: alpha can rise, and is not held by a pause.
pub(super) fn rises(state: &SeedState) -> bool {
    state.lifecycle == Lifecycle::Grafting && !state.has(flags::PAUSED) && state.alpha < 1.0
}

impl Measured<'_> {
    fn input(&self, seed: u32, state: &SeedState) -> GraftingInput {
        let observation = self.observations.get(seed);
        GraftingInput {
            seed,
            epoch: self.epoch,
            epochs_in_state: state.epochs_in_state,
            alpha: state.alpha,
            metric: self.metric,
            improvement: self.metric - self.last_metric,
            root_mean_square: observation.root_mean_square(),
            gradient_norm: observation.gradient_norm(),
        }
    }
}

impl Layer {
    /// Gives the trainer's metric for the running epoch, for strategies that want it; higher is better. What is not
    /// finite is no metric. The end of the epoch uses it up.
    pub fn set_metric(&mut self, metric: f64) {
        self.metric = if metric.is_finite() { metric } else { f64::NAN };
    }

    /// Sets the strategy of seeds that germinate with [`Strategy::User`]. Neither checkpoints nor copies of the layer
    /// have it; what it remembers of each seed they do.
    pub fn set_strategy(&mut self, strategy: Option<UserStrategy>) {
        self.strategy = strategy;
    }

    /// What the user's strategy must be asked before this epoch ends: the first half of [`Layer::end_epoch`], for whoever
    /// wants to ask without holding the layer. Waits for the stream if there is anything to ask.
    ///
    /// # Errors
    ///
    /// `DeviceFailed` if the telemetry cannot be read.
    pub fn inquire(&self, stream: Stream) -> Result<Inquiry> {
        let asked = |(_, state): &(u32, SeedState)| state.strategy == Strategy::User as i8 && rises(state);
        let grafting = self.state.columns().seeds_in(|state| state == Lifecycle::Grafting);
        let seeds: Vec<_> = grafting.filter(asked).collect();
        if seeds.is_empty() {
            return Ok(Inquiry::default());
        }
        let (observations, answers) = (self.telemetry.peek(stream)?, Answers::default());
        let measured = self.measured(&observations, &answers);
        let question = |(seed, state): (u32, SeedState)| {
            let counted = SeedState { epochs_in_state: state.epochs_in_state.saturating_add(1), ..state };
            let input = measured.input(seed, &counted);
            Question { input, memory: state.strategy_memory, germinations: state.germinations }
        };
        Ok(Inquiry { strategy: self.strategy.clone(), questions: seeds.into_iter().map(question).collect() })
    }

    /// What is known as the running epoch ends.
    pub(super) fn measured<'a>(&self, observations: &'a Observations, answers: &'a Answers) -> Measured<'a> {
        let (metric, last_metric) = (self.metric, self.last_metric);
        Measured { epoch: self.epoch + 1, metric, last_metric, observations, answers }
    }
}
