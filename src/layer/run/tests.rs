//! How many launches a step is, and which kernels the next one finds.

use super::*;
use crate::device::{Buffer, Device, DeviceKind};
use crate::graph::{Attributes, library};
use crate::layer::kernels::broken::{Broken, CAPTURING, Fault};
use crate::layer::{Action, Command, LayerConfig, Settings};
use std::sync::Arc;

#[test]
fn a_step_of_training_is_one_launch_however_many_seeds_and_blueprints_train() {
    const STREAM: Stream = Stream(0);
    let (chunk, seeds, rows) = (6, 40, 3);
    let (hidden, parameter_type, settings) = (chunk * seeds as usize, DataType::F32, Settings::default());
    let counting = Broken::new(|_| Fault::None);
    let config = LayerConfig { hidden, seeds, device: DeviceKind::Cpu, parameter_type, settings };
    let mut layer = Layer::on(counting.clone(), config).unwrap();
    for name in ["residual", "bottleneck"] {
        layer.add_blueprint(library(name, chunk, &Attributes::new()).unwrap(), seeds).unwrap();
    }
    let all =
        |action| (0..seeds).map(move |seed| Command { blueprint: (seed % 2) as i32, ..Command::new(seed, action) });
    layer.submit(all(Action::Germinate).collect::<Vec<_>>()).unwrap();
    layer.end_epoch(STREAM).unwrap();
    layer.prepare(DataType::F32, false).unwrap();
    layer.submit(all(Action::StartTraining).collect::<Vec<_>>()).unwrap();
    layer.end_epoch(STREAM).unwrap();
    assert_eq!(layer.report().totals.training, seeds);

    let device: Arc<dyn Device> = counting.clone();
    let x = Buffer::new(&device, rows * hidden * 4).unwrap();
    device.upload(x.address(), &0.5f32.to_ne_bytes().repeat(rows * hidden), STREAM).unwrap();
    let x = Rows::spaced(x.address(), hidden);
    let before = counting.launches();
    layer.train(&Train { x, target: None, rows, data_type: DataType::F32, deterministic: false }, STREAM).unwrap();
    assert_eq!(counting.launches() - before, 1);
    layer.end_epoch(STREAM).unwrap();
    assert!(layer.report().seeds.iter().all(|seed| seed.metrics.loss.is_finite()), "and all of them trained");
}

#[test]
fn a_layer_that_only_observed_has_the_kernels_of_both_passes_when_a_seed_begins_to_graft() {
    const STREAM: Stream = Stream(0);
    let (hidden, rows, data_type) = (8, 3, DataType::F32);
    let counting = Broken::new(|_| Fault::None);
    let training = TrainingSettings { loss_threshold: 1e9, ..TrainingSettings::default() };
    let settings = Settings { training, ..Settings::default() };
    let config = LayerConfig { hidden, seeds: 2, device: DeviceKind::Cpu, parameter_type: data_type, settings };
    let mut layer = Layer::on(counting.clone(), config).unwrap();
    layer.add_blueprint(library("residual", 4, &Attributes::new()).unwrap(), 1).unwrap();

    let device: Arc<dyn Device> = counting.clone();
    let input = Buffer::new(&device, rows * hidden * 4).unwrap();
    device.upload(input.address(), &0.5f32.to_ne_bytes().repeat(rows * hidden), STREAM).unwrap();
    let gradients = Buffer::new(&device, layer.bank(0).unwrap().parameters.bytes()).unwrap();
    let x = Rows::spaced(input.address(), hidden);
    let output = Buffer::new(&device, rows * hidden * 4).unwrap();
    let y = Rows::spaced(output.address(), hidden);
    let observe = Observe { of: Pass::Forward, passing: x, rows, data_type, telemetry: None, deterministic: false };
    for action in [Action::Germinate, Action::StartTraining, Action::StartGrafting] {
        for _ in 0..2 {
            layer.observe(&observe, STREAM).unwrap();
            let before = counting.launches();
            layer.observe(&observe, STREAM).unwrap();
            layer.observe(&Observe { telemetry: Some(Address::NULL), ..observe }, STREAM).unwrap();
            assert_eq!(counting.launches() - before, 1, "without telemetry there is nothing to launch");
            let gradient = Observe { of: Pass::Backward, telemetry: Some(Address::NULL), ..observe };
            layer.observe(&gradient, STREAM).unwrap();
            layer.kernels.current().kernel(Kind::backward(data_type, false), CAPTURING).unwrap();
            let refused = layer.observe(&gradient, CAPTURING).unwrap_err();
            assert_eq!(refused.status(), crate::Status::NotReady, "{refused}");
            layer.train(&Train { x, target: None, rows, data_type, deterministic: false }, STREAM).unwrap();
            layer.wait_for_kernels().unwrap();
            layer.end_epoch(STREAM).unwrap();
        }
        layer.submit(&[Command { blueprint: 0, ..Command::new(0, action) }]).unwrap();
        layer.train(&Train { x, target: None, rows, data_type, deterministic: false }, STREAM).unwrap();
        assert_eq!(layer.end_epoch(STREAM).unwrap().refused, []);
    }
    assert!(layer.applies() && layer.observe(&observe, STREAM).is_err());
    let loads = counting.loads();
    let bank_gradients = &[gradients.address()];
    let (alpha, banks, telemetry, random, deterministic) = (None, None, None, None, false);
    let forward = Forward { x, y, rows, data_type, alpha, banks, telemetry, random, deterministic };
    layer.forward(&forward, CAPTURING).unwrap();
    let backward = Backward {
        x,
        output_gradient: x,
        input_gradient: y,
        rows,
        data_type,
        alpha,
        banks,
        bank_gradients,
        alpha_gradient: None,
        telemetry,
        random,
        deterministic,
    };
    layer.backward(&backward, CAPTURING).unwrap();
    assert_eq!(counting.loads(), loads);
}
