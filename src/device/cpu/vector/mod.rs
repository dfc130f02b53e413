//! The inner loops, compiled once for each kind of CPU and chosen when a kernel is loaded.
//!
//! This module must know no program and no launch: it works on slices and matrices.

mod contract;
mod element;
mod functions;
mod lanes;
mod statistics;
mod transpose;

pub use contract::{Contraction, PADDING};
pub use element::{Copies, Element};
pub use functions::Real;
pub use lanes::Source;
pub use statistics::{Numbers, Statistics, View};
pub use transpose::Transposition;

use crate::compile::{Binary, Reducer, Unary};

/// Condition, yes, no, result.
type Select<T> = unsafe fn(&[T], &[T], &[T], &mut [T]);

/// The inner loops for the CPU this runs on.
///
/// # Safety
/// Each function may be called where [`Instructions`] gave it out: this CPU has the ones it was compiled for.
/// Those with pointers ask for valid memory besides.
#[derive(Clone, Copy)]
pub struct Vectors<T: Real> {
    pub unary: unsafe fn(Unary, &[T], &mut [T]),
    pub binary: unsafe fn(Binary, Source<'_, T>, Source<'_, T>, &mut [T]),
    pub select: Select<T>,
    pub combine: unsafe fn(Reducer, &[T], &mut [T]),
    pub add_sums: unsafe fn(&[T], usize, usize, &mut [T]),
    pub guard: unsafe fn(&[T], T, &mut [T]),
    pub contract: unsafe fn(&Contraction<T>),
    pub transpose: unsafe fn(&Transposition<T>),
    pub observe: unsafe fn(View, &Numbers<T>, &mut Statistics),
}

/// The inner loops over elements of row tensors, as [`Vectors`].
#[derive(Clone, Copy)]
pub struct Elements<E: Element> {
    pub widen: unsafe fn(&Numbers<E>, *mut E::Real, Option<Copies<E>>),
    pub narrow: unsafe fn(&[E::Real], &mut [E]),
    /// Over the numbers that the elements become.
    pub vectors: Vectors<E::Real>,
}

