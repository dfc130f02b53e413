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

/// Rows of numbers in memory, those of a row adjacent.
#[derive(Clone, Copy, Debug)]
pub struct Numbers<T> {
    pub first: *const T,
    /// From row to row.
    pub stride: usize,
    pub rows: usize,
    pub columns: usize,
}

impl<T: 'static> Numbers<T> {
    /// # Safety
    /// The numbers are valid and nobody writes them meanwhile.
    #[inline(always)]
    unsafe fn rows<'a>(self) -> impl Iterator<Item = &'a [T]> {
        // SAFETY: the caller's promise.
        (0..self.rows)
            .map(move |row| unsafe { std::slice::from_raw_parts(self.first.add(row * self.stride), self.columns) })
    }
}

/// Looks at chunks of the input.
///
/// # Safety
/// The numbers are valid and nobody writes them meanwhile.
#[inline(always)]
pub unsafe fn observe<T: Real>(numbers: &Numbers<T>, seen: &mut Statistics) {
    // In a copy of their own the sums stay in registers.
    let mut now = seen.clone();
    // SAFETY: the caller's promise.
    for row in unsafe { numbers.rows() } {
        now.count += row.len();
        let (groups, rest) = row.split_at(row.len() / LANES * LANES);
        for (group, values) in groups.chunks_exact(LANES).enumerate() {
            let after = (group + 1) * LANES;
            let mut next = [T::ZERO; LANES];
            next[..LANES - 1].copy_from_slice(&values[1..]);
            next[LANES - 1] = if after < row.len() { row[after] } else { T::ZERO };
            for lane in 0..LANES {
                element(&mut now, lane, values[lane], next[lane]);
            }
        }
        for (lane, value) in rest.iter().enumerate() {
            element(&mut now, lane, *value, rest.get(lane + 1).copied().unwrap_or(T::ZERO));
        }
    }
    *seen = now;
}

/// Adds an element and its product with the next one of the row. What is not finite counts as 0 in every sum.
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

/// Looks at chunks of the output's gradient.
///
/// # Safety
/// The numbers are valid and nobody writes them meanwhile.
#[inline(always)]
pub unsafe fn observe_gradient<T: Real>(numbers: &Numbers<T>, seen: &mut Statistics) {
    let mut squares = seen.gradient_squares;
    let square = |value: T| {
        let value = if value.is_finite() { value.to_f64() } else { 0.0 };
        value * value
    };
    // SAFETY: the caller's promise.
    for row in unsafe { numbers.rows() } {
        let groups = row.chunks_exact(LANES);
        let rest = groups.remainder();
        for values in groups {
            squares.iter_mut().zip(values).for_each(|(sum, value)| *sum += square(*value));
        }
        squares.iter_mut().zip(rest).for_each(|(sum, value)| *sum += square(*value));
    }
    seen.gradient_squares = squares;
}
