//! The elementary functions, without branches, so that a loop over them becomes vector code.
//!
//! `FUSED` says whether multiply-add is one instruction where this is compiled; without it the two are rounded apart.

use crate::compile::Unary;

/// A number the backend computes in: f32 or f64.
pub trait Real:
    Copy
    + Default
    + PartialOrd
    + Send
    + Sync
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
    + std::fmt::Debug
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;

    /// The nearest number of this type.
    fn from_f64(number: f64) -> Self;
    /// The nearest number of this type.
    fn from_i64(number: i64) -> Self;
    /// The least number of this type that is not below this one.
    fn at_least(number: f64) -> Self;
    /// The same number.
    fn to_f64(self) -> f64;
    /// Whether this is neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// `self * factor + term`.
    fn multiply_add<const FUSED: bool>(self, factor: Self, term: Self) -> Self;
    /// A function of one number.
    fn apply<const FUSED: bool>(function: Unary, number: Self) -> Self;
    /// Square root.
    fn root(self) -> Self;
    /// This to a power.
    fn power(self, exponent: Self) -> Self;
}

/// The coefficients of a polynomial, highest power first, at `x`.
macro_rules! polynomial {
    ($fused:ident, $x:expr, $first:expr $(, $next:expr)*) => {{
        let sum = $first;
        $( let sum = sum.multiply_add::<$fused>($x, $next); )*
        sum
    }};
}

macro_rules! real {
    ($type:ident, $functions:ident) => {
        impl Real for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;

            #[inline(always)]
            fn from_f64(number: f64) -> Self {
                number as $type
            }

            #[inline(always)]
            fn from_i64(number: i64) -> Self {
                number as $type
            }

            #[inline(always)]
            fn at_least(number: f64) -> Self {
                let nearest = number as $type;
                if f64::from(nearest) < number { nearest.next_up() } else { nearest }
            }

            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }

            #[inline(always)]
            fn is_finite(self) -> bool {
                $type::is_finite(self)
            }

            #[inline(always)]
            fn multiply_add<const FUSED: bool>(self, factor: Self, term: Self) -> Self {
                if FUSED { $type::mul_add(self, factor, term) } else { self * factor + term }
            }

            #[inline(always)]
            fn apply<const FUSED: bool>(function: Unary, number: Self) -> Self {
                match function {
                    Unary::Neg => -number,
                    Unary::Abs => number.abs(),
                    Unary::Exp => $functions::exp::<FUSED>(number),
                    Unary::Log => number.ln(),
                    Unary::Sqrt => number.sqrt(),
                    Unary::Rsqrt => 1.0 / number.sqrt(),
                    Unary::Tanh => $functions::tanh::<FUSED>(number),
                    Unary::Sigmoid => $functions::sigmoid::<FUSED>(number),
                    Unary::Erf => $functions::erf::<FUSED>(number),
                    Unary::Sin => number.sin(),
                    Unary::Cos => number.cos(),
                    Unary::Floor => number.floor(),
                    Unary::RoundF16 => rounded_to_f16(number as f32) as $type,
                    Unary::RoundBF16 => rounded_to_bf16(number as f32) as $type,
                    Unary::Not => {
                        if number == 0.0 {
                            1.0
                        } else {
                            0.0
                        }
                    }
                }
            }

            #[inline(always)]
            fn root(self) -> Self {
                self.sqrt()
            }

            #[inline(always)]
            fn power(self, exponent: Self) -> Self {
                self.powf(exponent)
            }
        }
    };
}

real!(f32, single);
real!(f64, double);

/// The nearest number that f16 has, ties to even.
#[inline(always)]
fn rounded_to_f16(number: f32) -> f32 {
    let bits = number.to_bits();
    // Ten of the 23 digits stay; adding just less than half of the last one that stays, or just half if it is odd,
    // carries where it has to.
    let normal = f32::from_bits(bits.wrapping_add(0xfff + (bits >> 13 & 1)) & 0xffff_e000);
    let magnitude = number.abs();
    // The last digit of 0.5 to 1 is 2^-24, as that of the smallest f16 numbers.
    let small = ((magnitude + 0.5) - 0.5).copysign(number);
    let rounded = if magnitude < 6.103_515_6e-5 { small } else { normal };
    let rounded = if magnitude >= 65_520.0 { f32::INFINITY.copysign(number) } else { rounded };
    if number.is_nan() { number } else { rounded }
}

/// The nearest number that bf16 has, ties to even.
#[inline(always)]
fn rounded_to_bf16(number: f32) -> f32 {
    let bits = number.to_bits();
    let rounded = f32::from_bits(bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000);
    if number.is_nan() { number } else { rounded }
}

/// `low` to `high`; NaN stays NaN.
macro_rules! clamp {
    ($x:expr, $low:expr, $high:expr) => {{
        let x = $x;
        let x = if x > $high { $high } else { x };
        if x < $low { $low } else { x }
    }};
}

/// f32, to about two units in the last place.
mod single {
    use super::Real;

    /// e^x: a power of two times a polynomial (Cephes) in what is left.
    #[inline(always)]
    pub fn exp<const FUSED: bool>(x: f32) -> f32 {
        // Beyond these the result is 0 or infinite anyway; within them the exponent below stays in range.
        let x = clamp!(x, -104.0, 89.0);
        // Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
        const ROUND: f32 = 12_582_912.0;
        let rounded = x.multiply_add::<FUSED>(std::f32::consts::LOG2_E, ROUND);
        let exponent = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
        let whole = rounded - ROUND;
        // ln 2 in two parts, the first short enough that its product is exact.
        let x = whole.multiply_add::<FUSED>(-0.693_359_4, x);
        let x = whole.multiply_add::<FUSED>(2.121_944_4e-4, x);
        let y = polynomial!(
            FUSED,
            x,
            1.987_569_1e-4f32,
            1.398_199_9e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_5e-1,
            5e-1
        );
        let y = y.multiply_add::<FUSED>(x * x, x) + 1.0;
        // In two halves, so that subnormal results and those just below infinity come out.
        let half = exponent >> 1;
        y * power_of_two(half) * power_of_two(exponent.wrapping_sub(half))
    }

