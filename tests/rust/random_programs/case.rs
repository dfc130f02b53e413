//! One random launch: what goes in, and how it is run.

use crate::random::{Random, program};
use half::{bf16, f16};
use kasmina::compile::{
    Architecture, Destination, KernelClass, Pass, Program, Schedule, alternatives, codegen, tiling,
};
use kasmina::device::{self, Address, Buffer, Device, Launch, Rows, Stream};
use kasmina::graph::DataType;
use std::sync::Arc;

const STREAM: Stream = Stream(0);

/// The part of the key that is given by value.
const KEY_OFFSET: u64 = 0x1_0000_0001;

/// A row tensor: numbers that the type can hold, gaps between the rows included, and how far from the allocation's
/// beginning the first one lies.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub numbers: Vec<f64>,
    /// How the rows lie among them; its address is null.
    pub layout: Rows,
    pub offset: usize,
}

impl Tensor {
    /// Where among the numbers a row's channel is.
    pub fn place(&self, row: usize, channel: usize) -> usize {
        self.layout.offset(row) + channel * self.layout.channel_stride
    }
}

/// One of the layouts that rows can have.
/// The program of seeds whose parameters are frozen.
fn without_gradients(program: &Program) -> Program {
    let mut frozen = program.clone();
    frozen.outputs.retain(|output| !matches!(output.target, Destination::ParameterGradient(_)));
    frozen
}

fn layout(random: &mut Random, hidden: usize) -> Rows {
    let stride = hidden + random.pick(&[0, 0, 1, 5, 8]);
    let even = Rows::spaced(Address::NULL, stride);
    let group = random.pick(&[1, 3, 16, 40, 49]);
    match random.below(8) {
        0 => Rows { group, group_stride: group * stride + random.below(3), ..even },
        1 | 2 => Rows { channel_stride: group, stride: 1, group, group_stride: group * stride, ..even },
        3 => Rows { channel_stride: 2, ..Rows::spaced(Address::NULL, 2 * stride) },
        _ => even,
    }
}

#[derive(Clone, Debug)]
pub struct Bank {
    pub capacity: usize,
    pub size: usize,
    pub parameters: Vec<f64>,
    pub gradient: Vec<f64>,
}

/// Where the output goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    Own,
    OfX,
    OfOutputGradient,
}

#[derive(Debug)]
pub struct Case {
    pub class: KernelClass,
    pub rows: usize,
    pub hidden: usize,
    pub seeds: usize,
    pub x: Tensor,
    pub output_gradient: Tensor,
    pub target: Tensor,
    pub output: Tensor,
    pub place: Place,
    pub lifecycle: Vec<i8>,
    pub blueprint: Vec<i32>,
    pub slot: Vec<i32>,
    pub alpha: Vec<f32>,
    pub branch: Vec<i32>,
    pub banks: Vec<Bank>,
    pub telemetry: Option<Vec<f64>>,
    pub alpha_gradient: Option<Vec<f32>>,
    pub loss: Vec<f64>,
    pub loss_scale: f64,
    /// The key of random numbers, of which the launch is given two parts.
    pub random: Option<u64>,
}

/// What a launch left behind.
pub struct Found {
    pub output: Vec<u8>,
    pub gradients: Vec<Vec<f64>>,
    pub telemetry: Vec<f64>,
    pub alpha_gradient: Vec<f32>,
    pub loss: Vec<f64>,
}