/// The loops compiled for one set of instructions. `register` is how many bytes one of its vectors has; `outputs` and
/// `bytes` are the block of a contraction that fits its registers: how many outputs, and how many bytes of lanes.
macro_rules! compiled {
    ($module:ident, fused: $fused:expr, avx: $avx:literal, register: $register:literal, outputs: $outputs:literal, bytes: $bytes:literal, $($feature:meta)?) => {
        mod $module {
            use super::*;

            $(#[$feature])?
            unsafe fn unary<T: Real>(function: Unary, from: &[T], to: &mut [T]) {
                lanes::unary::<T, { $fused }>(function, from, to);
            }

            $(#[$feature])?
            unsafe fn binary<T: Real>(function: Binary, a: Source<'_, T>, b: Source<'_, T>, to: &mut [T]) {
                lanes::binary(function, a, b, to);
            }

            $(#[$feature])?
            unsafe fn select<T: Real>(condition: &[T], yes: &[T], no: &[T], to: &mut [T]) {
                lanes::select(condition, yes, no, to);
            }

            $(#[$feature])?
            unsafe fn combine<T: Real>(reducer: Reducer, values: &[T], result: &mut [T]) {
                lanes::combine(reducer, values, result);
            }

            $(#[$feature])?
            unsafe fn add_sums<T: Real>(values: &[T], lanes: usize, count: usize, results: &mut [T]) {
                lanes::add_sums(values, lanes, count, results);
            }

            $(#[$feature])?
            unsafe fn guard<T: Real>(values: &[T], headroom: T, flags: &mut [T]) {
                if size_of::<T>() == 4 && flags.len().is_multiple_of($register / 4) {
                    lanes::guard::<T, { $register / 4 }>(values, headroom, flags);
                } else {
                    lanes::guard::<T, { contract::PADDING }>(values, headroom, flags);
                }
            }

            $(#[$feature])?
            unsafe fn contract<T: Real>(work: &Contraction<T>) {
                // SAFETY: the caller's promise.
                unsafe {
                    if size_of::<T>() == 4 {
                        contract::contract::<T, { $fused }, $outputs, { $bytes / 4 }>(work);
                    } else {
                        contract::contract::<T, { $fused }, $outputs, { $bytes / 8 }>(work);
                    }
                }
            }

            $(#[$feature])?
            unsafe fn transpose<T: Real>(work: &Transposition<T>) {
                // SAFETY: the caller's promise.
                unsafe { transpose::transpose::<T, { $avx }>(work) }
            }

            $(#[$feature])?
            unsafe fn widen<E: Element>(from: &Numbers<E>, to: *mut E::Real, copies: Option<Copies<E>>) {
                // SAFETY: the caller's promise.
                unsafe { element::widen(from, to, copies) }
            }

            $(#[$feature])?
            unsafe fn narrow<E: Element>(from: &[E::Real], to: &mut [E]) {
                element::narrow(from, to);
            }

            $(#[$feature])?
            unsafe fn observe<T: Real>(view: View, numbers: &Numbers<T>, seen: &mut Statistics) {
                // SAFETY: the caller's promise.
                unsafe {
                    if size_of::<T>() == 4 {
                        statistics::observe::<T, { $fused }, { $register / 4 }>(view, numbers, seen);
                    } else {
                        statistics::observe::<T, { $fused }, { $register / 8 }>(view, numbers, seen);
                    }
                }
            }

            pub fn elements<E: Element>() -> Elements<E> {
                Elements { widen: widen::<E>, narrow: narrow::<E>, vectors: vectors() }
            }

            pub fn vectors<T: Real>() -> Vectors<T> {
                Vectors {
                    unary: unary::<T>,
                    binary: binary::<T>,
                    select: select::<T>,
                    combine: combine::<T>,
                    add_sums: add_sums::<T>,
                    guard: guard::<T>,
                    contract: contract::<T>,
                    transpose: transpose::<T>,
                    observe: observe::<T>,
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled!(wide, fused: true, avx: true, register: 64, outputs: 8, bytes: 128, target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma"));
#[cfg(target_arch = "x86_64")]
compiled!(middle, fused: true, avx: true, register: 32, outputs: 6, bytes: 64, target_feature(enable = "avx2,fma"));
compiled!(baseline, fused: cfg!(any(target_arch = "aarch64", target_feature = "fma")), avx: false, register: 16, outputs: 4, bytes: 64,);

/// A set of instructions that this CPU has: only such are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instructions(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    #[cfg(target_arch = "x86_64")]
    Wide,
    #[cfg(target_arch = "x86_64")]
    Middle,
    Baseline,
}

impl Instructions {
    /// The best this CPU can run.
    pub fn detect() -> Instructions {
        Self::available().remove(0)
    }

    /// All that this CPU can run, the best first.
    pub fn available() -> Vec<Instructions> {
        let mut available = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let middle = has!("avx2") && has!("fma");
            if middle && has!("avx512f") && has!("avx512dq") && has!("avx512vl") && has!("avx512bw") {
                available.push(Instructions(Set::Wide));
            }
            if middle {
                available.push(Instructions(Set::Middle));
            }
        }
        available.push(Instructions(Set::Baseline));
        available
    }

    /// What they are called.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Wide => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Set::Middle => "AVX2",
            Set::Baseline => "baseline",
        }
    }

    /// The loops over numbers of the type of computation.
    #[cfg(test)]
    pub fn vectors<T: Real>(self) -> Vectors<T> {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Wide => wide::vectors(),
            #[cfg(target_arch = "x86_64")]
            Set::Middle => middle::vectors(),
            Set::Baseline => baseline::vectors(),
        }
    }

    /// The loops over elements of row tensors.
    pub fn elements<E: Element>(self) -> Elements<E> {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Wide => wide::elements(),
            #[cfg(target_arch = "x86_64")]
            Set::Middle => middle::elements(),
            Set::Baseline => baseline::elements(),
        }
    }
}
