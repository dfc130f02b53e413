//! A small launch that shows what a kernel does: seeds that are identity, that blend and that are frozen, for every
//! program; a whole tile of rows and a part of one; a row with numbers that are not finite; slots out of order.

use super::Numbers;
use super::arrays::{Array, POISON, decode, encode};
use super::expected::{Answer, Expected, Precision};
use crate::compile::reference::Inputs;
use crate::compile::{KernelClass, Pass, Program};
use crate::device::{Address, Bank, Device, Kernel, Launch, Rows, Stream, telemetry};
use crate::graph::{Blueprint, DataType};
use crate::lifecycle::Lifecycle;
use crate::{Result, error, fail};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Functions that the reference may apply in a scene, about: what keeps it in milliseconds.
const BUDGET: usize = 200_000;
/// More than a block of any backend works on at a time, and not whole tiles; fewer rows for costly programs.
const MOST_ROWS: usize = 69;
const LEAST_ROWS: usize = 3;
/// Rows with which every warp of a GPU goes through more tiles than it fetches ahead.
const MANY_ROWS: usize = 400;
/// Elements between the rows, which nobody may touch.
const GAP: usize = 3;
const RANDOM: u64 = 0x0123_4567_89ab_cdef;
const LOSS_SCALE: f64 = 0.0625;

#[derive(Clone, Copy)]
struct Seed {
    state: Lifecycle,
    branch: usize,
    alpha: f32,
    slot: usize,
}

/// One launch: what goes in.
#[derive(Clone)]
pub(super) struct Scene<'a> {
    class: &'a KernelClass,
    blueprints: &'a [&'a Blueprint],
    rows: usize,
    hidden: usize,
    seeds: Vec<Seed>,
    x: Vec<f64>,
    output_gradient: Vec<f64>,
    target: Vec<f64>,
    /// By branch, then by slot.
    parameters: Vec<Vec<f64>>,
    gradient: Vec<Vec<f64>>,
}

