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

use crate::device::{Address, Buffer, Device, Readable, Reading, Staging, Stream};
use crate::{Result, error, fail};
use std::ops::Range;
use std::sync::Arc;

/// Both copies of the state.
pub(super) struct StateArrays {
    /// The host's copy, with the checksums that both must have.
    host: Columns,
    device: Readable,
    /// What the device's copy is written from.
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
        let (ranges, staging) = (columns.ranges(), Staging::new(device, bytes)?);
        let device = Readable::new(Buffer::new(device, bytes)?)?;
        let mut arrays = StateArrays { ranges, host: columns, device, staging };
        arrays.upload(&[true; PIECES], stream)?;
        Ok(arrays)
    }

    /// The host's copy. A clone of it is cheap, and to be kept or to be changed and given to [`StateArrays::replace`].
    pub fn columns(&self) -> &Columns {
        &self.host
    }

    /// The device's copy: one piece.
    pub fn memory(&self) -> &Buffer {
        &self.device.array
    }

    /// Makes these columns the state, on the host and on the device. If that fails, the host's stays as it is.
    pub fn replace(&mut self, mut columns: Columns, stream: Stream) -> Result<()> {
        if columns.pieces[LIFECYCLE] != self.host.pieces[LIFECYCLE] {
            columns.arrange();
        }
        let changed: [bool; PIECES] = std::array::from_fn(|piece| columns.pieces[piece] != self.host.pieces[piece]);
        columns.share();
        let before = std::mem::replace(&mut self.host, columns);
        let uploaded = self.upload(&changed, stream);
        if uploaded.is_err() {
            // What the device has of it is repaired from the host's copy.
            self.host = before;
        }
        uploaded
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
        self.memory().part(self.ranges[column].start, self.host.column(column).len())
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
        [lifecycle, blueprint, slot, alpha].map(|range| self.memory().address().offset(range.start))
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
        (self.memory().address().offset(self.ranges[ORDER].start), self.host.training)
    }

    /// Where kernels find the order of the seeds, and how many at its front apply a blueprint. Null if none does or all do, and
    /// any order is as good.
    pub fn order(&self) -> (Address, usize) {
        let Columns { seeds, applying, .. } = self.host;
        if (1..seeds).contains(&applying) {
            (self.memory().address().offset(self.ranges[ORDER].start), applying)
        } else {
            (Address::NULL, 0)
        }
    }

    /// Begins to read the device's copy, after all work on the stream.
    pub fn read(&mut self, stream: Stream) -> Result<Reading> {
        self.device.read(stream)
    }

    /// Compares both copies with the checksum, of the device's what was read, and repairs the one that does not match from the
    /// other. Returns a sentence for each repair.
    ///
    /// # Errors
    ///
    /// `StateCorrupted` if neither matches.
    pub fn verify(&mut self, read: Reading, stream: Stream) -> Result<Vec<String>> {
        // While the device copies.
        let host_is_intact = self.host.is_intact(None);
        let read = read.wait()?;
        let repairs = self.compare(host_is_intact, &read, stream);
        self.device.give_back(read);
        repairs
    }

    fn compare(&mut self, host_is_intact: bool, read: &[u8], stream: Stream) -> Result<Vec<String>> {
        let mut pieces = self.host.pieces.iter().zip(&self.ranges);
        if host_is_intact && pieces.all(|(piece, range)| *piece.bytes() == read[range.clone()]) {
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
        self.staging.upload(self.device.array.address(), parts, stream)
    }

    /// Flips a bit of the host's copy, as a cosmic ray would.
    #[cfg(test)]
    pub fn flip_host_bit(&mut self, byte: usize) {
        let pieces = self.host.pieces.iter_mut().zip(&self.ranges);
        pieces.filter(|(_, range)| range.contains(&byte)).for_each(|(piece, range)| piece.flip_bit(byte - range.start));
    }
}

#[cfg(test)]
mod tests;
