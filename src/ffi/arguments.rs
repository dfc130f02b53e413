//! Tensor arguments of the hot path: descriptors checked against the layer and turned into addresses.
//!
//! Pointers come straight from the structs that an exported function was given, whose caller promises that they are null
//! or point to what the header says.

use super::kasmina_tensor;
use super::pass::KASMINA_NO_TELEMETRY;
use super::tensor::Tensor;
use crate::device::{Address, Rows, telemetry::COLUMNS};
use crate::graph::DataType;
use crate::layer::Layer;
use crate::{Result, fail};

/// A tensor of rows of the layer's channels.
pub struct RowTensor {
    pub rows: Rows,
    pub count: usize,
    pub data_type: DataType,
}

impl RowTensor {
    /// The input, whose type and number of rows the others must have.
    pub fn read(layer: &Layer, pointer: *const kasmina_tensor, name: &'static str) -> Result<RowTensor> {
        let tensor = required(layer, pointer, name)?;
        let (rows, count) = tensor.rows(layer.config().hidden)?;
        if !tensor.data_type.is_float() {
            fail!(TypeMismatch, "{name} has elements of type {}; it needs a float type", tensor.data_type.name());
        }
        Ok(RowTensor { rows, count, data_type: tensor.data_type })
    }

    /// Another one, of the same type and as many rows.
    pub fn read_like(
        layer: &Layer,
        pointer: *const kasmina_tensor,
        name: &'static str,
        like: &RowTensor,
    ) -> Result<RowTensor> {
        let tensor = required(layer, pointer, name)?.of(like.data_type)?;
        let (rows, count) = tensor.rows(layer.config().hidden)?;
        if count != like.count {
            fail!(ShapeMismatch, "{name} has {count} rows, but x has {}", like.count);
        }
        Ok(RowTensor { rows, count, data_type: like.data_type })
    }
}

/// One address per blueprint, without an allocation while they are few.
pub struct Addresses {
    few: [Address; 16],
    many: Vec<Address>,
    count: usize,
}

impl Addresses {
    /// Reads one dense bank per blueprint; `None` if the pointer is null.
    pub fn read(
        layer: &Layer,
        pointer: *const *const kasmina_tensor,
        count: usize,
        name: &'static str,
    ) -> Result<Option<Addresses>> {
        if pointer.is_null() && count == 0 {
            return Ok(None);
        }
        if count != layer.blueprint_count() as usize {
            fail!(
                InvalidArgument,
                "{count} {name} are given, but the layer has {} blueprints",
                layer.blueprint_count()
            );
        }
        // SAFETY: the caller of the exported function promises `count` pointers.
        let tensors = unsafe { super::convert::slice(pointer, count, name) }?;
        let mut addresses = Addresses { few: [Address::NULL; 16], many: Vec::new(), count };
        if count > addresses.few.len() {
            addresses.many.resize(count, Address::NULL);
        }
        for (index, &tensor) in tensors.iter().enumerate() {
            addresses.as_mut_slice()[index] = bank(layer, index as u32, tensor, name)?;
        }
        Ok(Some(addresses))
    }

    /// The addresses.
    pub fn as_slice(&self) -> &[Address] {
        if self.many.is_empty() { &self.few[..self.count] } else { &self.many }
    }

    fn as_mut_slice(&mut self) -> &mut [Address] {
        if self.many.is_empty() { &mut self.few[..self.count] } else { &mut self.many }
    }
}

/// A tensor in the shape and type of a blueprint's bank.
pub fn bank(layer: &Layer, blueprint: u32, pointer: *const kasmina_tensor, name: &'static str) -> Result<Address> {
    let shape = layer.bank_shape(blueprint)?;
    required(layer, pointer, name)?.of(layer.config().parameter_type)?.dense(&shape)
}

/// A dense tensor whose first dimension is the seeds, or null.
pub fn per_seed(
    layer: &Layer,
    pointer: *const kasmina_tensor,
    name: &'static str,
    data_type: DataType,
    columns: &[usize],
) -> Result<Option<Address>> {
    if pointer.is_null() {
        return Ok(None);
    }
    let mut shape = [layer.config().seeds as usize, 0];
    shape[1..][..columns.len()].copy_from_slice(columns);
    required(layer, pointer, name)?.of(data_type)?.dense(&shape[..1 + columns.len()]).map(Some)
}

/// The key of random numbers: one i64, or null.
pub fn random(layer: &Layer, pointer: *const kasmina_tensor) -> Result<Option<Address>> {
    if pointer.is_null() {
        return Ok(None);
    }
    required(layer, pointer, "random")?.of(DataType::I64)?.dense(&[1]).map(Some)
}

/// Where telemetry goes: null observes nothing, none is the layer's own.
pub fn telemetry(layer: &Layer, pointer: *const kasmina_tensor, flags: u32) -> Result<Option<Address>> {
    if flags & KASMINA_NO_TELEMETRY == 0 {
        return per_seed(layer, pointer, "telemetry", DataType::F64, &[COLUMNS]);
    }
    if !pointer.is_null() {
        fail!(InvalidArgument, "a telemetry tensor and KASMINA_NO_TELEMETRY contradict each other");
    }
    Ok(Some(Address::NULL))
}

fn required<'a>(layer: &Layer, pointer: *const kasmina_tensor, name: &'static str) -> Result<Tensor<'a>> {
    // SAFETY: the caller of the exported function promises a descriptor if it is not null, which is checked.
    unsafe { Tensor::read(pointer, name) }?.on(layer.config().device)
}
