//! Layers through what the crate exports, on the device that KASMINA_TEST_DEVICE names: `cpu` (the default) or a CUDA
//! ordinal such as `0`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bench;
mod breakers;
mod checkpoint;
mod hostile;
mod lives;
mod migration;
mod passes;
mod reports;
mod snapshot;
mod strategies;
mod telemetry;
mod training;
