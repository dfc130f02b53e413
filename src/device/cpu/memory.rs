//! Host memory behind device addresses: an address is a pointer as a number.
//!
//! The [`Device`](crate::device::Device) contract makes the caller answer for addresses: they come from `allocate` or
//! from a host tensor, and are valid for as many bytes as the call says.

use crate::device::Address;
use crate::{Result, error, fail};
use std::alloc::{Layout, alloc_zeroed, dealloc};

const ALIGNMENT: usize = 256;

fn layout(bytes: usize) -> Result<Layout> {
    Layout::from_size_align(bytes.max(1), ALIGNMENT)
        .map_err(|cause| error!(OutOfMemory, "an allocation of {bytes} bytes is too large").caused_by(cause))
}

/// Zeroed memory, aligned to 256 bytes.
pub fn allocate(bytes: usize) -> Result<Address> {
    let layout = layout(bytes)?;
    // SAFETY: the layout is at least one byte long.
    let pointer = unsafe { alloc_zeroed(layout) };
    if pointer.is_null() {
        fail!(OutOfMemory, "the host has no {bytes} bytes left");
    }
    Ok(Address(pointer as u64))
}

/// Gives memory from [`allocate`] of the same size back.
pub fn free(address: Address, bytes: usize) {
    if let (false, Ok(layout)) = (address.is_null(), layout(bytes)) {
        // SAFETY: the caller got the address from `allocate` with the same size, so the layout is the same.
        unsafe { dealloc(address.0 as *mut u8, layout) }
    }
}

/// Host bytes to device memory.
pub fn upload(to: Address, from: &[u8]) -> Result<()> {
    check(to, from.len())?;
    // SAFETY: the caller answers for `from.len()` bytes at `to`; `copy` allows overlap.
    unsafe { std::ptr::copy(from.as_ptr(), to.0 as *mut u8, from.len()) }
    Ok(())
}

/// Device memory to host bytes.
pub fn download(to: &mut [u8], from: Address) -> Result<()> {
    check(from, to.len())?;
    // SAFETY: the caller answers for `to.len()` bytes at `from`; `copy` allows overlap.
    unsafe { std::ptr::copy(from.0 as *const u8, to.as_mut_ptr(), to.len()) }
    Ok(())
}

/// Within the device; the ranges may overlap.
pub fn copy(to: Address, from: Address, bytes: usize) -> Result<()> {
    check(to, bytes)?;
    check(from, bytes)?;
    // SAFETY: the caller answers for `bytes` bytes at both addresses; `copy` allows overlap.
    unsafe { std::ptr::copy(from.0 as *const u8, to.0 as *mut u8, bytes) }
    Ok(())
}

/// Sets bytes to zero.
pub fn zero(to: Address, bytes: usize) -> Result<()> {
    check(to, bytes)?;
    // SAFETY: the caller answers for `bytes` bytes at `to`.
    unsafe { std::ptr::write_bytes(to.0 as *mut u8, 0, bytes) }
    Ok(())
}

/// No bytes may be anywhere; some bytes are not at null.
fn check(address: Address, bytes: usize) -> Result<()> {
    if address.is_null() && bytes > 0 {
        fail!(InvalidArgument, "{bytes} bytes at a null address; pass memory from allocate");
    }
    Ok(())
}
