//! The lifecycle of a seed as a pure table: eleven states, thirteen actions, and which of them go together.
//!
//! No input or output, no clock, no thresholds: whether a gate is open is asked of the caller.

use crate::{Error, Result, error};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The state of a seed. The numbers are part of the C ABI and of what kernels read.
#[repr(i8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Lifecycle {
    /// Identity; only watches its chunk.
    #[default]
    Dormant = 0,
    /// Identity; has a blueprint, waits for its kernel and for a place to train.
    Germinated = 1,
    /// Identity; its blueprint trains in isolation.
    Training = 2,
    /// Blends in, alpha rising, trained on the main loss.
    Grafting = 3,
    /// Blended at the reached alpha, parameters frozen.
    Stabilization = 4,
    /// As before, while its effect on validation is measured.
    Evaluating = 5,
    /// Blended and trained on the main loss.
    FineTuning = 6,
    /// Blended for good, frozen.
    Fossilized = 7,
    /// Identity; under embargo.
    Culled = 8,
    /// Identity; given up before it was grafted.
    Cancelled = 9,
    /// Identity; taken out in an emergency.
    RolledBack = 10,
}

impl Lifecycle {
    /// Every state, in the order of the numbers.
    pub const ALL: [Lifecycle; 11] = [
        Lifecycle::Dormant,
        Lifecycle::Germinated,
        Lifecycle::Training,
        Lifecycle::Grafting,
        Lifecycle::Stabilization,
        Lifecycle::Evaluating,
        Lifecycle::FineTuning,
        Lifecycle::Fossilized,
        Lifecycle::Culled,
        Lifecycle::Cancelled,
        Lifecycle::RolledBack,
    ];

    /// Whether the layer's output contains the blueprint's: states 3 to 7.
    pub fn applies_blueprint(self) -> bool {
        use Lifecycle::*;
        matches!(self, Grafting | Stabilization | Evaluating | FineTuning | Fossilized)
    }

    /// Whether the host's loss moves the seed's parameters: states 3 and 6.
    pub fn trains_on_main_loss(self) -> bool {
        matches!(self, Lifecycle::Grafting | Lifecycle::FineTuning)
    }

    /// Whether the seed uses up one of the layer's active places: it is on its way, but not there yet (1 to 6).
    pub fn is_active(self) -> bool {
        (Lifecycle::Germinated as i8..=Lifecycle::FineTuning as i8).contains(&(self as i8))
    }

    /// Whether an emergency rollback may take the seed out: 2 to 6.
    pub fn can_roll_back(self) -> bool {
        (Lifecycle::Training as i8..=Lifecycle::FineTuning as i8).contains(&(self as i8))
    }

    /// The state of a number, if there is one.
    pub fn from_number(number: i8) -> Option<Lifecycle> {
        Self::ALL.into_iter().find(|state| *state as i8 == number)
    }

    /// The name messages and reports use, such as `FINE_TUNING`.
    pub fn name(self) -> &'static str {
        match self {
            Lifecycle::Dormant => "DORMANT",
            Lifecycle::Germinated => "GERMINATED",
            Lifecycle::Training => "TRAINING",
            Lifecycle::Grafting => "GRAFTING",
            Lifecycle::Stabilization => "STABILIZATION",
            Lifecycle::Evaluating => "EVALUATING",
            Lifecycle::FineTuning => "FINE_TUNING",
            Lifecycle::Fossilized => "FOSSILIZED",
            Lifecycle::Culled => "CULLED",
            Lifecycle::Cancelled => "CANCELLED",
            Lifecycle::RolledBack => "ROLLED_BACK",
        }
    }
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What a controller can ask of a seed. The numbers are part of the C ABI.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// DORMANT to GERMINATED: takes a slot of the blueprint's bank.
    Germinate = 1,
    /// GERMINATED or TRAINING to CANCELLED.
    Cancel = 2,
    /// GERMINATED to TRAINING.
    StartTraining = 3,
    /// TRAINING to GRAFTING.
    StartGrafting = 4,
    /// GRAFTING to STABILIZATION.
    Stabilise = 5,
    /// STABILIZATION to EVALUATING.
    Evaluate = 6,
    /// EVALUATING to FINE_TUNING.
    FineTune = 7,
    /// FINE_TUNING to FOSSILIZED.
    Fossilise = 8,
    /// TRAINING, EVALUATING or FINE_TUNING to CULLED.
    Cull = 9,
    /// CULLED (after the embargo), CANCELLED or ROLLED_BACK to DORMANT: nothing of the seed is left.
    Reset = 10,
    /// TRAINING to FINE_TUNING to ROLLED_BACK. As a command it waits for the epoch's end like the others.
    RollBack = 11,
    /// Holds the alpha of a GRAFTING seed where it is.
    Pause = 12,
    /// Lets it rise again.
    Resume = 13,
}

impl Action {
    /// Every action, in the order of the numbers.
    pub const ALL: [Action; 13] = [
        Action::Germinate,
        Action::Cancel,
        Action::StartTraining,
        Action::StartGrafting,
        Action::Stabilise,
        Action::Evaluate,
        Action::FineTune,
        Action::Fossilise,
        Action::Cull,
        Action::Reset,
        Action::RollBack,
        Action::Pause,
        Action::Resume,
    ];

