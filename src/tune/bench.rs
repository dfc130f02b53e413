//! What kernels are timed on: launches as a layer makes them, on fresh rows, with nothing of them left in the caches.

use crate::compile::{KernelClass, Pass};
use crate::device::{Address, Bank, Buffer, Device, DeviceKind, Kernel, Launch, Rows, Stream, telemetry};
use crate::graph::Blueprint;
use crate::lifecycle::Lifecycle;
use crate::validate::{Numbers, encode};
use crate::{Result, fail};
use std::sync::Arc;

/// Sets of rows that launches take in turn.
const SETS: usize = 2;
/// Written before each launch that is timed: more than the caches hold that one launch shares.
const FLUSHED_BYTES: usize = 192 << 20;
/// The same on the CPU, where writing takes long.
const FLUSHED_BYTES_OF_CPU: usize = 96 << 20;
/// Rows are made of this many numbers again and again.
const PATTERN: usize = 1 << 16;

/// What a kernel is to be good at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Rows of the tensors.
    pub rows: usize,
    /// Seeds of the layer.
    pub seeds: usize,
    /// Seeds that run a blueprint; they are spread evenly, and take the blueprints in turn.
    pub running: usize,
}

/// Everything a launch needs, on the device.
pub(super) struct Bench<'a> {
    device: &'a Arc<dyn Device>,
    class: &'a KernelClass,
    work: Work,
    /// x, the gradient of the output or the target, and what is written.
    sets: Vec<[Buffer; 3]>,
    arrays: Arrays,
    banks: Vec<Bank>,
    flushed: Buffer,
    /// Keeps the banks alive.
    _slots: Vec<Buffer>,
}

/// The arrays by seed.
struct Arrays {
    lifecycle: Buffer,
    blueprint: Buffer,
    slot: Buffer,
    alpha: Buffer,
    branch: Buffer,
    order: Buffer,
    telemetry: Buffer,
    alpha_gradient: Buffer,
    loss: Buffer,
    random: Buffer,
}

impl<'a> Bench<'a> {
    /// # Errors
    ///
    /// `InvalidArgument` for work that is none, `OutOfMemory`, and what the device cannot do.
    pub fn new(
        device: &'a Arc<dyn Device>,
        class: &'a KernelClass,
        blueprints: &[&Blueprint],
        work: Work,
    ) -> Result<Bench<'a>> {
        let Work { rows, seeds, running } = work;
        if rows == 0 || seeds == 0 || running > seeds {
            fail!(InvalidArgument, "{rows} rows and {running} running seeds of {seeds} cannot be timed");
        }
        let elements = seeds.checked_mul(class.chunk).and_then(|hidden| hidden.checked_mul(rows));
        let Some(bytes) = elements.and_then(|elements| elements.checked_mul(class.data_type.bytes())) else {
            fail!(InvalidArgument, "{rows} rows of {seeds} chunks of {} channels are no tensor", class.chunk);
        };
        let mut numbers = Numbers::new(3);
        let pattern = encode(class.data_type, &numbers.take(PATTERN));
        let tensor = |filled: bool| -> Result<Buffer> {
            let buffer = Buffer::new(device, bytes)?;
            for first in (0..bytes).step_by(pattern.len()).take_while(|_| filled) {
                let part = &pattern[..pattern.len().min(bytes - first)];
                device.upload(buffer.address().offset(first), part, STREAM)?;
            }
            Ok(buffer)
        };
        let sets = (0..SETS).map(|_| Ok([tensor(true)?, tensor(true)?, tensor(false)?])).collect::<Result<_>>()?;
        let mut banks = Vec::new();
        let mut slots = Vec::new();
        let compute = class.data_type.compute();
        let capacity = running.div_ceil(blueprints.len().max(1)).max(1);
        for blueprint in blueprints {
            let own: Vec<f64> = (0..capacity).flat_map(|_| numbers.slot(blueprint)).collect();
            let parameters = upload(device, &encode(compute, &own))?;
            let gradient = Buffer::new(device, parameters.bytes())?;
            let kept = if class.pass == Pass::Forward { Address::NULL } else { gradient.address() };
            let size = own.len() / capacity;
            banks.push(Bank { parameters: parameters.address(), gradient: kept, capacity, size });
            slots.extend([parameters, gradient]);
        }
        let arrays = Arrays::new(device, class, work, blueprints.len())?;
        let is_cpu = device.kind() == DeviceKind::Cpu;
        let flushed = Buffer::new(device, if is_cpu { FLUSHED_BYTES_OF_CPU } else { FLUSHED_BYTES })?;
        Ok(Bench { device, class, work, sets, arrays, banks, flushed, _slots: slots })
    }

    /// Seconds that one launch of a kernel takes; another number takes other rows.
    pub fn time(&self, kernel: &Kernel, number: usize) -> Result<f64> {
        let [x, other, output] = &self.sets[number % SETS];
        let (pass, Work { rows, seeds, running }) = (self.class.pass, self.work);
        let hidden = seeds * self.class.chunk;
        let tensor = |buffer: &Buffer| Rows::spaced(buffer.address(), hidden);
        let only = |when: bool, buffer: &Buffer| if when { tensor(buffer) } else { Rows::default() };
        let arrays = &self.arrays;
        let launch = Launch {
            rows,
            hidden,
            seeds,
            x: tensor(x),
            output_gradient: only(pass == Pass::Backward, other),
            target: only(pass == Pass::Train, other),
            output: only(pass != Pass::Train, output),
            lifecycle: arrays.lifecycle.address(),
            blueprint: arrays.blueprint.address(),
            slot: arrays.slot.address(),
            alpha: arrays.alpha.address(),
            branch: arrays.branch.address(),
            blueprints: self.banks.len(),
            banks: &self.banks,
            telemetry: arrays.telemetry.address(),
            alpha_gradient: arrays.alpha_gradient.address(),
            loss: if pass == Pass::Train { arrays.loss.address() } else { Address::NULL },
            loss_scale: 1.0,
            random: arrays.random.address(),
            random_offset: number as u64,
            order: arrays.order.address(),
            busy: running,
            deterministic: false,
        };
        self.device.zero(self.flushed.address(), self.flushed.bytes(), STREAM)?;
        self.device.time(STREAM, &mut || self.device.launch(kernel, &launch, STREAM))
    }
}

