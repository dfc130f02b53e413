//! Which kernels a layer runs: one set for each set of live blueprints.
//!
//! A set that is needed soon is compiled in the background while another one runs; the swap happens between epochs.
//!
//! A set that neither runs nor is asked for, by the layer or by a snapshot of it, is dropped at an epoch's end: at once if it
//! never ran, else some epochs later, when no launch of it is under way. One that a graph has recorded stays for as long as
//! the layer, with its own `branch` array, because nobody says when a graph is replayed for the last time: it stays
//! consistent, it only knows fewer blueprints. So does the set of no blueprints, to which every layer comes back. What was
//! dropped and comes back is not compiled again: the pipeline has its machine code in memory or on disk.
//!
//! A set whose kernels cannot be had never runs. Then one of the blueprints that wait may be to blame, or all of them
//! together are too much, so each is tried by itself beside those that run, and those that prove good run together.

use super::bank::Bank;
use super::kernel_set::KernelSet;
use super::kind::Kind;
use super::report::KernelReport;
use crate::compile::Pass;
use crate::device::{Device, Stream};
use crate::graph::DataType;
use crate::{Result, Status, error};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// All sets of a layer and which of them runs.
pub(super) struct Kernels {
    device: Arc<dyn Device>,
    chunk: usize,
    parameter_type: DataType,
    /// Whether products of f32 may be rounded to TF32.
    tf32: bool,
    /// Bits of the kinds that were ever used, so that a new set comes with all of them.
    used: AtomicU32,
    sets: Vec<Arc<KernelSet>>,
    current: Arc<KernelSet>,
    /// The set that runs as soon as it is compiled.
    next: Arc<KernelSet>,
    /// The sets that the last epoch's end asked for.
    wanted: Vec<Arc<KernelSet>>,
}

/// Which set runs and which ones may follow: what a snapshot of the layer keeps.
pub(super) struct Running {
    current: Arc<KernelSet>,
    next: Arc<KernelSet>,
    wanted: Vec<Arc<KernelSet>>,
}

impl Kernels {
    /// Identity only.
    pub fn new(
        device: Arc<dyn Device>,
        chunk: usize,
        parameter_type: DataType,
        tf32: bool,
        stream: Stream,
    ) -> Result<Kernels> {
        let current = Arc::new(KernelSet::new(&BTreeSet::new(), Vec::new(), chunk, tf32, &device, stream)?);
        current.mark_run();
        let (sets, next, used) = (vec![current.clone()], current.clone(), AtomicU32::new(0));
        Ok(Kernels { device, chunk, parameter_type, tf32, used, sets, current, next, wanted: Vec::new() })
    }

    /// The set that runs.
    pub fn current(&self) -> &KernelSet {
        &self.current
    }

    /// The set that runs, and the one that will.
    pub fn current_and_next(&self) -> [&KernelSet; 2] {
        [&self.current, &self.next]
    }

