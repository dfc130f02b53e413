//! The CPU backend.
//!
//! Streams mean nothing here: every call is complete when it returns.

mod adamw;
mod arguments;
mod exact;
mod formula;
mod launch;
mod machine;
mod memory;
mod pool;
mod rows;
mod scratch;
mod selection;
mod task;
#[cfg(test)]
mod tests;
mod vector;

use super::{Adamw, Address, Device, DeviceKind, Kernel, Launch, Stream};
use crate::compile::codegen::cpu::Code;
use crate::compile::{Architecture, KernelClass};
use crate::{Result, fail};
use launch::Loaded;
pub use pool::threads;
use std::sync::{Arc, LazyLock};
use vector::Instructions;

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
        format!("CPU, {} with {}", std::env::consts::ARCH, Instructions::detect().name())
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

    fn load(&self, class: &KernelClass, machine_code: &[u8]) -> Result<Kernel> {
        let code = Code::decode(class, machine_code)?;
        Ok(Kernel(Arc::new(Loaded::new(class, code, Instructions::detect())?)))
    }

    fn launch(&self, kernel: &Kernel, launch: &Launch<'_>, _: Stream) -> Result<()> {
        let Some(kernel) = kernel.0.downcast_ref::<Loaded>() else {
            fail!(InvalidArgument, "the kernel was loaded by another device");
        };
        launch::dispatch(kernel, launch)
    }

    fn adamw(&self, update: &Adamw, _: Stream) -> Result<()> {
        adamw::step(update)
    }
}
