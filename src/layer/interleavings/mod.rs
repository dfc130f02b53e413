//! Every interleaving of commands, epoch ends, finished compiles, rollbacks and checkpoints, for a layer of one or two
//! seeds: the real layer walks through every state that a [`model`] of the rules has, along every edge, and must agree with
//! it everywhere.

mod model;

use super::bank::mode;
use super::state::flags;
use super::*;
use crate::compile::pace::{self, Pace};
use crate::device::telemetry as column;
use crate::graph::{Attributes, library};
use model::{Event, Model, RAMP, Request, Rules, Seed, Seen, runs};
use std::collections::{BTreeSet, HashMap, VecDeque};

const STREAM: Stream = Stream(0);

/// A real layer, and the model it must agree with.
struct Subject {
    layer: Layer,
    model: Model,
    rules: Rules,
    /// Emergency rollbacks that the next epoch's end must report.
    rolled_back: usize,
}

impl Subject {
    fn new(rules: Rules) -> Subject {
        let settings = Settings {
            max_active_seeds: rules.most_active as u32,
            embargo_epochs: 1,
            ramp_steps: RAMP.into(),
            // The model counts no errors.
            gates: GateSettings { cull_errors: u16::MAX, ..GateSettings::default() },
            training: TrainingSettings { places: rules.places as u32, ..TrainingSettings::default() },
            // The model knows no time.
            breakers: BreakerSettings { failures: 0, ..BreakerSettings::default() },
            ..Settings::default()
        };
        let (hidden, device) = (2 * rules.seeds as usize, DeviceKind::Cpu);
        let config = LayerConfig { hidden, seeds: rules.seeds, device, parameter_type: DataType::F32, settings };
        let mut layer = Layer::new(config).unwrap();
        layer.add_blueprint(library("residual", 2, &Attributes::new()).unwrap(), rules.slots as u32).unwrap();
        load_identity(&mut layer);
        Subject { layer, model: Model::new(&rules), rules, rolled_back: 0 }
    }

    /// Lets the event happen to both. Returns whether it was accepted.
    fn meet(&mut self, event: &Event) -> bool {
        let expected = self.model.after(event, &self.rules);
        let (queued, columns) = (self.layer.queue.len(), self.layer.state.columns().clone());
        pace::set(if self.model.kernels.stalled { Pace::Stuck } else { Pace::Instant });
        let outcome = match event {
            Event::Submit(batch) => self.layer.submit(commands(batch)),
            Event::EndEpoch(seen) => self.end_epoch(*seen),
            Event::RollBack(seed) => {
                let outcome = self.layer.roll_back(*seed, "a test", STREAM).map(drop);
                self.rolled_back += usize::from(outcome.is_ok());
                outcome
            }
            Event::Stall(_) => Ok(()),
            Event::Reload => self.reload(),
        };
        let Some(expected) = expected else {
            assert!(outcome.is_err(), "{event:?} should have been refused in {:?}", self.model);
            assert_eq!(self.layer.queue.len(), queued, "what was refused is queued");
            assert!(*self.layer.state.columns() == columns, "what was refused changed a seed");
            return false;
        };
        if let Err(error) = outcome {
            panic!("{event:?} should have been accepted in {:?}: {error}", self.model);
        }
        self.model = expected;
        pace::set(if self.model.kernels.stalled { Pace::Stuck } else { Pace::Instant });
        self.compare(event);
        true
    }

    fn end_epoch(&mut self, seen: Seen) -> Result<()> {
        let seeds = self.rules.seeds as usize;
        if seen != Seen::Nothing {
            let mut row = telemetry::NOTHING;
            (row[column::COUNT], row[column::SQUARES]) = (8.0, 8.0);
            row[column::FALLBACK_ROWS] = f64::from(seen == Seen::FellBack);
            let (rows, losses) = (telemetry::encode(&vec![row; seeds]), telemetry::encode(&vec![[0.005, 1.0]; seeds]));
            self.layer.device.upload(self.layer.telemetry.array.address(), &rows, STREAM)?;
            self.layer.device.upload(self.layer.telemetry.loss.address(), &losses, STREAM)?;
        }
        let accepted: Vec<_> = self.layer.queue.iter().flat_map(|batch| batch.commands.clone()).collect();
        let summary = self.layer.end_epoch(STREAM)?;
        let (reported, emergencies) = summary.applied.split_at(self.rolled_back);
        for record in &summary.applied {
            let instead = record.to == Lifecycle::Culled && record.action != Action::Cull;
            assert_eq!(record.culled_for.is_some(), instead, "{record:?}");
        }
        assert!(reported.iter().all(|record| record.action == Action::RollBack && record.reason == "a test"));
        let applied = emergencies.iter().map(|record| (record.seed, record.action));
        let refused = summary.refused.iter().flat_map(|batch| &batch.commands).map(|c| (c.seed, c.action));
        let (mut once, mut queued): (Vec<_>, Vec<_>) =
            (applied.chain(refused).collect(), accepted.iter().map(|c| (c.seed, c.action)).collect());
        once.sort_by_key(|(seed, action)| (*seed, *action as i32));
        queued.sort_by_key(|(seed, action)| (*seed, *action as i32));
        assert_eq!(once, queued, "an accepted command was lost, applied twice, or neither applied nor refused");
        self.rolled_back = 0;
        Ok(())
    }

