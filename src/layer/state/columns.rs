//! The seeds as the host has them: the columns of a structure of arrays, in the very bytes that the device has too.
//!
//! Knows no device, and nothing of checks but what is needed to compare two copies.

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
const BLUEPRINT: usize = 1;
const SLOT: usize = 2;
const EPOCHS_IN_STATE: usize = 4;
const EMBARGO: usize = 7;
const FLAGS: usize = 9;

/// Bits of the column `flags`.
pub mod flags {
    /// The seed's kernel is compiled and loaded.
    pub const READY: u8 = 1;
    /// A row fell back to identity since the seed germinated.
    pub const FALLBACK_USED: u8 = 2;
    /// A gradient of the seed's parameters was not finite since it germinated.
    pub const NON_FINITE_SEEN: u8 = 4;
    /// Alpha is held.
    pub const PAUSED: u8 = 8;
    /// All of them.
    pub const ALL: u8 = READY | FALLBACK_USED | NON_FINITE_SEEN | PAUSED;
}

/// The columns, and the order of the seeds.
pub(super) const PIECES: usize = COLUMNS.len() + 1;

/// One seed: a row of the columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeedState {
    /// Its state.
    pub lifecycle: Lifecycle,
    /// Its blueprint, or -1.
    pub blueprint: i32,
    /// Its slot in the bank, or -1.
    pub slot: i32,
    /// Its blend weight.
    pub alpha: f32,
    /// Epochs that ended since the state began.
    pub epochs_in_state: i16,
    /// How alpha rises.
    pub strategy: i8,
    /// The epoch at whose end (or, in a rollback, in which) the state began.
    pub last_update_epoch: u32,
    /// Epochs until it may be reset.
    pub embargo: u16,
    /// Epochs with errors since it germinated.
    pub error_count: u16,
    /// See [`flags`].
    pub flags: u8,
    /// How often it has germinated.
    pub germinations: u32,
    /// What the strategy remembers of the seed: a momentum or a running mean; 0 when it germinates.
    pub strategy_memory: f64,
}

impl SeedState {
    /// A dormant seed that has germinated this often.
    pub fn dormant(germinations: u32) -> SeedState {
        SeedState {
            lifecycle: Lifecycle::Dormant,
            blueprint: -1,
            slot: -1,
            alpha: 0.0,
            epochs_in_state: 0,
            strategy: 0,
            last_update_epoch: 0,
            embargo: 0,
            error_count: 0,
            flags: 0,
            germinations,
            strategy_memory: 0.0,
        }
    }

    /// The seed as it enters another state at the end of an epoch, or within it in an emergency. A pause is of the state before:
    /// it ends with it.
    pub fn entering(self, lifecycle: Lifecycle, epoch: u32) -> SeedState {
        let flags = self.flags & !flags::PAUSED;
        SeedState { lifecycle, epochs_in_state: 0, last_update_epoch: epoch, flags, ..self }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// All seeds, on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    pub(super) seeds: usize,
    pub(super) offsets: [usize; COLUMNS.len()],
    /// Where the order of the seeds begins, which follows from the columns: `[seeds]` u32.
    pub(super) order: usize,
    /// Seeds that apply a blueprint, as of the order.
    pub(super) applying: usize,
    pub(super) bytes: Vec<u8>,
}

impl Columns {
    /// All dormant.
    pub fn new(seeds: u32) -> Columns {
        let seeds = seeds as usize;
        let mut offsets = [0; COLUMNS.len()];
        let mut end = 0;
        for (offset, (_, data_type)) in offsets.iter_mut().zip(COLUMNS) {
            *offset = end;
            end += (seeds * data_type.bytes()).next_multiple_of(16);
        }
        let order = end;
        end += (seeds * size_of::<u32>()).next_multiple_of(16);
        let mut columns = Columns { seeds, offsets, order, applying: 0, bytes: vec![0; end] };
        for seed in 0..seeds as u32 {
            columns.set(seed, SeedState::dormant(0));
        }
        columns
    }

    /// Takes over the content of a copy.
    pub(super) fn copy_from(&mut self, other: &Columns) {
        self.applying = other.applying;
        self.bytes.copy_from_slice(&other.bytes);
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
        self.write(0, seed, (state.lifecycle as i8).to_le_bytes());
        self.write(1, seed, state.blueprint.to_le_bytes());
        self.write(2, seed, state.slot.to_le_bytes());
        self.write(3, seed, state.alpha.to_le_bytes());
        self.write(4, seed, state.epochs_in_state.to_le_bytes());
        self.write(5, seed, state.strategy.to_le_bytes());
        self.write(6, seed, state.last_update_epoch.to_le_bytes());
        self.write(7, seed, state.embargo.to_le_bytes());
        self.write(8, seed, state.error_count.to_le_bytes());
        self.write(9, seed, state.flags.to_le_bytes());
        self.write(10, seed, state.germinations.to_le_bytes());
        self.write(11, seed, state.strategy_memory.to_le_bytes());
    }

    /// Every seed, in order.
    pub fn iter(&self) -> impl Iterator<Item = SeedState> + '_ {
        (0..self.seeds()).map(|seed| self.get(seed))
    }

