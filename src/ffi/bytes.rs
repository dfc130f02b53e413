//! Text and bytes that a call gives out: the one way variable-length results leave the library.

use std::ffi::c_char;
use std::sync::LazyLock;

/// Bytes or UTF-8 text that a call gave out. The caller owns it and frees it with kasmina_bytes_destroy. Reading it from
/// several threads is safe.
pub struct kasmina_bytes(LazyLock<Vec<u8>, Box<dyn FnOnce() -> Vec<u8> + Send>>);

impl kasmina_bytes {
    /// Bytes for the caller to own.
    pub(super) fn owned(bytes: Vec<u8>) -> *mut kasmina_bytes {
        Self::made_when_read(move || bytes)
    }

    /// A value as JSON text for the caller to own. It is written when it is first read: a summary of many seeds that nobody
    /// reads costs nothing. What has no JSON is empty; of the library's own values that is none.
    pub(super) fn json(value: impl serde::Serialize + Send + 'static) -> *mut kasmina_bytes {
        Self::made_when_read(move || serde_json::to_vec(&value).unwrap_or_default())
    }

    fn made_when_read(make: impl FnOnce() -> Vec<u8> + Send + 'static) -> *mut kasmina_bytes {
        let make = Box::new(|| {
            let mut bytes = make();
            bytes.push(0);
            bytes
        });
        Box::into_raw(Box::new(kasmina_bytes(LazyLock::new(make))))
    }
}

/// The first byte; NULL of NULL. A zero byte follows the last one, so text can be read as a C string. Lives as long as
/// the object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_bytes_data(bytes: *const kasmina_bytes) -> *const c_char {
    // SAFETY: null, or an object that was given out and is not destroyed yet, as the header asks.
    unsafe { bytes.as_ref() }.map_or(std::ptr::null(), |bytes| bytes.0.as_ptr().cast())
}

/// How many bytes there are, without the zero byte that follows; 0 of NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_bytes_length(bytes: *const kasmina_bytes) -> usize {
    // SAFETY: as in kasmina_bytes_data.
    unsafe { bytes.as_ref() }.map_or(0, |bytes| bytes.0.len() - 1)
}

/// Frees the object. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_bytes_destroy(bytes: *mut kasmina_bytes) {
    if !bytes.is_null() {
        // SAFETY: it came from Box::into_raw in `made_when_read`, and the caller gives it back once.
        drop(unsafe { Box::from_raw(bytes) });
    }
}
