//! Hand-made programs on all types and row counts.

use super::programs::*;
use super::reference;
use super::scene::*;
use crate::compile::{Pass, Program};
use crate::device::cpu::launch::dispatch;
use crate::device::cpu::vector::Instructions;
use crate::device::telemetry::FALLBACK_ROWS;
use crate::graph::DataType;

const ROWS: [usize; 12] = [0, 1, 2, 7, 8, 9, 31, 32, 33, 63, 65, 1000];
const TYPES: [DataType; 4] = [DataType::F32, DataType::F16, DataType::BF16, DataType::F64];

fn forward(programs: Vec<Program>, data_type: DataType, rows: usize) -> Scene {
    Scene::new(Pass::Forward, data_type, programs, 3, rows)
}

#[test]
fn forward_agrees_with_plain_loops_for_every_type_and_row_count() {
    for data_type in TYPES {
        for rows in ROWS {
            check(&forward(vec![bottleneck(20, 7), attention(20), normalised(20)], data_type, rows));
        }
    }
}

#[test]
fn backward_agrees_with_plain_loops_for_every_type_and_row_count() {
    for data_type in TYPES {
        for rows in ROWS {
            check(&Scene::new(Pass::Backward, data_type, vec![linear_backward(13)], 3, rows));
        }
    }
}

#[test]
fn training_agrees_with_plain_loops_for_every_type_and_row_count() {
    for data_type in TYPES {
        for rows in ROWS {
            check(&Scene::new(Pass::Train, data_type, vec![reconstruction(11)], 3, rows));
        }
    }
}

#[test]
fn every_kind_of_instructions_agrees_with_plain_loops() {
    for instructions in Instructions::available() {
        for data_type in TYPES {
            for scene in [
                forward(vec![bottleneck(37, 18), attention(37), normalised(37)], data_type, 71),
                Scene::new(Pass::Backward, data_type, vec![linear_backward(37)], 2, 71),
                Scene::new(Pass::Train, data_type, vec![reconstruction(37)], 2, 71),
            ] {
                let kernel = load(&scene.class, instructions).unwrap();
                let outcome = run_with(&scene, &kernel, dispatch).unwrap();
                compare(&scene, &outcome, &reference::run(&scene));
            }
        }
    }
}

#[test]
fn chunks_of_any_width_are_right() {
    for chunk in [1, 2, 3, 5, 8, 16, 17, 31, 64, 100] {
        check(&forward(vec![bottleneck(chunk, 5), normalised(chunk)], DataType::F32, 40));
        check(&Scene::new(Pass::Backward, DataType::F64, vec![linear_backward(chunk)], 2, 40));
    }
    check(&forward(vec![bottleneck(1024, 9)], DataType::F32, 3));
}

#[test]
fn rows_may_lie_apart_and_what_lies_between_is_left_alone() {
    for data_type in TYPES {
        let scene = Scene { gap: 5, ..forward(vec![bottleneck(20, 7), attention(20)], data_type, 45) };
        check(&scene);
        check(&Scene { gap: 1, ..Scene::new(Pass::Backward, data_type, vec![linear_backward(9)], 2, 45) });
    }
}

#[test]
fn output_may_take_the_place_of_the_input() {
    for data_type in TYPES {
        let mut scene = forward(vec![bottleneck(20, 7), attention(20)], data_type, 100);
        scene.lifecycle[1] = 0;
        scene.x[3 * scene.hidden + 2] = f64::NAN;
        let apart = check(&scene);
        scene.in_place = true;
        let outcome = check(&scene);
        assert_eq!(format!("{apart:?}"), format!("{outcome:?}"));
        let scene = Scene::new(Pass::Backward, data_type, vec![linear_backward(9)], 2, 100);
        check(&Scene { in_place: true, ..scene });
    }
}

