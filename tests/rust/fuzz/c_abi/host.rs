//! The host: what it was given, and what it holds every call to.

use crate::generator::Choices;
use kasmina::Status;
use kasmina::ffi::*;
use std::ffi::{CStr, c_char, c_void};

/// Calls an exported function with the host's choice of an error's place and checks what comes back.
macro_rules! call {
    ($host:expr, $function:ident($($argument:expr),* $(,)?)) => {{
        let mut error = std::ptr::null_mut();
        let place = if $host.choices.once_in(16) { std::ptr::null_mut() } else { &raw mut error };
        // SAFETY: every pointer is null or points to what the header says, for as long as the call takes.
        let status = unsafe { kasmina::ffi::$function($($argument,)* place) };
        let message = $crate::c_abi::host::returned(stringify!($function), status, error, !place.is_null());
        $host.outcomes.push((stringify!($function), status, message));
        status
    }};
}
pub(super) use call;

/// Memory that was exported, and where it lies.
pub struct Exported {
    pub id: u64,
    pub data: *mut u8,
    pub bytes: usize,
}

/// What the host holds, and the choices for its next call.
#[derive(Default)]
pub struct Host<'a> {
    pub choices: Choices<'a>,
    pub layers: Vec<u64>,
    pub blueprints: Vec<u64>,
    pub memory: Vec<Exported>,
    pub snapshots: Vec<u64>,
    pub checkpoints: Vec<Vec<u8>>,
    /// Every call so far, and what came of it.
    pub outcomes: Vec<Outcome>,
    /// Handles of anything that was destroyed.
    stale: Vec<u64>,
}

/// The name of a function, what it returned, and the message of its error.
pub type Outcome = (&'static str, Status, String);

/// What a handle is wanted of.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Layer,
    Blueprint,
    Memory,
    Snapshot,
}

