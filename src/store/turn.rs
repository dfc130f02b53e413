//! One process at a time for one kernel: a file beside its entry that the operating system locks, and unlocks when the
//! process ends in whatever way, so no lock is ever stale. Must know nothing of what is done meanwhile.

use log::debug;
use parking_lot::Mutex;
use rustix::fs::OFlags;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The locks of this process, and after a fork those of its parent, by process.
static TAKEN: Mutex<Vec<(u32, Arc<File>)>> = Mutex::new(Vec::new());

/// How the names of lock files end.
pub(super) const LOCK: &str = ".lock";

/// The right to make the entry of a key, given back when it is dropped.
#[derive(Debug)]
pub struct Turn {
    file: Arc<File>,
    path: PathBuf,
}

/// Gives back what a parent had taken when it forked this process. A lock is of the open file, which parent and child share:
/// if the parent then ends, its child would wait for itself. A parent that lives on has company at worst.
pub(crate) fn give_back_inherited() {
    // A parent that was taking or giving back just then has left the list locked for good.
    let Some(mut taken) = TAKEN.try_lock() else { return };
    taken.retain(|(process, file)| {
        let own = *process == std::process::id();
        if !own {
            debug!("gives back a lock that process {process} had when it forked this one");
            let _ = file.unlock();
        }
        own
    });
}

impl Turn {
    /// Takes the lock of this name; `None` while another process, or another thread, has it. An error is one of the system,
    /// which may have no locks (as some network file systems).
    pub(super) fn take(path: &Path) -> io::Result<Option<Turn>> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        loop {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags.bits() as i32);
            let file = options.open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => {
                    let _ = fs::remove_file(path);
                    return Err(error);
                }
            }
            let own = file.metadata()?;
            match fs::symlink_metadata(path) {
                Ok(named) if (named.dev(), named.ino()) == (own.dev(), own.ino()) => {
                    let file = Arc::new(file);
                    TAKEN.lock().push((std::process::id(), file.clone()));
                    return Ok(Some(Turn { file, path: path.to_owned() }));
                }
                // Whoever had the lock before has removed the file meanwhile: this is a lock on nothing.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        // To close it would not do: a forked child has the same open file, and may live long.
        let _ = self.file.unlock();
        TAKEN.lock().retain(|(_, file)| !Arc::ptr_eq(file, &self.file));
    }
}
