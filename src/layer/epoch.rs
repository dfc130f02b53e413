//! Between two epochs: commands are judged when they come and applied when the epoch ends.

use super::bank::{Bank, mode};
use super::breakers::{Errors, errors};
use super::command::Batch;
use super::epoch_end::{EpochEnd, Transitions};
use super::foresight::Foresight;
use super::plan::{Plan, World};
use super::state::{Columns, SeedState, flags};
use super::telemetry::{Observation, Observations};
use super::user_strategy::Answers;
use super::{
    Action, Command, EpochSummary, Evidence, Held, Layer, Lifecycle, Settings, TransitionRecord, Verdict, transition,
};
use crate::device::{Reading, Stream};
use crate::{ErrorClass, Result, fail};
use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

/// What an epoch's end makes of the seeds and of the queue.
struct Judgement {
    plan: Plan,
    outcomes: Vec<Result<Transitions, String>>,
    held: Vec<Held>,
}

/// What of the device the end of an epoch looks at.
struct Readings {
    state: Reading,
    /// Of each bank.
    modes: Vec<Reading>,
    seen: Reading,
    /// Of each bank.
    non_finite: Vec<Reading>,
}

impl Layer {
    /// Checks commands against the table and their gates, as they will stand when this epoch ends, and queues them.
    ///
    /// Commands are applied in order to what the queue so far will have made of the seeds, so two commands for one
    /// seed are two transitions. Either all are queued or none. They take effect at [`Layer::end_epoch`].
    ///
    /// # Errors
    ///
    /// `TransitionRefused` or `CapacityExceeded`, naming the seed, the transition, the value and the threshold;
    /// `InvalidArgument` for a seed or blueprint that does not exist; `Unsupported` for a strategy that does not.
    pub fn submit<'a>(&mut self, commands: impl Into<Cow<'a, [Command]>>) -> Result<()> {
        let commands = commands.into();
        if commands.is_empty() {
            return Ok(());
        }
        let before = self.pending.take().filter(|foresight| foresight.bears(&commands, self.state.columns()));
        let (mut foresight, fits) = match before {
            Some(foresight) => (foresight, true),
            None => self.foresee()?,
        };
        let verdict = foresight.add(&commands, &self.world());
        // What does not fit now may once a kernel is compiled, so the next commands are judged anew.
        self.pending = fits.then_some(foresight);
        verdict?;
        self.enqueue(commands.into_owned());
        Ok(())
    }

    /// Ends an epoch: asks the user's strategy, reads telemetry and losses once, moves the ramps, applies the queued
    /// batches (each all or nothing, checked again against what is known now), gives slots back and swaps kernels in that
    /// became ready.
    ///
    /// # Errors
    ///
    /// `DeviceFailed` if the device cannot be read or written; `StateCorrupted` if neither copy of the state matches
    /// its checksum. A refused batch is no error: it is in the summary.
    pub fn end_epoch(&mut self, stream: Stream) -> Result<EpochSummary> {
        let answers = self.inquire(stream)?.ask();
        Ok(self.end_epoch_with(&answers, stream)?.summary())
    }

    /// The second half of [`Layer::end_epoch`]: with what the user's strategy said to [`Layer::inquire`]. An answer about
    /// a seed that has changed since holds its alpha. What is returned is told in full only when it is asked for.
    ///
    /// # Errors
    ///
    /// As [`Layer::end_epoch`].
    pub fn end_epoch_with(&mut self, answers: &Answers, stream: Stream) -> Result<EpochEnd> {
        self.end_epoch_inside(answers, stream)
            .inspect_err(|error| self.breakers.fail_layer(error.status().class(), &error.to_string()))
    }

    fn end_epoch_inside(&mut self, answers: &Answers, stream: Stream) -> Result<EpochEnd> {
        // If the end fails, the next one knows no more what was repaired in this one, and judges again.
        let foresight = self.pending.take();
        let Readings { state, seen, modes, non_finite } = self.begin_reading(stream)?;
        // While the device copies.
        let foresight = foresight.filter(|foresight| foresight.is_sure(self.state.columns()));
        let mut repaired = self.state.verify(state, stream)?;
        repaired.extend(self.verify_derived(modes, stream)?);
        let was_intact = repaired.is_empty();
        for repair in &repaired {
            self.breakers.fail_layer(ErrorClass::Memory, repair);
        }
        self.repaired.extend(repaired);
        self.take_what_was_seen(seen, non_finite, stream)?;
        self.kernels.collect(stream);
        let errors = errors(self.state.columns(), &self.telemetry.last);
        let plan = self.plan();
        self.note_failures(&errors, &plan.census);

        let undisturbed = was_intact && errors.is_empty() && self.breakers.are_closed(self.breakers.now());
        let Judgement { plan, outcomes, held } = match foresight.filter(|_| undisturbed) {
            Some(foresight) => {
                let (plan, transitions) = foresight.come_true();
                Judgement { plan, outcomes: transitions.into_iter().map(Ok).collect(), held: Vec::new() }
            }
            None => self.judge(plan, &errors, answers)?,
        };
        self.commit(plan, stream)?;
        // Only now: if the device failed before, nothing that was accepted is forgotten.
        self.epoch += 1;
        self.last_metric = if self.metric.is_nan() { self.last_metric } else { self.metric };
        self.metric = f64::NAN;
        let batches = Arc::new(std::mem::take(&mut self.queue));
        if !batches.is_empty() {
            self.spent = batches.clone();
        }
        Ok(EpochEnd {
            epoch: self.epoch,
            rolled_back: std::mem::take(&mut self.rolled_back),
            batches,
            outcomes,
            held,
            repaired: std::mem::take(&mut self.repaired),
            restored: std::mem::take(&mut self.restored),
        })
    }

    /// Judges the queue by what is known as the epoch ends.
    fn judge(&self, mut plan: Plan, errors: &[Errors], answers: &Answers) -> Result<Judgement> {
        let world = World { ends: true, ..self.world() };
        note_errors(&mut plan.columns, errors);
        let measured = self.measured(&self.telemetry.last, answers);
        let held = plan.advance(&self.config.settings, Some(&measured))?;
        let judged = self.queue.iter().map(|batch| plan.apply_recorded(&batch.commands, &world));
        let outcomes = judged.map(|outcome| outcome.map_err(|error| error.to_string())).collect();
        Ok(Judgement { plan, outcomes, held })
    }

    /// Takes a seed out at once: it is ROLLED_BACK before the next forward on the stream. Allowed from states 2 to 6.
    ///
    /// # Errors
    ///
    /// `TransitionRefused` from other states; `InvalidArgument` for a seed that does not exist.
    pub fn roll_back(&mut self, seed: u32, reason: &str, stream: Stream) -> Result<TransitionRecord> {
        if seed >= self.config.seeds {
            fail!(InvalidArgument, "there is no seed {seed}; the layer has {}", self.config.seeds);
        }
        // What was queued is judged anew: against the seed as it will be, and against what is repaired.
        self.pending = None;
        let read = self.state.read(stream)?;
        let repairs = self.state.verify(read, stream)?;
        self.repaired.extend(repairs);
        let before = self.state.columns().get(seed);
        let next = transition(before.lifecycle, Action::RollBack, |_| Ok(Verdict::Pass))
            .map_err(|error| error.context(format!("seed {seed}")))?;
        let mut columns = self.state.columns().clone();
        let epoch = self.epoch + 1;
        columns.change(seed, &before, &before.entering(next.state, epoch));
        self.replace_state(columns, stream)?;
        let record = TransitionRecord {
            epoch,
            seed,
            action: Action::RollBack,
            from: before.lifecycle,
            to: next.state,
            blueprint: before.blueprint,
            evidence: Evidence::default(),
            reason: reason.to_owned(),
            culled_for: None,
        };
        self.rolled_back.push(record.clone());
        Ok(record)
    }

    /// Puts a batch that was accepted at the end of the queue.
    pub(super) fn enqueue(&mut self, commands: Vec<Command>) {
        self.spent = Arc::default();
        self.queue.push(Batch { number: self.accepted, commands });
        self.accepted += 1;
    }

    pub(super) fn world(&self) -> World<'_> {
        World {
            settings: &self.config.settings,
            banks: &self.banks,
            kernels: &self.kernels,
            observations: &self.telemetry.last,
            breakers: &self.breakers,
            now: self.breakers.now(),
            epoch: self.epoch + 1,
            ends: false,
        }
    }

    fn plan(&self) -> Plan {
        Plan::new(self.state.columns().clone(), self.banks.len())
    }

    /// What the end of this epoch will make of the seeds, given what is queued, and whether all of that still fits. A batch
    /// that does not is reported when the epoch ends.
    fn foresee(&self) -> Result<(Foresight, bool)> {
        let (mut plan, world) = (self.plan(), self.world());
        plan.advance(&self.config.settings, None)?;
        let mut foresight = Foresight::new(plan);
        let applied = self.queue.iter().map(|Batch { commands, .. }| foresight.add(commands, &world).is_ok());
        let fits = applied.fold(true, |all, one| all & one);
        Ok((foresight, fits))
    }

    /// Begins to read what the end of an epoch looks at, in the order in which it does.
    fn begin_reading(&mut self, stream: Stream) -> Result<Readings> {
        let state = self.state.read(stream)?;
        let modes = self.banks.iter_mut().map(|bank| bank.mode.read(stream)).collect::<Result<_>>()?;
        let seen = self.telemetry.read(stream)?;
        let non_finite = self.banks.iter_mut().map(|bank| bank.non_finite.read(stream)).collect::<Result<_>>()?;
        Ok(Readings { state, modes, seen, non_finite })
    }

    /// Takes over what kernels saw and optimiser steps met.
    fn take_what_was_seen(&mut self, seen: Reading, non_finite: Vec<Reading>, stream: Stream) -> Result<()> {
        self.telemetry.end_epoch(seen, stream)?;
        let banks = self.banks.iter_mut().zip(non_finite);
        let marks = banks.map(|(bank, read)| bank.take_non_finite(read, stream)).collect::<Result<Vec<_>>>()?;
        if marks.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let columns = self.state.columns();
        for (seed, (blueprint, slot)) in (0..).zip(columns.blueprints().zip(columns.slots())) {
            let mark = usize::try_from(blueprint).ok().zip(usize::try_from(slot).ok());
            let marked =
                mark.is_some_and(|(blueprint, slot)| marks[blueprint].get(slot).is_some_and(|mark| *mark != 0));
            if marked {
                self.telemetry.note_non_finite_gradient(seed);
            }
        }
        Ok(())
    }

    /// Makes a plan real: slots, parameters, state, kernels.
    fn commit(&mut self, plan: Plan, stream: Stream) -> Result<()> {
        let running = plan.running();
        let live = plan.census.blueprints(is_live);
        let mut columns = plan.columns;
        self.kernels.request(&live, &running, &self.banks, stream)?;
        self.kernels.collect(stream);
        self.give_slots(&mut columns, stream)?;
        if self.kernels.swap(&live, &running) {
            log::debug!("layer '{}' now runs blueprints {live:?}", self.config.settings.layer_id);
        }
        columns.mark_ready(&self.kernels.current().members);
        self.replace_state(columns, stream)
    }

    /// Gives fresh slots to seeds that germinated, of those that nobody has in these columns.
    fn give_slots(&self, columns: &mut Columns, stream: Stream) -> Result<()> {
        if columns.are_placed_as(self.state.columns()) {
            return Ok(());
        }
        let capacities: Vec<_> = self.banks.iter().map(|bank| bank.arrays.capacity).collect();
        let placed = columns.place(&capacities)?;
        for (bank, placed) in self.banks.iter().zip(placed).filter(|(_, placed)| !placed.is_empty()) {
            let random_seed = |seed| germination_seed(&self.config.settings, seed, columns.get(seed).germinations);
            bank.initialize(&placed, random_seed, stream)?;
        }
        Ok(())
    }

    /// Makes these columns the state, and the modes of the slots what they say.
    pub(super) fn replace_state(&mut self, columns: Columns, stream: Stream) -> Result<()> {
        let modes = modes(&columns, &self.banks, &self.telemetry.last, &self.config.settings);
        for (bank, modes) in self.banks.iter_mut().zip(modes) {
            bank.set_modes(modes, stream)?;
        }
        self.state.replace(columns, stream)
    }
}

