//! What of CUDA is installed, for people who ask why it does not work. Opens no device.

use super::driver::{self, check};
use crate::Result;
use cudarc::driver::result;

/// The driver of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The newest CUDA that the driver can run, as major and minor version.
    pub cuda: (u32, u32),
    /// How many devices this process sees.
    pub devices: u32,
}

/// What is installed; `DeviceUnavailable` says what was searched when there is no driver, or none that can be used.
pub fn installed() -> Result<Installed> {
    driver::initialise()?;
    let version = driver::version()?;
    let devices = check(result::device::get_count(), "counting the CUDA devices")?;
    let version = version.unsigned_abs();
    Ok(Installed { cuda: (version / 1000, version % 1000 / 10), devices: devices.unsigned_abs() })
}
