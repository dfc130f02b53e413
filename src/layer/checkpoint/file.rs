//! Files that are replaced at once or not at all.

use crate::{Error, Result, error, fail};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes a file beside its place, makes sure it is on the disk, and moves it there: whoever is killed on the way
/// leaves the previous file as it was.
///
/// # Errors
///
/// `StorageFailed` naming the path; the previous file is still there.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else {
        fail!(StorageFailed, "{} is no path to write a checkpoint to; it must end in a file name", path.display());
    };
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}-{}.partial", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed)));
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = directory.join(temporary);
    publish(&temporary, path, directory, bytes).map_err(|cause| {
        let _ = fs::remove_file(&temporary);
        failed("written", path, cause)
    })
}

/// Reads a file.
///
/// # Errors
///
/// `StorageFailed` naming the path.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|cause| failed("read", path, cause))
}

fn publish(temporary: &Path, path: &Path, directory: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    // The rename itself lasts only once the directory is on the disk.
    File::open(directory)?.sync_all()
}

fn failed(what: &str, path: &Path, cause: io::Error) -> Error {
    error!(StorageFailed, "the checkpoint {} could not be {what}", path.display()).caused_by(cause)
}
