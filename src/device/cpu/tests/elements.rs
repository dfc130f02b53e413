//! How elements become numbers and back, for every kind of instructions, against the crate `half`.

use crate::device::cpu::vector::{Copies, Element, Instructions, Numbers};
use half::{bf16, f16};

/// f32 of every exponent and sign, with mantissas on both sides of all places where rounding turns.
fn singles() -> Vec<f32> {
    let turns = (0..23).flat_map(|bit| [1u32 << bit, (1 << bit) - 1, (1 << bit) + 1, 3 << bit, (3 << bit) - 1]);
    let mantissas: Vec<u32> = turns.map(|mantissa| mantissa & 0x7f_ffff).chain([0, 0x7f_ffff, 0x7f_f000]).collect();
    let exponents = (0..=255u32).flat_map(|exponent| mantissas.iter().map(move |mantissa| exponent << 23 | mantissa));
    let walk = (0..1 << 20).map(|step: u32| step.wrapping_mul(0x9e37_79b1));
    exponents.flat_map(|bits| [bits, bits | 1 << 31]).chain(walk).map(f32::from_bits).collect()
}

fn narrowed<E: Element<Real = f32>>(instructions: Instructions, numbers: &[f32], zero: E) -> Vec<E> {
    let mut elements = vec![zero; numbers.len()];
    // SAFETY: the instructions are of those available.
    unsafe { (instructions.elements::<E>().narrow)(numbers, &mut elements) };
    elements
}

/// Widens rows of seven of what is there, and copies them too.
fn widened<E: Element<Real = f32>>(instructions: Instructions, elements: &[E]) -> (Vec<f32>, Vec<E>) {
    let (rows, columns) = (elements.len() / 7, 7);
    let (mut numbers, mut copy) = (vec![0.0; rows * columns], elements[..rows * columns].to_vec());
    copy.reverse();
    let from = Numbers { first: elements.as_ptr(), stride: columns, rows, columns };
    let copies = Copies { first: copy.as_mut_ptr(), stride: columns };
    // SAFETY: as above; all have room for the rows.
    unsafe { (instructions.elements::<E>().widen)(&from, numbers.as_mut_ptr(), Some(copies)) };
    (numbers, copy)
}

#[test]
fn every_f32_that_matters_rounds_as_the_standard_says() {
    let numbers = singles();
    for instructions in Instructions::available() {
        let (halves, brains) =
            (narrowed(instructions, &numbers, f16::ZERO), narrowed(instructions, &numbers, bf16::ZERO));
        for ((number, half), brain) in numbers.iter().zip(halves).zip(brains) {
            let bits = number.to_bits();
            assert_eq!(
                half.to_bits(),
                f16::from_f32_const(*number).to_bits(),
                "{bits:#x} with {}",
                instructions.name()
            );
            assert_eq!(
                brain.to_bits(),
                bf16::from_f32_const(*number).to_bits(),
                "{bits:#x} with {}",
                instructions.name()
            );
        }
    }
}

#[test]
fn every_element_widens_to_the_same_number() {
    let all = || 0..=u16::MAX;
    let (halves, brains): (Vec<f16>, Vec<bf16>) =
        (all().map(f16::from_bits).collect(), all().map(bf16::from_bits).collect());
    for instructions in Instructions::available() {
        let (numbers, copy) = widened(instructions, &halves);
        for ((number, half), copy) in numbers.iter().zip(&halves).zip(&copy) {
            assert_eq!(number.to_bits(), half.to_f32_const().to_bits(), "{:#x}", half.to_bits());
            assert_eq!(copy.to_bits(), half.to_bits());
        }
        let (numbers, copy) = widened(instructions, &brains);
        for ((number, brain), copy) in numbers.iter().zip(&brains).zip(&copy) {
            // A signalling NaN stays what it is.
            assert!(number.to_bits() == brain.to_f32_const().to_bits() || number.is_nan(), "{:#x}", brain.to_bits());
            assert_eq!(copy.to_bits(), brain.to_bits());
        }
    }
}
