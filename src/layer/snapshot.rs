//! Snapshots: a layer as it was, kept on its own device, and put back from there.
//!
//! A snapshot holds what a checkpoint holds, but for what cannot change (blueprints, settings). Taking one and restoring
//! it are one copy on the device for each piece of the layer's memory: the state arrays, the telemetry, and each bank. What
//! the host keeps is shared and copied only when it changes, so neither depends on how many seeds there are.
//!
//! This is not [`Layer::roll_back`], which takes one seed out of the network and leaves everything else as it is: a
//! restore takes the whole layer back in time.

use super::command::Batch;
use super::kernels::Running;
use super::state::{Columns, StateArrays};
use super::telemetry::Observations;
use super::{Command, Layer, TransitionRecord};
use crate::device::{Buffer, Stream};
use crate::{Result, fail};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A layer as it was. It belongs to that layer, and may outlive it.
pub struct Snapshot {
    layer: u64,
    /// Copies of the layer's pieces, in order.
    memory: Vec<Buffer>,
    /// What the host knew; `None` after a copy that failed.
    host: Option<HostSnapshot>,
}

/// What the host keeps of a layer.
struct HostSnapshot {
    epoch: u32,
    state: Columns,
    observations: Arc<Observations>,
    /// Of each bank.
    modes: Vec<Arc<Vec<u8>>>,
    running: Running,
    queue: Vec<Batch>,
    rolled_back: Vec<TransitionRecord>,
    metric: f64,
    last_metric: f64,
    training_steps: u64,
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Restoration {
    /// Epochs that had ended before it.
    pub from_epoch: u32,
    /// Epochs that have ended as the layer now is.
    pub to_epoch: u32,
    /// Why, in the words of whoever asked for it.
    pub reason: String,
    /// Batches that were accepted after the snapshot was taken and still waited for the epoch's end: they are dropped.
    pub dropped: Vec<Vec<Command>>,
    /// Emergency rollbacks of the running epoch that were undone: these seeds are in the network again.
    pub undone: Vec<TransitionRecord>,
}

impl Snapshot {
    /// Epochs that had ended when it was taken; `None` if the last attempt to take it failed.
    pub fn epoch(&self) -> Option<u32> {
        self.host.as_ref().map(|host| host.epoch)
    }

