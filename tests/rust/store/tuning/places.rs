//! The places that a tuning database can be in, each empty and of its own.

use kasmina::store::{TuningDatabase, TuningLimits, TuningPlace};
use std::path::PathBuf;
use tempfile::{TempDir, tempdir};

/// A place, with what removes it.
pub struct Place {
    pub name: &'static str,
    pub place: TuningPlace,
    pub directory: Option<TempDir>,
}

impl Place {
    /// A database there, as another process would open it. (One in memory is another one.)
    pub fn open(&self) -> TuningDatabase {
        self.open_with(TuningLimits::default())
    }

    pub fn open_with(&self, limits: TuningLimits) -> TuningDatabase {
        TuningDatabase::new(self.place.clone(), limits)
    }

    /// What `KASMINA_TUNING_DB` has to say for it.
    pub fn named(&self) -> PathBuf {
        match &self.place {
            TuningPlace::Cache(directory) => directory.join("tuning/tuning.sqlite"),
            TuningPlace::File(path) => path.clone(),
            TuningPlace::Server(url) => url.into(),
            TuningPlace::Memory => "memory".into(),
        }
    }

    pub fn lasts(&self) -> bool {
        self.place != TuningPlace::Memory
    }
}

pub fn file() -> Place {
    let directory = tempdir().unwrap();
    let place = TuningPlace::Cache(directory.path().join("cache"));
    Place { name: "a file", place, directory: Some(directory) }
}

pub fn memory() -> Place {
    Place { name: "memory", place: TuningPlace::Memory, directory: None }
}

/// One of each.
pub fn all() -> Vec<Place> {
    let mut places = vec![file(), memory()];
    #[cfg(feature = "postgres")]
    places.extend(super::server::place());
    places
}
