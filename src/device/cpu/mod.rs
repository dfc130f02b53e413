//! The CPU backend.
//!
//! Streams mean nothing here: every call is complete when it returns.

mod memory;

use super::{Adamw, Address, Device, DeviceKind, Kernel, Launch, Stream};
use crate::compile::{Architecture, KernelClass};
use crate::{Result, fail};
use std::sync::{Arc, LazyLock};

/// The CPU. One per process.
pub fn device() -> Arc<dyn Device> {
    static DEVICE: LazyLock<Arc<dyn Device>> = LazyLock::new(|| Arc::new(Cpu));
    DEVICE.clone()
}

struct Cpu;

impl Device for Cpu {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Cpu
    }

    fn description(&self) -> String {
        format!("CPU, {}", std::env::consts::ARCH)
    }

    fn architecture(&self) -> Architecture {
        Architecture::Cpu
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        memory::allocate(bytes)
    }

    fn free(&self, address: Address, bytes: usize) {
        memory::free(address, bytes);
    }

    fn upload(&self, to: Address, from: &[u8], _: Stream) -> Result<()> {
        memory::upload(to, from)
    }

    fn download(&self, to: &mut [u8], from: Address, _: Stream) -> Result<()> {
        memory::download(to, from)
    }

    fn copy(&self, to: Address, from: Address, bytes: usize, _: Stream) -> Result<()> {
        memory::copy(to, from, bytes)
    }

    fn zero(&self, to: Address, bytes: usize, _: Stream) -> Result<()> {
        memory::zero(to, bytes)
    }

    fn synchronize(&self, _: Stream) -> Result<()> {
        Ok(())
    }

    fn load(&self, class: &KernelClass, _: &[u8]) -> Result<Kernel> {
        fail!(Unsupported, "this build cannot run {:?} kernels on the CPU yet", class.pass)
    }

    fn launch(&self, _: &Kernel, _: &Launch, _: Stream) -> Result<()> {
        fail!(Unsupported, "this build cannot run kernels on the CPU yet")
    }

    fn adamw(&self, _: &Adamw, _: Stream) -> Result<()> {
        fail!(Unsupported, "this build has no AdamW on the CPU yet")
    }
}
