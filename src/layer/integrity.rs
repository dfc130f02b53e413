//! What the device holds besides the state arrays and the host can tell: compared at each epoch's end, and repaired.
//!
//! The state arrays have a checksum and a copy on each side ([`super::state`]). The arrays here follow from them, or from what
//! never changes, so the host says what they must be. Everything else changes with every step on the device and has no second
//! copy but a snapshot or a checkpoint.

use super::Layer;
use super::epoch::modes;
use crate::Result;
use crate::device::{Buffer, Reading, Stream};

impl Layer {
    /// Compares the modes of all slots, the branches of the kernels that run, and the random seed with what they must be,
    /// and writes those that differ anew. The modes of each bank were read before. Waits for the stream. Returns a sentence for
    /// each repair.
    ///
    /// # Errors
    ///
    /// `DeviceFailed`.
    pub(super) fn verify_derived(&mut self, modes_read: Vec<Reading>, stream: Stream) -> Result<Vec<String>> {
        let mut repairs = Vec::new();
        let expected = modes(self.state.columns(), &self.banks, &self.telemetry.last, &self.config.settings);
        for (index, ((bank, expected), read)) in self.banks.iter_mut().zip(expected).zip(modes_read).enumerate() {
            let found = read.wait()?;
            if *bank.modes != expected {
                repairs.push(format!("the host's modes of bank {index} were damaged and derived anew from the state"));
            }
            if made_to_be(&bank.arrays.mode, &found, &expected, stream)? {
                repairs
                    .push(format!("the device's modes of bank {index} were damaged and derived anew from the state"));
            }
            bank.mode.give_back(found);
            bank.set_modes(expected, stream)?;
        }
        let running = self.kernels.current();
        if repaired(&running.branch, &running.branches(), stream)? {
            repairs.push("the branches of the kernels that run were damaged and written anew".to_owned());
        }
        if repaired(&self.random, &self.config.settings.random_seed.to_ne_bytes(), stream)? {
            repairs.push("the random seed on the device was damaged and written anew".to_owned());
        }
        Ok(repairs)
    }
}

/// Makes an array what it must be; whether it was not.
fn repaired(array: &Buffer, expected: &[u8], stream: Stream) -> Result<bool> {
    let mut found = vec![0; expected.len()];
    array.device().download(&mut found, array.address(), stream)?;
    made_to_be(array, &found, expected, stream)
}

/// The same, of which it was read what is there.
fn made_to_be(array: &Buffer, found: &[u8], expected: &[u8], stream: Stream) -> Result<bool> {
    let differs = found != expected;
    if differs {
        array.device().upload(array.address(), expected, stream)?;
    }
    Ok(differs)
}

#[cfg(test)]
mod tests {
    use crate::device::{Buffer, DeviceKind, Stream};
    use crate::graph::{Attributes, DataType, library};
    use crate::layer::{Layer, LayerConfig, Settings};
    use std::sync::Arc;

    const STREAM: Stream = Stream(0);

    fn layer() -> Layer {
        let settings = Settings { random_seed: 7, ..Settings::default() };
        let (device, parameter_type) = (DeviceKind::Cpu, DataType::F32);
        let mut layer = Layer::new(LayerConfig { hidden: 15, seeds: 3, device, parameter_type, settings }).unwrap();
        layer.add_blueprint(library("residual", 5, &Attributes::new()).unwrap(), 2).unwrap();
        layer
    }

    fn read(array: &Buffer) -> Vec<u8> {
        let mut bytes = vec![0; array.bytes()];
        array.device().download(&mut bytes, array.address(), STREAM).unwrap();
        bytes
    }

    #[test]
    fn a_bit_that_flips_in_what_no_host_can_reach_is_found_named_and_repaired() {
        let mut layer = layer();
        for (array, words) in [
            (layer.random.clone(), "the random seed"),
            (layer.kernels.current().branch.clone(), "the branches"),
            (layer.banks[0].arrays.mode.clone(), "the device's modes of bank 0"),
        ] {
            let intact = read(&array);
            for bit in [0, array.bytes() * 8 - 1] {
                let damaged = intact[bit / 8] ^ 1 << (bit % 8);
                array.device().upload(array.address().offset(bit / 8), &[damaged], STREAM).unwrap();
                let repaired = layer.end_epoch(STREAM).unwrap().repaired;
                assert!(repaired.len() == 1 && repaired[0].contains(words), "{words}: {repaired:?}");
                assert!(read(&array) == intact, "{words}");
            }
            assert!(layer.end_epoch(STREAM).unwrap().repaired.is_empty());
        }
    }

    #[test]
    fn the_hosts_own_modes_are_derived_anew() {
        let mut layer = layer();
        Arc::make_mut(&mut layer.banks[0].modes)[1] ^= 1;
        let repaired = layer.end_epoch(STREAM).unwrap().repaired;
        assert!(repaired.len() == 1 && repaired[0].contains("the host's modes of bank 0"), "{repaired:?}");
        assert_eq!(*layer.banks[0].modes, read(&layer.banks[0].arrays.mode));
    }

    #[test]
    fn every_epoch_begins_with_telemetry_that_has_seen_nothing_whatever_was_in_it() {
        let mut layer = layer();
        layer.end_epoch(STREAM).unwrap();
        let nothing = read(&layer.telemetry.memory);
        let noise: Vec<u8> = (0..nothing.len()).map(|byte| byte as u8).collect();
        layer.device.upload(layer.telemetry.memory.address(), &noise, STREAM).unwrap();
        layer.end_epoch(STREAM).unwrap();
        assert!(read(&layer.telemetry.memory) == nothing);
    }
}
