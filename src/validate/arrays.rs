//! Arrays on a device with guard zones around them: what a kernel writes beyond an array is seen there.

use crate::device::{Address, Buffer, Device, Stream};
use crate::graph::DataType;
use crate::{Result, error, fail};
use half::{bf16, f16};
use std::sync::Arc;

/// Bytes before and after each array that nobody may touch.
const GUARD: usize = 256;
const PATTERN: u8 = 0xA5;
/// What memory holds that is to be written: no kernel computes these bits, which are a NaN in every type.
pub(super) const POISON: u8 = 0xFF;

/// An array, its guard zones, and what it held.
pub(super) struct Array {
    pub name: &'static str,
    buffer: Buffer,
    before: Vec<u8>,
}

impl Array {
    /// An array with these bytes in it.
    pub fn new(device: &Arc<dyn Device>, name: &'static str, bytes: Vec<u8>, stream: Stream) -> Result<Array> {
        let buffer = Buffer::new(device, bytes.len() + 2 * GUARD)?;
        let mut all = vec![PATTERN; bytes.len() + 2 * GUARD];
        all[GUARD..][..bytes.len()].copy_from_slice(&bytes);
        device.upload(buffer.address(), &all, stream)?;
        Ok(Array { name, buffer, before: bytes })
    }

    /// Where it begins.
    pub fn address(&self) -> Address {
        self.buffer.address().offset(GUARD)
    }

    /// What it holds now.
    ///
    /// # Errors
    ///
    /// `ValidationFailed` if a guard zone was written to.
    pub fn read(&self, stream: Stream) -> Result<Vec<u8>> {
        let mut all = vec![0; self.buffer.bytes()];
        self.buffer.device().download(&mut all, self.buffer.address(), stream)?;
        let end = GUARD + self.before.len();
        let touched = |zone: &[u8]| zone.iter().position(|byte| *byte != PATTERN);
        if let Some(at) = touched(&all[..GUARD]) {
            fail!(ValidationFailed, "the kernel writes {} bytes before the {}", GUARD - at, self.name);
        }
        if let Some(at) = touched(&all[end..]) {
            fail!(ValidationFailed, "the kernel writes {} bytes beyond the end of the {}", at + 1, self.name);
        }
        all.truncate(end);
        Ok(all.split_off(GUARD))
    }

    /// That it still holds what it held.
    ///
    /// # Errors
    ///
    /// `ValidationFailed` if not, or if a guard zone was written to.
    pub fn expect_unchanged(&self, stream: Stream) -> Result<()> {
        match self.read(stream)?.iter().zip(&self.before).position(|(now, before)| now != before) {
            Some(at) => Err(error!(ValidationFailed, "the kernel changes its input: byte {at} of the {}", self.name)),
            None => Ok(()),
        }
    }
}

/// Numbers as the bytes of a type.
pub(crate) fn encode(data_type: DataType, numbers: &[f64]) -> Vec<u8> {
    fn each<const N: usize>(numbers: &[f64], bytes: impl Fn(f64) -> [u8; N]) -> Vec<u8> {
        numbers.iter().map(|number| bytes(*number)).collect::<Vec<_>>().into_flattened()
    }
    match data_type {
        DataType::F64 => each(numbers, f64::to_le_bytes),
        DataType::F16 => each(numbers, |number| f16::from_f64(number).to_le_bytes()),
        DataType::BF16 => each(numbers, |number| bf16::from_f64(number).to_le_bytes()),
        _ => each(numbers, |number| (number as f32).to_le_bytes()),
    }
}

/// The bytes of a type as numbers.
pub(super) fn decode(data_type: DataType, bytes: &[u8]) -> Vec<f64> {
    fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks().0.iter().map(|bytes| number(*bytes)).collect()
    }
    match data_type {
        DataType::F64 => each(bytes, f64::from_le_bytes),
        DataType::F16 => each(bytes, |bytes| f16::from_le_bytes(bytes).to_f64()),
        DataType::BF16 => each(bytes, |bytes| bf16::from_le_bytes(bytes).to_f64()),
        _ => each(bytes, |bytes| f32::from_le_bytes(bytes).into()),
    }
}
