//! What one thread does at a time: some rows of one seed.

use super::machine::{self, LANES, Machine, Section};
use super::rows::{Tensor, Tile};
use super::scratch::Scratch;
use super::vector::{Element, Elements, Real, Statistics, View};
use crate::compile::codegen::cpu::{Procedure, Span};
use crate::compile::random::{self, Draw};
use crate::compile::{Destination, Pass};
use crate::graph::{RowInput, Scalar};

/// The row tensors of a launch.
#[derive(Clone, Copy)]
pub struct Tensors<E> {
    pub x: Tensor<E>,
    pub output_gradient: Tensor<E>,
    pub target: Tensor<E>,
    pub output: Tensor<E>,
}

impl<E: Element> Tensors<E> {
    /// The tensor of an input.
    pub fn input(&self, input: RowInput) -> Tensor<E> {
        match input {
            RowInput::X => self.x,
            RowInput::OutputGradient => self.output_gradient,
            RowInput::Target => self.target,
        }
    }
}

/// Elements that are widened at a time to be looked at; they stay in a cache near by.
const STAGED: usize = 1 << 13;

/// What a task needs to know of its launch.
pub struct Surroundings<E: Element> {
    pub pass: Pass,
    pub tensors: Tensors<E>,
    pub elements: Elements<E>,
    /// Rows that a procedure works on at a time, at most [`LANES`].
    pub lanes: usize,
    /// Whether there is a telemetry array.
    pub observe: bool,
    pub loss_scale: f64,
    /// The key of the random numbers; `None` where dropout is not active.
    pub random: Option<u64>,
}

/// A seed that runs a procedure.
#[derive(Clone, Copy)]
pub struct Seed<'a, T> {
    pub procedure: &'a Procedure,
    pub parameters: *const T,
    pub alpha: f32,
    /// Its number in the layer.
    pub number: usize,
}

/// Rows of some adjacent channels.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    pub row: usize,
    pub rows: usize,
    pub channel: usize,
    pub channels: usize,
}

/// The memory of a procedure.
struct Memory<'a, T: Real> {
    machine: Machine<'a, T>,
    staging: *mut T,
    _scratch: Scratch,
}

impl<E: Element> Surroundings<E> {
    /// Copies the bits of the input that stands in for the output, and looks at the rows.
    ///
    /// # Safety
    /// The area lies within the tensors of the pass and nobody else writes it in the output.
    pub unsafe fn identity(&self, area: Area, seen: Option<&mut Statistics>) {
        let Some(input) = self.pass.watched().map(|input| self.tensors.input(input)) else { return };
        let output = self.tensors.output;
        let in_place = output.is_at(input);
        let Area { row, rows, channel, channels } = area;
        let tile = Tile { row, rows, channel, channels, lanes: rows };
        // SAFETY: the caller's promise; each row is read before it is written; this CPU has the instructions.
        unsafe {
            let Some(seen) = seen.filter(|_| self.observe) else {
                if !in_place {
                    output.copy(input, &tile);
                }
                return;
            };
            let at_once = if input.rows_are_adjacent() { LANES } else { (STAGED / channels).clamp(1, LANES) };
            let mut scratch = Scratch::with_room::<E::Real>(&[at_once * channels]);
            let staging = scratch.part(at_once * channels);
            for first in (row..row + rows).step_by(at_once) {
                let tile = Tile { row: first, rows: at_once.min(row + rows - first), ..tile };
                let numbers = match in_place {
                    true => tile.numbers(&self.elements, input, staging),
                    false => tile.numbers_and_copy(&self.elements, input, output, staging),
                };
                (self.elements.vectors.observe)(self.view(), &numbers, seen);
            }
        }
    }

    /// As what telemetry sees the tensor it looks at.
    fn view(&self) -> View {
        if self.pass == Pass::Backward { View::Gradient } else { View::Input }
    }

