//! The kernel store and the compile pipeline, through what the crate exports. Nothing is written outside temporary
//! directories.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bundle;
mod disk;
mod key;
mod memory;
mod pipeline;
mod processes;
mod samples;
mod torture;
mod tuning;
