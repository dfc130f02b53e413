//! The shape of a kernel: how many rows a block works on at a time, how many threads it has, and where values lie.

use super::arrange::arrange;
use super::fragments::{self, Fragments};
use super::memory::{Economy, Layout, Place, lay_out};
use super::reserved_bytes;
use crate::compile::{KernelClass, Pass, Program, Schedule, Tiling};
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
    /// How often a launch fills the card, if it has the rows.
    pub waves: usize,
    /// How many blocks a seed that runs a program gets where another gets 100.
    pub busy_weight: usize,
    /// In how many pieces the rows of a block of those others are cut. They begin last and fill the gaps that the rest leaves.
    pub pieces: usize,
    /// Whether the blocks of a cluster can share the rows of a seed and still give the same bits every time: each adds all it has when
    /// its turn comes. Else a launch that must give the same bits has one block for a seed.
    pub in_turn: bool,
}

/// A kernel before it is printed.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub shape: LaunchShape,
    /// How the work is cut. Rows in shared memory are a power of two, at most 32; fragments mean that identity copies in
    /// them as well.
    pub tiling: Tiling,
    /// The programs, and after them the frozen ones; `None` where the program itself runs and adds no gradient.
    pub programs: Vec<Option<Planned>>,
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

impl Plan {
    /// Whether some program in fragments uses scratch memory.
    pub fn uses_scratch(&self) -> bool {
        let mut fragments = self.programs.iter().flatten().filter_map(|planned| planned.fragments.as_ref());
        fragments.any(Fragments::uses_scratch)
    }

    /// Whether some program's warps multiply together.
    pub fn multiplies_together(&self) -> bool {
        let mut fragments = self.programs.iter().flatten().filter_map(|planned| planned.fragments.as_ref());
        fragments.any(|fragments| fragments.warpgroups.is_some())
    }
}

impl Planned {
    /// Whether a program has so many steps that a compiler has enough to do with each of them once.
    pub fn is_long(&self) -> bool {
        let Program { prologue, body, epilogue, .. } = &self.program;
        prologue.len() + body.len() + epilogue.len() > LONG
    }

    /// Whether gradients are added to memory before a block is done with its rows.
    fn adds_between_tiles(&self) -> bool {
        match &self.fragments {
            Some(fragments) => fragments.adds_at_once(),
            None => self.layout.places.iter().any(|place| matches!(place, Some(Place::Gradient(_)))),
        }
    }
}

/// The least compute capability that has clusters of blocks.
const CLUSTERS: u32 = 90;

/// Steps outside sums beyond which a program is long.
const LONG: usize = 48;

/// Rows of a tile, largest first. A warp with fewer rows than lanes has several groups.
const TILES: [u16; 6] = [32, 16, 8, 4, 2, 1];

/// The most blocks that a seed which runs a program gets where another gets 100.
pub(super) const MOST_WEIGHT: usize = 1600;

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

/// How often a launch fills the card unless tuning says otherwise: once, for each block has to make its parameters ready and to
/// add up its sums, and seeds that run a program have more blocks than others, so that all are done together. Where programs
/// differ they are not, and what begins later fills the gaps: forward the pieces of seeds that run none, backward, where those were
/// slower on an H200, a second wave.
fn waves(class: &KernelClass) -> u16 {
    if class.programs.len() > 1 && class.pass != Pass::Forward { 2 } else { 1 }
}

/// Plans a class: as its schedule says, else in fragments what can run in them and its schedule lets, with the largest tile and
/// the least economy that fits.
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
    let best = || fragments::serve(class, capability).then(|| Choice::best(class));
    let nothing = || Some(Choice::nothing(class));
    // Weights and scratch memory of fragments may take more room than the programs would in shared memory.
    let choices = match class.schedule {
        Schedule::Best => [best(), best().map(|_| Choice::of(class, false)), nothing()],
        Schedule::Generic => [None, None, nothing()],
        Schedule::Tuned(tiling) => {
            possible(tiling)?;
            candidates.retain(|(_, tile, _)| *tile == tiling.rows);
            if tiling.fragments { [best(), None, None] } else { [None, None, nothing()] }
        }
    };
    let mut needed = 0;
    for choice in choices.iter().flatten() {
        for &(limit, tile, economy) in &candidates {
            let tiling = match class.schedule {
                Schedule::Tuned(tiling) => tiling,
                Schedule::Best | Schedule::Generic => choice.tiling(class, tile),
            };
            let plan = attempt(class, capability, choice, tiling, economy);
            needed = plan.shape.shared_bytes;
            if needed <= limit {
                return Ok(plan);
            }
        }
    }
    if needed == 0 {
        fail!(KernelTooLarge, "nothing of this kernel can run in fragments on sm_{capability}");
    }
    fail!(
        KernelTooLarge,
        "a {:?} kernel for chunks of {} channels needs {needed} bytes of shared memory for one row; sm_{capability} has \
         {maximum}. Use a smaller blueprint, or more seeds and so smaller chunks",
        class.pass,
        class.chunk
    )
}

