//! The threads of the backend.

use crate::{Result, error};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Threads and the process they live in: a forked child inherits the memory of a pool but none of its threads.
struct Pool {
    process: u32,
    threads: ThreadPool,
}

static POOL: AtomicPtr<Pool> = AtomicPtr::new(std::ptr::null_mut());

/// Calls `each` for every item and its position, on all cores if the work is worth it.
///
/// Inside a rayon pool that pool's threads are used; else the backend's own, `KASMINA_NUM_THREADS` of them or one per
/// core.
pub fn for_each<T: Send>(parallel: bool, items: &mut [T], each: impl Fn(usize, &mut T) + Sync + Send) -> Result<()> {
    if !parallel || items.len() < 2 {
        items.iter_mut().enumerate().for_each(|(position, item)| each(position, item));
        return Ok(());
    }
    let mut run = || items.par_iter_mut().enumerate().for_each(|(position, item)| each(position, item));
    if rayon::current_thread_index().is_some() {
        run();
    } else {
        threads()?.install(run);
    }
    Ok(())
}

/// The pool of this process, made on first use.
fn threads() -> Result<&'static ThreadPool> {
    let process = std::process::id();
    let known = POOL.load(Ordering::Acquire);
    // SAFETY: pools are leaked, so a pointer that was stored stays valid.
    if let Some(pool) = unsafe { known.as_ref() }
        && pool.process == process
    {
        return Ok(&pool.threads);
    }
    let wanted = std::env::var("KASMINA_NUM_THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let threads = ThreadPoolBuilder::new()
        .num_threads(wanted)
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
