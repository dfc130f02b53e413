//! The pipeline compiles once, off the caller's thread, and tells everybody the same.

use crate::samples::class;
use kasmina::compile::{Architecture, Compiler, KernelClass, Origin, Pipeline, Schedule, Ticket};
use kasmina::store::{DiskCache, DiskLimits, GENERATOR_VERSION, Key, MemoryCache};
use kasmina::{Result, Status};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A compiler whose machine code is the class itself, and that can be told to wait, fail and panic.
#[derive(Clone, Default)]
pub struct Fake {
    compiles: Arc<AtomicUsize>,
    /// The chunks of the classes whose compile has begun, in order.
    begun: Arc<Mutex<Vec<usize>>>,
    gate: Arc<(Mutex<bool>, Condvar)>,
    version: u32,
}

/// Chunk widths with a meaning.
const FAILS: usize = 1001;
const PANICS: usize = 1002;
pub const SLOW: usize = 1003;
/// Compiles for a second and a half.
pub const UNHURRIED: usize = 1004;
const NO_COMPILER: u32 = 70;

impl Fake {
    /// From now on nothing is compiled until `open`.
    fn close(&self) {
        *self.gate.0.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.gate.0.lock().unwrap() = false;
        self.gate.1.notify_all();
    }

    /// The key of a class for the CPU.
    pub fn key(&self, class: &KernelClass) -> Key {
        let version = self.version(Architecture::Cpu).unwrap();
        Key::new(class, Architecture::Cpu, GENERATOR_VERSION, &version).unwrap()
    }

    fn compiles(&self) -> usize {
        self.compiles.load(SeqCst)
    }
}

impl Compiler for Fake {
    fn version(&self, architecture: Architecture) -> Result<String> {
        if architecture == Architecture::Cuda(NO_COMPILER) {
            kasmina::fail!(CompilerUnavailable, "no compiler for {architecture}");
        }
        Ok(self.version.to_string())
    }

    fn compile(&self, class: &KernelClass, _: Architecture) -> Result<Vec<u8>> {
        self.compiles.fetch_add(1, SeqCst);
        self.begun.lock().unwrap().push(class.chunk);
        drop(self.gate.1.wait_while(self.gate.0.lock().unwrap(), |closed| *closed).unwrap());
        match class.chunk {
            FAILS => Err(kasmina::error!(CompileFailed, "line 1").attach("compiler log", "the log")),
            PANICS => panic!("chunk {PANICS}"),
            SLOW | UNHURRIED => {
                sleep(Duration::from_millis(if class.chunk == SLOW { 2300 } else { 1500 }));
                Ok(machine_code(class))
            }
            _ => Ok(machine_code(class)),
        }
    }
}

/// What the fake makes of a class.
pub fn machine_code(class: &KernelClass) -> Vec<u8> {
    postcard::to_allocvec(class).unwrap()
}

fn memory() -> MemoryCache {
    MemoryCache::new(100, 1 << 20)
}

pub fn on_disk(place: &Path, compiler: &Fake) -> Pipeline {
    Pipeline::new(memory(), Some(DiskCache::new(place, DiskLimits::default())), None, compiler.clone())
}

fn in_memory(compiler: &Fake) -> Pipeline {
    Pipeline::new(memory(), None, None, compiler.clone())
}

#[test]
fn a_class_is_compiled_once_and_then_comes_from_memory() {
    let compiler = Fake::default();
    let pipeline = in_memory(&compiler);
    let first = pipeline.compile(class(64), Architecture::Cpu).unwrap();
    let second = pipeline.compile(class(64), Architecture::Cpu).unwrap();
    assert_eq!((first.origin, second.origin), (Origin::Compiled, Origin::Memory));
    assert_eq!(first.machine_code[..], machine_code(&class(64)));
    assert_eq!((&first.key, &first.machine_code), (&second.key, &second.machine_code));
    let statistics = pipeline.statistics();
    assert_eq!((statistics.compiled, statistics.memory_hits, statistics.waiting), (1, 1, 0));
    assert!(statistics.compile_seconds > 0.0 && first.seconds > 0.0);
}

#[test]
fn classes_and_architectures_do_not_share_kernels() {
    let compiler = Fake::default();
    let pipeline = in_memory(&compiler);
    let keys =
        [(64, Architecture::Cpu), (65, Architecture::Cpu), (64, Architecture::Cuda(90)), (64, Architecture::Cuda(80))]
            .map(|(chunk, architecture)| pipeline.compile(class(chunk), architecture).unwrap().key.clone());
    assert_eq!(compiler.compiles(), 4);
    assert!((1..4).all(|position| !keys[..position].contains(&keys[position])));
}

