//! The parameters, moments and step counts of all seeds that have one blueprint: a bank of slots.
//!
//! A slot belongs to a seed from its germination to its reset. This file must know no lifecycle: who may have a slot,
//! and in which mode it is, is decided elsewhere.

use super::BankArrays;
use super::state::Placed;
use crate::device::{Adamw, Address, Buffer, Device, Readable, Reading, Stream};
use crate::graph::{Blueprint, DataType, Initializer};
use crate::{Result, fail};
use std::sync::Arc;

/// Bytes of fresh parameters that are put together on the host before they are uploaded.
const UPLOAD_BYTES: usize = 16 << 20;

/// Where each array of a bank may begin: what `Device::allocate` gives.
const ALIGNMENT: usize = 256;

/// What an optimiser step does to a slot.
pub(super) mod mode {
    /// Nothing: the seed is frozen or the slot is free.
    pub const FROZEN: u8 = 0;
    /// The seed trains on the main loss.
    pub const MAIN: u8 = 1;
    /// The seed trains in isolation.
    pub const ISOLATED: u8 = 2;
}

/// Numbers of an AdamW step, as in [`Adamw`].
#[derive(Clone, Copy)]
pub(super) struct AdamwRates {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
}

impl AdamwRates {
    /// Refuses numbers that mean nothing.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [("learning_rate", self.learning_rate), ("weight_decay", self.weight_decay)] {
            if !value.is_finite() {
                fail!(InvalidArgument, "{name} is {value}; it must be a finite number");
            }
        }
        if !(self.epsilon.is_finite() && self.epsilon >= 0.0) {
            fail!(InvalidArgument, "epsilon is {}; it must be a number not below 0", self.epsilon);
        }
        for (name, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                fail!(InvalidArgument, "{name} is {value}; it must be in [0, 1)");
            }
        }
        Ok(())
    }
}

/// The bank of one blueprint.
pub(super) struct Bank {
    /// What its slots are parameters of.
    pub blueprint: Arc<Blueprint>,
    /// All that lasts from one step to the next, in one piece, so that a snapshot is one copy; the arrays are its parts.
    pub memory: Buffer,
    /// Arrays that are shared with the host.
    pub arrays: BankArrays,
    /// Two of them, to be read.
    pub mode: Readable,
    pub non_finite: Readable,
    /// `[capacity, size]`, the gradient of isolated training; zeroed before each step.
    pub gradient: Buffer,
    /// The modes as the device has them. Shared with snapshots.
    pub modes: Arc<Vec<u8>>,
    parameter_type: DataType,
}

impl Bank {
    /// A bank of free slots.
    ///
    /// # Errors
    ///
    /// `InvalidBlueprint` if a parameter cannot start finite in this type; `CapacityExceeded`, `OutOfMemory`.
    pub fn new(
        blueprint: Arc<Blueprint>,
        capacity: u32,
        parameter_type: DataType,
        device: &Arc<dyn Device>,
    ) -> Result<Bank> {
        check_initial_values(&blueprint, parameter_type)?;
        let size = blueprint.parameter_count();
        let slots = capacity as usize;
        // Eight times that are the moments and whatever comes to each slot.
        let bytes = slots.checked_mul(size).and_then(|elements| elements.checked_mul(parameter_type.bytes()));
        let Some(bytes) = bytes.filter(|bytes| bytes.checked_mul(8).is_some()) else {
            fail!(
                CapacityExceeded,
                "{capacity} slots of {size} parameters for blueprint '{}' are more than fit into memory",
                blueprint.name
            );
        };
        let buffer = |bytes| {
            Buffer::new(device, bytes)
                .map_err(|error| error.context(format!("bank of {capacity} slots for blueprint '{}'", blueprint.name)))
        };
        let lengths = [bytes, bytes, bytes, slots * 4, slots, slots];
        let memory = buffer(lengths.map(|length| length.next_multiple_of(ALIGNMENT)).iter().sum())?;
        let mut end = 0;
        let mut part = |length: usize| {
            let offset = end;
            end += length.next_multiple_of(ALIGNMENT);
            memory.part(offset, length)
        };
        let arrays = BankArrays {
            parameters: part(bytes)?,
            first_moment: part(bytes)?,
            second_moment: part(bytes)?,
            steps: part(slots * 4)?,
            mode: part(slots)?,
            non_finite: part(slots)?,
            capacity: slots,
            size,
        };
        Ok(Bank {
            mode: Readable::new(arrays.mode.clone())?,
            non_finite: Readable::new(arrays.non_finite.clone())?,
            gradient: buffer(bytes)?,
            modes: Arc::new(vec![mode::FROZEN; slots]),
            memory,
            arrays,
            parameter_type,
            blueprint,
        })
    }