impl<'a> Scene<'a> {
    /// A scene for a class; another one for another number.
    pub fn new(class: &'a KernelClass, blueprints: &'a [&'a Blueprint], number: u16) -> Scene<'a> {
        let mut numbers = Numbers::new(number);
        let mut seeds = vec![Seed { state: Lifecycle::Dormant, branch: 0, alpha: 0.5, slot: 2 }];
        let states = match class.pass {
            Pass::Train => [(Lifecycle::Training, 0.0), (Lifecycle::Grafting, 0.5)],
            _ => [(Lifecycle::Grafting, 0.375), (Lifecycle::Evaluating, 1.0)],
        };
        for branch in 0..class.programs.len() {
            // Slot 2 belongs to nobody that runs.
            let of_branch = states.iter().zip([1, 0]);
            seeds.extend(of_branch.map(|(&(state, alpha), slot)| Seed { state, branch, alpha, slot }));
        }
        let cost: usize = class.programs.iter().chain(&class.frozen).map(work).sum();
        // A chunk costs something even where nothing is computed.
        let rows = (BUDGET / cost.max(class.chunk).max(1)).clamp(LEAST_ROWS, MOST_ROWS);
        let hidden = seeds.len() * class.chunk + 1;
        let held = |data_type: DataType, numbers: Vec<f64>| decode(data_type, &encode(data_type, &numbers));
        let mut tensor = || held(class.data_type, numbers.take(rows * hidden));
        let (mut x, output_gradient, target) = (tensor(), tensor(), tensor());
        for seed in 0..seeds.len() {
            x[(rows - 1) * hidden + seed * class.chunk] = if seed % 2 == 0 { f64::NAN } else { f64::INFINITY };
        }
        let compute = class.data_type.compute();
        let slots = |numbers: &mut Numbers, blueprint: &&Blueprint| -> Vec<f64> {
            held(compute, (0..3).flat_map(|_| numbers.slot(blueprint)).collect())
        };
        let parameters: Vec<Vec<f64>> = blueprints.iter().map(|blueprint| slots(&mut numbers, blueprint)).collect();
        let gradient = parameters.iter().map(|slots| held(compute, numbers.take(slots.len()))).collect();
        Scene { class, blueprints, rows, hidden, seeds, x, output_gradient, target, parameters, gradient }
    }

    /// Launches the kernel and looks at everything that it left behind, then over the same rows again and again: the reference
    /// is too slow for so many, but every element must be written.
    pub fn check(&self, device: &Arc<dyn Device>, kernel: &Kernel, stream: Stream) -> Result<()> {
        self.compare(&self.run(device, kernel, stream)?)?;
        if self.class.pass == Pass::Train {
            return Ok(());
        }
        let many = self.repeated(MANY_ROWS.div_ceil(self.rows));
        many.written(&many.run(device, kernel, stream)?.output).map(drop)
    }

    /// The same rows so many times.
    fn repeated(&self, times: usize) -> Scene<'a> {
        let mut scene = self.clone();
        scene.rows *= times;
        for tensor in [&mut scene.x, &mut scene.output_gradient, &mut scene.target] {
            *tensor = tensor.repeat(times);
        }
        scene
    }

    fn run(&self, device: &Arc<dyn Device>, kernel: &Kernel, stream: Stream) -> Result<Found> {
        let (data_type, compute) = (self.class.data_type, self.class.data_type.compute());
        let array = |name, bytes| Array::new(device, name, bytes, stream);
        let tensor = |name, numbers: &[f64]| array(name, self.spread(&encode(data_type, numbers)));
        let integers = |name, number: &dyn Fn(&Seed) -> i32| {
            array(name, self.seeds.iter().flat_map(|seed| number(seed).to_le_bytes()).collect())
        };
        let x = tensor("input", &self.x)?;
        let output_gradient = tensor("gradient of the output", &self.output_gradient)?;
        let target = tensor("target", &self.target)?;
        let output =
            array("output", vec![POISON; self.x.len() * data_type.bytes() + self.rows * GAP * data_type.bytes()])?;
        let lifecycle = array("states", self.seeds.iter().map(|seed| seed.state as u8).collect())?;
        let blueprint = integers("blueprints of the seeds", &|seed| seed.branch as i32)?;
        let slot = integers("slots of the seeds", &|seed| seed.slot as i32)?;
        let alpha = array("alphas", self.seeds.iter().flat_map(|seed| seed.alpha.to_le_bytes()).collect())?;
        let branches = self.class.programs.len().max(1) as i32;
        let known = if self.class.programs.is_empty() { -1..0 } else { 0..branches };
        let branch = array("branches", known.flat_map(i32::to_le_bytes).collect())?;
        let order: Vec<u32> = (0..self.seeds.len() as u32).rev().collect();
        let order = array("order of the seeds", order.into_iter().flat_map(u32::to_le_bytes).collect())?;
        let random = array("key of the random numbers", RANDOM.to_le_bytes().to_vec())?;
        let banks = |name, numbers: &[Vec<f64>]| -> Result<Vec<Array>> {
            numbers.iter().map(|slots| array(name, encode(compute, slots))).collect()
        };
        let parameters = banks("parameters", &self.parameters)?;
        let gradients = banks("gradients of the parameters", &self.gradient)?;
        let observed = array("telemetry", vec![0; self.seeds.len() * telemetry::COLUMNS * 8])?;
        let alpha_gradient = array("gradients of alpha", vec![0; self.seeds.len() * 4])?;
        let loss = array("losses", vec![0; self.seeds.len() * 16])?;

        let pass = self.class.pass;
        let given: Vec<Bank> = (0..parameters.len())
            .map(|bank| Bank {
                parameters: parameters[bank].address(),
                gradient: if pass == Pass::Forward { Address::NULL } else { gradients[bank].address() },
                capacity: 3,
                size: self.parameters[bank].len() / 3,
            })
            .collect();
        let rows = |array: &Array| Rows::spaced(array.address(), self.hidden + GAP);
        let only = |when: bool, array: &Array| if when { rows(array) } else { Rows::default() };
        let launch = Launch {
            rows: self.rows,
            hidden: self.hidden,
            seeds: self.seeds.len(),
            x: rows(&x),
            output_gradient: only(pass == Pass::Backward, &output_gradient),
            target: only(pass == Pass::Train, &target),
            output: only(pass != Pass::Train, &output),
            lifecycle: lifecycle.address(),
            blueprint: blueprint.address(),
            slot: slot.address(),
            alpha: alpha.address(),
            branch: branch.address(),
            blueprints: branches as usize,
            banks: &given,
            telemetry: observed.address(),
            alpha_gradient: alpha_gradient.address(),
            loss: if pass == Pass::Train { loss.address() } else { Address::NULL },
            loss_scale: LOSS_SCALE,
            random: random.address(),
            random_offset: 0,
            order: order.address(),
            busy: self.seeds.len() / 3,
            deterministic: true,
        };
        device.launch(kernel, &launch, stream)?;

        let inputs = [&x, &output_gradient, &target, &lifecycle, &blueprint, &slot, &alpha, &branch, &random, &order];
        inputs.into_iter().chain(&parameters).try_for_each(|array| array.expect_unchanged(stream))?;
        observed.read(stream)?;
        Ok(Found {
            output: output.read(stream)?,
            gradients: gradients
                .iter()
                .map(|array| Ok(decode(compute, &array.read(stream)?)))
                .collect::<Result<_>>()?,
            alpha_gradient: decode(DataType::F32, &alpha_gradient.read(stream)?),
            loss: decode(DataType::F64, &loss.read(stream)?),
        })
    }

    /// Dense rows with gaps of poison between them.
    fn spread(&self, dense: &[u8]) -> Vec<u8> {
        let bytes = self.class.data_type.bytes();
        let row = |row: &[u8]| [row, &vec![POISON; GAP * bytes]].concat();
        dense.chunks_exact(self.hidden * bytes).flat_map(row).collect()
    }

    fn compare(&self, found: &Found) -> Result<()> {
        let output = self.written(&found.output)?;
        let (chunk, pass) = (self.class.chunk, self.class.pass);
        let mut gradients = self.gradient.clone();
        let mut singles: BTreeMap<(usize, bool), Singles> = BTreeMap::new();
        for (number, seed) in self.seeds.iter().enumerate() {
            let name = format!("of seed {number} ({})", seed.state);
            let answer = match self.program(seed) {
                Some(program) => Some((program, self.answer(number, seed, program)?)),
                None => None,
            };
            for row in 0..self.rows {
                let first = row * self.hidden + number * chunk;
                let place = first..first + chunk;
                let found = match &output {
                    Some(output) => &output[place.clone()],
                    None => break,
                };
                let channel = |at: usize| format!("row {row}, channel {at} of the output {name}");
                match &answer {
                    Some((_, answer)) => {
                        answer.row(row, chunk).compare(found, &vec![0.0; chunk], Precision::of(self.class), channel)?;
                    }
                    None => same(found, &self.fallback()[place], channel)?,
                }
            }
            let Some((_, answer)) = answer else { continue };
            let singles = singles.entry((seed.branch, pass.is_frozen(seed.state))).or_default();
            singles.alpha_gradients.push(answer.alpha_gradient(), found.alpha_gradient[number], &name);
            singles.losses.push(answer.loss(), found.loss[2 * number], &name);
            let size = gradients[seed.branch].len() / 3;
            let own = seed.slot * size..(seed.slot + 1) * size;
            let parameter = |at| format!("the gradient of parameter element {at} {name}");
            let before = self.gradient[seed.branch][own.clone()].to_vec();
            let found = &found.gradients[seed.branch][own.clone()];
            answer.parameter_gradient().compare(found, &before, Precision::of(self.class), parameter)?;
            gradients[seed.branch][own].copy_from_slice(found);
        }
        if let Some(output) = &output {
            for row in 0..self.rows {
                let tail = self.seeds.len() * chunk;
                let place = row * self.hidden + tail..(row + 1) * self.hidden;
                let channel =
                    |at: usize| format!("row {row}, channel {} of the output, after the last seed", tail + at);
                same(&output[place.clone()], &self.fallback()[place], channel)?;
            }
        }
        // Sums of half-precision rows are half-precision sums at worst; alpha's gradient is stored in f32.
        let precision = Precision::of(self.class);
        let of_alpha = if precision == Precision::F64 { Precision::F32 } else { precision };
        for singles in singles.values() {
            singles.alpha_gradients.compare(of_alpha, "the gradient of alpha")?;
            if pass == Pass::Train {
                singles.losses.compare(precision, "the loss")?;
            }
        }
        // Slots that nobody used kept their gradients.
        for (found, expected) in found.gradients.iter().zip(&gradients) {
            same(found, expected, |at| format!("element {at} of the gradients of a slot that does not run"))?;
        }
        Ok(())
    }

    /// The output without its gaps, which must be untouched, if the pass has one. Every element must be written.
    fn written(&self, bytes: &[u8]) -> Result<Option<Vec<f64>>> {
        let size = self.class.data_type.bytes();
        let mut dense = Vec::with_capacity(self.rows * self.hidden);
        for (row, bytes) in bytes.chunks_exact((self.hidden + GAP) * size).enumerate() {
            let (own, gap) = bytes.split_at(self.hidden * size);
            if gap.iter().any(|byte| *byte != POISON) {
                fail!(ValidationFailed, "the kernel writes beyond the end of row {row} of the output");
            }
            let is_poison = |element: &[u8]| element.iter().all(|byte| *byte == POISON);
            let unwritten = own.chunks_exact(size).position(is_poison);
            match unwritten {
                _ if self.class.pass == Pass::Train => {}
                Some(channel) => {
                    let seed = channel / self.class.chunk;
                    fail!(
                        ValidationFailed,
                        "the kernel leaves row {row}, channel {channel} (seed {seed}) of the output unwritten"
                    );
                }
                None => dense.extend(decode(self.class.data_type, own)),
            }
        }
        match self.class.pass {
            Pass::Train if bytes.iter().any(|byte| *byte != POISON) => {
                Err(error!(ValidationFailed, "the training kernel writes rows"))
            }
            Pass::Train => Ok(None),
            _ => Ok(Some(dense)),
        }
    }

    fn program(&self, seed: &Seed) -> Option<&'a Program> {
        let pass = self.class.pass;
        let programs = if pass.is_frozen(seed.state) { &self.class.frozen } else { &self.class.programs };
        programs.get(seed.branch).filter(|_| pass.runs(seed.state))
    }

