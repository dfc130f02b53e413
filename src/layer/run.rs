//! The hot path: one launch over all seeds.

use super::bank::{AdamwRates, Bank, mode};
use super::kernel_set::MAXIMUM_BLUEPRINTS;
use super::kind::Kind;
use super::{Layer, Lifecycle, TrainingSettings};
use crate::compile::Pass;
use crate::device::{self, Address, Launch, Rows, Stream};
use crate::graph::DataType;
use crate::{Result, fail};
use std::sync::atomic::Ordering;

/// A forward pass: y from x, and telemetry.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// Input, `[rows, hidden]`.
    pub x: Rows,
    /// Output, `[rows, hidden]`; every element is written. It may be x itself (same address, same layout), and then chunks of
    /// seeds that are identity are not written; otherwise it must not overlap x.
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
    /// u64 on the device: the key of what blueprints draw at random, read when the kernel runs. `None` in evaluation: dropout
    /// is not active.
    pub random: Option<Address>,
    /// Whether equal inputs must give equal bits.
    pub deterministic: bool,
}

/// A look at what passes a layer in which no seed applies a blueprint: x instead of a forward pass, for y would be x, or the
/// gradient of y instead of a backward pass, for that of x would be the same.
#[derive(Clone, Copy, Debug)]
pub struct Observe {
    /// Which pass it is instead of.
    pub of: Pass,
    /// What passes, `[rows, hidden]`; its rows may overlap.
    pub passing: Rows,
    /// How many rows; may be 0.
    pub rows: usize,
    /// Their type.
    pub data_type: DataType,
    /// As in the forward pass.
    pub telemetry: Option<Address>,
    /// As in the forward pass.
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
    /// As in the forward pass, and the same number: then the same is drawn.
    pub random: Option<Address>,
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
    /// As in the forward pass.
    pub deterministic: bool,
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
    /// `TypeMismatch` if the rows do not compute in the parameter type; `ShapeMismatch` for an output whose rows
    /// overlap; `InvalidArgument` for null or wrongly many addresses; `NotReady` if a kernel is missing while the
    /// stream is capturing (see [`Layer::prepare`]); `CompileFailed`, `DeviceFailed`.
    pub fn forward(&self, forward: &Forward<'_>, stream: Stream) -> Result<()> {
        self.check_type(forward.data_type)?;
        self.check_rows("x", forward.x, forward.rows)?;
        self.check_output("y", forward.y, forward.rows)?;
        let parameters = self.parameters(forward.banks)?;
        if forward.rows == 0 {
            return Ok(());
        }
        let launch = Launch {
            rows: forward.rows,
            x: forward.x,
            output: forward.y,
            telemetry: forward.telemetry.unwrap_or(self.telemetry.array.address()),
            random: forward.random.unwrap_or(Address::NULL),
            deterministic: forward.deterministic,
            ..self.launch(forward.alpha)
        };
        let bank = |index: usize| self.banks[index].view(parameters(index), Address::NULL);
        self.run(Kind::forward(forward.data_type), launch, bank, stream)
    }

