//! Machine code on disk, for the next process: one file per kernel in a directory that is private to the user.
//!
//! To read and to write, processes need no locks: an entry appears whole by a rename, and a reader checks every byte. Locks
//! only save them from making the same entry twice.
//! Nothing here can fail a caller; what the system refuses is said once, counted, and otherwise a miss.

use super::cleanup::{self, Cleaned, DiskLimits, Usage};
use super::publish::publish;
use super::turn::{LOCK, Turn};
use super::{Key, entry};
use log::{debug, info, warn};
use parking_lot::Mutex;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How the names of entries end.
pub(super) const ENTRY: &str = ".kernel";

/// How long to wait before looking again whether another process is done.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Machine code by key, in a directory that other processes use at the same time.
#[derive(Debug)]
pub struct DiskCache {
    directory: PathBuf,
    limits: DiskLimits,
    usage: Mutex<Usage>,
    errors: AtomicU64,
    told: AtomicBool,
}

/// Why there is nothing to be had.
pub(super) enum Miss {
    Absent,
    Invalid(&'static str),
    Refused(io::Error),
}

impl From<io::Error> for Miss {
    fn from(error: io::Error) -> Miss {
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => Miss::Absent,
            Some(Errno::LOOP) => Miss::Invalid("it is a symbolic link"),
            _ => Miss::Refused(error),
        }
    }
}

impl DiskCache {
    /// The cache in a subdirectory of `directory` that is named after the version of the format. Made when the first
    /// kernel is saved.
    pub fn new(directory: impl AsRef<Path>, limits: DiskLimits) -> DiskCache {
        let directory = directory.as_ref();
        // The process may change its directory later; the cache stays where it is.
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        DiskCache {
            directory: directory.join(format!("v{}", entry::VERSION)),
            limits,
            usage: Mutex::default(),
            errors: AtomicU64::new(0),
            told: AtomicBool::new(false),
        }
    }

    /// The directory that holds the entries.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The same cache with other limits.
    pub fn with_limits(self, limits: DiskLimits) -> DiskCache {
        DiskCache { limits, ..self }
    }

    /// What it may hold.
    pub fn limits(&self) -> DiskLimits {
        self.limits
    }

    /// How often the system refused to read, write or remove something.
    pub fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    /// The machine code of a key. What is damaged, of another kernel, a link or of another user is removed.
    pub fn load(&self, key: &Key) -> Option<Arc<[u8]>> {
        let path = self.path(key);
        match self.read(&path, key) {
            Ok(machine_code) => return Some(machine_code),
            Err(Miss::Absent) => {}
            Err(Miss::Refused(error)) => self.refused("read", &error),
            Err(Miss::Invalid(reason)) => {
                warn!("removing {} from the kernel cache: {reason}", path.display());
                self.remove(key);
            }
        }
        None
    }