/// What tuning may try instead: for each number its other values, if it has a part in the kernel.
pub(in crate::compile) fn alternatives(class: &KernelClass, from: Tiling) -> Vec<Vec<Tiling>> {
    let shared = !(from.fragments && Choice::best(class).is_all_in_fragments(class));
    let with = |values: &[u16], set: fn(&mut Tiling, u16)| -> Vec<Tiling> {
        let other = |value: &u16| {
            let mut tiling = from;
            set(&mut tiling, *value);
            tiling
        };
        values.iter().map(other).collect()
    };
    vec![
        vec![Tiling { fragments: !from.fragments, stages: if from.fragments { 0 } else { 2 }, ..from }],
        with(&[64, 128, 256, 512], |tiling, threads| tiling.threads = threads),
        with(&[1, 2, 3, 4, 6, 8], |tiling, blocks| tiling.blocks = blocks),
        with(if from.fragments { &[1, 2, 3, 4] } else { &[] }, |tiling, stages| tiling.stages = stages),
        with(if shared { &TILES[..4] } else { &[] }, |tiling, rows| tiling.rows = rows),
        with(&[1, 2, 3, 4, 8], |tiling, waves| tiling.waves = waves),
    ]
}

/// Bytes of rows that a multiprocessor can have on their way at once in a kernel, about. Where there are few, memory is waited
/// for: that is what makes most bad ways to cut a kernel bad.
pub(in crate::compile) fn bytes_in_flight(class: &KernelClass, capability: u32) -> Result<usize> {
    let Plan { shape, tiling, .. } = plan(class, capability)?;
    let (_, maximum) = limits(capability);
    let blocks = (maximum / shape.shared_bytes.max(1)).clamp(1, 2048 / shape.threads);
    let of_a_block = match usize::from(tiling.stages) {
        // Each thread a vector.
        0 => 16 * shape.threads,
        stages => shape.threads / 32 * stages * fragments::stage_bytes(class),
    };
    Ok(blocks * of_a_block)
}

/// Refuses what no kernel could be printed for.
fn possible(tiling: Tiling) -> Result<()> {
    let Tiling { fragments, rows, threads, blocks, stages, waves } = tiling;
    let threads_fit = threads.is_power_of_two() && (32..=1024).contains(&threads);
    let blocks_fit = (1..=2048 / threads.max(1)).contains(&blocks);
    let stages_fit = if fragments { (1..=8).contains(&stages) } else { stages == 0 };
    if threads_fit && blocks_fit && stages_fit && TILES.contains(&rows) && rows <= threads && (1..=64).contains(&waves)
    {
        return Ok(());
    }
    fail!(CompileFailed, "{tiling:?} is no way to cut a CUDA kernel");
}

/// What runs in fragments.
struct Choice {
    identity: bool,
    /// What each program is in fragments; the frozen ones come last.
    programs: Vec<Option<Fragments>>,
}

/// Whether a program, by its number, is a frozen one for which the program itself serves: in fragments gradients are added last,
/// and can be left out.
fn is_served(class: &KernelClass, programs: &[Option<Fragments>], number: usize) -> bool {
    number.checked_sub(class.programs.len()).is_some_and(|branch| programs[branch].is_some())
}

impl Choice {
    fn nothing(class: &KernelClass) -> Choice {
        Choice { identity: false, programs: class.programs.iter().chain(&class.frozen).map(|_| None).collect() }
    }

    /// All that can. Scratch memory is for small blocks, which programs outside fragments do not have.
    fn best(class: &KernelClass) -> Choice {
        let all = Choice::of(class, true);
        if all.is_all_in_fragments(class) { all } else { Choice::of(class, false) }
    }

    fn of(class: &KernelClass, with_scratch: bool) -> Choice {
        let mut programs: Vec<Option<Fragments>> = Vec::new();
        for (number, program) in class.programs.iter().chain(&class.frozen).enumerate() {
            let planned = if is_served(class, &programs, number) { None } else { fragments::plan(program, class) };
            programs.push(planned.filter(|fragments| with_scratch || !fragments.uses_scratch()));
        }
        Choice { identity: true, programs }
    }

    fn is_all_in_fragments(&self, class: &KernelClass) -> bool {
        self.identity && self.programs[..class.programs.len()].iter().all(Option::is_some)
    }