impl<'a> Host<'a> {
    /// A handle: mostly the newest of its kind.
    pub fn handle(&mut self, kind: Kind) -> u64 {
        let of = |host: &Host<'_>, kind| match kind {
            Kind::Layer => host.layers.clone(),
            Kind::Blueprint => host.blueprints.clone(),
            Kind::Memory => host.memory.iter().map(|memory| memory.id).collect(),
            Kind::Snapshot => host.snapshots.clone(),
        };
        let own = of(self, kind);
        let newest = own.last().copied().unwrap_or(0);
        match self.choices.below(24) {
            0..16 => newest,
            16..20 if !own.is_empty() => self.choices.pick(&own),
            20 if !self.stale.is_empty() => self.choices.pick(&self.stale),
            21 => {
                let others =
                    [Kind::Layer, Kind::Blueprint, Kind::Memory, Kind::Snapshot].map(|kind| of(self, kind)).concat();
                if others.is_empty() { 0 } else { self.choices.pick(&others) }
            }
            22 => newest ^ (1 << self.choices.below(64)),
            23 => self.choices.pick(&[1, u64::MAX, 0x22 << 56, (0x11 << 56) | (1 << 24)]),
            _ => 0,
        }
    }

    /// Notes a handle that was ended.
    pub fn ended(&mut self, handle: u64) {
        self.layers.retain(|&id| id != handle);
        self.blueprints.retain(|&id| id != handle);
        self.memory.retain(|memory| memory.id != handle);
        self.snapshots.retain(|&id| id != handle);
        self.stale.push(handle);
    }

    /// A text: null, plain, empty, not UTF-8, or whatever bytes come next.
    pub fn text(&mut self, plain: &'static [&'static CStr]) -> Option<Vec<u8>> {
        match self.choices.below(16) {
            0..10 => Some(self.choices.pick(plain).to_bytes_with_nul().to_vec()),
            10..12 => None,
            12 => Some(b"\0".to_vec()),
            13 => Some(b"\xff\xfe\0".to_vec()),
            _ => {
                let length = self.choices.below(64);
                let text = self.choices.take(length).iter().copied().filter(|&byte| byte != 0);
                Some(text.chain([0]).collect())
            }
        }
    }

    /// A stream, which the CPU does not look at.
    pub fn stream(&mut self) -> *mut c_void {
        std::ptr::without_provenance_mut(if self.choices.once_in(8) { 7 } else { 0 })
    }

    /// Where a result goes: mostly to its place.
    pub fn place<T>(&mut self, place: *mut T) -> *mut T {
        match self.choices.below(32) {
            31 => std::ptr::null_mut(),
            30 if align_of::<T>() > 1 => place.wrapping_byte_add(1),
            _ => place,
        }
    }

    /// A device: mostly the CPU.
    pub fn device(&mut self) -> (i32, i32) {
        let (cpu, cuda) = (kasmina_device_type::Cpu as i32, kasmina_device_type::Cuda as i32);
        let odd = [(cpu, 5), (cpu, -1), (cuda, -1), (0, 0), (-1, 0), (i32::MAX, i32::MIN)];
        if self.choices.once_in(16) { self.choices.pick(&odd) } else { (cpu, 0) }
    }

    /// A number of an enumeration: mostly one of these.
    pub fn number(&mut self, known: &[i32]) -> i32 {
        let odd = [-1, 99, i32::MIN, i32::MAX];
        if self.choices.once_in(16) { self.choices.pick(&odd) } else { self.choices.pick(known) }
    }

    /// Takes the bytes that a call gave out.
    pub fn take(&mut self, bytes: *mut kasmina_bytes) -> Vec<u8> {
        // SAFETY: the object was given out, is read once, and then destroyed.
        unsafe {
            let (data, length) = (kasmina_bytes_data(bytes), kasmina_bytes_length(bytes));
            let copy = std::slice::from_raw_parts(data.cast::<u8>(), length + 1).to_vec();
            kasmina_bytes_destroy(bytes);
            assert_eq!(copy[length], 0, "a zero byte follows the last one");
            copy[..length].to_vec()
        }
    }

    /// Ends every handle, and tells what came of all calls.
    pub fn give_back(mut self) -> Vec<Outcome> {
        self.choices = Choices::default();
        for id in std::mem::take(&mut self.layers) {
            assert_eq!(call!(self, kasmina_layer_destroy(kasmina_layer { id })), Status::Ok);
        }
        for id in std::mem::take(&mut self.blueprints) {
            assert_eq!(call!(self, kasmina_blueprint_destroy(kasmina_blueprint { id })), Status::Ok);
        }
        for id in std::mem::take(&mut self.snapshots) {
            assert_eq!(call!(self, kasmina_snapshot_destroy(kasmina_snapshot { id })), Status::Ok);
        }
        for memory in std::mem::take(&mut self.memory) {
            memory.touch();
            assert_eq!(call!(self, kasmina_memory_release(kasmina_memory { id: memory.id })), Status::Ok);
        }
        call!(self, kasmina_set_log(None, std::ptr::null_mut(), 0));
        self.outcomes
    }
}

impl Exported {
    /// Reads every byte.
    pub fn touch(&self) {
        for at in 0..self.bytes {
            // SAFETY: the memory is held, and no call is in progress.
            std::hint::black_box(unsafe { self.data.add(at).read() });
        }
    }
}

/// Checks what holds for every call; gives the error's message.
pub fn returned(function: &str, status: Status, error: *mut kasmina_error, wanted: bool) -> String {
    let mut message = String::new();
    if !error.is_null() {
        // SAFETY: the error was given out, is read here only, and then destroyed; its texts live as long.
        unsafe {
            assert_eq!(kasmina_error_status(error), status, "{function}");
            message = text(kasmina_error_message(error));
            let count = kasmina_error_attachment_count(error);
            for index in 0..count {
                text(kasmina_error_attachment_name(error, index));
                text(kasmina_error_attachment_text(error, index));
            }
            assert!(kasmina_error_attachment_text(error, count).is_null(), "{function}");
            kasmina_error_destroy(error);
        }
        assert!(!message.is_empty(), "{function} says nothing about {status:?}");
    }
    assert!(!matches!(status, Status::Panic | Status::Poisoned), "{function}: {status:?}: {message}");
    // What a host of the CPU cannot cause, however it errs.
    assert!(!matches!(status, Status::CompileFailed | Status::DeviceFailed), "{function}: {status:?}: {message}");
    assert_eq!(status == Status::Ok || !wanted, error.is_null(), "{function}: {status:?} {message}");
    message
}

/// # Safety
/// The text ends with a zero byte.
unsafe fn text(text: *const c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned()
}
