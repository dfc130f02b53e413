//! The seeds as the host has them: the columns of a structure of arrays, in the very bytes that the device has too.
//!
//! Copies share the columns that are the same in both, so a copy of which little changes costs little. Knows no device, and nothing
//! of checks but what is needed to compare two copies.

use super::piece::Piece;
use super::seed::{SeedState, flags};
use crate::graph::DataType;
use crate::layer::Lifecycle;
use crate::layer::kernel_set::MAXIMUM_BLUEPRINTS;
use crate::{Result, fail};
use std::ops::Range;

/// The version of the columns below; part of the checksum and of checkpoints.
pub(super) const SCHEMA_VERSION: u8 = 2;

/// The columns, in the order in which they lie in memory.
pub const COLUMNS: [(&str, DataType); 12] = [
    ("lifecycle", DataType::I8),
    ("blueprint", DataType::I32),
    ("slot", DataType::I32),
    ("alpha", DataType::F32),
    ("epochs_in_state", DataType::I16),
    ("strategy", DataType::I8),
    ("last_update_epoch", DataType::U32),
    ("embargo", DataType::U16),
    ("error_count", DataType::U16),
    ("flags", DataType::U8),
    ("germinations", DataType::U32),
    ("strategy_memory", DataType::F64),
];

// Where some of them are among these.
pub(super) const LIFECYCLE: usize = 0;
pub(super) const BLUEPRINT: usize = 1;
pub(super) const SLOT: usize = 2;
const EPOCHS_IN_STATE: usize = 4;
const EMBARGO: usize = 7;
const FLAGS: usize = 9;

/// The columns, and the order of the seeds.
pub(super) const PIECES: usize = COLUMNS.len() + 1;

/// Where the order of the seeds is among the pieces. It follows from the columns: `[seeds]` u32.
pub(super) const ORDER: usize = COLUMNS.len();

/// Seeds that are looked at together: neighbours mostly are alike.
pub(super) const BLOCK: usize = 64;

/// All seeds, on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    pub(super) seeds: usize,
    /// Seeds that apply a blueprint, and seeds in TRAINING, as of the order.
    pub(super) applying: usize,
    pub(super) training: usize,
    /// The columns and the order, each with the padding that follows. They are checked, compared and uploaded by themselves.
    pub(super) pieces: [Piece; PIECES],
}

impl Columns {
    /// All dormant.
    pub fn new(seeds: u32) -> Columns {
        let seeds = seeds as usize;
        let pieces = std::array::from_fn(|piece| Piece::new(vec![0; (width(piece) * seeds).next_multiple_of(16)]));
        let mut columns = Columns { seeds, applying: 0, training: 0, pieces };
        for seed in 0..seeds as u32 {
            columns.set(seed, SeedState::dormant(0));
        }
        for (seed, place) in
            (0u32..).zip(columns.pieces[ORDER].bytes_mut()[..seeds * size_of::<u32>()].as_chunks_mut().0)
        {
            *place = seed.to_le_bytes();
        }
        columns
    }

    /// How many seeds there are.
    pub fn seeds(&self) -> u32 {
        self.seeds as u32
    }

    /// One seed.
    #[inline]
    pub fn get(&self, seed: u32) -> SeedState {
        let number = i8::from_le_bytes(self.read(0, seed));
        SeedState {
            // Only `set` and `from_parts` write the columns, and both know valid states only.
            lifecycle: Lifecycle::from_number(number).unwrap_or_default(),
            blueprint: i32::from_le_bytes(self.read(1, seed)),
            slot: i32::from_le_bytes(self.read(2, seed)),
            alpha: f32::from_le_bytes(self.read(3, seed)),
            epochs_in_state: i16::from_le_bytes(self.read(4, seed)),
            strategy: i8::from_le_bytes(self.read(5, seed)),
            last_update_epoch: u32::from_le_bytes(self.read(6, seed)),
            embargo: u16::from_le_bytes(self.read(7, seed)),
            error_count: u16::from_le_bytes(self.read(8, seed)),
            flags: u8::from_le_bytes(self.read(9, seed)),
            germinations: u32::from_le_bytes(self.read(10, seed)),
            strategy_memory: f64::from_le_bytes(self.read(11, seed)),
        }
    }

    /// Changes one seed.
    pub fn set(&mut self, seed: u32, state: SeedState) {
        let before = self.get(seed);
        self.change(seed, &before, &state);
    }

