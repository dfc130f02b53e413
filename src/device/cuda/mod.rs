//! The CUDA backend, over the driver API: memory, streams, modules and launches of one card.
//!
//! Must know nothing of how kernels are printed, but for the shape of their launches, and nothing of layers.
//!
//! It is a guest in somebody else's process: it uses the primary context, which torch uses too, and the streams it is
//! given. While a stream is recording a graph, nothing here may wait for it, and calls that have no stream (allocate, free, load)
//! run in the relaxed capture mode, which leaves other threads' recordings alone.

mod adamw;
mod driver;
mod installed;
mod launch;
mod module;
pub(crate) mod nvrtc;
mod parameters;

pub use parameters::Parameters;

use super::{Adamw, Address, Device, DeviceKind, Event, Kernel, Launch, Stream, forks};
use crate::compile::{Architecture, KernelClass};
pub use installed::{Installed, installed};

use crate::{Result, error, fail};
use cudarc::driver::{result, sys};
use driver::{Relaxed, check};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// The CUDA device of this ordinal; made once per process.
///
/// `DeviceUnavailable` says what was searched when there is no driver, and how many devices there are when there is one.
pub fn device(ordinal: u32) -> Result<Arc<dyn Device>> {
    static DEVICES: Mutex<Vec<(u32, Arc<Cuda>)>> = Mutex::new(Vec::new());
    let mut devices = DEVICES.lock();
    if let Some((_, device)) = devices.iter().find(|(known, _)| *known == ordinal) {
        let _current = device.enter()?;
        return Ok(device.clone());
    }
    let device = Arc::new(Cuda::open(ordinal)?);
    devices.push((ordinal, device.clone()));
    Ok(device)
}

/// The least driver version that can also record kernels which overlap in a graph (CUDA 12.3).
const LEAST_OVERLAPPING: i32 = 12_030;

/// A card.
struct Cuda {
    ordinal: u32,
    name: String,
    capability: u32,
    multiprocessors: usize,
    /// Whether a kernel may be started while the one before it on the stream still runs.
    overlaps: bool,
    /// The primary context, retained for the life of the process.
    context: sys::CUcontext,
    /// A stream of our own that waits for no other, for what has no stream: zeroing new memory.
    own_stream: sys::CUstream,
    /// The process that opened the driver; the driver cannot be used in its children.
    process: u32,
    /// What the system calls it.
    process_id: u32,
    /// Loaded modules by the hash of their machine code. One that nobody else holds waits here until it is asked for again
    /// or unloaded: unloading waits for the card, so it must not happen wherever a kernel is dropped.
    modules: Mutex<HashMap<[u8; 32], Arc<module::Module>>>,
    adamw: OnceLock<Arc<module::Module>>,
}

// SAFETY: contexts and streams of the driver API may be used from any thread; each call makes the context current first.
unsafe impl Send for Cuda {}
// SAFETY: as above; everything that changes is behind a lock.
unsafe impl Sync for Cuda {}

impl Cuda {
    fn open(ordinal: u32) -> Result<Cuda> {
        driver::initialise()?;
        let count = check(result::device::get_count(), "counting the CUDA devices")?;
        if i64::from(ordinal) >= i64::from(count) {
            fail!(DeviceUnavailable, "there is no CUDA device {ordinal}; this process sees {count}");
        }
        let device = check(result::device::get(ordinal as i32), "opening the CUDA device")?;
        let attribute = |attribute| {
            // SAFETY: the device was just given by the driver.
            check(unsafe { result::device::get_attribute(device, attribute) }, "asking for a CUDA device's attribute")
        };
        use sys::CUdevice_attribute as Attribute;
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let name = check(result::device::get_name(device), "asking for a CUDA device's name")?;
        // SAFETY: the device exists. The context is never released, so it stays valid.
        let context = check(unsafe { result::primary_ctx::retain(device) }, "opening the CUDA device's context")?;
        let _current = driver::Current::enter(context)?;
        let _relaxed = Relaxed::enter();
        let own_stream =
            check(result::stream::create(result::stream::StreamKind::NonBlocking), "creating a CUDA stream")?;
        Ok(Cuda {
            ordinal,
            name,
            capability: (major * 10 + minor) as u32,
            multiprocessors: multiprocessors as usize,
            overlaps: major >= 9 && driver::version()? >= LEAST_OVERLAPPING,
            context,
            own_stream,
            process: forks::process(),
            process_id: std::process::id(),
            modules: Mutex::new(HashMap::new()),
            adamw: OnceLock::new(),
        })
    }

    /// Makes the context current on this thread while the result lives; every call begins with it.
    fn enter(&self) -> Result<driver::Current> {
        if forks::process() != self.process {
            fail!(
                Forked,
                "CUDA device {} was opened by process {}, of which this one is a fork; open it only after forking, or \
                 start processes by spawning",
                self.ordinal,
                self.process_id
            );
        }
        driver::Current::enter(self.context)
    }

