//! One kernel on its way, and what is tried where it fails: the best schedule first, then the next simpler one, then none.
//!
//! There is no last step to the reference: no device runs it, and a seed that silently ran something a hundred times slower
//! would help nobody. What no schedule gives stays away, and the reason stands where people look.

use crate::compile::{self, Artifact, KernelClass, Schedule, Ticket, is_of_the_kernel};
use crate::device::Device;
use crate::{Error, Result};
use log::warn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static STEPPED_DOWN: AtomicU64 = AtomicU64::new(0);
static GIVEN_UP: AtomicU64 = AtomicU64::new(0);

/// How often kernels failed in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LadderStatistics {
    /// Kernels that a simpler schedule was tried for, because one failed to compile, to load or to prove right.
    pub stepped_down: u64,
    /// Kernels that no schedule gave.
    pub given_up: u64,
}

/// What has been done so far.
pub fn ladder_statistics() -> LadderStatistics {
    LadderStatistics { stepped_down: STEPPED_DOWN.load(Relaxed), given_up: GIVEN_UP.load(Relaxed) }
}

/// A kernel that was asked for in some schedule.
pub(super) struct Attempt {
    pub class: KernelClass,
    ticket: Ticket,
    /// Why the schedule before was given up.
    pub reason: Option<Error>,
}

/// Why a kernel does not come.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// No schedule gives it.
    Final(Error),
    /// Something else is missing; another time it may be there.
    Passing(Error),
}

impl Failure {
    /// The reason.
    pub fn error(&self) -> &Error {
        match self {
            Failure::Final(error) | Failure::Passing(error) => error,
        }
    }
}

impl Attempt {
    /// Asks for a kernel in the background.
    pub fn new(class: KernelClass, device: &Arc<dyn Device>) -> Attempt {
        let ticket = compile::pipeline().request(class.clone(), device.architecture());
        Attempt { class, ticket, reason: None }
    }

    /// The schedule that is tried.
    pub fn schedule(&self) -> Schedule {
        self.class.schedule
    }

    /// The machine code or the error, once there is one. Never waits.
    pub fn poll(&self) -> Option<Result<Arc<Artifact>>> {
        self.ticket.poll()
    }

    /// Lets it be compiled before all that nobody asked for as urgently.
    pub fn hurry(&self) {
        self.ticket.hurry();
    }

    /// The machine code or the error; waits for it.
    pub fn wait(&self) -> Result<Arc<Artifact>> {
        self.ticket.wait()
    }

    /// Asks for the next simpler kernel in place of this one, which failed. `name` is what the log calls it.
    pub fn step_down(self, error: Error, name: &str, device: &Arc<dyn Device>) -> Result<Attempt, Failure> {
        if !is_of_the_kernel(error.status()) {
            warn!("the {name} is not there yet: {error}");
            return Err(Failure::Passing(error));
        }
        let failed = self.schedule();
        let Some(schedule) = failed.simpler() else {
            return Err(give_up(error, name));
        };
        STEPPED_DOWN.fetch_add(1, Relaxed);
        warn!("the {name} fails in the {} schedule, trying the {}: {error}", failed.name(), schedule.name());
        let next = Attempt::new(KernelClass { schedule, ..self.class }, device);
        // Its seeds have waited once already.
        next.hurry();
        Ok(Attempt { reason: Some(error), ..next })
    }
}

/// Counts a kernel that no schedule gives. `name` is what the log calls it.
pub(super) fn give_up(error: Error, name: &str) -> Failure {
    GIVEN_UP.fetch_add(1, Relaxed);
    warn!("no schedule gives the {name}: {error}");
    Failure::Final(error)
}

#[cfg(test)]
mod tests;
