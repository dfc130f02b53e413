//! Operators that map each element by a formula: a file for each says the formula and its derivative, and nothing
//! else; shape rule and lowering are the same for all and stand here.

use super::{Call, Documentation, Group, Lowered, Lowering, Operator, Value, View, expect_numbers};
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
    /// f(a).
    pub formula: fn(Expression) -> Expression,
    /// The gradient of a, from a, f(a) and the gradient of f(a).
    pub derivative: fn(&mut Builder, a: ValueId, output: ValueId, gradient: ValueId) -> ValueId,
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
            inputs: &[("a", "numbers of any shape")],
            result: "numbers of the shape of a",
            gradient: self.gradient,
            cost: "|y|",
        }
    }

    fn infer(&self, inputs: &[Value<'_>], _: &Attributes) -> Result<(DataType, Shape), String> {
        expect_numbers(inputs)?;
        Ok((DataType::F32, inputs[0].shape.clone()))
    }

    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        vec![Some((self.derivative)(builder, call.inputs[0], call.output, output_gradient))]
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
    /// The type of the result.
    pub data_type: DataType,
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
            inputs: &[("a", "numbers of any shape"), ("b", "numbers of a shape that broadcasts with a")],
            result: if self.data_type == DataType::Bool {
                "truth values of the shape a and b broadcast to"
            } else {
                "numbers of the shape a and b broadcast to"
            },
            gradient: self.gradient,
            cost: "|y|",
        }
    }

    fn infer(&self, inputs: &[Value<'_>], _: &Attributes) -> Result<(DataType, Shape), String> {
        expect_numbers(inputs)?;
        Ok((self.data_type, broadcast(inputs)?))
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
