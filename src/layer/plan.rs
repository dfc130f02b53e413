//! What a list of commands would make of the seeds: the table and the gates applied to a copy of the state.
//!
//! Both `submit` and the end of an epoch go through here, so a command is judged twice by the same code. Nothing here
//! touches a device.

use super::bank::Bank;
use super::breakers::Breakers;
use super::census::Census;
use super::epoch_end::Transitions;
use super::gates::{self, Resources, Situation};
use super::kernels::Kernels;
use super::measured::{self, Measured};
use super::settings::Settings;
use super::state::{Columns, SeedState, flags};
use super::telemetry::Observations;
use super::{Command, Effect, Gate, Held, Lifecycle, Strategy, grafting, transition};
use crate::{Error, Result, error, fail};
use std::collections::BTreeSet;

/// What commands are judged by.
pub(super) struct World<'a> {
    pub settings: &'a Settings,
    pub banks: &'a [Bank],
    pub kernels: &'a Kernels,
    pub observations: &'a Observations,
    pub breakers: &'a Breakers,
    /// The time on the breakers' clock.
    pub now: f64,
    /// The epoch at whose end the commands take effect.
    pub epoch: u32,
    /// Whether it ends now, so that a kernel that is only compiled comes too late.
    pub ends: bool,
}

/// The state as it will be, and how many seeds are what in it.
pub(super) struct Plan {
    pub columns: Columns,
    pub census: Census,
    /// See [`Plan::is_certain`].
    certain: bool,
}

impl Plan {
    /// A plan in which nothing happens yet.
    pub fn new(columns: Columns, blueprints: usize) -> Plan {
        Plan { census: Census::of(&columns, blueprints), columns, certain: true }
    }

    /// Whether all of it follows from the seeds and the commands alone, given that no breaker is open by the time it is made real:
    /// then it is the same however often it is worked out.
    pub fn is_certain(&self) -> bool {
        self.certain
    }

    /// The end of an epoch as far as no command is needed for it: epochs pass, embargoes run down, alphas rise. Returns
    /// whose alpha does not. Before the epoch has ended, nothing is measured.
    pub fn advance(&mut self, settings: &Settings, measured: Option<&Measured<'_>>) -> Result<Vec<Held>> {
        self.columns.pass_epoch();
        let mut held = Vec::new();
        let grafting: Vec<_> = self.columns.seeds_in(|state| state == Lifecycle::Grafting).collect();
        for (seed, mut state) in grafting.into_iter().filter(|(_, state)| measured::rises(state)) {
            self.certain &= state.strategy == Strategy::FixedRamp as i8;
            let step = measured::step(seed, &state, settings, measured)?;
            state.alpha = grafting::raised(state.alpha, step.increment);
            state.strategy_memory = step.memory;
            held.extend(step.held.map(|reason| Held { seed, reason }));
            self.columns.set(seed, state);
        }
        Ok(held)
    }

    /// Applies a batch in order: all of it, or nothing and the reason.
    pub fn apply(&mut self, commands: &[Command], world: &World<'_>) -> Result<()> {
        self.apply_each(commands, world, |_, _| ())
    }

    /// The same, and returns what took place.
    pub fn apply_recorded(&mut self, commands: &[Command], world: &World<'_>) -> Result<Transitions> {
        let mut transitions = Transitions::with_capacity(commands.len());
        self.apply_each(commands, world, |[before, after], culled_for| {
            let blueprint = before.blueprint.max(after.blueprint);
            transitions.push(before.lifecycle, after.lifecycle, blueprint, culled_for);
        })?;
        Ok(transitions)
    }

