//! Tensors on the CPU in any layout, right or wrong, always with memory behind every element that they describe.

use super::host::Host;
use super::structs::Structs;
use kasmina::ffi::{kasmina_device_type, kasmina_tensor};
use kasmina::graph::DataType;
use std::ffi::c_void;

/// The element types of rows, most usual first.
pub const ROW_TYPES: &[i32] =
    &[DataType::F32 as i32, DataType::F64 as i32, DataType::F16 as i32, DataType::BF16 as i32];

/// A tensor and all that its descriptor points to.
pub struct Tensor {
    descriptor: Structs<kasmina_tensor>,
    _memory: Vec<u64>,
    _shape: Vec<i64>,
    _strides: Vec<i64>,
}

/// What a call does with a tensor.
#[derive(Clone, Copy, PartialEq)]
pub enum Use {
    /// Reads it, so that elements may be anywhere.
    Read,
    /// Writes it, so that no two elements may be in one place.
    Written,
}

impl Tensor {
    /// A tensor of this shape and type: mostly.
    pub fn new(host: &mut Host<'_>, shape: &[i64], data_type: i32, usage: Use) -> Tensor {
        let choices = &mut host.choices;
        let mut shape = shape.to_vec();
        if choices.once_in(24) && !shape.is_empty() {
            let axis = choices.below(shape.len());
            shape[axis] = choices.pick(&[shape[axis] + 1, 0, 1, -1, i64::MAX, i64::MIN]);
        }
        let mut strides = strides(host, &shape, usage);
        let dense = strides.is_empty();
        if dense {
            strides = spread(&shape, 0, 0);
        }
        let memory = memory(host, reach(&shape, &strides));
        let choices = &mut host.choices;
        let mut tensor = kasmina_tensor {
            struct_size: 0,
            data: memory.as_ptr().cast_mut().cast::<c_void>(),
            data_type,
            device_type: kasmina_device_type::Cpu as i32,
            device_index: 0,
            rank: shape.len() as i32,
            shape: shape.as_ptr(),
            strides: if dense { std::ptr::null() } else { strides.as_ptr() },
        };
        match choices.below(64) {
            63 => tensor.data = std::ptr::null_mut(),
            62 => tensor.data = tensor.data.wrapping_byte_add(1 + choices.below(4)),
            61 => tensor.data_type = choices.pick(&[-1, 12, 4, 5, 6, 7, 0, 1, 2, 3]),
            60 => tensor.rank = choices.pick(&[-1, 0, 17, i32::MAX, i32::MIN]),
            59 => tensor.shape = std::ptr::null(),
            58 => tensor.shape = tensor.shape.wrapping_byte_add(1),
            57 => tensor.device_type = choices.pick(&[0, 3, -1]),
            56 => tensor.device_type = kasmina_device_type::Cuda as i32,
            55 => tensor.device_index = choices.pick(&[1, -1]),
            _ => {}
        }
        let descriptor = Structs::new(choices, &[tensor]);
        Tensor { descriptor, _memory: memory, _shape: shape, _strides: strides }
    }

    /// The descriptor: mostly.
    pub fn pointer(&mut self, host: &mut Host<'_>) -> *const kasmina_tensor {
        self.descriptor.pointer(&mut host.choices)
    }
}

/// A tensor that may be left out, and mostly is.
pub struct Optional(Option<Tensor>);

impl Optional {
    pub fn new(host: &mut Host<'_>, shape: &[i64], data_type: i32, usage: Use) -> Optional {
        Optional((host.choices.below(4) == 1).then(|| Tensor::new(host, shape, data_type, usage)))
    }

    pub fn pointer(&mut self, host: &mut Host<'_>) -> *const kasmina_tensor {
        self.0.as_mut().map_or(std::ptr::null(), |tensor| tensor.pointer(host))
    }
}

/// An array of tensors, one for each blueprint.
pub struct Many {
    _tensors: Vec<Tensor>,
    pointers: Vec<*const kasmina_tensor>,
}

impl Many {
    /// Of these shapes: mostly.
    pub fn new(host: &mut Host<'_>, shapes: &[[i64; 2]], data_type: i32, usage: Use) -> Many {
        let given = if host.choices.once_in(24) { host.choices.below(3) } else { shapes.len() };
        let shape = |index: usize| shapes.get(index).copied().unwrap_or([1, 1]);
        let mut tensors: Vec<_> = (0..given).map(|index| Tensor::new(host, &shape(index), data_type, usage)).collect();
        let pointers = tensors.iter_mut().map(|tensor| tensor.pointer(host)).collect();
        Many { _tensors: tensors, pointers }
    }

    /// None at all.
    pub fn none() -> Many {
        Many { _tensors: Vec::new(), pointers: Vec::new() }
    }

    pub fn pointer(&self) -> *const *const kasmina_tensor {
        if self.pointers.is_empty() { std::ptr::null() } else { self.pointers.as_ptr() }
    }

    pub fn count(&self) -> usize {
        self.pointers.len()
    }
}

/// Strides; none for a dense tensor without them.
fn strides(host: &mut Host<'_>, shape: &[i64], usage: Use) -> Vec<i64> {
    let choices = &mut host.choices;
    match choices.below(8) {
        0..4 => Vec::new(),
        // Axes in another order, with room between them.
        4 | 5 => spread(shape, choices.below(6), choices.below(4) as i64),
        6 if usage == Use::Read => shape.iter().map(|_| choices.below(6) as i64).collect(),
        7 => {
            let mut strides = spread(shape, 0, 0);
            let odd = choices.pick(&[-1, i64::MAX, i64::MIN]);
            if let Some(stride) = strides.first_mut() {
                *stride = odd;
            }
            strides
        }
        _ => spread(shape, choices.below(6), 1),
    }
}

/// Strides without overlap: axes rotated by so many places, each with so much room after it.
fn spread(shape: &[i64], rotated: usize, room: i64) -> Vec<i64> {
    let mut strides = vec![0; shape.len()];
    let mut next = 1_i64;
    for step in (0..shape.len()).rev() {
        let axis = (step + rotated) % shape.len();
        strides[axis] = next;
        next = next.saturating_mul(shape[axis].max(1)).saturating_add(room);
    }
    strides
}

/// The elements from the first to the last one, if that is a tensor at all.
fn reach(shape: &[i64], strides: &[i64]) -> usize {
    let mut reach = 1_i128;
    for (&size, &stride) in shape.iter().zip(strides) {
        if size < 0 || stride < 0 {
            return 1;
        }
        reach += i128::from(size.max(1) - 1) * i128::from(stride);
    }
    // What is larger overflows, and is refused.
    usize::try_from(reach).ok().filter(|&reach| reach < 1 << 40).unwrap_or(1)
}

/// Eight bytes an element, and some for a pointer that is moved.
fn memory(host: &mut Host<'_>, elements: usize) -> Vec<u64> {
    assert!(elements < 1 << 24, "{elements} elements are more than this host has memory for");
    let choices = &mut host.choices;
    let word: fn(u64) -> u64 = match choices.below(8) {
        0..3 => |at| u64::from(((at as f32) * 0.37).sin().to_bits()) * ((1 << 32) | 1),
        3 | 4 => |at| ((at as f64) * 0.37).sin().to_bits(),
        5 => |_| 0x3c00_3c00_3c00_3c00,
        6 => |_| u64::MAX,
        _ => |at| (at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
    };
    (0..elements as u64 + 2).map(word).collect()
}
