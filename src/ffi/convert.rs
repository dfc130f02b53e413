//! Conversion of what callers pass: pointers, text, enumerations, and structs that may grow. Uniform: a null pointer is
//! `InvalidArgument` and names the argument.

use crate::device::{DeviceKind, Stream};
use crate::graph::DataType;
use crate::{Result, error, fail};
use std::ffi::{CStr, CString, c_char, c_void};

/// A struct of the ABI that begins with `size_t struct_size` and may grow at its end.
///
/// # Safety
/// `repr(C)`, the first field is `struct_size: usize`, and zero bytes are a valid value of every field.
pub unsafe trait Growing: Copy {
    /// What messages call it.
    const NAME: &'static str;
    /// Its size in the first version of the ABI that had it; never changes.
    const SMALLEST: usize;
}

/// No struct of this ABI will be larger; a greater `struct_size` is memory that was never set.
const LARGEST_STRUCT: usize = 4096;

/// Reads a struct of whatever version of the header the caller was compiled with: what it lacks is zero, and what this
/// version does not know must be zero.
pub unsafe fn read<T: Growing>(pointer: *const T) -> Result<T> {
    // SAFETY: the caller promises at least the struct_size at the start.
    let (name, size) = (T::NAME, unsafe { struct_size(pointer) }?);
    if size == size_of::<T>() {
        // SAFETY: not null, aligned and of T's size by the check.
        return Ok(unsafe { pointer.read() });
    }
    let known = size.min(size_of::<T>());
    // SAFETY: the caller promises that struct_size bytes are there.
    let tail = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known) };
    if tail.iter().any(|&byte| byte != 0) {
        fail!(Unsupported, "{name} has a field that this version of kasmina ({}) does not know", crate::ffi::VERSION);
    }
    // SAFETY: zero bytes are a value of T, by the contract of the trait.
    let mut value: T = unsafe { std::mem::zeroed() };
    // SAFETY: `known` is at most the size of T and at most what the caller has.
    unsafe { std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), (&raw mut value).cast::<u8>(), known) };
    Ok(value)
}

/// Room for what is made of an array before it is looked at; its count may be wrong.
const MOST_ROOM: usize = 1 << 20;

/// Reads an array of structs that all have the `struct_size` of the first one, and makes something of each.
pub unsafe fn read_array<T: Growing, R>(
    pointer: *const T,
    count: usize,
    make: impl Fn(&T) -> Result<R>,
) -> Result<Vec<R>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the caller promises at least one struct.
    let step = unsafe { struct_size(pointer) }?;
    if step % align_of::<T>() != 0 || count > isize::MAX as usize / step {
        fail!(InvalidArgument, "{count} of {} with struct_size {step} are no array", T::NAME);
    }
    let mut made = Vec::with_capacity(count.min(MOST_ROOM));
    for index in 0..count {
        // SAFETY: the caller promises `count` structs of that size, one after the other.
        let pointer = unsafe { pointer.byte_add(index * step) };
        // SAFETY: as above.
        let given = match unsafe { struct_size(pointer) } {
            // SAFETY: as above.
            Ok(size) if size == step => unsafe { read(pointer) },
            Ok(size) => fail!(InvalidArgument, "struct_size of {}s differ: {step} and {size}", T::NAME),
            Err(error) => Err(error),
        };
        made.push(make(&given.map_err(|error| error.context(format!("element {index}")))?)?);
    }
    Ok(made)
}

/// Writes a struct to a caller that may be compiled with an older or newer header: `struct_size`, which the caller set,
/// says how much room there is.
pub unsafe fn write<T: Growing>(pointer: *mut T, value: &T) -> Result<()> {
    // SAFETY: as in `read`, and the caller promises that it can be written. Its old content is not looked at.
    let size = unsafe { struct_size::<T>(pointer) }?;
    let first = size_of::<usize>();
    let (from, to) = ((&raw const *value).cast::<u8>(), pointer.cast::<u8>());
    // SAFETY: within T on one side and within struct_size on the other; struct_size itself is left as it is.
    unsafe {
        std::ptr::write_bytes(to.add(first), 0, size - first);
        std::ptr::copy_nonoverlapping(from.add(first), to.add(first), size.min(size_of::<T>()) - first);
    }
    Ok(())
}

