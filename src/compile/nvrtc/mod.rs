//! CUDA C++ to machine code, by NVIDIA's run-time compiler. Needs no GPU, no driver and no headers on disk.
//!
//! The library is looked for when the first kernel is compiled, in the places that [`search`] lists. Must know nothing of
//! what it compiles.

mod search;

use crate::compile::Architecture;
use crate::device::cuda::nvrtc::{Form, Library};
use crate::{Result, error, fail};
use parking_lot::Mutex;
use std::path::PathBuf;

/// Options that every compile is given besides the architecture. No fast mathematics: results are compared with the
/// CPU's. A kernel declares its inputs whether or not its programs use them (177).
const OPTIONS: [&str; 3] = ["--std=c++17", "--fmad=true", "--diag-suppress=177"];

/// If this variable is 1, machine code says which line of the source it came from: for compute-sanitizer and profilers.
/// It makes a kernel three times as large.
const LINES: &str = "KASMINA_LINE_INFORMATION";

fn options() -> Vec<String> {
    let lines = std::env::var(LINES).is_ok_and(|value| value == "1").then_some("--generate-line-info");
    OPTIONS.into_iter().chain(lines).map(str::to_string).collect()
}

/// Compiles CUDA C++ to the machine code (cubin) of an architecture. Any number of threads may compile at once.
///
/// `CompilerUnavailable` lists every place where NVRTC was looked for; `CompileFailed` has the compiler's log and the
/// source attached.
pub fn compile(source: &str, architecture: Architecture) -> Result<Vec<u8>> {
    run(Form::MachineCode, "sm", source, architecture)
}

/// Compiles CUDA C++ to PTX, the text of virtual instructions that the driver of any later architecture can read.
///
/// Fails as [`compile`] does.
pub fn ptx(source: &str, architecture: Architecture) -> Result<String> {
    let mut bytes = run(Form::Ptx, "compute", source, architecture)?;
    bytes.retain(|&byte| byte != 0); // It ends with a zero, for C.
    String::from_utf8(bytes).map_err(|cause| error!(CompileFailed, "NVRTC gave PTX that is no text").caused_by(cause))
}

fn run(form: Form, kind: &str, source: &str, architecture: Architecture) -> Result<Vec<u8>> {
    let Architecture::Cuda(capability) = architecture else {
        fail!(InvalidArgument, "NVRTC cannot compile for {architecture:?}; give a CUDA architecture");
    };
    let library = library()?;
    // Kernels for 9.0 use what no other card has.
    let only = if capability == 90 { "a" } else { "" };
    let mut options = vec![format!("--gpu-architecture={kind}_{capability}{only}")];
    options.extend(self::options());
    let outcome = library.compile(form, "kasmina.cu", source, &options);
    match outcome.code {
        Ok(code) => {
            if !outcome.log.is_empty() {
                log::warn!("NVRTC on a kernel for {kind}_{capability}: {}", outcome.log);
            }
            Ok(code)
        }
        Err(reason) => {
            let first = outcome.log.lines().find(|line| line.contains("error")).unwrap_or_default().to_string();
            Err(error!(CompileFailed, "NVRTC refused the generated source for {kind}_{capability}: {reason}: {first}")
                .attach("compiler log", outcome.log)
                .attach("source", source))
        }
    }
}

/// Where NVRTC was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The library, or its name if the system's loader found it.
    pub path: PathBuf,
    /// Major and minor version.
    pub version: (i32, i32),
}

/// Finds NVRTC; `CompilerUnavailable` lists every place where it was looked for.
pub fn find() -> Result<Found> {
    let library = library()?;
    Ok(Found { path: library.path().to_owned(), version: library.version() })
}

/// What compiles: the compiler and its version, such as `nvrtc 13.0`, and the options. Part of a cache key.
pub fn version() -> Result<String> {
    let (major, minor) = library()?.version();
    Ok(format!("nvrtc {major}.{minor} {}", options().join(" ")))
}

