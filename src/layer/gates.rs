//! The gates: what must hold before a seed is promoted, and the sentence that says why it does not.
//!
//! A gate is a function of what the library knows itself, what the controller says it measured, and the thresholds.

use super::settings::{GateSettings, Settings};
use super::state::{SeedState, flags};
use super::telemetry::Observation;
use super::{Evidence, Gate, Lifecycle};
use crate::{Result, fail};

/// Everything a gate may look at.
pub(super) struct Situation<'a> {
    /// The thresholds.
    pub settings: &'a Settings,
    /// The seed, as it will be when the epoch ends.
    pub seed: &'a SeedState,
    /// What the controller measured.
    pub evidence: &'a Evidence,
    /// What the library saw in the last epoch that ended.
    pub observation: &'a Observation,
    /// What is left of the layer's places.
    pub resources: &'a dyn Resources,
}

/// What a seed needs besides merit.
pub(super) trait Resources {
    /// Whether the seed can have a slot: it names a known blueprint, the bank has a slot, the layer an active place.
    fn slot_free(&self) -> Result<()>;
    /// Whether the kernel that trains the seed's blueprint is compiled.
    fn kernel_ready(&self) -> Result<()>;
    /// How many seeds are training.
    fn training(&self) -> u32;
}

/// Whether a gate is open.
///
/// # Errors
///
/// `TransitionRefused`, or what the resource says, in a sentence naming the value and the threshold.
pub(super) fn check(gate: Gate, situation: &Situation<'_>) -> Result<()> {
    let Situation { settings, seed, evidence, observation, resources } = situation;
    if is_promotion(gate) {
        long_enough(seed, settings)?;
        no_fallback(seed, settings)?;
    }
    match gate {
        Gate::Germination => resources.slot_free(),
        Gate::Training => {
            let (training, places) = (resources.training(), settings.training.places);
            if training >= places {
                fail!(
                    TransitionRefused,
                    "{training} seeds are training and there are {places} places (training.places)"
                );
            }
            resources.kernel_ready()
        }
        Gate::Grafting => trained(observation, settings.training.loss_threshold),
        Gate::Stabilization => {
            if seed.alpha < 1.0 {
                fail!(TransitionRefused, "the ramp is not complete: alpha is {} and must be 1", seed.alpha);
            }
            Ok(())
        }
        Gate::Evaluation => stable(observation.change, settings.gates.statistics_change),
        Gate::FineTuning => helps(seed, evidence, &settings.gates),
        Gate::Fossilization => {
            at_least("improvement", evidence.improvement, settings.gates.improvement)?;
            at_least("stability", evidence.stability, settings.gates.fossilization_stability)
        }
        Gate::Embargo => {
            if seed.embargo > 0 {
                fail!(TransitionRefused, "the embargo lasts {} more epochs", seed.embargo);
            }
            Ok(())
        }
    }
}

/// Whether a gate leads onwards from a state in which the seed has to prove itself.
fn is_promotion(gate: Gate) -> bool {
    !matches!(gate, Gate::Germination | Gate::Embargo)
}

fn long_enough(seed: &SeedState, settings: &Settings) -> Result<()> {
    let minimum = match seed.lifecycle {
        Lifecycle::Germinated => settings.minimum_epochs.germinated,
        Lifecycle::Training => settings.minimum_epochs.training,
        Lifecycle::Grafting => settings.minimum_epochs.grafting,
        Lifecycle::Stabilization => settings.minimum_epochs.stabilization,
        Lifecycle::Evaluating => settings.minimum_epochs.evaluating,
        Lifecycle::FineTuning => settings.minimum_epochs.fine_tuning,
        _ => 0,
    };
    if i32::from(seed.epochs_in_state) < i32::from(minimum) {
        let (state, epochs) = (seed.lifecycle, seed.epochs_in_state);
        fail!(TransitionRefused, "{epochs} epochs in {state} are below the minimum of {minimum} (minimum_epochs)");
    }
    Ok(())
}

fn no_fallback(seed: &SeedState, settings: &Settings) -> Result<()> {
    if settings.fallback_blocks_promotion && seed.has(flags::FALLBACK_USED) {
        fail!(
            TransitionRefused,
            "rows fell back to identity because the blueprint's output was not finite, and \
             fallback_blocks_promotion is on; cancel or cull the seed"
        );
    }
    Ok(())
}

fn trained(observation: &Observation, threshold: f64) -> Result<()> {
    if observation.loss.is_nan() {
        fail!(TransitionRefused, "no step of isolated training was done in the last epoch that ended");
    }
    if observation.fell_back() || observation.non_finite_gradient {
        fail!(TransitionRefused, "gradients were not finite in the last epoch that ended");
    }
    if observation.loss > threshold {
        let loss = observation.loss;
        fail!(TransitionRefused, "the reconstruction loss {loss} is above {threshold} (training.loss_threshold)");
    }
    Ok(())
}

fn stable(change: f64, limit: f64) -> Result<()> {
    if change.is_nan() {
        fail!(TransitionRefused, "the chunk was not seen in each of the last two epochs that ended");
    }
    if change > limit {
        fail!(TransitionRefused, "the chunk's statistics moved by {change}, above {limit} (gates.statistics_change)");
    }
    Ok(())
}

fn helps(seed: &SeedState, evidence: &Evidence, gates: &GateSettings) -> Result<()> {
    let (errors, most) = (seed.error_count, gates.cull_errors);
    if errors > most {
        fail!(TransitionRefused, "{errors} errors are above {most} (gates.cull_errors); cull the seed");
    }
    let (rate, highest) = (evidence.error_rate, gates.cull_error_rate);
    if rate > highest {
        fail!(TransitionRefused, "the error rate {rate} is above {highest} (gates.cull_error_rate); cull the seed");
    }
    let delta = given("validation_delta", evidence.validation_delta)?;
    let lowest = gates.cull_validation_delta;
    if delta < lowest {
        fail!(
            TransitionRefused,
            "the validation delta {delta} is below {lowest} (gates.cull_validation_delta); cull the seed"
        );
    }
    let above = gates.validation_delta;
    if delta <= above {
        fail!(TransitionRefused, "the validation delta {delta} is not above {above} (gates.validation_delta)");
    }
    at_least("stability", evidence.stability, gates.evaluation_stability)
}

fn at_least(name: &str, value: f64, threshold: f64) -> Result<()> {
    if given(name, value)? < threshold {
        fail!(TransitionRefused, "the {name} {value} is below {threshold}");
    }
    Ok(())
}

fn given(name: &str, value: f64) -> Result<f64> {
    if !value.is_finite() {
        fail!(TransitionRefused, "the evidence lacks a finite {name}");
    }
    Ok(value)
}