/// Whether the blueprint of a seed in this state must be at hand, states 1 to 7: it runs, or waits for its kernel.
pub(super) fn is_live(state: Lifecycle) -> bool {
    state.is_active() || state.applies_blueprint()
}

/// Records on each seed what went wrong with it in the epoch.
fn note_errors(columns: &mut Columns, errors: &[Errors]) {
    for &Errors { seed, fell_back, non_finite_gradient, .. } in errors {
        let mut state = columns.get(seed);
        state.error_count = state.error_count.saturating_add(1);
        state.flags |= if fell_back { flags::FALLBACK_USED } else { 0 };
        state.flags |= if non_finite_gradient { flags::NON_FINITE_SEEN } else { 0 };
        columns.set(seed, state);
    }
}

/// The mode of every slot, by bank.
pub(super) fn modes(
    columns: &Columns,
    banks: &[Bank],
    observations: &Observations,
    settings: &Settings,
) -> Vec<Vec<u8>> {
    let mut modes: Vec<_> = banks.iter().map(|bank| vec![mode::FROZEN; bank.arrays.capacity]).collect();
    for (number, seed) in columns.seeds_in(|state| state == Lifecycle::Training || state.trains_on_main_loss()) {
        let mode = match seed.lifecycle {
            Lifecycle::Training if !still_learns(&seed, &observations.get(number), settings) => continue,
            Lifecycle::Training => mode::ISOLATED,
            _ => mode::MAIN,
        };
        if let (Ok(blueprint), Ok(slot)) = (usize::try_from(seed.blueprint), usize::try_from(seed.slot)) {
            modes[blueprint][slot] = mode;
        }
    }
    modes
}

/// Whether a seed in TRAINING goes on: it has neither reached the threshold nor the epoch limit.
fn still_learns(seed: &SeedState, observation: &Observation, settings: &Settings) -> bool {
    let succeeded = observation.loss <= settings.training.loss_threshold && !observation.fell_back();
    let failed = i32::from(seed.epochs_in_state) >= i32::from(settings.training.epoch_limit);
    !(succeeded || failed)
}

/// The random seed of a germination: another one for every seed and every time, the same in every run.
fn germination_seed(settings: &Settings, seed: u32, germinations: u32) -> u64 {
    static KEY: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("kasmina 1 germination"));
    let germination = u64::from(germinations) << 32 | u64::from(seed);
    let mut hasher = blake3::Hasher::new_from_context_key(&KEY);
    hasher.update(bytemuck::cast_slice(&[settings.random_seed.to_le_bytes(), germination.to_le_bytes()]));
    hasher.finalize().as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