    /// Applies a batch, and tells of each command what it did: the seed before and after, and why it was culled if it was.
    fn apply_each(
        &mut self,
        commands: &[Command],
        world: &World<'_>,
        mut tell: impl FnMut([&SeedState; 2], Option<String>),
    ) -> Result<()> {
        let mut undo = Vec::with_capacity(commands.len());
        for command in commands {
            match self.step(command, world) {
                Ok((before, after, culled_for)) => {
                    tell([&before, &after], culled_for);
                    undo.push(before);
                }
                Err(error) => {
                    for (command, before) in commands.iter().zip(undo).rev() {
                        let after = self.columns.get(command.seed);
                        self.put(command.seed, &after, before);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The blueprints of seeds in states 2 to 7: those whose kernel must run.
    pub fn running(&self) -> BTreeSet<u32> {
        self.census.blueprints(Lifecycle::needs_kernel)
    }

    /// Bytes of device memory in the slots of seeds.
    fn bytes_held(&self, banks: &[Bank]) -> u64 {
        let held = |(blueprint, bank): (u32, &Bank)| {
            u64::from(self.census.seeds_with(blueprint, |_| true)) * bank.bytes_of_a_slot()
        };
        (0..).zip(banks).map(held).sum()
    }

    /// Applies one command. Returns the seed as it was and as it is, and why it was culled if it was.
    fn step(&mut self, command: &Command, world: &World<'_>) -> Result<(SeedState, SeedState, Option<String>)> {
        let seed = command.seed;
        if seed >= self.columns.seeds() {
            fail!(InvalidArgument, "there is no seed {seed}; the layer has {}", self.columns.seeds());
        }
        let before = self.columns.get(seed);
        let refused =
            |error: Error| error.context(format!("seed {seed} cannot {} from {}", command.action, before.lifecycle));
        let mut certain = true;
        let next = transition(before.lifecycle, command.action, |gate| {
            certain = match gate {
                Gate::Germination => world.breakers.are_closed(world.now),
                Gate::Training | Gate::Grafting | Gate::Evaluation => false,
                Gate::Stabilization | Gate::FineTuning | Gate::Fossilization | Gate::Embargo => true,
            };
            let situation = Situation {
                settings: world.settings,
                seed: &before,
                evidence: &command.evidence,
                observation: &|| world.observations.get(seed),
                resources: &Needs { plan: self, world, command, seed: &before },
            };
            gates::check(gate, &situation)
        })
        .map_err(refused)?;
        self.certain &= certain;
        let moves = next.state != before.lifecycle;
        let mut after = if moves { before.entering(next.state, world.epoch) } else { before };
        match next.effect {
            Effect::None => {}
            Effect::TakeSlot => {
                after.blueprint = command.blueprint;
                after.strategy = command.strategy as i8;
                after.strategy_memory = 0.0;
                after.germinations = before.germinations.wrapping_add(1);
            }
            Effect::ReleaseSlot => {
                after = SeedState { last_update_epoch: world.epoch, ..SeedState::dormant(before.germinations) };
            }
            Effect::BeginEmbargo => after.embargo = world.settings.embargo_epochs,
            Effect::Pause => after.flags |= flags::PAUSED,
            Effect::Resume => after.flags &= !flags::PAUSED,
        }
        self.put(seed, &before, after);
        Ok((before, after, next.culled_for))
    }

    /// Makes a seed another one.
    fn put(&mut self, seed: u32, before: &SeedState, after: SeedState) {
        self.census.remove(before.lifecycle, before.blueprint);
        self.census.add(after.lifecycle, after.blueprint);
        self.columns.change(seed, before, &after);
    }
}

/// What one command needs besides merit.
struct Needs<'a> {
    plan: &'a Plan,
    world: &'a World<'a>,
    command: &'a Command,
    seed: &'a SeedState,
}

impl Resources for Needs<'_> {
    fn slot_free(&self) -> Result<()> {
        Strategy::from_number(self.command.strategy)?;
        let index = self.command.blueprint;
        let (banks, plan) = (self.world.banks, self.plan);
        let Some(bank) = usize::try_from(index).ok().and_then(|index| banks.get(index)) else {
            fail!(InvalidArgument, "there is no blueprint {index}; the layer knows {}", banks.len());
        };
        let (capacity, name) = (bank.arrays.capacity, &bank.blueprint.name);
        if plan.census.seeds_with(index as u32, |_| true) as usize >= capacity {
            fail!(
                CapacityExceeded,
                "all {capacity} slots of bank {index} (blueprint '{name}') are taken; reset a seed or give it more slots"
            );
        }
        let (active, most) = (plan.census.seeds(Lifecycle::is_active), self.world.settings.max_active_seeds);
        if active >= most {
            fail!(CapacityExceeded, "{active} seeds are active and {most} may be (max_active_seeds)");
        }
        let Some(most) = self.world.settings.max_seed_bytes else { return Ok(()) };
        let needed = bank.bytes_of_a_slot();
        let left = most.saturating_sub(plan.bytes_held(banks));
        if needed > left {
            fail!(
                CapacityExceeded,
                "a seed of blueprint '{name}' holds {needed} bytes, and of {most} bytes {left} are left (max_seed_bytes); reset \
                 a seed or choose a smaller blueprint"
            );
        }
        Ok(())
    }

    fn breaker_closed(&self) -> Result<()> {
        // A seed that has germinated is one of those that try already.
        let (blueprint, germinates) = match self.seed.lifecycle {
            Lifecycle::Dormant => (self.command.blueprint, true),
            _ => (self.seed.blueprint, false),
        };
        let Some(bank) = usize::try_from(blueprint).ok().and_then(|index| self.world.banks.get(index)) else {
            return Ok(());
        };
        // Those that have yet to prove themselves.
        let others = |state| germinates && matches!(state, Lifecycle::Germinated | Lifecycle::Training);
        let census = &self.plan.census;
        let trying = [census.seeds_with(blueprint as u32, others), census.seeds(others)];
        self.world.breakers.check(self.world.now, blueprint as u32, &bank.blueprint.name, trying)
    }

    fn kernel_ready(&self) -> Result<()> {
        let mut blueprints = self.plan.running();
        blueprints.extend(u32::try_from(self.seed.blueprint).ok());
        let kernels = self.world.kernels;
        let verdict = if self.world.ends { kernels.loaded(&blueprints) } else { kernels.readiness(&blueprints) };
        verdict.map_err(|cause| error!(TransitionRefused, "its kernel is not ready").caused_by(cause))
    }

    fn training(&self) -> u32 {
        self.plan.census.seeds(|state| state == Lifecycle::Training)
    }
}