    /// Changes one seed that is known, in those columns in which it becomes another.
    #[inline]
    pub fn change(&mut self, seed: u32, before: &SeedState, after: &SeedState) {
        self.write(0, seed, [before.lifecycle as u8], [after.lifecycle as u8]);
        self.write(1, seed, before.blueprint.to_le_bytes(), after.blueprint.to_le_bytes());
        self.write(2, seed, before.slot.to_le_bytes(), after.slot.to_le_bytes());
        self.write(3, seed, before.alpha.to_le_bytes(), after.alpha.to_le_bytes());
        self.write(4, seed, before.epochs_in_state.to_le_bytes(), after.epochs_in_state.to_le_bytes());
        self.write(5, seed, before.strategy.to_le_bytes(), after.strategy.to_le_bytes());
        self.write(6, seed, before.last_update_epoch.to_le_bytes(), after.last_update_epoch.to_le_bytes());
        self.write(7, seed, before.embargo.to_le_bytes(), after.embargo.to_le_bytes());
        self.write(8, seed, before.error_count.to_le_bytes(), after.error_count.to_le_bytes());
        self.write(9, seed, [before.flags], [after.flags]);
        self.write(10, seed, before.germinations.to_le_bytes(), after.germinations.to_le_bytes());
        self.write(11, seed, before.strategy_memory.to_le_bytes(), after.strategy_memory.to_le_bytes());
    }

