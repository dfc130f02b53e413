//! The wall that no panic passes: every exported function that can fail runs inside [`call`].
//!
//! It turns the result into a status and an error object, refuses calls after `kasmina_shutdown`, and delivers log
//! messages when no lock is held any more. The raw pointers it takes are those of the exported function's own caller,
//! who promises that they can be written if they are not null.

use super::convert;
use super::error::{kasmina_error, raise};
use super::handle::Slab;
use crate::{Error, Result, Status};
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

static SHUT_DOWN: AtomicBool = AtomicBool::new(false);

/// Marks the library as shut down; true if it was before.
pub fn shut_down() -> bool {
    SHUT_DOWN.swap(true, Ordering::SeqCst)
}

/// Whether `kasmina_shutdown` was called.
pub fn is_shut_down() -> bool {
    SHUT_DOWN.load(Ordering::Relaxed)
}

/// Runs the body of an exported function that is refused after `kasmina_shutdown`.
pub fn call(function: &'static str, error: *mut *mut kasmina_error, body: impl FnOnce() -> Result<()>) -> Status {
    call_always(function, error, || {
        if is_shut_down() {
            crate::fail!(InvalidHandle, "{function} was called after kasmina_shutdown; call shutdown last");
        }
        body()
    })
}

/// The same for a function with a result, which goes to `result`, named `name`, if the body succeeds.
pub fn call_for<T>(
    function: &'static str,
    (result, name): (*mut T, &str),
    error: *mut *mut kasmina_error,
    body: impl FnOnce() -> Result<T>,
) -> Status {
    call(function, error, || {
        convert::check(result, name)?;
        let value = body()?;
        // SAFETY: not null and aligned by the check; the caller promises that it can be written.
        unsafe { result.write(value) };
        Ok(())
    })
}

/// Runs the body of an exported function that also works after `kasmina_shutdown`.
pub fn call_always(
    function: &'static str,
    error: *mut *mut kasmina_error,
    body: impl FnOnce() -> Result<()>,
) -> Status {
    let _armed = PanicInjection::arm(function);
    let result = catch_unwind(AssertUnwindSafe(|| body().inspect(|()| inject_panic())));
    let result = result.unwrap_or_else(|panic| Err(from_panic(function, panic)));
    super::log::deliver();
    raise(result, error)
}

/// Ends a handle. After `kasmina_shutdown`, which ended all others, only memory is still there to be released.
pub fn destroy<T>(function: &'static str, error: *mut *mut kasmina_error, slab: &Slab<T>, handle: u64) -> Status {
    call_always(function, error, || {
        let removed = slab.remove(handle);
        if is_shut_down() { Ok(()) } else { removed.map(drop) }
    })
}

fn from_panic(function: &str, panic: Box<dyn Any + Send>) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    crate::error!(
        Panic,
        "{function} panicked: {text}. This is a defect of kasmina; the handles of this call can only be destroyed now"
    )
}

thread_local! {
    static PANIC_IS_ARMED: Cell<bool> = const { Cell::new(false) };
}

/// For tests: the environment variable `KASMINA_INJECT_PANIC`, read once, names a function that panics where it has
/// just looked its handle up (or at its end, if it takes none).
struct PanicInjection;

impl PanicInjection {
    fn arm(function: &str) -> Option<PanicInjection> {
        static FUNCTION: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("KASMINA_INJECT_PANIC").ok());
        let armed = FUNCTION.as_deref().is_some_and(|name| name == function);
        armed.then(|| {
            PANIC_IS_ARMED.set(true);
            PanicInjection
        })
    }
}

impl Drop for PanicInjection {
    fn drop(&mut self) {
        PANIC_IS_ARMED.set(false);
    }
}

/// Panics if the function that runs on this thread is the one that tests want to panic.
pub fn inject_panic() {
    if PANIC_IS_ARMED.take() {
        panic!("injected by KASMINA_INJECT_PANIC");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::error::*;
    use std::ffi::CStr;

    fn run(body: impl FnOnce() -> Result<()>) -> (Status, String) {
        let mut error = std::ptr::null_mut();
        let status = call_always("kasmina_test", &mut error, body);
        if error.is_null() {
            return (status, String::new());
        }
        // SAFETY: the error was just given out, and is destroyed once.
        let message = unsafe { CStr::from_ptr(kasmina_error_message(error)) }.to_string_lossy().into_owned();
        // SAFETY: as above.
        unsafe { kasmina_error_destroy(error) };
        (status, message)
    }

    #[test]
    fn a_panic_becomes_a_status_with_its_text() {
        let (status, message) = run(|| panic!("seed {} went missing", 7));
        assert_eq!(status, Status::Panic);
        assert!(message.contains("kasmina_test panicked: seed 7 went missing"), "{message}");
        let (status, message) = run(|| std::panic::panic_any(42));
        assert_eq!(status, Status::Panic);
        assert!(message.contains("no message"), "{message}");
    }

    #[test]
    fn success_is_ok_and_leaves_no_error() {
        assert_eq!(run(|| Ok(())), (Status::Ok, String::new()));
    }

    #[test]
    fn an_error_object_is_optional() {
        let status = call_always("kasmina_test", std::ptr::null_mut(), || panic!("nobody asks"));
        assert_eq!(status, Status::Panic);
    }
}
