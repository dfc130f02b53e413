//! What a controller sends: commands with the evidence for them.

use super::Action;
use serde::{Deserialize, Serialize};

/// What the controller measured and the library cannot know. NaN means not given; a gate that needs it is then closed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Evidence {
    /// Improvement of the validation loss since the seed was grafted; positive is better. For `fine_tune`, which culls the seed if it
    /// is too low.
    #[serde(with = "number_or_null")]
    pub validation_delta: f64,
    /// How steady training has been, 0 to 1. For `fine_tune` and `fossilise`.
    #[serde(with = "number_or_null")]
    pub stability: f64,
    /// Total relative improvement that the seed brought; 0.01 is one percent. For `fossilise`.
    #[serde(with = "number_or_null")]
    pub improvement: f64,
    /// Share of failed steps while evaluating, 0 to 1. For `fine_tune`; not needed, but one that is too high culls the seed.
    #[serde(with = "number_or_null")]
    pub error_rate: f64,
}

impl Default for Evidence {
    fn default() -> Self {
        Self { validation_delta: f64::NAN, stability: f64::NAN, improvement: f64::NAN, error_rate: f64::NAN }
    }
}

/// One request for one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Which seed.
    pub seed: u32,
    /// What it shall do.
    pub action: Action,
    /// For `germinate`: the index that [`Layer::add_blueprint`](super::Layer::add_blueprint) gave. Else ignored.
    #[serde(default)]
    pub blueprint: i32,
    /// For `germinate`: the number of a [`Strategy`](super::Strategy), by which alpha rises once it grafts. Else ignored.
    #[serde(default)]
    pub strategy: i32,
    /// What speaks for it.
    #[serde(default)]
    pub evidence: Evidence,
    /// Why, for the record.
    #[serde(default)]
    pub reason: String,
}

impl Command {
    /// A command with no evidence and no reason; blueprint and strategy are 0.
    pub fn new(seed: u32, action: Action) -> Self {
        Self { seed, action, blueprint: 0, strategy: 0, evidence: Evidence::default(), reason: String::new() }
    }
}

/// Commands that were accepted together and wait for the epoch's end.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// How many the layer had accepted before.
    pub number: u64,
    /// What it asks for: all of it takes effect or nothing.
    pub commands: Vec<Command>,
}

/// Numbers that may be NaN or infinite, in JSON, which has neither: they are `null`, and `null` is NaN.
pub(super) mod number_or_null {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if number.is_finite() { serializer.serialize_f64(*number) } else { serializer.serialize_none() }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}
