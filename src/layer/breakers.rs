//! The circuit breakers of a layer: one for each blueprint and one for the layer, what counts as a failure, and by which
//! clock.
//!
//! A blueprint fails when its kernel cannot be had while a seed waits for it, once an epoch, and when a seed's output or
//! gradient is not finite, once an epoch for each seed. The layer fails when damage to its state is found, when an epoch
//! cannot be ended, and when a blueprint's breaker opens. See [`super::breaker`] for what follows.

use super::breaker::{Breaker, BreakerReport};
use super::census::Census;
use super::state::Columns;
use super::telemetry::Observations;
use super::{BreakerSettings, Layer, Lifecycle};
use crate::compile::is_of_the_kernel;
use crate::{Error, ErrorClass, Result, Status, fail};
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Instant;

/// The breakers of a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BreakersReport {
    /// The layer's own.
    pub layer: BreakerReport,
    /// By blueprint.
    pub blueprints: Vec<BreakerReport>,
}

/// All breakers of a layer, and their clock.
pub(super) struct Breakers {
    clock: Clock,
    layer: Breaker,
    blueprints: Vec<Breaker>,
}

/// Where the time comes from.
enum Clock {
    /// Seconds since this instant.
    Own(Instant),
    /// What the trainer said last.
    Given(f64),
}

impl Breakers {
    /// All closed; no blueprint yet.
    pub fn new(settings: BreakerSettings) -> Breakers {
        Breakers { clock: Clock::Own(Instant::now()), layer: Breaker::new(settings), blueprints: Vec::new() }
    }

    /// One more blueprint.
    pub fn add(&mut self, settings: BreakerSettings) {
        self.blueprints.push(Breaker::new(settings));
    }

    /// Seconds on the clock.
    pub fn now(&self) -> f64 {
        match self.clock {
            Clock::Own(start) => start.elapsed().as_secs_f64(),
            Clock::Given(seconds) => seconds,
        }
    }

    /// Whether a seed may germinate with a blueprint, or begin to train, while so many of it and of the layer are trying.
    ///
    /// # Errors
    ///
    /// `TransitionRefused` as [`Breaker::check`].
    pub fn check(&self, now: f64, blueprint: u32, name: &str, trying: [u32; 2]) -> Result<()> {
        let [of_blueprint, of_layer] = trying;
        self.layer.check(now, of_layer, || "the layer".to_owned())?;
        match self.blueprints.get(blueprint as usize) {
            Some(breaker) => breaker.check(now, of_blueprint, || format!("blueprint {blueprint} ('{name}')")),
            None => Ok(()),
        }
    }

    /// Whether all are closed, so that none has a say in what begins.
    pub fn are_closed(&self, now: f64) -> bool {
        self.blueprints.iter().chain([&self.layer]).all(|breaker| breaker.is_closed(now))
    }

    /// Counts a failure of the layer as a whole.
    pub fn fail_layer(&mut self, class: ErrorClass, what: &str) {
        let now = self.now();
        if self.layer.fail(now, class, what) {
            log::warn!("the circuit breaker of the layer opens; no seed germinates or begins to train. {what}");
        }
    }

    fn fail(&mut self, blueprint: u32, class: ErrorClass, what: &str) {
        let now = self.now();
        let Some(breaker) = self.blueprints.get_mut(blueprint as usize) else { return };
        if breaker.fail(now, class, what) {
            log::warn!("the circuit breaker of blueprint {blueprint} opens; no seed germinates with it. {what}");
            self.fail_layer(class, &format!("the circuit breaker of blueprint {blueprint} opened: {what}"));
        }
    }

    fn pass(&mut self, blueprints: &BTreeSet<u32>) {
        let now = self.now();
        for blueprint in blueprints {
            if let Some(breaker) = self.blueprints.get_mut(*blueprint as usize) {
                breaker.pass(now);
            }
        }
        if !blueprints.is_empty() {
            self.layer.pass(now);
        }
    }
}

