//! A launch with everything it needs, run on the backend and compared with the reference.

use super::super::launch::{self, Loaded};
use super::super::vector::Instructions;
use super::reference;
use crate::Result;
use crate::compile::codegen::cpu::{self, Code};
use crate::compile::{KernelClass, Pass, Program, Schedule};
use crate::device::telemetry::{COLUMNS, MAX, MIN};
use crate::device::{Address, Bank, Launch, Rows};
use crate::graph::DataType;
use half::{bf16, f16};

/// Numbers between -1 and 1, the same for the same seed.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 29)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn number(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub fn list(&mut self, elements: usize) -> Vec<f64> {
        (0..elements).map(|_| self.number()).collect()
    }
}

/// A launch as numbers.
#[derive(Clone)]
pub struct Scene {
    pub class: KernelClass,
    pub rows: usize,
    pub hidden: usize,
    /// Elements between rows, beyond `hidden`.
    pub gap: usize,
    /// Whether the output lies where its fallback input lies.
    pub in_place: bool,
    pub x: Vec<f64>,
    pub output_gradient: Vec<f64>,
    pub target: Vec<f64>,
    pub lifecycle: Vec<i8>,
    pub blueprint: Vec<i32>,
    pub slot: Vec<i32>,
    pub alpha: Vec<f32>,
    pub branch: Vec<i32>,
    /// By branch.
    pub sizes: Vec<usize>,
    /// By branch: one slot for each seed.
    pub parameters: Vec<Vec<f64>>,
    pub loss_scale: f64,
}

impl Scene {
    /// A scene in which all seeds run programs in turn, in the first state that the pass runs them in. Tensors have
    /// numbers that their type holds exactly.
    pub fn new(pass: Pass, data_type: DataType, programs: Vec<Program>, seeds: usize, rows: usize) -> Scene {
        let chunk = programs[0].chunk;
        let mut numbers = Numbers(7 + rows as u64);
        let hidden = seeds * chunk + 3;
        let frozen = if pass == Pass::Backward { programs.clone() } else { Vec::new() };
        let size = |program: &Program| {
            let parameters = program.values.iter().map(|value| match value.source {
                crate::compile::Source::Parameter(first) => first + value.elements,
                _ => 0,
            });
            let gradients = program.outputs.iter().map(|output| match output.target {
                crate::compile::Destination::ParameterGradient(first) => {
                    first + program.values[output.value.index()].elements
                }
                _ => 0,
            });
            parameters.chain(gradients).max().unwrap_or(0)
        };
        let sizes: Vec<usize> = programs.iter().map(size).collect();
        let tensor = |numbers: &mut Numbers| rounded(&numbers.list(rows * hidden), data_type);
        let compute = data_type.compute();
        Scene {
            rows,
            hidden,
            gap: 0,
            in_place: false,
            x: tensor(&mut numbers),
            output_gradient: tensor(&mut numbers),
            target: tensor(&mut numbers),
            lifecycle: vec![if pass == Pass::Train { 2 } else { 3 }; seeds],
            blueprint: (0..seeds).map(|seed| (seed % programs.len()) as i32).collect(),
            slot: (0..seeds).rev().map(|seed| seed as i32).collect(),
            alpha: (0..seeds).map(|seed| 0.3 + 0.1 * seed as f32).collect(),
            branch: (0..programs.len() as i32).collect(),
            parameters: sizes.iter().map(|size| rounded(&numbers.list(seeds * size), compute)).collect(),
            sizes,
            loss_scale: 0.5,
            class: KernelClass { pass, schedule: Schedule::Best, data_type, tf32: false, chunk, programs, frozen },
        }
    }

    pub fn seeds(&self) -> usize {
        self.lifecycle.len()
    }

    fn stride(&self) -> usize {
        self.hidden + self.gap
    }
}

/// All that a launch writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub output: Vec<f64>,
    pub gradients: Vec<Vec<f64>>,
    pub alpha_gradient: Vec<f64>,
    pub loss: Vec<[f64; 2]>,
    pub telemetry: Vec<[f64; COLUMNS]>,
}

impl Outcome {
    /// What stands there before a launch: something to add to, and an output that shows what was not written.
    pub fn before(scene: &Scene) -> Outcome {
        let mut telemetry = [1.0; COLUMNS];
        (telemetry[MIN], telemetry[MAX]) = (f64::INFINITY, f64::NEG_INFINITY);
        Outcome {
            output: vec![-77.0; scene.rows * scene.hidden],
            gradients: scene.parameters.iter().map(|parameters| vec![0.25; parameters.len()]).collect(),
            alpha_gradient: vec![0.5; scene.seeds()],
            loss: vec![[0.125, 2.0]; scene.seeds()],
            telemetry: vec![telemetry; scene.seeds()],
        }
    }
}

