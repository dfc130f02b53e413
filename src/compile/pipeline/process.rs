//! The pipeline that a process has by itself: over its caches, with the generators of this library.

use super::{Compiler, Pipeline};
use crate::Result;
use crate::compile::{Architecture, KernelClass, codegen, nvrtc};
use crate::store::{Bundle, DiskCache, MemoryCache, give_back_inherited};
use log::{debug, warn};
use std::sync::OnceLock;
use std::time::Duration;

/// What the process's own pipeline keeps in memory.
const MEMORY_ENTRIES: usize = 1024;
const MEMORY_BYTES: usize = 256 << 20;

/// The variable that says how long a compile may take, in seconds.
pub(super) const TIME_LIMIT: &str = "KASMINA_COMPILE_SECONDS";

/// How long it may take where nothing is said: no kernel seen so far takes a tenth of that.
const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(300);

/// The variable that says how many kernels are compiled at once.
const THREADS: &str = "KASMINA_COMPILE_THREADS";

/// How many are where nothing is said, if there are as many cores.
const DEFAULT_THREADS: usize = 4;

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
        give_back_inherited();
        let memory = MemoryCache::new(MEMORY_ENTRIES, MEMORY_BYTES);
        let bundle = Bundle::from_environment().and_then(|opened| {
            opened.inspect_err(|error| warn!("{error}; kernels that are not in the cache will be compiled")).ok()
        });
        let pipeline = Pipeline::new(memory, DiskCache::from_environment(), bundle, Generators);
        let text = |variable| std::env::var(variable).ok().filter(|text| !text.is_empty());
        let pipeline = pipeline.with_time_limit(time_limit(text(TIME_LIMIT).as_deref()));
        let pipeline = pipeline.with_threads(threads(text(THREADS).as_deref()));
        Generation { process: std::process::id(), pipeline, next: Box::default() }
    }
}

/// The number of threads that a text means; what means nothing is said and left.
fn threads(text: Option<&str>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let default = cores.min(DEFAULT_THREADS);
    let Some(text) = text else { return default };
    text.parse().ok().filter(|threads| *threads > 0).unwrap_or_else(|| {
        warn!("{THREADS} is `{text}`, which is no whole number above 0; {default} kernels are compiled at once");
        default
    })
}

/// The time limit that a text means; what means nothing is said and left.
fn time_limit(text: Option<&str>) -> Duration {
    let Some(text) = text else { return DEFAULT_TIME_LIMIT };
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0);
    match seconds.map(Duration::try_from_secs_f64) {
        Some(Ok(limit)) => limit,
        _ => {
            let default = DEFAULT_TIME_LIMIT.as_secs();
            warn!("{TIME_LIMIT} is `{text}`, which is no number of seconds above 0; a compile may take {default} s");
            DEFAULT_TIME_LIMIT
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_limit_is_a_number_of_seconds_or_the_default() {
        assert_eq!(time_limit(Some("2.5")), Duration::from_millis(2500));
        for nonsense in [None, Some("0"), Some("-1"), Some("soon"), Some("nan"), Some("inf")] {
            assert_eq!(time_limit(nonsense), DEFAULT_TIME_LIMIT, "{nonsense:?}");
        }
    }

    #[test]
    fn threads_are_a_number_above_zero_or_the_default() {
        assert_eq!(threads(Some("7")), 7);
        for nonsense in [None, Some("0"), Some("-1"), Some("many"), Some("1.5")] {
            assert!((1..=DEFAULT_THREADS).contains(&threads(nonsense)), "{nonsense:?}");
        }
    }
}
