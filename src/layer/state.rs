//! The state of all seeds as a structure of arrays, twice: on the host, which is the authority, and on the device,
//! where kernels read it.
//!
//! Both copies are the same bytes: the columns, each aligned to 16 bytes, on the device one after the other, so that a download is
//! one copy. Each column has its checksum, so that a change costs no more than the columns that it is in: those are copied,
//! summed anew and uploaded.

mod columns;
mod piece;
mod seed;
mod slots;

pub(super) use columns::{COLUMNS, Columns};
pub(super) use seed::{SeedState, flags};
pub(super) use slots::{FreeSlots, Placed};

use columns::{LIFECYCLE, ORDER, PIECES};

use crate::device::{Address, Buffer, Device, HostMemory, Reading, Staging, Stream};
use crate::{Result, error, fail};
use std::ops::Range;
use std::sync::Arc;

/// Both copies of the state.
pub(super) struct StateArrays {
    /// The host's copy, with the checksums that both must have.
    host: Columns,
    device: Buffer,
    /// What the device's copy is read into, while nobody does.
    room: Option<HostMemory>,
    /// What it is written from.
    staging: Staging,
    /// Where each piece lies in these.
    ranges: [Range<usize>; PIECES],
}

impl StateArrays {
    /// Puts columns on a device.
    pub fn new(mut columns: Columns, device: &Arc<dyn Device>, stream: Stream) -> Result<StateArrays> {
        columns.arrange();
        columns.share();
        let bytes = columns.len();
        let (room, staging) = (Some(HostMemory::new(device, bytes)?), Staging::new(device, bytes)?);
        let (ranges, buffer) = (columns.ranges(), Buffer::new(device, bytes)?);
        let mut arrays = StateArrays { ranges, host: columns, device: buffer, room, staging };
        arrays.upload(&[true; PIECES], stream)?;
        Ok(arrays)
    }

    /// The host's copy. A clone of it is cheap, and to be kept or to be changed and given to [`StateArrays::replace`].
    pub fn columns(&self) -> &Columns {
        &self.host
    }

    /// The device's copy: one piece.
    pub fn memory(&self) -> &Buffer {
        &self.device
    }

    /// Makes these columns the state, on the host and on the device.
    pub fn replace(&mut self, mut columns: Columns, stream: Stream) -> Result<()> {
        if columns.pieces[LIFECYCLE] != self.host.pieces[LIFECYCLE] {
            columns.arrange();
        }
        let changed: [bool; PIECES] = std::array::from_fn(|piece| columns.pieces[piece] != self.host.pieces[piece]);
        columns.share();
        self.host = columns;
        self.upload(&changed, stream)
    }

    /// Makes a kept state the host's, after the device's copy of that time was put back. Returns the sentence of a repair.
    ///
    /// # Errors
    ///
    /// `StateCorrupted` if it matches its checksum neither on the host nor in `on_device`, where the device's copy was kept.
    pub fn recalled(kept: &Columns, on_device: &Buffer, stream: Stream) -> Result<(Columns, Option<String>)> {
        if kept.is_intact(None) {
            return Ok((kept.clone(), None));
        }
        let mut bytes = vec![0; on_device.bytes()];
        on_device.device().download(&mut bytes, on_device.address(), stream)?;
        let found = kept.of_bytes(&bytes);
        let damage = kept.difference(&found);
        let Some(repaired) = kept.restored(found) else {
            fail!(
                StateCorrupted,
                "neither copy of the state arrays in the snapshot has the checksum {:08x}; load the last checkpoint",
                kept.checksum()
            );
        };
        let repair = format!(
            "the host's state arrays in a snapshot were damaged ({damage}) and restored from the device's copy"
        );
        Ok((repaired, Some(repair)))
    }

    /// Takes over what [`StateArrays::recalled`] gave.
    pub fn recall(&mut self, host: Columns) {
        self.host = host;
    }

    /// The device's copy of a column, by its position in [`COLUMNS`].
    pub fn device_column(&self, column: usize) -> Result<Buffer> {
        self.device.part(self.ranges[column].start, self.host.column(column).len())
    }

