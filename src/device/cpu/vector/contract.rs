//! Sums of products, the bulk of the work: blocks of outputs times blocks of lanes, held in registers.

use super::Real;

/// For each output `o` and each lane `l`: the sum over `d` of `scalars[o, d] * lanes[d, l]`.
///
/// Strides are in elements; lanes are adjacent.
#[derive(Clone, Copy, Debug)]
pub struct Contraction<T> {
    pub scalars: *const T,
    pub scalar_output: usize,
    pub scalar_depth: usize,
    pub lanes: *const T,
    pub lane_depth: usize,
    pub result: *mut T,
    pub result_output: usize,
    pub outputs: usize,
    pub depth: usize,
    /// How many lanes are written. `lanes` is readable up to the next multiple of [`PADDING`].
    pub width: usize,
    /// Whether the sum is added to the result instead of replacing it.
    pub add: bool,
}

/// Lanes are read in blocks of at least so many.
pub const PADDING: usize = 8;

/// Runs a contraction in blocks of `OUTPUTS` times `WIDTH` and what is left over in smaller ones.
///
/// # Safety
/// All elements that the sizes and strides reach must be valid, the result's not among those that are read.
#[inline(always)]
pub unsafe fn contract<T: Real, const FUSED: bool, const OUTPUTS: usize, const WIDTH: usize>(work: &Contraction<T>) {
    let mut lane = 0;
    while lane < work.width {
        let left = work.width - lane;
        // SAFETY: the caller's promise; every block lies within the outputs and within the padded lanes.
        unsafe {
            if left >= WIDTH {
                outputs::<T, FUSED, OUTPUTS, WIDTH>(work, lane, WIDTH);
                lane += WIDTH;
            } else if WIDTH > 2 * PADDING && left >= 2 * PADDING {
                outputs::<T, FUSED, OUTPUTS, { 2 * PADDING }>(work, lane, 2 * PADDING);
                lane += 2 * PADDING;
            } else {
                outputs::<T, FUSED, OUTPUTS, PADDING>(work, lane, left.min(PADDING));
                lane += PADDING;
            }
        }
    }
}

/// # Safety
/// As [`contract`]; `width` lanes from `lane` on are written, `WIDTH` are readable.
#[inline(always)]
unsafe fn outputs<T: Real, const FUSED: bool, const OUTPUTS: usize, const WIDTH: usize>(
    work: &Contraction<T>,
    lane: usize,
    width: usize,
) {
    let mut output = 0;
    // SAFETY: the caller's promise; the blocks cover each output once.
    unsafe {
        while output + OUTPUTS <= work.outputs {
            block::<T, FUSED, OUTPUTS, WIDTH>(work, output, lane, width);
            output += OUTPUTS;
        }
        while output + 2 <= work.outputs {
            block::<T, FUSED, 2, WIDTH>(work, output, lane, width);
            output += 2;
        }
        if output < work.outputs {
            block::<T, FUSED, 1, WIDTH>(work, output, lane, width);
        }
    }
}

/// # Safety
/// As [`outputs`], for `OUTPUTS` outputs from `output` on.
#[inline(always)]
unsafe fn block<T: Real, const FUSED: bool, const OUTPUTS: usize, const WIDTH: usize>(
    work: &Contraction<T>,
    output: usize,
    lane: usize,
    width: usize,
) {
    let mut sums = [[T::ZERO; WIDTH]; OUTPUTS];
    // SAFETY: the caller's promise makes every element up to `depth` and `WIDTH` readable, and as arrays of T have T's
    // alignment, so are the arrays.
    unsafe {
        let scalars = work.scalars.add(output * work.scalar_output);
        let lanes = work.lanes.add(lane);
        for step in 0..work.depth {
            let lanes = *lanes.add(step * work.lane_depth).cast::<[T; WIDTH]>();
            for (output, sums) in sums.iter_mut().enumerate() {
                let scalar = *scalars.add(output * work.scalar_output + step * work.scalar_depth);
                for (sum, lane) in sums.iter_mut().zip(&lanes) {
                    *sum = scalar.multiply_add::<FUSED>(*lane, *sum);
                }
            }
        }
        for (position, sums) in sums.iter().enumerate() {
            let result = work.result.add((output + position) * work.result_output + lane);
            if width == WIDTH {
                let result = &mut *result.cast::<[T; WIDTH]>();
                for (result, sum) in result.iter_mut().zip(sums) {
                    *result = if work.add { *result + *sum } else { *sum };
                }
            } else {
                // A loop of fixed length: one of `width` would keep the sums in memory all the time.
                for (position, sum) in sums.iter().enumerate() {
                    if position < width {
                        let result = result.add(position);
                        *result = if work.add { *result + *sum } else { *sum };
                    }
                }
            }
        }
    }
}
