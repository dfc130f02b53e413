//! A forked child inherits the backend's memory but none of its threads.

use super::programs::bottleneck;
use super::scene::{Scene, run};
use crate::compile::Pass;
use crate::graph::DataType;
use std::time::{Duration, Instant};

unsafe extern "C" {
    fn fork() -> i32;
    fn waitpid(process: i32, status: *mut i32, options: i32) -> i32;
    fn kill(process: i32, signal: i32) -> i32;
    fn _exit(status: i32) -> !;
}

const NO_HANG: i32 = 1;
const KILL: i32 = 9;

#[test]
fn a_forked_child_runs_launches_on_threads_of_its_own() {
    let scene = Scene::new(Pass::Forward, DataType::F32, vec![bottleneck(64, 16)], 8, 1000);
    let expected = run(&scene).unwrap();
    // SAFETY: the child calls nothing that needs the parent's other threads, and leaves without unwinding.
    let child = unsafe { fork() };
    if child == 0 {
        let same = std::panic::catch_unwind(|| run(&scene).unwrap() == expected).unwrap_or(false);
        // SAFETY: as above.
        unsafe { _exit(if same { 0 } else { 1 }) }
    }
    assert!(child > 0);
    let (mut status, started) = (0, Instant::now());
    // SAFETY: the child is ours and has not been waited for.
    while unsafe { waitpid(child, &mut status, NO_HANG) } == 0 {
        if started.elapsed() > Duration::from_secs(60) {
            // SAFETY: as above.
            unsafe { kill(child, KILL) };
            panic!("the child hangs: it waits for threads that it does not have");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(status, 0, "the child's launch gave other bits, or failed");
}
