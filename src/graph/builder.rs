//! Builds graphs node by node, checking and inferring as it goes.
//!
//! Operators are only known by name here; what they compute is the business of [`crate::ops`].

use super::attributes;
use super::limits::Limits;
use super::{Attribute, Attributes, DataType, Graph, Node, Output, RowInput, Scalar, Shape, Source, Target, ValueId};
use crate::error::{Error, Result};
use crate::ops::{self, Value};
use crate::{error, fail};
use std::borrow::Cow;

/// The operator that sums a value over all rows of a launch: what comes out is uniform.
pub(crate) const ROW_SUM: &str = "row_sum";

/// A graph under construction.
///
/// [`Builder::call`] checks untrusted calls and returns their errors. The other methods are for code that knows its
/// shapes, such as gradients: they return the value at once, and the first of them that fails makes
/// [`Builder::finish`] fail.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
    failure: Option<Error>,
    scope: Option<String>,
}

impl Builder {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues a graph: its nodes keep their ids; its outputs and guards are left behind.
    pub fn continuing(graph: &Graph) -> Self {
        let graph = Graph { nodes: graph.nodes.clone(), ..Graph::default() };
        Self { graph, ..Self::default() }
    }

    /// The chunk of a row: `[chunk]`, per row.
    pub fn row(&mut self, input: RowInput, chunk: usize) -> ValueId {
        let name = match input {
            RowInput::X => "x",
            RowInput::OutputGradient => "output_gradient",
            RowInput::Target => "target",
        };
        self.input(Source::Row(input), Shape::new([chunk]), true, name.into())
    }

    /// The parameter at position `index` of the blueprint.
    pub fn parameter(&mut self, index: usize, name: impl Into<String>, shape: Shape) -> ValueId {
        self.input(Source::Parameter(index), shape, false, name.into())
    }

    /// An input of any type, known by its position, where a graph stands for something inside another.
    pub(crate) fn stand_in(&mut self, position: usize, shape: Shape, data_type: DataType) -> ValueId {
        let value = self.parameter(position, "", shape);
        self.graph.nodes[value.index()].data_type = data_type;
        value
    }

    /// A number of the seed, shape `[]`.
    pub fn scalar(&mut self, scalar: Scalar) -> ValueId {
        let name = match scalar {
            Scalar::Alpha => "alpha",
            Scalar::LossScale => "loss_scale",
            Scalar::Dropout => "dropout",
        };
        self.input(Source::Scalar(scalar), Shape::default(), false, name.into())
    }

    /// A number that is part of the graph, shape `[]`. It must be finite.
    pub fn constant(&mut self, value: f64) -> ValueId {
        self.apply("constant", &[], &[("value", Attribute::Float(value))])
    }

    /// Applies an operator found by name.
    ///
    /// Fills in the defaults of attributes, infers type and shape, and says in a sentence what is wrong: an unknown
    /// operator or attribute, a wrong number of inputs, shapes that do not fit, a result over [`Limits`].
    ///
    /// # Errors
    ///
    /// [`Status::InvalidBlueprint`](crate::Status) and [`Status::BlueprintTooLarge`](crate::Status).
    pub fn call(&mut self, operator: &str, inputs: &[ValueId], attributes: Attributes) -> Result<ValueId> {
        let Some(operator) = ops::lookup(operator) else {
            let known: Vec<_> = ops::all().iter().map(|known| known.name()).filter(|&name| name != ROW_SUM).collect();
            fail!(InvalidBlueprint, "there is no operator `{operator}`; there are {}", known.join(", "));
        };
        let name = operator.name();
        let arity = operator.arity();
        if !arity.contains(&inputs.len()) {
            let wanted = match (arity.start(), arity.end()) {
                (least, most) if least == most => format!("{least}"),
                (least, most) => format!("{least} to {most}"),
            };
            fail!(InvalidBlueprint, "`{name}` takes {wanted} inputs, not {}", inputs.len());
        }
        if let Some(missing) = inputs.iter().find(|input| input.index() >= self.graph.nodes.len()) {
            fail!(InvalidBlueprint, "`{name}` reads value {}, which does not stand before it", missing.0);
        }
        let mut attributes = attributes::complete(name, operator.attributes(), attributes)?;
        let values: Vec<_> = inputs
            .iter()
            .map(|&input| self.graph.node(input))
            .map(|node| Value { data_type: node.data_type, shape: &node.shape })
            .collect();
        let (data_type, shape) = operator
            .infer(&values, &attributes)
            .map_err(|reason| error!(InvalidBlueprint, "`{name}` cannot be applied: {reason}"))?;
        operator.normalise(&values, &mut attributes);
        Limits::DEFAULT.check_shape(&shape).map_err(|error| error.context(format!("the result of `{name}`")))?;
        let per_row = operator.per_row(inputs.iter().any(|&input| self.per_row(input)));
        let source = Source::Operator { operator, inputs: inputs.to_vec(), attributes };
        Ok(self.push(Node { source, shape, data_type, per_row, name: self.default_name(name) }))
    }