    /// Waits until no other process makes the entry of this key, at most for `patience`. With the turn, and without one, look
    /// again whether the entry is there. `None` if another process has made it, takes too long, or there are no locks.
    pub fn take_turn(&self, key: &Key, patience: Duration) -> Option<Turn> {
        let (path, started) = (self.directory.join(format!("{key}{LOCK}")), Instant::now());
        let mut pause = Duration::from_millis(1);
        loop {
            match self.make_directory().and_then(|()| Turn::take(&path)) {
                Ok(Some(turn)) => return Some(turn),
                Ok(None) if self.path(key).exists() => return None,
                Ok(None) if started.elapsed() >= patience => {
                    let seconds = started.elapsed().as_secs();
                    info!("another process has had kernel {key} for {seconds} s; it is compiled here as well");
                    return None;
                }
                Ok(None) => {}
                Err(error) => {
                    self.refused("lock", &error);
                    return None;
                }
            }
            thread::sleep(pause);
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    /// Waits until no other thread or process has the directory for itself, and has it while the file is open. Entries come and
    /// go meanwhile as ever: this is for what disturbs others by being done at the same time. `None` where there are no locks.
    pub fn take_alone(&self) -> Option<File> {
        let open = || -> io::Result<File> {
            self.make_directory()?;
            let file = File::open(&self.directory)?;
            file.lock()?;
            Ok(file)
        };
        open().inspect_err(|error| self.refused("lock", error)).ok()
    }

    /// Removes the machine code of a key, if there is any.
    pub fn remove(&self, key: &Key) {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.refused("remove", &error),
            _ => {}
        }
    }

    /// Keeps machine code for other processes. Whoever saves calls [`DiskCache::clean_up`] when it suits.
    pub fn save(&self, key: &Key, machine_code: &[u8]) {
        if let Err(error) = self.keep(key, machine_code) {
            self.refused("write", &error);
        }
    }

    /// Removes what is too much, too old or abandoned, if enough was saved since the last time to ask. Reads the whole
    /// directory then, so nobody should wait for it.
    pub fn clean_up(&self) {
        if !self.usage.lock().is_due(&self.limits) {
            return;
        }
        match self.clean() {
            Ok(Cleaned { removed: 0, .. }) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {} // Somebody removed all of it.
            Ok(Cleaned { removed, entries, bytes, .. }) => {
                let directory = self.directory.display();
                info!("removed {removed} kernels from {directory}; {entries} are left, {bytes} bytes");
            }
            Err(error) => self.refused("clean up", &error),
        }
    }

    /// As [`DiskCache::clean_up`], whether or not anything was saved.
    pub(super) fn clean(&self) -> io::Result<Cleaned> {
        check_directory(&self.directory)?;
        let cleaned = cleanup::clean(&self.directory, &self.limits)?;
        self.usage.lock().set(&cleaned);
        Ok(cleaned)
    }

    /// Writes the entry of a key, unless it alone is more than the cache may hold.
    pub(super) fn keep(&self, key: &Key, machine_code: &[u8]) -> io::Result<()> {
        let bytes = entry::encode(key, machine_code)?;
        if bytes.len() as u64 <= self.limits.bytes {
            self.write(&self.path(key), &bytes)?;
            self.usage.lock().add(bytes.len() as u64);
        }
        Ok(())
    }

    pub(super) fn path(&self, key: &Key) -> PathBuf {
        self.directory.join(format!("{key}{ENTRY}"))
    }

    pub(super) fn read(&self, path: &Path, key: &Key) -> Result<Arc<[u8]>, Miss> {
        check_directory(&self.directory)?;
        let (file, bytes) = self.read_file(path)?;
        let machine_code = entry::decode(&bytes, key).map_err(Miss::Invalid)?;
        // The oldest go first, and oldest shall mean longest unused. A read-only directory does without.
        let _ = file.set_modified(SystemTime::now());
        Ok(machine_code)
    }

    /// A file of this directory, open and in whole, if it is one that this user wrote.
    pub(super) fn read_file(&self, path: &Path) -> Result<(File, Vec<u8>), Miss> {
        // Without NONBLOCK, opening a pipe that somebody put here would wait for its other end.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Miss::Invalid("it is not a file"));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(Miss::Invalid("it belongs to another user"));
        }
        if metadata.len() > self.limits.bytes {
            return Err(Miss::Invalid("it is larger than the cache may be"));
        }
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        file.read_to_end(&mut bytes)?;
        Ok((file, bytes))
    }

    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.make_directory()?;
        publish(path, 0o600, |file| file.write_all(bytes))
    }

    fn make_directory(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        check_directory(&self.directory)
    }

    /// Counts what the system refused, and says so the first time.
    fn refused(&self, what: &str, error: &io::Error) {
        self.errors.fetch_add(1, Relaxed);
        let directory = self.directory.display();
        if self.told.swap(true, Relaxed) {
            debug!("cannot {what} in the kernel cache {directory}: {error}");
        } else {
            warn!(
                "cannot {what} in the kernel cache {directory}: {error}; kernels will be compiled again in each process. \
                 Set KASMINA_CACHE_DIR to a directory of your own, or to `off`"
            );
        }
    }
}

/// Refuses a directory that somebody else could put kernels into.
pub(super) fn check_directory(directory: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(directory)?;
    if !metadata.is_dir() {
        return Err(io::Error::other("it is not a directory but a file or a symbolic link"));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!("it belongs to user {}", metadata.uid())));
    }
    if metadata.mode() & 0o022 != 0 {
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    }
    Ok(())
}