    /// Memory for a procedure, its scalars set, its prologue run, its accumulators at zero.
    ///
    /// # Safety
    /// The procedure passed `check` and its slot lies at `seed.parameters`.
    unsafe fn prepare(&self, seed: &Seed<'_, E::Real>, channels: usize) -> Memory<'_, E::Real> {
        let procedure = seed.procedure;
        let sizes = [
            procedure.row_elements * LANES,
            procedure.uniform_elements,
            machine::registers(procedure),
            machine::turned(procedure),
            channels * LANES,
        ];
        let mut scratch = Scratch::with_room::<E::Real>(&sizes);
        let [row, uniform, registers, turned, staging] = sizes.map(|elements| scratch.part(elements));
        let machine =
            Machine { vectors: &self.elements.vectors, row, uniform, parameters: seed.parameters, registers, turned };
        // SAFETY: `check` found these places within the uniform space.
        unsafe {
            for (scalar, offset) in &procedure.scalars {
                *uniform.add(*offset) = E::Real::from_f64(match scalar {
                    Scalar::Alpha if seed.alpha.is_nan() => 0.0,
                    Scalar::Alpha => f64::from(seed.alpha.clamp(0.0, 1.0)),
                    Scalar::LossScale => self.loss_scale,
                    Scalar::Dropout => f64::from(u8::from(self.random.is_some())),
                });
            }
            for span in &procedure.indices {
                (0..span.elements)
                    .for_each(|index| *uniform.add(span.offset + index) = E::Real::from_i64(index as i64));
            }
            accumulators(&machine, procedure.accumulators).fill(E::Real::ZERO);
            machine.run(&procedure.prologue, Section::Uniform);
        }
        Memory { machine, staging, _scratch: scratch }
    }

    /// Draws the random numbers of a tile; without a key they are 0.
    ///
    /// # Safety
    /// As `tile`.
    unsafe fn draw(&self, seed: &Seed<'_, E::Real>, machine: &Machine<'_, E::Real>, tile: Tile) {
        for (stream, span) in &seed.procedure.random {
            // SAFETY: the caller's promise: `check` found the span within the row space.
            let numbers = unsafe {
                let first = machine.row.add(span.offset * tile.lanes);
                std::slice::from_raw_parts_mut(first, span.elements * tile.lanes)
            };
            let Some(key) = self.random else {
                numbers.fill(E::Real::ZERO);
                continue;
            };
            for (position, number) in numbers.iter_mut().enumerate() {
                let (element, lane) = (position / tile.lanes, position % tile.lanes);
                let (row, element, seed) = ((tile.row + lane) as u64, element as u32, seed.number as u32);
                let draw = Draw { row, element, seed, stream: *stream };
                *number = E::Real::from_f64(f64::from(random::number(key, draw)));
            }
        }
    }

    /// Runs a procedure over some of a seed's rows and leaves what it accumulated in `accumulated`.
    ///
    /// # Safety
    /// As `prepare`; the area is as wide as the procedure's chunk, lies within the tensors of the pass, and nobody else
    /// reads or writes it in the output; there is room for the accumulators.
    pub unsafe fn rows(&self, seed: &Seed<'_, E::Real>, area: Area, accumulated: *mut E::Real, seen: &mut Statistics) {
        // SAFETY: the caller's promise.
        unsafe {
            let memory = self.prepare(seed, area.channels);
            self.tiles(seed, &memory, area, seen);
            let sums = accumulators(&memory.machine, seed.procedure.accumulators);
            std::ptr::copy_nonoverlapping(sums.as_ptr(), accumulated, sums.len());
        }
    }

    /// Runs a procedure over all of a seed's rows, and its epilogue, and hands each output on.
    ///
    /// # Safety
    /// As `rows`.
    pub unsafe fn whole(
        &self,
        seed: &Seed<'_, E::Real>,
        area: Area,
        seen: &mut Statistics,
        hand_on: impl FnMut(Destination, &[E::Real]),
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let memory = self.prepare(seed, area.channels);
            self.tiles(seed, &memory, area, seen);
            conclude(seed.procedure, &memory.machine, hand_on);
        }
    }

