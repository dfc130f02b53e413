//! The C ABI over the library: handles, statuses, errors and conversion. No logic lives here; every function is some
//! lines of conversion around one call into the core.
//!
//! Names are those of the C header, which cbindgen generates from this folder (`tests/rust/header.rs`), so the comments
//! here are the header's. What a caller may rely on everywhere is written once, in `docs/c-api.md`:
//!
//! - a function that can fail returns a [`Status`](crate::Status), gives results through pointers, and takes an optional
//!   `kasmina_error **` last;
//! - handles are numbers that are checked ([`handle`]); a panic becomes a status and poisons the handle it happened in
//!   ([`boundary`]);
//! - every pointer is checked for null and alignment, every enumeration is read as an integer ([`convert`]); that a
//!   pointer which passes these checks points to what the header says is the caller's promise.

// The names are those of the header, and the safety contract of every function is the one stated above.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

mod api;
mod arguments;
mod blueprint;
mod boundary;
mod bytes;
mod checkpoint;
mod control;
mod convert;
mod error;
mod handle;
mod layer;
mod log;
mod loss_guard;
mod memory;
mod pass;
mod process;
mod snapshot;
mod strategy;
mod tensor;

pub use api::{FUNCTIONS, kasmina_api, kasmina_get_api};
pub use blueprint::*;
pub use bytes::*;
pub use checkpoint::*;
pub use control::*;
pub use error::*;
pub use layer::*;
pub use log::*;
pub use loss_guard::*;
pub use memory::*;
pub use pass::*;
use process::VERSION;
pub use process::*;
pub use snapshot::*;
pub use strategy::*;
pub use tensor::{kasmina_device_type, kasmina_tensor};