    fn answer(&self, number: usize, seed: &Seed, program: &Program) -> Result<Answer> {
        let chunk = self.class.chunk;
        let cut = |tensor: &[f64]| -> Vec<f64> {
            tensor.chunks_exact(self.hidden).flat_map(|row| row[number * chunk..][..chunk].to_vec()).collect()
        };
        let size = self.parameters[seed.branch].len() / 3;
        let inputs = Inputs {
            rows: self.rows,
            x: &cut(&self.x),
            output_gradient: &cut(&self.output_gradient),
            target: &cut(&self.target),
            parameters: &self.parameters[seed.branch][seed.slot * size..][..size],
            alpha: f64::from(seed.alpha),
            loss_scale: LOSS_SCALE,
            random: Some(RANDOM),
            seed: number as u32,
            first_row: 0,
        };
        let blueprint = &self.blueprints[seed.branch].name;
        Answer::new(program, &inputs).map_err(|error| error.context(format!("blueprint `{blueprint}`")))
    }

    /// What identity copies.
    fn fallback(&self) -> &[f64] {
        if self.class.pass == Pass::Backward { &self.output_gradient } else { &self.x }
    }
}

/// What a launch left behind.
struct Found {
    output: Vec<u8>,
    gradients: Vec<Vec<f64>>,
    alpha_gradient: Vec<f64>,
    loss: Vec<f64>,
}

