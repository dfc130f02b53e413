//! Launches of whole layers on any device, and the comparison of two devices on the same launch.
//!
//! A case says what a layer looks like; everything else (tensors, parameters, which seed is in which state) follows from it
//! by a fixed rule, so that two devices get the same bytes.

use half::{bf16, f16};
use kasmina::compile::{KernelClass, Pass, Schedule, kernel_class};
use kasmina::device::{Adamw, Address, Bank, Buffer, Device, Launch, Rows, Stream, telemetry};
use kasmina::graph::{Attributes, Blueprint, DataType, library};
use std::collections::HashMap;
use std::sync::Arc;

/// How the rows of a case's tensors lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layout {
    /// Evenly spaced, channels adjacent.
    Even,
    /// Channels adjacent, and more room after each group of so many rows.
    Groups(usize),
    /// Groups of so many rows, the rows of a channel adjacent.
    ChannelsFirst(usize),
    /// Neither adjacent.
    Scattered,
    /// One layout for each tensor, no two the same.
    Mixed,
}

/// Every layout but the usual one, for the 33 rows of a case.
pub const LAYOUTS: [Layout; 7] = [
    Layout::ChannelsFirst(33),
    Layout::ChannelsFirst(7),
    Layout::ChannelsFirst(1),
    Layout::Groups(7),
    Layout::Groups(11),
    Layout::Scattered,
    Layout::Mixed,
];

/// One launch.
#[derive(Clone, Debug)]
pub struct Case {
    pub schedule: Schedule,
    /// Whether f32 may be multiplied as TF32.
    pub tf32: bool,
    pub pass: Pass,
    pub data_type: DataType,
    /// Library blueprints, by branch.
    pub blueprints: Vec<&'static str>,
    pub chunk: usize,
    pub seeds: usize,
    /// Channels after the last chunk.
    pub tail: usize,
    pub rows: usize,
    pub layout: Layout,
    /// Elements between rows, or channels that others have between theirs.
    pub gap: usize,
    /// Elements by which the tensors miss the alignment of their memory.
    pub shift: usize,
    /// Whether the output is the input that identity copies.
    pub in_place: bool,
    /// Whether there is no output, and so no blueprint is known.
    pub observes: bool,
    /// Whether some elements are not finite.
    pub poisoned: bool,
    pub deterministic: bool,
    /// The blueprint of every seed, whatever its state.
    pub blueprint: Option<i32>,
    /// The slot of every seed.
    pub slot: Option<i32>,
    /// The branch of every blueprint.
    pub branch: Option<i32>,
}

