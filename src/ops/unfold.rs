//! The windows that slide along an axis. Costs nothing: it is another view, in which elements stand several times.

use super::{Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, attribute};
use crate::graph::{Attribute, Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Unfold;

/// Elements of a window, at most: the gradient has a node for each.
pub(super) const LARGEST: usize = 64;

impl Operator for Unfold {
    fn name(&self) -> &'static str {
        "unfold"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Movement,
            summary: "The windows that slide along an axis, one by one; the elements of a window become the last axis. As \
                      `torch.Tensor.unfold` with a step of 1.",
            inputs: &[("a", "any value")],
            result: "the type of a, with n - (size - 1) dilation windows along the axis of n, and one more axis of `size`",
            gradient: "to each element the sum of `g` over the windows it stands in",
            cost: "0",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        &[
            KnownAttribute { name: "axis", default: Some(Attribute::Integer(-1)), meaning: attribute::AXIS },
            KnownAttribute { name: "size", default: None, meaning: "elements of a window, 1 to 64" },
            KnownAttribute {
                name: "dilation",
                default: Some(Attribute::Integer(1)),
                meaning: "from one element of a window to the next, at least 1",
            },
        ]
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        let shape = inputs[0].shape;
        let windows = Windows::read(attributes, shape)?;
        let Some(count) = shape.0[windows.axis].checked_sub(windows.reach()).filter(|&count| count > 0) else {
            return Err(format!("a window reaches over {} elements; {shape} has fewer", windows.reach() + 1));
        };
        let mut shape = shape.clone();
        shape.0[windows.axis] = count;
        shape.0.push(windows.size);
        Ok((inputs[0].data_type, shape))
    }

    fn normalise(&self, inputs: &[Value<'_>], attributes: &mut Attributes) {
        attribute::settle_axis(attributes, "axis", inputs[0].shape.rank());
    }

    /// With zeros before and behind, the element at place k of the windows is read `k * dilation` earlier.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let shape = builder.shape(call.inputs[0]);
        let windows = attribute::known(Windows::read(call.attributes, &shape));
        let reach = windows.reach();
        let padded = builder.pad(output_gradient, windows.axis, reach, reach);
        let of_place = |place: usize| {
            let start = reach - place * windows.dilation;
            let moved = builder.slice(padded, windows.axis, start, start + shape.0[windows.axis]);
            let one = builder.slice(moved, shape.rank(), place, place + 1);
            builder.reshape(one, &shape)
        };
        let parts: Vec<_> = (0..windows.size).map(of_place).collect();
        vec![parts.into_iter().reduce(|a, b| builder.add(a, b))]
    }

    fn lower(&self, _: &mut Lowering, call: &Lowered<'_>) -> View {
        let input = &call.inputs[0];
        let windows = attribute::known(Windows::read(call.attributes, &input.shape));
        let mut view = View { shape: call.shape.clone(), ..input.clone() };
        view.strides.push(input.strides[windows.axis] * windows.dilation);
        view
    }
}

/// How windows lie in an axis.
#[derive(Default)]
struct Windows {
    axis: usize,
    size: usize,
    dilation: usize,
}

impl Windows {
    fn read(attributes: &Attributes, shape: &Shape) -> Result<Self, String> {
        let axis = attribute::axis(attributes, "axis", shape.rank())?;
        let size = attribute::count(attributes, "size", 1, LARGEST)?;
        let dilation = attribute::count(attributes, "dilation", 1, shape.0[axis])?;
        Ok(Self { axis, size, dilation })
    }

    /// From the first element of a window to the last.
    fn reach(&self) -> usize {
        (self.size - 1) * self.dilation
    }
}
