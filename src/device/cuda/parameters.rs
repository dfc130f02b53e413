//! What a generated kernel is given: one struct by value. `struct Launch` in
//! `src/compile/codegen/cuda/prelude.cu` has the same layout, and a generated kernel fails to compile if its size differs.

use crate::compile::codegen::cuda::MAXIMUM_PROGRAMS;
use crate::device::{Bank, Launch, Rows};

/// A row tensor as a kernel sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct RawRows {
    address: u64,
    channel_stride: i64,
    stride: i64,
    group: i64,
    group_stride: i64,
}

/// A bank as a kernel sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct RawBank {
    parameters: u64,
    gradient: u64,
    capacity: i64,
    size: i64,
}

/// The parameter of a generated kernel: 304 bytes, then 32 for each bank. A kernel reads only as many banks as it has
/// programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Parameters {
    rows: i64,
    hidden: i64,
    seeds: i64,
    blueprints: i64,
    x: RawRows,
    output_gradient: RawRows,
    target: RawRows,
    output: RawRows,
    lifecycle: u64,
    blueprint: u64,
    slot: u64,
    alpha: u64,
    branch: u64,
    telemetry: u64,
    alpha_gradient: u64,
    loss: u64,
    loss_scale: f64,
    random: u64,
    random_offset: u64,
    order: u64,
    busy: i64,
    busy_parts: u32,
    other_parts: u32,
    banks: [RawBank; MAXIMUM_PROGRAMS],
}

const _: () = assert!(std::mem::size_of::<Parameters>() == 304 + 32 * MAXIMUM_PROGRAMS);
const _: () = assert!(std::mem::offset_of!(Parameters, banks) == 304);

impl Parameters {
    /// The parameters of a launch that takes the rows of busy seeds, and those of the others, in so many parts; banks beyond
    /// [`MAXIMUM_PROGRAMS`] are left out.
    pub fn new(launch: &Launch<'_>, busy_parts: u32, other_parts: u32) -> Parameters {
        let rows = |rows: Rows| RawRows {
            address: rows.address.0,
            channel_stride: rows.channel_stride as i64,
            stride: rows.stride as i64,
            group: rows.group as i64,
            group_stride: rows.group_stride as i64,
        };
        let bank = |bank: &Bank| RawBank {
            parameters: bank.parameters.0,
            gradient: bank.gradient.0,
            capacity: bank.capacity as i64,
            size: bank.size as i64,
        };
        let mut banks = [RawBank::default(); MAXIMUM_PROGRAMS];
        banks.iter_mut().zip(launch.banks).for_each(|(raw, given)| *raw = bank(given));
        Parameters {
            rows: launch.rows as i64,
            hidden: launch.hidden as i64,
            seeds: launch.seeds as i64,
            blueprints: launch.blueprints as i64,
            x: rows(launch.x),
            output_gradient: rows(launch.output_gradient),
            target: rows(launch.target),
            output: rows(launch.written()),
            lifecycle: launch.lifecycle.0,
            blueprint: launch.blueprint.0,
            slot: launch.slot.0,
            alpha: launch.alpha.0,
            branch: launch.branch.0,
            telemetry: launch.telemetry.0,
            alpha_gradient: launch.alpha_gradient.0,
            loss: launch.loss.0,
            loss_scale: launch.loss_scale,
            random: launch.random.0,
            random_offset: launch.random_offset,
            order: launch.order.0,
            busy: launch.busy as i64,
            busy_parts,
            other_parts,
            banks,
        }
    }
}
