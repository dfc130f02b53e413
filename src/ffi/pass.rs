//! The hot path: forward, backward, isolated training and the masked AdamW step.

use super::arguments::{Addresses, RowTensor, bank, per_seed, random, telemetry};
use super::boundary::call;
use super::convert::{self, Growing};
use super::error::kasmina_error;
use super::layer::LAYERS;
use super::{kasmina_layer, kasmina_tensor};
use crate::compile::Pass;
use crate::graph::DataType;
use crate::layer::{AdamwStep, Backward, Forward, Observe, Train};
use crate::{Status, fail};
use std::ffi::c_void;

/// Flag: two calls on the same inputs give the same bits.
pub const KASMINA_DETERMINISTIC: u32 = 1;
/// Flag of kasmina_layer_prepare: the gradient of alpha will be asked for.
pub const KASMINA_ALPHA_GRADIENT: u32 = 2;
/// Flag: nothing is added to telemetry.
pub const KASMINA_NO_TELEMETRY: u32 = 4;

/// Arguments of kasmina_layer_forward.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kasmina_forward {
    /// sizeof(kasmina_forward)
    pub struct_size: usize,
    /// `[..., hidden]` f32, f16, bf16 or f64, with any strides, but the rows (all dimensions before the last) need no more
    /// than two. A tensor `[N, channels, height, width]` is given as `[N, height, width, channels]` with its own strides.
    /// Fast if the channels of a row, or the rows of a channel, are adjacent.
    pub x: *const kasmina_tensor,
    /// Of x's type and as many rows, but with any strides of its own; written. Its elements must not overlap each other
    /// or x. Or it is x itself, with the same data and strides: then only chunks of seeds that apply a blueprint are
    /// written, and a backward pass needs a copy of what x was. Or it is NULL: then x is observed and nothing else is
    /// read or written, which is allowed only while no seed applies a blueprint (`applies` of kasmina_layer_info), when
    /// y would be x.
    pub y: *const kasmina_tensor,
    /// `[seeds]` f32 instead of the layer's own alphas, or NULL.
    pub alpha: *const kasmina_tensor,
    /// One dense `[capacity, size]` tensor of the parameter type per blueprint instead of the layer's own, or NULL.
    pub banks: *const *const kasmina_tensor,
    /// How many banks are given.
    pub bank_count: usize,
    /// `[seeds, 10]` f64 to add telemetry to instead of the layer's own, or NULL.
    pub telemetry: *const kasmina_tensor,
    /// KASMINA_DETERMINISTIC, KASMINA_NO_TELEMETRY, both or 0.
    pub flags: u32,
    /// Must be 0.
    pub reserved: u32,
    /// `[1]` i64: what blueprints draw at random follows from it alone; give a training forward pass and its backward pass the
    /// same one. It is read when the work runs, so a captured graph draws anew when it changes. NULL in evaluation: then
    /// dropout is not active.
    pub random: *const kasmina_tensor,
}

// SAFETY: repr(C), starts with struct_size, and has only integers and raw pointers.
unsafe impl Growing for kasmina_forward {
    const NAME: &'static str = "kasmina_forward";
    const SMALLEST: usize = 64;
}

/// Arguments of kasmina_layer_backward.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kasmina_backward {
    /// sizeof(kasmina_backward)
    pub struct_size: usize,
    /// The x of the forward call; not read without input_gradient.
    pub x: *const kasmina_tensor,
    /// Gradient of the loss with respect to y; of x's type and as many rows.
    pub output_gradient: *const kasmina_tensor,
    /// Gradient with respect to x; of its type and as many rows; written. Its elements must not overlap each other or the
    /// other tensors. Or it is NULL: then output_gradient is observed and nothing else is read or written, which is allowed
    /// only while no seed applies a blueprint, when it would be output_gradient, and refused (KASMINA_STATUS_NOT_READY) while
    /// the stream records a graph.
    pub input_gradient: *const kasmina_tensor,
    /// As in kasmina_forward.
    pub alpha: *const kasmina_tensor,
    /// As in kasmina_forward.
    pub banks: *const *const kasmina_tensor,
    /// How many banks are given.
    pub bank_count: usize,
    /// One dense `[capacity, size]` tensor of the parameter type per blueprint, added to. NULL if there are no
    /// blueprints.
    pub bank_gradients: *const *const kasmina_tensor,
    /// How many bank gradients are given: as many as there are blueprints.
    pub bank_gradient_count: usize,
    /// `[seeds]` f32, added to, or NULL.
    pub alpha_gradient: *const kasmina_tensor,
    /// As in kasmina_forward.
    pub telemetry: *const kasmina_tensor,
    /// KASMINA_DETERMINISTIC, KASMINA_NO_TELEMETRY, both or 0.
    pub flags: u32,
    /// Must be 0.
    pub reserved: u32,
    /// As in kasmina_forward.
    pub random: *const kasmina_tensor,
}

