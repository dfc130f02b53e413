//! The hot path: one launch over all seeds.

use super::Layer;
use crate::Result;
use crate::device::{Address, Rows, Stream};
use crate::fail;
use crate::graph::DataType;

/// A forward pass: y from x, and telemetry.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// Input, `[rows, hidden]`.
    pub x: Rows,
    /// Output, `[rows, hidden]`; every element is written. Must not overlap x.
    pub y: Rows,
    /// How many rows; may be 0.
    pub rows: usize,
    /// Type of x and y.
    pub data_type: DataType,
    /// `[seeds]` f32 to blend with instead of the layer's own alpha.
    pub alpha: Option<Address>,
    /// Parameters to use instead of the layer's own banks: one address for each blueprint, in the order of their
    /// indices, each of a dense `[capacity, size]` of the parameter type. Null only for a blueprint without parameters.
    pub banks: Option<&'a [Address]>,
    /// `[seeds, 10]` f64 to observe into instead of the layer's own telemetry; null observes nothing.
    pub telemetry: Option<Address>,
    /// Whether equal inputs must give equal bits.
    pub deterministic: bool,
}

/// A backward pass: the gradients of x, parameters and alpha from the gradient of y.
#[derive(Clone, Copy, Debug)]
pub struct Backward<'a> {
    /// The input of the forward pass.
    pub x: Rows,
    /// Gradient of its output, `[rows, hidden]`.
    pub output_gradient: Rows,
    /// Gradient of x, `[rows, hidden]`; every element is written. Must not overlap the others.
    pub input_gradient: Rows,
    /// How many rows; may be 0.
    pub rows: usize,
    /// Type of the three.
    pub data_type: DataType,
    /// As in the forward pass.
    pub alpha: Option<Address>,
    /// As in the forward pass.
    pub banks: Option<&'a [Address]>,
    /// Where gradients of the parameters are added: as `banks`, one for each blueprint.
    pub bank_gradients: &'a [Address],
    /// `[seeds]` f32 where the gradient of alpha is added; `None` does not compute it.
    pub alpha_gradient: Option<Address>,
    /// As in the forward pass.
    pub telemetry: Option<Address>,
    /// Whether equal inputs must give equal bits.
    pub deterministic: bool,
}

/// A step of isolated training for every seed in TRAINING.
#[derive(Clone, Copy, Debug)]
pub struct Train {
    /// Input, `[rows, hidden]`.
    pub x: Rows,
    /// What the blueprints shall give, `[rows, hidden]`; x itself if there is none.
    pub target: Option<Rows>,
    /// How many rows; may be 0.
    pub rows: usize,
    /// Type of both.
    pub data_type: DataType,
}

/// A step of AdamW for the slots of one bank whose seeds train on the main loss. All others keep their bits.
#[derive(Clone, Copy, Debug)]
pub struct AdamwStep {
    /// Which bank.
    pub blueprint: u32,
    /// `[capacity, size]` to update instead of the layer's own parameters.
    pub parameters: Option<Address>,
    /// `[capacity, size]`: the gradient.
    pub gradient: Address,
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the running mean of the gradient.
    pub beta1: f64,
    /// Decay of the running mean of its square.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Layer {
    /// Runs the layer forward. Identity for seeds that apply no blueprint: their bits are copied.
    ///
    /// # Errors
    ///
    /// `TypeMismatch` if the rows do not compute in the parameter type; `ShapeMismatch` for a stride below the
    /// channels; `InvalidArgument` for null or wrongly many addresses; `NotReady` if a kernel is missing while the
    /// stream is capturing (see [`Layer::prepare`]); `CompileFailed`, `DeviceFailed`.
    pub fn forward(&self, forward: &Forward<'_>, stream: Stream) -> Result<()> {
        fail!(Unsupported, "forward over {} rows cannot run yet on {stream:?}", forward.rows)
    }

    /// Runs the layer backward.
    ///
    /// # Errors
    ///
    /// As [`Layer::forward`].
    pub fn backward(&self, backward: &Backward<'_>, stream: Stream) -> Result<()> {
        fail!(Unsupported, "backward over {} rows cannot run yet on {stream:?}", backward.rows)
    }

    /// One step of isolated training: loss, gradients and AdamW for all seeds in TRAINING, in the layer's own memory.
    /// Touches nothing of the host network, and returns at once if no seed is training.
    ///
    /// # Errors
    ///
    /// As [`Layer::forward`].
    pub fn train(&self, train: &Train, stream: Stream) -> Result<()> {
        fail!(Unsupported, "isolated training on {} rows cannot run yet on {stream:?}", train.rows)
    }

    /// One step of AdamW on a bank.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if there is no such blueprint or an address is null; `DeviceFailed`.
    pub fn adamw(&self, step: &AdamwStep, stream: Stream) -> Result<()> {
        fail!(Unsupported, "bank {} cannot be updated yet on {stream:?}", step.blueprint)
    }

    /// Compiles and loads the kernels for rows of this type now, so that no later call has to, not even under capture.
    ///
    /// # Errors
    ///
    /// As [`Layer::forward`].
    pub fn prepare(&self, data_type: DataType, alpha_gradient: bool) -> Result<()> {
        fail!(Unsupported, "kernels for {} (alpha gradient: {alpha_gradient}) cannot be made yet", data_type.name())
    }
}