#[test]
fn a_request_returns_before_the_kernel_is_there() {
    let compiler = Fake::default();
    compiler.close();
    let pipeline = in_memory(&compiler);
    let ticket = pipeline.request(class(64), Architecture::Cpu);
    assert!(ticket.poll().is_none());
    assert_eq!(pipeline.statistics().waiting, 1);
    compiler.open();
    let artifact = ticket.wait().unwrap();
    assert!(Arc::ptr_eq(&artifact, &ticket.poll().unwrap().unwrap()));
    assert_eq!(pipeline.statistics().waiting, 0);
}

#[test]
fn many_threads_that_ask_for_one_key_share_one_compile() {
    let compiler = Fake::default();
    compiler.close();
    let pipeline = in_memory(&compiler);
    let start = Barrier::new(17);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    pipeline.compile(class(64), Architecture::Cpu).unwrap()
                })
            })
            .collect();
        start.wait();
        compiler.open();
        for thread in threads {
            assert_eq!(thread.join().unwrap().machine_code[..], machine_code(&class(64)));
        }
    });
    assert_eq!((compiler.compiles(), pipeline.statistics().compiled), (1, 1));
}

#[test]
fn more_kernels_than_threads_are_all_compiled() {
    let compiler = Fake::default();
    let pipeline = in_memory(&compiler).with_threads(4);
    for round in 0..5 {
        let tickets: Vec<_> = (1..=50).map(|chunk| pipeline.request(class(chunk), Architecture::Cpu)).collect();
        for (ticket, chunk) in tickets.iter().zip(1..) {
            assert_eq!(ticket.wait().unwrap().machine_code[..], machine_code(&class(chunk)), "round {round}");
        }
    }
    assert_eq!((compiler.compiles(), pipeline.statistics().memory_hits), (50, 200));
}

#[test]
fn as_many_kernels_are_compiled_at_once_as_there_are_threads() {
    let compiler = Fake::default();
    let pipeline = in_memory(&compiler).with_threads(3);
    compiler.close();
    let tickets: Vec<_> = (1..=5).map(|chunk| pipeline.request(class(chunk), Architecture::Cpu)).collect();
    wait_until(|| compiler.compiles() == 3);
    sleep(Duration::from_millis(50));
    assert_eq!((compiler.compiles(), pipeline.statistics().running), (3, 3));
    compiler.open();
    tickets.iter().for_each(|ticket| drop(ticket.wait().unwrap()));
}

#[test]
fn one_failure_reaches_all_who_wait_and_is_not_remembered() {
    let compiler = Fake::default();
    compiler.close();
    let pipeline = in_memory(&compiler);
    let tickets = [0; 3].map(|_| pipeline.request(class(FAILS), Architecture::Cpu));
    compiler.open();
    for ticket in &tickets {
        let error = ticket.wait().unwrap_err();
        assert_eq!((error.status(), error.message()), (Status::CompileFailed, "line 1"));
        assert_eq!(error.attachments(), [("compiler log".to_string(), "the log".to_string())]);
    }
    assert_eq!((compiler.compiles(), pipeline.statistics().failed), (1, 1));
    assert!(pipeline.compile(class(FAILS), Architecture::Cpu).is_err());
    assert_eq!((compiler.compiles(), pipeline.statistics().failed), (2, 2));
    assert!(tickets[0].poll().unwrap().is_err(), "a ticket keeps its answer");
}

#[test]
fn a_panic_in_the_compiler_is_an_error_and_harms_nobody_else() {
    let compiler = Fake::default();
    let pipeline = in_memory(&compiler);
    for _ in 0..10 {
        let error = pipeline.compile(class(PANICS), Architecture::Cpu).unwrap_err();
        assert_eq!(error.status(), Status::Panic);
        assert!(error.message().contains("chunk 1002"), "{error}");
    }
    assert!(pipeline.compile(class(64), Architecture::Cpu).is_ok());
    let statistics = pipeline.statistics();
    assert_eq!((statistics.failed, statistics.compiled, statistics.waiting), (10, 1, 0));
}

#[test]
fn a_missing_compiler_is_told_by_the_ticket() {
    let pipeline = in_memory(&Fake::default());
    let error = pipeline.request(class(64), Architecture::Cuda(NO_COMPILER)).wait().unwrap_err();
    assert_eq!(error.status(), Status::CompilerUnavailable);
    assert_eq!(pipeline.statistics().failed, 1);
}

