//! Loaded machine code.

use super::driver::{check, raw};
use crate::Result;
use crate::device::Stream;
use cudarc::driver::{result, sys};
use std::ffi::{CStr, c_void};
use sys::CUlaunchAttributeID::{
    CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
};

/// A module. It stays loaded until it is unloaded in so many words: dropping it calls no driver.
pub(super) struct Module(sys::CUmodule);

/// A function of a module. Whoever has one holds the module as well.
#[derive(Clone, Copy)]
pub(super) struct Function(sys::CUfunction);

/// The blocks of a launch.
pub(super) struct Blocks {
    pub count: u32,
    /// How many after each other are a cluster.
    pub cluster: u32,
    pub threads: usize,
    /// Of dynamic shared memory, each.
    pub shared_bytes: usize,
}

// SAFETY: modules and functions of the driver API may be used from any thread.
unsafe impl Send for Module {}
// SAFETY: as above; they are never changed once loaded.
unsafe impl Sync for Module {}
// SAFETY: as above.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Module {
    /// Loads a cubin into the current context.
    pub(super) fn load(machine_code: &[u8]) -> Result<Module> {
        // SAFETY: the image is complete in memory; the driver checks the rest and copies what it keeps.
        let module = unsafe { result::module::load_data(machine_code.as_ptr().cast()) };
        Ok(Module(check(module, "loading machine code onto the CUDA device")?))
    }

    /// Unloads it. Its functions must not be used any more.
    pub(super) fn unload(self) -> Result<()> {
        // SAFETY: the module is loaded, and by value it is nobody else's.
        check(unsafe { result::module::unload(self.0) }, "unloading machine code from the CUDA device")
    }

    /// The function of a name.
    pub(super) fn function(&self, name: &CStr) -> Result<Function> {
        // SAFETY: the module is loaded.
        let function = unsafe { result::module::get_function(self.0, name.to_owned()) };
        Ok(Function(check(function, "finding the kernel in loaded machine code")?))
    }
}

impl Function {
    /// Lets blocks of the function have this much dynamic shared memory.
    pub(super) fn allow_shared_memory(self, bytes: usize) -> Result<()> {
        let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function's module is loaded, because whoever has the function holds it.
        check(
            unsafe { result::function::set_function_attribute(self.0, attribute, bytes as i32) },
            "reserving shared memory",
        )
    }

    /// How many blocks of it one multiprocessor runs at once.
    pub(super) fn blocks_per_multiprocessor(self, threads: usize, shared_bytes: usize) -> Result<usize> {
        // SAFETY: as above.
        let blocks =
            unsafe { result::occupancy::max_active_block_per_multiprocessor(self.0, threads as i32, shared_bytes) };
        Ok(check(blocks, "asking how many blocks fit a multiprocessor")?.max(0) as usize)
    }

    /// How many of its blocks can be a cluster; 1 where none can.
    pub(super) fn largest_cluster(self, threads: usize, shared_bytes: usize) -> usize {
        let configuration = Blocks { count: 1, cluster: 1, threads, shared_bytes }.configuration(Stream::default());
        let mut blocks = 0;
        // SAFETY: as above; the driver writes one number, and reads the configuration before it returns.
        let asked = unsafe { sys::cuOccupancyMaxPotentialClusterSize(&mut blocks, self.0, &raw const configuration) };
        match check(asked.result(), "asking how large a cluster of blocks can be") {
            Ok(()) => blocks.max(1) as usize,
            Err(error) => {
                log::debug!("no blocks are launched as clusters: {error}");
                1
            }
        }
    }

    /// Queues the function with one struct as its parameter. If it `overlaps`, it may be started while the kernel before it on
    /// the stream still runs.
    ///
    /// # Safety
    /// `T` has the layout of the function's only parameter, or begins with it, and the addresses in it are good until the
    /// function is done. A function that overlaps waits for the kernels before it by itself (`griddepcontrol.wait`).
    pub(super) unsafe fn launch<T>(
        self,
        blocks: &Blocks,
        stream: Stream,
        overlaps: bool,
        parameters: &T,
    ) -> Result<()> {
        let mut pointers = [std::ptr::from_ref(parameters).cast_mut().cast::<c_void>()];
        let attribute = |id, value| sys::CUlaunchAttribute { id, pad: [0; 4], value };
        let dimension = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: blocks.cluster, y: 1, z: 1 };
        let in_clusters =
            attribute(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, sys::CUlaunchAttributeValue { clusterDim: dimension });
        let overlapping = attribute(
            CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: overlaps.into() },
        );
        // Drivers and cards without clusters know no such attribute.
        let mut attributes = [overlapping, in_clusters];
        let configuration = sys::CUlaunchConfig {
            attrs: attributes.as_mut_ptr(),
            numAttrs: if blocks.cluster > 1 { 2 } else { overlaps.into() },
            ..blocks.configuration(stream)
        };
        // SAFETY: the driver copies the parameters and the configuration before it returns; the caller vouches for the rest.
        let queued = unsafe {
            sys::cuLaunchKernelEx(&raw const configuration, self.0, pointers.as_mut_ptr(), std::ptr::null_mut())
        };
        check(queued.result(), "launching a CUDA kernel")
    }
}

impl Blocks {
    /// A launch of them without attributes.
    fn configuration(&self, stream: Stream) -> sys::CUlaunchConfig {
        sys::CUlaunchConfig {
            gridDimX: self.count,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: self.threads as u32,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: self.shared_bytes as u32,
            hStream: raw(stream),
            attrs: std::ptr::null_mut(),
            numAttrs: 0,
        }
    }
}
