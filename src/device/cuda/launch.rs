//! A loaded kernel and its launches: checks, and how many blocks a launch has.

use super::module::{Blocks, Function, Module};
use super::parameters::Parameters;
use crate::compile::codegen::cuda::{LaunchShape, TAIL};
use crate::compile::{Destination, KernelClass, Pass, Program, Source};
use crate::device::{Address, Launch, Rows, Stream};
use crate::graph::DataType;
use crate::{Result, fail};
use std::sync::Arc;

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
    /// Blocks that can add in turn, as a cluster.
    largest_cluster: usize,
    /// Whether it may be started while the kernel before it still runs.
    overlaps: bool,
    /// Keeps the function alive.
    _module: Arc<Module>,
}

/// The most blocks that a cluster has unless a function asks for more.
const LARGEST_CLUSTER: usize = 8;

/// The blocks of a launch.
struct Grid {
    blocks: Blocks,
    busy_parts: u32,
    other_parts: u32,
}

impl Loaded {
    pub(super) fn new(
        class: &KernelClass,
        shape: LaunchShape,
        module: Arc<Module>,
        multiprocessors: usize,
        overlaps: bool,
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
        let largest_cluster = match shape.in_turn {
            true => function.largest_cluster(shape.threads, shape.shared_bytes).min(LARGEST_CLUSTER),
            false => 1,
        };
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
            largest_cluster,
            overlaps,
            _module: module,
        })
    }

    pub(super) fn launch(&self, launch: &Launch<'_>, stream: Stream) -> Result<()> {
        self.check(launch)?;
        let Grid { blocks, busy_parts, other_parts } = self.grid(launch)?;
        if launch.rows == 0 || blocks.count == 0 {
            return Ok(());
        }
        let parameters = Parameters::new(launch, busy_parts, other_parts);
        // SAFETY: the layouts agree (the kernel asserts the size); `check` found every array that the kernel reads, and the
        // caller answers for their lengths.
        unsafe { self.function.launch(&blocks, stream, self.overlaps, &parameters) }
    }

    /// A block for each part of a seed's rows and piece of the tail: as many as fill the card a few times, shared out so that
    /// busy seeds and others are done at about the same time. In a deterministic launch the parts of each seed are a cluster.
    fn grid(&self, launch: &Launch<'_>) -> Result<Grid> {
        let tail = if self.pass == Pass::Train { 0 } else { launch.hidden - launch.seeds * self.chunk };
        let (busy, others) = (launch.busy, launch.seeds - launch.busy + tail.div_ceil(TAIL));
        let tiles = launch.rows.div_ceil(self.shape.rows).max(1);
        let weight = self.shape.busy_weight as f64 / 100.0;
        let slots = (self.resident_blocks * self.shape.waves) as f64;
        let of_other = slots / (busy as f64 * weight + others as f64).max(1.0);
        // Where all seeds are alike, no block waits for another.
        let pieces = if busy > 0 { self.shape.pieces as f64 } else { 1.0 };
        let parts = |wanted: f64| {
            let wanted = (wanted as usize).clamp(1, tiles);
            // As many tiles to each block as to the others.
            tiles.div_ceil(tiles.div_ceil(wanted))
        };
        // Without telemetry a forward pass adds nothing up.
        let in_turn = launch.deterministic && (self.pass != Pass::Forward || !launch.telemetry.is_null());
        // In isolated training the others have nothing to do.
        let train_alone = self.pass == Pass::Train && busy > 0;
        let (busy_parts, other_parts) = if in_turn {
            let seeds = if train_alone { busy } else { busy + others };
            let cluster = cluster(self.resident_blocks / seeds.max(1), tiles, self.largest_cluster);
            (cluster, cluster)
        } else if train_alone {
            (parts(slots / busy as f64), 1)
        } else {
            (parts(of_other * weight), parts(of_other * pieces))
        };
        let blocks = busy.saturating_mul(busy_parts).saturating_add(others.saturating_mul(other_parts));
        match (u32::try_from(blocks), u32::try_from(busy_parts), u32::try_from(other_parts)) {
            (Ok(count), Ok(busy_parts), Ok(other_parts)) if count <= i32::MAX as u32 => {
                let LaunchShape { threads, shared_bytes, .. } = self.shape;
                let cluster = if in_turn { busy_parts } else { 1 };
                Ok(Grid { blocks: Blocks { count, cluster, threads, shared_bytes }, busy_parts, other_parts })
            }
            _ => fail!(InvalidArgument, "{blocks} blocks are more than a CUDA grid has"),
        }
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
        let only_observes = launch.only_observes(self.pass, self.chunk)?;
        let tensors: &[(&str, Rows)] = match self.pass {
            _ if only_observes => &[("x", launch.x)],
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
        if self.pass != Pass::Train && !only_observes && !output.is_disjoint(launch.rows, hidden) {
            fail!(ShapeMismatch, "the rows of the output overlap: {output}, each of {hidden} channels");
        }
        Ok(())
    }
}

/// How many blocks share the rows of a seed as a cluster, where the card has room for so many of each.
fn cluster(room: usize, tiles: usize, largest: usize) -> usize {
    1 << room.min(tiles).clamp(1, largest).ilog2()
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

#[cfg(test)]
mod tests {
    use super::cluster;

    #[test]
    fn a_cluster_is_a_power_of_two_that_neither_room_nor_rows_nor_the_card_exceed() {
        let found = [(0, 9, 8), (1, 9, 8), (3, 9, 8), (8, 9, 8), (100, 9, 8), (100, 1, 8), (100, 5, 8), (100, 9, 1)]
            .map(|(room, tiles, largest)| cluster(room, tiles, largest));
        assert_eq!(found, [1, 1, 2, 8, 8, 1, 4, 1]);
    }
}