    /// # Safety
    /// As `rows`.
    unsafe fn tiles(&self, seed: &Seed<'_, E::Real>, memory: &Memory<'_, E::Real>, area: Area, seen: &mut Statistics) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut row = area.row;
            let end = area.row + area.rows;
            while row < end {
                let rows = self.lanes.min(end - row);
                let lanes = [8, 16].into_iter().find(|lanes| *lanes >= rows).unwrap_or(LANES);
                self.tile(
                    seed,
                    memory,
                    Tile { row, rows, channel: area.channel, channels: area.channels, lanes },
                    seen,
                );
                row += rows;
            }
        }
    }

    /// # Safety
    /// As `rows`.
    unsafe fn tile(&self, seed: &Seed<'_, E::Real>, memory: &Memory<'_, E::Real>, tile: Tile, seen: &mut Statistics) {
        let Memory { machine, staging, .. } = memory;
        let procedure = seed.procedure;
        // SAFETY: the caller's promise: `check` found all places within the spaces, whose memory this is.
        unsafe {
            let mut unseen = self.pass.watched().filter(|_| self.observe);
            let inputs = procedure.rows.iter().map(|(input, place)| (*input, Some(*place)));
            let inputs = inputs.chain(unseen.map(|input| (input, None)));
            for (input, place) in inputs {
                if place.is_none() && unseen.is_none() {
                    continue;
                }
                let tensor = self.tensors.input(input);
                let numbers = unseen.take_if(|unseen| *unseen == input).map(|_| {
                    let numbers = tile.numbers(&self.elements, tensor, *staging);
                    (self.elements.vectors.observe)(self.view(), &numbers, seen);
                    numbers
                });
                if let Some(place) = place {
                    tile.load(&self.elements, tensor, numbers, *staging, machine.row.add(place * tile.lanes));
                }
            }
            self.draw(seed, machine, tile);
            machine.run(&procedure.body, Section::Body { lanes: tile.lanes });

            let mut fell_back = [false; LANES];
            let bad = self.find_fallen(procedure, machine, tile, &mut fell_back);
            if self.pass != Pass::Backward {
                seen.fallback_rows += bad;
            }
            if let Some(place) = procedure.row_output {
                let instead = self.tensors.input(procedure.fallback);
                let fell_back = (bad > 0).then_some((&fell_back[..], instead));
                let from = machine.row.add(place * tile.lanes);
                tile.store(&self.elements, from, self.tensors.output, fell_back, *staging);
            }
            if !procedure.accumulate.is_empty() && bad < tile.rows {
                if bad > 0 {
                    close_up(procedure, machine, tile, &fell_back);
                }
                let count = tile.rows - bad;
                machine.run(&procedure.accumulate, Section::Accumulate { lanes: tile.lanes, count });
            }
        }
    }

    /// Marks the rows with a non-finite guarded value and counts them.
    ///
    /// # Safety
    /// As `tile`, after the body.
    unsafe fn find_fallen(
        &self,
        procedure: &Procedure,
        machine: &Machine<'_, E::Real>,
        tile: Tile,
        fell_back: &mut [bool; LANES],
    ) -> usize {
        let mut flags = [E::Real::ZERO; LANES];
        for guard in &procedure.guards {
            // SAFETY: `check` found the guard within the row space; this CPU has the instructions.
            unsafe {
                let values = machine.row.add(guard.offset * tile.lanes);
                let values = std::slice::from_raw_parts(values, guard.elements * tile.lanes);
                (self.elements.vectors.guard)(values, E::HEADROOM, &mut flags[..tile.lanes]);
            }
        }
        for (fallen, flag) in fell_back.iter_mut().zip(&flags[..tile.rows]) {
            *fallen = !flag.is_finite();
        }
        fell_back.iter().filter(|fallen| **fallen).count()
    }

    /// What a seed's rows amount to: adds up the sums of its tasks in order, runs the epilogue and hands each output on.
    ///
    /// # Safety
    /// As `prepare`.
    pub unsafe fn finish(
        &self,
        seed: &Seed<'_, E::Real>,
        sums: &[E::Real],
        hand_on: impl FnMut(Destination, &[E::Real]),
    ) {
        let procedure = seed.procedure;
        // SAFETY: the caller's promise.
        unsafe {
            let memory = self.prepare(seed, 0);
            let machine = &memory.machine;
            let total = accumulators(machine, procedure.accumulators);
            if !total.is_empty() {
                for sums in sums.chunks_exact(total.len()) {
                    total.iter_mut().zip(sums).for_each(|(total, sum)| *total += *sum);
                }
            }
            conclude(procedure, machine, hand_on);
        }
    }
}

/// Runs the epilogue on what was accumulated and hands each output on.
///
/// # Safety
/// The machine was made for the procedure, and all its rows are done.
unsafe fn conclude<T: Real>(
    procedure: &Procedure,
    machine: &Machine<'_, T>,
    mut hand_on: impl FnMut(Destination, &[T]),
) {
    // SAFETY: the caller's promise; `check` found the outputs within their spaces.
    unsafe {
        machine.run(&procedure.epilogue, Section::Uniform);
        for output in &procedure.outputs {
            let first = machine.uniform_element(output.space, output.span.offset);
            hand_on(output.destination, std::slice::from_raw_parts(first, output.span.elements));
        }
    }
}

/// # Safety
/// The span lies within the uniform space and nothing else of it is in use.
unsafe fn accumulators<'m, T: Real>(machine: &Machine<'m, T>, span: Span) -> &'m mut [T] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(machine.uniform.add(span.offset), span.elements) }
}

/// Moves the lanes of rows that did not fall back to the front, in all values that are accumulated from.
///
/// # Safety
/// As `tile`; nothing but the accumulate section runs afterwards.
unsafe fn close_up<T: Real>(procedure: &Procedure, machine: &Machine<'_, T>, tile: Tile, fell_back: &[bool; LANES]) {
    for span in &procedure.kept {
        for element in span.offset..span.offset + span.elements {
            // SAFETY: `check` found the span within the row space.
            let lanes = unsafe { std::slice::from_raw_parts_mut(machine.row.add(element * tile.lanes), tile.lanes) };
            let mut free = 0;
            for lane in 0..tile.rows {
                if !fell_back[lane] {
                    lanes[free] = lanes[lane];
                    free += 1;
                }
            }
        }
    }
}