    /// Bytes of device memory that it occupies.
    pub fn bytes(&self) -> usize {
        self.memory.iter().map(Buffer::bytes).sum()
    }
}

/// A number that no other layer of this process has.
pub(super) fn identity() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Layer {
    /// Takes a snapshot: everything as it is after the work that is queued on the stream. Allocates as much device memory
    /// as the layer's state, telemetry and banks occupy.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, or as [`Layer::snapshot_into`].
    pub fn snapshot(&self, stream: Stream) -> Result<Snapshot> {
        let copy = |piece: &Buffer| {
            Buffer::new(&self.device, piece.bytes()).map_err(|error| error.context("memory for a snapshot"))
        };
        let memory = self.pieces().map(copy).collect::<Result<_>>()?;
        let mut snapshot = Snapshot { layer: self.identity, memory, host: None };
        self.snapshot_into(&mut snapshot, stream)?;
        Ok(snapshot)
    }

    /// Takes a snapshot anew into memory that an earlier one of this layer has: only copies on the device, which are
    /// queued on the stream. Nothing is allocated and nothing waited for.
    ///
    /// # Errors
    ///
    /// `SnapshotMismatch` if the snapshot is of another layer, or the layer was given blueprints since it was made;
    /// `StateCorrupted` if the host's copy of the state does not match its checksum (the next epoch's end repairs it);
    /// `Unsupported` while the stream is recording a graph; `DeviceFailed`.
    pub fn snapshot_into(&self, snapshot: &mut Snapshot, stream: Stream) -> Result<()> {
        self.check_fits(snapshot)?;
        self.refuse_while_recording("a snapshot", stream)?;
        self.state.check()?;
        // If a copy fails, what the memory holds is neither the old state nor the new one.
        snapshot.host = None;
        for (copy, piece) in snapshot.memory.iter().zip(self.pieces()) {
            self.device.copy(copy.address(), piece.address(), piece.bytes(), stream)?;
        }
        snapshot.host = Some(HostSnapshot {
            epoch: self.epoch,
            state: self.state.columns().clone(),
            observations: self.telemetry.last.clone(),
            modes: self.banks.iter().map(|bank| bank.modes.clone()).collect(),
            running: self.kernels.running(),
            queue: self.queue.clone(),
            rolled_back: self.rolled_back.clone(),
            metric: self.metric,
            last_metric: self.last_metric,
            training_steps: self.training_steps.load(Ordering::Relaxed),
        });
        Ok(())
    }

    /// Puts everything back as it was when the snapshot was taken, bit for bit: seeds, parameters, moments, telemetry,
    /// epochs, random numbers, and the queue of accepted commands. It holds from the next launch on the stream on;
    /// nothing is waited for. The snapshot can be restored again.
    ///
    /// What was accepted since and did not take effect yet is dropped and listed in what is returned, which the next
    /// [`EpochSummary`](super::EpochSummary) repeats.
    ///
    /// # Errors
    ///
    /// `SnapshotMismatch` and `Unsupported` as [`Layer::snapshot_into`], or if the snapshot holds nothing; then nothing
    /// has changed. `StateCorrupted` if the snapshot is damaged beyond repair; `DeviceFailed`.
    pub fn restore(&mut self, snapshot: &Snapshot, reason: &str, stream: Stream) -> Result<Restoration> {
        self.check_fits(snapshot)?;
        self.refuse_while_recording("a restore", stream)?;
        let Some(host) = &snapshot.host else {
            fail!(SnapshotMismatch, "the snapshot holds nothing: the last attempt to take it failed");
        };
        let (state, repair) = StateArrays::recalled(&host.state, &snapshot.memory[0], stream)?;
        for (copy, piece) in snapshot.memory.iter().zip(self.pieces()) {
            let copied = self.device.copy(piece.address(), copy.address(), piece.bytes(), stream);
            copied.map_err(|error| error.context("the layer was restored only in part; restore it again"))?;
        }
        let restoration = Restoration {
            from_epoch: self.epoch,
            to_epoch: host.epoch,
            reason: reason.to_owned(),
            dropped: self.accepted_since(host),
            undone: self.rolled_back_since(host),
        };
        self.state.recall(state);
        self.telemetry.last = host.observations.clone();
        for (bank, kept) in self.banks.iter_mut().zip(&host.modes) {
            bank.modes = kept.clone();
        }
        self.kernels.resume(&host.running);
        self.epoch = host.epoch;
        self.queue.clone_from(&host.queue);
        self.pending = None;
        self.rolled_back.clone_from(&host.rolled_back);
        self.metric = host.metric;
        self.last_metric = host.last_metric;
        self.training_steps.store(host.training_steps, Ordering::Relaxed);
        // What was found and done is no part of what is put back.
        self.repaired.extend(repair);
        self.restored.push(restoration.clone());
        log::warn!(
            "layer '{}' was restored from epoch {} to epoch {}: {reason}",
            self.config.settings.layer_id,
            restoration.from_epoch,
            restoration.to_epoch
        );
        Ok(restoration)
    }

    /// The memory of all that lasts from one step to the next, state first.
    fn pieces(&self) -> impl Iterator<Item = &Buffer> {
        let banks = self.banks.iter().map(|bank| &bank.memory);
        [self.state.memory(), &self.telemetry.memory].into_iter().chain(banks)
    }

    fn accepted_since(&self, host: &HostSnapshot) -> Vec<Vec<Command>> {
        let is_new = |batch: &&Batch| host.queue.iter().all(|kept| kept.number != batch.number);
        self.queue.iter().filter(is_new).map(|batch| batch.commands.clone()).collect()
    }

    fn rolled_back_since(&self, host: &HostSnapshot) -> Vec<TransitionRecord> {
        // A seed can be rolled back once in an epoch: it leaves ROLLED_BACK at an epoch's end only.
        let same =
            |kept: &TransitionRecord, record: &TransitionRecord| (kept.epoch, kept.seed) == (record.epoch, record.seed);
        let is_new = |record: &&TransitionRecord| host.rolled_back.iter().all(|kept| !same(kept, record));
        self.rolled_back.iter().filter(is_new).cloned().collect()
    }

    fn check_fits(&self, snapshot: &Snapshot) -> Result<()> {
        if snapshot.layer != self.identity {
            fail!(
                SnapshotMismatch,
                "the snapshot is of another layer; a layer that was moved, loaded or copied is another one and needs a \
                 snapshot of its own"
            );
        }
        // A layer never loses a bank, and banks never change their size.
        let (then, now) = (snapshot.memory.len() - 2, self.banks.len());
        if then != now {
            fail!(
                SnapshotMismatch,
                "the snapshot is of a layer with {then} blueprints, and the layer has {now} by now; take another one"
            );
        }
        Ok(())
    }

    fn refuse_while_recording(&self, what: &str, stream: Stream) -> Result<()> {
        if self.device.is_capturing(stream) {
            fail!(Unsupported, "{what} is not possible while the stream is recording a graph; do it before or after");
        }
        Ok(())
    }
}
