//! Where the values of a program lie: which in shared memory, at what offset, so that values which never live at the same
//! time share their place.

use super::fragments::{self, Fragments};
use crate::compile::{Destination, Program, Source, Step, ValueId};
use crate::graph::{RowInput, Scalar};

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    /// In shared memory, from this number on.
    Shared(usize),
    /// In the bank, from this element of the slot on.
    Parameter(usize),
    /// The blend weight, in a register.
    Alpha,
    /// The loss scale, in a register.
    LossScale,
    /// Whether dropout is active, in a register.
    Dropout,
    /// Nowhere: an element is its own index.
    Index,
    /// Nowhere: an element is drawn from this stream whenever it is read.
    Random(u16),
    /// Sums that are added to the gradient at once, from this element of the slot on: they lie nowhere.
    Gradient(usize),
    /// In the scratch memory of each warp, from this number on.
    Scratch(usize),
    /// Where the warp's rows of the input came to.
    Row(RowInput),
}

/// What is done to make a program smaller, in the order it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum Economy {
    /// Nothing: parameters are copied to shared memory, sums over rows stay there.
    Nothing,
    /// Parameters are read from the bank.
    Parameters,
    /// And sums over rows that are parameter gradients are added to the gradient after each tile.
    Sums,
    /// And long reductions are not split, so that no partial results take room.
    Partials,
}

/// The places of a program's values.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// By value; `None` for values that nothing reads.
    pub places: Vec<Option<Place>>,
    /// Numbers of shared memory.
    pub numbers: usize,
    /// Numbers of scratch memory that each warp has.
    pub scratch: usize,
    /// By accumulate step, where in it the warp's sums begin, if that is where it adds them up.
    pub scratch_sums: Vec<Option<usize>>,
}

/// Numbers from one element of a per-row value to the next. One more than the rows, so that threads which walk along the
/// channels of a row, as in loading, do not meet in one bank of shared memory.
pub(super) fn pitch(tile: usize) -> usize {
    if tile == 1 { 1 } else { tile + 1 }
}

/// Numbers of shared memory that a value takes, of which each element is so far from the next; integers take two, whether they need
/// them or not.
pub(super) fn extent(program: &Program, value: ValueId, pitch: usize) -> usize {
    let value = &program.values[value.index()];
    let elements = if value.per_row { value.elements * pitch } else { value.elements };
    if value.data_type.is_integer() { 2 * elements } else { elements }
}

/// Whether a sum over rows is one number that every thread keeps a share of in a register.
pub(super) fn is_single(step: &Step) -> bool {
    let plain = step.reduced.elements() == 1 || step.reducer == crate::compile::Reducer::Sum;
    step.shape.elements() == 1 && plain
}

/// When, in steps of the program, a value is in use.
#[derive(Clone, Copy)]
struct Life {
    start: usize,
    end: usize,
}

/// Points in time: the start, the prologue, the loop with loads, body, output and sums, the epilogue, the end.
struct Times {
    rows: usize,
    body: usize,
    output: usize,
    sums: usize,
    rows_end: usize,
    epilogue: usize,
    end: usize,
}

impl Times {
    fn new(program: &Program) -> Times {
        let rows = 1 + program.prologue.len();
        let body = rows + 1;
        let output = body + program.body.len();
        let sums = output + 1;
        let rows_end = sums + program.accumulate.len();
        let epilogue = rows_end + 1;
        Times { rows, body, output, sums, rows_end, epilogue, end: epilogue + program.epilogue.len() }
    }
}

/// Places every value of an arranged program. In fragments, values of each row lie in registers or scratch memory, and parameters
/// that are only weights have a place of their own.
/// What a warp has of the sums is put together in the room that its rows came through, and added to the gradient from there.
pub(super) fn lay_out(
    program: &Program,
    tile: usize,
    economy: Economy,
    fragments: Option<(&Fragments, usize)>,
) -> Layout {
    let times = Times::new(program);
    let lives = lives(program, &times);
    let mut places: Vec<Option<Place>> = vec![None; program.values.len()];
    let (mut shared, mut scratch) = (Vec::new(), Vec::new());
    let mut order: Vec<usize> = (0..program.values.len()).collect();
    order.sort_by_key(|&index| (lives[index].map(|life| life.start), index));
    for index in order {
        let Some(life) = lives[index] else { continue };
        let value = ValueId(index as u32);
        if let Some((fragments, _)) = fragments
            && program.values[index].per_row
        {
            places[index] = match program.values[index].source {
                Source::Random(stream) => Some(Place::Random(stream)),
                Source::Row(input) => Some(Place::Row(input)),
                _ if fragments.scratch.contains(&value) => {
                    let life = life_in_scratch(program, fragments, &times, value);
                    Some(Place::Scratch(room(&mut scratch, life, extent(program, value, fragments::SCRATCH_PITCH))))
                }
                _ => None,
            };
            continue;
        }
        let economy = match fragments {
            None => economy,
            Some((fragments, _)) if fragments.is_added_at_once(program, value) => Economy::Sums,
            Some((fragments, room)) if fragments.bytes_of_sums(program) <= room && direct(program, value).is_some() => {
                Economy::Sums
            }
            Some((fragments, _)) if fragments.is_only_weights(program, value) => Economy::Parameters,
            Some(_) => Economy::Nothing,
        };
        let place = match program.values[index].source {
            Source::Scalar(Scalar::Alpha) => Place::Alpha,
            Source::Scalar(Scalar::LossScale) => Place::LossScale,
            Source::Scalar(Scalar::Dropout) => Place::Dropout,
            Source::Index => Place::Index,
            Source::Random(stream) => Place::Random(stream),
            Source::Parameter(offset) if economy >= Economy::Parameters => Place::Parameter(offset),
            _ => match direct(program, value).filter(|_| economy >= Economy::Sums) {
                Some(offset) => Place::Gradient(offset),
                None => Place::Shared(room(&mut shared, life, extent(program, value, pitch(tile)).next_multiple_of(4))),
            },
        };
        places[index] = Some(place);
    }
    let whole_loop = Life { start: times.rows, end: times.rows_end };
    let mut of_sum = |(position, step): (usize, &Step)| {
        let is_in_scratch = fragments.is_some_and(|(fragments, _)| fragments.sums[position].is_in_scratch());
        (is_in_scratch && !is_single(step)).then(|| room(&mut scratch, whole_loop, step.shape.elements()))
    };
    let scratch_sums = program.accumulate.iter().enumerate().map(&mut of_sum).collect();
    let end = |taken: &[Taken]| taken.iter().map(|(_, offset, size)| offset + size).max().unwrap_or(0);
    Layout { places, numbers: end(&shared), scratch: end(&scratch), scratch_sums }
}

