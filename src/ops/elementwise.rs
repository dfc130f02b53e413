//! Operators that map each element by a formula: a file for each says the formula and its derivative, and nothing
//! else; shape rule and lowering are the same for all and stand here.

use super::{Accepts, Call, Documentation, Group, Lowered, Lowering, Operator, Value, View};
use crate::compile::Expression;
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

/// A function of one number, element by element.
#[derive(Debug)]
pub(super) struct UnaryOperator {
    pub name: &'static str,
    pub group: Group,
    /// What f is.
    pub summary: &'static str,
    /// What `derivative` computes.
    pub gradient: &'static str,
    pub accepts: Accepts,
    /// f(a).
    pub formula: fn(Expression) -> Expression,
    /// The gradient of a, from a, f(a) and the gradient of f(a).
    pub derivative: fn(&mut Builder, a: ValueId, output: ValueId, gradient: ValueId) -> Option<ValueId>,
}

impl Operator for UnaryOperator {
    fn name(&self) -> &'static str {
        self.name
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: self.group,
            summary: self.summary,
            inputs: match self.accepts {
                Accepts::Numbers => &[("a", "numbers")],
                Accepts::Arithmetic => &[("a", "numbers or whole numbers")],
                Accepts::Truth => &[("a", "truth values")],
                Accepts::Any => &[("a", "any value")],
            },
            result: "shape and type of a",
            gradient: self.gradient,
            cost: "|y|",
        }
    }

    fn infer(&self, inputs: &[Value<'_>], _: &Attributes) -> Result<(DataType, Shape), String> {
        Ok((self.accepts.common(inputs)?, inputs[0].shape.clone()))
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        vec![(self.derivative)(builder, call.inputs[0], call.output, output_gradient)]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        lowering.map(call.shape, &[&call.inputs[0]], (self.formula)(Expression::Operand(0)))
    }
}

/// A function of two numbers, element by element; the inputs broadcast as in NumPy.
#[derive(Debug)]
pub(super) struct BinaryOperator {
    pub name: &'static str,
    pub group: Group,
    /// What f is.
    pub summary: &'static str,
    /// What `derivative` computes.
    pub gradient: &'static str,
    pub accepts: Accepts,
    /// Whether the result is a truth value; else it has the type of the inputs.
    pub is_truth: bool,
    /// f(a, b).
    pub formula: fn(Expression, Expression) -> Expression,
    /// The gradients of a and b before broadcasting is undone.
    pub derivative: fn(&mut Builder, call: &Call<'_>, gradient: ValueId) -> [Option<ValueId>; 2],
}

impl Operator for BinaryOperator {
    fn name(&self) -> &'static str {
        self.name
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: self.group,
            summary: self.summary,
            inputs: match self.accepts {
                Accepts::Numbers => &[("a", "numbers"), ("b", "numbers")],
                Accepts::Arithmetic => &[("a", "numbers or whole numbers"), ("b", "the type of a")],
                Accepts::Truth => &[("a", "truth values"), ("b", "truth values")],
                Accepts::Any => &[("a", "any value"), ("b", "the type of a")],
            },
            result: match self.is_truth {
                true => "truth values of the shape that a and b broadcast to",
                false => "the type of a, the shape that a and b broadcast to",
            },
            gradient: self.gradient,
            cost: "|y|",
        }
    }

    fn infer(&self, inputs: &[Value<'_>], _: &Attributes) -> Result<(DataType, Shape), String> {
        let data_type = self.accepts.common(inputs)?;
        Ok((if self.is_truth { DataType::Bool } else { data_type }, broadcast(inputs)?))
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let gradients = (self.derivative)(builder, call, output_gradient);
        let undo = |(gradient, &input): (Option<ValueId>, &ValueId)| {
            let shape = builder.shape(input);
            gradient.map(|gradient| builder.sum_to(gradient, &shape))
        };
        gradients.into_iter().zip(call.inputs).map(undo).collect()
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        let formula = (self.formula)(Expression::Operand(0), Expression::Operand(1));
        lowering.map(call.shape, &[&call.inputs[0], &call.inputs[1]], formula)
    }
}

/// The shape all inputs broadcast to.
pub(super) fn broadcast(inputs: &[Value<'_>]) -> Result<Shape, String> {
    let mut shape = Shape::default();
    for input in inputs {
        shape = match shape.broadcast_with(input.shape) {
            Some(shape) => shape,
            None => return Err(format!("the shapes {shape} and {} do not broadcast", input.shape)),
        };
    }
    Ok(shape)
}

/// The gradient of `a` in `maximum(a, b)`: all of it where a is larger, half where they are equal, nothing where b is
/// larger. (Asked in this order, NaN passes it on, as in PyTorch.)
pub(super) fn shared_by_the_larger(builder: &mut Builder, a: ValueId, b: ValueId, gradient: ValueId) -> ValueId {
    let (zero, half) = (builder.constant(0.0), builder.constant(0.5));
    let halved = builder.mul(gradient, half);
    let (equal, smaller) = (builder.equal(a, b), builder.greater(b, a));
    let all = builder.select(smaller, zero, gradient);
    builder.select(equal, halved, all)
}
