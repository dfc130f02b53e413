//! The shape of a kernel: how many rows a block works on at a time, how many threads it has, and where values lie.

use super::arrange::arrange;
use super::fragments::{self, Fragments};
use super::memory::{Economy, Layout, lay_out};
use super::reserved_bytes;
use crate::compile::{KernelClass, Program, Schedule};
use crate::graph::DataType;
use crate::{Result, fail};
use serde::{Deserialize, Serialize};

/// What a launch of a kernel must use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchShape {
    /// Rows that a block works on at a time.
    pub rows: usize,
    /// Threads of a block.
    pub threads: usize,
    /// Bytes of dynamic shared memory.
    pub shared_bytes: usize,
}

/// A kernel before it is printed.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub shape: LaunchShape,
    /// Rows that a block has in shared memory at a time; a power of two, at most 32.
    pub tile: usize,
    /// Whether identity copies in fragments.
    pub in_fragments: bool,
    /// Tiles that a warp has on their way to fragments at a time.
    pub stages: usize,
    /// Blocks that a multiprocessor is to run at once, which bounds the registers of a thread.
    pub blocks: usize,
    /// The programs, and after them the frozen ones.
    pub programs: Vec<Planned>,
}

/// A program before it is printed.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// With long reductions split.
    pub program: Program,
    pub layout: Layout,
    /// What the steps over rows are, if they run in fragments.
    pub fragments: Option<Fragments>,
}

/// Rows of a tile, largest first. A warp with fewer rows than lanes has several groups.
const TILES: [usize; 6] = [32, 16, 8, 4, 2, 1];

/// Shared memory of one block in bytes: what leaves room for a second block on a multiprocessor, and the most there is.
fn limits(capability: u32) -> (usize, usize) {
    match capability {
        90 | 100 | 101 | 103 | 110 => (112 << 10, 227 << 10),
        80 | 87 => (80 << 10, 163 << 10),
        86 | 89 | 120 | 121 => (49 << 10, 99 << 10),
        70 | 72 => (48 << 10, 96 << 10),
        75 => (32 << 10, 64 << 10),
        _ => (48 << 10, 48 << 10),
    }
}

/// Plans a class: in fragments what can run in them and its schedule lets, else the largest tile with the least economy that fits.
pub(super) fn plan(class: &KernelClass, capability: u32) -> Result<Plan> {
    let (comfortable, maximum) = limits(capability);
    let mut candidates = Vec::new();
    for (limit, tiles, economies) in [
        (comfortable, &TILES[..2], &[Economy::Nothing, Economy::Parameters][..]),
        (maximum, &TILES[..3], &[Economy::Nothing, Economy::Parameters]),
        (maximum, &TILES[..], &[Economy::Parameters, Economy::Sums]),
        (maximum, &TILES[..], &[Economy::Partials]),
    ] {
        for &tile in tiles {
            candidates.extend(economies.iter().map(|&economy| (limit, tile, economy)));
        }
    }
    let nothing =
        Choice { identity: false, programs: class.programs.iter().chain(&class.frozen).map(|_| None).collect() };
    let fragments = class.schedule == Schedule::Best && fragments::serve(class, capability);
    let best = fragments.then(|| Choice::best(class));
    let mut needed = 0;
    // Weights of fragments may take more room than the programs would in shared memory.
    for choice in best.iter().chain([&nothing]) {
        for &(limit, tile, economy) in &candidates {
            let plan = attempt(class, choice, tile, economy);
            needed = plan.shape.shared_bytes;
            if needed <= limit {
                return Ok(plan);
            }
        }
    }
    fail!(
        KernelTooLarge,
        "a {:?} kernel for chunks of {} channels needs {needed} bytes of shared memory for one row; sm_{capability} has \
         {maximum}. Use a smaller blueprint, or more seeds and so smaller chunks",
        class.pass,
        class.chunk
    )
}

/// What runs in fragments.
struct Choice {
    identity: bool,
    /// What each program is in fragments; the frozen ones come last.
    programs: Vec<Option<Fragments>>,
}

impl Choice {
    /// All that can.
    fn best(class: &KernelClass) -> Choice {
        let programs = class.programs.iter().chain(&class.frozen);
        Choice { identity: true, programs: programs.map(|program| fragments::plan(program, class.data_type)).collect() }
    }
}

fn attempt(class: &KernelClass, choice: &Choice, tile: usize, economy: Economy) -> Plan {
    let all_in_fragments = choice.identity && choice.programs.iter().all(Option::is_some);
    let threads = if all_in_fragments { fragments::THREADS } else { threads(class, tile) };
    let programs: Vec<Planned> = class
        .programs
        .iter()
        .chain(&class.frozen)
        .zip(&choice.programs)
        .map(|(program, fragments)| {
            let (groups, workers) = match (fragments, economy) {
                (_, Economy::Partials) => (1, 1),
                (Some(_), _) => (1, threads),
                (None, _) => (threads / tile, threads),
            };
            let program = arrange(program, class.pass.watched(), groups, workers);
            let layout = lay_out(&program, tile, economy, fragments.as_ref());
            Planned { program, layout, fragments: fragments.clone() }
        })
        .collect();
    let numbers = |planned: &Planned| {
        planned.layout.numbers + planned.fragments.as_ref().map_or(0, |fragments| fragments.extent(class.data_type))
    };
    let numbers = programs.iter().map(numbers).max().unwrap_or(0);
    let bytes = if class.data_type == DataType::F64 { 8 } else { 4 };
    let rows = if all_in_fragments { threads / 32 * fragments::ROWS } else { tile };
    let stages = if choice.identity { fragments::stages(class, threads) } else { 0 };
    let shape = LaunchShape { rows, threads, shared_bytes: reserved_bytes(class, threads, stages) + numbers * bytes };
    let blocks = if all_in_fragments { fragments::blocks(choice.programs.iter().flatten()) } else { 1 };
    Plan { shape, tile, in_fragments: choice.identity, stages, blocks, programs }
}

/// Enough threads that each has about four elements of the widest per-row value.
fn threads(class: &KernelClass, tile: usize) -> usize {
    let programs = class.programs.iter().chain(&class.frozen);
    let values = programs.flat_map(|program| &program.values).filter(|value| value.per_row);
    let widest = values.map(|value| value.elements).max().unwrap_or(0).max(class.chunk);
    (widest * tile / 4).next_power_of_two().clamp(64, 256)
}