fn lives(program: &Program, times: &Times) -> Vec<Option<Life>> {
    let mut lives: Vec<Option<Life>> = program
        .values
        .iter()
        .map(|value| match value.source {
            Source::Row(_) => Some(Life { start: times.rows, end: times.rows }),
            _ => None,
        })
        .collect();
    let starts = [(&program.prologue, 1), (&program.body, times.body), (&program.epilogue, times.epilogue)];
    for (steps, first) in starts {
        for (position, step) in steps.iter().enumerate() {
            // The first of the steps that write it begins the life of a value.
            let time = first + position;
            lives[step.result.index()].get_or_insert(Life { start: time, end: time }).end = time;
        }
    }
    for step in &program.accumulate {
        lives[step.result.index()] = Some(Life { start: times.rows, end: times.rows_end });
    }
    let mut used = |value: ValueId, time: usize| {
        let in_rows = (times.rows..=times.rows_end).contains(&time);
        let time = if in_rows && !program.values[value.index()].per_row { times.rows_end } else { time };
        let life = lives[value.index()].get_or_insert(Life { start: 0, end: 0 });
        life.end = life.end.max(time);
    };
    let parts = [
        (&program.prologue, 1),
        (&program.body, times.body),
        (&program.accumulate, times.sums),
        (&program.epilogue, times.epilogue),
    ];
    for (steps, first) in parts {
        for (position, step) in steps.iter().enumerate() {
            step.reads().for_each(|value| used(value, first + position));
        }
    }
    program.guards.iter().for_each(|&guard| used(guard, times.output));
    for output in &program.outputs {
        used(output.value, if output.target == Destination::Row { times.output } else { times.end });
    }
    lives
}

/// When a value of each row is in use in scratch memory. Registers take it from there as soon as it is whole.
fn life_in_scratch(program: &Program, fragments: &Fragments, times: &Times, value: ValueId) -> Life {
    let reads = |step: &Step| step.reads().any(|read| read == value);
    let body = program.body.iter().zip(&fragments.body).enumerate();
    let in_body = body.filter(|(_, (step, form))| step.result == value || (form.is_in_scratch() && reads(step)));
    let sums = program.accumulate.iter().zip(&fragments.sums).enumerate();
    let in_sums = sums.filter(|(_, (step, sum))| sum.is_in_scratch() && reads(step));
    let uses =
        in_body.map(|(position, _)| times.body + position).chain(in_sums.map(|(position, _)| times.sums + position));
    let (start, end) = uses.fold((times.end, 0), |(start, end), time| (start.min(time), end.max(time)));
    Life { start, end }
}

/// What lives when, from which number on, and how many it takes.
type Taken = (Life, usize, usize);

/// Takes the lowest room in which nothing lives at the same time, and says where it begins.
fn room(all: &mut Vec<Taken>, life: Life, size: usize) -> usize {
    let offset = first_fit(all, life, size);
    all.push((life, offset, size));
    offset
}

fn first_fit(all: &[Taken], life: Life, size: usize) -> usize {
    let mut taken: Vec<(usize, usize)> = all
        .iter()
        .filter(|(other, ..)| other.start <= life.end && life.start <= other.end)
        .map(|&(_, offset, size)| (offset, size))
        .collect();
    taken.sort_unstable();
    let mut offset = 0;
    for (start, length) in taken {
        if offset + size <= start {
            break;
        }
        offset = offset.max(start + length);
    }
    offset
}

/// Where a sum over rows goes, if it is a parameter gradient and nothing else.
pub(super) fn direct(program: &Program, value: ValueId) -> Option<usize> {
    let step = program.accumulate.iter().find(|step| step.result == value)?;
    let read_again = program.epilogue.iter().flat_map(|step| &step.operands).any(|operand| operand.value == value);
    let mut outputs = program.outputs.iter().filter(|output| output.value == value);
    match (outputs.next()?.target, outputs.next()) {
        (Destination::ParameterGradient(offset), None) if !read_again && !is_single(step) => Some(offset),
        _ => None,
    }
}