impl Case {
    pub fn new(pass: Pass, data_type: DataType, blueprints: &[&'static str]) -> Case {
        Case {
            schedule: Schedule::Best,
            tf32: false,
            pass,
            data_type,
            blueprints: blueprints.to_vec(),
            chunk: 8,
            seeds: 13,
            tail: 3,
            rows: 33,
            layout: Layout::Even,
            gap: 0,
            shift: 0,
            in_place: false,
            observes: false,
            poisoned: false,
            deterministic: false,
            blueprint: None,
            slot: None,
            branch: None,
        }
    }

    pub fn class(&self) -> KernelClass {
        let blueprints = self.library();
        let blueprints: Vec<&Blueprint> = blueprints.iter().collect();
        if blueprints.is_empty() {
            let (pass, data_type, chunk) = (self.pass, self.data_type, self.chunk);
            let (schedule, programs, frozen) = (self.schedule, Vec::new(), Vec::new());
            return KernelClass { pass, schedule, data_type, tf32: self.tf32, chunk, programs, frozen };
        }
        let best = kernel_class(self.pass, self.data_type, true, &blueprints).unwrap();
        KernelClass { schedule: self.schedule, tf32: self.tf32, ..best }
    }

    fn library(&self) -> Vec<Blueprint> {
        self.blueprints.iter().map(|name| library(name, self.chunk, &Attributes::new()).unwrap()).collect()
    }

    fn hidden(&self) -> usize {
        self.seeds * self.chunk + self.tail
    }

    /// How a tensor lies that begins at an address: x, the output's gradient, the target or the output, by number.
    fn rows(&self, tensor: usize, address: Address) -> Rows {
        let stride = self.hidden() + self.gap;
        let layout = match self.layout {
            Layout::Mixed => [Layout::ChannelsFirst(7), Layout::Even, Layout::Scattered, Layout::Groups(5)][tensor],
            other => other,
        };
        match layout {
            Layout::Even | Layout::Mixed => Rows::spaced(address, stride),
            Layout::Groups(group) => Rows { group, group_stride: group * stride + 8, ..Rows::spaced(address, stride) },
            Layout::ChannelsFirst(group) => {
                Rows { address, channel_stride: group, stride: 1, group, group_stride: group * stride }
            }
            Layout::Scattered => Rows { channel_stride: 2, ..Rows::spaced(address, 2 * stride + 1) },
        }
    }

    /// Where a row's channel lies in a tensor, counted from the beginning of its memory.
    fn place(&self, tensor: usize, row: usize, channel: usize) -> usize {
        let rows = self.rows(tensor, Address::NULL);
        self.shift + rows.offset(row) + channel * rows.channel_stride
    }

    /// The bytes of the output, row after row, wherever they lie.
    pub fn output_bits(&self, outcome: &Outcome) -> Vec<Vec<u8>> {
        let bytes = self.data_type.bytes();
        let element = |row, channel| self.place(3, row, channel) * bytes;
        let places = (0..self.rows).flat_map(|row| (0..self.hidden()).map(move |channel| (row, channel)));
        places.map(|(row, channel)| outcome.output[element(row, channel)..][..bytes].to_vec()).collect()
    }

    /// State and blueprint of a seed: the seeds go through all states, and those of a state through all blueprints. Those that train,
    /// on the main loss or in isolation, come early, and have a program if there is one blueprint.
    fn state(&self, seed: usize) -> (i8, i32) {
        let states: [i8; 11] = [3, 0, 6, 1, 2, 4, 8, 7, 5, 10, 9];
        let state = states[seed % states.len()];
        let blueprints = self.blueprints.len() as i32;
        if blueprints == 0 {
            return (state, -1);
        }
        // One more than there are programs: the last blueprint of the layer has no program.
        let turn = (seed / states.len() + seed % states.len()) as i32 % (blueprints + 1);
        (state, self.blueprint.unwrap_or(turn))
    }
}

/// Everything a launch writes.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub output: Vec<u8>,
    pub telemetry: Vec<f64>,
    pub alpha_gradient: Vec<f64>,
    pub gradients: Vec<Vec<f64>>,
    pub loss: Vec<f64>,
}

/// Numbers that look random and are the same everywhere.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number in [-1, 1).
    pub fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

pub fn encode(data_type: DataType, values: &[f64]) -> Vec<u8> {
    let bytes = |value: &f64| -> Vec<u8> {
        match data_type {
            DataType::F16 => f16::from_f64(*value).to_le_bytes().to_vec(),
            DataType::BF16 => bf16::from_f64(*value).to_le_bytes().to_vec(),
            DataType::F64 => value.to_le_bytes().to_vec(),
            _ => (*value as f32).to_le_bytes().to_vec(),
        }
    };
    values.iter().flat_map(bytes).collect()
}

pub fn decode(data_type: DataType, bytes: &[u8]) -> Vec<f64> {
    let number = |bytes: &[u8]| match data_type {
        DataType::F16 => f16::from_le_bytes(bytes.try_into().unwrap()).to_f64(),
        DataType::BF16 => bf16::from_le_bytes(bytes.try_into().unwrap()).to_f64(),
        DataType::F64 => f64::from_le_bytes(bytes.try_into().unwrap()),
        _ => f64::from(f32::from_le_bytes(bytes.try_into().unwrap())),
    };
    bytes.chunks_exact(data_type.bytes()).map(number).collect()
}

