//! Tuning on the CPU, by a clock that each test sets, so that nothing depends on how busy the machine is.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use kasmina::compile::{Architecture, KernelClass, Pass, Schedule, Tiling, kernel_class, tiling};
use kasmina::device::{Adamw, Address, Device, DeviceKind, Kernel, Launch, Stream, cpu};
use kasmina::graph::{Attributes, Blueprint, DataType, library};
use kasmina::layer::{Action, Command, Layer, LayerConfig, Settings};
use kasmina::store::{Candidate, DiskCache, TuningDatabase, TuningLimits, TuningPlace};
use kasmina::tune::{Outcome, Progress, Work, problem, schedule, tune};
use kasmina::{Error, Result, Status};
use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const WORK: Work = Work { rows: 40, seeds: 6, running: 3 };

/// The CPU with a clock of its own: what a launch takes follows from the rows of the kernel's tiling.
struct Clock {
    cpu: Arc<dyn Device>,
    seconds: fn(u16) -> f64,
    /// Rows whose kernels cannot be loaded, and why.
    refuses: (u16, Status),
    rows: Mutex<u16>,
    loads: Mutex<usize>,
}

struct Timed {
    kernel: Kernel,
    rows: u16,
}

impl Clock {
    fn new(seconds: fn(u16) -> f64) -> Clock {
        Clock {
            cpu: cpu::device(),
            seconds,
            refuses: (0, Status::KernelTooLarge),
            rows: Mutex::new(0),
            loads: Mutex::new(0),
        }
    }
}

impl Device for Clock {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Cpu
    }

    fn description(&self) -> String {
        self.cpu.description()
    }

    fn architecture(&self) -> Architecture {
        Architecture::Cpu
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        self.cpu.allocate(bytes)
    }

    fn free(&self, address: Address, bytes: usize) {
        self.cpu.free(address, bytes);
    }

    fn upload(&self, to: Address, from: &[u8], stream: Stream) -> Result<()> {
        self.cpu.upload(to, from, stream)
    }

    fn download(&self, to: &mut [u8], from: Address, stream: Stream) -> Result<()> {
        self.cpu.download(to, from, stream)
    }

    fn copy(&self, to: Address, from: Address, bytes: usize, stream: Stream) -> Result<()> {
        self.cpu.copy(to, from, bytes, stream)
    }

    fn zero(&self, _: Address, _: usize, _: Stream) -> Result<()> {
        Ok(())
    }

    fn synchronize(&self, _: Stream) -> Result<()> {
        Ok(())
    }

    fn load(&self, class: &KernelClass, machine_code: &[u8]) -> Result<Kernel> {
        let rows = tiling(class, Architecture::Cpu)?.rows;
        *self.loads.lock().unwrap() += 1;
        if rows == self.refuses.0 {
            return Err(Error::new(self.refuses.1, format!("no room for {rows} rows")));
        }
        let kernel = self.cpu.load(class, machine_code)?;
        Ok(Kernel(Arc::new(Timed { kernel, rows })))
    }

    fn launch(&self, kernel: &Kernel, launch: &Launch<'_>, stream: Stream) -> Result<()> {
        let Timed { kernel, rows } = kernel.0.downcast_ref().unwrap();
        *self.rows.lock().unwrap() = *rows;
        self.cpu.launch(kernel, launch, stream)
    }

    fn time(&self, _: Stream, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        work()?;
        if let Some(cache) = DiskCache::from_environment() {
            let directory = File::open(cache.directory()).unwrap();
            assert!(directory.try_lock().is_err(), "two tunings time at once");
        }
        Ok((self.seconds)(*self.rows.lock().unwrap()))
    }

    fn adamw(&self, update: &Adamw, stream: Stream) -> Result<()> {
        self.cpu.adamw(update, stream)
    }
}

fn bottleneck(chunk: usize) -> Blueprint {
    library("bottleneck", chunk, &Attributes::new()).unwrap()
}

fn run(clock: Clock, chunk: usize, database: Option<&TuningDatabase>, budget: Duration) -> (Outcome, usize) {
    let clock = Arc::new(clock);
    let outcome = tuned(clock.clone(), chunk, database, budget).unwrap();
    let loads = *clock.loads.lock().unwrap();
    (outcome, loads)
}