    #[inline(always)]
    fn power_of_two(exponent: i32) -> f32 {
        f32::from_bits((exponent.wrapping_add(127) as u32) << 23)
    }

    #[inline(always)]
    pub fn tanh<const FUSED: bool>(x: f32) -> f32 {
        let magnitude = x.abs();
        let square = x * x;
        let small = polynomial!(
            FUSED,
            square,
            -5.704_988_7e-3f32,
            2.063_909e-2,
            -5.373_971_6e-2,
            1.333_144_2e-1,
            -3.333_328e-1
        );
        let small = (small * square).multiply_add::<FUSED>(x, x);
        let large = 1.0 - 2.0 / (exp::<FUSED>(magnitude + magnitude) + 1.0);
        if magnitude < 0.625 { small } else { large.copysign(x) }
    }

    #[inline(always)]
    pub fn sigmoid<const FUSED: bool>(x: f32) -> f32 {
        let e = exp::<FUSED>(-x.abs());
        let numerator = if x < 0.0 { e } else { 1.0 };
        numerator / (1.0 + e)
    }

    /// Two polynomials, the one for large arguments in an exponent (after N. Juffa).
    #[inline(always)]
    pub fn erf<const FUSED: bool>(x: f32) -> f32 {
        let magnitude = clamp!(x.abs(), 0.0, 4.0);
        let square = magnitude * magnitude;
        let low = polynomial!(FUSED, magnitude, -1.728_534_7e-5f32, 3.831_971_3e-4);
        let high = polynomial!(FUSED, magnitude, -3.883_964_4e-3f32, 2.425_462_2e-2);
        let large = low.multiply_add::<FUSED>(square, high);
        let large = polynomial!(FUSED, magnitude, large, -1.067_778_8e-1, -6.348_467e-1, -1.287_175_1e-1);
        let large = large.multiply_add::<FUSED>(magnitude, -magnitude);
        let large = (1.0 - exp::<FUSED>(large)).copysign(x);
        let small = polynomial!(
            FUSED,
            square,
            -5.967_617e-4f32,
            4.991_194_2e-3,
            -2.676_813_5e-2,
            1.128_199_25e-1,
            -3.761_253_4e-1,
            1.283_791_7e-1
        );
        let small = small.multiply_add::<FUSED>(x, x);
        if magnitude > 0.927_734_4 { large } else { small }
    }
}

/// f64, to about two units in the last place.
mod double {
    use super::Real;

    /// e^x: a power of two times the Taylor polynomial of what is left.
    #[inline(always)]
    pub fn exp<const FUSED: bool>(x: f64) -> f64 {
        let x = clamp!(x, -746.0, 710.0);
        const ROUND: f64 = 6_755_399_441_055_744.0;
        let rounded = x.multiply_add::<FUSED>(std::f64::consts::LOG2_E, ROUND);
        let exponent = (rounded.to_bits() as i64).wrapping_sub(ROUND.to_bits() as i64);
        let whole = rounded - ROUND;
        let x = whole.multiply_add::<FUSED>(-6.931_457_519_531_25e-1, x);
        let x = whole.multiply_add::<FUSED>(-1.428_606_820_309_417_2e-6, x);
        let y = polynomial!(
            FUSED,
            x,
            1.0f64 / 6_227_020_800.0,
            1.0 / 479_001_600.0,
            1.0 / 39_916_800.0,
            1.0 / 3_628_800.0,
            1.0 / 362_880.0,
            1.0 / 40_320.0,
            1.0 / 5_040.0,
            1.0 / 720.0,
            1.0 / 120.0,
            1.0 / 24.0,
            1.0 / 6.0,
            0.5
        );
        let y = y.multiply_add::<FUSED>(x * x, x) + 1.0;
        let half = exponent >> 1;
        y * power_of_two(half) * power_of_two(exponent.wrapping_sub(half))
    }

    #[inline(always)]
    fn power_of_two(exponent: i64) -> f64 {
        f64::from_bits((exponent.wrapping_add(1023) as u64) << 52)
    }

    /// A rational function (Cephes) for small arguments, e^2x for others.
    #[inline(always)]
    pub fn tanh<const FUSED: bool>(x: f64) -> f64 {
        let magnitude = x.abs();
        let square = x * x;
        let above = polynomial!(
            FUSED,
            square,
            -9.643_991_794_250_523e-1f64,
            -9.928_772_310_019_185e1,
            -1.614_687_684_417_084_5e3
        );
        let below = polynomial!(
            FUSED,
            square,
            1.0f64,
            1.128_116_784_916_329_3e2,
            2.235_488_390_601_004_5e3,
            4.844_063_053_251_255e3
        );
        let small = (square * above / below).multiply_add::<FUSED>(x, x);
        let large = 1.0 - 2.0 / (exp::<FUSED>(magnitude + magnitude) + 1.0);
        if magnitude < 0.625 { small } else { large.copysign(x) }
    }

    #[inline(always)]
    pub fn sigmoid<const FUSED: bool>(x: f64) -> f64 {
        let e = exp::<FUSED>(-x.abs());
        let numerator = if x < 0.0 { e } else { 1.0 };
        numerator / (1.0 + e)
    }

    /// Double precision is for checking gradients; a vector form has not been worth it.
    #[inline(always)]
    pub fn erf<const FUSED: bool>(x: f64) -> f64 {
        libm::erf(x)
    }
}