    /// Gives slots fresh parameters, each from the random seed of the seed that has it now, which is asked for only where a parameter
    /// starts at random, and forgets their moments and steps.
    ///
    /// Slots that lie one after the other are written together, so a thousand germinations are a handful of copies.
    pub fn initialize(&self, placed: &[Placed], random_seed: impl Fn(u32) -> u64, stream: Stream) -> Result<()> {
        let (device, arrays, slot_bytes) = (self.device(), &self.arrays, self.slot_bytes());
        let alike = self.blueprint.starts_alike().then(|| self.encoded(0));
        let at_once = (UPLOAD_BYTES / slot_bytes.max(1)).max(1);
        for run in placed.chunk_by(|left, right| left.slot + left.seeds.len() as u32 == right.slot) {
            let (first, slots) = (run[0].slot as usize, run.iter().map(|placed| placed.seeds.len()).sum::<usize>());
            let (start, bytes) = (first * slot_bytes, slots * slot_bytes);
            let mut parameters = arrays.parameters.address().offset(start);
            match &alike {
                Some(alike) => device.repeat(parameters, alike, slots, stream)?,
                None => {
                    let seeds: Vec<u32> = run.iter().flat_map(|placed| placed.seeds.clone()).collect();
                    for seeds in seeds.chunks(at_once) {
                        let fresh: Vec<u8> = seeds.iter().flat_map(|seed| self.encoded(random_seed(*seed))).collect();
                        device.upload(parameters, &fresh, stream)?;
                        parameters = parameters.offset(fresh.len());
                    }
                }
            }
            device.zero(arrays.first_moment.address().offset(start), bytes, stream)?;
            device.zero(arrays.second_moment.address().offset(start), bytes, stream)?;
            device.zero(arrays.steps.address().offset(first * 4), slots * 4, stream)?;
        }
        Ok(())
    }

    /// Changes the modes of all slots.
    pub fn set_modes(&mut self, modes: Vec<u8>, stream: Stream) -> Result<()> {
        if modes != *self.modes {
            self.device().upload(self.arrays.mode.address(), &modes, stream)?;
            self.modes = Arc::new(modes);
        }
        Ok(())
    }

    /// For each slot, whether a gradient was not finite since the last call, as was read; empty if none was.
    pub fn take_non_finite(&mut self, read: Reading, stream: Stream) -> Result<Vec<u8>> {
        let read = read.wait()?;
        let mut marks = Vec::new();
        // Without a branch for each, so that many are looked at at once.
        if read.iter().fold(0, |any, mark| any | mark) != 0 {
            self.device().zero(self.arrays.non_finite.address(), read.len(), stream)?;
            marks.extend_from_slice(&read);
        }
        self.non_finite.give_back(read);
        Ok(marks)
    }

    /// The bank as a launch sees it, with these parameters and this gradient.
    pub fn view(&self, parameters: Address, gradient: Address) -> crate::device::Bank {
        crate::device::Bank { parameters, gradient, capacity: self.arrays.capacity, size: self.arrays.size }
    }

    /// A step of AdamW on the slots in one mode.
    pub fn adamw(
        &self,
        parameters: Address,
        gradient: Address,
        updated: u8,
        rates: AdamwRates,
        stream: Stream,
    ) -> Result<()> {
        if self.arrays.size == 0 {
            return Ok(());
        }
        let update = Adamw {
            double: self.parameter_type == DataType::F64,
            parameters,
            gradient,
            first_moment: self.arrays.first_moment.address(),
            second_moment: self.arrays.second_moment.address(),
            steps: self.arrays.steps.address(),
            mode: self.arrays.mode.address(),
            updated,
            non_finite: self.arrays.non_finite.address(),
            capacity: self.arrays.capacity,
            size: self.arrays.size,
            learning_rate: rates.learning_rate,
            beta1: rates.beta1,
            beta2: rates.beta2,
            epsilon: rates.epsilon,
            weight_decay: rates.weight_decay,
        };
        self.device().adamw(&update, stream)
    }

    /// Bytes of device memory that a slot takes: its parameters, their gradient, its moments, steps, mode and mark.
    pub fn bytes_of_a_slot(&self) -> u64 {
        (4 * self.slot_bytes() + 6) as u64
    }

    /// Bytes of one slot's parameters.
    fn slot_bytes(&self) -> usize {
        self.arrays.size * self.parameter_type.bytes()
    }

    fn device(&self) -> &Arc<dyn Device> {
        self.gradient.device()
    }

    /// The parameters of a fresh slot.
    fn encoded(&self, random_seed: u64) -> Vec<u8> {
        let values = self.blueprint.initialize(random_seed);
        match self.parameter_type {
            DataType::F64 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect(),
        }
    }
}

/// Refuses a blueprint of which some random seed could give a parameter that is not finite in this type.
fn check_initial_values(blueprint: &Blueprint, parameter_type: DataType) -> Result<()> {
    let largest = if parameter_type == DataType::F64 { f64::MAX } else { f64::from(f32::MAX) };
    for parameter in &blueprint.parameters {
        let bound = match &parameter.initializer {
            Initializer::Zeros | Initializer::Ones | Initializer::FanIn => 1.0,
            Initializer::Constant(value) => value.abs(),
            Initializer::Uniform { low, high } => low.abs().max(high.abs()),
            Initializer::Values(values) => values.iter().fold(0.0, |bound, value| value.abs().max(bound)),
            // No sample of 53 random bits lies ten deviations out.
            Initializer::Normal { mean, standard_deviation } => mean.abs() + 10.0 * standard_deviation,
        };
        // Written so that NaN is refused as well.
        if !matches!(bound.partial_cmp(&largest), Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)) {
            fail!(
                InvalidBlueprint,
                "parameter '{}' of blueprint '{}' may start at {bound:e}, which is not finite in {}",
                parameter.name,
                blueprint.name,
                parameter_type.name()
            );
        }
    }
    Ok(())
}