#[test]
fn rows_that_are_not_finite_fall_back_and_add_nothing() {
    for data_type in TYPES {
        for (seed, value) in [(0, f64::NAN), (1, f64::INFINITY), (2, f64::NEG_INFINITY)] {
            let mut scene = forward(vec![bottleneck(20, 7)], data_type, 70);
            for row in [0, 31, 32, 69] {
                scene.x[row * scene.hidden + seed * 20 + 5] = value;
            }
            let outcome = check(&scene);
            assert_eq!(outcome.telemetry[seed][FALLBACK_ROWS], 5.0, "four rows besides the 1 that was there");
        }
        let mut scene = Scene::new(Pass::Backward, data_type, vec![linear_backward(9)], 2, 70);
        for row in [3, 4, 68] {
            scene.output_gradient[row * scene.hidden + 4] = f64::NAN;
        }
        assert_eq!(check(&scene).telemetry[0][FALLBACK_ROWS], 1.0, "backward counts none");
        let mut scene = Scene::new(Pass::Train, data_type, vec![reconstruction(9)], 2, 70);
        for row in 0..70 {
            scene.x[row * scene.hidden + 4] = f64::NAN;
        }
        let outcome = check(&scene);
        assert_eq!(outcome.telemetry[0][FALLBACK_ROWS], 71.0, "a loss of nothing must show");
    }
}

#[test]
fn an_alpha_outside_its_range_is_clamped() {
    let mut scene = forward(vec![bottleneck(8, 3)], DataType::F64, 10);
    scene.alpha = vec![-2.0, 7.5, f32::NAN];
    let outcome = check(&scene);
    assert_eq!(outcome.output[..8], scene.x[..8], "alpha 0 leaves the input");
    assert_eq!(outcome.output[16..24], scene.x[16..24], "alpha NaN counts as 0");
}

#[test]
fn the_number_of_threads_never_changes_a_bit() {
    let forward = forward(vec![bottleneck(64, 16), attention(64), normalised(64)], DataType::F32, 2000);
    let backward = Scene::new(Pass::Backward, DataType::F32, vec![linear_backward(40)], 3, 2000);
    let train = Scene::new(Pass::Train, DataType::F32, vec![reconstruction(40)], 100, 150);
    let many = Scene::new(Pass::Forward, DataType::BF16, vec![attention(32), bottleneck(32, 8)], 1000, 3);
    for scene in [forward, backward, train, many] {
        let outcomes = [1, 2, 7].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&scene)).unwrap()
        });
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
        assert_eq!(run(&scene).unwrap(), outcomes[0], "nor does the backend's own pool");
    }
}

#[test]
fn telemetry_and_alpha_gradient_may_be_absent() {
    use crate::device::{Address, Launch};
    for scene in [
        forward(vec![bottleneck(8, 3)], DataType::BF16, 40),
        Scene::new(Pass::Backward, DataType::F32, vec![linear_backward(8)], 2, 40),
    ] {
        let kernel = load(&scene.class, Instructions::detect()).unwrap();
        let outcome = run_with(&scene, &kernel, |kernel, launch| {
            dispatch(kernel, &Launch { telemetry: Address::NULL, alpha_gradient: Address::NULL, ..*launch })
        });
        let (outcome, before, expected) = (outcome.unwrap(), Outcome::before(&scene), reference::run(&scene));
        let expected = Outcome { telemetry: before.telemetry, alpha_gradient: before.alpha_gradient, ..expected };
        compare(&scene, &outcome, &expected);
    }
}

#[test]
fn an_expression_may_have_many_operands() {
    use crate::compile::{Binary, Destination};
    use crate::graph::RowInput;
    for operands in [5, 17, 129] {
        let mut maker = Maker::new(6, RowInput::X);
        let x = maker.row(RowInput::X);
        let views: Vec<_> = (0..operands).map(|first| (maker.parameter(first, 6), 1)).chain([(x, 1)]).collect();
        let sum = (1..=operands).fold(operand(0), |sum, next| binary(Binary::Add, sum, operand(next)));
        let y = maker.map(Part::Body, 6, &views, sum);
        maker.output(y, Destination::Row);
        check(&forward(vec![maker.0], DataType::F64, 40));
    }
}
