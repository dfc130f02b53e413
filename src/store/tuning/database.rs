//! The tuning database as its users see it: one that always answers. Here is decided what becomes of a failure.

use super::backend::{Backend, Failure};
use super::place::TuningPlace;
#[cfg(feature = "postgres")]
use super::postgres::Server;
use super::problem::{Candidate, Neighbour, Problem, Tuned, check_features};
use super::queries::{self, Replace};
use super::sqlite::Sqlite;
use crate::graph::Features;
use crate::store::give_back_inherited;
use crate::{Error, Result, error};
use log::{debug, warn};
use parking_lot::Mutex;
use std::sync::OnceLock;

/// What a tuning database may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TuningLimits {
    /// Problems. Over that, those go that were not used for longest.
    pub problems: u64,
    /// Candidates of one problem. Over that, the slowest go.
    pub candidates: u64,
}

impl Default for TuningLimits {
    fn default() -> TuningLimits {
        TuningLimits { problems: 16384, candidates: 512 }
    }
}

/// What a tuning database holds, and how it fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TuningStatistics {
    /// How many problems there are.
    pub problems: u64,
    /// How many candidates there are, of all problems.
    pub candidates: u64,
    /// How often something could not be read or written, in this process.
    pub errors: u64,
    /// Why this process keeps everything in memory, though it was told another place; what it found to be damaged; or why
    /// the place did not answer last.
    pub fault: Option<String>,
}

/// Schedules that were measured, by problem. Safe under threads, and many processes may use one place.
///
/// Nothing is opened before it is needed, and looking makes no file. After a fork the child opens a connection of its own.
#[derive(Debug)]
pub struct TuningDatabase {
    place: TuningPlace,
    limits: TuningLimits,
    first: Process,
}

/// The connection of one process. A child that was forked finds a lock that may be held for good and a connection that is
/// its parent's, so it touches neither and goes on to the next.
#[derive(Debug)]
struct Process {
    number: u32,
    state: Mutex<State>,
    next: OnceLock<Box<Process>>,
}

#[derive(Default)]
struct State {
    backend: Option<Box<dyn Backend>>,
    /// Why `backend` is memory, though the place is not.
    unusable: Option<String>,
    /// What was found to be damaged.
    damaged: Option<String>,
    /// What was refused last.
    refused: Option<String>,
    errors: u64,
    /// What is to be said when nothing is locked any more: whoever listens may ask the database something.
    news: Vec<String>,
}

impl TuningDatabase {
    /// The database at a place.
    pub fn new(place: TuningPlace, limits: TuningLimits) -> TuningDatabase {
        TuningDatabase { place, limits, first: Process::new() }
    }

    /// The database that the environment names (see [`TuningPlace::from_environment`]); `None` if it is `off`.
    pub fn from_environment() -> Option<TuningDatabase> {
        Some(TuningDatabase::new(TuningPlace::from_environment()?, TuningLimits::default()))
    }

    /// Where it is.
    pub fn place(&self) -> &TuningPlace {
        &self.place
    }

    /// Keeps what was tried on a problem, beside what is there. May be called after each measurement: a tuning that ends half
    /// done goes on from [`TuningDatabase::candidates`].
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for what cannot be kept anywhere: times that are not finite, texts without end. That the place
    /// cannot be written is no error of the caller's.
    pub fn record(&self, problem: &Problem, features: &Features, candidates: &[Candidate]) -> Result<()> {
        let tuned = Tuned { problem: problem.clone(), features: features.clone(), candidates: candidates.to_vec() };
        self.keep(&tuned, Replace::Always).map(drop)
    }

    /// The fastest valid candidate of a problem.
    pub fn best(&self, problem: &Problem) -> Option<Candidate> {
        self.run(false, |backend| queries::best(backend, problem)).ok()??
    }

    /// Everything that was tried on a problem: the valid ones first, the fastest of them first.
    pub fn candidates(&self, problem: &Problem) -> Vec<Candidate> {
        self.run(false, |backend| queries::candidates(backend, problem)).ok().flatten().unwrap_or_default()
    }

    /// Everything that was tried on a class on a device, whatever the rows and seeds of `problem`.
    pub fn of_class(&self, problem: &Problem) -> Vec<Tuned> {
        self.run(false, |backend| queries::of_class(backend, problem)).ok().flatten().unwrap_or_default()
    }

    /// What served similar problems of the same kind on the same device: the most similar first, of equals that with the most
    /// similar shape of work. Good places to begin tuning `problem` at; 0.8 is a good `similarity` to ask for.
    ///
    /// Problems of other versions of generator and compiler are among them, so check that a schedule still means something.
    pub fn neighbours(&self, problem: &Problem, features: &Features, similarity: f64) -> Vec<Neighbour> {
        let found = self.run(false, |backend| queries::neighbours(backend, problem, features, similarity));
        found.ok().flatten().unwrap_or_default()
    }

