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
    if kernel.pass == Pass::Train || launch.only_observes(kernel.pass, kernel.chunk)? {
        return Ok(());
    }
    extent("output", launch.output, launch, bytes)?;
    if !launch.output.is_disjoint(launch.rows, launch.hidden) {
        fail!(ShapeMismatch, "the rows of the output overlap: {}, each of {} channels", launch.output, launch.hidden);
    }
    for (name, input) in inputs {
        if overlap(name, input, launch.output, launch, bytes)? {
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
    let elements = rows.extent(launch.rows, launch.hidden);
    match elements.and_then(|elements| (elements as u64).checked_mul(bytes as u64)?.checked_add(rows.address.0)) {
        Some(end) => Ok(end),
        None => fail!(ShapeMismatch, "{name} is too large: {} {rows}", launch.rows),
    }
}

/// Whether two tensors share elements without being the same.
fn overlap(name: &str, a: Rows, b: Rows, launch: &Launch<'_>, bytes: usize) -> Result<bool> {
    let same_row = a.address == b.address && a.channel_stride == b.channel_stride;
    if a == b || (same_row && launch.rows == 1) {
        return Ok(false);
    }
    if extent(name, a, launch, bytes)? <= b.address.0 || extent("output", b, launch, bytes)? <= a.address.0 {
        return Ok(false);
    }
    // Parts of one larger tensor that interleave: the rows of each, or its groups, lie between those of the other.
    let even = launch.rows <= a.group;
    let period = if even { a.stride } else { a.group_stride } as u64 * bytes as u64;
    let once = a.extent(if even { 1 } else { a.group }, launch.hidden).unwrap_or(usize::MAX) as u64 * bytes as u64;
    let alike = b == Rows { address: b.address, ..a };
    let interleaved = alike && period > 0 && {
        let shift = a.address.0.abs_diff(b.address.0) % period;
        shift >= once && period - shift >= once
    };
    Ok(!interleaved)
}