/// The stream that kernels are timed on.
pub(super) const STREAM: Stream = Stream(0);

impl Arrays {
    fn new(device: &Arc<dyn Device>, class: &KernelClass, work: Work, blueprints: usize) -> Result<Arrays> {
        let Work { seeds, running, .. } = work;
        let running = if blueprints == 0 { 0 } else { running };
        // The n-th of those that run, if it is one.
        let place = |seed: usize| {
            let before = |seed: usize| seed * running / seeds;
            (before(seed + 1) > before(seed)).then(|| before(seed))
        };
        let state = if class.pass == Pass::Train { Lifecycle::Training } else { Lifecycle::Grafting };
        let places: Vec<Option<usize>> = (0..seeds).map(place).collect();
        let lifecycle: Vec<u8> = places.iter().map(|place| place.map_or(Lifecycle::Dormant, |_| state) as u8).collect();
        let numbers = |number: &dyn Fn(usize) -> usize| -> Vec<u8> {
            let number = |place: &Option<usize>| place.map_or(-1, |place| number(place) as i32);
            places.iter().flat_map(|place| number(place).to_le_bytes()).collect()
        };
        // As layers have them: seeds that train come last, others that run first.
        let is_last = class.pass == Pass::Train;
        let (last, first): (Vec<usize>, Vec<usize>) = (0..seeds).partition(|seed| places[*seed].is_some() == is_last);
        let order: Vec<u8> = first.iter().chain(&last).flat_map(|seed| (*seed as u32).to_le_bytes()).collect();
        let branch: Vec<u8> = (0..blueprints.max(1) as i32).flat_map(i32::to_le_bytes).collect();
        Ok(Arrays {
            lifecycle: upload(device, &lifecycle)?,
            blueprint: upload(device, &numbers(&|place| place % blueprints))?,
            slot: upload(device, &numbers(&|place| place / blueprints))?,
            alpha: upload(device, &0.5f32.to_le_bytes().repeat(seeds))?,
            branch: upload(device, &branch)?,
            order: upload(device, &order)?,
            telemetry: Buffer::new(device, seeds * telemetry::COLUMNS * 8)?,
            alpha_gradient: Buffer::new(device, seeds * 4)?,
            loss: Buffer::new(device, seeds * 16)?,
            random: upload(device, &1u64.to_le_bytes())?,
        })
    }
}

fn upload(device: &Arc<dyn Device>, bytes: &[u8]) -> Result<Buffer> {
    let buffer = Buffer::new(device, bytes.len())?;
    device.upload(buffer.address(), bytes, STREAM)?;
    Ok(buffer)
}
