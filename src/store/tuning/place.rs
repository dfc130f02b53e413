//! Where the tuning database of this process is, by its environment.

use super::sqlite::File;
use crate::store::place::cache_directory;
use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;

/// Where a tuning database is kept.
#[derive(Clone, PartialEq, Eq)]
pub enum TuningPlace {
    /// In this process, while it lasts.
    Memory,
    /// In `tuning/tuning.sqlite` of this cache directory, private to the user.
    Cache(PathBuf),
    /// In this file of SQLite.
    File(PathBuf),
    /// On a PostgreSQL server, by its URL.
    Server(String),
}

impl TuningPlace {
    /// What `KASMINA_TUNING_DB` names: a path, `postgres://...`, `memory`, or `off`, which is `None`. If it is not set, the
    /// directory of the kernel cache, or memory where there is none.
    pub fn from_environment() -> Option<TuningPlace> {
        match std::env::var_os("KASMINA_TUNING_DB").filter(|named| !named.is_empty()) {
            Some(named) => TuningPlace::named(&named),
            None => {
                Some(cache_directory(|name| std::env::var_os(name)).map_or(TuningPlace::Memory, TuningPlace::Cache))
            }
        }
    }

    /// The place of a name, as in `KASMINA_TUNING_DB`.
    pub fn named(name: &OsStr) -> Option<TuningPlace> {
        match name.to_str() {
            Some("off") => None,
            Some("memory") => Some(TuningPlace::Memory),
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Some(TuningPlace::Server(url.to_owned()))
            }
            _ => Some(TuningPlace::File(name.into())),
        }
    }

    /// The file, if it is one.
    pub(super) fn file(&self) -> Option<File> {
        let (path, private) = match self {
            TuningPlace::Cache(directory) => (directory.join("tuning").join("tuning.sqlite"), true),
            TuningPlace::File(path) => (path.clone(), false),
            TuningPlace::Memory | TuningPlace::Server(_) => return None,
        };
        // The process may change its directory later; the file stays where it is.
        Some(File { path: std::path::absolute(&path).unwrap_or(path), private })
    }
}

/// Without user and password, which are nobody's business.
impl fmt::Display for TuningPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TuningPlace::Memory => formatter.write_str("memory"),
            TuningPlace::Cache(_) | TuningPlace::File(_) => {
                self.file().map_or(Ok(()), |file| write!(formatter, "{}", file.path.display()))
            }
            TuningPlace::Server(url) => {
                // Passwords can also be among the parameters after the question mark.
                let address = url.split_once("://").map_or("", |(_, address)| address);
                let address = address.split(['?', '#']).next().unwrap_or_default();
                let server = address.rsplit_once('@').map_or(address, |(_, server)| server);
                write!(formatter, "postgres://{server}")
            }
        }
    }
}

impl fmt::Debug for TuningPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TuningPlace({self})")
    }
}