impl Layer {
    /// Tells the layer's circuit breakers the time, in seconds on any clock that does not go back; from now on they go by what
    /// they are told and not by their own. For trainers that want the same decisions in every process or every run.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a time that is not finite or before the last one.
    pub fn set_time(&mut self, seconds: f64) -> Result<()> {
        if !seconds.is_finite() {
            fail!(InvalidArgument, "the time is {seconds}; it must be a finite number of seconds");
        }
        if let Clock::Given(last) = self.breakers.clock
            && seconds < last
        {
            fail!(InvalidArgument, "the time is {seconds}, before the {last} of the last call; it must not go back");
        }
        self.breakers.clock = Clock::Given(seconds);
        self.pending = None;
        Ok(())
    }

    /// How the breakers stand.
    pub(super) fn breakers_report(&self) -> BreakersReport {
        let now = self.breakers.now();
        BreakersReport {
            layer: self.breakers.layer.report(now),
            blueprints: self.breakers.blueprints.iter().map(|breaker| breaker.report(now)).collect(),
        }
    }

    /// Tells the breakers what the epoch showed, before commands are judged by them.
    pub(super) fn note_failures(&mut self, errors: &[Errors], census: &Census) {
        let columns = self.state.columns();
        let mut failures = not_finite(errors);
        failures.extend(self.missing_kernels(census));
        let failed: BTreeSet<u32> = failures.iter().map(|(blueprint, ..)| *blueprint).collect();
        let passed: BTreeSet<u32> = trials(columns, &self.telemetry.last).difference(&failed).copied().collect();
        for (blueprint, class, what) in failures {
            self.breakers.fail(blueprint, class, &what);
        }
        self.breakers.pass(&passed);
    }

    /// The blueprints that seeds wait for in vain.
    fn missing_kernels(&self, census: &Census) -> Vec<(u32, ErrorClass, String)> {
        let waiting = census.blueprints(|state| state == Lifecycle::Germinated);
        let running = census.blueprints(Lifecycle::needs_kernel);
        // One that is too much beside what runs may be none by itself: it waits for its turn.
        let is_to_blame = |error: &Error| {
            is_of_the_kernel(error.status()) && (running.is_empty() || error.status() != Status::KernelTooLarge)
        };
        let missing = waiting.difference(&running).filter_map(|blueprint| {
            let beside: BTreeSet<u32> = running.iter().chain([blueprint]).copied().collect();
            let error = self.kernels.readiness(&beside).err().filter(is_to_blame)?;
            Some((*blueprint, error.status().class(), error.to_string()))
        });
        missing.collect()
    }
}

/// What went wrong with a seed in an epoch.
pub(super) struct Errors {
    pub seed: u32,
    blueprint: u32,
    /// A row of its output was not finite.
    pub fell_back: bool,
    /// A gradient of its parameters was not finite.
    pub non_finite_gradient: bool,
}

/// The seeds whose output or gradient was not finite: of those that run or ran in this epoch, for nobody else has any.
pub(super) fn errors(columns: &Columns, observations: &Observations) -> Vec<Errors> {
    let ran = columns.numbers_in(|state| state.needs_kernel() || state == Lifecycle::RolledBack);
    let all = ran.map(|seed| (seed, observations.fell_back(seed), observations.non_finite_gradients[seed as usize]));
    let wrong = all.filter(|(_, fell_back, non_finite_gradient)| *fell_back || *non_finite_gradient);
    let errors = wrong.filter_map(|(seed, fell_back, non_finite_gradient)| {
        let blueprint = u32::try_from(columns.get(seed).blueprint).ok()?;
        Some(Errors { seed, blueprint, fell_back, non_finite_gradient })
    });
    errors.collect()
}

