//! Row tensors: their element types, and tiles of them as lanes.
//!
//! Two layouts are fast: the channels of a row adjacent, where a tile is turned between rows and lanes, and the rows of a
//! channel adjacent, where a tile is lanes as it lies. Any other is walked element by element.

use super::vector::{Numbers, Real, Transposition, Vectors};
use crate::device::Rows;
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
    first: *mut E,
    rows: Rows,
}

// SAFETY: a tensor is an address; whoever goes there answers for it.
unsafe impl<E: Send> Send for Tensor<E> {}
// SAFETY: as above.
unsafe impl<E: Sync> Sync for Tensor<E> {}

impl<E: Element> Tensor<E> {
    /// The tensor that lies so.
    pub fn new(rows: Rows) -> Self {
        Tensor { first: rows.address.0 as *mut E, rows }
    }

    /// Whether both begin at the same element.
    pub fn is_at(self, other: Tensor<E>) -> bool {
        self.first == other.first
    }

    /// Whether the channels of a row lie beside each other.
    fn channels_are_adjacent(self) -> bool {
        self.rows.channel_stride == 1
    }

    /// Whether the rows of a channel lie beside each other, at least those of a group.
    pub fn rows_are_adjacent(self) -> bool {
        self.rows.stride == 1
    }

    /// How many of so many rows from one on are evenly spaced.
    fn run(self, row: usize, rows: usize) -> usize {
        rows.min(self.rows.group - row % self.rows.group)
    }

    /// # Safety
    /// The element is within the tensor.
    unsafe fn at(self, row: usize, channel: usize) -> *mut E {
        // SAFETY: the caller's promise.
        unsafe { self.first.add(self.rows.offset(row) + channel * self.rows.channel_stride) }
    }

