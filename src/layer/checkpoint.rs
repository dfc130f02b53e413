//! Checkpoints: the whole layer as bytes, and back.

use super::Layer;
use crate::device::{DeviceKind, Stream};
use crate::{Result, fail};
use std::path::Path;

impl Layer {
    /// The whole layer as a checkpoint, after all work on the stream.
    ///
    /// # Errors
    ///
    /// `DeviceFailed` if the device cannot be read.
    pub fn to_bytes(&self, stream: Stream) -> Result<Vec<u8>> {
        fail!(Unsupported, "layers cannot be saved yet on {stream:?}")
    }

    /// A layer from a checkpoint, on any device. Any bytes give a layer or an error.
    ///
    /// # Errors
    ///
    /// `FileCorrupted` if the bytes are damaged or not a checkpoint; `FileTooNew` if a newer version wrote them.
    pub fn from_bytes(bytes: &[u8], device: DeviceKind) -> Result<Layer> {
        fail!(Unsupported, "a checkpoint of {} bytes cannot be loaded on {device:?} yet", bytes.len())
    }

    /// Writes a checkpoint. A file that was there before is replaced at once or not at all.
    ///
    /// # Errors
    ///
    /// `StorageFailed` naming the path, or as [`Layer::to_bytes`].
    pub fn save(&self, path: &Path, stream: Stream) -> Result<()> {
        fail!(Unsupported, "layers cannot be saved to {} yet on {stream:?}", path.display())
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    ///
    /// `StorageFailed` naming the path, or as [`Layer::from_bytes`].
    pub fn load(path: &Path, device: DeviceKind) -> Result<Layer> {
        fail!(Unsupported, "layers cannot be loaded from {} on {device:?} yet", path.display())
    }
}
