//! Files that are replaced at once or not at all.

use crate::{Error, Result, error, fail};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

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
    // The time as well: after a crash a container's next process may have the same number.
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let count = WRITTEN.fetch_add(1, Ordering::Relaxed);
    temporary.push(format!(".{}-{count}-{time:x}.partial", std::process::id()));
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
    // The rename itself lasts only once the directory is on the disk. Not every file system can do that, and by now the
    // new file has taken the old one's place.
    if let Err(error) = File::open(directory).and_then(|directory| directory.sync_all()) {
        log::debug!("{} could not be synced: {error}", directory.display());
    }
    Ok(())
}

fn failed(what: &str, path: &Path, cause: io::Error) -> Error {
    error!(StorageFailed, "the checkpoint {} could not be {what}", path.display()).caused_by(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crashed_process_of_the_same_number_left_does_not_stand_in_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layer.kasmina");
        for count in 0..1000 {
            let left = format!(".layer.kasmina.{}-{count}.partial", std::process::id());
            fs::write(directory.path().join(left), b"half a checkpoint").unwrap();
        }
        write(&path, b"a checkpoint").unwrap();
        assert_eq!(read(&path).unwrap(), b"a checkpoint");
    }

    #[test]
    fn a_failed_write_leaves_the_previous_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layer.kasmina");
        fs::create_dir(&path).unwrap();
        assert_eq!(write(&path, b"a checkpoint").unwrap_err().status(), crate::Status::StorageFailed);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
