//! Finds by measuring how a kernel's work is best cut: [`tune`] compiles, proves and times one [`Tiling`] after the other on
//! the device that is to run it, and keeps what it finds in the tuning database, where layers look when they ask for kernels.
//!
//! Nothing here runs by itself or on a hot path: somebody asks for it, gives it so many seconds, and may ask again to go on
//! where it stopped. It must know no layer.

mod bench;
mod search;

pub use bench::Work;
use search::CONFIRMED;
pub use search::{Measured, Outcome, Progress, tune};

use crate::compile::{Architecture, KernelClass, Schedule, Tiling, nvrtc, tiling};
use crate::device::{Device, DeviceKind, cpu};
use crate::store::{GENERATOR_VERSION, Problem, TuningDatabase};
use crate::{Result, error};
use std::sync::LazyLock;

/// The schedule for a class on a device: what the last tuning of it found, whatever its work was; the planner's own where
/// nothing was tuned. Reads the database of the environment.
pub fn schedule(class: &KernelClass, device: &dyn Device) -> Schedule {
    static DATABASE: LazyLock<Option<TuningDatabase>> = LazyLock::new(TuningDatabase::from_environment);
    let Some(database) = DATABASE.as_ref().filter(|_| class.schedule == Schedule::Best) else { return class.schedule };
    let tuned =
        problem(class, device, Work { rows: 0, seeds: 0, running: 0 }).map(|problem| database.of_class(&problem));
    let candidates = tuned.into_iter().flatten().flat_map(|tuned| tuned.candidates);
    let confirmed = candidates.filter(|candidate| candidate.valid && candidate.samples as usize >= CONFIRMED);
    let last = confirmed.max_by_key(|candidate| candidate.measured_at);
    let Some(best) = last.and_then(|candidate| read(&candidate.schedule)) else { return Schedule::Best };
    let architecture = device.architecture();
    let is_other = tiling(class, architecture).is_ok_and(|planned| planned != best);
    if is_other && can_be(class, architecture, best) { Schedule::Tuned(best) } else { Schedule::Best }
}

/// What a class on a device is called in the database.
///
/// # Errors
///
/// `CompilerUnavailable` if there is none for the device.
pub fn problem(class: &KernelClass, device: &dyn Device, work: Work) -> Result<Problem> {
    let best = KernelClass { schedule: Schedule::Best, ..class.clone() };
    let bytes = postcard::to_allocvec(&best)
        .map_err(|cause| error!(CompileFailed, "the class cannot be written as bytes").caused_by(cause))?;
    let architecture = device.architecture();
    let (where_it_runs, compiler) = match device.kind() {
        DeviceKind::Cpu => (format!("{} threads", cpu::threads()), String::new()),
        DeviceKind::Cuda(_) => (architecture.to_string(), nvrtc::version()?),
    };
    Ok(Problem {
        class: blake3::hash(&bytes).into(),
        kind: format!("{} {}", class.pass.name(), class.arithmetic()),
        device: format!("{}, {where_it_runs}", device.description()),
        generator: GENERATOR_VERSION.to_owned(),
        compiler,
        rows: work.rows as u64,
        seeds: work.seeds as u64,
    })
}

/// A tiling as the database keeps it.
fn write(tiling: Tiling) -> Result<String> {
    serde_json::to_string(&tiling).map_err(|cause| error!(StorageFailed, "{tiling:?} as JSON").caused_by(cause))
}

/// What the database kept, if it is a tiling; whether it can be planned is another question.
fn read(text: &str) -> Option<Tiling> {
    serde_json::from_str(text).ok()
}

/// Whether a tiling can be planned for a class.
fn can_be(class: &KernelClass, architecture: Architecture, wanted: Tiling) -> bool {
    let tuned = KernelClass { schedule: Schedule::Tuned(wanted), ..class.clone() };
    tiling(&tuned, architecture).is_ok()
}
