//! Which program runs in which state, and what identity means.

use super::programs::*;
use super::scene::*;
use crate::compile::Pass;
use crate::device::cpu::launch::dispatch;
use crate::device::cpu::vector::Instructions;
use crate::device::telemetry::*;
use crate::device::{Launch, Rows};
use crate::graph::DataType;

#[test]
fn every_lifecycle_number_runs_what_it_should_in_every_pass() {
    let states: Vec<i8> = (-1..=12).collect();
    for pass in [Pass::Forward, Pass::Backward, Pass::Train] {
        let program = match pass {
            Pass::Forward => bottleneck(8, 3),
            Pass::Backward => linear_backward(8),
            Pass::Train => reconstruction(8),
        };
        let mut scene = Scene::new(pass, DataType::F32, vec![program], states.len(), 40);
        scene.lifecycle = states.clone();
        if pass == Pass::Backward {
            scene.class.frozen = vec![linear_frozen(8)];
        }
        let outcome = check(&scene);
        for (seed, state) in states.iter().enumerate() {
            let slot = scene.slot[seed] as usize;
            let slot = &outcome.gradients[0][slot * scene.sizes[0]..(slot + 1) * scene.sizes[0]];
            let trained = slot.iter().any(|gradient| *gradient != 0.25);
            let trains = match pass {
                Pass::Forward => false,
                Pass::Backward => [3, 6].contains(state),
                Pass::Train => *state == 2,
            };
            assert_eq!(trained, trains, "{pass:?} in state {state}");
            let chunk = &outcome.output[seed * 8..seed * 8 + 8];
            let input = if pass == Pass::Backward { &scene.output_gradient } else { &scene.x };
            let changed = *chunk != input[seed * 8..seed * 8 + 8];
            let applies = pass == Pass::Train || (3..=7).contains(state);
            assert_eq!(changed, applies, "{pass:?} in state {state}");
        }
    }
}

#[test]
fn no_blueprint_and_no_branch_are_identity() {
    let mut scene = Scene::new(Pass::Forward, DataType::F32, vec![bottleneck(8, 3)], 4, 40);
    scene.blueprint = vec![-1, 0, 1, 2];
    scene.branch = vec![0, -1, 0];
    // The slot of a seed without a program is nobody's business.
    scene.slot = vec![-1, 1, 99, 3];
    let outcome = check(&scene);
    assert_eq!(outcome.output[..8], scene.x[..8]);
    assert_eq!(outcome.output[16..24], scene.x[16..24]);
    assert_ne!(outcome.output[24..32], scene.x[24..32]);
}

/// Numbers of each type with every kind of NaN, subnormals, infinities and both zeros.
fn strange(data_type: DataType) -> Vec<u8> {
    let patterns: &[u64] = match data_type {
        DataType::F32 => &[0x7fc0_1234, 0xffa0_0001, 0x7f80_0000, 0x0000_0001, 0x8000_0000, 0x3f80_0000],
        DataType::F16 => &[0x7e12, 0xfd01, 0x7c00, 0x0001, 0x8000, 0x3c00],
        DataType::BF16 => &[0x7fd2, 0xffa1, 0x7f80, 0x0001, 0x8000, 0x3f80],
        _ => &[0x7ff8_0000_0000_1234, 0xfff4_0000_0000_0001, 0x7ff0_0000_0000_0000, 1, 1 << 63, 0x3ff0_0000_0000_0000],
    };
    (0..39 * 50).flat_map(|place| patterns[place % 6].to_le_bytes()[..data_type.bytes()].to_vec()).collect()
}

#[test]
fn identity_copies_bits_and_so_does_a_row_that_falls_back() {
    for data_type in [DataType::F32, DataType::F16, DataType::BF16, DataType::F64] {
        for states in [vec![0, 1, 2, 8], vec![3, 0, 3, 9]] {
            let mut scene = Scene::new(Pass::Forward, data_type, vec![bottleneck(9, 3)], 4, 50);
            scene.lifecycle = states;
            let kernel = load(&scene.class, Instructions::detect()).unwrap();
            let bytes = strange(data_type);
            let (mut x, mut y) = (Memory::new(&bytes), Memory::new(&vec![0x55; bytes.len()]));
            // Every chunk of every row holds something that is not finite, so every row falls back.
            run_with(&scene, &kernel, |kernel, launch| {
                let rows = |address| Rows::spaced(address, 39);
                dispatch(kernel, &Launch { x: rows(x.address()), output: rows(y.address()), ..*launch })
            })
            .unwrap();
            assert_eq!(y.bytes(), bytes, "{data_type:?}");
        }
    }
}

#[test]
fn telemetry_is_seen_in_every_state_and_counts_what_is_not_finite_apart() {
    let mut scene = Scene::new(Pass::Forward, DataType::F32, vec![bottleneck(8, 3)], 2, 33);
    scene.lifecycle = vec![0, 3];
    for seed in 0..2 {
        scene.x[seed * 8] = f64::INFINITY;
        scene.x[seed * 8 + 3] = f64::NAN;
        scene.x[scene.hidden + seed * 8 + 7] = 0.0;
        scene.x[scene.hidden + seed * 8 + 6] = 5e-7;
    }
    let outcome = check(&scene);
    for columns in &outcome.telemetry {
        assert_eq!(columns[COUNT], 1.0 + 33.0 * 8.0);
        assert_eq!(columns[NON_FINITE], 1.0 + 2.0);
        assert_eq!(columns[DEAD], 1.0 + 2.0);
        assert!(columns[MIN] < columns[MAX] && columns[MAX] <= 1.0);
        assert!(columns[SUM].is_finite() && columns[NEIGHBOURS].is_finite());
    }
    let scene = Scene { rows: 0, x: vec![], output_gradient: vec![], target: vec![], ..scene };
    assert_eq!(check(&scene).telemetry, Outcome::before(&scene).telemetry, "no rows, nothing seen");
}
