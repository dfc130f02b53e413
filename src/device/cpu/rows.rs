//! Row tensors, and tiles of them as lanes.
//!
//! Two layouts are fast: the channels of a row adjacent, where a tile is turned between rows and lanes, and the rows of a
//! channel adjacent, where a tile is lanes as it lies. Any other is walked element by element.

use super::vector::{Copies, Element, Elements, Numbers, Real, Transposition};
use crate::device::Rows;

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

    /// The tile's rows of a tensor in the type of computation, in `staging`.
    ///
    /// # Safety
    /// The tile lies within the tensor, nobody writes it meanwhile, and `staging` has room for the tile.
    pub unsafe fn numbers<E: Element>(
        &self,
        elements: &Elements<E>,
        tensor: Tensor<E>,
        staging: *mut E::Real,
    ) -> Numbers<E::Real> {
        let Tile { row, channel, channels, .. } = *self;
        // SAFETY: the caller's promise; a tensor whose type computes has elements of that type; this CPU has the
        // instructions.
        unsafe {
            if tensor.channels_are_adjacent() {
                for (start, run) in self.runs(tensor) {
                    let from = self.evenly_spaced(tensor, start, run);
                    (elements.widen)(&from, staging.add(start * channels), None);
                }
                return self.staged(staging);
            }
            let adjacent = tensor.rows_are_adjacent();
            for (start, run) in self.runs(tensor) {
                let to = staging.add(start * channels);
                if E::COMPUTES && adjacent {
                    (elements.vectors.transpose)(&Transposition {
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
                    self.widen(elements, tensor, start, column, &mut widened[..run]);
                    for (row, number) in widened[..run].iter().enumerate() {
                        *to.add(row * channels + column) = *number;
                    }
                }
            }
        }
        self.staged(staging)
    }

    /// As [`Tile::numbers`], and copies the bits of the tile to another tensor.
    ///
    /// # Safety
    /// As there; the tile lies within the other tensor, and nobody else reads or writes it there meanwhile.
    pub unsafe fn numbers_and_copy<E: Element>(
        &self,
        elements: &Elements<E>,
        tensor: Tensor<E>,
        output: Tensor<E>,
        staging: *mut E::Real,
    ) -> Numbers<E::Real> {
        let even = |tensor: Tensor<E>| tensor.channels_are_adjacent() && tensor.run(self.row, self.rows) == self.rows;
        // SAFETY: the caller's promise; this CPU has the instructions.
        unsafe {
            if even(tensor) && even(output) {
                let copies = Copies { first: output.at(self.row, self.channel), stride: output.rows.stride };
                (elements.widen)(&self.evenly_spaced(tensor, 0, self.rows), staging, Some(copies));
                return self.staged(staging);
            }
            let numbers = self.numbers(elements, tensor, staging);
            output.copy(tensor, self);
            numbers
        }
    }

    /// A run of the tile's rows of a tensor whose channels are adjacent.
    ///
    /// # Safety
    /// The tile lies within the tensor.
    unsafe fn evenly_spaced<E: Element>(&self, tensor: Tensor<E>, start: usize, rows: usize) -> Numbers<E> {
        // SAFETY: the caller's promise.
        let first = unsafe { tensor.at(self.row + start, self.channel) }.cast_const();
        Numbers { first, stride: tensor.rows.stride, rows, columns: self.channels }
    }

    /// The tile's rows, one after the other in `staging`.
    fn staged<T>(&self, staging: *mut T) -> Numbers<T> {
        Numbers { first: staging.cast_const(), stride: self.channels, rows: self.rows, columns: self.channels }
    }

    /// Puts the tile's rows of a tensor into the row space as lanes; lanes without a row become 0. `numbers` are those rows,
    /// if [`Tile::numbers`] was asked for them.
    ///
    /// # Safety
    /// As [`Tile::numbers`], and `to` has room for the tile's channels times its lanes.
    pub unsafe fn load<E: Element>(
        &self,
        elements: &Elements<E>,
        tensor: Tensor<E>,
        numbers: Option<Numbers<E::Real>>,
        staging: *mut E::Real,
        to: *mut E::Real,
    ) {
        // SAFETY: the caller's promise; this CPU has the instructions.
        unsafe {
            if tensor.channels_are_adjacent() {
                let numbers = numbers.unwrap_or_else(|| self.numbers(elements, tensor, staging));
                (elements.vectors.transpose)(&Transposition {
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
                        self.widen(elements, tensor, start, channel, lanes);
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
        elements: &Elements<E>,
        from: *const E::Real,
        output: Tensor<E>,
        fell_back: Option<(&[bool], Tensor<E>)>,
        staging: *mut E::Real,
    ) {
        // SAFETY: the caller's promise; a tensor whose type computes has elements of that type; this CPU has the
        // instructions.
        unsafe {
            if !output.channels_are_adjacent() {
                return self.scatter(elements, from, output, fell_back);
            }
            let direct = E::COMPUTES && fell_back.is_none() && output.run(self.row, self.rows) == self.rows;
            let place = output.at(self.row, self.channel).cast();
            let (to, to_stride) = if direct { (place, output.rows.stride) } else { (staging, self.channels) };
            (elements.vectors.transpose)(&Transposition {
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
                        (elements.narrow)(numbers, std::slice::from_raw_parts_mut(to, self.channels));
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
        elements: &Elements<E>,
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
                        (elements.narrow)(numbers, std::slice::from_raw_parts_mut(to, run));
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
                    let number = *from.add(channel * self.lanes + row);
                    *output.at(self.row + row, self.channel + channel) = E::narrow(number);
                }
            }
        }
    }

    /// One channel of a run of the tile's rows in the type of computation. Rows and channel are counted from the tile's
    /// first.
    ///
    /// # Safety
    /// The rows are one run of the tensor, and the tile lies within it.
    unsafe fn widen<E: Element>(
        &self,
        elements: &Elements<E>,
        tensor: Tensor<E>,
        start: usize,
        channel: usize,
        to: &mut [E::Real],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let from = tensor.at(self.row + start, self.channel + channel);
            if tensor.rows_are_adjacent() {
                let from = Numbers { first: from.cast_const(), stride: 0, rows: 1, columns: to.len() };
                (elements.widen)(&from, to.as_mut_ptr(), None);
                return;
            }
            for (row, number) in to.iter_mut().enumerate() {
                *number = (*from.add(row * tensor.rows.stride)).widen();
            }
        }
    }
}
