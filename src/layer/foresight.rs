//! What the end of the epoch will make of the seeds, worked out as commands come.
//!
//! Where that follows from the seeds and the commands alone, the epoch's end takes it as it is: then a command for every seed
//! costs it no more than the columns that change. Where it follows from what is only known by then as well (telemetry, kernels,
//! breakers), the commands are judged again by the same rules.

use super::Command;
use super::epoch_end::Transitions;
use super::plan::{Plan, World};
use super::state::Columns;
use crate::Result;

/// For so many seeds there must be one command in the last batch, or judging it again costs less than the checksums.
const SEEDS_OF_A_COMMAND: usize = 16;

/// The plan of an epoch's end, and what it says of the queue.
pub(super) struct Foresight {
    plan: Plan,
    /// What each batch of the queue did.
    transitions: Vec<Transitions>,
    /// Whether the columns have checksums, so that damage to them until the epoch ends is found.
    is_sealed: bool,
}

impl Foresight {
    /// Of an empty queue.
    pub fn new(plan: Plan) -> Foresight {
        Foresight { plan, transitions: Vec::new(), is_sealed: false }
    }

    /// Whether commands can be added to what was worked out before. Damage to that since must not be summed with what they make of
    /// it.
    pub fn bears(&self, commands: &[Command], state: &Columns) -> bool {
        !self.is_worth_a_seal(commands) || self.is_intact(state)
    }

    /// One more batch for the queue, or nothing and the reason.
    pub fn add(&mut self, commands: &[Command], world: &World<'_>) -> Result<()> {
        self.is_sealed = false;
        if !self.plan.is_certain() {
            return self.plan.apply(commands, world);
        }
        let transitions = self.plan.apply_recorded(commands, world)?;
        self.transitions.push(transitions);
        if self.is_worth_a_seal(commands) {
            self.plan.columns.share();
            self.is_sealed = true;
        }
        Ok(())
    }

    /// Whether the queue can only lead to that from this state, which must still be the one it began with.
    pub fn is_sure(&self, state: &Columns) -> bool {
        self.plan.is_certain() && self.is_intact(state)
    }

    /// What it says.
    pub fn come_true(self) -> (Plan, Vec<Transitions>) {
        (self.plan, self.transitions)
    }

    /// Whether the columns are to have checksums after these commands.
    fn is_worth_a_seal(&self, commands: &[Command]) -> bool {
        self.plan.is_certain() && commands.len() * SEEDS_OF_A_COMMAND >= self.plan.columns.seeds() as usize
    }

    /// Whether the columns have checksums and match them. Those that they share with the state are the state's to check.
    fn is_intact(&self, state: &Columns) -> bool {
        self.is_sealed && self.plan.columns.is_intact(Some(state))
    }
}

#[cfg(test)]
mod tests {
    use crate::compile::pace::{self, Pace};
    use crate::device::telemetry as column;
    use crate::device::{Device, DeviceKind, Stream, cpu};
    use crate::graph::{Attributes, DataType, library};
    use crate::layer::kernels::broken::{Broken, Fault};
    use crate::layer::telemetry::{self, NOTHING};
    use crate::layer::{
        Action, Command, Evidence, Layer, LayerConfig, Lifecycle, MinimumEpochs, Settings, TrainingSettings, Verdict,
        transition,
    };
    use crate::{ErrorClass, Status};
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    const STREAM: Stream = Stream(0);
    const SEEDS: u32 = 24;

    fn layer() -> Layer {
        layer_on(cpu::device(), 2)
    }

    fn layer_on(device: Arc<dyn Device>, chunk: usize) -> Layer {
        let none =
            MinimumEpochs { germinated: 0, training: 0, grafting: 0, stabilization: 0, evaluating: 0, fine_tuning: 0 };
        let settings = Settings {
            ramp_steps: 2,
            embargo_epochs: 1,
            minimum_epochs: none,
            training: TrainingSettings { loss_threshold: 1.0, ..TrainingSettings::default() },
            ..Settings::default()
        };
        let (kind, parameter_type) = (DeviceKind::Cpu, DataType::F32);
        let config =
            LayerConfig { hidden: chunk * SEEDS as usize, seeds: SEEDS, device: kind, parameter_type, settings };
        let mut layer = Layer::on(device, config).unwrap();
        for slots in [SEEDS, SEEDS / 2] {
            layer.add_blueprint(library("residual", chunk, &Attributes::new()).unwrap(), slots).unwrap();
        }
        layer.set_time(0.0).unwrap();
        layer
    }

