//! The foreign functions of libnvrtc, made safe: open the library, compile one source.
//!
//! The library is loaded by the path that [`crate::compile::nvrtc`] found and its symbols are taken from that very
//! library; cudarc's loader would search by name again and panic when it finds nothing. Must know nothing of kernels.

use libloading::os::unix::{Library as System, RTLD_GLOBAL, RTLD_NOW};
use std::ffi::{CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

type Program = *mut c_void;

/// A loaded libnvrtc. It is never unloaded, so its functions are good for ever.
pub(crate) struct Library {
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int,
    destroy: unsafe extern "C" fn(*mut Program) -> c_int,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    log: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    code_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    code: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    ptx_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    ptx: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    version: (c_int, c_int),
    path: PathBuf,
}

/// What a compile is to give.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// A cubin, for a real architecture.
    MachineCode,
    /// The text of virtual instructions.
    Ptx,
}

/// What a compile gave.
pub(crate) struct Outcome {
    /// The code, or NVRTC's result number and the call that returned it.
    pub code: Result<Vec<u8>, String>,
    /// What the compiler said; empty if nothing.
    pub log: String,
}

impl Library {
    /// Loads the library at a path (or of a name, by the system's loader) and the libraries in `first` before it.
    pub(crate) fn open(path: &Path, first: &[PathBuf]) -> Result<Library, String> {
        for needed in first {
            // SAFETY: NVIDIA's built-ins library has no initialisers that do more than set up its own data.
            match unsafe { System::open(Some(needed), RTLD_NOW | RTLD_GLOBAL) } {
                Ok(library) => std::mem::forget(library),
                Err(reason) => log::debug!("{} could not be loaded: {reason}", needed.display()),
            }
        }
        // SAFETY: as above, for NVRTC itself.
        let library = unsafe { System::open(Some(path), RTLD_NOW) }.map_err(|reason| reason.to_string())?;
        // A library that is never dropped keeps the functions taken from it alive.
        let library = std::mem::ManuallyDrop::new(library);
        fn symbol<T: Copy>(library: &System, name: &str) -> Result<T, String> {
            // SAFETY: every caller asks for the signature that nvrtc.h documents for this name.
            unsafe { library.get::<T>(name.as_bytes()) }.map(|symbol| *symbol).map_err(|reason| reason.to_string())
        }
        let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int = symbol(&library, "nvrtcVersion")?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both pointers are to live integers.
        match unsafe { version(&mut major, &mut minor) } {
            0 => Ok(Library {
                create: symbol(&library, "nvrtcCreateProgram")?,
                destroy: symbol(&library, "nvrtcDestroyProgram")?,
                compile: symbol(&library, "nvrtcCompileProgram")?,
                log_size: symbol(&library, "nvrtcGetProgramLogSize")?,
                log: symbol(&library, "nvrtcGetProgramLog")?,
                code_size: symbol(&library, "nvrtcGetCUBINSize")?,
                code: symbol(&library, "nvrtcGetCUBIN")?,
                ptx_size: symbol(&library, "nvrtcGetPTXSize")?,
                ptx: symbol(&library, "nvrtcGetPTX")?,
                version: (major, minor),
                path: path.to_owned(),
            }),
            result => Err(format!("nvrtcVersion returned {result}")),
        }
    }

    /// What was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Major and minor version.
    pub(crate) fn version(&self) -> (i32, i32) {
        self.version
    }

    /// Compiles one source. May be called from many threads at once.
    pub(crate) fn compile(&self, form: Form, name: &str, source: &str, options: &[String]) -> Outcome {
        let mut log = String::new();
        let code = self.run(form, name, source, options, &mut log);
        Outcome { code, log }
    }

    fn run(
        &self,
        form: Form,
        name: &str,
        source: &str,
        options: &[String],
        log: &mut String,
    ) -> Result<Vec<u8>, String> {
        let text =
            |text: &str| CString::new(text).map_err(|_| "the source or an option contains a zero byte".to_string());
        let (name, source) = (text(name)?, text(source)?);
        let options = options.iter().map(|option| text(option)).collect::<Result<Vec<_>, _>>()?;
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let mut program = std::ptr::null_mut();
        // SAFETY: source and name are zero-terminated and outlive the program; there are no headers.
        let created = unsafe {
            (self.create)(&mut program, source.as_ptr(), name.as_ptr(), 0, std::ptr::null(), std::ptr::null())
        };
        check("nvrtcCreateProgram", created)?;
        // SAFETY: the program was just created, the options are zero-terminated and live.
        let compiled = unsafe { (self.compile)(program, options.len() as c_int, options.as_ptr()) };
        let (size, code) = match form {
            Form::MachineCode => (self.code_size, self.code),
            Form::Ptx => (self.ptx_size, self.ptx),
        };
        // SAFETY: each pair returns the number of bytes that the second of it writes.
        let result = unsafe {
            *log = read(program, self.log_size, self.log)
                .map(|bytes| String::from_utf8_lossy(&bytes).trim_end_matches('\0').trim().to_string())
                .unwrap_or_default();
            check("nvrtcCompileProgram", compiled).and_then(|()| read(program, size, code))
        };
        // SAFETY: the program is destroyed once and not used again.
        unsafe { (self.destroy)(&mut program) };
        result
    }
}

/// Reads what a pair of size and content functions gives of a program.
///
/// # Safety
/// `program` is live, and `content` writes exactly as many bytes as `size` reports.
unsafe fn read(
    program: Program,
    size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    content: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
) -> Result<Vec<u8>, String> {
    let mut bytes = 0;
    // SAFETY: the caller vouches for the program.
    check("asking for a size", unsafe { size(program, &mut bytes) })?;
    let mut buffer = vec![0u8; bytes];
    // SAFETY: the buffer is as long as the library said.
    check("asking for content", unsafe { content(program, buffer.as_mut_ptr().cast()) })?;
    Ok(buffer)
}

fn check(call: &str, result: c_int) -> Result<(), String> {
    if result == 0 { Ok(()) } else { Err(format!("{call} returned {result} ({})", meaning(result))) }
}

fn meaning(result: c_int) -> &'static str {
    match result {
        1 => "out of memory",
        2 => "program creation failure",
        3 => "invalid input",
        4 => "invalid program",
        5 => "invalid option",
        6 => "compilation",
        7 => "built-in operation failure; is libnvrtc-builtins beside it?",
        11 => "internal error",
        _ => "see nvrtcResult",
    }
}
