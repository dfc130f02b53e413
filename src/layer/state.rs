//! The state of all seeds as a structure of arrays, twice: on the host, which is the authority, and on the device,
//! where kernels read it.
//!
//! Both copies are the same bytes: the columns one after the other, each aligned to 16 bytes. So an upload is one copy,
//! a comparison is one comparison, and one checksum covers everything.

use super::Lifecycle;
use crate::device::{Address, Buffer, Device, Stream};
use crate::graph::DataType;
use crate::{Result, error, fail};
use std::sync::Arc;

/// The version of the columns below; part of the checksum and of checkpoints.
pub(super) const SCHEMA_VERSION: u8 = 2;

/// The columns, in the order in which they lie in memory.
pub(super) const COLUMNS: [(&str, DataType); 12] = [
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

/// Bits of the column `flags`.
pub(super) mod flags {
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

/// One seed: a row of the columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SeedState {
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

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// All seeds, on the host.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Columns {
    seeds: usize,
    offsets: [usize; COLUMNS.len()],
    /// Where the order of the seeds begins, which follows from the columns: `[seeds]` u32.
    order: usize,
    /// Seeds that apply a blueprint, as of the order.
    applying: usize,
    bytes: Vec<u8>,
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

    /// How many seeds there are.
    pub fn seeds(&self) -> u32 {
        self.seeds as u32
    }

    /// One seed.
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

    /// CRC-32 over the schema version and all columns.
    /// Puts seeds that apply a blueprint first in the order, for kernels to begin with: they take longer.
    fn arrange(&mut self) {
        let (first, others): (Vec<u32>, Vec<u32>) =
            (0..self.seeds()).partition(|seed| self.get(*seed).lifecycle.applies_blueprint());
        self.applying = first.len();
        for (place, seed) in
            self.bytes[self.order..].chunks_exact_mut(size_of::<u32>()).zip(first.iter().chain(&others))
        {
            place.copy_from_slice(&seed.to_le_bytes());
        }
    }

    fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[SCHEMA_VERSION]);
        hasher.update(&self.bytes);
        hasher.finalize()
    }

    /// The names of the columns in which another copy differs.
    fn difference(&self, other: &Columns) -> String {
        let differs = |column: &usize| self.column(*column) != other.column(*column);
        let names: Vec<_> = (0..COLUMNS.len()).filter(differs).map(|column| COLUMNS[column].0).collect();
        if !names.is_empty() {
            return names.join(", ");
        }
        if self.bytes[self.order..] == other.bytes[self.order..] { "padding" } else { "order" }.to_owned()
    }

    fn range(&self, column: usize) -> std::ops::Range<usize> {
        let start = self.offsets[column];
        start..start + self.seeds * COLUMNS[column].1.bytes()
    }

    fn read<const N: usize>(&self, column: usize, seed: u32) -> [u8; N] {
        let start = self.offsets[column] + seed as usize * N;
        let mut element = [0; N];
        element.copy_from_slice(&self.bytes[start..start + N]);
        element
    }

    fn write<const N: usize>(&mut self, column: usize, seed: u32, element: [u8; N]) {
        let start = self.offsets[column] + seed as usize * N;
        self.bytes[start..start + N].copy_from_slice(&element);
    }
}

/// Both copies of the state and the checksum they must have.
pub(super) struct StateArrays {
    host: HostState,
    device: Buffer,
}

/// The host's copy and the checksum that both copies must have. Cheap to clone: copied only when it changes.
#[derive(Clone)]
pub(super) struct HostState {
    columns: Arc<Columns>,
    checksum: u32,
}

impl HostState {
    fn new(mut columns: Columns) -> HostState {
        columns.arrange();
        let checksum = columns.checksum();
        HostState { columns: Arc::new(columns), checksum }
    }

    fn is_intact(&self) -> bool {
        self.columns.checksum() == self.checksum
    }
}

impl StateArrays {
    /// Puts columns on a device.
    pub fn new(columns: Columns, device: &Arc<dyn Device>, stream: Stream) -> Result<StateArrays> {
        let buffer = Buffer::new(device, columns.bytes.len())?;
        let arrays = StateArrays { host: HostState::new(columns), device: buffer };
        arrays.upload(stream)?;
        Ok(arrays)
    }

    /// The host's copy.
    pub fn columns(&self) -> &Columns {
        &self.host.columns
    }

    /// The host's copy with its checksum, to be kept.
    pub fn host(&self) -> &HostState {
        &self.host
    }

