//! Which program each seed runs, from the state arrays. Numbers in them that point nowhere are errors.

use super::launch::Loaded;
use crate::compile::codegen::cpu::Procedure;
use crate::compile::{Destination, Pass};
use crate::device::{Bank, Launch};
use crate::lifecycle::Lifecycle;
use crate::{Result, error, fail};

/// What is done with a seed's chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Nothing at all.
    Nothing,
    /// Copied and looked at.
    Identity,
    /// The program of a branch, with the parameters of a slot.
    Run { frozen: bool, branch: usize, slot: usize },
}

/// The choice for every seed.
pub fn choose(kernel: &Loaded, launch: &Launch<'_>) -> Result<Vec<Choice>> {
    // SAFETY: `arguments` found these arrays; their lengths are the caller's promise.
    let (lifecycle, blueprint, slot, branch) = unsafe {
        (
            array::<i8>(launch.lifecycle.0, launch.seeds),
            array::<i32>(launch.blueprint.0, launch.seeds),
            array::<i32>(launch.slot.0, launch.seeds),
            array::<i32>(launch.branch.0, launch.blueprints),
        )
    };
    let mut choices = Vec::with_capacity(launch.seeds);
    for seed in 0..launch.seeds {
        let state = Lifecycle::from_number(lifecycle[seed]).filter(|state| kernel.pass.runs(*state));
        choices.push(match state {
            Some(state) if blueprint[seed] != -1 => {
                let known = usize::try_from(blueprint[seed]).ok().and_then(|number| branch.get(number));
                let Some(branch) = known else {
                    let (number, count) = (blueprint[seed], launch.blueprints);
                    fail!(InvalidArgument, "seed {seed} has blueprint {number}, but the layer has {count}");
                };
                select(kernel, launch, kernel.pass.is_frozen(state), *branch, slot[seed])
                    .map_err(|error| error.context(format!("seed {seed}")))?
                    .unwrap_or(identity(kernel.pass))
            }
            _ => identity(kernel.pass),
        });
    }
    refuse_shared_slots(kernel, &choices)?;
    Ok(choices)
}

/// # Safety
/// There are so many numbers at the address, aligned, unless there are none.
unsafe fn array<'a, T>(address: u64, elements: usize) -> &'a [T] {
    if elements == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(address as *const T, elements) }
}

fn identity(pass: Pass) -> Choice {
    if pass == Pass::Train { Choice::Nothing } else { Choice::Identity }
}

/// A program and its slot; `None` for branch -1.
fn select(kernel: &Loaded, launch: &Launch<'_>, frozen: bool, branch: i32, slot: i32) -> Result<Option<Choice>> {
    if branch == -1 {
        return Ok(None);
    }
    let procedures = procedures(kernel, frozen);
    let found = usize::try_from(branch).ok().and_then(|branch| Some((branch, procedures.get(branch)?)));
    let Some((branch, procedure)) = found else {
        fail!(InvalidArgument, "its branch is {branch}, but the kernel has {} programs", procedures.len());
    };
    let bank = launch.banks[branch];
    let slot = usize::try_from(slot).ok().filter(|slot| *slot < bank.capacity).ok_or_else(|| {
        error!(InvalidArgument, "its slot is {slot}, but the bank of branch {branch} has {}", bank.capacity)
    })?;
    check_bank(procedure, &bank, branch)?;
    Ok(Some(Choice::Run { frozen, branch, slot }))
}

fn procedures(kernel: &Loaded, frozen: bool) -> &[Procedure] {
    if frozen { &kernel.code.frozen } else { &kernel.code.programs }
}

/// Whether a bank has what a procedure reads and adds to.
fn check_bank(procedure: &Procedure, bank: &Bank, branch: usize) -> Result<()> {
    let read = procedure.parameter_elements;
    if read > bank.size || (read > 0 && bank.parameters.is_null()) {
        fail!(InvalidArgument, "the bank of branch {branch} has {} parameters, the program {read}", bank.size);
    }
    for output in &procedure.outputs {
        if let Destination::ParameterGradient(first) = output.destination {
            if bank.gradient.is_null() {
                fail!(InvalidArgument, "the bank of branch {branch} has no gradient to add to");
            }
            if first + output.span.elements > bank.size {
                fail!(InvalidArgument, "the bank of branch {branch} has room for {} gradients only", bank.size);
            }
        }
    }
    Ok(())
}

/// Two seeds that add to the gradient of one slot at the same time would be a race.
fn refuse_shared_slots(kernel: &Loaded, choices: &[Choice]) -> Result<()> {
    let mut written: Vec<(usize, usize)> = Vec::new();
    for choice in choices {
        if let Choice::Run { frozen, branch, slot } = *choice {
            let outputs = &procedures(kernel, frozen)[branch].outputs;
            if outputs.iter().any(|output| matches!(output.destination, Destination::ParameterGradient(_))) {
                written.push((branch, slot));
            }
        }
    }
    written.sort_unstable();
    match written.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            let (branch, slot) = pair[0];
            fail!(InvalidArgument, "two seeds train slot {slot} of the bank of branch {branch}; give each its own")
        }
        None => Ok(()),
    }
}
