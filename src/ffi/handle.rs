//! Handles: typed, generational numbers for objects that live in a slab, so that a stale, forged or wrong-type handle
//! is an error and never a crash.
//!
//! A handle is `kind << 56 | generation << 24 | position`; it is positive as a signed 64-bit number and never 0. Objects
//! are shared: destroying a handle while another thread uses it takes effect for the handle at once and for the object
//! when that thread is done.

use super::boundary::inject_panic;
use crate::{Result, error, fail};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const POSITION_BITS: u32 = 24;
const GENERATION_BITS: u32 = 32;

/// What a handle stands for.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Blueprint = 0x11,
    Layer = 0x22,
    Memory = 0x33,
    Snapshot = 0x44,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Blueprint => "blueprint",
            Kind::Layer => "layer",
            Kind::Memory => "memory",
            Kind::Snapshot => "snapshot",
        }
    }

    fn of(handle: u64) -> Option<Kind> {
        let byte = (handle >> (POSITION_BITS + GENERATION_BITS)) as u8;
        [Kind::Blueprint, Kind::Layer, Kind::Memory, Kind::Snapshot].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// The objects of one kind.
pub struct Slab<T> {
    kind: Kind,
    slots: RwLock<Slots<T>>,
}

struct Slots<T> {
    all: Vec<Slot<T>>,
    free: Vec<u32>,
}

struct Slot<T> {
    generation: u32,
    object: Option<Arc<Object<T>>>,
}

struct Object<T> {
    poisoned: AtomicBool,
    value: RwLock<T>,
}

/// What [`Slab::remove`] took out; the object is dropped with its last user.
#[must_use = "drop it where a panic of the object's destructor is caught and no lock is held"]
pub struct Removed<T>(#[allow(dead_code)] Option<Arc<Object<T>>>);

impl<T> Slab<T> {
    /// No objects.
    pub const fn new(kind: Kind) -> Slab<T> {
        Slab { kind, slots: RwLock::new(Slots { all: Vec::new(), free: Vec::new() }) }
    }

    /// Puts an object in and gives its handle.
    pub fn insert(&self, value: T) -> Result<u64> {
        let object = Some(Arc::new(Object { poisoned: AtomicBool::new(false), value: RwLock::new(value) }));
        let slots = &mut *self.slots.write();
        let position = match slots.free.pop() {
            Some(position) => {
                slots.all[position as usize].object = object;
                position
            }
            None if slots.all.len() < 1 << POSITION_BITS => {
                slots.all.push(Slot { generation: 1, object });
                slots.all.len() as u32 - 1
            }
            None => fail!(CapacityExceeded, "there are {} {}s; destroy some", slots.all.len(), self.kind.name()),
        };
        let generation = slots.all[position as usize].generation;
        Ok(self.handle(generation, position))
    }

    /// Calls a function with the object; other readers may run at the same time.
    pub fn read<R>(&self, handle: u64, body: impl FnOnce(&T) -> Result<R>) -> Result<R> {
        let object = self.find(handle)?;
        let value = object.value.read();
        // Declared after the lock guard, so that a panic poisons the object before the lock is open again.
        let _watch = Watch::new(&object.poisoned, self.kind)?;
        inject_panic();
        body(&value)
    }

    /// Calls a function with the object, alone.
    pub fn write<R>(&self, handle: u64, body: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        let object = self.find(handle)?;
        let mut value = object.value.write();
        let _watch = Watch::new(&object.poisoned, self.kind)?;
        inject_panic();
        body(&mut value)
    }

    /// Ends a handle, poisoned or not.
    pub fn remove(&self, handle: u64) -> Result<Removed<T>> {
        let mut slots = self.slots.write();
        let position = self.position(&slots, handle)?;
        Ok(Removed(Self::empty(&mut slots, position)))
    }

    /// Ends all handles.
    pub fn clear(&self) -> Vec<Removed<T>> {
        let mut slots = self.slots.write();
        (0..slots.all.len())
            .filter(|&position| slots.all[position].object.is_some())
            .collect::<Vec<_>>()
            .into_iter()
            .map(|position| Removed(Self::empty(&mut slots, position)))
            .collect()
    }

    fn find(&self, handle: u64) -> Result<Arc<Object<T>>> {
        let slots = self.slots.read();
        let position = self.position(&slots, handle)?;
        slots.all[position].object.clone().ok_or_else(|| self.gone(handle))
    }

    /// The slot a handle names, if that slot's object is the handle's.
    fn position(&self, slots: &Slots<T>, handle: u64) -> Result<usize> {
        let kind = self.kind.name();
        if handle == 0 {
            fail!(InvalidHandle, "the {kind} handle is 0, which no {kind} has");
        }
        match Kind::of(handle) {
            Some(other) if other == self.kind => {}
            Some(other) => fail!(InvalidHandle, "handle {handle:#x} is of a {}, not of a {kind}", other.name()),
            None => fail!(InvalidHandle, "{handle:#x} is no handle of kasmina"),
        }
        let position = (handle & ((1 << POSITION_BITS) - 1)) as usize;
        let generation = (handle >> POSITION_BITS) as u32;
        let Some(slot) = slots.all.get(position).filter(|slot| generation != 0 && generation <= slot.generation) else {
            fail!(InvalidHandle, "{kind} handle {handle:#x} was never given out");
        };
        if slot.generation != generation || slot.object.is_none() {
            return Err(self.gone(handle));
        }
        Ok(position)
    }

    fn gone(&self, handle: u64) -> crate::Error {
        error!(InvalidHandle, "{} handle {handle:#x} was destroyed before this call", self.kind.name())
    }

    fn empty(slots: &mut Slots<T>, position: usize) -> Option<Arc<Object<T>>> {
        let slot = &mut slots.all[position];
        let object = slot.object.take();
        // A slot that has used all its generations up is never used again, so that no old handle comes back to life.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            slots.free.push(position as u32);
        }
        object
    }

    fn handle(&self, generation: u32, position: u32) -> u64 {
        (self.kind as u64) << (POSITION_BITS + GENERATION_BITS)
            | u64::from(generation) << POSITION_BITS
            | u64::from(position)
    }
}

/// Poisons an object if the thread begins to panic while this is alive.
struct Watch<'a> {
    poisoned: &'a AtomicBool,
    was_panicking: bool,
}