/// Bytes on a device.
pub struct Memory {
    device: Arc<dyn Device>,
    buffer: Buffer,
}

impl Memory {
    pub fn new(device: &Arc<dyn Device>, bytes: &[u8]) -> Memory {
        let buffer = Buffer::new(device, bytes.len().max(16)).unwrap();
        device.upload(buffer.address(), bytes, Stream(0)).unwrap();
        Memory { device: device.clone(), buffer }
    }

    pub fn numbers<T: bytemuck::NoUninit>(device: &Arc<dyn Device>, numbers: &[T]) -> Memory {
        Memory::new(device, bytemuck::cast_slice(numbers))
    }

    pub fn address(&self) -> Address {
        self.buffer.address()
    }

    pub fn bytes(&self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.device.download(&mut bytes, self.address(), Stream(0)).unwrap();
        bytes
    }
}

/// A tensor of the case, with a pattern before, between and after its rows that nobody may write.
fn tensor(case: &Case, tensor: usize, numbers: &mut Numbers, poisoned: bool) -> Vec<u8> {
    let extent = case.rows(tensor, Address::NULL).extent(case.rows, case.hidden()).unwrap_or(0);
    let mut between = Numbers::new(99 + tensor as u64);
    let mut values: Vec<f64> = (0..case.shift + extent + 16).map(|_| between.next() * 2.0).collect();
    // The same numbers wherever they lie.
    for row in 0..case.rows {
        for channel in 0..case.hidden() {
            values[case.place(tensor, row, channel)] = numbers.next() * 2.0;
        }
    }
    let mut at = |row: usize, channel: usize, value: f64| {
        if row < case.rows && channel < case.hidden() {
            values[case.place(tensor, row, channel)] = value;
        }
    };
    if poisoned {
        for seed in 0..case.seeds {
            at(2 + seed % 5, seed * case.chunk, f64::INFINITY);
            at(9 + seed % 7, seed * case.chunk + case.chunk / 2, f64::NAN);
        }
        at(1, case.hidden() - 1, f64::NAN);
    }
    // Something dead, and something large.
    at(0, 0, 0.0);
    at(4, case.chunk, 1e-7);
    encode(case.data_type, &values)
}