#[test]
fn dropping_a_pipeline_leaves_no_ticket_without_an_answer() {
    let compiler = Fake::default();
    compiler.close();
    let pipeline = in_memory(&compiler);
    let tickets: Vec<_> = (1..=10).map(|chunk| pipeline.request(class(chunk), Architecture::Cpu)).collect();
    drop(pipeline);
    compiler.open();
    assert!(tickets.iter().all(|ticket| ticket.wait().is_ok()));
}

#[test]
fn another_pipeline_finds_the_same_bytes_on_disk() {
    let place = tempfile::tempdir().unwrap();
    let compiler = Fake::default();
    let cold = on_disk(place.path(), &compiler).compile(class(64), Architecture::Cpu).unwrap();
    let pipeline = on_disk(place.path(), &compiler);
    let warm = pipeline.compile(class(64), Architecture::Cpu).unwrap();
    assert_eq!((cold.origin, warm.origin), (Origin::Compiled, Origin::Disk));
    assert_eq!((&cold.key, &cold.machine_code), (&warm.key, &warm.machine_code));
    assert_eq!(pipeline.compile(class(64), Architecture::Cpu).unwrap().origin, Origin::Memory);
    let statistics = pipeline.statistics();
    assert_eq!((statistics.compiled, statistics.disk_hits, statistics.memory_hits), (0, 1, 1));
    assert_eq!((compiler.compiles(), statistics.compile_seconds), (1, 0.0));
}

#[test]
fn a_compiler_of_another_version_compiles_again() {
    let place = tempfile::tempdir().unwrap();
    let old = Fake::default();
    let new = Fake { version: 1, ..old.clone() };
    let origin = |compiler| on_disk(place.path(), compiler).compile(class(64), Architecture::Cpu).unwrap().origin;
    let origins = [&old, &new, &old, &new].map(origin);
    assert_eq!(origins, [Origin::Compiled, Origin::Compiled, Origin::Disk, Origin::Disk]);
}

#[test]
fn a_damaged_entry_is_compiled_again_and_replaced() {
    let place = tempfile::tempdir().unwrap();
    let compiler = Fake::default();
    on_disk(place.path(), &compiler).compile(class(64), Architecture::Cpu).unwrap();
    let directory = DiskCache::new(place.path(), DiskLimits::default()).directory().to_owned();
    let file = std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&file, b"not an entry").unwrap();
    let again = on_disk(place.path(), &compiler).compile(class(64), Architecture::Cpu).unwrap();
    assert_eq!((again.origin, &again.machine_code[..]), (Origin::Compiled, &machine_code(&class(64))[..]));
    assert_eq!(on_disk(place.path(), &compiler).compile(class(64), Architecture::Cpu).unwrap().origin, Origin::Disk);
}

#[test]
fn a_disk_that_refuses_everything_is_counted_and_does_not_matter() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("file"), b"").unwrap();
    let pipeline = on_disk(&place.path().join("file"), &Fake::default());
    let artifact = pipeline.compile(class(64), Architecture::Cpu).unwrap();
    assert_eq!(artifact.origin, Origin::Compiled);
    assert_eq!(pipeline.statistics().disk_errors, 4, "two reads, a lock and a write");
}

#[test]
fn a_kernel_that_was_withdrawn_is_refused_here_and_compiled_anew_elsewhere() {
    let place = tempfile::tempdir().unwrap();
    let compiler = Fake::default();
    let pipeline = on_disk(place.path(), &compiler);
    let key = pipeline.compile(class(64), Architecture::Cpu).unwrap().key.clone();
    pipeline.withdraw(&key, &kasmina::error!(ValidationFailed, "it computes something else"));
    for _ in 0..2 {
        let error = pipeline.compile(class(64), Architecture::Cpu).unwrap_err();
        assert_eq!((error.status(), error.message()), (Status::ValidationFailed, "it computes something else"));
    }
    assert_eq!((compiler.compiles(), pipeline.statistics().failed), (1, 2));
    let generic = KernelClass { schedule: Schedule::Generic, ..class(64) };
    assert!(pipeline.compile(generic, Architecture::Cpu).is_ok(), "only that one kernel was withdrawn");
    let another = on_disk(place.path(), &compiler).compile(class(64), Architecture::Cpu).unwrap();
    assert_eq!(another.origin, Origin::Compiled, "it is no longer on disk");
}

