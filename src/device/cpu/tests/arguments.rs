//! What a launch refuses, before it touches anything.

use super::programs::*;
use super::scene::*;
use crate::Status;
use crate::compile::Pass;
use crate::device::cpu::launch::{Loaded, dispatch};
use crate::device::cpu::vector::Instructions;
use crate::device::{Address, Bank, Launch, Rows};
use crate::graph::DataType;

fn scene() -> Scene {
    Scene::new(Pass::Backward, DataType::F32, vec![linear_backward(8)], 4, 20)
}

#[track_caller]
fn refused(scene: &Scene, change: impl FnOnce(&Loaded, &Launch<'_>) -> crate::Result<()>, words: &str) {
    let kernel = load(&scene.class, Instructions::detect()).unwrap();
    let error = run_with(scene, &kernel, change).expect_err(words);
    assert!(matches!(error.status(), Status::InvalidArgument | Status::ShapeMismatch));
    assert!(error.message().contains(words), "{error} does not say {words:?}");
}

#[test]
fn state_that_points_nowhere_is_refused() {
    let change = |change: &dyn Fn(&mut Scene)| {
        let mut scene = scene();
        change(&mut scene);
        scene
    };
    refused(&change(&|scene| scene.blueprint[1] = 1), dispatch, "seed 1 has blueprint 1, but the layer has 1");
    refused(&change(&|scene| scene.blueprint[1] = -2), dispatch, "seed 1 has blueprint -2");
    refused(&change(&|scene| scene.branch[0] = 1), dispatch, "branch is 1, but the kernel has 1 programs");
    refused(&change(&|scene| scene.branch[0] = i32::MIN), dispatch, "branch is -2147483648");
    refused(&change(&|scene| scene.slot[2] = 4), dispatch, "seed 2: its slot is 4");
    refused(&change(&|scene| scene.slot[2] = -1), dispatch, "seed 2: its slot is -1");
    refused(&change(&|scene| scene.slot[2] = scene.slot[0]), dispatch, "two seeds train slot 3");
}

#[test]
fn tensors_that_overlap_without_being_the_same_are_refused() {
    for shift in [1usize, 30, 31, 35] {
        let act = |kernel: &Loaded, launch: &Launch<'_>| {
            let output = Rows { address: launch.x.address.offset(4 * shift), ..launch.x };
            dispatch(kernel, &Launch { output, rows: 10, ..*launch })
        };
        refused(&scene(), act, "x and output overlap");
    }
    let act = |kernel: &Loaded, launch: &Launch<'_>| {
        let output = Rows { stride: launch.x.stride + 1, ..launch.output_gradient };
        dispatch(kernel, &Launch { output, rows: 10, ..*launch })
    };
    refused(&scene(), act, "output gradient and output overlap");
}

#[test]
fn two_halves_of_one_tensor_do_not_overlap() {
    let scene = Scene::new(Pass::Forward, DataType::F32, vec![bottleneck(8, 3)], 2, 40);
    let kernel = load(&scene.class, Instructions::detect()).unwrap();
    let mut wide = Memory::of(&vec![0.5f32; 40 * 2 * scene.hidden]);
    let first = wide.address();
    run_with(&scene, &kernel, |kernel, launch| {
        let half = |place: usize| Rows::spaced(first.offset(4 * place), 2 * scene.hidden);
        let (x, output) = (half(0), half(scene.hidden));
        dispatch(kernel, &Launch { x, output, ..*launch })
    })
    .unwrap();
    let numbers: Vec<f32> = wide.numbers();
    assert!(numbers.chunks(2 * scene.hidden).all(|row| row[..scene.hidden] == [0.5f32; 19]));
    assert_ne!(numbers[scene.hidden], 0.5);
}

#[test]
fn arguments_that_contradict_each_other_are_refused() {
    type Change = fn(&mut Launch<'_>);
    let changes: [(Change, &str); 10] = [
        (|launch| launch.hidden = 31, "4 seeds of 8 channels do not fit a row of 31"),
        (|launch| launch.seeds = usize::MAX / 4, "do not fit"),
        (|launch| launch.lifecycle = Address::NULL, "the lifecycle array is null"),
        (|launch| launch.telemetry = launch.telemetry.offset(4), "the telemetry array is not aligned"),
        (|launch| launch.x.address = Address::NULL, "x at address 0x0 is null"),
        (|launch| launch.x.address = launch.x.address.offset(2), "not aligned to 4 bytes"),
        (|launch| launch.x.stride = usize::MAX / 2, "too large"),
        (|launch| launch.output.stride = 34, "the rows of the output overlap"),
        (|launch| launch.blueprints = 0, "seed 0 has blueprint 0, but the layer has 0"),
        (|launch| launch.banks = &[], "the launch has 0 banks, the kernel 1 programs"),
    ];
    for (change, words) in changes {
        let act = |kernel: &Loaded, launch: &Launch<'_>| {
            let mut launch = *launch;
            change(&mut launch);
            dispatch(kernel, &launch)
        };
        refused(&scene(), act, words);
    }
}

#[test]
fn banks_that_do_not_fit_the_program_are_refused() {
    type Change = fn(&mut Bank);
    let changes: [(Change, &str); 4] = [
        (|bank| bank.size -= 1, "has 71 parameters, the program 72"),
        (|bank| bank.gradient = Address::NULL, "no gradient to add to"),
        (|bank| bank.parameters = Address::NULL, "parameters, the program 72"),
        (|bank| bank.gradient = bank.gradient.offset(1), "not aligned"),
    ];
    for (change, words) in changes {
        let act = |kernel: &Loaded, launch: &Launch<'_>| {
            let mut banks = launch.banks.to_vec();
            banks.iter_mut().for_each(change);
            dispatch(kernel, &Launch { banks: &banks, ..*launch })
        };
        refused(&scene(), act, words);
    }
}
