//! Generated CUDA kernels do what the CPU backend does, run here on the CPU: see `launches/emulator.rs`. On a machine with
//! a GPU, `tests/gpu` makes the same comparisons with the real thing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "launches/emulator.rs"]
mod emulator;
#[path = "launches/mod.rs"]
mod launches;

use emulator::Emulator;
use kasmina::compile::{Architecture, Pass, Schedule, alternatives, codegen, tiling};
use kasmina::device::{Device, cpu};
use kasmina::graph::DataType;
use launches::{Case, LAYOUTS, Layout, assert_close, damaged, run};
use std::sync::Arc;

const PASSES: [Pass; 3] = [Pass::Forward, Pass::Backward, Pass::Train];

fn check(emulator: &Arc<dyn Device>, case: &Case) {
    // A tiling is one for a kind of device.
    let planned = Case { schedule: Schedule::Best, ..case.clone() };
    let expected = run(&cpu::device(), &planned, &codegen::cpu::compile(&planned.class()).unwrap());
    let actual = run(emulator, case, &[]);
    assert_close(case, &expected, &actual);
}

#[test]
fn every_pass_and_type_agrees_with_the_cpu_on_all_states_and_blueprints() {
    let emulator = Emulator::device(2);
    for pass in PASSES {
        for data_type in [DataType::F32, DataType::F16, DataType::BF16, DataType::F64] {
            let mut case = Case::new(pass, data_type, &["residual", "attention", "bottleneck", "squeeze_excite"]);
            case.seeds = 25;
            check(&emulator, &case);
        }
    }
}

#[test]
fn rows_from_none_to_several_tiles_agree() {
    let emulator = Emulator::device(3);
    for pass in PASSES {
        for rows in [0, 1, 31, 32, 100] {
            let mut case = Case::new(pass, DataType::F32, &["mlp", "low_rank"]);
            case.rows = rows;
            check(&emulator, &case);
        }
    }
}

/// Hidden layers of twice the chunk are made in slices by four warps together, and their gradients are added to memory tile by tile.
#[test]
fn values_too_wide_for_registers_agree() {
    for row_blocks in [1, 2] {
        let emulator = Emulator::device(row_blocks);
        for pass in PASSES {
            for (chunk, data_type) in [(128, DataType::BF16), (96, DataType::F16), (64, DataType::BF16)] {
                let mut case = Case::new(pass, data_type, &["normalized_mlp"]);
                (case.chunk, case.seeds, case.rows) = (chunk, 7, 150);
                (case.deterministic, case.tail, case.poisoned) = (row_blocks == 1, 3, chunk != 128);
                check(&emulator, &case);
            }
        }
    }
}

#[test]
fn chunks_of_any_width_agree() {
    let emulator = Emulator::device(1);
    for pass in PASSES {
        for (chunk, data_type) in [(1, DataType::F32), (7, DataType::BF16), (64, DataType::F16), (130, DataType::F64)] {
            let mut case = Case::new(pass, data_type, &["normalized_mlp", "attention"]);
            case.chunk = chunk;
            case.rows = 40;
            case.seeds = 7;
            check(&emulator, &case);
        }
    }
}

#[test]
fn any_stride_and_alignment_agrees_and_nothing_is_written_between_rows() {
    let emulator = Emulator::device(2);
    for pass in [Pass::Forward, Pass::Backward] {
        for data_type in [DataType::BF16, DataType::F32] {
            for (shift, gap, tail) in [(1, 0, 0), (2, 4, 2), (4, 1, 1), (0, 8, 8), (8, 3, 5)] {
                let mut case = Case::new(pass, data_type, &["bottleneck"]);
                (case.shift, case.gap, case.tail) = (shift, gap, tail);
                check(&emulator, &case);
            }
        }
    }
}

