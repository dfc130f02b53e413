//! The fixed points that problems are found by: a problem near to another is about as far from each of them.
//!
//! The distances are kept in columns, so neither the points nor [`Features::distance`] may change without a new version of the
//! schema that empties the tables.

use crate::graph::{Features, Written};

/// How many there are.
pub(super) const PIVOTS: usize = 4;

/// More than rounding can add to a distance.
const ROUNDING: f64 = 1e-9;

/// The distances to the points: a small map, a wide contraction, a long chain of choices, and nothing at all. Where
/// blueprints differ most, they differ from one of these.
pub(super) fn distances(features: &Features) -> [f64; PIVOTS] {
    let operators = |counts: &[(&str, u32)]| counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    let map = Features {
        calls: 3,
        depth: 3,
        operators: operators(&[("mul", 2), ("add", 1)]),
        choices: 0,
        width: 1,
        parameters: 64,
        written: Written { mapped: 192, ..Written::default() },
    };
    let contraction = Features {
        calls: 8,
        depth: 8,
        operators: operators(&[("linear", 4), ("gelu", 2), ("layer_norm", 1), ("add", 1)]),
        choices: 0,
        width: 2,
        parameters: 1 << 16,
        written: Written { mapped: 512, reduced: 256, contracted: 1024, moved: 0 },
    };
    let choices = Features {
        calls: 64,
        depth: 32,
        operators: operators(&[("where", 16), ("greater", 16), ("mul", 16), ("slice", 8), ("concat", 8)]),
        choices: 32,
        width: 4,
        parameters: 1 << 10,
        written: Written { mapped: 4096, reduced: 0, contracted: 0, moved: 4096 },
    };
    [map, contraction, choices, Features::default()].map(|pivot| pivot.distance(features))
}

/// Between what bounds the distances lie of everything that is at least so similar.
pub(super) fn bounds(features: &Features, similarity: f64) -> [(f64, f64); PIVOTS] {
    let radius = 1.0 - similarity + ROUNDING;
    distances(features).map(|distance| (distance - radius, distance + radius))
}