/// Equal numbers; NaN is itself.
fn same(found: &[f64], expected: &[f64], name: impl Fn(usize) -> String) -> Result<()> {
    let equal = |(found, expected): (&f64, &f64)| found == expected || found.is_nan() && expected.is_nan();
    match found.iter().zip(expected).position(|pair| !equal(pair)) {
        Some(at) => Err(error!(
            ValidationFailed,
            "the kernel computes {} as {}; identity is {}",
            name(at),
            found[at],
            expected[at]
        )),
        None => Ok(()),
    }
}

/// Functions that a row costs.
fn work(program: &Program) -> usize {
    let steps = program.body.iter().chain(&program.accumulate);
    steps.map(|step| step.shape.elements() * step.reduced.elements() * (1 + step.expression.functions())).sum()
}

/// The numbers that each seed of one program leaves one of.
#[derive(Default)]
struct Singles {
    alpha_gradients: Group,
    losses: Group,
}

/// Numbers of several seeds, compared together: how far rounding takes one sum says little, for terms may cancel.
#[derive(Default)]
struct Group {
    exact: Vec<f64>,
    rough: Vec<f64>,
    found: Vec<f64>,
    names: Vec<String>,
}

impl Group {
    fn push(&mut self, expected: Expected<'_>, found: f64, name: &str) {
        self.exact.extend(expected.numbers);
        self.rough.extend(expected.rough);
        self.found.push(found);
        self.names.push(name.into());
    }

    fn compare(&self, precision: Precision, what: &str) -> Result<()> {
        let expected = Expected { numbers: &self.exact, rough: &self.rough };
        let before = vec![0.0; self.found.len()];
        expected.compare(&self.found, &before, precision, |at| format!("{what} {}", self.names[at]))
    }
}
