//! A layer with tensors around it: what a trainer would have.

use kasmina::compile::Pass;
use kasmina::device::{self, Buffer, Device, DeviceKind, Rows, Stream};
use kasmina::graph::{Attributes, Blueprint, DataType, library};
use kasmina::layer::{
    Action, Backward, Command, EpochSummary, Evidence, Forward, GateSettings, Layer, LayerConfig, Lifecycle, Observe,
    Settings, Train, TrainingSettings,
};
use std::sync::Arc;
use std::time::Duration;

pub const STREAM: Stream = Stream(0);

/// The device under test.
pub fn device_kind() -> DeviceKind {
    match std::env::var("KASMINA_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => DeviceKind::Cpu,
        Ok(ordinal) => DeviceKind::Cuda(ordinal.parse().expect("KASMINA_TEST_DEVICE is `cpu` or an ordinal")),
    }
}

/// A row tensor of f32 on the device.
pub struct Tensor {
    buffer: Buffer,
    hidden: usize,
    rows: usize,
}

impl Tensor {
    pub fn new(rows: usize, hidden: usize, elements: &[f32]) -> Tensor {
        assert_eq!(elements.len(), rows * hidden);
        let buffer = Buffer::new(&device::open(device_kind()).unwrap(), elements.len() * 4).unwrap();
        let tensor = Tensor { buffer, hidden, rows };
        write(&tensor.buffer, elements);
        tensor
    }

    pub fn rows(&self) -> Rows {
        Rows::spaced(self.buffer.address(), self.hidden)
    }

    pub fn read(&self) -> Vec<f32> {
        read(&self.buffer)
    }

    pub fn count(&self) -> usize {
        self.rows
    }
}

/// The elements of device memory.
pub fn read<T: bytemuck::Pod>(buffer: &Buffer) -> Vec<T> {
    let mut elements = vec![T::zeroed(); buffer.bytes() / size_of::<T>()];
    buffer.device().download(bytemuck::cast_slice_mut(&mut elements), buffer.address(), STREAM).unwrap();
    elements
}

/// Overwrites the beginning of device memory.
pub fn write<T: bytemuck::Pod>(buffer: &Buffer, elements: &[T]) {
    buffer.device().upload(buffer.address(), bytemuck::cast_slice(elements), STREAM).unwrap();
}

/// Numbers without a pattern, between -2 and 2, the same in every run.
pub fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 22) as f32 - 2.0
    };
    (0..count).map(|_| next()).collect()
}

/// Settings with which a seed gets through every gate quickly.
pub fn easy() -> Settings {
    Settings {
        ramp_steps: 2,
        embargo_epochs: 2,
        gates: GateSettings { statistics_change: 1e9, ..GateSettings::default() },
        training: TrainingSettings { loss_threshold: 1e9, ..TrainingSettings::default() },
        ..Settings::default()
    }
}

/// Evidence with which a seed gets through every gate.
pub fn good() -> Evidence {
    Evidence { validation_delta: 0.1, stability: 1.0, improvement: 0.1, error_rate: 0.0 }
}

/// A command with good evidence.
pub fn command(seed: u32, action: Action) -> Command {
    Command { evidence: good(), ..Command::new(seed, action) }
}

/// A layer, and a batch of rows that it sees in every epoch.
pub struct Bench {
    pub layer: Layer,
    pub x: Tensor,
    pub output_gradient: Tensor,
}

impl Bench {
    /// A layer of `seeds` seeds, with one bank for each of these blueprints.
    pub fn new(hidden: usize, seeds: u32, settings: Settings, blueprints: &[(&str, u32)]) -> Bench {
        let config = LayerConfig { hidden, seeds, device: device_kind(), parameter_type: DataType::F32, settings };
        let mut layer = Layer::new(config).unwrap();
        for (name, capacity) in blueprints {
            layer.add_blueprint(library(name, layer.chunk(), &Attributes::new()).unwrap(), *capacity).unwrap();
        }
        Bench::around(layer)
    }

