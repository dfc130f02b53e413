//! Tensor descriptors: where an array lies, what its elements are, and how they are laid out.

use super::convert::{self, Growing};
use crate::device::{Address, DeviceKind, Rows};
use crate::graph::DataType;
use crate::{Result, error, fail};
use std::ffi::c_void;

/// Where a device is. The numbers are those of DLPack.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum kasmina_device_type {
    /// The host; the device index is ignored.
    Cpu = 1,
    /// A CUDA device; the device index is its ordinal.
    Cuda = 2,
}

/// A tensor: a view of memory that someone else owns. Only read during the call it is passed to.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kasmina_tensor {
    /// sizeof(kasmina_tensor)
    pub struct_size: usize,
    /// The first element; may be NULL if there are no elements.
    pub data: *mut c_void,
    /// A kasmina_data_type.
    pub data_type: i32,
    /// A kasmina_device_type.
    pub device_type: i32,
    /// The ordinal of the device.
    pub device_index: i32,
    /// How many dimensions there are.
    pub rank: i32,
    /// `rank` sizes.
    pub shape: *const i64,
    /// `rank` strides in elements; NULL if the tensor is dense with the last dimension varying fastest.
    pub strides: *const i64,
}

// SAFETY: repr(C), starts with struct_size, and has only integers and raw pointers.
unsafe impl Growing for kasmina_tensor {
    const NAME: &'static str = "kasmina_tensor";
    const SMALLEST: usize = 48;
}

/// A descriptor whose numbers are checked: no size is negative and no element lies outside what 63 bits can address.
pub struct Tensor<'a> {
    pub name: &'static str,
    pub address: Address,
    pub data_type: DataType,
    pub device: DeviceKind,
    pub dimensions: Dimensions<'a>,
}

/// More dimensions than any tensor of a trainer has.
const MOST_DIMENSIONS: usize = 16;

/// Sizes and strides where the caller has them, none of them negative.
#[derive(Clone, Copy)]
pub struct Dimensions<'a> {
    sizes: &'a [i64],
    /// `None`: dense.
    strides: Option<&'a [i64]>,
}

impl<'a> Dimensions<'a> {
    /// Checks sizes, and as many strides, of elements of so many bytes.
    fn check(sizes: &'a [i64], strides: Option<&'a [i64]>, bytes: usize) -> Result<Dimensions<'a>> {
        let dimensions = Dimensions { sizes, strides };
        if sizes.iter().any(|size| *size < 0) {
            fail!(ShapeMismatch, "shape is {sizes:?}; no size may be negative");
        }
        if strides.is_some_and(|strides| strides.iter().any(|stride| *stride < 0)) {
            fail!(ShapeMismatch, "strides are {:?}; none may be negative", strides.unwrap_or_default());
        }
        let overflow = || error!(ShapeMismatch, "shape {sizes:?} with strides {strides:?} overflows the address space");
        let (mut elements, mut reach) = (1_usize, 0_usize);
        for axis in (0..sizes.len()).rev() {
            let (size, stride) = (sizes[axis] as usize, strides.map_or(elements, |strides| strides[axis] as usize));
            elements = elements.checked_mul(size.max(1)).ok_or_else(overflow)?;
            let last = stride.checked_mul(size.saturating_sub(1)).ok_or_else(overflow)?;
            reach = reach.checked_add(last).ok_or_else(overflow)?;
        }
        let limit = isize::MAX as usize / bytes;
        if elements > limit || reach >= limit {
            return Err(overflow());
        }
        Ok(dimensions)
    }

    /// Size and stride of each dimension, the last one first.
    fn innermost_first(self) -> impl Iterator<Item = (usize, usize)> {
        let mut dense = 1;
        (0..self.sizes.len()).rev().map(move |axis| {
            let size = self.sizes[axis] as usize;
            let stride = self.strides.map_or(dense, |strides| strides[axis] as usize);
            dense *= size.max(1);
            (size, stride)
        })
    }

    fn are(self, shape: &[usize]) -> bool {
        self.sizes.iter().map(|size| *size as usize).eq(shape.iter().copied())
    }
}

