//! What a parameter starts as when a seed germinates: reproducible from one number, on every platform.

use super::Shape;
use crate::error::Result;
use crate::fail;
use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use serde::ser::Error;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use std::f64::consts::TAU;
use std::sync::LazyLock;

/// What a parameter starts as. In JSON: `"zeros"`, `{"constant": 0.5}`, `{"uniform": {"low": -1, "high": 1}}`,
/// `{"values": [1, 2, 3]}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Initializer {
    /// All 0.
    #[default]
    Zeros,
    /// All 1.
    Ones,
    /// All this number.
    Constant(f64),
    /// Evenly between two numbers.
    Uniform {
        /// The least.
        low: f64,
        /// Above it, or equal.
        high: f64,
    },
    /// Normally distributed.
    Normal {
        /// The mean.
        mean: f64,
        /// The standard deviation, not negative.
        standard_deviation: f64,
    },
    /// Evenly between -b and b, b = 1 / sqrt(last dimension): what `torch.nn.Linear` starts with, for a weight
    /// `[out, in]`.
    FanIn,
    /// These numbers, in order, one for each element: values that were trained somewhere else.
    #[serde(serialize_with = "on_one_line")]
    Values(Vec<f64>),
}

/// Writes numbers without a line and an indentation for each, also where the rest of the JSON has them.
fn on_one_line<S: Serializer>(values: &[f64], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let text = serde_json::to_string(values).map_err(S::Error::custom)?;
    RawValue::from_string(text).map_err(S::Error::custom)?.serialize(serializer)
}

impl Initializer {
    /// Refuses numbers that f32 cannot hold, a negative deviation, an interval that is the wrong way round, and values
    /// that are too many or too few for a parameter of this shape.
    pub(super) fn check(&self, shape: &Shape) -> Result<()> {
        let fits = |number: f64| (number as f32).is_finite();
        if let Initializer::Values(values) = self {
            if values.len() != shape.elements() {
                fail!(
                    InvalidBlueprint,
                    "its initializer has {} values; the shape {shape} asks for {}",
                    values.len(),
                    shape.elements()
                );
            }
            if let Some(position) = values.iter().position(|&value| !fits(value)) {
                fail!(
                    InvalidBlueprint,
                    "value {position} of its initializer, {:e}, is too large for f32",
                    values[position]
                );
            }
            return Ok(());
        }
        let sound = match *self {
            Initializer::Zeros | Initializer::Ones | Initializer::FanIn | Initializer::Values(_) => true,
            Initializer::Constant(value) => fits(value),
            Initializer::Uniform { low, high } => fits(low) && fits(high) && low <= high,
            Initializer::Normal { mean, standard_deviation } => {
                fits(mean) && fits(standard_deviation) && standard_deviation >= 0.0
            }
        };
        if !sound {
            fail!(InvalidBlueprint, "its initializer {self:?} is too large for f32 or the wrong way round");
        }
        Ok(())
    }

    /// Whether the elements depend on random numbers.
    pub(super) fn draws(&self) -> bool {
        matches!(self, Initializer::Uniform { .. } | Initializer::Normal { .. } | Initializer::FanIn)
    }

    /// The elements of a parameter of this shape, from a stream of random numbers.
    pub(super) fn elements(&self, shape: &Shape, random: &mut Random) -> impl Iterator<Item = f64> {
        let fan_in = shape.0.last().copied().unwrap_or(1) as f64;
        let element = move |position: usize| match *self {
            Initializer::Zeros => 0.0,
            Initializer::Ones => 1.0,
            Initializer::Constant(value) => value,
            Initializer::Uniform { low, high } => low + (high - low) * random.uniform(),
            Initializer::Normal { mean, standard_deviation } => mean + standard_deviation * random.normal(),
            Initializer::FanIn => (2.0 * random.uniform() - 1.0) / fan_in.sqrt(),
            Initializer::Values(ref values) => values[position],
        };
        (0..shape.elements()).map(element)
    }
}

/// A stream of random numbers that depends on a seed and a position only. It begins when the first one is drawn.
pub(super) struct Random {
    seed: u64,
    position: usize,
    stream: Option<blake3::OutputReader>,
    /// Numbers of the stream that are not drawn yet, from `next` on.
    drawn: [[u8; 8]; AT_ONCE],
    next: usize,
}

/// Numbers that are taken from a stream at once: single ones cost as much as eight.
const AT_ONCE: usize = 64;

impl Random {
    pub(super) fn new(seed: u64, position: usize) -> Self {
        Self { seed, position, stream: None, drawn: [[0; 8]; AT_ONCE], next: AT_ONCE }
    }

    /// Evenly in [0, 1).
    fn uniform(&mut self) -> f64 {
        static KEY: LazyLock<ContextKey> =
            LazyLock::new(|| hash_derive_key_context("kasmina 1 parameter initialisation"));
        if self.next == AT_ONCE {
            let stream = self.stream.get_or_insert_with(|| {
                let mut hasher = blake3::Hasher::new_from_context_key(&KEY);
                hasher.update(&self.seed.to_le_bytes()).update(&(self.position as u64).to_le_bytes());
                hasher.finalize_xof()
            });
            stream.fill(self.drawn.as_flattened_mut());
            self.next = 0;
        }
        let bytes = self.drawn[self.next];
        self.next += 1;
        (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normally distributed (Box and Muller). `libm`, because the platform's functions differ in the last bit.
    fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        radius * libm::cos(TAU * self.uniform())
    }
}