impl<'a> Watch<'a> {
    fn new(poisoned: &'a AtomicBool, kind: Kind) -> Result<Watch<'a>> {
        if poisoned.load(Ordering::Acquire) {
            fail!(Poisoned, "an earlier call panicked inside this {}; destroy it", kind.name());
        }
        Ok(Watch { poisoned, was_panicking: std::thread::panicking() })
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if !self.was_panicking && std::thread::panicking() {
            self.poisoned.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn status(result: Result<impl Sized>) -> Status {
        result.map_or_else(|error| error.status(), |_| Status::Ok)
    }

    #[test]
    fn a_handle_finds_its_object_until_it_is_destroyed() {
        let slab = Slab::new(Kind::Layer);
        let (one, two) = (slab.insert(1).unwrap(), slab.insert(2).unwrap());
        slab.write(one, |value| {
            *value += 10;
            Ok(())
        })
        .unwrap();
        assert_eq!(slab.read(one, |value| Ok(*value)).unwrap(), 11);
        drop(slab.remove(one).unwrap());
        assert_eq!(status(slab.read(one, |_| Ok(()))), Status::InvalidHandle);
        assert_eq!(status(slab.remove(one)), Status::InvalidHandle);
        assert_eq!(slab.read(two, |value| Ok(*value)).unwrap(), 2);
    }

    #[test]
    fn a_stale_handle_does_not_find_the_object_that_took_its_place() {
        let slab = Slab::new(Kind::Layer);
        let old = slab.insert(1).unwrap();
        drop(slab.remove(old).unwrap());
        let new = slab.insert(2).unwrap();
        assert_eq!(old & 0xff_ffff, new & 0xff_ffff, "the slot is used again");
        let error = slab.read(old, |_| Ok(())).unwrap_err();
        assert_eq!(error.status(), Status::InvalidHandle);
        assert!(error.message().contains("was destroyed"), "{error}");
    }

    #[test]
    fn forged_zero_and_foreign_handles_are_errors() {
        let layers = Slab::new(Kind::Layer);
        let blueprints = Slab::new(Kind::Blueprint);
        let layer = layers.insert(()).unwrap();
        let blueprint = blueprints.insert(()).unwrap();
        let forged = [0, 1, u64::MAX, layer + 1, layer + (1 << 24), layer & !(0xffff_ffff << 24), blueprint];
        for handle in forged {
            assert_eq!(status(layers.read(handle, |_| Ok(()))), Status::InvalidHandle, "{handle:#x}");
            assert_eq!(status(layers.remove(handle)), Status::InvalidHandle, "{handle:#x}");
        }
        let error = layers.read(blueprint, |_| Ok(())).unwrap_err();
        assert!(error.message().contains("is of a blueprint, not of a layer"), "{error}");
    }

    #[test]
    fn a_slot_that_used_up_its_generations_is_retired() {
        let slab = Slab::new(Kind::Memory);
        drop(slab.remove(slab.insert(()).unwrap()).unwrap());
        slab.slots.write().all[0].generation = u32::MAX;
        let last = slab.insert(()).unwrap();
        drop(slab.remove(last).unwrap());
        let next = slab.insert(()).unwrap();
        assert_ne!(last & 0xff_ffff, next & 0xff_ffff);
        assert_eq!(status(slab.read(last, |_| Ok(()))), Status::InvalidHandle);
    }

    #[test]
    fn after_a_panic_an_object_can_only_be_destroyed() {
        for writes in [false, true] {
            let slab = Slab::new(Kind::Layer);
            let handle = slab.insert(1).unwrap();
            let panic = || {
                if writes {
                    slab.write(handle, |_| -> Result<()> { panic!("on purpose") })
                } else {
                    slab.read(handle, |_| -> Result<()> { panic!("on purpose") })
                }
            };
            catch_unwind(AssertUnwindSafe(panic)).unwrap_err();
            assert_eq!(status(slab.read(handle, |_| Ok(()))), Status::Poisoned);
            assert_eq!(status(slab.write(handle, |_| Ok(()))), Status::Poisoned);
            assert_eq!(status(slab.remove(handle)), Status::Ok);
        }
    }

    #[test]
    fn an_object_outlives_its_handle_while_a_thread_uses_it() {
        let slab = Slab::new(Kind::Layer);
        let handle = slab.insert(String::from("still here")).unwrap();
        let text = slab.read(handle, |value| {
            drop(slab.remove(handle)?);
            Ok(value.clone())
        });
        assert_eq!(text.unwrap(), "still here");
    }

    #[test]
    fn many_threads_may_create_use_and_destroy_at_once() {
        let slab = Slab::new(Kind::Layer);
        let shared = slab.insert(0_u64).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let slab = &slab;
                scope.spawn(move || {
                    for round in 0..1000 {
                        let own = slab.insert(round).unwrap();
                        assert_eq!(slab.read(own, |value| Ok(*value)).unwrap(), round);
                        drop(slab.remove(own).unwrap());
                        if thread == 0 && round == 500 {
                            drop(slab.remove(shared).unwrap());
                        }
                        let found = status(slab.write(shared, |value| {
                            *value += 1;
                            Ok(())
                        }));
                        assert!(matches!(found, Status::Ok | Status::InvalidHandle));
                    }
                });
            }
        });
        assert_eq!(status(slab.read(shared, |_| Ok(()))), Status::InvalidHandle);
        assert!(slab.slots.read().all.len() <= 10, "slots are used again");
    }
}
