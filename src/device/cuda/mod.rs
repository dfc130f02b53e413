//! The CUDA backend, over the driver API.

use super::Device;
use crate::{Result, fail};
use std::sync::Arc;

/// The CUDA device of this ordinal; made once per process.
///
/// `DeviceUnavailable` says what was searched when there is no driver, and how many devices there are when there is one.
pub fn device(ordinal: u32) -> Result<Arc<dyn Device>> {
    fail!(DeviceUnavailable, "this build has no backend for CUDA device {ordinal} yet; use the CPU")
}
