//! Every operator against PyTorch's own results through real kernels: a layer of two seeds and a tail, on the CPU
//! device, in f32 and in f64.
//!
//! Tolerances, relative to 1 + the size of the element: 1e-12 in f64; 1e-5 in f32 against PyTorch's f32 results, which
//! is a few dozen roundings.

use super::golden::{Case, Golden, golden, near};
use kasmina::compile::{Pass, codegen, kernel_class};
use kasmina::device::{self, Address, Bank, Buffer, Device, Launch, Rows, Stream};
use kasmina::graph::DataType;
use std::sync::Arc;

/// The seed with the blueprint, after one without; and channels after both.
const SEED: usize = 1;
const SEEDS: usize = 2;
const TAIL: usize = 3;
/// What stands in the channels that no blueprint touches.
const OTHER: f64 = 0.5;

#[test]
fn every_operator_runs_as_pytorch_does_in_f64() {
    let Golden { rows, cases } = golden();
    for case in cases {
        check(&case, &case.f64, rows, DataType::F64, 1e-12);
    }
}

#[test]
fn every_operator_runs_as_pytorch_does_in_f32() {
    let Golden { rows, cases } = golden();
    for case in cases {
        check(&case, &case.f32, rows, DataType::F32, 1e-5);
    }
}

#[track_caller]
fn check(case: &Case, expected: &super::golden::Results, rows: usize, data_type: DataType, tolerance: f64) {
    let blueprint = case.blueprint();
    let hidden = SEEDS * blueprint.chunk + TAIL;
    let memory = Memory { device: device::cpu::device(), double: data_type == DataType::F64 };
    let x = memory.rows(&case.x, rows, blueprint.chunk);
    let output_gradient = memory.rows(&case.dy, rows, blueprint.chunk);
    let (y, dx) = (memory.zeros(rows * hidden), memory.zeros(rows * hidden));
    // Slot 1 of 2 is the seed's.
    let size = blueprint.parameter_count();
    let parameters = memory.numbers([vec![OTHER; size], case.parameters.clone()].concat());
    let gradient = memory.zeros(2 * size);
    let states = [
        memory.bytes(&[0i8, 6]),
        memory.bytes(&[-1i32, 0]),
        memory.bytes(&[-1i32, 1]),
        memory.bytes(&[0f32, 1.0]),
        memory.bytes(&[0i32]),
    ];
    let bank = Bank { parameters: parameters.address(), gradient: gradient.address(), capacity: 2, size };
    let tensor = |buffer: &Buffer| Rows::spaced(buffer.address(), hidden);
    let launch = |pass, output: &Buffer| {
        let class = kernel_class(pass, data_type, false, &[&blueprint]).unwrap();
        let kernel = memory.device.load(&class, &codegen::cpu::compile(&class).unwrap()).unwrap();
        let bank = Bank { gradient: if pass == Pass::Forward { Address::NULL } else { bank.gradient }, ..bank };
        let launch = Launch {
            rows,
            hidden,
            seeds: SEEDS,
            x: tensor(&x),
            output_gradient: if pass == Pass::Forward { Rows::default() } else { tensor(&output_gradient) },
            output: tensor(output),
            lifecycle: states[0].address(),
            blueprint: states[1].address(),
            slot: states[2].address(),
            alpha: states[3].address(),
            branch: states[4].address(),
            blueprints: 1,
            banks: &[bank],
            ..Launch::default()
        };
        memory.device.launch(&kernel, &launch, Stream::default()).unwrap();
    };
    launch(Pass::Forward, &y);
    launch(Pass::Backward, &dx);

    let name = &blueprint.name;
    let (y, others) = memory.seed(&y, rows, blueprint.chunk);
    near(&y, &expected.y, tolerance, &format!("{name}, f(x)"));
    assert!(others.iter().all(|&other| other == OTHER), "{name} wrote into channels that are not its own");
    let (dx, others) = memory.seed(&dx, rows, blueprint.chunk);
    near(&dx, &expected.dx, tolerance, &format!("{name}, the gradient of x"));
    assert!(others.iter().all(|&other| other == OTHER), "{name} wrote into gradients that are not its own");
    let gradient = memory.download(&gradient);
    near(&gradient[size..], &expected.dp, tolerance, &format!("{name}, the parameters"));
    assert!(gradient[..size].iter().all(|&other| other == 0.0), "{name} wrote into a slot that is not its own");
}

/// Numbers on the device, as f64 or f32.
struct Memory {
    device: Arc<dyn Device>,
    double: bool,
}

impl Memory {
    fn bytes<T: bytemuck::NoUninit>(&self, values: &[T]) -> Buffer {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let buffer = Buffer::new(&self.device, bytes.len().max(1)).unwrap();
        self.device.upload(buffer.address(), bytes, Stream::default()).unwrap();
        buffer
    }

    fn numbers(&self, numbers: Vec<f64>) -> Buffer {
        if self.double { self.bytes(&numbers) } else { self.bytes(&single(&numbers)) }
    }

    fn zeros(&self, count: usize) -> Buffer {
        self.numbers(vec![0.0; count])
    }

    /// A row tensor with these numbers in the seed's chunk.
    fn rows(&self, chunks: &[f64], rows: usize, chunk: usize) -> Buffer {
        let hidden = SEEDS * chunk + TAIL;
        let mut tensor = vec![OTHER; rows * hidden];
        for (row, numbers) in tensor.chunks_mut(hidden).zip(chunks.chunks(chunk)) {
            row[SEED * chunk..][..chunk].copy_from_slice(numbers);
        }
        self.numbers(tensor)
    }

    fn download(&self, buffer: &Buffer) -> Vec<f64> {
        let mut bytes = vec![0u8; buffer.bytes()];
        self.device.download(&mut bytes, buffer.address(), Stream::default()).unwrap();
        match self.double {
            true => bytes.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect(),
            false => bytes.chunks_exact(4).map(|four| bytemuck::pod_read_unaligned::<f32>(four).into()).collect(),
        }
    }

    /// The seed's chunks of a row tensor, and everything else.
    fn seed(&self, tensor: &Buffer, rows: usize, chunk: usize) -> (Vec<f64>, Vec<f64>) {
        let hidden = SEEDS * chunk + TAIL;
        let own = |channel: &usize| (SEED * chunk..(SEED + 1) * chunk).contains(channel);
        let numbers = self.download(tensor);
        let of = |mine| (0..rows * hidden).filter(|at| own(&(at % hidden)) == mine).map(|at| numbers[at]).collect();
        (of(true), of(false))
    }
}

fn single(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|&number| number as f32).collect()
}
