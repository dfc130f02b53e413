//! A loaded kernel and its launches: checks, and how many blocks a launch has.

use super::module::{Function, Module};
use super::parameters::Parameters;
use crate::compile::codegen::cuda::{LaunchShape, TAIL};
use crate::compile::{Destination, KernelClass, Pass, Program, Source};
use crate::device::{Address, Launch, Rows, Stream};
use crate::graph::DataType;
use crate::{Result, fail};
use std::sync::Arc;

/// The most blocks of a grid in y.
const MOST_ROW_BLOCKS: usize = 65_535;

/// A loaded kernel.
pub(super) struct Loaded {
    function: Function,
    shape: LaunchShape,
    pass: Pass,
    data_type: DataType,
    chunk: usize,
    /// Elements of a slot that each program reaches.
    slot_sizes: Vec<usize>,
    /// Blocks the whole card runs at once.
    resident_blocks: usize,
    /// Keeps the function alive.
    _module: Arc<Module>,
}

impl Loaded {
    pub(super) fn new(
        class: &KernelClass,
        shape: LaunchShape,
        module: Arc<Module>,
        multiprocessors: usize,
    ) -> Result<Loaded> {
        let function = module.function(c"kasmina")?;
        function.allow_shared_memory(shape.shared_bytes)?;
        let per_multiprocessor = function.blocks_per_multiprocessor(shape.threads, shape.shared_bytes)?;
        if per_multiprocessor == 0 {
            fail!(
                KernelTooLarge,
                "a {:?} kernel needs {} bytes of shared memory and {} threads, more than a multiprocessor of this device has",
                class.pass,
                shape.shared_bytes,
                shape.threads
            );
        }
        let slot_sizes = class.programs.iter().enumerate().map(|(branch, program)| {
            let frozen = class.frozen.get(branch).map_or(0, slot_size);
            slot_size(program).max(frozen)
        });
        Ok(Loaded {
            function,
            shape,
            pass: class.pass,
            data_type: class.data_type,
            chunk: class.chunk,
            slot_sizes: slot_sizes.collect(),
            resident_blocks: per_multiprocessor * multiprocessors,
            _module: module,
        })
    }

    pub(super) fn launch(&self, launch: &Launch<'_>, stream: Stream) -> Result<()> {
        self.check(launch)?;
        let grid = self.grid(launch);
        if launch.rows == 0 || grid.0 == 0 {
            return Ok(());
        }
        let parameters = Parameters::new(launch);
        // SAFETY: the layouts agree (the kernel asserts the size); `check` found every array that the kernel reads, and the
        // caller answers for their lengths.
        unsafe { self.function.launch(grid, self.shape.threads, self.shape.shared_bytes, stream, &parameters) }
    }

    /// A block for each seed and piece of the tail, times enough row blocks to fill the card a few times over.
    fn grid(&self, launch: &Launch<'_>) -> (usize, usize) {
        let tail = if self.pass == Pass::Train { 0 } else { launch.hidden - launch.seeds * self.chunk };
        let columns = launch.seeds + tail.div_ceil(TAIL);
        if columns == 0 {
            return (0, 0);
        }
        let tiles = launch.rows.div_ceil(self.shape.rows).clamp(1, MOST_ROW_BLOCKS);
        let wanted = (self.resident_blocks * self.shape.waves / columns).clamp(1, tiles);
        // As many tiles to each block as to the others.
        let row_blocks = tiles.div_ceil(tiles.div_ceil(wanted));
        (columns, if launch.deterministic { 1 } else { row_blocks })
    }

    /// Refuses what would make the kernel reach foreign memory, as far as addresses can tell.
    fn check(&self, launch: &Launch<'_>) -> Result<()> {
        let Launch { seeds, hidden, .. } = *launch;
        if seeds.checked_mul(self.chunk).is_none_or(|channels| channels > hidden) {
            fail!(ShapeMismatch, "{seeds} seeds of {} channels do not fit a row of {hidden}", self.chunk);
        }
        if launch.busy > seeds {
            fail!(InvalidArgument, "{} of {seeds} seeds cannot be busy", launch.busy);
        }
        if seeds > i32::MAX as usize / 2 {
            fail!(InvalidArgument, "{seeds} seeds are more than a CUDA grid has blocks");
        }
        if launch.banks.len() != self.slot_sizes.len() {
            let (banks, programs) = (launch.banks.len(), self.slot_sizes.len());
            fail!(InvalidArgument, "the launch has {banks} banks, the kernel {programs} programs");
        }
        let alignment = self.data_type.compute().bytes() as u64;
        for (bank, &needed) in launch.banks.iter().zip(&self.slot_sizes) {
            if bank.parameters.0 % alignment != 0 || bank.gradient.0 % alignment != 0 {
                fail!(InvalidArgument, "a bank is not aligned to its {alignment}-byte elements");
            }
            if bank.size < needed || (needed > 0 && bank.capacity > 0 && bank.parameters.is_null()) {
                fail!(
                    InvalidArgument,
                    "a bank is null or has slots of {} elements where its program needs {needed}",
                    bank.size
                );
            }
        }
        let arrays = [
            ("lifecycle", launch.lifecycle, 1, seeds > 0),
            ("blueprint", launch.blueprint, 4, seeds > 0),
            ("slot", launch.slot, 4, seeds > 0),
            ("alpha", launch.alpha, 4, seeds > 0),
            ("branch", launch.branch, 4, launch.blueprints > 0),
            ("telemetry", launch.telemetry, 8, false),
            ("alpha gradient", launch.alpha_gradient, 4, false),
            ("loss", launch.loss, 8, false),
            ("random", launch.random, 8, false),
            ("order", launch.order, 4, false),
        ];
        for (name, address, alignment, needed) in arrays {
            if (needed && address.is_null()) || address.0 % alignment != 0 {
                fail!(InvalidArgument, "the {name} array is null or not aligned to {alignment} bytes");
            }
        }
        let (gradient, target, output) = (launch.output_gradient, launch.target, launch.output);
        let tensors: &[(&str, Rows)] = match self.pass {
            Pass::Forward => &[("x", launch.x), ("output", output)],
            Pass::Backward => &[("x", launch.x), ("output gradient", gradient), ("output", output)],
            Pass::Train => &[("x", launch.x), ("target", target)],
        };
        if launch.rows == 0 || hidden == 0 {
            return Ok(());
        }
        let bytes = self.data_type.bytes();
        for (name, rows) in tensors {
            if rows.address == Address::NULL || rows.address.0 % bytes as u64 != 0 {
                fail!(
                    InvalidArgument,
                    "{name} at address {:#x} is null or not aligned to {bytes} bytes",
                    rows.address.0
                );
            }
            if rows.extent(launch.rows, hidden).is_none_or(|elements| elements > isize::MAX as usize / bytes) {
                fail!(ShapeMismatch, "{name} is too large: {} {rows}", launch.rows);
            }
        }
        if self.pass != Pass::Train && !output.is_disjoint(launch.rows, hidden) {
            fail!(ShapeMismatch, "the rows of the output overlap: {output}, each of {hidden} channels");
        }
        Ok(())
    }
}

/// How much of a slot a program reads or adds to.
fn slot_size(program: &Program) -> usize {
    let read = program.values.iter().filter_map(|value| match value.source {
        Source::Parameter(offset) => Some(offset + value.elements),
        _ => None,
    });
    let written = program.outputs.iter().filter_map(|output| match output.target {
        Destination::ParameterGradient(offset) => Some(offset + program.values[output.value.index()].elements),
        _ => None,
    });
    read.chain(written).max().unwrap_or(0)
}
