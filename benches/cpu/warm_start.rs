//! How long a new process takes to have a hundred kernels that another one left on disk: `make bench-cache`.
//!
//! The kernels are backward kernels of bottlenecks, with pieces of this program as their machine code. Counted are the keys and
//! the reading with all its checks, not the loading into a device; the files are in the system's cache.

#![allow(missing_docs)]

use kasmina::compile::{Architecture, KernelClass, Pass, kernel_class};
use kasmina::graph::{Attributes, DataType, library};
use kasmina::store::{DiskCache, DiskLimits, Key};
use kasmina::{Result, error};
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

fn key(class: &KernelClass) -> Result<Key> {
    Key::new(class, Architecture::Cuda(90), "generator", "compiler")
}

/// What a new process does; prints microseconds of keys and of reading.
fn child(place: &str) -> Result<()> {
    let (classes, cache) = (classes()?, DiskCache::new(place, DiskLimits::default()));
    let started = Instant::now();
    let keys: Vec<Key> = classes.iter().map(key).collect::<Result<_>>()?;
    let of_keys = started.elapsed();
    let found = keys.iter().filter(|key| cache.load(key).is_some_and(|code| code.len() == BYTES)).count();
    if found != KERNELS {
        return Err(error!(StorageFailed, "{found} of {KERNELS} kernels were found in {place}"));
    }
    println!("{} {}", of_keys.as_micros(), (started.elapsed() - of_keys).as_micros());
    Ok(())
}

fn parent() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let place = tempfile::tempdir()?;
    let program = std::env::current_exe()?;
    let code = std::fs::read(&program)?;
    let cache = DiskCache::new(place.path(), DiskLimits::default());
    for (number, class) in classes()?.iter().enumerate() {
        let first = number * (code.len() - BYTES) / KERNELS;
        cache.save(&key(class)?, &code[first..first + BYTES]);
    }
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..PROCESSES {
        let output = Command::new(&program).env(PLACE, place.path()).output()?;
        let text = String::from_utf8(output.stdout)?;
        let numbers = text.split_whitespace().map(str::parse::<u64>).collect::<std::result::Result<Vec<_>, _>>()?;
        let [keys, reading] = numbers[..] else { return Err(String::from_utf8_lossy(&output.stderr).into()) };
        times[0].push(Duration::from_micros(keys));
        times[1].push(Duration::from_micros(reading));
    }
    let [keys, reading] = times.map(|mut times| {
        times.sort();
        (times[PROCESSES / 2], times[0])
    });
    println!("warm start of {KERNELS} kernels in {PROCESSES} new processes, median (least):");
    println!("keys {:.2?} ({:.2?}), reading {:.2?} ({:.2?})", keys.0, keys.1, reading.0, reading.1);
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    match std::env::var(PLACE) {
        Ok(place) => child(&place).map_err(Into::into),
        Err(_) => parent(),
    }
}