    /// The device's copy: one piece.
    pub fn memory(&self) -> &Buffer {
        &self.device
    }

    /// Makes these columns the state, on the host and on the device.
    pub fn replace(&mut self, columns: Columns, stream: Stream) -> Result<()> {
        if columns != *self.host.columns {
            self.host = HostState::new(columns);
            self.upload(stream)?;
        }
        Ok(())
    }

    /// Makes a kept state the host's, after the device's copy of that time was put back. Returns the sentence of a repair.
    ///
    /// # Errors
    ///
    /// `StateCorrupted` if it matches its checksum neither on the host nor in `on_device`, where the device's copy was kept.
    pub fn recalled(kept: &HostState, on_device: &Buffer, stream: Stream) -> Result<(HostState, Option<String>)> {
        if kept.is_intact() {
            return Ok((kept.clone(), None));
        }
        let mut columns = Columns::clone(&kept.columns);
        on_device.device().download(&mut columns.bytes, on_device.address(), stream)?;
        let damage = kept.columns.difference(&columns);
        let repaired = HostState { columns: Arc::new(columns), checksum: kept.checksum };
        if !repaired.is_intact() {
            fail!(
                StateCorrupted,
                "neither copy of the state arrays in the snapshot has the checksum {:08x}; load the last checkpoint",
                kept.checksum
            );
        }
        let repair = format!(
            "the host's state arrays in a snapshot were damaged ({damage}) and restored from the device's copy"
        );
        Ok((repaired, Some(repair)))
    }

    /// Takes over what [`StateArrays::recalled`] gave.
    pub fn recall(&mut self, host: HostState) {
        self.host = host;
    }

    /// The device's copy of a column, by its position in [`COLUMNS`].
    pub fn device_column(&self, column: usize) -> Result<Buffer> {
        let range = self.host.columns.range(column);
        self.device.part(range.start, range.len())
    }

    /// Compares the host's copy with the checksum.
    ///
    /// # Errors
    ///
    /// `StateCorrupted` if they do not match.
    pub fn check(&self) -> Result<()> {
        let (expected, found) = (self.host.checksum, self.host.columns.checksum());
        if expected != found {
            fail!(
                StateCorrupted,
                "the host's state arrays have the checksum {found:08x} and should have {expected:08x}; end an epoch to \
                 repair them"
            );
        }
        Ok(())
    }

    /// Where kernels find lifecycle, blueprint, slot and alpha: the first four columns.
    pub fn kernel_columns(&self) -> [Address; 4] {
        let [lifecycle, blueprint, slot, alpha, ..] = self.host.columns.offsets;
        [lifecycle, blueprint, slot, alpha].map(|offset| self.device.address().offset(offset))
    }

    /// Where kernels find the order of the seeds, and how many at its front apply a blueprint.
    pub fn order(&self) -> (Address, usize) {
        let Columns { order, applying, .. } = *self.host.columns;
        (self.device.address().offset(order), applying)
    }

    /// Compares both copies with the checksum and repairs the one that does not match from the other. Waits for the
    /// stream. Returns a sentence for each repair.
    ///
    /// # Errors
    ///
    /// `StateCorrupted` if neither matches.
    pub fn verify(&mut self, stream: Stream) -> Result<Vec<String>> {
        let mut on_device = Columns::clone(&self.host.columns);
        self.device.device().download(&mut on_device.bytes, self.device.address(), stream)?;
        let checksum = self.host.checksum;
        match (self.host.is_intact(), on_device.checksum() == checksum) {
            (true, true) => Ok(Vec::new()),
            (true, false) => {
                let damage = self.host.columns.difference(&on_device);
                self.upload(stream)?;
                Ok(vec![format!("the device's state arrays were damaged ({damage}) and restored from the host's copy")])
            }
            (false, true) => {
                let damage = self.host.columns.difference(&on_device);
                self.host.columns = Arc::new(on_device);
                Ok(vec![format!("the host's state arrays were damaged ({damage}) and restored from the device's copy")])
            }
            (false, false) => Err(error!(
                StateCorrupted,
                "neither copy of the state arrays has the checksum {checksum:08x}; load the last checkpoint"
            )),
        }
    }

    fn upload(&self, stream: Stream) -> Result<()> {
        self.device.device().upload(self.device.address(), &self.host.columns.bytes, stream)
    }