    fn reload(&mut self) -> Result<()> {
        let bytes = self.layer.to_bytes(STREAM)?;
        self.layer = Layer::from_bytes(&bytes, DeviceKind::Cpu)?;
        assert!(self.layer.to_bytes(STREAM)? == bytes, "a checkpoint is not what it was made from");
        load_identity(&mut self.layer);
        Ok(())
    }

    /// The layer is as the model says, and no invariant is broken.
    fn compare(&mut self, event: &Event) {
        let layer = &mut self.layer;
        let columns = layer.state.columns().clone();
        let mut slots = BTreeSet::new();
        for (seed, (real, model)) in columns.iter().zip(&self.model.seeds).enumerate() {
            let found = Seed {
                state: real.lifecycle,
                age: real.epochs_in_state.min(1) as u8,
                alpha: (real.alpha * f32::from(RAMP)) as u8,
                paused: real.has(flags::PAUSED),
                fell_back: real.has(flags::FALLBACK_USED),
                embargo: real.embargo as u8,
            };
            assert_eq!(found, *model, "seed {seed} after {event:?}, of {:?}", self.model);

            let dormant = real.lifecycle == Lifecycle::Dormant;
            assert_eq!(dormant, (real.blueprint, real.slot) == (-1, -1), "a seed has a slot unless it is dormant");
            assert!((0.0..=1.0).contains(&real.alpha), "alpha is in 0 to 1");
            if let Ok(slot) = u32::try_from(real.slot) {
                assert!(slots.insert(slot), "no two seeds have one slot");
                let trains = layer.banks[0].modes[slot as usize] == mode::MAIN;
                assert_eq!(trains, real.lifecycle.trains_on_main_loss(), "what the main loss trains is 3 and 6");
                let alone = layer.banks[0].modes[slot as usize] == mode::ISOLATED;
                assert!(!alone || real.lifecycle == Lifecycle::Training, "only 2 trains in isolation");
            }
        }
        assert!(slots.last().is_none_or(|slot| *slot < self.rules.slots as u32), "slots are those of the bank");
        if self.model.seeds.iter().any(|seed| runs(seed.state)) {
            assert_eq!(layer.kernels.current().members, [0], "what runs is in the kernels that run");
        }
        assert_eq!(layer.trains(), self.model.seeds.iter().any(|seed| seed.state == Lifecycle::Training));
        assert_eq!(layer.applies(), self.model.seeds.iter().any(|seed| seed.state.applies_blueprint()));
        let read = layer.state.read(STREAM).unwrap();
        assert_eq!(layer.state.verify(read, STREAM).unwrap(), Vec::<String>::new(), "host and device agree");
    }
}

/// Loads what runs without any blueprint, which the model takes for granted.
fn load_identity(layer: &mut Layer) {
    let running = census::Census::of(layer.state.columns(), 1).blueprints(Lifecycle::needs_kernel);
    layer.kernels.swap_at_once(&BTreeSet::new(), &layer.banks, STREAM).unwrap();
    for kind in layer.kernels.kinds() {
        layer.kernels.current().kernel(kind, STREAM).unwrap();
    }
    layer.kernels.swap_at_once(&running, &layer.banks, STREAM).unwrap();
}

fn commands(batch: &[Request]) -> Vec<Command> {
    let command = |request: &Request| {
        let validation_delta = if request.harmed { -0.1 } else { 0.1 };
        let evidence = Evidence { validation_delta, stability: 1.0, improvement: 0.1, error_rate: 0.0 };
        Command { evidence, ..Command::new(request.seed, request.action) }
    };
    batch.iter().map(command).collect()
}

/// The states that were met, and what is still to be tried in each.
#[derive(Default)]
struct Map {
    numbers: HashMap<Model, usize>,
    untried: Vec<Vec<Event>>,
    ways: Vec<Vec<(Event, usize)>>,
    tried: usize,
}

