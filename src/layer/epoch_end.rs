//! What an epoch's end did, kept as briefly as it can be until somebody asks: a summary of a command for every seed is long, and
//! mostly nobody reads it.

use super::command::Batch;
use super::{EpochSummary, Held, Lifecycle, Refusal, Restoration, TransitionRecord};
use serde::{Serialize, Serializer};
use std::sync::Arc;

/// What a batch did to the seeds of its commands, in order.
#[derive(Default)]
pub(super) struct Transitions {
    steps: Vec<Step>,
    /// Which of them culled a seed although something else was asked, and why.
    culled: Vec<(usize, String)>,
}

/// What became of a seed.
#[derive(Clone, Copy)]
struct Step {
    from: Lifecycle,
    to: Lifecycle,
    blueprint: i32,
}

impl Transitions {
    /// Nothing yet, with room for so many.
    pub fn with_capacity(commands: usize) -> Transitions {
        Transitions { steps: Vec::with_capacity(commands), culled: Vec::new() }
    }

    /// The next command's.
    #[inline]
    pub fn push(&mut self, from: Lifecycle, to: Lifecycle, blueprint: i32, culled_for: Option<String>) {
        self.culled.extend(culled_for.map(|reason| (self.steps.len(), reason)));
        self.steps.push(Step { from, to, blueprint });
    }

    /// In full, if these were the commands.
    fn records(&self, batch: &Batch, epoch: u32) -> Vec<TransitionRecord> {
        let record = |(command, step): (&super::Command, &Step)| TransitionRecord {
            epoch,
            seed: command.seed,
            action: command.action,
            from: step.from,
            to: step.to,
            blueprint: step.blueprint,
            evidence: command.evidence,
            reason: command.reason.clone(),
            culled_for: None,
        };
        let mut records: Vec<_> = batch.commands.iter().zip(&self.steps).map(record).collect();
        for (position, reason) in &self.culled {
            records[*position].culled_for = Some(reason.clone());
        }
        records
    }
}

/// What the end of an epoch did. In JSON it is its summary.
pub struct EpochEnd {
    pub(super) epoch: u32,
    /// Emergency rollbacks of the epoch.
    pub(super) rolled_back: Vec<TransitionRecord>,
    pub(super) batches: Arc<Vec<Batch>>,
    /// Of each batch, what it did or why it was refused.
    pub(super) outcomes: Vec<Result<Transitions, String>>,
    pub(super) held: Vec<Held>,
    pub(super) repaired: Vec<String>,
    pub(super) restored: Vec<Restoration>,
}

impl EpochEnd {
    /// All that there is to tell.
    pub fn summary(&self) -> EpochSummary {
        let (mut applied, mut refused) = (self.rolled_back.clone(), Vec::new());
        for (batch, outcome) in self.batches.iter().zip(&self.outcomes) {
            match outcome {
                Ok(transitions) => applied.extend(transitions.records(batch, self.epoch)),
                Err(reason) => refused.push(Refusal { commands: batch.commands.clone(), reason: reason.clone() }),
            }
        }
        EpochSummary {
            epoch: self.epoch,
            applied,
            refused,
            held: self.held.clone(),
            repaired: self.repaired.clone(),
            restored: self.restored.clone(),
        }
    }
}

impl Serialize for EpochEnd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.summary().serialize(serializer)
    }
}
