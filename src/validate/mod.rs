//! Proves a kernel before it may run: on the device that will run it, on a small launch, against the reference.
//!
//! What is checked, in this order: nothing is written outside of what may be written (guard zones around every array), no
//! input is changed, every element of the output is written (it holds a pattern before), and everything that is written
//! is what [`crate::compile::reference`] says. For backward and training, the programs themselves are held against finite
//! differences of the forward program first: a kernel that does exactly what a wrong program says is wrong.
//!
//! It must know no layer and no compiler: it is given a class, the kernel that was loaded for it, and a [`Device`].

mod arrays;
mod expected;
mod gradients;
mod scene;

pub(crate) use arrays::encode;

use crate::compile::{KernelClass, Pass, passes, random};
use crate::device::{Device, DeviceKind, Kernel, Stream};
use crate::graph::{Blueprint, DataType};
use crate::store::Key;
use crate::{Error, Result, Status};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

/// What validation has done in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Kernels that were found right.
    pub validated: u64,
    /// Kernels that were refused; they never run.
    pub refused: u64,
    /// Time it took.
    pub seconds: f64,
}

#[derive(Default)]
struct Memory {
    verdicts: HashMap<(DeviceKind, [u8; 32]), Option<Error>>,
    statistics: Statistics,
}

static MEMORY: LazyLock<Mutex<Memory>> = LazyLock::new(Mutex::default);

/// What has been done so far.
pub fn statistics() -> Statistics {
    MEMORY.lock().statistics
}

/// Whether a kernel may run. The verdict is remembered by the kernel's key, so a kernel is tried once in a process.
///
/// `blueprints` are those whose programs the class has, in the order of the branches. The stream must not be capturing.
///
/// # Errors
///
/// `ValidationFailed`, with the check, the element, what was expected and what was found; and whatever the device cannot
/// do, which is not remembered.
pub fn validate(
    device: &Arc<dyn Device>,
    key: &Key,
    class: &KernelClass,
    kernel: &Kernel,
    blueprints: &[&Blueprint],
    stream: Stream,
) -> Result<()> {
    let name = (device.kind(), *key.digest());
    if let Some(verdict) = MEMORY.lock().verdicts.get(&name) {
        return verdict.clone().map_or(Ok(()), Err);
    }
    let started = Instant::now();
    let result = programs(class, blueprints).and_then(|()| launches(device, class, kernel, blueprints, stream));
    let seconds = started.elapsed().as_secs_f64();
    let mut memory = MEMORY.lock();
    memory.statistics.seconds += seconds;
    match &result {
        Ok(()) => {
            log::debug!("validated a {:?} kernel for {} in {seconds:.4} s", class.pass, class.data_type.name());
            memory.statistics.validated += 1;
            memory.verdicts.insert(name, None);
        }
        Err(error) if error.status() == Status::ValidationFailed => {
            memory.statistics.refused += 1;
            memory.verdicts.insert(name, Some(error.clone()));
        }
        Err(_) => {}
    }
    result
}

/// Holds the gradients that the programs of a class compute against differences of the forward programs.
///
/// # Errors
///
/// `ValidationFailed`.
pub fn programs(class: &KernelClass, blueprints: &[&Blueprint]) -> Result<()> {
    if class.pass == Pass::Forward || blueprints.is_empty() {
        return Ok(());
    }
    let forward = passes::kernel_class(Pass::Forward, DataType::F64, false, blueprints)?;
    for (branch, blueprint) in blueprints.iter().enumerate() {
        gradients::check(blueprint, class.pass, &forward.programs[branch], &class.programs[branch])
            .and_then(|()| match class.frozen.get(branch) {
                Some(frozen) => gradients::check(blueprint, class.pass, &forward.programs[branch], frozen),
                None => Ok(()),
            })
            .map_err(|error| error.context(format!("blueprint `{}`", blueprint.name)))?;
    }
    Ok(())
}

/// Launches a kernel on a small scene and looks at everything it left behind. A difference must show on other numbers as
/// well: one alone may be a step that rounding took.
///
/// # Errors
///
/// `ValidationFailed`, and what the device cannot do.
pub fn launches(
    device: &Arc<dyn Device>,
    class: &KernelClass,
    kernel: &Kernel,
    blueprints: &[&Blueprint],
    stream: Stream,
) -> Result<()> {
    let first = scene::Scene::new(class, blueprints, 1).check(device, kernel, stream);
    match first {
        Err(error) if error.status() == Status::ValidationFailed => {
            scene::Scene::new(class, blueprints, 2).check(device, kernel, stream)
        }
        other => other,
    }
}

/// Numbers between -1 and 1, the same in every run.
pub(crate) struct Numbers {
    stream: u16,
    next: u64,
    drawn: [u32; 4],
}

impl Numbers {
    pub(crate) fn new(stream: u16) -> Numbers {
        Numbers { stream, next: 0, drawn: [0; 4] }
    }

    fn next(&mut self) -> f64 {
        let (block, word) = (self.next / 4, (self.next % 4) as usize);
        if word == 0 {
            self.drawn = random::philox(0x6b61_736d, [block as u32, (block >> 32) as u32, 0, self.stream.into()]);
        }
        self.next += 1;
        f64::from(self.drawn[word] >> 8) / f64::from(1 << 23) - 1.0
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.next()).collect()
    }

    /// A slot near where a seed of this blueprint starts, but with no element left at a special value.
    pub(crate) fn slot(&mut self, blueprint: &Blueprint) -> Vec<f64> {
        blueprint.initialize(u64::from(self.stream)).iter().map(|number| number + 0.375 * self.next()).collect()
    }
}
