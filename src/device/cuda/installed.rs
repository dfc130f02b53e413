//! What of CUDA is installed, for people who ask why it does not work. Opens no device.

use super::driver::{self, check};
use crate::Result;
use cudarc::driver::{result, sys};

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
    let mut version = 0;
    // SAFETY: the driver is there, and writes the version to a live integer.
    check(unsafe { sys::cuDriverGetVersion(&mut version) }.result(), "asking for the version of the CUDA driver")?;
    let devices = check(result::device::get_count(), "counting the CUDA devices")?;
    let version = version.unsigned_abs();
    Ok(Installed { cuda: (version / 1000, version % 1000 / 10), devices: devices.unsigned_abs() })
}