    /// The states of all seeds, in order.
    pub fn lifecycles(&self) -> impl Iterator<Item = Lifecycle> + '_ {
        self.column(LIFECYCLE).iter().map(|number| Lifecycle::from_number(*number as i8).unwrap_or_default())
    }

    /// The blueprints of all seeds, in order; -1 is none.
    pub fn blueprints(&self) -> impl Iterator<Item = i32> + '_ {
        self.column(BLUEPRINT).as_chunks().0.iter().map(|number| i32::from_le_bytes(*number))
    }

    /// The slots of all seeds, in order; -1 is none.
    pub fn slots(&self) -> impl Iterator<Item = i32> + '_ {
        self.column(SLOT).as_chunks().0.iter().map(|number| i32::from_le_bytes(*number))
    }

    /// The seeds in certain states, in order.
    pub fn seeds_in(&self, wanted: impl Fn(Lifecycle) -> bool) -> impl Iterator<Item = (u32, SeedState)> {
        let found = (0..).zip(self.lifecycles()).filter(move |(_, state)| wanted(*state));
        found.map(|(seed, _)| (seed, self.get(seed)))
    }

    /// Lets an epoch pass for every seed: it is a longer time in its state, and its embargo is nearer its end.
    pub fn pass_epoch(&mut self) {
        for epochs in self.column_mut(EPOCHS_IN_STATE).as_chunks_mut().0 {
            *epochs = i16::from_le_bytes(*epochs).saturating_add(1).to_le_bytes();
        }
        for epochs in self.column_mut(EMBARGO).as_chunks_mut().0 {
            *epochs = u16::from_le_bytes(*epochs).saturating_sub(1).to_le_bytes();
        }
    }

    /// Raises the flag `READY` of the seeds with these blueprints, and lowers that of all others.
    pub fn mark_ready(&mut self, blueprints: &[u32]) {
        let mut ready = [0; MAXIMUM_BLUEPRINTS];
        blueprints.iter().for_each(|blueprint| ready[*blueprint as usize] = flags::READY);
        let (before, after) = self.bytes.split_at_mut(self.offsets[FLAGS]);
        let blueprints = before[self.offsets[BLUEPRINT]..].as_chunks().0.iter();
        for (flags, blueprint) in after[..self.seeds].iter_mut().zip(blueprints) {
            let ready = ready.get(u32::from_le_bytes(*blueprint) as usize).copied().unwrap_or(0);
            *flags = *flags & !flags::READY | ready;
        }
    }

    /// The bytes of a column, by its position in [`COLUMNS`].
    pub fn column(&self, column: usize) -> &[u8] {
        &self.bytes[self.range(column)]
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
            let range = columns.range(column);
            columns.bytes[range].copy_from_slice(part);
        }
        columns.arrange();
        Ok(columns)
    }

    /// Puts seeds that apply a blueprint first in the order, for kernels to begin with: they take longer.
    pub(super) fn arrange(&mut self) {
        self.applying = self.lifecycles().filter(|state| state.applies_blueprint()).count();
        let (mut first, mut other) = (0, self.applying);
        let (columns, order) = self.bytes.split_at_mut(self.order);
        let order = order.as_chunks_mut().0;
        for (seed, number) in (0u32..).zip(&columns[..self.seeds]) {
            let applies = Lifecycle::from_number(*number as i8).is_some_and(Lifecycle::applies_blueprint);
            let place = if applies { &mut first } else { &mut other };
            order[*place] = seed.to_le_bytes();
            *place += 1;
        }
    }

    /// The pieces of memory that are checked, compared and uploaded by themselves: each column and the order, with the
    /// padding that follows.
    pub(super) fn pieces(&self) -> [Range<usize>; PIECES] {
        let start = |piece| match self.offsets.get(piece) {
            Some(offset) => *offset,
            None if piece == COLUMNS.len() => self.order,
            None => self.bytes.len(),
        };
        std::array::from_fn(|piece| start(piece)..start(piece + 1))
    }

    /// CRC-32 of each piece.
    pub(super) fn checksums(&self) -> [u32; PIECES] {
        self.pieces().map(|piece| crc32fast::hash(&self.bytes[piece]))
    }

    /// CRC-32 over the schema version and all columns, from those of the pieces.
    pub(super) fn checksum(&self, checksums: &[u32; PIECES]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[SCHEMA_VERSION]);
        for (piece, checksum) in self.pieces().into_iter().zip(checksums) {
            hasher.combine(&crc32fast::Hasher::new_with_initial_len(*checksum, piece.len() as u64));
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
        if self.bytes[self.order..] == other.bytes[self.order..] { "padding" } else { "order" }.to_owned()
    }

    fn column_mut(&mut self, column: usize) -> &mut [u8] {
        let range = self.range(column);
        &mut self.bytes[range]
    }

    pub(super) fn range(&self, column: usize) -> Range<usize> {
        let start = self.offsets[column];
        start..start + self.seeds * COLUMNS[column].1.bytes()
    }

    #[inline]
    fn read<const N: usize>(&self, column: usize, seed: u32) -> [u8; N] {
        let start = self.offsets[column] + seed as usize * N;
        let mut element = [0; N];
        element.copy_from_slice(&self.bytes[start..start + N]);
        element
    }

    #[inline]
    fn write<const N: usize>(&mut self, column: usize, seed: u32, element: [u8; N]) {
        let start = self.offsets[column] + seed as usize * N;
        self.bytes[start..start + N].copy_from_slice(&element);
    }
}
