//! Where the disk cache and the bundle of this process are, by its environment.

use super::{Bundle, DiskCache, DiskLimits};
use crate::Result;
use log::warn;
use std::ffi::OsString;
use std::path::PathBuf;

impl DiskCache {
    /// The cache that the environment names, of the default size; none if `KASMINA_CACHE_DIR` is empty or `off`.
    pub fn from_environment() -> Option<DiskCache> {
        let directory = cache_directory(|name| std::env::var_os(name));
        if directory.is_none() && std::env::var_os("KASMINA_CACHE_DIR").is_none() {
            warn!(
                "kernels are kept in memory only, because HOME is not set; set KASMINA_CACHE_DIR to keep them on disk"
            );
        }
        Some(DiskCache::new(directory?, DiskLimits::default()))
    }
}

impl Bundle {
    /// The bundle that `KASMINA_CACHE_BUNDLE` names; `None` if it names none.
    pub fn from_environment() -> Option<Result<Bundle>> {
        let path = std::env::var_os("KASMINA_CACHE_BUNDLE").filter(|path| !path.is_empty())?;
        Some(Bundle::open(path.as_ref()))
    }
}

/// `KASMINA_CACHE_DIR`, else `XDG_CACHE_HOME/kasmina`, else `HOME/.cache/kasmina`.
pub(super) fn cache_directory(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(directory) = variable("KASMINA_CACHE_DIR") {
        let off = directory.is_empty() || directory == "off";
        return (!off).then(|| directory.into());
    }
    // The XDG specification: a relative path is to be ignored.
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Some(caches?.join("kasmina"))
}
