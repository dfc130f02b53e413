//! Memory of a device that somebody owns.

use super::{Address, Device};
use crate::Result;
use std::sync::Arc;

/// Memory that is given back when the last owner drops it, or a part of such memory.
#[derive(Clone)]
pub struct Buffer {
    allocation: Arc<Allocation>,
    offset: usize,
    bytes: usize,
}

struct Allocation {
    device: Arc<dyn Device>,
    address: Address,
    bytes: usize,
}

impl Buffer {
    /// Zeroed memory on a device.
    pub fn new(device: &Arc<dyn Device>, bytes: usize) -> Result<Buffer> {
        let address = device.allocate(bytes)?;
        let allocation = Arc::new(Allocation { device: device.clone(), address, bytes });
        Ok(Buffer { allocation, offset: 0, bytes })
    }

    /// `bytes` bytes of this memory from `offset` on; they keep the whole of it alive.
    pub fn part(&self, offset: usize, bytes: usize) -> Result<Buffer> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            crate::fail!(InvalidArgument, "bytes {offset}..+{bytes} lie outside a buffer of {} bytes", self.bytes);
        }
        Ok(Buffer { allocation: self.allocation.clone(), offset: self.offset + offset, bytes })
    }

    /// Where it begins.
    pub fn address(&self) -> Address {
        self.allocation.address.offset(self.offset)
    }

    /// How long it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The device it lies on.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.allocation.device
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.device.free(self.address, self.bytes);
    }
}
