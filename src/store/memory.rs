//! Machine code that this process has had in hand lately.

use super::Key;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Machine code by key, bounded in entries and in bytes. Safe under threads; those that find something do not wait for
/// each other.
///
/// What was used least goes first, and of equals what was not used for longest. A use is worth as much as the newest entry
/// that had to go was, so what was popular once does not stay for ever. Machine code that somebody else holds as
/// well is pinned: it would stay in memory anyway.
#[derive(Debug)]
pub struct MemoryCache {
    maximum_entries: usize,
    maximum_bytes: usize,
    contents: RwLock<Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    entries: HashMap<Key, Entry>,
    bytes: usize,
    /// The worth of the last entry that had to go.
    age: u64,
    /// Counts insertions.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    machine_code: Arc<[u8]>,
    uses: AtomicU64,
    /// The cache's age when it was used last, and how often it was used.
    worth: AtomicU64,
    last_use: AtomicU64,
}

impl MemoryCache {
    /// An empty cache. Bytes are those of the machine code and of the key's preimage.
    pub fn new(maximum_entries: usize, maximum_bytes: usize) -> MemoryCache {
        MemoryCache { maximum_entries, maximum_bytes, contents: RwLock::default() }
    }

    /// The machine code of a key, if it is here; this counts as a use.
    pub fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        let contents = self.contents.read();
        let entry = contents.entries.get(key)?;
        entry.count_use(&contents);
        Some(entry.machine_code.clone())
    }

    /// Keeps machine code, in place of what was there, and drops what no longer fits. If it alone is over the bound of
    /// bytes, or what is pinned leaves no room for it, it is not kept.
    pub fn insert(&self, key: &Key, machine_code: Arc<[u8]>) {
        let contents = &mut *self.contents.write();
        contents.remove(key);
        let bytes = size(key, &machine_code);
        if bytes > self.maximum_bytes || self.maximum_entries == 0 {
            return;
        }
        while contents.entries.len() >= self.maximum_entries || contents.bytes > self.maximum_bytes - bytes {
            let Some(worst) = contents.worst() else { return };
            contents.age = contents.age.max(contents.entries[&worst].worth.load(Relaxed));
            contents.remove(&worst);
        }
        contents.clock += 1;
        contents.bytes += bytes;
        let [uses, worth, last_use] = [0; 3].map(AtomicU64::new);
        let entry = Entry { machine_code, uses, worth, last_use };
        entry.count_use(contents);
        contents.entries.insert(key.clone(), entry);
    }

    /// Forgets a kernel.
    pub fn remove(&self, key: &Key) {
        self.contents.write().remove(key);
    }

    /// How many kernels are here.
    pub fn entries(&self) -> usize {
        self.contents.read().entries.len()
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        self.contents.read().bytes
    }
}

impl Contents {
    /// What goes first, if anything may go.
    fn worst(&self) -> Option<Key> {
        let loose = self.entries.iter().filter(|(_, entry)| Arc::strong_count(&entry.machine_code) == 1);
        let worst = loose.min_by_key(|(_, entry)| (entry.worth.load(Relaxed), entry.last_use.load(Relaxed)));
        worst.map(|(key, _)| key.clone())
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= size(key, &entry.machine_code);
        }
    }
}

impl Entry {
    /// Threads that count at once may lose a use, which matters to nobody.
    fn count_use(&self, contents: &Contents) {
        let uses = self.uses.load(Relaxed) + 1;
        self.uses.store(uses, Relaxed);
        self.worth.store(contents.age + uses, Relaxed);
        self.last_use.store(contents.clock, Relaxed);
    }
}

fn size(key: &Key, machine_code: &[u8]) -> usize {
    key.preimage().len() + machine_code.len()
}