    /// The same around a layer that is there already.
    pub fn around(layer: Layer) -> Bench {
        let (rows, hidden) = (5, layer.config().hidden);
        let x = Tensor::new(rows, hidden, &noise(rows * hidden, 1));
        let output_gradient = Tensor::new(rows, hidden, &noise(rows * hidden, 2));
        Bench { layer, x, output_gradient }
    }

    /// One seed that has the blueprint `x + 0.5`, in this state.
    pub fn in_state(state: Lifecycle) -> Bench {
        let mut bench = Bench::new(8, 2, easy(), &[("residual", 2)]);
        bench.bring(0, state);
        bench.set_residual(0.5);
        bench
    }

    /// Makes every slot of the residual blueprint of bank 0 the function `x + shift`.
    pub fn set_residual(&self, shift: f32) {
        let bank = self.layer.bank(0).unwrap();
        let slot: Vec<f32> = (0..bank.size).map(|index| if index + 1 == bank.size { 1.0 } else { shift }).collect();
        write(&bank.parameters, &slot.repeat(bank.capacity));
    }

    pub fn device(&self) -> Arc<dyn Device> {
        device::open(device_kind()).unwrap()
    }

    /// The output for the batch, not observed.
    pub fn forward(&self) -> Vec<f32> {
        self.forward_observed(Some(device::Address::NULL))
    }

    pub fn forward_observed(&self, telemetry: Option<device::Address>) -> Vec<f32> {
        let hidden = self.layer.config().hidden;
        let y = Tensor::new(self.x.count(), hidden, &vec![f32::NAN; self.x.count() * hidden]);
        let forward = Forward {
            x: self.x.rows(),
            y: y.rows(),
            rows: self.x.count(),
            data_type: DataType::F32,
            alpha: None,
            banks: None,
            telemetry,
            random: None,
            deterministic: true,
        };
        self.layer.forward(&forward, STREAM).unwrap();
        y.read()
    }

    /// Looks at the batch, and computes nothing from it.
    pub fn observe(&self, telemetry: Option<device::Address>) -> kasmina::Result<()> {
        self.observe_passing(Pass::Forward, &self.x, telemetry)
    }

    /// Looks at the gradient of the output, and computes nothing from it.
    pub fn observe_gradient(&self) -> kasmina::Result<()> {
        self.observe_passing(Pass::Backward, &self.output_gradient, None)
    }

    fn observe_passing(&self, of: Pass, passing: &Tensor, telemetry: Option<device::Address>) -> kasmina::Result<()> {
        let (passing, rows, data_type) = (passing.rows(), passing.count(), DataType::F32);
        self.layer.observe(&Observe { of, passing, rows, data_type, telemetry, deterministic: true }, STREAM)
    }

    /// Gradient of the input and of each bank, not observed.
    pub fn backward(&self) -> (Vec<f32>, Vec<Vec<f32>>) {
        let hidden = self.layer.config().hidden;
        let input_gradient = Tensor::new(self.x.count(), hidden, &vec![f32::NAN; self.x.count() * hidden]);
        let bank_gradients = self.bank_gradients();
        let addresses: Vec<_> = bank_gradients.iter().map(Buffer::address).collect();
        let backward = Backward {
            x: self.x.rows(),
            output_gradient: self.output_gradient.rows(),
            input_gradient: input_gradient.rows(),
            rows: self.x.count(),
            data_type: DataType::F32,
            alpha: None,
            banks: None,
            bank_gradients: &addresses,
            alpha_gradient: None,
            telemetry: Some(device::Address::NULL),
            random: None,
            deterministic: true,
        };
        self.layer.backward(&backward, STREAM).unwrap();
        (input_gradient.read(), bank_gradients.iter().map(read).collect())
    }

    /// Zeroed memory for the gradient of each bank.
    pub fn bank_gradients(&self) -> Vec<Buffer> {
        (0..self.layer.blueprint_count())
            .map(|index| Buffer::new(&self.device(), self.layer.bank(index).unwrap().parameters.bytes()).unwrap())
            .collect()
    }