#[test]
fn every_layout_agrees_with_the_cpu_and_gives_the_bits_of_adjacent_channels() {
    let emulator = Emulator::device(2);
    for pass in PASSES {
        for (position, layout) in LAYOUTS.into_iter().enumerate() {
            let data_type = [DataType::F32, DataType::BF16][position % 2];
            let mut case = Case::new(pass, data_type, &["bottleneck", "squeeze_excite"]);
            (case.layout, case.gap, case.poisoned) = (layout, position % 3, position % 2 == 0);
            check(&emulator, &case);
            let even = Case { layout: Layout::Even, ..case.clone() };
            let [found, expected] = [&case, &even].map(|case| run(&emulator, case, &[]));
            assert_eq!(case.output_bits(&found), even.output_bits(&expected), "{case:?}");
        }
    }
}

#[test]
fn a_layer_without_programs_is_identity_and_still_observed() {
    let emulator = Emulator::device(2);
    for pass in PASSES {
        check(&emulator, &Case::new(pass, DataType::BF16, &[]));
    }
}

#[test]
fn rows_that_are_not_finite_fall_back_to_the_same_bits_and_add_nothing() {
    let emulator = Emulator::device(2);
    for pass in PASSES {
        for data_type in [DataType::F32, DataType::BF16] {
            let mut case = Case::new(pass, data_type, &["bottleneck", "squeeze_excite"]);
            case.poisoned = true;
            check(&emulator, &case);
        }
    }
}

#[test]
fn output_in_the_place_of_the_input_agrees() {
    let emulator = Emulator::device(2);
    for pass in [Pass::Forward, Pass::Backward] {
        let mut case = Case::new(pass, DataType::F32, &["bottleneck", "attention"]);
        (case.in_place, case.poisoned) = (true, true);
        check(&emulator, &case);
        // In fragments, where a warp fetches rows while it writes others.
        let mut case = Case::new(pass, DataType::BF16, &["bottleneck", "residual"]);
        (case.in_place, case.poisoned, case.chunk, case.rows, case.seeds) = (true, true, 64, 150, 9);
        check(&emulator, &case);
    }
}

/// With whatever the state arrays hold: a GPU cannot refuse it, as the CPU does.
#[test]
fn a_launch_without_an_output_observes_and_writes_no_row() {
    let emulator = Emulator::device(2);
    for pass in [Pass::Forward, Pass::Backward] {
        for (data_type, chunk) in [(DataType::F32, 8), (DataType::BF16, 64)] {
            for layout in [Layout::Even, Layout::ChannelsFirst(7), Layout::Scattered] {
                let mut case = Case::new(pass, data_type, &["residual", "bottleneck"]);
                (case.observes, case.poisoned, case.chunk, case.layout) = (true, true, chunk, layout);
                let idle = Case { blueprint: Some(-1), ..case.clone() };
                check(&emulator, &idle);
                let copied = Case { observes: false, ..idle.clone() };
                let [seen, copied, damaged] = [&idle, &copied, &case].map(|case| run(&emulator, case, &[]));
                assert_eq!(idle.output_bits(&seen), idle.output_bits(&copied), "what passes is as it was");
                assert_eq!(idle.output_bits(&seen), case.output_bits(&damaged), "and with any state");
                assert_eq!(seen.telemetry, damaged.telemetry);
            }
        }
    }
}

#[test]
fn deterministic_launches_agree() {
    let emulator = Emulator::device(4);
    for pass in PASSES {
        for (data_type, chunk, blueprint) in
            [(DataType::F32, 8, "attention"), (DataType::BF16, 64, "bottleneck"), (DataType::BF16, 64, "conv")]
        {
            let mut case = Case::new(pass, data_type, &["residual", blueprint]);
            (case.deterministic, case.rows, case.chunk, case.seeds, case.tail) = (true, 150, chunk, 25, 3);
            check(&emulator, &case);
        }
    }
}

