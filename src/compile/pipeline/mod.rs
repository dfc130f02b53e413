//! Compiles kernel classes in the background: memory cache, then disk cache, then bundle, then compiler, and one compile
//! per key however many threads and processes ask. Knows no layer: whoever needs a kernel asks for a [`Ticket`] and looks at
//! it when it suits.
//!
//! Here is what callers see; [`work`] is what threads do, [`process`] the pipeline that a process has by itself.

mod process;
mod work;

pub use process::pipeline;

use super::{Architecture, KernelClass};
use crate::store::{Bundle, DiskCache, GENERATOR_VERSION, Key, MemoryCache};
use crate::{Error, Result, error};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;
use work::Job;

/// What turns a class into machine code.
pub trait Compiler: Send + Sync {
    /// The version of what compiles for an architecture. Another version means another key.
    fn version(&self, architecture: Architecture) -> Result<String>;

    /// The machine code of a class. May panic; that becomes an error for those who wait.
    fn compile(&self, class: &KernelClass, architecture: Architecture) -> Result<Vec<u8>>;
}

/// Where a kernel came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// It was compiled for this request.
    Compiled,
    /// This process had it.
    Memory,
    /// It was on disk, in the cache or in the bundle.
    Disk,
}

/// A compiled kernel, ready for [`crate::device::Device::load`].
#[derive(Clone)]
pub struct Artifact {
    /// What it is.
    pub key: Key,
    /// What the device loads.
    pub machine_code: Arc<[u8]>,
    /// Where it came from.
    pub origin: Origin,
    /// How long compiling or reading it took; 0 from memory.
    pub seconds: f64,
}

impl std::fmt::Debug for Artifact {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Artifact { key, machine_code, origin, seconds } = self;
        write!(formatter, "Artifact({key}, {} bytes, {origin:?}, {seconds:.3} s)", machine_code.len())
    }
}

/// What a pipeline has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Kernels compiled.
    pub compiled: u64,
    /// Requests answered from memory.
    pub memory_hits: u64,
    /// Kernels read from disk.
    pub disk_hits: u64,
    /// Requests and compiles that ended in an error.
    pub failed: u64,
    /// Kernels that are being compiled or wait for their turn now.
    pub waiting: u64,
    /// Time spent in the compiler, failures included.
    pub compile_seconds: f64,
    /// Reads, writes, locks and removals in the disk cache that the system refused.
    pub disk_errors: u64,
    /// Of `waiting`, those that are being compiled or read now.
    pub running: u64,
    /// Requests that nobody waited for any more when their turn came.
    pub cancelled: u64,
    /// Compiles that took longer than they may.
    pub timed_out: u64,
}

/// Compiles in the background, on threads that live only while there is work.
pub struct Pipeline {
    shared: Arc<Shared>,
}

/// A place in the queue: everybody who asks for one key while it is being compiled holds the same flight. A kernel whose
/// tickets are all dropped before its turn comes is not compiled.
#[derive(Clone, Debug)]
pub struct Ticket {
    flight: Arc<Flight>,
    pipeline: Weak<Shared>,
    process: u32,
}

type Flight = OnceLock<Result<Arc<Artifact>>>;

struct Shared {
    memory: MemoryCache,
    disk: Option<DiskCache>,
    bundle: Option<Bundle>,
    compiler: Box<dyn Compiler>,
    state: Mutex<State>,
}

struct State {
    time_limit: Duration,
    /// How many kernels may be compiled at once.
    threads: usize,
    flights: HashMap<Key, Arc<Flight>>,
    queue: VecDeque<Job>,
    /// Kernels that were found to be wrong, and how.
    withdrawn: HashMap<Key, Error>,
    /// Kernels whose compile took too long and still goes on.
    overdue: HashSet<Key>,
    workers: usize,
    statistics: Statistics,
}

impl Ticket {
    /// The kernel or the error, once there is one. Never waits.
    ///
    /// In a forked child nobody works on what the parent asked for: that is the error `Forked`; ask again.
    pub fn poll(&self) -> Option<Result<Arc<Artifact>>> {
        #[cfg(test)]
        match super::pace::get() {
            super::pace::Pace::Stuck => return None,
            super::pace::Pace::Instant => drop(self.flight.wait()),
            super::pace::Pace::Real => {}
        }
        let result = self.flight.get().cloned();
        result.or_else(|| (self.process != std::process::id()).then(|| Err(forked())))
    }

    /// The kernel or the error; waits for it, and it goes first. `Forked` as in [`Ticket::poll`].
    pub fn wait(&self) -> Result<Arc<Artifact>> {
        self.poll().unwrap_or_else(|| {
            self.hurry();
            self.flight.wait().clone()
        })
    }

    /// Puts the kernel before all others that wait for their turn.
    pub fn hurry(&self) {
        if let Some(pipeline) = self.pipeline.upgrade()
            && self.poll().is_none()
        {
            let queue = &mut pipeline.state.lock().queue;
            let place = queue.iter().position(|job| Arc::ptr_eq(&job.flight, &self.flight));
            if let Some(job) = place.and_then(|place| queue.remove(place)) {
                queue.push_front(job);
            }
        }
    }
}