    /// Shows every problem to `visit`, in a fixed order.
    ///
    /// # Errors
    ///
    /// `StorageFailed` if the place cannot be read, and what `visit` returns.
    pub fn each(&self, mut visit: impl FnMut(Tuned) -> Result<()>) -> Result<()> {
        let mut after = Vec::new();
        loop {
            let read = self.run(false, |backend| queries::page(backend, &after));
            let Some((page, last)) = read.map_err(|failure| self.failed("read", &failure))? else { return Ok(()) };
            page.into_iter().try_for_each(&mut visit)?;
            match last {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }

    /// Removes everything; returns how many problems there were.
    ///
    /// # Errors
    ///
    /// `StorageFailed` if the place cannot be written.
    pub fn clear(&self) -> Result<u64> {
        let cleared = self.run(false, queries::clear).map_err(|failure| self.failed("clear", &failure))?;
        Ok(cleared.unwrap_or(0))
    }

    /// What it holds and how it fares.
    pub fn statistics(&self) -> TuningStatistics {
        let counted = self.run(false, queries::count);
        let (problems, candidates) = counted.as_ref().ok().copied().flatten().unwrap_or_default();
        let state = self.process().state.lock();
        let unusable = state.unusable.clone().or_else(|| state.damaged.clone());
        let fault = unusable.or_else(|| counted.err().and(state.refused.clone()));
        TuningStatistics { problems, candidates, errors: state.errors, fault }
    }

    /// Keeps a problem; returns how many candidates were added or changed, or `None` if the place could not be written.
    pub(super) fn keep(&self, tuned: &Tuned, replace: Replace) -> Result<Option<u64>> {
        tuned.problem.check()?;
        check_features(&tuned.features)?;
        tuned.candidates.iter().try_for_each(Candidate::check)?;
        Ok(self.run(true, |backend| queries::record(backend, tuned, replace, &self.limits)).ok().flatten())
    }

    /// An error for those who want to know.
    pub(super) fn failed(&self, what: &str, failure: &Failure) -> Error {
        error!(StorageFailed, "cannot {what} the tuning database {}: {failure}", self.place)
    }

    /// Does some work on an open connection; on none, which is `None`, if `make` is false and there is nothing yet.
    fn run<T>(&self, make: bool, work: impl Fn(&mut dyn Backend) -> Result<T, Failure>) -> Result<Option<T>, Failure> {
        let mut state = self.process().state.lock();
        let done = state.run(&self.place, make, work);
        let (news, quiet) = (std::mem::take(&mut state.news), state.errors > 1);
        drop(state);
        for sentence in news {
            if quiet { debug!("{sentence}") } else { warn!("{sentence}") }
        }
        done
    }

    fn process(&self) -> &Process {
        let mut process = &self.first;
        while process.number != std::process::id() {
            process = process.next.get_or_init(|| {
                give_back_inherited();
                Box::new(Process::new())
            });
        }
        process
    }
}

impl Process {
    fn new() -> Process {
        Process { number: std::process::id(), state: Mutex::default(), next: OnceLock::new() }
    }
}

impl State {
    fn run<T>(
        &mut self,
        place: &TuningPlace,
        make: bool,
        work: impl Fn(&mut dyn Backend) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        // Once it may be damaged, and what is built in its place may prove to be of no use.
        for _ in 0..3 {
            if self.backend.as_ref().is_some_and(|backend| !backend.is_current()) {
                self.backend = None;
            }
            if self.backend.is_none() {
                match open(place, make) {
                    Ok(None) => return Ok(None),
                    Ok(opened) => self.backend = opened,
                    Err(failure) => {
                        self.react(place, failure)?;
                        continue;
                    }
                }
            }
            let Some(backend) = &mut self.backend else { continue };
            match work(backend.as_mut()) {
                Ok(done) => return Ok(Some(done)),
                Err(failure) => self.react(place, failure)?,
            }
        }
        Err(Failure::Refused("it is damaged again and again".into()))
    }

    /// Makes it so that the next try may succeed, or returns the failure.
    fn react(&mut self, place: &TuningPlace, failure: Failure) -> Result<(), Failure> {
        match failure {
            Failure::Damaged(reason) => {
                let reason = match self.backend.take() {
                    Some(damaged) => format!("{reason}; {}", damaged.set_aside()?),
                    None => reason,
                };
                self.news.push(format!("the tuning database {place} was damaged and begins anew: {reason}"));
                self.damaged = Some(format!("it was damaged and begins anew: {reason}"));
            }
            Failure::Unusable(reason) => {
                self.news.push(format!(
                    "the tuning database {place} cannot be used: {reason}. What is tuned is kept in memory only; set \
                     KASMINA_TUNING_DB to another place, or to `memory`"
                ));
                self.unusable = Some(reason);
                self.backend = Some(Box::new(Sqlite::in_memory()?));
            }
            Failure::Refused(reason) => {
                self.errors += 1;
                self.news.push(format!("the tuning database {place} did not do its work: {reason}"));
                self.refused = Some(reason.clone());
                return Err(Failure::Refused(reason));
            }
        }
        Ok(())
    }
}

fn open(place: &TuningPlace, make: bool) -> Result<Option<Box<dyn Backend>>, Failure> {
    let boxed = |opened| Box::new(opened) as Box<dyn Backend>;
    match (place, place.file()) {
        (_, Some(file)) => Ok(Sqlite::open(&file, make)?.map(boxed)),
        #[cfg(feature = "postgres")]
        (TuningPlace::Server(url), None) => Ok(Some(Box::new(Server::open(url)?))),
        #[cfg(not(feature = "postgres"))]
        (TuningPlace::Server(_), None) => Err(Failure::Unusable("this library was built without PostgreSQL".into())),
        (_, None) => Ok(Some(boxed(Sqlite::in_memory()?))),
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("State").field("unusable", &self.unusable).field("errors", &self.errors).finish()
    }
}
