//! The lifecycle of a seed as a pure table: eleven states, thirteen actions, and which of them go together.
//!
//! No input or output, no clock, no thresholds: whether a gate is open is asked of the caller.

pub use crate::lifecycle::Lifecycle;

use crate::{Error, Result, error};
use serde::{Deserialize, Serialize};
use std::fmt;

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
    /// EVALUATING to FINE_TUNING, or to CULLED if the seed did harm.
    FineTune = 7,
    /// FINE_TUNING to FOSSILIZED.
    Fossilise = 8,
    /// TRAINING, EVALUATING or FINE_TUNING to CULLED.
    Cull = 9,
    /// CULLED (after the embargo), CANCELLED or ROLLED_BACK to DORMANT: nothing of the seed is left.
    Reset = 10,
    /// TRAINING to FINE_TUNING to ROLLED_BACK. As a command it waits for the epoch's end like the others.
    RollBack = 11,
    /// Holds the alpha of a GRAFTING seed where it is, until it is resumed or leaves GRAFTING.
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
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        Self::ALL.get(index).copied()
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
    /// 5 to 6: the validation loss fell and the network is stable. Culls what did harm.
    FineTuning,
    /// 6 to 7: total improvement and stability suffice.
    Fossilization,
    /// 8 to 0: embargo over.
    Embargo,
}

/// What a gate that is not closed says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The seed may pass.
    Pass,
    /// It did harm and is culled instead, for this reason.
    Cull(String),
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// The state after it; the same as before for [`Action::Pause`] and [`Action::Resume`].
    pub state: Lifecycle,
    /// What else happens.
    pub effect: Effect,
    /// Why the seed is culled instead of what was asked, if it is.
    pub culled_for: Option<String>,
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
/// is closed, and the reason of one that culls where the table has no cull. Nothing is changed either way: this is a function
/// of its arguments.
pub fn transition(state: Lifecycle, action: Action, gate: impl FnOnce(Gate) -> Result<Verdict>) -> Result<Next> {
    let Some((next, effect, required)) = row(state, action) else {
        return Err(not_in_table(state, action));
    };
    match required.map_or(Ok(Verdict::Pass), gate)? {
        Verdict::Pass => Ok(Next { state: next, effect, culled_for: None }),
        Verdict::Cull(reason) => match row(state, Action::Cull) {
            Some((next, effect, _)) => Ok(Next { state: next, effect, culled_for: Some(reason) }),
            None => Err(error!(TransitionRefused, "{reason}")),
        },
    }
}