    /// Applies an operator that is known to fit; a failure is kept for [`Builder::finish`].
    pub fn apply(&mut self, operator: &str, inputs: &[ValueId], attributes: &[(&str, Attribute)]) -> ValueId {
        let attributes = attributes.iter().map(|(name, value)| (String::from(*name), value.clone())).collect();
        match self.call(operator, inputs, attributes) {
            Ok(value) => value,
            Err(error) => {
                self.fail(error);
                // The graph will never be given out, so any value will do.
                inputs.first().copied().unwrap_or(ValueId(0))
            }
        }
    }

    /// Names a value for messages.
    pub fn named(&mut self, value: ValueId, name: impl Into<String>) -> ValueId {
        if let Some(node) = self.graph.nodes.get_mut(value.index()) {
            node.name = name.into();
        }
        value
    }

    /// The node that produces a value.
    pub fn node(&self, value: ValueId) -> &Node {
        self.graph.node(value)
    }

    /// The shape of a value within one row.
    pub fn shape(&self, value: ValueId) -> Shape {
        self.node(value).shape.clone()
    }

    /// The element type of a value.
    pub fn data_type(&self, value: ValueId) -> DataType {
        self.node(value).data_type
    }

    /// Whether a value depends on the row.
    pub fn per_row(&self, value: ValueId) -> bool {
        self.node(value).per_row
    }

    /// Lets a value leave the graph.
    ///
    /// [`Target::Row`] takes a per-row value, all others a uniform one; [`Builder::finish`] checks it.
    pub fn output(&mut self, value: ValueId, target: Target) {
        let per_row = self.per_row(value);
        if per_row != (target == Target::Row) {
            let (is, wanted) = if per_row { ("per row", "uniform") } else { ("uniform", "per row") };
            let name = &self.node(value).name;
            let error = error!(InvalidBlueprint, "`{name}` is {is}, but the output {target:?} takes a {wanted} value");
            self.fail(error);
        }
        self.graph.outputs.push(Output { value, target });
    }

    /// Lets a row fall back to identity when this per-row value has a non-finite element.
    pub fn guard(&mut self, value: ValueId) {
        self.graph.guards.push(value);
    }

    /// The graph, or the first failure of a method that could not return it.
    pub fn finish(self) -> Result<Graph> {
        match self.failure {
            None => Ok(self.graph),
            Some(error) => Err(error),
        }
    }

    /// Keeps a failure for [`Builder::finish`]; the first one stays.
    pub(super) fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// The value that the next node will produce.
    pub(super) fn next(&self) -> ValueId {
        ValueId(self.graph.nodes.len() as u32)
    }

    /// What the names of new nodes begin with now.
    pub(super) fn scope(&self) -> Option<String> {
        self.scope.clone()
    }

    /// What the names of new nodes begin with, until it is set again.
    pub(super) fn set_scope(&mut self, scope: Option<String>) {
        self.scope = scope;
    }

    fn input(&mut self, source: Source, shape: Shape, per_row: bool, name: String) -> ValueId {
        if let Err(error) = Limits::DEFAULT.check_shape(&shape) {
            self.fail(error.context(format!("`{name}`")));
        }
        self.push(Node { source, shape, data_type: DataType::F32, per_row, name })
    }

    fn push(&mut self, node: Node) -> ValueId {
        let id = self.next();
        self.graph.nodes.push(node);
        id
    }

    fn default_name(&self, operator: &str) -> String {
        let position = self.graph.nodes.len();
        match &self.scope {
            Some(scope) => format!("{scope}.{operator}_{position}"),
            None => format!("{operator}_{position}"),
        }
    }
}

