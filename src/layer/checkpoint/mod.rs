//! Checkpoints: the whole layer as bytes, and back.
//!
//! A checkpoint is a safetensors file, so any tool can look into it: one tensor for each array, and one JSON document
//! as metadata for everything else. A CRC-32 covers every byte. Nothing in it is ever executed.

mod file;
mod format;

use super::bank::Bank;
use super::census::Census;
use super::epoch::is_live;
use super::state::{COLUMNS, Columns, FreeSlots, flags};
use super::telemetry::{Observation, Observations, decode, encode, read};
use super::{Command, Layer, LayerConfig, Lifecycle, Settings, Strategy, TransitionRecord};
use crate::device::{Buffer, DeviceKind, Stream, telemetry};
use crate::graph::{Blueprint, DataType};
use crate::{Result, fail};
use format::{Reader, Writer};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is not a tensor.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    hidden: usize,
    seeds: u32,
    parameter_type: DataType,
    settings: Settings,
    epoch: u32,
    blueprints: Vec<BankDocument>,
    queue: Vec<Vec<Command>>,
    rolled_back: Vec<TransitionRecord>,
    repaired: Vec<String>,
    /// Absent in files from before anything was drawn.
    #[serde(default)]
    training_steps: u64,
    /// The trainer's metric for the running epoch; this and the next are absent in files from before strategies used it.
    #[serde(default)]
    metric: Option<f64>,
    #[serde(default)]
    last_metric: Option<f64>,
}

/// A blueprint, as its own JSON, and its slots.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BankDocument {
    capacity: u32,
    blueprint: String,
}

impl Layer {
    /// The whole layer as a checkpoint, after all work on the stream.
    ///
    /// # Errors
    ///
    /// `StateCorrupted` if the host's copy of the state does not match its checksum (the next epoch's end repairs it);
    /// `DeviceFailed` if the device cannot be read.
    pub fn to_bytes(&self, stream: Stream) -> Result<Vec<u8>> {
        self.state.check()?;
        let seeds = self.config.seeds as usize;
        let mut writer = Writer::default();
        for (column, (name, data_type)) in COLUMNS.iter().enumerate() {
            writer.add(format!("state.{name}"), *data_type, &[seeds], self.state.columns().column(column).to_vec());
        }
        let last = &self.telemetry.last;
        let rows: Vec<_> = last.iter().map(|seen| seen.row).collect();
        let numbers: Vec<_> = last.iter().map(|seen| [seen.loss, seen.change]).collect();
        let marks = last.iter().map(|seen| u8::from(seen.non_finite_gradient)).collect();
        writer.add("last.telemetry", DataType::F64, &[seeds, telemetry::COLUMNS], encode(&rows));
        writer.add("last.loss_and_change", DataType::F64, &[seeds, 2], encode(&numbers));
        writer.add("last.non_finite_gradient", DataType::U8, &[seeds], marks);
        let array = read(&self.telemetry.array, stream)?;
        writer.add("telemetry", DataType::F64, &[seeds, telemetry::COLUMNS], array);
        writer.add("loss", DataType::F64, &[seeds, 2], read(&self.telemetry.loss, stream)?);
        for (index, bank) in self.banks.iter().enumerate() {
            for (name, data_type, shape, buffer) in bank_tensors(bank, self.config.parameter_type) {
                writer.add(format!("bank.{index}.{name}"), data_type, &shape, read(buffer, stream)?);
            }
        }
        let blueprints = self.banks.iter().map(|bank| {
            Ok(BankDocument { capacity: bank.arrays.capacity as u32, blueprint: bank.blueprint.to_json()? })
        });
        writer.finish(&Document {
            hidden: self.config.hidden,
            seeds: self.config.seeds,
            parameter_type: self.config.parameter_type,
            settings: self.config.settings.clone(),
            epoch: self.epoch,
            blueprints: blueprints.collect::<Result<_>>()?,
            queue: self.queue.iter().map(|batch| batch.commands.clone()).collect(),
            rolled_back: self.rolled_back.clone(),
            repaired: self.repaired.clone(),
            training_steps: self.training_steps.load(Ordering::Relaxed),
            metric: Some(self.metric).filter(|metric| metric.is_finite()),
            last_metric: Some(self.last_metric).filter(|metric| metric.is_finite()),
        })
    }

    /// A layer from a checkpoint, on any device. Any bytes give a layer or an error.
    ///
    /// # Errors
    ///
    /// `FileCorrupted` if the bytes are damaged, not a checkpoint or contradict themselves; `FileTooNew` if a newer
    /// version wrote them; and the errors of making the layer.
    pub fn from_bytes(bytes: &[u8], device: DeviceKind) -> Result<Layer> {
        Layer::read(bytes, device, None)
    }

