//! Log messages for the host: collected while the library works, delivered when a call is about to return, so that the
//! host's callback never runs with a lock held and may call the library itself.

use super::boundary::call;
use super::convert;
use super::error::kasmina_error;
use crate::{Result, Status, fail};
use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::{Condvar, Mutex};
use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::{CString, c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

/// How important a log message is.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum kasmina_log_level {
    /// Nothing at all.
    Off = 0,
    /// Something failed.
    Error = 1,
    /// Something works, but not as well as it could.
    Warning = 2,
    /// What happens.
    Information = 3,
    /// What happens, for people who look for a defect.
    Debug = 4,
}

/// Takes a message: its level (a kasmina_log_level), its text (valid during the call only) and the host's own pointer.
/// Must not throw. May call the library.
pub type kasmina_log_callback =
    Option<unsafe extern "C" fn(level: i32, message: *const c_char, user_data: *mut c_void)>;

/// Sends log messages up to `level` (a kasmina_log_level) to a callback; NULL ends it. Messages are delivered on a thread
/// that is in a call into the library, when that call is about to return and no lock is held. When this function
/// returns, the callback before runs no more (unless this call was made from inside it).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_set_log(
    callback: kasmina_log_callback,
    user_data: *mut c_void,
    level: i32,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_set_log", error, || match callback {
        None => {
            log::set_max_level(LevelFilter::Off);
            install(None);
            Ok(())
        }
        Some(callback) => {
            let level = level_filter(level)?;
            if log::set_logger(&COLLECTOR).is_err() && !OURS.load(Ordering::SeqCst) {
                fail!(Unsupported, "this process has a logger of the Rust crate `log` already; messages go there");
            }
            OURS.store(true, Ordering::SeqCst);
            log::set_max_level(level);
            install(Some(Sink { callback, user_data: user_data as usize }));
            Ok(())
        }
    })
}

/// More messages than this between two deliveries are counted, not kept.
const MOST_WAITING: usize = 1024;

static COLLECTOR: Collector = Collector;
static OURS: AtomicBool = AtomicBool::new(false);
static IS_WAITING: AtomicBool = AtomicBool::new(false);
static WAITING: Mutex<Waiting> = Mutex::new(Waiting { messages: VecDeque::new(), lost: 0 });
static DELIVERY: Mutex<Delivery> = Mutex::new(Delivery { sink: None, running: 0 });
static IDLE: Condvar = Condvar::new();

thread_local! {
    static DELIVERING: Cell<bool> = const { Cell::new(false) };
}

struct Collector;

struct Waiting {
    messages: VecDeque<(Level, String)>,
    lost: usize,
}

struct Delivery {
    sink: Option<Sink>,
    running: usize,
}

#[derive(Clone, Copy)]
struct Sink {
    callback: unsafe extern "C" fn(i32, *const c_char, *mut c_void),
    user_data: usize,
}

impl Log for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("kasmina")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = record.args().to_string();
        let mut waiting = WAITING.lock();
        if waiting.messages.len() < MOST_WAITING {
            waiting.messages.push_back((record.level(), message));
        } else {
            waiting.lost += 1;
        }
        IS_WAITING.store(true, Ordering::Release);
    }

    fn flush(&self) {}
}

fn install(sink: Option<Sink>) {
    let mut delivery = DELIVERY.lock();
    delivery.sink = sink;
    while delivery.running > 0 && !DELIVERING.get() {
        IDLE.wait(&mut delivery);
    }
}

/// Gives the messages that wait to the host. Called when no lock is held.
pub(super) fn deliver() {
    if !IS_WAITING.load(Ordering::Acquire) || DELIVERING.get() {
        return;
    }
    let (messages, lost) = {
        let mut waiting = WAITING.lock();
        IS_WAITING.store(false, Ordering::Release);
        (std::mem::take(&mut waiting.messages), std::mem::take(&mut waiting.lost))
    };
    let sink = {
        let mut delivery = DELIVERY.lock();
        let Some(sink) = delivery.sink else { return };
        delivery.running += 1;
        sink
    };
    DELIVERING.set(true);
    for (level, message) in messages {
        sink.call(level, &message);
    }
    if lost > 0 {
        sink.call(Level::Warn, &format!("{lost} log messages were lost: more than {MOST_WAITING} came in one call"));
    }
    DELIVERING.set(false);
    DELIVERY.lock().running -= 1;
    IDLE.notify_all();
}

impl Sink {
    fn call(self, level: Level, message: &str) {
        let level = match level {
            Level::Error => kasmina_log_level::Error,
            Level::Warn => kasmina_log_level::Warning,
            Level::Info => kasmina_log_level::Information,
            Level::Debug | Level::Trace => kasmina_log_level::Debug,
        };
        let message: CString = convert::c_string(message);
        // SAFETY: the host promises that the callback may be called with its pointer until it is replaced.
        unsafe { (self.callback)(level as i32, message.as_ptr(), self.user_data as *mut c_void) };
    }
}

fn level_filter(level: i32) -> Result<LevelFilter> {
    let levels = [LevelFilter::Off, LevelFilter::Error, LevelFilter::Warn, LevelFilter::Info, LevelFilter::Debug];
    match usize::try_from(level).ok().and_then(|level| levels.get(level)) {
        Some(&filter) => Ok(filter),
        None => fail!(InvalidArgument, "log level {level} is no kasmina_log_level"),
    }
}
