//! Operators and the programs they become, through the public API and the reference interpreter.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "operators/branches.rs"]
mod branches;
#[path = "operators/control.rs"]
mod control;
#[path = "operators/documentation.rs"]
mod documentation;
#[path = "operators/dropout.rs"]
mod dropout;
#[path = "operators/golden.rs"]
mod golden;
#[path = "operators/gradients.rs"]
mod gradients;
#[path = "operators/launches.rs"]
mod launches;
#[path = "operators/numbers.rs"]
mod numbers;
#[path = "operators/programs.rs"]
mod programs;
#[path = "operators/refusals.rs"]
mod refusals;