    /// Refuses what would wait for, or outlive, a stream that is recording a graph.
    fn refuse_while_recording(&self, stream: Stream, what: &str) -> Result<()> {
        if driver::is_recording(stream) {
            fail!(
                Unsupported,
                "{what} is not possible while the stream is recording a CUDA graph; do it before or after"
            );
        }
        Ok(())
    }

    fn module(&self, machine_code: &[u8]) -> Result<Arc<module::Module>> {
        let hash = *blake3::hash(machine_code).as_bytes();
        let mut modules = self.modules.lock();
        if let Some(module) = modules.get(&hash) {
            return Ok(module.clone());
        }
        let _relaxed = Relaxed::enter();
        let module = Arc::new(module::Module::load(machine_code)?);
        modules.insert(hash, module.clone());
        Ok(module)
    }
}

impl Device for Cuda {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Cuda(self.ordinal)
    }

    fn description(&self) -> String {
        self.name.clone()
    }

    fn architecture(&self) -> Architecture {
        Architecture::Cuda(self.capability)
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        let _current = self.enter()?;
        let _relaxed = Relaxed::enter();
        // The driver aligns to at least 256 bytes, and refuses 0.
        let bytes = bytes.max(1);
        // SAFETY: the memory is set before anybody reads it, and the stream is this device's own.
        unsafe {
            let address = check(result::malloc_sync(bytes), "allocating on the CUDA device")
                .map_err(|error| error.context(format!("{bytes} bytes")))?;
            let zeroed = check(result::memset_d8_async(address, 0, bytes, self.own_stream), "zeroing new memory")
                .and_then(|()| check(result::stream::synchronize(self.own_stream), "zeroing new memory"));
            if let Err(error) = zeroed {
                // What cannot be zeroed cannot be used either; the first error is the one to report.
                let _ = result::free_sync(address);
                return Err(error);
            }
            Ok(Address(address))
        }
    }

    fn free(&self, address: Address, _: usize) {
        // In a forked child or after the driver has shut down at exit there is nothing left to free.
        if address.is_null() {
            return;
        }
        let Ok(_current) = self.enter() else { return };
        let _relaxed = Relaxed::enter();
        // SAFETY: the caller gives back what `allocate` gave, once.
        if let Err(reason) = unsafe { result::free_sync(address.0) }
            && reason.0 != sys::CUresult::CUDA_ERROR_DEINITIALIZED
        {
            log::error!("memory on CUDA device {} could not be freed: {reason:?}", self.ordinal);
        }
    }

    fn lock_pages(&self, memory: Address, bytes: usize) -> bool {
        let Ok(_current) = self.enter() else { return false };
        let _relaxed = Relaxed::enter();
        // SAFETY: the memory belongs to the caller, who gives it to `unlock_pages` before it is freed.
        let locked = unsafe { sys::cuMemHostRegister_v2(memory.0 as *mut _, bytes, 0) }.result();
        if let Err(reason) = &locked {
            log::debug!("{bytes} bytes of the host were not page-locked, copies to them take longer: {reason:?}");
        }
        locked.is_ok()
    }

    fn unlock_pages(&self, memory: Address) {
        // As in `free`.
        let Ok(_current) = self.enter() else { return };
        let _relaxed = Relaxed::enter();
        // SAFETY: the memory was locked by `lock_pages`, and nothing copies it any more, which its owner has waited for.
        if let Err(reason) = unsafe { sys::cuMemHostUnregister(memory.0 as *mut _) }.result()
            && reason.0 != sys::CUresult::CUDA_ERROR_DEINITIALIZED
        {
            log::error!("memory of the host could not be unlocked for CUDA device {}: {reason:?}", self.ordinal);
        }
    }

    fn upload(&self, to: Address, from: &[u8], stream: Stream) -> Result<()> {
        let _current = self.enter()?;
        if from.is_empty() {
            return Ok(());
        }
        self.refuse_while_recording(stream, "an upload")?;
        // SAFETY: the caller answers for the device memory. Host memory of this process that the driver has not pinned is
        // copied to a staging buffer before the call returns.
        check(unsafe { result::memcpy_htod_async(to.0, from, driver::raw(stream)) }, "copying to the CUDA device")
    }

    fn upload_locked(&self, to: Address, from: Address, bytes: usize, stream: Stream) -> Result<()> {
        let _current = self.enter()?;
        self.refuse_while_recording(stream, "an upload")?;
        // SAFETY: the caller answers for both, and leaves the host memory alone until an event that is recorded after this.
        let queued = unsafe { sys::cuMemcpyHtoDAsync_v2(to.0, from.0 as *const _, bytes, driver::raw(stream)) };
        check(queued.result(), "copying to the CUDA device")
    }

    fn download_locked(&self, to: Address, from: Address, bytes: usize, stream: Stream) -> Result<()> {
        let _current = self.enter()?;
        self.refuse_while_recording(stream, "a download")?;
        // SAFETY: as in `upload_locked`; the host memory is nobody's until then.
        let queued = unsafe { sys::cuMemcpyDtoHAsync_v2(to.0 as *mut _, from.0, bytes, driver::raw(stream)) };
        check(queued.result(), "copying from the CUDA device")
    }

    fn record_event(&self, stream: Stream) -> Result<Event> {
        let _current = self.enter()?;
        self.refuse_while_recording(stream, "an event")?;
        let event = driver::Event::without_time()?;
        event.record(stream)?;
        Ok(Event(Box::new(event)))
    }

    fn wait_for(&self, event: Event) -> Result<()> {
        let entered = self.enter();
        if entered.is_err() {
            // A forked child must not give it back either.
            std::mem::forget(event);
            return entered.map(drop);
        }
        let _relaxed = Relaxed::enter();
        match event.0.downcast::<driver::Event>() {
            Ok(event) => event.wait(),
            Err(_) => fail!(InvalidArgument, "the event was recorded by another device than {:?}", self.kind()),
        }
    }

    fn download(&self, to: &mut [u8], from: Address, stream: Stream) -> Result<()> {
        let _current = self.enter()?;
        if to.is_empty() {
            return Ok(());
        }
        self.refuse_while_recording(stream, "a download")?;
        // SAFETY: the caller answers for the device memory; the host memory is not touched until the stream is done.
        unsafe {
            let copied = result::memcpy_dtoh_async(to, from.0, driver::raw(stream));
            let waited = result::stream::synchronize(driver::raw(stream));
            check(copied.and(waited), "copying from the CUDA device")
        }
    }

    fn copy(&self, to: Address, from: Address, bytes: usize, stream: Stream) -> Result<()> {
        let _current = self.enter()?;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller answers for both runs of device memory.
        check(
            unsafe { result::memcpy_dtod_async(to.0, from.0, bytes, driver::raw(stream)) },
            "copying on the CUDA device",
        )
    }

    fn zero(&self, to: Address, bytes: usize, stream: Stream) -> Result<()> {
        let _current = self.enter()?;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller answers for the device memory.
        check(unsafe { result::memset_d8_async(to.0, 0, bytes, driver::raw(stream)) }, "zeroing on the CUDA device")
    }

    fn is_capturing(&self, stream: Stream) -> bool {
        self.enter().is_ok_and(|_current| driver::is_recording(stream))
    }

    fn synchronize(&self, stream: Stream) -> Result<()> {
        let _current = self.enter()?;
        self.refuse_while_recording(stream, "waiting")?;
        // SAFETY: the caller answers for the stream.
        check(unsafe { result::stream::synchronize(driver::raw(stream)) }, "running what was queued on the CUDA stream")
    }

    fn load(&self, class: &KernelClass, machine_code: &[u8]) -> Result<Kernel> {
        let _current = self.enter()?;
        let image = crate::compile::codegen::cuda::Image::from_bytes(machine_code)?;
        let module = self.module(&image.machine_code)?;
        let _relaxed = Relaxed::enter();
        let loaded = launch::Loaded::new(class, image.shape, module, self.multiprocessors, self.overlaps)?;
        Ok(Kernel(Arc::new(loaded)))
    }

    fn unload_unused(&self) {
        let Ok(_current) = self.enter() else { return };
        let _relaxed = Relaxed::enter();
        // Under the lock: what nobody else holds now, nobody can get hold of.
        for (_, module) in self.modules.lock().extract_if(|_, module| Arc::strong_count(module) == 1) {
            if let Some(module) = Arc::into_inner(module)
                && let Err(error) = module.unload()
            {
                log::error!("a module on CUDA device {} could not be unloaded: {error}", self.ordinal);
            }
        }
    }

    fn launch(&self, kernel: &Kernel, launch: &Launch<'_>, stream: Stream) -> Result<()> {
        let _current = self.enter()?;
        match kernel.0.downcast_ref::<launch::Loaded>() {
            Some(loaded) => loaded.launch(launch, stream),
            None => Err(error!(InvalidArgument, "the kernel was loaded by another device than {:?}", self.kind())),
        }
    }

    fn time(&self, stream: Stream, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        let _current = self.enter()?;
        self.refuse_while_recording(stream, "timing")?;
        let [before, after] = [driver::Event::new()?, driver::Event::new()?];
        before.record(stream)?;
        work()?;
        after.record(stream)?;
        before.seconds_until(&after)
    }

    fn adamw(&self, update: &Adamw, stream: Stream) -> Result<()> {
        let _current = self.enter()?;
        let module = match self.adamw.get() {
            Some(module) => module,
            None => {
                let module = self.module(&adamw::compile(self.architecture())?)?;
                self.adamw.get_or_init(|| module)
            }
        };
        adamw::launch(module, update, stream)
    }
}

#[cfg(test)]
mod tests {
    use crate::Status;
    use crate::device::{DeviceKind, open};

    #[test]
    fn without_a_driver_or_a_card_opening_a_device_is_an_error_that_says_what_was_searched() {
        // On a machine with fewer than a million cards, this fails in one of two documented ways.
        let error = open(DeviceKind::Cuda(999_999)).err().unwrap();
        assert_eq!(error.status(), Status::DeviceUnavailable);
        let message = error.message();
        let no_driver = message.contains("libcuda.so.1") && message.contains("LD_LIBRARY_PATH");
        assert!(no_driver || message.contains("999999") || message.contains("CUDA_ERROR"), "{message}");
    }
}