impl Shared {
    fn ticket(self: &Arc<Shared>, flight: Arc<Flight>) -> Ticket {
        Ticket { flight, pipeline: Arc::downgrade(self), process: std::process::id() }
    }

    fn answered(self: &Arc<Shared>, result: Result<Arc<Artifact>>) -> Ticket {
        self.ticket(Arc::new(Flight::from(result)))
    }
}

impl Pipeline {
    /// A pipeline of its own, with these caches and this compiler. It compiles one kernel at a time.
    pub fn new(
        memory: MemoryCache,
        disk: Option<DiskCache>,
        bundle: Option<Bundle>,
        compiler: impl Compiler + 'static,
    ) -> Pipeline {
        let state = State {
            time_limit: Duration::MAX,
            threads: 1,
            flights: HashMap::new(),
            queue: VecDeque::new(),
            withdrawn: HashMap::new(),
            overdue: HashSet::new(),
            workers: 0,
            statistics: Statistics::default(),
        };
        let (compiler, state) = (Box::new(compiler), Mutex::new(state));
        Pipeline { shared: Arc::new(Shared { memory, disk, bundle, compiler, state }) }
    }

    /// The same pipeline with a limit for each compile. One that takes longer is the error `CompileTimedOut`. The compiler
    /// cannot be interrupted, so it goes on by itself, and what it makes is kept as ever.
    pub fn with_time_limit(self, time_limit: Duration) -> Pipeline {
        self.shared.state.lock().time_limit = time_limit;
        self
    }

    /// The same pipeline, compiling so many kernels at once, at least one.
    pub fn with_threads(self, threads: usize) -> Pipeline {
        self.shared.state.lock().threads = threads.max(1);
        self
    }

    /// Asks for the kernel of a class. Returns at once; whatever goes wrong is told by the ticket.
    pub fn request(&self, class: KernelClass, architecture: Architecture) -> Ticket {
        let compiler = self.shared.compiler.version(architecture);
        let key = compiler.and_then(|compiler| Key::new(&class, architecture, GENERATOR_VERSION, &compiler));
        let mut state = self.shared.state.lock();
        let key = match key {
            Ok(key) => key,
            Err(error) => {
                state.statistics.failed += 1;
                return self.shared.answered(Err(error));
            }
        };
        if let Some(error) = state.withdrawn.get(&key).cloned() {
            state.statistics.failed += 1;
            return self.shared.answered(Err(error));
        }
        // Under the lock: what is neither in memory nor in flight now has not been started by anybody.
        if let Some(machine_code) = self.shared.memory.get(&key) {
            state.statistics.memory_hits += 1;
            let artifact = Artifact { key, machine_code, origin: Origin::Memory, seconds: 0.0 };
            return self.shared.answered(Ok(Arc::new(artifact)));
        }
        if let Some(flight) = state.flights.get(&key) {
            return self.shared.ticket(flight.clone());
        }
        if state.overdue.contains(&key) {
            state.statistics.failed += 1;
            return self.shared.answered(Err(work::overdue("this kernel", state.time_limit)));
        }
        let flight = Arc::new(Flight::new());
        state.flights.insert(key.clone(), flight.clone());
        state.queue.push_back(Job { key, class, architecture, flight: flight.clone() });
        self.start_worker(&mut state);
        self.shared.ticket(flight)
    }

    /// The kernel of a class; waits for it.
    pub fn compile(&self, class: KernelClass, architecture: Architecture) -> Result<Arc<Artifact>> {
        self.request(class, architecture).wait()
    }

    /// Takes back a kernel that whoever loaded it found to be wrong: it is removed from memory and disk, and whoever asks for
    /// it again in this process gets this error.
    pub fn withdraw(&self, key: &Key, error: &Error) {
        self.shared.state.lock().withdrawn.insert(key.clone(), error.clone());
        self.shared.memory.remove(key);
        if let Some(disk) = &self.shared.disk {
            disk.remove(key);
        }
    }

    /// What has been done so far.
    pub fn statistics(&self) -> Statistics {
        let state = self.shared.state.lock();
        let disk_errors = self.shared.disk.as_ref().map_or(0, DiskCache::errors);
        let waiting = state.flights.len() as u64;
        Statistics { waiting, running: waiting - state.queue.len() as u64, disk_errors, ..state.statistics }
    }

    fn start_worker(&self, state: &mut State) {
        if state.workers >= state.threads {
            return;
        }
        let shared = self.shared.clone();
        match thread::Builder::new().name("kasmina-worker".into()).spawn(move || shared.work()) {
            Ok(_) => state.workers += 1,
            Err(_) if state.workers > 0 => {}
            Err(cause) => {
                let error = error!(OutOfMemory, "no thread could be started to compile with").caused_by(cause);
                for job in state.queue.drain(..) {
                    state.flights.remove(&job.key);
                    state.statistics.failed += 1;
                    let _ = job.flight.set(Err(error.clone()));
                }
            }
        }
    }
}

fn forked() -> Error {
    error!(Forked, "this kernel was asked for before the process was forked; ask for it again")
}