/// The library, found once. A failure is not remembered: torch, and NVRTC with it, may be loaded later.
fn library() -> Result<&'static Library> {
    static FOUND: Mutex<Option<&'static Library>> = Mutex::new(None);
    let mut found = FOUND.lock();
    if let Some(library) = *found {
        return Ok(library);
    }
    let library: &'static Library = Box::leak(Box::new(open(&search::Surroundings::of_this_process())?));
    *found = Some(library);
    Ok(library)
}

fn open(surroundings: &search::Surroundings) -> Result<Library> {
    let mut looked = Vec::new();
    for place in surroundings.places() {
        let candidates = place.libraries();
        if candidates.is_empty() {
            looked.push(format!("{place}: no libnvrtc.so there"));
        }
        for candidate in candidates {
            match Library::open(&candidate, &search::built_ins_beside(&candidate)) {
                Ok(library) => {
                    log::debug!("using NVRTC {:?} from {}", library.version(), candidate.display());
                    return Ok(library);
                }
                Err(reason) => looked.push(format!("{place}: {reason}")),
            }
        }
    }
    Err(error!(
        CompilerUnavailable,
        "NVRTC was not found, so no CUDA kernel can be compiled. Install the CUDA build of torch or a CUDA toolkit, or \
         set {} to libnvrtc.so.13 or its folder. Looked in: {}",
        search::VARIABLE,
        looked.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    #[test]
    fn a_missing_compiler_is_an_error_that_lists_every_place() {
        let empty = tempfile::tempdir().unwrap();
        let surroundings = search::Surroundings {
            explicit: None,
            loaded: vec!["/nowhere/site-packages/torch/lib/libtorch_cpu.so".into()],
            virtual_environment: Some(empty.path().join("environment")),
            current_directory: Some(empty.path().into()),
            toolkits: vec!["/nowhere/cuda".into()],
            system: vec!["libnvrtc-of-nobody.so".into()],
        };
        let error = open(&surroundings).err().unwrap();
        assert_eq!(error.status(), Status::CompilerUnavailable);
        for place in ["/nowhere/site-packages/nvidia/cu13/lib", "/nowhere/cuda/lib64", "libnvrtc-of-nobody.so"] {
            assert!(error.message().contains(place), "{place} is not in: {error}");
        }
        assert!(error.message().contains("KASMINA_NVRTC"));
    }

    #[test]
    fn an_explicit_place_is_the_only_one_that_is_searched() {
        let mut surroundings = search::Surroundings::of_this_process();
        surroundings.explicit = Some("/nowhere/libnvrtc.so.13".into());
        let error = open(&surroundings).err().unwrap();
        assert_eq!(error.status(), Status::CompilerUnavailable);
        assert!(error.message().contains("KASMINA_NVRTC=/nowhere/libnvrtc.so.13"), "{error}");
        assert!(!error.message().contains("/usr/local"), "{error}");
    }

    #[test]
    fn a_source_that_is_wrong_fails_with_log_and_source_attached() {
        if crate::compile::codegen::cuda::tests::without_nvrtc() {
            return;
        }
        let error = compile("__global__ void broken() { undeclared = 1; }", Architecture::Cuda(90)).unwrap_err();
        assert_eq!(error.status(), Status::CompileFailed);
        assert!(error.message().contains("undeclared"), "{error}");
        let names: Vec<_> = error.attachments().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["compiler log", "source"]);
    }

    #[test]
    fn many_threads_compile_the_same_source_to_the_same_bytes() {
        if crate::compile::codegen::cuda::tests::without_nvrtc() {
            return;
        }
        let source = "extern \"C\" __global__ void twice(float* v) { v[threadIdx.x] *= 2; }";
        let codes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| compile(source, Architecture::Cuda(80)))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
        });
        assert!(codes[0].starts_with(b"\x7fELF"));
        assert!(codes.iter().all(|code| *code == codes[0]));
        assert!(version().unwrap().starts_with("nvrtc "));
    }
}
