//! How long a new process takes to have a hundred kernels that another one left on disk: `make bench-cache`.
//!
//! The kernels are backward kernels of bottlenecks, with pieces of this program as their machine code. Counted is the time from
//! asking a pipeline for all of them to having the last one, with all checks, but without the loading into a device; the files
//! are in the system's cache.

#![allow(missing_docs)]

use kasmina::compile::{Architecture, Compiler, KernelClass, Pass, Pipeline, kernel_class};
use kasmina::graph::{Attributes, DataType, library};
use kasmina::store::{DiskCache, DiskLimits, GENERATOR_VERSION, Key, MemoryCache};
use kasmina::{Result, fail};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const KERNELS: usize = 100;
/// About what a kernel of a bottleneck has for an H100.
const BYTES: usize = 60_000;
const PROCESSES: usize = 15;
/// Tells the child where the kernels are.
const PLACE: &str = "KASMINA_WARM_START";

fn classes() -> Result<Vec<KernelClass>> {
    (1..=KERNELS)
        .map(|chunk| {
            let bottleneck = library("bottleneck", chunk, &Attributes::new())?;
            kernel_class(Pass::Backward, DataType::BF16, true, &[&bottleneck])
        })
        .collect()
}

const ARCHITECTURE: Architecture = Architecture::Cuda(90);

/// What is asked for must be on disk.
struct Nothing;

impl Compiler for Nothing {
    fn version(&self, _: Architecture) -> Result<String> {
        Ok("compiler".into())
    }

    fn compile(&self, class: &KernelClass, _: Architecture) -> Result<Vec<u8>> {
        fail!(CompileFailed, "the kernel for chunks of {} is not on disk", class.chunk);
    }
}

fn pipeline(place: impl AsRef<Path>) -> Pipeline {
    let disk = DiskCache::new(place, DiskLimits::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    Pipeline::new(MemoryCache::new(1024, 256 << 20), Some(disk), None, Nothing).with_threads(threads)
}

/// What a new process does; prints the microseconds that it took.
fn child(place: &str) -> Result<()> {
    let (classes, pipeline) = (classes()?, pipeline(place));
    let started = Instant::now();
    let tickets: Vec<_> = classes.into_iter().map(|class| pipeline.request(class, ARCHITECTURE)).collect();
    for ticket in tickets {
        ticket.wait()?;
    }
    println!("{}", started.elapsed().as_micros());
    Ok(())
}

fn parent() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let place = tempfile::tempdir()?;
    let program = std::env::current_exe()?;
    let code = std::fs::read(&program)?;
    let cache = DiskCache::new(place.path(), DiskLimits::default());
    for (number, class) in classes()?.iter().enumerate() {
        let first = number * (code.len() - BYTES) / KERNELS;
        cache.save(&Key::new(class, ARCHITECTURE, GENERATOR_VERSION, "compiler")?, &code[first..first + BYTES]);
    }
    let mut times = Vec::new();
    for _ in 0..PROCESSES {
        let output = Command::new(&program).env(PLACE, place.path()).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        times.push(Duration::from_micros(String::from_utf8(output.stdout)?.trim().parse()?));
    }
    times.sort();
    let (median, least) = (times[PROCESSES / 2], times[0]);
    println!("warm start of {KERNELS} kernels in {PROCESSES} new processes: median {median:.2?}, least {least:.2?}");
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    match std::env::var(PLACE) {
        Ok(place) => child(&place).map_err(Into::into),
        Err(_) => parent(),
    }
}
