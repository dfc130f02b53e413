//! Calls of the hot path.

use super::host::{Host, Kind, call};
use super::structs::Structs;
use super::tensors::{Many, Optional, ROW_TYPES, Tensor, Use};
use crate::generator::Choices;
use kasmina::Status;
use kasmina::ffi::*;
use kasmina::graph::DataType;

/// What tensors must look like for a layer.
struct Fitting {
    layer: kasmina_layer,
    hidden: i64,
    seeds: i64,
    parameter_type: i32,
    banks: Vec<[i64; 2]>,
}

impl Fitting {
    fn new(host: &mut Host<'_>) -> Fitting {
        let layer = kasmina_layer { id: host.handle(Kind::Layer) };
        let mut info = kasmina_layer_info {
            struct_size: size_of::<kasmina_layer_info>(),
            hidden: 4,
            seeds: 1,
            ..kasmina_layer_info::default()
        };
        call!(host, kasmina_layer_get_info(layer, &raw mut info));
        let banks = (0..info.blueprint_count).map(|blueprint| bank(host, layer, blueprint)).collect();
        let [hidden, seeds] = [info.hidden, info.seeds].map(|size| size.min(4096) as i64);
        Fitting { layer, hidden, seeds, parameter_type: info.parameter_type, banks }
    }

    /// Rows of x: the dimensions before the channels.
    fn rows(&self, host: &mut Host<'_>) -> Vec<i64> {
        let rows: &[&[i64]] = &[&[1], &[3], &[2, 3], &[], &[0], &[40], &[2, 2, 3], &[1, 1, 1, 2], &[300], &[0, 2]];
        [host.choices.pick(rows), &[self.hidden]].concat()
    }
}

/// The shape of a bank, as the library says.
fn bank(host: &mut Host<'_>, layer: kasmina_layer, blueprint: u32) -> [i64; 2] {
    let mut memory = kasmina_memory { id: 0 };
    let mut tensor = Structs::new(&mut Choices::default(), &[EMPTY]);
    let place = tensor.pointer(&mut Choices::default());
    let status = call!(host, kasmina_layer_export_bank(layer, blueprint, 0, &raw mut memory, place));
    if status != Status::Ok {
        return [1, 1];
    }
    // SAFETY: the memory is held, so the tensor's pointers are valid.
    let shape = unsafe { [tensor.first().shape.read(), tensor.first().shape.add(1).read()] };
    assert_eq!(call!(host, kasmina_memory_release(memory)), Status::Ok);
    shape
}

/// A descriptor that the library is to write.
pub const EMPTY: kasmina_tensor = kasmina_tensor {
    struct_size: 0,
    data: std::ptr::null_mut(),
    data_type: 0,
    device_type: 0,
    device_index: 0,
    rank: 0,
    shape: std::ptr::null(),
    strides: std::ptr::null(),
};

fn flags(host: &mut Host<'_>) -> u32 {
    host.choices.pick(&[0, 0, 0, 0, 1, 1, 4, 5, 2, 1 << 31])
}

fn reserved(host: &mut Host<'_>) -> u32 {
    u32::from(host.choices.once_in(32))
}

/// Whether the next tensors are instead of the layer's own.
fn others(host: &mut Host<'_>) -> bool {
    host.choices.below(4) == 1
}

pub fn forward(host: &mut Host<'_>) {
    let layer = Fitting::new(host);
    let (rows, data_type) = (layer.rows(host), host.choices.pick(ROW_TYPES));
    let mut x = Tensor::new(host, &rows, data_type, Use::Read);
    let mut y = Tensor::new(host, &rows, data_type, Use::Written);
    let mut alpha = Optional::new(host, &[layer.seeds], DataType::F32 as i32, Use::Read);
    let banks = match others(host) {
        true => Many::new(host, &layer.banks, layer.parameter_type, Use::Read),
        false => Many::none(),
    };
    let mut telemetry = Optional::new(host, &[layer.seeds, 10], DataType::F64 as i32, Use::Written);
    let mut random = Optional::new(host, &[1], DataType::I64 as i32, Use::Read);
    let forward = kasmina_forward {
        struct_size: 0,
        x: x.pointer(host),
        y: y.pointer(host),
        alpha: alpha.pointer(host),
        banks: banks.pointer(),
        bank_count: banks.count(),
        telemetry: telemetry.pointer(host),
        flags: flags(host),
        reserved: reserved(host),
        random: random.pointer(host),
    };
    let mut forward = Structs::new(&mut host.choices, &[forward]);
    let (forward, stream) = (forward.pointer(&mut host.choices), host.stream());
    call!(host, kasmina_layer_forward(layer.layer, forward, stream));
}

