//! How long it takes to find a kernel in memory, alone and with eight threads that look at once: `make bench-cache`.
//!
//! Criterion gives the time of a look-up on average. What the slowest of a thousand take is measured here one by one, with
//! the time of looking at the clock left in.

#![allow(missing_docs)]

use criterion::{Criterion, criterion_group};
use kasmina::compile::{Architecture, Pass, kernel_class};
use kasmina::graph::{Attributes, DataType, library};
use kasmina::store::{Key, MemoryCache};
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

const KERNELS: usize = 100;
const THREADS: usize = 8;
const LOOK_UPS: usize = 200_000;

/// A cache of kernels as layers have them, and their keys.
fn filled() -> (MemoryCache, Vec<Key>) {
    let cache = MemoryCache::new(1024, 256 << 20);
    let mut keys = Vec::with_capacity(KERNELS);
    for chunk in 1..=KERNELS {
        let bottleneck = library("bottleneck", chunk, &Attributes::new());
        let key = bottleneck
            .and_then(|blueprint| kernel_class(Pass::Backward, DataType::BF16, true, &[&blueprint]))
            .and_then(|class| Key::new(&class, Architecture::Cuda(90), "generator", "compiler"));
        match key {
            Ok(key) => keys.push(key),
            Err(error) => panic!("{error}"),
        }
    }
    keys.iter().for_each(|key| cache.insert(key, vec![1; 50_000].into()));
    (cache, keys)
}

/// Runs this on so many threads at once, each with a number; the longest that one of them took.
fn at_once(threads: usize, work: impl Fn(usize) -> Duration + Sync) -> Duration {
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        let run = |number| {
            start.wait();
            work(number)
        };
        let threads: Vec<_> = (0..threads).map(|number| scope.spawn(move || run(number))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).max().unwrap_or_default()
    })
}

fn hits(criterion: &mut Criterion) {
    let (cache, keys) = filled();
    for threads in [1, THREADS] {
        criterion.bench_function(&format!("a hit, {threads} threads"), |bencher| {
            bencher.iter_custom(|count| {
                at_once(threads, |number| {
                    let started = Instant::now();
                    for turn in 0..count as usize {
                        black_box(cache.get(&keys[(turn * 7 + number) % KERNELS]));
                    }
                    started.elapsed()
                })
            });
        });
    }
}

/// The times of single hits on all threads, in nanoseconds, ascending.
fn single_hits() -> Vec<u64> {
    let (cache, keys) = filled();
    let times = parking_lot::Mutex::new(Vec::with_capacity(THREADS * LOOK_UPS));
    at_once(THREADS, |number| {
        let mut own = Vec::with_capacity(LOOK_UPS);
        for turn in 0..LOOK_UPS {
            let key = &keys[(turn * 7 + number) % KERNELS];
            let started = Instant::now();
            black_box(cache.get(key));
            own.push(started.elapsed().as_nanos() as u64);
        }
        times.lock().extend(own);
        Duration::ZERO
    });
    let mut times = times.into_inner();
    times.sort_unstable();
    times
}

criterion_group!(benches, hits);

fn main() {
    benches();
    let times = single_hits();
    let cores = thread::available_parallelism().map_or(0, usize::from);
    println!("{} single hits on {THREADS} threads, {cores} cores:", times.len());
    for (name, part) in [("P50", 0.5), ("P99", 0.99), ("P99.9", 0.999)] {
        println!("{name:>6}: {} ns", times[(times.len() as f64 * part) as usize]);
    }
    Criterion::default().configure_from_args().final_summary();
}