fn tuned(
    device: Arc<dyn Device>,
    chunk: usize,
    database: Option<&TuningDatabase>,
    budget: Duration,
) -> Result<Outcome> {
    let blueprint = bottleneck(chunk);
    let class = kernel_class(Pass::Backward, DataType::BF16, true, &[&blueprint]).unwrap();
    let mut tell = |_: Progress| {};
    tune(&device, &class, &[&blueprint], WORK, budget, database, &mut tell)
}

fn memory() -> TuningDatabase {
    TuningDatabase::new(TuningPlace::Memory, TuningLimits::default())
}

const LONG: Duration = Duration::MAX;

#[test]
fn the_fastest_tiling_is_found_and_every_one_is_tried_once() {
    let (outcome, _) = run(Clock::new(|rows| if rows == 16 { 1e-3 } else { 2e-3 }), 9, None, LONG);
    assert_eq!((outcome.planned.tiling.rows, outcome.best.tiling.rows), (32, 16));
    assert_eq!((outcome.planned.seconds, outcome.best.seconds), (2e-3, 1e-3));
    assert_eq!((outcome.timed, outcome.known, outcome.finished), (3, 0, true));
}

#[test]
fn what_is_hardly_faster_is_left_alone() {
    let (outcome, _) = run(Clock::new(|rows| if rows == 8 { 0.99e-3 } else { 1e-3 }), 10, None, LONG);
    assert_eq!(outcome.best, outcome.planned);
}

#[test]
fn a_tuning_goes_on_where_another_stopped_and_times_nothing_twice() {
    let database = memory();
    let faster_by_rows = |rows: u16| f64::from(rows) * 1e-4;
    let (outcome, _) = run(Clock::new(faster_by_rows), 11, Some(&database), Duration::ZERO);
    assert_eq!((outcome.timed, outcome.finished, outcome.best), (1, false, outcome.planned));
    let (outcome, _) = run(Clock::new(faster_by_rows), 11, Some(&database), LONG);
    assert_eq!((outcome.best.tiling.rows, outcome.timed, outcome.finished), (8, 3, true));
    let (outcome, loads) = run(Clock::new(faster_by_rows), 11, Some(&database), LONG);
    // The planner's once more, and at the end both.
    assert_eq!((outcome.best.tiling.rows, outcome.timed, outcome.known, loads), (8, 1, 2, 3));
}

#[test]
fn a_tiling_that_fails_is_refused_and_not_tried_again() {
    let database = memory();
    let refusing = || Clock { refuses: (8, Status::KernelTooLarge), ..Clock::new(|rows| f64::from(rows) * 1e-4) };
    let (outcome, loads) = run(refusing(), 12, Some(&database), LONG);
    assert_eq!((outcome.best.tiling.rows, outcome.refused.len(), loads), (16, 1, 5));
    assert!(outcome.refused[0].1.contains("no room for 8 rows"), "{:?}", outcome.refused);
    let (outcome, loads) = run(refusing(), 12, Some(&database), LONG);
    assert_eq!((outcome.best.tiling.rows, outcome.refused.len(), loads), (16, 1, 3));
}

#[test]
fn a_device_that_fails_ends_the_tuning_and_spoils_nothing_but_what_it_failed_at() {
    let database = memory();
    let failing = Clock { refuses: (8, Status::DeviceFailed), ..Clock::new(|rows| f64::from(rows) * 1e-4) };
    let error = tuned(Arc::new(failing), 15, Some(&database), LONG).unwrap_err();
    assert_eq!(error.status(), Status::DeviceFailed);
    let (outcome, _) = run(Clock::new(|rows| f64::from(rows) * 1e-4), 15, Some(&database), LONG);
    assert_eq!((outcome.best.tiling.rows, outcome.refused.len()), (16, 1));
}

