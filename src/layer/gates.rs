//! The gates: what must hold before a seed is promoted, and the sentence that says why it does not.
//!
//! A gate is a function of what the library knows itself, what the controller says it measured, and the thresholds.

use super::settings::{GateSettings, Settings};
use super::state::{SeedState, flags};
use super::telemetry::Observation;
use super::{Evidence, Gate, Lifecycle, Verdict};
use crate::{Result, fail};

/// Everything a gate may look at.
pub(super) struct Situation<'a> {
    /// The thresholds.
    pub settings: &'a Settings,
    /// The seed, as it will be when the epoch ends.
    pub seed: &'a SeedState,
    /// What the controller measured.
    pub evidence: &'a Evidence,
    /// What the library saw in the last epoch that ended, for those gates that look at it.
    pub observation: &'a dyn Fn() -> Observation,
    /// What is left of the layer's places.
    pub resources: &'a dyn Resources,
}

/// What a seed needs besides merit.
pub(super) trait Resources {
    /// Whether the seed can have a slot: it names a known blueprint, the bank has a slot, the layer an active
    /// place and bytes for it.
    fn slot_free(&self) -> Result<()>;
    /// Whether the circuit breakers let a seed germinate with the blueprint, or begin to train.
    fn breaker_closed(&self) -> Result<()>;
    /// Whether the kernel that trains the seed's blueprint is compiled.
    fn kernel_ready(&self) -> Result<()>;
    /// How many seeds are training.
    fn training(&self) -> u32;
}

/// Whether a gate is open, or culls the seed that asks because it did harm.
///
/// # Errors
///
/// `TransitionRefused`, or what the resource says, in a sentence naming the value and the threshold.
pub(super) fn check(gate: Gate, situation: &Situation<'_>) -> Result<Verdict> {
    let Situation { settings, seed, evidence, .. } = situation;
    if is_promotion(gate) {
        long_enough(seed, settings)?;
    }
    // Before its fallbacks are asked for: they keep a seed from being promoted, not from being culled.
    if gate == Gate::FineTuning
        && let Some(reason) = harm(seed, evidence, &settings.gates)
    {
        return Ok(Verdict::Cull(reason));
    }
    if is_promotion(gate) {
        no_fallback(seed, settings)?;
    }
    deserved(gate, situation)?;
    Ok(Verdict::Pass)
}

