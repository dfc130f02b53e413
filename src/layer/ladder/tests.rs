//! Layers on a device of which some kernels fail. Each test has chunks of its own width, because what was refused once is
//! refused in the whole process.

use super::*;
use crate::compile::{Architecture, Pass, kernel_class, pipeline};
use crate::device::{Address, Buffer, DeviceKind, Rows, Stream};
use crate::error;
use crate::graph::{Attributes, DataType, library};
use crate::layer::kernels::broken::{Broken, Fault};
use crate::layer::{
    Action, Command, EpochSummary, Forward, KernelState, Layer, LayerConfig, Lifecycle, Settings, Train,
    TrainingSettings,
};
use std::time::Duration;

const STREAM: Stream = Stream(0);
const ROWS: usize = 3;

/// A layer of three seeds that knows `residual`, `attention` and `mlp`.
fn layer(chunk: usize, device: &Arc<Broken>) -> Layer {
    let training = TrainingSettings { loss_threshold: 1e9, ..TrainingSettings::default() };
    let settings = Settings { training, ..Settings::default() };
    let config =
        LayerConfig { hidden: 3 * chunk, seeds: 3, device: DeviceKind::Cpu, parameter_type: DataType::F32, settings };
    let mut layer = Layer::on(device.clone(), config).unwrap();
    for name in ["residual", "attention", "mlp"] {
        layer.add_blueprint(library(name, chunk, &Attributes::new()).unwrap(), 3).unwrap();
    }
    layer
}

fn germinate(seed: u32, blueprint: i32) -> Command {
    Command { blueprint, ..Command::new(seed, Action::Germinate) }
}

/// One epoch of one step.
fn epoch(layer: &mut Layer) -> EpochSummary {
    let hidden = layer.config().hidden;
    let device: Arc<dyn Device> = crate::device::cpu::device();
    let [x, y] = [0, 1].map(|_| Buffer::new(&device, ROWS * hidden * 4).unwrap());
    device.upload(x.address(), &1.5f32.to_ne_bytes().repeat(ROWS * hidden), STREAM).unwrap();
    let rows = |buffer: &Buffer| Rows::spaced(buffer.address(), hidden);
    let forward = Forward {
        x: rows(&x),
        y: rows(&y),
        rows: ROWS,
        data_type: DataType::F32,
        alpha: None,
        banks: None,
        telemetry: Some(Address::NULL),
        random: None,
        deterministic: true,
    };
    layer.forward(&forward, STREAM).unwrap();
    layer
        .train(&Train { x: rows(&x), target: None, rows: ROWS, data_type: DataType::F32, deterministic: false }, STREAM)
        .unwrap();
    layer.end_epoch(STREAM).unwrap()
}

