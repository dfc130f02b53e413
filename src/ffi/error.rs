//! The error object a caller owns.

use super::convert;
use crate::{Error, Result, Status};
use std::ffi::{CString, c_char};

/// An error: a status for programs, a sentence for people, and attachments such as a compiler log. The caller that was
/// given one owns it and frees it with kasmina_error_destroy. Reading it from several threads is safe.
pub struct kasmina_error {
    status: Status,
    message: CString,
    attachments: Vec<(CString, CString)>,
}

/// The status of a result; its error, if there is one and the caller wants it, goes to `error`.
pub(super) fn raise(result: Result<()>, error: *mut *mut kasmina_error) -> Status {
    let (status, object) = match result {
        Ok(()) => (Status::Ok, std::ptr::null_mut()),
        Err(cause) if error.is_null() => (cause.status(), std::ptr::null_mut()),
        Err(cause) => (cause.status(), Box::into_raw(Box::new(kasmina_error::from(&cause)))),
    };
    if !error.is_null() {
        // SAFETY: the caller promises that `error`, if not null, can be written; it need not be aligned.
        unsafe { error.write_unaligned(object) };
    }
    status
}

impl From<&Error> for kasmina_error {
    fn from(error: &Error) -> Self {
        let attachments = error.attachments().iter();
        kasmina_error {
            status: error.status(),
            message: convert::c_string(&error.to_string()),
            attachments: attachments.map(|(name, text)| (convert::c_string(name), convert::c_string(text))).collect(),
        }
    }
}

/// The status of an error; KASMINA_STATUS_OK of NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_error_status(error: *const kasmina_error) -> Status {
    // SAFETY: null, or an error that was given out and is not destroyed yet, as the header asks.
    unsafe { error.as_ref() }.map_or(Status::Ok, |error| error.status)
}

/// What kind of thing failed, as a kasmina_error_class, for whoever recovers from one kind in one way; 0 of NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_error_get_class(error: *const kasmina_error) -> i32 {
    // SAFETY: as in kasmina_error_status.
    unsafe { error.as_ref() }.map_or(0, |error| error.status.class() as i32)
}

/// What went wrong, its causes included; "" of NULL. UTF-8; lives as long as the error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_error_message(error: *const kasmina_error) -> *const c_char {
    // SAFETY: as in kasmina_error_status.
    unsafe { error.as_ref() }.map_or(c"".as_ptr(), |error| error.message.as_ptr())
}

/// How many texts are attached; 0 of NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_error_attachment_count(error: *const kasmina_error) -> usize {
    // SAFETY: as in kasmina_error_status.
    unsafe { error.as_ref() }.map_or(0, |error| error.attachments.len())
}

/// The name of an attached text, such as "compiler log"; NULL if there are not so many. Lives as long as the error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_error_attachment_name(error: *const kasmina_error, index: usize) -> *const c_char {
    // SAFETY: as in kasmina_error_status.
    let attachment = unsafe { error.as_ref() }.and_then(|error| error.attachments.get(index));
    attachment.map_or(std::ptr::null(), |(name, _)| name.as_ptr())
}

/// An attached text; NULL if there are not so many. UTF-8; lives as long as the error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_error_attachment_text(error: *const kasmina_error, index: usize) -> *const c_char {
    // SAFETY: as in kasmina_error_status.
    let attachment = unsafe { error.as_ref() }.and_then(|error| error.attachments.get(index));
    attachment.map_or(std::ptr::null(), |(_, text)| text.as_ptr())
}

/// Frees an error. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_error_destroy(error: *mut kasmina_error) {
    if !error.is_null() {
        // SAFETY: it came from Box::into_raw in `raise`, and the caller gives it back once.
        drop(unsafe { Box::from_raw(error) });
    }
}
