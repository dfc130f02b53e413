//! Rows to lanes and back.

use super::Real;

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

/// Turns a matrix, in square blocks. `AVX` says that the instructions of that name are there.
///
/// # Safety
/// All elements that the sizes and strides reach must be valid, none of them both read and written; `AVX` is true.
#[inline(always)]
pub unsafe fn transpose<T: Real, const AVX: bool>(work: &Transposition<T>) {
    let block = if cfg!(target_arch = "x86_64") && AVX { 32 / size_of::<T>() } else { 4 };
    let (rows, columns) = (work.rows / block * block, work.columns / block * block);
    // SAFETY: the caller's promise; rows and columns stay below the sizes.
    unsafe {
        // Along the side that is further apart in memory a few lines at a time: tensors with a power of two of channels
        // put all their rows into the same few places of the first-level cache.
        let along = work.from_stride < work.to_stride;
        let (outer, inner) = if along { (columns, rows) } else { (rows, columns) };
        for outer in (0..outer).step_by(block) {
            for inner in (0..inner).step_by(block) {
                let (row, column) = if along { (inner, outer) } else { (outer, inner) };
                let from = work.from.add(row * work.from_stride + column);
                let to = work.to.add(column * work.to_stride + row);
                #[cfg(target_arch = "x86_64")]
                if AVX {
                    if size_of::<T>() == 4 {
                        avx::eight(from.cast(), work.from_stride, to.cast(), work.to_stride);
                    } else {
                        avx::four(from.cast(), work.from_stride, to.cast(), work.to_stride);
                    }
                    continue;
                }
                four(from, work.from_stride, to, work.to_stride);
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

/// A block of four by four.
///
/// # Safety
/// As [`transpose`].
#[inline(always)]
unsafe fn four<T: Real>(from: *const T, from_stride: usize, to: *mut T, to_stride: usize) {
    // SAFETY: the caller's promise; an array of T has T's alignment.
    unsafe {
        let [a, b, c, d] = [0, 1, 2, 3].map(|row| *from.add(row * from_stride).cast::<[T; 4]>());
        for column in 0..4 {
            *to.add(column * to_stride).cast::<[T; 4]>() = [a[column], b[column], c[column], d[column]];
        }
    }
}

/// Blocks as shuffles of vectors; the compiler does not find these by itself.
#[cfg(target_arch = "x86_64")]
mod avx {
    use std::arch::x86_64::*;

    /// Eight by eight.
    ///
    /// # Safety
    /// As [`super::transpose`], on a CPU with AVX.
    #[inline]
    #[target_feature(enable = "avx")]
    pub unsafe fn eight(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            // Each vector holds half a row and the same half of the row four further down.
            let pair = |row: usize, half: usize| {
                let (upper, lower) = (from.add(row * from_stride + half), from.add((row + 4) * from_stride + half));
                _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(_mm_loadu_ps(upper)), _mm_loadu_ps(lower))
            };
            for half in [0, 4] {
                let [a, b, c, d] = [0, 1, 2, 3].map(|row| pair(row, half));
                let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                let to = to.add(half * to_stride);
                _mm256_storeu_ps(to, _mm256_shuffle_ps::<0x44>(ab_low, cd_low));
                _mm256_storeu_ps(to.add(to_stride), _mm256_shuffle_ps::<0xee>(ab_low, cd_low));
                _mm256_storeu_ps(to.add(2 * to_stride), _mm256_shuffle_ps::<0x44>(ab_high, cd_high));
                _mm256_storeu_ps(to.add(3 * to_stride), _mm256_shuffle_ps::<0xee>(ab_high, cd_high));
            }
        }
    }

    /// Four by four.
    ///
    /// # Safety
    /// As [`super::transpose`], on a CPU with AVX.
    #[inline]
    #[target_feature(enable = "avx")]
    pub unsafe fn four(from: *const f64, from_stride: usize, to: *mut f64, to_stride: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let pair = |row: usize, half: usize| {
                let (upper, lower) = (from.add(row * from_stride + half), from.add((row + 2) * from_stride + half));
                _mm256_insertf128_pd::<1>(_mm256_castpd128_pd256(_mm_loadu_pd(upper)), _mm_loadu_pd(lower))
            };
            for half in [0, 2] {
                let (a, b) = (pair(0, half), pair(1, half));
                _mm256_storeu_pd(to.add(half * to_stride), _mm256_unpacklo_pd(a, b));
                _mm256_storeu_pd(to.add((half + 1) * to_stride), _mm256_unpackhi_pd(a, b));
            }
        }
    }
}
