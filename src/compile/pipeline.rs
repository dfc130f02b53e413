//! Compiles kernel classes in the background: memory cache, then disk cache, then bundle, then compiler, and one compile
//! per key however many ask. Knows no layer: whoever needs a kernel asks for a [`Ticket`] and looks at it when it suits.

use super::{Architecture, KernelClass, codegen, nvrtc};
use crate::store::{Bundle, DiskCache, GENERATOR_VERSION, Key, MemoryCache};
use crate::{Error, Result, error};
use log::{debug, info, warn};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// What the process's own pipeline keeps in memory.
const MEMORY_ENTRIES: usize = 1024;
const MEMORY_BYTES: usize = 256 << 20;

/// How many kernels are compiled at once, if there are as many cores.
const MAXIMUM_WORKERS: usize = 4;

/// After how long a compile is mentioned in the log, and again each time.
const PATIENCE: Duration = Duration::from_secs(2);

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
    /// Reads, writes and removals in the disk cache that the system refused.
    pub disk_errors: u64,
}

/// Compiles in the background, on threads that live only while there is work.
pub struct Pipeline {
    shared: Arc<Shared>,
}

/// A place in the queue: everybody who asks for one key while it is being compiled holds the same flight.
#[derive(Clone, Debug)]
pub struct Ticket {
    flight: Arc<Flight>,
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

#[derive(Default)]
struct State {
    flights: HashMap<Key, Arc<Flight>>,
    queue: VecDeque<Job>,
    /// Kernels that were found to be wrong, and how.
    withdrawn: HashMap<Key, Error>,
    workers: usize,
    statistics: Statistics,
}

struct Job {
    key: Key,
    class: KernelClass,
    architecture: Architecture,
    flight: Arc<Flight>,
}

impl Ticket {
    /// The kernel or the error, once there is one. Never waits.
    ///
    /// In a forked child nobody works on what the parent asked for: that is the error `Forked`; ask again.
    pub fn poll(&self) -> Option<Result<Arc<Artifact>>> {
        let result = self.flight.get().cloned();
        result.or_else(|| (self.process != std::process::id()).then(|| Err(forked())))
    }

    /// The kernel or the error; waits for it. `Forked` as in [`Ticket::poll`].
    pub fn wait(&self) -> Result<Arc<Artifact>> {
        self.poll().unwrap_or_else(|| self.flight.wait().clone())
    }

    fn new(flight: Arc<Flight>) -> Ticket {
        Ticket { flight, process: std::process::id() }
    }