/// Numbers as bytes of a type.
pub fn encode(numbers: &[f64], data_type: DataType) -> Vec<u8> {
    let bytes = |number: &f64| match data_type {
        DataType::F32 => (*number as f32).to_le_bytes().to_vec(),
        DataType::F16 => f16::from_f64(*number).to_le_bytes().to_vec(),
        DataType::BF16 => bf16::from_f64(*number).to_le_bytes().to_vec(),
        DataType::F64 => number.to_le_bytes().to_vec(),
        other => unreachable!("{other:?}"),
    };
    numbers.iter().flat_map(bytes).collect()
}

/// The other way.
pub fn decode(bytes: &[u8], data_type: DataType) -> Vec<f64> {
    let number = |bytes: &[u8]| match data_type {
        DataType::F32 => f64::from(f32::from_le_bytes(bytes.try_into().unwrap())),
        DataType::F16 => f16::from_le_bytes(bytes.try_into().unwrap()).to_f64(),
        DataType::BF16 => bf16::from_le_bytes(bytes.try_into().unwrap()).to_f64(),
        DataType::F64 => f64::from_le_bytes(bytes.try_into().unwrap()),
        other => unreachable!("{other:?}"),
    };
    bytes.chunks_exact(data_type.bytes()).map(number).collect()
}

fn rounded(numbers: &[f64], data_type: DataType) -> Vec<f64> {
    decode(&encode(numbers, data_type), data_type)
}

/// Bytes aligned as device memory is.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

pub struct Memory(Vec<Line>, usize);

impl Memory {
    pub fn new(bytes: &[u8]) -> Memory {
        let mut lines = vec![Line([0; 64]); bytes.len().div_ceil(64).max(1)];
        for (line, bytes) in lines.iter_mut().zip(bytes.chunks(64)) {
            line.0[..bytes.len()].copy_from_slice(bytes);
        }
        Memory(lines, bytes.len())
    }

    pub fn of<T: bytemuck::NoUninit>(numbers: &[T]) -> Memory {
        Memory::new(bytemuck::cast_slice(numbers))
    }

    pub fn address(&mut self) -> Address {
        Address(self.0.as_mut_ptr() as u64)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.0.iter().flat_map(|line| line.0).collect();
        bytes.truncate(self.1);
        bytes
    }

    pub fn numbers<T: bytemuck::AnyBitPattern>(&self) -> Vec<T> {
        self.bytes().chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
    }
}

/// Compiles, writes to bytes, reads back: as the pipeline does.
pub fn load(class: &KernelClass, instructions: Instructions) -> Result<Loaded> {
    let code = Code::decode(class, &cpu::compile(class)?)?;
    Loaded::new(class, code, instructions)
}

/// Runs a scene on the instructions of this CPU.
pub fn run(scene: &Scene) -> Result<Outcome> {
    let kernel = load(&scene.class, Instructions::detect())?;
    run_with(scene, &kernel, launch::dispatch)
}