    /// Flips a bit of the host's copy, as a cosmic ray would.
    #[cfg(test)]
    pub fn flip_host_bit(&mut self, byte: usize) {
        Arc::make_mut(&mut self.host.columns).bytes[byte] ^= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu;

    const STREAM: Stream = Stream(0);

    fn arrays(seeds: u32) -> StateArrays {
        let mut columns = Columns::new(seeds);
        for seed in 0..seeds {
            columns.set(seed, sample(seed));
        }
        StateArrays::new(columns, &cpu::device(), STREAM).unwrap()
    }

    fn sample(seed: u32) -> SeedState {
        SeedState {
            lifecycle: Lifecycle::ALL[seed as usize % 11],
            blueprint: seed as i32 - 3,
            slot: 7 * seed as i32,
            alpha: seed as f32 / 64.0,
            epochs_in_state: -(seed as i16),
            strategy: seed as i8 % 4,
            last_update_epoch: u32::MAX - seed,
            embargo: 1000 + seed as u16,
            error_count: seed as u16,
            flags: seed as u8 % 16,
            germinations: 3 * seed,
            strategy_memory: f64::from(seed) / 3.0,
        }
    }

    #[test]
    fn what_is_set_is_got_and_touches_no_other_seed() {
        for seeds in [1, 5, 17, 33] {
            let mut columns = Columns::new(seeds);
            (0..seeds).for_each(|seed| columns.set(seed, sample(seed)));
            (0..seeds).for_each(|seed| assert_eq!(columns.get(seed), sample(seed)));
        }
    }

    #[test]
    fn every_column_begins_at_a_multiple_of_16_bytes_on_the_device() {
        let arrays = arrays(13);
        for (column, (name, _)) in COLUMNS.iter().enumerate() {
            assert_eq!(arrays.device_column(column).unwrap().address().0 % 16, 0, "{name}");
        }
    }

    #[test]
    fn the_device_holds_what_the_host_holds() {
        let arrays = arrays(13);
        for (column, (name, _)) in COLUMNS.iter().enumerate() {
            let buffer = arrays.device_column(column).unwrap();
            let mut bytes = vec![0; buffer.bytes()];
            cpu::device().download(&mut bytes, buffer.address(), STREAM).unwrap();
            assert_eq!(bytes, arrays.columns().column(column), "{name}");
        }
    }

    #[test]
    fn a_flipped_bit_in_any_column_on_the_device_is_found_named_and_repaired() {
        let mut arrays = arrays(13);
        let intact = arrays.columns().clone();
        for (column, (name, _)) in COLUMNS.iter().enumerate() {
            let buffer = arrays.device_column(column).unwrap();
            let last = buffer.bytes() - 1;
            let damaged = [intact.column(column)[last] ^ 0x10];
            cpu::device().upload(buffer.address().offset(last), &damaged, STREAM).unwrap();
            let repairs = arrays.verify(STREAM).unwrap();
            assert!(repairs.len() == 1 && repairs[0].contains(name), "{name}: {repairs:?}");
            assert!(arrays.verify(STREAM).unwrap().is_empty(), "{name} was not repaired");
        }
    }

    #[test]
    fn a_flipped_bit_on_the_host_is_repaired_from_the_device() {
        let mut arrays = arrays(13);
        let intact = arrays.columns().clone();
        for byte in 0..intact.bytes.len() {
            arrays.flip_host_bit(byte);
            assert_eq!(arrays.verify(STREAM).unwrap().len(), 1);
            assert_eq!(*arrays.columns(), intact);
        }
    }

    #[test]
    fn damage_to_both_copies_is_an_error() {
        let mut arrays = arrays(13);
        arrays.flip_host_bit(0);
        let address = arrays.device_column(0).unwrap().address();
        cpu::device().upload(address, &[9], STREAM).unwrap();
        assert_eq!(arrays.verify(STREAM).unwrap_err().status(), crate::Status::StateCorrupted);
    }

    #[test]
    fn columns_from_outside_must_fit_and_hold_real_states() {
        let columns = arrays(5).columns().clone();
        let mut parts: [&[u8]; COLUMNS.len()] = std::array::from_fn(|column| columns.column(column));
        assert_eq!(Columns::from_parts(5, parts).unwrap(), columns);
        assert!(Columns::from_parts(6, parts).is_err());
        parts[0] = &[0, 1, 2, 11, 4];
        assert!(Columns::from_parts(5, parts).unwrap_err().message().contains("11 is no lifecycle state"));
    }
}
