//! The CUDA device does what the CPU device does. On a machine without a card every test says so and passes, unless
//! `KASMINA_TEST_GPU=1` demands one. See README.md for how to run this where there is no cargo.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../rust/launches/mod.rs"]
mod launches;

use kasmina::Status;
use kasmina::compile::{Pass, codegen};
use kasmina::device::{Buffer, Device, DeviceKind, Stream, cpu, open};
use kasmina::graph::DataType;
use launches::{Case, LAYOUTS, Layout, assert_close, damaged, run, run_adamw};
use std::sync::Arc;

const PASSES: [Pass; 3] = [Pass::Forward, Pass::Backward, Pass::Train];
const TYPES: [DataType; 4] = [DataType::F32, DataType::F16, DataType::BF16, DataType::F64];
const ALL: [&str; 8] =
    ["residual", "attention", "mlp", "conv", "bottleneck", "low_rank", "squeeze_excite", "normalized_mlp"];

fn card() -> Option<Arc<dyn Device>> {
    match open(DeviceKind::Cuda(0)) {
        Ok(device) => Some(device),
        Err(error) if error.status() == Status::DeviceUnavailable && std::env::var_os("KASMINA_TEST_GPU").is_none() => {
            eprintln!("not run: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn check(device: &Arc<dyn Device>, case: &Case) {
    let class = case.class();
    let expected = run(&cpu::device(), case, &codegen::cpu::compile(&class).unwrap());
    let machine_code = codegen::cuda::compile(&class, device.architecture()).unwrap_or_else(|error| panic!("{error}"));
    let actual = run(device, case, &machine_code);
    assert_close(case, &expected, &actual);
}

#[test]
fn every_pass_and_type_agrees_with_the_cpu_on_all_states_and_blueprints() {
    let Some(device) = card() else { return };
    eprintln!("on {} ({})", device.description(), device.architecture());
    for pass in PASSES {
        for data_type in TYPES {
            let mut case = Case::new(pass, data_type, &ALL);
            (case.chunk, case.seeds, case.tail) = (64, 99, 5);
            check(&device, &case);
        }
    }
}

/// Hidden layers of 256 are made in slices, and their gradients are added to memory tile by tile.
#[test]
fn values_too_wide_for_registers_agree() {
    let Some(device) = card() else { return };
    for pass in PASSES {
        for (chunk, data_type) in [(128, DataType::BF16), (96, DataType::F16), (64, DataType::BF16)] {
            for deterministic in [false, true] {
                let mut case = Case::new(pass, data_type, &["normalized_mlp"]);
                (case.chunk, case.seeds, case.rows, case.deterministic) = (chunk, 23, 700, deterministic);
                case.poisoned = chunk != 128;
                check(&device, &case);
            }
        }
    }
}

/// Convolutions along the chunk, alone and beside a program outside fragments, which leaves no scratch memory.
#[test]
fn steps_in_scratch_memory_agree() {
    let Some(device) = card() else { return };
    for pass in PASSES {
        for blueprints in [&["conv"][..], &["conv", "bottleneck"], &["conv", "attention"]] {
            for (chunk, data_type) in
                [(64, DataType::BF16), (128, DataType::BF16), (40, DataType::F32), (48, DataType::F16)]
            {
                let mut case = Case::new(pass, data_type, blueprints);
                (case.chunk, case.seeds, case.rows, case.poisoned) = (chunk, 23, 300, chunk != 128);
                check(&device, &case);
            }
        }
    }
}

#[test]
fn rows_from_none_to_a_thousand_agree() {
    let Some(device) = card() else { return };
    for pass in PASSES {
        for rows in [0, 1, 31, 32, 33, 1000] {
            let mut case = Case::new(pass, DataType::F32, &["bottleneck", "attention"]);
            (case.rows, case.chunk, case.seeds) = (rows, 32, 23);
            check(&device, &case);
        }
    }
}

#[test]
fn rows_of_many_tiles_for_each_warp_agree() {
    let Some(device) = card() else { return };
    for pass in PASSES {
        for data_type in [DataType::BF16, DataType::F32] {
            for blueprint in ["bottleneck", "residual", "low_rank"] {
                let mut case = Case::new(pass, data_type, &[blueprint]);
                // In one row block, so that a warp fetches tiles while it works on others.
                (case.rows, case.chunk, case.seeds, case.deterministic) = (700, 64, 23, true);
                check(&device, &case);
                // And writes where it fetched.
                case.in_place = pass != Pass::Train;
                check(&device, &case);
            }
        }
    }
}

#[test]
fn products_of_tf32_agree_as_far_as_they_may() {
    let Some(device) = card() else { return };
    for pass in PASSES {
        for poisoned in [false, true] {
            let mut case = Case::new(pass, DataType::F32, &["bottleneck", "normalized_mlp"]);
            (case.tf32, case.rows, case.chunk, case.seeds, case.poisoned) = (true, 300, 64, 23, poisoned);
            check(&device, &case);
        }
    }
}

#[test]
fn chunks_of_any_width_agree() {
    let Some(device) = card() else { return };
    for pass in PASSES {
        for (chunk, data_type) in [(1, DataType::F32), (7, DataType::BF16), (256, DataType::F16), (130, DataType::F64)]
        {
            let mut case = Case::new(pass, data_type, &["normalized_mlp", "squeeze_excite"]);
            (case.rows, case.chunk, case.seeds) = (70, chunk, 13);
            check(&device, &case);
        }
        let mut case = Case::new(pass, DataType::BF16, &["attention", "mlp"]);
        (case.rows, case.chunk, case.seeds) = (100, 1000, 13);
        check(&device, &case);
    }
}

#[test]
fn any_stride_and_alignment_agrees_and_nothing_is_written_between_rows() {
    let Some(device) = card() else { return };
    for pass in [Pass::Forward, Pass::Backward] {
        for data_type in [DataType::BF16, DataType::F32] {
            for (shift, gap, tail) in [(1, 0, 0), (2, 4, 2), (4, 1, 1), (0, 8, 8), (8, 3, 5), (0, 0, 1000)] {
                let mut case = Case::new(pass, data_type, &["bottleneck"]);
                (case.shift, case.gap, case.tail) = (shift, gap, tail);
                check(&device, &case);
            }
        }
    }
}

#[test]
fn every_layout_agrees_with_the_cpu_and_gives_the_bits_of_adjacent_channels() {
    let Some(device) = card() else { return };
    for pass in PASSES {
        for (position, layout) in LAYOUTS.into_iter().enumerate() {
            let mut case = Case::new(pass, TYPES[position % 4], &["bottleneck", "squeeze_excite"]);
            (case.layout, case.gap, case.poisoned) = (layout, position % 3, position % 2 == 0);
            (case.chunk, case.rows) = ([24, 7][position % 2], 1000);
            let machine_code = codegen::cuda::compile(&case.class(), device.architecture()).unwrap();
            let even = Case { layout: Layout::Even, ..case.clone() };
            let [found, expected] = [&case, &even].map(|case| run(&device, case, &machine_code));
            assert_eq!(case.output_bits(&found), even.output_bits(&expected), "{case:?}");
            check(&device, &case);
        }
    }
}

#[test]
fn a_layer_without_programs_is_identity_and_still_observed() {
    let Some(device) = card() else { return };
    for pass in PASSES {
        for data_type in TYPES {
            check(&device, &Case::new(pass, data_type, &[]));
        }
    }
}

#[test]
fn rows_that_are_not_finite_fall_back_to_the_same_bits_and_add_nothing() {
    let Some(device) = card() else { return };
    for pass in PASSES {
        for data_type in TYPES {
            for in_place in [false, true] {
                let mut case = Case::new(pass, data_type, &["bottleneck", "squeeze_excite"]);
                case.poisoned = true;
                case.in_place = in_place && pass != Pass::Train;
                check(&device, &case);
            }
        }
    }
}

#[test]
fn launches_without_an_output_observe_and_write_no_row() {
    let Some(device) = card() else { return };
    for pass in [Pass::Forward, Pass::Backward] {
        for data_type in TYPES {
            for layout in LAYOUTS {
                let mut case = Case::new(pass, data_type, &["bottleneck", "squeeze_excite"]);
                (case.observes, case.poisoned, case.chunk, case.rows, case.layout) = (true, true, 64, 700, layout);
                check(&device, &Case { blueprint: Some(-1), ..case });
            }
        }
    }
}

/// Many seeds, and few with many rows, which clusters of blocks share where no gradient is added before a block is done.
#[test]
fn deterministic_launches_give_the_same_bits_every_time() {
    let Some(device) = card() else { return };
    for pass in PASSES {
        for (data_type, blueprints, chunk, seeds, rows) in [
            (DataType::F32, &ALL[..], 64, 99, 1000),
            (DataType::F32, &["bottleneck", "conv"], 64, 7, 3000),
            (DataType::BF16, &["bottleneck", "low_rank"], 64, 7, 3000),
            (DataType::BF16, &["attention"], 64, 3, 1000),
            (DataType::BF16, &["normalized_mlp"], 128, 3, 1000),
        ] {
            let mut case = Case::new(pass, data_type, blueprints);
            (case.deterministic, case.rows, case.chunk, case.seeds) = (true, rows, chunk, seeds);
            let machine_code = codegen::cuda::compile(&case.class(), device.architecture()).unwrap();
            let one = run(&device, &case, &machine_code);
            let bits = |numbers: &[f64]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
            for _ in 0..4 {
                let two = run(&device, &case, &machine_code);
                assert_eq!(one.output, two.output);
                assert_eq!(bits(&one.telemetry), bits(&two.telemetry));
                assert_eq!(bits(&one.alpha_gradient), bits(&two.alpha_gradient));
                assert_eq!(bits(&one.loss), bits(&two.loss));
                for (one, two) in one.gradients.iter().zip(&two.gradients) {
                    assert_eq!(bits(one), bits(two));
                }
            }
            check(&device, &case);
        }
    }
}

#[test]
fn a_hundred_thousand_seeds_and_a_million_rows_agree() {
    let Some(device) = card() else { return };
    for pass in PASSES {
        let mut many = Case::new(pass, DataType::BF16, &["residual"]);
        (many.chunk, many.seeds, many.rows) = (4, 100_000, 3);
        check(&device, &many);
        let mut long = Case::new(pass, DataType::BF16, &["attention"]);
        (long.chunk, long.seeds, long.tail, long.rows) = (2, 3, 1, 1 << 20);
        check(&device, &long);
    }
}

#[test]
fn state_arrays_that_point_at_nothing_are_identity() {
    let Some(device) = card() else { return };
    for pass in PASSES {
        let (cases, idle) = damaged(&Case::new(pass, DataType::F32, &["bottleneck", "residual"]));
        let expected = run(&cpu::device(), &idle, &codegen::cpu::compile(&idle.class()).unwrap());
        let machine_code = codegen::cuda::compile(&idle.class(), device.architecture()).unwrap();
        for case in cases {
            assert_close(&idle, &expected, &run(&device, &case, &machine_code));
        }
    }
}

#[test]
fn the_optimiser_agrees_with_the_cpu() {
    let Some(device) = card() else { return };
    // In vectors and number by number, more than a block holds at once, and more slots than have a block each.
    let sizes = [(5, 1000), (5, 999), (7, 9000), (7, 9001), (5000, 12), (5000, 5)];
    for ((capacity, size), double) in sizes.into_iter().flat_map(|sizes| [(sizes, false), (sizes, true)]) {
        let run = |device| run_adamw(device, double, capacity, size);
        let (expected, actual) = (run(&cpu::device()), run(&device));
        let tolerance = if double { 1e-12 } else { 1e-5 };
        for (position, (one, other)) in expected.iter().zip(&actual).enumerate() {
            assert!(
                (one - other).abs() <= tolerance * (1.0 + one.abs()),
                "element {position} of {capacity} slots of {size}: {other} instead of {one}"
            );
        }
    }
}

#[test]
fn memory_is_zeroed_copied_and_given_back() {
    let Some(device) = card() else { return };
    let stream = Stream(0);
    let bytes: Vec<u8> = (0..100_003).map(|position| (position % 251) as u8).collect();
    let (one, two) = (Buffer::new(&device, bytes.len()).unwrap(), Buffer::new(&device, bytes.len()).unwrap());
    let read = |buffer: &Buffer| {
        let mut to = vec![1; bytes.len()];
        device.download(&mut to, buffer.address(), stream).unwrap();
        to
    };
    assert_eq!(one.address().0 % 256, 0);
    assert!(read(&one).iter().all(|byte| *byte == 0));
    device.upload(one.address(), &bytes, stream).unwrap();
    device.copy(two.address(), one.address(), bytes.len(), stream).unwrap();
    device.zero(two.address(), 10, stream).unwrap();
    let copied = read(&two);
    assert!(copied[..10].iter().all(|byte| *byte == 0));
    assert_eq!(copied[10..], bytes[10..]);
    assert!(!device.is_capturing(stream));
    let error = device.allocate(1 << 50).unwrap_err();
    assert_eq!(error.status(), Status::OutOfMemory, "{error}");
    // The device is not harmed by that.
    assert_eq!(read(&one), bytes);
}

/// A recorded launch, replayed, does what the launch does; and nothing that is called meanwhile spoils the recording.
#[test]
fn launches_can_be_recorded_in_a_graph_while_memory_comes_and_goes() {
    use cudarc::driver::{result, sys};
    let Some(device) = card() else { return };
    // The library gives the host its context back after each call, so the host that this test plays needs one.
    // SAFETY: the device exists, and its primary context is never released.
    unsafe {
        let context = result::primary_ctx::retain(result::device::get(0).unwrap()).unwrap();
        result::ctx::set_current(context).unwrap();
    }
    let case = Case::new(Pass::Forward, DataType::F32, &["bottleneck"]);
    let class = case.class();
    let machine_code = codegen::cuda::compile(&class, device.architecture()).unwrap();
    let bytes = vec![3u8; 4096];
    let (from, to) = (Buffer::new(&device, bytes.len()).unwrap(), Buffer::new(&device, bytes.len()).unwrap());
    device.upload(from.address(), &bytes, Stream(0)).unwrap();
    device.synchronize(Stream(0)).unwrap();
    let raw = result::stream::create(result::stream::StreamKind::NonBlocking).unwrap();
    let stream = Stream(raw as u64);
    // SAFETY: the stream was just created, and is destroyed at the end.
    unsafe { result::stream::begin_capture(raw, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL) }.unwrap();
    assert!(device.is_capturing(stream));
    device.copy(to.address(), from.address(), bytes.len(), stream).unwrap();
    for (what, refused) in [
        ("download", device.download(&mut [0; 16], from.address(), stream)),
        ("upload", device.upload(from.address(), &[1], stream)),
        ("synchronize", device.synchronize(stream)),
    ] {
        assert_eq!(refused.unwrap_err().status(), Status::Unsupported, "{what}");
    }
    let meanwhile = Buffer::new(&device, 1 << 20).unwrap();
    device.load(&class, &machine_code).unwrap();
    drop(meanwhile);
    // SAFETY: as above; the graph is used while the buffers live.
    unsafe {
        let graph = result::stream::end_capture(raw).unwrap();
        let mut executable = std::ptr::null_mut();
        sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0).result().unwrap();
        result::graph::launch(executable, raw).unwrap();
        result::stream::synchronize(raw).unwrap();
        result::graph::exec_destroy(executable).unwrap();
        result::graph::destroy(graph).unwrap();
        result::stream::destroy(raw).unwrap();
    }
    let mut copied = vec![0; bytes.len()];
    device.download(&mut copied, to.address(), Stream(0)).unwrap();
    assert_eq!(copied, bytes);
}