    /// One step of isolated training on the batch.
    pub fn train(&self) {
        let train = Train {
            x: self.x.rows(),
            target: None,
            rows: self.x.count(),
            data_type: DataType::F32,
            deterministic: false,
        };
        self.layer.train(&train, STREAM).unwrap();
    }

    /// One epoch of one observed step.
    pub fn epoch(&mut self) -> EpochSummary {
        self.forward_observed(None);
        self.train();
        self.layer.end_epoch(STREAM).unwrap()
    }

    /// Submits a batch that must be accepted, once the kernels it needs are compiled, and ends the epoch.
    pub fn apply(&mut self, commands: &[Command]) -> EpochSummary {
        self.submit(commands);
        let summary = self.epoch();
        assert_eq!(summary.refused, [], "{commands:?}");
        summary
    }

    /// Submits a batch that must be accepted; waits while kernels are being compiled.
    pub fn submit(&mut self, commands: &[Command]) {
        for _ in 0..2000 {
            match self.layer.submit(commands) {
                Ok(()) => return,
                Err(error) if error.to_string().contains("still being compiled") => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("{commands:?}: {error}"),
            }
        }
        panic!("the kernels were not compiled in ten seconds");
    }

    /// What refuses a batch.
    pub fn refusal(&mut self, commands: &[Command]) -> kasmina::Error {
        self.layer.submit(commands).expect_err("the batch should have been refused")
    }

    /// Brings a dormant seed into a state by commands, with blueprint 0.
    pub fn bring(&mut self, seed: u32, state: Lifecycle) {
        use Action::*;
        let path: &[Action] = match state {
            Lifecycle::Dormant => &[],
            Lifecycle::Germinated => &[Germinate],
            Lifecycle::Training => &[Germinate, StartTraining],
            Lifecycle::Grafting => &[Germinate, StartTraining, StartGrafting],
            Lifecycle::Stabilization => &[Germinate, StartTraining, StartGrafting, Stabilise],
            Lifecycle::Evaluating => &[Germinate, StartTraining, StartGrafting, Stabilise, Evaluate],
            Lifecycle::FineTuning => &[Germinate, StartTraining, StartGrafting, Stabilise, Evaluate, FineTune],
            Lifecycle::Fossilized => {
                &[Germinate, StartTraining, StartGrafting, Stabilise, Evaluate, FineTune, Fossilise]
            }
            Lifecycle::Culled => &[Germinate, StartTraining, Cull],
            Lifecycle::Cancelled => &[Germinate, Cancel],
            Lifecycle::RolledBack => &[Germinate, StartTraining, StartGrafting, RollBack],
        };
        for action in path {
            // Two epochs in each state: a gate judges an epoch that has ended.
            self.epoch();
            self.apply(&[command(seed, *action)]);
        }
        if state == Lifecycle::Grafting {
            self.epoch();
        }
        assert_eq!(self.state(seed), state);
    }

    pub fn state(&self, seed: u32) -> Lifecycle {
        Lifecycle::from_number(self.layer.state()[seed as usize][0] as i8).unwrap()
    }

    pub fn alpha(&self, seed: u32) -> f32 {
        self.layer.report().seeds[seed as usize].alpha
    }
}

/// A blueprint from its JSON.
pub fn blueprint(json: serde_json::Value) -> Blueprint {
    Blueprint::from_json(json.to_string().as_bytes()).unwrap()
}

/// ln(x): not a number for half of the batch.
pub fn logarithm(chunk: usize) -> Blueprint {
    blueprint(serde_json::json!({
        "ir_version": 1, "name": "logarithm", "chunk": chunk, "output": "y",
        "parameters": [{"name": "s", "shape": []}],
        "nodes": [
            {"name": "l", "op": "log", "inputs": ["x"]},
            {"name": "y", "op": "add", "inputs": ["l", "s"]},
        ],
    }))
}
