//! A device that runs generated CUDA kernels on the CPU: g++ compiles the source with `tests/data/cuda_shim.h`, which runs a
//! block's threads as fibers. Slow, and blind to what only a GPU does, but it finds wrong indices and missing waits.

use kasmina::compile::codegen::cuda::{LaunchShape, TAIL, generate};
use kasmina::compile::{Architecture, KernelClass, Pass};
use kasmina::device::cuda::Parameters;
use kasmina::device::{Adamw, Address, Device, DeviceKind, Kernel, Launch, Stream, cpu};
use kasmina::{Result, fail};
use std::ffi::{c_uint, c_void};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The emulator; memory is the CPU device's.
pub struct Emulator {
    /// Blocks that share the rows of a seed.
    pub row_blocks: usize,
    directory: tempfile::TempDir,
}

struct Emulated {
    /// Keeps the code loaded.
    _library: libloading::Library,
    run: unsafe extern "C" fn(*const c_void, c_uint, c_uint, usize),
    shape: LaunchShape,
    pass: Pass,
    chunk: usize,
}

macro_rules! fragments {
    ($file:literal) => {
        include_str!(concat!("../../../src/compile/codegen/cuda/fragments/", $file))
    };
}

/// Files of instructions, and what has functions of the same names that do what they do.
const INSTRUCTIONS: [(&str, &str); 5] = [
    (include_str!("../../../src/compile/codegen/cuda/order.cu"), include_str!("../../data/emulated_order.h")),
    (fragments!("instructions.cu"), include_str!("../../data/emulated_instructions.h")),
    (fragments!("tensor_half.cu"), include_str!("../../data/emulated_tensor_half.h")),
    (fragments!("tensor_warpgroup.cu"), include_str!("../../data/emulated_tensor_warpgroup.h")),
    (fragments!("tensor_f32.cu"), include_str!("../../data/emulated_tensor_f32.h")),
];

/// Blocks run one at a time, in memory that all of them share.
static RUNNING: Mutex<()> = Mutex::new(());

impl Emulator {
    pub fn device(row_blocks: usize) -> Arc<dyn Device> {
        Arc::new(Emulator { row_blocks, directory: tempfile::tempdir().unwrap() })
    }

    fn compile(&self, source: &str) -> libloading::Library {
        let shim = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cuda_shim.h");
        let source = source
            .replace(r#"asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));"#, "value = half_to_float(bits);")
            .replace(r#"asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));"#, "bits = float_to_half(value);")
            .replace(r#"asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(v));"#, "power = std::exp2(v);")
            .replace(r#"asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(quotient) : "f"(v));"#, "quotient = 1 / v;");
        let source = INSTRUCTIONS.iter().fold(source, |source, (own, emulated)| source.replace(own, emulated));
        let entry = "extern \"C\" void emulate(const Launch* launch, unsigned blocks, unsigned together, size_t shared) {\n  \
                     cluster = together;\n  emulation::run<Launch>(kasmina, launch, blocks, 1, THREADS, shared);\n}\n";
        let name = blake3_name(&source);
        let (text, library) =
            (self.directory.path().join(format!("{name}.cpp")), self.directory.path().join(format!("{name}.so")));
        if !library.exists() {
            std::fs::write(&text, source + entry).unwrap();
            let output = std::process::Command::new("g++")
                .args([
                    "-std=c++17",
                    "-O1",
                    "-fno-strict-aliasing",
                    "-ffp-contract=off",
                    "-w",
                    "-fPIC",
                    "-shared",
                    "-D__CUDA_ARCH__=900",
                    "-include",
                ])
                .arg(shim)
                .arg(&text)
                .arg("-o")
                .arg(&library)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        // SAFETY: the library is what was just compiled; it has no initialisers beyond empty vectors.
        unsafe { libloading::Library::new(&library) }.unwrap()
    }
}

fn blake3_name(source: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    format!("kernel_{:016x}", hasher.finish())
}

impl Device for Emulator {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Cpu
    }

    fn description(&self) -> String {
        "generated CUDA on the CPU".into()
    }

    fn architecture(&self) -> Architecture {
        Architecture::Cuda(90)
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        cpu::device().allocate(bytes)
    }

    fn free(&self, address: Address, bytes: usize) {
        cpu::device().free(address, bytes);
    }

    fn upload(&self, to: Address, from: &[u8], stream: Stream) -> Result<()> {
        cpu::device().upload(to, from, stream)
    }

    fn download(&self, to: &mut [u8], from: Address, stream: Stream) -> Result<()> {
        cpu::device().download(to, from, stream)
    }

    fn copy(&self, to: Address, from: Address, bytes: usize, stream: Stream) -> Result<()> {
        cpu::device().copy(to, from, bytes, stream)
    }

    fn zero(&self, to: Address, bytes: usize, stream: Stream) -> Result<()> {
        cpu::device().zero(to, bytes, stream)
    }

    fn synchronize(&self, _: Stream) -> Result<()> {
        Ok(())
    }

    /// Prints the class again and compiles that; the machine code of a GPU is of no use here.
    fn load(&self, class: &KernelClass, _: &[u8]) -> Result<Kernel> {
        let generated = generate(class, self.architecture())?;
        let library = self.compile(&generated.source);
        // SAFETY: the entry that `compile` appended has this signature.
        let run = unsafe { *library.get(b"emulate").unwrap() };
        let (shape, pass, chunk) = (generated.shape, class.pass, class.chunk);
        Ok(Kernel(Arc::new(Emulated { _library: library, run, shape, pass, chunk })))
    }

    fn launch(&self, kernel: &Kernel, launch: &Launch<'_>, _: Stream) -> Result<()> {
        let Some(kernel) = kernel.0.downcast_ref::<Emulated>() else {
            fail!(InvalidArgument, "the kernel is not an emulated one");
        };
        if launch.rows == 0 {
            return Ok(());
        }
        let tail = if kernel.pass == Pass::Train { 0 } else { launch.hidden - launch.seeds * kernel.chunk };
        let cluster = if launch.deterministic && kernel.shape.in_turn { self.row_blocks } else { 1 };
        // Others have one part more, so that both numbers matter.
        let parts = |parts: usize| if launch.deterministic { cluster } else { parts };
        let (busy_parts, other_parts) = (parts(self.row_blocks), parts(self.row_blocks + 1));
        let others = launch.seeds - launch.busy + tail.div_ceil(TAIL);
        let blocks = (launch.busy * busy_parts + others * other_parts) as c_uint;
        let parameters = Parameters::new(launch, busy_parts as u32, other_parts as u32);
        let _running = RUNNING.lock().unwrap();
        // SAFETY: the addresses in the parameters are the CPU device's, and the test answers for the arrays behind them.
        unsafe { (kernel.run)((&raw const parameters).cast(), blocks, cluster as c_uint, kernel.shape.shared_bytes) };
        Ok(())
    }

    fn adamw(&self, _: &Adamw, _: Stream) -> Result<()> {
        fail!(Unsupported, "the optimiser is not emulated")
    }
}
