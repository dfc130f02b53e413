//! Where the uniform factors of contractions lie in shared memory: 16-bit numbers as 8 by 8 of them, which serve a matrix and the same
//! one with rows and columns exchanged, or f32 as the tensor cores want them. Knows no step that reads them.

use crate::compile::{KernelClass, ValueId};

/// Bytes of a vector, the most that one instruction moves.
pub const VECTOR_BYTES: usize = 16;

/// Vectors from a line of so many bytes to the next: an odd number, so that the same part of eight lines meets in no bank of
/// shared memory.
pub fn line_vectors(bytes: usize) -> usize {
    (bytes / VECTOR_BYTES) | 1
}

/// A matrix `[inner, outer]` that a contraction multiplies by.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::compile::codegen::cuda) struct Weight {
    pub value: ValueId,
    pub offset: usize,
    pub inner: usize,
    pub inner_stride: usize,
    pub outer: usize,
    pub outer_stride: usize,
    /// Where it begins in shared memory, in numbers from the end of what other values take.
    pub start: usize,
}

impl Weight {
    /// The same numbers with rows and columns exchanged.
    pub fn exchanged(&self) -> Weight {
        let Weight { inner, inner_stride, outer, outer_stride, .. } = *self;
        let (inner, outer) = (outer, inner);
        Weight { inner, inner_stride: outer_stride, outer, outer_stride: inner_stride, ..self.clone() }
    }

    /// Whether lines of shared memory hold what is multiplied and added, and not the results: what lies side by side in the
    /// value does so there.
    pub fn is_inner_along(&self) -> bool {
        self.inner_stride == 1 || self.outer_stride != 1
    }

    /// Lines of 16-bit factors: how many, of how many elements. In shared memory, eight neighbours of each of eight lines lie together, a
    /// vector to a line, and those of the same eight lines one after the other.
    pub fn lines(&self) -> (usize, usize) {
        if self.is_inner_along() { (self.outer, self.inner) } else { (self.inner, self.outer) }
    }

    /// Vectors of such a line.
    pub fn vectors(&self) -> usize {
        self.lines().1 / 8
    }

    /// Numbers of shared memory. f32 lies as the tensor cores want 8 by 8 factors, two to a lane, in two parts each unless they
    /// are rounded.
    pub fn extent(&self, class: &KernelClass) -> usize {
        match class.data_type.bytes() {
            2 => self.inner * self.outer / 2,
            _ => self.inner / 8 * (self.outer / 8) * Weight::extent_together(class),
        }
    }

    /// Numbers that 8 by 8 factors of f32 take.
    pub fn extent_together(class: &KernelClass) -> usize {
        if class.tf32 { 64 } else { 128 }
    }
}
