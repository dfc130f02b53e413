//! The element types of row tensors: how they become numbers to compute with, and back.
//!
//! Without branches, so that a loop over them becomes vector code.

use super::{Numbers, Real};
use crate::device::cpu::scratch::Plain;
use half::{bf16, f16};

/// The element type of a row tensor.
pub trait Element: Copy + Send + Sync + 'static {
    /// What its numbers are computed in.
    type Real: Real + Plain + Element<Real = Self::Real>;
    /// Whether that is the same type.
    const COMPUTES: bool;
    /// How much larger a computed number can be than a stored one.
    const HEADROOM: Self::Real;
    /// The same number in the type of computation.
    fn widen(self) -> Self::Real;
    /// The nearest number of this type; of two, the even one.
    fn narrow(number: Self::Real) -> Self;
}

macro_rules! computing {
    ($type:ident) => {
        impl Element for $type {
            type Real = $type;
            const COMPUTES: bool = true;
            const HEADROOM: $type = 1.0;

            #[inline(always)]
            fn widen(self) -> $type {
                self
            }

            #[inline(always)]
            fn narrow(number: $type) -> $type {
                number
            }
        }
    };
}

computing!(f32);
computing!(f64);

impl Element for bf16 {
    type Real = f32;
    const COMPUTES: bool = false;
    const HEADROOM: f32 = f32::MAX / bf16::MAX.to_f32_const();

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn narrow(number: f32) -> bf16 {
        let bits = number.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let nan = (bits >> 16) | 0x40;
        bf16::from_bits(if number.is_nan() { nan } else { rounded } as u16)
    }
}

/// Bits that an exponent of f16 is away from the same one of f32.
const REBIAS: u32 = (127 - 15) << 23;

impl Element for f16 {
    type Real = f32;
    const COMPUTES: bool = false;
    const HEADROOM: f32 = f32::MAX / f16::MAX.to_f32_const();

    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = u32::from(self.to_bits());
        let magnitude = (bits & 0x7fff) << 13;
        let normal = magnitude + REBIAS;
        let special = normal + REBIAS;
        // The mantissa of a subnormal number counts steps of 2^-24, which is what the last bit of 0.5 in f32 is worth.
        let half = 0.5f32.to_bits();
        let subnormal = (f32::from_bits(half | (bits & 0x03ff)) - 0.5).to_bits();
        let magnitude = match bits & 0x7c00 {
            0x7c00 => special | if bits & 0x03ff != 0 { 0x0040_0000 } else { 0 },
            0 => subnormal,
            _ => normal,
        };
        f32::from_bits(magnitude | ((bits & 0x8000) << 16))
    }

    #[inline(always)]
    fn narrow(number: f32) -> f16 {
        /// The least number that rounds to infinity: half a step above the largest f16.
        const OVERFLOW: u32 = 0x477f_f000;
        /// 2^-14, the least normal number.
        const LEAST_NORMAL: u32 = 0x3880_0000;
        let bits = number.to_bits();
        let magnitude = bits & 0x7fff_ffff;
        let normal = magnitude.wrapping_sub(REBIAS).wrapping_add(0xfff + ((magnitude >> 13) & 1)) >> 13;
        // Adding 0.5 rounds to a multiple of 2^-24, and leaves how many in the last bits.
        let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
        let nan = 0x7e00 | ((magnitude >> 13) & 0x03ff);
        let rounded = if magnitude < LEAST_NORMAL { subnormal } else { normal };
        let finite = if magnitude < OVERFLOW { rounded } else { 0x7c00 };
        let narrowed = if number.is_nan() { nan } else { finite };
        f16::from_bits((narrowed | ((bits >> 16) & 0x8000)) as u16)
    }
}

/// Where rows are copied to on the way.
#[derive(Clone, Copy, Debug)]
pub struct Copies<E> {
    pub first: *mut E,
    /// From row to row.
    pub stride: usize,
}

/// Widens rows and writes them one after the other, and copies their bits if told where to.
///
/// # Safety
/// The rows, the room for them and the copies are valid and apart from each other, and nobody else uses what is written.
#[inline(always)]
pub unsafe fn widen<E: Element>(from: &Numbers<E>, to: *mut E::Real, copies: Option<Copies<E>>) {
    for row in 0..from.rows {
        // SAFETY: the caller's promise.
        unsafe {
            let elements = std::slice::from_raw_parts(from.first.add(row * from.stride), from.columns);
            let to = std::slice::from_raw_parts_mut(to.add(row * from.columns), from.columns);
            match copies {
                Some(copies) => {
                    let copy = std::slice::from_raw_parts_mut(copies.first.add(row * copies.stride), from.columns);
                    for ((to, copy), element) in to.iter_mut().zip(copy).zip(elements) {
                        *copy = *element;
                        *to = element.widen();
                    }
                }
                None => to.iter_mut().zip(elements).for_each(|(to, element)| *to = element.widen()),
            }
        }
    }
}

/// Rounds numbers to elements.
#[inline(always)]
pub fn narrow<E: Element>(from: &[E::Real], to: &mut [E]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = E::narrow(*from));
}
