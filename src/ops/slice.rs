//! Some elements along one axis: every `step`-th from `start` on, before `stop`. Costs nothing: it is another view.

use super::{Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, attribute};
use crate::graph::{Attribute, Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Slice;

/// Behind the end of every axis.
const END: i64 = i32::MAX as i64;

impl Operator for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Movement,
            summary: "Some elements along one axis, as `a[start:stop:step]` in Python.",
            inputs: &[("a", "any value")],
            result: "the type of a, with that many elements along the axis; at least one",
            gradient: "`g` where it came from, 0 elsewhere",
            cost: "0",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        &[
            KnownAttribute { name: "axis", default: Some(Attribute::Integer(-1)), meaning: attribute::AXIS },
            KnownAttribute {
                name: "start",
                default: Some(Attribute::Integer(0)),
                meaning: "the first element; a negative one counts from the end",
            },
            KnownAttribute {
                name: "stop",
                default: Some(Attribute::Integer(END)),
                meaning: "the first element that is left out; a negative one counts from the end",
            },
            KnownAttribute {
                name: "step",
                default: Some(Attribute::Integer(1)),
                meaning: "from one element to the next, at least 1",
            },
        ]
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        let range = Range::read(attributes, inputs[0].shape)?;
        let mut shape = inputs[0].shape.clone();
        shape.0[range.axis] = range.count;
        Ok((inputs[0].data_type, shape))
    }

    fn normalise(&self, inputs: &[Value<'_>], attributes: &mut Attributes) {
        let range = Range::known(attributes, inputs[0].shape);
        let stop = range.start + (range.count - 1) * range.step + 1;
        for (name, number) in [("axis", range.axis), ("start", range.start), ("stop", stop), ("step", range.step)] {
            attributes.insert(name.into(), Attribute::Integer(number as i64));
        }
    }

    /// Zeros are put before and behind; with a step, behind each element first.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let shape = builder.shape(call.inputs[0]);
        let range = Range::known(call.attributes, &shape);
        let mut gradient = output_gradient;
        let mut covered = range.count;
        if range.step > 1 {
            let mut apart = builder.shape(gradient);
            apart.0.insert(range.axis + 1, 1);
            gradient = builder.reshape(gradient, &apart);
            gradient = builder.pad(gradient, range.axis + 1, 0, range.step - 1);
            let mut spread = shape.clone();
            spread.0[range.axis] = range.count * range.step;
            gradient = builder.reshape(gradient, &spread);
            covered = (range.count - 1) * range.step + 1;
            gradient = builder.slice(gradient, range.axis, 0, covered);
        }
        let behind = shape.0[range.axis] - range.start - covered;
        vec![Some(builder.pad(gradient, range.axis, range.start, behind))]
    }

    fn lower(&self, _: &mut Lowering, call: &Lowered<'_>) -> View {
        let range = Range::known(call.attributes, &call.inputs[0].shape);
        let mut view = View { shape: call.shape.clone(), ..call.inputs[0].clone() };
        view.offset += range.start * view.strides[range.axis];
        view.strides[range.axis] *= range.step;
        view
    }
}

/// Which elements of an axis, resolved; at least one.
#[derive(Default)]
struct Range {
    axis: usize,
    start: usize,
    count: usize,
    step: usize,
}

impl Range {
    fn read(attributes: &Attributes, shape: &Shape) -> Result<Self, String> {
        let axis = attribute::axis(attributes, "axis", shape.rank())?;
        let size = shape.0[axis];
        let step = attribute::count(attributes, "step", 1, END as usize)?;
        let bound = |name| -> Result<usize, String> {
            let bound = attribute::integer(attributes, name)?;
            let from_front = if bound < 0 { bound.saturating_add(size as i64) } else { bound };
            Ok(from_front.clamp(0, size as i64) as usize)
        };
        let (start, stop) = (bound("start")?, bound("stop")?);
        if start >= stop {
            return Err(format!("it leaves nothing: elements {start} to before {stop} of an axis of {size}"));
        }
        let count = (stop - start).div_ceil(step);
        // Of one element, every step is the same.
        Ok(Self { axis, start, count, step: if count == 1 { 1 } else { step } })
    }

    fn known(attributes: &Attributes, shape: &Shape) -> Self {
        attribute::known(Self::read(attributes, shape))
    }
}
