//! Whether the tensors and arrays of a launch fit each other, as far as addresses can tell.

use super::launch::Loaded;
use crate::compile::Pass;
use crate::device::{Address, Launch, Rows};
use crate::{Result, fail};

/// Refuses a launch whose arguments contradict each other.
pub fn check(kernel: &Loaded, launch: &Launch<'_>) -> Result<()> {
    let (seeds, chunk, hidden) = (launch.seeds, kernel.chunk, launch.hidden);
    if seeds.checked_mul(chunk).is_none_or(|channels| channels > hidden) {
        fail!(ShapeMismatch, "{seeds} seeds of {chunk} channels do not fit a row of {hidden}");
    }
    if launch.banks.len() != kernel.code.programs.len() {
        let (banks, programs) = (launch.banks.len(), kernel.code.programs.len());
        fail!(InvalidArgument, "the launch has {banks} banks, the kernel {programs} programs");
    }
    let alignment = kernel.data_type.compute().bytes() as u64;
    for bank in launch.banks {
        if !bank.parameters.0.is_multiple_of(alignment) || !bank.gradient.0.is_multiple_of(alignment) {
            fail!(InvalidArgument, "a bank is not aligned to its {alignment}-byte elements");
        }
    }
    let arrays = [
        ("lifecycle", launch.lifecycle, 1, seeds, false),
        ("blueprint", launch.blueprint, 4, seeds, false),
        ("slot", launch.slot, 4, seeds, false),
        ("alpha", launch.alpha, 4, seeds, false),
        ("branch", launch.branch, 4, launch.blueprints, false),
        ("telemetry", launch.telemetry, 8, seeds, true),
        ("alpha gradient", launch.alpha_gradient, 4, seeds, true),
        ("loss", launch.loss, 8, seeds, kernel.pass != Pass::Train),
        ("random", launch.random, 8, 1, true),
    ];
    for (name, address, alignment, elements, optional) in arrays {
        if elements > 0 && !optional && address.is_null() {
            fail!(InvalidArgument, "the {name} array is null");
        }
        if !address.0.is_multiple_of(alignment) {
            fail!(InvalidArgument, "the {name} array is not aligned to {alignment} bytes");
        }
    }
    check_tensors(kernel, launch)
}

fn check_tensors(kernel: &Loaded, launch: &Launch<'_>) -> Result<()> {
    if launch.rows == 0 || launch.hidden == 0 {
        return Ok(());
    }
    let mut inputs = vec![("x", launch.x)];
    match kernel.pass {
        Pass::Forward => {}
        Pass::Backward => inputs.push(("output gradient", launch.output_gradient)),
        Pass::Train => inputs.push(("target", launch.target)),
    }
    let bytes = kernel.data_type.bytes();
    for (name, rows) in &inputs {
        extent(name, *rows, launch, bytes)?;
    }
    if kernel.pass == Pass::Train {
        return Ok(());
    }
    extent("output", launch.output, launch, bytes)?;
    if launch.rows > 1 && launch.output.stride < launch.hidden {
        let stride = launch.output.stride;
        fail!(ShapeMismatch, "the rows of the output overlap: stride {stride}, {} channels", launch.hidden);
    }
    for (name, input) in inputs {
        if overlap(input, launch.output, launch, bytes) {
            fail!(InvalidArgument, "{name} and output overlap without being the same rows");
        }
    }
    Ok(())
}

/// The address after the last element of a tensor.
fn extent(name: &str, rows: Rows, launch: &Launch<'_>, bytes: usize) -> Result<u64> {
    if rows.address == Address::NULL || !rows.address.0.is_multiple_of(bytes as u64) {
        fail!(InvalidArgument, "{name} at address {:#x} is null or not aligned to {bytes} bytes", rows.address.0);
    }
    let elements = (launch.rows - 1).checked_mul(rows.stride).and_then(|last| last.checked_add(launch.hidden));
    let end = elements.and_then(|elements| (elements as u64).checked_mul(bytes as u64)?.checked_add(rows.address.0));
    match end {
        Some(end) => Ok(end),
        None => fail!(ShapeMismatch, "{name} has {} rows of stride {}: too large", launch.rows, rows.stride),
    }
}

/// Whether two tensors share elements without being the same.
fn overlap(a: Rows, b: Rows, launch: &Launch<'_>, bytes: usize) -> bool {
    if a == b || (a.address == b.address && launch.rows == 1) {
        return false;
    }
    let end = |rows: Rows| rows.address.0 + (((launch.rows - 1) * rows.stride + launch.hidden) * bytes) as u64;
    if end(a) <= b.address.0 || end(b) <= a.address.0 {
        return false;
    }
    // Columns of one larger tensor: the rows interleave.
    let apart = a.address.0.abs_diff(b.address.0);
    let stride = (a.stride * bytes) as u64;
    let row = (launch.hidden * bytes) as u64;
    let interleaved = a.stride == b.stride && stride > 0 && {
        let shift = apart % stride;
        shift >= row && stride - shift >= row
    };
    !interleaved
}
