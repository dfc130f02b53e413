//! What a directory of kernels may hold, and how what is too much or too old is removed. Must know nothing of what is in a
//! file.

use super::disk::ENTRY;
use super::publish::TEMPORARY;
use super::turn::LOCK;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// After how many writes of this process the directory is measured again, because other processes write too.
const WRITES_BETWEEN_MEASUREMENTS: u64 = 64;

/// A temporary file or a lock this old belongs to a process that died.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// What a directory may hold. Over the first two, the least recently used entries go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskLimits {
    /// Files.
    pub entries: u64,
    /// Bytes of all files together; a larger entry is not kept.
    pub bytes: u64,
    /// How long an entry is kept that nobody uses.
    pub age: Duration,
}

impl Default for DiskLimits {
    fn default() -> Self {
        Self { entries: 65_536, bytes: 1 << 30, age: Duration::from_secs(90 * 24 * 3600) }
    }
}

/// What a clean-up did and left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Entries that were removed, because they were too many, too large together, or unused for too long.
    pub removed: u64,
    /// Temporary files and locks of dead processes that were removed.
    pub abandoned: u64,
    /// Entries that are left.
    pub entries: u64,
    /// Bytes that are left.
    pub bytes: u64,
}

/// What the directory holds, as far as this process knows.
#[derive(Debug, Default)]
pub(super) struct Usage {
    entries: u64,
    bytes: u64,
    /// Writes since the directory was measured; none before the first measurement counts.
    writes: u64,
    measured: bool,
}

impl Usage {
    /// Counts an entry that was written.
    pub(super) fn add(&mut self, bytes: u64) {
        self.entries += 1;
        self.bytes += bytes;
        self.writes += 1;
    }

    /// Whether the directory should be measured and trimmed now.
    pub(super) fn is_due(&self, limits: &DiskLimits) -> bool {
        let fits = self.entries <= limits.entries && self.bytes <= limits.bytes;
        self.writes > 0 && (!self.measured || !fits || self.writes >= WRITES_BETWEEN_MEASUREMENTS)
    }

    /// Takes over what was measured.
    pub(super) fn set(&mut self, cleaned: &Cleaned) {
        *self = Usage { entries: cleaned.entries, bytes: cleaned.bytes, writes: 0, measured: true };
    }
}

/// Removes abandoned temporary files and locks, entries over the age and, if there is too much, the oldest entries until an
/// eighth is free.
pub(super) fn clean(directory: &Path, limits: &DiskLimits) -> io::Result<Cleaned> {
    let now = SystemTime::now();
    let mut cleaned = Cleaned::default();
    let mut entries = Vec::new();
    for file in fs::read_dir(directory)? {
        let file = file?;
        let name = file.file_name();
        let name = name.to_string_lossy();
        // Another process may have removed it in the meantime.
        let Ok(metadata) = file.metadata() else { continue };
        let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
        if name.ends_with(ENTRY) {
            entries.push((modified, metadata.len(), file.path()));
            continue;
        }
        let passing = name.ends_with(TEMPORARY) || name.ends_with(LOCK);
        if passing && is_abandoned(modified, now) && fs::remove_file(file.path()).is_ok() {
            cleaned.abandoned += 1;
        }
    }
    cleaned.entries = entries.len() as u64;
    cleaned.bytes = entries.iter().map(|(_, length, _)| length).sum();
    let crowded = cleaned.entries > limits.entries || cleaned.bytes > limits.bytes;
    let (most_entries, most_bytes) = match crowded {
        true => (limits.entries - limits.entries / 8, limits.bytes - limits.bytes / 8),
        false => (limits.entries, limits.bytes),
    };
    entries.sort();
    for (modified, length, path) in &entries {
        // What is from the future is not old: the clock was wrong then or is now.
        let old = now.duration_since(*modified).is_ok_and(|age| age > limits.age);
        if !old && cleaned.entries <= most_entries && cleaned.bytes <= most_bytes {
            break;
        }
        let _ = fs::remove_file(path);
        cleaned.removed += 1;
        cleaned.entries -= 1;
        cleaned.bytes -= length;
    }
    Ok(cleaned)
}

/// Whether a file's time is far from now, on either side: clocks jump.
fn is_abandoned(modified: SystemTime, now: SystemTime) -> bool {
    now.duration_since(modified).unwrap_or_else(|error| error.duration()) > ABANDONED_AFTER
}
