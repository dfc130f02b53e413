//! Whether this process is the one that made something, or a fork of it: asked before every call of a driver, and so without a
//! system call each time, as `getpid` is one; and whether it has forked since. Knows nothing of what forks inherit.

use std::ffi::c_int;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

unsafe extern "C" {
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> c_int;
}

/// Forks between the process that first asked and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Forks of this process, and of those that it is a fork of.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Whether the system tells of forks.
static IS_TOLD: LazyLock<bool> = LazyLock::new(|| {
    // SAFETY: the handlers do what may be done in a forked child, and the library is never unloaded.
    unsafe { pthread_atfork(None, Some(has_forked), Some(forked)) == 0 }
});

extern "C" fn has_forked() {
    MADE.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// A number that this process has from the first time it is asked for, and that is another one in its forks.
pub fn process() -> u32 {
    if *IS_TOLD { FORKS.load(Ordering::Relaxed) } else { std::process::id() }
}

/// A number that is another one after this process has forked, from the first time on that it is asked for; where the system does
/// not tell, it stays the same.
pub fn made() -> u32 {
    LazyLock::force(&IS_TOLD);
    MADE.load(Ordering::Relaxed)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    unsafe extern "C" {
        fn fork() -> c_int;
        fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
        fn _exit(status: c_int) -> !;
    }

    /// Whether a forked child finds this true.
    pub(crate) fn in_a_fork(holds: impl Fn() -> bool) -> bool {
        // SAFETY: the child does nothing that could wait for a thread it does not have.
        match unsafe { fork() } {
            // SAFETY: nothing of the child is needed any more.
            0 => unsafe { _exit(holds().into()) },
            child => {
                let mut status = 0;
                // SAFETY: the status can be written.
                assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
                status >> 8 == 1
            }
        }
    }

    #[test]
    fn a_fork_is_another_process_and_so_is_a_fork_of_it_and_the_parent_stays_what_it_is() {
        let (own, made_before) = (process(), made());
        assert!(in_a_fork(|| {
            let child = process();
            child != own && child == process() && in_a_fork(|| process() != child && process() != own)
        }));
        assert_eq!(process(), own);
        assert_ne!(made(), made_before);
    }
}
