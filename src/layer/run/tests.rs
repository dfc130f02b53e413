//! How many launches a step is.

use super::*;
use crate::device::{Buffer, Device, DeviceKind};
use crate::graph::{Attributes, library};
use crate::layer::kernels::broken::{Broken, Fault};
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
    layer.train(&Train { x, target: None, rows, data_type: DataType::F32 }, STREAM).unwrap();
    assert_eq!(counting.launches() - before, 1);
    layer.end_epoch(STREAM).unwrap();
    assert!(layer.report().seeds.iter().all(|seed| seed.metrics.loss.is_finite()), "and all of them trained");
}