    /// Compares the host's copy with the checksum.
    ///
    /// # Errors
    ///
    /// `StateCorrupted` if they do not match.
    pub fn check(&self) -> Result<()> {
        if !self.host.is_intact(None) {
            let (expected, found) = (self.host.checksum(), self.host.found_checksum());
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
        let [lifecycle, blueprint, slot, alpha, ..] = &self.ranges;
        [lifecycle, blueprint, slot, alpha].map(|range| self.device.address().offset(range.start))
    }

    /// Whether any seed applies a blueprint.
    pub fn applies(&self) -> bool {
        self.host.applying > 0
    }

    /// Whether any seed is in TRAINING.
    pub fn trains(&self) -> bool {
        self.host.training > 0
    }

    /// Where training kernels find the order of the seeds, and how many at its end are in TRAINING.
    pub fn training_order(&self) -> (Address, usize) {
        (self.device.address().offset(self.ranges[ORDER].start), self.host.training)
    }

    /// Where kernels find the order of the seeds, and how many at its front apply a blueprint. Null if none does or all do, and
    /// any order is as good.
    pub fn order(&self) -> (Address, usize) {
        let Columns { seeds, applying, .. } = self.host;
        if (1..seeds).contains(&applying) {
            (self.device.address().offset(self.ranges[ORDER].start), applying)
        } else {
            (Address::NULL, 0)
        }
    }

    /// Begins to read the device's copy, after all work on the stream.
    pub fn read(&mut self, stream: Stream) -> Result<Reading> {
        let room = self.room.take();
        let room = room.map_or_else(|| HostMemory::new(self.device.device(), self.device.bytes()), Ok)?;
        room.read(self.device.address(), stream)
    }

    /// Compares both copies with the checksum, of the device's what was read, and repairs the one that does not match from the
    /// other. Returns a sentence for each repair.
    ///
    /// # Errors
    ///
    /// `StateCorrupted` if neither matches.
    pub fn verify(&mut self, read: Reading, stream: Stream) -> Result<Vec<String>> {
        let read = read.wait()?;
        let repairs = self.compare(&read, stream);
        self.room = Some(read);
        repairs
    }

    fn compare(&mut self, read: &[u8], stream: Stream) -> Result<Vec<String>> {
        // Piece by piece, so that each comes from memory once.
        let (mut host_is_intact, mut same) = (true, true);
        for (piece, range) in self.host.pieces.iter().zip(&self.ranges) {
            host_is_intact &= piece.vouches_for(piece.bytes());
            same &= *piece.bytes() == read[range.clone()];
        }
        if host_is_intact && same {
            return Ok(Vec::new());
        }
        let on_device = self.host.of_bytes(read);
        let damage = self.host.difference(&on_device);
        if host_is_intact {
            self.upload(&[true; PIECES], stream)?;
            return Ok(vec![format!(
                "the device's state arrays were damaged ({damage}) and restored from the host's copy"
            )]);
        }
        if let Some(restored) = self.host.restored(on_device) {
            self.host = restored;
            return Ok(vec![format!(
                "the host's state arrays were damaged ({damage}) and restored from the device's copy"
            )]);
        }
        let checksum = self.host.checksum();
        Err(error!(
            StateCorrupted,
            "neither copy of the state arrays has the checksum {checksum:08x}; load the last checkpoint"
        ))
    }

    fn upload(&mut self, wanted: &[bool; PIECES], stream: Stream) -> Result<()> {
        let pieces = self.host.pieces.iter().zip(&self.ranges).zip(wanted).filter(|(_, wanted)| **wanted);
        let parts = pieces.map(|((piece, range), _)| (range.clone(), piece.bytes()));
        self.staging.upload(self.device.address(), parts, stream)
    }

    /// Flips a bit of the host's copy, as a cosmic ray would.
    #[cfg(test)]
    pub fn flip_host_bit(&mut self, byte: usize) {
        let pieces = self.host.pieces.iter_mut().zip(&self.ranges);
        pieces.filter(|(_, range)| range.contains(&byte)).for_each(|(piece, range)| piece.flip_bit(byte - range.start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu;
    use crate::layer::Lifecycle;
    use crate::layer::kernels::broken::{Broken, Fault};

    const STREAM: Stream = Stream(0);

    fn arrays(seeds: u32) -> StateArrays {
        let mut columns = Columns::new(seeds);
        for seed in 0..seeds {
            columns.set(seed, sample(seed));
        }
        StateArrays::new(columns, &cpu::device(), STREAM).unwrap()
    }

    fn verify(arrays: &mut StateArrays) -> Result<Vec<String>> {
        let read = arrays.read(STREAM)?;
        arrays.verify(read, STREAM)
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
    fn whatever_columns_a_new_state_changes_both_copies_are_it_and_have_its_checksums() {
        let mut arrays = arrays(33);
        for round in 0..200_u32 {
            let seed = round * 7 % 33;
            let mut draft = arrays.columns().clone();
            assert_eq!(draft, *arrays.columns(), "round {round}");
            let (before, other) = (draft.get(seed), sample(round + 5));
            let after = match round % 5 {
                0 => other,
                1 => SeedState { lifecycle: other.lifecycle, ..before },
                2 => SeedState { alpha: other.alpha, strategy_memory: other.strategy_memory, ..before },
                3 => SeedState { flags: other.flags, ..before },
                _ => before,
            };
            draft.set(seed, after);
            if round % 10 == 9 {
                draft.pass_epoch();
            }
            let mut expected = draft.clone();
            expected.arrange();
            arrays.replace(draft, STREAM).unwrap();
            assert_eq!(*arrays.columns(), expected, "round {round}");
            assert_eq!(arrays.host.checksum(), expected.found_checksum(), "round {round}");
            assert!(verify(&mut arrays).unwrap().is_empty(), "round {round}");
        }
    }

    #[test]
    fn a_state_that_follows_another_at_once_does_not_overtake_it_on_the_device() {
        let device: Arc<dyn Device> = Broken::new(|_| Fault::None);
        let mut arrays = StateArrays::new(Columns::new(33), &device, STREAM).unwrap();
        let between: Vec<_> = (0..3).map(|_| Buffer::new(&device, arrays.memory().bytes()).unwrap()).collect();
        for (round, copy) in (1..).zip(&between) {
            let mut columns = Columns::new(33);
            (0..33).for_each(|seed| columns.set(seed, sample(round * seed)));
            arrays.replace(columns, STREAM).unwrap();
            device.copy(copy.address(), arrays.memory().address(), copy.bytes(), STREAM).unwrap();
        }
        // What is read is there before it is compared.
        assert!(verify(&mut arrays).unwrap().is_empty());
        for (round, copy) in (1..).zip(&between) {
            let mut bytes = vec![0; copy.bytes()];
            device.download(&mut bytes, copy.address(), STREAM).unwrap();
            let columns = arrays.columns().of_bytes(&bytes);
            (0..33).for_each(|seed| assert_eq!(columns.get(seed), sample(round * seed), "round {round}"));
        }
    }

    #[test]
    fn memory_that_is_still_to_be_copied_is_waited_for_before_it_goes() {
        let broken = Broken::new(|_| Fault::None);
        let device: Arc<dyn Device> = broken.clone();
        let (array, mut staging) = (Buffer::new(&device, 64).unwrap(), Staging::new(&device, 64).unwrap());
        staging
            .upload(array.address(), [(0..16, &[1; 16][..]), (16..32, &[2; 16]), (48..64, &[3; 16])], STREAM)
            .unwrap();
        assert_eq!(broken.queued(), 2, "what lies together is one copy");
        drop(staging);
        assert_eq!(broken.queued(), 0);
        let mut bytes = [9; 64];
        device.download(&mut bytes, array.address(), STREAM).unwrap();
        assert_eq!(bytes.as_chunks().0, [[1; 16], [2; 16], [0; 16], [3; 16]]);
    }

    #[test]
    fn the_one_checksum_is_that_of_all_bytes_after_the_version() {
        let columns = arrays(13).columns().clone();
        assert_eq!(columns.checksum(), columns.found_checksum());
    }

    #[test]
    fn ready_are_the_seeds_with_these_blueprints_and_no_other_flag_moves() {
        let mut columns = arrays(33).columns().clone();
        let before = columns.clone();
        columns.mark_ready(&[0, 7, 29]);
        for (seed, was) in (0..).zip(before.iter()) {
            let ready = if [0, 7, 29].contains(&was.blueprint) { flags::READY } else { 0 };
            assert_eq!(columns.get(seed), SeedState { flags: was.flags & !flags::READY | ready, ..was });
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
            let repairs = verify(&mut arrays).unwrap();
            assert!(repairs.len() == 1 && repairs[0].contains(name), "{name}: {repairs:?}");
            assert!(verify(&mut arrays).unwrap().is_empty(), "{name} was not repaired");
        }
    }

    #[test]
    fn a_flipped_bit_on_the_host_is_repaired_from_the_device() {
        let mut arrays = arrays(13);
        let intact = arrays.columns().clone();
        for byte in 0..intact.len() {
            arrays.flip_host_bit(byte);
            assert_eq!(verify(&mut arrays).unwrap().len(), 1);
            assert_eq!(*arrays.columns(), intact);
        }
    }

    #[test]
    fn damage_to_both_copies_is_an_error() {
        let mut arrays = arrays(13);
        arrays.flip_host_bit(0);
        let address = arrays.device_column(0).unwrap().address();
        cpu::device().upload(address, &[9], STREAM).unwrap();
        assert_eq!(verify(&mut arrays).unwrap_err().status(), crate::Status::StateCorrupted);
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

    #[test]
    fn kernels_find_seeds_that_apply_a_blueprint_at_the_front_and_those_in_training_at_the_end() {
        use Lifecycle::{Culled, Dormant, Fossilized, Germinated, Grafting, Training};
        let order = |columns: &Columns| -> Vec<u32> {
            let bytes = columns.pieces[ORDER].bytes()[..columns.seeds * size_of::<u32>()].as_chunks().0;
            bytes.iter().map(|seed| u32::from_le_bytes(*seed)).collect()
        };
        let mut columns = Columns::new(8);
        let states = [Training, Dormant, Grafting, Germinated, Training, Fossilized, Culled, Dormant];
        for (seed, lifecycle) in (0..).zip(states) {
            columns.set(seed, SeedState { lifecycle, ..SeedState::dormant(0) });
        }
        columns.arrange();
        assert_eq!((columns.applying, columns.training), (2, 2));
        assert_eq!(order(&columns), [2, 5, 1, 3, 6, 7, 0, 4]);
        (0..8).for_each(|seed| columns.set(seed, SeedState::dormant(0)));
        columns.arrange();
        assert_eq!((columns.applying, columns.training), (0, 0));
        assert_eq!(order(&columns), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
