//! Row tensors: their element types, and tiles of them as lanes.

use super::vector::{Numbers, Real, Transposition, Vectors};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// The element type of a row tensor.
pub trait Element: Copy + Send + Sync + 'static {
    /// What its numbers are computed in.
    type Real: Real + super::scratch::Plain;
    /// Whether that is the same type.
    const COMPUTES: bool;
    /// How much larger a computed number can be than a stored one.
    const HEADROOM: Self::Real;
    /// To the type of computation.
    fn widen(from: &[Self], to: &mut [Self::Real]);
    /// From the type of computation, rounded to the nearest.
    fn narrow(from: &[Self::Real], to: &mut [Self]);
}

macro_rules! computing {
    ($type:ident) => {
        impl Element for $type {
            type Real = $type;
            const COMPUTES: bool = true;
            const HEADROOM: $type = 1.0;

            fn widen(from: &[$type], to: &mut [$type]) {
                to.copy_from_slice(from);
            }

            fn narrow(from: &[$type], to: &mut [$type]) {
                to.copy_from_slice(from);
            }
        }
    };
}

macro_rules! converted {
    ($type:ident) => {
        impl Element for $type {
            type Real = f32;
            const COMPUTES: bool = false;
            const HEADROOM: f32 = f32::MAX / <$type>::MAX.to_f32_const();

            fn widen(from: &[$type], to: &mut [f32]) {
                from.convert_to_f32_slice(to);
            }

            fn narrow(from: &[f32], to: &mut [$type]) {
                to.convert_from_f32_slice(from);
            }
        }
    };
}

computing!(f32);
computing!(f64);
converted!(f16);
converted!(bf16);

/// A row tensor as a pointer.
#[derive(Clone, Copy)]
pub struct Tensor<E> {
    pub first: *mut E,
    pub stride: usize,
}

// SAFETY: a tensor is an address; whoever goes there answers for it.
unsafe impl<E: Send> Send for Tensor<E> {}
// SAFETY: as above.
unsafe impl<E: Sync> Sync for Tensor<E> {}

impl<E: Element> Tensor<E> {
    /// Some channels of a row.
    ///
    /// # Safety
    /// The elements are valid and nobody writes them meanwhile.
    pub unsafe fn row<'a>(self, row: usize, channel: usize, channels: usize) -> &'a [E] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.first.add(row * self.stride + channel), channels) }
    }

    /// Copies the bits of some channels of a row from another tensor, which may be this one.
    ///
    /// # Safety
    /// The elements are valid and nobody else reads or writes those of this tensor meanwhile.
    pub unsafe fn copy_row(self, from: Tensor<E>, row: usize, channel: usize, channels: usize) {
        // SAFETY: the caller's promise; `copy` allows the two to be the same.
        unsafe {
            let to = self.first.add(row * self.stride + channel);
            std::ptr::copy(from.first.add(row * from.stride + channel), to, channels);
        }
    }
}

/// A range of rows of one chunk, as many rows as fit a tile.
#[derive(Clone, Copy)]
pub struct Tile {
    pub row: usize,
    pub rows: usize,
    pub channel: usize,
    pub channels: usize,
    /// Lanes of the row space; at least `rows`.
    pub lanes: usize,
}

impl Tile {
    /// The tile's rows of a tensor in the type of computation: where they lie, or widened into `staging`.
    ///
    /// # Safety
    /// The tile lies within the tensor, nobody writes it meanwhile, and `staging` has room for the tile.
    pub unsafe fn numbers<E: Element>(&self, tensor: Tensor<E>, staging: *mut E::Real) -> Numbers<E::Real> {
        // SAFETY: the caller's promise.
        unsafe {
            if E::COMPUTES {
                let first = tensor.first.add(self.row * tensor.stride + self.channel);
                return Numbers { first: first.cast(), stride: tensor.stride, rows: self.rows, columns: self.channels };
            }
            for row in 0..self.rows {
                let to = std::slice::from_raw_parts_mut(staging.add(row * self.channels), self.channels);
                E::widen(tensor.row(self.row + row, self.channel, self.channels), to);
            }
            Numbers { first: staging, stride: self.channels, rows: self.rows, columns: self.channels }
        }
    }

    /// Puts rows of numbers into the row space as lanes; lanes without a row become 0.
    ///
    /// # Safety
    /// `numbers` are what the other function gave, `to` has room for the tile's channels times its lanes.
    pub unsafe fn load<T: Real>(&self, vectors: &Vectors<T>, numbers: &Numbers<T>, to: *mut T) {
        // SAFETY: the caller's promise; the vectors were detected on this CPU.
        unsafe {
            (vectors.transpose)(&Transposition {
                from: numbers.first,
                from_stride: numbers.stride,
                to,
                to_stride: self.lanes,
                rows: self.rows,
                columns: self.channels,
            });
            if self.rows < self.lanes {
                for channel in 0..self.channels {
                    let idle = to.add(channel * self.lanes + self.rows);
                    std::slice::from_raw_parts_mut(idle, self.lanes - self.rows).fill(T::ZERO);
                }
            }
        }
    }

    /// Writes lanes as rows of a tensor; rows that fell back get the bits of another tensor.
    ///
    /// # Safety
    /// `from` holds the tile's channels times its lanes, `staging` has room for them, the tile lies within both tensors
    /// and nobody else reads or writes it in `output` meanwhile.
    pub unsafe fn store<E: Element>(
        &self,
        vectors: &Vectors<E::Real>,
        from: *const E::Real,
        output: Tensor<E>,
        fell_back: Option<(&[bool], Tensor<E>)>,
        staging: *mut E::Real,
    ) {
        let direct = E::COMPUTES && fell_back.is_none();
        // SAFETY: the caller's promise; a tensor whose type computes has elements of that type.
        unsafe {
            let place = output.first.add(self.row * output.stride + self.channel);
            let (to, to_stride) = if direct { (place.cast(), output.stride) } else { (staging, self.channels) };
            (vectors.transpose)(&Transposition {
                from,
                from_stride: self.lanes,
                to,
                to_stride,
                rows: self.channels,
                columns: self.rows,
            });
            if direct {
                return;
            }
            for row in 0..self.rows {
                match fell_back {
                    Some((fell_back, instead)) if fell_back[row] => {
                        output.copy_row(instead, self.row + row, self.channel, self.channels);
                    }
                    _ => {
                        let numbers = std::slice::from_raw_parts(staging.add(row * self.channels), self.channels);
                        let to = std::slice::from_raw_parts_mut(place.add(row * output.stride), self.channels);
                        E::narrow(numbers, to);
                    }
                }
            }
        }
    }
}