impl Case {
    pub fn new(random: &mut Random, pass: Pass, data_type: DataType, architecture: Architecture) -> Case {
        let chunk = random.pick(&[1, 2, 3, 4, 7, 8, 12, 16, 17, 32, 40]);
        let seeds = random.between(1, 5);
        let hidden = seeds * chunk + random.pick(&[0, 0, 1, 3]);
        let rows = random.pick(&[0, 1, 2, 5, 7, 8, 9, 16, 17, 31, 32, 33, 40, 65, 130]);
        let wild = data_type == DataType::F64;
        let sizes: Vec<usize> = (0..random.between(0, 3)).map(|_| random.pick(&[0, 1, 5, 16, 64, 300])).collect();
        let trained: Vec<Program> = sizes.iter().map(|size| program(random, pass, chunk, *size, wild)).collect();
        let frozen = if pass == Pass::Backward { trained.iter().map(without_gradients).collect() } else { vec![] };
        let schedule = random.pick(&[Schedule::Best, Schedule::Best, Schedule::Generic]);
        let mut class = KernelClass { pass, schedule, data_type, tf32: false, chunk, programs: trained, frozen };
        if random.once_in(3) {
            let tilings = alternatives(&class, architecture, tiling(&class, architecture).unwrap()).concat();
            class.schedule = Schedule::Tuned(random.pick(&tilings));
        }

        let mut tensor = |poisoned: bool| {
            let layout = layout(random, hidden);
            let extent = layout.extent(rows, hidden).unwrap_or(0);
            let mut number = || match random.below(if poisoned { 400 } else { usize::MAX }) {
                0 => f64::NAN,
                1 => f64::INFINITY,
                2 => f64::NEG_INFINITY,
                3..10 => 0.0,
                10..14 => -0.0,
                _ => 2.0 * random.number(),
            };
            let numbers: Vec<f64> = (0..extent + 4).map(|_| number()).collect();
            let numbers = decode(data_type, &encode(data_type, &numbers));
            Tensor { numbers, layout, offset: random.pick(&[0, 0, 1, 3]) }
        };
        let (x, output_gradient, target, output) = (tensor(true), tensor(true), tensor(true), tensor(false));
        let branch: Vec<i32> = (0..class.programs.len() as i32).chain([-1]).collect();
        let shift = random.below(4);
        let mut lifecycles = [0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 10, -1, 11].to_vec();
        if pass == Pass::Train {
            lifecycles.extend([2; 12]);
        }
        let bank = |size: &usize| {
            let capacity = seeds + random.below(3);
            let mut numbers = || -> Vec<f64> {
                let numbers: Vec<f64> = (0..capacity * size).map(|_| random.number()).collect();
                decode(data_type.compute(), &encode(data_type.compute(), &numbers))
            };
            Bank { capacity, size: *size, parameters: numbers(), gradient: numbers() }
        };
        let banks = sizes.iter().map(bank).collect();
        let place = match pass {
            Pass::Forward if random.once_in(5) => Place::OfX,
            Pass::Backward if random.once_in(5) => random.pick(&[Place::OfX, Place::OfOutputGradient]),
            _ => Place::Own,
        };
        let mut some = |times: usize| !random.once_in(times);
        let row = [3.0, 0.5, 2.25, -0.125, 0.75, 1.0, -0.5, 2.0, 1.5, 4.0];
        let telemetry = some(4).then(|| row.repeat(seeds));
        let alpha_gradient = some(4).then(|| vec![0.5; seeds]);
        Case {
            class,
            rows,
            hidden,
            seeds,
            x,
            output_gradient,
            target,
            output,
            place,
            lifecycle: (0..seeds).map(|_| random.pick(&lifecycles)).collect(),
            blueprint: (0..seeds).map(|_| random.below(branch.len() + 1) as i32 - 1).collect(),
            slot: (0..seeds).map(|seed| ((seed + shift) % seeds) as i32).collect(),
            alpha: (0..seeds).map(|_| random.pick(&[0.0, 1.0, 0.25, 0.75, -0.5, 1.5])).collect(),
            branch,
            banks,
            telemetry,
            alpha_gradient,
            loss: [0.25, 2.0].repeat(seeds),
            loss_scale: 0.125,
            random: (!random.once_in(4)).then(|| random.next()),
        }
    }

