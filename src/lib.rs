//! Kasmina lets a neural network grow while it trains.
//!
//! A layer's channels are cut into chunks, and each chunk has a *seed*. A seed can be given a *blueprint* (a small
//! trainable operator graph), trains it in isolation, blends it into the live network, and keeps or drops it. Thousands
//! of seeds run as one kernel.
//!
//! The modules, in the order data flows:
//!
//! - [`graph`]: what a blueprint is: types, nodes, JSON, verification, hash, differentiation. Knows no device.
//! - [`ops`]: the operators, one file each: shape rule, checks, gradient, lowering to primitives.
//! - [`compile`]: from graphs to [`compile::Program`]s and from these to machine code. Knows no layer.
//! - [`store`]: where compiled kernels are kept: in memory and on disk.
//! - [`lifecycle`]: the eleven states, and the predicates that layers and kernels decide by.
//! - [`device`]: the two backends that run them: the CPU, and CUDA through the driver.
//! - [`validate`]: proves a kernel on its device before it may run: reference, finite differences, guard zones.
//! - [`tune`]: finds by measuring how a kernel's work is best cut.
//! - [`layer`]: seeds, their state and transitions, parameter banks, telemetry, checkpoints.
//! - [`ffi`]: the C ABI over all of it, and nothing else.

pub mod compile;
pub mod device;
pub mod error;
pub mod ffi;
pub mod graph;
pub mod layer;
pub mod lifecycle;
pub mod ops;
pub mod store;
pub mod tune;
pub mod validate;

pub use error::{Error, ErrorClass, Result, Status};
