//! The one error type of the library: a status for programs, a sentence for people, a cause, and attachments such as a
//! compiler log. Knows nothing of who raises it.

use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// What went wrong, as a number that never changes its meaning: banded by domain and never reused.
///
/// The C ABI returns these as `kasmina_status`.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// The call did what it says.
    Ok = 0,

    /// An argument is null, out of range or contradicts another one.
    InvalidArgument = 1001,
    /// A handle that was never given out, was destroyed, or is of another kind.
    InvalidHandle = 1002,
    /// An earlier call panicked inside this handle; only destroying it is allowed.
    Poisoned = 1003,
    /// A defect of the library: it panicked, and the panic was caught at the boundary.
    Panic = 1004,
    /// The request is well-formed but this version or this device cannot do it.
    Unsupported = 1005,
    /// The library was used in a forked child of the process that initialised the device.
    Forked = 1006,

    /// The bytes are not a blueprint.
    MalformedBlueprint = 2001,
    /// The blueprint can be read but its graph is not valid.
    InvalidBlueprint = 2002,
    /// The blueprint is over the limit of nodes, parameters or elements.
    BlueprintTooLarge = 2003,

    /// The kernel compiler refused the generated source; its log is attached.
    CompileFailed = 3001,
    /// NVRTC was not found; the message lists where it was looked for.
    CompilerUnavailable = 3002,
    /// The kernel that the call needs is not compiled yet.
    NotReady = 3003,
    /// The blueprint needs more of the device (shared memory, say) than there is.
    KernelTooLarge = 3004,
    /// The kernel or its gradients are not what the blueprint says; it was never used.
    ValidationFailed = 3005,
    /// The compiler took longer than it may.
    CompileTimedOut = 3006,

    /// No CUDA driver or no such device.
    DeviceUnavailable = 4001,
    /// The driver reported an error.
    DeviceFailed = 4002,
    /// The device or the host is out of memory.
    OutOfMemory = 4003,

    /// The tensor's shape, strides or device do not fit the layer.
    ShapeMismatch = 5001,
    /// The tensor's element type does not fit the layer.
    TypeMismatch = 5002,
    /// The transition is not in the table or a gate is closed; the message says which.
    TransitionRefused = 5003,
    /// No slot is left in the bank, or too many seeds are active.
    CapacityExceeded = 5004,
    /// The state arrays do not match their checksum.
    StateCorrupted = 5005,
    /// The snapshot is not of this layer as it now is; the message says why.
    SnapshotMismatch = 5006,

    /// A file could not be read or written.
    StorageFailed = 6001,
    /// A file is damaged or not of this format.
    FileCorrupted = 6002,
    /// A file was written by a newer version.
    FileTooNew = 6003,
}

/// What kind of thing failed. Each kind is recovered from in its own way; `docs/failures.md` says how.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// What was asked for cannot be done: the caller's arguments, or the state things are in.
    Request = 0,
    /// A kernel cannot be compiled.
    Compile = 1,
    /// A kernel is not there, or cannot be loaded.
    Load = 2,
    /// Work on the device failed, or what it gave is not finite.
    Execute = 3,
    /// There is too little memory, or what is in it was damaged.
    Memory = 4,
    /// The device, its driver or its compiler cannot be used.
    Device = 5,
    /// A blueprint is not valid, or its kernel is not what it says.
    Validation = 6,
    /// A message could not be sent or received.
    Bus = 7,
    /// A file could not be read, written or believed.
    Storage = 8,
    /// A defect of the library.
    Defect = 9,
}

impl Status {
    /// What kind of thing failed.
    pub fn class(self) -> ErrorClass {
        use Status::*;
        match self {
            Ok | InvalidArgument | InvalidHandle | Unsupported | ShapeMismatch | TypeMismatch | TransitionRefused
            | CapacityExceeded | SnapshotMismatch => ErrorClass::Request,
            Poisoned | Panic => ErrorClass::Defect,
            MalformedBlueprint | InvalidBlueprint | BlueprintTooLarge | ValidationFailed => ErrorClass::Validation,
            CompileFailed | CompileTimedOut => ErrorClass::Compile,
            NotReady | KernelTooLarge => ErrorClass::Load,
            DeviceFailed => ErrorClass::Execute,
            OutOfMemory | StateCorrupted => ErrorClass::Memory,
            DeviceUnavailable | CompilerUnavailable | Forked => ErrorClass::Device,
            StorageFailed | FileCorrupted | FileTooNew => ErrorClass::Storage,
        }
    }
}

/// An error: what ([`Status`]), why (a sentence that names the value and the remedy), and what caused it.
///
/// It can be cloned, because everybody who waits for a compile gets the same one.
#[derive(Clone, Debug)]
pub struct Error {
    status: Status,
    message: String,
    attachments: Vec<(String, String)>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with no cause beneath it.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), attachments: Vec::new(), source: None }
    }

    /// The same error with the cause beneath it.
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The same error with a named text attached, such as `compiler log` or `source`.
    pub fn attach(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.attachments.push((name.into(), text.into()));
        self
    }

    /// The same error with words put before its message.
    pub fn context(mut self, prefix: impl fmt::Display) -> Self {
        self.message = format!("{prefix}: {}", self.message);
        self
    }

    /// The number a program switches on.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The sentence a person reads, without the causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The attached texts, by name.
    pub fn attachments(&self) -> &[(String, String)] {
        &self.attachments
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(formatter, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// Builds an [`Error`] from a status and a format string: `error!(InvalidArgument, "rows is {rows}")`.
#[macro_export]
macro_rules! error {
    ($status:ident, $($message:tt)+) => {
        $crate::Error::new($crate::Status::$status, format!($($message)+))
    };
}

/// Returns early with an [`Error`]: `fail!(InvalidArgument, "rows is {rows}")`.
#[macro_export]
macro_rules! fail {
    ($($error:tt)+) => {
        return Err($crate::error!($($error)+))
    };
}