    /// Compiles, loads and launches.
    pub fn run(&self, device: &Arc<dyn Device>) -> Found {
        let data_type = self.class.data_type;
        let machine_code = match device.architecture() {
            Architecture::Cpu => codegen::cpu::compile(&self.class),
            architecture => codegen::cuda::compile(&self.class, architecture),
        };
        let kernel = device.load(&self.class, &machine_code.unwrap()).unwrap();
        let buffer = |bytes: &[u8]| {
            let buffer = Buffer::new(device, bytes.len().max(1)).unwrap();
            device.upload(buffer.address(), bytes, STREAM).unwrap();
            buffer
        };
        let tensor = |tensor: &Tensor| {
            let numbers = [vec![0.0; tensor.offset], tensor.numbers.clone()].concat();
            let buffer = buffer(&encode(data_type, &numbers));
            let address = buffer.address().offset(tensor.offset * data_type.bytes());
            let rows = Rows { address, ..tensor.layout };
            (buffer, rows)
        };
        let compute = data_type.compute();
        let numbers = |numbers: &[f64]| buffer(&encode(compute, numbers));
        let integers = |numbers: &[i32]| buffer(bytemuck::cast_slice(numbers));
        let (_x, x) = tensor(&self.x);
        let (_output_gradient, output_gradient) = tensor(&self.output_gradient);
        let (_target, target) = tensor(&self.target);
        let (_output, output) = tensor(&self.output);
        let output = match self.place {
            Place::Own => output,
            Place::OfX => x,
            Place::OfOutputGradient => output_gradient,
        };
        let (lifecycle, blueprint) = (buffer(bytemuck::cast_slice(&self.lifecycle)), integers(&self.blueprint));
        let (slot, branch) = (integers(&self.slot), integers(&self.branch));
        let alpha = buffer(bytemuck::cast_slice(&self.alpha));
        let parameters: Vec<Buffer> = self.banks.iter().map(|bank| numbers(&bank.parameters)).collect();
        let gradients: Vec<Buffer> = self.banks.iter().map(|bank| numbers(&bank.gradient)).collect();
        let forward = self.class.pass == Pass::Forward;
        let banks: Vec<device::Bank> = (0..self.banks.len())
            .map(|bank| device::Bank {
                parameters: parameters[bank].address(),
                gradient: if forward { Address::NULL } else { gradients[bank].address() },
                capacity: self.banks[bank].capacity,
                size: self.banks[bank].size,
            })
            .collect();
        let optional = |bytes: Option<&[u8]>| bytes.map(buffer);
        let telemetry = optional(self.telemetry.as_deref().map(bytemuck::cast_slice));
        let alpha_gradient = optional(self.alpha_gradient.as_deref().map(bytemuck::cast_slice));
        let loss = buffer(bytemuck::cast_slice(&self.loss));
        let random = self.random.map(|key| buffer(&key.wrapping_sub(KEY_OFFSET).to_ne_bytes()));
        let address = |buffer: &Option<Buffer>| buffer.as_ref().map_or(Address::NULL, Buffer::address);
        let train = self.class.pass == Pass::Train;
        let launch = Launch {
            rows: self.rows,
            hidden: self.hidden,
            seeds: self.seeds,
            x,
            output_gradient: if self.class.pass == Pass::Backward { output_gradient } else { Rows::default() },
            target: if train { target } else { Rows::default() },
            output: if train { Rows::default() } else { output },
            lifecycle: lifecycle.address(),
            blueprint: blueprint.address(),
            slot: slot.address(),
            alpha: alpha.address(),
            branch: branch.address(),
            blueprints: self.branch.len(),
            banks: &banks,
            telemetry: address(&telemetry),
            alpha_gradient: address(&alpha_gradient),
            loss: if train { loss.address() } else { Address::NULL },
            loss_scale: self.loss_scale,
            random: address(&random),
            random_offset: KEY_OFFSET,
            order: Address::NULL,
            busy: 0,
            deterministic: true,
        };
        device.launch(&kernel, &launch, STREAM).unwrap();
        let bytes = |buffer: &Buffer, length: usize| {
            let mut bytes = vec![0; length];
            device.download(&mut bytes, buffer.address(), STREAM).unwrap();
            bytes
        };
        let mut whole = vec![0; self.output().numbers.len() * data_type.bytes()];
        device.download(&mut whole, output.address, STREAM).unwrap();
        let gradient =
            |(bank, buffer): (&Bank, &Buffer)| decode(compute, &bytes(buffer, bank.gradient.len() * compute.bytes()));
        Found {
            output: whole,
            gradients: self.banks.iter().zip(&gradients).map(gradient).collect(),
            telemetry: telemetry.map_or(vec![], |buffer| doubles(&bytes(&buffer, self.seeds * 80))),
            alpha_gradient: alpha_gradient.map_or(vec![], |buffer| {
                bytes(&buffer, self.seeds * 4)
                    .chunks_exact(4)
                    .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
                    .collect()
            }),
            loss: doubles(&bytes(&loss, self.seeds * 16)),
        }
    }

