//! What lies in a cache's directory, for people who look at it, check it and carry it elsewhere. Unlike a load, looking
//! changes nothing, and what goes wrong is an error.

use super::disk::{ENTRY, Miss, check_directory};
use super::publish::TEMPORARY;
use super::{Bundle, Cleaned, DiskCache, Key, entry};
use crate::{Error, Result, error};
use rustix::fs::{Access, access};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes of a file that is written to see whether a kernel could be.
const PROBE: usize = 64 << 10;

/// A file of the cache.
#[derive(Debug)]
pub struct Stored {
    /// Where it is.
    pub path: PathBuf,
    /// How large it is.
    pub bytes: u64,
    /// When it was written or last loaded.
    pub last_use: Option<SystemTime>,
    /// Its key and its machine code, or what is wrong with it: a load would be a miss and remove it.
    pub kernel: Result<(Key, Vec<u8>), String>,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Kernels that were not there before.
    pub added: u64,
    /// Kernels that were there already.
    pub present: u64,
}

impl DiskCache {
    /// Every kernel, in the order of names, each read and checked when its turn comes. Nothing if there is no directory.
    pub fn stored(&self) -> Result<impl Iterator<Item = Stored>> {
        let failed = |cause| self.failed("read", cause);
        let mut paths = Vec::new();
        match check_directory(self.directory()).and_then(|()| fs::read_dir(self.directory())) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(failed(cause)),
            Ok(files) => {
                for file in files {
                    paths.push(file.map_err(failed)?.path());
                }
            }
        }
        paths.retain(|path| path.to_string_lossy().ends_with(ENTRY));
        paths.sort();
        Ok(paths.into_iter().filter_map(|path| self.look(path)))
    }

    /// What is in one file; `None` if it is gone meanwhile.
    fn look(&self, path: PathBuf) -> Option<Stored> {
        let metadata = fs::symlink_metadata(&path).ok()?;
        let kernel = match self.read_file(&path) {
            Err(Miss::Absent) => return None,
            Err(Miss::Refused(cause)) => Err(format!("it cannot be read: {cause}")),
            Err(Miss::Invalid(reason)) => Err(reason.to_string()),
            Ok((_, bytes)) => match entry::decode_any(&bytes) {
                Ok((key, _)) if self.path(&key) != path => Err("it has the name of another kernel".to_string()),
                decoded => decoded.map_err(str::to_string),
            },
        };
        Some(Stored { bytes: metadata.len(), last_use: metadata.modified().ok(), path, kernel })
    }

    /// Removes what is over the limits, and what dead processes left behind.
    pub fn collect(&self) -> Result<Cleaned> {
        match self.clean() {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Cleaned::default()),
            cleaned => cleaned.map_err(|cause| self.failed("clean up", cause)),
        }
    }

    /// Adds the kernels of a bundle, each checked, and then removes what is over the limits.
    pub fn import(&self, bundle: &Bundle) -> Result<Imported> {
        let mut imported = Imported::default();
        for kernel in bundle.kernels() {
            let (key, machine_code) = kernel?;
            if self.read(&self.path(&key), &key).is_ok() {
                imported.present += 1;
            } else {
                self.keep(&key, &machine_code).map_err(|cause| self.failed("write", cause))?;
                imported.added += 1;
            }
        }
        self.collect()?;
        Ok(imported)
    }

    /// Makes sure that a kernel could be saved, by writing a file as one does and removing it. Where there is no directory
    /// yet none is made, because it would be of whoever looks and not of whoever compiles: then one must be possible.
    pub fn probe(&self) -> Result<()> {
        let written = if self.directory().exists() {
            let path = self.directory().join(format!("probe{TEMPORARY}"));
            self.write(&path, &[0; PROBE]).and_then(|()| fs::remove_file(&path))
        } else {
            let above = self.directory().ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
            // A directory can be written to, and a file cannot be read as one.
            fs::read_dir(above).and_then(|_| Ok(access(above, Access::WRITE_OK | Access::EXEC_OK)?))
        };
        written.map_err(|cause| self.failed("write", cause))
    }

    fn failed(&self, what: &str, cause: io::Error) -> Error {
        let directory = self.directory().display();
        error!(
            StorageFailed,
            "cannot {what} in the kernel cache {directory}: {cause}; set KASMINA_CACHE_DIR to a directory of your own"
        )
    }
}