    /// Every seed, in order.
    pub fn iter(&self) -> impl Iterator<Item = SeedState> + '_ {
        (0..self.seeds()).map(|seed| self.get(seed))
    }

    /// The blueprints of all seeds, in order; -1 is none.
    pub fn blueprints(&self) -> impl Iterator<Item = i32> + '_ {
        self.column(BLUEPRINT).as_chunks().0.iter().map(|number| i32::from_le_bytes(*number))
    }

    /// The slots of all seeds, in order; -1 is none.
    pub fn slots(&self) -> impl Iterator<Item = i32> + '_ {
        self.column(SLOT).as_chunks().0.iter().map(|number| i32::from_le_bytes(*number))
    }

    /// The states and blueprints that neighbours have, and how many neighbours; all together are all seeds.
    pub fn kinds(&self) -> impl Iterator<Item = (Lifecycle, i32, u32)> + '_ {
        let blueprints = self.column(BLUEPRINT).chunks(BLOCK * size_of::<i32>());
        self.column(LIFECYCLE).chunks(BLOCK).zip(blueprints).flat_map(|(states, blueprints)| {
            let blueprints = blueprints.as_chunks().0;
            let (looked_at, seeds) = looked_at(is_uniform(states) && is_uniform_in(blueprints), states.len());
            let each = states.iter().zip(blueprints).take(looked_at);
            each.map(move |(number, blueprint)| {
                (Lifecycle::from_number(*number as i8).unwrap_or_default(), i32::from_le_bytes(*blueprint), seeds)
            })
        })
    }

    /// Whether every seed has the blueprint and the slot that it has there.
    pub fn are_placed_as(&self, other: &Columns) -> bool {
        [BLUEPRINT, SLOT].iter().all(|column| self.pieces[*column] == other.pieces[*column])
    }

    /// The numbers of the seeds in certain states, in order.
    pub fn numbers_in(&self, wanted: impl Fn(Lifecycle) -> bool + Copy) -> impl Iterator<Item = u32> {
        let is_wanted = move |number: u8| Lifecycle::from_number(number as i8).is_some_and(wanted);
        let blocks = (0..).step_by(BLOCK).zip(self.column(LIFECYCLE).chunks(BLOCK));
        let found = blocks.flat_map(move |(first, block)| {
            let block = if is_uniform(block) && !is_wanted(block[0]) { &[] } else { block };
            (first..).zip(block)
        });
        found.filter(move |(_, number)| is_wanted(**number)).map(|(seed, _)| seed)
    }

    /// The seeds in certain states, in order.
    pub fn seeds_in(&self, wanted: impl Fn(Lifecycle) -> bool + Copy) -> impl Iterator<Item = (u32, SeedState)> {
        self.numbers_in(wanted).map(|seed| (seed, self.get(seed)))
    }

    /// Lets an epoch pass for every seed: it is a longer time in its state, and its embargo is nearer its end.
    pub fn pass_epoch(&mut self) {
        for epochs in self.column_mut(EPOCHS_IN_STATE).as_chunks_mut().0 {
            *epochs = i16::from_le_bytes(*epochs).saturating_add(1).to_le_bytes();
        }
        if !(is_uniform(self.column(EMBARGO)) && self.column(EMBARGO)[0] == 0) {
            for epochs in self.column_mut(EMBARGO).as_chunks_mut().0 {
                *epochs = u16::from_le_bytes(*epochs).saturating_sub(1).to_le_bytes();
            }
        }
    }

    /// Raises the flag `READY` of the seeds with these blueprints, and lowers that of all others.
    pub fn mark_ready(&mut self, blueprints: &[u32]) {
        let mut ready = [0; MAXIMUM_BLUEPRINTS];
        blueprints.iter().for_each(|blueprint| ready[*blueprint as usize] = flags::READY);
        let ready = |blueprint: &[u8; 4]| ready.get(u32::from_le_bytes(*blueprint) as usize).copied().unwrap_or(0);
        let blueprints = self.column(BLUEPRINT).as_chunks().0.chunks(BLOCK);
        let mut marked = Vec::with_capacity(self.seeds);
        for (flags, blueprints) in self.column(FLAGS).chunks(BLOCK).zip(blueprints) {
            if is_uniform_in(blueprints) {
                let ready = ready(&blueprints[0]);
                marked.extend(flags.iter().map(|flags| flags & !flags::READY | ready));
            } else {
                marked.extend(flags.iter().zip(blueprints).map(|(flags, of)| flags & !flags::READY | ready(of)));
            }
        }
        if marked != self.column(FLAGS) {
            self.column_mut(FLAGS).copy_from_slice(&marked);
        }
    }

    /// The bytes of a column, by its position in [`COLUMNS`].
    pub fn column(&self, column: usize) -> &[u8] {
        &self.pieces[column].bytes()[..self.seeds * width(column)]
    }

    /// Puts columns together that were taken apart with [`Columns::column`].
    ///
    /// # Errors
    ///
    /// `FileCorrupted` for a column of the wrong length or a number that is no lifecycle state.
    pub fn from_parts(seeds: u32, parts: [&[u8]; COLUMNS.len()]) -> Result<Columns> {
        if let Some(number) = parts[0].iter().find(|number| Lifecycle::from_number(**number as i8).is_none()) {
            fail!(FileCorrupted, "{} is no lifecycle state; there are 0 to 10", *number as i8);
        }
        let lengths = COLUMNS.iter().zip(parts);
        if let Some(((name, _), part)) =
            lengths.clone().find(|((_, of), part)| part.len() != seeds as usize * of.bytes())
        {
            fail!(FileCorrupted, "the column '{name}' of {seeds} seeds has {} bytes", part.len());
        }
        let mut columns = Columns::new(seeds);
        for (column, part) in parts.into_iter().enumerate() {
            columns.column_mut(column).copy_from_slice(part);
        }
        columns.arrange();
        Ok(columns)
    }

    /// Puts seeds that apply a blueprint first in the order and seeds in TRAINING last, for kernels to begin with, from the end
    /// that has theirs: they take longer.
    pub(super) fn arrange(&mut self) {
        let (mut applying, mut training) = (0, 0);
        for (state, _, seeds) in self.kinds() {
            applying += if state.applies_blueprint() { seeds as usize } else { 0 };
            training += if state == Lifecycle::Training { seeds as usize } else { 0 };
        }
        // Without any, the order is that of the numbers.
        if applying + training == 0 && self.applying + self.training == 0 {
            return;
        }
        (self.applying, self.training) = (applying, training);
        let (mut first, mut other, mut last) = (0, applying, self.seeds - training);
        let (columns, order) = self.pieces.split_at_mut(ORDER);
        let order = order[0].bytes_mut().as_chunks_mut().0;
        for (seed, number) in (0u32..).zip(&columns[LIFECYCLE].bytes()[..self.seeds]) {
            let place = match Lifecycle::from_number(*number as i8) {
                Some(state) if state.applies_blueprint() => &mut first,
                Some(Lifecycle::Training) => &mut last,
                _ => &mut other,
            };
            order[*place] = seed.to_le_bytes();
            *place += 1;
        }
    }

    /// Where each piece lies on the device.
    pub(super) fn ranges(&self) -> [Range<usize>; PIECES] {
        let mut end = 0;
        self.pieces.each_ref().map(|piece| {
            let start = end;
            end += piece.bytes().len();
            start..end
        })
    }

    /// How many bytes all pieces have.
    pub(super) fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.bytes().len()).sum()
    }

    /// The columns whose bytes these are, one after the other.
    pub(super) fn of_bytes(&self, bytes: &[u8]) -> Columns {
        let pieces = self.ranges().map(|range| Piece::new(bytes[range].to_vec()));
        Columns { pieces, ..*self }
    }

    /// Makes all pieces such as further copies share, with the checksums that they have now.
    pub fn share(&mut self) {
        self.pieces.iter_mut().for_each(Piece::share);
    }

    /// Whether all pieces have the checksums that they must have, but for those that another copy has too.
    pub fn is_intact(&self, but_for: Option<&Columns>) -> bool {
        let known = |position: usize, piece: &Piece| but_for.is_some_and(|other| piece.is(&other.pieces[position]));
        let mut pieces = self.pieces.iter().enumerate();
        pieces.all(|(position, piece)| known(position, piece) || piece.vouches_for(piece.bytes()))
    }

    /// A copy with these checksums if it has them, to take this one's place.
    pub(super) fn restored(&self, mut copy: Columns) -> Option<Columns> {
        let same = self.pieces.iter().zip(&copy.pieces).all(|(piece, other)| piece.vouches_for(other.bytes()));
        same.then(|| {
            copy.share();
            copy
        })
    }

    /// CRC-32 over the schema version and all columns, as they are.
    pub(super) fn found_checksum(&self) -> u32 {
        let mut bytes = vec![SCHEMA_VERSION];
        self.pieces.iter().for_each(|piece| bytes.extend(piece.bytes()));
        crc32fast::hash(&bytes)
    }

    /// CRC-32 over the schema version and all columns, from that which each piece must have.
    pub(super) fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[SCHEMA_VERSION]);
        for piece in &self.pieces {
            let length = piece.bytes().len() as u64;
            hasher.combine(&crc32fast::Hasher::new_with_initial_len(piece.checksum(), length));
        }
        hasher.finalize()
    }

    /// The names of the columns in which another copy differs.
    pub(super) fn difference(&self, other: &Columns) -> String {
        let differs = |column: &usize| self.column(*column) != other.column(*column);
        let names: Vec<_> = (0..COLUMNS.len()).filter(differs).map(|column| COLUMNS[column].0).collect();
        if !names.is_empty() {
            return names.join(", ");
        }
        if self.pieces[ORDER] == other.pieces[ORDER] { "padding" } else { "order" }.to_owned()
    }

    /// Flips a bit of a piece, as a cosmic ray would.
    #[cfg(test)]
    pub fn flip_bit(&mut self, piece: usize, byte: usize) {
        self.pieces[piece].flip_bit(byte);
    }

    pub(super) fn column_mut(&mut self, column: usize) -> &mut [u8] {
        &mut self.pieces[column].bytes_mut()[..self.seeds * width(column)]
    }

    #[inline]
    fn read<const N: usize>(&self, column: usize, seed: u32) -> [u8; N] {
        let start = seed as usize * N;
        let mut element = [0; N];
        element.copy_from_slice(&self.pieces[column].bytes()[start..start + N]);
        element
    }

    #[inline]
    fn write<const N: usize>(&mut self, column: usize, seed: u32, before: [u8; N], after: [u8; N]) {
        if before != after {
            let start = seed as usize * N;
            self.pieces[column].bytes_mut()[start..start + N].copy_from_slice(&after);
        }
    }
}

/// Bytes of an element of a piece.
fn width(piece: usize) -> usize {
    COLUMNS.get(piece).map_or(size_of::<u32>(), |(_, data_type)| data_type.bytes())
}

/// Whether all bytes are the same. Without a branch for each, so that many are compared at once.
fn is_uniform(bytes: &[u8]) -> bool {
    let first = bytes.first().copied().unwrap_or_default();
    bytes.iter().fold(0, |differs, byte| differs | (byte ^ first)) == 0
}

/// How many seeds of a block are looked at, and how many each of them stands for.
pub(super) fn looked_at(alike: bool, seeds: usize) -> (usize, u32) {
    if alike { (1, seeds as u32) } else { (seeds, 1) }
}

/// Whether all numbers are the same.
pub(super) fn is_uniform_in(numbers: &[[u8; 4]]) -> bool {
    let first = numbers.first().map_or(0, |number| u32::from_le_bytes(*number));
    numbers.iter().fold(0, |differs, number| differs | (u32::from_le_bytes(*number) ^ first)) == 0
}