    /// What kernels could have seen. One of 16 epochs has a row that fell back; in others losses are high or statistics move, so
    /// that gates which were open close.
    fn observe(layer: &Layer, epoch: u32) {
        let mut row = NOTHING;
        (row[column::COUNT], row[column::SQUARES]) = (8.0, if epoch % 8 < 6 { 8.0 } else { 80.0 });
        let loss = if epoch.is_multiple_of(4) { 2.0 } else { 0.5 };
        let rows = layer.state.columns().iter().zip(0..).map(|(seed, number)| {
            let fell_back = epoch % 16 == 5 && number == 3 && seed.lifecycle.needs_kernel();
            row[column::FALLBACK_ROWS] = f64::from(fell_back);
            row
        });
        let (rows, losses) =
            (telemetry::encode(&rows.collect::<Vec<_>>()), telemetry::encode(&[[loss, 1.0]; SEEDS as usize]));
        layer.device.upload(layer.telemetry.array.address(), &rows, STREAM).unwrap();
        layer.device.upload(layer.telemetry.loss.address(), &losses, STREAM).unwrap();
    }

    #[test]
    fn an_epoch_that_takes_over_what_was_foreseen_ends_as_one_that_judges_again() {
        pace::set(Pace::Instant);
        let mut came_true = [0, 0];
        for strategies in [1, 2_u32] {
            let [mut foreseeing, mut forgetful] = [layer(), layer()];
            let mut snapshots = [&foreseeing, &forgetful].map(|layer| layer.snapshot(STREAM).unwrap());
            let mut state = 1_u32;
            let mut random = |below: u32| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) % below
            };
            for epoch in 0..600 {
                for layer in [&mut foreseeing, &mut forgetful] {
                    layer.set_time(30.0 * f64::from(epoch)).unwrap();
                }
                for _ in 0..random(4) {
                    // Something that the table allows, for seeds that are alike.
                    let state = foreseeing.state.columns().get(random(SEEDS)).lifecycle;
                    let allowed = |action: &Action| transition(state, *action, |_| Ok(Verdict::Pass)).is_ok();
                    let actions: Vec<_> = Action::ALL.into_iter().filter(allowed).collect();
                    let Some(action) = actions.get(random(13) as usize % actions.len().max(1)) else { continue };
                    let alike = foreseeing.state.columns().numbers_in(|other| other == state);
                    let evidence =
                        Evidence { validation_delta: 1.0, stability: 1.0, improvement: 1.0, error_rate: 0.0 };
                    let command = |seed| Command {
                        blueprint: random(2) as i32,
                        strategy: random(strategies) as i32,
                        evidence,
                        ..Command::new(seed, *action)
                    };
                    let commands: Vec<_> = alike.take(8).map(command).collect();
                    let accepted = [&mut foreseeing, &mut forgetful].map(|layer| layer.submit(&commands));
                    let [one, other] = accepted.map(|outcome| outcome.map_err(|error| error.to_string()));
                    assert_eq!(one, other, "epoch {epoch}: {commands:?}");
                }
                let (event, seed) = (random(16), random(SEEDS));
                let layers = [&mut foreseeing, &mut forgetful].into_iter().zip(&mut snapshots);
                let outcomes = layers.map(|(layer, snapshot)| match event {
                    0 => layer.roll_back(seed, "", STREAM).is_ok(),
                    1 => layer.restore(snapshot, "", STREAM).is_ok(),
                    2..4 => layer.snapshot_into(snapshot, STREAM).is_ok(),
                    _ => true,
                });
                assert!(outcomes.collect::<Vec<_>>().windows(2).all(|pair| pair[0] == pair[1]), "epoch {epoch}");
                for layer in [&mut foreseeing, &mut forgetful] {
                    observe(layer, epoch);
                    if epoch % 16 == 11 {
                        layer.state.flip_host_bit(epoch as usize);
                    }
                }
                let kept = foreseeing
                    .pending
                    .as_ref()
                    .is_some_and(|foresight| foresight.is_sealed && foresight.plan.is_certain());
                came_true[strategies as usize - 1] += u32::from(kept);
                forgetful.pending = None;
                let [one, other] = [&mut foreseeing, &mut forgetful].map(|layer| layer.end_epoch(STREAM).unwrap());
                assert_eq!(format!("{one:?}"), format!("{other:?}"), "epoch {epoch}");
                assert!(*foreseeing.state.columns() == *forgetful.state.columns(), "epoch {epoch}");
                assert!(foreseeing.banks[0].modes == forgetful.banks[0].modes, "epoch {epoch}");
            }
        }
        assert!(came_true.iter().all(|epochs| *epochs > 50), "{came_true:?}");
    }

    #[test]
    fn a_bit_that_flips_in_what_was_foreseen_is_not_taken_over() {
        let mut layer = layer();
        let germinate = |seed| Command::new(seed, Action::Germinate);
        layer.submit((0..SEEDS).map(germinate).collect::<Vec<_>>()).unwrap();
        layer.pending.as_mut().unwrap().plan.columns.flip_bit(1, 4);
        layer.end_epoch(STREAM).unwrap();
        assert!(layer.state.columns().blueprints().all(|blueprint| blueprint == 0));
    }

    #[test]
    fn what_was_foreseen_from_damage_is_not_taken_over_after_its_repair() {
        let mut layer = layer();
        // Seed 0 germinates, though nobody asked for it.
        layer.state.flip_host_bit(0);
        let germinate = |seed| Command::new(seed, Action::Germinate);
        layer.submit((1..SEEDS).map(germinate).collect::<Vec<_>>()).unwrap();
        layer.roll_back(0, "it repairs, and refuses", STREAM).unwrap_err();
        assert_eq!(layer.end_epoch(STREAM).unwrap().repaired.len(), 1);
        assert_eq!(layer.state.columns().numbers_in(|state| state == Lifecycle::Germinated).next(), Some(1));
    }

    #[test]
    fn a_bit_that_flips_between_two_batches_is_not_taken_over() {
        for first in [0..12, 0..1] {
            let mut layer = layer();
            let germinate = |seed| Command::new(seed, Action::Germinate);
            layer.submit(first.clone().map(germinate).collect::<Vec<_>>()).unwrap();
            // The last seed germinates, though nobody asked for it.
            layer.pending.as_mut().unwrap().plan.columns.flip_bit(0, SEEDS as usize - 1);
            layer.submit((first.end..SEEDS - 1).map(germinate).collect::<Vec<_>>()).unwrap();
            let summary = layer.end_epoch(STREAM).unwrap();
            assert_eq!((summary.applied.len(), summary.refused.len()), (SEEDS as usize - 1, 0));
            assert_eq!(layer.state.columns().get(SEEDS - 1).lifecycle, Lifecycle::Dormant, "{first:?}");
        }
    }

    #[test]
    fn damage_anywhere_is_lived_with_until_the_epoch_ends() {
        let mut layer = layer();
        let commands = |action| (0..SEEDS / 2).map(|seed| Command::new(seed, action)).collect::<Vec<_>>();
        layer.submit(commands(Action::Germinate)).unwrap();
        layer.end_epoch(STREAM).unwrap();
        let intact = layer.state.columns().clone();
        for byte in 0..layer.state.memory().bytes() {
            layer.state.flip_host_bit(byte);
            // Whether it is accepted depends on what is damaged.
            let _ = layer.submit(commands(Action::Cancel));
            let _ = layer.submit(commands(Action::Reset));
            layer.report();
            layer.roll_back(SEEDS - 1, "it repairs, and refuses", STREAM).unwrap_err();
            assert!(*layer.state.columns() == intact, "byte {byte}");
            layer.queue.clear();
        }
    }

    fn all(action: Action) -> Vec<Command> {
        (0..SEEDS).map(|seed| Command::new(seed, action)).collect()
    }

    #[test]
    fn what_was_foreseen_is_refused_if_a_breaker_opens_before_the_epoch_ends() {
        let mut layer = layer();
        layer.submit(all(Action::Germinate)).unwrap();
        (0..3).for_each(|_| layer.breakers.fail_layer(ErrorClass::Memory, "a test"));
        let summary = layer.end_epoch(STREAM).unwrap();
        assert!(summary.refused[0].reason.contains("a test"), "{summary:?}");
    }

    #[test]
    fn training_that_was_foreseen_is_refused_if_its_kernel_cannot_be_loaded_when_the_epoch_ends() {
        // No other test has chunks of this width: what was refused once is refused in the whole process.
        let device = Broken::new(|class| if class.programs.is_empty() { Fault::None } else { Fault::Unloadable });
        let mut layer = layer_on(device, 29);
        layer.submit(all(Action::Germinate)).unwrap();
        pace::set(Pace::Stuck);
        layer.end_epoch(STREAM).unwrap();
        pace::set(Pace::Instant);
        layer.submit(all(Action::StartTraining)).unwrap();
        let summary = layer.end_epoch(STREAM).unwrap();
        assert!(summary.refused[0].reason.contains("kernel is not ready"), "{summary:?}");
    }

    #[test]
    fn slots_are_nobodys_where_their_parameters_could_not_be_written() {
        let device = Broken::new(|_| Fault::None);
        let mut layer = layer_on(device.clone(), 3);
        layer.submit(all(Action::Germinate)).unwrap();
        // No other upload is of this size: four parameters of each slot.
        device.refused_bytes.store(4 * 4 * SEEDS as usize, Ordering::SeqCst);
        assert_eq!(layer.end_epoch(STREAM).unwrap_err().status(), Status::DeviceFailed);
        device.refused_bytes.store(usize::MAX, Ordering::SeqCst);
        layer.end_epoch(STREAM).unwrap();
        let seeds = (0..SEEDS).map(|seed| layer.state.columns().get(seed));
        assert!(seeds.into_iter().all(|seed| seed.lifecycle == Lifecycle::Germinated && seed.slot >= 0));
    }
}
