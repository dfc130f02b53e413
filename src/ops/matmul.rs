//! The matrix product, batched as `numpy.matmul` does it.

use super::{Call, Documentation, Group, Lowered, Lowering, Operator, Value, View, bounded_products, expect_numbers};
use crate::compile::{Expression, Reducer};
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Matmul;

impl Operator for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Contraction,
            summary: "The matrix product over the last two axes, batched over the others, which broadcast. One axis alone \
                      is a row in a and a column in b, and does not stand in the result.",
            inputs: &[("a", "numbers [.., m, k] or [k]"), ("b", "numbers [.., k, n] or [k]")],
            result: "numbers [.., m, n]",
            gradient: "`g b^T` to a, `a^T g` to b",
            cost: "2 k |y|",
        }
    }

    fn infer(&self, inputs: &[Value<'_>], _: &Attributes) -> Result<(DataType, Shape), String> {
        expect_numbers(inputs)?;
        let (a, b) = (inputs[0].shape, inputs[1].shape);
        if a.rank() == 0 || b.rank() == 0 {
            return Err(format!("the inputs have shapes {a} and {b}; each needs at least one axis"));
        }
        let sides = Sides::new(a, b);
        let (inner, other) = (sides.inner(), sides.b.0[sides.b.rank() - 2]);
        if inner != other {
            return Err(format!(
                "{a} times {b} would sum over {inner} elements of the first and {other} of the second"
            ));
        }
        let Some(product) = sides.product() else {
            return Err(format!("the batches of {a} and {b} do not broadcast"));
        };
        bounded_products(product.0.iter().chain([&inner]).fold(1, |all, &size| all.saturating_mul(size as u64)))?;
        let shape = sides.result(product);
        Ok((DataType::F32, shape))
    }

    /// Both inputs are brought to matrices; then each gets the product with the other, turned, summed over the batch it
    /// was repeated for.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let shapes = [builder.shape(call.inputs[0]), builder.shape(call.inputs[1])];
        let sides = Sides::new(&shapes[0], &shapes[1]);
        let whole = sides.matrices(&builder.shape(call.output));
        let gradient = builder.reshape(output_gradient, &whole);
        let a = builder.reshape(call.inputs[0], &sides.a);
        let b = builder.reshape(call.inputs[1], &sides.b);
        let (a, b) = (turned(builder, a), turned(builder, b));
        let of_a = builder.apply("matmul", &[gradient, b], &[]);
        let of_a = builder.sum_to(of_a, &sides.a);
        let of_b = builder.apply("matmul", &[a, gradient], &[]);
        let of_b = builder.sum_to(of_b, &sides.b);
        vec![Some(builder.reshape(of_a, &shapes[0])), Some(builder.reshape(of_b, &shapes[1]))]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        let sides = Sides::new(&call.inputs[0].shape, &call.inputs[1].shape);
        let whole = sides.matrices(call.shape);
        let (rank, inner) = (whole.rank(), sides.inner());
        // Axes: those of the result, then the one that is summed over.
        let a = lowering.reshape(&call.inputs[0], &sides.a);
        let mut of_a = a.broadcast(&with_matrix(&whole, [whole.0[rank - 2], inner])).operand();
        of_a.strides.insert(rank - 1, 0);
        let b = lowering.reshape(&call.inputs[1], &sides.b);
        let b = b.broadcast(&with_matrix(&whole, [inner, whole.0[rank - 1]]));
        let mut of_b = b.permute(&last_two_swapped(rank)).operand();
        of_b.strides.insert(rank - 2, 0);
        let product = Expression::Operand(0) * Expression::Operand(1);
        let result = lowering.step(whole, Shape::new([inner]), Reducer::Sum, vec![of_a, of_b], product);
        lowering.reshape(&result, call.shape)
    }
}

/// The inputs as matrices: a row and a column where they have one axis.
struct Sides {
    a: Shape,
    b: Shape,
    /// Whether a was one axis, whether b was.
    one_axis: [bool; 2],
}

impl Sides {
    fn new(a: &Shape, b: &Shape) -> Self {
        let one_axis = [a.rank() == 1, b.rank() == 1];
        let a = if one_axis[0] { Shape::new([1, a.0[0]]) } else { a.clone() };
        let b = if one_axis[1] { Shape::new([b.0[0], 1]) } else { b.clone() };
        Self { a, b, one_axis }
    }

    /// The size of the axis that is summed over.
    fn inner(&self) -> usize {
        self.a.0[self.a.rank() - 1]
    }

    /// `[.., m, n]`, if the batches broadcast.
    fn product(&self) -> Option<Shape> {
        let batch = |shape: &Shape| Shape(shape.0[..shape.rank() - 2].to_vec());
        let mut shape = batch(&self.a).broadcast_with(&batch(&self.b))?;
        shape.0.extend([self.a.0[self.a.rank() - 2], self.b.0[self.b.rank() - 1]]);
        Some(shape)
    }

    /// The shape of the result, from that of the product.
    fn result(&self, mut product: Shape) -> Shape {
        let rank = product.rank();
        if self.one_axis[1] {
            product.0.remove(rank - 1);
        }
        if self.one_axis[0] {
            product.0.remove(rank - 2);
        }
        product
    }

    /// The shape of the product, from that of the result.
    fn matrices(&self, result: &Shape) -> Shape {
        let mut product = result.clone();
        if self.one_axis[0] {
            product.0.insert(product.rank() - usize::from(!self.one_axis[1]), 1);
        }
        if self.one_axis[1] {
            product.0.push(1);
        }
        product
    }
}

fn with_matrix(shape: &Shape, matrix: [usize; 2]) -> Shape {
    Shape([&shape.0[..shape.rank() - 2], &matrix].concat())
}

fn last_two_swapped(rank: usize) -> Vec<usize> {
    (0..rank - 2).chain([rank - 1, rank - 2]).collect()
}

/// Every matrix transposed.
fn turned(builder: &mut Builder, value: ValueId) -> ValueId {
    let axes = last_two_swapped(builder.shape(value).rank());
    builder.permute(value, &axes)
}