    fn ready(result: Result<Arc<Artifact>>) -> Ticket {
        Ticket::new(Arc::new(Flight::from(result)))
    }
}

impl Pipeline {
    /// A pipeline of its own, with these caches and this compiler.
    pub fn new(
        memory: MemoryCache,
        disk: Option<DiskCache>,
        bundle: Option<Bundle>,
        compiler: impl Compiler + 'static,
    ) -> Pipeline {
        let (compiler, state) = (Box::new(compiler), Mutex::default());
        Pipeline { shared: Arc::new(Shared { memory, disk, bundle, compiler, state }) }
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
                return Ticket::ready(Err(error));
            }
        };
        if let Some(error) = state.withdrawn.get(&key).cloned() {
            state.statistics.failed += 1;
            return Ticket::ready(Err(error));
        }
        // Under the lock: what is neither in memory nor in flight now has not been started by anybody.
        if let Some(machine_code) = self.shared.memory.get(&key) {
            state.statistics.memory_hits += 1;
            return Ticket::ready(Ok(Arc::new(Artifact { key, machine_code, origin: Origin::Memory, seconds: 0.0 })));
        }
        if let Some(flight) = state.flights.get(&key) {
            return Ticket::new(flight.clone());
        }
        let flight = Arc::new(Flight::new());
        state.flights.insert(key.clone(), flight.clone());
        state.queue.push_back(Job { key, class, architecture, flight: flight.clone() });
        self.start_worker(&mut state);
        Ticket::new(flight)
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
        Statistics { waiting: state.flights.len() as u64, disk_errors, ..state.statistics }
    }

    fn start_worker(&self, state: &mut State) {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        if state.workers >= cores.min(MAXIMUM_WORKERS) {
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

impl Shared {
    /// Takes jobs until there are none.
    fn work(&self) {
        loop {
            let mut state = self.state.lock();
            let Some(job) = state.queue.pop_front() else {
                state.workers -= 1;
                return;
            };
            drop(state);
            let result = supervise(&describe(&job), || self.produce(&job)).map(Arc::new);
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

    fn produce(&self, job: &Job) -> Result<Artifact> {
        let started = Instant::now();
        let stored = self.disk.as_ref().and_then(|disk| disk.load(&job.key));
        let stored = stored.or_else(|| self.bundle.as_ref().and_then(|bundle| bundle.load(&job.key)));
        if let Some(machine_code) = stored {
            let seconds = started.elapsed().as_secs_f64();
            debug!("read {} from disk in {seconds:.6} s", describe(job));
            return Ok(Artifact { key: job.key.clone(), machine_code, origin: Origin::Disk, seconds });
        }
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
}

/// Runs a job on a thread of its own, so that a panic in it ends nothing else, and says so when it takes long.
fn supervise<T: Send>(what: &str, job: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let (alive, ended) = mpsc::channel::<()>();
        let started = Instant::now();
        let running = thread::Builder::new().name("kasmina-compile".into()).spawn_scoped(scope, move || {
            let _alive = alive;
            job()
        });
        let running = running.map_err(|cause| error!(OutOfMemory, "no thread for {what}").caused_by(cause))?;
        while ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            info!("still compiling {what} after {:.0} s", started.elapsed().as_secs_f64());
        }
        running.join().unwrap_or_else(|panic| Err(error!(Panic, "panic while compiling {what}: {}", words(&*panic))))
    })
}

fn forked() -> Error {
    error!(Forked, "this kernel was asked for before the process was forked; ask for it again")
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

/// What the log calls a kernel.
fn describe(job: &Job) -> String {
    let KernelClass { pass, schedule, data_type, chunk, programs, frozen } = &job.class;
    let programs = programs.len() + frozen.len();
    let (schedule, data_type) = (schedule.name(), data_type.name());
    format!("{pass:?} {data_type} chunk {chunk} programs {programs} schedule {schedule} for {}", job.architecture)
}

/// The pipeline of this process; a forked child gets a fresh one. Ask for it each time rather than keep it.
pub fn pipeline() -> &'static Pipeline {
    static FIRST: OnceLock<Generation> = OnceLock::new();
    let mut place = &FIRST;
    loop {
        let generation = place.get_or_init(Generation::new);
        match generation.next.get() {
            None if generation.process == std::process::id() => return &generation.pipeline,
            _ => place = &generation.next,
        }
    }
}

/// A pipeline and the process it belongs to. The threads and locks of a pipeline are of no use after a fork, so the
/// child adds a generation and leaves those before it alone.
struct Generation {
    process: u32,
    pipeline: Pipeline,
    next: Box<OnceLock<Generation>>,
}

impl Generation {
    fn new() -> Generation {
        debug!("starting the compile pipeline of process {}", std::process::id());
        let memory = MemoryCache::new(MEMORY_ENTRIES, MEMORY_BYTES);
        let bundle = Bundle::from_environment().and_then(|opened| {
            opened.inspect_err(|error| warn!("{error}; kernels that are not in the cache will be compiled")).ok()
        });
        Generation {
            process: std::process::id(),
            pipeline: Pipeline::new(memory, DiskCache::from_environment(), bundle, Generators),
            next: Box::default(),
        }
    }
}

/// The code generators of this library.
struct Generators;

impl Compiler for Generators {
    fn version(&self, architecture: Architecture) -> Result<String> {
        match architecture {
            Architecture::Cpu => Ok(String::new()), // The generator is all there is, and the key has its version.
            Architecture::Cuda(_) => nvrtc::version(),
        }
    }

    fn compile(&self, class: &KernelClass, architecture: Architecture) -> Result<Vec<u8>> {
        match architecture {
            Architecture::Cpu => codegen::cpu::compile(class),
            Architecture::Cuda(_) => codegen::cuda::compile(class, architecture),
        }
    }
}
