//! The threads of the backend: the one that calls, and a pool of others to help it.

use crate::device::forks;
use crate::{Result, error};
use parking_lot::Mutex;
use rayon::{Scope, ThreadPool, ThreadPoolBuilder};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Threads and the process they live in: a forked child inherits the memory of a pool but none of its threads.
struct Pool {
    process: u32,
    threads: ThreadPool,
}

static POOL: AtomicPtr<Pool> = AtomicPtr::new(std::ptr::null_mut());

/// How many threads work on a launch.
static WANTED: LazyLock<usize> = LazyLock::new(|| {
    let told = std::env::var("KASMINA_NUM_THREADS").ok().and_then(|text| text.parse().ok());
    let told = told.filter(|wanted| *wanted > 0);
    told.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
});

/// In how many portions each thread would take its share: few enough to be taken quickly, enough to even out.
const PORTIONS: usize = 16;

/// How many threads work on a launch.
pub fn threads() -> usize {
    *WANTED
}

/// Calls `each` for every item and its position, on all cores if the work is worth it.
///
/// Inside a rayon pool that pool's threads are used; else the calling thread and the backend's own, together
/// `KASMINA_NUM_THREADS` of them or one per core.
pub fn for_each<T: Send>(parallel: bool, items: &mut [T], each: impl Fn(usize, &mut T) + Sync + Send) -> Result<()> {
    let inside = rayon::current_thread_index().is_some();
    let threads = match parallel {
        true if inside => rayon::current_num_threads(),
        true => *WANTED,
        false => 1,
    };
    let helpers = threads.min(items.len()).saturating_sub(1);
    let portion = (items.len() / (threads * PORTIONS)).max(1);
    let left = Mutex::new(items.chunks_mut(portion).enumerate());
    let take = || left.lock().next();
    let work = || {
        while let Some((number, items)) = take() {
            items.iter_mut().enumerate().for_each(|(position, item)| each(number * portion + position, item));
        }
    };
    match helpers {
        0 => work(),
        _ if inside => rayon::in_place_scope(|scope| share(scope, helpers, &work)),
        _ => pool()?.in_place_scope(|scope| share(scope, helpers, &work)),
    }
    Ok(())
}

/// Works, and has so many helpers do the same.
fn share<'s>(scope: &Scope<'s>, helpers: usize, work: &'s (impl Fn() + Sync)) {
    (0..helpers).for_each(|_| scope.spawn(|_| work()));
    work();
}

/// The pool of this process, made on first use.
fn pool() -> Result<&'static ThreadPool> {
    let process = forks::process();
    let known = POOL.load(Ordering::Acquire);
    // SAFETY: pools are leaked, so a pointer that was stored stays valid.
    if let Some(pool) = unsafe { known.as_ref() }
        && pool.process == process
    {
        return Ok(&pool.threads);
    }
    let threads = ThreadPoolBuilder::new()
        .num_threads(*WANTED - 1)
        .thread_name(|number| format!("kasmina-{number}"))
        .build()
        .map_err(|cause| error!(OutOfMemory, "the CPU backend cannot start its threads").caused_by(cause))?;
    let made = Box::into_raw(Box::new(Pool { process, threads }));
    match POOL.compare_exchange(known, made, Ordering::AcqRel, Ordering::Acquire) {
        // The pool of the parent process stays where it is: it has no threads here that could be stopped.
        // SAFETY: `made` was just leaked.
        Ok(_) => Ok(unsafe { &(*made).threads }),
        Err(other) => {
            // SAFETY: `made` was not published, so this is its only owner; `other` is a pool and stays valid.
            unsafe {
                drop(Box::from_raw(made));
                Ok(&(*other).threads)
            }
        }
    }
}