/// The `struct_size` of a struct, if it is one that a caller can have set.
unsafe fn struct_size<T: Growing>(pointer: *const T) -> Result<usize> {
    const { assert!(T::SMALLEST <= size_of::<T>()) };
    let name = T::NAME;
    check(pointer, name)?;
    // SAFETY: not null and aligned by the check; the caller promises that struct_size is there.
    let size = unsafe { pointer.cast::<usize>().read() };
    if size < T::SMALLEST || size > LARGEST_STRUCT {
        fail!(InvalidArgument, "struct_size of {name} is {size}; set it to sizeof({name}) before the call");
    }
    Ok(size)
}

/// A pointer that is neither null nor misaligned.
pub fn check<T>(pointer: *const T, name: &str) -> Result<()> {
    if pointer.is_null() {
        fail!(InvalidArgument, "{name} is NULL");
    }
    if !pointer.is_aligned() {
        fail!(InvalidArgument, "{name} is {pointer:p}, which is not aligned to {} bytes", align_of::<T>());
    }
    Ok(())
}

/// `count` elements; the pointer may be null if there are none.
pub unsafe fn slice<'a, T>(pointer: *const T, count: usize, name: &str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    check(pointer, name)?;
    if count > isize::MAX as usize / size_of::<T>().max(1) {
        fail!(InvalidArgument, "{name} has {count} elements, more than memory can hold");
    }
    // SAFETY: not null, aligned, and its size does not overflow; the caller promises that many elements.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// Text that ends with a zero byte.
pub unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    // SAFETY: as `optional_text`.
    unsafe { optional_text(pointer, name) }?.ok_or_else(|| error!(InvalidArgument, "{name} is NULL"))
}

/// Text that ends with a zero byte, or null.
pub unsafe fn optional_text<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: not null; the caller promises a zero byte at its end.
    let text = unsafe { CStr::from_ptr(pointer) }.to_str();
    text.map(Some).map_err(|cause| error!(InvalidArgument, "{name} is not UTF-8").caused_by(cause))
}

/// Text for C; what follows a zero byte inside would be lost, so those are made visible.
pub fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// A JSON document, or null for an empty one.
pub unsafe fn json<T: serde::de::DeserializeOwned>(pointer: *const c_char, name: &str) -> Result<T> {
    // SAFETY: as `optional_text`.
    let text = unsafe { optional_text(pointer, name) }?.unwrap_or("{}");
    serde_json::from_str(text).map_err(|cause| error!(InvalidArgument, "{name} cannot be read").caused_by(cause))
}

/// A size as the core counts it.
pub fn size(number: u64, name: &str) -> Result<usize> {
    usize::try_from(number).map_err(|_| error!(InvalidArgument, "{name} is {number}, more than memory can hold"))
}

/// A count as the core counts it.
pub fn count(number: u64, name: &str) -> Result<u32> {
    u32::try_from(number).map_err(|_| error!(InvalidArgument, "{name} is {number}; at most {} are possible", u32::MAX))
}

/// The element type of this number.
pub fn data_type(number: i32) -> Result<DataType> {
    use DataType::*;
    let all = [F32, F16, BF16, F64, I32, I64, Bool, I8, U8, I16, U16, U32];
    let found = all.into_iter().find(|&data_type| data_type as i32 == number);
    found.ok_or_else(|| error!(InvalidArgument, "data type {number} is no kasmina_data_type"))
}

/// The device of these numbers.
pub fn device(device_type: i32, device_index: i32) -> Result<DeviceKind> {
    const CPU: i32 = super::kasmina_device_type::Cpu as i32;
    const CUDA: i32 = super::kasmina_device_type::Cuda as i32;
    match (device_type, u32::try_from(device_index)) {
        (CPU, _) => Ok(DeviceKind::Cpu),
        (CUDA, Ok(ordinal)) => Ok(DeviceKind::Cuda(ordinal)),
        (CUDA, Err(_)) => fail!(InvalidArgument, "device index {device_index} is negative"),
        _ => fail!(InvalidArgument, "device type {device_type} is no kasmina_device_type"),
    }
}

/// The numbers of a device.
pub fn device_numbers(device: DeviceKind) -> (i32, i32) {
    match device {
        DeviceKind::Cpu => (super::kasmina_device_type::Cpu as i32, 0),
        DeviceKind::Cuda(ordinal) => (super::kasmina_device_type::Cuda as i32, ordinal as i32),
    }
}

/// The host's stream.
pub fn stream(pointer: *mut c_void) -> Stream {
    Stream(pointer as u64)
}

/// The flags that are set, if the call knows them all.
pub fn flags(flags: u32, known: u32) -> Result<u32> {
    if flags & !known != 0 {
        fail!(Unsupported, "flags are {flags:#x}, of which this call knows {known:#x} only");
    }
    Ok(flags)
}
