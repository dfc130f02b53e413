//! Memory of the host that a device copies to without a detour.

use super::{Address, Device};
use crate::{Result, error, fail};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut};
use std::slice;
use std::sync::Arc;

/// Bytes of the host, page-locked where the device has memory of its own and can: a download into other memory goes through a
/// small buffer of the driver's, and takes several times as long. To be kept, for making it takes longer than filling it.
pub struct HostMemory {
    device: Arc<dyn Device>,
    address: Address,
    bytes: usize,
    locked: bool,
}

impl HostMemory {
    /// Zeroed bytes for downloads from a device.
    pub fn new(device: &Arc<dyn Device>, bytes: usize) -> Result<HostMemory> {
        let mut memory = HostMemory::zeroed(device, bytes)?;
        memory.locked = device.lock_pages(memory.address, bytes);
        Ok(memory)
    }

    /// These bytes. They are there already, so no pages are locked for them.
    pub fn of(device: &Arc<dyn Device>, bytes: &[u8]) -> Result<HostMemory> {
        let mut memory = HostMemory::zeroed(device, bytes.len())?;
        memory.copy_from_slice(bytes);
        Ok(memory)
    }

    fn zeroed(device: &Arc<dyn Device>, bytes: usize) -> Result<HostMemory> {
        // SAFETY: the layout is at least a page long.
        let pointer = unsafe { alloc_zeroed(layout(bytes)?) };
        if pointer.is_null() {
            fail!(OutOfMemory, "the host has no {bytes} bytes left");
        }
        Ok(HostMemory { device: device.clone(), address: Address(pointer as u64), bytes, locked: false })
    }
}

/// Whole pages, at least one: they are locked as a whole, so they are nobody else's.
fn layout(bytes: usize) -> Result<Layout> {
    Layout::from_size_align(bytes.max(1), rustix::param::page_size())
        .map(|layout| layout.pad_to_align())
        .map_err(|cause| error!(OutOfMemory, "{bytes} bytes of the host are too many").caused_by(cause))
}

impl Deref for HostMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: so many initialised bytes were allocated, and are this value's own until it is dropped.
        unsafe { slice::from_raw_parts(self.address.0 as *const u8, self.bytes) }
    }
}

impl DerefMut for HostMemory {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe { slice::from_raw_parts_mut(self.address.0 as *mut u8, self.bytes) }
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        if self.locked {
            self.device.unlock_pages(self.address);
        }
        if let Ok(layout) = layout(self.bytes) {
            // SAFETY: it was allocated in `zeroed` with the same layout, and nobody has it any more: a download waits.
            unsafe { dealloc(self.address.0 as *mut u8, layout) }
        }
    }
}