/// Runs a case on a device.
pub fn run(device: &Arc<dyn Device>, case: &Case, machine_code: &[u8]) -> Outcome {
    let class = case.class();
    let kernel = device.load(&class, machine_code).unwrap();
    let compute = case.data_type.compute();
    let mut numbers = Numbers::new(7 + case.rows as u64);
    let poisoned_gradient = case.poisoned && case.pass == Pass::Backward;
    let [x, output_gradient, target, output] = [(0, case.poisoned), (1, poisoned_gradient), (2, false), (3, false)]
        .map(|(number, poisoned)| tensor(case, number, &mut numbers, poisoned));
    let [x, output_gradient, target, output] =
        [&x, &output_gradient, &target, &output].map(|bytes| Memory::new(device, bytes));
    let rows = |number: usize, memory: &Memory| {
        case.rows(number, memory.address().offset(case.shift * case.data_type.bytes()))
    };
    let identity = if case.pass == Pass::Backward { &output_gradient } else { &x };
    let written = if case.in_place || case.observes { identity } else { &output };

    let states: Vec<(i8, i32)> = (0..case.seeds).map(|seed| case.state(seed)).collect();
    let lifecycle: Vec<i8> = states.iter().map(|(state, _)| *state).collect();
    let blueprint: Vec<i32> = states.iter().map(|(_, blueprint)| *blueprint).collect();
    let slot: Vec<i32> = (0..case.seeds as i32).map(|seed| case.slot.unwrap_or(seed)).collect();
    let alpha: Vec<f32> = (0..case.seeds).map(|seed| [0.25, 0.75, 1.5, 1.0, -0.5, 0.0][seed % 6]).collect();
    let branches = (0..case.blueprints.len() as i32).chain([-1]);
    let branch: Vec<i32> = branches.map(|branch| case.branch.unwrap_or(branch)).collect();
    let lifecycle = Memory::numbers(device, &lifecycle);
    let blueprint = Memory::numbers(device, &blueprint);
    let slot = Memory::numbers(device, &slot);
    let alpha = Memory::numbers(device, &alpha);
    let branches = Memory::numbers(device, &branch);
    let order = Memory::numbers(device, &(0..case.seeds as i32).rev().collect::<Vec<_>>());

    let library = case.library();
    let banks: Vec<(Memory, Memory, usize)> = library
        .iter()
        .map(|blueprint| {
            let size = blueprint.parameter_count();
            let values: Vec<f64> = (0..case.seeds)
                .flat_map(|seed| blueprint.initialize(seed as u64))
                .map(|value| value + 0.25 * numbers.next())
                .collect();
            let before: Vec<f64> = values.iter().map(|_| numbers.next()).collect();
            let memory = |values: &[f64]| Memory::new(device, &encode(compute, values));
            (memory(&values), memory(&before), size)
        })
        .collect();
    let bank_arguments: Vec<Bank> = banks
        .iter()
        .map(|(parameters, gradient, size)| Bank {
            parameters: parameters.address(),
            gradient: if case.pass == Pass::Forward { Address::NULL } else { gradient.address() },
            capacity: case.seeds,
            size: *size,
        })
        .collect();

    let mut observed = vec![0.0f64; case.seeds * telemetry::COLUMNS];
    for seed in observed.chunks_exact_mut(telemetry::COLUMNS) {
        seed[telemetry::MIN] = f64::INFINITY;
        seed[telemetry::MAX] = f64::NEG_INFINITY;
    }
    let observed = Memory::numbers(device, &observed);
    let alpha_gradient = Memory::numbers(device, &vec![0.5f32; case.seeds]);
    let loss = Memory::numbers(device, &vec![0.25f64; case.seeds * 2]);
    let launch = Launch {
        rows: case.rows,
        hidden: case.hidden() - if case.observes { case.tail } else { 0 },
        seeds: case.seeds,
        x: if case.observes && case.pass == Pass::Backward { rows(1, &output_gradient) } else { rows(0, &x) },
        output_gradient: rows(1, &output_gradient),
        target: rows(2, &target),
        output: if case.observes { Rows::default() } else { rows(3, written) },
        lifecycle: lifecycle.address(),
        blueprint: blueprint.address(),
        slot: slot.address(),
        alpha: alpha.address(),
        branch: branches.address(),
        blueprints: if case.observes { 0 } else { branch.len() },
        banks: &bank_arguments,
        telemetry: observed.address(),
        alpha_gradient: if case.pass == Pass::Backward { alpha_gradient.address() } else { Address::NULL },
        loss: if case.pass == Pass::Train { loss.address() } else { Address::NULL },
        loss_scale: 1.0 / (case.rows.max(1) * case.chunk) as f64,
        deterministic: case.deterministic,
        // Any order gives the same result.
        order: order.address(),
        busy: case.seeds / 3,
        ..Launch::default()
    };
    device.launch(&kernel, &launch, Stream(0)).unwrap();
    device.synchronize(Stream(0)).unwrap();
    Outcome {
        output: written.bytes(written.buffer.bytes()),
        telemetry: decode(DataType::F64, &observed.bytes(case.seeds * telemetry::COLUMNS * 8)),
        alpha_gradient: decode(DataType::F32, &alpha_gradient.bytes(case.seeds * 4)),
        gradients: banks
            .iter()
            .map(|(_, gradient, size)| decode(compute, &gradient.bytes(case.seeds * size * compute.bytes())))
            .collect(),
        loss: decode(DataType::F64, &loss.bytes(case.seeds * 16)),
    }
}

