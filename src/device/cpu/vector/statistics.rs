//! What telemetry sees of rows of numbers.
//!
//! A block of rows is looked at in the type of computation, in as many partial sums as a vector has lanes, and added to
//! f64 sums. Where that cannot be trusted (something is not finite, or squares leave the range of the type) the block is
//! looked at again, element by element in f64.

use super::Real;
use crate::device::telemetry;

/// Most lanes of a vector.
const LANES: usize = 16;

/// Terms of a partial sum before it is added to an f64: keeps the error of f32 sums near one in a million. Only a row of
/// more than so many vectors has more.
const TERMS: usize = 128;

/// A block in which something but zero is seen, and nothing of this magnitude, may have lost its squares to underflow.
const SMALL: f64 = 1e-15;

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
    non_finite: usize,
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
            non_finite: 0,
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
        columns[NON_FINITE] += self.non_finite as f64;
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

/// Which of a seed's tensors the elements are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Input,
    /// The gradient of the output: only its squares count.
    Gradient,
}

/// Looks at rows. `WIDTH` is how many numbers a vector has.
///
/// # Safety
/// The numbers are valid and nobody writes them meanwhile.
#[inline(always)]
pub unsafe fn observe<T: Real, const FUSED: bool, const WIDTH: usize>(
    view: View,
    numbers: &Numbers<T>,
    seen: &mut Statistics,
) {
    let rows = (TERMS * WIDTH / numbers.columns.max(1)).max(1);
    for first in (0..numbers.rows).step_by(rows) {
        let count = rows.min(numbers.rows - first);
        // SAFETY: the caller's promise; these are rows of the numbers.
        unsafe {
            let block = Numbers { first: numbers.first.add(first * numbers.stride), rows: count, ..*numbers };
            match view {
                View::Input => {
                    let sums = Sums::<T, WIDTH>::of::<FUSED, true>(&block);
                    if sums.are_sound() {
                        sums.add_to(seen, count * numbers.columns);
                    } else {
                        block.rows().for_each(|row| input(row, seen));
                    }
                }
                View::Gradient => {
                    let sums = Sums::<T, WIDTH>::of::<FUSED, false>(&block);
                    if sums.are_sound() {
                        add(&mut seen.gradient_squares, &sums.squares);
                    } else {
                        block.rows().for_each(|row| gradient(row, seen));
                    }
                }
            }
        }
    }
}

/// Partial sums of a block.
struct Sums<T, const WIDTH: usize> {
    sum: [T; WIDTH],
    squares: [T; WIDTH],
    smallest: [T; WIDTH],
    largest: [T; WIDTH],
    dead: [T; WIDTH],
    neighbours: [T; WIDTH],
}

impl<T: Real, const WIDTH: usize> Sums<T, WIDTH> {
    /// Looks at a block as if everything in it were finite. `FULL` asks for more than the squares.
    ///
    /// # Safety
    /// As [`observe`].
    #[inline(always)]
    unsafe fn of<const FUSED: bool, const FULL: bool>(block: &Numbers<T>) -> Self {
        let dead_below = T::at_least(telemetry::DEAD_BELOW);
        let mut sums = Sums {
            sum: [T::ZERO; WIDTH],
            squares: [T::ZERO; WIDTH],
            smallest: [T::from_f64(f64::INFINITY); WIDTH],
            largest: [T::from_f64(f64::NEG_INFINITY); WIDTH],
            dead: [T::ZERO; WIDTH],
            neighbours: [T::ZERO; WIDTH],
        };
        let whole = block.columns / WIDTH * WIDTH;
        for row in 0..block.rows {
            // SAFETY: the caller's promise; an array of T has T's alignment, and `next` ends before the row does.
            unsafe {
                let row = block.first.add(row * block.stride);
                for column in (0..whole).step_by(WIDTH) {
                    let values = *row.add(column).cast::<[T; WIDTH]>();
                    if !FULL {
                        for (lane, value) in values.iter().enumerate() {
                            sums.square::<FUSED>(lane, *value);
                        }
                        continue;
                    }
                    let mut next = [T::ZERO; WIDTH];
                    if column + WIDTH < block.columns {
                        next = *row.add(column + 1).cast::<[T; WIDTH]>();
                    } else {
                        next[..WIDTH - 1].copy_from_slice(&values[1..]);
                    }
                    for lane in 0..WIDTH {
                        sums.element::<FUSED>(lane, values[lane], next[lane], dead_below);
                    }
                }
                for column in whole..block.columns {
                    let (lane, value) = (column - whole, *row.add(column));
                    if FULL {
                        let next = if column + 1 == block.columns { T::ZERO } else { *row.add(column + 1) };
                        sums.element::<FUSED>(lane, value, next, dead_below);
                    } else {
                        sums.square::<FUSED>(lane, value);
                    }
                }
            }
        }
        sums
    }