    /// Adds to telemetry what a pass would, and writes nothing else: it is for layers in which no seed applies a blueprint. A stream
    /// that records a graph records no more than this, whatever seeds do later; in place of a backward pass that is refused, since
    /// who runs one does not choose what is recorded.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if a seed applies a blueprint; `NotReady` for a gradient while the stream is capturing; else as
    /// [`Layer::forward`].
    pub fn observe(&self, observe: &Observe, stream: Stream) -> Result<()> {
        let (kind, passing, missing) = match observe.of {
            Pass::Backward => (Kind::backward(observe.data_type, false), "output_gradient", "input_gradient"),
            _ => (Kind::forward(observe.data_type), "x", "y"),
        };
        self.check_type(observe.data_type)?;
        self.check_rows(passing, observe.passing, observe.rows)?;
        if self.applies() {
            let first = self.state.columns().seeds_in(Lifecycle::applies_blueprint).next();
            let who = first.map_or_else(
                || "a seed applies a blueprint".to_owned(),
                |(seed, state)| format!("seed {seed} applies blueprint {} ({})", state.blueprint, state.lifecycle),
            );
            fail!(
                InvalidArgument,
                "{missing} is missing, but {who}, and what it computes needs a place: without {missing} a layer only observes, \
                 which is for layers in which no seed applies a blueprint"
            );
        }
        if observe.of == Pass::Backward && self.device.is_capturing(stream) {
            fail!(
                NotReady,
                "{missing} is missing, but the stream records a graph, which must stay right when seeds change; give one"
            );
        }
        let telemetry = observe.telemetry.unwrap_or(self.telemetry.array.address());
        self.kernels.mark_used(kind);
        if observe.rows == 0 || telemetry.is_null() {
            if observe.of == Pass::Backward {
                // A graph that is captured next will have the pass itself.
                self.kernels.current().kernel(kind, stream)?;
            }
            return Ok(());
        }
        // Perhaps no backward pass comes from here, but its kernel must be there when a seed begins to graft.
        self.kernels.mark_used(Kind::backward(observe.data_type, false));
        let launch = Launch {
            rows: observe.rows,
            // A backward launch looks at the second of them, and a forward one knows no such thing.
            x: observe.passing,
            output_gradient: observe.passing,
            telemetry,
            deterministic: observe.deterministic,
            // Nobody watches the channels after the last chunk, and whatever the device's state arrays hold, no blueprint runs.
            hidden: self.config.seeds as usize * self.chunk(),
            blueprints: 0,
            ..self.launch(None)
        };
        let bank = |index: usize| self.banks[index].view(self.banks[index].arrays.parameters.address(), Address::NULL);
        self.run(kind, launch, bank, stream)
    }

    /// Runs the layer backward.
    ///
    /// # Errors
    ///
    /// As [`Layer::forward`].
    pub fn backward(&self, backward: &Backward<'_>, stream: Stream) -> Result<()> {
        self.check_type(backward.data_type)?;
        self.check_rows("x", backward.x, backward.rows)?;
        self.check_rows("output_gradient", backward.output_gradient, backward.rows)?;
        self.check_output("input_gradient", backward.input_gradient, backward.rows)?;
        self.check_addresses("bank_gradients", backward.bank_gradients)?;
        let parameters = self.parameters(backward.banks)?;
        if backward.alpha_gradient.is_some_and(Address::is_null) {
            fail!(InvalidArgument, "alpha_gradient is null; leave it out if it is not wanted");
        }
        if backward.rows == 0 {
            return Ok(());
        }
        let launch = Launch {
            rows: backward.rows,
            x: backward.x,
            output_gradient: backward.output_gradient,
            output: backward.input_gradient,
            telemetry: backward.telemetry.unwrap_or(self.telemetry.array.address()),
            random: backward.random.unwrap_or(Address::NULL),
            alpha_gradient: backward.alpha_gradient.unwrap_or(Address::NULL),
            deterministic: backward.deterministic,
            ..self.launch(backward.alpha)
        };
        let kind = Kind::backward(backward.data_type, backward.alpha_gradient.is_some());
        let bank = |index: usize| self.banks[index].view(parameters(index), backward.bank_gradients[index]);
        self.run(kind, launch, bank, stream)
    }