// SAFETY: repr(C), starts with struct_size, and has only integers and raw pointers.
unsafe impl Growing for kasmina_backward {
    const NAME: &'static str = "kasmina_backward";
    const SMALLEST: usize = 96;
}

/// Arguments of kasmina_layer_train.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kasmina_train {
    /// sizeof(kasmina_train)
    pub struct_size: usize,
    /// As in kasmina_forward.
    pub x: *const kasmina_tensor,
    /// What blueprints learn to compute from x; of its type and as many rows. NULL means x itself.
    pub target: *const kasmina_tensor,
    /// KASMINA_DETERMINISTIC or 0.
    pub flags: u32,
    /// Must be 0.
    pub reserved: u32,
}

// SAFETY: repr(C), starts with struct_size, and has only integers and raw pointers.
unsafe impl Growing for kasmina_train {
    const NAME: &'static str = "kasmina_train";
    const SMALLEST: usize = 32;
}

/// Arguments of kasmina_layer_adamw; as in torch.optim.AdamW.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kasmina_adamw {
    /// sizeof(kasmina_adamw)
    pub struct_size: usize,
    /// Index of the blueprint whose bank is updated.
    pub blueprint: u32,
    /// Must be 0.
    pub flags: u32,
    /// `[capacity, size]` instead of the bank's own parameters, or NULL; written.
    pub parameters: *const kasmina_tensor,
    /// `[capacity, size]`.
    pub gradient: *const kasmina_tensor,
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

// SAFETY: repr(C), starts with struct_size, and has only numbers and raw pointers.
unsafe impl Growing for kasmina_adamw {
    const NAME: &'static str = "kasmina_adamw";
    const SMALLEST: usize = 72;
}

/// Runs all seeds of the layer on x and writes y; without y, observes x. On a CUDA device the work is enqueued on `stream`
/// (a cudaStream_t; NULL is the default stream) and the call does not wait.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_forward(
    layer: kasmina_layer,
    forward: *const kasmina_forward,
    stream: *mut c_void,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_forward", error, || {
        // SAFETY: the caller promises a struct of the size that its struct_size says.
        let given = unsafe { convert::read(forward) }?;
        let flags = convert::flags(given.flags, KASMINA_DETERMINISTIC | KASMINA_NO_TELEMETRY)?;
        convert::flags(given.reserved, 0)?;
        LAYERS.read(layer.id, |layer| {
            let x = RowTensor::read(layer, given.x, "x")?;
            let telemetry = telemetry(layer, given.telemetry, flags)?;
            let deterministic = flags & KASMINA_DETERMINISTIC != 0;
            if given.y.is_null() {
                let RowTensor { rows: x, count: rows, data_type } = x;
                let observe = Observe { of: Pass::Forward, passing: x, rows, data_type, telemetry, deterministic };
                return layer.observe(&observe, convert::stream(stream));
            }
            let y = RowTensor::read_like(layer, given.y, "y", &x)?;
            let banks = Addresses::read(layer, given.banks, given.bank_count, "banks")?;
            let forward = Forward {
                x: x.rows,
                y: y.rows,
                rows: x.count,
                data_type: x.data_type,
                alpha: per_seed(layer, given.alpha, "alpha", DataType::F32, &[])?,
                banks: banks.as_ref().map(Addresses::as_slice),
                telemetry,
                random: random(layer, given.random)?,
                deterministic,
            };
            layer.forward(&forward, convert::stream(stream))
        })
    })
}

