//! What telemetry sees of a row, in eight partial f64 sums so that the loops become vector code.

use super::Real;
use crate::device::telemetry;

const LANES: usize = 8;

/// Accumulated over the rows of a seed.
#[derive(Clone, Debug)]
pub struct Statistics {
    count: usize,
    sum: [f64; LANES],
    squares: [f64; LANES],
    smallest: [f64; LANES],
    largest: [f64; LANES],
    dead: [f64; LANES],
    neighbours: [f64; LANES],
    non_finite: [f64; LANES],
    gradient_squares: [f64; LANES],
    /// Rows that fell back.
    pub fallback_rows: usize,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            count: 0,
            sum: [0.0; LANES],
            squares: [0.0; LANES],
            smallest: [f64::INFINITY; LANES],
            largest: [f64::NEG_INFINITY; LANES],
            dead: [0.0; LANES],
            neighbours: [0.0; LANES],
            non_finite: [0.0; LANES],
            gradient_squares: [0.0; LANES],
            fallback_rows: 0,
        }
    }
}

impl Statistics {
    /// Adds what was seen to a row of the telemetry array.
    pub fn add_to(&self, columns: &mut [f64; telemetry::COLUMNS]) {
        use telemetry::*;
        let total = |lanes: &[f64; LANES]| lanes.iter().sum::<f64>();
        columns[COUNT] += self.count as f64;
        columns[SUM] += total(&self.sum);
        columns[SQUARES] += total(&self.squares);
        columns[MIN] = self.smallest.iter().fold(columns[MIN], |a, b| a.min(*b));
        columns[MAX] = self.largest.iter().fold(columns[MAX], |a, b| a.max(*b));
        columns[DEAD] += total(&self.dead);
        columns[NEIGHBOURS] += total(&self.neighbours);
        columns[NON_FINITE] += total(&self.non_finite);
        columns[GRADIENT_SQUARES] += total(&self.gradient_squares);
        columns[FALLBACK_ROWS] += self.fallback_rows as f64;
    }
}

/// Looks at one row's chunk of the input.
#[inline(always)]
pub fn observe<T: Real>(row: &[T], seen: &mut Statistics) {
    seen.count += row.len();
    // A local copy lets the sums stay in registers; the loops below never touch the same lane twice in one go.
    let mut now = seen.clone();
    // A non-finite element counts as 0 in every sum; `next` is one element on.
    let (last, pairs) = match row {
        [] => return,
        [.., last] => (*last, row.len() - 1),
    };
    let (left, right) = (&row[..pairs], &row[1..]);
    let mut pairs = left.chunks_exact(LANES).zip(right.chunks_exact(LANES));
    for (values, next) in &mut pairs {
        for lane in 0..LANES {
            element(&mut now, lane, values[lane], next[lane]);
        }
    }
    let whole = left.len() / LANES * LANES;
    for lane in 0..left.len() - whole {
        element(&mut now, lane, left[whole + lane], right[whole + lane]);
    }
    element(&mut now, left.len() - whole, last, T::ZERO);
    *seen = now;
}

#[inline(always)]
fn element<T: Real>(now: &mut Statistics, lane: usize, value: T, next: T) {
    let (wide, finite) = (value.to_f64(), value.is_finite());
    let counted = if finite { wide } else { 0.0 };
    let next = if next.is_finite() { next.to_f64() } else { 0.0 };
    now.sum[lane] += counted;
    now.squares[lane] += counted * counted;
    let low = if finite { wide } else { f64::INFINITY };
    let high = if finite { wide } else { f64::NEG_INFINITY };
    now.smallest[lane] = if low < now.smallest[lane] { low } else { now.smallest[lane] };
    now.largest[lane] = if high > now.largest[lane] { high } else { now.largest[lane] };
    now.dead[lane] += if wide.abs() < telemetry::DEAD_BELOW { 1.0 } else { 0.0 };
    now.neighbours[lane] += counted * next;
    now.non_finite[lane] += if finite { 0.0 } else { 1.0 };
}

/// Looks at one row's chunk of the output's gradient.
#[inline(always)]
pub fn observe_gradient<T: Real>(row: &[T], seen: &mut Statistics) {
    let mut squares = seen.gradient_squares;
    for values in row.chunks(LANES) {
        for (square, value) in squares.iter_mut().zip(values) {
            let value = if value.is_finite() { value.to_f64() } else { 0.0 };
            *square += value * value;
        }
    }
    seen.gradient_squares = squares;
}
