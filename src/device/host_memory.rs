//! Memory of the host that a device copies to and from without a detour.

use super::{Address, Buffer, Device, Event, Stream, forks};
use crate::{Result, error, fail};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut, Range};
use std::slice;
use std::sync::Arc;

/// Bytes of the host, page-locked where the device has memory of its own and can: a copy of other memory goes through a small buffer
/// of the driver's, and takes several times as long. To be kept, for making it takes longer than filling it.
pub struct HostMemory {
    device: Arc<dyn Device>,
    address: Address,
    bytes: usize,
    locked: bool,
    /// [`forks::made`] before its pages were locked.
    forks: u32,
    /// After it no copy that was queued reads or writes them.
    queued: Option<Event>,
}

impl HostMemory {
    /// Zeroed bytes.
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
        let (device, address, forks) = (device.clone(), Address(pointer as u64), forks::made());
        Ok(HostMemory { device, address, bytes, locked: false, forks, queued: None })
    }

    /// Copies that much from a device, after all work on the stream, while the host goes on.
    pub fn read(mut self, from: Address, stream: Stream) -> Result<Reading> {
        if self.locked {
            let queued = self.device.download_locked(self.address, from, self.bytes, stream);
            self.note(queued, stream)?;
        }
        Ok(Reading { memory: self, from, stream })
    }

    /// Remembers that copies were queued, or how that failed: those before the one that was refused go on. Where there is no event,
    /// they are waited for.
    fn note(&mut self, queued: Result<()>, stream: Stream) -> Result<()> {
        match self.device.record_event(stream) {
            Ok(event) => self.queued = Some(event),
            Err(_) => self.device.synchronize(stream)?,
        }
        queued
    }

    fn wait(&mut self) -> Result<()> {
        self.queued.take().map_or(Ok(()), |event| self.device.wait_for(event))
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
        // What cannot be waited for is of a device that copies nothing any more.
        if let Err(error) = self.wait() {
            log::debug!("copies of page-locked memory were not waited for: {error}");
        }
        if self.locked {
            self.device.unlock_pages(self.address);
        }
        if let Ok(layout) = layout(self.bytes) {
            // SAFETY: it was allocated in `zeroed` with the same layout, and nobody has it any more.
            unsafe { dealloc(self.address.0 as *mut u8, layout) }
        }
    }
}

/// Memory that a device is copying to. What is not page-locked is copied when it is waited for: just before it is looked at.
pub struct Reading {
    memory: HostMemory,
    from: Address,
    stream: Stream,
}

impl Reading {
    /// Waits until all is there.
    pub fn wait(self) -> Result<HostMemory> {
        let Reading { mut memory, from, stream } = self;
        if memory.locked {
            memory.wait()?;
        } else {
            let device = memory.device.clone();
            device.download(&mut memory, from, stream)?;
        }
        Ok(memory)
    }
}

/// An array of a device that is read again and again, each time into the same memory.
pub struct Readable {
    /// The array.
    pub array: Buffer,
    room: Option<HostMemory>,
}

impl Readable {
    /// This array.
    pub fn new(array: Buffer) -> Result<Readable> {
        let room = Some(HostMemory::new(array.device(), array.bytes())?);
        Ok(Readable { array, room })
    }

    /// Begins to read it, after all work on the stream.
    pub fn read(&mut self, stream: Stream) -> Result<Reading> {
        // What a failure lost is made anew.
        let room = self.room.take().map_or_else(|| HostMemory::new(self.array.device(), self.array.bytes()), Ok)?;
        room.read(self.array.address(), stream)
    }

    /// Takes what was read back, for the next time.
    pub fn give_back(&mut self, read: HostMemory) {
        self.room = Some(read);
    }
}

/// Where bytes wait that a device copies to itself while the host goes on: as long as the array they are written to. Where nothing
/// is page-locked, they are written from where they are.
pub struct Staging(HostMemory);

impl Staging {
    /// For an array of so many bytes.
    pub fn new(device: &Arc<dyn Device>, bytes: usize) -> Result<Staging> {
        HostMemory::new(device, bytes).map(Staging)
    }

    /// Writes parts of the array, given in order. They may be reused when it returns.
    pub fn upload<'a>(
        &mut self,
        array: Address,
        parts: impl IntoIterator<Item = (Range<usize>, &'a [u8])>,
        stream: Stream,
    ) -> Result<()> {
        let (parts, device) = (parts.into_iter().collect::<Vec<_>>(), self.0.device.clone());
        if parts.is_empty() {
            return Ok(());
        }
        self.fill(&parts)?;
        if !self.0.locked {
            let mut parts = parts.into_iter();
            return parts.try_for_each(|(range, part)| device.upload(array.offset(range.start), part, stream));
        }
        // What lies together is one copy.
        let mut together: Vec<Range<usize>> = Vec::new();
        for (range, _) in parts {
            match together.last_mut().filter(|last| last.end == range.start) {
                Some(last) => last.end = range.end,
                None => together.push(range),
            }
        }
        let memory = &mut self.0;
        let queued = together.into_iter().try_for_each(|Range { start, end }| {
            device.upload_locked(array.offset(start), memory.address.offset(start), end - start, stream)
        });
        memory.note(queued, stream)
    }

    /// Puts the parts where the device copies them from, if it does.
    fn fill(&mut self, parts: &[(Range<usize>, &[u8])]) -> Result<()> {
        let memory = &mut self.0;
        while memory.locked {
            memory.wait()?;
            for (range, part) in parts {
                memory[range.clone()].copy_from_slice(part);
            }
            if memory.forks == forks::made() {
                break;
            }
            // Before Linux 5.12, what is written after a fork are other pages than those that were locked.
            *memory = HostMemory::new(&memory.device.clone(), memory.bytes)?;
        }
        Ok(())
    }
}
