//! The eleven states of a seed, and the predicates that layers and kernels decide by, defined once.
//!
//! Which state follows which, and what a gate asks, is the business of [`crate::layer`].

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

    /// Whether the seed's kernel must be there: it trains its blueprint or applies it, states 2 to 7.
    pub fn needs_kernel(self) -> bool {
        self == Lifecycle::Training || self.applies_blueprint()
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
        usize::try_from(number).ok().and_then(|number| Self::ALL.get(number).copied())
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
