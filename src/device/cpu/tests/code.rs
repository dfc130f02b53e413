//! Code from a disk cache may be anything.

use super::programs::*;
use crate::Status;
use crate::compile::codegen::cpu::{Code, compile};
use crate::compile::{KernelClass, Pass, Schedule};
use crate::device::cpu::device;
use crate::graph::DataType;

fn class(pass: Pass) -> KernelClass {
    let (programs, frozen) = match pass {
        Pass::Forward => (vec![bottleneck(8, 3), attention(8), normalised(8)], vec![]),
        Pass::Backward => (vec![linear_backward(5)], vec![linear_frozen(5)]),
        Pass::Train => (vec![reconstruction(5)], vec![]),
    };
    let (schedule, chunk) = (Schedule::Best, programs[0].chunk);
    KernelClass { pass, schedule, data_type: DataType::F32, tf32: false, chunk, programs, frozen }
}

const PASSES: [Pass; 3] = [Pass::Forward, Pass::Backward, Pass::Train];

#[test]
fn equal_classes_give_equal_code_that_loads() {
    for pass in PASSES {
        let code = compile(&class(pass)).unwrap();
        assert_eq!(code, compile(&class(pass)).unwrap());
        device().load(&class(pass), &code).unwrap();
    }
}

#[test]
fn a_flipped_bit_anywhere_is_an_error() {
    for pass in PASSES {
        let (class, code) = (class(pass), compile(&class(pass)).unwrap());
        for position in 0..code.len() {
            for bit in [1, 0x80, 0xff] {
                let mut damaged = code.clone();
                damaged[position] ^= bit;
                let error = device().load(&class, &damaged).err().unwrap();
                assert_eq!(error.status(), Status::FileCorrupted);
            }
        }
        for length in 0..code.len() {
            assert!(device().load(&class, &code[..length]).is_err());
        }
        assert!(device().load(&class, &[&code[..], &[0]].concat()).is_err());
    }
}

/// Damage with a right checksum, so that reading and checking have to find it, or the code has to be harmless: what
/// passes is run under the usual bounds.
#[test]
fn damage_behind_the_checksum_never_panics_nor_leaves_its_memory() {
    use super::scene::{Scene, run_with};
    use crate::device::cpu::launch::{Loaded, dispatch};
    use crate::device::cpu::vector::Instructions;
    let (mut refused, mut ran) = (0, 0);
    for pass in PASSES {
        let (class, code) = (class(pass), compile(&class(pass)).unwrap());
        for position in 44..code.len() {
            for change in [1, 2, 0x10, 0x7f, 0x80, 0xff] {
                let mut damaged = code.clone();
                damaged[position] ^= change;
                let checksum = crc32fast::hash(&damaged[12..]);
                damaged[8..12].copy_from_slice(&checksum.to_le_bytes());
                let Ok(code) = Code::decode(&class, &damaged) else {
                    refused += 1;
                    continue;
                };
                let instructions = Instructions::detect();
                let KernelClass { pass, data_type, .. } = class;
                // A loop may have become long without leaving its memory; that is no danger, only slow.
                if code.programs.iter().chain(&code.frozen).any(|p| p.iterations() > 1 << 20) {
                    continue;
                }
                let kernel = Loaded::new(&class, code, instructions).unwrap();
                let scene = Scene::new(pass, data_type, class.programs.clone(), 3, 9);
                let scene = Scene { class: class.clone(), ..scene };
                ran += usize::from(run_with(&scene, &kernel, dispatch).is_ok());
            }
        }
    }
    assert!(refused > 500 && ran > 500, "{refused} refused, {ran} ran");
}

#[test]
fn code_of_another_class_is_refused() {
    let code = compile(&class(Pass::Forward)).unwrap();
    let other = KernelClass { data_type: DataType::F16, ..class(Pass::Forward) };
    let error = device().load(&other, &code).err().unwrap();
    assert_eq!(error.status(), Status::FileCorrupted);
    assert!(error.message().contains("another kernel class"));
}

#[test]
fn a_program_that_contradicts_itself_is_not_compiled() {
    let mut wrong = vec![class(Pass::Forward); 5];
    wrong[0].programs[0].chunk = 9;
    wrong[1].programs[0].body[0].operands[0].offset = 1 << 20;
    wrong[2].programs[0].body[0].operands[0].strides.pop();
    wrong[3].programs[0].body[0].shape.0[0] += 1;
    wrong[4].programs[0].outputs.clear();
    for class in wrong {
        assert_eq!(compile(&class).unwrap_err().status(), Status::CompileFailed);
    }
}