/// Runs the gradient of kasmina_layer_forward: writes the input's, adds the parameters' (of seeds that train on the main
/// loss) and alpha's; without input_gradient, observes output_gradient. Streams as in kasmina_layer_forward.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_backward(
    layer: kasmina_layer,
    backward: *const kasmina_backward,
    stream: *mut c_void,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_backward", error, || {
        // SAFETY: the caller promises a struct of the size that its struct_size says.
        let given = unsafe { convert::read(backward) }?;
        let flags = convert::flags(given.flags, KASMINA_DETERMINISTIC | KASMINA_NO_TELEMETRY)?;
        convert::flags(given.reserved, 0)?;
        LAYERS.read(layer.id, |layer| {
            let telemetry = telemetry(layer, given.telemetry, flags)?;
            let deterministic = flags & KASMINA_DETERMINISTIC != 0;
            if given.input_gradient.is_null() {
                let RowTensor { rows: passing, count: rows, data_type } =
                    RowTensor::read(layer, given.output_gradient, "output_gradient")?;
                let observe = Observe { of: Pass::Backward, passing, rows, data_type, telemetry, deterministic };
                return layer.observe(&observe, convert::stream(stream));
            }
            let x = RowTensor::read(layer, given.x, "x")?;
            let output_gradient = RowTensor::read_like(layer, given.output_gradient, "output_gradient", &x)?;
            let input_gradient = RowTensor::read_like(layer, given.input_gradient, "input_gradient", &x)?;
            let banks = Addresses::read(layer, given.banks, given.bank_count, "banks")?;
            let gradients = Addresses::read(layer, given.bank_gradients, given.bank_gradient_count, "bank_gradients")?;
            if gradients.is_none() && layer.blueprint_count() > 0 {
                fail!(InvalidArgument, "bank_gradients is NULL, but the layer has blueprints");
            }
            let backward = Backward {
                x: x.rows,
                output_gradient: output_gradient.rows,
                input_gradient: input_gradient.rows,
                rows: x.count,
                data_type: x.data_type,
                alpha: per_seed(layer, given.alpha, "alpha", DataType::F32, &[])?,
                banks: banks.as_ref().map(Addresses::as_slice),
                bank_gradients: gradients.as_ref().map_or(&[], Addresses::as_slice),
                alpha_gradient: per_seed(layer, given.alpha_gradient, "alpha_gradient", DataType::F32, &[])?,
                telemetry,
                random: random(layer, given.random)?,
                deterministic,
            };
            layer.backward(&backward, convert::stream(stream))
        })
    })
}

/// One step of isolated training of all seeds in TRAINING: loss, gradient and AdamW; returns at once when there are
/// none. Touches nothing of the host's network. Streams as in kasmina_layer_forward.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_train(
    layer: kasmina_layer,
    train: *const kasmina_train,
    stream: *mut c_void,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_train", error, || {
        // SAFETY: the caller promises a struct of the size that its struct_size says.
        let given = unsafe { convert::read(train) }?;
        let flags = convert::flags(given.flags, KASMINA_DETERMINISTIC)?;
        convert::flags(given.reserved, 0)?;
        LAYERS.read(layer.id, |layer| {
            let x = RowTensor::read(layer, given.x, "x")?;
            let target = match given.target.is_null() {
                true => None,
                false => Some(RowTensor::read_like(layer, given.target, "target", &x)?.rows),
            };
            let deterministic = flags & KASMINA_DETERMINISTIC != 0;
            let train = Train { x: x.rows, target, rows: x.count, data_type: x.data_type, deterministic };
            layer.train(&train, convert::stream(stream))
        })
    })
}

/// One step of AdamW on the slots of a bank that train on the main loss; all others keep their bits. Streams as in
/// kasmina_layer_forward.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_adamw(
    layer: kasmina_layer,
    adamw: *const kasmina_adamw,
    stream: *mut c_void,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_adamw", error, || {
        // SAFETY: the caller promises a struct of the size that its struct_size says.
        let given = unsafe { convert::read(adamw) }?;
        convert::flags(given.flags, 0)?;
        LAYERS.read(layer.id, |layer| {
            let gradient = bank(layer, given.blueprint, given.gradient, "gradient")?;
            let parameters = match given.parameters.is_null() {
                true => None,
                false => Some(bank(layer, given.blueprint, given.parameters, "parameters")?),
            };
            let step = AdamwStep {
                blueprint: given.blueprint,
                parameters,
                gradient,
                learning_rate: given.learning_rate,
                beta1: given.beta1,
                beta2: given.beta2,
                epsilon: given.epsilon,
                weight_decay: given.weight_decay,
            };
            layer.adamw(&step, convert::stream(stream))
        })
    })
}
