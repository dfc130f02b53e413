//! What belongs to the process: versions, statistics and the end.

use super::boundary::{call, call_always, shut_down};
use super::convert::{self, Growing};
use super::error::kasmina_error;
use super::{blueprint::BLUEPRINTS, layer::LAYERS, snapshot::SNAPSHOTS};
use crate::Status;
use crate::compile::pipeline;
use crate::layer::ladder_statistics;
use crate::validate;
use std::ffi::{CStr, c_char};

/// The version of this ABI: functions and fields are only ever added to it.
pub const KASMINA_ABI_VERSION: u32 = 1;

/// The version of the library.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

const VERSION_TEXT: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(text) => text,
    Err(_) => c"",
};

/// What the process has compiled and found.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kasmina_statistics {
    /// sizeof(kasmina_statistics)
    pub struct_size: usize,
    /// Kernels that were compiled.
    pub compiled: u64,
    /// Kernels that were found in memory.
    pub memory_hits: u64,
    /// Kernels that were found on disk.
    pub disk_hits: u64,
    /// Compiles that failed.
    pub failed: u64,
    /// Seconds spent compiling, over all threads.
    pub compile_seconds: f64,
    /// Compiles that wait or run now.
    pub waiting: u64,
    /// Times the disk cache could not be read or written.
    pub disk_errors: u64,
    /// Kernels that were proven on their device before their first use.
    pub validated: u64,
    /// Kernels that did not pass; they never run.
    pub refused: u64,
    /// Seconds spent on proving.
    pub validation_seconds: f64,
    /// Kernels that a simpler schedule was tried for, because one failed to compile, to load or to prove right.
    pub stepped_down: u64,
    /// Kernels that no schedule gave; the seeds that need them stay GERMINATED.
    pub given_up: u64,
    /// Of `waiting`, those that are being compiled or read now.
    pub running: u64,
    /// Requests that nobody waited for any more when their turn came.
    pub cancelled: u64,
    /// Compiles that took longer than KASMINA_COMPILE_SECONDS.
    pub timed_out: u64,
}

// SAFETY: repr(C), starts with struct_size, and has only numbers.
unsafe impl Growing for kasmina_statistics {
    const NAME: &'static str = "kasmina_statistics";
    const SMALLEST: usize = 48;
}

/// The version of the ABI that the library has; compare it with KASMINA_ABI_VERSION. This function and kasmina_get_api
/// never change.
#[unsafe(no_mangle)]
pub extern "C" fn kasmina_abi_version() -> u32 {
    KASMINA_ABI_VERSION
}

/// The version of the library, such as "0.1.0". Static.
#[unsafe(no_mangle)]
pub extern "C" fn kasmina_version() -> *const c_char {
    VERSION_TEXT.as_ptr()
}

/// What the process has compiled and found so far. The caller sets `struct_size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_get_statistics(
    statistics: *mut kasmina_statistics,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_get_statistics", error, || {
        let (found, proven, ladder) = (pipeline().statistics(), validate::statistics(), ladder_statistics());
        let found = kasmina_statistics {
            struct_size: 0,
            compiled: found.compiled,
            memory_hits: found.memory_hits,
            disk_hits: found.disk_hits,
            failed: found.failed,
            waiting: found.waiting,
            disk_errors: found.disk_errors,
            compile_seconds: found.compile_seconds,
            validated: proven.validated,
            refused: proven.refused,
            validation_seconds: proven.seconds,
            stepped_down: ladder.stepped_down,
            given_up: ladder.given_up,
            running: found.running,
            cancelled: found.cancelled,
            timed_out: found.timed_out,
        };
        // SAFETY: the caller promises that it can be written and that its struct_size is set.
        unsafe { convert::write(statistics, &found) }
    })
}

/// Ends the use of the library in this process: destroys all layers, blueprints and snapshots. After it, functions that can fail
/// return an error, destroy functions do nothing, and exported memory lives until it is released. To call it twice is
/// allowed, and not to call it at all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_shutdown(error: *mut *mut kasmina_error) -> Status {
    call_always("kasmina_shutdown", error, || {
        if !shut_down() {
            drop((LAYERS.clear(), BLUEPRINTS.clear(), SNAPSHOTS.clear()));
        }
        Ok(())
    })
}