impl<'a> Tensor<'a> {
    /// Reads and checks a descriptor.
    pub unsafe fn read(pointer: *const kasmina_tensor, name: &'static str) -> Result<Tensor<'a>> {
        convert::check(pointer, name)?;
        // SAFETY: the caller's promise about the pointer is passed on.
        let tensor = unsafe { convert::read(pointer) }.map_err(|error| error.context(name))?;
        // SAFETY: as above.
        unsafe { Self::from_descriptor(&tensor, name) }.map_err(|error| error.context(name))
    }

    unsafe fn from_descriptor(tensor: &kasmina_tensor, name: &'static str) -> Result<Tensor<'a>> {
        let data_type = convert::data_type(tensor.data_type)?;
        let device = convert::device(tensor.device_type, tensor.device_index)?;
        let rank = usize::try_from(tensor.rank).ok().filter(|&rank| rank <= MOST_DIMENSIONS);
        let rank = rank.ok_or_else(|| error!(ShapeMismatch, "rank is {}, not 0 to {MOST_DIMENSIONS}", tensor.rank))?;
        // SAFETY: the caller promises `rank` sizes, and as many strides unless that pointer is null.
        let sizes = unsafe { convert::slice(tensor.shape, rank, "shape") }?;
        let strides = match tensor.strides.is_null() {
            true => None,
            // SAFETY: as above.
            false => Some(unsafe { convert::slice(tensor.strides, rank, "strides") }?),
        };
        let dimensions = Dimensions::check(sizes, strides, data_type.bytes())?;
        if tensor.data.is_null() && sizes.iter().all(|&size| size != 0) {
            fail!(InvalidArgument, "data is NULL, but the shape is {sizes:?}");
        }
        Ok(Tensor { name, address: Address(tensor.data as u64), data_type, device, dimensions })
    }

    /// Checks where the tensor lies.
    pub fn on(self, device: DeviceKind) -> Result<Tensor<'a>> {
        if self.device != device {
            fail!(ShapeMismatch, "{} is on {:?}, but the layer is on {device:?}", self.name, self.device);
        }
        Ok(self)
    }

    /// Checks what the elements are.
    pub fn of(self, data_type: DataType) -> Result<Tensor<'a>> {
        if self.data_type != data_type {
            let (found, wanted) = (self.data_type.name(), data_type.name());
            fail!(TypeMismatch, "{} has elements of type {found}; it needs {wanted}", self.name);
        }
        Ok(self)
    }

    /// The address of a dense tensor of exactly this shape.
    pub fn dense(&self, shape: &[usize]) -> Result<Address> {
        if !self.dimensions.are(shape) {
            fail!(ShapeMismatch, "{} has shape {:?}; it needs {shape:?}", self.name, self.dimensions.sizes);
        }
        let mut expected = 1;
        for (size, stride) in self.dimensions.innermost_first() {
            if size > 1 && stride != expected && !shape.contains(&0) {
                fail!(ShapeMismatch, "{} is not dense; make it contiguous", self.name);
            }
            expected *= size;
        }
        Ok(self.address)
    }