    /// The sum of squares, and the largest so that it can be told whether that holds.
    #[inline(always)]
    fn square<const FUSED: bool>(&mut self, lane: usize, value: T) {
        self.squares[lane] = value.multiply_add::<FUSED>(value, self.squares[lane]);
        self.largest[lane] = if value > self.largest[lane] { value } else { self.largest[lane] };
        self.smallest[lane] = if value < self.smallest[lane] { value } else { self.smallest[lane] };
    }

    #[inline(always)]
    fn element<const FUSED: bool>(&mut self, lane: usize, value: T, next: T, dead_below: T) {
        self.square::<FUSED>(lane, value);
        self.sum[lane] += value;
        self.dead[lane] += if value < dead_below && value > -dead_below { T::ONE } else { T::ZERO };
        self.neighbours[lane] = value.multiply_add::<FUSED>(next, self.neighbours[lane]);
    }

    /// Whether nothing overflowed, was NaN or lost its square to underflow.
    #[inline(always)]
    fn are_sound(&self) -> bool {
        let mut total = T::ZERO;
        let mut magnitude = T::ZERO;
        for lane in 0..WIDTH {
            // Products of neighbours are not larger than squares.
            total += self.sum[lane] + self.squares[lane];
            for value in [self.smallest[lane], self.largest[lane]] {
                let size = if value < T::ZERO { -value } else { value };
                // Lanes without an element have infinities here.
                magnitude = if size > magnitude && size.is_finite() { size } else { magnitude };
            }
        }
        total.is_finite() && (magnitude == T::ZERO || magnitude >= T::from_f64(SMALL))
    }

    fn add_to(&self, seen: &mut Statistics, count: usize) {
        seen.count += count;
        add(&mut seen.sum, &self.sum);
        add(&mut seen.squares, &self.squares);
        add(&mut seen.dead, &self.dead);
        add(&mut seen.neighbours, &self.neighbours);
        for (seen, lane) in seen.smallest.iter_mut().zip(&self.smallest) {
            *seen = seen.min(lane.to_f64());
        }
        for (seen, lane) in seen.largest.iter_mut().zip(&self.largest) {
            *seen = seen.max(lane.to_f64());
        }
    }
}

#[inline(always)]
fn add<T: Real, const WIDTH: usize>(seen: &mut [f64; LANES], lanes: &[T; WIDTH]) {
    seen.iter_mut().zip(lanes).for_each(|(seen, lane)| *seen += lane.to_f64());
}

/// A number if it is finite, else 0: what is not finite counts as nothing in every sum.
fn counted<T: Real>(value: T) -> f64 {
    if value.is_finite() { value.to_f64() } else { 0.0 }
}

/// Looks at a row of the input, whatever it holds.
fn input<T: Real>(row: &[T], seen: &mut Statistics) {
    seen.count += row.len();
    for (position, value) in row.iter().enumerate() {
        if !value.is_finite() {
            seen.non_finite += 1;
            continue;
        }
        let value = value.to_f64();
        seen.sum[0] += value;
        seen.squares[0] += value * value;
        seen.smallest[0] = seen.smallest[0].min(value);
        seen.largest[0] = seen.largest[0].max(value);
        seen.dead[0] += if value.abs() < telemetry::DEAD_BELOW { 1.0 } else { 0.0 };
        seen.neighbours[0] += row.get(position + 1).map_or(0.0, |next| value * counted(*next));
    }
}

/// Looks at a row of the output's gradient, whatever it holds.
fn gradient<T: Real>(row: &[T], seen: &mut Statistics) {
    for value in row {
        let value = counted(*value);
        seen.gradient_squares[0] += value * value;
    }
}