/// Fails where two devices disagree by more than rounding.
pub fn assert_close(case: &Case, expected: &Outcome, actual: &Outcome) {
    let compute_tolerance = if case.data_type == DataType::F64 { 1e-11 } else { 2e-4 };
    // Tensor cores multiply numbers that are rounded to the type of the rows, and add many of them.
    let many = (case.chunk as f64 / 64.0).sqrt().max(1.0);
    let row_tolerance = match case.data_type {
        DataType::BF16 => 4e-2 * many,
        DataType::F16 => 5e-3 * many,
        // Which has as many bits as f16.
        DataType::F32 if case.tf32 => 5e-3 * many,
        _ => compute_tolerance,
    };
    // Tensor cores multiply numbers that are rounded to the type of the rows.
    let sum_tolerance = match case.data_type {
        DataType::BF16 => 1.6e-2,
        DataType::F16 => 2e-3,
        DataType::F32 if case.tf32 => 2e-3,
        _ => 4.0 * compute_tolerance,
    };
    let bytes = case.data_type.bytes();
    assert_eq!(expected.output.len(), actual.output.len());
    let ours = decode(case.data_type, &expected.output);
    let theirs = decode(case.data_type, &actual.output);
    let places = (0..case.rows).flat_map(|row| (0..case.hidden()).map(move |channel| (row, channel)));
    let places: HashMap<usize, (usize, usize)> =
        places.map(|(row, channel)| (case.place(3, row, channel), (row, channel))).collect();
    for (element, (one, other)) in ours.iter().zip(&theirs).enumerate() {
        let (row, channel) = places.get(&element).copied().unzip();
        let seed = channel.map(|channel| channel / case.chunk).filter(|seed| *seed < case.seeds);
        let computed = case.pass != Pass::Train
            && seed.is_some_and(|seed| {
                let (state, blueprint) = case.state(seed);
                (3..=7).contains(&state) && (0..case.blueprints.len() as i32).contains(&blueprint)
            });
        let place = format!("output row {row:?}, channel {channel:?}, seed {seed:?}");
        if computed && one.is_finite() {
            assert_number(case, &place, *one, *other, row_tolerance);
        } else {
            let range = element * bytes..(element + 1) * bytes;
            assert_eq!(
                expected.output[range.clone()],
                actual.output[range],
                "{place} is not the same bits in {case:?}"
            );
        }
    }
    let of_seeds = expected.telemetry.chunks(telemetry::COLUMNS).zip(actual.telemetry.chunks(telemetry::COLUMNS));
    for (seed, (expected, actual)) in of_seeds.enumerate() {
        for (column, (one, other)) in expected.iter().zip(actual).enumerate() {
            // Sums of numbers of both signs are as exact as their magnitudes allow, of which these are bounds.
            let magnitude = match column {
                telemetry::SUM => (expected[telemetry::COUNT] * expected[telemetry::SQUARES]).sqrt(),
                telemetry::NEIGHBOURS => expected[telemetry::SQUARES],
                _ => 0.0,
            };
            let place = format!("telemetry of seed {seed}, column {column}");
            assert_number(case, &place, *one, *other, 1e-5 * (1.0 + 1e-2 * magnitude));
        }
    }
    let largest =
        |numbers: &[f64]| numbers.iter().filter(|number| number.is_finite()).fold(0.0, |a: f64, b| a.max(b.abs()));
    let of_sums = |numbers: &[f64]| match case.data_type {
        DataType::BF16 | DataType::F16 => sum_tolerance * (1.0 + largest(numbers)),
        DataType::F32 if case.tf32 => sum_tolerance * (1.0 + largest(numbers)),
        _ => sum_tolerance,
    };
    let tolerance = of_sums(&expected.alpha_gradient).max(5e-4);
    for (seed, (one, other)) in expected.alpha_gradient.iter().zip(&actual.alpha_gradient).enumerate() {
        assert_number(case, &format!("alpha gradient of seed {seed}"), *one, *other, tolerance);
    }
    for (branch, (one, other)) in expected.gradients.iter().zip(&actual.gradients).enumerate() {
        assert_eq!(one.len(), other.len());
        let tolerance = of_sums(one);
        for (position, (one, other)) in one.iter().zip(other).enumerate() {
            let place = format!("gradient of branch {branch}, element {position}");
            assert_number(case, &place, *one, *other, tolerance);
        }
    }
    let tolerance = of_sums(&expected.loss);
    for (position, (one, other)) in expected.loss.iter().zip(&actual.loss).enumerate() {
        assert_number(case, &format!("loss {position}"), *one, *other, tolerance);
    }
}

