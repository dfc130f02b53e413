//! The CPU, of which some kernels fail, and copies are made as late as a stream allows.

use crate::compile::{Architecture, Expression, KernelClass, Unary, codegen};
use crate::device::{Adamw, Address, Device, DeviceKind, Event, Kernel, Launch, Stream, cpu};
use crate::{Result, error};
use parking_lot::Mutex;
use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// A stream that is recording a graph.
pub const CAPTURING: Stream = Stream(7);

/// What becomes of a kernel.
pub enum Fault {
    None,
    /// It cannot be loaded.
    Unloadable,
    /// The program of this branch computes something else.
    Wrong(usize),
}

/// Loads kernels as a fault says.
pub struct Broken {
    device: Arc<dyn Device>,
    fault: fn(&KernelClass) -> Fault,
    loads: AtomicUsize,
    unloads: AtomicUsize,
    launches: AtomicUsize,
    /// Uploads of so many bytes fail.
    pub refused_bytes: AtomicUsize,
    kernels: Mutex<Vec<Weak<dyn Any + Send + Sync>>>,
    /// How often pages were locked.
    pub locks: AtomicUsize,
    /// Copies that nobody has waited for yet: to, from, bytes.
    queued: Mutex<Vec<(Address, Address, usize)>>,
}

impl Broken {
    pub fn new(fault: fn(&KernelClass) -> Fault) -> Arc<Broken> {
        let [loads, unloads, launches, locks, refused_bytes] = [0, 0, 0, 0, usize::MAX].map(AtomicUsize::new);
        let (device, kernels, queued) = (cpu::device(), Mutex::default(), Mutex::default());
        Arc::new(Broken { device, fault, loads, unloads, launches, refused_bytes, kernels, locks, queued })
    }

    /// How many kernels were to be loaded.
    pub fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// How often what nobody holds any more was to be given back.
    pub fn unloads(&self) -> usize {
        self.unloads.load(Ordering::SeqCst)
    }

    /// How many kernels were launched.
    pub fn launches(&self) -> usize {
        self.launches.load(Ordering::SeqCst)
    }

    /// How many kernels somebody holds.
    pub fn held(&self) -> usize {
        self.kernels.lock().iter().filter(|kernel| kernel.strong_count() > 0).count()
    }

    /// How many copies are yet to be made.
    pub fn queued(&self) -> usize {
        self.queued.lock().len()
    }

    fn refuse(&self, bytes: usize) -> Result<()> {
        if bytes == self.refused_bytes.load(Ordering::SeqCst) {
            return Err(error!(DeviceFailed, "the test wants it so"));
        }
        Ok(())
    }

    fn catch_up(&self) -> Result<()> {
        let mut queued = self.queued.lock();
        queued.drain(..).try_for_each(|(to, from, bytes)| self.device.copy(to, from, bytes, Stream(0)))
    }
}

impl Device for Broken {
    fn is_capturing(&self, stream: Stream) -> bool {
        stream == CAPTURING
    }

    fn kind(&self) -> DeviceKind {
        self.device.kind()
    }

    fn description(&self) -> String {
        self.device.description()
    }

    fn architecture(&self) -> Architecture {
        self.device.architecture()
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        self.device.allocate(bytes)
    }

    fn free(&self, address: Address, bytes: usize) {
        self.catch_up().unwrap();
        self.device.free(address, bytes);
    }

    fn upload(&self, to: Address, from: &[u8], stream: Stream) -> Result<()> {
        self.refuse(from.len())?;
        self.catch_up()?;
        self.device.upload(to, from, stream)
    }

    fn lock_pages(&self, _: Address, _: usize) -> bool {
        self.locks.fetch_add(1, Ordering::SeqCst);
        true
    }

    fn upload_locked(&self, to: Address, from: Address, bytes: usize, _: Stream) -> Result<()> {
        self.refuse(bytes)?;
        self.queued.lock().push((to, from, bytes));
        Ok(())
    }

    fn download_locked(&self, to: Address, from: Address, bytes: usize, _: Stream) -> Result<()> {
        self.queued.lock().push((to, from, bytes));
        Ok(())
    }

    fn record_event(&self, _: Stream) -> Result<Event> {
        Ok(Event(Box::new(())))
    }

    fn wait_for(&self, _: Event) -> Result<()> {
        self.catch_up()
    }

    fn download(&self, to: &mut [u8], from: Address, stream: Stream) -> Result<()> {
        self.catch_up()?;
        self.device.download(to, from, stream)
    }

    fn copy(&self, to: Address, from: Address, bytes: usize, _: Stream) -> Result<()> {
        self.queued.lock().push((to, from, bytes));
        Ok(())
    }

    fn zero(&self, to: Address, bytes: usize, stream: Stream) -> Result<()> {
        self.catch_up()?;
        self.device.zero(to, bytes, stream)
    }

    fn synchronize(&self, stream: Stream) -> Result<()> {
        self.catch_up()?;
        self.device.synchronize(stream)
    }

    fn load(&self, class: &KernelClass, machine_code: &[u8]) -> Result<Kernel> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let kernel = match (self.fault)(class) {
            Fault::None => self.device.load(class, machine_code)?,
            Fault::Unloadable => return Err(error!(KernelTooLarge, "no room for it")),
            Fault::Wrong(branch) => {
                let mut wrong = class.clone();
                let last = wrong.programs[branch].body.last_mut().unwrap();
                last.expression = Expression::unary(Unary::Neg, last.expression.clone());
                self.device.load(&wrong, &codegen::cpu::compile(&wrong)?)?
            }
        };
        self.kernels.lock().push(Arc::downgrade(&kernel.0));
        Ok(kernel)
    }

    fn unload_unused(&self) {
        self.unloads.fetch_add(1, Ordering::SeqCst);
    }

    fn launch(&self, kernel: &Kernel, launch: &Launch<'_>, stream: Stream) -> Result<()> {
        self.launches.fetch_add(1, Ordering::SeqCst);
        self.catch_up()?;
        self.device.launch(kernel, launch, stream)
    }

    fn adamw(&self, update: &Adamw, stream: Stream) -> Result<()> {
        self.catch_up()?;
        self.device.adamw(update, stream)
    }
}