    /// The action of a number, if there is one.
    pub fn from_number(number: i32) -> Option<Action> {
        Self::ALL.into_iter().find(|action| *action as i32 == number)
    }

    /// The name messages and reports use, such as `start_training`.
    pub fn name(self) -> &'static str {
        match self {
            Action::Germinate => "germinate",
            Action::Cancel => "cancel",
            Action::StartTraining => "start_training",
            Action::StartGrafting => "start_grafting",
            Action::Stabilise => "stabilise",
            Action::Evaluate => "evaluate",
            Action::FineTune => "fine_tune",
            Action::Fossilise => "fossilise",
            Action::Cull => "cull",
            Action::Reset => "reset",
            Action::RollBack => "roll_back",
            Action::Pause => "pause",
            Action::Resume => "resume",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A condition on a transition, checked by whoever owns the thresholds and the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// 0 to 1: blueprint valid, parameters finite, resources available.
    Germination,
    /// 1 to 2: kernel compiled, a training place free.
    Training,
    /// 2 to 3: reconstruction loss low, gradients finite.
    Grafting,
    /// 3 to 4: ramp complete.
    Stabilization,
    /// 4 to 5: chunk statistics stable.
    Evaluation,
    /// 5 to 6: the validation loss fell and the network is stable.
    FineTuning,
    /// 6 to 7: total improvement and stability suffice.
    Fossilization,
    /// 8 to 0: embargo over.
    Embargo,
}

/// What a transition does besides changing the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing else.
    None,
    /// The seed takes a slot of its blueprint's bank, freshly initialised.
    TakeSlot,
    /// The seed gives its slot back and forgets blueprint, alpha and strategy.
    ReleaseSlot,
    /// The embargo begins.
    BeginEmbargo,
    /// Alpha is held.
    Pause,
    /// Alpha may rise again.
    Resume,
}

/// Where a transition leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// The state after it; the same as before for [`Action::Pause`] and [`Action::Resume`].
    pub state: Lifecycle,
    /// What else happens.
    pub effect: Effect,
}

/// The row of the table for a state and an action, if there is one: where it leads and the gate it must pass.
fn row(state: Lifecycle, action: Action) -> Option<(Lifecycle, Effect, Option<Gate>)> {
    use Lifecycle::*;
    Some(match (state, action) {
        (Dormant, Action::Germinate) => (Germinated, Effect::TakeSlot, Some(Gate::Germination)),
        (Germinated, Action::StartTraining) => (Training, Effect::None, Some(Gate::Training)),
        (Training, Action::StartGrafting) => (Grafting, Effect::None, Some(Gate::Grafting)),
        (Grafting, Action::Stabilise) => (Stabilization, Effect::None, Some(Gate::Stabilization)),
        (Stabilization, Action::Evaluate) => (Evaluating, Effect::None, Some(Gate::Evaluation)),
        (Evaluating, Action::FineTune) => (FineTuning, Effect::None, Some(Gate::FineTuning)),
        (FineTuning, Action::Fossilise) => (Fossilized, Effect::None, Some(Gate::Fossilization)),
        (Grafting, Action::Pause) => (Grafting, Effect::Pause, None),
        (Grafting, Action::Resume) => (Grafting, Effect::Resume, None),
        (Germinated | Training, Action::Cancel) => (Cancelled, Effect::None, None),
        (Training | Evaluating | FineTuning, Action::Cull) => (Culled, Effect::BeginEmbargo, None),
        (state, Action::RollBack) if state.can_roll_back() => (RolledBack, Effect::None, None),
        (Culled, Action::Reset) => (Dormant, Effect::ReleaseSlot, Some(Gate::Embargo)),
        (Cancelled | RolledBack, Action::Reset) => (Dormant, Effect::ReleaseSlot, None),
        _ => return None,
    })
}

/// Looks a transition up and asks its gate.
///
/// # Errors
///
/// `TransitionRefused` with the actions the state does allow if the table has no such row; the gate's own error if it
/// is closed. Nothing is changed either way: this is a function of its arguments.
pub fn transition(state: Lifecycle, action: Action, gate: impl FnOnce(Gate) -> Result<()>) -> Result<Next> {
    let Some((next, effect, required)) = row(state, action) else {
        return Err(not_in_table(state, action));
    };
    required.map_or(Ok(()), gate)?;
    Ok(Next { state: next, effect })
}

fn not_in_table(state: Lifecycle, action: Action) -> Error {
    let allowed: Vec<_> = Action::ALL.into_iter().filter(|action| row(state, *action).is_some()).collect();
    let allowed = match allowed.as_slice() {
        [] => "it is final".to_owned(),
        some => format!("it allows {}", some.iter().map(|action| action.name()).collect::<Vec<_>>().join(", ")),
    };
    error!(TransitionRefused, "{action} is not a transition of {state}; {allowed}")
}