    /// The tensor as rows of `hidden` channels, and how many there are: the last dimension is the channels, with any stride,
    /// and the others are rows that one or two strides can walk.
    pub fn rows(&self, hidden: usize) -> Result<(Rows, usize)> {
        let name = self.name;
        let sizes = self.dimensions.sizes;
        let mut dimensions = self.dimensions.innermost_first();
        let Some((channels, channel_stride)) = dimensions.next() else {
            fail!(ShapeMismatch, "{name} is a scalar; its last dimension must be {hidden}");
        };
        if channels != hidden {
            fail!(ShapeMismatch, "{name} has shape {sizes:?}; its last dimension must be {hidden}");
        }
        let count: usize = sizes[..sizes.len() - 1].iter().map(|size| *size as usize).product();
        let mut rows = Rows::spaced(self.address, hidden);
        if count == 0 {
            return Ok((rows, 0));
        }
        if channels > 1 {
            rows.channel_stride = channel_stride;
        }
        // Rows that are walked so far, and how many of them the innermost stride walks.
        let (mut walked, mut group) = (1, 1);
        for (size, stride) in dimensions.filter(|(size, _)| *size > 1) {
            if walked == 1 {
                rows.stride = stride;
                group = size;
            } else if walked == group && stride == rows.stride * group {
                group *= size;
            } else if walked == group {
                (rows.group, rows.group_stride) = (group, stride);
            } else if stride != rows.group_stride * (walked / group) {
                let strides = self.dimensions.strides.unwrap_or_default();
                fail!(
                    ShapeMismatch,
                    "the rows of {name} (shape {sizes:?}, strides {strides:?}) need more than two strides; make it contiguous"
                );
            }
            walked *= size;
        }
        Ok((rows, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    fn tensor<'a>(shape: &'a [i64], strides: Option<&'a [i64]>) -> Result<Tensor<'a>> {
        let dimensions = Dimensions::check(shape, strides, 4)?;
        let (data_type, device) = (DataType::F32, DeviceKind::Cpu);
        Ok(Tensor { name: "x", address: Address(64), data_type, device, dimensions })
    }

    fn rows(shape: &[i64], strides: Option<&[i64]>) -> Result<(Rows, usize)> {
        tensor(shape, strides)?.rows(8)
    }

    /// Rows that lie so at the tensor's address.
    fn even(stride: usize) -> Rows {
        Rows::spaced(Address(64), stride)
    }

    #[test]
    fn leading_dimensions_that_one_stride_can_walk_are_even_rows() {
        assert_eq!(rows(&[8], None).unwrap(), (even(8), 1));
        assert_eq!(rows(&[5, 8], None).unwrap(), (even(8), 5));
        assert_eq!(rows(&[2, 3, 8], None).unwrap(), (even(8), 6));
        assert_eq!(rows(&[5, 8], Some(&[20, 1])).unwrap(), (even(20), 5));
        assert_eq!(rows(&[2, 3, 8], Some(&[60, 20, 1])).unwrap(), (even(20), 6));
        let ones = rows(&[2, 1, 3, 8], Some(&[60, 7, 20, 1])).unwrap();
        assert_eq!(ones, (even(20), 6), "a dimension of one has no stride");
        assert_eq!(rows(&[0, 8], Some(&[1, 3])).unwrap().1, 0, "no rows, whatever the strides");
        assert_eq!(rows(&[5, 8], Some(&[1, 5])).unwrap(), (Rows { channel_stride: 5, ..even(1) }, 5));
        assert_eq!(rows(&[8], Some(&[2])).unwrap(), (Rows { channel_stride: 2, ..even(8) }, 1));
    }

    #[test]
    fn leading_dimensions_that_two_strides_can_walk_are_groups_of_rows() {
        let groups =
            |channel_stride, stride, group, group_stride| Rows { channel_stride, group, group_stride, ..even(stride) };
        // [N, channels, H, W] with the channels moved to the end: dense, and a part of more channels.
        let dense = rows(&[2, 3, 5, 8], Some(&[120, 5, 1, 15])).unwrap();
        assert_eq!(dense, (groups(15, 1, 15, 120), 30));
        let part = rows(&[2, 3, 5, 8], Some(&[300, 5, 1, 15])).unwrap();
        assert_eq!(part, (groups(15, 1, 15, 300), 30));
        // Padded rows of padded pictures, each more than one.
        assert_eq!(rows(&[2, 3, 8], Some(&[61, 20, 1])).unwrap(), (groups(1, 20, 3, 61), 6));
        assert_eq!(rows(&[2, 4, 3, 8], Some(&[244, 61, 20, 1])).unwrap(), (groups(1, 20, 3, 61), 24));
        // In an order that is not that of memory.
        assert_eq!(rows(&[2, 3, 8], Some(&[8, 16, 1])).unwrap(), (groups(1, 16, 3, 8), 6));
        assert_eq!(rows(&[2, 3, 8], Some(&[0, 8, 1])).unwrap(), (groups(1, 8, 3, 0), 6));
    }

    #[test]
    fn rows_that_need_three_strides_are_refused() {
        for (shape, strides) in [(&[2, 3, 4, 8][..], &[1000, 100, 8, 1][..]), (&[2, 3, 2, 2, 8], &[310, 100, 50, 8, 1])]
        {
            let error = rows(shape, Some(strides)).unwrap_err();
            assert_eq!(error.status(), Status::ShapeMismatch, "{shape:?} {strides:?}");
            assert!(error.message().contains("contiguous"), "{error}");
        }
    }

    #[test]
    fn sizes_that_are_negative_or_overflow_are_refused() {
        fn refused(shape: &[i64], strides: Option<&[i64]>) -> Option<Status> {
            tensor(shape, strides).err().map(|error| error.status())
        }
        for shape in [&[-1, 8][..], &[i64::MIN], &[i64::MAX, 8], &[i64::MAX], &[1 << 32, 1 << 32, 8]] {
            assert_eq!(refused(shape, None), Some(Status::ShapeMismatch), "{shape:?}");
        }
        for strides in [[-8, 1], [i64::MAX, 1], [i64::MIN, 1]] {
            assert_eq!(refused(&[5, 8], Some(&strides)), Some(Status::ShapeMismatch), "{strides:?}");
        }
        assert_eq!(refused(&[0, i64::MAX, i64::MAX], None), Some(Status::ShapeMismatch));
    }

    #[test]
    fn only_a_dense_tensor_of_the_very_shape_is_dense() {
        assert_eq!(tensor(&[2, 3], None).unwrap().dense(&[2, 3]).unwrap(), Address(64));
        assert!(tensor(&[2, 3], Some(&[3, 1])).unwrap().dense(&[2, 3]).is_ok());
        assert!(tensor(&[1, 3], Some(&[99, 1])).unwrap().dense(&[1, 3]).is_ok());
        assert!(tensor(&[2, 0], Some(&[7, 7])).unwrap().dense(&[2, 0]).is_ok());
        assert!(tensor(&[2, 3], Some(&[1, 2])).unwrap().dense(&[2, 3]).is_err());
        assert!(tensor(&[2, 3], Some(&[4, 1])).unwrap().dense(&[2, 3]).is_err());
        assert!(tensor(&[3, 2], None).unwrap().dense(&[2, 3]).is_err());
        assert!(tensor(&[6], None).unwrap().dense(&[2, 3]).is_err());
    }
}