    /// Copies the bits of a tile from another tensor, which may be this one.
    ///
    /// # Safety
    /// The tile lies within both tensors, and nobody else reads or writes it in this one meanwhile.
    pub unsafe fn copy(self, from: Tensor<E>, tile: &Tile) {
        let (channels, last) = (tile.channel..tile.channel + tile.channels, tile.row + tile.rows);
        // SAFETY: the caller's promise; `copy` allows the two to be the same.
        unsafe {
            if self.channels_are_adjacent() && from.channels_are_adjacent() {
                for row in tile.row..last {
                    std::ptr::copy(from.at(row, tile.channel), self.at(row, tile.channel), tile.channels);
                }
                return;
            }
            let adjacent = self.rows_are_adjacent() && from.rows_are_adjacent();
            let mut row = tile.row;
            while row < last {
                let run = if adjacent { from.run(row, self.run(row, last - row)) } else { 1 };
                for channel in channels.clone() {
                    std::ptr::copy(from.at(row, channel), self.at(row, channel), run);
                }
                row += run;
            }
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
    /// The tile's evenly spaced runs of rows: the first row of each, counted from the tile's first, and how many.
    fn runs<E: Element>(&self, tensor: Tensor<E>) -> impl Iterator<Item = (usize, usize)> {
        let Tile { row: first, rows, .. } = *self;
        let next = move |start: usize| (start < rows).then(|| (start, tensor.run(first + start, rows - start)));
        std::iter::successors(next(0), move |(start, run)| next(start + run))
    }

    /// One row of the tile, counted from the tile's first.
    fn only(&self, row: usize) -> Tile {
        Tile { row: self.row + row, rows: 1, ..*self }
    }

    /// The tile's rows of a tensor in the type of computation: where they lie, or widened into `staging`.
    ///
    /// # Safety
    /// The tile lies within the tensor, nobody writes it meanwhile, and `staging` has room for the tile.
    pub unsafe fn numbers<E: Element>(
        &self,
        vectors: &Vectors<E::Real>,
        tensor: Tensor<E>,
        staging: *mut E::Real,
    ) -> Numbers<E::Real> {
        let Tile { row, rows, channel, channels, .. } = *self;
        let staged = Numbers { first: staging.cast_const(), stride: channels, rows, columns: channels };
        // SAFETY: the caller's promise; a tensor whose type computes has elements of that type; the vectors were detected
        // on this CPU.
        unsafe {
            if tensor.channels_are_adjacent() {
                if E::COMPUTES && tensor.run(row, rows) == rows {
                    return Numbers { first: tensor.at(row, channel).cast(), stride: tensor.rows.stride, ..staged };
                }
                for row in 0..rows {
                    let from = std::slice::from_raw_parts(tensor.at(self.row + row, channel), channels);
                    E::widen(from, std::slice::from_raw_parts_mut(staging.add(row * channels), channels));
                }
                return staged;
            }
            let adjacent = tensor.rows_are_adjacent();
            for (start, run) in self.runs(tensor) {
                let to = staging.add(start * channels);
                if E::COMPUTES && adjacent {
                    (vectors.transpose)(&Transposition {
                        from: tensor.at(row + start, channel).cast(),
                        from_stride: tensor.rows.channel_stride,
                        to,
                        to_stride: channels,
                        rows: channels,
                        columns: run,
                    });
                    continue;
                }
                let mut widened = [E::Real::ZERO; super::machine::LANES];
                for column in 0..channels {
                    self.widen(tensor, start, column, &mut widened[..run]);
                    for (row, number) in widened[..run].iter().enumerate() {
                        *to.add(row * channels + column) = *number;
                    }
                }
            }
        }
        staged
    }

    /// Puts the tile's rows of a tensor into the row space as lanes; lanes without a row become 0. `numbers` are those rows,
    /// if [`Tile::numbers`] was asked for them.
    ///
    /// # Safety
    /// As [`Tile::numbers`], and `to` has room for the tile's channels times its lanes.
    pub unsafe fn load<E: Element>(
        &self,
        vectors: &Vectors<E::Real>,
        tensor: Tensor<E>,
        numbers: Option<Numbers<E::Real>>,
        staging: *mut E::Real,
        to: *mut E::Real,
    ) {
        // SAFETY: the caller's promise; the vectors were detected on this CPU.
        unsafe {
            if tensor.channels_are_adjacent() {
                let numbers = numbers.unwrap_or_else(|| self.numbers(vectors, tensor, staging));
                (vectors.transpose)(&Transposition {
                    from: numbers.first,
                    from_stride: numbers.stride,
                    to,
                    to_stride: self.lanes,
                    rows: self.rows,
                    columns: self.channels,
                });
            } else {
                for (start, run) in self.runs(tensor) {
                    for channel in 0..self.channels {
                        let lanes = std::slice::from_raw_parts_mut(to.add(channel * self.lanes + start), run);
                        self.widen(tensor, start, channel, lanes);
                    }
                }
            }
            if self.rows < self.lanes {
                for channel in 0..self.channels {
                    let idle = to.add(channel * self.lanes + self.rows);
                    std::slice::from_raw_parts_mut(idle, self.lanes - self.rows).fill(E::Real::ZERO);
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
        // SAFETY: the caller's promise; a tensor whose type computes has elements of that type; the vectors were detected
        // on this CPU.
        unsafe {
            if !output.channels_are_adjacent() {
                return self.scatter(from, output, fell_back);
            }
            let direct = E::COMPUTES && fell_back.is_none() && output.run(self.row, self.rows) == self.rows;
            let place = output.at(self.row, self.channel).cast();
            let (to, to_stride) = if direct { (place, output.rows.stride) } else { (staging, self.channels) };
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
                    Some((fell_back, instead)) if fell_back[row] => output.copy(instead, &self.only(row)),
                    _ => {
                        let numbers = std::slice::from_raw_parts(staging.add(row * self.channels), self.channels);
                        let to = output.at(self.row + row, self.channel);
                        E::narrow(numbers, std::slice::from_raw_parts_mut(to, self.channels));
                    }
                }
            }
        }
    }

    /// [`Tile::store`] to a tensor whose channels are apart.
    ///
    /// # Safety
    /// As there.
    unsafe fn scatter<E: Element>(
        &self,
        from: *const E::Real,
        output: Tensor<E>,
        fell_back: Option<(&[bool], Tensor<E>)>,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            if fell_back.is_none() && output.rows_are_adjacent() {
                for (start, run) in self.runs(output) {
                    for channel in 0..self.channels {
                        let numbers = std::slice::from_raw_parts(from.add(channel * self.lanes + start), run);
                        let to = output.at(self.row + start, self.channel + channel);
                        E::narrow(numbers, std::slice::from_raw_parts_mut(to, run));
                    }
                }
                return;
            }
            for row in 0..self.rows {
                if let Some((fell_back, instead)) = fell_back
                    && fell_back[row]
                {
                    output.copy(instead, &self.only(row));
                    continue;
                }
                for channel in 0..self.channels {
                    let number = std::slice::from_ref(&*from.add(channel * self.lanes + row));
                    let to = output.at(self.row + row, self.channel + channel);
                    E::narrow(number, std::slice::from_mut(&mut *to));
                }
            }
        }
    }

    /// One channel of a run of the tile's rows in the type of computation. Rows and channel are counted from the tile's
    /// first.
    ///
    /// # Safety
    /// The rows are one run of the tensor, and the tile lies within it.
    unsafe fn widen<E: Element>(&self, tensor: Tensor<E>, start: usize, channel: usize, to: &mut [E::Real]) {
        // SAFETY: the caller's promise.
        unsafe {
            let from = tensor.at(self.row + start, self.channel + channel);
            if tensor.rows_are_adjacent() {
                E::widen(std::slice::from_raw_parts(from, to.len()), to);
                return;
            }
            for (row, number) in to.iter_mut().enumerate() {
                let element = from.add(row * tensor.rows.stride);
                E::widen(std::slice::from_ref(&*element), std::slice::from_mut(number));
            }
        }
    }
}
