//! Machine code that this process has had in hand lately.

use super::Key;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Machine code by key, bounded in entries and in bytes; the least recently used goes first. Safe under threads.
#[derive(Debug)]
pub struct MemoryCache {
    maximum_entries: usize,
    maximum_bytes: usize,
    contents: Mutex<Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    /// The machine code, and when it was used last.
    entries: HashMap<Key, (Arc<[u8]>, u64)>,
    /// The same keys by when they were used last: the first is the next to go.
    order: BTreeMap<u64, Key>,
    /// Counts uses.
    clock: u64,
    bytes: usize,
}

impl MemoryCache {
    /// An empty cache. Bytes are those of the machine code and of the key's preimage.
    pub fn new(maximum_entries: usize, maximum_bytes: usize) -> MemoryCache {
        MemoryCache { maximum_entries, maximum_bytes, contents: Mutex::default() }
    }

    /// The machine code of a key, if it is here; this counts as a use.
    pub fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        let contents = &mut *self.contents.lock();
        let (machine_code, last_use) = contents.entries.get_mut(key)?;
        let key = contents.order.remove(last_use)?;
        contents.clock += 1;
        *last_use = contents.clock;
        contents.order.insert(contents.clock, key);
        Some(machine_code.clone())
    }

    /// Keeps machine code, in place of what was there, and drops what no longer fits. What alone is over the bound of
    /// bytes is not kept.
    pub fn insert(&self, key: &Key, machine_code: Arc<[u8]>) {
        let contents = &mut *self.contents.lock();
        contents.remove(key);
        if size(key, &machine_code) > self.maximum_bytes {
            return;
        }
        contents.clock += 1;
        contents.bytes += size(key, &machine_code);
        contents.order.insert(contents.clock, key.clone());
        contents.entries.insert(key.clone(), (machine_code, contents.clock));
        while contents.entries.len() > self.maximum_entries || contents.bytes > self.maximum_bytes {
            let Some((_, oldest)) = contents.order.first_key_value() else { break };
            let oldest = oldest.clone();
            contents.remove(&oldest);
        }
    }

    /// Forgets a kernel.
    pub fn remove(&self, key: &Key) {
        self.contents.lock().remove(key);
    }

    /// How many kernels are here.
    pub fn entries(&self) -> usize {
        self.contents.lock().entries.len()
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        self.contents.lock().bytes
    }
}

impl Contents {
    fn remove(&mut self, key: &Key) {
        if let Some((machine_code, last_use)) = self.entries.remove(key) {
            self.order.remove(&last_use);
            self.bytes -= size(key, &machine_code);
        }
    }
}

fn size(key: &Key, machine_code: &[u8]) -> usize {
    key.preimage().len() + machine_code.len()
}