/// Calls that cannot fail on values of the right shape and type. Elementwise ones broadcast like NumPy.
impl Builder {
    /// `a + b`
    pub fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.apply("add", &[a, b], &[])
    }

    /// `a - b`
    pub fn sub(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.apply("sub", &[a, b], &[])
    }

    /// `a * b`
    pub fn mul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.apply("mul", &[a, b], &[])
    }

    /// `a / b`
    pub fn div(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.apply("div", &[a, b], &[])
    }

    /// `-a`
    pub fn neg(&mut self, a: ValueId) -> ValueId {
        self.apply("neg", &[a], &[])
    }

    /// `e^a`
    pub fn exp(&mut self, a: ValueId) -> ValueId {
        self.apply("exp", &[a], &[])
    }

    /// The natural logarithm.
    pub fn log(&mut self, a: ValueId) -> ValueId {
        self.apply("log", &[a], &[])
    }

    /// The hyperbolic tangent.
    pub fn tanh(&mut self, a: ValueId) -> ValueId {
        self.apply("tanh", &[a], &[])
    }

    /// `1 / (1 + e^-a)`
    pub fn sigmoid(&mut self, a: ValueId) -> ValueId {
        self.apply("sigmoid", &[a], &[])
    }

    /// The error function.
    pub fn erf(&mut self, a: ValueId) -> ValueId {
        self.apply("erf", &[a], &[])
    }

    /// The square root.
    pub fn sqrt(&mut self, a: ValueId) -> ValueId {
        self.apply("sqrt", &[a], &[])
    }

    /// `1 / sqrt(a)`
    pub fn rsqrt(&mut self, a: ValueId) -> ValueId {
        self.apply("rsqrt", &[a], &[])
    }

    /// `a > b`, a truth value.
    pub fn greater(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.apply("greater", &[a, b], &[])
    }

    /// `a == b`, a truth value.
    pub fn equal(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.apply("equal", &[a, b], &[])
    }

    /// `a` where the condition holds, else `b`.
    pub fn select(&mut self, condition: ValueId, a: ValueId, b: ValueId) -> ValueId {
        self.apply("where", &[condition, a, b], &[])
    }

    /// The sum over some axes, or all if none is named; `keep` leaves them in the shape with size 1.
    pub fn sum(&mut self, value: ValueId, axes: &[usize], keep: bool) -> ValueId {
        self.apply("sum", &[value], &[("axes", integers(axes)), ("keep", Attribute::Bool(keep))])
    }

    /// The same elements in another shape.
    pub fn reshape(&mut self, value: ValueId, shape: &Shape) -> ValueId {
        self.apply("reshape", &[value], &[("shape", integers(&shape.0))])
    }

    /// The value repeated to a larger shape, as NumPy broadcasts.
    pub fn broadcast(&mut self, value: ValueId, shape: &Shape) -> ValueId {
        if self.node(value).shape == *shape {
            return value;
        }
        self.apply("broadcast", &[value], &[("shape", integers(&shape.0))])
    }

    /// The axes in another order: axis `i` of the result is axis `axes[i]`.
    pub fn permute(&mut self, value: ValueId, axes: &[usize]) -> ValueId {
        self.apply("permute", &[value], &[("axes", integers(axes))])
    }

    /// Elements `start` to before `stop` of an axis.
    pub fn slice(&mut self, value: ValueId, axis: usize, start: usize, stop: usize) -> ValueId {
        if start == 0 && self.node(value).shape.0.get(axis) == Some(&stop) {
            return value;
        }
        self.apply("slice", &[value], &[("axis", integer(axis)), ("start", integer(start)), ("stop", integer(stop))])
    }

    /// Values one after the other along an axis.
    pub fn concat(&mut self, values: &[ValueId], axis: usize) -> ValueId {
        self.apply("concat", values, &[("axis", integer(axis))])
    }

    /// Zeros put before and behind the elements of an axis.
    pub fn pad(&mut self, value: ValueId, axis: usize, before: usize, behind: usize) -> ValueId {
        if before == 0 && behind == 0 {
            return value;
        }
        let sides = [("axis", integer(axis)), ("before", integer(before)), ("behind", integer(behind))];
        self.apply("pad", &[value], &sides)
    }

    /// The same elements in another type.
    pub fn cast(&mut self, value: ValueId, to: DataType) -> ValueId {
        self.apply("cast", &[value], &[("type", Attribute::Text(to.name().into()))])
    }

    /// A contraction of two values: `einsum("oi,i->o", w, x)`.
    pub fn einsum(&mut self, equation: impl Into<Cow<'static, str>>, a: ValueId, b: ValueId) -> ValueId {
        self.apply("einsum", &[a, b], &[("equation", Attribute::Text(equation.into()))])
    }

    /// The sum over all rows of the launch: uniform. Only passes use it; blueprints cannot.
    pub fn row_sum(&mut self, value: ValueId) -> ValueId {
        self.apply(ROW_SUM, &[value], &[])
    }

    /// Undoes broadcasting: sums the axes that broadcasting to the value's shape added or repeated.
    pub fn sum_to(&mut self, value: ValueId, shape: &Shape) -> ValueId {
        let from = self.shape(value);
        let added = from.rank().saturating_sub(shape.rank());
        let repeated = |axis: &usize| *axis < added || (shape.0.get(*axis - added) == Some(&1) && from.0[*axis] != 1);
        let axes: Vec<_> = (0..from.rank()).filter(repeated).collect();
        let summed = if axes.is_empty() { value } else { self.sum(value, &axes, false) };
        if self.node(summed).shape == *shape { summed } else { self.reshape(summed, shape) }
    }
}

/// A size or an axis as an attribute.
fn integer(number: usize) -> Attribute {
    Attribute::Integer(number as i64)
}

/// Sizes or axes as an attribute. Within the limits they always fit.
fn integers(numbers: &[usize]) -> Attribute {
    Attribute::Integers(numbers.iter().map(|&number| number as i64).collect())
}
