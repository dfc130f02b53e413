//! The inner loops, compiled once for each kind of CPU and chosen when a kernel is loaded.
//!
//! This module must know no program and no launch: it works on slices and matrices.

mod contract;
mod functions;
mod lanes;
mod statistics;
mod transpose;

pub use contract::{Contraction, PADDING};
pub use functions::Real;
pub use lanes::Source;
pub use statistics::{Numbers, Statistics};
pub use transpose::Transposition;

use crate::compile::{Binary, Reducer, Unary};

/// Condition, yes, no, result.
type Select<T> = unsafe fn(&[T], &[T], &[T], &mut [T]);

/// The inner loops for the CPU this runs on.
///
/// # Safety
/// Each function may be called where [`Vectors::detect`] gave it out: it found the instructions it was compiled for.
/// Those with pointers ask for valid memory besides.
#[derive(Clone, Copy)]
pub struct Vectors<T: Real> {
    /// Which instructions these are.
    pub name: &'static str,
    pub unary: unsafe fn(Unary, &[T], &mut [T]),
    pub binary: unsafe fn(Binary, Source<'_, T>, Source<'_, T>, &mut [T]),
    pub select: Select<T>,
    pub combine: unsafe fn(Reducer, &[T], &mut [T]),
    pub sum: unsafe fn(&[T]) -> T,
    pub guard: unsafe fn(&[T], T, &mut [T]),
    pub contract: unsafe fn(&Contraction<T>),
    pub transpose: unsafe fn(&Transposition<T>),
    pub observe: unsafe fn(&Numbers<T>, &mut Statistics),
    pub observe_gradient: unsafe fn(&Numbers<T>, &mut Statistics),
}

/// The loops compiled for one set of instructions. `outputs` and `bytes` are the block of a contraction that fits its
/// registers: how many outputs, and how many bytes of lanes.
macro_rules! compiled {
    ($module:ident, $name:literal, fused: $fused:expr, avx: $avx:literal, outputs: $outputs:literal, bytes: $bytes:literal, $($feature:meta)?) => {
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
            unsafe fn sum<T: Real>(values: &[T]) -> T {
                lanes::sum(values)
            }

            $(#[$feature])?
            unsafe fn guard<T: Real>(values: &[T], headroom: T, flags: &mut [T]) {
                lanes::guard(values, headroom, flags);
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
            unsafe fn observe<T: Real>(numbers: &Numbers<T>, seen: &mut Statistics) {
                // SAFETY: the caller's promise.
                unsafe { statistics::observe(numbers, seen) }
            }

            $(#[$feature])?
            unsafe fn observe_gradient<T: Real>(numbers: &Numbers<T>, seen: &mut Statistics) {
                // SAFETY: the caller's promise.
                unsafe { statistics::observe_gradient(numbers, seen) }
            }

            pub fn vectors<T: Real>() -> Vectors<T> {
                Vectors {
                    name: $name,
                    unary: unary::<T>,
                    binary: binary::<T>,
                    select: select::<T>,
                    combine: combine::<T>,
                    sum: sum::<T>,
                    guard: guard::<T>,
                    contract: contract::<T>,
                    transpose: transpose::<T>,
                    observe: observe::<T>,
                    observe_gradient: observe_gradient::<T>,
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled!(wide, "AVX-512", fused: true, avx: true, outputs: 8, bytes: 128, target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma"));
#[cfg(target_arch = "x86_64")]
compiled!(middle, "AVX2", fused: true, avx: true, outputs: 6, bytes: 64, target_feature(enable = "avx2,fma"));
compiled!(baseline, "baseline", fused: cfg!(any(target_arch = "aarch64", target_feature = "fma")), avx: false, outputs: 4, bytes: 64,);

impl<T: Real> Vectors<T> {
    /// The best this CPU can run.
    pub fn detect() -> Vectors<T> {
        Self::available().remove(0)
    }

    /// All that this CPU can run, the best first.
    pub fn available() -> Vec<Vectors<T>> {
        let mut available = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let middle = has!("avx2") && has!("fma");
            if middle && has!("avx512f") && has!("avx512dq") && has!("avx512vl") && has!("avx512bw") {
                available.push(wide::vectors());
            }
            if middle {
                available.push(middle::vectors());
            }
        }
        available.push(baseline::vectors());
        available
    }
}
