//! Where kernels run: one trait, two backends ([`cpu`] and [`cuda`]).
//!
//! A device knows memory, streams and kernels. It must know nothing of transitions or gates: of a seed it reads the
//! state arrays, and decides by the predicates of [`Lifecycle`](crate::lifecycle::Lifecycle).
//!
//! Addresses are plain numbers here and in every caller; only the backends turn them into pointers.

mod buffer;
pub mod cpu;
pub mod cuda;
mod forks;
mod host_memory;
mod launch;

pub use buffer::Buffer;
#[cfg(test)]
pub(crate) use forks::tests::in_a_fork;
pub use host_memory::{HostMemory, Readable, Reading, Staging};
pub use launch::{Adamw, Bank, Launch, Rows, telemetry};

use crate::Result;
use crate::compile::{Architecture, KernelClass};
use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

/// Bytes of a pattern that are put together on the host; from there on the device copies them.
const REPEATED_BYTES: usize = 32 << 10;

/// Which device: the CPU, or a CUDA device by ordinal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// The host.
    Cpu,
    /// The CUDA device of this ordinal.
    Cuda(u32),
}

/// An address in the memory of some device; 0 is null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Address(pub u64);

impl Address {
    /// No memory.
    pub const NULL: Address = Address(0);

    /// The address `bytes` further on.
    pub fn offset(self, bytes: usize) -> Address {
        Address(self.0 + bytes as u64)
    }

    /// Whether this is no memory.
    pub fn is_null(self) -> bool {
        self.0 == 0
    }
}

/// A stream, as the host's opaque pointer (`cudaStream_t`); 0 is the default stream. The CPU backend ignores it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stream(pub u64);

/// A kernel that a device has loaded; only the device that loaded it can launch it.
#[derive(Clone)]
pub struct Kernel(pub Arc<dyn Any + Send + Sync>);

/// A point in a stream, which only the device that recorded it knows.
pub struct Event(pub Box<dyn Any + Send + Sync>);

/// What a device says of page-locked memory that locks none.
fn locks_no_pages<T>() -> Result<T> {
    crate::fail!(Unsupported, "this device locks no pages of the host, so nothing is copied by way of them");
}

/// A backend.
///
/// All calls may come from any thread. Work is ordered by the stream; only `download`, `synchronize` and `wait_for` wait for it.
pub trait Device: Send + Sync {
    /// Which device this is.
    fn kind(&self) -> DeviceKind;

    /// Its name for people, such as `NVIDIA H100 80GB HBM3`.
    fn description(&self) -> String;

    /// What kernels for it are compiled for.
    fn architecture(&self) -> Architecture;

    /// Memory of at least `bytes` bytes, zeroed, aligned to 256 bytes.
    fn allocate(&self, bytes: usize) -> Result<Address>;

    /// Gives memory from `allocate` back.
    fn free(&self, address: Address, bytes: usize);

    /// Keeps memory of the host where it is, if that makes copies of it faster. Whether it was done; if so, `unlock_pages` must come
    /// before the memory is freed.
    fn lock_pages(&self, memory: Address, bytes: usize) -> bool {
        let _ = (memory, bytes);
        false
    }

    /// Lets go of memory of the host that `lock_pages` keeps.
    fn unlock_pages(&self, memory: Address) {
        let _ = memory;
    }

    /// Copies host bytes to the device. `from` may be reused when it returns.
    fn upload(&self, to: Address, from: &[u8], stream: Stream) -> Result<()>;

    /// Queues a copy of host bytes that `lock_pages` keeps. They must stay as they are until an event that is recorded after it.
    fn upload_locked(&self, to: Address, from: Address, bytes: usize, stream: Stream) -> Result<()> {
        let _ = (to, from, bytes, stream);
        locks_no_pages()
    }

    /// Queues a copy of device bytes to host memory that `lock_pages` keeps, which is nobody's until an event that is recorded after
    /// it.
    fn download_locked(&self, to: Address, from: Address, bytes: usize, stream: Stream) -> Result<()> {
        let _ = (to, from, bytes, stream);
        locks_no_pages()
    }

    /// An event after all that is on the stream, which must be given to `wait_for`.
    fn record_event(&self, stream: Stream) -> Result<Event> {
        let _ = stream;
        locks_no_pages()
    }

    /// Waits until the device has reached an event.
    fn wait_for(&self, event: Event) -> Result<()> {
        let _ = event;
        locks_no_pages()
    }

    /// Copies device bytes to the host, after all work on the stream.
    fn download(&self, to: &mut [u8], from: Address, stream: Stream) -> Result<()>;

    /// Copies within the device.
    fn copy(&self, to: Address, from: Address, bytes: usize, stream: Stream) -> Result<()>;

    /// Sets bytes to zero.
    fn zero(&self, to: Address, bytes: usize, stream: Stream) -> Result<()>;

    /// Writes some bytes so many times, one after the other. `pattern` may be reused when it returns.
    fn repeat(&self, to: Address, pattern: &[u8], times: usize, stream: Stream) -> Result<()> {
        // A few from here, and then twice as many with each copy.
        let few = (REPEATED_BYTES / pattern.len().max(1)).max(1).min(times);
        let (mut filled, bytes) = (few * pattern.len(), times * pattern.len());
        self.upload(to, &pattern.repeat(few), stream)?;
        while filled < bytes {
            let more = filled.min(bytes - filled);
            self.copy(to.offset(filled), to, more, stream)?;
            filled += more;
        }
        Ok(())
    }

    /// Whether the stream is recording a graph: then nothing may be compiled, loaded, allocated or waited for.
    fn is_capturing(&self, stream: Stream) -> bool {
        let _ = stream;
        false
    }

    /// Waits for all work on the stream.
    fn synchronize(&self, stream: Stream) -> Result<()>;

    /// Makes a kernel ready to launch from what the compile pipeline gave for this device's architecture.
    fn load(&self, class: &KernelClass, machine_code: &[u8]) -> Result<Kernel>;

    /// Gives back what loaded kernels occupied that nobody holds any more. Only between epochs: it may wait for the device. Of
    /// kernels that a graph has recorded somebody must hold one for as long as the graph may be replayed.
    fn unload_unused(&self) {}

    /// Runs a kernel over all seeds.
    fn launch(&self, kernel: &Kernel, launch: &Launch<'_>, stream: Stream) -> Result<()>;

    /// Seconds that the device takes for what `work` puts on the stream, after all that is on it already. Waits for it.
    fn time(&self, stream: Stream, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        self.synchronize(stream)?;
        let started = Instant::now();
        work()?;
        self.synchronize(stream)?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Updates the parameters of one bank.
    fn adamw(&self, update: &Adamw, stream: Stream) -> Result<()>;
}

/// The device of a kind; devices are made once per process.
pub fn open(kind: DeviceKind) -> Result<Arc<dyn Device>> {
    match kind {
        DeviceKind::Cpu => Ok(cpu::device()),
        DeviceKind::Cuda(ordinal) => cuda::device(ordinal),
    }
}
