//! Machine code on disk, for the next process: one file per kernel in a directory that is private to the user.
//!
//! Processes share the directory without locks: an entry appears whole by a rename, and a reader checks every byte.
//! Nothing here can fail a caller; what the system refuses is said once, counted, and otherwise a miss.

use super::{Key, entry};
use log::{debug, info, warn};
use parking_lot::Mutex;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How the names of entries and of files that are being written end.
const ENTRY: &str = ".kernel";
const TEMPORARY: &str = ".temporary";

/// After how many writes of this process the directory is measured again, because other processes write too.
const WRITES_BETWEEN_MEASUREMENTS: u64 = 64;

/// A temporary file this old belongs to a process that died.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// What a directory may hold before the oldest entries are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskLimits {
    /// Files.
    pub entries: u64,
    /// Bytes of all files together; a larger entry is not kept.
    pub bytes: u64,
}

impl Default for DiskLimits {
    fn default() -> Self {
        Self { entries: 65_536, bytes: 1 << 30 }
    }
}

/// Machine code by key, in a directory that other processes use at the same time.
#[derive(Debug)]
pub struct DiskCache {
    directory: PathBuf,
    limits: DiskLimits,
    usage: Mutex<Usage>,
    errors: AtomicU64,
    told: AtomicBool,
}

/// What the directory holds, as far as this process knows.
#[derive(Debug, Default)]
struct Usage {
    entries: u64,
    bytes: u64,
    writes: u64,
}

/// Why there is nothing to be had.
enum Miss {
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
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => self.refused("remove", &error),
                    _ => {}
                }
            }
        }
        None
    }

    /// Keeps machine code for other processes, and removes the oldest entries if there is too much.
    pub fn save(&self, key: &Key, machine_code: &[u8]) {
        let bytes = entry::encode(key, machine_code);
        if bytes.len() as u64 > self.limits.bytes {
            return;
        }
        match self.write(&self.path(key), &bytes) {
            Ok(()) => self.clean_up(bytes.len() as u64),
            Err(error) => self.refused("write", &error),
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.directory.join(format!("{key}{ENTRY}"))
    }

    fn read(&self, path: &Path, key: &Key) -> Result<Arc<[u8]>, Miss> {
        check_directory(&self.directory)?;
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
        let machine_code = entry::decode(&bytes, key).map_err(Miss::Invalid)?;
        // The oldest go first, and oldest shall mean longest unused. A read-only directory does without.
        let _ = file.set_modified(SystemTime::now());
        Ok(machine_code.into())
    }

    /// Other processes see all of the entry or none of it. The directory is not synced: an entry that a power failure
    /// takes away is compiled again.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        check_directory(&self.directory)?;
        let temporary = self.directory.join(temporary_name());
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let published =
            file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
        if published.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        published
    }

    /// Counts what was written, and measures and trims the directory if it may hold too much.
    fn clean_up(&self, written: u64) {
        let mut usage = self.usage.lock();
        let measured = usage.writes > 0;
        usage.entries += 1;
        usage.bytes += written;
        usage.writes += 1;
        let fits = usage.entries <= self.limits.entries && usage.bytes <= self.limits.bytes;
        if measured && fits && !usage.writes.is_multiple_of(WRITES_BETWEEN_MEASUREMENTS) {
            return;
        }
        match self.trim() {
            Ok((entries, bytes)) => (usage.entries, usage.bytes) = (entries, bytes),
            Err(error) => self.refused("clean up", &error),
        }
    }

    /// Removes abandoned temporary files and, if there is too much, the oldest entries until an eighth is free.
    /// Returns what is left, in entries and bytes.
    fn trim(&self) -> io::Result<(u64, u64)> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.directory)? {
            let file = file?;
            let name = file.file_name();
            let name = name.to_string_lossy();
            // Another process may have removed it in the meantime.
            let Ok(metadata) = file.metadata() else { continue };
            let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
            if name.ends_with(ENTRY) {
                entries.push((modified, metadata.len(), file.path()));
            } else if name.ends_with(TEMPORARY) && is_abandoned(modified) {
                let _ = fs::remove_file(file.path());
            }
        }
        let mut count = entries.len() as u64;
        let mut bytes: u64 = entries.iter().map(|(_, length, _)| length).sum();
        let limits = self.limits;
        if count > limits.entries || bytes > limits.bytes {
            entries.sort();
            for (_, length, path) in &entries {
                if count <= limits.entries - limits.entries / 8 && bytes <= limits.bytes - limits.bytes / 8 {
                    break;
                }
                let _ = fs::remove_file(path);
                count -= 1;
                bytes -= length;
            }
            info!("trimmed the kernel cache in {} to {count} kernels, {bytes} bytes", self.directory.display());
        }
        Ok((count, bytes))
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
fn check_directory(directory: &Path) -> io::Result<()> {
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

/// A name that no other thread or process has.
fn temporary_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let count = COUNTER.fetch_add(1, Relaxed);
    format!("{}-{count}-{nanoseconds:x}{TEMPORARY}", std::process::id())
}

/// Whether a file's time is far from now, on either side: clocks jump.
fn is_abandoned(modified: SystemTime) -> bool {
    let age = SystemTime::now().duration_since(modified).unwrap_or_else(|error| error.duration());
    age > ABANDONED_AFTER
}