    /// One step of isolated training: loss, gradients and AdamW for all seeds in TRAINING, in the layer's own memory.
    /// Touches nothing of the host network, and returns at once if no seed is training.
    ///
    /// # Errors
    ///
    /// As [`Layer::forward`].
    pub fn train(&self, train: &Train, stream: Stream) -> Result<()> {
        let target = train.target.unwrap_or(train.x);
        self.check_type(train.data_type)?;
        self.check_rows("x", train.x, train.rows)?;
        self.check_rows("target", target, train.rows)?;
        // Before any seed trains, so that its kernel is compiled in the background while the seed is GERMINATED.
        self.kernels.mark_used(Kind::train(train.data_type));
        if train.rows == 0 || !self.trains() {
            return Ok(());
        }
        let set = self.kernels.current();
        for bank in set.members.iter().map(|index| &self.banks[*index as usize]) {
            self.device.zero(bank.gradient.address(), bank.gradient.bytes(), stream)?;
        }
        let (order, busy) = self.state.training_order();
        let launch = Launch {
            rows: train.rows,
            x: train.x,
            target,
            loss: self.telemetry.loss.address(),
            loss_scale: 1.0 / (train.rows as f64 * self.chunk() as f64),
            // A training launch counts the rows that fall back and nothing else.
            telemetry: self.telemetry.array.address(),
            random: self.random.address(),
            random_offset: self.training_steps.fetch_add(1, Ordering::Relaxed),
            deterministic: train.deterministic,
            order,
            busy,
            ..self.launch(None)
        };
        let own = |index: usize| {
            let bank = &self.banks[index];
            bank.view(bank.arrays.parameters.address(), bank.gradient.address())
        };
        self.run(Kind::train(train.data_type), launch, own, stream)?;
        let TrainingSettings { learning_rate, beta1, beta2, epsilon, weight_decay, .. } = self.config.settings.training;
        let rates = AdamwRates { learning_rate, beta1, beta2, epsilon, weight_decay };
        let learns = |bank: &&Bank| bank.modes.contains(&mode::ISOLATED);
        for bank in set.members.iter().map(|index| &self.banks[*index as usize]).filter(learns) {
            let (parameters, gradient) = (bank.arrays.parameters.address(), bank.gradient.address());
            bank.adamw(parameters, gradient, mode::ISOLATED, rates, stream)?;
        }
        Ok(())
    }

    /// One step of AdamW on a bank.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if there is no such blueprint, an address is null or a rate means nothing; `DeviceFailed`.
    pub fn adamw(&self, step: &AdamwStep, stream: Stream) -> Result<()> {
        let bank = self.bank_at(step.blueprint)?;
        let parameters = step.parameters.unwrap_or(bank.arrays.parameters.address());
        if bank.arrays.size > 0 && (parameters.is_null() || step.gradient.is_null()) {
            fail!(InvalidArgument, "the parameters or the gradient of bank {} are null", step.blueprint);
        }
        let &AdamwStep { learning_rate, beta1, beta2, epsilon, weight_decay, .. } = step;
        let rates = AdamwRates { learning_rate, beta1, beta2, epsilon, weight_decay };
        rates.check()?;
        bank.adamw(parameters, step.gradient, mode::MAIN, rates, stream)
    }

    /// Compiles and loads the kernels for rows of this type now, so that no later call has to, not even under capture:
    /// those of the blueprints that are live, and those of seeds that have germinated and wait for theirs.
    ///
    /// # Errors
    ///
    /// As [`Layer::forward`].
    pub fn prepare(&self, data_type: DataType, alpha_gradient: bool) -> Result<()> {
        self.check_type(data_type)?;
        let kinds = [Kind::forward(data_type), Kind::backward(data_type, alpha_gradient), Kind::train(data_type)];
        for kind in kinds {
            self.kernels.mark_used(kind);
            for set in self.kernels.current_and_next() {
                set.kernel(kind, Stream::default())?;
            }
        }
        Ok(())
    }