#[test]
fn failures_are_not_kept_on_disk() {
    let place = tempfile::tempdir().unwrap();
    let compiler = Fake::default();
    assert!(on_disk(place.path(), &compiler).compile(class(FAILS), Architecture::Cpu).is_err());
    assert!(on_disk(place.path(), &compiler).compile(class(FAILS), Architecture::Cpu).is_err());
    assert_eq!(compiler.compiles(), 2);
}

/// The ticket of a kernel that keeps the one thread of a pipeline busy until the compiler's gate opens.
fn occupy(pipeline: &Pipeline, compiler: &Fake) -> Ticket {
    compiler.close();
    let ticket = pipeline.request(class(1), Architecture::Cpu);
    wait_until(|| compiler.compiles() == 1);
    ticket
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(20), "it never came");
        sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_nobody_waits_for_any_more_is_not_compiled() {
    let compiler = Fake::default();
    let pipeline = in_memory(&compiler);
    let _busy = occupy(&pipeline, &compiler);
    let mut tickets: Vec<_> = (101..=110).map(|chunk| pipeline.request(class(chunk), Architecture::Cpu)).collect();
    let again = pipeline.request(class(101), Architecture::Cpu);
    let statistics = pipeline.statistics();
    assert_eq!((statistics.waiting, statistics.running), (11, 1));
    tickets.drain(..9);
    compiler.open();
    assert!(tickets[0].wait().is_ok() && again.wait().is_ok(), "two are still waited for");
    wait_until(|| pipeline.statistics().waiting == 0);
    let statistics = pipeline.statistics();
    assert_eq!((statistics.compiled, statistics.cancelled), (3, 8));
    assert!(pipeline.compile(class(105), Architecture::Cpu).is_ok(), "it can be asked for again");
}

#[test]
fn what_is_hurried_or_waited_for_goes_first() {
    let compiler = Fake::default();
    let pipeline = in_memory(&compiler);
    let _busy = occupy(&pipeline, &compiler);
    let tickets: Vec<_> = (101..=110).map(|chunk| pipeline.request(class(chunk), Architecture::Cpu)).collect();
    tickets[6].hurry();
    let about_to_wait = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            about_to_wait.wait();
            tickets[8].wait().unwrap();
        });
        about_to_wait.wait();
        sleep(Duration::from_millis(200));
        compiler.open();
    });
    // To wait for a ticket here would hurry it.
    wait_until(|| pipeline.statistics().waiting == 0);
    assert_eq!(compiler.begun.lock().unwrap()[..4], [1, 109, 107, 101]);
}

#[test]
fn a_compile_that_takes_too_long_is_an_error_and_its_kernel_is_there_when_it_ends_after_all() {
    let compiler = Fake::default();
    let pipeline = in_memory(&compiler).with_time_limit(Duration::from_millis(80));
    compiler.close();
    for _ in 0..3 {
        let error = pipeline.compile(class(64), Architecture::Cpu).unwrap_err();
        assert_eq!(error.status(), Status::CompileTimedOut);
        assert!(error.message().contains("longer than 0.08 s"), "{error}");
        assert!(error.message().contains("KASMINA_COMPILE_SECONDS"), "{error}");
    }
    let statistics = pipeline.statistics();
    assert_eq!((compiler.compiles(), statistics.timed_out, statistics.failed), (1, 1, 3));
    compiler.open();
    assert!(pipeline.compile(class(65), Architecture::Cpu).is_ok(), "others go on");
    wait_until(|| pipeline.statistics().compiled == 2);
    assert_eq!(pipeline.compile(class(64), Architecture::Cpu).unwrap().origin, Origin::Memory);
    assert_eq!(compiler.compiles(), 2);
}

#[test]
fn compiles_that_never_end_do_not_become_ever_more_threads() {
    let compiler = Fake::default();
    let pipeline = in_memory(&compiler).with_time_limit(Duration::from_millis(30));
    compiler.close();
    let errors: Vec<_> = (1..=12).map(|chunk| pipeline.compile(class(chunk), Architecture::Cpu).unwrap_err()).collect();
    assert!(errors.iter().all(|error| error.status() == Status::CompileTimedOut));
    assert_eq!(compiler.compiles(), 8);
    assert!(errors[11].message().contains("8 compiles go on beyond their time"), "{}", errors[11]);
    compiler.open();
    wait_until(|| pipeline.statistics().compiled == 8);
    assert!(pipeline.compile(class(12), Architecture::Cpu).is_ok());
}