#[test]
fn a_similar_problem_is_where_another_begins() {
    let database = memory();
    let faster_by_rows = |rows: u16| f64::from(rows) * 1e-4;
    run(Clock::new(faster_by_rows), 13, Some(&database), LONG);
    // With no time to look around, what served the neighbour is tried all the same.
    let (outcome, _) = run(Clock::new(faster_by_rows), 14, Some(&database), Duration::ZERO);
    assert_eq!((outcome.best.tiling.rows, outcome.timed, outcome.finished), (8, 2, false));
}

#[test]
fn what_was_found_for_f32_is_not_taken_for_tf32() {
    let exact = kernel_class(Pass::Forward, DataType::F32, false, &[&bottleneck(8)]).unwrap();
    let rounded = exact.clone().with_tf32(true, Architecture::Cuda(90));
    let [exact, rounded] = [exact, rounded].map(|class| problem(&class, cpu::device().as_ref(), WORK).unwrap());
    assert_ne!(exact.class, rounded.class);
    assert_eq!((exact.kind.as_str(), rounded.kind.as_str()), ("forward f32", "forward tf32"));
}

#[test]
fn work_that_is_none_is_refused() {
    let blueprint = bottleneck(8);
    let class = kernel_class(Pass::Forward, DataType::F32, false, &[&blueprint]).unwrap();
    let nothing = [
        Work { rows: 0, ..WORK },
        Work { seeds: 0, running: 0, ..WORK },
        Work { running: 7, ..WORK },
        Work { rows: usize::MAX, ..WORK },
    ];
    for work in nothing {
        let tuned = tune(&cpu::device(), &class, &[&blueprint], work, LONG, None, &mut |_| {});
        assert_eq!(tuned.unwrap_err().status(), Status::InvalidArgument, "{work:?}");
    }
}

/// In a process of its own, which reads the database that the environment names.
#[test]
fn a_layer_runs_what_was_tuned_for_it_and_nothing_that_means_nothing() {
    let name = "a_layer_runs_what_was_tuned_for_it_and_nothing_that_means_nothing";
    if std::env::var_os("KASMINA_TUNED_CHILD").is_some() {
        return child();
    }
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tuning.sqlite");
    let database = TuningDatabase::new(TuningPlace::File(file.clone()), TuningLimits::default());
    for (chunk, rows) in [(20, 16), (21, 7), (22, 32)] {
        let blueprint = bottleneck(chunk);
        let class = kernel_class(Pass::Forward, DataType::F32, false, &[&blueprint]).unwrap();
        let tiling = serde_json::to_string(&Tiling { rows, ..Tiling::default() }).unwrap();
        let problem = problem(&class, cpu::device().as_ref(), WORK).unwrap();
        let confirmed = Candidate::new(tiling, 1e-6, 0.0, 1000);
        database.record(&problem, &kasmina::graph::Features::of([&blueprint.graph]), &[confirmed]).unwrap();
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env("KASMINA_TUNING_DB", &file)
        .env("KASMINA_TUNED_CHILD", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn child() {
    for (chunk, expected) in [
        (20, Schedule::Tuned(Tiling { rows: 16, ..Tiling::default() })),
        // Seven rows are no tiling, 32 are the planner's, and of the last nothing is known.
        (21, Schedule::Best),
        (22, Schedule::Best),
        (23, Schedule::Best),
    ] {
        let class = kernel_class(Pass::Forward, DataType::F32, false, &[&bottleneck(chunk)]).unwrap();
        assert_eq!(schedule(&class, cpu::device().as_ref()), expected);
        let (device, parameter_type, settings) = (DeviceKind::Cpu, DataType::F32, Settings::default());
        let config = LayerConfig { hidden: 3 * chunk, seeds: 3, device, parameter_type, settings };
        let mut layer = Layer::new(config).unwrap();
        layer.add_blueprint(bottleneck(chunk), 1).unwrap();
        layer.submit(&[Command { blueprint: 0, ..Command::new(0, Action::Germinate) }]).unwrap();
        layer.end_epoch(Stream(0)).unwrap();
        let kernels = layer.report().kernels;
        let of_blueprint =
            kernels.iter().find(|kernel| kernel.pass == Pass::Forward && kernel.blueprints == [0]).unwrap();
        assert_eq!(of_blueprint.schedule, Some(expected), "{kernels:?}");
    }
}