/// What counts against the blueprints of these seeds.
fn not_finite(errors: &[Errors]) -> Vec<(u32, ErrorClass, String)> {
    let failures = errors.iter().map(|&Errors { seed, blueprint, fell_back, .. }| {
        let of = if fell_back { "rows of its output were" } else { "a gradient of its parameters was" };
        (blueprint, ErrorClass::Execute, format!("seed {seed}: {of} not finite"))
    });
    failures.collect()
}

/// The blueprints of seeds that trained in isolation or were being grafted, and were seen doing it.
fn trials(columns: &Columns, observations: &Observations) -> BTreeSet<u32> {
    let trying = columns.seeds_in(|state| matches!(state, Lifecycle::Training | Lifecycle::Grafting));
    let tried = trying.filter(|(number, seed)| {
        let seen = observations.get(*number);
        if seed.lifecycle == Lifecycle::Training { !seen.loss.is_nan() } else { !seen.root_mean_square().is_nan() }
    });
    tried.filter_map(|(_, seed)| u32::try_from(seed.blueprint).ok()).collect()
}

#[cfg(test)]
mod tests {
    use crate::ErrorClass;
    use crate::device::{DeviceKind, Stream};
    use crate::graph::{Attributes, DataType, library};
    use crate::layer::kernels::broken::{Broken, Fault};
    use crate::layer::{Action, BreakerState, Command, Layer, LayerConfig, Settings};

    #[test]
    fn an_epoch_that_cannot_be_ended_counts_against_the_layer() {
        let (device, parameter_type, settings) = (DeviceKind::Cpu, DataType::F32, Settings::default());
        let mut layer = Layer::new(LayerConfig { hidden: 8, seeds: 2, device, parameter_type, settings }).unwrap();
        let alpha = layer.array("alpha").unwrap().buffer;
        alpha.device().upload(alpha.address(), &[1], Stream(0)).unwrap();
        layer.state.flip_host_bit(0);
        let error = layer.end_epoch(Stream(0)).unwrap_err();
        let breaker = layer.report().breakers.layer;
        assert_eq!((breaker.failures, breaker.last_class), (1, Some(ErrorClass::Memory)));
        assert_eq!(breaker.last_failure, Some(error.to_string()));
        assert_eq!(layer.epoch(), 0);
    }

    #[test]
    fn each_epoch_in_which_seeds_wait_for_a_kernel_that_cannot_be_had_counts_once_against_their_blueprint() {
        // No other test has chunks of this width: what was refused once is refused in the whole process.
        let (chunk, seeds) = (23, 4);
        let config = LayerConfig {
            hidden: chunk * seeds as usize,
            seeds,
            device: DeviceKind::Cpu,
            parameter_type: DataType::F32,
            settings: Settings::default(),
        };
        let device = Broken::new(|class| if class.programs.is_empty() { Fault::None } else { Fault::Unloadable });
        let mut layer = Layer::on(device, config).unwrap();
        layer.add_blueprint(library("residual", chunk, &Attributes::new()).unwrap(), seeds).unwrap();
        layer.set_time(0.0).unwrap();
        let germinate = |seed| Command::new(seed, Action::Germinate);
        layer.submit(&[germinate(0), germinate(1)]).unwrap();
        layer.end_epoch(Stream(0)).unwrap();
        let breaker = |layer: &Layer| layer.report().breakers.blueprints[0].clone();
        let mut counted = Vec::new();
        for _ in 0..1000 {
            layer.end_epoch(Stream(0)).unwrap();
            counted.push(breaker(&layer).failures);
            if breaker(&layer).state == BreakerState::Open {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // Nothing is counted while it is being compiled, and then one for both seeds in each epoch.
        assert_eq!(counted.iter().filter(|count| **count > 0).collect::<Vec<_>>(), [&1, &2, &3]);
        assert_eq!(breaker(&layer).last_class, Some(ErrorClass::Load));
        let refusal = layer.submit(&[germinate(2)]).unwrap_err();
        assert!(refusal.message().contains("residual") && refusal.message().contains("no room for it"), "{refusal}");
    }
}