    /// How many blocks a seed that runs a program gets where another gets 100, and in how many pieces those are cut. Measured on
    /// an H200: bottlenecks of a quarter of the chunk's width, alone and beside other programs, maps without a product, programs
    /// outside fragments, and convolutions, rotations and dropout in scratch memory.
    fn shares(&self, class: &KernelClass) -> (usize, usize) {
        let has_products = self.programs.iter().flatten().any(Fragments::has_products);
        let in_scratch = class.programs.iter().zip(&self.programs);
        let in_scratch =
            in_scratch.filter_map(|(program, fragments)| Some(fragments.as_ref()?.work_in_scratch(program)));
        let in_scratch = in_scratch.max().unwrap_or(0);
        let differ = class.programs.len() > 1;
        match (class.pass, self.is_all_in_fragments(class), has_products) {
            (_, false, _) => (400, 1),
            (Pass::Forward, _, _) if in_scratch > 0 => ((200 + in_scratch * 3 / 2).min(MOST_WEIGHT), 4),
            _ if in_scratch > 0 => ((300 + in_scratch).min(MOST_WEIGHT), 1),
            (Pass::Forward, _, true) if differ => (300, 4),
            (Pass::Forward, _, true) => (175, 1),
            (Pass::Forward, _, false) => (150, 2),
            (_, _, true) => (300, 1),
            (_, _, false) => (140, 1),
        }
    }

    /// How the work is cut by rule.
    fn tiling(&self, class: &KernelClass, rows: u16) -> Tiling {
        let all = self.is_all_in_fragments(class);
        let in_fragments = || self.programs.iter().flatten();
        let threads = if all { fragments::threads(class, in_fragments()) } else { threads(class, rows.into()) };
        let blocks = if all { (fragments::warps(class, in_fragments()) * 32 / threads).max(1) } else { 1 };
        let stages = if self.identity { fragments::stages(class, in_fragments()) } else { 0 };
        let [threads, blocks, stages] = [threads, blocks, stages].map(|number| number as u16);
        Tiling { fragments: self.identity, rows, threads, blocks, stages, waves: waves(class) }
    }
}

fn attempt(class: &KernelClass, capability: u32, choice: &Choice, tiling: Tiling, economy: Economy) -> Plan {
    let [tile, threads, stages, waves] = [tiling.rows, tiling.threads, tiling.stages, tiling.waves].map(usize::from);
    let programs: Vec<Option<Planned>> = class
        .programs
        .iter()
        .chain(&class.frozen)
        .zip(&choice.programs)
        .enumerate()
        .map(|(number, (program, fragments))| {
            if is_served(class, &choice.programs, number) {
                return None;
            }
            let (groups, workers) = match (fragments, economy) {
                (_, Economy::Partials) => (1, 1),
                (Some(_), _) => (1, threads),
                (None, _) => (threads / tile, threads),
            };
            let program = arrange(program, class.pass.watched(), groups, workers);
            let room = stages * fragments::stage_bytes(class);
            let layout = lay_out(&program, tile, economy, fragments.as_ref().map(|fragments| (fragments, room)));
            let mut fragments = fragments.clone();
            if let Some(fragments) = &mut fragments {
                fragments.join_warps(&program, class, capability, threads);
            }
            Some(Planned { program, layout, fragments })
        })
        .collect();
    let numbers = |planned: &Planned| {
        let of_fragments = |fragments: &Fragments| fragments.extent(class) + fragments.exchanged_numbers(threads);
        let of_warps = planned.layout.scratch * (threads / 32);
        planned.layout.numbers + planned.fragments.as_ref().map_or(0, of_fragments) + of_warps
    };
    let numbers = programs.iter().flatten().map(numbers).max().unwrap_or(0);
    let bytes = if class.data_type == DataType::F64 { 8 } else { 4 };
    let rows = if choice.is_all_in_fragments(class) { threads / 32 * fragments::ROWS } else { tile };
    let shared_bytes = reserved_bytes(class, threads, stages) + numbers * bytes;
    let (busy_weight, pieces) = choice.shares(class);
    let in_turn = capability >= CLUSTERS && !programs.iter().flatten().any(Planned::adds_between_tiles);
    Plan { shape: LaunchShape { rows, threads, shared_bytes, waves, busy_weight, pieces, in_turn }, tiling, programs }
}

/// Enough threads that each has about four elements of the widest per-row value.
fn threads(class: &KernelClass, tile: usize) -> usize {
    let programs = class.programs.iter().chain(&class.frozen);
    let values = programs.flat_map(|program| &program.values).filter(|value| value.per_row);
    let widest = values.map(|value| value.elements).max().unwrap_or(0).max(class.chunk);
    (widest * tile / 4).next_power_of_two().clamp(64, 256)
}