    /// Waits for the kernels that are compiled in the background, of the kinds that were used so far, and loads them. Then
    /// nothing that happens at the epoch's end depends on how fast a compiler is.
    ///
    /// # Errors
    ///
    /// `CompileFailed` and others from the first kernel that cannot be had; all were waited for. Its seeds stay GERMINATED.
    pub fn wait_for_kernels(&self) -> Result<()> {
        let kinds = self.kernels.kinds();
        let mut first = None;
        for set in self.kernels.current_and_wanted() {
            for kind in &kinds {
                if let Err(error) = set.kernel(*kind, Stream::default()) {
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// A launch over the layer's own state.
    fn launch(&self, alpha: Option<Address>) -> Launch<'static> {
        let [lifecycle, blueprint, slot, own_alpha] = self.state.kernel_columns();
        let (order, busy) = self.state.order();
        Launch {
            hidden: self.config.hidden,
            seeds: self.config.seeds as usize,
            lifecycle,
            blueprint,
            slot,
            alpha: alpha.unwrap_or(own_alpha),
            branch: self.kernels.current().branch.address(),
            blueprints: MAXIMUM_BLUEPRINTS,
            order,
            busy,
            ..Launch::default()
        }
    }

    /// Launches a kernel of the current set. `bank` gives the view of a bank by its blueprint's index.
    fn run(&self, kind: Kind, launch: Launch<'_>, bank: impl Fn(usize) -> device::Bank, stream: Stream) -> Result<()> {
        self.kernels.mark_used(kind);
        let set = self.kernels.current();
        let kernel = set.kernel(kind, stream)?;
        if !set.is_recorded() && self.device.is_capturing(stream) {
            set.mark_recorded();
        }
        // On the stack for as many blueprints as layers have in practice.
        let mut few = [device::Bank::default(); 16];
        let mut many = Vec::new();
        let banks = match few.get_mut(..set.members.len()) {
            Some(few) => few,
            None => {
                many.resize(set.members.len(), device::Bank::default());
                &mut many[..]
            }
        };
        for (view, index) in banks.iter_mut().zip(&set.members) {
            *view = bank(*index as usize);
        }
        self.device.launch(kernel, &Launch { banks, ..launch }.in_memory_order(), stream)
    }

    fn check_type(&self, data_type: DataType) -> Result<()> {
        let parameters = self.config.parameter_type;
        if !data_type.is_float() || data_type.compute() != parameters {
            let (rows, own) = (data_type.name(), parameters.name());
            fail!(TypeMismatch, "rows of {rows} do not compute in {own}, the type of the layer's parameters");
        }
        Ok(())
    }

    fn check_rows(&self, name: &str, tensor: Rows, rows: usize) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        if tensor.address.is_null() {
            fail!(InvalidArgument, "{name} is null but has {rows} rows");
        }
        let hidden = self.config.hidden;
        if tensor.extent(rows, hidden).is_none_or(|elements| elements > isize::MAX as usize / 8) {
            fail!(ShapeMismatch, "{name} is too large: {rows} {tensor}, each of {hidden} channels");
        }
        Ok(())
    }

    /// For what is written: no two elements may share a place.
    fn check_output(&self, name: &str, tensor: Rows, rows: usize) -> Result<()> {
        self.check_rows(name, tensor, rows)?;
        let hidden = self.config.hidden;
        if rows > 0 && !tensor.is_disjoint(rows, hidden) {
            fail!(ShapeMismatch, "the rows of {name} overlap: {tensor}, each of {hidden} channels");
        }
        Ok(())
    }

    fn check_addresses(&self, name: &str, addresses: &[Address]) -> Result<()> {
        let known = self.banks.len();
        if addresses.len() != known {
            fail!(InvalidArgument, "{name} has {} addresses and the layer knows {known} blueprints", addresses.len());
        }
        let missing = |(address, bank): (&Address, &Bank)| address.is_null() && bank.arrays.size > 0;
        if let Some(index) = addresses.iter().zip(&self.banks).position(missing) {
            fail!(InvalidArgument, "{name} is null for blueprint {index}, which has parameters");
        }
        Ok(())
    }

    /// Where the parameters of a blueprint are, by its index.
    fn parameters<'a>(&'a self, given: Option<&'a [Address]>) -> Result<impl Fn(usize) -> Address + 'a> {
        if let Some(addresses) = given {
            self.check_addresses("banks", addresses)?;
        }
        Ok(move |index: usize| match given {
            Some(addresses) => addresses[index],
            None => self.banks[index].arrays.parameters.address(),
        })
    }
}

#[cfg(test)]
mod tests;