impl Map {
    fn place(&mut self, model: &Model, rules: &Rules) -> usize {
        let next = self.numbers.len();
        let place = *self.numbers.entry(model.told_apart()).or_insert(next);
        if place == next {
            self.untried.push(model.events(rules));
            self.ways.push(Vec::new());
        }
        place
    }

    /// The shortest way to a place where something is untried.
    fn way(&self, from: usize) -> Option<Vec<Event>> {
        let mut came: HashMap<usize, (usize, &Event)> = HashMap::new();
        let mut waiting = VecDeque::from([from]);
        while let Some(place) = waiting.pop_front() {
            if !self.untried[place].is_empty() {
                let (mut events, mut at) = (Vec::new(), place);
                while at != from {
                    let (before, event) = came[&at];
                    events.push(event.clone());
                    at = before;
                }
                events.reverse();
                return Some(events);
            }
            for (event, next) in &self.ways[place] {
                if *next != from && !came.contains_key(next) {
                    came.insert(*next, (place, event));
                    waiting.push_back(*next);
                }
            }
        }
        None
    }
}

/// Walks until every event was tried in every state. Returns how many states and events there were.
fn explore(rules: Rules) -> (usize, usize) {
    let mut map = Map::default();
    let mut subject = Subject::new(rules);
    let start = map.place(&subject.model, &rules);
    let mut place = start;
    loop {
        while let Some(event) = map.untried[place].pop() {
            map.tried += 1;
            if subject.meet(&event) {
                let next = map.place(&subject.model, &rules);
                map.ways[place].push((event, next));
                place = next;
            }
        }
        // Seeds that are fossilised never come back: then another layer begins where this one did.
        let way = map.way(place).or_else(|| {
            (subject, place) = (Subject::new(rules), start);
            map.way(start)
        });
        let Some(way) = way else { break };
        for event in way {
            assert!(subject.meet(&event), "{event:?} was accepted before");
        }
        place = map.place(&subject.model, &rules);
    }
    pace::set(Pace::Real);
    (map.numbers.len(), map.tried)
}

#[test]
fn one_seed_obeys_the_rules_in_every_interleaving_with_up_to_two_batches_queued() {
    let rules = Rules {
        seeds: 1,
        slots: 1,
        places: 1,
        most_active: 1,
        most_queued: 2,
        stalls: true,
        reloads: true,
        falls_back: true,
    };
    let (states, events) = explore(rules);
    println!("one seed: {states} states, {events} events");
    assert!(states > 1500 && events > 20_000, "{states} states, {events} events");
}

#[test]
fn two_seeds_that_need_the_same_slot_obey_the_rules_in_every_interleaving() {
    let rules = Rules {
        seeds: 2,
        slots: 1,
        places: 1,
        most_active: 2,
        most_queued: 1,
        stalls: true,
        reloads: true,
        falls_back: true,
    };
    let (states, events) = explore(rules);
    println!("two seeds, one slot: {states} states, {events} events");
    assert!(states > 3500 && events > 60_000, "{states} states, {events} events");
}

#[test]
fn two_seeds_that_need_the_same_training_place_obey_the_rules_in_every_interleaving() {
    let rules = Rules {
        seeds: 2,
        slots: 2,
        places: 1,
        most_active: 2,
        most_queued: 1,
        stalls: false,
        reloads: false,
        falls_back: false,
    };
    let (states, events) = explore(rules);
    println!("two seeds, one training place: {states} states, {events} events");
    assert!(states > 7000 && events > 60_000, "{states} states, {events} events");
}

#[test]
fn a_seed_begins_to_train_while_another_germinates_whose_kernel_is_not_compiled() {
    let rules = Rules {
        seeds: 2,
        slots: 2,
        places: 2,
        most_active: 2,
        most_queued: 1,
        stalls: true,
        reloads: false,
        falls_back: false,
    };
    let mut layer = Subject::new(rules).layer;
    layer.add_blueprint(library("attention", 2, &Attributes::new()).unwrap(), 1).unwrap();
    pace::set(Pace::Stuck);
    layer.submit(&[Command::new(0, Action::Germinate)]).unwrap();
    layer.end_epoch(STREAM).unwrap();
    // Compiled and loaded, but no epoch has ended since.
    layer.wait_for_kernels().unwrap();
    let other = Command { blueprint: 1, ..Command::new(1, Action::Germinate) };
    layer.submit(&[Command::new(0, Action::StartTraining), other]).unwrap();
    assert_eq!(layer.end_epoch(STREAM).unwrap().refused, []);
    let report = layer.report();
    assert_eq!((report.seeds[0].state, report.seeds[0].ready), (Lifecycle::Training, true), "it trains with no kernel");
    assert_eq!((report.seeds[1].state, report.seeds[1].ready), (Lifecycle::Germinated, false));
    pace::set(Pace::Real);
}
