//! Every kernel of a random blueprint is right, says the validation that kernels pass before they may run.

use super::numbered;
use kasmina::compile::{Pass, codegen, kernel_class};
use kasmina::device::{self, DeviceKind, Stream};
use kasmina::graph::{Attributes, Blueprint, DataType, LIBRARY, library};
use kasmina::validate;

fn valid(blueprint: &Blueprint, name: &str) {
    let device = device::open(DeviceKind::Cpu).unwrap();
    for (pass, alpha) in [(Pass::Forward, false), (Pass::Backward, true), (Pass::Train, false)] {
        let of = |data_type| kernel_class(pass, data_type, alpha, &[blueprint]).unwrap();
        let verdict = validate::programs(&of(DataType::F64), &[blueprint]);
        verdict.unwrap_or_else(|error| panic!("{name}, {pass:?}: {error}\n{}", blueprint.to_json().unwrap()));
        for data_type in [DataType::F32, DataType::F16, DataType::BF16, DataType::F64] {
            let class = of(data_type);
            let kernel = device.load(&class, &codegen::cpu::compile(&class).unwrap()).unwrap();
            let verdict = validate::launches(&device, &class, &kernel, &[blueprint], Stream::default());
            verdict.unwrap_or_else(|error| panic!("{name}, {pass:?} {data_type:?}: {error}"));
        }
    }
}

#[test]
fn kernels_and_gradients_of_random_blueprints_are_right() {
    for number in 0..150 {
        valid(&numbered(number), &format!("blueprint {number}"));
    }
}

#[test]
fn kernels_and_gradients_of_the_library_are_right() {
    for name in LIBRARY {
        for chunk in [4, 33] {
            valid(&library(name, chunk, &Attributes::new()).unwrap(), &format!("{name} of {chunk}"));
        }
    }
}