fn not_in_table(state: Lifecycle, action: Action) -> Error {
    let allowed: Vec<_> = Action::ALL.into_iter().filter(|action| row(state, *action).is_some()).collect();
    let allowed = match allowed.as_slice() {
        [] => "it is final".to_owned(),
        some => format!("it allows {}", some.iter().map(|action| action.name()).collect::<Vec<_>>().join(", ")),
    };
    error!(TransitionRefused, "{action} is not a transition of {state}; {allowed}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    /// The table once more, as spec.md has it: where each state leaves to.
    const LEAVES_TO: [&[i8]; 11] =
        [&[1], &[2, 9], &[3, 8, 9, 10], &[4, 10], &[5, 10], &[6, 8, 10], &[7, 8, 10], &[], &[0], &[0], &[0]];

    /// Every transition in words: from, action, to, and the gate if there is one.
    const TRANSITIONS: &str = "
        0 germinate 1 germination
        1 start_training 2 training
        1 cancel 9 -
        2 start_grafting 3 grafting
        2 cull 8 -
        2 cancel 9 -
        2 roll_back 10 -
        3 stabilise 4 stabilization
        3 pause 3 -
        3 resume 3 -
        3 roll_back 10 -
        4 evaluate 5 evaluation
        4 roll_back 10 -
        5 fine_tune 6 fine_tuning
        5 cull 8 -
        5 roll_back 10 -
        6 fossilise 7 fossilization
        6 cull 8 -
        6 roll_back 10 -
        8 reset 0 embargo
        9 reset 0 -
        10 reset 0 -";

    fn expected(state: Lifecycle, action: Action) -> Option<(Lifecycle, Option<String>)> {
        TRANSITIONS.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find_map(|words| match words[..] {
            [from, name, to, gate] if from == (state as i8).to_string() && name == action.name() => {
                let to = Lifecycle::from_number(to.parse().unwrap()).unwrap();
                Some((to, (gate != "-").then(|| gate.to_owned())))
            }
            _ => None,
        })
    }

    fn gate_name(gate: Gate) -> String {
        serde_json::to_value(gate).unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn every_state_with_every_action_and_every_gate_outcome_does_what_the_table_says() {
        let closed = || Err(error!(TransitionRefused, "closed"));
        let outcomes = [|| Ok(Verdict::Pass), closed, || Ok(Verdict::Cull("harm".to_owned()))];
        let (mut passed, mut culled) = (0, 0);
        for state in Lifecycle::ALL {
            for action in Action::ALL {
                for outcome in outcomes {
                    let mut asked = None;
                    let next = transition(state, action, |gate| {
                        asked = Some(gate_name(gate));
                        outcome()
                    });
                    let Some((to, gate)) = expected(state, action) else {
                        assert_eq!(next.unwrap_err().status(), Status::TransitionRefused, "{action} from {state}");
                        assert_eq!(asked, None, "{action} from {state} asked a gate but is not in the table");
                        continue;
                    };
                    assert_eq!(asked, gate, "{action} from {state}");
                    let may_be_culled = expected(state, Action::Cull).is_some();
                    match if gate.is_some() { outcome() } else { Ok(Verdict::Pass) } {
                        Ok(Verdict::Pass) => {
                            let next = next.unwrap();
                            assert_eq!((next.state, next.culled_for), (to, None), "{action} from {state}");
                            passed += 1;
                        }
                        Ok(Verdict::Cull(reason)) if may_be_culled => {
                            let next = next.unwrap();
                            assert_eq!((next.state, next.effect), (Lifecycle::Culled, Effect::BeginEmbargo));
                            assert_eq!(next.culled_for, Some(reason));
                            culled += 1;
                        }
                        Ok(Verdict::Cull(reason)) => assert_eq!(next.unwrap_err().message(), reason),
                        Err(refusal) => assert_eq!(next.unwrap_err().message(), refusal.message()),
                    }
                }
            }
        }
        assert_eq!(passed, 22 + 2 * 14, "22 rows with open gates, 14 without a gate whatever they would say");
        assert_eq!(culled, 3, "start_grafting, fine_tune and fossilise leave states that can be culled");
    }

    #[test]
    fn each_state_leaves_to_where_the_table_says_and_nowhere_else() {
        for state in Lifecycle::ALL {
            let next = |action| transition(state, action, |_| Ok(Verdict::Pass)).ok().map(|next| next.state as i8);
            let mut reached: Vec<_> =
                Action::ALL.into_iter().filter_map(next).filter(|to| *to != state as i8).collect();
            reached.sort_unstable();
            assert_eq!(reached, LEAVES_TO[state as usize], "{state}");
        }
    }

    #[test]
    fn the_blueprint_is_applied_in_3_to_7_and_trains_on_the_main_loss_in_3_and_6() {
        let numbers = |holds: fn(Lifecycle) -> bool| -> Vec<i8> {
            Lifecycle::ALL.into_iter().filter(|state| holds(*state)).map(|state| state as i8).collect()
        };
        assert_eq!(numbers(Lifecycle::applies_blueprint), [3, 4, 5, 6, 7]);
        assert_eq!(numbers(Lifecycle::trains_on_main_loss), [3, 6]);
        assert_eq!(numbers(Lifecycle::can_roll_back), [2, 3, 4, 5, 6]);
        assert_eq!(numbers(Lifecycle::is_active), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_slot_is_taken_once_and_given_back_once_on_every_way_through_the_table() {
        for state in Lifecycle::ALL {
            for action in Action::ALL {
                let Ok(next) = transition(state, action, |_| Ok(Verdict::Pass)) else { continue };
                assert_eq!(next.effect == Effect::TakeSlot, state == Lifecycle::Dormant);
                assert_eq!(next.effect == Effect::ReleaseSlot, next.state == Lifecycle::Dormant);
                assert_eq!(next.effect == Effect::BeginEmbargo, next.state == Lifecycle::Culled);
            }
        }
    }

    #[test]
    fn numbers_and_names_lead_back_to_what_they_came_from() {
        for (number, state) in (0..).zip(Lifecycle::ALL) {
            assert_eq!((state as i8, Lifecycle::from_number(number)), (number, Some(state)));
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        for (number, action) in (1..).zip(Action::ALL) {
            assert_eq!((action as i32, Action::from_number(number)), (number, Some(action)));
            assert_eq!(serde_json::to_value(action).unwrap(), action.name());
        }
        assert_eq!((Lifecycle::from_number(11), Lifecycle::from_number(-1)), (None, None));
        assert_eq!((Action::from_number(0), Action::from_number(14)), (None, None));
    }

    #[test]
    fn a_refusal_says_what_the_state_does_allow() {
        let refusal = transition(Lifecycle::Germinated, Action::Fossilise, |_| Ok(Verdict::Pass)).unwrap_err();
        assert_eq!(refusal.message(), "fossilise is not a transition of GERMINATED; it allows cancel, start_training");
        let refusal = transition(Lifecycle::Fossilized, Action::Cull, |_| Ok(Verdict::Pass)).unwrap_err();
        assert!(refusal.message().ends_with("it is final"));
    }
}
