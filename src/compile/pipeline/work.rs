//! What the threads of a pipeline do: they take jobs in turn, look whether another process has done them, compile, and
//! watch the clock.

use super::process::TIME_LIMIT;
use super::{Artifact, Flight, Origin, Shared};
use crate::compile::{Architecture, KernelClass};
use crate::store::Key;
use crate::{Error, Result, error};
use log::{debug, info, warn};
use parking_lot::{Condvar, Mutex};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// After how long a compile is mentioned in the log, and again each time.
const PATIENCE: Duration = Duration::from_secs(2);

/// So many compiles may go on beyond their time before nothing is compiled any more: each is a thread that never rests.
const MOST_OVERDUE: usize = 8;

/// A kernel to compile, and who waits for it.
pub(super) struct Job {
    pub key: Key,
    pub class: KernelClass,
    pub architecture: Architecture,
    pub flight: Arc<Flight>,
}

/// What a compile and the thread that waits for it tell each other.
#[derive(Default)]
struct Handover {
    state: Mutex<Compile>,
    ended: Condvar,
}

#[derive(Default)]
enum Compile {
    #[default]
    Running,
    Ended(Result<Artifact>),
    /// Nobody waits for it any more.
    Overdue,
}

impl Shared {
    /// Takes jobs until there are none.
    pub(super) fn work(self: &Arc<Shared>) {
        while let Some(job) = self.next_job() {
            let job = Arc::new(job);
            let result = caught(&job, || self.produce(&job)).map(Arc::new);
            if let Err(error) = &result {
                warn!("{} cannot be compiled: {error}", describe(&job));
            }
            self.finish(&job, result);
            // Now that nobody waits for this kernel any more.
            if let Some(disk) = &self.disk {
                disk.clean_up();
            }
        }
    }

    /// The next job that somebody waits for; without one the thread is to end.
    fn next_job(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            let Some(job) = state.queue.pop_front() else {
                state.workers -= 1;
                return None;
            };
            // Tickets hold the flight as well, and are handed out under this lock.
            let nobody = Arc::strong_count(&job.flight) == 2;
            if !nobody {
                return Some(job);
            }
            state.flights.remove(&job.key);
            state.statistics.cancelled += 1;
        }
    }

    fn produce(self: &Arc<Shared>, job: &Arc<Job>) -> Result<Artifact> {
        if let Some(artifact) = self.stored(job) {
            return Ok(artifact);
        }
        let (time_limit, overdue) = self.time();
        // One process compiles, and the others find what it made.
        let _turn = self.disk.as_ref().and_then(|disk| disk.take_turn(&job.key, time_limit));
        if self.disk.is_some()
            && let Some(artifact) = self.stored(job)
        {
            return Ok(artifact);
        }
        if overdue >= MOST_OVERDUE {
            return Err(error!(
                CompileTimedOut,
                "{overdue} compiles go on beyond their time, so no other is begun; restart the process with more time \
                 ({TIME_LIMIT}) or smaller blueprints"
            ));
        }
        let handover = Arc::new(Handover::default());
        let compile = {
            let (shared, job, handover) = (self.clone(), job.clone(), handover.clone());
            move || handover.give(caught(&job, || shared.compile(&job)), &shared, &job)
        };
        let started = thread::Builder::new().name("kasmina-compile".into()).spawn(compile);
        started.map_err(|cause| error!(OutOfMemory, "no thread for {}", describe(job)).caused_by(cause))?;
        handover.wait(self, job, time_limit)
    }

    /// How long a compile may take, and how many have taken longer and go on.
    fn time(&self) -> (Duration, usize) {
        let state = self.state.lock();
        (state.time_limit, state.overdue.len())
    }

    /// From disk, if it is there.
    fn stored(&self, job: &Job) -> Option<Artifact> {
        let started = Instant::now();
        let stored = self.disk.as_ref().and_then(|disk| disk.load(&job.key));
        let machine_code = stored.or_else(|| self.bundle.as_ref().and_then(|bundle| bundle.load(&job.key)))?;
        let seconds = started.elapsed().as_secs_f64();
        debug!("read {} from disk in {seconds:.6} s", describe(job));
        Some(Artifact { key: job.key.clone(), machine_code, origin: Origin::Disk, seconds })
    }

    fn compile(&self, job: &Job) -> Result<Artifact> {
        let started = Instant::now();
        let compiled = self.compiler.compile(&job.class, job.architecture);
        let seconds = started.elapsed().as_secs_f64();
        self.state.lock().statistics.compile_seconds += seconds;
        let machine_code: Arc<[u8]> = compiled?.into();
        info!("compiled {} in {seconds:.3} s: {} bytes", describe(job), machine_code.len());
        if let Some(disk) = &self.disk {
            disk.save(&job.key, &machine_code);
        }
        Ok(Artifact { key: job.key.clone(), machine_code, origin: Origin::Compiled, seconds })
    }

    /// Into memory first and out of the flights next, so that a request finds it in one of the two.
    fn finish(&self, job: &Job, result: Result<Arc<Artifact>>) {
        if let Ok(artifact) = &result {
            self.memory.insert(&job.key, artifact.machine_code.clone());
        }
        let mut state = self.state.lock();
        match result.as_ref().map(|artifact| artifact.origin) {
            Ok(Origin::Compiled) => state.statistics.compiled += 1,
            Ok(Origin::Disk) => state.statistics.disk_hits += 1,
            Ok(Origin::Memory) => state.statistics.memory_hits += 1,
            Err(_) => state.statistics.failed += 1,
        }
        state.flights.remove(&job.key);
        drop(state);
        let _ = job.flight.set(result);
    }

    /// A compile that nobody waits for any more has ended all the same.
    fn finish_late(&self, job: &Job, result: Result<Artifact>) {
        match &result {
            Ok(artifact) => {
                self.memory.insert(&job.key, artifact.machine_code.clone());
                info!("{} is there at last, after {:.0} s", describe(job), artifact.seconds);
            }
            Err(error) => warn!("{} came to nothing at last: {error}", describe(job)),
        }
        let mut state = self.state.lock();
        state.overdue.remove(&job.key);
        state.statistics.compiled += u64::from(result.is_ok());
    }
}

