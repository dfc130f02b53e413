//! How long a new process takes to have a hundred kernels that another one left on disk: `make bench-cache`.
//!
//! The kernels are those of bottlenecks, half of them forward and half backward, each with the machine code of the one that NVRTC
//! makes for chunks of 64 channels on an H100. Counted is the time from asking a pipeline for all of them to having the last one,
//! with all checks, but without the loading into a device; the files are in the system's cache. First with 60 KB of each, as much
//! as a small kernel has, then with all of it.

#![allow(missing_docs)]

use kasmina::compile::codegen::cuda;
use kasmina::compile::{Architecture, Compiler, KernelClass, Pass, Pipeline, kernel_class};
use kasmina::graph::{Attributes, DataType, library};
use kasmina::store::{DiskCache, DiskLimits, GENERATOR_VERSION, Key, MemoryCache};
use kasmina::{Result, fail};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const KERNELS: usize = 100;
const SMALL: usize = 60_000;
const PROCESSES: usize = 15;
/// Tells the child where the kernels are.
const PLACE: &str = "KASMINA_WARM_START";

fn class(pass: Pass, chunk: usize) -> Result<KernelClass> {
    let bottleneck = library("bottleneck", chunk, &Attributes::new())?;
    kernel_class(pass, DataType::BF16, true, &[&bottleneck])
}

fn classes() -> Result<Vec<KernelClass>> {
    let chunks = 1..=KERNELS / 2;
    chunks.flat_map(|chunk| [Pass::Forward, Pass::Backward].map(|pass| class(pass, chunk))).collect()
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

/// Leaves kernels with this machine code on disk, and prints how long new processes take to have them.
fn time(forward: &[u8], backward: &[u8]) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let place = tempfile::tempdir()?;
    let program = std::env::current_exe()?;
    let cache = DiskCache::new(place.path(), DiskLimits::default());
    for class in &classes()? {
        let code = if class.pass == Pass::Forward { forward } else { backward };
        cache.save(&Key::new(class, ARCHITECTURE, GENERATOR_VERSION, "compiler")?, code);
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
    let [forward, backward] = [forward, backward].map(<[u8]>::len);
    println!(
        "warm start of {KERNELS} kernels, of {forward} and {backward} bytes, in {PROCESSES} new processes: median {median:.2?}, \
         least {least:.2?}"
    );
    Ok(())
}

fn parent() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let code = |pass| class(pass, 64).and_then(|class| cuda::compile(&class, ARCHITECTURE));
    let (forward, backward) = (code(Pass::Forward)?, code(Pass::Backward)?);
    time(&forward[..SMALL.min(forward.len())], &backward[..SMALL.min(backward.len())])?;
    time(&forward, &backward)
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    match std::env::var(PLACE) {
        Ok(place) => child(&place).map_err(Into::into),
        Err(_) => parent(),
    }
}