    /// A copy of the layer, after all work on the stream: on any device, with parameters and moments of either type.
    ///
    /// # Errors
    ///
    /// As [`Layer::to_bytes`], and the errors of making the layer.
    pub fn copy(&self, device: DeviceKind, parameter_type: DataType, stream: Stream) -> Result<Layer> {
        Layer::read(&self.to_bytes(stream)?, device, Some(parameter_type))
    }

    fn read(bytes: &[u8], device: DeviceKind, parameter_type: Option<DataType>) -> Result<Layer> {
        let (document, tensors): (Document, Reader<'_>) = format::read(bytes)?;
        let stored_type = document.parameter_type;
        let seeds = document.seeds as usize;
        // Nothing is allocated for seeds and slots that the file does not hold.
        let mut parts: [&[u8]; COLUMNS.len()] = [&[]; COLUMNS.len()];
        for (part, (name, data_type)) in parts.iter_mut().zip(COLUMNS) {
            let tensor = format!("state.{name}");
            // Absent in files from before strategies remembered anything; then it is 0 for every seed.
            if name != "strategy_memory" || tensors.has(&tensor) {
                *part = tensors.get(&tensor, data_type, &[seeds])?;
            }
        }
        let nothing_remembered;
        if let Some(memory) = parts.last_mut().filter(|memory| memory.is_empty()) {
            nothing_remembered = vec![0; seeds * size_of::<f64>()];
            *memory = &nothing_remembered;
        }
        let columns = Columns::from_parts(document.seeds, parts)?;
        if document.epoch == u32::MAX {
            fail!(FileCorrupted, "the checkpoint claims {} epochs", document.epoch);
        }
        let mut layer = Layer::new(LayerConfig {
            hidden: document.hidden,
            seeds: document.seeds,
            device,
            parameter_type: parameter_type.unwrap_or(stored_type),
            settings: document.settings,
        })?;
        let stream = Stream::default();
        for (index, entry) in document.blueprints.iter().enumerate() {
            layer.restore_bank(index, entry, stored_type, &tensors, stream)?;
        }
        layer.check_seeds(&columns)?;
        layer.restore_telemetry(&tensors, stream)?;
        layer.epoch = document.epoch;
        document.queue.into_iter().for_each(|commands| layer.enqueue(commands));
        layer.rolled_back = document.rolled_back;
        layer.repaired = document.repaired;
        layer.training_steps = document.training_steps.into();
        layer.metric = document.metric.unwrap_or(f64::NAN);
        layer.last_metric = document.last_metric.unwrap_or(f64::NAN);

        let census = Census::of(&columns, layer.banks.len());
        let (live, running) = (census.blueprints(is_live), census.blueprints(Lifecycle::needs_kernel));
        layer.kernels.swap_at_once(&running, &layer.banks, stream)?;
        layer.kernels.request(&live, &running, &layer.banks, stream)?;
        layer.replace_state(columns, stream)?;
        layer.device.synchronize(stream)?;
        Ok(layer)
    }

    /// Writes a checkpoint. A file that was there before is replaced at once or not at all.
    ///
    /// # Errors
    ///
    /// `StorageFailed` naming the path, or as [`Layer::to_bytes`].
    pub fn save(&self, path: &Path, stream: Stream) -> Result<()> {
        file::write(path, &self.to_bytes(stream)?)
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    ///
    /// `StorageFailed` naming the path, or as [`Layer::from_bytes`].
    pub fn load(path: &Path, device: DeviceKind) -> Result<Layer> {
        Layer::from_bytes(&file::read(path)?, device).map_err(|error| error.context(path.display()))
    }

    fn restore_bank(
        &mut self,
        index: usize,
        entry: &BankDocument,
        stored_type: DataType,
        tensors: &Reader<'_>,
        stream: Stream,
    ) -> Result<()> {
        let blueprint = Blueprint::from_json(entry.blueprint.as_bytes())
            .map_err(|error| error.context(format!("blueprint {index} of the checkpoint")))?;
        let shape = [entry.capacity as usize, blueprint.parameter_count()];
        // Before memory is taken for it: are its parameters there at all?
        tensors.get(&format!("bank.{index}.parameters"), stored_type, &shape)?;
        self.add_blueprint(blueprint, entry.capacity)?;
        let parameter_type = self.config.parameter_type;
        for (name, data_type, shape, buffer) in bank_tensors(&self.banks[index], stored_type) {
            let bytes = tensors.get(&format!("bank.{index}.{name}"), data_type, &shape)?;
            let bytes =
                if data_type == stored_type { converted(bytes, stored_type, parameter_type) } else { bytes.into() };
            self.device.upload(buffer.address(), &bytes, stream)?;
        }
        Ok(())
    }

    /// Refuses seeds that contradict themselves or each other.
    fn check_seeds(&self, columns: &Columns) -> Result<()> {
        let mut free: Vec<_> = self.banks.iter().map(|bank| FreeSlots::new(bank.arrays.capacity)).collect();
        for (number, seed) in (0u32..).zip(columns.iter()) {
            let dormant = seed.lifecycle == Lifecycle::Dormant;
            let empty = (seed.blueprint, seed.slot) == (-1, -1);
            let sound = dormant == empty
                && (0.0..=1.0).contains(&seed.alpha)
                && seed.epochs_in_state >= 0
                && seed.flags & !flags::ALL == 0
                && seed.strategy_memory.is_finite()
                && Strategy::from_number(i32::from(seed.strategy)).is_ok();
            if !sound {
                fail!(FileCorrupted, "seed {number} of the checkpoint contradicts itself: {seed:?}");
            }
            let place = usize::try_from(seed.blueprint).ok().zip(u32::try_from(seed.slot).ok());
            let claimed =
                place.is_some_and(|(blueprint, slot)| free.get_mut(blueprint).is_some_and(|bank| bank.take(slot)));
            if !dormant && !claimed {
                let (slot, blueprint) = (seed.slot, seed.blueprint);
                fail!(FileCorrupted, "seed {number} cannot have slot {slot} of blueprint {blueprint}");
            }
        }
        Ok(())
    }

    fn restore_telemetry(&mut self, tensors: &Reader<'_>, stream: Stream) -> Result<()> {
        let seeds = self.config.seeds as usize;
        let wide = [seeds, telemetry::COLUMNS];
        let rows = decode::<{ telemetry::COLUMNS }>(tensors.get("last.telemetry", DataType::F64, &wide)?);
        let numbers = decode::<2>(tensors.get("last.loss_and_change", DataType::F64, &[seeds, 2])?);
        let marks = tensors.get("last.non_finite_gradient", DataType::U8, &[seeds])?;
        let seen = rows.into_iter().zip(numbers).zip(marks);
        let seen = seen.map(|((row, [loss, change]), mark)| Observation {
            row,
            loss,
            change,
            non_finite_gradient: *mark != 0,
        });
        self.telemetry.last = Arc::new(Observations::of(&seen.collect::<Vec<_>>(), &self.device)?);
        let array = tensors.get("telemetry", DataType::F64, &wide)?;
        self.device.upload(self.telemetry.array.address(), array, stream)?;
        let loss = tensors.get("loss", DataType::F64, &[seeds, 2])?;
        self.device.upload(self.telemetry.loss.address(), loss, stream)
    }
}

/// Numbers of one parameter type as the other; those that f32 cannot hold exactly are rounded.
fn converted(bytes: &[u8], from: DataType, to: DataType) -> Cow<'_, [u8]> {
    let (narrow, wide) = (bytes.as_chunks::<4>().0.iter(), bytes.as_chunks::<8>().0.iter());
    match (from, to) {
        (DataType::F32, DataType::F64) => {
            narrow.flat_map(|number| f64::from(f32::from_ne_bytes(*number)).to_ne_bytes()).collect()
        }
        (DataType::F64, DataType::F32) => {
            wide.flat_map(|number| (f64::from_ne_bytes(*number) as f32).to_ne_bytes()).collect()
        }
        _ => bytes.into(),
    }
}

/// The arrays of a bank that a checkpoint holds. The modes are not among them: they follow from the state.
fn bank_tensors(bank: &Bank, parameter_type: DataType) -> [(&'static str, DataType, Vec<usize>, &Buffer); 5] {
    let arrays = &bank.arrays;
    let (slots, wide) = (vec![arrays.capacity], vec![arrays.capacity, arrays.size]);
    [
        ("parameters", parameter_type, wide.clone(), &arrays.parameters),
        ("first_moment", parameter_type, wide.clone(), &arrays.first_moment),
        ("second_moment", parameter_type, wide, &arrays.second_moment),
        ("steps", DataType::U32, slots.clone(), &arrays.steps),
        ("non_finite", DataType::U8, slots, &arrays.non_finite),
    ]
}
