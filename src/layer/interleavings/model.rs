//! The rules of the lifecycle once more, as plainly as they can be said: seeds as small structs, no device, no slots.
//!
//! The states are finite because what cannot matter any more (an age beyond the minimum, the alpha of a seed that is out) is
//! not told apart.

use crate::layer::{Action, Lifecycle};

/// Epochs that a ramp takes.
pub const RAMP: u8 = 2;

/// Epochs for which kernels that ran are kept.
const STAY: u8 = 2;

/// What an epoch showed of every seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    Nothing,
    Good,
    /// As good, but a row fell back.
    FellBack,
}

/// One command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    pub seed: u32,
    pub action: Action,
    /// Whether the evidence says that the seed did harm, instead of all that gates ask for.
    pub harmed: bool,
}

impl Request {
    fn good(seed: u32, action: Action) -> Request {
        Request { seed, action, harmed: false }
    }

    /// To fine-tune a seed that did harm.
    fn bad(seed: u32) -> Request {
        Request { seed, action: Action::FineTune, harmed: true }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    Submit(Vec<Request>),
    EndEpoch(Seen),
    RollBack(u32),
    /// The compiler gets stuck with what is not loaded yet, or finishes all of it.
    Stall(bool),
    /// The layer becomes the one that its checkpoint gives.
    Reload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seed {
    pub state: Lifecycle,
    /// Epochs in the state, as far as they matter: 0 or 1.
    pub age: u8,
    /// In steps of the ramp.
    pub alpha: u8,
    pub paused: bool,
    pub fell_back: bool,
    pub embargo: u8,
}

const DORMANT: Seed = Seed { state: Lifecycle::Dormant, age: 0, alpha: 0, paused: false, fell_back: false, embargo: 0 };

impl Seed {
    /// The seed without what cannot matter any more.
    fn told_apart(self) -> Seed {
        use Lifecycle::*;
        let Seed { state, embargo, .. } = self;
        match state {
            Grafting => self,
            Germinated | Training | Stabilization | Evaluating | FineTuning => Seed { alpha: 0, embargo: 0, ..self },
            Culled => Seed { state, embargo, ..DORMANT },
            Dormant | Fossilized | Cancelled | RolledBack => Seed { state, ..DORMANT },
        }
    }
}

/// The rules, and how much there is of everything.
#[derive(Clone, Copy)]
pub struct Rules {
    pub seeds: u32,
    pub slots: usize,
    pub places: usize,
    pub most_active: usize,
    pub most_queued: usize,
    pub stalls: bool,
    pub reloads: bool,
    pub falls_back: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Model {
    pub seeds: Vec<Seed>,
    pub queue: Vec<Vec<Request>>,
    pub last: Option<Seen>,
    pub before: Option<Seen>,
    pub kernels: Kernels,
}

/// What has become of the kernels of the one blueprint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kernels {
    /// The compiler finishes nothing.
    pub stalled: bool,
    /// A seed needed them when the last epoch ended.
    pub wanted: bool,
    /// They are being compiled, or compiled and not loaded yet.
    pub requested: bool,
    pub loaded: bool,
    /// For how many epochs they are kept when nobody wants them: they were part of what ran.
    pub stay: u8,
}

impl Model {
    pub fn new(rules: &Rules) -> Model {
        let seeds = vec![DORMANT; rules.seeds as usize];
        Model { seeds, queue: vec![], last: None, before: None, kernels: Kernels::default() }
    }

    pub fn told_apart(&self) -> Model {
        let both = self.saw_both();
        let seeds = self.seeds.iter().map(|seed| seed.told_apart()).collect();
        Model { seeds, before: both.then_some(Seen::Good), ..self.clone() }
    }

    fn saw_both(&self) -> bool {
        let saw = |seen: Option<Seen>| !matches!(seen, None | Some(Seen::Nothing));
        saw(self.last) && saw(self.before)
    }

    /// The epoch passes for the seeds.
    fn advanced(&self) -> Model {
        let mut next = self.clone();
        for seed in &mut next.seeds {
            seed.age = 1;
            seed.embargo = seed.embargo.saturating_sub(1);
            if seed.state == Lifecycle::Grafting && !seed.paused {
                seed.alpha = RAMP.min(seed.alpha + 1);
            }
        }
        next
    }

    /// One command, or nothing if it is refused.
    fn step(&mut self, request: Request, rules: &Rules) -> Option<()> {
        use Action::*;
        use Lifecycle::*;
        let count = |wanted: &dyn Fn(Lifecycle) -> bool| self.seeds.iter().filter(|seed| wanted(seed.state)).count();
        let (active, training) = (count(&|state| (1..=6).contains(&(state as u8))), count(&|state| state == Training));
        let held = count(&|state| state != Dormant);
        let (ready, both) = (self.kernels.loaded || (self.kernels.wanted && !self.kernels.stalled), self.saw_both());
        let seen = self.last;
        let Request { seed, action, harmed } = request;
        let seed = &mut self.seeds[seed as usize];
        let proven = seed.age >= 1 && !seed.fell_back;
        let before = seed.state;
        seed.state = match (before, action) {
            (Dormant, Germinate) if held < rules.slots && active < rules.most_active => Germinated,
            (Germinated, StartTraining) if proven && training < rules.places && ready => Training,
            (Training, StartGrafting) if proven && seen == Some(Seen::Good) => Grafting,
            (Grafting, Stabilise) if proven && seed.alpha == RAMP => Stabilization,
            (Stabilization, Evaluate) if proven && both => Evaluating,
            (Evaluating, FineTune) if seed.age >= 1 && harmed => Culled,
            (Evaluating, FineTune) if proven => FineTuning,
            (FineTuning, Fossilise) if proven => Fossilized,
            (Grafting, Pause | Resume) => {
                seed.paused = action == Pause;
                return Some(());
            }
            (Germinated | Training, Cancel) => Cancelled,
            (Training | Evaluating | FineTuning, Cull) => Culled,
            (Training | Grafting | Stabilization | Evaluating | FineTuning, RollBack) => RolledBack,
            (Culled, Reset) if seed.embargo == 0 => Dormant,
            (Cancelled | RolledBack, Reset) => Dormant,
            _ => return None,
        };
        (seed.age, seed.paused) = (0, false);
        match seed.state {
            Dormant => *seed = DORMANT,
            Culled => seed.embargo = 1,
            _ => {}
        }
        Some(())
    }

    fn apply(&mut self, batch: &[Request], rules: &Rules) -> bool {
        let mut next = self.clone();
        let accepted = batch.iter().all(|request| next.step(*request, rules).is_some());
        if accepted {
            *self = next;
        }
        accepted
    }

    /// What an event makes of the model; nothing if it is refused.
    pub fn after(&self, event: &Event, rules: &Rules) -> Option<Model> {
        let mut next = self.clone();
        match event {
            Event::Submit(batch) => {
                let mut plan = self.advanced();
                for queued in &self.queue {
                    plan.apply(queued, rules);
                }
                if !plan.apply(batch, rules) {
                    return None;
                }
                next.queue.push(batch.clone());
            }
            Event::EndEpoch(seen) => {
                (next.before, next.last) = (self.last, Some(*seen));
                // Of seeds that run or ran until they were rolled back.
                for seed in next.seeds.iter_mut().filter(|seed| runs(seed.state) || seed.state == Lifecycle::RolledBack)
                {
                    seed.fell_back |= *seen == Seen::FellBack;
                }
                next = next.advanced();
                for batch in std::mem::take(&mut next.queue) {
                    next.apply(&batch, rules);
                }
                let kernels = &mut next.kernels;
                kernels.wanted = next.seeds.iter().any(|seed| (1..=7).contains(&(seed.state as u8)));
                kernels.requested |= kernels.wanted;
                kernels.loaded |= kernels.requested && !kernels.stalled;
                match (kernels.wanted, kernels.stay) {
                    (true, _) if kernels.loaded => kernels.stay = STAY,
                    (true, _) => {}
                    (false, 0) => *kernels = Kernels { stalled: kernels.stalled, ..Kernels::default() },
                    (false, _) => kernels.stay -= 1,
                }
                kernels.requested &= !kernels.loaded;
            }
            Event::RollBack(seed) => {
                next.seeds[*seed as usize].state.can_roll_back().then_some(())?;
                let seed = &mut next.seeds[*seed as usize];
                (seed.state, seed.age, seed.paused) = (Lifecycle::RolledBack, 0, false);
            }
            Event::Stall(stalled) => next.kernels.stalled = *stalled,
            Event::Reload => {
                let wanted = next.seeds.iter().any(|seed| (1..=7).contains(&(seed.state as u8)));
                let stay = if next.seeds.iter().any(|seed| runs(seed.state)) { STAY } else { 0 };
                next.kernels = Kernels { wanted, requested: wanted, loaded: false, stay, ..next.kernels };
            }
        }
        Some(next)
    }

    pub fn events(&self, rules: &Rules) -> Vec<Event> {
        let mut events: Vec<_> = [Seen::Good, Seen::Nothing].map(Event::EndEpoch).into();
        if rules.falls_back {
            events.push(Event::EndEpoch(Seen::FellBack));
        }
        events.extend((0..rules.seeds).map(Event::RollBack));
        if rules.reloads {
            events.push(Event::Reload);
        }
        // What is compiled does not become uncompiled.
        if rules.stalls && (self.kernels.stalled || !self.kernels.requested) {
            events.push(Event::Stall(!self.kernels.stalled));
        }
        if self.queue.len() < rules.most_queued {
            for seed in 0..rules.seeds {
                events.extend(Action::ALL.map(|action| Event::Submit(vec![Request::good(seed, action)])));
                events.push(Event::Submit(vec![Request::bad(seed)]));
            }
            if rules.seeds > 1 {
                use Action::*;
                for (first, second) in [
                    (Germinate, Germinate),
                    (Cancel, Germinate),
                    (Reset, Germinate),
                    (Cull, Fossilise),
                    (RollBack, StartTraining),
                    (StartTraining, StartTraining),
                    (StartGrafting, StartTraining),
                ] {
                    events.push(Event::Submit(vec![Request::good(0, first), Request::good(1, second)]));
                }
                events.push(Event::Submit(vec![Request::bad(0), Request::good(1, FineTune)]));
            }
        }
        events
    }
}

/// Whether a seed's kernel must be there.
pub fn runs(state: Lifecycle) -> bool {
    state == Lifecycle::Training || state.applies_blueprint()
}