/// What is said of a compile that takes too long.
pub(super) fn overdue(what: &str, time_limit: Duration) -> Error {
    let seconds = time_limit.as_secs_f64();
    error!(
        CompileTimedOut,
        "{what} takes longer than {seconds} s to compile; the compiler cannot be interrupted, so it goes on by itself, and \
         if it ends the kernel is there when it is asked for again. Give it more time ({TIME_LIMIT}) or use a smaller \
         blueprint"
    )
}

impl Handover {
    /// Waits for the end of a compile, says so when that takes long, and gives up when it takes too long.
    fn wait(&self, shared: &Shared, job: &Job, time_limit: Duration) -> Result<Artifact> {
        let started = Instant::now();
        let mut state = self.state.lock();
        loop {
            if let Compile::Ended(result) = std::mem::take(&mut *state) {
                return result;
            }
            let left = time_limit.saturating_sub(started.elapsed());
            if left.is_zero() {
                *state = Compile::Overdue;
                let mut pipeline = shared.state.lock();
                pipeline.overdue.insert(job.key.clone());
                pipeline.statistics.timed_out += 1;
                return Err(overdue(&describe(job), time_limit));
            }
            if self.ended.wait_for(&mut state, left.min(PATIENCE)).timed_out() {
                info!("still compiling {} after {:.0} s", describe(job), started.elapsed().as_secs_f64());
            }
        }
    }

    /// The end of a compile.
    fn give(&self, result: Result<Artifact>, shared: &Shared, job: &Job) {
        let mut state = self.state.lock();
        if let Compile::Overdue = *state {
            return shared.finish_late(job, result);
        }
        *state = Compile::Ended(result);
        self.ended.notify_one();
    }
}

/// A panic in it is an error and ends nothing else.
fn caught<T>(job: &Job, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked =
        |panic: Box<dyn Any + Send>| Err(error!(Panic, "panic while compiling {}: {}", describe(job), words(&*panic)));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

/// What the log calls a kernel.
fn describe(job: &Job) -> String {
    let KernelClass { pass, schedule, chunk, programs, frozen, .. } = &job.class;
    let programs = programs.len() + frozen.len();
    let (schedule, arithmetic) = (schedule.name(), job.class.arithmetic());
    format!("{pass:?} {arithmetic} chunk {chunk} programs {programs} schedule {schedule} for {}", job.architecture)
}