#[test]
fn state_arrays_that_point_at_nothing_are_identity() {
    let emulator = Emulator::device(1);
    for pass in PASSES {
        let (cases, idle) = damaged(&Case::new(pass, DataType::F32, &["bottleneck", "residual"]));
        let expected = run(&cpu::device(), &idle, &codegen::cpu::compile(&idle.class()).unwrap());
        for case in cases {
            assert_close(&idle, &expected, &run(&emulator, &case, &[]));
        }
    }
}

#[test]
fn what_could_run_in_fragments_agrees_in_the_generic_schedule() {
    let emulator = Emulator::device(2);
    for pass in PASSES {
        for data_type in [DataType::F32, DataType::BF16] {
            let mut case = Case::new(pass, data_type, &["residual", "bottleneck", "normalized_mlp"]);
            (case.chunk, case.rows, case.poisoned) = (64, 70, true);
            case.schedule = Schedule::Generic;
            check(&emulator, &case);
        }
    }
}

#[test]
fn products_of_tf32_agree_as_far_as_they_may_and_are_rounder_than_those_of_f32() {
    let emulator = Emulator::device(1);
    for pass in PASSES {
        let mut case = Case::new(pass, DataType::F32, &["bottleneck"]);
        (case.tf32, case.chunk, case.rows, case.seeds, case.poisoned) = (true, 32, 40, 13, true);
        check(&emulator, &case);
        let exact = Case { tf32: false, ..case.clone() };
        check(&emulator, &exact);
        if pass == Pass::Forward {
            let [rounded, exact] = [&case, &exact].map(|case| run(&emulator, case, &[]));
            assert_ne!(case.output_bits(&rounded), case.output_bits(&exact));
        }
    }
}

#[test]
fn programs_in_fragments_agree_in_every_pass_and_type() {
    let emulator = Emulator::device(1);
    for pass in PASSES {
        for (chunk, data_type, poisoned) in [
            (64, DataType::F32, false),
            (40, DataType::F32, true),
            (64, DataType::BF16, true),
            (32, DataType::BF16, false),
            (48, DataType::F16, true),
        ] {
            let mut case = Case::new(pass, data_type, &["residual", "bottleneck", "low_rank", "normalized_mlp"]);
            (case.chunk, case.rows, case.seeds, case.poisoned) = (chunk, 150, 25, poisoned);
            check(&emulator, &case);
        }
    }
}

/// Convolutions along the chunk read elements that other lanes have.
#[test]
fn steps_in_scratch_memory_agree() {
    for row_blocks in [1, 2] {
        let emulator = Emulator::device(row_blocks);
        for pass in PASSES {
            for (chunk, data_type, poisoned) in
                [(64, DataType::BF16, true), (40, DataType::F32, true), (48, DataType::F16, false)]
            {
                let mut case = Case::new(pass, data_type, &["conv"]);
                (case.chunk, case.rows, case.poisoned) = (chunk, 150, poisoned);
                check(&emulator, &case);
            }
        }
    }
}

#[test]
fn every_tiling_of_a_program_agrees() {
    let emulator = Emulator::device(2);
    let mut case = Case::new(Pass::Backward, DataType::BF16, &["bottleneck"]);
    (case.chunk, case.rows, case.seeds, case.poisoned) = (64, 150, 7, true);
    let mut tried = 0;
    for schedule in [Schedule::Best, Schedule::Generic] {
        let class = Case { schedule, ..case.clone() }.class();
        let from = tiling(&class, Architecture::Cuda(90)).unwrap();
        for tiling in alternatives(&class, Architecture::Cuda(90), from).into_iter().flatten() {
            // How many blocks there are at once and in all is nothing that an emulator shows.
            if (tiling.blocks, tiling.waves) == (from.blocks, from.waves) && tiling.fragments == from.fragments {
                case.schedule = Schedule::Tuned(tiling);
                check(&emulator, &case);
                tried += 1;
            }
        }
    }
    assert!(tried >= 8, "{tried}");
}