fn assert_number(case: &Case, place: &str, expected: f64, actual: f64, tolerance: f64) {
    let same = expected == actual || (expected.is_nan() && actual.is_nan());
    let close = (expected - actual).abs() <= tolerance * (1.0 + expected.abs());
    assert!(same || close, "{place}: {actual} instead of {expected} in {case:?}");
}

/// The case with numbers in its state arrays that point at nothing; and the same one with all seeds idle, which is how it
/// must run.
pub fn damaged(case: &Case) -> (Vec<Case>, Case) {
    let with = |change: &dyn Fn(&mut Case)| {
        let mut damaged = case.clone();
        change(&mut damaged);
        damaged
    };
    let cases = vec![
        with(&|case| case.blueprint = Some(1 << 30)),
        with(&|case| case.blueprint = Some(i32::MIN)),
        with(&|case| case.slot = Some(case.seeds as i32)),
        with(&|case| case.slot = Some(-1)),
        with(&|case| case.branch = Some(case.blueprints.len() as i32)),
        with(&|case| case.branch = Some(-5)),
    ];
    (cases, with(&|case| case.blueprint = Some(-1)))
}

/// Two steps of the optimiser on at least five slots in every mode, with one whose gradient is not finite. Returns everything
/// they wrote.
#[allow(dead_code, reason = "the emulated device has no optimiser")]
pub fn run_adamw(device: &Arc<dyn Device>, double: bool, capacity: usize, size: usize) -> Vec<f64> {
    let data_type = if double { DataType::F64 } else { DataType::F32 };
    let mut numbers = Numbers::new(3);
    let mut random = |scale: f64| -> Vec<f64> { (0..capacity * size).map(|_| numbers.next() * scale).collect() };
    let parameters = random(1.0);
    let mut gradient = random(0.1);
    let first = random(0.1);
    let second: Vec<f64> = random(0.01).iter().map(|value| value.abs()).collect();
    gradient[4 * size - 1] = f64::NAN;
    let memory = |values: &[f64]| Memory::new(device, &encode(data_type, values));
    let (parameters, gradient, first, second) =
        (memory(&parameters), memory(&gradient), memory(&first), memory(&second));
    let steps: Vec<u32> = [0, 3, 1000, 4, 5].into_iter().cycle().take(capacity).collect();
    let modes: Vec<u8> = [1, 0, 1, 1, 2].into_iter().cycle().take(capacity).collect();
    let (steps, mode) = (Memory::numbers(device, &steps), Memory::numbers(device, &modes));
    let marks = Memory::numbers(device, &vec![0u8; capacity]);
    for _ in 0..2 {
        let update = Adamw {
            double,
            parameters: parameters.address(),
            gradient: gradient.address(),
            first_moment: first.address(),
            second_moment: second.address(),
            steps: steps.address(),
            mode: mode.address(),
            updated: 1,
            non_finite: marks.address(),
            capacity,
            size,
            learning_rate: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.05,
        };
        device.adamw(&update, Stream(0)).unwrap();
    }
    let bytes = capacity * size * data_type.bytes();
    let mut all: Vec<f64> =
        [&parameters, &first, &second].iter().flat_map(|memory| decode(data_type, &memory.bytes(bytes))).collect();
    let counts = steps.bytes(4 * capacity);
    all.extend(counts.chunks_exact(4).map(|count| f64::from(u32::from_le_bytes(count.try_into().unwrap()))));
    all.extend(marks.bytes(capacity).iter().map(|&mark| f64::from(mark)));
    all
}
