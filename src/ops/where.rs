//! `a` where a condition holds, else `b`; the three broadcast as in NumPy.

use super::elementwise::broadcast;
use super::{Call, Documentation, Group, Lowered, Lowering, Operator, Value, View};
use crate::compile::Expression;
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Where;

impl Operator for Where {
    fn name(&self) -> &'static str {
        "where"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        3..=3
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Choice,
            summary: "`a` where a condition holds, else `b`. What is not chosen may be NaN.",
            inputs: &[("condition", "truth values"), ("a", "any value"), ("b", "the type of a")],
            result: "the type of a, the shape that all three broadcast to",
            gradient: "`g` to a where the condition holds, to b elsewhere",
            cost: "|y|",
        }
    }

    fn infer(&self, inputs: &[Value<'_>], _: &Attributes) -> Result<(DataType, Shape), String> {
        let condition = inputs[0].data_type;
        if condition != DataType::Bool {
            return Err(format!(
                "the condition is {}, not bool; compare with `greater`, `equal` and the like",
                condition.name()
            ));
        }
        let (a, b) = (inputs[1].data_type, inputs[2].data_type);
        if a != b {
            return Err(format!("it would choose between {} and {}; `cast` one of them", a.name(), b.name()));
        }
        Ok((a, broadcast(inputs)?))
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    /// Each of a and b gets the gradient where it was chosen.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let (condition, a, b) = (call.inputs[0], call.inputs[1], call.inputs[2]);
        let (shape_a, shape_b) = (builder.shape(a), builder.shape(b));
        let zero = builder.constant(0.0);
        let of_a = builder.select(condition, output_gradient, zero);
        let of_b = builder.select(condition, zero, output_gradient);
        vec![None, Some(builder.sum_to(of_a, &shape_a)), Some(builder.sum_to(of_b, &shape_b))]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        let chosen = Expression::select(Expression::Operand(0), Expression::Operand(1), Expression::Operand(2));
        lowering.map(call.shape, &[&call.inputs[0], &call.inputs[1], &call.inputs[2]], chosen)
    }
}