    /// The tensor whose memory is written.
    pub fn output(&self) -> &Tensor {
        match self.place {
            Place::Own => &self.output,
            Place::OfX => &self.x,
            Place::OfOutputGradient => &self.output_gradient,
        }
    }

    /// The program a seed runs, and which branch that is.
    pub fn program(&self, seed: usize) -> Option<(&Program, usize)> {
        let state = self.lifecycle[seed];
        let (applies, trains) = (matches!(state, 3..=7), matches!(state, 3 | 6));
        let programs = match self.class.pass {
            Pass::Forward if applies => &self.class.programs,
            Pass::Backward if applies && trains => &self.class.programs,
            Pass::Backward if applies => &self.class.frozen,
            Pass::Train if state == 2 => &self.class.programs,
            _ => return None,
        };
        let branch = *self.branch.get(usize::try_from(self.blueprint[seed]).ok()?)?;
        let branch = usize::try_from(branch).ok()?;
        Some((&programs[branch], branch))
    }

    pub fn chunk(&self, tensor: &Tensor, row: usize, channel: usize, channels: usize) -> Vec<f64> {
        (channel..channel + channels).map(|channel| tensor.numbers[tensor.place(row, channel)]).collect()
    }
}

impl Found {
    /// Whether two launches left the same bits; NaN is itself.
    pub fn same(&self, other: &Found) -> bool {
        let bits = |found: &Found| -> Vec<u64> {
            let doubles = found.gradients.iter().flatten().chain(&found.telemetry).chain(&found.loss);
            let alphas = found.alpha_gradient.iter().map(|number| u64::from(number.to_bits()));
            doubles.map(|number| number.to_bits()).chain(alphas).collect()
        };
        self.output == other.output && bits(self) == bits(other)
    }
}

fn doubles(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(8).map(|eight| f64::from_le_bytes(eight.try_into().unwrap())).collect()
}

/// Numbers as the bytes of a type.
pub fn encode(data_type: DataType, numbers: &[f64]) -> Vec<u8> {
    let encode = |number: &f64| match data_type {
        DataType::F64 => number.to_le_bytes().to_vec(),
        DataType::F16 => f16::from_f64(*number).to_le_bytes().to_vec(),
        DataType::BF16 => bf16::from_f64(*number).to_le_bytes().to_vec(),
        _ => (*number as f32).to_le_bytes().to_vec(),
    };
    numbers.iter().flat_map(encode).collect()
}

/// The numbers that bytes of a type stand for.
pub fn decode(data_type: DataType, bytes: &[u8]) -> Vec<f64> {
    let decode = |bytes: &[u8]| match data_type {
        DataType::F64 => f64::from_le_bytes(bytes.try_into().unwrap()),
        DataType::F16 => f16::from_le_bytes(bytes.try_into().unwrap()).to_f64(),
        DataType::BF16 => bf16::from_le_bytes(bytes.try_into().unwrap()).to_f64(),
        _ => f64::from(f32::from_le_bytes(bytes.try_into().unwrap())),
    };
    bytes.chunks_exact(data_type.bytes()).map(decode).collect()
}