/// Asks for the training of a seed in each epoch until it begins or cannot; what refuses it then.
fn start_training(layer: &mut Layer, seed: u32) -> Option<Error> {
    for _ in 0..1000 {
        let refusal = layer.submit(&[Command::new(seed, Action::StartTraining)]).err();
        epoch(layer);
        if state(layer, seed) == Lifecycle::Training {
            return None;
        }
        if let Some(refusal) = refusal
            && !refusal.to_string().contains("still being compiled")
        {
            return Some(refusal);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("seed {seed} waited for a thousand epochs");
}

fn state(layer: &Layer, seed: u32) -> Lifecycle {
    layer.report().seeds[seed as usize].state
}

/// Whether a class has the program of `attention`, alone of the three with an exponential.
fn has_attention(class: &KernelClass) -> bool {
    format!("{:?}", class.programs).contains("Exp")
}

/// The schedules of the forward kernels that run, and why not a better one.
fn running(layer: &Layer) -> (Schedule, Option<String>) {
    let kernels = layer.report().kernels;
    let kernel = kernels.into_iter().find(|kernel| kernel.runs && kernel.pass == Pass::Forward).unwrap();
    assert_eq!(kernel.state, KernelState::Ready);
    (kernel.schedule.unwrap(), kernel.reason)
}

#[test]
fn where_the_best_kernel_computes_something_else_the_generic_one_runs() {
    let device = Broken::new(|class| match class.schedule {
        Schedule::Best if !class.programs.is_empty() => Fault::Wrong(0),
        _ => Fault::None,
    });
    let mut layer = layer(9, &device);
    let before = ladder_statistics();
    layer.submit(&[germinate(0, 0)]).unwrap();
    epoch(&mut layer);
    assert!(start_training(&mut layer, 0).is_none());
    let (schedule, reason) = running(&layer);
    assert_eq!(schedule, Schedule::Generic);
    assert!(reason.unwrap().contains("channel 0 of the output of seed 1 (GRAFTING)"));
    assert!(ladder_statistics().stepped_down >= before.stepped_down + 2, "forward and training");
    assert!(layer.report().seeds[0].ready);
}

#[test]
fn where_the_best_kernel_cannot_be_loaded_the_generic_one_runs_also_at_first_use() {
    let device = Broken::new(|class| match class.schedule {
        Schedule::Best => Fault::Unloadable,
        _ => Fault::None,
    });
    let mut layer = layer(10, &device);
    epoch(&mut layer);
    let (schedule, reason) = running(&layer);
    assert_eq!((schedule, reason.as_deref()), (Schedule::Generic, Some("no room for it")));
    let loads = device.loads();
    epoch(&mut layer);
    assert_eq!(device.loads(), loads, "what serves is not tried again");
}

#[test]
fn where_the_best_kernel_cannot_be_compiled_the_generic_one_runs() {
    let mut layer = layer(11, &Broken::new(|_| Fault::None));
    let residual = library("residual", 11, &Attributes::new()).unwrap();
    for pass in [Pass::Forward, Pass::Train] {
        let class = kernel_class(pass, DataType::F32, false, &[&residual]).unwrap();
        let key = pipeline().compile(class, Architecture::Cpu).unwrap().key.clone();
        pipeline().withdraw(&key, &error!(CompileFailed, "line 1"));
    }
    layer.submit(&[germinate(0, 0)]).unwrap();
    epoch(&mut layer);
    assert!(start_training(&mut layer, 0).is_none());
    assert_eq!(running(&layer), (Schedule::Generic, Some("line 1".to_string())));
}

#[test]
fn a_blueprint_that_no_schedule_serves_stays_germinated_with_the_reason_and_the_others_go_on() {
    let device = Broken::new(|class| match has_attention(class) {
        true => Fault::Unloadable,
        false => Fault::None,
    });
    let mut layer = layer(12, &device);
    let before = ladder_statistics();
    layer.submit(&[germinate(0, 0), germinate(1, 1), germinate(2, 2)]).unwrap();
    epoch(&mut layer);
    assert!(start_training(&mut layer, 0).is_none());
    assert!(start_training(&mut layer, 2).is_none());
    let refusal = start_training(&mut layer, 1).unwrap().to_string();
    assert!(refusal.contains("its kernel is not ready") && refusal.contains("no room for it"), "{refusal}");
    assert!(refusal.contains("attention"), "{refusal}");
    assert_eq!(state(&layer, 1), Lifecycle::Germinated);

    let report = layer.report();
    let failed: Vec<_> = report.kernels.iter().filter(|kernel| kernel.state == KernelState::Failed).collect();
    assert!(!failed.is_empty() && failed.iter().all(|kernel| kernel.blueprints.contains(&1) && !kernel.runs));
    assert!(failed.iter().all(|kernel| kernel.reason.as_deref() == Some("no room for it")));
    let runs: Vec<_> = report.kernels.iter().filter(|kernel| kernel.runs).collect();
    assert!(runs.iter().all(|kernel| kernel.blueprints == [0, 2] && kernel.schedule == Some(Schedule::Best)));
    let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    let listed = json["kernels"].as_array().unwrap();
    assert!(listed.iter().any(|kernel| kernel["state"] == "failed" && kernel["reason"] == "no room for it"));
    assert!(ladder_statistics().given_up > before.given_up);

    let loads = device.loads();
    for _ in 0..5 {
        epoch(&mut layer);
        assert!(layer.submit(&[Command::new(1, Action::StartTraining)]).is_err());
    }
    assert_eq!(device.loads(), loads, "what failed is not tried again");

    // Its seed can be given up, and then nothing is in the way.
    layer.submit(&[Command::new(1, Action::Cancel)]).unwrap();
    epoch(&mut layer);
    assert!(layer.report().kernels.iter().all(|kernel| kernel.state != KernelState::Failed));
}

#[test]
fn the_one_to_blame_is_told_so_while_others_still_wait_for_a_place() {
    let device = Broken::new(|class| match has_attention(class) {
        true => Fault::Unloadable,
        false => Fault::None,
    });
    let mut layer = layer(16, &device);
    layer.submit(&[germinate(0, 0), germinate(1, 1), germinate(2, 2)]).unwrap();
    epoch(&mut layer);
    let refusal = start_training(&mut layer, 1).unwrap().to_string();
    assert!(refusal.contains("[attention]") && refusal.contains("no room for it"), "{refusal}");
    assert_eq!([0, 2].map(|seed| state(&layer, seed)), [Lifecycle::Germinated; 2]);
    // Both at once, in one batch.
    for _ in 0..1000 {
        if layer.submit(&[0, 2].map(|seed| Command::new(seed, Action::StartTraining))).is_ok() {
            break;
        }
        epoch(&mut layer);
        std::thread::sleep(Duration::from_millis(5));
    }
    epoch(&mut layer);
    assert_eq!([0, 2].map(|seed| state(&layer, seed)), [Lifecycle::Training; 2]);
    assert!(layer.report().seeds[2].ready);
}

#[test]
fn blueprints_that_are_too_much_together_take_turns() {
    let device = Broken::new(|class| match class.programs.len() {
        0 | 1 => Fault::None,
        _ => Fault::Unloadable,
    });
    let mut layer = layer(13, &device);
    layer.submit(&[germinate(0, 0), germinate(1, 1)]).unwrap();
    epoch(&mut layer);
    assert!(start_training(&mut layer, 0).is_none());
    let refusal = start_training(&mut layer, 1).unwrap().to_string();
    assert!(refusal.contains("[residual, attention]") && refusal.contains("no room for it"), "{refusal}");
    layer.submit(&[Command::new(0, Action::Cancel)]).unwrap();
    epoch(&mut layer);
    assert!(start_training(&mut layer, 1).is_none());
    assert_eq!(state(&layer, 1), Lifecycle::Training);
}

#[test]
fn a_refused_kernel_is_not_compiled_again_for_another_layer() {
    let device = Broken::new(|class| if class.programs.is_empty() { Fault::None } else { Fault::Wrong(0) });
    for round in 0..2 {
        let mut layer = layer(14, &device);
        layer.submit(&[germinate(0, 2)]).unwrap();
        epoch(&mut layer);
        let loads = device.loads();
        let refusal = start_training(&mut layer, 0).unwrap();
        assert!(refusal.to_string().contains("the kernel computes"), "{refusal}");
        if round == 1 {
            assert_eq!(device.loads(), loads, "it was offered again");
        }
    }
}

#[test]
fn what_is_missing_around_a_kernel_is_no_reason_to_give_it_up() {
    let residual = library("residual", 15, &Attributes::new()).unwrap();
    let class = kernel_class(Pass::Forward, DataType::F32, false, &[&residual]).unwrap();
    let device: Arc<dyn Device> = Broken::new(|_| Fault::None);
    for (error, passes) in [
        (error!(CompilerUnavailable, "no NVRTC"), true),
        (error!(OutOfMemory, "no memory"), true),
        (error!(DeviceFailed, "it cannot be loaded"), false),
    ] {
        let attempt = Attempt::new(class.clone(), &device);
        let next = attempt.step_down(error, "kernel", &device);
        assert_eq!(matches!(next, Err(Failure::Passing(_))), passes);
        assert_eq!(next.is_ok_and(|next| next.schedule() == Schedule::Generic), !passes);
    }
}