/// What a gate asks for besides time and clean rows.
fn deserved(gate: Gate, situation: &Situation<'_>) -> Result<()> {
    let Situation { settings, seed, evidence, observation, resources } = situation;
    match gate {
        Gate::Germination => {
            resources.slot_free()?;
            resources.breaker_closed()
        }
        Gate::Training => {
            let (training, places) = (resources.training(), settings.training.places);
            if training >= places {
                fail!(
                    TransitionRefused,
                    "{training} seeds are training and there are {places} places (training.places)"
                );
            }
            // The kernel first: why it is missing says more than that it has been missing for a while.
            resources.kernel_ready()?;
            resources.breaker_closed()
        }
        Gate::Grafting => trained(&observation(), settings.training.loss_threshold),
        Gate::Stabilization => {
            if seed.alpha < 1.0 {
                fail!(TransitionRefused, "the ramp is not complete: alpha is {} and must be 1", seed.alpha);
            }
            Ok(())
        }
        Gate::Evaluation => stable(observation().change, settings.gates.statistics_change),
        Gate::FineTuning => helps(evidence, &settings.gates),
        Gate::Fossilization => {
            at_least("improvement", evidence.improvement, settings.gates.improvement, "gates.improvement")?;
            let least = settings.gates.fossilization_stability;
            at_least("stability", evidence.stability, least, "gates.fossilization_stability")
        }
        Gate::Embargo => {
            if seed.embargo > 0 {
                fail!(TransitionRefused, "the embargo lasts {} more epochs (embargo_epochs)", seed.embargo);
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

/// What an evaluated seed is culled for, if anything. What was not given is NaN, and no harm.
fn harm(seed: &SeedState, evidence: &Evidence, gates: &GateSettings) -> Option<String> {
    let (errors, most) = (seed.error_count, gates.cull_errors);
    let (rate, highest) = (evidence.error_rate, gates.cull_error_rate);
    let (delta, lowest) = (evidence.validation_delta, gates.cull_validation_delta);
    if errors > most {
        Some(format!("{errors} errors are above {most} (gates.cull_errors)"))
    } else if rate > highest {
        Some(format!("the error rate {rate} is above {highest} (gates.cull_error_rate)"))
    } else if delta < lowest {
        Some(format!("the validation delta {delta} is below {lowest} (gates.cull_validation_delta)"))
    } else {
        None
    }
}

fn helps(evidence: &Evidence, gates: &GateSettings) -> Result<()> {
    let delta = given("validation_delta", evidence.validation_delta)?;
    let above = gates.validation_delta;
    if delta <= above {
        fail!(TransitionRefused, "the validation delta {delta} is not above {above} (gates.validation_delta)");
    }
    at_least("stability", evidence.stability, gates.evaluation_stability, "gates.evaluation_stability")
}

fn at_least(name: &str, value: f64, threshold: f64, setting: &str) -> Result<()> {
    if given(name, value)? < threshold {
        fail!(TransitionRefused, "the {name} {value} is below {threshold} ({setting})");
    }
    Ok(())
}

fn given(name: &str, value: f64) -> Result<f64> {
    if !value.is_finite() {
        fail!(TransitionRefused, "the evidence lacks a finite {name}");
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::telemetry::NOTHING;
    use crate::{Status, error};

    struct Places {
        slot: bool,
        kernel: bool,
        breaker: bool,
        training: u32,
    }

    impl Resources for Places {
        fn slot_free(&self) -> Result<()> {
            if self.slot { Ok(()) } else { Err(error!(CapacityExceeded, "no slot")) }
        }

        fn breaker_closed(&self) -> Result<()> {
            if self.breaker { Ok(()) } else { Err(error!(TransitionRefused, "open breaker")) }
        }

        fn kernel_ready(&self) -> Result<()> {
            if self.kernel { Ok(()) } else { Err(error!(TransitionRefused, "no kernel")) }
        }

        fn training(&self) -> u32 {
            self.training
        }
    }

    /// Everything a gate looks at; as it stands, every gate is open.
    struct Case {
        settings: Settings,
        seed: SeedState,
        evidence: Evidence,
        observation: Observation,
        places: Places,
    }

    fn open() -> Case {
        let observation = Observation { row: NOTHING, loss: 0.01, change: 0.2, non_finite_gradient: false };
        Case {
            settings: Settings::default(),
            seed: SeedState { epochs_in_state: 1, alpha: 1.0, error_count: 5, ..SeedState::dormant(0) },
            evidence: Evidence { validation_delta: 1e-9, stability: 0.95, improvement: 0.01, error_rate: 0.1 },
            observation,
            places: Places { slot: true, kernel: true, breaker: true, training: 1023 },
        }
    }

    /// What a gate says after a change.
    fn verdict(gate: Gate, change: impl FnOnce(&mut Case)) -> Result<Verdict> {
        let mut case = open();
        case.seed.lifecycle = Lifecycle::ALL[match gate {
            Gate::Germination => 0,
            Gate::Training => 1,
            Gate::Grafting => 2,
            Gate::Stabilization => 3,
            Gate::Evaluation => 4,
            Gate::FineTuning => 5,
            Gate::Fossilization => 6,
            Gate::Embargo => 8,
        }];
        change(&mut case);
        let Case { settings, seed, evidence, observation, places } = &case;
        check(gate, &Situation { settings, seed, evidence, observation: &|| *observation, resources: places })
    }

    /// The refusal of a gate after a change, or nothing if it is open.
    fn refusal(gate: Gate, change: impl FnOnce(&mut Case)) -> Option<crate::Error> {
        match verdict(gate, change) {
            Ok(verdict) => {
                assert_eq!(verdict, Verdict::Pass, "{gate:?}");
                None
            }
            Err(refusal) => Some(refusal),
        }
    }

    const GATES: [Gate; 8] = [
        Gate::Germination,
        Gate::Training,
        Gate::Grafting,
        Gate::Stabilization,
        Gate::Evaluation,
        Gate::FineTuning,
        Gate::Fossilization,
        Gate::Embargo,
    ];

    #[test]
    fn every_gate_is_open_at_its_threshold() {
        for gate in GATES {
            assert!(refusal(gate, |_| ()).is_none(), "{gate:?}: {:?}", refusal(gate, |_| ()));
        }
    }

    #[test]
    fn every_gate_closes_beyond_its_threshold_and_names_value_and_threshold() {
        type Change = fn(&mut Case);
        let cases: [(Gate, Change, &str); 22] = [
            (Gate::Germination, |case| case.places.slot = false, "no slot"),
            (Gate::Germination, |case| case.places.breaker = false, "open breaker"),
            (Gate::Training, |case| case.places.breaker = false, "open breaker"),
            (Gate::Training, |case| case.places.kernel = false, "no kernel"),
            (Gate::Training, |case| case.places.training = 1024, "1024 seeds are training and there are 1024 places"),
            (Gate::Grafting, |case| case.observation.loss = 0.0101, "loss 0.0101 is above 0.01"),
            (Gate::Grafting, |case| case.observation.loss = f64::NAN, "no step of isolated training"),
            (Gate::Grafting, |case| case.observation.loss = f64::INFINITY, "loss inf is above 0.01"),
            (Gate::Grafting, |case| case.observation.non_finite_gradient = true, "gradients were not finite"),
            (Gate::Grafting, |case| case.observation.row[9] = 1.0, "gradients were not finite"),
            (Gate::Stabilization, |case| case.seed.alpha = 0.99, "alpha is 0.99 and must be 1"),
            (Gate::Evaluation, |case| case.observation.change = 0.21, "moved by 0.21, above 0.2"),
            (Gate::Evaluation, |case| case.observation.change = f64::NAN, "not seen in each of the last two epochs"),
            (Gate::FineTuning, |case| case.evidence.validation_delta = 0.0, "delta 0 is not above 0 "),
            (Gate::FineTuning, |case| case.evidence.validation_delta = -0.05, "delta -0.05 is not above 0 "),
            (
                Gate::FineTuning,
                |case| case.evidence.validation_delta = f64::INFINITY,
                "lacks a finite validation_delta",
            ),
            (
                Gate::FineTuning,
                |case| case.evidence.stability = 0.79,
                "stability 0.79 is below 0.8 (gates.evaluation_stability)",
            ),
            (Gate::FineTuning, |case| case.evidence.stability = f64::NAN, "lacks a finite stability"),
            (
                Gate::Fossilization,
                |case| case.evidence.improvement = 0.009,
                "improvement 0.009 is below 0.01 (gates.improvement)",
            ),
            (
                Gate::Fossilization,
                |case| case.evidence.stability = 0.94,
                "stability 0.94 is below 0.95 (gates.fossilization_stability)",
            ),
            (Gate::Fossilization, |case| case.evidence.improvement = f64::NAN, "lacks a finite improvement"),
            (Gate::Embargo, |case| case.seed.embargo = 1, "the embargo lasts 1 more epochs (embargo_epochs)"),
        ];
        for (gate, change, words) in cases {
            let refusal = refusal(gate, change).unwrap_or_else(|| panic!("{gate:?} let '{words}' pass"));
            assert!(refusal.message().contains(words), "{gate:?}: {refusal}");
        }
    }

    #[test]
    fn an_evaluated_seed_that_did_harm_is_culled_for_what_the_reason_names_even_if_it_fell_back() {
        type Change = fn(&mut Case);
        let cases: [(Change, &str); 4] = [
            (
                |case| case.evidence.validation_delta = -0.06,
                "the validation delta -0.06 is below -0.05 (gates.cull_validation_delta)",
            ),
            (
                |case| case.evidence.validation_delta = f64::NEG_INFINITY,
                "the validation delta -inf is below -0.05 (gates.cull_validation_delta)",
            ),
            (|case| case.evidence.error_rate = 0.11, "the error rate 0.11 is above 0.1 (gates.cull_error_rate)"),
            (|case| case.seed.error_count = 6, "6 errors are above 5 (gates.cull_errors)"),
        ];
        for (change, reason) in cases {
            let culled = Verdict::Cull(reason.to_owned());
            assert_eq!(verdict(Gate::FineTuning, change).unwrap(), culled);
            let fell_back = |case: &mut Case| (change(case), case.seed.flags = flags::FALLBACK_USED).0;
            assert_eq!(verdict(Gate::FineTuning, fell_back).unwrap(), culled);
            let early = |case: &mut Case| (change(case), case.seed.epochs_in_state = 0).0;
            assert!(verdict(Gate::FineTuning, early).is_err(), "it has not been evaluated long enough to be judged");
            for gate in GATES.into_iter().filter(|gate| *gate != Gate::FineTuning) {
                assert_eq!(verdict(gate, change).unwrap(), Verdict::Pass, "{gate:?} looks at what is not its own");
            }
        }
    }

    #[test]
    fn the_error_rate_need_not_be_given() {
        assert!(refusal(Gate::FineTuning, |case| case.evidence.error_rate = f64::NAN).is_none());
    }

    #[test]
    fn promotions_wait_for_their_minimum_epochs_and_stop_at_a_fallback_unless_told_otherwise() {
        for gate in GATES {
            let promotes = !matches!(gate, Gate::Germination | Gate::Embargo);
            let early = refusal(gate, |case| case.seed.epochs_in_state = 0);
            assert_eq!(early.is_some(), promotes, "{gate:?}");
            let fell_back = refusal(gate, |case| case.seed.flags = flags::FALLBACK_USED);
            assert_eq!(fell_back.is_some(), promotes, "{gate:?}");
            let tolerated = refusal(gate, |case| {
                case.seed.flags = flags::FALLBACK_USED;
                case.settings.fallback_blocks_promotion = false;
            });
            assert!(tolerated.is_none(), "{gate:?}: {tolerated:?}");
        }
    }

    #[test]
    fn a_full_bank_keeps_its_own_status() {
        let refusal = refusal(Gate::Germination, |case| case.places.slot = false);
        assert_eq!(refusal.map(|refusal| refusal.status()), Some(Status::CapacityExceeded));
    }
}
