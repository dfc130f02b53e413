//! Code for the CPU backend: the steps of each program as loops with flat register code inside, every value with its
//! place in memory.
//!
//! The code is the same for every CPU: which instructions run it is decided where it is loaded, in
//! [`crate::device::cpu`]. This module must know no tensor and no thread.

mod check;
mod code;
mod expression;
mod procedure;
mod schedule;
mod storage;

pub(crate) use code::*;

use crate::compile::{KernelClass, Schedule, Tiling};
use crate::{Result, error, fail};

/// Rows that a procedure can work on at a time, the most last.
pub(crate) const LANES: [u16; 3] = [8, 16, 32];

/// How the code of a class cuts its work.
pub(in crate::compile) fn tiling(class: &KernelClass) -> Result<Tiling> {
    let most = Tiling { rows: LANES[LANES.len() - 1], ..Tiling::default() };
    match class.schedule {
        Schedule::Best | Schedule::Generic => Ok(most),
        Schedule::Tuned(tiling) if LANES.contains(&tiling.rows) && tiling == (Tiling { rows: tiling.rows, ..most }) => {
            Ok(tiling)
        }
        Schedule::Tuned(tiling) => fail!(CompileFailed, "{tiling:?} is no way to cut a kernel for the CPU"),
    }
}

/// What tuning may try instead.
pub(in crate::compile) fn alternatives(from: Tiling) -> Vec<Vec<Tiling>> {
    vec![LANES.map(|rows| Tiling { rows, ..from }).to_vec()]
}

/// Compiles a kernel class to code that [`crate::device::cpu`] loads and runs.
///
/// Fails with `CompileFailed` if a program contradicts itself, and with `KernelTooLarge` if its values do not fit in
/// any sensible memory.
pub fn compile(class: &KernelClass) -> Result<Vec<u8>> {
    tiling(class)?;
    let procedures = |kind: &str, programs: &[crate::compile::Program]| -> Result<Vec<Procedure>> {
        let compile = |(branch, program)| {
            procedure::compile(program, class.schedule, class.chunk)
                .map_err(|error| error.context(format!("{kind} {branch}")))
        };
        programs.iter().enumerate().map(compile).collect()
    };
    let code = Code {
        programs: procedures("program", &class.programs)?,
        frozen: procedures("frozen program", &class.frozen)?,
    };
    check::check(&code, class)
        .map_err(|reason| error!(CompileFailed, "the code made for {:?} is not sound: {reason}", class.pass))?;
    code.encode(class)
}