/// Runs a scene, with a chance to change the launch.
pub fn run_with(
    scene: &Scene,
    kernel: &Loaded,
    act: impl FnOnce(&Loaded, &Launch<'_>) -> Result<()>,
) -> Result<Outcome> {
    let before = Outcome::before(scene);
    let (data_type, compute) = (scene.class.data_type, scene.class.data_type.compute());
    let spread = |numbers: &[f64]| {
        let rows = numbers.chunks(scene.hidden);
        let spread = rows.flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(99.0, scene.gap)));
        Memory::new(&encode(&spread.collect::<Vec<f64>>(), data_type))
    };
    let mut tensors =
        [&scene.x, &scene.output_gradient, &scene.target, &before.output].map(|numbers| spread(numbers.as_slice()));
    let [x, output_gradient, target, output] =
        tensors.each_mut().map(|memory| Rows::spaced(memory.address(), scene.stride()));
    let fallback = if scene.class.pass == Pass::Backward { 1 } else { 0 };
    let output = if scene.in_place { [x, output_gradient][fallback] } else { output };

    let mut parameters: Vec<Memory> = scene.parameters.iter().map(|p| Memory::new(&encode(p, compute))).collect();
    let mut gradients: Vec<Memory> = before.gradients.iter().map(|g| Memory::new(&encode(g, compute))).collect();
    let banks: Vec<Bank> = parameters
        .iter_mut()
        .zip(&mut gradients)
        .zip(&scene.sizes)
        .map(|((parameters, gradient), size)| Bank {
            parameters: parameters.address(),
            gradient: if scene.class.pass == Pass::Forward { Address::NULL } else { gradient.address() },
            capacity: scene.seeds(),
            size: *size,
        })
        .collect();
    let mut lifecycle = Memory::of(&scene.lifecycle);
    let mut state = [&scene.blueprint, &scene.slot, &scene.branch].map(|numbers| Memory::of(numbers));
    let mut alpha = Memory::of(&scene.alpha);
    let mut alpha_gradient = Memory::of(&before.alpha_gradient.iter().map(|a| *a as f32).collect::<Vec<f32>>());
    let mut telemetry = Memory::of(before.telemetry.as_flattened());
    let mut loss = Memory::of(before.loss.as_flattened());
    let [blueprint, slot, branch] = state.each_mut().map(Memory::address);
    let launch = Launch {
        rows: scene.rows,
        hidden: scene.hidden,
        seeds: scene.seeds(),
        x,
        output_gradient,
        target,
        output,
        lifecycle: lifecycle.address(),
        blueprint,
        slot,
        alpha: alpha.address(),
        branch,
        blueprints: scene.branch.len(),
        banks: &banks,
        telemetry: telemetry.address(),
        alpha_gradient: alpha_gradient.address(),
        loss: if scene.class.pass == Pass::Train { loss.address() } else { Address::NULL },
        loss_scale: scene.loss_scale,
        random: Address::NULL,
        random_offset: 0,
        order: Address::NULL,
        busy: 0,
        deterministic: true,
    };
    act(kernel, &launch)?;

    let written = &tensors[if scene.in_place { fallback } else { 3 }];
    let mut output = Vec::new();
    for row in decode(&written.bytes(), data_type).chunks(scene.stride()) {
        let (row, gap) = row.split_at(scene.hidden);
        output.extend_from_slice(row);
        assert!(gap.iter().all(|number| *number == 99.0), "the launch wrote between the rows");
    }
    if scene.class.pass == Pass::Train && scene.in_place {
        output = before.output;
    }
    Ok(Outcome {
        output,
        gradients: gradients.iter().map(|memory| decode(&memory.bytes(), compute)).collect(),
        alpha_gradient: alpha_gradient.numbers::<f32>().iter().map(|a| f64::from(*a)).collect(),
        loss: loss.numbers::<f64>().chunks(2).map(|pair| [pair[0], pair[1]]).collect(),
        telemetry: telemetry.numbers::<f64>().chunks(COLUMNS).map(|row| row.try_into().unwrap()).collect(),
    })
}

/// Runs a scene and compares all it wrote with the reference.
#[track_caller]
pub fn check(scene: &Scene) -> Outcome {
    let outcome = run(scene).unwrap();
    compare(scene, &outcome, &reference::run(scene));
    outcome
}

/// How far apart two numbers may be, relative to the larger of 1 and their size.
fn tolerance(data_type: DataType) -> f64 {
    match data_type {
        DataType::F64 => 1e-10,
        DataType::F32 => 2e-5,
        DataType::F16 => 2e-3,
        _ => 1.6e-2,
    }
}

#[track_caller]
pub fn compare(scene: &Scene, outcome: &Outcome, expected: &Outcome) {
    let data_type = scene.class.data_type;
    let sums = tolerance(data_type.compute()) * (scene.rows as f64).sqrt().max(1.0);
    let what = format!("{:?} {} rows {}", scene.class.pass, data_type.name(), scene.rows);
    close(&format!("{what}: output"), &outcome.output, &expected.output, tolerance(data_type));
    for (branch, gradients) in outcome.gradients.iter().enumerate() {
        close(&format!("{what}: gradient of branch {branch}"), gradients, &expected.gradients[branch], sums);
    }
    close(&format!("{what}: alpha gradient"), &outcome.alpha_gradient, &expected.alpha_gradient, sums.max(1e-5));
    close(&format!("{what}: loss"), outcome.loss.as_flattened(), expected.loss.as_flattened(), sums);
    let (seen, wanted) = (outcome.telemetry.as_flattened(), expected.telemetry.as_flattened());
    close(&format!("{what}: telemetry"), seen, wanted, tolerance(data_type.compute()));
}

#[track_caller]
pub fn close(what: &str, numbers: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(numbers.len(), expected.len(), "{what}");
    for (position, (number, expected)) in numbers.iter().zip(expected).enumerate() {
        let same = number == expected || (number.is_nan() && expected.is_nan());
        let near = (number - expected).abs() <= tolerance * expected.abs().max(1.0);
        assert!(same || near, "{what}[{position}] is {number}, expected {expected}");
    }
}
