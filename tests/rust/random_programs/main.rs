//! Random programs on random launches: a device must do what `compile::reference` says, and nothing else.
//!
//! The programs are not those of operators but anything that the contract of `Program` allows, so what they find is
//! what operators have not met yet. `KASMINA_TEST_DEVICE=cuda` runs them there.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod case;
#[path = "../launches/emulator.rs"]
mod emulator;
mod expected;
mod random;

use case::Case;
use kasmina::compile::Pass;
use kasmina::device::{self, DeviceKind};
use kasmina::graph::DataType;
use random::Random;

fn device() -> std::sync::Arc<dyn device::Device> {
    let cuda = std::env::var("KASMINA_TEST_DEVICE").is_ok_and(|name| name == "cuda");
    device::open(if cuda { DeviceKind::Cuda(0) } else { DeviceKind::Cpu }).unwrap()
}

/// How many launches of each pass and type; `KASMINA_TEST_LAUNCHES` asks for more.
fn launches() -> u64 {
    std::env::var("KASMINA_TEST_LAUNCHES").ok().and_then(|number| number.parse().ok()).unwrap_or(60)
}

fn compare(pass: Pass, data_type: DataType) {
    let device = device();
    for number in 0..launches() {
        let random = &mut Random::new(number * 31 + pass as u64 * 7 + data_type as u64);
        let case = Case::new(random, pass, data_type, device.architecture());
        let found = case.run(&device);
        if let Err(difference) = case.compare(&found) {
            let programs = case.class.programs.iter().chain(&case.class.frozen).map(ToString::to_string);
            let programs = programs.collect::<Vec<_>>().join("\n");
            panic!("{case:?}\n{programs}\nlaunch {number} of {pass:?} {}: {difference}", data_type.name());
        }
        if device.kind() == DeviceKind::Cpu {
            assert!(case.run(&device).same(&found), "launch {number}: other bits the second time");
        }
    }
}

/// The same for generated CUDA, run on the CPU: for each pass and type as many launches as there is patience for.
#[test]
fn generated_cuda_on_the_cpu_is_that_of_the_reference() {
    let device = emulator::Emulator::device(1);
    for pass in [Pass::Forward, Pass::Backward, Pass::Train] {
        for data_type in [DataType::F32, DataType::F16, DataType::BF16, DataType::F64] {
            for number in 0..launches() / 60 {
                let random = &mut Random::new(number * 37 + pass as u64 * 5 + data_type as u64);
                let case = Case::new(random, pass, data_type, device.architecture());
                if let Err(difference) = case.compare(&case.run(&device)) {
                    let programs = case.class.programs.iter().chain(&case.class.frozen).map(ToString::to_string);
                    let programs = programs.collect::<Vec<_>>().join("\n");
                    panic!("{programs}\nlaunch {number} of {pass:?} {}: {difference}", data_type.name());
                }
            }
        }
    }
}

macro_rules! tests {
    ($($name:ident: $pass:ident $data_type:ident;)+) => {
        $(#[test]
        fn $name() {
            compare(Pass::$pass, DataType::$data_type);
        })+
    };
}

tests! {
    forward_in_f64_is_that_of_the_reference: Forward F64;
    forward_in_f32_is_that_of_the_reference: Forward F32;
    forward_in_f16_is_that_of_the_reference: Forward F16;
    forward_in_bf16_is_that_of_the_reference: Forward BF16;
    backward_in_f64_is_that_of_the_reference: Backward F64;
    backward_in_f32_is_that_of_the_reference: Backward F32;
    backward_in_f16_is_that_of_the_reference: Backward F16;
    backward_in_bf16_is_that_of_the_reference: Backward BF16;
    training_in_f64_is_that_of_the_reference: Train F64;
    training_in_f32_is_that_of_the_reference: Train F32;
    training_in_f16_is_that_of_the_reference: Train F16;
    training_in_bf16_is_that_of_the_reference: Train BF16;
}
