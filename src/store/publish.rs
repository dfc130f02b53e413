//! A file that appears whole or not at all, whoever looks and whatever is killed meanwhile. Must know nothing of what is in it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// How the names of files that are being written end.
pub(super) const TEMPORARY: &str = ".temporary";

/// Writes a file beside `path`, syncs it, and gives it that name. The directory is not synced: a file that a power failure
/// takes away is made again.
pub(super) fn publish(path: &Path, mode: u32, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let temporary = path.with_file_name(temporary_name());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    let published = write(&mut file).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
    if published.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    published
}

/// A name that no other thread or process has.
fn temporary_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let count = COUNTER.fetch_add(1, Relaxed);
    format!("{}-{count}-{nanoseconds:x}{TEMPORARY}", std::process::id())
}