    /// Remembers that a kind is used.
    pub fn mark_used(&self, kind: Kind) {
        let bit = 1 << kind.index();
        if self.used.load(Ordering::Relaxed) & bit == 0 {
            self.used.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// The kinds a set must have before it may run: those that were used, and isolated training on the same rows, for
    /// seeds that begin it only once their kernels are ready. Before any was used, what a first epoch needs.
    pub fn kinds(&self) -> Vec<Kind> {
        let used = self.used.load(Ordering::Relaxed);
        if used == 0 {
            return vec![Kind::forward(self.parameter_type), Kind::train(self.parameter_type)];
        }
        let is_used = |kind: Kind| used & (1 << kind.index()) != 0;
        let trains_on = |kind: &Kind| kind.pass == Pass::Train && is_used(Kind::forward(kind.data_type));
        Kind::all().filter(|kind| is_used(*kind) || trains_on(kind)).collect()
    }

    /// Asks in the background for the kernels of the live blueprints, of which some run already and others wait; if they
    /// cannot be had together, for those of each that waits.
    pub fn request(
        &mut self,
        live: &BTreeSet<u32>,
        running: &BTreeSet<u32>,
        banks: &[Bank],
        stream: Stream,
    ) -> Result<()> {
        let kinds = self.kinds();
        let all = self.set(live, banks, stream)?;
        // What goes wrong is told by the gate that needs the set, and by the report.
        let _ = all.readiness(&kinds);
        self.wanted = vec![all.clone()];
        self.next = all.clone();
        if all.has_failed(&kinds) {
            let mut proven = running.clone();
            for blueprint in live.difference(running) {
                let beside: BTreeSet<u32> = running.iter().chain([blueprint]).copied().collect();
                let set = self.set(&beside, banks, stream)?;
                let _ = set.readiness(&kinds);
                // Only what was loaded before the epoch ended: whoever waited for that finds the same everywhere.
                if set.is_loaded(&kinds) {
                    proven.insert(*blueprint);
                }
                self.wanted.push(set);
            }
            self.next = self.current.clone();
            if proven.len() > running.len() {
                self.next = self.set(&proven, banks, stream)?;
                let _ = self.next.readiness(&kinds);
                self.wanted.push(self.next.clone());
            }
        }
        Ok(())
    }

    /// The set that runs, and those that the last epoch's end asked for, each once.
    pub fn current_and_wanted(&self) -> Vec<&Arc<KernelSet>> {
        let mut sets = vec![&self.current];
        for set in &self.wanted {
            if !sets.iter().any(|listed| Arc::ptr_eq(listed, set)) {
                sets.push(set);
            }
        }
        sets
    }

    /// The kernels that run, and those that the last epoch's end asked for.
    pub fn report(&self) -> Vec<KernelReport> {
        let sets = self.current_and_wanted().into_iter();
        sets.flat_map(|set| set.report(Arc::ptr_eq(set, &self.current))).collect()
    }

    /// Whether a set with all of these blueprints could run. One that is being compiled for them goes first.
    ///
    /// # Errors
    ///
    /// `NotReady` while it is being compiled, or why it cannot be had.
    pub fn readiness(&self, blueprints: &BTreeSet<u32>) -> Result<()> {
        let kinds = self.kinds();
        let mut refusal = None;
        for set in self.wanted.iter().filter(|set| set.contains(blueprints)) {
            let Err(error) = set.readiness(&kinds) else { return Ok(()) };
            // Whose seed is next, its kernel is next.
            set.hurry(&kinds);
            let waits = error.status() == Status::NotReady;
            if set.members.iter().eq(blueprints) && !waits {
                refusal = Some(error);
                break;
            }
            // What fails with others says nothing of these alone, which the epoch's end asks for.
            let waiting = if waits {
                error
            } else {
                error!(NotReady, "its kernel without others is still being compiled").caused_by(error)
            };
            refusal.get_or_insert(waiting);
        }
        if self.sets.iter().any(|set| set.serves(blueprints, &kinds)) {
            return Ok(());
        }
        Err(refusal.unwrap_or_else(|| error!(NotReady, "no kernel was asked for yet; an epoch must end first")))
    }

    /// As [`Kernels::readiness`], of sets that are loaded and proven.
    pub fn loaded(&self, blueprints: &BTreeSet<u32>) -> Result<()> {
        let kinds = self.kinds();
        if self.sets.iter().any(|set| set.serves(blueprints, &kinds)) {
            return Ok(());
        }
        self.readiness(blueprints)?;
        Err(error!(NotReady, "its kernels are compiled, and are loaded and proven when the next epoch ends"))
    }

    /// Loads what is compiled, everywhere.
    pub fn collect(&self, stream: Stream) {
        self.sets.iter().for_each(|set| set.collect(stream));
    }

    /// Swaps in the set of the live blueprints if it is loaded; else any that has at least those that run. Returns
    /// whether another set runs now.
    pub fn swap(&mut self, live: &BTreeSet<u32>, running: &BTreeSet<u32>) -> bool {
        let kinds = self.kinds();
        let fits = |set: &&Arc<KernelSet>| set.serves(running, &kinds);
        let wanted = self.find(live).into_iter().chain([&self.next]).find(fits);
        let next = wanted.or_else(|| match self.current.contains(running) {
            true => Some(&self.current),
            false => self.sets.iter().find(fits),
        });
        let next = next.unwrap_or(&self.current).clone();
        let swapped = !Arc::ptr_eq(&next, &self.current);
        self.run(next);
        // Only now: what was asked for an epoch ago may have been needed.
        self.drop_unneeded();
        swapped
    }

    fn drop_unneeded(&mut self) {
        let before = self.sets.len();
        self.sets.retain(|set| {
            // By what runs, by what was asked for, or by a snapshot.
            let needed = Arc::strong_count(set) > 1;
            needed || set.is_recorded() || set.members.is_empty() || set.rest()
        });
        if self.sets.len() < before {
            log::debug!("{} kernel sets were dropped, {} stay", before - self.sets.len(), self.sets.len());
            self.device.unload_unused();
        }
    }

    /// Swaps in the set of these blueprints, although nothing of it may be loaded: that is compiled at first use.
    pub fn swap_at_once(&mut self, running: &BTreeSet<u32>, banks: &[Bank], stream: Stream) -> Result<()> {
        let set = self.set(running, banks, stream)?;
        self.run(set);
        Ok(())
    }

    fn run(&mut self, set: Arc<KernelSet>) {
        set.mark_run();
        self.current = set;
    }

    /// The set of these blueprints, made if there is none.
    fn set(&mut self, blueprints: &BTreeSet<u32>, banks: &[Bank], stream: Stream) -> Result<Arc<KernelSet>> {
        if let Some(set) = self.find(blueprints) {
            return Ok(set.clone());
        }
        let graphs = blueprints.iter().filter_map(|index| banks.get(*index as usize));
        let graphs = graphs.map(|bank| bank.blueprint.clone()).collect();
        let set = Arc::new(KernelSet::new(blueprints, graphs, self.chunk, self.tf32, &self.device, stream)?);
        self.sets.push(set.clone());
        Ok(set)
    }

    /// Which set runs and which ones may follow.
    pub fn running(&self) -> Running {
        Running { current: self.current.clone(), next: self.next.clone(), wanted: self.wanted.clone() }
    }

    /// Lets the set run that ran then, and asks for those that were asked for then.
    pub fn resume(&mut self, running: &Running) {
        // None of them was dropped meanwhile.
        self.run(running.current.clone());
        self.next = running.next.clone();
        self.wanted.clone_from(&running.wanted);
    }

    fn find(&self, blueprints: &BTreeSet<u32>) -> Option<&Arc<KernelSet>> {
        self.sets.iter().find(|set| set.members.iter().eq(blueprints))
    }
}

#[cfg(test)]
pub(super) mod broken;
#[cfg(test)]
mod dropped;
#[cfg(test)]
mod tests;
