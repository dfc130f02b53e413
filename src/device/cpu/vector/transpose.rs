//! Rows to lanes and back.

use super::Real;

const BLOCK: usize = 8;

/// A matrix to turn: `to[column * to_stride + row] = from[row * from_stride + column]`.
#[derive(Clone, Copy, Debug)]
pub struct Transposition<T> {
    pub from: *const T,
    pub from_stride: usize,
    pub to: *mut T,
    pub to_stride: usize,
    pub rows: usize,
    pub columns: usize,
}

/// Turns a matrix, in square blocks.
///
/// # Safety
/// All elements that the sizes and strides reach must be valid, none of them both read and written.
#[inline(always)]
pub unsafe fn transpose<T: Real>(work: &Transposition<T>) {
    let (rows, columns) = (work.rows / BLOCK * BLOCK, work.columns / BLOCK * BLOCK);
    // SAFETY: the caller's promise; rows and columns stay below the sizes.
    unsafe {
        for row in (0..rows).step_by(BLOCK) {
            for column in (0..columns).step_by(BLOCK) {
                let mut block = [[T::ZERO; BLOCK]; BLOCK];
                for (position, line) in block.iter_mut().enumerate() {
                    *line = *work.from.add((row + position) * work.from_stride + column).cast::<[T; BLOCK]>();
                }
                for position in 0..BLOCK {
                    let line: [T; BLOCK] = std::array::from_fn(|row| block[row][position]);
                    *work.to.add((column + position) * work.to_stride + row).cast::<[T; BLOCK]>() = line;
                }
            }
        }
        for row in 0..work.rows {
            let first = if row < rows { columns } else { 0 };
            for column in first..work.columns {
                *work.to.add(column * work.to_stride + row) = *work.from.add(row * work.from_stride + column);
            }
        }
    }
}
