//! The driver library: whether it is there, what its errors mean, and the two facts about recording that calls need.

use crate::device::Stream;
use crate::{Error, Result, Status, error, fail};
use cudarc::driver::result::DriverError;
use cudarc::driver::sys;

/// Loads libcuda and initialises it. `DeviceUnavailable` when there is none, or no card that it can use.
pub(super) fn initialise() -> Result<()> {
    // cudarc's first call panics where the library is missing, so this is asked before any.
    // SAFETY: loading libcuda runs only its own initialisers.
    if !unsafe { sys::is_culib_present() } {
        fail!(
            DeviceUnavailable,
            "there is no CUDA driver: the system's loader finds none of libcuda.so, libcuda.so.1 and libnvcuda.so (it \
             looks in LD_LIBRARY_PATH={:?}, in what ldconfig lists and in /lib and /usr/lib). Install NVIDIA's driver, in \
             a container run it with access to the GPU, or use the CPU",
            std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default()
        );
    }
    cudarc::driver::result::init().map_err(|reason| {
        error!(DeviceUnavailable, "the CUDA driver is there but cannot be used: {}", describe(reason))
    })
}

/// The latest version of CUDA that the driver supports, 1000 for each major one and 10 for each minor.
pub(super) fn version() -> Result<i32> {
    let mut version = 0;
    // SAFETY: the driver writes one number.
    check(unsafe { sys::cuDriverGetVersion(&mut version) }.result(), "asking for the CUDA driver's version")?;
    Ok(version)
}

/// The result of a driver call; `what` says what was being done.
pub(super) fn check<T>(outcome: Result<T, DriverError>, what: &str) -> Result<T> {
    outcome.map_err(|reason| translate(reason, what))
}

fn translate(reason: DriverError, what: &str) -> Error {
    use sys::CUresult::*;
    let status = match reason.0 {
        CUDA_ERROR_OUT_OF_MEMORY => Status::OutOfMemory,
        CUDA_ERROR_NO_DEVICE | CUDA_ERROR_INVALID_DEVICE | CUDA_ERROR_DEVICE_UNAVAILABLE => Status::DeviceUnavailable,
        _ => Status::DeviceFailed,
    };
    Error::new(status, format!("{what} failed: {}", describe(reason)))
}

fn describe(reason: DriverError) -> String {
    let name = reason.error_name().map(|name| name.to_string_lossy().into_owned());
    let text = reason.error_string().map(|text| text.to_string_lossy().into_owned());
    match (name, text) {
        (Ok(name), Ok(text)) => format!("{name} ({text})"),
        _ => format!("{:?}", reason.0),
    }
}

/// The stream as the driver knows it; 0 is the default stream.
pub(super) fn raw(stream: Stream) -> sys::CUstream {
    stream.0 as sys::CUstream
}

/// Whether the stream is recording a graph. The default stream answers with an error while any other is: then it must
/// not be waited for either.
pub(super) fn is_recording(stream: Stream) -> bool {
    // SAFETY: the caller of every device call answers for its stream.
    match unsafe { cudarc::driver::result::stream::is_capturing(raw(stream)) } {
        Ok(status) => status != sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE,
        Err(reason) => reason.0 == sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
    }
}

/// While it lives, a context is current on this thread; then the one before is again, for it is the host's.
pub(super) struct Current(Option<sys::CUcontext>);

impl Current {
    /// The context is a retained primary context.
    pub(super) fn enter(context: sys::CUcontext) -> Result<Current> {
        let mut before = std::ptr::null_mut();
        // SAFETY: the driver is initialised, or there would be no context, and writes the one that is current, or null.
        let asked = unsafe { sys::cuCtxGetCurrent(&mut before) }.result();
        check(asked, "asking for the current CUDA context")?;
        if before == context {
            return Ok(Current(None));
        }
        // SAFETY: a retained primary context stays valid.
        check(unsafe { sys::cuCtxSetCurrent(context) }.result(), "making the CUDA context current")?;
        Ok(Current(Some(before)))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            // SAFETY: the context was current when this was made; null is none. It may be gone since: nothing is lost.
            unsafe { sys::cuCtxSetCurrent(before) };
        }
    }
}

/// While it lives, calls of this thread that are forbidden during another thread's recording are allowed, and leave that
/// recording valid.
pub(super) struct Relaxed(sys::CUstreamCaptureMode);

impl Relaxed {
    pub(super) fn enter() -> Relaxed {
        let mut mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the mode is exchanged in place. A failure leaves it as it was, and so does the drop.
        unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut mode) };
        Relaxed(mode)
    }
}

impl Drop for Relaxed {
    fn drop(&mut self) {
        // SAFETY: as above; this puts back what `enter` found.
        unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut self.0) };
    }
}

/// A point in a stream, mostly with the time at which the card reached it. The context of its making is current while it is used.
pub(super) struct Event(sys::CUevent);

// SAFETY: the driver's events may be used from any thread.
unsafe impl Send for Event {}
// SAFETY: as above; no call changes one but `record`, and the driver orders those.
unsafe impl Sync for Event {}

impl Event {
    pub(super) fn new() -> Result<Event> {
        Event::with(sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC)
    }

    /// One that costs less, and is waited for as a stream is.
    pub(super) fn without_time() -> Result<Event> {
        Event::with(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
    }

    fn with(flags: sys::CUevent_flags) -> Result<Event> {
        check(cudarc::driver::result::event::create(flags), "creating a CUDA event").map(Event)
    }

    /// Puts it after all that is on the stream.
    pub(super) fn record(&self, stream: Stream) -> Result<()> {
        // SAFETY: the event lives; the caller of every device call answers for its stream.
        check(unsafe { cudarc::driver::result::event::record(self.0, raw(stream)) }, "recording a CUDA event")
    }

    /// Waits until the card has reached it.
    pub(super) fn wait(&self) -> Result<()> {
        // SAFETY: the event lives and was recorded.
        check(unsafe { cudarc::driver::result::event::synchronize(self.0) }, "waiting for a CUDA event")
    }

    /// Waits for a later event; how long the card took from one to the other.
    pub(super) fn seconds_until(&self, later: &Event) -> Result<f64> {
        // SAFETY: both events live, have times and were recorded.
        let milliseconds = unsafe {
            let waited = cudarc::driver::result::event::synchronize(later.0);
            waited.and_then(|()| cudarc::driver::result::event::elapsed(self.0, later.0))
        };
        Ok(f64::from(check(milliseconds, "timing on the CUDA device")?) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event was made by the driver and nobody uses it any more. What cannot be destroyed is left.
        let _ = unsafe { cudarc::driver::result::event::destroy(self.0) };
    }
}
