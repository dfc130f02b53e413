//! The largest elements along an axis. Elements are compared each with each: that has no order in time to it, so every
//! device does it alike, and costs n^2, which suits the axes that blueprints have.

use super::{Composite, Documentation, Group, KnownAttribute, Value, attribute, bounded_products, expect_numbers};
use crate::graph::{Attribute, Attributes, Builder, DataType, Shape, ValueId};
use std::borrow::Cow;

pub(super) static TOP_K: Composite = Composite {
    name: "top_k",
    documentation: Documentation {
        group: Group::Reduction,
        summary: "The k largest elements along an axis, the largest first. NaN counts as largest; of equal elements the first \
                  comes first.",
        inputs: &[("a", "numbers [.., n, ..]")],
        result: "k elements along the axis: numbers for `values`, i64 for `indices`; for `mask` truth values of the shape of a",
        gradient: "of values: `g` to where it came from, 0 elsewhere",
        cost: "12 n |a|, and 3 n |y| for values and indices",
    },
    arity: 1..=1,
    attributes: &[
        KnownAttribute { name: "axis", default: Some(Attribute::Integer(-1)), meaning: attribute::AXIS },
        KnownAttribute { name: "k", default: None, meaning: "how many, 1 to n" },
        KnownAttribute {
            name: "output",
            default: Some(Attribute::Text(Cow::Borrowed("values"))),
            meaning: "`values`; `indices`: where they stand; `mask`: for each element of a whether it is one of them",
        },
    ],
    infer,
    normalise: |inputs, attributes| attribute::settle_axis(attributes, "axis", inputs[0].shape.rank()),
    build,
};

fn infer(inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
    expect_numbers(inputs)?;
    let shape = inputs[0].shape;
    let axis = attribute::axis(attributes, "axis", shape.rank())?;
    let count = attribute::count(attributes, "k", 1, shape.0[axis])?;
    bounded_products(shape.elements() as u64 * shape.0[axis] as u64)?;
    let mut chosen = shape.clone();
    chosen.0[axis] = count;
    match attribute::text(attributes, "output")? {
        "values" => Ok((DataType::F32, chosen)),
        "indices" => Ok((DataType::I64, chosen)),
        "mask" => Ok((DataType::Bool, shape.clone())),
        other => Err(format!("`output` is {other:?}; it must be \"values\", \"indices\" or \"mask\"")),
    }
}

fn build(builder: &mut Builder, inputs: &[ValueId], attributes: &Attributes) -> ValueId {
    let shape = builder.shape(inputs[0]);
    let axis = attribute::known(attribute::axis(attributes, "axis", shape.rank()));
    let count = attribute::known(attribute::count(attributes, "k", 1, shape.0[axis]));
    let output = attribute::known(attribute::text(attributes, "output"));
    let size = shape.0[axis];
    // The axis in two directions: each element against each other, which stand along one more axis behind.
    let (mut own, mut others) = (shape.clone(), shape.clone());
    own.0.push(1);
    others.0[axis] = 1;
    others.0.push(size);
    let position = builder.apply("index", &[], &[("count", Attribute::Integer(size as i64))]);
    let along = |builder: &mut Builder, rank: usize, at: usize, value: ValueId| {
        let mut line = Shape(vec![1; rank]);
        line.0[at] = builder.shape(value).elements();
        builder.reshape(value, &line)
    };
    let rank_shape = shape.rank() + 1;
    let own_place = along(builder, rank_shape, axis, position);
    let other_place = along(builder, rank_shape, shape.rank(), position);
    let value = builder.reshape(inputs[0], &own);
    let swapped: Vec<_> = (0..rank_shape)
        .map(|at| {
            if at == axis {
                shape.rank()
            } else if at == shape.rank() {
                axis
            } else {
                at
            }
        })
        .collect();
    let other = builder.permute(value, &swapped);

    // before = other > own, or neither and the other stands earlier; NaN above all numbers.
    let comparison = |builder: &mut Builder, a: ValueId, b: ValueId| {
        let is_nan = builder.apply("not_equal", &[a, a], &[]);
        let b_is_number = builder.equal(b, b);
        let only_a = builder.apply("logical_and", &[is_nan, b_is_number], &[]);
        let larger = builder.greater(a, b);
        builder.apply("logical_or", &[larger, only_a], &[])
    };
    let above = comparison(builder, other, value);
    let below = comparison(builder, value, other);
    let not_below = builder.apply("logical_not", &[below], &[]);
    let earlier = builder.greater(own_place, other_place);
    let tied = builder.apply("logical_and", &[not_below, earlier], &[]);
    let before = builder.apply("logical_or", &[above, tied], &[]);
    let before = builder.cast(before, DataType::F32);
    let place = builder.sum(before, &[shape.rank()], false);
    if output == "mask" {
        let count = builder.constant(count as f64);
        return builder.apply("less", &[place, count], &[]);
    }
    // Each of the k places along the last axis: what stands there is the one element whose place it is.
    let place = builder.reshape(place, &own);
    let wanted = builder.apply("index", &[], &[("count", Attribute::Integer(count as i64))]);
    let wanted = along(builder, rank_shape, shape.rank(), wanted);
    let stands_there = builder.equal(place, wanted);
    let zero = builder.constant(0.0);
    let what = if output == "values" { value } else { own_place };
    let what = builder.select(stands_there, what, zero);
    let mut chosen = shape.clone();
    chosen.0.push(count);
    let what = builder.broadcast(what, &chosen);
    let found = builder.sum(what, &[axis], true);
    let found = builder.permute(found, &swapped);
    chosen.0.pop();
    chosen.0[axis] = count;
    let found = builder.reshape(found, &chosen);
    if output == "values" { found } else { builder.cast(found, DataType::I64) }
}