pub fn backward(host: &mut Host<'_>) {
    let layer = Fitting::new(host);
    let (rows, data_type) = (layer.rows(host), host.choices.pick(ROW_TYPES));
    let mut x = Tensor::new(host, &rows, data_type, Use::Read);
    let mut output_gradient = Tensor::new(host, &rows, data_type, Use::Read);
    let mut input_gradient = Tensor::new(host, &rows, data_type, Use::Written);
    let mut alpha = Optional::new(host, &[layer.seeds], DataType::F32 as i32, Use::Read);
    let banks = match others(host) {
        true => Many::new(host, &layer.banks, layer.parameter_type, Use::Read),
        false => Many::none(),
    };
    let bank_gradients = Many::new(host, &layer.banks, layer.parameter_type, Use::Written);
    let mut alpha_gradient = Optional::new(host, &[layer.seeds], DataType::F32 as i32, Use::Written);
    let mut telemetry = Optional::new(host, &[layer.seeds, 10], DataType::F64 as i32, Use::Written);
    let mut random = Optional::new(host, &[1], DataType::I64 as i32, Use::Read);
    let backward = kasmina_backward {
        struct_size: 0,
        x: x.pointer(host),
        output_gradient: output_gradient.pointer(host),
        input_gradient: input_gradient.pointer(host),
        alpha: alpha.pointer(host),
        banks: banks.pointer(),
        bank_count: banks.count(),
        bank_gradients: bank_gradients.pointer(),
        bank_gradient_count: bank_gradients.count(),
        alpha_gradient: alpha_gradient.pointer(host),
        telemetry: telemetry.pointer(host),
        flags: flags(host),
        reserved: reserved(host),
        random: random.pointer(host),
    };
    let mut backward = Structs::new(&mut host.choices, &[backward]);
    let (backward, stream) = (backward.pointer(&mut host.choices), host.stream());
    call!(host, kasmina_layer_backward(layer.layer, backward, stream));
}

pub fn train(host: &mut Host<'_>) {
    let layer = Fitting::new(host);
    let (rows, data_type) = (layer.rows(host), host.choices.pick(ROW_TYPES));
    let mut x = Tensor::new(host, &rows, data_type, Use::Read);
    let mut target = Optional::new(host, &rows, data_type, Use::Read);
    let train = kasmina_train {
        struct_size: 0,
        x: x.pointer(host),
        target: target.pointer(host),
        flags: reserved(host),
        reserved: reserved(host),
    };
    let mut train = Structs::new(&mut host.choices, &[train]);
    let (train, stream) = (train.pointer(&mut host.choices), host.stream());
    call!(host, kasmina_layer_train(layer.layer, train, stream));
}

pub fn adamw(host: &mut Host<'_>) {
    let layer = Fitting::new(host);
    let blueprint = host.choices.pick(&[0, 0, 1, 2, u32::MAX]);
    let shape = layer.banks.get(blueprint as usize).copied().unwrap_or([1, 1]);
    let mut parameters = Optional::new(host, &shape, layer.parameter_type, Use::Written);
    let mut gradient = Tensor::new(host, &shape, layer.parameter_type, Use::Read);
    let mut rate = |usual: f64| {
        let odd = [0.0, 1.0, -1.0, f64::NAN, f64::INFINITY, 1e300, 1e-320, 0.999_999_999];
        if host.choices.once_in(12) { host.choices.pick(&odd) } else { usual }
    };
    let [learning_rate, beta1, beta2, epsilon, weight_decay] = [1e-3, 0.9, 0.999, 1e-8, 0.01].map(&mut rate);
    let adamw = kasmina_adamw {
        struct_size: 0,
        blueprint,
        flags: reserved(host),
        parameters: parameters.pointer(host),
        gradient: gradient.pointer(host),
        learning_rate,
        beta1,
        beta2,
        epsilon,
        weight_decay,
    };
    let mut adamw = Structs::new(&mut host.choices, &[adamw]);
    let (adamw, stream) = (adamw.pointer(&mut host.choices), host.stream());
    call!(host, kasmina_layer_adamw(layer.layer, adamw, stream));
}
